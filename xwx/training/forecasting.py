"""The objective of a forecaster: the errors of its forecasts, step after step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xwx.training.accumulate import Accumulation
from xwx.training.data import Archive, Batch
from xwx.training.distributed import Processes
from xwx.training.evaluate import measure
from xwx.training.log import forecast_row
from xwx.training.loss import HybridLoss
from xwx.training.memory import empty_memory
from xwx.training.settings import StageConfig

__all__ = ["Forecasting"]


class Forecasting:
    """Learns from rollouts, and is scored by forecasts over persistence.

    Parameters
    ----------
    network : torch.nn.Module
    valid : Archive
    weights : Tensor, shape (H,)
        Mean-one area weights.
    config : StageConfig
    processes : Processes
    balance : mapping, optional
        The theta and s that an earlier training ended with.

    Attributes
    ----------
    loss : HybridLoss
        What the objective learns itself.
    offset : None
        Batches hold whole states.
    """

    offset = None

    def __init__(
        self,
        network: nn.Module,
        valid: Archive,
        weights: Tensor,
        config: StageConfig,
        processes: Processes,
        balance: Mapping[str, Any] | None = None,
    ) -> None:
        self.network, self.valid, self.weights = network, valid, weights
        self.config, self.processes = config, processes
        self.loss = HybridLoss(weights, len(valid.spec.channels), config.loss).to(weights.device)
        if balance is not None:
            self.loss.begin_(balance)

    def length(self, update: int) -> int:
        """Return how many states the windows of an update have."""
        return self.valid.spec.history + self.config.steps(update)

    def learn(self, batch: Batch, update: int, turn: Callable[[Tensor | None], None]) -> Tensor:
        """Learn from a batch, calling `turn` to step the optimisers, and return the mean loss."""
        config = self.config
        self.loss.advance_(update / config.updates)
        scale = self.network.get_buffer("increment_std")
        rollouts = Accumulation(self.network, self.loss, scale, self.valid.spec.history, config)
        steps = config.steps(update)
        if config.update == "per_step":
            loss = rollouts(batch, steps, partial(turn, None))
            self.processes.average_([loss])
        else:
            loss = rollouts(batch, steps)
            turn(loss)
        return loss

    def settle(self) -> None:
        """Bring what the loss learns back into its range, after a step of the optimiser."""
        self.loss.clamp_()

    def score(self, average: nn.Module, update: int, device: torch.device) -> dict[str, Any]:
        """Return what a validation after `update` updates finds; ``score`` is to become small."""
        errors = measure(
            average,
            self.valid,
            self.weights,
            self.config.leads,
            device,
            memory=partial(empty_memory, average, self.config),
            most_starts=self.config.validation_starts,
            processes=self.processes,
        )
        return forecast_row(update, self.config, self.loss, self.valid.spec, errors.ratios)

    def facts(self) -> dict[str, Any]:
        """Return what a later stage has to know."""
        return {"balance": self.loss.balance()}
