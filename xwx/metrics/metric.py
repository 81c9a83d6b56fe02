"""What a score is: the statistics it needs, and its value made of their means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import xarray as xr

from xwx.metrics.means import Means
from xwx.metrics.statistics import FieldStatistic, Statistic

__all__ = ["AnyStatistic", "Metric", "Subject", "root"]


AnyStatistic = Statistic | FieldStatistic


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


def root(value: xr.DataArray) -> xr.DataArray:
    """Return the square root; what is negative by rounding counts as zero."""
    return value.clip(min=0.0) ** 0.5
