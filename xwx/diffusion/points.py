"""Single entries of a state, and weighted sums of a few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xwx.diffusion.measurements import Channelwise

__all__ = ["AtPoints", "Observe"]


@dataclass(frozen=True, eq=False)
class Observe(Channelwise):
    """Single entries of a state: what was observed, and nothing else.

    Applied to the observations, laid out as a state, it gives their values.

    Parameters
    ----------
    index : Tensor of int, shape (M,)
        Of the flattened (T, C, H, W).
    shape : (int, int, int, int)
        Frames, channels, rows, columns.

    Raises
    ------
    ValueError
        If there is no entry, or one lies outside.
    """

    index: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        count = math.prod(self.shape)
        if self.index.numel() == 0:
            raise ValueError(f"no entry of the state {tuple(self.shape)} is observed: give one")
        if not 0 <= int(self.index.min()) <= int(self.index.max()) < count:
            raise ValueError(
                f"index reaches from {int(self.index.min())} to {int(self.index.max())}: the "
                f"state {tuple(self.shape)} has the entries 0 to {count - 1}"
            )

    @classmethod
    def where(cls, mask: Tensor) -> Observe:
        """Observe where the mask (T, C, H, W) is true."""
        if mask.ndim != 4 or mask.dtype != torch.bool:
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}: give bool, (frames, channels, "
                "rows, columns)"
            )
        return cls(torch.nonzero(mask.flatten()).flatten(), tuple(mask.shape))

    @property
    def size(self) -> int:
        """The number of entries seen, M."""
        return self.index.shape[0]

    @property
    def channel(self) -> Tensor:
        """The channel of each entry: (M,), int."""
        return _channel(self.index, self.shape)

    @property
    def total(self) -> Tensor:
        """The sum of the weights of each value: ones (M,)."""
        return torch.ones(self.size, dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the entries (B, M) of the states (B, T, C, H, W)."""
        _same_state(x, self.shape)
        return x.flatten(1).index_select(1, self.index)


@dataclass(frozen=True, eq=False)
class AtPoints(Channelwise):
    """Weighted sums of a few entries of a state, such as stations between its cells.

    Parameters
    ----------
    index : Tensor of int, shape (M, k)
        Of the flattened (T, C, H, W); each row in one channel.
    weight : Tensor, shape (M, k)
        Of each entry. An entry of no weight is read all the same: name one that is there.
    shape : (int, int, int, int)
        Frames, channels, rows, columns.

    See Also
    --------
    xwx.diffusion.stations.stations : the bilinear ones.
    """

    index: Tensor
    weight: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        Observe(self.index.flatten(), self.shape)
        if self.index.ndim != 2 or self.weight.shape != self.index.shape:
            raise ValueError(
                f"index and weight have the shapes {tuple(self.index.shape)} and "
                f"{tuple(self.weight.shape)}: give (points, entries) for both"
            )

    @property
    def size(self) -> int:
        """The number of points, M."""
        return self.index.shape[0]

    @property
    def channel(self) -> Tensor:
        """The channel of each point: (M,), int."""
        return _channel(self.index[:, 0], self.shape)

    @property
    def total(self) -> Tensor:
        """The sum of the weights of each point: (M,)."""
        return self.weight.sum(1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values at the points (B, M) of the states (B, T, C, H, W)."""
        _same_state(x, self.shape)
        parts = x.flatten(1).index_select(1, self.index.flatten())
        return (parts.view(-1, *self.index.shape) * self.weight.to(x.dtype)).sum(-1)


def _channel(index: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.div(index, shape[2] * shape[3], rounding_mode="floor") % shape[1]


def _same_state(x: Tensor, shape: Sequence[int]) -> None:
    if tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(
            f"the state has the shape {tuple(x.shape)}: the operator was made for (members, "
            f"{', '.join(map(str, shape))})"
        )
