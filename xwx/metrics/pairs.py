"""Every case with its truth, block by block, however the arrays are held."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.metrics.sums import Recipe, sum_cases
from xwx.metrics.unfold import taken

__all__ = ["Gaps", "Pairing", "sum_pairs"]

Positions = NDArray[np.intp]
#: Values of a forecast in memory or on disk that are looked at together.
_BLOCK = 1 << 25
#: Times of a truth in memory that one task of a lazy forecast looks at; they are viewed.
_TIMES = 8


@dataclass(frozen=True, eq=False)
class Pairing:
    """An array, and which of its positions belongs to each case.

    Attributes
    ----------
    array : DataArray
    dim : str
        Its dimension of times, or of days of the year.
    positions : array of int, shape (starts, leads)
        Along `dim`; negative where there is none.
    """

    array: xr.DataArray
    dim: str
    positions: Positions

    def beside(self, forecast: xr.DataArray, dims: tuple[str, str]) -> xr.DataArray:
        """Return the array with the forecast's dimensions of starts and leads; lazy stays lazy."""
        if forecast.chunks is None and self.array.chunks is None:
            flat = np.maximum(self.positions, 0).ravel()
            found = self.array.isel({self.dim: xr.Variable("case", flat)}).variable
            axis = found.dims.index("case")
            shape = (*found.shape[:axis], *self.positions.shape, *found.shape[axis + 1 :])
            names = (*found.dims[:axis], *dims, *found.dims[axis + 1 :])
            return xr.DataArray(found.data.reshape(shape), dims=names)
        array = self.array
        if array.chunks is None:
            array = array.chunk({self.dim: _TIMES})  # or it would be copied as a whole
        sizes = dict(forecast.variable.chunksizes)
        cases = taken(array.variable, self.dim, np.maximum(self.positions, 0), _both(sizes, dims))
        out = xr.DataArray(cases.data, dims=(*dims, *cases.dims[2:]))
        return out.chunk({dim: sizes[dim] for dim in out.dims[2:] if dim in sizes})

    def part(self, starts: slice, leads: slice) -> Pairing:
        """Return the pairing of some of the cases."""
        return Pairing(self.array, self.dim, self.positions[starts, leads])


@dataclass(frozen=True, eq=False)
class Gaps:
    """Where another forecast of the same cases has no value: such points do not count in either.

    Attributes
    ----------
    array : DataArray
        The other forecast, with the dimensions of starts and leads.
    dims : (str, str)
        These.
    member_dim : str or None
    """

    array: xr.DataArray
    dims: tuple[str, str]
    member_dim: str | None

    @property
    def positions(self) -> Positions:
        """Not negative: the other forecast has all cases."""
        return np.zeros(tuple(self.array.sizes[dim] for dim in self.dims), dtype=np.intp)

    def beside(self, forecast: xr.DataArray, dims: tuple[str, str]) -> xr.DataArray:
        """Return NaN where a value is missing, else 0."""
        whole = self.array
        if self.member_dim is not None:
            whole = whole.sum(self.member_dim, skipna=False)
        return (whole * 0).drop_vars(list(whole.coords))

    def part(self, starts: slice, leads: slice) -> Gaps:
        """Return the gaps of some of the cases, read if they were in a file."""
        chosen = self.array.isel({self.dims[0]: starts, self.dims[1]: leads})
        return Gaps(chosen.compute(), self.dims, self.member_dim)


def _both(
    sizes: Mapping[Hashable, tuple[int, ...]], dims: tuple[str, str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return sizes[dims[0]], sizes[dims[1]]


def sum_pairs(
    recipe: Recipe,
    forecast: xr.DataArray,
    dims: tuple[str, str],
    truth: Pairing,
    weights: xr.DataArray,
    further: Sequence[Pairing | Gaps] = (),
    *,
    over_starts: bool = False,
) -> xr.DataArray:
    """Sum the statistics of every case; lazily if any of the arrays is.

    Parameters
    ----------
    recipe : Recipe
    forecast : DataArray
        With both dimensions `dims`, among others.
    dims : (str, str)
        Those of starts and of leads.
    truth : Pairing
    further : sequence of Pairing or Gaps
    weights : DataArray, (region, latitude, longitude)
    over_starts : bool
        Whether to sum over the starts as well, so that maps of many starts need no more memory
        than one.

    Returns
    -------
    DataArray
        See :func:`~xwx.metrics.sums.sum_cases`.
    """
    arrays = (forecast, truth.array, *(f.array for f in further))
    if any(array.chunks is not None for array in arrays):
        lazily = forecast if forecast.chunks is not None else forecast.chunk({dims[0]: 1})
        sums = _summed(recipe, lazily, dims, truth, weights, further)
        return sums.sum(dims[0]) if over_starts else sums
    rows: list[Any] = []
    for starts, blocks in _blocks(forecast, dims):
        parts = [
            _summed(
                recipe,
                forecast.isel({dims[0]: starts, dims[1]: leads}).compute(),
                dims,
                truth.part(starts, leads),
                weights,
                [f.part(starts, leads) for f in further],
            )
            for leads in blocks
        ]
        row = xr.concat(parts, dims[1]) if len(parts) > 1 else parts[0]
        row = row.sum(dims[0]) if over_starts else row
        rows = [rows[0] + row] if over_starts and rows else [*rows, row]
    whole: xr.DataArray = xr.concat(rows, dims[0]) if len(rows) > 1 else rows[0]
    return whole


def _summed(
    recipe: Recipe,
    forecast: xr.DataArray,
    dims: tuple[str, str],
    truth: Pairing,
    weights: xr.DataArray,
    further: Sequence[Pairing | Gaps],
) -> xr.DataArray:
    known = truth.positions >= 0
    for f in further:
        known &= f.positions >= 0
    scored: Any = xr.DataArray(known, dims=dims)
    if forecast.chunks is not None:
        scored = scored.chunk({dim: forecast.variable.chunksizes[dim] for dim in dims})
    bare = forecast.drop_vars(list(forecast.coords))
    beside = [p.beside(forecast, dims) for p in (truth, *further)]
    return sum_cases(recipe, bare, beside[0], weights, scored, beside[1:])


def _blocks(forecast: xr.DataArray, dims: tuple[str, str]) -> Iterator[tuple[slice, list[slice]]]:
    """Yield starts, one after the other or some together, with the blocks of their leads."""
    starts, leads = (forecast.sizes[dim] for dim in dims)
    one = max(1, forecast.size // max(1, starts * leads))
    few = max(1, _BLOCK // one)
    width = min(leads, few)
    depth = max(1, few // leads)
    spans = [slice(a, min(a + width, leads)) for a in range(0, leads, width)]
    for first in range(0, starts, depth):
        yield slice(first, min(first + depth, starts)), spans
