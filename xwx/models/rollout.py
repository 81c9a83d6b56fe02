"""A rollout: an iterator of states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["Rollout", "rollout"]


class Rollout(Iterator[Tensor]):
    """The states that follow, one at a time; it can be stopped, kept and resumed.

    ``rollout(network, r.window, more, forcing, r.memory)`` goes on where the rollout `r` is, with
    a `forcing` that counts from there.

    Attributes
    ----------
    window : Tensor, shape (B, history, C, H, W)
        The latest states, oldest first.
    memory : object or None
        What the network's attention remembers of the steps made.
    step : int
        Steps made.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        x: Tensor,
        steps: int,
        forcing: Callable[[int], Tensor | None] | None = None,
        memory: Any = None,
    ) -> None:
        self.window, self.memory, self.step = x, memory, 0
        self._network, self._steps, self._forcing = network, steps, forcing

    def __next__(self) -> Tensor:
        """Make one step and return its state (B, C, H, W)."""
        if self.step >= self._steps:
            raise StopIteration
        forcing = None if self._forcing is None else self._forcing(self.step)
        y: Tensor
        y, self.memory = self._network(self.window, forcing, self.memory)
        self.window = torch.cat([self.window[:, 1:], y[:, None]], dim=1)
        self.step += 1
        return y


def rollout(
    network: Callable[..., Any],
    x: Tensor,
    steps: int,
    forcing: Callable[[int], Tensor | None] | None = None,
    memory: Any = None,
) -> Rollout:
    """Iterate over the states that follow; only the last few are kept.

    Parameters
    ----------
    network : torch.nn.Module
        Called as ``network(x, forcing, memory)``; returns the next state and the memory.
    x : Tensor, shape (B, history, C, H, W)
        The latest states in canonical units, oldest first.
    steps : int
    forcing : callable, optional
        From the number of steps already made to the forcings (B, F, H, W) of the latest state.
    memory : optional
        What the network's attention remembers, such as ``network.remember()``; None for no
        memory.

    Returns
    -------
    Rollout
        An iterator of tensors of shape (B, C, H, W).
    """
    return Rollout(network, x, steps, forcing, memory)
