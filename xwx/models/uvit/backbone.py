"""The network on maps of one size: levels down, levels up, and what is carried across."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xwx.models.uvit.attention import SpaceTimeBlock
from xwx.models.uvit.conditioning import Blind, Informed
from xwx.models.uvit.convolutions import Down, FrameMix, ResBlock, Up
from xwx.models.uvit.rotary import rotation
from xwx.models.wind_config import WindConfig

__all__ = ["UViT"]

#: Calls a part of the network with what it is given.
Run: TypeAlias = Callable[..., Tensor]


def _keep(part: Callable[..., Tensor], *given: object) -> Tensor:
    """Call a part and keep what its backward pass needs."""
    return part(*given)


def _recompute(part: Callable[..., Tensor], *given: object) -> Tensor:
    """Call a part, and compute what its backward pass needs again then."""
    out: Tensor = checkpoint(part, *given, use_reentrant=False)
    return out


class Level(nn.Module):
    """Blocks at one resolution, which all convolve frame by frame, or all attend.

    Parameters
    ----------
    config : WindConfig
    number : int
        Which level, from 0.
    periodic : bool
    """

    def __init__(self, config: WindConfig, number: int, *, periodic: bool) -> None:
        super().__init__()
        c = config
        channels = c.channels[number]
        self.frames = c.frames
        self.periodic = periodic
        self.attends = number in c.attend
        self.pairs = channels // c.heads
        self.blocks = nn.ModuleList()
        for _ in range(c.depths[number]):
            if self.attends:
                self.blocks.append(
                    SpaceTimeBlock(channels, c.heads, c.ratio, c.condition, c.dropout)
                )
                continue
            if c.mix:
                self.blocks.append(FrameMix(channels, c.frames, c.groups, c.condition))
            self.blocks.append(
                ResBlock(channels, c.groups, c.condition, c.dropout, periodic=periodic)
            )

    def forward(self, x: Tensor, condition: Tensor, *, run: Run = _keep) -> Tensor:
        """Transform maps (B * T, C, h, w)."""
        given: tuple[object, ...] = (condition,)
        if self.attends:
            height, width = x.shape[-2:]
            turn = rotation(
                self.frames,
                (height, width),
                self.pairs,
                periodic=self.periodic,
                device=x.device,
                dtype=x.dtype,
            )
            given = (condition, self.frames, turn)
        for block in self.blocks:
            x = run(block, x, *given)
        return x


class UViT(nn.Module):
    """Patches, levels down, a middle, levels up, a head that is zero at first.

    What comes up is carried across as a residual: from what goes into a step up, what came out of
    the step down is subtracted, and to what comes out, what went in is added. A step up so brings
    back what changed below, and fine detail does not pass through it.

    Parameters
    ----------
    config : WindConfig
    inputs, outputs : int
        Channels of the maps.
    periodic : bool
        Whether the last column neighbours the first.

    References
    ----------
    Hoogeboom et al. (2023), Simple diffusion, arXiv:2301.11093; Hoogeboom et al. (2024), Simpler
    diffusion, arXiv:2410.19324 (residual skips).
    """

    def __init__(self, config: WindConfig, inputs: int, outputs: int, *, periodic: bool) -> None:
        super().__init__()
        c = config
        self.known_t = c.known_t
        self.patch = c.patch
        self.condition = Informed(c.condition) if c.known_t else Blind(c.condition)
        self.embed = nn.Conv2d(inputs, c.width * c.multipliers[0], c.patch, stride=c.patch)
        levels = [Level(c, n, periodic=periodic) for n in range(c.levels)]
        self.levels_down, self.middle = nn.ModuleList(levels[:-1]), levels[-1]
        self.levels_up = nn.ModuleList(Level(c, n, periodic=periodic) for n in range(c.levels - 1))
        steps = list(pairwise(c.channels))
        self.down = nn.ModuleList(Down(above, below) for above, below in steps)
        self.up = nn.ModuleList(Up(below, above) for above, below in steps)
        self.norm = nn.GroupNorm(c.groups, c.channels[0])
        # With the shuffle behind it this is a transposed convolution whose kernel is its stride.
        self.head = nn.Conv2d(c.channels[0], outputs * c.patch**2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor | None = None, *, again: bool = False) -> Tensor:
        """Transform maps, frame after frame.

        Parameters
        ----------
        x : Tensor, shape (B * T, inputs, h, w)
            Rows and columns that the stride of the configuration divides.
        t : Tensor, shape (B, T), optional
            Noise times, for a network that is told them.
        again : bool
            Whether the backward pass computes every part again rather than keep what it needs.

        Returns
        -------
        Tensor, shape (B * T, outputs, h, w)
        """
        run = _recompute if again else _keep
        condition = self.condition(t)
        x = self.embed(x.contiguous(memory_format=torch.channels_last))
        across: list[tuple[Tensor, Tensor]] = []
        for level, down in zip(self.levels_down, self.down, strict=True):
            x = level(x, condition, run=run)
            below = run(down, x)
            across.append((x, below))
            x = below
        x = self.middle(x, condition, run=run)
        for level, up in reversed(list(zip(self.levels_up, self.up, strict=True))):
            fine, coarse = across.pop()
            x = level(fine + run(up, x - coarse), condition, run=run)
        return F.pixel_shuffle(run(self._last, x), self.patch)

    def _last(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.silu(self.norm(x)))
        return out
