"""The safetensors file of a checkpoint: read with suspicion, refused with a reason."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from xwx.errors import CheckpointError
from xwx.models.card import DOCUMENT, LAYOUT, WEIGHTS

__all__ = ["digest", "read_tensors", "refuse_file", "refuse_misfit", "refuse_non_finite"]

_CONVERT = (
    "xwx never opens pickles, because opening one can run any code. If you trust its origin, "
    "read the weights yourself, load them into the network and write it with Model.save(path)"
)


def refuse_file(path: Path) -> None:
    """Raise unless `path` is a directory, with the remedy for what it is instead."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; {LAYOUT}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {LAYOUT}") from error
    if stat.S_ISDIR(mode):
        return
    if path.name in (WEIGHTS, DOCUMENT):
        raise CheckpointError(f"{path} is one file of a checkpoint: give {path.parent}")
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is neither a directory nor a file; {LAYOUT}")
    raise CheckpointError(f"{path} is {_kind(path)}; {LAYOUT}. {_CONVERT}")


def _kind(path: Path) -> str:
    """Say what a file seems to be, from its first bytes, then from its suffix."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {LAYOUT}") from error
    if head.startswith(b"PK"):
        return "a zip archive (torch.save writes pickles in one)"
    if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05" and head[8:9] != b"{":
        return "a pickle"
    if path.suffix in {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}:
        return f"a {path.suffix} file, perhaps a pickle"
    return "a file"


def read_tensors(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Read a safetensors file whose SHA-256 digest is known, to the CPU."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
        found = digest(path) if regular else ""
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; {LAYOUT}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {LAYOUT}") from error
    if not regular:
        raise CheckpointError(f"{path} is not a regular file; {LAYOUT}")
    if "pickle" in (kind := _kind(path)):
        raise CheckpointError(f"{path} is {kind}, not safetensors. {_CONVERT}")
    if found != sha256.lower():
        raise CheckpointError(
            f"{path} is damaged or was altered: its sha256 is {found}, {DOCUMENT} says "
            f"{sha256 or 'nothing'}; fetch or save the checkpoint again"
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}); {LAYOUT}") from error
    # Own memory: a file that is replaced later must not change a network in use.
    return {name: tensor.clone() for name, tensor in tensors.items()}


def digest(path: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_misfit(
    wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], path: Path
) -> None:
    """List every tensor that is missing, unexpected, or of another shape or dtype."""
    faults = [f"missing {name}" for name in wanted if name not in given]
    faults += [f"unexpected {name}" for name in given if name not in wanted]
    for name in wanted.keys() & given.keys():
        want, got = wanted[name], given[name]
        if want.shape != got.shape:
            faults.append(f"{name} has shape {tuple(got.shape)}, not {tuple(want.shape)}")
        if want.dtype != got.dtype:
            faults.append(f"{name} has dtype {got.dtype}, not {want.dtype}")
    if faults:
        _raise_faults(faults, path, "its tensors do not fit the architecture")


def refuse_non_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise if a tensor holds NaN or infinity."""
    faults = [
        f"{name} ({int((~tensor.isfinite()).sum())} of {tensor.numel()} values)"
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if faults:
        _raise_faults(faults, path, "weights are NaN or infinite")


def _raise_faults(faults: list[str], path: Path, what: str) -> None:
    shown = "\n".join(f"  {fault}" for fault in sorted(faults)[:20])
    more = f"\n  ... and {len(faults) - 20} more" if len(faults) > 20 else ""
    raise CheckpointError(
        f"{path}: {what}:\n{shown}{more}\nSave a checkpoint from a network that is sound, with "
        "the configuration it was built with."
    )
