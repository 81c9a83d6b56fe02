"""Many short columns sorted at once, by a network that compares whole rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["compiled", "network", "sort_columns"]

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

#: About where numpy.sort catches up: from 100 to 256 rows either wins, as the size will have it.
_MOST_ROWS = 256


def compiled(function: Function) -> Function:
    """Compile on first use, without the GIL, and keep the result on disk where that is possible."""
    try:
        fast: Function = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no directory for the cache can be written
        fast = numba.njit(**_OPTIONS)(function)
    return fast


@lru_cache(maxsize=32)
def network(rows: int) -> NDArray[np.intp]:
    """Return the comparators of Batcher's merge exchange, which sorts any number of rows.

    Parameters
    ----------
    rows : int
        How many rows are to be sorted.

    Returns
    -------
    ndarray of intp, shape (comparators, 2)
        Pairs of rows ``i < j``, in order: after each, row i has the lesser of the two values. The
        array is shared and cannot be written.

    References
    ----------
    Knuth, D. E.: The Art of Computer Programming, vol. 3, 2nd ed., section 5.2.2, algorithm M.
    """
    pairs: list[tuple[int, int]] = []
    half = 1 << max(rows - 1, 1).bit_length() - 1
    step = half
    while step:
        pairs += _exchanges(rows, step, step, 0)
        reach = half
        while reach != step:
            pairs += _exchanges(rows, step, reach - step, step)
            reach //= 2
        step //= 2
    comparators = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    comparators.flags.writeable = False
    return comparators


def _exchanges(rows: int, step: int, distance: int, bit: int) -> list[tuple[int, int]]:
    """Return the pairs of one round of algorithm M."""
    return [(i, i + distance) for i in range(rows - distance) if i & step == bit]


def sort_columns(block: NDArray[Any]) -> None:
    """Sort each column in place, upwards.

    Parameters
    ----------
    block : ndarray of float32 or float64, shape (rows, columns)
        C-contiguous and small enough for a cache of the processor. A column with NaN keeps its
        values, in no order of use.
    """
    if len(block) > _MOST_ROWS:
        block.sort(axis=0)
    else:
        _exchange(block, network(len(block)))


@compiled
def _exchange(block: NDArray[Any], comparators: NDArray[np.intp]) -> None:
    """Apply the comparators in turn; each is one pass over two rows, in vector instructions."""
    for n in range(len(comparators)):
        lower = block[comparators[n, 0]]
        upper = block[comparators[n, 1]]
        for p in range(lower.size):
            a = lower[p]
            b = upper[p]
            # Both ask the same question: a NaN changes places or stays, and is never lost.
            lower[p] = a if a < b else b
            upper[p] = b if a < b else a
