"""Fetch the values a model needs, and no others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import Problem
from xwx.fields.clock import show
from xwx.fields.frame import Field
from xwx.fields.plausible import Sample, units_of
from xwx.fields.survey import Survey
from xwx.fields.units import magnitudes, strip, unit_text

__all__ = ["Block", "Flaws", "blocks", "finite", "value_problems"]


@dataclass(frozen=True, eq=False)
class Block:
    """The values of one variable.

    Attributes
    ----------
    field : Field
    values : array, shape (time or 1, level, lat, lon)
        As in the Dataset: its units, its latitude order, its longitudes.
    times, levels : sequence of int
        Positions in `values` that are wanted.
    """

    field: Field
    values: NDArray[Any]
    times: Sequence[int]
    levels: Sequence[int]

    def slabs(self) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield (number of the time, channel, lat-lon view) of everything wanted."""
        static = self.values.shape[0] == 1
        for number, time in enumerate(self.times):
            for level, channel in zip(self.levels, self.field.channels, strict=True):
                yield number, channel, self.values[0 if static else time, level]


def blocks(ds: xr.Dataset, seen: Survey, positions: Sequence[int]) -> Iterator[Block]:
    """Yield the values of every field at the given time positions.

    In-memory arrays are viewed, never copied. Variables on disk are read one after the other;
    the dask arrays of all variables are computed together, the selection only.
    """
    axes = _Axes(
        str(seen.time_dim),
        str(ds[seen.names.latitude].dims[0]),
        str(ds[seen.names.longitude].dims[0]),
    )
    graphs = {}
    for field in seen.fields:
        if ds.variables[field.name].chunks is not None:
            chosen = axes.select(ds.variables[field.name], field, positions)
            dims = [f"{dim} of {field.name}" for dim in chosen.dims]
            graphs[field.name] = xr.Variable(dims, strip(chosen.data))
    computed = xr.Dataset(graphs).compute() if graphs else xr.Dataset()
    every = range(len(positions))
    for field in seen.fields:
        variable = ds.variables[field.name]
        if field.name in computed:
            values = axes.order(computed[field.name].values, field)
        # xarray has no public word for "already read"; a wrong guess would only be slower
        elif getattr(variable, "_in_memory", False):
            whole = axes.order(magnitudes(axes.squeeze(variable, field)), field)
            yield Block(field, whole, positions, field.levels)
            continue
        else:
            values = axes.order(magnitudes(axes.select(variable, field, positions)), field)
        yield Block(field, values, every, range(len(field.levels)))


@dataclass(frozen=True)
class _Axes:
    """The dimensions of the Dataset that become axes of the array."""

    time: str
    latitude: str
    longitude: str

    def kept(self, field: Field) -> list[str]:
        """Return the dimensions of a field, less those of length one that no axis stands for."""
        axes = {self.time, field.level_dim, self.latitude, self.longitude}
        return [dim for dim in field.dims if dim in axes]

    def squeeze(self, variable: xr.Variable, field: Field) -> xr.Variable:
        """Drop the further dimensions, all of length one."""
        return variable.isel(dict.fromkeys(set(field.dims) - set(self.kept(field)), 0))

    def select(self, variable: xr.Variable, field: Field, positions: Sequence[int]) -> xr.Variable:
        """Select the wanted times and levels; lazy stays lazy."""
        chosen = {self.time: _as_slice(positions), field.level_dim: _as_slice(field.levels)}
        return self.squeeze(variable, field).isel(
            {d: s for d, s in chosen.items() if d in field.dims}
        )

    def order(self, values: NDArray[Any], field: Field) -> NDArray[Any]:
        """View values as (time, level, lat, lon), axes that are lacking with length one."""
        kept = self.kept(field)
        wanted = (self.time, field.level_dim, self.latitude, self.longitude)
        values = values.transpose([kept.index(dim) for dim in wanted if dim in kept])
        missing = [axis for axis, dim in enumerate(wanted) if dim not in kept]
        return np.expand_dims(values, missing)


