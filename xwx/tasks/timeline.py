"""When forecasts began and for when they hold, in any of the layouts that forecasts come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import find_coordinates, lead_times, no_time, show, stated_name

__all__ = ["Timeline", "plus", "timeline_of", "valid_index"]

_STARTS = ("init_time", "forecast_reference_time", "reference_time", "initial_time", "time")


@dataclass(frozen=True, eq=False)
class Timeline:
    """A Dataset with one dimension of starts and one of leads.

    Attributes
    ----------
    ds : Dataset
        With both dimensions, of length one where there was none.
    start_dim, lead_dim : str
    valid : array, shape (starts, leads)
        Valid times: datetime64 or cftime objects.
    leads_of : array, shape (leads,)
        Lead times; a single zero for an archive.
    several : bool
        Whether the starts were a dimension.
    leads : bool
        Whether the leads were.
    """

    ds: xr.Dataset
    start_dim: str
    lead_dim: str
    valid: NDArray[Any]
    leads_of: NDArray[Any]
    several: bool
    leads: bool


def timeline_of(ds: xr.Dataset, what: str = "the forecast") -> Timeline:
    """Find starts, leads and valid times.

    Parameters
    ----------
    ds : Dataset
        One start, valid times along its time dimension and lead times beside them; or dimensions
        of starts and of leads; or one of these alone; or valid times of a single lead; or an
        archive without leads, whose times are the starts.
    what : str
        What `ds` is, for errors.

    Raises
    ------
    MismatchError
        Without times, or where coordinates contradict each other.
    """
    found = {str(k): lead_times(ds, str(k)) for k in ds.coords}
    known = [k for k, leads in found.items() if leads is not None and ds[k].ndim <= 1]
    if not known:
        return _each_once(_archive(ds, what), what)
    lead = min(known, key=lambda k: (ds[k].ndim != 1, k not in ds.dims))
    leads = np.asarray(found[lead])
    if ds[lead].ndim == 1 and lead not in ds.dims:
        time = find_coordinates(ds).time
        if time is not None and ds[time].dims == ds[lead].dims:
            return _each_once(_one_start(ds, lead, leads, what), what)
        ds = ds.swap_dims({ds[lead].dims[0]: lead})
    return _each_once(_starts_and_leads(ds, lead, leads, what), what)


def _archive(ds: xr.Dataset, what: str) -> Timeline:
    name = find_coordinates(ds).time
    if name is None:
        raise MismatchError([no_time(ds)], what=what)
    several = ds[name].ndim == 1
    if not several:
        ds = ds.expand_dims(name)
    dim = str(ds[name].dims[0])
    _not_empty(ds, (dim,), what)
    valid = np.asarray(ds[name].values)[:, None]
    zero = np.array([0], "timedelta64[ns]")
    return Timeline(ds.expand_dims("lead_time"), dim, "lead_time", valid, zero, several, False)


def _one_start(ds: xr.Dataset, lead: str, leads: NDArray[Any], what: str) -> Timeline:
    """Lead times along the time dimension."""
    dim = str(ds[lead].dims[0])
    name = find_coordinates(ds).time
    if name is None or ds[name].dims != (dim,):
        raise MismatchError([no_time(ds)], what=what)
    _not_empty(ds, (dim,), what)
    valid = np.asarray(ds[name].values)
    starts = np.unique(plus(valid, -leads))
    if starts.size != 1:
        problem = Problem(
            kind="mixed-starts",
            where=lead,
            message=(
                f"the states along {dim!r} began at {starts.size} times, {show(starts[0])} to "
                f"{show(starts[-1])}: one start, or a dimension of starts beside one of leads, is "
                "needed"
            ),
            remedy=f'ds = ds.drop_vars("{lead}")  # to score them all alike, whatever their lead',
        )
        raise MismatchError([problem], what=what)
    start = next((k for k in _STARTS if k in ds.coords and ds[k].ndim == 0), "init_time")
    begun = ds[start].values if start in ds.coords else starts[0]
    if begun != starts[0]:
        message = f"{start!r} says {show(begun)} where {name!r} less {lead!r} is {show(starts[0])}"
        raise MismatchError([_contradiction(start, message)], what=what)
    ds = ds.swap_dims({dim: lead}).drop_vars([start], errors="ignore")
    ds = ds.expand_dims({start: np.atleast_1d(begun)})
    return Timeline(ds, start, lead, valid[None, :], leads, several=False, leads=True)


def _starts_and_leads(ds: xr.Dataset, lead: str, leads: NDArray[Any], what: str) -> Timeline:
    along = lead in ds.dims
    times = {str(k): c for k, c in ds.coords.items() if _is_clock(c)}
    stated = [k for k, c in times.items() if stated_name(c.attrs) == "forecast_reference_time"]
    flat = [k for k in (*stated, *_STARTS) if k in times and times[k].ndim <= 1]
    flat = [k for k in flat if lead not in times[k].dims]
    if not flat:
        return _one_lead(ds, lead, leads, what)
    start = min(flat, key=lambda k: (times[k].ndim != 1, flat.index(k)))
    several = ds[start].ndim == 1
    if several and start not in ds.dims:
        ds = ds.swap_dims({ds[start].dims[0]: start})
    _not_empty(ds, [d for d in (start, lead) if d in ds.dims], what)
    valid = plus(np.atleast_1d(ds[start].values)[:, None], np.atleast_1d(leads)[None, :])
    for dim, there in ((lead, along), (start, several)):
        ds = ds if there else ds.expand_dims(dim)
    same = {k for k in flat if np.array_equal(times[k].values, times[start].values)}
    _agree({k: c for k, c in times.items() if k not in same}, start, lead, valid, what)
    return Timeline(ds, start, lead, valid, np.atleast_1d(leads), several, along)


def _one_lead(ds: xr.Dataset, lead: str, leads: NDArray[Any], what: str) -> Timeline:
    """Valid times of a single lead time: they say when the forecasts began."""
    name = find_coordinates(ds).time
    if name is None or leads.size != 1 or lead in ds[name].dims:
        raise MismatchError([_no_start(lead)], what=what)
    several, along = ds[name].ndim == 1, lead in ds.dims
    for dim, there in ((lead, along), (name, several)):
        ds = ds if there else ds.expand_dims(dim)
    dim = str(ds[name].dims[0])
    _not_empty(ds, (dim,), what)
    valid = np.asarray(ds[name].values)[:, None]
    return Timeline(ds, dim, lead, valid, np.atleast_1d(leads), several, along)


def _agree(
    times: dict[str, xr.DataArray], start: str, lead: str, valid: NDArray[Any], what: str
) -> None:
    """See that the valid times of a Dataset are start plus lead."""
    whole = xr.DataArray(valid, dims=(start, lead))
    for name, coordinate in times.items():
        alone = [d for d in (start, lead) if d not in coordinate.dims and whole.sizes[d] == 1]
        named = name in ("time", "valid_time") or stated_name(coordinate.attrs) == "time"
        covers = {*coordinate.dims, *alone} == {start, lead}
        if name == start or not covers or (coordinate.ndim < 2 and not named):
            continue
        held = whole.isel(dict.fromkeys(alone, 0))
        found = coordinate.transpose(*held.dims).values
        if not np.array_equal(found, held.values):
            first = tuple(np.argwhere(found != held.values)[0])
            message = (
                f"{name!r} says {show(found[first])} where {start!r} plus {lead!r} is "
                f"{show(held.values[first])}"
            )
            raise MismatchError([_contradiction(name, message)], what=what)


def plus(times: NDArray[Any], leads: NDArray[Any]) -> NDArray[Any]:
    """Add lead times to times, those of cftime too."""
    if times.dtype == object:
        leads = leads.astype("timedelta64[us]").astype(object)
    return np.asarray(times + leads)


def _contradiction(name: str, message: str) -> Problem:
    remedy = f'ds = ds.drop_vars("{name}")  # or mend the one that is wrong'
    return Problem("contradicting-times", name, message, remedy)


def _each_once(timeline: Timeline, what: str) -> Timeline:
    """Refuse starts and lead times that occur more than once: they would count twice."""
    first = timeline.valid[:, 0]
    pairs = ((timeline.start_dim, first), (timeline.lead_dim, timeline.leads_of))
    problems = [
        Problem(
            kind="duplicated-time",
            where=dim,
            message=f"{labels.size - np.unique(labels).size} of its {labels.size} values occur "
            "more than once",
            remedy=f'ds = ds.drop_duplicates("{dim}")',
        )
        for dim, labels in pairs
        if np.unique(labels).size < labels.size
    ]
    if problems:
        raise MismatchError(problems, what=what)
    return timeline


def _not_empty(ds: xr.Dataset, dims: Sequence[str], what: str) -> None:
    empty = [dim for dim in dims if ds.sizes[dim] == 0]
    if empty:
        remedy = "look at the range before selecting"
        problems = [Problem("zero-length", d, "it has length 0", remedy) for d in empty]
        raise MismatchError(problems, what=what)


def _is_clock(coordinate: xr.DataArray) -> bool:
    if np.issubdtype(coordinate.dtype, np.datetime64):
        return True
    held = coordinate.dtype == object and coordinate.size > 0
    return held and hasattr(coordinate.values.flat[0], "calendar")


def _no_start(lead: str) -> Problem:
    return Problem(
        kind="missing-start",
        where=lead,
        message=f"there are lead times {lead!r}, and no coordinate that says when forecasts began",
        remedy="ds = ds.expand_dims(init_time=[when])  # when: the initial time (datetime64)",
    )


def valid_index(times: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.intp]:
    """Return the positions of wanted times among others; -1 where there is none.

    Parameters
    ----------
    times : array, shape (n,)
        Each once.
    wanted : array, any shape
    """
    index = pd.Index(times)
    if np.issubdtype(times.dtype, np.datetime64) != np.issubdtype(wanted.dtype, np.datetime64):
        return np.full(wanted.shape, -1)
    return np.asarray(index.get_indexer(wanted.ravel()), dtype=np.intp).reshape(wanted.shape)
