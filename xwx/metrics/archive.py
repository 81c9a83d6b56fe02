"""Passes over an archive: block by block along time, or by points; lazy where it is dask.

xarray's own groupby rechunks or loads an archive without a further package; these passes hold one
block and the sums.
"""

from __future__ import annotations

import importlib
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields.units import held_unit, magnitudes, quantity, strip
from xwx.metrics.arrays.by_slot import Floats, add_samples, first_finite, moving_sum, rows
from xwx.metrics.slots import Slots

__all__ = ["by_points", "placed", "totals"]

#: Bytes that are read at a time from files opened without dask.
BLOCK = 2**26

#: (samples, points) -> (rows, slots, points)
OfPoints = Callable[[NDArray[Any]], Floats]


def totals(variable: xr.Variable, slots: Slots, *, spread: bool, skipna: bool) -> tuple[Any, Any]:
    """Sum the samples of each slot, and of its neighbours in the window.

    Parameters
    ----------
    variable : Variable
        Along time and any other dimensions, in any order.
    slots : Slots
    spread : bool
        Whether the sums for a standard deviation are wanted.
    skipna : bool
        Leave out NaN.

    Returns
    -------
    sums : array of float64, shape (rows, days, hours, ...), numpy or dask
        As :func:`add_samples` says; of differences from one value of each point.
    count : array, shape (days, hours, ...) or with ones
        Number of samples.
    """
    summed = _graph if variable.chunks is not None else _loop
    sums = _windowed(summed(variable, slots, spread, skipna), slots.reach)
    if skipna:
        sums, count = sums[:-1], sums[-1]
    else:
        counted = np.bincount(slots.of[slots.of >= 0], minlength=math.prod(slots.shape))
        count = _windowed(counted.reshape(1, *slots.shape), slots.reach)[0]
        count = count.reshape(*slots.shape, *[1] * (sums.ndim - 3))
    if not slots.leaps:
        return sums, count
    some = count[-1] > 0  # day 366, where it has no samples, is day 365
    last = np.where(some, sums[:, -1], sums[:, -2])
    sums = np.concatenate([sums[:, :-1], last[:, np.newaxis]], axis=1)
    last = np.where(some, count[-1], count[-2])
    return sums, np.concatenate([count[:-1], last[np.newaxis]])


def placed(
    variable: xr.Variable, slots: Slots, values: Any, *, before: Sequence[str] = (), **attrs: Any
) -> xr.Variable:
    """Put values, shape (days, hours, ...), where `variable` has its time, in its type and unit.

    Their axes may come after others, whose names are given by `before`.
    """
    rest = [dim for dim in variable.dims if dim != slots.time]
    at = variable.dims.index(slots.time)
    dtype = variable.dtype if variable.dtype.kind == "f" else np.dtype(np.float64)
    unit = held_unit(variable)
    data = values.astype(dtype)
    out = xr.Variable(
        [*before, *slots.labels, *rest],
        data if unit is None else quantity(data, unit),
        {**variable.attrs, **attrs},
    )
    return out.transpose(*before, *rest[:at], *slots.labels, *rest[at:])


def by_points(variable: xr.Variable, function: OfPoints, count: int, slots: Slots) -> Any:
    """Apply a function that needs all the samples of a point at once.

    Parameters
    ----------
    variable : Variable
        Along time and any other dimensions, in any order.
    function : callable
        From samples, shape (time, ...), to float64 of shape (count, slots, ...).
    count : int
        Rows of the result.
    slots : Slots

    Returns
    -------
    array of float64, shape (count, days, hours, ...), numpy or dask
    """
    size = math.prod(slots.shape)
    if variable.chunks is not None:
        data = _time_first(variable, slots.time)
        data = data.rechunk({0: -1, **dict.fromkeys(range(1, data.ndim), "auto")})
        chunks = ((count,), (size,), *data.chunks[1:])
        made = data.map_blocks(
            function,
            chunks=chunks,
            new_axis=0,
            dtype=np.float64,
            meta=np.empty((0,) * (data.ndim + 1)),
        )
    else:
        shape = [n for dim, n in variable.sizes.items() if dim != slots.time]
        made = np.empty((count, size, *shape))
        for place in _places(variable, slots.time):
            inside = tuple(s for dim, s in place.items() if dim != slots.time)
            block = np.moveaxis(
                magnitudes(variable.isel(place)), variable.dims.index(slots.time), 0
            )
            made[(slice(None), slice(None), *inside)] = function(block)
    return made.reshape((count, *slots.shape, *made.shape[2:]))


def _time_first(variable: xr.Variable, time: str) -> Any:
    return strip(variable.transpose(time, ...).data)


