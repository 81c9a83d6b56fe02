"""From a network's array back to a Dataset in the user's own layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields.frame import Field, Frame
from xwx.fields.units import quantity
from xwx.fields.variables import stated_name, table

__all__ = ["narrowed", "retimed", "unpack"]

_FORECAST = ("forecast_reference_time", "forecast_period")
_CHANNEL = "channel of the array"
#: Encodings that describe how another array was stored, and would not fit this one.
_STORAGE = frozenset(
    {"chunks", "chunksizes", "preferred_chunks", "shards", "contiguous", "original_shape"}
    | {"source", "coordinates", "unlimited_dims"}
)


def unpack(
    array: Any,
    frame: Frame,
    *,
    time: ArrayLike | None = None,
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Undo :func:`~xwx.fields.pack`: names, units, orientation, dimensions as they were.

    Parameters
    ----------
    array : numpy or dask array, shape (time, channel, lat, lon)
        Canonical units. A dask array stays lazy; the result may share memory with `array`.
    frame : Frame
        The layout.
    time : array_like, shape (time,), optional
        Valid times, datetime64 or cftime, where they are not those of the frame. Further
        coordinates along time are then dropped, but for time coordinates that ran along, and so
        are those of a forecast_reference_time or forecast_period.
    variables : sequence of str, optional
        Names, the user's or those of the table; all variables by default.

    Returns
    -------
    Dataset
        The model's variables. A dimension of levels holds those that the model has; where two
        variables share one and the model has different levels of them, NaN fills the gap.

    Raises
    ------
    ValueError
        If the shape of `array` or the length of `time` does not fit the frame.
    MismatchError
        For a name in `variables` that the frame does not have.
    """
    times = frame.times if time is None else np.asarray(time)
    _check_shape(array, frame, times)
    fields = _chosen(frame, variables)
    template = frame.template if time is None else retimed(frame, times)
    if frame.time_dim not in frame.template.dims and time is None:
        template = _along(frame, times)
    levels = _levels(fields)
    template = template.isel({d: list(p) for d, p in levels.items() if d in template.dims})
    dims = (frame.time_dim, _CHANNEL, frame.latitude_dim, frame.longitude_dim)
    whole = xr.Variable(dims, array)
    data = {field.name: _variable(whole, frame, field, levels) for field in fields}
    out = template.assign(data)[list(data)]
    for coordinate in out.coords.values():
        coordinate.encoding = _encoding(coordinate.encoding)
        if coordinate.attrs.get("bounds", "") not in {"", *map(str, out.variables)}:
            del coordinate.attrs["bounds"]  # they are no variable of the model's
    return out.assign_attrs(_history(frame, fields))


def _check_shape(array: Any, frame: Frame, times: NDArray[Any]) -> None:
    need = (times.size, len(frame.spec.channels), *frame.spec.grid.shape)
    if times.ndim != 1 or tuple(array.shape) != need:
        raise ValueError(
            f"array of shape {tuple(array.shape)}: (time, channel, lat, lon) = {need} is needed"
            f" for {times.size} times"
        )


def narrowed(frame: Frame, variables: Sequence[str] | None) -> tuple[Frame, list[int]]:
    """Return the frame of a choice of variables, and which channels of an array they take.

    Raises
    ------
    MismatchError
        For a name in `variables` that the frame does not have, and when there is none.
    """
    fields = _chosen(frame, variables)
    taken = sorted({channel for field in fields for channel in field.channels})
    channels = tuple(frame.spec.channels[n] for n in taken)
    renumbered = tuple(
        replace(field, channels=tuple(taken.index(n) for n in field.channels)) for field in fields
    )
    spec = replace(frame.spec, channels=channels)
    return replace(frame, spec=spec, fields=renumbered), taken


def _chosen(frame: Frame, variables: Sequence[str] | None) -> tuple[Field, ...]:
    if variables is None:
        return frame.fields
    names = [variables] if isinstance(variables, str) else list(variables)
    known = {name for field in frame.fields for name in (field.name, field.key)}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        available = ", ".join(
            field.name if field.name == field.key else f"{field.name} ({field.key})"
            for field in frame.fields
        )
        problem = Problem(
            kind="unknown-variable",
            where="variables",
            message=f"{unknown} is not among the model's variables: {available}",
            remedy=f"variables={list(frame.variables)!r}",
        )
        raise MismatchError([problem], what="the choice of variables")
    return tuple(f for f in frame.fields if f.name in names or f.key in names)


