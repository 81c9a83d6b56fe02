"""Resampling of starts in blocks, for intervals of confidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

__all__ = ["Resampling"]

#: Resamples that are scored together: what bounds the memory.
_TOGETHER = 100


@dataclass(frozen=True)
class Resampling:
    """A bootstrap with blocks of consecutive starts, round the circle.

    Attributes
    ----------
    confidence : float
        Of the interval, between 0 and 1.
    block : int or None
        Starts in a block; by default the cube root of their number, rounded up. Starts close in
        time see the same weather: blocks keep them together.
    resamples : int
    seed : int

    References
    ----------
    Kuensch, H. R. (1989), The jackknife and the bootstrap for general stationary observations,
    Ann. Stat. 17. Politis, D. N. and Romano, J. P. (1992), A circular block-resampling procedure
    for stationary data.
    """

    confidence: float = 0.95
    block: int | None = None
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        number = isinstance(self.confidence, float | np.floating)
        if not number or not 0 < self.confidence < 1:
            raise ValueError(
                f"confidence={self.confidence!r}: give a number between 0 and 1, such as 0.95"
            )
        for name, value, least in (
            ("block", 1 if self.block is None else self.block, 1),
            ("resamples", self.resamples, 10),
            ("seed", self.seed, 0),
        ):
            if not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name}={value!r}: give a whole number, {least} or more")

    @property
    def bounds(self) -> tuple[float, float]:
        """The quantiles that bound the interval."""
        tail = (1 - self.confidence) / 2
        return tail, 1 - tail

    def length(self, starts: int) -> int:
        """Return the starts in a block."""
        return math.ceil(starts ** (1 / 3) - 1e-9) if self.block is None else self.block

    def check(self, starts: int) -> None:
        """Refuse fewer than two blocks.

        Raises
        ------
        ValueError
        """
        length = self.length(starts)
        if starts < 2:
            raise ValueError(
                f"confidence={self.confidence}: there is {starts} start, and an interval says how "
                "scores vary from start to start; give several along one dimension"
            )
        if starts < 2 * length:
            raise ValueError(
                f"block={length}: {starts} starts make fewer than two blocks of {length}; give "
                f"more starts, or a block of {starts // 2} or less"
            )

    def counts(self, starts: int, dim: str) -> Iterator[xr.DataArray]:
        """Yield how often each start is drawn, (resample, start), some resamples at a time.

        Raises
        ------
        ValueError
            For fewer than two blocks.
        """
        self.check(starts)
        length = self.length(starts)
        rng = np.random.default_rng(self.seed)
        blocks = math.ceil(starts / length)
        for first in range(0, self.resamples, _TOGETHER):
            size = min(_TOGETHER, self.resamples - first)
            begin = rng.integers(starts, size=(size, blocks, 1))
            drawn = ((begin + np.arange(length)) % starts).reshape(size, -1)[:, :starts]
            counts = np.zeros((size, starts))
            np.add.at(counts, (np.arange(size)[:, None], drawn), 1.0)
            yield xr.DataArray(counts, dims=("resample", dim))
