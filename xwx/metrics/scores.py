"""Scores: each names the statistics it needs and makes its value of their means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr

from xwx.fields import conversion
from xwx.metrics import statistics as st
from xwx.metrics.means import Means

__all__ = [
    "ACC",
    "CRPS",
    "EECRPS",
    "NRMSE",
    "SEEPS",
    "SSR",
    "Brier",
    "EnergyScore",
    "Metric",
    "RankHistogram",
    "Simple",
    "Subject",
    "ThresholdCRPS",
]

AnyStatistic = st.Statistic | st.FieldStatistic


@dataclass(frozen=True)
class Subject:
    """What a score is asked of.

    Attributes
    ----------
    name, units : str
        Of the variable.
    members : int
        The size of the ensemble; 0 for a single forecast.
    """

    name: str
    units: str
    members: int


class Metric:
    """A score.

    Attributes
    ----------
    label : str
        Its name along the dimension ``metric``.
    power : int
        The power of the variable's unit that it comes in; 0 for a pure number.
    members : int
        How many members it needs: 0 where a single forecast will do.
    needs : frozenset of str
        Further inputs: ``"climatology"``, ``"quantiles"``, ``"seeps"``.
    dimension : str or None
        A dimension of its own, beside the dimensions that all scores have.
    whole_fields : bool
        Whether it is of whole fields, and not of the points one by one.
    """

    label: str
    power: ClassVar[int] = 1
    members: ClassVar[int] = 0
    needs: ClassVar[frozenset[str]] = frozenset()
    dimension: ClassVar[str | None] = None

    @property
    def whole_fields(self) -> bool:
        """Whether it is of whole fields."""
        return False

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        raise NotImplementedError

    def value(self, means: Means) -> xr.DataArray:
        """Return the score, made of the means of the statistics."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Return what makes the score again."""
        return {"metric": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


def _root(value: xr.DataArray) -> xr.DataArray:
    return value.clip(min=0.0) ** 0.5


_FORMULAS: Mapping[str, tuple[tuple[str, ...], Callable[[Means], xr.DataArray], int, int]] = {
    # label: statistics, formula, power of the unit, members
    "bias": (("error",), lambda m: m["error"], 1, 0),
    "mae": (("absolute_error",), lambda m: m["absolute_error"], 1, 0),
    "mse": (("squared_error",), lambda m: m["squared_error"], 2, 0),
    "rmse": (("squared_error",), lambda m: _root(m["squared_error"]), 1, 0),
    "skill": (("squared_error",), lambda m: _root(m["squared_error"]), 1, 2),
    "spread": (("variance",), lambda m: _root(m["variance"]), 1, 2),
}


@dataclass(frozen=True)
class Simple(Metric):
    """A score without parameters: ``bias``, ``mae``, ``mse``, ``rmse``, ``skill``, ``spread``."""

    label: str

    @property
    def power(self) -> int:  # type: ignore[override]
        """The power of the variable's unit."""
        return _FORMULAS[self.label][2]

    @property
    def members(self) -> int:  # type: ignore[override]
        """How many members it needs."""
        return _FORMULAS[self.label][3]

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return tuple(map(st.point, _FORMULAS[self.label][0]))

    def value(self, means: Means) -> xr.DataArray:
        """Return the score."""
        return _FORMULAS[self.label][1](means)


@dataclass(frozen=True)
class ACC(Metric):
    r"""Anomaly correlation coefficient, of anomalies from the climatology of the valid time.

    .. math:: \frac{\overline{\hat x' x'}}{\sqrt{\overline{\hat x'^2}\;\overline{x'^2}}}

    Parameters
    ----------
    centred : bool
        Subtract the area mean from the anomalies of each case first, as the WMO does.

    Notes
    -----
    Covariance and variances are averaged over all starts before the ratio is taken. The tables of
    WeatherBench 2 average the correlations of single starts: ``convention="wb1"``.
    """

    centred: bool = False
    power = 0
    needs = frozenset({"climatology"})

    @property
    def label(self) -> str:  # type: ignore[override]
        """Its name."""
        return "acc_centred" if self.centred else "acc"

    @property
    def whole_fields(self) -> bool:
        """Whether it is of whole fields."""
        return self.centred

    @property
    def _keys(self) -> tuple[str, str, str]:
        keys = ("covariance", "squared_anomaly", "squared_true_anomaly")
        return tuple(f"centred_{k}" for k in keys) if self.centred else keys  # type: ignore[return-value]

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return (st.centred_moments(),) if self.centred else tuple(map(st.point, self._keys))

    def value(self, means: Means) -> xr.DataArray:
        """Return the correlation; NaN where an anomaly vanishes everywhere."""
        covariance, ours, theirs = (means[key] for key in self._keys)
        product = _root(ours) * _root(theirs)
        return covariance / product.where(product > 0)


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
        return _root(factor * variance / error.where(error > 0))


@dataclass(frozen=True)
class NRMSE(Metric):
    """RMSE over the standard deviation of the variable.

    Parameters
    ----------
    scale : mapping of str -> float or sequence of float, optional
        Standard deviations in the variables' units; one for each level, in their order. By
        default that of the truth over all that is scored: times, lead times and points.
    """

    scale: Mapping[str, Any] | None = field(default=None, hash=False)
    power = 0
    label = "nrmse"

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return tuple(map(st.point, ("squared_error", "truth", "squared_truth")))

    def value(self, means: Means) -> xr.DataArray:
        """Return the score."""
        error = _root(means["squared_error"])
        if self.scale is not None:
            return error / means.per_level(self.scale)
        variance = means.pooled("squared_truth") - means.pooled("truth") ** 2
        return error / _root(variance).where(variance > 0)


@dataclass(frozen=True)
class Brier(Metric):
    """Brier score of the event that a variable exceeds a threshold.

    The forecast probability is the share of the members above it; a single forecast says 0 or 1.

    Parameters
    ----------
    threshold : str or mapping of str -> str
        With its unit, ``"300 K"``; or one for each variable.
    """

    threshold: str | Mapping[str, str] = field(hash=False)
    power = 0

    def __post_init__(self) -> None:
        _check_threshold(self.threshold, "Brier")

    @property
    def label(self) -> str:  # type: ignore[override]
        """Its name."""
        return f"brier(> {_said(self.threshold)})"

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return (st.exceedance(_limit(self.threshold, subject, "Brier"), self.label),)

    def value(self, means: Means) -> xr.DataArray:
        """Return the score."""
        return means[self.label]


@dataclass(frozen=True)
class ThresholdCRPS(Metric):
    r"""Threshold-weighted CRPS: only what lies beyond a threshold counts.

    The fair CRPS of :math:`v(x) = \max(x, t)`, or :math:`\min(x, t)` for the lower tail.

    Parameters
    ----------
    threshold : str or mapping of str -> str
        With its unit, ``"300 K"``; or one for each variable.
    tail : {"upper", "lower"}

    References
    ----------
    Gneiting, T. and Ranjan, R. (2011), Comparing density forecasts using threshold- and
    quantile-weighted scoring rules, J. Bus. Econ. Stat. 29.
    """

    threshold: str | Mapping[str, str] = field(hash=False)
    tail: Literal["upper", "lower"] = "upper"
    members = 2

    def __post_init__(self) -> None:
        _check_threshold(self.threshold, "ThresholdCRPS")
        if self.tail not in ("upper", "lower"):
            raise ValueError(f'tail={self.tail!r}: give "upper" or "lower"')

    @property
    def label(self) -> str:  # type: ignore[override]
        """Its name."""
        return f"crps({'>' if self.tail == 'upper' else '<'} {_said(self.threshold)})"

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        limit = _limit(self.threshold, subject, "ThresholdCRPS")
        return (st.threshold_crps(limit, self.label, upper=self.tail == "upper"),)

    def value(self, means: Means) -> xr.DataArray:
        """Return the score."""
        return means[self.label]


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
class SEEPS(Metric):
    """Stable equitable error in probability space, for precipitation.

    Needs the climatology's variables ``{name}_seeps_dry_fraction`` and ``{name}_seeps_threshold``.
    Points where it is dry less than a tenth or more than 85 % of the time do not count.

    Parameters
    ----------
    dry : str
        Less than this is dry.

    References
    ----------
    Rodwell, M. J. et al. (2010), A new equitable score suitable for verifying precipitation in
    numerical weather prediction, Q. J. R. Meteorol. Soc. 136.
    """

    dry: str = "0.1 mm"
    label = "seeps"
    power = 0
    needs = frozenset({"seeps"})

    def statistics(self, subject: Subject) -> tuple[AnyStatistic, ...]:
        """Return the statistics that are to be summed for a variable."""
        return st.seeps(_limit(self.dry, subject, "SEEPS"))

    def value(self, means: Means) -> xr.DataArray:
        """Return the score."""
        share = means["seeps_points"]
        return means["seeps"] / share.where(share > 0)


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


def _check_threshold(threshold: Any, what: str) -> None:
    values = list(threshold.values()) if isinstance(threshold, Mapping) else [threshold]
    if not values or not all(isinstance(value, str) for value in values):
        raise TypeError(
            f'{what}({threshold!r}): give the threshold with its unit, such as "300 K", or a '
            'mapping of variables, such as {"t2m": "300 K"}'
        )


def _said(threshold: str | Mapping[str, str]) -> str:
    if isinstance(threshold, str):
        return threshold
    return ", ".join(f"{k} {v}" for k, v in threshold.items())


def _limit(threshold: str | Mapping[str, str], subject: Subject, what: str) -> float:
    """Return a threshold in the unit of a variable."""
    text = threshold if isinstance(threshold, str) else threshold.get(subject.name)
    if text is None:
        raise ValueError(
            f"{what}: there is no threshold for {subject.name!r}, only for {list(threshold)}; give "
            f"one, or verify without it: ds.drop_vars({subject.name!r})"
        )
    return conversion(text, subject.units, subject.name)
