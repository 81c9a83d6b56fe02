"""What operators have in common: they move between devices, and can take normalised states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from xwx.diffusion.cells import Movable, take
from xwx.diffusion.protocols import Operator

__all__ = ["Channelwise", "Custom", "Measurement", "Standard", "frames_of", "standard"]


class Standard(NamedTuple):
    """An operator on normalised states: ``operator(z) = (A(mean + std z) - offset) / unit``."""

    operator: Operator
    offset: Tensor
    unit: Tensor


class Measurement(Movable):
    """Base of the operators of the house: it moves between devices, and it can be standardised."""

    @property
    def size(self) -> int:
        """The number of values seen, M."""
        raise NotImplementedError

    @property
    def linear(self) -> bool:
        """Whether the operator is linear, or affine, in the state."""
        return True

    def __call__(self, x: Tensor) -> Tensor:
        """Return what is seen (B, M) of the physical states (B, T, C, H, W)."""
        raise NotImplementedError

    def standard(self, mean: Tensor, std: Tensor) -> Standard:
        """Return the operator on states normalised with `mean` and `std`, of shape (C, 1, 1)."""
        return Standard(
            _Denormalised(self, mean, std), mean.new_zeros(self.size), mean.new_ones(self.size)
        )


class Channelwise(Measurement):
    """Base of the linear operators each of whose values is a weighted sum over one channel.

    Such a sum over normalised states is the sum over physical ones but for an offset and a unit:
    nothing is de-normalised.
    """

    @property
    def channel(self) -> Tensor:
        """The channel of each value: (M,), int."""
        raise NotImplementedError

    @property
    def total(self) -> Tensor:
        """The sum of the weights of each value: (M,)."""
        raise NotImplementedError

    def standard(self, mean: Tensor, std: Tensor) -> Standard:
        """Return the operator itself, and the offset and unit of its values."""
        channel = self.channel.to(mean.device)
        offset = self.total.to(mean) * mean.flatten()[channel]
        return Standard(self, offset, std.flatten()[channel])


@dataclass(frozen=True, eq=False)
class _Denormalised(Movable):
    """Any operator, on normalised states."""

    operator: Operator
    mean: Tensor
    std: Tensor

    @property
    def size(self) -> int:
        """The number of values seen, M."""
        return self.operator.size

    @property
    def linear(self) -> bool:
        """Whether the operator is linear, or affine, in the state."""
        return self.operator.linear

    def __call__(self, z: Tensor) -> Tensor:
        """Return what is seen (B, M) of the normalised states (B, T, C, H, W)."""
        return self.operator(self.mean.to(z.dtype) + self.std.to(z.dtype) * z)


@dataclass(frozen=True, eq=False)
class Custom(Measurement):
    """Any differentiable function of physical states.

    Parameters
    ----------
    function : callable
        From states (B, T, C, H, W) to (B, M), each member by itself, made of torch operations that
        have derivatives in both modes. Its values should vary by about one, because the solver of
        the guidance weighs them alike.
    count : int
        M.
    affine : bool
        Whether it is linear or affine in the state.
    """

    function: Callable[[Tensor], Tensor]
    count: int
    affine: bool = False

    @property
    def size(self) -> int:
        """The number of values seen, M."""
        return self.count

    @property
    def linear(self) -> bool:
        """Whether the operator is linear, or affine, in the state."""
        return self.affine

    def __call__(self, x: Tensor) -> Tensor:
        """Return what is seen (B, M) of the physical states (B, T, C, H, W)."""
        out = self.function(x)
        if tuple(out.shape) != (x.shape[0], self.count):
            raise ValueError(
                f"the function of Custom gave the shape {tuple(out.shape)} for the state "
                f"{tuple(x.shape)}: it has to be {(x.shape[0], self.count)}, members by count"
            )
        return out


def frames_of(x: Tensor, frames: Sequence[int], channels: Sequence[int]) -> Tensor:
    """Return the chosen frames and channels of states (B, T, C, H, W)."""
    if x.ndim != 5:
        raise ValueError(
            f"the state has the shape {tuple(x.shape)}: operators see (members, frames, channels, "
            "rows, columns)"
        )
    return take(take(x, 1, frames, "frame"), 2, channels, "channel")


def standard(operator: Operator, mean: Tensor, std: Tensor) -> Standard:
    """Return any operator on states normalised with `mean` and `std`, of shape (C, 1, 1)."""
    if isinstance(operator, Measurement):
        return operator.standard(mean, std)
    ones = mean.new_ones(operator.size)
    return Standard(_Denormalised(operator, mean, std), 0.0 * ones, ones)
