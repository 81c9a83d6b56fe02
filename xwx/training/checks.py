"""What a stage needs of network, archives and processes, checked before anything runs."""

from __future__ import annotations

from torch import nn

from xwx.errors import ConfigError
from xwx.training.data import Archive
from xwx.training.distributed import Processes
from xwx.training.memory import empty_memory
from xwx.training.optimizers import make_optimizers
from xwx.training.settings import StageConfig

__all__ = ["check_stage"]


def check_stage(
    network: nn.Module, train: Archive, valid: Archive, config: StageConfig, processes: Processes
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
    for name, archive, length in (
        ("training", train, history + config.longest),
        ("validation", valid, history + max(config.leads)),
    ):
        if not len(archive.starts(length)):
            raise ValueError(
                f"the {name} period holds {len(archive.times)} states and no window of "
                f"{length} consecutive ones: choose a longer period"
            )
    processes.part(config.batch_size)
    empty_memory(network, config)
    if config.optimizer == "muon":
        make_optimizers(network, nn.Module(), config)
    if config.recompute and not hasattr(network, "checkpointing"):
        raise ConfigError(
            f"recompute=True: {type(network).__name__} cannot (no attribute `checkpointing`); set "
            "recompute = false"
        )
