"""Over which periods the values of a Dataset are means: CF bounds, or a length and a label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import Problem
from xwx.fields.clock import show
from xwx.fields.coordinates import is_time
from xwx.fields.instants import ROUNDING, Clock

__all__ = ["Periods", "broken_period", "mean_problems", "periods_of"]

#: What part of a period lies before its time.
_BEFORE = {"left": 0, "middle": 1, "right": 2}


@dataclass(frozen=True, eq=False)
class Periods:
    """Start and end of the period of each value: datetime64, or cftime objects."""

    starts: NDArray[Any]
    ends: NDArray[Any]


def mean_problems(ds: xr.Dataset, names: Sequence[str], time_name: str) -> list[Problem]:
    """Return the problems of variables whose ``cell_methods`` say another thing than a mean.

    Parameters
    ----------
    ds : Dataset
    names : sequence of str
        Variables of `ds`.
    time_name : str
        The coordinate of its times.
    """
    problems = []
    for name in dict.fromkeys(names):
        text = str(ds.variables[name].attrs.get("cell_methods", ""))
        own = {time_name, "time", *map(str, ds[time_name].dims)}
        methods = [method for axes, method in _methods(text) if own & set(axes)]
        if other := [method for method in methods if method != "mean"]:
            problems.append(_no_mean(name, text, other[0]))
    return problems


def _methods(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Read CF cell_methods: (axes, method) in order; what is in brackets says nothing of them."""
    words = re.sub(r"\([^)]*\)", " ", text).split()
    out: list[tuple[tuple[str, ...], str]] = []
    axes: list[str] = []
    for word in words:
        if word.endswith(":"):
            axes.append(word[:-1])
        elif axes:
            out.append((tuple(axes), word))
            axes = []
    return out


def _no_mean(name: str, text: str, method: str) -> Problem:
    remedy = f'give the means, or drop it: ds = ds.drop_vars("{name}")'
    if method == "point":
        remedy = (
            f'del ds["{name}"].attrs["cell_methods"]  # if they are means after all; values of a '
            "moment are for Observe or AreaMean"
        )
    return Problem(
        kind="cell-methods",
        where=name,
        message=f"its cell_methods are {text!r}: the {method} over time is not the mean",
        remedy=remedy,
    )


def periods_of(
    ds: xr.Dataset, time_name: str, length: timedelta | None, label: str
) -> Periods | Problem:
    """Return the period of each value of a Dataset.

    Parameters
    ----------
    ds : Dataset
    time_name : str
        The coordinate of its times, along a dimension or a scalar.
    length : timedelta, optional
        Of the periods where time has no bounds, by default the spacing of the times.
    label : {"left", "right", "middle"}
        What part of such a period its time is.
    """
    when = np.atleast_1d(ds[time_name].values)
    source = {**ds[time_name].encoding, **ds[time_name].attrs}
    if (named := source.get("bounds")) is not None:
        if named not in ds.variables:
            return _lost(ds, time_name, str(named))
        return _bounded(ds.variables[named], when, ds[time_name].dims, str(named))
    if length is None:
        steps = np.unique(np.diff(when)) if when.size > 1 else np.empty(0)
        if steps.size != 1:
            return _unknown(when, steps, time_name)
        length = _span(steps[0])
    before = length * _BEFORE[label] / 2
    if np.issubdtype(when.dtype, np.datetime64):
        fine = when.astype("datetime64[us]")
        starts = fine - np.timedelta64(before)
        return Periods(starts, starts + np.timedelta64(length))
    starts = when - before
    return Periods(starts, starts + length)


def broken_period(periods: Periods, clock: Clock, name: str) -> Problem | None:
    """Return the problem of periods that are no whole number of steps, if there is one.

    Their means would weigh a state that belongs to two periods as if it were of one.
    """
    slack = ROUNDING / clock.step
    steps = clock.steps(periods.ends) - clock.steps(periods.starts)
    broken = np.abs(steps - np.round(steps)) > 2 * slack
    if not broken.any():
        return None
    hours = clock.step.total_seconds() / 3600
    return Problem(
        kind="wrong-period",
        where=name,
        message=(
            f"a mean over {float(steps[broken][0]) * hours:g} h is none of states {hours:g} h "
            f"apart: they would belong to two periods (first {show(periods.starts[broken][0])} to "
            f"{show(periods.ends[broken][0])})"
        ),
        remedy=f"give means over a whole number of steps of {hours:g} h",
    )


def _lost(ds: xr.Dataset, time_name: str, bounds: str) -> Problem:
    held = "attrs" if "bounds" in ds[time_name].attrs else "encoding"
    return Problem(
        kind="missing-bounds",
        where=time_name,
        message=(
            f"its bounds {bounds!r} say over which periods values are means, and the Dataset does "
            "not hold them (selecting variables leaves them behind)"
        ),
        remedy=(
            f'ds = ds.assign_coords({bounds}=SOURCE["{bounds}"])  # or '
            f'ds["{time_name}"].{held}.pop("bounds"), if each time begins its period'
        ),
    )


def _span(step: Any) -> timedelta:
    if isinstance(step, np.timedelta64):
        return timedelta(microseconds=int(step / np.timedelta64(1, "us")))
    assert isinstance(step, timedelta)
    return step


def _bounded(
    bounds: xr.Variable, when: NDArray[Any], dims: tuple[Any, ...], name: str
) -> Periods | Problem:
    other = [dim for dim in bounds.dims if dim not in dims]
    if not is_time(bounds):
        return Problem(
            kind="undecoded-time",
            where=name,
            message=f"the bounds of time are of type {bounds.dtype}; dates are needed",
            remedy="ds = xr.decode_cf(ds)",
        )
    if len(other) != 1 or bounds.sizes[other[0]] != 2 or bounds.size != 2 * when.size:
        return Problem(
            kind="wrong-bounds",
            where=name,
            message=f"it is of shape {bounds.shape}: a start and an end each time are needed",
            remedy=f'ds = ds.drop_vars("{name}")  # and give period, the length of the periods',
        )
    pairs = bounds.transpose(*dims, other[0]).values.reshape(when.size, 2)
    if (wrong := pairs[:, 0] >= pairs[:, 1]).any():
        first = show(when[wrong][0])
        return Problem(
            kind="wrong-bounds",
            where=name,
            message=f"{wrong.sum()} periods end before they begin, that of {first} first",
            remedy=f'ds = ds.drop_vars("{name}")  # and give period, the length of the periods',
        )
    return Periods(pairs[:, 0], pairs[:, 1])


def _unknown(when: NDArray[Any], steps: NDArray[Any], name: str) -> Problem:
    why = "there is one time only" if when.size < 2 else f"they are {steps.size} distances apart"
    return Problem(
        kind="unknown-period",
        where=name,
        message=(
            f"over which periods these are means is not known: time has no bounds, and {why} "
            f"(first {show(when[0])})"
        ),
        remedy='TimeMean(ds, period="1D")  # the length of the periods',
    )
