"""Scores of events: thresholds with units, and precipitation in categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import xarray as xr

from xwx.fields import conversion
from xwx.metrics import statistics as st
from xwx.metrics.means import Means
from xwx.metrics.metric import AnyStatistic, Metric, Subject

__all__ = ["SEEPS", "Brier", "ThresholdCRPS"]


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
