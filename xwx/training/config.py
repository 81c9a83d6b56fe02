"""Training configurations: read from TOML, checked before anything runs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xwx.errors import ConfigError
from xwx.spec import Channel
from xwx.training.data import Augment
from xwx.training.loss import LossConfig
from xwx.training.settings import PretrainConfig

__all__ = ["DataConfig", "TrainConfig", "read_config"]

Period = tuple[str, str]


@dataclass(frozen=True)
class DataConfig:
    """Which states a model learns from.

    Parameters
    ----------
    dataset : str
        A name from :func:`xwx.tutorial.names`, or a path that xarray opens.
    channels : tuple of Channel
    train, valid, test : (str, str)
        First and last time of the three periods. The first trains, the second chooses, the
        third is only reported on.
    step_hours : float
    history : int
    forcings : tuple of str
    """

    dataset: str
    channels: tuple[Channel, ...]
    train: Period
    valid: Period
    test: Period
    step_hours: float = 6.0
    history: int = 1
    forcings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run.

    Parameters
    ----------
    name : str
    card : mapping
        Licence, training data and description, kept with the model.
    data : DataConfig
    architecture : str
    network : mapping
        Settings of the architecture.
    training : PretrainConfig
    threads : int or None
        CPU threads; results are the same bit for bit only with the same number.
    """

    name: str
    card: Mapping[str, str]
    data: DataConfig
    architecture: str
    network: Mapping[str, Any]
    training: PretrainConfig
    threads: int | None = None


def read_config(path: Path) -> TrainConfig:
    """Read a configuration file.

    Raises
    ------
    ConfigError
        When the file is missing, is not TOML, or a key or value is not understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML ({error})") from error
    try:
        return _build(raw)
    except (TypeError, ValueError, KeyError) as error:
        words = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{path}: {words}") from error


def _build(raw: dict[str, Any]) -> TrainConfig:
    _refuse_unknown("the file", raw, {"name", "threads", "card", "data", "network", "training"})
    data = dict(raw["data"])
    _refuse_unknown("[data]", data, {f.name for f in fields(DataConfig)})
    data["channels"] = tuple(_channel(c) for c in data["channels"])
    for period in ("train", "valid", "test"):
        first, last = data[period]
        data[period] = (str(first), str(last))
    data["forcings"] = tuple(data.get("forcings", ()))
    training = dict(raw["training"])
    _refuse_unknown("[training]", training, {f.name for f in fields(PretrainConfig)})
    for name, kind in (("augment", Augment), ("loss", LossConfig)):
        values = training.get(name, {})
        _refuse_unknown(f"[training.{name}]", values, {f.name for f in fields(kind)})
        training[name] = kind(**values)
    for name in ("rollout", "leads"):
        if name in training:
            training[name] = tuple(tuple(v) if isinstance(v, list) else v for v in training[name])
    network = dict(raw["network"])
    return TrainConfig(
        name=raw["name"],
        card=dict(raw.get("card", {})),
        data=DataConfig(**data),
        architecture=network.pop("architecture"),
        network=network,
        training=PretrainConfig(**training),
        threads=raw.get("threads"),
    )


def _channel(raw: Mapping[str, Any]) -> Channel:
    _refuse_unknown("a channel", raw, {"name", "level_hPa"})
    level = raw.get("level_hPa")
    return Channel(raw["name"], None if level is None else 100.0 * float(level))


def _refuse_unknown(where: str, raw: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(raw) - known):
        raise ValueError(
            f"{where} has unknown keys {', '.join(unknown)}: choose from {', '.join(sorted(known))}"
        )
