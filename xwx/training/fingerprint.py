"""What a run is: the settings on which its weights depend, and how two of them differ."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from xwx.errors import ConfigError
from xwx.training.data import Archive
from xwx.training.settings import StageConfig

__all__ = ["fingerprint", "refuse_another"]

#: Settings that change no result, and may change while a run rests.
FREE = ("prefetch", "recompute")


def fingerprint(
    config: StageConfig, network: nn.Module, archives: tuple[Archive, Archive], start: str
) -> dict[str, Any]:
    """Return the settings of a stage as JSON would give them back.

    Parameters
    ----------
    config : StageConfig
    network : torch.nn.Module
    archives : (Archive, Archive)
        Training and validation.
    start : str
        The digest of the model that the stage starts from; empty for none.
    """
    periods = [
        [len(archive.times), str(archive.times[0]), str(archive.times[-1])] for archive in archives
    ]
    described = getattr(network, "to_config", dict)
    return {
        "config": _plain(_settings(config)),
        "spec": _plain(archives[0].spec.to_json()),
        "network": _plain(described()),
        "periods": periods,
        "values": [_digest(archive) for archive in archives],
        "start": start,
    }


def _digest(archive: Archive) -> str:
    """Return what tells states of the same times and channels, but of other data, apart."""
    return hashlib.sha256(archive.samples().tobytes()).hexdigest()


def refuse_another(path: Path, facts: dict[str, Any], mine: dict[str, Any], stage: str) -> None:
    """Raise unless the facts of a state are those of this run.

    Settings that were not there when the state was written count as their defaults.

    Raises
    ------
    ConfigError
        Names the settings that differ.
    """
    theirs = {key: facts.get(key, value) for key, value in mine.items()}
    defaults = _plain(_settings(StageConfig()))
    nested = ("augment", "loss", "noise")
    theirs["config"] = defaults | {k: v for k, v in theirs["config"].items() if k not in FREE}
    theirs["network"] = mine["network"] | theirs["network"]
    for key in nested:
        theirs["config"][key] = defaults[key] | theirs["config"][key]
    if mine != theirs:
        raise ConfigError(
            f"{path} belongs to a run with other settings: "
            f"{', '.join(_differences(theirs, mine, stage))}. Set them back to continue it, or "
            "start afresh with `xwx train CONFIG --fresh`, or give another --out"
        )


def _settings(config: StageConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in FREE}


def _differences(old: dict[str, Any], new: dict[str, Any], stage: str) -> list[str]:
    """List the settings that differ, as the configuration file calls them."""
    before, after = _by_name(old, stage), _by_name(new, stage)
    names = [*after, *(name for name in before if name not in after)]
    return [
        f"{name} {_show(before.get(name))} -> {_show(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _by_name(facts: dict[str, Any], stage: str) -> dict[str, Any]:
    names = ("data.train", "data.valid")
    periods = dict(zip(names, facts["periods"], strict=True))
    periods |= zip((f"{name}'s values" for name in names), facts["values"], strict=True)
    rest = {stage: facts["config"], "data": facts["spec"], "network": facts["network"]}
    return periods | _flat(rest) | {"the model to start from": facts["start"]}


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict) and item:
            flat |= {f"{key}.{name}": inner for name, inner in _flat(item).items()}
        else:
            flat[key] = item
    return flat


def _show(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}"


def _plain(value: Any) -> Any:
    """Return what JSON would make of `value`."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
