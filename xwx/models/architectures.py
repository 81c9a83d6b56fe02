"""The architectures that a checkpoint may name, and no others.

A class has ``from_config(config, spec)``, which builds the network, and a method ``to_config()``,
which gives the JSON-ready dictionary back.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

import torch

from xwx.errors import CheckpointError

__all__ = ["ARCHITECTURES", "PLUGINS", "find_architecture", "name_architecture"]

#: Name of an architecture -> ``"module:Class"``.
ARCHITECTURES: dict[str, str] = {
    "emformer": "xwx.models.emformer:EMFormer",
    "wind": "xwx.models.wind:Wind",
}

#: The entry-point group through which installed packages add theirs.
PLUGINS = "xwx.architectures"


def find_architecture(name: str) -> Any:
    """Return the class that is registered under a name.

    Parameters
    ----------
    name : str
        A key of :data:`ARCHITECTURES` or an entry point of the group ``"xwx.architectures"``.

    Raises
    ------
    CheckpointError
        If the name is not registered.
    """
    if name in ARCHITECTURES:
        module, _, attribute = ARCHITECTURES[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    plugins = {entry_point.name: entry_point for entry_point in entry_points(group=PLUGINS)}
    if name in plugins:
        return plugins[name].load()
    known = ", ".join(sorted({*ARCHITECTURES, *plugins}))
    raise CheckpointError(
        f"unknown architecture {name!r}, known are {known}; install the package that provides it "
        f"(entry-point group {PLUGINS!r}) or upgrade xwx"
    )


def name_architecture(network: torch.nn.Module) -> str:
    """Return the name under which the class of a network is registered.

    Raises
    ------
    CheckpointError
        If it is not registered, so that nobody could load it again.
    """
    cls = type(network)
    where = f"{cls.__module__}:{cls.__qualname__}"
    for name, target in ARCHITECTURES.items():
        if target == where:
            return name
    for entry_point in entry_points(group=PLUGINS):
        related = entry_point.module.split(".")[0] == cls.__module__.split(".")[0]
        if related and entry_point.load() is cls:
            return entry_point.name
    raise CheckpointError(
        f"{cls.__name__} is not a registered architecture, known are {', '.join(ARCHITECTURES)}: "
        "unwrap the network (torch.compile, DistributedDataParallel), or announce its class in "
        f"the entry-point group {PLUGINS!r}"
    )
