"""Curves and bars of scores: over lead time, spread against skill, rank histograms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from xwx.fields import find_coordinates
from xwx.plot.canvas import curve_axes, own_figure
from xwx.plot.select import has
from xwx.plot.table import by_lead, metric_units, part, title_of
from xwx.plot.words import METRICS, with_units

__all__ = ["rank_histogram", "scores", "spread_skill"]

Selection = Mapping[str, Any]
_DAY = np.timedelta64(1, "D")


def scores(
    ds: xr.Dataset,
    variable: str | None = None,
    metric: str = "rmse",
    *,
    level: float | None = None,
    region: str | None = None,
    others: Mapping[str, xr.Dataset] | None = None,
    name: str = "forecast",
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes | Figure:
    """Draw a score over lead time, with its confidence interval where there is one.

    Parameters
    ----------
    ds : Dataset
        Scores, as :meth:`ds.wx.verify` makes them: the dimensions ``metric`` and ``lead_time``,
        and perhaps ``level`` and ``region``. ``X_interval`` with the dimension ``bound`` is the
        interval of the variable ``X``, shaded.
    variable : str, optional
        By default the only one.
    metric : str
    level, region
        One of several; where it is not given each has a panel of its own.
    others : dict of str -> Dataset, optional
        Scores of other forecasts to compare with, by their names.
    name : str
        Of this forecast, in the legend.
    ax : Axes, optional
        Where to draw, if it is one panel; by default in a new figure of pyplot.
    figsize : (float, float), optional

    Returns
    -------
    Axes or Figure
        The axes of one panel; of several the figure.

    Raises
    ------
    MismatchError
        If there is no such variable or metric, or more dimensions than a picture has.
    ValueError
        For a level or region that there is not, and for `ax` with several panels.
    """
    sets = {name: by_lead(ds)} | {str(k): by_lead(v) for k, v in (others or {}).items()}
    first = sets[name]
    variable = has(first, variable, ("lead_time",), "a curve of scores")
    wanted = _panels(first, variable, level, region)
    if len(wanted) == 1:
        with curve_axes(ax, figsize) as axes:
            _score_panel(axes, sets, variable, metric, wanted[0])
        return axes
    if ax is not None:
        raise ValueError(
            f"ax: {variable!r} has {len(wanted)} panels, and one pair of axes cannot hold them; "
            "choose one with level=... or region=..., or leave ax out"
        )
    columns = min(3, len(wanted))
    rows = -(-len(wanted) // columns)
    with own_figure(figsize or (4.2 * columns, 3.2 * rows)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, selection in zip(panels, wanted, strict=False):
            _score_panel(axes, sets, variable, metric, selection)
        for axes in panels[len(wanted) :]:
            axes.remove()
    return figure


def _panels(
    ds: xr.Dataset, variable: str, level: float | None, region: str | None
) -> list[Selection]:
    """Return what each panel selects: all levels, or all regions, that were left open."""
    selection = {"level": level, "region": region}
    vertical = find_coordinates(ds).vertical or "level"
    for key, dim in (("level", vertical), ("region", "region")):
        if selection[key] is None and ds[variable].sizes.get(dim, 1) > 1:
            return [selection | {key: value} for value in ds[dim].values.tolist()]
    return [selection]


def _score_panel(
    ax: Axes, sets: Mapping[str, xr.Dataset], variable: str, metric: str, selection: Selection
) -> None:
    unit = max((_leads(ds)[-1] for ds in sets.values()), default=np.timedelta64(0, "h"))
    array = None
    for number, (name, ds) in enumerate(sets.items()):
        array = part(ds, variable, metric, keep=("lead_time",), **selection)
        x = _numbers(array["lead_time"].values, unit)
        (line,) = ax.plot(x, array.values, ".-", label=name, color=f"C{number}", linewidth=1.5)
        if f"{variable}_interval" in ds:
            keep = ("lead_time", "bound")
            band = part(ds, f"{variable}_interval", metric, keep=keep, **selection)
            low, high = (band.sel(bound=b).values for b in ("lower", "upper"))
            ax.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    assert array is not None
    _lead_axis(ax, unit)
    if metric in ("bias", "acc"):
        ax.axhline(0.0 if metric == "bias" else 1.0, color="0.4", linewidth=0.8, zorder=1)
    label = METRICS.get(metric, metric.replace("_", " "))
    first = next(iter(sets.values()))
    ax.set_ylabel(with_units(label, metric_units(first[variable], metric)))
    ax.set_title(title_of(first, array, variable), fontsize=10)
    if len(sets) > 1:
        ax.legend(frameon=False)


def _leads(ds: xr.Dataset) -> NDArray[Any]:
    leads: NDArray[Any] = np.sort(ds["lead_time"].values.reshape(-1))
    return leads


def _numbers(leads: NDArray[Any], longest: np.timedelta64) -> NDArray[np.float64]:
    """Return lead times as numbers of the unit that suits the longest: hours or days."""
    unit = np.timedelta64(1, "h") if longest <= 3 * _DAY else _DAY
    return np.asarray(leads / unit, dtype=np.float64)


def _lead_axis(ax: Axes, longest: np.timedelta64) -> None:
    days = longest > 3 * _DAY
    ax.set_xlabel(f"lead time [{'days' if days else 'h'}]")
    hours = longest / np.timedelta64(1, "h")
    step = next((s for s in (1, 3, 6, 12) if hours <= 7 * s), 12)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True) if days else MultipleLocator(step))
    ax.grid(visible=True, linewidth=0.4, alpha=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def spread_skill(
    ds: xr.Dataset,
    variable: str | None = None,
    *,
    level: float | None = None,
    region: str | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Draw spread and skill of an ensemble over lead time, and their ratio below.

    Parameters
    ----------
    ds : Dataset
        Scores with the metrics ``"spread"``, ``"skill"`` (RMSE of the ensemble mean) and
        ``"ssr"`` (their ratio: 1 for a reliable ensemble).
    variable, level, region
        Not needed where there is one.
    figsize : (float, float), optional

    Returns
    -------
    Figure
        Its ``axes`` are spread and skill, and the ratio.

    Raises
    ------
    MismatchError
        If a metric is missing, or more dimensions are left than the picture has.
    """
    ds = by_lead(ds)
    variable = has(ds, variable, ("lead_time", "metric"), "spread against skill")
    names = ("skill", "spread", "ssr")
    arrays = {
        m: part(ds, variable, m, keep=("lead_time",), level=level, region=region) for m in names
    }
    longest = _leads(ds)[-1]
    x = _numbers(arrays["skill"]["lead_time"].values, longest)
    with own_figure(figsize or (7.0, 5.0)) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for metric, style in (("skill", "C3.-"), ("spread", "C0.-")):
            label = METRICS.get(metric, metric)
            top.plot(x, arrays[metric].values, style, label=label, linewidth=1.5)
        bottom.plot(x, arrays["ssr"].values, "k.-", linewidth=1.5)
        bottom.axhline(1.0, color="0.4", linewidth=0.8, linestyle="--")
        for ax in (top, bottom):
            _lead_axis(ax, longest)
        top.set_xlabel("")
        top.set_ylim(bottom=0)
        units = metric_units(ds[variable], "skill")
        top.set_ylabel(with_units("spread and skill", units))
        bottom.set_ylabel(METRICS["ssr"])
        top.set_title(title_of(ds, arrays["skill"], variable), fontsize=10)
        top.legend(frameon=False)
    return figure


