"""The scorecard: by how much one forecast beats another, at a glance."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import find_coordinates
from xwx.plot.canvas import curve_axes
from xwx.plot.select import is_score
from xwx.plot.style import extend
from xwx.plot.table import by_lead, part
from xwx.plot.words import METRICS, duration

__all__ = ["gain", "scorecard"]

Array = NDArray[Any]

#: Metrics of which more is better.
_LARGER = frozenset({"acc", "acc_centred", "csi", "ets", "fss", "hss", "pod", "r2", "correlation"})
#: Metrics that say nothing of better and worse by their size alone.
_NEITHER = frozenset({"spread", "ssr", "rank_histogram"})


def scorecard(
    ds: xr.Dataset,
    reference: xr.Dataset,
    metric: str = "rmse",
    *,
    region: str | None = None,
    limit: float | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw the change of a score against a reference, per variable, level and lead time.

    Parameters
    ----------
    ds : Dataset
        Scores with the dimensions ``metric`` and ``lead_time``. Where a variable ``X`` has a
        variable ``X_difference_interval`` with the dimension ``bound`` beside it, the confidence
        interval of its score minus that of the reference, a dot marks the cells whose interval
        excludes zero; the title says so, with the confidence where the attribute
        ``confidence`` of that variable or ``xwx_confidence`` of the Dataset has it.
    reference : Dataset
        Scores of another forecast, with the same variables, levels and lead times.
    metric : str
    region : str, optional
        Not needed where there is one.
    limit : float, optional
        Where the colours end [%]; by default the largest change, at least 1 % and at most 100 %.
        What lies beyond has the last colour.
    ax : Axes, optional
        By default in a new figure of pyplot.
    figsize : (float, float), optional

    Returns
    -------
    Axes
        Cells of :func:`gain`, blue where the forecast is better and red where it is worse.

    Raises
    ------
    MismatchError
        If variables, levels, lead times or the metric differ, or other dimensions are left.
    ValueError
        For a metric of which neither more nor less is better.
    """
    if metric in _NEITHER:
        raise ValueError(f"metric={metric!r}: neither more nor less of it is better; give another")
    ds, reference = by_lead(ds), by_lead(reference)
    rows = _rows(ds, metric)
    cells, dots = [], []
    for variable, level in rows.values():
        select: dict[str, Any] = {"level": level, "region": region, "keep": ("lead_time",)}
        own = part(ds, variable, metric, **select)
        other = _same(part(reference, variable, metric, **select), own)
        cells.append(gain(own.values, other.values, metric))
        dots.append(_significant(ds, variable, metric, level, region))
    leads = own["lead_time"].values
    size = figsize or (float(np.clip(2.6 + 0.45 * leads.size, 5.0, 11.0)), 1.6 + 0.34 * len(rows))
    with curve_axes(ax, size) as axes:
        _draw(axes, np.array(cells), np.array(dots), limit)
        _label(axes, list(rows), leads)
        where = "" if region is None else f", {region}"
        title = f"{METRICS.get(metric, metric)} against the reference{where}"
        axes.set_title(
            "\n".join(filter(None, (title, _legend(ds, list(rows.values()))))), fontsize=10
        )
    return axes


def gain(scores: Array, reference: Array, metric: str) -> Array:
    r"""Improvement of a score on that of a reference [%], positive where it is better.

    .. math:: 100 \frac{r - s}{|r|}

    with the sign reversed for metrics of which more is better, and of the magnitudes for the
    bias. NaN where the reference is zero.

    Parameters
    ----------
    scores, reference : array
    metric : str
    """
    if metric == "bias":
        scores, reference = np.abs(scores), np.abs(reference)
    sign = -1.0 if metric in _LARGER else 1.0
    size = np.where(reference == 0.0, np.nan, np.abs(reference))
    return np.asarray(sign * 100.0 * (reference - scores) / size)


