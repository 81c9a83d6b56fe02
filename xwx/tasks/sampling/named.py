"""Variables under the names and with the attributes of the table, without values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xwx.fields import find_coordinates, requantify
from xwx.fields.coordinates import level_pascals
from xwx.fields.locate import measure_of
from xwx.fields.profile import Profile
from xwx.fields.variables import Variable

__all__ = ["Named", "measured", "with_named"]

_LEVEL = {"units": "hPa", "standard_name": "air_pressure", "positive": "down"}
_LEVELS = ("level", "pressure_level", "plev", "model_pressure")


@dataclass(frozen=True)
class Named:
    """A variable by its name in the table, in canonical units or others."""

    entry: Variable
    levels: tuple[float | None, ...]
    standard_name: str = ""
    units: str = ""

    @property
    def attrs(self) -> dict[str, str]:
        return {
            "standard_name": self.standard_name or self.entry.standard_names[0],
            "units": self.units or self.entry.units,
        }

    @property
    def layered(self) -> bool:
        return self.levels != (None,)


def measured(found: Profile, entry: Variable) -> tuple[str, str]:
    """Return the standard_name and the units of a variable as it was found."""
    measure = measure_of(found, entry)
    also = entry.also
    other = also is not None and measure is not None and measure[0] == also.units
    standard = also.standard_names[0] if also is not None and other else entry.standard_names[0]
    return standard, str(found.units)


def with_named(
    proto: xr.Dataset, named: Sequence[Named], order: Sequence[Any], *, quantified: bool
) -> xr.Dataset:
    """Add variables of the table to a prototype, their dimensions in the order of its own."""
    if not named:
        return proto
    levels = sorted({level for v in named for level in v.levels if level is not None})
    dim = None
    if levels:
        proto, dim = _with_levels(proto, levels)
    names = find_coordinates(proto)
    plane = [str(proto[n].dims[0]) for n in (names.latitude, names.longitude)]
    time = next(iter(map(str, proto[names.time].dims)), None) if names.time else None
    kept = [d for d in map(str, order) if d in {*plane, time, dim}]
    kept += [d for d in (time, *plane) if d is not None and d not in kept]
    for variable in named:
        dims = [d for d in kept if d != dim or variable.layered]
        if variable.layered and dim is not None and dim not in dims:
            dims.insert(min(map(dims.index, plane)), dim)
        data = np.broadcast_to(np.float32(0), tuple(proto.sizes[d] for d in dims))
        new = xr.DataArray(data, dims=dims, attrs=variable.attrs)
        if quantified:
            new = requantify(new, variable.attrs["units"])
        proto = proto.assign({variable.entry.key: new.variable})
    return proto


def _with_levels(proto: xr.Dataset, pascals: Sequence[float]) -> tuple[xr.Dataset, str]:
    """Return a prototype with a dimension of these levels: its own where that holds them all."""
    name = find_coordinates(proto).vertical
    if name is not None and proto[name].ndim:
        held = level_pascals(proto.variables[name])
        if held is not None and all(np.isclose(held, p, rtol=1e-3).any() for p in pascals):
            return proto, str(proto[name].dims[0])
    free = next(n for n in _LEVELS if n not in proto.variables and n not in proto.dims)
    level = xr.Variable((free,), [p / 100 for p in pascals], _LEVEL)
    return proto.assign_coords({free: level}), free
