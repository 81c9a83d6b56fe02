"""Convolutions of maps that know where the globe closes, per-frame blocks, and changes of scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xwx.models.uvit.conditioning import Film
from xwx.models.uvit.ring import close_ring

__all__ = ["Down", "FrameMix", "MapConv", "ResBlock", "Up"]


class MapConv(nn.Conv2d):
    """A 3 x 3 convolution of maps (N, C, h, w): round the globe eastwards, never over a pole.

    Parameters
    ----------
    channels, out : int
    periodic : bool
        Whether the last column neighbours the first. Beyond every other edge there are zeros.
    """

    def __init__(self, channels: int, out: int, *, periodic: bool) -> None:
        super().__init__(channels, out, 3, padding=(1, 0 if periodic else 1))
        self.periodic = periodic

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if self.periodic:
            x = close_ring(x, 1)
        y: Tensor = super().forward(x)
        return y


class ResBlock(nn.Module):
    """Two convolutions of every frame by itself, the second one modulated and zero at first.

    ``x + conv(SiLU(FiLM(norm(conv(SiLU(norm(x)))))))``

    Parameters
    ----------
    channels : int
    groups : int
        Groups of channels that are normalised together.
    condition : int
        Length of the vector that modulates.
    dropout : float
        Before the second convolution, in training.
    periodic : bool
    """

    def __init__(
        self, channels: int, groups: int, condition: int, dropout: float, *, periodic: bool
    ) -> None:
        super().__init__()
        self.norm_first = nn.GroupNorm(groups, channels)
        self.first = MapConv(channels, channels, periodic=periodic)
        self.norm_second = nn.GroupNorm(groups, channels, affine=False)
        self.film = Film(condition, channels)
        self.dropout = nn.Dropout(dropout)
        self.second = MapConv(channels, channels, periodic=periodic)
        nn.init.zeros_(self.second.weight)
        if self.second.bias is not None:
            nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Transform maps (N, C, h, w), for one condition (1, D), or one a frame (N, D)."""
        y = self.first(F.silu(self.norm_first(x)))
        scale, shift = (part[..., None, None] for part in self.film(condition))
        y = F.silu(torch.addcmul(shift, self.norm_second(y), scale))
        out: Tensor = x + self.second(self.dropout(y))
        return out


class FrameMix(nn.Module):
    """What the frames of a window tell each other, cell by cell; nothing before training.

    ``x + conv(SiLU(FiLM(norm(x))))``, where the convolution, of 1 x 1 cells, mixes all channels
    of all frames. Those after it move what it brought.

    Parameters
    ----------
    channels, frames : int
    groups : int
        Groups of channels that are normalised together.
    condition : int
        Length of the vector that modulates: each frame by its own noise.
    """

    def __init__(self, channels: int, frames: int, groups: int, condition: int) -> None:
        super().__init__()
        self.frames = frames
        self.norm = nn.GroupNorm(groups, channels, affine=False)
        self.film = Film(condition, channels)
        self.conv = nn.Conv2d(frames * channels, frames * channels, 1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Transform maps (B * T, C, h, w), for one condition (1, D), or one a frame (B * T, D)."""
        scale, shift = (part[..., None, None] for part in self.film(condition))
        y = F.silu(torch.addcmul(shift, self.norm(x), scale))
        together = y.reshape(-1, self.frames * x.shape[1], *x.shape[2:])
        out: Tensor = x + self.conv(together).reshape(x.shape)
        return out


class Down(nn.Module):
    """Four neighbours become one: a convolution of them, and beside it an average.

    The shortcut lays the four neighbours out as channels and averages groups of those, so that
    the scale below begins with the map itself and not with noise.

    Parameters
    ----------
    channels, out : int
        `out` divides 4 `channels`.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.mean = 4 * channels // out
        self.conv = nn.Conv2d(4 * channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Turn maps (N, C, h, w) into (N, out, h / 2, w / 2)."""
        x = F.pixel_unshuffle(x, 2)
        y: Tensor = self.conv(x)
        groups = x.view(len(x), y.shape[1], self.mean, *x.shape[-2:])
        y = y + groups.mean(2)
        return y


class Up(nn.Module):
    """One becomes four neighbours: a convolution, and beside it copies; mirrors :class:`Down`.

    Parameters
    ----------
    channels, out : int
        `channels` divides 4 `out`.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.copies = 4 * out // channels
        self.conv = nn.Conv2d(channels, 4 * out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Turn maps (N, C, h, w) into (N, out, 2 h, 2 w)."""
        copied = x[:, :, None].expand(-1, -1, self.copies, -1, -1).flatten(1, 2)
        return F.pixel_shuffle(self.conv(x) + copied, 2)
