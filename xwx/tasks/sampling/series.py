"""Which states are sampled: one step of the model apart, from the first time to the last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import find_coordinates, no_time, show
from xwx.fields.clock import calendar_problems, nat_problems, order_problems
from xwx.fields.coordinates import bare_time
from xwx.fields.instants import ROUNDING, Clock
from xwx.spec import Spec

__all__ = ["Series", "between", "hours", "series_of", "time_of"]


@dataclass(frozen=True, eq=False)
class Series:
    """Consecutive states, and which of them the Dataset is of.

    Attributes
    ----------
    times : array, shape (N,)
        One step of the model apart: datetime64, or cftime objects.
    positions : tuple of int
        Of the Dataset's times among them.
    """

    times: NDArray[Any]
    positions: tuple[int, ...]

    @property
    def gap(self) -> int | None:
        """The first of them that the Dataset does not have; None where it has all."""
        missing = set(range(len(self.times))) - set(self.positions)
        return min(missing, default=None)


def time_of(ds: xr.Dataset, spec: Spec, what: str) -> tuple[str, NDArray[Any]]:
    """Return the name of the valid times of a Dataset, and the times: (n,).

    Raises
    ------
    MismatchError
        When there is none, it is not decoded, holds NaT, or its calendar will not do.
    """
    name = find_coordinates(ds).time
    if name is None or (ds[name].ndim == 0 and bare_time(ds)) or ds[name].size == 0:
        raise MismatchError([no_time(ds)], what)
    dim = str(ds[name].dims[0]) if ds[name].ndim else name
    times = np.atleast_1d(ds[name].values)
    problems = [*nat_problems(times, name, dim), *calendar_problems(times, spec, name)]
    if problems:
        raise MismatchError(problems, what)
    return name, times


def series_of(ds: xr.Dataset, spec: Spec, what: str, *, whole: bool) -> Series:
    """Return the states from the first time of a Dataset to its last.

    Parameters
    ----------
    ds : Dataset
        Of snapshots.
    spec : Spec
        Of the model.
    what : str
        What the Dataset is meant for, for errors.
    whole : bool
        Whether every one of the states has to be there.

    Raises
    ------
    MismatchError
        When times are out of order, or no whole number of steps apart, or missing where `whole`.
    """
    name, times = time_of(ds, spec, what)
    dim = str(ds[name].dims[0]) if ds[name].ndim else name
    if problems := order_problems(times, name, dim):
        raise MismatchError(problems, what)
    steps = Clock(times[:1], spec.step).steps(times)
    counts = np.rint(steps).astype(int)
    off = np.abs(steps - counts) * spec.step.total_seconds() > ROUNDING.total_seconds()
    if off.any():
        raise MismatchError([_off_step(times, name, dim, spec, off)], what)
    series = Series(between(times[0], int(counts[-1]) + 1, spec.step), tuple(counts.tolist()))
    if whole and series.gap is not None:
        raise MismatchError([_missing(series, name, dim, spec)], what)
    return series


def between(first: Any, count: int, step: timedelta) -> NDArray[Any]:
    """Return the times of some states, one step apart."""
    if isinstance(first, np.datetime64):
        times: NDArray[Any] = first + np.arange(count) * np.timedelta64(step).astype("m8[ns]")
        return times.astype(first.dtype)
    return np.array([first + n * step for n in range(count)])


def _off_step(
    times: NDArray[Any], name: str, dim: str, spec: Spec, off: NDArray[np.bool_]
) -> Problem:
    seconds = f"{spec.step.total_seconds():g}"
    kept = f'(ds["{name}"] - ds["{name}"][0]).dt.total_seconds() % {seconds} == 0'
    return Problem(
        kind="wrong-step",
        where=name,
        message=(
            f"the model steps {hours(spec.step)}: {show(times[off][0])} is no whole number of "
            f"steps after the first time, {show(times[0])} ({int(off.sum())} of {times.size} times)"
        ),
        remedy=f"ds = ds.isel({dim}=({kept}).values)",
    )


def _missing(series: Series, name: str, dim: str, spec: Spec) -> Problem:
    assert series.gap is not None
    count = len(series.times) - len(series.positions)
    swap = "" if name == dim else f'.swap_dims({dim}="{name}")'
    return Problem(
        kind="missing-time",
        where=name,
        message=(
            f"{count} of the {len(series.times)} states from {show(series.times[0])} to "
            f"{show(series.times[-1])}, {hours(spec.step)} apart, are missing; the first is "
            f"{show(series.times[series.gap])}"
        ),
        remedy=(
            f'ds = ds{swap}.resample({name}="{spec.step.total_seconds():g}s").asfreq()'
            "  # NaN where nothing is known"
        ),
    )


def hours(step: timedelta) -> str:
    """Write a step in hours."""
    return f"{step.total_seconds() / 3600:g} h"
