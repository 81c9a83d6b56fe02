"""Power spectra of the fields of a Dataset, along latitudes or in spherical harmonics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import (
    cell_areas,
    difference_units,
    find_coordinates,
    power_units,
    requantify,
)
from xwx.fields.axes import axes_problems
from xwx.fields.degrees import degrees_problems
from xwx.fields.grid import bounds_of
from xwx.fields.units import affine, held_unit, magnitudes, strip, unit_text
from xwx.metrics.arrays.spectra import spherical_power, spherical_wavenumbers, zonal_power

__all__ = ["spectrum"]

Floats = NDArray[np.float64]
#: Mean radius of the Earth [m].
_RADIUS = 6.371e6
#: Columns are equally spaced when they differ by less than this fraction of the spacing.
_TOLERANCE = 1e-2
#: Of latitudes in float32 [degrees].
_ROUNDING = 1e-5
_WAVENUMBER = "wavenumber"


def spectrum(
    ds: xr.Dataset,
    kind: Literal["zonal", "spherical"] = "zonal",
    *,
    latitudes: tuple[float, float] | None = (30.0, 60.0),
    hemisphere: Literal["both", "north", "south"] = "both",
) -> xr.Dataset:
    r"""Return the power of each wavenumber of the fields of a Dataset.

    The zonal spectrum is the mean, weighted with the exact areas of cells, of the power of the
    Fourier series along rows of latitude; powers sum to the mean square over these rows. The
    spherical one is :math:`P_l = \frac{1}{4\pi} \sum_m |a_{lm}|^2`, by total wavenumber up to what
    the rows integrate exactly: rows - 1 for a Gaussian grid, (rows - 1) // 2 for equally spaced
    rows, and less than half the columns.

    Parameters
    ----------
    ds : Dataset
        Its variables along latitude and longitude are taken, others left out. NumPy, dask (which
        stays lazy) or pint arrays.
    kind : {"zonal", "spherical"}
    latitudes : tuple of float, optional
        Least and greatest absolute latitude [degrees] of the rows of a zonal spectrum, both
        included; all rows with None. Without meaning for the spherical one.
    hemisphere : {"both", "north", "south"}
        Which of these rows.

    Returns
    -------
    Dataset
        The same names, in float64, with ``wavenumber`` in place of latitude and longitude; units
        are those of the variable squared, after conversion to kelvins where the zero of a scale of
        temperature is arbitrary. A spherical spectrum has a coordinate ``wavelength`` [m],
        :math:`2 \pi R / \sqrt{l (l + 1)}` with R = 6371 km. A field with a missing value that
        counts has a spectrum of NaN.

    Raises
    ------
    MismatchError
        When there are no rows and columns, or they do not go round the globe, or, for a spherical
        spectrum, the rows belong to no quadrature.
    ValueError
        For another `kind`, `hemisphere` or `latitudes`.
    """
    _check_arguments(kind, latitudes, hemisphere)
    names = _axes(ds)
    chosen = _fields(ds, names)
    rows, columns = (magnitudes(ds.variables[name]).astype(np.float64) for name in names)
    order = _eastwards(columns, names[1])
    chosen = chosen if order is None else chosen.isel({chosen[names[1]].dims[0]: order})
    if kind == "zonal":
        weights = _row_weights(ds, names[0], rows, latitudes, hemisphere)
        used = np.flatnonzero(weights)  # rows of no weight are not read
        chosen = chosen.isel({chosen[names[0]].dims[0]: used})
        power: Callable[[Any], Floats] = partial(zonal_power, weights=weights[used])
        size = columns.size // 2 + 1
    else:
        size = _count(rows, columns.size, names[0])
        power = partial(spherical_power, latitude=rows)
    return _assemble(chosen, names, _Transform(kind, power, size))


@dataclass(frozen=True)
class _Transform:
    """A kind of spectrum: fields (..., lat, lon) to powers (..., wavenumber)."""

    kind: str
    power: Callable[[Any], Floats]
    size: int

    def coordinates(self) -> dict[str, xr.Variable]:
        number = np.arange(self.size)
        which = "zonal wavenumber" if self.kind == "zonal" else "total wavenumber"
        attrs = {"long_name": which, "units": "1"}
        found = {_WAVENUMBER: xr.Variable(_WAVENUMBER, number, attrs)}
        if self.kind == "spherical":
            length = np.full(self.size, np.inf)
            length[1:] = 2 * np.pi * _RADIUS / np.sqrt(number[1:] * (number[1:] + 1.0))
            attrs = {"long_name": "wavelength", "units": "m"}
            found["wavelength"] = xr.Variable(_WAVENUMBER, length, attrs)
        return found


def _check_arguments(kind: str, latitudes: tuple[float, float] | None, hemisphere: str) -> None:
    if kind not in ("zonal", "spherical"):
        raise ValueError(f'kind={kind!r}: give "zonal" or "spherical"')
    if hemisphere not in ("both", "north", "south"):
        raise ValueError(f'hemisphere={hemisphere!r}: give "both", "north" or "south"')
    if latitudes is not None and not (len(latitudes) == 2 and 0 <= latitudes[0] <= latitudes[1]):
        raise ValueError(
            f"latitudes={latitudes!r}: give the least and the greatest absolute latitude, such as "
            "(30.0, 60.0), or None for all rows"
        )


def _refuse(kind: str, where: str, message: str, remedy: str) -> MismatchError:
    return MismatchError([Problem(kind, where, message, remedy)], what="a spectrum")


def _axes(ds: xr.Dataset) -> tuple[str, str]:
    names = find_coordinates(ds)
    lat, lon = names.latitude, names.longitude
    wrong = axes_problems(ds, names)
    if lat is None or lon is None or wrong:
        raise MismatchError(wrong, what="a spectrum")
    if wrong := degrees_problems(ds, lat, lon):
        raise MismatchError(wrong, what="a spectrum")
    if _WAVENUMBER in ds.variables or _WAVENUMBER in ds.dims:
        raise _refuse(
            "taken-name",
            _WAVENUMBER,
            "the Dataset has this name already, which the spectrum needs",
            f'ds = ds.rename({_WAVENUMBER}="another_name")',
        )
    return lat, lon


def _fields(ds: xr.Dataset, names: tuple[str, str]) -> xr.Dataset:
    """Return the variables along both axes."""
    needed = {ds[name].dims[0] for name in names}
    chosen = ds[[key for key, v in ds.data_vars.items() if needed <= set(v.dims)]]
    if not chosen.data_vars:
        raise _refuse(
            "empty-dataset",
            "Dataset",
            f"no variable runs along both {names[0]!r} and {names[1]!r}",
            "give a Dataset of fields, before any mean over its rows or columns",
        )
    for key, variable in chosen.data_vars.items():
        if variable.dtype.kind not in "fiub":
            message = f"it is of type {variable.dtype}; real numbers are needed"
            raise _refuse("wrong-dtype", str(key), message, f'ds = ds.drop_vars("{key}")')
    return chosen


def _eastwards(columns: Floats, name: str) -> NDArray[np.intp] | None:
    """Return the order that takes the columns round the globe; None where they go round it.

    Powers depend neither on the first meridian nor on the direction.
    """
    spacing = 360.0 / columns.size
    order = np.argsort(np.mod(columns, 360.0))
    if columns.size > 1 and _even(columns, spacing):
        return None
    if columns.size > 1 and _even(columns[order], spacing):
        return order
    raise _refuse(
        "regional-grid",
        name,
        f"{columns.size} values from {columns[0]:g} to {columns[-1]:g} do not go round the globe "
        f"in equal steps of {spacing:g} degrees, so the longitude is not periodic",
        "open data of the whole globe, each meridian once: "
        f'ds = ds.isel({{"{name}": slice(None, -1)}}) if the last one repeats the first',
    )


def _even(columns: Floats, spacing: float) -> bool:
    steps = np.mod(np.diff(columns, append=columns[0]), 360.0)
    return any(np.all(np.abs(steps - step) <= _TOLERANCE * spacing)
               for step in (spacing, 360.0 - spacing))  # fmt: skip


def _row_weights(
    ds: xr.Dataset,
    name: str,
    rows: Floats,
    latitudes: tuple[float, float] | None,
    hemisphere: str,
) -> Floats:
    """Return the areas of the cells of the rows that count, and 0 for the others."""
    low, high = (0.0, 90.0) if latitudes is None else latitudes
    inside = (np.abs(rows) >= low - _ROUNDING) & (np.abs(rows) <= high + _ROUNDING)
    if hemisphere != "both":
        inside &= rows > 0 if hemisphere == "north" else rows < 0
    if not inside.any():
        which = "" if hemisphere == "both" else f" in the {hemisphere}"
        raise _refuse(
            "missing-latitude",
            name,
            f"none of {rows.size} rows from {rows[0]:g} to {rows[-1]:g} lies within "
            f"{low:g} to {high:g} degrees{which}",
            "spectrum(ds, latitudes=None)  # all rows; or another band",
        )
    if rows.size == 1:
        return np.ones(1)
    try:
        areas = cell_areas(rows, bounds_of(ds, name))
    except ValueError as error:
        raise _refuse(
            "non-monotonic-latitude", name, str(error), f'ds = ds.sortby("{name}")'
        ) from error
    return np.where(inside, areas, 0.0)


def _count(rows: Floats, columns: int, name: str) -> int:
    try:
        return spherical_wavenumbers(rows, columns)
    except ValueError as error:
        message, _, remedy = str(error).partition("; ")
        raise _refuse("wrong-grid", name, message, remedy) from error


def _assemble(chosen: xr.Dataset, names: tuple[str, str], transform: _Transform) -> xr.Dataset:
    dims = tuple(str(chosen[name].dims[0]) for name in names)
    kept = {k: v for k, v in chosen.coords.items() if not set(dims) & set(v.dims)}
    variables = {key: _power(chosen[key], dims, transform) for key in chosen.data_vars}
    out = xr.Dataset(variables, attrs=chosen.attrs).assign_coords(kept)
    return out.assign_coords(transform.coordinates())


def _power(field: xr.DataArray, dims: tuple[str, ...], transform: _Transform) -> xr.DataArray:
    """Transform one variable, the wavenumber where the first of latitude and longitude was."""
    text, unit = unit_text(field.variable), held_unit(field.variable)
    values = xr.DataArray(strip(field.variable.data), dims=field.dims, name=field.name)
    base = None if text is None else difference_units(text)[0]
    if text is not None and base is not None and base != text:
        conversion = affine(text, base)
        assert conversion is not None  # difference_units() read both
        values = values.astype(np.float64) * conversion.scale + conversion.offset
    out = xr.apply_ufunc(
        transform.power,
        values,
        input_core_dims=[dims],
        output_core_dims=[[_WAVENUMBER]],
        dask="parallelized",
        dask_gufunc_kwargs={
            "output_sizes": {_WAVENUMBER: transform.size},
            "allow_rechunk": True,
        },
        output_dtypes=[np.float64],
    )
    place = min(field.dims.index(dim) for dim in dims)
    others = [dim for dim in field.dims if dim not in dims]
    out = out.transpose(*others[:place], _WAVENUMBER, *others[place:])
    out.attrs["long_name"] = f"power of {field.attrs.get('long_name', field.name)}"
    if base is not None:
        out.attrs["units"] = power_units(base, 2)
    return out if unit is None else requantify(out, out.attrs["units"])
