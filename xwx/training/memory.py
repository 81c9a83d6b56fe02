"""The memory of a stage: what the network is given, and what it keeps of the setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from xwx.errors import ConfigError
from xwx.training.settings import StageConfig

__all__ = ["Memories", "empty_memory", "set_memory"]

#: One memory a block, None for blocks without; None for no memory at all.
Memories = list[Any] | None


def empty_memory(network: nn.Module, config: StageConfig, *, attached: bool = False) -> Memories:
    """Return the memory with which a rollout of the stage starts, None for none.

    Raises
    ------
    ConfigError
        When the stage has a cache and the network cannot remember.
    """
    if not config.cache:
        return None
    remember: Callable[..., Memories] | None = getattr(network, "remember", None)
    if remember is None:
        raise ConfigError(
            f"cache={config.cache!r}: {type(network).__name__} has no memory (no method "
            "`remember`); set cache = 0, or take an architecture that has one, such as emformer"
        )
    return remember(config.cache, alpha=config.alpha, attached=attached)


def set_memory(network: Any, config: StageConfig) -> None:
    """Let a network remember by default what the stage trains it to.

    Raises
    ------
    ConfigError
        When the network has learned biases for another number of frames.
    """
    own: Any = getattr(network, "config", None)
    if not hasattr(own, "cache"):
        return  # Trainer refuses a cache for a network that cannot remember
    if not own.lag_bias or config.cache == own.cache:
        network.config = replace(own, cache=config.cache, alpha=config.alpha)
    elif config.cache:  # without one, the biases wait for a later stage
        raise ConfigError(
            f"cache={config.cache!r}: the network has a bias for each of cache={own.cache} frames; "
            f"set cache = {own.cache}, or lag_bias = false in [network]"
        )
