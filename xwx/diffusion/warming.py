"""A warmer mean state, kept up while the prior fills in the weather."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xwx.diffusion.cells import Cells
from xwx.diffusion.measurements import Channelwise
from xwx.diffusion.operators import AreaMean

__all__ = ["Warming"]


@dataclass(frozen=True, eq=False)
class Warming(Channelwise):
    """Means over large cells of temperature and humidity, in all frames: what a warming shifts.

    Parameters
    ----------
    cells : Cells
        One for the globe (:meth:`RowsColumns.sphere`), or a coarse grid: a low-pass filter.
    temperature : sequence of int
        Channels [K].
    humidity : sequence of int
        Channels [kg kg-1]; may be empty.
    frames : sequence of int
        The values are ordered by frame, channel (temperature first), coarse cell.
    """

    cells: Cells
    temperature: Sequence[int]
    humidity: Sequence[int]
    frames: Sequence[int]

    def __post_init__(self) -> None:
        if twice := set(self.temperature) & set(self.humidity):
            raise ValueError(f"channels {sorted(twice)} are both temperature and humidity")
        mean = self._mean  # checks channels and frames
        object.__setattr__(self, "frames", mean.frames)
        object.__setattr__(self, "temperature", tuple(self.temperature))
        object.__setattr__(self, "humidity", tuple(self.humidity))

    @property
    def _mean(self) -> AreaMean:
        return AreaMean(self.cells, (*self.temperature, *self.humidity), self.frames)

    @property
    def size(self) -> int:
        """The number of values seen: frames by channels by coarse cells."""
        return self._mean.size

    @property
    def channel(self) -> Tensor:
        """The channel of each value: (M,), int."""
        return self._mean.channel

    @property
    def total(self) -> Tensor:
        """The sum of the weights of each value: ones (M,)."""
        return self._mean.total

    def __call__(self, x: Tensor) -> Tensor:
        """Return the means (B, M) of the states (B, T, C, H, W)."""
        return self._mean(x)

    def target(
        self, reference: Tensor, delta: float, *, rate: float = 0.07, compound: bool = True
    ) -> Tensor:
        r"""Return what is seen of the reference when it is warmer by `delta`.

        .. math:: T \to T + \Delta, \qquad q \to q (1 + r)^\Delta
            \quad\text{or}\quad q (1 + r \Delta)

        The means of the state that is perturbed so cell by cell are the same numbers.

        Parameters
        ----------
        reference : Tensor, shape (..., M)
            What is seen of the unperturbed states.
        delta : float
            Warming [K].
        rate : float
            Of humidity [K-1], at constant relative humidity.
        compound : bool
            Whether the rate compounds.
        """
        if reference.shape[-1] != self.size:
            raise ValueError(
                f"reference has the shape {tuple(reference.shape)}: give what this operator sees "
                f"of the unperturbed states, (..., {self.size})"
            )
        factor = (1.0 + rate) ** delta if compound else 1.0 + rate * delta
        humid = torch.isin(self.channel, torch.tensor(self.humidity, dtype=torch.long))
        return torch.where(humid.to(reference.device), reference * factor, reference + delta)
