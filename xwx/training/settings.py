"""Settings of one stage of training, checked as they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from xwx.training.data import Augment
from xwx.training.loss import LossConfig
from xwx.training.noise import NoiseConfig

__all__ = ["StageConfig"]


@dataclass(frozen=True)
class StageConfig:
    """Settings of a stage: pretraining (``[training]``) or fine-tuning (``[finetuning]``).

    Parameters
    ----------
    updates : int
        Sequences to learn from in a row, each a batch; one optimiser step each, or with
        ``update="per_step"`` one a forecast step.
    batch_size : int
        Of all processes together.
    learning_rate, learning_rate_min : float
        Cosine from the first to the second, after `warmup` updates of linear growth. The second
        may be 0, and is at most the first.
    warmup : int
        Below `updates`.
    weight_decay : float
        On matrices and kernels only.
    clip : float
        Largest gradient norm, applied before the step; a large number for none.
    ema : float
        Decay of the averaged weights, which are the ones that are scored and kept; below 1, and
        0 for no average.
    rollout : tuple of (float, int)
        From which share of training, from 0 and below 1, on how many steps are predicted in a row.
    gradient : str
        How far back gradients flow: ``"through"`` the whole rollout, ``"detach"`` through one
        step (a forecast enters the next step as data), or ``"bptt:k"`` through segments of k steps.
    cache : int
        Frames that the network's memory holds within a rollout; 0 for no memory. Validation uses
        the same memory, and the kept model forecasts with it.
    alpha : float
        Weight of the present attention in the scores of the frames.
    kv_grad : bool
        Whether gradients flow into remembered keys and values, within a segment.
    update : {"sequence", "per_step"}
        One optimiser step a sequence, with the losses divided by the number of steps; or one
        after every forecast step, as the authors' code does.
    recompute : bool
        Recompute the valley's blocks in the backward pass, for less memory.
    optimizer : {"adamw", "muon"}
        Muon for the matrices of hidden layers with AdamW for all else, or AdamW for all.
    muon_learning_rate : float or None
        By default `learning_rate`. Follows the same schedule.
    precision : {"float32", "bfloat16"}
        bfloat16 autocasts the network.
    prefetch : int
        Batches prepared ahead by a thread; 0 for none. Changes no result.
    validate_every : int
        Updates between validations; each also writes the state.
    validation_starts : int
        Forecasts that validation scores, from starts spread evenly over its period; 0 for all.
        In the last stage also those of the report.
    leads : tuple of int
        Steps at which validation scores the forecast, increasing.
    seed : int
    augment : Augment
    loss : LossConfig
    noise : NoiseConfig
        For networks that denoise, which take neither `loss` nor any setting of rollouts.

    Raises
    ------
    ValueError
        For a setting out of range, or two that contradict each other.
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
    gradient: str = "through"
    cache: int = 0
    alpha: float = 0.9
    kv_grad: bool = False
    update: str = "sequence"
    recompute: bool = False
    optimizer: str = "adamw"
    muon_learning_rate: float | None = None
    precision: str = "float32"
    prefetch: int = 2
    validate_every: int = 200
    validation_starts: int = 0
    leads: tuple[int, ...] = (1, 2, 4, 8)
    seed: int = 0
    augment: Augment = field(default_factory=Augment)
    loss: LossConfig = field(default_factory=LossConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.rollout]
        if not shares or shares[0] != 0 or shares != sorted(shares) or not shares[-1] < 1:
            raise ValueError(
                f"rollout={self.rollout!r}: shares of training must rise from 0.0 and lie below 1"
            )
        if min(steps for _, steps in self.rollout) < 1:
            raise ValueError(f"rollout={self.rollout!r}: at least one step in a row")
        if not self.leads or min(self.leads) < 1 or list(self.leads) != sorted(set(self.leads)):
            raise ValueError(
                f"leads={self.leads!r}: give at least one, in steps from 1, each once and rising"
            )
        for name, allowed in (
            ("precision", ("float32", "bfloat16")),
            ("update", ("sequence", "per_step")),
            ("optimizer", ("adamw", "muon")),
        ):
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise ValueError(f"{name}={value!r}: choose from {', '.join(allowed)}")
        for name in ("updates", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be at least 1")
        for name in ("cache", "prefetch", "warmup", "validation_starts"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be at least 0")
        _read_gradient(self.gradient)
        self._refuse_out_of_range()
        self._refuse_contradictions()

    def _refuse_out_of_range(self) -> None:
        muon = self.muon_learning_rate
        for name, fits, wanted in (  # written such that NaN fits nothing
            ("alpha", 0 <= self.alpha <= 1, "lie between 0 and 1"),
            ("ema", 0 <= self.ema < 1, "be at least 0 and below 1; 0 averages nothing"),
            ("clip", self.clip > 0, "be above 0; a large number, as 1e9, means none"),
            ("learning_rate", self.learning_rate > 0, "be above 0"),
            ("learning_rate_min", self.learning_rate_min >= 0, "be at least 0"),
            (
                "muon_learning_rate",
                muon is None or muon > 0,
                "be above 0; leave it out for learning_rate",
            ),
        ):
            if not fits:
                raise ValueError(f"{name}={getattr(self, name)!r}: must {wanted}")

    def _refuse_contradictions(self) -> None:
        if self.learning_rate_min > self.learning_rate:
            raise ValueError(
                f"learning_rate_min={self.learning_rate_min!r} with "
                f"learning_rate={self.learning_rate!r}: the rate falls from the latter to the "
                f"former; set learning_rate_min = {self.learning_rate!r} or less"
            )
        if self.warmup >= self.updates:
            raise ValueError(
                f"warmup={self.warmup!r} with updates={self.updates!r}: nothing is left to learn "
                "at the full rate; set a lower warmup, or more updates"
            )
        if self.cache and self.longest == 1:
            raise ValueError(
                f"cache={self.cache!r}: a memory is first read in the second step of a rollout, "
                f"and rollout={self.rollout!r} has one: predict more steps, or set cache = 0"
            )
        if self.kv_grad and not self.cache:
            raise ValueError("kv_grad=True: there is no memory to train; set cache = 5, say")
        if self.kv_grad and _read_gradient(self.gradient) == 1:
            raise ValueError(
                f"kv_grad=True with gradient={self.gradient!r}: nothing flows from one step to the "
                "next; set gradient = 'through' or 'bptt:2', say, or kv_grad = false"
            )
        if self.update == "per_step" and self.segment(self.longest) > 1:
            raise ValueError(
                f"update='per_step' with gradient={self.gradient!r}: a step of the optimiser "
                "changes the weights that earlier steps' gradients need; set gradient = 'detach'"
            )
        if self.muon_learning_rate is not None and self.optimizer != "muon":
            raise ValueError(
                f"muon_learning_rate={self.muon_learning_rate!r} with "
                f"optimizer={self.optimizer!r}: set optimizer = 'muon', or leave it out"
            )

    @property
    def longest(self) -> int:
        """The longest rollout of the stage, in steps."""
        return max(steps for _, steps in self.rollout)

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

    def segment(self, steps: int) -> int:
        """Return through how many of `steps` steps in a row gradients flow."""
        return min(_read_gradient(self.gradient) or steps, steps)


def _read_gradient(value: str) -> int | None:
    """Return the steps of a segment, None for the whole rollout."""
    if value == "through":
        return None
    if value == "detach":
        return 1
    kind, _, count = value.partition(":")
    if kind != "bptt" or not count.isdecimal() or int(count) < 1:
        raise ValueError(
            f"gradient={value!r}: choose from through, detach, or bptt:k with k steps, as 'bptt:2'"
        )
    return int(count)
