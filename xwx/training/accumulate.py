"""One sequence of training: forecast steps, their losses, and gradients as far back as is set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xwx.models.rollout import rollout
from xwx.training.data import Batch
from xwx.training.evaluate import forcing_after
from xwx.training.memory import Memories, empty_memory
from xwx.training.settings import StageConfig

__all__ = ["Accumulation"]


@dataclass(frozen=True)
class Accumulation:
    """Learns from one batch of sequences (EMFormer, section 3.3: accumulative fine-tuning).

    Each step forecasts from the forecast before it, with the memory that the steps before it
    left. The rollout is cut into segments: gradients flow within a segment, and its backward pass
    runs as soon as its last step is made, so that device memory grows with the length of a
    segment, not with the number of steps. ``gradient="through"`` is one segment, ``"detach"`` one
    a step. Pretraining is the sequence of one step.

    Parameters
    ----------
    network : torch.nn.Module
        Gives ``remember`` where `config` sets a cache.
    loss : callable
        From normalised forecast and truth (B, C, H, W) to the loss.
    scale : Tensor, shape (C, 1, 1)
        What both are divided by: the standard deviation of one step's change.
    history : int
        States that a forecast starts from.
    config : StageConfig
    """

    network: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    scale: Tensor
    history: int
    config: StageConfig

    def __call__(
        self, batch: Batch, steps: int, update: Callable[[], None] | None = None
    ) -> Tensor:
        """Add the gradients of the mean loss over `steps` steps, and return that loss, detached.

        Parameters
        ----------
        batch : Batch
            Of `history` + `steps` states.
        steps : int
        update : callable, optional
            Called after the backward pass of every segment, whose loss is then not divided by the
            number of steps: it steps the optimiser and clears the gradients.
        """
        length = self.config.segment(steps)
        x, memory = batch.states[:, : self.history], self._memory()
        total = torch.zeros((), device=x.device)
        for first in range(0, steps, length):
            count = min(length, steps - first)
            loss, x, memory = self._segment(batch, first, count, x, memory)
            (loss / (count if update else steps)).backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
            if update:
                update()
        return total / steps

    def _segment(
        self, batch: Batch, first: int, count: int, x: Tensor, memory: Memories
    ) -> tuple[Tensor, Tensor, Memories]:
        """Return the sum of the losses of `count` steps, and where the next segment starts."""
        at = self.history + first
        states = rollout(self._cast(), x, count, partial(forcing_after, batch, at), memory)
        total = torch.zeros((), device=x.device)
        for step, state in enumerate(states):
            truth = batch.states[:, at + step]
            total = total + self.loss(state / self.scale, truth / self.scale)
        kept = states.memory and [None if part is None else part.detach() for part in states.memory]
        return total, states.window.detach(), kept

    def _memory(self) -> Memories:
        return empty_memory(self.network, self.config, attached=self.config.kv_grad)

    def _cast(self) -> Callable[..., Any]:
        if self.config.precision == "float32":
            return self.network

        def cast(x: Tensor, *rest: Any) -> Any:
            with torch.autocast(x.device.type, torch.bfloat16):
                return self.network(x, *rest)

        return cast
