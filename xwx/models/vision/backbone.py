"""The pyramid: a stem, and stages of blocks that prune joins."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from xwx.models.layers.blocks import Block, Reach, hybrid
from xwx.models.layers.convolutions import MultiConvs
from xwx.models.layers.hierarchy import Prune
from xwx.models.layers.maps import TokenMap
from xwx.models.vision.config import VisionConfig

__all__ = ["ChannelNorm", "DropPath", "Growth", "VisionBackbone"]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of maps (B, C, H, W), at every point by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class DropPath(nn.Dropout):
    """Leave a residual branch out for a whole sample (stochastic depth, arXiv 1603.09382).

    In training, each sample of (B, ...) is zero with probability `p` and divided by 1 - `p`
    otherwise, so that its expectation is what it was; in evaluation nothing happens. A Dropout
    by type, because it takes the place of the one in a block.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples."""
        if not self.training or not self.p:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], *[1] * (x.ndim - 1)), self.p)


class Growth(nn.Module):
    """Between two stages: half the rows, half the columns, another width.

    ``g = W LN(f) + b`` widens every token, then prune merges pairs of columns and pairs of rows.
    Widening comes first because prune keeps the width: merged before, four tokens would have to
    pass through the width of one. An odd row or column at the southern or eastern edge is merged
    with zeros.

    Parameters
    ----------
    dim, grown : int
        Width before and after.
    heads : int
        Of the attention in prune, at the width after.
    config : VisionConfig
    """

    def __init__(self, dim: int, grown: int, heads: int, config: VisionConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, grown)
        self.prune = nn.ModuleList(
            Prune(grown, heads, config.ratio, axis, cross=config.cross) for axis in ("lon", "lat")
        )

    def forward(self, x: Tensor, where: TokenMap) -> tuple[Tensor, TokenMap]:
        """Turn tokens (B, h * w, D) into (B, ceil(h / 2) * ceil(w / 2), grown)."""
        x = self.widen(self.norm(x))
        height, width = where.size
        maps = F.pad(x.view(x.shape[0], height, width, -1), (0, 0, 0, width % 2, 0, height % 2))
        where = TokenMap(height + height % 2, width + width % 2, valid=height, periodic=False)
        x = maps.flatten(1, 2)
        for prune in self.prune:
            x, where = prune(x, where)
        return x, where


class VisionBackbone(nn.Module):
    """Images to maps of features, one a stage, at a quarter of the resolution and below.

    There is no position embedding, so that an image may have any size: the zeros that the
    multi-convs see beyond every edge tell where a token lies.

    Parameters
    ----------
    config : VisionConfig
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        first = config.dims[0]
        self.stem = nn.Sequential(
            nn.Conv2d(config.channels, (first + 1) // 2, 3, stride=2, padding=1),
            ChannelNorm((first + 1) // 2),
            nn.GELU(),
            nn.Conv2d((first + 1) // 2, first, 3, stride=2, padding=1),
            ChannelNorm(first),
        )
        last = max(config.depth - 1, 1)
        rates = iter(config.drop_path * n / last for n in range(config.depth))
        self.growths = nn.ModuleList(
            Growth(config.dims[n], config.dims[n + 1], config.heads[n + 1], config)
            for n in range(len(config.dims) - 1)
        )
        self.stages = nn.ModuleList()
        for n, (windowed, everywhere) in enumerate(
            zip(config.windowed, config.everywhere, strict=True)
        ):
            reaches = [
                hybrid(i, config.windows, roll=False, windows_only=True) for i in range(windowed)
            ]
            reaches += [Reach()] * everywhere
            self.stages.append(
                nn.ModuleList(_block(config, n, reach, next(rates)) for reach in reaches)
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the features of every stage.

        Parameters
        ----------
        images : Tensor of floating point, shape (B, channels, H, W)
            Of any height and width. Rows and columns that a stride lacks are zeros.

        Returns
        -------
        list of Tensor, shapes (B, dims[n], ceil(H / 2**(n + 2)), ceil(W / 2**(n + 2)))

        Raises
        ------
        TypeError
            For images that are not of floating point.
        ValueError
            For another shape, or images without rows or columns.
        """
        self._check(images)
        x = self.stem(images)
        where = TokenMap(x.shape[2], x.shape[3], valid=x.shape[2], periodic=False)
        x = x.flatten(2).mT
        features: list[Tensor] = []
        for n, blocks in enumerate(self.stages):
            if n:
                x, where = self.growths[n - 1](x, where)
            for block in blocks.children():
                x, _ = block(x, where)
            features.append(x.mT.unflatten(2, where.size))
        return features

    def _check(self, images: Tensor) -> None:
        channels = self.config.channels
        if images.ndim != 4 or images.shape[1] != channels or not min(images.shape[2:]):
            raise ValueError(
                f"images of shape {tuple(images.shape)}, need (B, {channels}, H, W) with at least "
                "one row and one column: pass images[None] for one image, and channels first"
            )
        if not images.is_floating_point():
            raise TypeError(
                f"images of {images.dtype}: pass floating point, such as images.float() / 255"
            )


def _block(config: VisionConfig, stage: int, reach: Reach, rate: float) -> Block:
    """Return a block of a stage, with stochastic depth for its dropout."""
    dim = config.dims[stage]
    convs = MultiConvs(3 * dim, config.kernels) if config.kernels else None
    block = Block(dim, config.heads[stage], config.ratio, reach, convs)
    block.dropout = DropPath(rate)
    return block
