"""What noise a denoiser learns from, and how its errors are weighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xwx.diffusion.noise import member_generators
from xwx.diffusion.schedule import per_frame
from xwx.models.wind import SCHEDULE
from xwx.spec import Spec

__all__ = [
    "NoiseConfig",
    "Noised",
    "cell_by_cell",
    "channel_weights",
    "draw_noised",
    "noised",
    "time_weights",
]


@dataclass(frozen=True)
class NoiseConfig:
    """The table ``[training.noise]``, for networks that denoise.

    Parameters
    ----------
    shared : float
        Share of the windows whose frames all have the same noise time, as in downscaling and
        reconstruction. The times of the others are drawn frame by frame, as in the paper.
    context : float
        Share of the windows whose first frame is clean, as in forecasts.
    levels : tuple of float
        Noise times at which validation scores, each between 0 and 1.
    pressure : bool
        Whether the levels of a variable are weighted by their pressure.
    surface : float
        The weight of single-level variables, the two-metre temperature apart, whose weight is 1.
    tendency : bool
        Whether channels are weighted by how slowly they change: (std / increment_std)^2.
    balance : float
        From 0, errors weigh the same whatever the noise, as in the paper, to 1, errors over those
        of the best estimate cell by cell do: the squares are divided by
        ``(sigma^2 / (alpha^2 + sigma^2))^balance``.

    Raises
    ------
    ValueError
        For a share or a time out of range, or a weight that is not positive.
    """

    shared: float = 0.0
    context: float = 0.0
    levels: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    pressure: bool = True
    surface: float = 0.1
    tendency: bool = True
    balance: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shared", "context", "balance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"noise {name}={getattr(self, name)!r}: give a number from 0 to 1")
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise ValueError(
                f"noise levels={self.levels!r}: give at least one time, between 0 and 1"
            )
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"noise levels={self.levels!r}: give each once, and rising")
        if not 0 < self.surface < float("inf"):
            raise ValueError(f"noise surface={self.surface!r}: give a positive weight")


@dataclass(frozen=True)
class Noised:
    """Frames with noise, and the time of each.

    Attributes
    ----------
    frames : Tensor, shape (B, T, ...)
    times : Tensor, shape (B, T)
    """

    frames: Tensor
    times: Tensor


def noised(x: Tensor, times: Tensor, noise: Tensor) -> Noised:
    """Return ``alpha(t) x + sigma(t) noise``, frame by frame."""
    alpha, sigma = (per_frame(f(times), x) for f in (SCHEDULE.alpha, SCHEDULE.sigma))
    return Noised(alpha * x + sigma * noise, times)


def draw_noised(x: Tensor, config: NoiseConfig, seed: int, entries: Sequence[int]) -> Noised:
    """Return frames with the noise of training; each entry's draws follow from its number.

    Parameters
    ----------
    x : Tensor, shape (B, T, ...)
        Normalised frames.
    config : NoiseConfig
    seed : int
        Another one for each update.
    entries : sequence of int, length B
        The number of each window in the whole batch, of which other processes have other parts.
    """
    times, noise = [], []
    for generator in member_generators(seed, entries, x.device):
        # all is drawn whatever is used, so that a share changes nothing in the other windows
        kinds = torch.rand(2, generator=generator, device=x.device)
        own = torch.rand(x.shape[1], generator=generator, device=x.device)
        noise.append(torch.randn(x.shape[1:], generator=generator, device=x.device))
        if kinds[0] < config.shared:
            own = own[:1].expand_as(own).clone()
        if kinds[1] < config.context:
            own[0] = 0.0
        times.append(own)
    return noised(x, torch.stack(times), torch.stack(noise))


def time_weights(times: Tensor, config: NoiseConfig) -> Tensor:
    """Return the weight of the squared errors of frames at the times (B, T); 0 where clean."""
    weights = cell_by_cell(times).pow(-config.balance)
    return torch.where(times > 0, weights, 0.0)


def cell_by_cell(times: Tensor) -> Tensor:
    """Return the squared error of the best estimate that looks at one cell, of unit variance."""
    alpha, sigma = SCHEDULE.alpha(times).square(), SCHEDULE.sigma(times).square()
    return sigma / (alpha + sigma)


def channel_weights(spec: Spec, std: Tensor, increment_std: Tensor, config: NoiseConfig) -> Tensor:
    """Return the weight of the squared errors of each normalised channel, (C, 1, 1).

    The product of ``p / sum(p)`` over the levels of a variable, or of the weight of a single
    level, and of ``(std / increment_std)^2`` with mean one (WIND, section 3.1; the weights of
    levels are GraphCast's).

    Parameters
    ----------
    spec : Spec
    std, increment_std : Tensor, shape (C, 1, 1)
    config : NoiseConfig
    """
    by_level = []
    for channel in spec.channels:
        if channel.level is None:
            by_level.append(1.0 if channel.name == "t2m" else config.surface)
        elif config.pressure:
            column = [c.level for c in spec.channels if c.name == channel.name and c.level]
            by_level.append(channel.level / sum(column))
        else:
            by_level.append(1.0)
    weights = torch.tensor(by_level, dtype=std.dtype, device=std.device).reshape(std.shape)
    if config.tendency:
        slow = (std / increment_std).square()
        weights = weights * (slow / slow.mean())
    return weights
