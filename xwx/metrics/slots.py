"""Which samples of an archive belong to which day of the year and hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import find_coordinates
from xwx.fields.clock import calendar_of, nat_problems, no_time, order_problems

__all__ = ["EMPTY", "Group", "Period", "Slots", "hours_of", "slots_of", "span", "time_problem"]

Group = Literal["dayofyear", "month"]
Period = slice | tuple[Any, Any]
WHAT = "a climatology"
#: The attribute that lists the days of the year without samples.
EMPTY = "xwx_climatology_empty_days"
_DAYS = {"360_day": 360, "noleap": 365, "365_day": 365}


@dataclass(frozen=True, eq=False)
class Slots:
    """The slots of a climatology, and the one that each sample belongs to.

    Attributes
    ----------
    time : str
        The dimension of time of the archive.
    of : ndarray of int, shape (time,)
        Slot of each sample, counted in C order over `shape`; -1 for samples that are not used.
    labels : dict of str -> ndarray
        Dimensions of the climatology and their coordinates.
    reach : int
        Days on either side whose samples count too.
    attrs : dict
        What the climatology says of its samples.
    """

    time: str
    of: NDArray[np.int64]
    labels: Mapping[str, NDArray[Any]]
    reach: int
    attrs: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of days (or months) and hours."""
        return tuple(len(values) for values in self.labels.values())

    @property
    def leaps(self) -> bool:
        """Whether the last day is one of leap years only, and may be without samples."""
        return len(self.labels.get("dayofyear", ())) == 366

    def members(self) -> list[NDArray[np.int64]]:
        """Return the positions of the samples that count for each slot, in C order."""
        if not self.reach and not self.leaps:
            return [np.flatnonzero(self.of == slot) for slot in range(int(np.prod(self.shape)))]
        days, hours = self.shape
        day, hour = np.divmod(self.of, hours)
        out = []
        for centre in range(days):
            apart = np.abs(day - centre)
            near = (np.minimum(apart, days - apart) <= self.reach) & (self.of >= 0)
            out += [np.flatnonzero(near & (hour == h)) for h in range(hours)]
        if self.leaps:
            before, last = out[-2 * hours : -hours], out[-hours:]
            out[-hours:] = [a if len(a) else b for a, b in zip(last, before, strict=True)]
        return out


