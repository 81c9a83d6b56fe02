"""Train: from a configuration file to a model on disk."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from xwx import tutorial
from xwx.errors import ConfigError
from xwx.fields import check, find_coordinates, forcings, grid_of, latitude_weights, pack
from xwx.models.architectures import find_architecture
from xwx.models.card import Card
from xwx.models.checkpoint import load_checkpoint, save_checkpoint
from xwx.models.registry import resolve_device
from xwx.options import get_options
from xwx.spec import Spec
from xwx.training.config import DataConfig, Period, TrainConfig, read_config
from xwx.training.data import Archive, statistics
from xwx.training.evaluate import persistence_ratios
from xwx.training.pretrain import Trainer

__all__ = ["train"]


def train(
    config_path: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    device: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Train a model as a configuration file says.

    Parameters
    ----------
    config_path : path-like
        TOML; the bundled model's ``train.toml`` is a commented example.
    out : path-like, optional
        Folder of the run, by default ``runs/<name>``. It receives ``model/`` (the checkpoint
        with the best validation score), ``log.csv`` and ``state.safetensors``.
    resume : bool
        Continue an interrupted run in that folder; otherwise start afresh.
    device : str, optional
    progress : bool, optional

    Returns
    -------
    Path
        The checkpoint, for :func:`xwx.load`. Its card holds the scores on the reported period,
        which took no part in training or choosing.

    Raises
    ------
    ConfigError
        When the configuration is not understood.
    MismatchError
        When the Dataset does not hold what the configuration names.
    """
    config = read_config(Path(config_path))
    folder = Path(out) if out is not None else Path("runs") / config.name
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    ds = _open(config.data)
    spec = _spec(ds, config.data)
    learn, choose = (_archive(ds, spec, p) for p in (config.data.train, config.data.valid))
    weights = latitude_weights(spec.grid.rows)
    torch.manual_seed(config.training.seed)
    network: nn.Module = find_architecture(config.architecture).from_config(config.network, spec)
    _set_statistics(network, *statistics(learn, weights))
    keeper = _Keeper(folder / "model", spec, config)
    trainer = Trainer(
        network,
        learn,
        choose,
        torch.from_numpy(weights).float(),
        config.training,
        folder,
        keeper,
        resolve_device(device),
    )
    shown = get_options()["progress"] if progress is None else progress
    trainer.fit(resume=resume, progress=shown is not False)
    _report(folder / "model", _archive(ds, spec, config.data.test, lead_in=True), config)
    return folder / "model"


def _open(data: DataConfig) -> xr.Dataset:
    if data.dataset in tutorial.names():
        return tutorial.open_dataset(data.dataset)
    try:
        return xr.open_dataset(data.dataset)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"[data] dataset={data.dataset!r} cannot be opened ({error}); it is neither a path nor "
            f"one of {', '.join(tutorial.names())}"
        ) from error


def _spec(ds: xr.Dataset, data: DataConfig) -> Spec:
    spec = Spec(
        data.channels,
        grid_of(ds),
        timedelta(hours=data.step_hours),
        data.history,
        data.forcings,
    )
    check(ds, spec, values=False).raise_if_bad()
    return spec


def _archive(ds: xr.Dataset, spec: Spec, period: Period, *, lead_in: bool = False) -> Archive:
    """Pack a period; with `lead_in` also the history that a start at its first time needs."""
    times = ds[str(find_coordinates(ds).time)].to_index()
    chosen = range(len(times))[times.slice_indexer(*period)]
    if not chosen:
        raise ConfigError(f"[data] no state between {period[0]} and {period[1]} in the Dataset")
    first = max(0, chosen[0] - (spec.history - 1) * lead_in)
    states, frame = pack(ds, spec, times=slice(first, chosen[-1] + 1))
    forced = forcings(frame.times, spec.grid, spec.forcings) if spec.forcings else None
    return Archive(states, forced, frame.times, spec)


def _set_statistics(network: Any, *values: Tensor) -> None:
    network.set_statistics(*values)


class _Keeper:
    """Saves the best network so far, with what is known of it."""

    def __init__(self, path: Path, spec: Spec, config: TrainConfig) -> None:
        self.path, self.spec, self.config = path, spec, config

    def __call__(self, network: nn.Module, row: dict[str, Any]) -> None:
        facts = {
            "seed": self.config.training.seed,
            "update": row["update"],
            "validation_score": round(row["score"], 5),
        }
        card = Card(name=self.config.name, facts=facts, **self.config.card)
        save_checkpoint(self.path, network, self.spec, card)


def _report(path: Path, archive: Archive, config: TrainConfig) -> None:
    """Score the chosen network on the reported period, once, and write it on the card."""
    model = load_checkpoint(path)
    leads = config.training.leads
    weights = torch.from_numpy(latitude_weights(model.spec.grid.rows)).float()
    ratios = persistence_ratios(model.network, archive, weights, leads, torch.device("cpu"))
    hours = model.spec.step.total_seconds() / 3600
    scores = {
        f"{lead * hours:g} h": dict(
            zip(map(str, model.spec.channels), (round(r, 4) for r in line), strict=True)
        )
        for lead, line in zip(leads, ratios.tolist(), strict=True)
    }
    facts = {**model.card.facts, "rmse_over_persistence": scores}
    card = Card(**{**model.card.to_json(), "facts": facts})
    save_checkpoint(path, model.network, model.spec, card)
