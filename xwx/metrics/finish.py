"""From the sums of all cases to scores: groups of cases, confidence, differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from xwx.fields import difference_units, power_units
from xwx.metrics.means import Facts, Means
from xwx.metrics.metric import Metric
from xwx.metrics.names import MNRMSE
from xwx.metrics.resample import Resampling
from xwx.metrics.single import NRMSE

__all__ = ["Finish", "finish", "groups_of"]

_GROUPS = ("season", "month", "year", "hour")


@dataclass(frozen=True)
class Finish:
    """How sums become scores.

    Attributes
    ----------
    metrics : tuple of Metric or str
    by : str or None
        ``"season"``, ``"month"``, ``"year"`` or ``"hour"`` of the valid time.
    over_starts : bool
        Whether to average over the starts.
    convention : {"wb2", "wb1"}
        Whether a score is made of means over all starts, or is the mean of the scores of each.
    resampling : Resampling or None
        For intervals of confidence.
    """

    metrics: tuple[Metric | str, ...]
    by: str | None = None
    over_starts: bool = True
    convention: Literal["wb1", "wb2"] = "wb2"
    resampling: Resampling | None = None

    def __post_init__(self) -> None:
        if self.by is not None and self.by not in _GROUPS:
            raise ValueError(f"by={self.by!r}: give one of {', '.join(map(repr, _GROUPS))}")
        if self.convention not in ("wb1", "wb2"):
            raise ValueError(f'convention={self.convention!r}: give "wb2" or "wb1"')


def finish(sums: xr.Dataset, how: Finish, reference: xr.Dataset | None = None) -> xr.Dataset:
    """Make scores of sums.

    Parameters
    ----------
    sums : Dataset
        Of all cases: see :mod:`xwx.metrics.combine` for their form.
    how : Finish
    reference : Dataset, optional
        Sums of another forecast of the same cases.

    Returns
    -------
    Dataset
        With the dimension ``metric``, and ``{name}_interval`` with the dimension ``bound`` where
        there is resampling; with a reference ``{name}_difference``, that of the scores, too.
    """
    start = str(sums.attrs["start_dim"])
    given = [sums] if reference is None else [sums, reference]
    facts = [Facts.of(s) for s in given]
    pair = [_bare(s) for s in given]
    if how.by is not None:
        pair = [_grouped(s, how.by) for s in pair]
    if not how.over_starts or start not in sums.dims:
        found = [_scores(s, how.metrics, f) for s, f in zip(pair, facts, strict=True)]
    else:
        found = [_over_starts(s, how, start, f, None) for s, f in zip(pair, facts, strict=True)]
    out = _with_difference(found)
    if how.resampling is not None:
        out = out.merge(_intervals(pair, how, start, facts))
    return _tidied(_described(out, sums, how), pair[0], sums, how, start)


def _bare(sums: xr.Dataset) -> xr.Dataset:
    """Return sums without attributes: what is computed of them has units of its own."""
    out = sums.copy()
    out.attrs = {}
    for values in out.data_vars.values():
        values.attrs = {}
    return out


def _over_starts(
    sums: xr.Dataset, how: Finish, start: str, facts: Facts, counts: xr.DataArray | None
) -> xr.Dataset:
    """Make scores over all starts, or over starts as often as they were drawn."""
    if how.convention == "wb1":
        return _mean_of_scores(sums, how.metrics, start, facts, counts)
    if counts is None:
        return _scores(sums.sum(start, skipna=False), how.metrics, facts)
    return _scores(sums.map(lambda s: s.dot(counts, start)), how.metrics, facts)


def _tidied(
    out: xr.Dataset, grouped: xr.Dataset, sums: xr.Dataset, how: Finish, start: str
) -> xr.Dataset:
    """Drop dimensions that the forecast did not have, and count the cases."""
    scored = grouped["scored"]
    if how.over_starts and start in scored.dims:
        scored = scored.sum(start)
    cases = scored.drop_vars("scored", errors="ignore").assign_attrs(
        long_name="starts that were scored"
    )
    out = out.drop_vars("scored", errors="ignore")
    single = dict.fromkeys(str(sums.attrs["single"]).split(), 0)
    out = out.isel(single, drop=True, missing_dims="ignore")
    return out.assign_coords(cases=cases.isel(single, drop=True, missing_dims="ignore"))


def _with_difference(found: Sequence[xr.Dataset]) -> xr.Dataset:
    if len(found) == 1:
        return found[0]
    difference = found[0] - found[1]
    return found[0].merge(difference.rename({k: f"{k}_difference" for k in difference.data_vars}))


def _scores(sums: xr.Dataset, metrics: Sequence[Metric | str], facts: Facts) -> xr.Dataset:
    """Make scores of the sums of each variable, whatever their further dimensions."""
    own = [m for m in metrics if isinstance(m, Metric)]
    out = xr.Dataset()
    means = {
        str(name): Means(values, str(name), facts.levels.get(str(name)), facts.members)
        for name, values in sums.data_vars.items()
    }
    for name, of in means.items():
        if own:
            values = [m.value(of) for m in own]
            label = xr.DataArray([m.label for m in own], dims="metric", name="metric")
            out[name] = xr.concat(values, label, coords="minimal", compat="override")
    if MNRMSE in metrics:
        out[MNRMSE] = _mean_over_channels(means, facts)
    return out


def _mean_over_channels(means: dict[str, Means], facts: Facts) -> xr.DataArray:
    """Return the mean of the normalised RMSE over all variables and levels, each of one weight."""
    channels = []
    for name, of in means.items():
        value, level = NRMSE().value(of), facts.levels.get(name)
        each = (
            [value]
            if level is None
            else [value.isel({level: n}) for n in range(value.sizes[level])]
        )
        channels += [v.reset_coords(drop=True) for v in each]
    return xr.concat(channels, "channel").mean("channel", skipna=False)


def _mean_of_scores(
    sums: xr.Dataset,
    metrics: Sequence[Metric | str],
    start: str,
    facts: Facts,
    counts: xr.DataArray | None,
) -> xr.Dataset:
    """Average the scores of each start; those without a truth do not count."""
    each = _scores(sums, metrics, facts)
    weight = xr.ones_like(sums[start], dtype=np.float64) if counts is None else counts
    out = xr.Dataset()
    for name, values in each.items():
        first = name if name in sums else next(iter(sums.data_vars))
        scored = sums[first].sel(statistic="cases").reset_coords(drop=True) > 0
        share = weight.where(scored, 0.0)
        total = share.sum(start)
        out[name] = values.where(scored, 0.0).dot(share, start) / total.where(total > 0)
    return out


def groups_of(times: xr.DataArray, by: str) -> xr.DataArray:
    """Return the season, month, year or hour of valid times."""
    found: xr.DataArray = getattr(times.dt, by)
    return found


def _grouped(sums: xr.Dataset, by: str) -> xr.Dataset:
    """Split the sums by the group of their valid time, along a dimension of that name."""
    labels = groups_of(sums["valid_time"], by)
    there = [g for g in ("DJF", "MAM", "JJA", "SON") if g in labels.values]
    order = there if by == "season" else np.unique(labels.values).tolist()
    groups = xr.DataArray(order, dims=by, name=by)
    inside = (labels == groups).reset_coords(drop=True)
    out = sums.map(lambda s: s.where(inside, 0.0).transpose(..., by))
    coords = {str(k): c for k, c in sums.coords.items() if k != "scored"}
    return out.assign_coords(coords | {by: order, "scored": sums["scored"] * inside})


def _intervals(
    pair: Sequence[xr.Dataset], how: Finish, start: str, facts: Sequence[Facts]
) -> xr.Dataset:
    """Return the intervals of the scores, by resampling the starts in blocks, in order of time."""
    assert how.resampling is not None
    ordered = [s.sortby(start) for s in pair]
    drawn = []
    for counts in how.resampling.counts(pair[0].sizes[start], start):
        sides = zip(ordered, facts, strict=True)
        found = [_over_starts(s, how, start, f, counts) for s, f in sides]
        drawn.append(_with_difference(found))
    whole = xr.concat(drawn, "resample")
    whole = whole.chunk({"resample": -1}) if _lazy(whole) else whole
    low, high = how.resampling.bounds
    bounds = whole.quantile([low, high], "resample", skipna=False).rename(quantile="bound")
    bounds = bounds.assign_coords(bound=["lower", "upper"]).transpose(..., "bound")
    return bounds.rename({k: f"{k}_interval" for k in bounds.data_vars})


def _lazy(ds: xr.Dataset) -> bool:
    return any(v.chunks is not None for v in ds.data_vars.values())


def _described(out: xr.Dataset, sums: xr.Dataset, how: Finish) -> xr.Dataset:
    """Give every score its unit; where metrics have several, an attribute lists them."""
    own = [m for m in how.metrics if isinstance(m, Metric)]
    for name in sums.data_vars:
        attrs = {k: v for k, v in sums[name].attrs.items() if k not in ("level_dim", "units")}
        unit, factor = difference_units(str(sums[name].attrs["units"]))
        powers = [m.power for m in own]
        scale = xr.DataArray([factor**p for p in powers], dims="metric")
        units = ["1" if p == 0 else power_units(unit, p) for p in powers]
        for suffix in ("", "_interval", "_difference", "_difference_interval"):
            if (key := f"{name}{suffix}") in out:
                scaled = out[key] if factor == 1.0 else out[key] * scale
                out[key] = _ordered(scaled, out)
                out[key].attrs = attrs | _units(units, own)
                if suffix.endswith("_interval") and how.resampling is not None:
                    out[key].attrs["confidence"] = how.resampling.confidence
    if MNRMSE in out:
        out[MNRMSE].attrs = {"units": "1", "long_name": "mean normalised RMSE of all channels"}
    return out


def _units(units: Sequence[str], metrics: Sequence[Metric]) -> dict[str, str]:
    if len(set(units)) == 1:
        return {"units": units[0]}
    pairs = (f"{m.label}: {u}" for m, u in zip(metrics, units, strict=True))
    return {"metric_units": "; ".join(pairs)}


def _ordered(values: xr.DataArray, out: xr.Dataset) -> xr.DataArray:
    return values.transpose("metric", ..., *(d for d in ("bound",) if d in values.dims))
