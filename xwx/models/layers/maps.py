"""The map that a sequence of tokens stands for, at every resolution of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
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
        """Rows and columns."""
        return self.height, self.width

    @property
    def data(self) -> tuple[int, int]:
        """Rows and columns that hold data: the map that the fused operations are given."""
        return self.valid, self.width

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

    def crop(self, x: Tensor) -> Tensor:
        """Return the tokens that hold data, (B, valid * width, D)."""
        return x if self.valid == self.height else x[:, : self.valid * self.width]

    def restore(self, x: Tensor) -> Tensor:
        """Undo :meth:`crop`, with zeros in the padding rows."""
        if self.valid == self.height:
            return x
        return F.pad(x, (0, 0, 0, (self.height - self.valid) * self.width))
