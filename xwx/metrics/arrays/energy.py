"""The energy score: the CRPS of whole fields."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["EnergyScore", "energy_score"]

Array = NDArray[Any]

#: Points whose members are held in float64 at a time.
_POINTS = 8192

#: Two members closer than this, in squares and relative to their distance from the centre, are
#: measured directly: an inner product would leave fewer than ten digits of their distance.
_CLOSE = 1e-4


class EnergyScore(NamedTuple):
    """An energy score and its two parts, in the unit of the field.

    Attributes
    ----------
    score : float
        The energy score.
    absolute : float
        Mean distance of a member from the truth.
    difference : float
        Mean distance of two distinct members; NaN with one member.
    """

    score: float
    absolute: float
    difference: float


def energy_score(members: Array, truth: Array, weights: Array, *, fair: bool = True) -> EnergyScore:
    r"""Return the energy score of an ensemble of fields.

    .. math::

        \mathrm{ES} = \frac1M \sum_m \|x_m - y\|
            - \frac1{2 M (M - 1)} \sum_{m,n} \|x_m - x_n\|,
        \qquad \|d\|^2 = \frac{\sum_p w_p d_p^2}{\sum_p w_p}

    which is fair: on average an ensemble drawn from the truth's distribution is best, whatever its
    size. With ``fair=False`` the second sum is over :math:`2 M^2`, as for the empirical
    distribution.

    Parameters
    ----------
    members : ndarray, shape (M, P)
        Ensemble members at points, any real type and strides.
    truth : ndarray, shape (P,)
        In the unit of the members.
    weights : ndarray, shape (P,)
        Area weight of each point, not negative, of any scale.
    fair : bool
        Whether the score is not to depend on the size of the ensemble.

    Returns
    -------
    EnergyScore
        The score, and the mean distances it is made of. NaN at any point, of any weight, gives a
        score of NaN; so does one member, unless `fair` is false.

    Raises
    ------
    ValueError
        For shapes that do not fit, no members, or weights that are negative, not finite or all 0.

    References
    ----------
    Gneiting, T. and Raftery, A. E. (2007): Strictly proper scoring rules, prediction, and
    estimation. Journal of the American Statistical Association 102, 359-378.
    """
    _refuse(members, truth, weights)
    count = len(members)
    share = np.asarray(weights, dtype=np.float64)
    share = share / share.sum()
    with np.errstate(invalid="ignore"):  # differences of infinities, and 0 / 0 of one member
        absolute = np.sqrt(_from_truth(members, truth, share)).mean()
        total = np.sqrt(_between(members, share)).sum()
        difference = np.float64(total) / (count * (count - 1))
        pairs = count * (count - 1) if fair else count * count
        score = absolute - np.float64(total) / (2 * pairs)
    return EnergyScore(float(score), float(absolute), float(difference))


def _refuse(members: Array, truth: Array, weights: Array) -> None:
    """Raise for arguments that do not fit."""
    shapes = members.shape, truth.shape, weights.shape
    if members.ndim != 2 or not len(members) or any(s != members.shape[1:] for s in shapes[1:]):
        raise ValueError(
            f"members, truth and weights of shapes {shapes}: "
            "give (M, P) with at least one member, (P,) and (P,)"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("weights: give finite numbers, none negative and not all 0")


def _parts(points: int) -> list[slice]:
    """Return the points in parts."""
    return [slice(start, start + _POINTS) for start in range(0, points, _POINTS)]


def _from_truth(members: Array, truth: Array, share: Array) -> Array:
    """Return the squared distance of each member from the truth, shape (M,)."""
    squares = np.zeros(len(members))
    for part in _parts(truth.size):
        apart = members[:, part].astype(np.float64) - truth[part]
        squares += (apart * apart) @ share[part]
    return squares


def _between(members: Array, share: Array) -> Array:
    """Return the squared distance of each member from each other one, shape (M, M).

    From inner products of departures from the ensemble mean, which is one product of matrices.
    Any centre would do; the mean keeps them as small as the spread.
    """
    count = len(members)
    gram = np.zeros((count, count))
    for part in _parts(share.size):
        apart = members[:, part].astype(np.float64)
        apart -= apart.mean(axis=0)
        apart *= np.sqrt(share[part])
        gram += apart @ apart.T
    own = np.diagonal(gram)
    both = own[:, None] + own
    squares = both - 2 * gram
    for m, n in np.argwhere(squares <= _CLOSE * both):
        if m < n:
            apart = members[m].astype(np.float64) - members[n]
            squares[m, n] = squares[n, m] = (apart * apart) @ share
    return squares
