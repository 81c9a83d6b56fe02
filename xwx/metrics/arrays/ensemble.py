"""What an ensemble and the truth say about each other at each point, in one pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xwx.metrics.arrays.sorting import compiled, sort_columns

__all__ = ["STATISTICS", "summarise"]

Array = NDArray[Any]

#: The names that :func:`summarise` knows.
STATISTICS = ("mean", "variance", "absolute", "difference", "below", "equal")

#: Bytes of members that are worked on at a time: they stay in the second cache of a core.
_BLOCK = 1 << 17

#: Points of a block: enough for the work to outweigh the call, and few enough for the cache.
_FEWEST, _MOST = 64, 4096


def summarise(members: Array, truth: Array, wanted: Collection[str]) -> dict[str, Array]:
    r"""Return statistics of an ensemble and the truth at each point.

    With members :math:`x_1 \dots x_M` and truth :math:`y`, they are

    - ``"mean"``: :math:`\bar x = \frac1M \sum_m x_m`
    - ``"variance"``: :math:`\frac1{M-1} \sum_m (x_m - \bar x)^2`, in two passes
    - ``"absolute"``: :math:`\frac1M \sum_m |x_m - y|`
    - ``"difference"``: :math:`\frac1{M(M-1)} \sum_{m,n} |x_m - x_n|`, over distinct members
    - ``"below"``: how many members are below the truth
    - ``"equal"``: how many members are equal to it

    The fair CRPS is ``absolute - difference / 2``; that of the empirical distribution is
    ``absolute - difference * (M - 1) / (2 * M)``.

    Parameters
    ----------
    members : ndarray, shape (M, P)
        Real numbers with any strides and of any byte order. Copied block by block, never as a
        whole; kept in float32 where that holds them, as float64 otherwise.
    truth : ndarray, shape (P,)
        In the unit of the members.
    wanted : collection of str
        Names out of :data:`STATISTICS`. Only what is named is computed.

    Returns
    -------
    dict of str to ndarray of float64, shape (P,)
        In the unit of the members; ``variance`` in its square; ``below`` and ``equal`` are counts.
        Sums and differences are taken in float64. NaN in any member or in the truth gives NaN in
        every statistic of the point. Infinite values give infinity or NaN, but are counted.
        With one member, ``variance`` and ``difference`` are NaN (0 / 0).

    Raises
    ------
    ValueError
        For a name that is not known, shapes that do not fit, no members, or no real numbers.

    Notes
    -----
    ``difference`` follows from the sorted members :math:`x_{(1)} \le \dots \le x_{(M)}`, paired
    from the outside in, so that no large numbers cancel:

    .. math:: \frac2{M(M-1)} \sum_{k \le M/2} (M + 1 - 2k) \, (x_{(M+1-k)} - x_{(k)})

    References
    ----------
    Ferro, C. A. T. (2014): Fair scores for ensemble forecasts. Quarterly Journal of the Royal
    Meteorological Society 140, 1917-1923.
    """
    _refuse(members, truth, wanted)
    known = np.array(truth, dtype=np.float64)
    out = {name: np.zeros(known.shape) for name in STATISTICS if name in wanted}
    missing = np.isnan(known)
    with np.errstate(invalid="ignore"):  # differences of infinities, and 0 / 0 of one member
        for part, block in _blocks(members):
            missing[part] |= np.isnan(block).any(axis=0)
            _fill(block, known[part], {name: values[part] for name, values in out.items()})
    for values in out.values():
        values[missing] = np.nan
    return out


def _refuse(members: Array, truth: Array, wanted: Collection[str]) -> None:
    """Raise for arguments that do not fit."""
    unknown = sorted(set(wanted) - set(STATISTICS))
    if unknown:
        raise ValueError(f"wanted: {unknown} not known; choose from {', '.join(STATISTICS)}")
    if members.ndim != 2 or not len(members) or truth.shape != members.shape[1:]:
        raise ValueError(
            f"members of shape {members.shape} and truth of shape {truth.shape}: "
            "give (M, P) with at least one member, and (P,)"
        )
    if members.dtype.kind not in "fiub":
        raise ValueError(f"members of type {members.dtype}: give real numbers")


def _blocks(members: Array) -> Iterator[tuple[slice, Array]]:
    """Yield parts of the points with a copy of their members, which may be overwritten."""
    count, points = members.shape
    dtype = np.float32 if np.can_cast(members.dtype, np.float32) else np.float64
    width = _BLOCK // (count * np.dtype(dtype).itemsize)
    width = min(max(width, _FEWEST), _MOST)
    scratch = np.empty(count * min(width, points), dtype)
    for start in range(0, points, width):
        part = slice(start, min(start + width, points))
        block = scratch[: count * (part.stop - start)].reshape(count, -1)
        block[...] = members[:, part]
        yield part, block


def _fill(block: Array, truth: Array, out: Mapping[str, Array]) -> None:
    """Compute what has a place in `out`, which holds zeros. Sorting comes last: it overwrites."""
    count = np.float64(len(block))
    if "absolute" in out:
        _add_distances(block, truth, out["absolute"])
        out["absolute"][:] /= count
    if "mean" in out or "variance" in out:
        mean = out["mean"] if "mean" in out else np.zeros(truth.shape)
        _add_values(block, mean)
        mean /= count
        if "variance" in out:
            _add_squares(block, mean, out["variance"])
            out["variance"][:] /= count - 1
    if "below" in out:
        _count_below(block, truth, out["below"])
    if "equal" in out:
        _count_equal(block, truth, out["equal"])
    if "difference" in out:
        sort_columns(block)
        _add_pairs(block, out["difference"])
        out["difference"][:] /= count * (count - 1) / 2


@compiled
def _add_distances(block: Array, truth: Array, out: Array) -> None:
    """Add the distance of every member from the truth."""
    for m in range(len(block)):
        row = block[m]
        for p in range(out.size):
            out[p] += abs(np.float64(row[p]) - truth[p])


@compiled
def _add_values(block: Array, out: Array) -> None:
    """Add every member."""
    for m in range(len(block)):
        row = block[m]
        for p in range(out.size):
            out[p] += np.float64(row[p])


@compiled
def _add_squares(block: Array, mean: Array, out: Array) -> None:
    """Add the square of every departure from the mean."""
    for m in range(len(block)):
        row = block[m]
        for p in range(out.size):
            departure = np.float64(row[p]) - mean[p]
            out[p] += departure * departure


@compiled
def _count_below(block: Array, truth: Array, out: Array) -> None:
    """Count the members below the truth."""
    for m in range(len(block)):
        row = block[m]
        for p in range(out.size):
            out[p] += 1.0 if np.float64(row[p]) < truth[p] else 0.0


@compiled
def _count_equal(block: Array, truth: Array, out: Array) -> None:
    """Count the members equal to the truth."""
    for m in range(len(block)):
        row = block[m]
        for p in range(out.size):
            out[p] += 1.0 if np.float64(row[p]) == truth[p] else 0.0


@compiled
def _add_pairs(block: Array, out: Array) -> None:
    """Add the distances of all pairs of members, each pair once, from sorted members."""
    last = len(block) - 1
    for m in range(len(block) // 2):
        lower = block[m]
        upper = block[last - m]
        for p in range(out.size):
            out[p] += (last - 2 * m) * (np.float64(upper[p]) - np.float64(lower[p]))
