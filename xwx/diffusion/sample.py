"""Sampling of one window of frames: DDIM, with clean context frames and guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xwx.diffusion.noise import draw, initial_noise, member_generators
from xwx.diffusion.protocols import Denoiser, Guide, Schedule
from xwx.diffusion.schedule import per_frame

__all__ = ["ddim", "initial_noise", "member_generators", "sample"]


def ddim(
    z: Tensor,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    schedule: Schedule,
    *,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Return the noised frames at the times `s`, of those at `t`, which are noisier.

    With x the mean of the clean frames and ``e = (z - alpha_t x) / sigma_t``,

    ``z_s = alpha_s x + sigma_s (sqrt(1 - tau) e + sqrt(tau) noise)``, where
    ``tau = clip(eta (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2), 0, 1)``.

    Parameters
    ----------
    z, x : Tensor, shape (B, T, ...)
    t, s : Tensor, shape (B, T)
    schedule : Schedule
    eta : float
        From 0, deterministic, to 1, as much new noise as DDPM.
    noise : Tensor, shape (B, T, ...), optional
        Standard normal; needed where `eta` is above 0.

    Returns
    -------
    Tensor, shape (B, T, ...)

    References
    ----------
    Song, Meng and Ermon (2021), Denoising diffusion implicit models,
    https://arxiv.org/abs/2010.02502.
    """
    alpha_t, sigma_t = (per_frame(f(t), z) for f in (schedule.alpha, schedule.sigma))
    alpha_s, sigma_s = (per_frame(f(s), z) for f in (schedule.alpha, schedule.sigma))
    if noise is None:  # the same, with one pass less over the frames
        ratio = sigma_s / sigma_t
        return torch.addcmul((alpha_s - ratio * alpha_t) * x, ratio, z)
    old = (z - alpha_t * x) / sigma_t
    tau = (eta * (1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2)).clamp(0, 1)
    return alpha_s * x + sigma_s * ((1 - tau).sqrt() * old + tau.sqrt() * noise)


def sample(
    denoise: Denoiser,
    noise: Tensor,
    *,
    schedule: Schedule,
    steps: int = 15,
    eta: float = 0.0,
    context: Tensor | None = None,
    guidance: Guide | None = None,
    generators: Sequence[torch.Generator] | None = None,
    batch: int | None = None,
) -> Tensor:
    """Return windows of frames drawn from the prior, or from its posterior where guided.

    The mean of the clean frames at the last step is returned, not the frames at t = 0: those
    still hold noise of standard deviation sigma(0).

    A member's random numbers come from its own generator, in a fixed order: those of its
    `noise`, then, if `eta` is above 0, a window of numbers a step. So members draw the same
    numbers in one batch, in several, or alone. Whether they also end in the same *bits* is up to
    the network: a convolution or a matrix product may sum in another order for another batch
    size. One member a call, ``batch=1``, gives every member the bits that it has alone.

    Parameters
    ----------
    denoise : Denoiser
        Called with (b, T, ...) and (b, T), b being `batch` or what is left of the members.
    noise : Tensor, shape (B, T, ...)
        Of :func:`initial_noise`.
    schedule : Schedule
    steps : int
        Calls of the denoiser for each member.
    eta : float
        From 0 to 1; see :func:`ddim`.
    context : Tensor, shape (B, K, ...), optional
        The clean, normalised frames that the window begins with, K < T; returned bit by bit.
    guidance : Guide, optional
        Moves the mean of every step towards observations.
    generators : sequence of torch.Generator, optional
        One a member; needed where `eta` is above 0.
    batch : int, optional
        Members in one call of the denoiser; all of them by default.

    Returns
    -------
    Tensor, shape (B, T, ...)

    Raises
    ------
    ValueError
        If `steps`, `eta` or `batch` is out of range, `context` does not fit `noise`, or there
        is not one generator a member.
    """
    members = noise.shape[0]
    _check(noise, eta, context, generators, batch)
    parts = []
    for first in range(0, members, batch or members):
        some = slice(first, min(first + (batch or members), members))
        parts.append(
            _sample(
                denoise,
                noise[some],
                schedule,
                steps,
                eta,
                None if context is None else context[some],
                None if guidance is None else guidance.of(some),
                None if generators is None else generators[some],
            )
        )
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@torch.no_grad()
def _sample(
    denoise: Denoiser,
    z: Tensor,
    schedule: Schedule,
    steps: int,
    eta: float,
    context: Tensor | None,
    guidance: Guide | None,
    generators: Sequence[torch.Generator] | None,
) -> Tensor:
    """Sample members that go through the denoiser together."""
    clean = 0 if context is None else context.shape[1]
    free = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)
    free[:, :clean] = False
    times = schedule.times(steps).to(z)
    for step in range(steps):
        t, s = times[step] * free, times[step + 1] * free
        z = _replace(z, context)
        last = step == steps - 1
        if guidance is None:
            x = denoise(z, t)
        else:
            x = guidance(denoise, z, t, schedule, free, last=last)
        if not last:
            fresh = None
            if eta > 0 and generators is not None:
                fresh = draw(z.shape[1:], generators, dtype=z.dtype, device=z.device)
            z = ddim(z, x, t, s, schedule, eta=eta, noise=fresh)
    return _replace(x, context)


def _replace(z: Tensor, context: Tensor | None) -> Tensor:
    """Return the window with its first frames replaced by the clean ones."""
    return z if context is None else torch.cat([context, z[:, context.shape[1] :]], dim=1)


def _check(
    noise: Tensor,
    eta: float,
    context: Tensor | None,
    generators: Sequence[torch.Generator] | None,
    batch: int | None,
) -> None:
    """Refuse arguments that do not fit each other."""
    members, frames = noise.shape[:2]
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}: give a number from 0 to 1")
    if eta > 0 and (generators is None or len(generators) != members):
        count = "no" if generators is None else len(generators)
        raise ValueError(
            f"eta is {eta} and there are {count} generators for {members} members: give one a "
            "member, see member_generators"
        )
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}: give at least 1, or None for all members at once")
    if context is None:
        return
    shape = (members, context.shape[1], *noise.shape[2:])
    if tuple(context.shape) != shape or context.shape[1] >= frames:
        raise ValueError(
            f"context has the shape {tuple(context.shape)} and noise {tuple(noise.shape)}: give "
            f"fewer than {frames} clean frames of {members} members, of the frames' shape "
            f"{tuple(noise.shape[2:])}"
        )
    if (context.dtype, context.device) != (noise.dtype, noise.device):
        raise ValueError(
            f"context is {context.dtype} on {context.device}, noise {noise.dtype} on "
            f"{noise.device}: convert one with context.to(noise)"
        )
