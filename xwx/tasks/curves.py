"""Curves: a picture of how a training run went, drawn from its logs."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["draw_curves"]

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class _Stage:
    """The log of a stage, behind `first` updates of those before it."""

    name: str
    first: int
    columns: Columns

    @property
    def updates(self) -> NDArray[np.float64]:
        return self.first + self.columns["update"]

    def by_lead(self) -> Columns:
        """Return the ratio to persistence at each lead time, the mean over channels."""
        found: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
        for name, values in self.columns.items():
            if name.startswith("ratio "):
                found[" ".join(name.split()[-2:])].append(values)
        return {lead: np.mean(values, axis=0) for lead, values in found.items()}


def draw_curves(folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Draw the stages of a run one after the other: scores, learning rate, theta, and s.

    Parameters
    ----------
    folder : path-like
        Of the run: with ``log.csv``, ``finetuning/log.csv``, or both.
    path : path-like, optional
        The picture, by default ``training.png`` in the folder.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        When there is no log.
    """
    target = Path(folder, "training.png") if path is None else Path(path)
    stages = _read(Path(folder))
    figure = Figure(figsize=(11, 7), layout="constrained")
    (scores, rates), (angle, spreads) = figure.subplots(2, 2)
    _draw_scores(scores, stages)
    for stage in stages:
        rates.plot(stage.updates, stage.columns["learning_rate"], "k.-")
        angle.plot(stage.updates, stage.columns["theta"], "k.-")
    rates.set(ylabel="learning rate", yscale="log", title="learning rate")
    angle.set(ylabel="theta [rad]", title="angle of the loss: 0 latitudes, π/2 variables")
    _draw_lines(spreads, stages, "s ")
    spreads.set(ylabel="s", title="log error by which the loss divides, mean over levels")
    for axes in (scores, rates, angle, spreads):
        axes.set_xlabel("update")
        axes.grid(alpha=0.3)
        for stage in stages[1:]:
            axes.axvline(stage.first, color="0.4", linestyle="--")
    figure.savefig(target, dpi=110)
    return target


def _read(folder: Path) -> list[_Stage]:
    stages: list[_Stage] = []
    first = 0
    for name, path in (
        ("pretraining", folder / "log.csv"),
        ("fine-tuning", folder / "finetuning" / "log.csv"),
    ):
        if path.is_file() and (columns := _columns(path)):
            stages.append(_Stage(name, first, columns))
            first += int(columns["update"][-1])
    if not stages:
        raise FileNotFoundError(f"{folder} holds no log.csv of a training run")
    return stages


def _columns(path: Path) -> Columns:
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    whole = [row for row in rows if len(row) == len(head)]  # a run may be writing the last one
    if not whole:
        return {}
    return dict(zip(head, np.array(whole, dtype=float).T, strict=True))


def _draw_scores(axes: Axes, stages: list[_Stage]) -> None:
    """Draw one colour a lead time, whatever stages score it."""
    leads = sorted({lead for stage in stages for lead in stage.by_lead()}, key=_hours)
    for n, lead in enumerate(leads):
        label: str | None = lead
        for stage in stages:
            if lead in stage.by_lead():
                ratios = stage.by_lead()[lead]
                axes.plot(stage.updates, ratios, ".-", color=f"C{n}", label=label)
                label = None
    axes.set(
        ylabel="RMSE over that of persistence", title=" | ".join(stage.name for stage in stages)
    )
    axes.legend(title="lead time", fontsize="small", ncols=2)


def _draw_lines(axes: Axes, stages: list[_Stage], prefix: str) -> None:
    names = [name for name in stages[0].columns if name.startswith(prefix)]
    for n, name in enumerate(names):
        label: str | None = name.removeprefix(prefix)
        for stage in stages:
            if name in stage.columns:
                axes.plot(stage.updates, stage.columns[name], ".-", color=f"C{n % 10}", label=label)
                label = None
    if names:
        axes.legend(fontsize="small", ncols=2)


def _hours(lead: str) -> float:
    return float(lead.split()[0])
