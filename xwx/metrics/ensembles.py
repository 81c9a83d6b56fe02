"""Scores of ensembles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from xwx.metrics import statistics as st
from xwx.metrics.means import Means
from xwx.metrics.metric import AnyStatistic, Metric, Subject, root

__all__ = ["CRPS", "EECRPS", "SSR", "EnergyScore", "RankHistogram"]


@dataclass(frozen=True)
class CRPS(Metric):
    r"""Continuous ranked probability score of an ensemble.

    .. math:: \overline{|x_m - y|} - \frac{1}{2 M (M - 1)} \sum_{m, n} |x_m - x_n|

    Parameters
    ----------
    fair : bool
        Score what the members are drawn from (the default, two members or more), or the members
        as they are: their empirical distribution, with :math:`M^2` in the place of
        :math:`M (M - 1)`.

    References
    ----------
    Ferro, C. A. T. (2014), Fair scores for ensemble forecasts, Q. J. R. Meteorol. Soc. 140.
    """

    fair: bool = True

    @property
    def label(self) -> str:  # type: ignore[override]
        """Its name."""
        return "crps" if self.fair else "crps_ecdf"

    @property
    def members(self) -> int:  # type: ignore[override]
        """How many members it needs."""
        return 2 if self.fair else 0

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return (st.crps(fair=self.fair),)

    def value(self, means: Means) -> xr.DataArray:
        """Return the score."""
        return means[self.label]


@dataclass(frozen=True)
class SSR(Metric):
    r"""Spread-skill ratio: 1 for an ensemble that its truth cannot be told from.

    Parameters
    ----------
    estimator : {"adjusted", "raw", "unbiased"}
        With the mean variance of the members :math:`s^2` (ddof 1) and the mean square error
        :math:`e^2` of their mean: :math:`\sqrt{(M + 1) / M}\, s / e`; or :math:`s / e`, which is
        too small for few members; or :math:`s / \sqrt{e^2 - s^2 / M}`, which takes the sampling
        error of the ensemble mean off the skill.

    References
    ----------
    Fortin, V. et al. (2014), Why should ensemble spread match the RMSE of the ensemble mean?,
    J. Hydrometeorol. 15.
    """

    estimator: Literal["adjusted", "raw", "unbiased"] = "adjusted"
    power = 0
    members = 2

    def __post_init__(self) -> None:
        if self.estimator not in ("adjusted", "raw", "unbiased"):
            raise ValueError(f'estimator={self.estimator!r}: give "adjusted", "raw" or "unbiased"')

    @property
    def label(self) -> str:  # type: ignore[override]
        """Its name."""
        return "ssr" if self.estimator == "adjusted" else f"ssr_{self.estimator}"

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return st.point("variance"), st.point("squared_error")

    def value(self, means: Means) -> xr.DataArray:
        """Return the ratio."""
        variance, error, count = means["variance"], means["squared_error"], means.members
        if self.estimator == "unbiased":
            error = error - variance / count
        factor = (count + 1) / count if self.estimator == "adjusted" else 1.0
        return root(factor * variance / error.where(error > 0))


@dataclass(frozen=True)
class EnergyScore(Metric):
    r"""Energy score of whole fields, with the area-weighted norm.

    .. math:: \overline{\|x_m - y\|} - \frac{1}{2 M (M - 1)} \sum_{m, n} \|x_m - x_n\|

    Parameters
    ----------
    fair : bool
        As for :class:`CRPS`.
    """

    fair: bool = True
    members = 2

    @property
    def label(self) -> str:  # type: ignore[override]
        """Its name."""
        return "energy_score" if self.fair else "energy_score_ecdf"

    @property
    def whole_fields(self) -> bool:
        """Whether it is of whole fields."""
        return True

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return (st.energy(fair=self.fair),)

    def value(self, means: Means) -> xr.DataArray:
        """Return the score."""
        return means[self.label]


@dataclass(frozen=True)
class RankHistogram(Metric):
    """Share of the truths that lie above 0, 1, ... M members: flat for a reliable ensemble.

    Has the dimension ``rank``. Where members equal the truth, all its possible places share it.
    """

    label = "rank_histogram"
    power = 0
    members = 1
    dimension = "rank"

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return tuple(st.rank(k) for k in range(subject.members + 1))

    def value(self, means: Means) -> xr.DataArray:
        """Return the shares along ``rank``."""
        ranks = xr.DataArray(np.arange(means.members + 1), dims="rank", name="rank")
        return xr.concat([means[f"rank_{k}"] for k in ranks.values], ranks)


@dataclass(frozen=True)
class EECRPS(Metric):
    """Fair CRPS weighted with the size of the extreme forecast index: extremes count most.

    The mean of ``|EFI| CRPS``; needs a climatology with the dimension ``quantile``.
    """

    label = "eecrps"
    members = 2
    needs = frozenset({"quantiles"})

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return (st.extreme_crps(),)

    def value(self, means: Means) -> xr.DataArray:
        """Return the score."""
        return means["eecrps"]
