"""SEEPS: an equitable score of precipitation in three categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xwx.metrics.arrays.by_slot import quantiles

__all__ = ["MASK", "seeps_error", "seeps_thresholds"]

#: Where it is dry less or more often than this, the score is not meaningful.
MASK = (0.1, 0.85)


def seeps_error(
    forecast: ArrayLike,
    truth: ArrayLike,
    dry_fraction: ArrayLike,
    threshold: ArrayLike,
    dry: float,
) -> NDArray[np.float64]:
    r"""Return the SEEPS of each point: 0 for the right category, 1 on average without skill.

    With :math:`p` the climatological probability of dry weather, rows for the category of the
    forecast (dry, light, heavy) and columns for that of the truth:

    .. math::
        \frac12 \begin{pmatrix}
        0 & \frac{1}{1-p} & \frac{4}{1-p} \\
        \frac1p & 0 & \frac{3}{1-p} \\
        \frac1p + \frac{3}{2+p} & \frac{3}{2+p} & 0
        \end{pmatrix}

    Dry is less than `dry`, heavy is `threshold` or more of what is not dry, light is between.

    Parameters
    ----------
    forecast, truth : array_like
        Amounts of precipitation in one unit.
    dry_fraction : array_like
        Climatological probability of less than `dry`, that is :math:`p`.
    threshold : array_like
        Amount from which precipitation is heavy, in the unit of the amounts.
    dry : float
        Amount from which it is not dry, in the unit of the amounts.

    Returns
    -------
    ndarray of float64
        Of the shape that the arguments broadcast to. NaN where an argument is NaN, and where
        `dry_fraction` is outside [0.1, 0.85].

    Raises
    ------
    ValueError
        If `dry` is not positive.

    References
    ----------
    Rodwell, Richardson, Hewson and Haiden (2010), A new equitable score suitable for verifying
    precipitation in numerical weather prediction, Q. J. R. Meteorol. Soc. 136, equation 15.
    """
    if not dry > 0:
        raise ValueError(f"dry={dry!r}: the least amount that is not dry is positive")
    p = np.asarray(dry_fraction, dtype=np.float64)
    heavy = np.asarray(threshold)
    p = np.where((p >= MASK[0]) & (p <= MASK[1]) & ~np.isnan(heavy), p, np.nan)
    f, o = np.asarray(forecast), np.asarray(truth)
    # ``scores.categorical.seeps`` gives the same, but needs labels and several times as long.
    misses = 0.5 / (1 - p), 1.5 / (1 - p)  # of wet, of heavy
    alarms = 0.5 / p, 1.5 / (2 + p)
    f_wet, o_wet = (_from(x, dry) for x in (f, o))
    f_heavy, o_heavy = (wet & (x >= heavy) for x, wet in ((f, f_wet), (o, o_wet)))
    error = (o_wet & ~f_wet) * misses[0] + (f_wet & ~o_wet) * alarms[0]
    error = error + (o_heavy & ~f_heavy) * misses[1] + (f_heavy & ~o_heavy) * alarms[1]
    return np.asarray(np.where(np.isnan(f) | np.isnan(o), np.nan, error), dtype=np.float64)


def _from(amount: NDArray[Any], least: float) -> NDArray[np.bool_]:
    """Whether amounts reach a bound, which is rounded as they are: 0.1 mm is 0.1 mm."""
    bound = amount.dtype.type(least) if np.issubdtype(amount.dtype, np.floating) else least
    return np.asarray(amount >= bound)


def seeps_thresholds(
    samples: NDArray[Any],
    members: Sequence[NDArray[np.int64]],
    dry: float,
    *,
    skipna: bool,
) -> NDArray[np.float64]:
    """Return how often it is dry, and the amount that light precipitation stays below.

    Light is to be twice as frequent as heavy: the amount is the 2/3 quantile of what is not dry.

    Parameters
    ----------
    samples : ndarray, shape (samples, ...)
        Amounts of precipitation.
    members : sequence of ndarray of int
        For each slot the positions of its samples.
    dry : float
        Amount from which it is not dry, in the unit of the samples.
    skipna : bool
        Leave out NaN, otherwise it propagates.

    Returns
    -------
    ndarray of float64, shape (2, slots, ...)
        The fraction and the amount; NaN for a slot without samples, and the amount where it is
        always dry.
    """
    out = np.full((2, len(members), *samples.shape[1:]), np.nan)
    for slot, positions in enumerate(members):
        chosen = samples[positions]
        wet, valid = _from(chosen, dry), ~np.isnan(chosen)
        count = valid.sum(axis=0) if skipna else np.where(valid.all(axis=0), len(chosen), 0)
        some = np.where(count > 0, count, np.nan)
        out[0, slot] = (valid & ~wet).sum(axis=0) / some
        heavy = quantiles(np.where(wet, chosen, np.nan), (2 / 3,))[0]
        out[1, slot] = np.where(count > 0, heavy, np.nan)
    return out
