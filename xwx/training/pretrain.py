"""Pretraining on one device: plain, logged, and resumed bit for bit."""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from xwx.models.rollout import rollout
from xwx.training.data import Archive, Augment, Batch
from xwx.training.loss import HybridLoss, LossConfig
from xwx.training.state import load_state, optimizer_tensors, restore_optimizer, save_state

__all__ = ["PretrainConfig", "Trainer", "persistence_ratios"]


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a training run.

    Parameters
    ----------
    updates : int
        Optimiser steps.
    batch_size : int
    learning_rate, learning_rate_min : float
        Cosine from the first to the second, after `warmup` updates of linear growth.
    weight_decay : float
        On matrices and kernels only.
    clip : float
        Largest gradient norm, applied before the step.
    ema : float
        Decay of the averaged weights, which are the ones that are scored and kept.
    rollout : tuple of (float, int)
        From which share of training on how many steps are predicted in a row.
    precision : {"float32", "bfloat16"}
        bfloat16 autocasts the network.
    validate_every : int
        Updates between validations; each also writes a checkpoint.
    leads : tuple of int
        Steps at which validation scores the forecast.
    seed : int
    """

    updates: int = 1000
    batch_size: int = 16
    learning_rate: float = 2e-4
    learning_rate_min: float = 3e-7
    warmup: int = 0
    weight_decay: float = 0.01
    clip: float = 20.0
    ema: float = 0.999
    rollout: tuple[tuple[float, int], ...] = ((0.0, 1),)
    precision: str = "float32"
    validate_every: int = 200
    leads: tuple[int, ...] = (1, 2, 4, 8)
    seed: int = 0
    augment: Augment = field(default_factory=Augment)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.rollout]
        if not shares or shares[0] != 0 or shares != sorted(shares):
            raise ValueError(f"rollout={self.rollout!r}: shares of training must rise from 0.0")
        if min(steps for _, steps in self.rollout) < 1:
            raise ValueError(f"rollout={self.rollout!r}: at least one step in a row")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision={self.precision!r}: choose from float32, bfloat16")
        if not self.leads or min(self.leads) < 1:
            raise ValueError(f"leads={self.leads!r}: give at least one, in steps from 1")
        for name in ("updates", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be at least 1")

    def rate(self, update: int) -> float:
        """Return the learning rate of an update."""
        if update < self.warmup:
            return self.learning_rate * (update + 1) / self.warmup
        share = (update - self.warmup) / max(1, self.updates - self.warmup)
        low, high = self.learning_rate_min, self.learning_rate
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def steps(self, update: int) -> int:
        """Return how many steps an update predicts in a row."""
        reached = [steps for share, steps in self.rollout if update >= share * self.updates]
        return reached[-1]


class Trainer:
    """Train a network on an archive, validate on another, keep the best averaged weights.

    An interrupted run that is started again with the same arguments continues from its last
    checkpoint and ends with the same weights, bit for bit: every draw follows from the seed and
    the number of the update.

    Parameters
    ----------
    network : torch.nn.Module
        With the buffers ``std`` and ``increment_std`` set.
    train, valid : Archive
    weights : Tensor, shape (H,)
        Mean-one area weights.
    config : PretrainConfig
    folder : Path
        Where ``state.safetensors`` and ``log.csv`` go.
    keep : callable
        Called as ``keep(network, facts)`` with the averaged network whenever its validation
        score is the best so far.
    device : torch.device, optional

    Raises
    ------
    ValueError
        When an archive has no window long enough for the rollout or the leads.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Archive,
        valid: Archive,
        weights: Tensor,
        config: PretrainConfig,
        folder: Path,
        keep: Callable[[nn.Module, dict[str, Any]], None],
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.train_data, self.valid_data = train, valid
        self.config, self.folder, self.keep = config, folder, keep
        self.weights = weights.to(self.device)
        self.loss = HybridLoss(weights, len(train.spec.channels), config.loss).to(self.device)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=config.learning_rate)
        self.update = 0
        self.best = math.inf
        self.losses: list[float] = []  # since the last validation
        self._check_lengths()

    def _groups(self) -> list[dict[str, Any]]:
        decay = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        plain += [p for p in self.loss.parameters() if p.requires_grad]
        return [
            {"params": decay, "weight_decay": self.config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]

    def _check_lengths(self) -> None:
        history = self.train_data.spec.history
        longest = history + max(steps for _, steps in self.config.rollout)
        for name, archive, length in (
            ("training", self.train_data, longest),
            ("validation", self.valid_data, history + max(self.config.leads)),
        ):
            if not len(archive.starts(length)):
                raise ValueError(
                    f"the {name} period holds {len(archive.times)} states and no window of "
                    f"{length} consecutive ones: choose a longer period"
                )

    @property
    def state_path(self) -> Path:
        """Where the checkpoint lies."""
        return self.folder / "state.safetensors"

    def fit(self, *, resume: bool = True, progress: bool = True, until: int | None = None) -> float:
        """Train to the end (or to update `until`) and return the best validation score.

        Raises
        ------
        CheckpointError
            When a checkpoint is there and cannot be read.
        ValueError
            When it belongs to a run with other settings.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume and self.state_path.exists():
            self._restore()
        elif self.update == 0:
            (self.folder / "log.csv").unlink(missing_ok=True)
        end = self.config.updates if until is None else until
        bar = tqdm(total=self.config.updates, initial=self.update, disable=not progress)
        began = time.perf_counter()
        while self.update < end:
            self.losses.append(self._step())
            self.update += 1
            bar.update()
            last = self.update == self.config.updates
            if self.update % self.config.validate_every == 0 or last:
                self._validate(time.perf_counter() - began, bar)
                began = time.perf_counter()
            elif self.update == end:
                self._save()
        bar.close()
        return self.best

    def _step(self) -> float:
        config, spec = self.config, self.train_data.spec
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.update)
        torch.manual_seed(config.seed * 1_000_003 + self.update)
        steps = config.steps(self.update)
        length = spec.history + steps
        batch = self.train_data.batch(self._draw(length), length)
        change = self.average.get_buffer("increment_std").cpu()
        batch = config.augment(batch, spec, change, generator).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.update)
        self.loss.advance_(self.update / config.updates)
        self.network.train()
        self.optimizer.zero_grad()
        loss = self._loss(batch, steps)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, config.clip, error_if_nonfinite=True)
        self.optimizer.step()
        self.loss.clamp_()
        self._average()
        return float(loss.detach())

    def _draw(self, length: int) -> np.ndarray[Any, Any]:
        """Return the windows of this update: a fresh permutation of all of them each epoch."""
        starts = self.train_data.starts(length)
        size = self.config.batch_size
        flat = np.arange(self.update * size, (self.update + 1) * size)
        order = {
            epoch: np.random.default_rng((self.config.seed, int(epoch))).permutation(starts)
            for epoch in np.unique(flat // len(starts))
        }
        return np.array([order[n // len(starts)][n % len(starts)] for n in flat])

    def _loss(self, batch: Batch, steps: int) -> Tensor:
        history = self.train_data.spec.history
        network = self._cast(self.network)
        states = rollout(
            network, batch.states[:, :history], steps, partial(_forcing, batch, history)
        )
        total = torch.zeros((), device=self.device)
        scale = self.average.get_buffer("increment_std")
        for step, state in enumerate(states):
            truth = batch.states[:, history + step]
            total = total + self.loss(state / scale, truth / scale)
        return total / steps

    def _cast(self, network: nn.Module) -> Callable[..., Any]:
        if self.config.precision == "float32":
            return network

        def cast(*args: Any) -> Any:
            with torch.autocast(self.device.type, torch.bfloat16):
                return network(*args)

        return cast

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at first, so that the average forgets the initial weights.
        decay = min(self.config.ema, (1 + self.update) / (10 + self.update))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for mean, now in pairs:
            mean.lerp_(now, 1 - decay)

    def _validate(self, seconds: float, bar: Any) -> None:
        ratios = persistence_ratios(
            self.average, self.valid_data, self.weights, self.config.leads, self.device
        )
        score, loss = float(ratios.mean()), float(np.mean(self.losses))
        row: dict[str, Any] = {
            "update": self.update,
            "seconds": round(seconds, 1),
            "learning_rate": self.config.rate(self.update - 1),
            "steps": self.config.steps(self.update - 1),
            "loss": loss,
            "theta": float(self.loss.theta.detach()),
            "score": score,
        }
        hours = self.valid_data.spec.step.total_seconds() / 3600
        for lead, line in zip(self.config.leads, ratios.tolist(), strict=True):
            for channel, ratio in zip(self.valid_data.spec.channels, line, strict=True):
                row[f"ratio {channel} {lead * hours:g} h"] = ratio
        bar.set_postfix(loss=f"{loss:.4f}", score=f"{score:.4f}")
        if score < self.best:
            self.best = score
            self.keep(self.average, row)
        self.losses = []
        self._log(row)  # before the state: a row that the state does not know of is dropped
        self._save()

    def _log(self, row: dict[str, Any]) -> None:
        path = self.folder / "log.csv"
        fresh = not path.exists() or not path.stat().st_size
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def _fingerprint(self) -> dict[str, Any]:
        described = getattr(self.network, "to_config", dict)
        periods = [
            [len(archive.times), str(archive.times[0]), str(archive.times[-1])]
            for archive in (self.train_data, self.valid_data)
        ]
        return {
            "config": asdict(self.config),
            "spec": self.train_data.spec.to_json(),
            "network": described(),
            "periods": periods,
        }

    def _save(self) -> None:
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        tensors |= {f"loss.{k}": v for k, v in self.loss.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer)
        tensors["rng"] = torch.get_rng_state()
        facts = {"update": self.update, "best": self.best, "losses": self.losses}
        facts |= self._fingerprint()
        save_state(self.state_path, tensors, facts)

    def _restore(self) -> None:
        tensors, facts = load_state(self.state_path)
        mine = _plain(self._fingerprint())
        if different := sorted(k for k, v in mine.items() if facts.get(k, v) != v):
            raise ValueError(
                f"{self.state_path} belongs to a run with another {' and '.join(different)}: "
                "start afresh, or train into another folder"
            )
        for name, module in (
            ("network", self.network),
            ("average", self.average),
            ("loss", self.loss),
        ):
            start = len(name) + 1
            own = {k[start:]: v for k, v in tensors.items() if k.startswith(name + ".")}
            module.load_state_dict(own)
        restore_optimizer(self.optimizer, tensors)
        torch.set_rng_state(tensors["rng"])
        self.update, self.best = int(facts["update"]), float(facts["best"])
        self.losses = [float(loss) for loss in facts.get("losses", [])]
        self._trim_log()

    def _trim_log(self) -> None:
        """Drop the rows of updates that the restored state has not made yet."""
        path = self.folder / "log.csv"
        if not path.exists() or not path.stat().st_size:
            return
        with path.open(newline="") as file:
            head, *rows = csv.reader(file)
        whole = [row for row in rows if len(row) == len(head) and int(row[0]) <= self.update]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([head, *whole])


def _plain(value: Any) -> Any:
    """Return what JSON would make of `value`."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@torch.no_grad()
def persistence_ratios(
    network: nn.Module,
    archive: Archive,
    weights: Tensor,
    leads: tuple[int, ...],
    device: torch.device,
    batch_size: int = 8,
) -> Tensor:
    """Return the RMSE of forecasts over that of persistence, (leads, C).

    Over every start for which the archive holds the truth at all leads; the root is taken after
    the mean over starts.

    Parameters
    ----------
    network : torch.nn.Module
    archive : Archive
    weights : Tensor, shape (H,)
        Mean-one area weights.
    leads : tuple of int
        In steps, increasing.
    device : torch.device
    batch_size : int
    """
    history, most = archive.spec.history, max(leads)
    network.eval()
    errors = torch.zeros(2, len(leads), len(archive.spec.channels), dtype=torch.float64)
    starts = archive.starts(history + most)
    for first in range(0, len(starts), batch_size):
        batch = archive.batch(starts[first : first + batch_size], history + most).to(device)
        now = batch.states[:, history - 1]
        states = rollout(
            network, batch.states[:, :history], most, partial(_forcing, batch, history)
        )
        for step, state in enumerate(states, 1):
            if step in leads:
                truth = batch.states[:, history - 1 + step]
                for n, guess in enumerate((state, now)):
                    e = ((guess - truth).double().square() * weights[:, None]).mean((-2, -1))
                    errors[n, leads.index(step)] += e.sum(0).cpu()
    return (errors[0] / errors[1]).sqrt()


def _forcing(batch: Batch, history: int, step: int) -> Tensor | None:
    """Return the forcings of the latest state after `step` steps of a rollout."""
    return batch.forcing(history - 1 + step)
