"""Scores of single forecasts, or of the mean of the members: errors and anomalies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from xwx.metrics import statistics as st
from xwx.metrics.means import Means
from xwx.metrics.metric import AnyStatistic, Metric, Subject, root

__all__ = ["ACC", "NRMSE", "Simple"]


_FORMULAS: Mapping[str, tuple[tuple[str, ...], Callable[[Means], xr.DataArray], int, int]] = {
    # label: statistics, formula, power of the unit, members
    "bias": (("error",), lambda m: m["error"], 1, 0),
    "mae": (("absolute_error",), lambda m: m["absolute_error"], 1, 0),
    "mse": (("squared_error",), lambda m: m["squared_error"], 2, 0),
    "rmse": (("squared_error",), lambda m: root(m["squared_error"]), 1, 0),
    "skill": (("squared_error",), lambda m: root(m["squared_error"]), 1, 2),
    "spread": (("variance",), lambda m: root(m["variance"]), 1, 2),
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
        product = root(ours) * root(theirs)
        return covariance / product.where(product > 0)


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
        error = root(means["squared_error"])
        if self.scale is not None:
            return error / means.per_level(self.scale)
        variance = means.pooled("squared_truth") - means.pooled("truth") ** 2
        return error / root(variance).where(variance > 0)
