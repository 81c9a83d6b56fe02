"""Training configurations: read from TOML, checked before anything runs."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

from xwx.errors import ConfigError, XwxError
from xwx.models.emformer import EMFormerConfig
from xwx.models.registry import find_spec
from xwx.models.wind_config import WindConfig
from xwx.spec import Channel, Spec
from xwx.training.data import Augment
from xwx.training.loss import LOSSES, LossConfig
from xwx.training.noise import NoiseConfig
from xwx.training.settings import StageConfig
from xwx.training.tables import check_period, check_types, check_value, refuse_unknown, table

__all__ = ["DataConfig", "TrainConfig", "read_config"]

Period = tuple[str, str]

#: The settings of the architectures that are ours.
SETTINGS: dict[str, type] = {"emformer": EMFormerConfig, "wind": WindConfig}


@dataclass(frozen=True)
class DataConfig:
    """Which states a model learns from.

    Parameters
    ----------
    dataset : str or tuple of str
        A name from :func:`xwx.tutorial.names`, a path that xarray opens, or several to join along
        time.
    channels : tuple of Channel
    train, valid, test : (str, str)
        First and last time of the three periods. The first trains, the second chooses, the
        third is only reported on.
    step_hours : float
    history : int
    forcings : tuple of str
    report : tuple of str
        Channels whose scores on the third period go on the card, as ``"z[500 hPa]"``; by default
        at most ten.
    packed : str
        Folder for the packed states, which are read from there as they are needed; several runs
        may share one. By default ``packed`` in the folder of the run.
    """

    dataset: str | tuple[str, ...]
    channels: tuple[Channel, ...]
    train: Period
    valid: Period
    test: Period
    step_hours: float = 6.0
    history: int = 1
    forcings: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    packed: str = ""


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
        Empty with `start`.
    network : mapping
        Settings of the architecture.
    training, finetuning : StageConfig or None
        The stages, at least one.
    start : str
        The model whose network, statistics and Spec take the place of pretraining, if any.
    threads : int or None
        CPU threads; results are the same bit for bit only with the same number.
    """

    name: str
    card: Mapping[str, str]
    data: DataConfig
    architecture: str
    network: Mapping[str, Any]
    training: StageConfig | None
    finetuning: StageConfig | None = None
    start: str = ""
    threads: int | None = None

    @property
    def stages(self) -> dict[str, StageConfig]:
        """The stages by name, in the order in which they run."""
        stages = {"training": self.training, "finetuning": self.finetuning}
        return {name: stage for name, stage in stages.items() if stage is not None}


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
    known = {"name", "threads", "start", "card", "data", "network", "training", "finetuning"}
    refuse_unknown("the file", raw, known)
    check_value("name", raw["name"], str)
    if "threads" in raw:
        check_value("threads", raw["threads"], int)
        if raw["threads"] < 1:
            raise ValueError(f"threads={raw['threads']!r}: must be at least 1")
    card = table("[card]", raw.get("card", {}))
    refuse_unknown("[card]", card, {"licence", "version", "description", "training_data"})
    for key, value in card.items():
        check_value(f"[card] {key}", value, str)
    start = _start(raw) if "start" in raw else None
    data = _data(table("[data]", raw["data"]), start)
    names: list[str] = [name for name in ("training", "finetuning") if name in raw]
    stages = {name: _stage(name, raw[name]) for name in names}
    if start is None and "training" not in stages:
        raise KeyError("training")
    network = {} if start else _network(table("[network]", raw["network"]), stages)
    return TrainConfig(
        name=raw["name"],
        card=card,
        data=data,
        architecture=network.pop("architecture", ""),
        network=network,
        training=stages.get("training"),
        finetuning=stages.get("finetuning"),
        start=raw.get("start", ""),
        threads=raw.get("threads"),
    )


def _start(raw: dict[str, Any]) -> Spec:
    """Return the Spec of the model to start from."""
    check_value("start", raw["start"], str)
    for name in ("network", "training"):
        if name in raw:
            raise ValueError(
                f"start={raw['start']!r} and [{name}]: the model takes its place; remove one"
            )
    if "finetuning" not in raw:
        raise KeyError("finetuning")
    try:
        return find_spec(raw["start"])
    except XwxError as error:
        raise ValueError(f"start={raw['start']!r}: {error}") from error


