"""Errors of a network on an archive, beside those of persistence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xwx.models.rollout import rollout
from xwx.training.data import Archive, Batch
from xwx.training.distributed import ALONE, Processes

__all__ = ["Errors", "forcing_after", "measure"]


@dataclass(frozen=True)
class Errors:
    """Squared errors in canonical units, area-weighted means of fields summed over all starts.

    Attributes
    ----------
    forecast, persistence : Tensor, shape (leads, C)
    starts : int
    """

    forecast: Tensor
    persistence: Tensor
    starts: int

    @property
    def rmse(self) -> Tensor:
        """The root-mean-square error of forecasts, (leads, C)."""
        return (self.forecast / self.starts).sqrt()

    @property
    def ratios(self) -> Tensor:
        """The root-mean-square error of forecasts over that of persistence, (leads, C)."""
        return (self.forecast / self.persistence).sqrt()


@torch.no_grad()
def measure(
    network: nn.Module,
    archive: Archive,
    weights: Tensor,
    leads: tuple[int, ...],
    device: torch.device,
    batch_size: int = 8,
    *,
    memory: Callable[[], Any] | None = None,
    most_starts: int = 0,
    processes: Processes = ALONE,
) -> Errors:
    """Score a network over every start for which the archive holds the truth at all leads.

    Parameters
    ----------
    network : torch.nn.Module
    archive : Archive
    weights : Tensor, shape (H,)
        Mean-one area weights.
    leads : tuple of int
        In steps, increasing.
    device : torch.device
    batch_size : int
    memory : callable, optional
        Gives the memory with which each batch of forecasts starts.
    most_starts : int
        Score only so many starts, spread evenly; 0 for all.
    processes : Processes
        Which share the starts between them.
    """
    history, most = archive.spec.history, max(leads)
    network.eval()
    squares = torch.zeros(2, len(leads), len(archive.spec.channels), dtype=torch.float64)
    starts = archive.starts(history + most)
    if 0 < most_starts < len(starts):
        starts = starts[np.linspace(0, len(starts) - 1, most_starts).round().astype(int)]
    own = starts[processes.rank :: processes.count]
    for first in range(0, len(own), batch_size):
        batch = archive.batch(own[first : first + batch_size], history + most).to(device)
        now = batch.states[:, history - 1]
        states = rollout(
            network,
            batch.states[:, :history],
            most,
            partial(forcing_after, batch, history),
            None if memory is None else memory(),
        )
        for step, state in enumerate(states, 1):
            if step in leads:
                truth = batch.states[:, history - 1 + step]
                for n, guess in enumerate((state, now)):
                    e = ((guess - truth).double().square() * weights[:, None]).mean((-2, -1))
                    squares[n, leads.index(step)] += e.sum(0).cpu()
    processes.sum_(squares)
    return Errors(squares[0], squares[1], len(starts))


def forcing_after(batch: Batch, history: int, step: int) -> Tensor | None:
    """Return the forcings of the latest state after `step` steps of a rollout."""
    return batch.forcing(history - 1 + step)
