"""The time axis: decoded or not, in order or not, of the model's step or not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import Problem
from xwx.fields.coordinates import bare_time
from xwx.fields.units import unit_text
from xwx.fields.variables import stated_name
from xwx.spec import Spec

__all__ = [
    "REAL_CALENDARS",
    "calendar_of",
    "calendar_problems",
    "nat_problems",
    "no_time",
    "order_problems",
    "show",
    "start_problems",
    "step_problems",
    "windows",
]

REAL_CALENDARS = frozenset({"standard", "gregorian", "proleptic_gregorian"})


def calendar_of(times: NDArray[Any]) -> str:
    """Return the CF calendar of times: datetime64 is proleptic Gregorian."""
    if np.issubdtype(times.dtype, np.datetime64) or times.size == 0:
        return "proleptic_gregorian"
    return str(times.flat[0].calendar)


def no_time(ds: xr.Dataset) -> Problem:
    """Say why a Dataset has no valid time: it is missing, or not decoded."""
    for name, variable in ds.variables.items():
        units = unit_text(variable) if variable.ndim <= 1 else None
        named = stated_name(variable.attrs) == "time" or name in ("time", "valid_time", "Time")
        numeric = np.issubdtype(variable.dtype, np.number)
        if numeric and units is not None and " since " in units:
            return Problem(
                kind="undecoded-time",
                where=str(name),
                message=f"time is the bare number of {units!r}; dates are needed",
                remedy="ds = xr.decode_cf(ds)",
            )
        if named and numeric and variable.ndim <= 1:
            return Problem(
                kind="undecoded-time",
                where=str(name),
                message=f"time is of type {variable.dtype} without units; dates are needed",
                remedy=(
                    f'ds["{name}"].attrs["units"] = units; ds = xr.decode_cf(ds)'
                    '  # units: "hours since ..." with the date they count from'
                ),
            )
    if (dim := bare_time(ds)) is not None:
        return Problem(
            kind="missing-time",
            where=dim,
            message=f"dimension {dim!r} has no coordinate; the dates of its states are needed",
            remedy=f"ds = ds.assign_coords({dim}=times)  # its valid times (datetime64), in order",
        )
    return Problem(
        kind="missing-time",
        where="time",
        message="no coordinate holds dates (datetime64 or cftime)",
        remedy="ds = ds.expand_dims(time=[when])  # when: its valid time (datetime64)",
    )


def nat_problems(times: NDArray[Any], name: str, dim: str) -> list[Problem]:
    """Times that are not a time."""
    if not np.issubdtype(times.dtype, np.datetime64) or not np.isnat(times).any():
        return []
    count = int(np.isnat(times).sum())
    return [
        Problem(
            kind="nat",
            where=name,
            message=f"{count} of {times.size} times are NaT (not a time)",
            remedy=f'ds = ds.isel({dim}=ds["{name}"].notnull().values)',
        )
    ]


def order_problems(times: NDArray[Any], name: str, dim: str) -> list[Problem]:
    """Times that are duplicated or not ascending."""
    if times.size < 2:
        return []
    problems = []
    swap = "" if name == dim else f'.swap_dims({dim}="{name}")'
    unique, counts = np.unique(times, return_counts=True)
    if unique.size < times.size:
        again = unique[counts > 1]
        problems.append(
            Problem(
                kind="duplicated-time",
                where=name,
                message=f"{again.size} times occur more than once, the first is {show(again[0])}",
                remedy=f'ds = ds{swap}.drop_duplicates("{name}")',
            )
        )
    back = np.flatnonzero(times[1:] < times[:-1])
    if back.size:
        at = int(back[0])
        problems.append(
            Problem(
                kind="unsorted-time",
                where=name,
                message=(
                    f"times must ascend, but {show(times[at + 1])} comes after {show(times[at])}"
                ),
                remedy=f'ds = ds.sortby("{name}")',
            )
        )
    return problems


def step_problems(
    times: NDArray[Any], spec: Spec, name: str, dim: str, starts: Sequence[int] | None
) -> list[Problem]:
    """Steps between times that are not the model's.

    The whole axis counts for one start; for several `starts`, the history before each of them.
    """
    if starts is None:
        pairs = np.arange(times.size - 1)
    else:
        inside = {i for window in windows(starts, spec, times.size) for i in window[:-1]}
        pairs = np.array(sorted(inside), dtype=int)
    steps = [_delta(times[i + 1] - times[i]) for i in pairs]
    wrong = [k for k, step in enumerate(steps) if step != spec.step and step > timedelta(0)]
    if not wrong:
        return []
    first = int(pairs[wrong[0]])
    found = sorted({steps[k] for k in wrong})
    return [
        Problem(
            kind="wrong-step",
            where=name,
            message=(
                f"the model steps {_hours(spec.step)}, but {show(times[first + 1])} comes "
                f"{' or '.join(map(_hours, found[:3]))} after a time such as {show(times[first])} "
                f"({len(wrong)} of {len(steps)} steps differ)"
            ),
            remedy=_step_remedy(times, spec, name, dim, set(steps), first),
        )
    ]


def _step_remedy(
    times: NDArray[Any], spec: Spec, name: str, dim: str, steps: set[timedelta], first: int
) -> str:
    only = next(iter(steps)) if len(steps) == 1 else None
    if only is not None and spec.step % only == timedelta(0):
        stride = spec.step // only
        begin = (times.size - 1) % stride
        return f"ds = ds.isel({dim}=slice({begin or None}, None, {stride}))"
    if spec.step in steps:
        return f"ds = ds.isel({dim}=slice({first + 1}, None))  # the times after the gap"
    swap = "" if name == dim else f'.swap_dims({dim}="{name}")'
    return (
        f'ds = ds{swap}.resample({name}="{spec.step.total_seconds():g}s").interpolate("linear")'
        "  # only if states between yours may be interpolated"
    )


def windows(starts: Sequence[int], spec: Spec, size: int) -> list[range]:
    """Return the time positions of the history that ends at each start, as far as there is any."""
    return [range(max(0, p - spec.history + 1), p + 1) for p in starts if 0 <= p < size]


def start_problems(
    starts: Sequence[int], spec: Spec, times: NDArray[Any], name: str
) -> list[Problem]:
    """Starts that lie outside the Dataset, or have too little before them."""
    problems, size = [], times.size
    outside = [p for p in starts if not 0 <= p < size]
    if outside:
        problems.append(
            Problem(
                kind="start-outside",
                where=name,
                message=f"start positions {outside} do not lie within the {size} times",
                remedy=f'choose from ds["{name}"]',
            )
        )
    short = [p for p in starts if 0 <= p < size and p + 1 < spec.history]
    if short:
        problems.append(
            Problem(
                kind="too-little-history",
                where=name,
                message=(
                    f"the model needs {spec.history} states ending at each start, "
                    f"only {min(short) + 1} there at {show(times[min(short)])}"
                ),
                remedy=(
                    f'start=ds["{name}"][{spec.history - 1}:]  # those with enough before them'
                    if size >= spec.history
                    else f"open {spec.history} times or more, {_hours(spec.step)} apart; "
                    "xr.concat([earlier, ds], "
                    f'"{name}") adds earlier ones'
                ),
            )
        )
    return problems


def calendar_problems(times: NDArray[Any], spec: Spec, name: str) -> list[Problem]:
    """A calendar without real dates, for a model that needs the date."""
    calendar = calendar_of(times)
    if not spec.needs_calendar or calendar in REAL_CALENDARS:
        return []
    dim = "" if name == "time" else f', dim="{name}"'
    return [
        Problem(
            kind="calendar",
            where=name,
            message=f"the model needs the date, but the calendar is {calendar!r}, not a real one",
            remedy=f'ds = ds.convert_calendar("standard", align_on="date"{dim})',
        )
    ]


def _delta(step: Any) -> timedelta:
    if isinstance(step, np.timedelta64):
        return timedelta(microseconds=int(step.astype("timedelta64[us]").astype(np.int64)))
    assert isinstance(step, timedelta)
    return step


def _hours(step: timedelta) -> str:
    return f"{step.total_seconds() / 3600:g} h"


def show(time: Any) -> str:
    """Write a time to the minute."""
    if isinstance(time, np.datetime64):
        return str(time.astype("datetime64[m]"))
    return str(time)
