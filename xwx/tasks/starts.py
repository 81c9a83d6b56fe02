"""Where forecasts start: from a user's words for times to positions in the Dataset."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields import find_coordinates

__all__ = ["Starts", "find_starts"]

_PARTIAL = re.compile(r"\d{4}(-\d\d){0,2}")
_ISO = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d))?)?)?)?)?")


@dataclass(frozen=True)
class Starts:
    """Positions along the time axis.

    Attributes
    ----------
    positions : tuple of int
    several : bool
        Whether several starts were asked for, be it a list of one: the result then has the
        dimensions ``init_time`` and ``lead_time``.
    """

    positions: tuple[int, ...]
    several: bool


def find_starts(ds: xr.Dataset, start: Any) -> Starts:
    """Find the positions of start times.

    Parameters
    ----------
    ds : Dataset
    start : None, time, slice or sequence of times
        None is the last time. A string is one exact time: ``"2026-01-25"`` is midnight.

    Raises
    ------
    TypeError
        For something that is not a time, such as a position.
    MismatchError
        For a time that the Dataset does not hold, or a slice that holds none.
    """
    name = find_coordinates(ds).time
    index = _index(ds, name)
    if index is None:  # the gate has better words for what is wrong with the time axis
        return Starts((-1,), several=_is_several(start))
    if start is None:
        return Starts((len(index) - 1,), several=False)
    if isinstance(start, slice):
        ends = [_end(index, end, name) for end in (start.start, start.stop)]
        chosen = range(len(index))[index.slice_indexer(*ends)][:: start.step]
        if not chosen:
            raise _missing(name, f"the slice {start.start} to {start.stop} holds no time", index)
        return Starts(tuple(chosen), several=True)
    if isinstance(start, xr.Dataset):
        raise TypeError(f'start is a Dataset: give times, such as start=ds["{name}"]')
    if _is_several(start):
        times = list(np.atleast_1d(np.asarray(start)))
        if not times:
            raise _missing(name, "the list of starts is empty", index)
        return Starts(tuple(_position(index, t, name) for t in times), several=True)
    value = start.values if isinstance(start, xr.DataArray) else start
    return Starts((_position(index, value, name),), several=False)


def _is_several(start: Any) -> bool:
    if isinstance(start, slice):
        return True
    if isinstance(start, xr.DataArray | np.ndarray):
        return start.ndim > 0
    return isinstance(start, Iterable) and not isinstance(start, str | bytes)


def _index(ds: xr.Dataset, name: str | None) -> pd.Index | None:
    """Return the times as an index, or None where they are missing or out of order."""
    if name is None or ds[name].ndim > 1 or ds[name].size == 0:
        return None
    index = xr.Variable("time", np.atleast_1d(ds[name].values)).to_index()
    if not (index.is_monotonic_increasing and index.is_unique) or index.hasnans:
        return None
    return index


def _end(index: pd.Index, end: Any, name: str | None) -> Any:
    """Return the end of a slice; a string may be a day, month or year, as in xarray."""
    if end is None or (isinstance(end, str) and _PARTIAL.fullmatch(end)):
        return end
    return _time(index, end, name)


def _position(index: pd.Index, time: Any, name: str | None) -> int:
    label = _time(index, time, name)
    if label not in index:
        raise _missing(name, f"the Dataset holds no time {time}", index)
    return int(np.flatnonzero(index == label)[0])


def _time(index: pd.Index, time: Any, name: str | None) -> Any:
    """Turn a time in any words into one of the kind that the index holds."""
    try:
        return _label(index, time)
    except (ValueError, TypeError) as error:
        if isinstance(time, str):
            what = f"start={time!r} is not a time in ISO 8601, such as 2026-01-25T06"
            raise _missing(name, what, index) from error
        raise TypeError(
            f"start={time!r} is a {type(time).__name__}, not a time: give a time such as "
            f'"{index[-1]}", or ds["{name}"][i] for the i-th'
        ) from error


def _label(index: pd.Index, time: Any) -> Any:
    if isinstance(time, np.ndarray) and time.ndim == 0:
        time = time[()]
    if isinstance(index, xr.CFTimeIndex):
        kind = type(index[0])
        if isinstance(time, kind):
            return time
        if isinstance(time, str) and (match := _ISO.fullmatch(time.strip())):
            parts = [int(part) for part in match.groups() if part is not None]
            return kind(*parts, *(1, 1)[len(parts) - 1 :])  # its own calendar: 30 February may be
        if isinstance(time, str | np.datetime64 | datetime | date):
            t = _utc(time)
            return kind(t.year, t.month, t.day, t.hour, t.minute, t.second)
    elif isinstance(time, str | np.datetime64 | datetime | date):
        return _utc(time)
    raise TypeError(f"{type(time).__name__} is not a time")


def _utc(time: Any) -> pd.Timestamp:
    """Return a time without a zone, as the times of a Dataset are: UTC."""
    # Other spellings, such as 01/02/2026, are read one way here and the other way there.
    stamp = pd.Timestamp(datetime.fromisoformat(time.strip()) if isinstance(time, str) else time)
    return stamp if stamp.tzinfo is None else stamp.tz_convert("UTC").tz_localize(None)


def _missing(name: str | None, what: str, index: pd.Index) -> MismatchError:
    problem = Problem(
        kind="missing-start",
        where=f"start ({name})",
        message=f"{what}; it has {len(index)} times from {index[0]} to {index[-1]}",
        remedy=f'choose from ds["{name}"]',
    )
    return MismatchError([problem], "the forecast")
