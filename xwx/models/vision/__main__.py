"""What the presets cost beside what the paper reports: ``python -m xwx.models.vision``."""

from __future__ import annotations

import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from xwx.models.vision.config import PRESETS, VisionConfig
from xwx.models.vision.heads import Classifier
from xwx.options import set_options

#: Parameters in millions and multiply-adds in 10^9 at 224 x 224, as the paper reports them.
REPORTED = {
    "emformer_vision_t": (28.7, 5.1),
    "emformer_vision_s": (45.5, 7.4),
    "emformer_vision_b": (80.6, 12.3),
}


def cost(config: VisionConfig, side: int = 224, classes: int = 1000) -> tuple[int, int]:
    """Return the parameters of a classifier, and its multiply-adds for one square image.

    Multiply-adds are those of products of matrices and convolutions, with what is computed for
    the slots of windows beyond an edge; multi-convs count as the one convolution they are fused
    into.
    """
    # The meta device computes nothing; only torch's own operations are known to the counter.
    with torch.device("meta"), set_options(kernels="torch"):
        network = Classifier(config, classes).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.empty(1, config.channels, side, side))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2


def table() -> str:
    """Return the costs of every preset as lines of text."""
    lines = [f"{'224 x 224, 1000 classes':<24}{'parameters [M]':>20}{'multiply-adds [G]':>22}"]
    lines += [f"{'':<24}{'counted':>10}{'reported':>10}{'counted':>12}{'reported':>10}"]
    for name, (millions, billions) in REPORTED.items():
        parameters, products = cost(PRESETS[name])
        lines.append(
            f"{name:<24}{parameters / 1e6:>10.2f}{millions:>10.1f}"
            f"{products / 1e9:>12.2f}{billions:>10.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
