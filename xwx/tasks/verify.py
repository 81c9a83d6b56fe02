"""Verify: a forecast and the truth go in, scores come out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import xarray as xr

from xwx.errors import XwxWarning
from xwx.fields import dequantify, is_quantified, requantify
from xwx.metrics.finish import Finish, finish
from xwx.metrics.metric import Metric
from xwx.metrics.names import parse_metrics
from xwx.metrics.resample import Resampling
from xwx.metrics.single import ACC
from xwx.spec import Grid
from xwx.tasks.further import Further, check_climatology
from xwx.tasks.scoring import Scoring
from xwx.tasks.sides import (
    Forecast,
    Truth,
    check_members,
    check_overlap,
    common_cases,
    on_one_grid,
)
from xwx.version import __version__

__all__ = ["verify"]


def verify(
    ds: xr.Dataset,
    truth: xr.Dataset,
    metrics: str | Metric | Sequence[str | Metric] = ("rmse", "bias"),
    *,
    climatology: xr.Dataset | None = None,
    weights: Literal["area", "cos"] = "area",
    regions: Any = None,
    by: Literal["season", "month", "year", "hour"] | None = None,
    dim: str | Sequence[str] | None = None,
    grid: Literal["forecast", "truth"] | Grid | None = None,
    reference: xr.Dataset | None = None,
    confidence: float | None = None,
    block: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    convention: Literal["wb2", "wb1"] = "wb2",
    skipna: bool = False,
    climatology_overlap: bool = False,
    statistics: bool = False,
) -> xr.Dataset:
    """Score a forecast.

    Both sides come in any presentation: the truth is found by names and CF metadata, brought to
    the forecast's units, levels and orientation, and taken at the valid times.

    Parameters
    ----------
    ds : Dataset
        The forecast: one start or several, with or without members; or an archive without lead
        times, whose times are then the starts.
    truth : Dataset
        Along time. It may hold more than is needed: variables, levels, times, area.
    metrics : str, Metric, or sequence of them
        Names, see :func:`xwx.metrics.names`, or scores with parameters, such as
        ``xwx.metrics.Brier("300 K")``. Scores of single forecasts are those of the mean of the
        members, where there are members.
    climatology : Dataset, optional
        For anomalies: see :func:`xwx.metrics.climatology`. One that says it was made of the times
        that are scored is refused.
    weights : {"area", "cos"}
        Exact areas of the grid's cells, or the cosine of latitude.
    regions : str, sequence or mapping, optional
        Gives the dimension ``region``: names, boxes or masks, see
        :func:`xwx.metrics.region_weights`.
    by : {"season", "month", "year", "hour"}, optional
        Groups by valid time, along a dimension of that name.
    dim : str or sequence of str, optional
        What is averaged over: some of latitude, longitude and the starts, which all are by
        default. Without latitude and longitude the scores are maps.
    grid : {"forecast", "truth"} or Grid, optional
        Bring both to one grid, by area means. Nothing is regridded unless asked for.
    reference : Dataset, optional
        Another forecast: ``{name}_difference`` is the score of `ds` less that of the reference,
        over the cases that both have, and with `skipna` over the points that both have.
    confidence : float, optional
        Gives ``{name}_interval`` (and that of the difference) with ``bound`` lower and upper, by
        resampling blocks of starts; such as 0.95.
    block : int, optional
        Starts in a block; by default the cube root of their number.
    resamples, seed : int
        Of the resampling.
    convention : {"wb2", "wb1"}
        A score is made of the means over all starts, as in WeatherBench 2; or is the mean of the
        scores of each start, as in WeatherBench 1 and many papers.
    skipna : bool
        Leave out points where either side is NaN. By default such a score is NaN.
    climatology_overlap : bool
        Accept a climatology made of the times that are scored.
    statistics : bool
        Return the sums that the scores are made of, for :func:`xwx.metrics.combine`.

    Returns
    -------
    Dataset
        The forecast's variables with the dimension ``metric``, and all further dimensions that
        were not averaged. Units are in the attribute ``units``, or in ``metric_units`` where
        those of the metrics differ. ``cases`` counts the starts with a truth at each lead time.
        Lazy if either side is dask-backed.

    Raises
    ------
    MismatchError
        Where the two sides do not fit: variables, units, grids, times without any overlap.
    ValueError, TypeError
        For arguments that are not understood.
    """
    _check_types(ds, truth, climatology=climatology, reference=reference)
    chosen = parse_metrics(metrics)
    resampling = None
    if confidence is not None:
        resampling = Resampling(confidence, block, resamples, seed)
    plain = [None if side is None else dequantify(side) for side in (ds, truth, climatology)]
    sides = on_one_grid([*plain, None if reference is None else dequantify(reference)], grid)
    forecast = Forecast.of(_given(sides[0]))
    averaged = _averaged(dim, forecast)
    over_starts = forecast.dims[0] in averaged
    how = Finish(chosen, by, over_starts, convention, resampling)
    other_convention = None if convention == "wb2" else convention
    late = {"by": by, "confidence": confidence, "convention": other_convention}
    if statistics:
        _check_statistics(**late, reference=reference)
    _check_maps(averaged, forecast, chosen, regions=regions, **late)
    if resampling is not None:
        _check_starts(resampling, forecast, over_starts)
    check_members(chosen, forecast, "the forecast")
    true = Truth.of(_given(sides[1]), forecast)
    check_overlap(forecast, true)
    check_climatology(sides[2], forecast.timeline.valid, overlap=climatology_overlap)
    further = Further.of(sides[2], chosen, forecast.fields)
    scoring = Scoring(chosen, averaged, weights, regions, skipna)
    other = None
    if sides[3] is not None:
        forecast, other = common_cases(forecast, Forecast.of(sides[3], "the reference"))
        check_members(chosen, other, "the reference")
    sums = scoring.sums(forecast, true, further, other)
    if statistics:
        return sums
    against = None if other is None else scoring.sums(other, true, further, forecast)
    out = finish(sums, how, against)
    _warn_undefined(out, sums, chosen)
    return _signed(out, ds, weights, quantified=is_quantified(ds))


def _given(side: xr.Dataset | None) -> xr.Dataset:
    assert side is not None
    return side


def _check_types(ds: Any, truth: Any, **optional: Any) -> None:
    given = {"the forecast": ds, "truth": truth}
    given |= {name: value for name, value in optional.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, xr.Dataset):
            hint = ": use .to_dataset()" if isinstance(value, xr.DataArray) else ""
            raise TypeError(f"{name} must be an xarray.Dataset, got {type(value).__name__}{hint}")


def _averaged(dim: Any, forecast: Forecast) -> tuple[str, ...]:
    known = (forecast.dims[0], *forecast.axes)
    if dim is None:
        return known
    names = (dim,) if isinstance(dim, str) else tuple(dim) if isinstance(dim, Iterable) else (dim,)
    if wrong := [name for name in names if name not in known]:
        raise ValueError(
            f"dim={dim!r}: {', '.join(map(repr, wrong))} cannot be averaged over, only "
            f"{', '.join(map(repr, known))}; other dimensions stay, take .mean() of the scores if "
            "that is what you want"
        )
    return names


def _check_maps(
    averaged: tuple[str, ...],
    forecast: Forecast,
    metrics: Sequence[Metric | str],
    **options: Any,
) -> None:
    """Refuse what needs the sums of each start, or of whole fields, where scores are maps."""
    kept = [d for d in forecast.axes if d not in averaged]
    if not kept:
        return
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} needs scores averaged over latitude and longitude, and dim=... "
                f"keeps {', '.join(kept)}: make maps of a part of the forecast at a time"
            )
    if whole := [m.label for m in metrics if isinstance(m, Metric) and m.whole_fields]:
        raise ValueError(
            f"metrics: {', '.join(whole)} is of whole fields, and dim=... keeps {', '.join(kept)}: "
            "leave it out, or average over both latitude and longitude"
        )


def _check_statistics(**options: Any) -> None:
    """Refuse what is done with sums later, where sums are what is asked for."""
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(
            f"statistics=True returns the sums of every start, whatever {', '.join(given)} says: "
            "give it to xwx.metrics.combine; a reference is verified by itself"
        )


def _check_starts(resampling: Resampling, forecast: Forecast, over_starts: bool) -> None:
    if not over_starts:
        raise ValueError(
            f"confidence={resampling.confidence} resamples the starts, and dim=... keeps them: "
            f"add {forecast.dims[0]!r} to dim"
        )
    resampling.check(forecast.timeline.valid.shape[0])


def _warn_undefined(out: xr.Dataset, sums: xr.Dataset, metrics: Sequence[Metric | str]) -> None:
    """Say where a correlation of constant anomalies is not defined; lazy results stay lazy."""
    labels = [m.label for m in metrics if isinstance(m, ACC)]
    if not labels:
        return
    for name in sums.data_vars:
        if out[name].chunks is None and sums[name].chunks is None:
            whole = bool(np.isfinite(sums[name]).all())
            missing = bool(out[name].sel(metric=labels).isnull().any())
            weighed = bool((sums[name].sel(statistic="weight") > 0).all())
            if whole and missing and weighed:
                warnings.warn(
                    f"{name}: {', '.join(labels)} is NaN where the anomalies of the forecast or of "
                    "the truth vanish, as those of a forecast of climatology do",
                    XwxWarning,
                    stacklevel=4,
                )


def _signed(out: xr.Dataset, ds: xr.Dataset, weights: str, *, quantified: bool) -> xr.Dataset:
    """Say in the attributes what was done; quantify scores of quantified forecasts."""
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} xwx {__version__}: verified"
    before = ds.attrs.get("history")
    kept = {k: v for k, v in ds.attrs.items() if str(k).startswith("xwx_")}
    out = out.assign_attrs(
        {**kept, "xwx_version": __version__, "xwx_weights": weights}
        | {"history": f"{before}\n{line}" if before else line}
    )
    if quantified:
        for name, values in out.data_vars.items():
            if "units" in values.attrs:
                out[name] = requantify(values, str(values.attrs["units"]))
            else:
                warnings.warn(
                    f"{name} holds scores of several units ({values.attrs['metric_units']}), so it "
                    "is not quantified: ask for them in calls of their own",
                    XwxWarning,
                    stacklevel=4,
                )
    return out
