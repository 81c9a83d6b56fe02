"""One forecast of one field beside its truth: every statistic of it, point by point.

A case is what is verified at one valid time on one level. What several statistics share (the
error, the anomalies, the sorted members) is made once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xwx.metrics.arrays.ensemble import summarise

__all__ = ["Case"]

Floats = NDArray[np.float64]


class Case:
    """A forecast and its truth.

    Parameters
    ----------
    forecast : array, shape (P,), or (M, P) for M members
    truth : array, shape (P,)
    further : mapping of str -> array
        What else is known at the points, shape (P,) or (n, P): ``"climatology"``, ``"quantiles"``,
        ``"dry_fraction"``, ``"threshold"``.
    summary : collection of str
        Which of the names of :func:`~xwx.metrics.arrays.ensemble.summarise` will be asked for.
    """

    def __init__(
        self,
        forecast: NDArray[Any],
        truth: NDArray[Any],
        further: Mapping[str, NDArray[Any]],
        summary: Collection[str] = (),
    ) -> None:
        self.forecast, self.truth, self.further = forecast, truth, further
        self._wanted = frozenset(summary)

    @property
    def members(self) -> int:
        """The number of members; 0 for a forecast without any."""
        return len(self.forecast) if self.forecast.ndim == 2 else 0

    @cached_property
    def summary(self) -> Mapping[str, Floats]:
        """Sums over the members, in one pass."""
        return summarise(self.forecast, self.truth, self._wanted)

    @cached_property
    def central(self) -> NDArray[Any]:
        """The forecast, or the mean of the members."""
        return self.summary["mean"] if self.members else self.forecast

    @cached_property
    def error(self) -> Floats:
        """Forecast minus truth, in float64."""
        return np.asarray(np.subtract(self.central, self.truth, dtype=np.float64))

    @cached_property
    def anomaly(self) -> Floats:
        """Forecast minus climatology."""
        return np.asarray(np.subtract(self.central, self.further["climatology"], dtype=np.float64))

    @cached_property
    def true_anomaly(self) -> Floats:
        """Truth minus climatology."""
        return np.asarray(np.subtract(self.truth, self.further["climatology"], dtype=np.float64))

    def crps(self, *, fair: bool = True) -> Floats:
        """Return the continuous ranked probability score of the members."""
        count = self.members
        if not fair and count < 2:
            return self.summary["absolute"] if count else np.abs(self.error)
        share = 0.5 if fair else 0.5 * (count - 1) / count
        return np.asarray(self.summary["absolute"] - share * self.summary["difference"])

    def clipped(self, threshold: float, *, upper: bool) -> Case:
        """Return the case with everything on the other side of a threshold set to it."""
        clip = np.maximum if upper else np.minimum
        limit = self.forecast.dtype.type(threshold)
        return Case(
            clip(self.forecast, limit),
            clip(self.truth, self.truth.dtype.type(threshold)),
            {},
            ("absolute", "difference"),
        )

    def probability(self, threshold: float) -> Floats:
        """Return the share of members above a threshold; 0 or 1 for a single forecast."""
        above = self.exceeds(self.forecast, threshold)
        return above.mean(axis=0) if self.members else above

    @staticmethod
    def exceeds(values: NDArray[Any], threshold: float) -> Floats:
        """Return 1 where values lie above a threshold, 0 elsewhere, NaN where there is none."""
        return np.where(np.isnan(values), np.nan, values > threshold)
