"""The log of a training run: one CSV row a validation."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from xwx.spec import Spec
from xwx.training.loss import HybridLoss
from xwx.training.settings import StageConfig

__all__ = ["Log", "forecast_row"]


def forecast_row(
    update: int, config: StageConfig, hybrid: HybridLoss, spec: Spec, ratios: Tensor
) -> dict[str, Any]:
    """Return what a validation of forecasts after `update` updates found.

    Parameters
    ----------
    update : int
    config : StageConfig
    hybrid : HybridLoss
    spec : Spec
    ratios : Tensor, shape (leads, C)
        Root-mean-square errors over those of persistence; the score is their mean.
    """
    row: dict[str, Any] = {
        "steps": config.steps(update - 1),
        "theta": float(hybrid.theta.detach()),
    }
    names = [channel.name for channel in spec.channels]
    for name in dict.fromkeys(names):
        own = [s for s, of in zip(hybrid.s.tolist(), names, strict=True) if of == name]
        row[f"s {name}"] = sum(own) / len(own)
    row["score"] = float(ratios.mean())
    hours = spec.step.total_seconds() / 3600
    for lead, line in zip(config.leads, ratios.tolist(), strict=True):
        for channel, ratio in zip(spec.channels, line, strict=True):
            row[f"ratio {channel} {lead * hours:g} h"] = ratio
    return row


class Log:
    """A CSV file whose first column is the number of updates made.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def clear(self) -> None:
        """Start afresh."""
        self.path.unlink(missing_ok=True)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row, after a header where there is none."""
        fresh = self._empty()
        names = list(row) if fresh else self._names()
        with self.path.open("a", newline="") as file:
            # A log that an earlier version began keeps its columns.
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def trim(self, update: int) -> None:
        """Drop the rows after `update`, and a row that was not written to its end."""
        if self._empty():
            return
        with self.path.open(newline="") as file:
            head, *rows = csv.reader(file)
        whole = [row for row in rows if len(row) == len(head) and int(row[0]) <= update]
        temporary = self.path.with_name(self.path.name + ".new")
        with temporary.open("w", newline="") as file:
            csv.writer(file).writerows([head, *whole])
        os.replace(temporary, self.path)

    def _names(self) -> list[str]:
        with self.path.open(newline="") as file:
            return next(csv.reader(file))

    def _empty(self) -> bool:
        return not self.path.exists() or not self.path.stat().st_size
