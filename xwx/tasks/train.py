"""Train: from a configuration file to a model on disk."""

from __future__ import annotations

import copy
import importlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn

from xwx.errors import ConfigError
from xwx.fields import latitude_weights
from xwx.models.architectures import find_architecture
from xwx.models.card import DOCUMENT, Card
from xwx.models.checkpoint import Model, load_checkpoint, save_checkpoint
from xwx.models.registry import load
from xwx.options import get_options
from xwx.spec import Spec
from xwx.tasks.archive import make_archive, make_spec, open_training_data
from xwx.tasks.prepare import set_static, set_statistics
from xwx.tasks.report import report
from xwx.training.checks import check_periods, check_stage, farthest
from xwx.training.config import Period, TrainConfig, read_config
from xwx.training.data import Archive
from xwx.training.distributed import Processes, processes
from xwx.training.memory import set_memory
from xwx.training.trainer import LOG, STATE, Trainer

__all__ = ["train"]


def train(
    config_path: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    device: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Train a model as a configuration file says: pretraining, fine-tuning, or both in a row.

    Parameters
    ----------
    config_path : path-like
        TOML; ``docs/howto/train.md`` has every key, the bundled model's ``train.toml`` is an
        example.
    out : path-like, optional
        Folder of the run, by default ``runs/<name>``. It receives ``model/``, ``log.csv`` and
        ``state.safetensors``, and with a table ``[finetuning]`` also ``pretrained/``, the model
        that fine-tuning starts from, and ``finetuning/`` with a log and a state of its own.
        ``training.png`` shows the logs where matplotlib is installed.
    resume : bool
        Continue an interrupted run in that folder; otherwise start afresh.
    device : str, optional
    progress : bool, optional

    Returns
    -------
    Path
        The model of the last stage with the best validation score of that stage, for
        :func:`xwx.load`. Its card holds the scores on the reported period, which took no part in
        training or choosing.

    Raises
    ------
    ConfigError
        When the configuration is not understood, or does not fit the model to start from.
    MismatchError
        When the Dataset does not hold what the configuration names.

    Notes
    -----
    Under ``torchrun`` every process calls this; the first one writes.
    """
    config = read_config(Path(config_path))
    folder = Path(out).expanduser() if out is not None else Path("runs") / config.name
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    shown = get_options()["progress"] if progress is None else progress
    with processes(device) as (group, own):
        _Run(config, folder, resume, shown is not False, group, own).go()
    return folder / "model"


@dataclass
class _Run:
    """One call of :func:`train`."""

    config: TrainConfig
    folder: Path
    resume: bool
    progress: bool
    group: Processes
    device: torch.device

    def go(self) -> None:
        with open_training_data(self.config.data) as ds:
            self._go(ds)

    def _go(self, ds: xr.Dataset) -> None:
        data = self.config.data
        spec = make_spec(ds, data)
        start = self._start(spec)
        with self.group.first_then_others():
            learn, choose = (self._archive(ds, spec, p) for p in (data.train, data.valid))
            reported = self._archive(ds, spec, data.test, lead_in=True)
        archives = (learn, choose)
        network: Any = copy.deepcopy(start.network) if start else self._build(spec)
        self._check(network, archives, reported)
        if not self.resume:
            self._forget()
        path = self.folder / "pretrained"
        if start is None:
            if self.config.finetuning is None:
                path = self.folder / "model"
            set_statistics(network, archives[0], self.group)
            set_static(network, ds)
            self._fit("training", network, archives, path)
        if self.config.finetuning is not None:
            if start is None:
                start = self._pretrained(path)
                network = start.network
            path = self.folder / "finetuning" / "model"
            self._fit("finetuning", network, archives, path, start.card)
        model = report(load_checkpoint(path), reported, self.config, self.device, self.group)
        if self.group.first:
            model.save(self.folder / "model")
            _draw(self.folder)

    def _archive(
        self, ds: xr.Dataset, spec: Spec, period: Period, *, lead_in: bool = False
    ) -> Archive:
        packed = Path(self.config.data.packed or self.folder / "packed")
        return make_archive(ds, spec, period, packed.expanduser(), lead_in=lead_in)

    def _start(self, spec: Spec) -> Model | None:
        """Return the model to start from, if the configuration names one."""
        if not self.config.start:
            return None
        model = load(os.path.expanduser(self.config.start), device="cpu")
        if model.spec.grid != spec.grid:
            raise ConfigError(
                f"start={self.config.start!r}: the model is for a grid of {model.spec.grid}, the "
                f"dataset has {spec.grid}; regrid it first, as `ds.wx.regrid` does"
            )
        return model

    def _build(self, spec: Spec) -> Any:
        torch.manual_seed(next(iter(self.config.stages.values())).seed)
        return find_architecture(self.config.architecture).from_config(self.config.network, spec)

    def _check(
        self, network: nn.Module, archives: tuple[Archive, Archive], reported: Archive
    ) -> None:
        """Refuse a stage that cannot run before the stages ahead of it have taken hours."""
        for name, stage in self.config.stages.items():
            try:
                set_memory(network, stage)
                check_stage(network, *archives, stage, self.group)
            except ValueError as error:
                raise ConfigError(f"[{name}] {error}") from error
        try:
            check_periods(*archives, reported, farthest(network, stage))
        except ValueError as error:
            raise ConfigError(f"[data] {error}") from error

    def _forget(self) -> None:
        """Take away the states and logs of both stages, lest an interrupted run go on from them."""
        if self.group.first:
            for folder in (self.folder, self.folder / "finetuning"):
                for name in (STATE, LOG):
                    (folder / name).unlink(missing_ok=True)
        self.group.wait()

    def _pretrained(self, path: Path) -> Model:
        """Return the best model of the first stage."""
        if self.group.first and not (path / DOCUMENT).is_file():
            # Pretraining ended before the configuration had a second stage.
            shutil.copytree(self.folder / "model", path, dirs_exist_ok=True)
        self.group.wait()  # for the first process to write it
        return load_checkpoint(path)

    def _fit(
        self,
        name: str,
        network: nn.Module,
        archives: tuple[Archive, Archive],
        path: Path,
        start: Card | None = None,
    ) -> None:
        stage = self.config.stages[name]
        set_memory(network, stage)
        spec = archives[0].spec
        weights = torch.from_numpy(latitude_weights(spec.grid.rows)).float()
        trainer = Trainer(
            network,
            *archives,
            weights,
            stage,
            self.folder if name == "training" else self.folder / name,
            _Keeper(path, spec, self.config, name),
            self.device,
            processes=self.group,
            stage=name,
            start=start.sha256 if start else "",
            balance=start.facts.get("balance") if start else None,
        )
        trainer.fit(resume=self.resume, progress=self.progress)


def _draw(folder: Path) -> None:
    """Draw the run where matplotlib is there, which training does not need."""
    try:
        curves = importlib.import_module("xwx.tasks.curves")
    except ImportError as error:
        sys.stderr.write(f"xwx: no {folder / 'training.png'} ({error})\n")
    else:
        curves.draw_curves(folder)


@dataclass(frozen=True)
class _Keeper:
    """Saves the best network so far, with what is known of it."""

    path: Path
    spec: Spec
    config: TrainConfig
    stage: str

    def __call__(self, network: nn.Module, row: dict[str, Any]) -> None:
        facts: dict[str, Any] = {
            "seed": self.config.stages[self.stage].seed,
            "update": row["update"],
            "validation_score": round(row["score"], 5),
        } | row["facts"]
        if self.config.finetuning is not None:
            facts = {"stage": self.stage, **facts}
        if self.config.start:
            facts["start"] = self.config.start
        card = Card(name=self.config.name, facts=facts, **self.config.card)
        save_checkpoint(self.path, network, self.spec, card)
