"""The seam between attention blocks and a memory of past keys and values."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Memory"]


class Memory(Protocol):
    """What a block needs of a memory: attention over what it holds and the present."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Memory]:
        """Attend to remembered and present keys.

        Parameters
        ----------
        q, k, v : Tensor, shape (B, heads, N, d)
            Queries, keys and values of the present state, without padding.

        Returns
        -------
        Tensor, shape (B, heads, N, d)
            The attention output.
        Memory
            The memory for the next step; the old one is left as it was.
        """
        ...
