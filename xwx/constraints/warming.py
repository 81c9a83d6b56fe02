"""A warmer mean state, kept while the model fills in the weather."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from xwx.constraints.noise import Noise, refuse_noise
from xwx.constraints.scene import Bound, Scene
from xwx.constraints.series import Timed, clock_of, held, refuse
from xwx.diffusion import warming
from xwx.diffusion.cells import RowsColumns
from xwx.diffusion.protocols import Observation
from xwx.errors import Problem
from xwx.fields.clock import show
from xwx.fields.foreign import foreign
from xwx.fields.grid import cell_areas
from xwx.fields.quantities import deviations, difference
from xwx.spec import Grid

__all__ = ["Warming"]

#: The least standard deviation, of the channel's: single precision knows no better.
_FLOOR = 1e-4


@dataclass(frozen=True, eq=False)
class Warming:
    r"""The mean temperature and humidity of a warmer world, kept during a forecast.

    .. math:: \overline{T} = \overline{T_0} + \Delta, \qquad
        \overline{q} = \overline{q_0} (1 + r)^\Delta

    on all levels and at 2 m, with the area mean of the globe, or of squares of cells.

    Parameters
    ----------
    delta : str or quantity
        The warming, with a unit of temperature.
    reference : Dataset, optional
        The unperturbed forecast over the same times, which gives T0 and q0. By default every state
        keeps the means of the state that the series starts from, *which is warm already* (see
        ``ds.wx.warm``): nothing is added to it.
    noise : str, quantity or mapping, optional
        Standard deviation of the means, see :class:`Observe`; by default a hundredth of the shift
        of each.
    humidity : {"compound", "linear"} or None
        Whether the rate compounds, :math:`(1 + r)^\Delta`, or not, :math:`1 + r \Delta`; None
        leaves the humidity to the model.
    rate : float
        r, of humidity at constant relative humidity [K-1].
    cells : int, optional
        Means over squares of that many rows and columns of the model's grid (the last ones may be
        smaller) instead of the whole: a low-pass filter.

    Examples
    --------
    >>> from xwx.constraints import Warming
    >>> control = ds.wx.forecast(wind, steps=20)  # doctest: +SKIP
    >>> keep = Warming("2 K", reference=control)  # doctest: +SKIP
    >>> ds.wx.warm("2 K").wx.forecast(wind, steps=20, constraints=[keep])  # doctest: +SKIP
    """

    delta: str | Any = "2 K"
    reference: xr.Dataset | None = None
    noise: Noise = None
    humidity: Literal["compound", "linear"] | None = "compound"
    rate: float = 0.07
    cells: int | None = None

    def __post_init__(self) -> None:
        refuse_noise(self.noise)
        self._check(difference(self.delta, "K", "delta", '"2 K"'))

    def bind(self, scene: Scene) -> Bound:
        """Return the constraint on a series of states, named "warming".

        A state that is given, and not sampled, is not constrained.

        Raises
        ------
        MismatchError
            When the model has no temperature, there is neither a reference nor a start, or the
            reference lacks a channel or a time.
        ValueError
            For a delta or noise that cannot be read, and for another `humidity` or `cells`.
        """
        delta = difference(self.delta, "K", "delta")
        channels = scene.spec.channels
        warm = tuple(n for n, c in enumerate(channels) if c.name in ("t", "t2m"))
        wet = tuple(n for n, c in enumerate(channels) if c.name == "q" and self.humidity)
        refuse([] if warm else [_no_temperature()], "Warming", "reference")
        chosen = [channels[n] for n in (*warm, *wet)]
        given = deviations(self.noise, chosen, [c.name for c in chosen])
        kept = _Kept(self, _squares(scene.spec.grid, self.cells), warm, wet, delta, given)
        if self.reference is not None:
            timed = _timed(self.reference, scene, (*warm, *wet))
            return Bound("warming", partial(_as_reference, kept, timed, scene))
        if scene.start is None:
            refuse([_no_reference()], "Warming", "reference")
        assert scene.start is not None
        start = scene.start.detach().double().cpu()
        means = kept.operator([0])(start[None, None])[0]
        return Bound("warming", partial(_as_start, kept, means, scene))

    def _check(self, delta: float) -> None:
        if not np.isfinite(delta):
            raise ValueError(f'delta={self.delta!r}: give a finite warming, such as "2 K"')
        if self.humidity not in ("compound", "linear", None):
            raise ValueError(f'humidity={self.humidity!r}: give "compound", "linear" or None')
        if self.humidity == "linear" and not 1.0 + self.rate * delta > 0:
            raise ValueError(
                f"delta={self.delta!r} with humidity='linear' and rate={self.rate!r} leaves no "
                'humidity: take humidity="compound"'
            )
        whole = isinstance(self.cells, int | np.integer) and not isinstance(self.cells, bool)
        if self.cells is not None and not (whole and self.cells >= 1):
            raise ValueError(f"cells={self.cells!r}: give a whole number of 1 or more, or None")


@dataclass(frozen=True, eq=False)
class _Kept:
    """The means that are kept."""

    how: Warming
    cells: RowsColumns
    warm: tuple[int, ...]
    wet: tuple[int, ...]
    delta: float
    given: Sequence[float | None]

    def operator(self, frames: Sequence[int]) -> warming.Warming:
        return warming.Warming(self.cells, self.warm, self.wet, frames)

    def warmed(self, operator: warming.Warming, means: Tensor) -> Tensor:
        """Return the means (M,) of a world that is warmer."""
        compound = self.how.humidity == "compound"
        return operator.target(means, self.delta, rate=self.how.rate, compound=compound)

    def variance(self, operator: warming.Warming, means: Tensor, std: Tensor) -> Tensor:
        """Return the variance of the errors (M,): by default of a hundredth of the shift."""
        std = std.detach().flatten().double().cpu()[operator.channel]
        shift = (self.warmed(operator, means) - means).abs() / 100.0
        sigma = torch.maximum(shift, _FLOOR * std)
        for channel, one in zip((*self.warm, *self.wet), self.given, strict=True):
            if one is not None:
                sigma = torch.where(operator.channel == channel, one, sigma)
        return sigma**2


def _as_start(kept: _Kept, means: Tensor, scene: Scene, window: range) -> Observation | None:
    """Return the means of a window, which are to be those of the start."""
    states = held(window, scene, first=1)
    if not states:
        return None
    operator = kept.operator([state - window.start for state in states])
    target = means.repeat(len(states))
    return Observation(operator, target, kept.variance(operator, target, scene.std))


def _as_reference(kept: _Kept, timed: Timed, scene: Scene, window: range) -> Observation | None:
    """Return the means of a window, which are to be those of the reference but warmer."""
    states, values = timed.of(held(window, scene, first=int(scene.start is not None)))
    if not states:
        return None
    chosen = [timed.seen.channels.index(n) for n in (*kept.warm, *kept.wet)]
    means = kept.cells(values[:, chosen]).flatten()
    if not bool(torch.isfinite(means).all()):
        message = f"it holds NaN between {show(scene.times[states[0]])} and "
        message += f"{show(scene.times[states[-1]])}: the mean is not known"
        remedy = "give a forecast of every value, such as that of the model itself"
        refuse([Problem("nan", "reference", message, remedy)], "Warming", "reference")
    operator = kept.operator([state - window.start for state in states])
    target = kept.warmed(operator, means)
    return Observation(operator, target, kept.variance(operator, means, scene.std))


def _timed(reference: xr.Dataset, scene: Scene, channels: Sequence[int]) -> Timed:
    """Look over the unperturbed forecast: all channels, all states but a given one."""
    seen, problems = foreign(reference, scene.spec, on="model")
    refuse(problems, "Warming", "reference")
    assert seen is not None  # refuse() raised otherwise
    lacking = [str(scene.spec.channels[n]) for n in channels if n not in seen.channels]
    if lacking:
        message = f"it lacks {', '.join(lacking)}, whose mean is to be shifted"
        remedy = "give the whole forecast; humidity=None leaves the humidity to the model"
        problems = [Problem("missing-variable", "reference", message, remedy)]
    found = clock_of(scene).find(seen.when, seen.time_name, seen.time_dim)
    problems = [*problems, *found.problems]
    first = int(scene.start is not None)
    bare = sorted(set(range(first, len(scene.times))) - set(found.states.tolist()))
    if bare and not found.problems:
        message = f"it has no state at {len(bare)} of the {len(scene.times)} times, first at "
        message += show(scene.times[bare[0]])
        remedy = "give a reference forecast of as many steps"
        problems.append(Problem("missing-time", seen.time_name, message, remedy))
    refuse(problems, "Warming", "reference")
    return Timed(seen, found.states, np.arange(seen.when.size))


def _squares(grid: Grid, size: int | None) -> RowsColumns:
    """Return the mean over the whole grid, or over squares of `size` rows and columns."""
    area = torch.from_numpy(cell_areas(grid.rows)) if grid.shape[0] > 1 else torch.ones(1).double()
    if size is None:
        return RowsColumns.sphere(area, grid.shape[1])
    rows, columns = (torch.arange(count) // size for count in grid.shape)
    return RowsColumns(
        area * (rows == torch.arange(int(rows[-1]) + 1)[:, None]),
        (columns == torch.arange(int(columns[-1]) + 1)[:, None]).double(),
    )


def _no_temperature() -> Problem:
    message = "it has neither 't' nor 't2m': there is nothing to warm"
    return Problem("missing-channel", "model", message, "take another model: xwx.list_models()")


def _no_reference() -> Problem:
    message = "nothing is given that the series starts from, and no reference whose means to shift"
    remedy = 'Warming("2 K", reference=control)  # the unperturbed forecast over the same times'
    return Problem("missing-reference", "reference", message, remedy)
