"""Power spectra over wavenumber."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from xwx.plot.canvas import curve_axes
from xwx.plot.select import chosen, has, plain
from xwx.plot.table import title_of
from xwx.plot.words import with_units

__all__ = ["spectra"]


def spectra(
    ds: xr.Dataset,
    variable: str | None = None,
    *,
    time: Any = None,
    level: float | None = None,
    others: Mapping[str, xr.Dataset] | None = None,
    name: str | None = None,
    slopes: Sequence[float] = (-3.0, -5.0 / 3.0),
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw power spectra over wavenumber, both axes logarithmic.

    Parameters
    ----------
    ds : Dataset
        With the dimension ``wavenumber``; wavenumber 0, the mean, has no place on the axis.
    variable, time, level
        Not needed where there is one.
    others : dict of str -> Dataset, optional
        Spectra to compare with, by their names.
    name : str, optional
        Of the first, in the legend; beside `others` by default "this Dataset".
    slopes : sequence of float
        Exponents of reference lines, drawn through the middle of the first spectrum.
    ax : Axes, optional
        By default in a new figure of pyplot.
    figsize : (float, float), optional

    Returns
    -------
    Axes

    Raises
    ------
    MismatchError
        If there is no dimension ``wavenumber``, or more dimensions are left than the picture has.
    """
    label, name = name is not None or bool(others), name or "this Dataset"
    sets = {name: plain(ds)} | {str(k): plain(v) for k, v in (others or {}).items()}
    variable = has(sets[name], variable, ("wavenumber",), "a spectrum")
    keep = ("wavenumber",)
    arrays = {
        key: chosen(one, has(one, variable, keep, "a spectrum"), "a spectrum", keep=keep,
                    time=time, level=level)
        for key, one in sets.items()
    }  # fmt: skip
    with curve_axes(ax, figsize) as axes:
        for key, array in arrays.items():
            wavenumber, power = _positive(array)
            axes.loglog(wavenumber, power, label=key if label else None, linewidth=1.5)
        _slopes(axes, *_positive(arrays[name]), slopes)
        array = arrays[name]
        axes.set_xlabel(with_units("wavenumber", array["wavenumber"].attrs.get("units")))
        axes.set_ylabel(with_units("power", array.attrs.get("units")))
        axes.set_title(title_of(sets[name], array, variable), fontsize=10)
        axes.grid(visible=True, which="major", linewidth=0.4, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return axes


def _positive(array: xr.DataArray) -> tuple[NDArray[Any], NDArray[Any]]:
    wavenumber, power = array["wavenumber"].values, array.values
    seen = (wavenumber > 0) & (power > 0)
    return wavenumber[seen], power[seen]


def _slopes(
    ax: Axes, wavenumber: NDArray[Any], power: NDArray[Any], slopes: Sequence[float]
) -> None:
    """Draw power laws over the last two thirds of the axis, above the first spectrum."""
    if wavenumber.size < 3:
        return
    x = np.geomspace(wavenumber[0], wavenumber[-1], 4)[1:]
    at = np.exp(np.interp(np.log(x[0]), np.log(wavenumber), np.log(power)))
    for number, slope in enumerate(slopes):
        y = 3.0 * at * (x / x[0]) ** slope
        text = {-3.0: r"$k^{-3}$", -5.0 / 3.0: r"$k^{-5/3}$"}.get(slope, f"$k^{{{slope:g}}}$")
        style = ("--", ":", "-.")[number % 3]
        ax.plot(x, y, style, color="0.4", linewidth=1, label=text)
