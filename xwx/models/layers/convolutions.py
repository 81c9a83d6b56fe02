"""Multi-convs as a layer with parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from xwx_kernels import multi_convs

from xwx.models.layers.kernels import backend
from xwx.models.layers.maps import TokenMap

__all__ = ["MultiConvs"]


class MultiConvs(nn.Module):
    """Parallel bias-free convolutions of several sizes on a map of tokens, fused into one.

    Parameters
    ----------
    channels : int
    sizes : sequence of int
        Odd kernel sizes, one a branch (EMFormer: 1, 3, 5).
    groups : int, optional
        Groups of channels; by default as many as channels, that is depthwise.
    init : {"identity", "xavier"}
        ``"identity"``: the smallest branch passes the map on and the others add
        N(0, 0.02 / k) noise; ``"xavier"``: as in the authors' code.
    latitude : {"zero", "pole"}
        What lies beyond the first and last row.
    """

    def __init__(
        self,
        channels: int,
        sizes: Sequence[int] = (1, 3, 5),
        *,
        groups: int | None = None,
        init: str = "identity",
        latitude: str = "zero",
    ) -> None:
        super().__init__()
        if init not in ("identity", "xavier"):
            raise ValueError(f"init={init!r}: choose 'identity' or 'xavier'")
        if not sizes or any(k < 1 or k % 2 == 0 for k in sizes):
            raise ValueError(f"multi-convs kernels={tuple(sizes)}: give odd sizes, one a branch")
        self.groups = channels if groups is None else groups
        if self.groups < 1 or channels % self.groups:
            raise ValueError(f"multi-convs: {channels} channels do not divide by groups={groups}")
        self.forms = ("triton", "numba") if self.groups == channels else ()
        self.latitude = latitude
        self.init = init
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.empty(channels, channels // self.groups, k, k))
            for k in sorted(sizes)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernels afresh."""
        for n, kernel in enumerate(self.kernels):
            if self.init == "xavier":
                nn.init.xavier_uniform_(kernel)
                continue
            k = kernel.shape[-1]
            nn.init.normal_(kernel, std=0.02 / k) if n else nn.init.zeros_(kernel)
        if self.init == "identity":
            smallest = self.kernels[0]
            per_group = smallest.shape[1]
            centre = smallest.shape[-1] // 2
            rows = torch.arange(smallest.shape[0])
            with torch.no_grad():
                smallest[rows, rows % per_group, centre, centre] = 1.0

    def forward(self, x: Tensor, where: TokenMap) -> Tensor:
        """Convolve tokens (B, h * w, C) as the map that they are; padding rows come out zero."""
        y = multi_convs(
            where.crop(x),
            *self.kernels,
            size=where.data,
            longitude=where.longitude,
            latitude=self.latitude,
            backend=backend(*self.forms),
        )
        return where.restore(y)
