"""What a stage learns, and by what it is scored: the seam between the loop and the systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from xwx.training.data import Archive, Batch
from xwx.training.denoising import Denoising
from xwx.training.distributed import Processes
from xwx.training.forecasting import Forecasting
from xwx.training.settings import StageConfig

__all__ = ["Objective", "denoises", "make_objective"]


class Objective(Protocol):
    """Learns from windows of states, and scores a network on the validation period."""

    @property
    def loss(self) -> nn.Module:
        """What the objective itself learns, if anything; it is saved with the network."""
        ...

    @property
    def offset(self) -> Tensor | None:
        """A state (C, H, W) that is taken off those of batches before they are augmented."""
        ...

    def length(self, update: int) -> int:
        """Return how many states the windows of an update have."""
        ...

    def learn(self, batch: Batch, update: int, turn: Callable[[Tensor | None], None]) -> Tensor:
        """Learn from a batch, calling `turn` to step the optimisers, and return the mean loss.

        `turn` averages the gradients over the processes, and in place what it is given with them.
        """
        ...

    def settle(self) -> None:
        """Bring what the loss learns back into its range, after a step of the optimiser."""
        ...

    def score(self, average: nn.Module, update: int, device: torch.device) -> dict[str, Any]:
        """Return what a validation after `update` updates finds; ``score`` is to become small."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what a later stage has to know."""
        ...


def denoises(network: nn.Module) -> bool:
    """Return whether a network is a prior that denoises windows, rather than a forecaster."""
    return hasattr(network, "denoise")


def make_objective(
    network: nn.Module,
    valid: Archive,
    weights: Tensor,
    config: StageConfig,
    processes: Processes,
    balance: Mapping[str, Any] | None = None,
) -> Objective:
    """Return what a network of its kind learns.

    Parameters
    ----------
    network : torch.nn.Module
    valid : Archive
    weights : Tensor, shape (H,)
        Mean-one area weights, on the device of the network.
    config : StageConfig
    processes : Processes
    balance : mapping, optional
        The theta and s that the training of a forecaster ended with.
    """
    if denoises(network):
        return Denoising(network, valid, weights, config, processes)
    return Forecasting(network, valid, weights, config, processes, balance)
