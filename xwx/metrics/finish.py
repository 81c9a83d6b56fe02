"""From the sums of all cases to scores: groups of cases, confidence, differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from xwx.fields import difference_units, power_units
from xwx.metrics.means import Means
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
    pair = [sums] if reference is None else [sums, reference]
    if how.by is not None:
        pair = [_grouped(s, how.by) for s in pair]
    if not how.over_starts or start not in sums.dims:
        found = [_scores(s, how.metrics) for s in pair]
    elif how.convention == "wb1":
        found = [_mean_of_scores(s, how.metrics, start, None) for s in pair]
    else:
        found = [_scores(s.sum(start, skipna=False), how.metrics) for s in pair]
    out = _with_difference(found)
    if how.resampling is not None:
        out = out.merge(_intervals(pair, how, start))
    return _tidied(_described(out, sums, how), pair[0], how, start)


def _tidied(out: xr.Dataset, sums: xr.Dataset, how: Finish, start: str) -> xr.Dataset:
    """Drop dimensions that the forecast did not have, and count the cases."""
    scored = sums["scored"]
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


def _scores(sums: xr.Dataset, metrics: Sequence[Metric | str]) -> xr.Dataset:
    """Make scores of the sums of each variable, whatever their further dimensions."""
    own = [m for m in metrics if isinstance(m, Metric)]
    out = xr.Dataset()
    means = {str(name): _means(sums, str(name)) for name in sums.data_vars}
    for name, of in means.items():
        if own:
            values = [m.value(of) for m in own]
            label = xr.DataArray([m.label for m in own], dims="metric", name="metric")
            out[name] = xr.concat(values, label, coords="minimal", compat="override")
    if MNRMSE in metrics:
        out[MNRMSE] = _mean_over_channels(sums, means)
    return out


def _means(sums: xr.Dataset, name: str) -> Means:
    level = sums[name].attrs.get("level_dim")
    return Means(sums[name], name, level, int(sums.attrs["members"]))


def _mean_over_channels(sums: xr.Dataset, means: dict[str, Means]) -> xr.DataArray:
    """Return the mean of the normalised RMSE over all variables and levels, each of one weight."""
    channels = []
    for name, of in means.items():
        value, level = NRMSE().value(of), sums[name].attrs.get("level_dim")
        each = (
            [value]
            if level is None
            else [value.isel({level: n}) for n in range(value.sizes[level])]
        )
        channels += [v.reset_coords(drop=True) for v in each]
    return xr.concat(channels, "channel").mean("channel", skipna=False)


def _mean_of_scores(
    sums: xr.Dataset, metrics: Sequence[Metric | str], start: str, counts: xr.DataArray | None
) -> xr.Dataset:
    """Average the scores of each start; those without a truth do not count."""
    each = _scores(sums, metrics)
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
    out = sums.map(lambda s: s.where(inside, 0.0).transpose(..., by).assign_attrs(s.attrs))
    coords = {str(k): c for k, c in sums.coords.items() if k != "scored"}
    out = out.assign_coords(coords | {by: order, "scored": sums["scored"] * inside})
    return out.assign_attrs(sums.attrs)


def _intervals(pair: Sequence[xr.Dataset], how: Finish, start: str) -> xr.Dataset:
    """Return the intervals of the scores, by resampling the starts in blocks."""
    assert how.resampling is not None
    drawn = []
    for counts in how.resampling.counts(pair[0].sizes[start], start):
        if how.convention == "wb1":
            found = [_mean_of_scores(s, how.metrics, start, counts) for s in pair]
        else:
            found = [_scores(_drawn(s, counts, start), how.metrics) for s in pair]
        drawn.append(_with_difference(found))
    whole = (
        xr.concat(drawn, "resample").chunk({"resample": -1})
        if _lazy(drawn[0])
        else xr.concat(drawn, "resample")
    )
    low, high = how.resampling.bounds
    bounds = whole.quantile([low, high], "resample", skipna=False).rename(quantile="bound")
    bounds = bounds.assign_coords(bound=["lower", "upper"]).transpose(..., "bound")
    return bounds.rename({k: f"{k}_interval" for k in bounds.data_vars})


def _lazy(ds: xr.Dataset) -> bool:
    return any(v.chunks is not None for v in ds.data_vars.values())


def _drawn(sums: xr.Dataset, counts: xr.DataArray, start: str) -> xr.Dataset:
    """Sum the starts as often as they were drawn."""
    out = sums.map(lambda s: s.dot(counts, start).assign_attrs(s.attrs))
    return out.assign_attrs(sums.attrs)


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
