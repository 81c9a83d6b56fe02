"""EMFormer for images: a pyramid of maps, and heads that classify and segment (arXiv 2602.01194).

The text of the paper leaves the table of its vision networks ambiguous: these are configurations
after it, not its networks. Nothing here was trained.
"""

from xwx.models.vision.backbone import VisionBackbone
from xwx.models.vision.config import PRESETS, VisionConfig
from xwx.models.vision.heads import Classifier, Segmenter

__all__ = ["PRESETS", "Classifier", "Segmenter", "VisionBackbone", "VisionConfig"]
