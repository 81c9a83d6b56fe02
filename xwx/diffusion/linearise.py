"""The denoiser and an observation, linearised where the frames are: what guidance solves with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xwx.diffusion.protocols import Denoiser, Observation, Schedule
from xwx.diffusion.schedule import per_frame

__all__ = ["Gaussian", "Sight", "Tweedie", "isotropic"]


class Tweedie:
    """Mean and covariance of the clean frames given noised ones, by Tweedie's formulas.

    With J the Jacobian of the denoiser D at z and ``Gamma = diag(sigma_t^2 / alpha_t)``, each
    frame at its own time,

    ``mean = D(z)`` and ``V v = Gamma (J' v)``.

    Gamma comes *after* the transposed Jacobian: for an exact denoiser ``J Gamma = Gamma J'``, but
    ``J' Gamma`` is another matrix as soon as frames have different times. Clean frames are known:
    there the mean is z, and rows and columns of V are zero.

    Parameters
    ----------
    denoise : Denoiser
        Called once.
    z : Tensor, shape (B, T, ...)
    t : Tensor, shape (B, T)
    schedule : Schedule
    free : Tensor, shape (B, T), bool
        False for clean frames.

    Attributes
    ----------
    mean : Tensor, shape (B, T, ...)

    Raises
    ------
    ValueError
        If the denoiser's result has no gradient.

    References
    ----------
    Rozet, Andry, Lanusse and Louppe (2024), Learning diffusion priors from observations by
    expectation maximization, https://arxiv.org/abs/2405.13712.
    """

    def __init__(
        self, denoise: Denoiser, z: Tensor, t: Tensor, schedule: Schedule, free: Tensor
    ) -> None:
        with torch.enable_grad():
            self._z = z.detach().requires_grad_()
            self._out = denoise(self._z, t)
        if not self._out.requires_grad:
            raise ValueError(
                "the denoiser's result has no gradient: call the network without torch.no_grad; "
                "freeze its parameters with requires_grad_(False) instead"
            )
        self._free = per_frame(free, z)
        ratio = schedule.sigma(t) ** 2 / schedule.alpha(t)
        self._gamma = per_frame(torch.where(free, ratio, 0), z)
        self.mean = torch.where(self._free, self._out.detach(), z)

    def spread(self, v: Tensor) -> Tensor:
        """Return V v of v's shape (B, T, ...): one pass backward through the denoiser."""
        v = torch.where(self._free, v, 0)
        (image,) = torch.autograd.grad(
            self._out, self._z, v, retain_graph=True, materialize_grads=True
        )
        return self._gamma * image


class Gaussian:
    """The denoiser's mean with the covariance of a simpler prior; no gradient is needed.

    Parameters
    ----------
    denoise : Denoiser
        Called once.
    z : Tensor, shape (B, T, ...)
    t : Tensor, shape (B, T)
    free : Tensor, shape (B, T), bool
        False for clean frames.
    spread : callable
        From changes of states to V times these, 0 for clean frames.

    Attributes
    ----------
    mean : Tensor, shape (B, T, ...)
    """

    def __init__(
        self,
        denoise: Denoiser,
        z: Tensor,
        t: Tensor,
        free: Tensor,
        spread: Callable[[Tensor], Tensor],
    ) -> None:
        self.mean = torch.where(per_frame(free, z), denoise(z, t), z)
        self.spread = spread


def isotropic(z: Tensor, t: Tensor, schedule: Schedule, free: Tensor) -> Tensor:
    """Return the variance of clean frames for a prior N(0, I), in a shape that broadcasts.

    ``sigma_t^2 / (alpha_t^2 + sigma_t^2)`` each frame, and 0 where a frame is clean.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return per_frame(torch.where(free, sigma**2 / (alpha**2 + sigma**2), 0), z)


class Sight:
    """An observation linearised at states x, in units of its errors.

    ``H = R^(-1/2) dA/dx``, so that values of different units and precisions stand beside each
    other as plain numbers.

    Parameters
    ----------
    observation : Observation
    x : Tensor, shape (B, T, ...)
    dtype : torch.dtype
        Of the vectors (B, M).
    rows : Tensor, shape (M,), bool, optional
        The values to look at; all by default.

    Attributes
    ----------
    residual : Tensor, shape (B, M)
        ``R^(-1/2) (y - A(x))``.
    """

    def __init__(
        self, observation: Observation, x: Tensor, dtype: torch.dtype, rows: Tensor | None = None
    ) -> None:
        self._dtype = dtype
        size = observation.operator.size
        self._rows = slice(None) if rows is None else rows.nonzero()[:, 0]
        self._scale = observation.variances.to(x.device, dtype)[self._rows].rsqrt()
        with torch.enable_grad():
            self._at = x.detach().requires_grad_()
            self._seen = observation.operator(self._at)
        if tuple(self._seen.shape) != (x.shape[0], size):
            raise ValueError(
                f"the operator made {tuple(self._seen.shape)} of {x.shape[0]} members: its size "
                f"promises {(x.shape[0], size)}"
            )
        # w -> H' w is linear, so its derivative at any w, transposed, is v -> H v. Forward-mode
        # differentiation gives the same, after an import of seconds that warns of deprecations.
        with torch.enable_grad():
            self._dual = torch.zeros_like(self._seen).requires_grad_()
            (self._pulled,) = torch.autograd.grad(
                self._seen, self._at, self._dual, create_graph=True, materialize_grads=True
            )
        value = observation.value.to(x.device, dtype)
        difference = value - self._seen.detach().to(dtype)
        self.residual = difference[:, self._rows] * self._scale

    def see(self, v: Tensor) -> Tensor:
        """Return H v (B, M) of a change v of the states (B, T, ...)."""
        (seen,) = torch.autograd.grad(
            self._pulled, self._dual, v, retain_graph=True, materialize_grads=True
        )
        return seen.to(self._dtype)[:, self._rows] * self._scale

    def back(self, w: Tensor) -> Tensor:
        """Return H' w, of the states' shape (B, T, ...), of a vector (B, M)."""
        full = torch.zeros_like(self._seen)
        full[:, self._rows] = (w * self._scale).to(full.dtype)
        (image,) = torch.autograd.grad(
            self._seen, self._at, full, retain_graph=True, materialize_grads=True
        )
        return image
