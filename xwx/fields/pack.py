"""From a Dataset to the array a network takes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError
from xwx.fields.clock import nat_problems, order_problems
from xwx.fields.coordinates import is_reference, is_time
from xwx.fields.frame import Frame
from xwx.fields.load import Flaws, blocks, finite, value_problems
from xwx.fields.orient import Turn
from xwx.fields.survey import Survey, survey
from xwx.fields.units import Affine
from xwx.spec import Spec

__all__ = ["frame_of", "pack"]

#: Values copied and checked at a time: they stay in the cache between the two.
_BLOCK = 1 << 18


def pack(
    ds: xr.Dataset, spec: Spec, *, times: slice | Sequence[int] | None = None
) -> tuple[NDArray[np.float32], Frame]:
    """Pack the variables of a model into one array, in canonical units and orientation.

    Parameters
    ----------
    ds : Dataset
        In any layout: see the errors for what cannot be read without guessing.
    spec : Spec
        Channels and grid of the model.
    times : slice or sequence of int, optional
        Positions along the time dimension; all by default.

    Returns
    -------
    array : float32, shape (time, channel, lat, lon)
        C-contiguous; rows from north to south, columns eastwards from the grid's first. Where no
        unit changes the numbers are those of `ds` bit for bit; where one does, the arithmetic is
        in float64 and rounded once.
    frame : Frame
        The layout of `ds`, for :func:`~xwx.fields.unpack`.

    Raises
    ------
    MismatchError
        With all problems found: see :func:`~xwx.fields.check` for what they may be. The steps
        between times are not looked at here.
    TypeError
        If `ds` is no Dataset.
    IndexError
        If a position lies outside the time dimension.
    """
    seen = survey(ds, spec)
    positions = _positions(times, seen.times_size(ds))
    problems = list(seen.problems)
    if times is None and seen.names.time is not None:
        name, dim = seen.names.time, seen.time_dim or seen.names.time
        values = np.atleast_1d(ds[name].values)
        if not nat_problems(values, name, dim):
            problems += order_problems(values, name, dim)
    if problems:
        raise MismatchError([*problems, *value_problems(ds, seen, positions)])
    assert seen.rows is not None
    assert seen.columns is not None
    out = np.empty((len(positions), len(spec.channels), *spec.grid.shape), dtype=np.float32)
    flaws = Flaws(positions)
    for block in blocks(ds, seen, positions):
        for number, channel, slab in block.slabs():
            if not _fill(out[number, channel], slab, seen, block.field.conversion):
                flaws.add(block.field, channel, number, slab)
    if flaws:
        raise MismatchError(flaws.problems(ds, seen))
    return out, _frame(ds, spec, seen, positions)


def frame_of(ds: xr.Dataset, spec: Spec, *, times: slice | Sequence[int] | None = None) -> Frame:
    """Return the frame that :func:`pack` would, without reading a value.

    Raises
    ------
    MismatchError
        With the problems that the structure of `ds` shows.
    """
    seen = survey(ds, spec)
    if seen.problems:
        raise MismatchError(seen.problems)
    return _frame(ds, spec, seen, _positions(times, seen.times_size(ds)))


def _positions(times: slice | Sequence[int] | None, size: int) -> list[int]:
    if times is None:
        return list(range(size))
    if isinstance(times, slice):
        return list(range(size))[times]
    positions = [operator.index(t) for t in times]
    if outside := [t for t in positions if not -size <= t < size]:
        raise IndexError(f"time positions {outside} lie outside the {size} times of the Dataset")
    return [t % size for t in positions]


def _fill(
    out: NDArray[np.float32], slab: NDArray[Any], seen: Survey, conversion: Affine | None
) -> bool:
    """Copy one field into place; return whether all of it is finite."""
    assert seen.rows is not None
    assert seen.columns is not None
    rows, columns = out.shape
    ((_, upright),) = seen.rows.pieces(rows)
    slab = slab[upright]
    pieces = seen.columns.pieces(columns)
    height = max(1, _BLOCK // columns)
    good = True
    with np.errstate(over="ignore", invalid="ignore"):
        for top in range(0, rows, height):
            part = slice(top, top + height)
            for to, source in pieces:
                _copy(out[part, to], slab[part, source], conversion)
            good = good and finite(out[part])
    return good


def _copy(out: NDArray[np.float32], source: NDArray[Any], conversion: Affine | None) -> None:
    if conversion is None:
        np.copyto(out, source, casting="same_kind")
        return
    exact = np.multiply(source, conversion.scale, dtype=np.float64)
    exact += conversion.offset
    np.copyto(out, exact, casting="same_kind")


def _frame(ds: xr.Dataset, spec: Spec, seen: Survey, positions: Sequence[int]) -> Frame:
    name = str(seen.names.time)
    chosen = ds[[field.name for field in seen.fields]]
    template = chosen.drop_vars(list(chosen.data_vars)).assign_coords({name: ds[name]})
    if seen.time_dim in template.dims:
        template = template.isel({seen.time_dim: list(positions)})
    return Frame(
        spec=spec,
        times=np.atleast_1d(ds[name].values)[list(positions)],
        time_dim=seen.time_dim or name,
        time_name=name,
        latitude_dim=str(ds[seen.names.latitude].dims[0]),
        longitude_dim=str(ds[seen.names.longitude].dims[0]),
        rows=seen.rows or Turn(),
        columns=seen.columns or Turn(),
        fields=seen.fields,
        template=template,
        shifts=_shifts(template, name),
    )


def _shifts(template: xr.Dataset, name: str) -> dict[str, Any]:
    """Return the distance of the time coordinates that run along with the valid time.

    A reference time does not run along, unless the dimension is named for it. Beside a scalar
    valid time only its equals do.
    """
    times = template[name]
    shifts = {}
    for key, other in template.coords.items():
        if key == name or other.dims != times.dims or not is_time(other.variable):
            continue
        if is_reference(other.variable) and key not in times.dims:
            continue
        steps = np.unique(np.atleast_1d(other.values - times.values))
        if steps.size == 1 and (times.ndim or not steps[0]):
            shifts[str(key)] = steps[0]
    return shifts
