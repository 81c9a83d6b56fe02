"""What modulates the blocks: one learned vector, or the noise time of every frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Blind", "Film", "Informed"]

#: Wavelengths of the time's embedding reach from 2 pi / 1000 to 2 pi, for times in [0, 1].
_SHORTEST = 1000.0


class Film(nn.Linear):
    """A scale and a shift for every channel (FiLM), one and zero before training.

    Parameters
    ----------
    condition, channels : int
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__(condition, 2 * channels)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return scale and shift, (n, channels) each, for conditions (n, D)."""
        scale, shift = super().forward(condition).chunk(2, dim=-1)
        return 1 + scale, shift


class Blind(nn.Module):
    """One learned vector, whatever the noise: the network has to see how noisy a frame is.

    Parameters
    ----------
    condition : int
        Its length.
    """

    def __init__(self, condition: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.empty(1, condition))
        nn.init.normal_(self.vector)

    def forward(self, t: Tensor | None) -> Tensor:
        """Return the vector (1, D)."""
        return nn.functional.silu(self.vector)


class Informed(nn.Module):
    """The noise times of the frames, as waves through two linear maps.

    Parameters
    ----------
    condition : int
        Length of the vectors; even.
    """

    def __init__(self, condition: int) -> None:
        super().__init__()
        self.waves = condition // 2
        self.mlp = nn.Sequential(
            nn.Linear(condition, condition), nn.SiLU(), nn.Linear(condition, condition), nn.SiLU()
        )

    def forward(self, t: Tensor) -> Tensor:
        """Return vectors (B * T, D) for times (B, T)."""
        number = torch.arange(self.waves, device=t.device, dtype=t.dtype)
        wave = torch.exp(number * (math.log(_SHORTEST) / max(1, self.waves - 1)))
        angle = t.flatten()[:, None] * wave
        vectors: Tensor = self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1))
        return vectors
