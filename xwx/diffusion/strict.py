"""Values that are to be met to rounding: Newton's corrections along the prior's covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from xwx.diffusion.linearise import Gaussian, Sight, Tweedie
from xwx.diffusion.protocols import Observation

__all__ = ["correct"]

#: Newton doubles the digits each time; all but the first are free of the denoiser.
_CORRECTIONS = 3


def correct(
    observation: Observation,
    x: Tensor,
    tweedie: Tweedie | Gaussian,
    variance: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Return the states moved until their strict values are met.

    With H the derivative of the strict rows at x and ``W = V H'`` kept fixed, Newton's method for
    c in ``A(x + W c) = y``: ``c <- c + (H W)^-1 (y - A)``. W needs a pass backward through the
    denoiser for each strict value. A member that comes no nearer with the denoiser's V takes
    the isotropic one.

    Parameters
    ----------
    observation : Observation
    x : Tensor, shape (B, T, ...)
    tweedie : Tweedie
        Gives V; its clean frames are not moved.
    variance : Tensor
        The isotropic V, 0 where frames are clean.
    dtype : torch.dtype
        Of the small systems.

    Returns
    -------
    Tensor, shape (B, T, ...)
    """
    rows = observation.demanded
    sight = Sight(observation, x, dtype, rows)
    units = torch.eye(sight.residual.shape[-1], dtype=dtype, device=x.device)
    seen = [sight.back(unit.expand_as(sight.residual)) for unit in units]
    best, error = _newton(observation, x, [tweedie.spread(v) for v in seen], dtype, rows)
    start = sight.residual.norm(dim=-1)
    good = error < start
    if bool(good.all()):
        return best
    plain, other = _newton(observation, x, [variance * v for v in seen], dtype, rows)
    plain = torch.where(_each(other < start, x), plain, x)
    return torch.where(_each(good, x), best, plain)


def _newton(
    observation: Observation, x: Tensor, along: list[Tensor], dtype: torch.dtype, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the states after the corrections along these directions, and their error (B,)."""
    for _ in range(_CORRECTIONS):
        sight = Sight(observation, x, dtype, rows)
        matrix = torch.stack([sight.see(v) for v in along], dim=-1)
        steps = torch.linalg.pinv(matrix) @ sight.residual[..., None]
        for j, v in enumerate(along):
            x = x + _each(steps[:, j, 0].to(x.dtype), x) * v
    return x, Sight(observation, x, dtype, rows).residual.norm(dim=-1)


def _each(value: Tensor, like: Tensor) -> Tensor:
    """Return a value each member (B,) in a shape that broadcasts against `like` (B, ...)."""
    return value.reshape(-1, *([1] * (like.ndim - 1)))
