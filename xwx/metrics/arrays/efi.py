"""The extreme forecast index: how far an ensemble is from the climate, tails counting most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["extreme_forecast_index"]

Floats = NDArray[np.float64]


def extreme_forecast_index(members: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Floats:
    r"""Compare an ensemble with the quantiles of the climate.

    .. math:: \mathrm{EFI} = \frac2\pi \int_0^1 \frac{p - F(p)}{\sqrt{p (1 - p)}} \, dp

    where :math:`F(p)` is the fraction of members below the climate's quantile of :math:`p`. It is
    known at the `levels`, and taken to be constant from midway to the level before to midway to
    the one after. The integral is then exact: with :math:`a(p) = \frac2\pi \arcsin\sqrt p` and
    midpoints :math:`b_i`

    .. math:: \mathrm{EFI} = 1 - 2 \Bigl(F_Q - \sum_{i=2}^{Q} a(b_i) (F_i - F_{i-1})\Bigr).

    Parameters
    ----------
    members : array_like, shape (M, P)
        The ensemble at P points.
    quantiles : array_like, shape (Q, P)
        Of the climate, in the units of the members, not decreasing along the first axis.
    levels : array_like, shape (Q,)
        Probabilities of the quantiles, strictly increasing within [0, 1].

    Returns
    -------
    array of float64, shape (P,)
        From -1 (every member below every quantile) to 1 (none below any); NaN where a member or a
        quantile is NaN.

    Raises
    ------
    ValueError
        For shapes that do not fit, and levels or quantiles out of order.

    Notes
    -----
    A member equal to a quantile is not below it. Where the climate has many equal values, such as
    days without rain, an ensemble like the climate has an index above zero.

    References
    ----------
    F. Lalaurette, 2003: Early detection of abnormal weather conditions using a probabilistic
    extreme forecast index. Q. J. R. Meteorol. Soc. 129, 3037-3057; in the form of E. Zsótér, 2006:
    Recent developments in extreme weather forecasting. ECMWF Newsletter 107, 8-17.
    """
    ensemble, climate = np.asarray(members), np.asarray(quantiles)
    at = np.asarray(levels, dtype=np.float64)
    _check(ensemble, climate, at)
    middles = 2.0 / np.pi * np.arcsin(np.sqrt((at[:-1] + at[1:]) / 2.0))
    below = _below(ensemble, climate[0])
    total = np.zeros(ensemble.shape[1])
    for middle, quantile in zip(middles, climate[1:], strict=True):
        now = _below(ensemble, quantile)
        total += middle * (now - below)
        below = now
    index = 1.0 - 2.0 * (below - total)
    missing = np.isnan(ensemble).any(axis=0) | np.isnan(climate).any(axis=0)
    return np.where(missing, np.nan, index)


def _below(ensemble: NDArray[Any], quantile: NDArray[Any]) -> Floats:
    """Return the fraction of members below a quantile."""
    fraction: Floats = (ensemble < quantile).mean(axis=0)
    return fraction


def _check(ensemble: NDArray[Any], climate: NDArray[Any], at: Floats) -> None:
    if ensemble.ndim != 2 or ensemble.shape[0] < 1:
        raise ValueError(f"members have shape {ensemble.shape}, need (members, points)")
    if at.ndim != 1 or at.size < 1 or climate.shape != (at.size, ensemble.shape[1]):
        raise ValueError(
            f"quantiles have shape {climate.shape}, need (levels, points) = "
            f"({at.size}, {ensemble.shape[1]})"
        )
    if not (np.all(np.diff(at) > 0) and at[0] >= 0 and at[-1] <= 1):
        raise ValueError(f"levels {at.tolist()} must increase strictly within [0, 1]")
    if np.any(climate[1:] < climate[:-1]):
        raise ValueError("quantiles decrease along their first axis: sort them with the levels")
