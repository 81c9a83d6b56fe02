"""Pretraining on one device: plain, logged, and resumed bit for bit."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from xwx.errors import ConfigError
from xwx.models.rollout import rollout
from xwx.training.data import Archive, Batch
from xwx.training.evaluate import forcing_after, persistence_ratios
from xwx.training.log import Log
from xwx.training.loss import HybridLoss
from xwx.training.settings import PretrainConfig
from xwx.training.state import load_state, optimizer_tensors, restore_optimizer, save_state

__all__ = ["Trainer"]


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
        self.log = Log(folder / "log.csv")
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
        ConfigError
            When it belongs to a run with other settings; names them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume and self.state_path.exists():
            self._restore()
        elif self.update == 0:
            self.log.clear()
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
            network, batch.states[:, :history], steps, partial(forcing_after, batch, history)
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
        self.log.append(row)  # before the state: a row that the state does not know of is dropped
        self._save()

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
        theirs = {key: facts.get(key, value) for key, value in mine.items()}
        if mine != theirs:
            raise ConfigError(
                f"{self.state_path} belongs to a run with other settings: "
                f"{', '.join(_differences(theirs, mine))}. Set them back to continue it, or start "
                "afresh with `xwx train CONFIG --fresh`, or give another --out"
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
        self.log.trim(self.update)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List the settings that differ, as the configuration file calls them."""
    before, after = _by_name(old), _by_name(new)
    names = [*after, *(name for name in before if name not in after)]
    return [
        f"{name} {_show(before.get(name))} -> {_show(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _by_name(facts: dict[str, Any]) -> dict[str, Any]:
    periods = dict(zip(("data.train", "data.valid"), facts["periods"], strict=True))
    rest = {"training": facts["config"], "data": facts["spec"], "network": facts["network"]}
    return periods | _flat(rest)


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
