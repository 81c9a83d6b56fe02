"""Models and the directories they are kept in: safetensors and JSON, never pickle.

A checkpoint is a directory of two files. ``model.safetensors`` holds the tensors of the network's
``state_dict``; ``model.json`` says which architecture to build with which configuration, the Spec,
the card, and the SHA-256 digest of the first file. Loading one executes nothing that came with it:
the architecture is looked up by name among those of xwx and of installed packages.
"""

from __future__ import annotations

import copy
import html
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file

from xwx.errors import CheckpointError
from xwx.models.architectures import ARCHITECTURES, find_architecture, name_architecture
from xwx.models.card import DOCUMENT, FORMAT, SCHEMA, WEIGHTS, Card, Document, read_document
from xwx.models.weights import (
    digest,
    read_tensors,
    refuse_file,
    refuse_misfit,
    refuse_non_finite,
)
from xwx.spec import Spec

__all__ = ["ARCHITECTURES", "Model", "load_checkpoint", "save_checkpoint"]

_SCRATCH = ".saving-"


@dataclass(frozen=True, repr=False, eq=False)
class Model:
    """A network with what it needs to know about the data, and who it is.

    Parameters
    ----------
    network : torch.nn.Module
        Canonical units in and out; one of the registered architectures if it is to be saved.
    spec : Spec
        Channels, grid, time step, history and forcings of the network.
    card : Card
        Name, licence, training data, digest.

    Notes
    -----
    Models that are loaded by name are shared within the process: work on
    ``copy.deepcopy(model.network)`` to change weights.
    """

    network: torch.nn.Module
    spec: Spec
    card: Card

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @property
    def device(self) -> torch.device:
        """Where the network's tensors are."""
        return next((t.device for t in self.network.state_dict().values()), torch.device("cpu"))

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(p.numel() for p in self.network.parameters())

    def to(self, device: str | torch.device) -> Model:
        """Return the model on a device: itself if it is there already, else a copy."""
        target = torch.device(device)
        if target == self.device:
            return self
        return replace(self, network=copy.deepcopy(self.network).to(target))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as a checkpoint directory; see :func:`save_checkpoint`."""
        return save_checkpoint(path, self.network, self.spec, self.card)

    def _rows(self) -> dict[str, str]:
        channels = ", ".join(map(str, self.spec.channels[:6]))
        more = len(self.spec.channels) - 6
        rows = {
            "network": f"{type(self.network).__name__}, {self.parameters:,} parameters",
            "channels": channels + (f", ... ({more} more)" if more > 0 else ""),
            "grid": str(self.spec.grid),
            "step": f"{self.spec.step}, {self.spec.history} state(s) of history",
            "device": str(self.device),
            "licence": self.card.licence,
            "training data": self.card.training_data,
            "sha256": self.card.sha256,
        }
        return {key: value for key, value in rows.items() if value}

    def __repr__(self) -> str:
        rows = "\n".join(f"    {key + ':':<15}{value}" for key, value in self._rows().items())
        return f"<xwx.Model {self.name!r}>\n{rows}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for key, value in self._rows().items()
        )
        return f"<div><b>xwx.Model</b> {html.escape(self.name)}<table>{rows}</table></div>"


def save_checkpoint(
    path: str | os.PathLike[str], network: torch.nn.Module, spec: Spec, card: Card
) -> Path:
    """Write a checkpoint directory; each file appears complete or not at all.

    Parameters
    ----------
    path : path-like
        The directory: a new one, an empty one, or one that holds a checkpoint to replace.
    network : torch.nn.Module
        An instance of a registered architecture.
    spec : Spec
        What the network takes and gives.
    card : Card
        Its ``sha256`` is replaced by the digest of the file written.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    CheckpointError
        If the directory holds something else, the architecture is not registered, the
        configuration is not JSON, or a weight is not finite.
    """
    directory = Path(path)
    architecture = name_architecture(network)
    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
    refuse_non_finite(tensors, directory)
    config: Any = cast(Any, network).to_config()
    _claim(directory)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=directory) as scratch:
        weights, document = Path(scratch, WEIGHTS), Path(scratch, DOCUMENT)
        save_file(tensors, weights, metadata={"format": "pt"})
        sha256 = digest(weights)
        content = {
            "format": FORMAT,
            "schema": SCHEMA,
            "architecture": architecture,
            "config": config,
            "spec": spec.to_json(),
            "card": card.to_json() | {"sha256": sha256},
            "sha256": sha256,
        }
        try:
            text = json.dumps(content, indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"{architecture}: the configuration or the card is not JSON ({error})"
            ) from error
        document.write_text(text + "\n", encoding="utf-8")
        shutil.copymode(document, weights)  # safetensors lets the owner alone read what it writes
        os.replace(weights, directory / WEIGHTS)
        os.replace(document, directory / DOCUMENT)
    return directory


def load_checkpoint(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Model:
    """Read a checkpoint directory, in evaluation mode; nothing of it is executed.

    Parameters
    ----------
    path : path-like
        The directory.
    device : str or torch.device
        Where the network goes.

    Returns
    -------
    Model

    Raises
    ------
    CheckpointError
        If it is not a directory with the two files, or they are of an unknown schema or
        architecture, do not belong together, or hold tensors that the architecture does not
        take (missing, unexpected, of another shape or dtype, not finite).
    """
    directory = Path(path)
    refuse_file(directory)
    document = read_document(directory)
    architecture = find_architecture(document.architecture)
    tensors = read_tensors(directory / WEIGHTS, document.card.sha256)
    network = _assemble(architecture, document, tensors, directory)
    return Model(network.to(device).eval(), document.spec, document.card)


def _assemble(
    architecture: Any, document: Document, tensors: Mapping[str, torch.Tensor], path: Path
) -> torch.nn.Module:
    """Build the network without memory, then give it the tensors."""

    def build(device: str) -> torch.nn.Module:
        try:
            with torch.device(device):
                network = architecture.from_config(document.config, document.spec)
        except Exception as error:
            raise CheckpointError(
                f"{path}: {document.architecture} cannot be built from its configuration "
                f"({type(error).__name__}: {error})"
            ) from error
        if not isinstance(network, torch.nn.Module):
            raise CheckpointError(f"{document.architecture}.from_config gave no torch.nn.Module")
        return network

    network = build("meta")
    refuse_misfit(network.state_dict(), tensors, path)
    refuse_non_finite(tensors, path)
    network.load_state_dict(dict(tensors), strict=True, assign=True)
    if any(buffer.is_meta for buffer in network.buffers()):
        # Buffers outside the state_dict follow from the configuration: compute them.
        with torch.random.fork_rng(devices=[]):
            network = build("cpu")
        network.load_state_dict(dict(tensors), strict=True, assign=True)
    return network


def _claim(directory: Path) -> None:
    """Make the directory, or see that it is empty or holds a checkpoint."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        content = {f.name for f in directory.iterdir() if not f.name.startswith(_SCRATCH)}
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be a checkpoint directory ({error})") from error
    if content - {WEIGHTS} and DOCUMENT not in content:
        raise CheckpointError(
            f"{directory} holds something else ({', '.join(sorted(content)[:5])}): save to a new "
            "or empty directory"
        )
    if DOCUMENT in content:
        try:
            read_document(directory)
        except CheckpointError as error:
            raise CheckpointError(
                f"{directory} holds a {DOCUMENT} that is not a checkpoint's: save to a new or "
                f"empty directory ({error})"
            ) from error
