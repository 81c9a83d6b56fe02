"""What a stage needs of network, archives and processes, checked before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from xwx.errors import ConfigError
from xwx.training.data import Archive
from xwx.training.distributed import Processes
from xwx.training.memory import empty_memory
from xwx.training.objective import denoises
from xwx.training.optimizers import make_optimizers
from xwx.training.settings import StageConfig

__all__ = ["check_periods", "check_stage", "farthest"]

#: Settings of forecasts, which a network that denoises has no use for.
FORECASTING = ("rollout", "gradient", "cache", "alpha", "kv_grad", "update", "leads", "loss")


def check_stage(
    network: Any, train: Archive, valid: Archive, config: StageConfig, processes: Processes
) -> None:
    """Refuse a stage that cannot run, before anything does.

    Raises
    ------
    ConfigError
        When the network or the number of processes does not do.
    ValueError
        When an archive has no window long enough for the rollout or the leads.
    """
    history = train.spec.history
    _check_kind(network, config)
    length = network.frames if denoises(network) else history + config.longest
    _check_length("training", train, length)
    _check_length("validation", valid, history + farthest(network, config))
    processes.part(config.batch_size)
    empty_memory(network, config)
    if config.optimizer == "muon":
        make_optimizers(network, nn.Module(), config)
    if config.recompute and not hasattr(network, "checkpointing"):
        raise ConfigError(
            f"recompute=True: {type(network).__name__} cannot (no attribute `checkpointing`); set "
            "recompute = false"
        )


def farthest(network: Any, config: StageConfig) -> int:
    """Return how many steps after its first states a scored window ends."""
    if denoises(network):
        return int(network.frames) - int(network.spec.history)
    return max(config.leads)


def _check_kind(network: nn.Module, config: StageConfig) -> None:
    """Refuse settings that a network of the kind would silently not follow."""
    names = FORECASTING if denoises(network) else ("noise",)
    plain = StageConfig()
    for name in names:
        if (value := getattr(config, name)) != getattr(plain, name):
            kind = "denoises windows" if denoises(network) else "forecasts"
            raise ConfigError(
                f"{name}={value!r}: {type(network).__name__} {kind} and has no use for it; leave "
                f"{name} out"
            )


def check_periods(train: Archive, valid: Archive, test: Archive, lead: int) -> None:
    """Refuse periods that share states or hold nothing to score, before hours go into training.

    Parameters
    ----------
    train, valid, test : Archive
        The last one with the history that its first start needs.
    lead : int
        The longest that is reported, in steps.

    Raises
    ------
    ValueError
        When two share a time, when a channel does not change in one that is scored, or when no
        forecast of the reported period can be.
    """
    history = test.spec.history
    _check_length("test", test, history + lead)
    times = {"train": train.times, "valid": valid.times, "test": test.times[history - 1 :]}
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        if (shared := np.intersect1d(times[one], times[other])).size:
            raise ValueError(
                f"{one} and {other} share {shared.size} states, the first of {shared[0]}: what a "
                "model learned from or was chosen by cannot score it, keep the periods apart"
            )
    for name, archive in (("valid", valid), ("test", test)):
        states = archive.samples()
        still = (states == states[:1]).all((0, 2, 3))
        if still.any():
            channel = archive.spec.channels[int(still.argmax())]
            raise ValueError(
                f"{name}: {channel} does not change in this period, and no forecast of it can be "
                "compared with persistence: leave it out, or choose another period"
            )


def _check_length(name: str, archive: Archive, length: int) -> None:
    if not len(archive.starts(length)):
        raise ValueError(
            f"the {name} period holds {len(archive.times)} states and no window of {length} "
            "consecutive ones: choose a longer period"
        )
