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

#: Of which the covariance is found at a time.
_WAVES = 4096


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
        t : Tensor, shape (B or 1, T)
            The same for all members.
        free : Tensor, shape (B or 1, T), bool
            False for clean frames, which V does not change; they are known. The same for all, too.
        schedule : Schedule

        Raises
        ------
        ValueError
            If members differ in their noise times or in their clean frames.
        """
        several = len(t) > 1 or len(free) > 1  # one row is not looked at: it may have no numbers
        if several and not bool(((t == t[0]) & (free == free[0])).all()):
            raise ValueError(
                "t or free differs between members, and one background serves all of them: guide "
                "members of the same noise times and clean frames together, and others apart"
            )
        covariance = self._unknown(t[0], free[0], schedule)
        (rows, columns), whole = self.shape, (self.spectrum.shape[1], self.columns)

        def multiply(v: Tensor) -> Tensor:
            waves = torch.fft.rfft2(v, s=whole)
            waves = torch.einsum("crfij,bjcrf->bicrf", covariance.to(waves.dtype), waves)
            out: Tensor = torch.fft.irfft2(waves, s=whole)[..., :rows, :columns].to(v.dtype)
            return out

        return multiply

    def _unknown(self, t: Tensor, free: Tensor, schedule: Schedule) -> Tensor:
        """Return V of each wave: (C, R, F, T, T), of the type of the memory.

        Found in float64: of smooth fields K is up to 1e10 times the noise, and V what is left. Some
        waves at a time, lest what is needed on the way be several times what is kept.
        """
        # Apple's GPUs have no float64.
        home = torch.device("cpu") if self.memory.device.type == "mps" else self.memory.device
        t, free = t.to(home).double(), free.to(home)
        out = self.memory.new_empty(self.memory.numel(), len(t), len(t))
        whole = (self.spectrum.flatten(), self.memory.flatten(), out)
        for spectrum, memory, part in zip(*(torch.split(x, _WAVES) for x in whole), strict=True):
            waves = spectrum.to(home).double(), memory.to(home).to(torch.complex128)
            part.copy_(_unknown_of(*waves, t, free, schedule))
        return out.view(*self.memory.shape, len(t), len(t))


def _unknown_of(
    spectrum: Tensor, memory: Tensor, t: Tensor, free: Tensor, schedule: Schedule
) -> Tensor:
    """Return V of waves (N,): (N, T, T)."""
    place = torch.arange(len(t), device=t.device)
    apart = place[:, None] - place
    powers = torch.stack([memory**n for n in range(len(t))], dim=-1)
    prior = powers[..., apart.abs()]
    prior = spectrum[..., None, None] * torch.where(apart < 0, prior.conj(), prior)
    alpha = torch.where(free, schedule.alpha(t), 1.0)
    noise = torch.where(free, schedule.sigma(t), schedule.sigma(torch.zeros_like(t)))
    seen = alpha[:, None] * prior * alpha + torch.diag(noise.square())
    left = prior - (prior * alpha) @ torch.linalg.solve(seen, alpha[:, None] * prior)
    return torch.where(free[:, None] & free, left, 0.0)
