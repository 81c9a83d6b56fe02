"""A stage of training: plain, logged, and resumed bit for bit."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from xwx.errors import ConfigError
from xwx.training.batches import Ahead, Batches
from xwx.training.checks import check_stage
from xwx.training.data import Archive, Batch
from xwx.training.distributed import ALONE, Processes
from xwx.training.fingerprint import fingerprint, refuse_another
from xwx.training.log import Log
from xwx.training.objective import make_objective
from xwx.training.optimizers import make_optimizers, set_rate
from xwx.training.settings import StageConfig
from xwx.training.state import load_state, optimizer_tensors, restore_optimizer, save_state

__all__ = ["LOG", "STATE", "Trainer"]

#: What a stage writes into its folder.
LOG, STATE = "log.csv", "state.safetensors"

#: Seconds after which the state is written between validations, which may be hours apart.
SAVE_EVERY = 300.0


class Trainer:
    """Train a network on an archive, validate on another, keep the best averaged weights.

    What is learned, and what the score is, is up to the network's kind: see
    :func:`~xwx.training.objective.make_objective`.

    An interrupted run that is started again with the same arguments continues from its last
    state and ends with the same weights, bit for bit: every draw follows from the seed and
    the number of the update. Several processes draw what one would, but for dropout.

    Parameters
    ----------
    network : torch.nn.Module
        With the buffers ``std`` and ``increment_std`` set.
    train, valid : Archive
    weights : Tensor, shape (H,)
        Mean-one area weights.
    config : StageConfig
    folder : Path
        Where ``state.safetensors`` and ``log.csv`` go.
    keep : callable
        Called as ``keep(network, facts)`` with the averaged network whenever its validation
        score is the best so far; in the first process only.
    device : torch.device, optional
    processes : Processes
    stage : str
        What the configuration file calls the settings.
    start : str
        The digest of the model that the network is, if it is one.
    balance : mapping, optional
        The theta and s that its training ended with.

    Raises
    ------
    ConfigError
        When the network cannot do what `config` asks; while it trains, when the score on the
        validation period is no longer finite.
    ValueError
        When an archive has no window long enough for the rollout or the leads.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Archive,
        valid: Archive,
        weights: Tensor,
        config: StageConfig,
        folder: Path,
        keep: Callable[[nn.Module, dict[str, Any]], None],
        device: torch.device | None = None,
        *,
        processes: Processes = ALONE,
        stage: str = "training",
        start: str = "",
        balance: Mapping[str, Any] | None = None,
    ) -> None:
        check_stage(network, train, valid, config, processes)
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.train_data, self.valid_data = train, valid
        self.config, self.folder, self.keep = config, folder, keep
        self.processes, self.stage, self.start = processes, stage, start
        self.weights = weights.to(self.device)
        self.objective = make_objective(
            self.network, valid, self.weights, config, processes, balance
        )
        self.loss = self.objective.loss
        self.optimizers = make_optimizers(self.network, self.loss, config)
        if config.recompute:
            self.network.checkpointing = True  # type: ignore[assignment]
        self.update = 0
        self.best = math.inf
        self.losses: list[Tensor] = []  # since the last validation
        self.log = Log(folder / LOG)

    @property
    def state_path(self) -> Path:
        """Where the state lies."""
        return self.folder / STATE

    def fit(self, *, resume: bool = True, progress: bool = True, until: int | None = None) -> float:
        """Train to the end (or to update `until`) and return the best validation score.

        Raises
        ------
        CheckpointError
            When a state is there and cannot be read.
        ConfigError
            When it belongs to a run with other settings; names them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume and self.state_path.exists():
            self._restore()
        elif self.update == 0 and self.processes.first:
            self.log.clear()
        end = self.config.updates if until is None else until
        scale = self.average.get_buffer("increment_std")
        batches = Batches(
            self.train_data,
            self.config,
            self.objective.length,
            scale.cpu(),
            self.processes,
            offset=None if self.objective.offset is None else self.objective.offset.cpu(),
            pin=self.device.type == "cuda",
        )
        ahead = Ahead(batches, self.update, end, self.config.prefetch)
        shown = progress and self.processes.first
        bar = tqdm(
            total=self.config.updates, initial=self.update, disable=not shown, desc=self.stage
        )
        try:
            self._run(ahead, end, bar)
        finally:
            ahead.close()
            bar.close()
        return self.best

    def _run(self, ahead: Ahead, end: int, bar: Any) -> None:
        began = saved = time.perf_counter()
        while self.update < end:
            self.losses.append(self._step(ahead.take().to(self.device)))
            self.update += 1
            bar.update()
            last = self.update == self.config.updates
            if self.update % self.config.validate_every == 0 or last:
                self._validate(time.perf_counter() - began, ahead.waited, bar)
                began = saved = time.perf_counter()
                ahead.waited = 0.0
            elif self.update == end or time.perf_counter() - saved > SAVE_EVERY:
                self._save()
                saved = time.perf_counter()

    def _step(self, batch: Batch) -> Tensor:
        """Learn from one batch of sequences and return its mean loss."""
        config = self.config
        # Dropout of other processes is other dropout.
        torch.manual_seed(config.seed * 1_000_003 + self.update + (self.processes.rank << 40))
        set_rate(self.optimizers, config, self.update)
        self.network.train()
        self._clear()
        loss = self.objective.learn(batch, self.update, self._turn)
        self._average()
        return loss

    def _clear(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def _turn(self, loss: Tensor | None = None) -> None:
        """Step the optimisers with the gradients at hand, and clear them."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        parameters = [p for group in groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.processes.average_(gradients if loss is None else [*gradients, loss])
        nn.utils.clip_grad_norm_(parameters, self.config.clip, error_if_nonfinite=True)
        for optimizer in self.optimizers:
            optimizer.step()
        self.objective.settle()
        self._clear()

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at first, so that the average forgets the initial weights.
        decay = min(self.config.ema, (1 + self.update) / (10 + self.update))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for mean, now in pairs:
            mean.lerp_(now, 1 - decay)

    def _validate(self, seconds: float, waited: float, bar: Any) -> None:
        found = self.objective.score(self.average, self.update, self.device)
        row: dict[str, Any] = {
            "update": self.update,
            "seconds": round(seconds, 1),
            "waiting": round(waited / max(seconds, 1e-9), 4),
            "learning_rate": self.config.rate(self.update - 1),
            "loss": float(np.mean([float(loss) for loss in self.losses])),
        } | found
        bar.set_postfix(loss=f"{row['loss']:.4f}", score=f"{row['score']:.4f}")
        if not math.isfinite(row["score"]):
            raise ConfigError(
                f"[{self.stage}] after update {self.update} the validation score is {row['score']}:"
                " the training diverged, lower learning_rate"
            )
        better = row["score"] < self.best
        if better:
            self.best = row["score"]
        self.losses = []
        if self.processes.first:
            if better:
                self.keep(self.average, row | {"facts": self.objective.facts()})
            self.log.append(row)  # before the state, which drops the rows that it does not know of
        self._save()

    def _fingerprint(self) -> dict[str, Any]:
        archives = (self.train_data, self.valid_data)
        return fingerprint(self.config, self.network, archives, self.start)

    def _parts(self) -> dict[str, nn.Module]:
        return {"network": self.network, "average": self.average, "loss": self.loss}

    def _save(self) -> None:
        if not self.processes.first:
            return
        tensors = {
            f"{name}.{key}": value
            for name, module in self._parts().items()
            for key, value in module.state_dict().items()
        }
        for name, optimizer in zip(("optimizer", "muon"), self.optimizers, strict=False):
            tensors |= optimizer_tensors(optimizer, name)
        tensors["rng"] = torch.get_rng_state()
        losses = [float(loss) for loss in self.losses]
        facts = {"update": self.update, "best": self.best, "losses": losses}
        save_state(self.state_path, tensors, facts | self._fingerprint())

    def _restore(self) -> None:
        tensors, facts = load_state(self.state_path)
        refuse_another(self.state_path, facts, self._fingerprint(), self.stage)
        for name, module in self._parts().items():
            start = len(name) + 1
            own = {k[start:]: v for k, v in tensors.items() if k.startswith(name + ".")}
            module.load_state_dict(own)
        for name, optimizer in zip(("optimizer", "muon"), self.optimizers, strict=False):
            restore_optimizer(optimizer, tensors, name)
        torch.set_rng_state(tensors["rng"])
        self.update, self.best = int(facts["update"]), float(facts["best"])
        self.losses = [torch.tensor(loss, device=self.device) for loss in facts.get("losses", [])]
        if self.processes.first:
            self.log.trim(self.update)
