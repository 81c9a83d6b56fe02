"""Training configurations: read from TOML, checked before anything runs."""

from __future__ import annotations

import datetime
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from xwx.errors import ConfigError
from xwx.models.emformer import EMFormerConfig
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
    _check_value("name", raw["name"], str)
    if "threads" in raw:
        _check_value("threads", raw["threads"], int)
        if raw["threads"] < 1:
            raise ValueError(f"threads={raw['threads']!r}: must be at least 1")
    card = _table("[card]", raw.get("card", {}))
    _refuse_unknown("[card]", card, {"licence", "version", "description", "training_data"})
    for key, value in card.items():
        _check_value(f"[card] {key}", value, str)
    data = _data(_table("[data]", raw["data"]))
    training = _table("[training]", raw["training"])
    _refuse_unknown("[training]", training, {f.name for f in fields(PretrainConfig)})
    for name, kind in (("augment", Augment), ("loss", LossConfig)):
        where = f"[training.{name}]"
        values = _table(where, training.get(name, {}))
        _refuse_unknown(where, values, {f.name for f in fields(kind)})
        _check_types(where, values, kind)
        training[name] = kind(**values)
    _check_types("[training]", training, PretrainConfig)
    for name in ("rollout", "leads"):
        if name in training:
            training[name] = tuple(tuple(v) if isinstance(v, list) else v for v in training[name])
    network = _table("[network]", raw["network"])
    _check_value("[network] architecture", network["architecture"], str)
    if network["architecture"] == "emformer":
        _check_types("[network]", network, EMFormerConfig)
    return TrainConfig(
        name=raw["name"],
        card=card,
        data=data,
        architecture=network.pop("architecture"),
        network=network,
        training=PretrainConfig(**training),
        threads=raw.get("threads"),
    )


def _data(data: dict[str, Any]) -> DataConfig:
    _refuse_unknown("[data]", data, {f.name for f in fields(DataConfig)})
    channels = data["channels"]
    _check_value("[data] channels", channels, tuple[dict[str, Any], ...])
    data["channels"] = tuple(_channel(c) for c in channels)
    for period in ("train", "valid", "test"):
        dates = data[period]
        if not isinstance(dates, list) or len(dates) != 2 or not all(map(_is_date, dates)):
            raise ValueError(f"[data] {period}={dates!r}: must be [first time, last time]")
        data[period] = (str(dates[0]), str(dates[1]))
    _check_types("[data]", {"dataset": data["dataset"]} | data, DataConfig)
    data["forcings"] = tuple(data.get("forcings", ()))
    return DataConfig(**data)


def _is_date(value: object) -> bool:
    return isinstance(value, str | datetime.date)  # a datetime is a date


def _channel(raw: Mapping[str, Any]) -> Channel:
    _refuse_unknown("a channel", raw, {"name", "level_hPa"})
    _check_value("a channel's name", raw["name"], str)
    level = raw.get("level_hPa")
    _check_value("a channel's level_hPa", level, float | None)
    return Channel(raw["name"], None if level is None else 100.0 * float(level))


def _table(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where.strip('[]')}={value!r}: must be a table, {where}")
    return dict(value)


def _check_types(where: str, raw: Mapping[str, Any], kind: type) -> None:
    """Compare values with the types that a dataclass declares; other keys are left alone."""
    hints = get_type_hints(kind)
    for key, value in raw.items():
        if key in hints:
            _check_value(f"{where} {key}", value, hints[key])


def _check_value(where: str, value: object, hint: Any) -> None:
    if not _fits(value, hint):
        raise ValueError(f"{where}={value!r}: must be {_in_words(hint)}")


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _in_words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return " or ".join(_in_words(one) for one in arguments if one is not types.NoneType)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list, each item {_in_words(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(map(_in_words, arguments))}]"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(hint, "a table")


def _refuse_unknown(where: str, raw: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(raw) - known):
        raise ValueError(
            f"{where} has unknown keys {', '.join(unknown)}: choose from {', '.join(sorted(known))}"
        )