def rank_histogram(
    ds: xr.Dataset,
    variable: str | None = None,
    *,
    time: Any = None,
    level: float | None = None,
    region: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw how often the truth lies above 0, 1, ... M of M members: flat if they are reliable.

    Parameters
    ----------
    ds : Dataset
        Scores with the dimension ``rank``, counts or shares; where there is a dimension
        ``metric`` it has ``"rank_histogram"``.
    variable, time, level, region
        Not needed where there is one; `time` is the number of a lead time, or a lead time.
    ax : Axes, optional
        By default in a new figure of pyplot.
    figsize : (float, float), optional

    Returns
    -------
    Axes
        Bars of the shares, which sum to one, and a line where all are equal.

    Raises
    ------
    MismatchError
        If there is no dimension ``rank``, or more dimensions are left than the picture has.
    """
    ds = by_lead(ds)
    variable = has(ds, variable, ("rank",), "a rank histogram")
    metric = "rank_histogram" if "metric" in ds[variable].dims else None
    array = part(ds, variable, metric, keep=("rank",), time=time, level=level, region=region)
    shares = array.values / array.values.sum()
    with curve_axes(ax, figsize) as axes:
        axes.bar(np.arange(shares.size), shares, width=0.9, color="C0")
        axes.axhline(1 / shares.size, color="k", linewidth=1, linestyle="--", label="reliable")
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.set(xlabel="rank of the truth among the members", ylabel="share of the cases")
        axes.set_title(title_of(ds, array, variable), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(top=1.15 * max(shares.max(), 1 / shares.size))
        axes.legend(frameon=False, loc="upper right")
    return axes
