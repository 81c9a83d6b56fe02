"""The map that a sequence of tokens stands for, at every resolution of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["TokenMap"]


@dataclass(frozen=True)
class TokenMap:
    """Where tokens (B, height * width, D) lie: rows north to south, columns eastwards.

    Parameters
    ----------
    height, width : int
        Rows and columns of tokens.
    valid : int
        Rows from the north that hold data; the rest are padding beyond the southern edge.
    periodic : bool
        Whether the last column neighbours the first.
    """

    height: int
    width: int
    valid: int
    periodic: bool

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns, as the fused operations take them."""
        return self.height, self.width

    @property
    def longitude(self) -> str:
        """What lies beyond the first and last column."""
        return "circular" if self.periodic else "zero"

    def merged(self, axis: str) -> TokenMap:
        """Return the map after neighbours along `axis` ("lon" or "lat") became one token."""
        if axis == "lon":
            return replace(self, width=self.width // 2)
        return replace(self, height=self.height // 2, valid=(self.valid + 1) // 2)

    def blank_padding(self, x: Tensor) -> Tensor:
        """Set the padding rows of tokens (B, height * width, D) to zero."""
        if self.valid == self.height:
            return x
        keep = torch.arange(x.shape[1], device=x.device) < self.valid * self.width
        return torch.where(keep[:, None], x, torch.zeros((), dtype=x.dtype, device=x.device))

    def key_mask(self, device: torch.device) -> Tensor | None:
        """Return which tokens (height * width) may be attended to; None for all."""
        if self.valid == self.height:
            return None
        return torch.arange(self.height * self.width, device=device) < self.valid * self.width
