"""Where pictures are drawn: figures, maps with a fitting projection, colour bars, curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, MaxNLocator

from xwx.plot.coastlines import draw_coastlines
from xwx.plot.slab import Slab

__all__ = [
    "LATLON",
    "View",
    "centre_of",
    "colour_bar",
    "curve_axes",
    "dress",
    "maps",
    "own_figure",
    "view_of",
]

LATLON = ccrs.PlateCarree()
Box = tuple[float, float, float, float]
#: Degrees between meridians or parallels.
_STEPS = (60.0, 30.0, 20.0, 15.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


@dataclass(frozen=True)
class View:
    """What a map shows.

    Attributes
    ----------
    projection : cartopy.crs.CRS
    box : tuple of float or None
        West, east, south, north [degrees]; None for all that the projection can show.
    """

    projection: Any
    box: Box | None


def view_of(slab: Slab, projection: Any = None, extent: Sequence[float] | None = None) -> View:
    """Return the projection and the part of the Earth that a slab is shown in.

    Parameters
    ----------
    slab : Slab
    projection : cartopy.crs.CRS or str, optional
        Or the name of a class of cartopy.crs, such as "Robinson".
    extent : (west, east, south, north), optional
        Degrees; by default all of the slab, or what lies on the hemisphere of a polar projection.

    Raises
    ------
    ValueError, TypeError
        For a projection or an extent that is none.
    """
    box = _box(extent) if extent is not None else None if slab.periodic else slab.box
    if isinstance(projection, str):
        found = getattr(ccrs, projection, None)
        if not (isinstance(found, type) and issubclass(found, ccrs.Projection)):
            raise ValueError(
                f'projection={projection!r}: cartopy.crs has no such projection; give "Robinson", '
                '"PlateCarree", ... or an instance, e.g. cartopy.crs.NorthPolarStereo()'
            )
        projection = found()
    if projection is None:
        return View(_fitting(box, slab), box if box is not None else _cap(slab))
    if not isinstance(projection, ccrs.Projection):
        raise TypeError(
            f"projection={projection!r} is a {type(projection).__name__}: give an instance of a "
            'projection of cartopy.crs, or its name, such as "Robinson"'
        )
    if box is None and isinstance(projection, ccrs.NorthPolarStereo):
        box = -180.0, 180.0, max(0.0, slab.box[2]), 90.0
    if box is None and isinstance(projection, ccrs.SouthPolarStereo):
        box = -180.0, 180.0, -90.0, min(0.0, slab.box[3])
    return View(projection, box)


def _box(extent: Sequence[float]) -> Box:
    west, east, south, north = (float(value) for value in extent)
    east += 360.0 * (east <= west)  # 170 to -170 crosses the date line
    if not (-90 <= south < north <= 90 and east - west <= 360):
        raise ValueError(
            f"extent={tuple(extent)}: give (west, east, south, north) in degrees, south < north"
        )
    return west, east, south, north


def _cap(slab: Slab) -> Box | None:
    """Return the box of a periodic slab that does not reach over the equator to both poles."""
    _, _, south, north = slab.box
    return None if south < -60 and north > 60 else (-180.0, 180.0, south, north)


def _fitting(box: Box | None, slab: Slab) -> Any:
    """Choose the projection: conformal for a region of middle latitudes, polar for a cap."""
    if box is None:
        _, _, south, north = slab.box
        if south >= 15:
            return ccrs.NorthPolarStereo()
        return ccrs.SouthPolarStereo() if north <= -15 else LATLON
    west, east, south, north = box
    middle, latitude = (west + east) / 2, (south + north) / 2
    if south >= 50 and east - west > 150:
        return ccrs.NorthPolarStereo(central_longitude=middle)
    if north <= -50 and east - west > 150:
        return ccrs.SouthPolarStereo(central_longitude=middle)
    if abs(latitude) < 25 or east - west > 100 or south * north < 0 or max(-south, north) > 84:
        return ccrs.PlateCarree(central_longitude=middle)
    lines = south + (north - south) / 6, north - (north - south) / 6
    cutoff = -30 if latitude > 0 else 30
    return ccrs.LambertConformal(middle, latitude, standard_parallels=lines, cutoff=cutoff)


def centre_of(ax: Any) -> float:
    """Return the meridian in the middle of a map."""
    return float(ax.projection.proj4_params.get("lon_0", 0.0))


@contextmanager
def own_figure(figsize: tuple[float, float], layout: Any = "constrained") -> Iterator[Figure]:
    """Make a figure of pyplot, and close it if drawing in it fails."""
    figure = plt.figure(figsize=figsize, layout=layout)
    try:
        yield figure
    except BaseException:
        plt.close(figure)
        raise


@contextmanager
def maps(
    view: View,
    columns: int = 1,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    *,
    bar: bool = True,
) -> Iterator[list[Any]]:
    """Give map axes side by side, dressed with coastlines and labels, or dress the one given.

    Raises
    ------
    TypeError
        If `ax` is no axes of cartopy.
    """
    if ax is not None:
        if not isinstance(ax, GeoAxes):
            raise TypeError(
                f"ax is a {type(ax).__name__}: a map needs axes with a projection, such as "
                "plt.axes(projection=cartopy.crs.PlateCarree())"
            )
        dress(ax, view.box)
        yield [ax]
        return
    # Constrained layout does not know the height of a map, which keeps its aspect.
    with own_figure(figsize or (8.0, 4.5), layout=None) as figure:
        axes = [
            figure.add_subplot(1, columns, n + 1, projection=view.projection)
            for n in range(columns)
        ]
        for one in axes:
            dress(one, view.box)
        _arrange(figure, axes, figsize, bar)
        yield axes


def _arrange(
    figure: Figure, axes: Sequence[Any], figsize: tuple[float, float] | None, bar: bool
) -> None:
    """Lay out maps in a row, with room for labels and bars, in a figure as high as they need."""
    count = len(axes)
    left, right, between = (0.55, 1.05 if bar else 0.25, 0.0) if count == 1 else (0.5, 0.25, 0.5)
    bottom, top = (0.35, 0.55) if count == 1 else (0.85, 0.55)
    x, y = axes[0].get_xlim(), axes[0].get_ylim()
    ratio = (y[1] - y[0]) / (x[1] - x[0])
    total = 8.0 if count == 1 else 4.6 * count
    spare = left + right + between * (count - 1)
    if figsize is None:
        width = min((total - spare) / count, 5.5 / ratio)
        figsize = (spare + width * count, bottom + top + width * ratio)
        figure.set_size_inches(*figsize)
    across, high = figsize
    width = (across - spare) / count
    for n, one in enumerate(axes):
        at = left + n * (width + between)
        place = (at / across, bottom / high, width / across, (high - bottom - top) / high)
        one.set_position(place)


def dress(ax: Any, box: Box | None) -> None:
    """Show a part of the Earth with coastlines, meridians and parallels."""
    if box is None:
        ax.set_global()
    else:
        west, east, south, north = box
        # cartopy takes longitudes within half a turn of the middle of the given coordinates.
        middle = (west + east) / 2
        shifted = ccrs.PlateCarree(central_longitude=middle)
        ax.set_extent((west - middle, east - middle, south, north), crs=shifted)
        if east - west > 359.0 and isinstance(ax.projection, ccrs.Stereographic):
            turn = np.linspace(0, 2 * np.pi, 361)
            circle = Path(0.5 + 0.5 * np.stack([np.sin(turn), np.cos(turn)], axis=1))
            ax.set_boundary(circle, transform=ax.transAxes)
    draw_coastlines(ax)
    lines = ax.gridlines(linewidth=0.4, color="0.3", alpha=0.4, linestyle="-")
    labelled = isinstance(ax.projection, ccrs.PlateCarree | ccrs.Mercator | ccrs.LambertConformal)
    if labelled:
        if box is not None:
            lines.xlocator, lines.ylocator = (FixedLocator(at) for at in _round_degrees(box))
        lines.bottom_labels = lines.left_labels = True
        lines.x_inline = lines.y_inline = lines.rotate_labels = False
        lines.xlabel_style = lines.ylabel_style = {"size": 8}


def _round_degrees(box: Box) -> tuple[list[float], list[float]]:
    """Return meridians and parallels at round degrees, four steps or more across a box.

    They go on beyond the box: a conformal map shows more than it at its corners.
    """
    west, east, south, north = box
    out = []
    for low, high in ((west, east), (south, north)):
        step = next((s for s in _STEPS if high - low >= 4 * s), _STEPS[-1])
        first, last = np.floor((2 * low - high) / step), np.ceil((2 * high - low) / step)
        out.append(step * np.arange(first, last + 1))
    meridians = np.mod(out[0] + 180.0, 360.0) - 180.0
    parallels = out[1][np.abs(out[1]) <= 90.0]
    return sorted({*np.round(meridians, 6).tolist()}), parallels.tolist()


def colour_bar(
    ax: Any, artist: Any, label: str, extend: str = "neither", *, below: bool = False
) -> Any:
    """Draw a colour bar as long as the map's side, to the right of it or below."""
    # Axes inside those of the map keep their size when the map keeps its aspect.
    inches = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    across, high = inches.width, inches.height
    if below:
        place = (0.0, -0.42 / high, 1.0, 0.13 / high)
    else:
        place = (1.0 + 0.12 / across, 0.0, 0.16 / across, 1.0)
    inset = ax.inset_axes(place)
    bar = ax.figure.colorbar(
        artist,
        cax=inset,
        label=label,
        extend=extend,
        orientation="horizontal" if below else "vertical",
    )
    bar.ax.tick_params(labelsize=8)
    if below:
        bar.locator = MaxNLocator(6)
    bar.formatter.set_powerlimits((-4, 6))
    bar.update_ticks()
    return bar


@contextmanager
def curve_axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Iterator[Axes]:
    """Give axes for curves: those given, or new ones in a figure of pyplot."""
    if ax is not None:
        yield ax
        return
    with own_figure(figsize or (7.0, 4.2)) as figure:
        yield figure.add_subplot()
