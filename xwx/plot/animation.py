"""A forecast as a film: one step a frame, one frame in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.animation import FuncAnimation, writers
from tqdm import tqdm

from xwx.errors import MismatchError, Problem
from xwx.options import get_options
from xwx.plot.canvas import centre_of, colour_bar, maps, view_of
from xwx.plot.maps import heading, label_of, read, shade
from xwx.plot.select import has, horizontal, plain
from xwx.plot.slab import cells, within
from xwx.plot.steps import step_dim
from xwx.plot.style import limits, style_of
from xwx.plot.times import timed
from xwx.plot.words import metric_of

__all__ = ["animate"]


def animate(
    ds: xr.Dataset,
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
    figsize: tuple[float, float] | None = None,
    progress: bool | None = None,
) -> FuncAnimation:
    """Animate a field over its steps, with one range of colours.

    Parameters
    ----------
    ds : Dataset
        With more than one step. Frames are read one at a time; where `vmin` and `vmax` are not
        given each is read once more before, for the range.
    variable, level, projection, extent, cmap, vmin, vmax, figsize
        As for :func:`xwx.plot.maps.draw_map`.
    path : str or path-like, optional
        A ``.gif``, or an ``.mp4`` where ffmpeg is installed. By default nothing is written: show
        the animation with ``.to_jshtml()`` or ``plt.show()``.
    fps : int
        Frames a second.
    dpi : float
        Dots an inch of the file.
    writer : str or matplotlib.animation.AbstractMovieWriter, optional
        By default what the suffix of `path` needs.
    progress : bool, optional
        A progress bar: always, never, or by default when it takes over two seconds.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        Once a file is written its figure is closed.

    Raises
    ------
    ValueError
        For a suffix that no writer knows, or an mp4 without ffmpeg.
    MismatchError
        If there are no steps, or it is not clear which level, member or start is meant.
    """
    ds = timed(plain(ds))
    if path is not None:
        writer = _writer(Path(path), writer)
    lat, lon = horizontal(ds)
    dims = str(ds[lat].dims[0]), str(ds[lon].dims[0])
    name = has(ds, variable, dims, "an animation")
    if (step := step_dim(ds[name])) is None:
        problem = Problem("missing-time", name, "it has no steps", f'ds.wx.plot.map("{name}")')
        raise MismatchError([problem], what="an animation")
    count, style = int(ds[name].sizes[step]), style_of(name, ds[name].attrs, metric_of(ds[name]))

    def frame(number: int) -> Any:
        return read(ds, name, time=number, level=level)

    def shown(number: int) -> Any:
        slab = frame(number)[1]
        return within(slab, view_of(slab, projection, extent).box)

    with _bar(name, count, vmin is None or vmax is None, path, progress) as bar:
        if vmin is None or vmax is None:
            vmin, vmax = _range(shown, count, style, vmin, vmax, bar)
        array, slab = frame(0)
        with maps(view_of(slab, projection, extent), figsize=figsize) as (ax,):
            mesh = shade(ax, slab, style, cmap, vmin, vmax)
            colour_bar(ax, mesh, label_of(ds, array), "both" if style.share < 100 else "neither")
            ax.set_title(heading(ds, array), fontsize=10)

        def draw(number: int) -> list[Any]:
            array, slab = frame(number)
            mesh.set_array(cells(slab, centre_of(ax))[2])
            ax.set_title(heading(ds, array), fontsize=10)
            return [mesh]

        film = FuncAnimation(
            ax.figure,
            draw,
            frames=count,
            init_func=lambda: [mesh],  # otherwise the first frame is drawn twice
            interval=1000.0 / fps,
            cache_frame_data=False,
        )
        if path is not None:
            try:
                film.save(
                    Path(path),
                    writer=writer,
                    fps=fps,
                    dpi=dpi,
                    progress_callback=lambda *_: bar.update(),
                )
            finally:
                plt.close(ax.figure)
    return film


def _writer(path: Path, writer: Any) -> Any:
    """Return the writer for a file, or say what else to do."""
    if writer is not None:
        return writer
    suffix = path.suffix.lower()
    if suffix == ".gif":
        return "pillow"
    if suffix != ".mp4":
        raise ValueError(f"path={str(path)!r}: give a name that ends in .gif or .mp4")
    if not writers.is_available("ffmpeg"):
        raise ValueError(
            f"path={str(path)!r}: an mp4 needs the program ffmpeg, which was not found; install "
            f"it, or write {str(path.with_suffix('.gif'))!r}"
        )
    return "ffmpeg"


def _range(
    shown: Callable[[int], Any], count: int, style: Any, vmin: Any, vmax: Any, bar: Any
) -> tuple[float, float]:
    """Return the range that holds the ranges of all frames, one at a time."""
    lows, highs = [], []
    for number in range(count):
        low, high = limits(shown(number), style, vmin, vmax)
        lows.append(low)
        highs.append(high)
        bar.update()
    return float(np.min(lows)), float(np.max(highs))


def _bar(name: str, count: int, twice: bool, path: Any, progress: bool | None) -> Any:
    wanted = get_options()["progress"] if progress is None else progress
    return tqdm(
        total=count * (twice + (path is not None)),
        desc=f"animate {name}",
        unit="frame",
        disable=wanted is False,
        delay=2 if wanted is None else 0,
    )
