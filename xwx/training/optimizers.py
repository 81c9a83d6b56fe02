"""The optimisers of a stage: AdamW, or Muon for hidden matrices with AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from xwx.errors import ConfigError
from xwx.training.settings import StageConfig

__all__ = ["hidden_matrices", "make_optimizers", "set_rate"]

#: Children of a network that lead into and out of its hidden layers.
ENDS = ("embed", "head")


def make_optimizers(network: nn.Module, loss: nn.Module, config: StageConfig) -> list[Optimizer]:
    """Return the optimisers of a network and of what its loss learns; AdamW is the first.

    Weight decay is for matrices and kernels: neither for vectors nor for the loss.

    Parameters
    ----------
    network, loss : torch.nn.Module
    config : StageConfig

    Raises
    ------
    ConfigError
        For Muon with a torch that has none, or a network without hidden matrices.
    """
    matrices = hidden_matrices(network) if config.optimizer == "muon" else []
    taken = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in taken]
    decay = [p for p in rest if p.ndim > 1]
    plain = [p for p in rest if p.ndim <= 1]
    plain += [p for p in loss.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": decay, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = [AdamW(groups, lr=config.learning_rate)]
    if config.optimizer == "muon":
        optimizers.append(_muon(matrices, config))
    return optimizers


def _muon(matrices: list[Tensor], config: StageConfig) -> Optimizer:
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise ConfigError(
            f"optimizer='muon': torch {torch.__version__} has none; install torch>=2.9, or set "
            "optimizer = 'adamw'"
        )
    if not matrices:
        raise ConfigError(
            "optimizer='muon': the network has no matrices of hidden layers; set optimizer = "
            "'adamw'"
        )
    # Steps as large as AdamW's, so that one learning rate serves both.
    return muon(  # type: ignore[no-any-return]
        matrices,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )


def hidden_matrices(network: nn.Module) -> list[Tensor]:
    """Return the weights of linear layers, those of the embedding and of the head left out."""
    return [
        module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] not in ENDS
    ]


def set_rate(optimizers: list[Optimizer], config: StageConfig, update: int) -> None:
    """Set the learning rates of an update."""
    for optimizer in optimizers:
        factor = 1.0
        if not isinstance(optimizer, AdamW) and config.muon_learning_rate is not None:
            factor = config.muon_learning_rate / config.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = factor * config.rate(update)
