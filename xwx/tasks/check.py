"""Say whether a Dataset fits a model, with a remedy for every mismatch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import xarray as xr

from xwx.errors import Problem, XwxError
from xwx.fields import Report
from xwx.fields import check as check_spec
from xwx.models.checkpoint import Model
from xwx.models.registry import find_spec, list_models
from xwx.tasks.check_values import learned_of

__all__ = ["check", "check_models"]


def check(ds: xr.Dataset, model: str | os.PathLike[str] | Model | None = None) -> Report:
    """Report every mismatch between a Dataset and what a model needs.

    Parameters
    ----------
    ds : Dataset
        States of the atmosphere.
    model : str, path-like or Model, optional
        As for :func:`xwx.load`. By default any model that is installed will do.

    Returns
    -------
    Report
        ``.ok`` and ``.problems``. Without a model it is the report of the first that fits; if none
        does, it holds the problems with each, and `where` begins with the model's name.

    Raises
    ------
    ModelNotFoundError, CheckpointError
        If there is no such model; never because of the Dataset.
    """
    if model is not None:
        name = model.name if isinstance(model, Model) else os.fspath(model)
        return check_spec(ds, find_spec(model), learned=learned_of(model), what=name)
    reports = check_models(ds)
    for report in reports.values():
        if report.ok:
            return report
    problems = [
        replace(problem, where=f"{name}: {problem.where}")
        for name, report in reports.items()
        for problem in report.problems
    ]
    none = Problem("no-model", "xwx.models", "no model is installed", "pip install xarray-wx")
    return Report(tuple(problems) or (none,), "any installed model")


def check_models(
    ds: xr.Dataset, positions: Sequence[int] | None = None, *, values: bool = True
) -> dict[str, Report]:
    """Report for every model that is installed; one that cannot be read is a problem, not an error.

    Parameters
    ----------
    ds : Dataset
        States of the atmosphere.
    positions : sequence of int, optional
        Positions of the forecast starts; by default the last time.
    values : bool
        Whether to read the values at the starts, and look for NaN and for values that are far
        from all that the model has seen.

    Returns
    -------
    dict of str to Report
        In the order of :func:`xwx.list_models`.
    """
    return {name: _check_one(ds, name, positions, values) for name in list_models()}


def _check_one(ds: xr.Dataset, name: str, positions: Sequence[int] | None, values: bool) -> Report:
    try:
        spec = find_spec(name)
    except XwxError as error:
        remedy = "mend or uninstall the package that provides it"
        return Report((Problem("unusable-model", name, str(error), remedy),), name)
    learned = learned_of(name) if values else None
    return check_spec(ds, spec, positions=positions, values=values, learned=learned, what=name)
