"""Pictures of forecasts and of their scores: ``ds.wx.plot``.

Importing this package imports matplotlib and cartopy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

try:
    import cartopy  # noqa: F401 - here so that its absence is said in one place
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(
        f'pictures need matplotlib and cartopy ({error}): pip install "xarray-wx[plot]"'
    ) from error

from xwx.plot.animation import animate
from xwx.plot.compare import compare
from xwx.plot.curves import rank_histogram, scores, spread_skill
from xwx.plot.ensembles import plume, spaghetti
from xwx.plot.maps import draw_map
from xwx.plot.scorecard import scorecard
from xwx.plot.spectra import spectra

__all__ = ["PlotAccessor"]

Size = tuple[float, float]


class PlotAccessor:
    """Pictures of a Dataset as methods; what is asked for is computed, and nothing else.

    New figures are those of pyplot, as xarray's own: a notebook shows them, a script calls
    ``plt.show()`` or ``.figure.savefig(...)``. Nothing is downloaded: the coastlines come with the
    package.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def map(
        self,
        variable: str | None = None,
        *,
        time: Any = None,
        level: float | None = None,
        projection: Any = None,
        extent: Sequence[float] | None = None,
        contours: str | None = None,
        contour_levels: Sequence[float] | int = 12,
        wind: bool = False,
        cmap: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
        ax: Any = None,
        figsize: Size | None = None,
    ) -> Any:
        """Draw one field of one step on a map with coastlines.

        See :func:`xwx.plot.maps.draw_map` for every parameter, result and error.
        """
        return draw_map(
            self._ds,
            variable,
            time=time,
            level=level,
            projection=projection,
            extent=extent,
            contours=contours,
            contour_levels=contour_levels,
            wind=wind,
            cmap=cmap,
            vmin=vmin,
            vmax=vmax,
            ax=ax,
            figsize=figsize,
        )

    def compare(
        self,
        truth: xr.Dataset,
        variable: str | None = None,
        *,
        time: Any = None,
        level: float | None = None,
        projection: Any = None,
        extent: Sequence[float] | None = None,
        cmap: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
        figsize: Size | None = None,
    ) -> Figure:
        """Draw a forecast, the truth at its valid time, and forecast minus truth.

        See :func:`xwx.plot.compare.compare` for every parameter, result and error.
        """
        return compare(
            self._ds,
            truth,
            variable,
            time=time,
            level=level,
            projection=projection,
            extent=extent,
            cmap=cmap,
            vmin=vmin,
            vmax=vmax,
            figsize=figsize,
        )

    def scores(
        self,
        variable: str | None = None,
        metric: str = "rmse",
        *,
        level: float | None = None,
        region: str | None = None,
        others: Mapping[str, xr.Dataset] | None = None,
        name: str = "forecast",
        ax: Axes | None = None,
        figsize: Size | None = None,
    ) -> Axes | Figure:
        """Draw a score over lead time, with its confidence interval where there is one.

        See :func:`xwx.plot.curves.scores` for every parameter, result and error.
        """
        return scores(
            self._ds,
            variable,
            metric,
            level=level,
            region=region,
            others=others,
            name=name,
            ax=ax,
            figsize=figsize,
        )

    def plume(
        self,
        variable: str | None = None,
        *,
        latitude: float,
        longitude: float,
        level: float | None = None,
        truth: xr.Dataset | None = None,
        ax: Axes | None = None,
        figsize: Size | None = None,
    ) -> Axes:
        """Draw an ensemble over time at the grid point next to a place.

        See :func:`xwx.plot.ensembles.plume` for every parameter, result and error.
        """
        return plume(
            self._ds,
            variable,
            latitude=latitude,
            longitude=longitude,
            level=level,
            truth=truth,
            ax=ax,
            figsize=figsize,
        )

    def spaghetti(
        self,
        variable: str | None = None,
        *,
        contour: float,
        time: Any = None,
        level: float | None = None,
        projection: Any = None,
        extent: Sequence[float] | None = None,
        ax: Any = None,
        figsize: Size | None = None,
    ) -> Any:
        """Draw one contour of every member on a map, and that of their mean.

        See :func:`xwx.plot.ensembles.spaghetti` for every parameter, result and error.
        """
        return spaghetti(
            self._ds,
            variable,
            contour=contour,
            time=time,
            level=level,
            projection=projection,
            extent=extent,
            ax=ax,
            figsize=figsize,
        )

    def spectra(
        self,
        variable: str | None = None,
        *,
        time: Any = None,
        level: float | None = None,
        others: Mapping[str, xr.Dataset] | None = None,
        name: str | None = None,
        slopes: Sequence[float] = (-3.0, -5.0 / 3.0),
        ax: Axes | None = None,
        figsize: Size | None = None,
    ) -> Axes:
        """Draw power spectra over wavenumber, both axes logarithmic.

        See :func:`xwx.plot.spectra.spectra` for every parameter, result and error.
        """
        return spectra(
            self._ds,
            variable,
            time=time,
            level=level,
            others=others,
            name=name,
            slopes=slopes,
            ax=ax,
            figsize=figsize,
        )

    def spread_skill(
        self,
        variable: str | None = None,
        *,
        level: float | None = None,
        region: str | None = None,
        figsize: Size | None = None,
    ) -> Figure:
        """Draw spread and skill of an ensemble over lead time, and their ratio below.

        See :func:`xwx.plot.curves.spread_skill` for every parameter, result and error.
        """
        return spread_skill(self._ds, variable, level=level, region=region, figsize=figsize)

    def rank_histogram(
        self,
        variable: str | None = None,
        *,
        time: Any = None,
        level: float | None = None,
        region: str | None = None,
        ax: Axes | None = None,
        figsize: Size | None = None,
    ) -> Axes:
        """Draw how often the truth lies above 0, 1, ... M of M members: flat if they are reliable.

        See :func:`xwx.plot.curves.rank_histogram` for every parameter, result and error.
        """
        return rank_histogram(
            self._ds, variable, time=time, level=level, region=region, ax=ax, figsize=figsize
        )

    def scorecard(
        self,
        reference: xr.Dataset,
        metric: str = "rmse",
        *,
        region: str | None = None,
        limit: float | None = None,
        ax: Axes | None = None,
        figsize: Size | None = None,
    ) -> Axes:
        """Draw the change of a score against a reference, per variable, level and lead time.

        See :func:`xwx.plot.scorecard.scorecard` for every parameter, result and error.
        """
        return scorecard(
            self._ds, reference, metric, region=region, limit=limit, ax=ax, figsize=figsize
        )

    def animate(
        self,
        variable: str | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        level: float | None = None,
        projection: Any = None,
        extent: Sequence[float] | None = None,
        cmap: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
        fps: int = 4,
        dpi: float = 100.0,
        writer: Any = None,
        figsize: Size | None = None,
        progress: bool | None = None,
    ) -> FuncAnimation:
        """Animate a field over its steps, with one range of colours.

        See :func:`xwx.plot.animation.animate` for every parameter, result and error.
        """
        return animate(
            self._ds,
            variable,
            path,
            level=level,
            projection=projection,
            extent=extent,
            cmap=cmap,
            vmin=vmin,
            vmax=vmax,
            fps=fps,
            dpi=dpi,
            writer=writer,
            figsize=figsize,
            progress=progress,
        )
