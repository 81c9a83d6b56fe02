"""The two sides of a verification: a forecast, and the truth in its presentation."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem, XwxWarning
from xwx.fields import (
    Horizontal,
    calendar_of,
    grid_of,
    horizontal_of,
    member_dim,
    regrid,
    show,
    type_problems,
)
from xwx.metrics.metric import Metric
from xwx.spec import Grid
from xwx.tasks.further import presented
from xwx.tasks.timeline import Timeline, plus, timeline_of, valid_index

__all__ = [
    "Forecast",
    "Truth",
    "check_members",
    "check_overlap",
    "common_cases",
    "on_one_grid",
]


@dataclass(frozen=True, eq=False)
class Forecast:
    """A forecast that is to be scored.

    Attributes
    ----------
    timeline : Timeline
    names : tuple of str
        The variables.
    horizontal : Horizontal
    member_dim : str or None
    """

    timeline: Timeline
    names: tuple[str, ...]
    horizontal: Horizontal
    member_dim: str | None

    @classmethod
    def of(cls, ds: xr.Dataset, what: str = "the forecast") -> Forecast:
        """Find out how a Dataset is laid out.

        Raises
        ------
        MismatchError
            Without latitude and longitude, times, or variables that run along them.
        """
        horizontal = horizontal_of(ds, what)
        axes = {horizontal.latitude_dim, horizontal.longitude_dim}
        names = [str(k) for k, v in ds.data_vars.items() if axes <= set(v.dims) and _number(v)]
        if wrong := [p for name in names for p in type_problems(name, ds[name].dtype)]:
            raise MismatchError(wrong, what="verification")
        timeline = timeline_of(ds, what)
        clocks = {d for c in ds.coords.values() if c.dtype.kind in "mM" for d in c.dims}
        clocks |= {timeline.start_dim, timeline.lead_dim} & set(ds.dims)
        moving = [name for name in names if clocks & set(ds[name].dims)]
        if not names:
            problem = Problem(
                kind="empty-dataset",
                where="Dataset",
                message="no variable of real numbers runs along latitude and longitude",
                remedy=f"look at {what}: ds.data_vars",
            )
            raise MismatchError([problem], what="verification")
        return cls(timeline, tuple(moving or names), horizontal, member_dim(ds))

    @property
    def dims(self) -> tuple[str, str]:
        """Dimensions of starts and of leads."""
        return self.timeline.start_dim, self.timeline.lead_dim

    @property
    def axes(self) -> tuple[str, str]:
        """Dimensions of latitude and of longitude."""
        return self.horizontal.latitude_dim, self.horizontal.longitude_dim

    @property
    def members(self) -> int:
        """The size of the ensemble; 0 without one."""
        dim = self.member_dim
        return 0 if dim is None else int(self.timeline.ds.sizes[dim])

    @property
    def fields(self) -> xr.Dataset:
        """The variables."""
        return self.timeline.ds[list(self.names)]

    def only(self, starts: Any, leads: Any) -> Forecast:
        """Return some of the cases."""
        t = self.timeline
        ds = t.ds.isel({t.start_dim: starts, t.lead_dim: leads})
        valid = t.valid[starts][:, leads]
        leads_of = t.leads_of[leads]
        chosen = Timeline(ds, t.start_dim, t.lead_dim, valid, leads_of, t.several, t.leads)
        return Forecast(chosen, self.names, self.horizontal, self.member_dim)


def _number(variable: xr.DataArray) -> bool:
    return variable.dtype.kind in "fiu"


@dataclass(frozen=True, eq=False)
class Truth:
    """What a forecast is held against: its fields along one dimension of valid times."""

    fields: xr.Dataset
    dim: str
    times: NDArray[Any]

    @classmethod
    def of(cls, ds: xr.Dataset, forecast: Forecast) -> Truth:
        """Bring a Dataset to the presentation of a forecast.

        Raises
        ------
        MismatchError
            With everything that does not fit.
        """
        found = timeline_of(presented(ds, forecast.fields, "the truth"), "the truth")
        several = [dim for dim in (found.start_dim, found.lead_dim) if found.ds.sizes[dim] > 1]
        if len(several) > 1:
            raise MismatchError([_several_values(found)], what="the truth")
        dim = several[0] if several else found.start_dim
        other = found.lead_dim if dim == found.start_dim else found.start_dim
        fields = found.ds.isel({other: 0}, drop=True)
        known = set(forecast.fields.dims) - {forecast.member_dim} | {dim}
        extra = [str(d) for d in fields.dims if d not in known]
        wide = [d for d in extra if fields.sizes[d] > 1]
        if wide:
            raise MismatchError([_extra(fields, d) for d in wide], what="the truth")
        fields = fields.isel(dict.fromkeys(extra, 0), drop=True)
        times = found.valid.ravel()
        if np.unique(times).size < times.size:
            raise MismatchError([_twice(dim)], what="the truth")
        return cls(fields, dim, times)


def _several_values(found: Timeline) -> Problem:
    return Problem(
        kind="several-truths",
        where=found.lead_dim,
        message=(
            f"it has {found.valid.shape[0]} starts and {found.valid.shape[1]} lead times: several "
            "values for one valid time"
        ),
        remedy=f"truth = truth.isel({found.lead_dim}=0)  # the lead time that counts as the truth",
    )


def _extra(ds: xr.Dataset, dim: str) -> Problem:
    names = ", ".join(repr(str(k)) for k, v in ds.data_vars.items() if dim in v.dims)
    return Problem(
        kind="extra-dimension",
        where=dim,
        message=f"{names} have {ds.sizes[dim]} values along {dim!r}: the truth is one",
        remedy=f'truth = truth.isel({dim}=0)  # or truth.mean("{dim}")',
    )


def _twice(dim: str) -> Problem:
    return Problem(
        kind="duplicated-time",
        where=dim,
        message="times occur more than once",
        remedy=f'truth = truth.drop_duplicates("{dim}")',
    )


def common_cases(forecast: Forecast, other: Forecast) -> tuple[Forecast, Forecast]:
    """Take the starts and leads that two forecasts have in common, in the presentation of one.

    Raises
    ------
    MismatchError
        Without a common start or lead, or where `other` lacks something.
    """
    mine, theirs = forecast.timeline, other.timeline
    ds = presented(theirs.ds, forecast.fields, "the reference")
    starts = valid_index(_starts(theirs), _starts(mine))
    leads = valid_index(theirs.leads_of, mine.leads_of)
    if not (starts >= 0).any() or not (leads >= 0).any():
        raise MismatchError([_no_common(forecast, other)], what="the reference")
    lost = mine.valid.size - int((starts >= 0).sum() * (leads >= 0).sum())
    if lost:
        warnings.warn(
            f"{lost} of {mine.valid.size} cases of the forecast are not in the reference, and are "
            "not scored",
            XwxWarning,
            stacklevel=4,
        )
    chosen = forecast.only(starts >= 0, leads >= 0)
    ds = ds.isel({theirs.start_dim: starts[starts >= 0], theirs.lead_dim: leads[leads >= 0]})
    gone = [k for k in ds.coords if {theirs.start_dim, theirs.lead_dim} & set(ds[k].dims)]
    names = dict(zip((theirs.start_dim, theirs.lead_dim), forecast.dims, strict=True))
    ds = ds.drop_vars(gone).rename({a: b for a, b in names.items() if a != b})
    t = chosen.timeline
    timeline = Timeline(ds, *forecast.dims, t.valid, t.leads_of, t.several, t.leads)
    return chosen, Forecast(timeline, forecast.names, forecast.horizontal, other.member_dim)


def _starts(timeline: Timeline) -> NDArray[Any]:
    """Return when forecasts began."""
    return plus(timeline.valid[:, 0], -timeline.leads_of[:1])


def _no_common(forecast: Forecast, other: Forecast) -> Problem:
    spans = []
    for timeline in (forecast.timeline, other.timeline):
        starts, leads = _starts(timeline), timeline.leads_of
        begun = f"starts {show(starts.min())} to {show(starts.max())}"
        spans.append(f"{begun}, leads {leads.min()} to {leads.max()}")
    return Problem(
        kind="no-overlap",
        where=forecast.dims[0],
        message=f"it has no case of the forecast's: {spans[1]}; the forecast has {spans[0]}",
        remedy="give a reference of the same starts and lead times",
    )


def on_one_grid(
    sides: Sequence[xr.Dataset | None], grid: Literal["forecast", "truth"] | Grid | None
) -> list[xr.Dataset | None]:
    """Regrid forecast, truth and others to one grid, if that was asked for."""
    if grid is None:
        return list(sides)
    if not isinstance(grid, Grid) and grid not in ("forecast", "truth"):
        raise ValueError(f'grid={grid!r}: give "forecast", "truth" or a Grid')
    kept = {"forecast": 0, "truth": 1}.get(grid) if isinstance(grid, str) else None
    target = grid if isinstance(grid, Grid) else grid_of(_given(sides[kept or 0]))
    return [
        side if side is None or number == kept or grid_of(side) == target else regrid(side, target)
        for number, side in enumerate(sides)
    ]


def _given(side: xr.Dataset | None) -> xr.Dataset:
    assert side is not None
    return side


def check_members(metrics: Collection[Metric | str], forecast: Forecast, what: str) -> None:
    """Refuse scores of ensembles for what is none, or too small.

    Raises
    ------
    ValueError
    """
    lacking = [m for m in metrics if isinstance(m, Metric) and m.members > forecast.members]
    if not lacking:
        return
    labels, needed = ", ".join(m.label for m in lacking), max(m.members for m in lacking)
    verb = "needs" if len(lacking) == 1 else "need"
    count = "1 member" if needed == 1 else f"{needed} members"
    has = f"has {forecast.members}" if forecast.members else "has no dimension of members"
    hint = ""
    if any(m.label == "crps" for m in lacking):
        hint = ' The CRPS of a single forecast is its mean absolute error: ask for "mae".'
    raise ValueError(
        f"metrics: {labels} {verb} an ensemble of at least {count}, and {what} {has}.{hint} "
        'Members along a dimension of another name: ds.rename(NAME="member")'
    )


def check_overlap(forecast: Forecast, truth: Truth) -> None:
    """Refuse sides without a common valid time; say how many cases have no truth.

    Raises
    ------
    MismatchError
    """
    valid, start = forecast.timeline.valid, forecast.dims[0]
    there = valid_index(truth.times, valid) >= 0
    if there.all():
        return
    spans = [
        f"{show(t.min())} to {show(t.max())}, calendar {calendar_of(t)}"
        for t in (valid, truth.times)
    ]
    if not there.any():
        problem = Problem(
            kind="no-overlap",
            where=start,
            message=(
                f"no valid time of the forecast ({spans[0]}) is among the times of the truth "
                f"({spans[1]})"
            ),
            remedy=_time_remedy(valid, truth.times),
        )
        raise MismatchError([problem], what="the truth")
    first = valid[~there].min()
    warnings.warn(
        f"{np.sum(~there)} of {there.size} cases have no truth, the first at {show(first)}: "
        'the scores are of the others, and the coordinate "cases" counts them',
        XwxWarning,
        stacklevel=4,
    )


def _time_remedy(valid: NDArray[Any], times: NDArray[Any]) -> str:
    """Return what makes valid times and those of the truth meet."""
    ours, theirs = calendar_of(valid), calendar_of(times)
    if (valid.dtype == object) == (times.dtype == object) and ours == theirs:
        return "open the truth of the forecast's times; they must agree to the second"
    kind = f'"{ours}", use_cftime={valid.dtype == object}'
    return f"truth = truth.convert_calendar({kind})  # the forecast's calendar and kind of times"