def _rows(ds: xr.Dataset, metric: str) -> dict[str, tuple[str, float | None]]:
    """Return the rows: label -> variable and level."""
    names = [
        str(name)
        for name, array in ds.data_vars.items()
        if {"lead_time", "metric"} <= {*array.dims, *array.coords} and is_score(ds, str(name))
    ]
    if not names:
        message = "no variable has the dimensions 'metric' and 'lead_time'"
        problem = Problem("missing-dimension", "scores", message, "scores = fc.wx.verify(truth)")
        raise MismatchError([problem], what="a scorecard")
    vertical = find_coordinates(ds).vertical or "level"
    rows: dict[str, tuple[str, float | None]] = {}
    for name in names:
        if vertical in ds[name].dims:
            units = ds[vertical].attrs.get("units", "")
            for level in ds[vertical].values.tolist():
                rows[f"{name} {level:g} {units}".strip()] = name, level
        else:
            rows[name] = name, None
    return rows


def _same(array: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    """Return scores of the reference at the lead times of the others."""
    missing = ~np.isin(like["lead_time"].values, array["lead_time"].values)
    if missing.any():
        first = duration(like["lead_time"].values[missing][0])
        problem = Problem(
            kind="missing-lead-time",
            where=f"reference: {array.name}",
            message=f"it lacks {missing.sum()} lead times, the first is {first}",
            remedy="scores = scores.sel(lead_time=reference.lead_time)",
        )
        raise MismatchError([problem], what="a scorecard")
    return array.sel(lead_time=like["lead_time"].values)


def _significant(
    ds: xr.Dataset, variable: str, metric: str, level: float | None, region: str | None
) -> Array:
    """Return where the interval of the difference excludes zero, along lead time."""
    name = f"{variable}_difference_interval"
    if name not in ds:
        return np.zeros(ds.sizes["lead_time"], dtype=bool)
    band = part(ds, name, metric, keep=("lead_time", "bound"), level=level, region=region)
    low, high = (band.sel(bound=bound).values for bound in ("lower", "upper"))
    return np.asarray((low > 0.0) | (high < 0.0))


def _legend(ds: xr.Dataset, rows: list[tuple[str, float | None]]) -> str:
    """Return what the dots mean; nothing where there are no intervals."""
    names = [f"{variable}_difference_interval" for variable, _ in rows]
    bands = [ds[name] for name in names if name in ds]
    if not bands:
        return ""
    known = bands[0].attrs.get("confidence", ds.attrs.get("xwx_confidence"))
    share = "" if known is None else f"{100 * float(known):g} % "
    return f"dot: the {share}interval of the difference excludes 0"


def _draw(ax: Axes, cells: Array, dots: Array, limit: float | None) -> None:
    finite = np.abs(cells[np.isfinite(cells)])
    most = limit or float(np.clip(finite.max(initial=0.0), 1.0, 100.0))
    mesh = ax.pcolormesh(cells, cmap="RdBu", vmin=-most, vmax=most, edgecolors="w", linewidth=1)
    ax.set_facecolor("0.85")
    y, x = np.nonzero(dots)
    ax.plot(
        x + 0.5, y + 0.5, "o", color="k", markersize=4, markeredgecolor="w", markeredgewidth=0.5
    )
    beyond = extend(cells, -most, most)
    bar = ax.figure.colorbar(mesh, ax=ax, extend=beyond, pad=0.02, fraction=0.05, aspect=25)
    bar.set_label("better → [%]", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _label(ax: Axes, rows: list[str], leads: Array) -> None:
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.invert_yaxis()
    days = leads[-1] > np.timedelta64(3, "D")
    unit = np.timedelta64(1, "D") if days else np.timedelta64(1, "h")
    whole = np.flatnonzero(leads % np.timedelta64(1, "D") == np.timedelta64(0))
    at = whole if days and whole.size else np.arange(leads.size)
    every = -(-at.size // 15)
    at = at[every - 1 :: every]
    ax.set_xticks(at + 0.5, [f"{lead / unit:g}" for lead in leads[at]])
    ax.set_xlabel(f"lead time [{'days' if days else 'h'}]")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
