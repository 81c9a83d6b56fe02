"""Means over periods of time, such as days, and over coarser cells too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from xwx.constraints.coarse import coarse_cells, picked
from xwx.constraints.noise import Noise, deviations_of, refuse_noise
from xwx.constraints.scene import Bound, Scene
from xwx.constraints.series import clock_of, given_alone, refuse, require_values
from xwx.diffusion import operators
from xwx.diffusion.cells import Cells
from xwx.diffusion.chain import plan_windows
from xwx.diffusion.protocols import Observation
from xwx.errors import Problem
from xwx.fields.clock import show
from xwx.fields.foreign import Foreign, foreign
from xwx.fields.instants import ROUNDING, Clock
from xwx.fields.periods import Periods, broken_period, mean_problems, periods_of
from xwx.fields.quantities import span

__all__ = ["TimeMean"]


@dataclass(frozen=True, eq=False)
class TimeMean:
    """Means over periods of time; on a coarser grid than the model's over its cells too.

    Each value is the mean of the model's states from the start of its period to before its end,
    weighted alike.

    Parameters
    ----------
    values : Dataset
        In any presentation, of some of the model's variables and levels, on the model's grid or a
        coarser one, see :class:`AreaMean`. The periods are those of the CF bounds of time, where
        there are any. ``cell_methods`` may say ``time: mean``, and nothing else of time.
    noise : str, quantity or mapping, optional
        Standard deviation of the errors, see :class:`Observe`.
    period : str, optional
        Length of the periods, such as ``"1D"``, where time has no bounds; by default the spacing
        of the times.
    label : {"left", "right", "middle"}
        Which part of a period its time is, where time has no bounds: as in the `resample` of
        xarray, a daily mean of 25 January is labelled 25 January, 00 UTC, by default.

    Examples
    --------
    >>> from xwx.constraints import TimeMean
    >>> daily = ds.resample(time="1D").mean()  # doctest: +SKIP
    >>> ds.isel(time=0).wx.forecast(wind, constraints=[TimeMean(daily)])  # doctest: +SKIP
    """

    values: xr.Dataset
    noise: Noise = None
    period: str | None = None
    label: Literal["left", "right", "middle"] = "left"

    def __post_init__(self) -> None:
        refuse_noise(self.noise)
        if self.label not in ("left", "right", "middle"):
            raise ValueError(f'label={self.label!r}: give "left", "right" or "middle"')
        if self.period is not None:
            span(self.period, "period", '"1D"')

    def bind(self, scene: Scene) -> Bound:
        """Return the constraint on a series of states, named "time_mean".

        The states of each mean are one of `Bound.groups`; a window sees the means that it holds
        whole.

        Raises
        ------
        MismatchError
            With every problem of `values`: those of :class:`AreaMean`, ``cell_methods`` that say
            another thing than a mean, periods that are unknown, hold no state, reach beyond the
            series, or hold more states than a window.
        ValueError
            For a noise, `period` or `label` that cannot be read.
        """
        length = None if self.period is None else span(self.period, "period", '"1D"')
        seen, problems = foreign(self.values, scene.spec, on="either")
        refuse(problems, "TimeMean")
        assert seen is not None  # refuse() raised otherwise
        cells, problems = (None, []) if seen.cells is None else coarse_cells(seen, scene)
        problems += mean_problems(self.values, seen.names, seen.time_name)
        groups, more = _groups(self.values, seen, scene, (length, self.label))
        refuse([*problems, *more], "TimeMean")
        sigma = deviations_of(self.noise, scene, seen.channels, seen.names)
        require_values(seen, np.arange(seen.when.size), "TimeMean", "values", scene)
        return Bound("time_mean", partial(_means, seen, groups, cells, sigma, scene), groups)


def _means(
    seen: Foreign,
    groups: tuple[range, ...],
    cells: Cells | None,
    sigma: Tensor,
    scene: Scene,
    window: range,
) -> Observation | None:
    """Return the means that a window holds whole."""
    whole = [n for n, g in enumerate(groups) if window.start <= g.start and g.stop <= window.stop]
    if not whole:
        return None
    weights = torch.zeros(len(whole), len(window), dtype=torch.float64)
    for row, n in zip(weights, whole, strict=True):
        group = groups[n]
        row[group.start - window.start : group.stop - window.start] = 1.0 / len(group)
    operator: operators.TimeMean | operators.SpaceTimeMean
    if cells is None:
        operator = operators.TimeMean(weights, seen.channels, scene.spec.grid.shape)
    else:
        operator = operators.SpaceTimeMean(weights, cells, seen.channels)
    return picked(operator, torch.from_numpy(seen.read(whole)), sigma)


def _groups(
    ds: xr.Dataset, seen: Foreign, scene: Scene, rule: tuple[timedelta | None, str]
) -> tuple[tuple[range, ...], list[Problem]]:
    """Return the states of each mean."""
    clock, name = clock_of(scene), seen.time_name
    if (wrong := clock.calendar_problem(seen.when, name)) is not None:
        return (), [wrong]
    periods = periods_of(ds, name, *rule)
    if isinstance(periods, Problem):
        return (), [periods]
    # a period holds its start, and not its end; times are rounded when they are decoded
    slack = ROUNDING / clock.step
    firsts, stops = (
        np.ceil(clock.steps(edge) - slack).astype(int) for edge in (periods.starts, periods.ends)
    )
    count = len(scene.times)
    beyond = (firsts < 0) | (stops > count)
    sizes = stops - firsts
    problems = []
    if beyond.any():
        problems.append(_beyond(clock, periods, beyond, seen))
    if (sizes == 0).any():
        problems.append(_empty(clock, periods, sizes == 0, name))
    elif (broken := broken_period(periods, clock, name)) is not None:
        problems.append(broken)
    # but for the first window, each begins with a state that is known already
    long = sizes > np.where(firsts == 0, scene.window, scene.window - 1)
    if long.any():
        problems.append(_long(periods, sizes, long, scene, name))
    ranges = zip(firsts.tolist(), stops.tolist(), strict=True)
    groups = tuple(range(first, stop) for first, stop in ranges)
    alone = [] if scene.start is None else given_alone(stops - 1, scene)
    return groups, problems or alone or _together(groups, scene, name)


def _period(periods: Periods, which: NDArray[np.bool_]) -> str:
    """Write the first of some periods."""
    return f"{show(periods.starts[which][0])} to {show(periods.ends[which][0])}"


def _beyond(clock: Clock, periods: Periods, beyond: NDArray[np.bool_], seen: Foreign) -> Problem:
    keep = np.flatnonzero(~beyond)
    remedy = "give means of periods within the series, or a series that holds them"
    if seen.time_dim is not None and keep.size:
        whole = keep.size == keep[-1] - keep[0] + 1
        index = f"slice({keep[0]}, {keep[-1] + 1})" if whole else f"{keep.tolist()}"
        remedy = f"ds = ds.isel({seen.time_dim}={index})"
    return Problem(
        kind="time-outside",
        where=seen.time_name,
        message=(
            f"{beyond.sum()} of {beyond.size} means are over times that the series, {clock}, does "
            f"not hold: the first is from {_period(periods, beyond)}, its end not included"
        ),
        remedy=remedy,
    )


def _empty(clock: Clock, periods: Periods, empty: NDArray[np.bool_], name: str) -> Problem:
    return Problem(
        kind="empty-period",
        where=name,
        message=(
            f"{empty.sum()} means are over no state of the series, {clock}: the first is from "
            f"{_period(periods, empty)}, its end not included"
        ),
        remedy="periods are as long as the model's step or longer; values of a moment: Observe(ds)",
    )


def _long(
    periods: Periods, sizes: NDArray[np.intp], long: NDArray[np.bool_], scene: Scene, name: str
) -> Problem:
    return Problem(
        kind="long-period",
        where=name,
        message=(
            f"{long.sum()} of {long.size} means are over {sizes[long].max()} states, more than the "
            f"{scene.window - 1} that the model draws at once beside the one that its window of "
            f"{scene.window} begins with: the first is from {_period(periods, long)}"
        ),
        remedy=_shorter(scene),
    )


def _shorter(scene: Scene) -> str:
    hours = (scene.window - 1) * scene.spec.step.total_seconds() / 3600
    return f"give means over {hours:g} h or less, or take a model of longer windows"


def _together(groups: tuple[range, ...], scene: Scene, name: str) -> list[Problem]:
    """Return the problem of periods that overlap, so that they need more states at a time."""
    try:
        plan_windows(len(scene.times), scene.window, groups)
    except ValueError:
        message = (
            "periods that overlap are drawn together, and these chain more states than the "
            f"{scene.window - 1} that the model draws at once"
        )
        remedy = f"give means whose periods do not overlap; {_shorter(scene)}"
        return [Problem("overlapping-periods", name, message, remedy)]
    return []
