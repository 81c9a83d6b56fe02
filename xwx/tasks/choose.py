"""Which model a task runs with."""

from __future__ import annotations

import os
from collections.abc import Sequence

import xarray as xr

from xwx.errors import ModelNotFoundError
from xwx.fields import check
from xwx.models.checkpoint import Model
from xwx.models.registry import find_spec, load
from xwx.tasks.check import check_models

__all__ = ["choose_model"]


def choose_model(
    ds: xr.Dataset,
    model: str | os.PathLike[str] | Model | None,
    positions: Sequence[int] | None = None,
    device: str | None = None,
) -> Model:
    """Load a model that the Dataset fits.

    Parameters
    ----------
    ds : Dataset
    model : str, path-like, Model or None
        None takes the first of :func:`xwx.list_models` whose check passes.
    positions : sequence of int, optional
        Positions of the forecast starts; by default the last time.
    device : str, optional

    Raises
    ------
    ModelNotFoundError
        When none was named and none fits, with the reasons of each.
    MismatchError
        When one was named and the Dataset does not fit it.
    """
    if model is not None:
        spec = find_spec(model)
        name = model.name if isinstance(model, Model) else os.fspath(model)
        report = check(ds, spec, positions=positions, values=False)
        if not report.ok:  # now at leisure, with what only the values can tell
            check(ds, spec, positions=positions, what=name).raise_if_bad()
        return load(model, device=device)
    reports = check_models(ds, positions, values=False)
    for name, report in reports.items():
        if report.ok:
            return load(name, device=device)
    reasons = [
        "\n".join([f"{name}:", *(f"  {problem}" for problem in report.problems)])
        for name, report in reports.items()
    ]
    raise ModelNotFoundError(
        "no installed model fits the Dataset, and none was named:\n"
        + "\n".join(reasons or ["  none is installed"])
    )
