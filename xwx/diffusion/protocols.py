"""What the parts of the room expect of each other: denoiser, schedule, operator, observation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Denoiser", "Guide", "Observation", "Operator", "Schedule"]


class Schedule(Protocol):
    """How much of the state (alpha) and of the noise (sigma) there is at a time in [0, 1]."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the clean state at the times `t`, of the same shape."""
        ...

    def sigma(self, t: Tensor) -> Tensor:
        """Return the standard deviation of the noise at the times `t`, of the same shape."""
        ...

    def times(self, steps: int) -> Tensor:
        """Return the times between which `steps` steps are made: (steps + 1,), from 1 to 0."""
        ...


class Denoiser(Protocol):
    """The posterior mean of the clean, normalised frames."""

    def __call__(self, z: Tensor, t: Tensor, /) -> Tensor:
        """Return E[x | z] of z's shape (B, T, ...), for a noise time (B, T) each frame."""
        ...


@runtime_checkable
class Operator(Protocol):
    """What an instrument, or a constraint, sees of a state: differentiable and deterministic."""

    @property
    def size(self) -> int:
        """The number of values seen, M."""
        ...

    @property
    def linear(self) -> bool:
        """Whether the operator is linear, or affine, in the state."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return what is seen (B, M) of the states (B, T, ...), in their dtype."""
        ...


@dataclass(frozen=True)
class Observation:
    """Values seen through an operator, with independent Gaussian errors: y = A(x) + N(0, R).

    Attributes
    ----------
    operator : Operator
        A: from states (B, T, ...) to (B, M).
    value : Tensor, shape (M,) or (B, M)
        y, the same for all members or one row each; finite.
    variance : Tensor of shape (M,), or float
        The diagonal of R, in the units of `value` squared; positive and finite.
    strict : Tensor of shape (M,) and dtype bool, or bool
        Which values are to be met to rounding by the state that sampling returns. For a few
        constraints, such as the mass of dry air.

    Raises
    ------
    ValueError
        If a shape does not fit the operator's size, a value is not finite, or a variance is not
        positive and finite.
    """

    operator: Operator
    value: Tensor
    variance: Tensor | float
    strict: Tensor | bool = False

    def __post_init__(self) -> None:
        size = self.operator.size
        if self.value.ndim not in (1, 2) or self.value.shape[-1] != size:
            raise ValueError(
                f"value has the shape {tuple(self.value.shape)}: the operator sees {size} values, "
                f"so give ({size},), or (members, {size})"
            )
        if not torch.isfinite(self.value).all():
            count = int((~torch.isfinite(self.value)).sum())
            raise ValueError(
                f"value holds {count} numbers that are not finite: let the operator see only what "
                "was observed"
            )
        for name in ("variance", "strict"):
            given = getattr(self, name)
            if isinstance(given, Tensor) and given.ndim and tuple(given.shape) != (size,):
                raise ValueError(
                    f"{name} has the shape {tuple(given.shape)}: give one number, or ({size},)"
                )
        if not bool(((self.variances > 0) & torch.isfinite(self.variances)).all()):
            raise ValueError(
                f"variance reaches from {float(self.variances.min())} to "
                f"{float(self.variances.max())}: give positive, finite numbers; a small one for "
                "what is exact"
            )

    @property
    def variances(self) -> Tensor:
        """The diagonal of R, of shape (M,), in the dtype of `value`."""
        value = self.value
        variance = torch.as_tensor(self.variance, dtype=value.dtype, device=value.device)
        return variance.expand(self.operator.size)

    @property
    def demanded(self) -> Tensor:
        """Which values are strict: (M,), bool."""
        strict = torch.as_tensor(self.strict, dtype=torch.bool, device=self.value.device)
        return strict.expand(self.operator.size)

    def whitened_residual(self, x: Tensor) -> Tensor:
        """Return (A(x) - y) / sqrt(R), of shape (B, M): about N(0, I) for the state observed."""
        return (self.operator(x) - self.value) / self.variances.sqrt()

    def of(self, members: slice) -> Observation:
        """Return what concerns these members of the batch."""
        if self.value.ndim == 1:
            return self
        return replace(self, value=self.value[members])


class Guide(Protocol):
    """What moves the posterior mean of the frames towards observations."""

    def __call__(
        self,
        denoise: Denoiser,
        z: Tensor,
        t: Tensor,
        schedule: Schedule,
        free: Tensor,
        *,
        last: bool = False,
    ) -> Tensor:
        """Return E[x | z, y] of z's shape; `free` (B, T) is False where a frame is clean.

        `last` says that the result is what sampling returns.
        """
        ...

    def of(self, members: slice) -> Guide:
        """Return what guides these members of the batch."""
        ...

    def residual(self, x: Tensor) -> Tensor:
        """Return how far the states are from what was observed, in standard deviations (B, M)."""
        ...
