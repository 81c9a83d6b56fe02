"""One function over the blocks of several arrays, without a copy of any block.

``xarray.apply_ufunc`` does the same, but dask copies every block of a core dimension for it: of an
ensemble that is the whole of what a task holds, twice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["over_blocks"]

Floats = NDArray[np.float64]


def over_blocks(
    function: Callable[..., Floats],
    inputs: Sequence[tuple[xr.DataArray, Sequence[str]]],
    loops: Sequence[str],
    out: Mapping[str, int],
) -> xr.DataArray:
    """Apply a function to arrays; lazily if any of them is lazy.

    Parameters
    ----------
    function : callable
        Takes one numpy array for each input, (loops, core); those dimensions of the loops that
        an input does not have are of length one. Returns (loops, out).
    inputs : sequence of (DataArray, sequence of str)
        Each with its core dimensions.
    loops : sequence of str
        The further dimensions, in order.
    out : mapping of str -> int
        Dimensions that the function makes, and their sizes.

    Returns
    -------
    DataArray of float64
    """
    ordered = [
        array.variable.transpose(*(d for d in loops if d in array.dims), *core)
        for array, core in inputs
    ]
    has = [tuple(dim in array.dims for dim in loops) for array, _ in inputs]
    call = _Aligned(function, has)
    dims = (*loops, *out)
    if all(variable.chunks is None for variable in ordered):
        return xr.DataArray(call(*(variable.values for variable in ordered)), dims=dims)
    # dask is optional, and here by now: one of the arrays is its own.
    arrays = importlib.import_module("dask.array")
    pairs: list[Any] = []
    made = {dim for dim in out if not any(dim in core for _, core in inputs)}
    for variable, (_, core) in zip(ordered, inputs, strict=True):
        whole = variable.chunk(dict.fromkeys(core, -1))
        pairs += [whole.data, variable.dims]
    data = arrays.blockwise(
        call, dims, *pairs, new_axes={dim: out[dim] for dim in made}, dtype=np.float64,
        meta=np.empty((0,) * len(dims)),
    )  # fmt: skip
    return xr.DataArray(data, dims=dims)


class _Aligned:
    """Gives every block the same dimensions of the loops."""

    def __init__(self, function: Callable[..., Floats], has: Sequence[tuple[bool, ...]]) -> None:
        self.function, self.has = function, has

    def __call__(self, *blocks: Any) -> Floats:
        arrays = []
        for block, has in zip(blocks, self.has, strict=True):
            while isinstance(block, list):  # core dimensions, of a single chunk each
                (block,) = block
            missing = tuple(axis for axis, there in enumerate(has) if not there)
            arrays.append(np.expand_dims(block, missing))
        return self.function(*arrays)
