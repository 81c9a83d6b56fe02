"""The state of a training run on disk: safetensors and JSON, replaced in one move."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from xwx.errors import CheckpointError

__all__ = ["load_state", "optimizer_tensors", "restore_optimizer", "save_state"]

FORMAT = "xwx-training-1"


def save_state(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON-ready facts to one file, atomically.

    Parameters
    ----------
    path : Path
    tensors : dict of str to Tensor
    facts : dict
    """
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    temporary = path.with_name(path.name + ".new")
    save_file(own, temporary, metadata={"format": FORMAT, "facts": json.dumps(facts)})
    os.replace(temporary, path)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_state` wrote.

    Raises
    ------
    CheckpointError
        When the file is damaged or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable training state ({error}); delete it to start afresh"
        ) from error
    if (found := metadata.get("format")) != FORMAT:
        raise CheckpointError(
            f"{path}: format {found!r} is not {FORMAT!r}; delete it to start afresh"
        )
    try:
        return tensors, json.loads(metadata["facts"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its facts cannot be read ({error!r}); delete it to start afresh"
        ) from error


def optimizer_tensors(optimizer: Optimizer, prefix: str = "optimizer") -> dict[str, Tensor]:
    """Return an optimiser's state as tensors named ``prefix.parameter.entry``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{index}.{name}": torch.as_tensor(value)
        for index, entries in state.items()
        for name, value in entries.items()
    }


def restore_optimizer(
    optimizer: Optimizer, tensors: dict[str, Tensor], prefix: str = "optimizer"
) -> None:
    """Undo :func:`optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix + "."):
            _, index, entry = name.split(".", 2)
            state.setdefault(int(index), {})[entry] = tensor
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
