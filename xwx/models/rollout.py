"""A rollout: a generator of states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["rollout"]


def rollout(
    network: Callable[..., Any],
    x: Tensor,
    steps: int,
    forcing: Callable[[int], Tensor | None] | None = None,
    memory: Any = None,
) -> Iterator[Tensor]:
    """Yield the states that follow, one at a time; only the last few are kept.

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
        What the network's attention remembers; None for no memory.

    Yields
    ------
    Tensor, shape (B, C, H, W)
    """
    for step in range(steps):
        y, memory = network(x, None if forcing is None else forcing(step), memory)
        x = torch.cat([x[:, 1:], y[:, None]], dim=1)
        yield y
