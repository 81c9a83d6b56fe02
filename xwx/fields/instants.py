"""Which states of a series are the times of a Dataset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xwx.errors import Problem
from xwx.fields.clock import calendar_of, show

__all__ = ["ROUNDING", "Clock", "Found"]

#: Times agree when they differ by no more than this: decoding rounds them.
ROUNDING = timedelta(seconds=1)


@dataclass(frozen=True, eq=False)
class Found:
    """Where times lie in a series.

    Attributes
    ----------
    states : array of int
        The nearest state of each.
    near : array of bool
        Whether it is near enough to be a time of that state.
    problems : tuple of Problem
        Of times that are no state's; the states are meaningless then.
    """

    states: NDArray[np.intp]
    near: NDArray[np.bool_]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, eq=False)
class Clock:
    """The times of a series of states, one step apart.

    Attributes
    ----------
    times : array
        datetime64, or cftime objects.
    step : timedelta
    """

    times: NDArray[Any]
    step: timedelta

    def __str__(self) -> str:
        hours = f"{self.step.total_seconds() / 3600:g} h"
        return f"{show(self.times[0])} to {show(self.times[-1])}, every {hours}"

    def steps(self, when: NDArray[Any]) -> NDArray[np.float64]:
        """Return the number of steps from the first state to each time, with its fraction."""
        first = self.times[0]
        if np.issubdtype(when.dtype, np.datetime64):
            unit = np.timedelta64(1, "us")
            past = (when.astype("datetime64[us]") - first.astype("datetime64[us]")) / unit
        else:
            past = np.array([(t - first) / timedelta(microseconds=1) for t in when.tolist()])
        return np.asarray(past, dtype=np.float64) / (self.step / timedelta(microseconds=1))

    def calendar_problem(self, when: NDArray[Any], name: str) -> Problem | None:
        """Return the problem of times that cannot be compared with those of the series."""
        own, other = calendar_of(self.times), calendar_of(when)
        if self.times.dtype.kind == when.dtype.kind and own == other:
            return None
        dates = self.times.dtype.kind != "O"
        options = "use_cftime=False" if dates else "use_cftime=True"
        target = "standard" if dates else own
        return Problem(
            kind="calendar",
            where=name,
            message=(
                f"its times are {_kind(when)}, those of the series {_kind(self.times)}; they "
                "cannot be compared"
            ),
            remedy=f'ds = ds.convert_calendar("{target}", dim="{name}", {options})',
        )

    def find(
        self, when: NDArray[Any], name: str, dim: str | None, tolerance: timedelta | None = None
    ) -> Found:
        """Find the state of each time.

        Parameters
        ----------
        when : array
            Times, none of them NaT.
        name : str
            Of their coordinate.
        dim : str or None
            The dimension that it runs along; None for a scalar.
        tolerance : timedelta, optional
            How far from a state a time may lie; those farther off are not near. By default they
            are a problem beyond :data:`ROUNDING`.
        """
        if (wrong := self.calendar_problem(when, name)) is not None:
            return Found(np.zeros(when.size, np.intp), np.zeros(when.size, np.bool_), (wrong,))
        steps = self.steps(when)
        states = np.rint(steps).astype(np.intp)
        seconds = np.abs(steps - states) * self.step.total_seconds()
        off = seconds > (tolerance or ROUNDING).total_seconds() + 1e-3
        outside = (states < 0) | (states >= self.times.size)
        problems = []
        if outside.any():
            problems.append(self._outside(when, outside, name, dim))
        between = off & ~outside
        if tolerance is None and between.any():
            problems.append(self._between(when, between, ~off & ~outside, name, dim))
        return Found(states, ~off, tuple(problems))

    def _outside(
        self, when: NDArray[Any], outside: NDArray[np.bool_], name: str, dim: str | None
    ) -> Problem:
        first, last = self.times[0], self.times[-1]
        remedy = "give values at the times of the series, or start it at another time"
        if dim is not None and not outside.all():
            if first.__class__ is np.datetime64:
                low, high = (f'np.datetime64("{show(t)}")' for t in (first, last))
                chosen = f'ds["{name}"].values >= {low}) & (ds["{name}"].values <= {high})'
                remedy = f"ds = ds.isel({dim}=({chosen})"
            else:
                keep = np.flatnonzero(~outside)
                remedy = f"ds = ds.isel({dim}={keep.tolist()})"
        return Problem(
            kind="time-outside",
            where=name,
            message=(
                f"{outside.sum()} of {when.size} times are not in the series, {self}: the first "
                f"of them is {show(when[outside][0])}"
            ),
            remedy=remedy,
        )

    def _between(
        self,
        when: NDArray[Any],
        between: NDArray[np.bool_],
        good: NDArray[np.bool_],
        name: str,
        dim: str | None,
    ) -> Problem:
        keep = np.flatnonzero(good)
        strides = np.unique(np.diff(keep))
        remedy = f'ds = ds.assign_coords({{"{name}": nearest}})  # the nearest times of states'
        if dim is not None and keep.size > 1 and strides.size == 1:
            remedy = f"ds = ds.isel({dim}=slice({keep[0]}, {keep[-1] + 1}, {strides[0]}))"
        elif dim is not None and 0 < keep.size <= 12:
            remedy = f"ds = ds.isel({dim}={keep.tolist()})"
        return Problem(
            kind="time-between",
            where=name,
            message=(
                f"{between.sum()} of {when.size} times lie between the states of the series, "
                f"{self}: the first of them is {show(when[between][0])}"
            ),
            remedy=remedy,
        )


def _kind(times: NDArray[Any]) -> str:
    if times.dtype.kind != "O":
        return "datetime64"
    return f"cftime of the calendar {calendar_of(times)!r}"
