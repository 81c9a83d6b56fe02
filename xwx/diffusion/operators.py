"""What is seen of a state: means over area and time, single entries, stations.

All are linear and act on *physical* states (members, frames, channels, rows, columns). Their values
are ordered by frame or window, then channel, then cell, unless the caller gave the order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from xwx.diffusion.cells import Cells, chosen, take
from xwx.diffusion.measurements import Channelwise, Custom, frames_of
from xwx.diffusion.points import AtPoints, Observe
from xwx.diffusion.stack import Selected, Stack, stack, standardised

__all__ = [
    "AreaMean",
    "AtPoints",
    "Custom",
    "Observe",
    "Selected",
    "SpaceTimeMean",
    "Stack",
    "TimeMean",
    "stack",
    "standardised",
    "windows",
]


@dataclass(frozen=True, eq=False)
class AreaMean(Channelwise):
    """Means over the cells of a coarser grid, of chosen channels in chosen frames.

    Parameters
    ----------
    cells : Cells
        :class:`~xwx.diffusion.cells.RowsColumns` for a latitude-longitude grid,
        :class:`~xwx.diffusion.cells.Overlaps` for any other.
    channels, frames : sequence of int
        The values are ordered by frame, channel, coarse cell.
    """

    cells: Cells
    channels: Sequence[int]
    frames: Sequence[int]

    def __post_init__(self) -> None:
        for name in ("channels", "frames"):
            object.__setattr__(self, name, chosen(name, getattr(self, name)))

    @property
    def size(self) -> int:
        """The number of values seen: frames by channels by coarse cells."""
        return len(self.frames) * len(self.channels) * self.cells.size

    @property
    def channel(self) -> Tensor:
        """The channel of each value: (M,), int."""
        one = torch.tensor(self.channels).repeat_interleave(self.cells.size)
        return one.repeat(len(self.frames))

    @property
    def total(self) -> Tensor:
        """The sum of the weights of each value: ones (M,)."""
        return torch.ones(self.size, dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the means (B, M) of the states (B, T, C, H, W)."""
        return self.cells(frames_of(x, self.frames, self.channels)).flatten(1)


@dataclass(frozen=True, eq=False)
class TimeMean(Channelwise):
    r"""Weighted sums over frames, of each cell of chosen channels.

    .. math:: y_k = \sum_t w_{kt} x_t

    Parameters
    ----------
    weights : Tensor, shape (K, T)
        Of each frame in each window, such as :func:`windows` gives. Any numbers.
    channels : sequence of int
        The values are ordered by window, channel, row, column.
    shape : (int, int)
        Rows and columns of the state.

    Raises
    ------
    ValueError
        If the weights are not a matrix, or a window has none but zeros.
    """

    weights: Tensor
    channels: Sequence[int]
    shape: tuple[int, int]
    used_frames: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", chosen("channels", self.channels))
        object.__setattr__(self, "used_frames", _used(self.weights))

    @property
    def size(self) -> int:
        """The number of values seen: windows by channels by cells."""
        return self.weights.shape[0] * len(self.channels) * math.prod(self.shape)

    @property
    def channel(self) -> Tensor:
        """The channel of each value: (M,), int."""
        one = torch.tensor(self.channels).repeat_interleave(math.prod(self.shape))
        return one.repeat(self.weights.shape[0])

    @property
    def total(self) -> Tensor:
        """The sum of the weights of each value: (M,)."""
        return self.weights.sum(1).repeat_interleave(self.size // self.weights.shape[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Return the sums (B, M) of the states (B, T, C, H, W)."""
        if tuple(x.shape[3:]) != tuple(self.shape):
            raise ValueError(
                f"the state {tuple(x.shape)} has the grid {tuple(x.shape[3:])}: TimeMean was made "
                f"for {tuple(self.shape)}"
            )
        return _over_time(x, self.weights, self.used_frames, self.channels).flatten(1)


@dataclass(frozen=True, eq=False)
class SpaceTimeMean(Channelwise):
    """Means over time and over the cells of a coarser grid: first the one, then the other.

    Parameters
    ----------
    weights : Tensor, shape (K, T)
        Of each frame in each window, see :class:`TimeMean`.
    cells : Cells
        See :class:`AreaMean`.
    channels : sequence of int
        The values are ordered by window, channel, coarse cell.
    """

    weights: Tensor
    cells: Cells
    channels: Sequence[int]
    used_frames: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", chosen("channels", self.channels))
        object.__setattr__(self, "used_frames", _used(self.weights))

    @property
    def size(self) -> int:
        """The number of values seen: windows by channels by coarse cells."""
        return self.weights.shape[0] * len(self.channels) * self.cells.size

    @property
    def channel(self) -> Tensor:
        """The channel of each value: (M,), int."""
        one = torch.tensor(self.channels).repeat_interleave(self.cells.size)
        return one.repeat(self.weights.shape[0])

    @property
    def total(self) -> Tensor:
        """The sum of the weights of each value: (M,)."""
        return self.weights.sum(1).repeat_interleave(self.size // self.weights.shape[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Return the means (B, M) of the states (B, T, C, H, W)."""
        return self.cells(_over_time(x, self.weights, self.used_frames, self.channels)).flatten(1)


def windows(frames: int, length: int, stride: int | None = None) -> Tensor:
    """Return the weights (K, T) of means over windows of consecutive frames.

    Parameters
    ----------
    frames : int
        T.
    length : int
        Of a window: 4 for daily means of 6-hourly frames.
    stride : int, optional
        From the start of a window to the next; `length` unless given. Less: windows overlap.

    Returns
    -------
    Tensor of float64, shape (K, T)
        As many windows as fit; the frames that are left over have no weight.

    Raises
    ------
    ValueError
        If no window fits, or the stride is not positive.
    """
    stride = length if stride is None else stride
    if not 1 <= length <= frames:
        raise ValueError(
            f"length={length}: a window has from one to {frames} frames, as many as there are"
        )
    if stride < 1:
        raise ValueError(f"stride={stride}: give 1 or more")
    starts = range(0, frames - length + 1, stride)
    weights = torch.zeros(len(starts), frames, dtype=torch.float64)
    for row, start in zip(weights, starts, strict=True):
        row[start : start + length] = 1.0 / length
    return weights


def _used(weights: Tensor) -> tuple[int, ...]:
    """Return the frames that have a weight in any window."""
    if weights.ndim != 2 or not bool((weights != 0).any(1).all()):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)}: give (windows, frames), at least one number "
            "that is not zero in each window"
        )
    return tuple(torch.nonzero((weights != 0).any(0)).flatten().tolist())


def _over_time(
    x: Tensor, weights: Tensor, frames: Sequence[int], channels: Sequence[int]
) -> Tensor:
    """Return the weighted sums (B, K, channels, H, W) of states (B, T, C, H, W)."""
    if x.ndim != 5 or x.shape[1] != weights.shape[1]:
        raise ValueError(
            f"the state has the shape {tuple(x.shape)}: the weights {tuple(weights.shape)} are for "
            f"{weights.shape[1]} frames, in (members, frames, channels, rows, columns)"
        )
    part = frames_of(x, frames, channels)
    sums = take(weights, 1, frames, "frame").to(x.dtype) @ part.flatten(2)
    return sums.view(*sums.shape[:2], *part.shape[2:])
