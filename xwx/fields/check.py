"""Every mismatch between a Dataset and a model, at once, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields.clock import (
    calendar_problems,
    nat_problems,
    order_problems,
    start_problems,
    step_problems,
    windows,
)
from xwx.fields.load import value_problems
from xwx.fields.plausible import Learned, Sample, implausible
from xwx.fields.survey import Survey, survey
from xwx.spec import Spec

__all__ = ["Report", "check"]


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    Attributes
    ----------
    problems : tuple of Problem
        Empty if the Dataset fits.
    what : str
        What it was checked for.
    """

    problems: tuple[Problem, ...]
    what: str = "the model"

    @property
    def ok(self) -> bool:
        """Whether the Dataset fits."""
        return not self.problems

    def raise_if_bad(self) -> None:
        """Raise a :class:`~xwx.errors.MismatchError` with all problems, if there are any."""
        if self.problems:
            raise MismatchError(self.problems, self.what)

    def __str__(self) -> str:
        if self.ok:
            return f"the Dataset fits {self.what}"
        return str(MismatchError(self.problems, self.what))

    def __repr__(self) -> str:
        return f"<xwx.Report: {self}>" if self.ok else f"<xwx.Report>\n{self}"

    def _repr_html_(self) -> str:
        head = escape(str(self).splitlines()[0])
        rows = "".join(
            f"<tr><td><b>{escape(p.where)}</b></td><td>{escape(p.message)}</td>"
            f"<td><code>{escape(p.remedy)}</code></td></tr>"
            for p in self.problems
        )
        if not rows:
            return f"<div>{head}</div>"
        titles = "<tr><th>where</th><th>what</th><th>remedy</th></tr>"
        return f"<div>{head}<table>{titles}{rows}</table></div>"


def check(
    ds: xr.Dataset,
    spec: Spec,
    *,
    positions: Sequence[int] | None = None,
    values: bool = True,
    learned: Learned | None = None,
    what: str = "the model",
) -> Report:
    """List every mismatch between a Dataset and what a model needs.

    Parameters
    ----------
    ds : Dataset
    spec : Spec
    positions : sequence of int, optional
        Time positions at which forecasts start, by default the last one. With one start that is
        the last time, the step of the whole time axis is checked; otherwise that of the history
        before each start.
    values : bool
        Whether to read the values at the starts and look for NaN.
    learned : Learned, optional
        What the model has seen: values that are far from it, as those of another unit are, are a
        problem of their own. Of the first state that is read.
    what : str
        What the Dataset is meant for, for the first line of the report.

    Returns
    -------
    Report
        Never raises on a Dataset, however bad.

    Raises
    ------
    TypeError
        If `ds` is no Dataset.
    """
    seen = survey(ds, spec)
    size = seen.times_size(ds)
    last = size - 1
    starts = [last] if positions is None else [int(p) + size * (p < 0) for p in positions]
    problems = [*seen.problems]
    if size:
        problems += _time_problems(ds, spec, seen, starts)
        needed = {i for window in windows(starts, spec, size) for i in window}
        if values:
            first: list[Sample] = []
            problems += value_problems(ds, seen, sorted(needed), None if learned is None else first)
            problems += implausible(first, spec.channels, learned)
    return Report(tuple(problems), what)


def _time_problems(
    ds: xr.Dataset, spec: Spec, seen: Survey, starts: Sequence[int]
) -> list[Problem]:
    name = str(seen.names.time)
    dim = seen.time_dim or name
    times = np.atleast_1d(ds[name].values)
    problems = [
        *start_problems(starts, spec, times, name),
        *calendar_problems(times, spec, name),
    ]
    if nat_problems(times, name, dim):  # reported already; no order or step can be told
        return problems
    whole = list(starts) == [times.size - 1]
    problems += order_problems(times, name, dim)
    problems += step_problems(times, spec, name, dim, None if whole else starts)
    return problems
