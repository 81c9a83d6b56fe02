"""Statistics: what is summed over points and cases before any score is made of the sums.

A score such as the RMSE is no mean of anything, but a function of means: scores of parts cannot
be averaged, sums can. So each score names the statistics it needs, those are summed with their
weights, over however many files, regions and machines, and the score is made last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from xwx.metrics.arrays.case import Case
from xwx.metrics.arrays.efi import extreme_forecast_index
from xwx.metrics.arrays.energy import energy_score
from xwx.metrics.arrays.seeps import seeps_error

__all__ = [
    "CASES",
    "WEIGHT",
    "FieldStatistic",
    "Statistic",
    "centred_moments",
    "crps",
    "energy",
    "exceedance",
    "extreme_crps",
    "point",
    "rank",
    "seeps",
    "threshold_crps",
]

Floats = NDArray[np.float64]
#: The sum of the weights of the points, and the number of cases.
WEIGHT, CASES = "weight", "cases"


@dataclass(frozen=True)
class Statistic:
    """A number at every point, to be summed with the area weights.

    Attributes
    ----------
    key : str
        Two statistics of one key are the same.
    of : callable
        Case -> array, shape (P,).
    summary : frozenset of str
        The sums over members that `of` looks at.
    """

    key: str
    of: Callable[[Case], Floats]
    summary: frozenset[str] = frozenset()

    weight = WEIGHT


@dataclass(frozen=True)
class FieldStatistic:
    """Numbers of a whole field, in each region, to be summed over the cases.

    Sums over parts of a region do not make the sum of the region.

    Attributes
    ----------
    keys : tuple of str
    of : callable
        (Case, weights of shape (P,)) -> array, shape (keys,).
    summary : frozenset of str
    """

    keys: tuple[str, ...]
    of: Callable[[Case, Floats], Floats]
    summary: frozenset[str] = frozenset()

    weight = CASES


_MEAN = frozenset({"mean"})
_CRPS = frozenset({"absolute", "difference"})

_POINTS: Mapping[str, Statistic] = {
    s.key: s
    for s in (
        Statistic("error", lambda c: c.error, _MEAN),
        Statistic("absolute_error", lambda c: np.abs(c.error), _MEAN),
        Statistic("squared_error", lambda c: c.error**2, _MEAN),
        Statistic("truth", lambda c: np.asarray(c.truth, np.float64)),
        Statistic("squared_truth", lambda c: np.square(c.truth, dtype=np.float64)),
        Statistic("covariance", lambda c: c.anomaly * c.true_anomaly, _MEAN),
        Statistic("squared_anomaly", lambda c: c.anomaly**2, _MEAN),
        Statistic("squared_true_anomaly", lambda c: c.true_anomaly**2),
        Statistic("variance", lambda c: c.summary["variance"], frozenset({"variance"})),
    )
}


def point(key: str) -> Statistic:
    """Return one of the statistics without parameters."""
    return _POINTS[key]


def crps(*, fair: bool) -> Statistic:
    """Return the statistic of the CRPS of the members."""
    return Statistic("crps" if fair else "crps_ecdf", partial(Case.crps, fair=fair), _CRPS)


def threshold_crps(threshold: float, label: str, *, upper: bool) -> Statistic:
    """Return the statistic of the CRPS beyond a threshold."""

    def of(case: Case) -> Floats:
        return case.clipped(threshold, upper=upper).crps()

    return Statistic(label, of)


def exceedance(threshold: float, label: str) -> Statistic:
    """Return the statistic of the squared error of the probability to exceed a threshold."""

    def of(case: Case) -> Floats:
        event = case.exceeds(case.truth, threshold)
        return np.asarray((case.probability(threshold) - event) ** 2)

    return Statistic(label, of)


def rank(position: int) -> Statistic:
    """Return the share of truths at one place among the members; ties count for all their places.

    Parameters
    ----------
    position : int
        How many members lie below: 0 to M.
    """

    def of(case: Case) -> Floats:
        below, equal = case.summary["below"], case.summary["equal"]
        here = (below <= position) & (position <= below + equal)
        return np.where(np.isnan(below), np.nan, here / (equal + 1.0))

    return Statistic(f"rank_{position}", of, frozenset({"below", "equal"}))


def _centred(case: Case, weights: Floats) -> Floats:
    """Return covariance and variances of the anomalies about their own area means."""
    pair = np.stack([case.anomaly, case.true_anomaly])
    here = weights > 0
    pair, share = pair[:, here], weights[here] / weights.sum()
    pair = pair - (pair @ share)[:, None]
    ours, theirs = pair
    return np.array([share @ (a * b) for a, b in ((ours, theirs), (ours, ours), (theirs, theirs))])


def centred_moments() -> FieldStatistic:
    """Return the statistic of anomalies about their own area means."""
    keys = ("centred_covariance", "centred_squared_anomaly", "centred_squared_true_anomaly")
    return FieldStatistic(keys, _centred, _MEAN)


def _energy(case: Case, weights: Floats, *, fair: bool) -> Floats:
    here = weights > 0
    fields = (
        (case.forecast, case.truth) if here.all() else (case.forecast[:, here], case.truth[here])
    )
    return np.array([energy_score(*fields, weights[here], fair=fair).score])


def energy(*, fair: bool) -> FieldStatistic:
    """Return the statistic of the energy score of whole fields."""
    key = "energy_score" if fair else "energy_score_ecdf"
    return FieldStatistic((key,), partial(_energy, fair=fair))


def seeps(dry: float) -> tuple[Statistic, Statistic]:
    """Return the statistics of SEEPS: its error, and the points that count.

    Parameters
    ----------
    dry : float
        Less than this is dry, in the unit of the variable.
    """

    def errors(case: Case) -> Floats:
        fraction, threshold = case.further["dry_fraction"], case.further["threshold"]
        return seeps_error(case.central, case.truth, fraction, threshold, dry)

    def counted(case: Case) -> Floats:
        wrong = errors(case)
        missing = np.isnan(case.central) | np.isnan(case.truth)
        return np.where(missing, np.nan, np.where(np.isnan(wrong), 0.0, wrong))

    def points(case: Case) -> Floats:
        return np.where(np.isnan(case.error), np.nan, ~np.isnan(errors(case)))

    return (
        Statistic("seeps", counted, _MEAN),
        Statistic("seeps_points", points, _MEAN),
    )


def extreme_crps() -> Statistic:
    """Return the statistic of the CRPS weighted with the extreme forecast index."""

    def of(case: Case) -> Floats:
        quantiles, levels = case.further["quantiles"], case.further["quantile"]
        index = extreme_forecast_index(case.forecast, quantiles, levels)
        return np.asarray(np.abs(index) * case.crps())

    return Statistic("eecrps", of, _CRPS)
