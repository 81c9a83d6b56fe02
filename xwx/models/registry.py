"""Find a model by name, directory or address, and put it on a device."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import os
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import torch

from xwx.errors import ModelNotFoundError, XwxError
from xwx.models.card import (
    DOCUMENT,
    WEIGHTS,
    bundled_models,
    list_models,
    plugin_models,
    read_document,
)
from xwx.models.checkpoint import Model, load_checkpoint
from xwx.options import get_options
from xwx.spec import Spec

__all__ = ["find_spec", "list_models", "load", "resolve_device"]

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_BRANCHES = {"main", "master", "HEAD"}


def load(ref: str | os.PathLike[str] | Model, *, device: str | torch.device | None = None) -> Model:
    """Load a model, ready to run.

    Parameters
    ----------
    ref : str, path-like or Model
        The name of a bundled model or of a plug-in (see :func:`list_models`), a checkpoint
        directory, or ``"hf://org/name@revision"`` on the Hugging Face hub. A name goes before a
        directory of the same name: write ``"./name"`` for the latter. A Model is returned as it
        is when `device` is None or is where it is.
    device : str or torch.device, optional
        Where the network goes; by default where ``xwx.set_options(device=...)`` says.

    Returns
    -------
    Model
        In evaluation mode. Models that were loaded by name are shared within the process.

    Raises
    ------
    ModelNotFoundError
        If there is no such model; the message lists those that there are.
    CheckpointError
        If the checkpoint is not safetensors and JSON of a known schema, or is damaged.
    XwxError
        If the device is not there, or a plug-in does not give a Model.

    Examples
    --------
    >>> import xwx
    >>> model = xwx.load("emformer-era5-mini", device="cpu")  # doctest: +SKIP
    """
    if isinstance(ref, Model):
        return ref if device is None else ref.to(resolve_device(device))
    where = resolve_device(device)
    found = _locate(ref)
    if not isinstance(found, Path):  # whichever class of entry point is in use
        return _load_plugin(found, where)
    if isinstance(ref, str) and ref in bundled_models():
        return _load_bundled(found, where)
    return load_checkpoint(found, where)


def find_spec(ref: str | os.PathLike[str] | Model) -> Spec:
    """Return what a model takes and gives, without building its network where possible.

    Parameters
    ----------
    ref : str, path-like or Model
        As for :func:`load`.

    Raises
    ------
    ModelNotFoundError, CheckpointError, XwxError
        As for :func:`load`.
    """
    if isinstance(ref, Model):
        return ref.spec
    found = _locate(ref)
    if not isinstance(found, Path):  # whichever class of entry point is in use
        declared = getattr(_load_factory(found), "spec", None)
        if isinstance(declared, Spec):
            return declared
        return _load_plugin(found, torch.device("cpu")).spec
    return read_document(found).spec


def resolve_device(name: str | torch.device | None = None) -> torch.device:
    """Turn the name of a device into one that is there.

    Parameters
    ----------
    name : str or torch.device, optional
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; by
        default the option ``device``.

    Raises
    ------
    XwxError
        If the device is unknown or not there.
    """
    wanted = get_options()["device"] if name is None else name
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise XwxError(
            f'device={wanted!r} is unknown: give "auto", "cpu", "cuda", "cuda:<n>" or "mps"'
        ) from error
    if device.type == "cuda":
        return _resolve_cuda(device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise XwxError('device="mps" is not available here: give "cpu" or "auto"')
    if device.type not in ("cpu", "mps"):
        raise XwxError(f'device={wanted!r} is not supported: give "cpu", "cuda" or "mps"')
    return device


def _resolve_cuda(device: torch.device) -> torch.device:
    """Give a CUDA device its index and see that it is there."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise XwxError(
            f'device="{device}" needs an NVIDIA GPU and a torch with CUDA, and torch '
            f'{torch.__version__} finds none: give device="cpu" or "auto"'
        )
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= count:
        raise XwxError(f'device="{device}": there are {count} GPUs, "cuda:0" is the first')
    return torch.device("cuda", index)


def _locate(ref: str | os.PathLike[str]) -> Path | EntryPoint:
    """Find the directory or the entry point that a reference means."""
    if not isinstance(ref, str):
        if not isinstance(ref, os.PathLike):
            raise ModelNotFoundError(
                f"{type(ref).__name__} is no reference to a model: give a name from "
                "xwx.list_models(), a checkpoint directory, or a Model"
            )
        return Path(ref)
    if ref.startswith("hf://"):
        return _fetch(ref)
    if ref in (bundled := bundled_models()):
        return bundled[ref]
    if ref in (plugins := plugin_models()):
        return plugins[ref]
    if ref and ("/" in ref or os.sep in ref or os.path.lexists(ref)):
        return Path(ref).expanduser()
    names = [*bundled, *plugins]
    close = difflib.get_close_matches(ref, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise ModelNotFoundError(
        f"no model {ref!r}: {hint}There are {', '.join(names) or 'none installed'}; a checkpoint "
        "directory or hf://org/name@revision will do too"
    )


@functools.lru_cache(maxsize=8)
def _load_bundled(directory: Path, device: torch.device) -> Model:
    return load_checkpoint(directory, device)


@functools.lru_cache(maxsize=8)
def _load_plugin(entry_point: EntryPoint, device: torch.device) -> Model:
    model = _load_factory(entry_point)()
    if not isinstance(model, Model):
        raise XwxError(
            f"the plug-in {entry_point.name!r} ({entry_point.value}) gave a "
            f"{type(model).__name__}, not an xwx Model: upgrade or uninstall its package"
        )
    return model.to(device)


def _load_factory(entry_point: EntryPoint) -> Callable[[], object]:
    """Import the function of a plug-in."""
    try:
        factory: Callable[[], object] = entry_point.load()
    except Exception as error:
        raise XwxError(
            f"the plug-in {entry_point.name!r} ({entry_point.value}) cannot be imported "
            f"({type(error).__name__}: {error}): upgrade or uninstall its package"
        ) from error
    if not callable(factory):
        raise XwxError(f"the plug-in {entry_point.name!r} ({entry_point.value}) is not a function")
    return factory


def _fetch(ref: str) -> Path:
    """Download a pinned checkpoint from the Hugging Face hub, or find it in the cache."""
    match = _HUB.fullmatch(ref)
    if match is None or match["revision"] in _BRANCHES:
        raise ModelNotFoundError(
            f"{ref!r} is not pinned: what a branch holds can change, so write "
            "hf://org/name@revision with a tag or, better, a commit hash"
        )
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ModelNotFoundError(f"{ref!r} needs huggingface_hub: pip install huggingface_hub")
    hub = importlib.import_module("huggingface_hub")
    try:
        directory = hub.snapshot_download(
            match["repo"], revision=match["revision"], allow_patterns=[WEIGHTS, DOCUMENT]
        )
    except Exception as error:
        raise ModelNotFoundError(
            f"{ref!r} cannot be fetched ({type(error).__name__}: {error})"
        ) from error
    return Path(directory)
