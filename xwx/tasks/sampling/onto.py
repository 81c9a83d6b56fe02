"""How sampled states are laid out: as the user's Dataset is, on the cells of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields import Frame, find_coordinates, frame_of, horizontal_of
from xwx.fields.locate import Place
from xwx.fields.orient import Turn, turn_columns, turn_rows
from xwx.fields.units import held_unit, is_quantified, magnitudes, quantity
from xwx.fields.variables import table
from xwx.spec import Grid, Spec
from xwx.tasks.sampling.cover import Cover, cover
from xwx.tasks.sampling.held import held_channels
from xwx.tasks.sampling.named import Named, measured, with_named

__all__ = ["Layout", "on_the_grid", "on_the_models_own", "same_cells"]

_PLANE = {
    "latitude": {"units": "degrees_north", "standard_name": "latitude"},
    "longitude": {"units": "degrees_east", "standard_name": "longitude"},
}


@dataclass(frozen=True, eq=False)
class Layout:
    """Where sampled states go.

    Attributes
    ----------
    frame : Frame
        For :func:`~xwx.fields.unpack`, of the channels and cells that are returned.
    channels : tuple of int
        These channels' positions among the model's.
    cover : Cover or None
        The cells that are returned; None for all of them.
    """

    frame: Frame
    channels: tuple[int, ...]
    cover: Cover | None = None

    @property
    def scalar(self) -> bool:
        """Whether the Dataset has one time, and no dimension of times."""
        return self.frame.template[self.frame.time_name].ndim == 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of what is returned."""
        return len(self.channels), *self.frame.spec.grid.shape

    def cut(self, states: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return what is wanted of states (..., C, H, W) of the model."""
        chosen = states[..., list(self.channels), :, :]
        if self.cover is None:
            return chosen
        rows, columns = self.cover.rows, self.cover.columns
        return chosen[..., rows[:, None], columns]


def on_the_grid(ds: xr.Dataset, spec: Spec, variables: Sequence[str] | None, what: str) -> Layout:
    """Lay states out as a Dataset of rows and columns is, on the model's cells in its region.

    Parameters
    ----------
    ds : Dataset
        On any latitude-longitude grid; values are not read.
    spec : Spec
        Of the model.
    variables : sequence of str, optional
        The Dataset's by its names, others of the model by the model's; by default all of the
        Dataset that are the model's.
    what : str
        What the Dataset is meant for, for errors.

    Raises
    ------
    MismatchError
        When the Dataset has no rows and columns, a variable cannot be read, none is the model's,
        or one that is wanted is neither the Dataset's nor the model's.
    """
    places, problems = held_channels(ds, spec)
    if problems:
        raise MismatchError(problems, what)
    own, more = _wanted(places, spec, variables, what)
    here = cover(horizontal_of(ds, what), spec.grid, what)
    bare = _moved(ds, here)
    sizes = {**ds.sizes, **bare.sizes}
    kept = {places[n].profile.name for n in own}
    names = [name for name in map(str, ds.data_vars) if name in kept]
    blank = {name: _blank(ds.variables[name], sizes) for name in names}
    order = ds.variables[names[0] if names else next(iter(ds.data_vars))].dims
    named = [Named(table()[key], levels) for key, levels in _by_name(spec, more).items()]
    proto = with_named(bare.assign(blank), named, order, quantified=is_quantified(ds))
    return _layout(proto, spec, (*own, *more), here, what)


def on_the_models_own(
    ds: xr.Dataset, spec: Spec, time: xr.Variable, variables: Sequence[str] | None, what: str
) -> Layout:
    """Lay states out on the model's own grid, with the names of the table: stations have none.

    Parameters
    ----------
    ds : Dataset
        Reports of stations, whose units the variables keep; values are not read.
    spec : Spec
    time : Variable
        The times of the states, along the dimension that they are to have.
    variables : sequence of str, optional
        By the names of the Dataset or of the model; by default those of the Dataset.
    what : str

    Raises
    ------
    MismatchError
        When a variable cannot be read, none is the model's, or one is wanted that is not.
    """
    places, problems = held_channels(ds, spec)
    if problems:
        raise MismatchError(problems, what)
    own, more = _wanted(places, spec, variables, what)
    units = {spec.channels[n].name: places[n].profile for n in own}
    named = []
    for key, levels in _by_name(spec, (*own, *more)).items():
        entry = table()[key]
        found = units.get(key)
        stated = () if found is None else measured(found, entry)
        named.append(Named(entry, levels, *stated))
    (dim,) = map(str, time.dims)
    rows, columns = (("latitude",), spec.grid.rows), (("longitude",), spec.grid.columns)
    coords = {
        dim: time,
        "latitude": xr.Variable(*rows, _PLANE["latitude"]),
        "longitude": xr.Variable(*columns, _PLANE["longitude"]),
    }
    attrs = {key: value for key, value in ds.attrs.items() if key != "featureType"}
    bare = xr.Dataset(coords=coords, attrs=attrs)
    order = (dim, "latitude", "longitude")
    proto = with_named(bare, named, order, quantified=is_quantified(ds))
    return _layout(proto, spec, (*own, *more), None, what)


def _wanted(
    places: Mapping[int, Place], spec: Spec, variables: Sequence[str] | None, what: str
) -> tuple[list[int], list[int]]:
    """Return the channels that are wanted: of the Dataset, and of the model besides."""
    if variables is None:
        return sorted(places), []
    held = {n: {place.profile.name, place.key} for n, place in places.items()}
    names = {name for both in held.values() for name in both}
    known = {channel.name for channel in spec.channels}
    unknown = [name for name in variables if name not in names | known]
    if unknown or not variables:
        mine = list(dict.fromkeys(places[n].profile.name for n in sorted(places)))
        rest = sorted(known - names)
        problem = Problem(
            kind="unknown-variable",
            where="variables",
            message=(
                f"{unknown} is neither among the Dataset's variables that the model has, "
                f"{', '.join(mine)}, nor among its others, {', '.join(rest) or 'none'}"
            ),
            remedy=f"variables={[*mine, *rest]!r}",
        )
        raise MismatchError([problem], what)
    own = [n for n in sorted(places) if held[n] & set(variables)]
    more = [
        n
        for n, channel in enumerate(spec.channels)
        if channel.name in variables and channel.name not in names
    ]
    return own, more


def _by_name(spec: Spec, channels: Sequence[int]) -> dict[str, tuple[float | None, ...]]:
    """Return the levels of each variable."""
    out: dict[str, tuple[float | None, ...]] = {}
    for n in sorted(channels):
        channel = spec.channels[n]
        out[channel.name] = (*out.get(channel.name, ()), channel.level)
    return out


def _moved(ds: xr.Dataset, here: Cover) -> xr.Dataset:
    """Return the coordinates of a Dataset, its rows and columns those of the model's cells."""
    bare = ds.drop_vars(list(ds.data_vars))
    names = find_coordinates(ds)
    lat, lon = str(names.latitude), str(names.longitude)
    axes = {lat: here.latitude, lon: here.longitude}
    if same_cells(ds, here.grid):
        return bare.assign_coords({name: ds[name] for name in axes})
    dims = {str(ds[name].dims[0]) for name in axes}
    bare = bare.drop_vars([str(k) for k, c in ds.coords.items() if dims & set(c.dims)])
    return bare.assign_coords({name: _axis(ds.variables[name], v) for name, v in axes.items()})


def same_cells(ds: xr.Dataset, grid: Grid) -> bool:
    """Whether rows and columns are those of a grid, in any order and convention."""
    names = find_coordinates(ds)
    lat, lon = str(names.latitude), str(names.longitude)
    rows, columns = (magnitudes(ds.variables[n]).astype(np.float64) for n in (lat, lon))
    turns = turn_rows(rows, lat, grid), turn_columns(columns, lon, grid)
    return all(isinstance(turn, Turn) for turn in turns)


def _axis(old: xr.Variable, values: np.ndarray[Any, np.dtype[np.float64]]) -> xr.Variable:
    attrs = {key: value for key, value in old.attrs.items() if key != "bounds"}
    if held_unit(old) is not None:
        attrs["units"] = str(held_unit(old))
    dtype = old.dtype if np.issubdtype(old.dtype, np.floating) else np.dtype(np.float64)
    return xr.Variable(old.dims, values.astype(dtype), attrs)


def _blank(variable: xr.Variable, sizes: Mapping[Any, int]) -> xr.Variable:
    """Return a variable of other sizes, of the same type and attributes, that takes no memory."""
    shape = tuple(sizes[dim] for dim in variable.dims)
    data: Any = np.broadcast_to(np.zeros((), dtype=variable.dtype), shape)
    if (unit := held_unit(variable)) is not None:
        data = quantity(data, unit)
    return xr.Variable(variable.dims, data, variable.attrs, variable.encoding)


def _layout(
    proto: xr.Dataset, spec: Spec, channels: Sequence[int], here: Cover | None, what: str
) -> Layout:
    taken = sorted(channels)
    grid = spec.grid if here is None else here.grid
    part = replace(spec, channels=tuple(spec.channels[n] for n in taken), grid=grid)
    try:
        frame = frame_of(proto, part)
    except MismatchError as error:
        raise MismatchError(error.problems, what) from None
    return Layout(frame, tuple(taken), here)
