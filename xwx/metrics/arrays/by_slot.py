"""Sums and quantiles of samples that belong to slots, such as the days of the year.

A slot is a place along one axis of the result; each sample along the first axis of the data belongs
to one slot, or to none (-1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Floats",
    "add_samples",
    "first_finite",
    "moving_sum",
    "quantiles",
    "rows",
    "slot_quantiles",
]

Floats = NDArray[np.float64]


def rows(*, spread: bool, skipna: bool) -> int:
    """Return how many sums :func:`add_samples` keeps."""
    return 1 + 2 * spread + skipna


def first_finite(samples: NDArray[np.generic]) -> Floats:
    """Return the first finite value of each point along the first axis; zero where there is none.

    Parameters
    ----------
    samples : ndarray, shape (samples, ...)

    Returns
    -------
    ndarray of float64, shape (...)
    """
    found = np.full(samples.shape[1:], np.nan)
    for sample in samples:
        lacking = ~np.isfinite(found)
        if not lacking.any():
            break
        found = np.where(lacking, sample, found)
    return np.where(np.isfinite(found), found, 0.0)


def add_samples(
    totals: Floats,
    samples: NDArray[np.generic],
    slots: Sequence[int] | NDArray[np.int64],
    reference: Floats | None,
    *,
    skipna: bool,
) -> None:
    """Add samples to the sums of their slots, in place and in float64.

    Parameters
    ----------
    totals : ndarray of float64, shape (rows, slots, ...)
        Sums of the values; with a `reference`, of the differences from it and of their squares;
        with `skipna`, the number of values that are not NaN.
    samples : ndarray, shape (samples, ...)
    slots : sequence of int
        Slot of each sample, -1 for none.
    reference : ndarray of float64, shape (...), optional
        A value near those of the samples: the variance of differences does not cancel.
    skipna : bool
        Leave out NaN, otherwise it propagates.
    """
    for sample, slot in zip(samples, slots, strict=True):
        if slot < 0:
            continue
        values = sample.astype(np.float64)
        valid = ~np.isnan(values) if skipna else None
        if valid is not None:
            totals[-1, slot] += valid
        totals[0, slot] += values if valid is None else np.where(valid, values, 0.0)
        if reference is not None:
            values -= reference
            if valid is not None:
                values = np.where(valid, values, 0.0)
            totals[1, slot] += values
            totals[2, slot] += values * values


def moving_sum(values: NDArray[Any], reach: int, axis: int) -> NDArray[Any]:
    """Sum over the neighbours within `reach` along an axis; sums at the two ends are incomplete.

    Differences of a running sum would be faster, but spread NaN and lose digits.
    """
    moved = np.moveaxis(values, axis, 0)
    out = moved.copy()
    for shift in range(1, reach + 1):
        out[shift:] += moved[:-shift]
        out[:-shift] += moved[shift:]
    return np.moveaxis(out, 0, axis)


def quantiles(samples: NDArray[np.generic], levels: Sequence[float]) -> Floats:
    r"""Return quantiles along the first axis, without NaN, interpolated linearly.

    The value at place :math:`q (n - 1)` of the :math:`n` sorted values. NumPy's ``nanquantile``
    gives the same, but loops over the points in Python.

    Parameters
    ----------
    samples : ndarray, shape (samples, ...)
    levels : sequence of float
        Within [0, 1].

    Returns
    -------
    ndarray of float64, shape (levels, ...)
        NaN where every sample is NaN.
    """
    if not len(samples):
        return np.full((len(levels), *samples.shape[1:]), np.nan)
    ordered = np.sort(samples, axis=0)  # NaN comes last
    last = np.maximum(np.count_nonzero(~np.isnan(ordered), axis=0) - 1, 0)
    out = np.empty((len(levels), *samples.shape[1:]))
    for level, found in zip(levels, out, strict=True):
        place = level * last
        below = np.floor(place).astype(np.intp)
        above = np.minimum(below + 1, last)
        low, high = (
            np.take_along_axis(ordered, at[np.newaxis], axis=0)[0].astype(np.float64)
            for at in (below, above)
        )
        found[...] = low + (high - low) * (place - below)
    return out


def slot_quantiles(
    samples: NDArray[np.generic],
    members: Sequence[NDArray[np.int64]],
    levels: Sequence[float],
    *,
    skipna: bool,
) -> Floats:
    """Return the quantiles of each slot.

    Parameters
    ----------
    samples : ndarray, shape (samples, ...)
    members : sequence of ndarray of int
        For each slot the positions of its samples.
    levels : sequence of float
        Within [0, 1].
    skipna : bool
        Leave out NaN, otherwise it propagates.

    Returns
    -------
    ndarray of float64, shape (levels, slots, ...)
        NaN for a slot without samples.
    """
    out = np.empty((len(levels), len(members), *samples.shape[1:]))
    for slot, positions in enumerate(members):
        chosen = samples[positions]
        found = quantiles(chosen, levels)
        out[:, slot] = found if skipna else np.where(np.isnan(chosen).any(axis=0), np.nan, found)
    return out
