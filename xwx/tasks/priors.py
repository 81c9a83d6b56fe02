"""The generative model that was named, or which ones there are."""

from __future__ import annotations

import os

from xwx.errors import XwxError
from xwx.models.architectures import find_architecture
from xwx.models.card import bundled_models, read_document
from xwx.models.checkpoint import Model
from xwx.models.registry import list_models, load
from xwx.tasks.sampling.posterior import generative

__all__ = ["named_prior"]


def named_prior(
    model: str | os.PathLike[str] | Model | None, device: str | None, task: str
) -> Model | None:
    """Load the model that was named; None where none was.

    Raises
    ------
    ModelNotFoundError
        When there is no such model.
    ValueError
        When it makes a single forecast and cannot be sampled, with the names of those that can.
    """
    if model is None:
        return None
    named = load(model, device=device)
    if generative(named):
        return named
    names = [name for name in list_models() if _draws(name)]
    remedy = f'model="{names[0]}"' if names else "none is installed, xwx.load(DIRECTORY) takes one"
    others = f"; installed are {', '.join(names)}" if len(names) > 1 else ""
    raise ValueError(
        f"{named.name} cannot be sampled: its network ({type(named.network).__name__}) is "
        f"deterministic, and {task} needs a generative model: {remedy}{others}"
    )


def _draws(name: str) -> bool:
    """Whether an installed model is generative; one that cannot be read is not."""
    try:
        if (directory := bundled_models().get(name)) is not None:
            return hasattr(find_architecture(read_document(directory).architecture), "denoise")
        return generative(load(name, device="cpu"))
    except XwxError:
        return False