def retimed(frame: Frame, times: NDArray[Any]) -> xr.Dataset:
    """Return the coordinates of a frame with other valid times, shape (time,).

    When the states of the frame were forecast, and how far ahead, says nothing of other times:
    coordinates of that are dropped, but for that of the time dimension.
    """
    template, kept = _along(frame, times), {frame.time_dim, frame.time_name}
    stale = [k for k, c in template.coords.items() if stated_name(c.attrs) in _FORECAST]
    return template.drop_vars([key for key in stale if key not in kept])


def _along(frame: Frame, times: NDArray[Any]) -> xr.Dataset:
    template, dim, name = frame.template, frame.time_dim, frame.time_name
    old = template[name].variable
    if np.issubdtype(old.dtype, np.datetime64) and np.issubdtype(times.dtype, np.datetime64):
        times = times.astype(old.dtype)
    gone = [str(key) for key, c in template.coords.items() if dim in c.dims]
    new = {name: xr.Variable((dim,), times, old.attrs, old.encoding)}
    for key, shift in frame.shifts.items():
        other = template[key].variable
        new[key] = xr.Variable((dim,), times + shift, other.attrs, other.encoding)
    return template.drop_vars({*gone, *new}).assign_coords(new)


def _levels(fields: Sequence[Field]) -> dict[str, list[int]]:
    """Return the positions needed along each pressure dimension, by all its variables together."""
    union: dict[str, set[int]] = {}
    for field in fields:
        if field.level_dim is not None:
            union.setdefault(field.level_dim, set()).update(field.levels)
    return {dim: sorted(positions) for dim, positions in union.items()}


def _variable(
    whole: xr.Variable, frame: Frame, field: Field, levels: dict[str, list[int]]
) -> xr.Variable:
    variable = _channels(whole, field, levels)
    variable = frame.rows.undo(variable, frame.latitude_dim)
    variable = frame.columns.undo(variable, frame.longitude_dim)
    dims = field.dims
    if frame.time_dim not in dims:
        if table()[field.key].static:
            variable = variable.isel({frame.time_dim: 0})
        else:
            dims = (frame.time_dim, *dims)
    extra = [dim for dim in dims if dim not in variable.dims]
    data = _own_units(variable.data[(None,) * len(extra)], field)
    variable = xr.Variable([*extra, *variable.dims], data).transpose(*dims)
    return xr.Variable(dims, variable.data, field.attrs, _encoding(field.encoding))


def _channels(whole: xr.Variable, field: Field, levels: dict[str, list[int]]) -> xr.Variable:
    if field.level_dim is None:
        return whole.isel({_CHANNEL: field.channels[0]})
    at = dict(zip(field.levels, field.channels, strict=True))
    wanted = levels[field.level_dim]
    channels = [at.get(position, field.channels[0]) for position in wanted]
    first, last = channels[0], channels[-1]
    run = channels == list(range(first, last + 1))
    chosen = whole.isel({_CHANNEL: slice(first, last + 1) if run else channels})
    chosen = _renamed(chosen, _CHANNEL, field.level_dim)
    held = np.array([position in at for position in wanted])
    if held.all():
        return chosen
    return chosen + xr.Variable(
        (field.level_dim,), np.where(held, np.float32(0), np.float32("nan"))
    )


def _renamed(variable: xr.Variable, old: str, new: str) -> xr.Variable:
    return xr.Variable([new if dim == old else dim for dim in variable.dims], variable.data)


def _own_units(data: Any, field: Field) -> Any:
    if field.conversion is not None:
        data = (data.astype(np.float64) - field.conversion.offset) / field.conversion.scale
    data = data.astype(field.dtype, copy=False)
    return data if field.unit is None else quantity(data, field.unit)


def _encoding(encoding: Any) -> dict[str, Any]:
    return {key: value for key, value in encoding.items() if key not in _STORAGE}


def _history(frame: Frame, fields: Sequence[Field]) -> dict[str, Any]:
    lines = [f"xwx: {field.name}: {field.note}" for field in fields if field.note]
    if not lines:
        return {}
    before = frame.template.attrs.get("history")
    return {"history": "\n".join([*([str(before)] if before else []), *lines])}