def _stage(name: str, raw: Any) -> StageConfig:
    where = f"[{name}]"
    values = table(where, raw)
    refuse_unknown(where, values, {f.name for f in fields(StageConfig)})
    augment = _nested(f"{name}.augment", values, Augment)
    loss = _nested(f"{name}.loss", values, LossConfig, {"preset"})
    noise = _nested(f"{name}.noise", values, NoiseConfig)
    values["augment"] = Augment(**augment)
    if "levels" in noise:
        noise["levels"] = tuple(noise["levels"])
    try:
        values["noise"] = NoiseConfig(**noise)
    except ValueError as error:
        raise ValueError(f"[{name}.noise] {error}") from error
    preset = loss.pop("preset", "learnable")
    if preset not in LOSSES:
        known = ", ".join(LOSSES)
        raise ValueError(f"[{name}.loss] preset={preset!r}: choose from {known}")
    values["loss"] = replace(LOSSES[preset], **loss)
    check_types(where, values, StageConfig)
    for key in ("rollout", "leads"):
        if key in values:
            values[key] = tuple(tuple(v) if isinstance(v, list) else v for v in values[key])
    try:
        return StageConfig(**values)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from error


def _nested(
    name: str, stage: dict[str, Any], kind: type, further: Collection[str] = ()
) -> dict[str, Any]:
    where = f"[{name}]"
    values = table(where, stage.get(name.split(".")[1], {}))
    refuse_unknown(where, values, {f.name for f in fields(kind)}.union(further))
    check_types(where, values, kind)
    return values


def _network(network: dict[str, Any], stages: Mapping[str, StageConfig]) -> dict[str, Any]:
    check_value("[network] architecture", network["architecture"], str)
    if kind := SETTINGS.get(network["architecture"]):
        check_types("[network]", network, kind)
    trained = {stage.cache for stage in stages.values()}
    if network.get("cache", 0) not in {0, *trained}:
        raise ValueError(
            f"[network] cache={network['cache']!r}: no stage trains with it; set cache in "
            "[finetuning], the model then remembers as many steps"
        )
    return network


def _data(data: dict[str, Any], start: Spec | None) -> DataConfig:
    refuse_unknown("[data]", data, {f.name for f in fields(DataConfig)})
    if start is not None:
        data = _as_spec(start) | data
    if start is None or data["channels"] is not start.channels:
        check_value("[data] channels", data["channels"], tuple[dict[str, Any], ...])
        data["channels"] = tuple(chain.from_iterable(map(_channels, data["channels"])))
    for period in ("train", "valid", "test"):
        data[period] = check_period(period, data[period])
    check_types("[data]", {"dataset": data["dataset"]} | data, DataConfig)
    if isinstance(data["dataset"], list):
        data["dataset"] = tuple(data["dataset"])
    for name in ("forcings", "report"):
        data[name] = tuple(data.get(name, ()))
    names = [str(channel) for channel in data["channels"]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"[data] channels declared twice: {', '.join(twice)}")
    if unknown := [name for name in data["report"] if name not in names]:
        raise ValueError(
            f"[data] report={unknown[0]!r}: not a channel; choose from {', '.join(names)}"
        )
    config = DataConfig(**data)
    if start is not None:
        _refuse_misfit(config, start)
    return config


def _as_spec(start: Spec) -> dict[str, Any]:
    """Return what [data] may leave out."""
    return {
        "channels": start.channels,
        "step_hours": start.step.total_seconds() / 3600,
        "history": start.history,
        "forcings": list(start.forcings),
    }


def _refuse_misfit(data: DataConfig, start: Spec) -> None:
    """Refuse data that differ from what the model to start from takes."""
    mine, theirs = set(map(str, data.channels)), set(map(str, start.channels))
    for name, found, needed in (
        ("channels", data.channels, start.channels),
        ("step_hours", data.step_hours, start.step.total_seconds() / 3600),
        ("history", data.history, start.history),
        ("forcings", data.forcings, start.forcings),
    ):
        if found == needed:
            continue
        words = f"{found!r}, the model takes {needed!r}"
        if name == "channels":
            words = "the same as the model's in another order"
            if mine != theirs:
                words = (
                    f"the model takes {', '.join(sorted(theirs - mine)) or 'nothing'} besides, and "
                    f"not {', '.join(sorted(mine - theirs)) or 'anything less'}"
                )
        raise ValueError(
            f"[data] {name}: {words}; leave {name} out to take those of the model that start names"
        )


def _channels(raw: Mapping[str, Any]) -> Iterator[Channel]:
    """Yield the channels of one entry: one, or one a level of a list."""
    refuse_unknown("a channel", raw, {"name", "level_hPa"})
    check_value("a channel's name", raw["name"], str)
    levels = raw.get("level_hPa")
    check_value("a channel's level_hPa", levels, float | tuple[float, ...] | None)
    for level in levels if isinstance(levels, list) else [levels]:
        yield Channel(raw["name"], None if level is None else 100.0 * float(level))
