"""Cases of dask arrays: one axis of them becomes one of starts and one of leads."""

from __future__ import annotations

import importlib
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["taken"]

Chunks = tuple[int, ...]


def taken(
    variable: xr.Variable, dim: str, positions: NDArray[np.intp], chunks: tuple[Chunks, Chunks]
) -> xr.Variable:
    """Take positions of a dask array, in the chunks of the array that it is to stand beside.

    To take all cases and reshape them would need whole rows of leads at once; here each chunk is
    taken by itself.

    Parameters
    ----------
    variable : Variable
        Of a dask array.
    dim : str
        What `positions` count along.
    positions : array of int, shape (starts, leads)
    chunks : (tuple of int, tuple of int)
        Of starts and of leads.

    Returns
    -------
    Variable
        Dimensions ``start`` and ``lead``, then those of `variable` without `dim`.
    """
    # dask is optional, and here by now: the variable is made of its arrays.
    arrays = importlib.import_module("dask.array")
    graphs = importlib.import_module("dask.highlevelgraph")
    base = importlib.import_module("dask.base")
    rows, columns = (np.cumsum((0, *c)) for c in chunks)
    blocks = list(product(range(len(chunks[0])), range(len(chunks[1]))))
    order = [positions[rows[i] : rows[i + 1], columns[j] : columns[j + 1]] for i, j in blocks]
    first = variable.transpose(dim, ...)
    flat = first.isel({dim: np.concatenate([block.ravel() for block in order])}).data
    flat = flat.rechunk({0: tuple(block.size for block in order)})
    name = f"cases-{base.tokenize(flat.name, chunks)}"
    rest = list(product(*(range(n) for n in flat.numblocks[1:])))
    layer: dict[Any, Any] = {
        (name, i, j, *k): (_unfolded, (flat.name, n, *k), order[n].shape)
        for n, (i, j) in enumerate(blocks)
        for k in rest
    }
    graph = graphs.HighLevelGraph.from_collections(name, layer, dependencies=[flat])
    data = arrays.Array(graph, name, (*chunks, *flat.chunks[1:]), dtype=flat.dtype)
    return xr.Variable(("start", "lead", *first.dims[1:]), data)


def _unfolded(block: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    return block.reshape(*shape, *block.shape[1:])
