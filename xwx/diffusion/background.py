"""The covariance of a simpler prior, homogeneous and Gaussian, as in data assimilation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xwx.diffusion.protocols import Schedule
from xwx.spec import Grid

__all__ = ["Background"]


@dataclass(frozen=True, eq=False)
class Background:
    r"""How states of a window vary together, were they Gaussian and alike everywhere.

    Each wave has a variance P, and its own memory: over one step it is multiplied by a complex
    number r, by which it fades and moves on, so that between frames i and j it covaries by
    ``P r^|i - j|``. With noise, wave by wave, what remains unknown of the T frames has the
    covariance

    .. math:: V = K - K A (A K A + S)^{-1} A K

    with A and S the factors and variances of the noise of the frames. No network is called.

    Attributes
    ----------
    spectrum : Tensor, shape (C, R, F)
        P of normalised states whose rows are extended by zeros to R, F = W // 2 + 1 zonal
        wavenumbers, such that the mean of P over all waves is the variance of the states.
    memory : Tensor, shape (C, R, F), complex
        r, of absolute value below 1.
    shape : (int, int)
        Rows and columns of the states; R is at least the rows.
    columns : int
        W, to which columns are extended; those of the states where the globe closes.
    """

    spectrum: Tensor
    memory: Tensor
    shape: tuple[int, int]
    columns: int

    @classmethod
    def of(cls, network: Any, grid: Grid) -> Background | None:
        """Return the one that a network came with, as buffers; None where it has none."""
        spectrum: Tensor | None = getattr(network, "spectrum", None)
        if spectrum is None or not spectrum.numel():
            return None
        columns = grid.shape[1] if grid.periodic else 2 * grid.shape[1]
        memory = torch.complex(network.memory_real, network.memory_imag)
        return cls(spectrum, memory, grid.shape, columns)

    def spread(self, t: Tensor, free: Tensor, schedule: Schedule) -> Callable[[Tensor], Tensor]:
        """Return what multiplies changes of states (B, T, C, H, W) by V.

        Parameters
        ----------
        t : Tensor, shape (B, T)
            The same for all members.
        free : Tensor, shape (B, T), bool
            False for clean frames, which V does not change; they are known.
        schedule : Schedule
        """
        covariance = self._unknown(t[0], free[0], schedule)
        (rows, columns), whole = self.shape, (self.spectrum.shape[1], self.columns)

        def multiply(v: Tensor) -> Tensor:
            waves = torch.fft.rfft2(v, s=whole)
            waves = torch.einsum("crfij,bjcrf->bicrf", covariance.to(waves.dtype), waves)
            out: Tensor = torch.fft.irfft2(waves, s=whole)[..., :rows, :columns].to(v.dtype)
            return out

        return multiply

    def _unknown(self, t: Tensor, free: Tensor, schedule: Schedule) -> Tensor:
        """Return V of each wave: (C, R, F, T, T), complex."""
        count = len(t)
        apart = torch.arange(count, device=t.device)[:, None] - torch.arange(count, device=t.device)
        powers = torch.stack([self.memory**n for n in range(count)], dim=-1)
        prior = powers[..., apart.abs()]
        prior = self.spectrum[..., None, None] * torch.where(apart < 0, prior.conj(), prior)
        alpha = torch.where(free, schedule.alpha(t), 1.0).to(self.spectrum.dtype)
        noise = torch.where(free, schedule.sigma(t), schedule.sigma(torch.zeros_like(t)))
        seen = alpha[:, None] * prior * alpha
        seen = seen + torch.diag(noise.to(self.spectrum.dtype).square())
        left = prior - (prior * alpha) @ torch.linalg.solve(seen, alpha[:, None] * prior)
        known = free[:, None] & free
        unknown: Tensor = torch.where(known, left, 0.0)
        return unknown
