"""What a model has seen of each channel, for the check of values against it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from xwx.fields.plausible import Learned
from xwx.models.card import WEIGHTS, bundled_models
from xwx.models.checkpoint import Model

__all__ = ["learned_of"]


def learned_of(model: str | os.PathLike[str] | Model) -> Learned | None:
    """Return mean and standard deviation of the channels of a model.

    Parameters
    ----------
    model : str, path-like or Model
        Of a checkpoint directory or a bundled model these two alone are read, whatever the size
        of the network.

    Returns
    -------
    Learned or None
        None where it does not tell: a network without such buffers, or whose were never set, or
        one that would have to be fetched or built for that.
    """
    if isinstance(model, Model):
        held = [getattr(model.network, name, None) for name in ("mean", "std")]
    else:
        named = bundled_models().get(model) if isinstance(model, str) else None
        held = _stored(Path(model) if named is None else named)
    found = [v.detach().double().cpu().numpy().ravel() for v in held if torch.is_tensor(v)]
    if len(found) != 2 or found[0].size != found[1].size:
        return None
    return Learned.of(*found)


def _stored(directory: Path) -> list[Any]:
    """Read the two tensors; one that is not there or is damaged is said when it is loaded."""
    try:
        with safe_open(directory / WEIGHTS, framework="pt") as file:
            return [file.get_tensor(name) for name in ("mean", "std")]
    except (OSError, SafetensorError):
        return [None, None]
