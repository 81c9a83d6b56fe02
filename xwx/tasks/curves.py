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

    @property
    def denoises(self) -> bool:
        return "theta" not in self.columns

    def ratios(self) -> Columns:
        """Return the ratios to what they are compared with, the mean over channels.

        By lead time, as ``"6 h"``, or by how noisy the frames were, as ``"0.5 noise"``.
        """
        found: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
        for name, values in self.columns.items():
            if name.startswith("ratio "):
                found[" ".join(name.split()[-2:])].append(values)
        return {lead: np.mean(values, axis=0) for lead, values in found.items()}


def draw_curves(folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Draw the stages of a run one after the other: scores, learning rate, and those of the loss.

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
    panels = list(figure.subplots(2, 2).flat)
    _draw_scores(panels[0], stages)
    _draw_column(panels[1], stages, "learning_rate", "learning rate", "learning rate")
    panels[1].set(yscale="log")
    if stages[0].denoises:
        _draw_column(panels[2], stages, "loss", "loss", "mean training loss since the last score")
        free = panels.pop()
        free.set_axis_off()
        free.legend(
            *panels[0].get_legend_handles_labels(), title="noise time", ncols=2, loc="center"
        )
    else:
        title = "angle of the loss: 0 latitudes, π/2 variables"
        _draw_column(panels[2], stages, "theta", "theta [rad]", title)
        _draw_lines(panels[3], stages, "s ")
        panels[3].set(ylabel="s", title="log error by which the loss divides, mean over levels")
    for axes in panels:
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
    """Draw one colour a lead time, or a noise, whatever stages score it."""
    names = sorted({name for stage in stages for name in stage.ratios()}, key=_number)
    for n, name in enumerate(names):
        label: str | None = name
        for stage in stages:
            if name in stage.ratios():
                ratios = stage.ratios()[name]
                axes.plot(stage.updates, ratios, ".-", color=f"C{n}", label=label)
                label = None
    blind = stages[0].denoises
    rival = "the best estimate cell by cell" if blind else "persistence"
    axes.set(ylabel=f"RMSE over that of\n{rival}", title=" | ".join(stage.name for stage in stages))
    if not blind:  # which has a panel for it
        axes.legend(title="lead time", fontsize="small", ncols=2)


def _draw_column(axes: Axes, stages: list[_Stage], name: str, label: str, title: str) -> None:
    for stage in stages:
        axes.plot(stage.updates, stage.columns[name], "k.-")
    axes.set(ylabel=label, title=title)


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


def _number(name: str) -> tuple[str, float]:
    number, unit = name.split()
    return unit, float(number)
