"""Scores of a network on an archive, against persistence."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from xwx.models.rollout import rollout
from xwx.training.data import Archive, Batch

__all__ = ["forcing_after", "persistence_ratios"]


@torch.no_grad()
def persistence_ratios(
    network: nn.Module,
    archive: Archive,
    weights: Tensor,
    leads: tuple[int, ...],
    device: torch.device,
    batch_size: int = 8,
) -> Tensor:
    """Return the RMSE of forecasts over that of persistence, (leads, C).

    Over every start for which the archive holds the truth at all leads; the root is taken after
    the mean over starts.

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
    """
    history, most = archive.spec.history, max(leads)
    network.eval()
    errors = torch.zeros(2, len(leads), len(archive.spec.channels), dtype=torch.float64)
    starts = archive.starts(history + most)
    for first in range(0, len(starts), batch_size):
        batch = archive.batch(starts[first : first + batch_size], history + most).to(device)
        now = batch.states[:, history - 1]
        states = rollout(
            network, batch.states[:, :history], most, partial(forcing_after, batch, history)
        )
        for step, state in enumerate(states, 1):
            if step in leads:
                truth = batch.states[:, history - 1 + step]
                for n, guess in enumerate((state, now)):
                    e = ((guess - truth).double().square() * weights[:, None]).mean((-2, -1))
                    errors[n, leads.index(step)] += e.sum(0).cpu()
    return (errors[0] / errors[1]).sqrt()


def forcing_after(batch: Batch, history: int, step: int) -> Tensor | None:
    """Return the forcings of the latest state after `step` steps of a rollout."""
    return batch.forcing(history - 1 + step)