def _as_slice(positions: Sequence[int]) -> slice | list[int]:
    """Turn evenly spaced, ascending positions into a slice, which is read and viewed faster."""
    steps = set(np.diff(positions).tolist())
    if len(positions) == 1:
        return slice(positions[0], positions[0] + 1)
    if len(steps) == 1 and (step := steps.pop()) > 0:
        return slice(positions[0], positions[-1] + 1, step)
    return list(positions)


def finite(slab: NDArray[Any]) -> bool:
    """Whether all values are finite, without a temporary: NaN and infinity show in min and max."""
    low, high = np.minimum.reduce(slab, axis=None), np.maximum.reduce(slab, axis=None)
    return math.isfinite(low) and math.isfinite(high)


def value_problems(
    ds: xr.Dataset,
    seen: Survey,
    positions: Sequence[int],
    first: list[Sample] | None = None,
) -> list[Problem]:
    """Read the values and report those that are not finite.

    Parameters
    ----------
    ds : Dataset
    seen : Survey
        Of `ds`; its sound variables are read, the others are not.
    positions : sequence of int
        Time positions to read.
    first : list of Sample, optional
        Is given what the values at the first of them are like.
    """
    if not positions or not seen.fields:
        return []
    flaws = Flaws(positions)
    for block in blocks(ds, seen, positions):
        for number, channel, slab in block.slabs():
            if not finite(slab):
                flaws.add(block.field, channel, number, slab)
            if first is not None and number == 0:
                units = units_of(block.field)
                first.append(Sample.of(channel, block.field.name, units, slab))
    return flaws.problems(ds, seen)


class Flaws:
    """A count of the values that are not finite, for each channel.

    Parameters
    ----------
    positions : sequence of int
        The time positions looked at.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        self._positions = positions
        self._found: dict[int, _Flaw] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, field: Field, channel: int, number: int, slab: NDArray[Any]) -> None:
        """Count what is not finite in one slab of a channel, at one of the times."""
        flaw = self._found.setdefault(channel, _Flaw(field, channel, slab.size))
        flaw.nan += int(np.isnan(slab).sum())
        flaw.infinite += int(np.isinf(slab).sum())
        flaw.positions.append(self._positions[number])

    def problems(self, ds: xr.Dataset, seen: Survey) -> list[Problem]:
        """Say for each flawed channel how many of its values are not finite, and when."""
        times = np.atleast_1d(ds[seen.names.time].values)
        return [
            flaw.problem(ds, times if seen.time_dim in flaw.field.dims else None, self._positions)
            for _, flaw in sorted(self._found.items())
        ]


@dataclass
class _Flaw:
    """What is not finite in one channel."""

    field: Field
    channel: int
    size: int
    nan: int = 0
    infinite: int = 0
    positions: list[int] = dataclass_field(default_factory=list)

    def problem(
        self, ds: xr.Dataset, times: NDArray[Any] | None, positions: Sequence[int]
    ) -> Problem:
        field, where = self.field, self.field.name
        if field.level_dim is not None:
            index = field.levels[field.channels.index(self.channel)]
            level = ds.variables[field.vertical].isel({field.level_dim: slice(index, index + 1)})
            where += f" at {magnitudes(level).item():g} {unit_text(level)}"
        pairs = ((self.nan, "NaN"), (self.infinite, "infinite"))
        counts = " and ".join(f"{n} {word}" for n, word in pairs if n)
        when = "" if times is None else f", at {_listed(times[self.positions])}"
        return Problem(
            kind="nan",
            where=where,
            message=(
                f"{counts} of {self.size * len(positions)} values{when}; a model needs every value"
            ),
            remedy=(
                "use times or a source without gaps: a model of the whole globe cannot fill holes"
            ),
        )


def _listed(times: NDArray[Any]) -> str:
    more = f" and {len(times) - 3} more times" if len(times) > 3 else ""
    return ", ".join(map(show, times[:3])) + more
