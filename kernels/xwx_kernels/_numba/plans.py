"""Which rows meet which taps: the only place that knows what lies beyond the edges of a map."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xwx_kernels._numba.correlation import GROUP

__all__ = ["Plan", "plan_backward", "plan_forward"]

Table = NDArray[np.int64]


class Plan(NamedTuple):
    """How a map is swept row by row, with ``2 radius + 1`` packed rows at hand.

    Parameters
    ----------
    origins : array, shape (P, 2)
        The rows to pack, in order: row of the source, and which line of `columns`.
    until : array, shape (h,)
        How many of them are packed before a row of the result is computed.
    starts : array, shape (h + 1,)
        Where the terms of each row of the result begin.
    terms : array, shape (T, 3)
        Slot of the packed row, row of the kernel, whether it is seen turned by half a circle.
    pieces : array, shape (h,)
        2 where a row of the result has turned terms, so that its halves are apart, otherwise 1.
    columns : array, shape (2, w + 2 radius + GROUP - 1)
        Where a packed column is in the source, -1 for zeros: as it is, and turned. The last
        ``GROUP - 1`` let the last columns be computed as a group.
    """

    origins: Table
    until: Table
    starts: Table
    terms: Table
    pieces: Table
    columns: Table


@lru_cache(maxsize=64)
def plan_forward(height: int, width: int, radius: int, longitude: str, latitude: str) -> Plan:
    """Return the plan of ``y[i] = sum_d K[d] x[i + d]``: rows across the pole are packed turned."""
    margin = radius if latitude == "pole" else 0
    extended = range(-margin, height + margin)
    origins = [_across(row, height) for row in extended]
    slots = 2 * radius + 1
    terms = [
        [
            ((row + margin) % slots, row - here + radius, 0)
            for row in extended
            if abs(row - here) <= radius
        ]
        for here in range(height)
    ]
    until = [min(here + radius + margin + 1, len(extended)) for here in range(height)]
    return _tables(origins, until, terms, width, radius, longitude)


@lru_cache(maxsize=64)
def plan_backward(height: int, width: int, radius: int, longitude: str, latitude: str) -> Plan:
    """Return the plan of the adjoint: every extended row gives to the row that it was made from.

    The gradient of an extended row ``e`` is ``sum_i K[e - i] gy[i]``. Among the rows of the map
    none is nearer to ``i`` than those that ``e`` lies in or beyond, so ``i`` is at hand.
    """
    margin = radius if latitude == "pole" else 0
    slots = 2 * radius + 1
    terms: list[list[tuple[int, int, int]]] = [[] for _ in range(height)]
    for extended in range(-margin, height + margin):
        here, turned = _across(extended, height)
        for row in range(max(0, extended - radius), min(height, extended + radius + 1)):
            terms[here].append((row % slots, extended - row + radius, turned))
    until = [min(here + radius + 1, height) for here in range(height)]
    return _tables([(row, 0) for row in range(height)], until, terms, width, radius, longitude)


def _across(row: int, height: int) -> tuple[int, int]:
    """Return the row of the map that an extended row shows, and whether it is turned."""
    row %= 2 * height
    return (row, 0) if row < height else (2 * height - 1 - row, 1)


def _tables(
    origins: list[tuple[int, int]],
    until: list[int],
    terms: list[list[tuple[int, int, int]]],
    width: int,
    radius: int,
    longitude: str,
) -> Plan:
    extended = np.arange(-radius, width + radius + GROUP - 1)
    inside = (extended >= 0) & (extended < width)
    turned = (extended + width // 2) % width
    columns = np.stack([extended % width, turned])
    if longitude == "zero":
        columns[:, ~inside] = -1
    return Plan(
        origins=np.array(origins),
        until=np.array(until),
        starts=np.cumsum([0, *map(len, terms)]),
        terms=np.array([term for row in terms for term in row]),
        pieces=np.array([1 + max(turned for *_, turned in row) for row in terms]),
        columns=columns,
    )