def slots_of(
    ds: xr.Dataset,
    *,
    period: Period | None,
    hours: Sequence[int] | None,
    window: int = 1,
    group: Group | None = "dayofyear",
) -> Slots:
    """Find the slot of each time of an archive.

    Raises
    ------
    MismatchError
        If `ds` has no one-dimensional valid time, its times are missing, duplicated or not on the
        hour, or none of them is of the period and the hours.
    ValueError
        If the window is not an odd number of days of the year.
    """
    name = find_coordinates(ds).time
    if name is None or ds[name].ndim != 1:
        raise MismatchError([no_time(ds) if name is None else time_problem(name)], what=WHAT)
    times, dim = ds[name], str(ds[name].dims[0])
    problems = nat_problems(times.values, name, dim)
    problems += [p for p in order_problems(times.values, name, dim) if p.kind != "unsorted-time"]
    if problems:
        raise MismatchError(problems, what=WHAT)
    used, at = _in_period(times, period), hours_of(times)
    found = np.unique(at[used])
    chosen = found if hours is None else np.unique(np.asarray(hours))
    if not used.any() or (lacking := np.setdiff1d(chosen, found)).size:
        raise MismatchError(
            [_empty(times, period, None if not used.any() else lacking, found)], WHAT
        )
    used &= np.isin(at, chosen)
    days = _DAYS.get(calendar_of(times.values), 366)
    if (
        isinstance(window, bool)
        or window != int(window)
        or window % 2 != 1
        or not 0 < window < days
    ):
        raise ValueError(f"window={window!r}: give an odd number of days, less than {days}")
    labels: dict[str, NDArray[Any]] = {}
    of = np.zeros(times.size, np.int64)
    if group == "dayofyear":
        labels = {"dayofyear": np.arange(1, days + 1), "hour": chosen}
        of = (times.dt.dayofyear.values - 1) * chosen.size + np.searchsorted(chosen, at)
    elif group == "month":
        labels = {"month": np.arange(1, 13)}
        of = times.dt.month.values - 1
    kept = times.values[used]
    attrs = {
        "xwx_climatology_period": span(kept.min(), kept.max()),
        "xwx_climatology_window": int(window),
        "xwx_climatology_years": int(np.unique(times.dt.year.values[used]).size),
    }
    if group == "dayofyear":
        empty = _empty_days(of[used], days, chosen.size, window // 2)
        attrs |= {EMPTY: empty} if empty else {}
    return Slots(dim, np.where(used, of, -1).astype(np.int64), labels, window // 2, attrs)


def _empty_days(of: NDArray[np.int64], days: int, hours: int, reach: int) -> str:
    """Return the days of the year that lack samples at some hour: ``"18-334, 360"``."""
    count = np.bincount(of, minlength=days * hours).reshape(days, hours)
    near = sum(np.roll(count, shift, axis=0) for shift in range(-reach, reach + 1))
    lacking = np.flatnonzero((np.asarray(near) == 0).any(axis=1)) + 1
    if days == 366 and 365 not in lacking:
        lacking = lacking[lacking != 366]  # it is the day before, where no leap year was used
    runs = np.split(lacking, np.flatnonzero(np.diff(lacking) != 1) + 1) if lacking.size else []
    return ", ".join(f"{r[0]}-{r[-1]}" if r.size > 1 else f"{r[0]}" for r in runs)


def hours_of(times: xr.DataArray, what: str = WHAT) -> NDArray[np.int64]:
    """Return the hours of times, which must be whole ones."""
    rest = times.dt.minute.values * 60 + times.dt.second.values
    if np.any(rest):
        first = times.values[np.flatnonzero(rest)[0]]
        problem = Problem(
            kind="not-on-the-hour",
            where=str(times.name),
            message=f"{np.count_nonzero(rest)} times are not on the hour, the first is {first}",
            remedy=f'ds = ds.assign_coords({times.name}=ds["{times.name}"].dt.floor("h"))',
        )
        raise MismatchError([problem], what=what)
    return np.asarray(times.dt.hour.values, dtype=np.int64)


def span(first: Any, last: Any) -> str:
    """Write the first and the last time: ``1993-01-01T00 .. 2016-12-31T18``."""

    def show(time: Any) -> str:
        if isinstance(time, np.datetime64):
            return str(time.astype("datetime64[h]"))
        return f"{time.year:04d}-{time.month:02d}-{time.day:02d}T{time.hour:02d}"

    return f"{show(first)} .. {show(last)}"


def time_problem(name: str) -> Problem:
    """Say that a climatology needs states along time."""
    return Problem(
        kind="no-time-dimension",
        where=name,
        message="the Dataset is of a single time; a climatology is made of many",
        remedy="open the times of several years, as one Dataset",
    )


def _in_period(times: xr.DataArray, period: Period | None) -> NDArray[np.bool_]:
    """Whether each time is of the period, both ends included, as in ``ds.sel(time=slice(...))``."""
    if period is None:
        return np.ones(times.size, bool)
    ends = (period.start, period.stop) if isinstance(period, slice) else tuple(period)
    if len(ends) != 2 or (isinstance(period, slice) and period.step is not None):
        raise ValueError(f'period={period!r}: give the first and the last, like ("1993", "2016")')
    first, last = (f"{end:04d}" if isinstance(end, int) else end for end in ends)
    order = np.argsort(times.values, kind="stable")
    places = xr.DataArray(order, {"when": times.values[order]}, "when")
    used = np.zeros(times.size, bool)
    used[places.sel(when=slice(first, last)).values] = True
    return used


def _empty(
    times: xr.DataArray,
    period: Period | None,
    lacking: NDArray[Any] | None,
    found: NDArray[Any],
) -> Problem:
    """Say that the period holds no times, or that none of them is at some of the hours."""
    if lacking is None:
        return Problem(
            kind="empty-period",
            where=str(times.name),
            message=f"no time is within period={period!r}: "
            f"the Dataset has {span(times.values.min(), times.values.max())}",
            remedy="choose period=(first, last) within them, or open the files of that period",
        )
    return Problem(
        kind="missing-hour",
        where=str(times.name),
        message=f"no time is at hour {', '.join(map(str, lacking))}: the Dataset has hours "
        f"{', '.join(map(str, found))}",
        remedy=f"hours={tuple(int(h) for h in found)}",
    )
