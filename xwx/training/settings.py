"""Settings of a training run, checked as they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from xwx.training.data import Augment
from xwx.training.loss import LossConfig

__all__ = ["PretrainConfig"]


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
