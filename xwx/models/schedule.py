"""How much noise there is at which time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rectified", "per_frame"]


@dataclass(frozen=True)
class Rectified:
    """The rectified schedule: state and noise change places along straight lines.

    ``alpha(t) = (1 - t) + t floor`` and ``sigma(t) = t + (1 - t) floor``, so that a noised frame
    is ``z = alpha(t) x + sigma(t) N(0, I)`` for t in [0, 1]. Neither ever vanishes.

    Attributes
    ----------
    floor : float
        alpha at t = 1 and sigma at t = 0; above 0 and below 1.

    Raises
    ------
    ValueError
        If `floor` is not between 0 and 1.

    References
    ----------
    Liu, Gong and Liu (2023), Flow straight and fast, https://arxiv.org/abs/2209.03003.
    """

    floor: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.floor < 1:
            raise ValueError(f"floor is {self.floor}: give a number above 0 and below 1")

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the clean state at the times `t`, of the same shape."""
        return (1 - t) + t * self.floor

    def sigma(self, t: Tensor) -> Tensor:
        """Return the standard deviation of the noise at the times `t`, of the same shape."""
        return t + (1 - t) * self.floor

    def times(self, steps: int) -> Tensor:
        """Return the times between which steps are made.

        Parameters
        ----------
        steps : int
            At least 1.

        Returns
        -------
        Tensor, shape (steps + 1,), float64
            Uniform, from 1 to 0.

        Raises
        ------
        ValueError
            If `steps` is below 1.
        """
        if steps < 1:
            raise ValueError(f"steps is {steps}: give at least 1")
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def per_frame(value: Tensor, like: Tensor) -> Tensor:
    """Return a value each frame (B, T) in a shape that broadcasts against `like` (B, T, ...)."""
    return value.reshape(*value.shape, *([1] * (like.ndim - value.ndim)))
