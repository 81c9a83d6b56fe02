"""Which part of a Dataset is drawn: what is asked for, and nothing that is left open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import dequantify, find_coordinates
from xwx.fields.axes import axes_problems
from xwx.plot.steps import REFERENCES, at_time, step_dim
from xwx.plot.words import duration, several, stamp

__all__ = [
    "chosen",
    "has",
    "horizontal",
    "is_score",
    "narrow",
    "plain",
]

#: Levels agree when they differ by less than this fraction.
_TOLERANCE = 1e-3


def plain(ds: Any) -> xr.Dataset:
    """Return the Dataset without Quantities; nothing is computed.

    Raises
    ------
    TypeError
        If it is no Dataset.
    """
    if not isinstance(ds, xr.Dataset):
        hint = ": use .to_dataset()" if isinstance(ds, xr.DataArray) else ""
        raise TypeError(f"a plot needs an xarray.Dataset, got {type(ds).__name__}{hint}")
    return dequantify(ds)


def horizontal(ds: xr.Dataset) -> tuple[str, str]:
    """Return the names of latitude and longitude.

    Raises
    ------
    MismatchError
        If there are none along one dimension each.
    """
    names = find_coordinates(ds)
    if problems := [_flat(ds, p) for p in axes_problems(ds, names)]:
        raise MismatchError(problems, what="a map")
    return str(names.latitude), str(names.longitude)


def _flat(ds: xr.Dataset, problem: Problem) -> Problem:
    """Say of a grid with two-dimensional latitudes what a map needs."""
    if problem.kind != "curvilinear-grid":
        return problem
    lat, lon = problem.where.split(", ")
    y, x = (str(dim) for dim in ds[lat].dims[-2:])
    return Problem(
        kind=problem.kind,
        where=problem.where,
        message=(
            f"latitude and longitude are two-dimensional ({y}, {x}), and a map needs rows and "
            "columns: one latitude a row and one longitude a column"
        ),
        remedy=(
            f'ds = xesmf.Regridder(ds.rename({lat}="lat", {lon}="lon"), target, "bilinear")(ds)  '
            f"# target: a Dataset with 1-D lat and lon; or, if all columns of {lat} are equal, "
            f"ds.assign_coords({y}=ds.{lat}.isel({x}=0), {x}=ds.{lon}.isel({y}=0))"
            f".drop_vars([{lat!r}, {lon!r}])"
        ),
    )


def is_score(ds: xr.Dataset, name: str) -> bool:
    """Whether a variable stands for itself: intervals and differences are drawn with another."""
    beside = name.removesuffix("_difference")
    return "bound" not in ds[name].dims and (beside == name or beside not in ds)


def has(ds: xr.Dataset, variable: str | None, dims: Collection[str], what: str) -> str:
    """Return the variable to draw: the one that is named, or the only one along `dims`.

    Raises
    ------
    MismatchError
        If there is no such variable, or it is not clear which.
    """
    found = [
        str(name)
        for name, array in ds.data_vars.items()
        if set(dims) <= set(array.dims) and is_score(ds, str(name))
    ]
    if variable in ds.data_vars and set(dims) <= set(ds[variable].dims):
        return str(variable)
    along = ", ".join(map(repr, dims))
    if variable is None and len(found) == 1:
        return found[0]
    if not found:
        message = f"no variable runs along {along}, as {what} needs"
        remedy = "look at the dimensions: print(ds)"
    elif variable is None:
        message = f"{several(found)} can be drawn: it is not clear which is meant"
        remedy = f"name one: variable={found[0]!r}"
    else:
        known = variable in ds.variables
        message = f"it does not run along {along}" if known else "there is no such variable"
        remedy = f"name one of {several(found)}"
    raise MismatchError(
        [Problem("unknown-variable", variable or "variable", message, remedy)], what
    )


def chosen(
    ds: xr.Dataset,
    variable: str,
    what: str,
    *,
    time: Any = None,
    level: float | None = None,
    keep: Collection[str] = (),
) -> xr.DataArray:
    """Return one variable at a time and level, along `keep` and nothing else; lazy stays lazy.

    Parameters
    ----------
    ds : Dataset
        Without Quantities, see :func:`plain`.
    variable : str
    what : str
        What is drawn, for the messages.
    time : int, timedelta, time or str, optional
        A position along the steps, a lead time, or a valid time.
    level : float, optional
        In the units of the Dataset's level coordinate.
    keep : collection of str
        Dimensions that the picture has.

    Raises
    ------
    MismatchError
        If dimensions of more than one value are left: says what to select, and lists the values.
    ValueError, TypeError
        If there is no such time or level.
    """
    array = ds[variable]
    if time is not None:
        array = at_time(array, time)
    if level is not None:
        array = _at_level(ds, array, level, keep)
    return narrow(array, what, keep)


def narrow(array: xr.DataArray, what: str, keep: Collection[str]) -> xr.DataArray:
    """Drop dimensions of length one, and refuse longer ones that the picture does not have."""
    rest = [str(dim) for dim in array.dims if dim not in keep]
    if problems := [_open(array, dim, what) for dim in rest if array.sizes[dim] != 1]:
        raise MismatchError(problems, what=f"{what} of {array.name}")
    return array.squeeze(rest)


def _open(array: xr.DataArray, dim: str, what: str) -> Problem:
    """Say that a dimension is left, which values it has, and how one is selected."""
    values = array[dim].values if dim in array.coords else np.arange(array.sizes[dim])
    listed = several([_text(v) for v in values])
    if not len(values):
        remedy = "look at the selection before"
    elif dim in REFERENCES:
        remedy = f"fc.isel({dim}=0)" + (".wx.plot.map(...)" if what == "a map" else "")
    elif dim == step_dim(array):
        remedy = f"time=0  # or a valid time or a lead time; or ds.isel({dim}=0)"
    elif dim in ("region", "metric", "season"):
        remedy = f"{dim}={values[0]!s:.40}" if dim == "region" else f'ds.sel({dim}="{values[0]}")'
    elif np.issubdtype(values.dtype, np.number) and dim not in ("member", "number"):
        remedy = f"level={values[0]:g}  # or ds.isel({dim}=0)"
    else:
        remedy = f"ds.isel({dim}=0)"
    return Problem(
        kind="open-dimension",
        where=dim,
        message=f"it has {len(values)} values, and the picture shows one: {listed}",
        remedy=remedy,
    )


def _text(value: Any) -> str:
    if isinstance(value, np.timedelta64):
        return duration(value)
    if isinstance(value, np.datetime64) or hasattr(value, "calendar"):
        return stamp(value)
    return f"{value:g}" if isinstance(value, np.number) else repr(str(value))


def _at_level(
    ds: xr.Dataset, array: xr.DataArray, level: float, keep: Collection[str]
) -> xr.DataArray:
    dim = _level_dim(ds, array, keep)
    if dim is None:
        if (held := find_coordinates(ds).vertical) in array.coords and array[held].ndim == 0:
            dim, array = str(held), array.expand_dims(str(held))
        else:
            raise ValueError(f"level={level!r}: {array.name!r} has no levels; leave it out")
    values: NDArray[Any] = array[dim].values
    if not isinstance(level, int | float | np.number) or isinstance(level, bool):
        raise TypeError(f"level={level!r} is a {type(level).__name__}: give a number")
    near = np.abs(values - level) <= _TOLERANCE * np.abs(values)
    if not near.any():
        units = array[dim].attrs.get("units", "")
        listed = several([f"{v:g}" for v in values])
        raise ValueError(f"level={level:g}: there is no such level; there are {listed} {units}")
    return array.isel({dim: int(near.argmax())})


def _level_dim(ds: xr.Dataset, array: xr.DataArray, keep: Collection[str]) -> str | None:
    vertical = find_coordinates(ds).vertical
    if vertical is not None and ds[vertical].ndim == 1 and ds[vertical].dims[0] in array.dims:
        return str(ds[vertical].dims[0])
    steps = step_dim(array)
    rest: Sequence[str] = [
        str(dim)
        for dim in array.dims
        if dim not in keep and dim not in ("init_time", "member", "metric", "rank", steps)
        if dim in array.coords and np.issubdtype(array[dim].dtype, np.number)
    ]
    return rest[0] if len(rest) == 1 else None