def _places(variable: xr.Variable, time: str) -> Iterator[dict[Any, slice]]:
    """Yield blocks of points of about `BLOCK` bytes that hold all times."""
    itemsize, pieces = variable.dtype.itemsize, {}
    left = max(1, BLOCK // max(1, itemsize * variable.sizes[time]))
    for dim, size in reversed(variable.sizes.items()):
        step = size if dim == time else max(1, min(size, left))
        left = left if dim == time else max(1, left // max(1, size))
        pieces[dim] = [slice(a, min(a + step, size)) for a in range(0, size, max(1, step))]
    pieces = {dim: pieces[dim] for dim in variable.dims}
    for chosen in product(*pieces.values()):
        yield dict(zip(pieces, chosen, strict=True))


def _loop(variable: xr.Variable, slots: Slots, spread: bool, skipna: bool) -> Floats:
    """Sum what is in memory or in files, a block of times after the other."""
    shape = tuple(n for dim, n in variable.sizes.items() if dim != slots.time)
    sums = np.zeros((rows(spread=spread, skipna=skipna), math.prod(slots.shape), *shape))
    step = max(1, BLOCK // max(1, variable.dtype.itemsize * math.prod(shape)))
    stored = variable.encoding.get("preferred_chunks", {}).get(slots.time, 1)
    step = max(stored, step // stored * stored)  # no chunk of a file is read twice
    reference = None
    for start in range(0, len(slots.of), step):
        of = slots.of[start : start + step]
        if np.all(of < 0):
            continue
        part = variable.isel({slots.time: slice(start, start + step)}).transpose(slots.time, ...)
        block = magnitudes(part)
        if spread and reference is None:
            reference = first_finite(block[of >= 0])
        add_samples(sums, block, of, reference, skipna=skipna)
    return sums.reshape((len(sums), *slots.shape, *shape))


def _graph(variable: xr.Variable, slots: Slots, spread: bool, skipna: bool) -> Any:
    """Sum a dask array: each chunk is added to the days that it holds, then let go.

    The result is in blocks of about as many days as a chunk, so that an addition costs no more than
    the chunk, and at any time only the chunks of one block of days are wanted.
    """
    # dask is optional, and here by now: the variable is made of its arrays.
    arrays = importlib.import_module("dask.array")
    data = _time_first(variable, slots.time)
    starts = np.cumsum((0, *data.chunks[0]))
    of = {
        i: slots.of[a:b] for i, (a, b) in enumerate(pairwise(starts)) if np.any(slots.of[a:b] >= 0)
    }
    days, hours = slots.shape
    length = min(days, -(-max(map(len, of.values())) // hours))
    sizes = [min(length, days - first) for first in range(0, days, length)]
    pieces = _pieces(of, len(sizes), length * hours)
    count = rows(spread=spread, skipna=skipna)
    name = f"climatology-sums-{uuid.uuid4().hex}"
    graph: dict[Any, Any] = {}
    for space in product(*map(range, data.numblocks[1:])):
        shape = tuple(data.chunks[axis][i] for axis, i in enumerate(space, 1))
        refer = (f"reference-{name}", *space) if spread else None
        if refer:
            first = next(iter(of))
            graph[refer] = (partial(_reference, of=of[first]), (data.name, first, *space))
        for number, size in enumerate(sizes):
            fold = partial(_fold, shape=(count, size * hours, *shape), skipna=skipna)
            last: Any = None
            for i, inside in pieces[number]:
                key = (f"partial-{name}", i, number, *space)
                graph[key] = (fold, last, (data.name, i, *space), inside, refer)
                last = key
            finish = partial(_finished, shape=(count, size, hours, *shape))
            graph[name, 0, number, 0, *space] = (finish, last)
    layer = importlib.import_module("dask.highlevelgraph").HighLevelGraph.from_collections(
        name, graph, dependencies=[data]
    )
    chunks = ((count,), tuple(sizes), (hours,), *data.chunks[1:])
    return arrays.Array(layer, name, chunks, meta=np.empty((0,) * (data.ndim + 2)))


def _pieces(
    of: Mapping[int, NDArray[np.int64]], blocks: int, length: int
) -> list[list[tuple[int, NDArray[np.int64]]]]:
    """Return for each block of slots the chunks that it needs, with the slots within the block."""
    pieces: list[list[tuple[int, NDArray[np.int64]]]] = [[] for _ in range(blocks)]
    for i, slot in of.items():
        block, inside = np.divmod(slot, length)
        for number in np.unique(block[slot >= 0]):
            pieces[number].append((i, np.where(block == number, inside, -1)))
    return pieces


def _reference(chunk: NDArray[Any], of: NDArray[np.int64]) -> Floats:
    return first_finite(np.asarray(chunk)[of >= 0])


def _fold(
    before: Floats | None,
    chunk: NDArray[Any],
    of: NDArray[np.int64],
    reference: Floats | None,
    *,
    shape: tuple[int, ...],
    skipna: bool,
) -> Floats:
    """Add a chunk to a copy: what dask holds may be used again."""
    sums = np.zeros(shape) if before is None else before.copy()
    add_samples(sums, np.asarray(chunk), of, reference, skipna=skipna)
    return sums


def _finished(sums: Floats | None, *, shape: tuple[int, ...]) -> Floats:
    return np.zeros(shape) if sums is None else sums.reshape(shape)


def _windowed(sums: Any, reach: int) -> Any:
    """Sum over neighbouring days, the second axis; the year is a circle."""
    if not reach:
        return sums
    if isinstance(sums, np.ndarray):
        padded = np.pad(
            sums, [(reach, reach) if axis == 1 else (0, 0) for axis in range(sums.ndim)], "wrap"
        )
        return moving_sum(padded, reach, 1)[:, reach:-reach]
    return sums.map_overlap(
        partial(moving_sum, reach=reach, axis=1),
        depth={1: reach},
        boundary={1: "periodic"},
        dtype=np.float64,
        meta=np.empty((0,) * sums.ndim),
    )
