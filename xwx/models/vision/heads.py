"""What images are asked: what they show, and what each of their points belongs to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xwx.models.vision.backbone import ChannelNorm, VisionBackbone
from xwx.models.vision.config import VisionConfig

__all__ = ["Classifier", "Pyramid", "Segmenter"]


class Classifier(nn.Module):
    """LayerNorm, mean over the tokens of the last stage, linear.

    Parameters
    ----------
    config : VisionConfig
    classes : int
    """

    def __init__(self, config: VisionConfig, classes: int = 1000) -> None:
        super().__init__()
        _check_classes(classes)
        self.backbone = VisionBackbone(config)
        self.norm = ChannelNorm(config.dims[-1])
        self.linear = nn.Linear(config.dims[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Parameters
        ----------
        images : Tensor, shape (B, channels, H, W)

        Returns
        -------
        Tensor, shape (B, classes)
            Logits.
        """
        logits: Tensor = self.linear(self.norm(self.backbone(images)[-1]).mean((2, 3)))
        return logits


class Pyramid(nn.Module):
    """Maps of several resolutions to one, after UPerNet (arXiv 1807.10221).

    The coarsest map is joined with its means over grids of cells (pyramid pooling). From there
    downwards, each finer map is brought to a common width and the coarser result is added. The
    maps of all resolutions, at the finest one, are fused into one.

    Parameters
    ----------
    dims : tuple of int
        Channels of the maps, finest first.
    width : int
        Channels within.
    pools : tuple of int
        Cells on each side of the grids; empty for no pyramid pooling.
    """

    def __init__(self, dims: tuple[int, ...], width: int, pools: tuple[int, ...]) -> None:
        super().__init__()
        self.pools = pools
        self.norms = nn.ModuleList(ChannelNorm(dim) for dim in dims)
        self.pooled = nn.ModuleList(_conv(dims[-1], width, 1) for _ in pools)
        self.bottleneck = _conv(dims[-1] + len(pools) * width, width, 3)
        self.laterals = nn.ModuleList(_conv(dim, width, 1) for dim in dims[:-1])
        self.smooth = nn.ModuleList(_conv(width, width, 3) for _ in dims[:-1])
        self.fuse = _conv(len(dims) * width, width, 3)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Turn maps (B, dims[n], h_n, w_n) into one (B, width, h_0, w_0)."""
        maps = [norm(x) for norm, x in zip(self.norms, features, strict=True)]
        top = maps.pop()
        parts = [top]
        for cells, conv in zip(self.pools, self.pooled, strict=True):
            parts.append(_resize(conv(F.adaptive_avg_pool2d(top, cells)), top))
        down = self.bottleneck(torch.cat(parts, 1))
        out = [down]
        for n in reversed(range(len(maps))):
            lateral = self.laterals[n](maps[n])
            down = lateral + _resize(down, lateral)
            out.append(self.smooth[n](down))
        fused: Tensor = self.fuse(torch.cat([_resize(x, down) for x in reversed(out)], 1))
        return fused


class Segmenter(nn.Module):
    """Logits of every pixel, computed at a quarter of the resolution.

    Parameters
    ----------
    config : VisionConfig
    classes : int
    width : int
        Channels in the head.
    pools : tuple of int
        Grids of its pyramid pooling, in cells on each side.
    """

    def __init__(
        self,
        config: VisionConfig,
        classes: int = 150,
        *,
        width: int = 256,
        pools: tuple[int, ...] = (1, 2, 3, 6),
    ) -> None:
        super().__init__()
        _check_classes(classes)
        if width < 2:
            raise ValueError(f"segmentation width={width}: at least 2, its maps are normalised")
        if any(cells < 1 for cells in pools):
            raise ValueError(f"segmentation pools={pools}: give cells on a side, at least 1")
        self.backbone = VisionBackbone(config)
        self.pyramid = Pyramid(config.dims, width, tuple(pools))
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Segment.

        Parameters
        ----------
        images : Tensor, shape (B, channels, H, W)

        Returns
        -------
        Tensor, shape (B, classes, H, W)
            Logits, bilinear between those at a quarter of the resolution.
        """
        logits = self.classify(self.pyramid(self.backbone(images)))
        return _resize(logits, images)


def _conv(channels: int, width: int, size: int) -> nn.Sequential:
    """Return a convolution that keeps the size of a map, with normalisation and GELU."""
    conv = nn.Conv2d(channels, width, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, ChannelNorm(width), nn.GELU())


def _resize(x: Tensor, like: Tensor) -> Tensor:
    """Return a map at the resolution of another, bilinear."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def _check_classes(classes: int) -> None:
    if classes < 1:
        raise ValueError(f"classes={classes}: give the number of classes, at least 1")
