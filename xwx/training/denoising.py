"""The objective of a prior: windows of states, each with noise of its own, are to become clean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xwx.diffusion.noise import draw, member_generators
from xwx.diffusion.schedule import per_frame
from xwx.training.data import Archive, Batch
from xwx.training.distributed import ALONE, Processes
from xwx.training.noise import (
    Noised,
    cell_by_cell,
    channel_weights,
    draw_noised,
    noised,
    time_weights,
)
from xwx.training.settings import StageConfig

__all__ = ["KINDS", "Denoising", "DenoisingErrors", "measure_denoising"]

#: What noise a window is scored with: all its frames alike, or all but a clean first one.
KINDS = ("noise", "forecast")


class Denoising:
    """Learns to estimate the clean frames, and is scored beside what knows no weather.

    The loss is ``mean(a w (D(z) - x)^2)``, with a the area weights and w those of channels,
    :func:`~xwx.training.noise.channel_weights`, over frames whose noise is drawn frame by frame
    (WIND, section 3.1); clean ones do not count. What departs from the paper is up to
    :class:`~xwx.training.noise.NoiseConfig`.

    Parameters
    ----------
    network : torch.nn.Module
        With ``denoise``, ``frames``, and the statistics set.
    valid : Archive
    weights : Tensor, shape (H,)
        Mean-one area weights.
    config : StageConfig
    processes : Processes
    """

    def __init__(
        self,
        network: Any,
        valid: Archive,
        weights: Tensor,
        config: StageConfig,
        processes: Processes,
    ) -> None:
        self.network, self.valid, self.weights = network, valid, weights
        self.config, self.processes = config, processes
        self.loss = nn.Module()  # learns nothing
        own = channel_weights(valid.spec, network.std, network.increment_std, config.noise)
        #: What the states of batches come without, (C, H, W).
        self.offset: Tensor | None = None
        if getattr(network, "mean_state", torch.empty(0)).numel():
            self.offset = network.mean + network.std * network.mean_state
        self.of_error = (own * weights[:, None]).to(weights.device)  # (C, H, 1)

    def length(self, update: int) -> int:
        """Return how many states the windows of an update have."""
        return int(self.network.frames)

    def learn(self, batch: Batch, update: int, turn: Callable[[Tensor | None], None]) -> Tensor:
        """Learn from a batch, calling `turn` to step the optimisers, and return the mean loss."""
        config, network = self.config, self.network
        if self.offset is None:
            x, denoise = (batch.states - network.mean) / network.std, network
        else:
            x, denoise = batch.states / network.std, network.denoise_departures
        part = self.processes.part(config.batch_size)
        entries = range(config.batch_size)[part]
        given = draw_noised(x, config.noise, config.seed * 1_000_003 + update, entries)
        estimate = _estimate(denoise, given, batch.forcings, config.precision)
        of_frame = per_frame(time_weights(given.times, config.noise), x)
        loss = (of_frame * self.of_error * (estimate - x).square()).mean()
        loss.backward()
        mean: Tensor = loss.detach()
        turn(mean)
        return mean

    def settle(self) -> None:
        """There is nothing to bring into range."""

    def score(self, average: nn.Module, update: int, device: torch.device) -> dict[str, Any]:
        """Return the errors on the validation period, at the same noise each time."""
        config, spec = self.config, self.valid.spec
        levels = config.noise.levels
        errors = measure_denoising(
            average,
            self.valid,
            self.weights,
            levels,
            device,
            most_starts=config.validation_starts,
            processes=self.processes,
        )
        row: dict[str, Any] = {"score": float(errors.ratios.mean())}
        for kind, by_level in zip(KINDS, errors.ratios.tolist(), strict=False):
            for level, line in zip(levels, by_level, strict=True):
                for channel, ratio in zip(spec.channels, line, strict=True):
                    row[f"ratio {channel} {level:g} {kind}"] = ratio
        return row

    def facts(self) -> dict[str, Any]:
        """Return what a later stage has to know: nothing."""
        return {}


@dataclass(frozen=True)
class DenoisingErrors:
    """Errors of the estimated clean frames, over what an estimate without any knowledge makes.

    Attributes
    ----------
    ratios : Tensor, shape (kinds, levels, C)
        Root-mean-square errors over those of the best estimate that looks at one cell,
        sigma / sqrt(alpha^2 + sigma^2) for states of unit variance; of windows with noise on all
        frames, and on all but a clean first one, whose error does not count.
    windows : int
    """

    ratios: Tensor
    windows: int


@torch.no_grad()
def measure_denoising(
    network: Any,
    archive: Archive,
    weights: Tensor,
    levels: tuple[float, ...],
    device: torch.device,
    *,
    most_starts: int = 0,
    processes: Processes = ALONE,
) -> DenoisingErrors:
    """Score a denoiser on windows of an archive, with the same noise whenever it is called.

    Parameters
    ----------
    network : torch.nn.Module
    archive : Archive
    weights : Tensor, shape (H,)
        Mean-one area weights.
    levels : tuple of float
        Noise times.
    device : torch.device
    most_starts : int
        Score only so many windows, spread evenly; 0 for all that do not overlap.
    processes : Processes
        Which share the windows between them.
    """
    network.eval()
    frames = int(network.frames)
    kinds = len(KINDS[:frames])  # a single frame is not forecast
    squares = torch.zeros(kinds, len(levels), len(archive.spec.channels), dtype=torch.float64)
    starts = archive.starts(frames)
    if not most_starts:
        starts = starts[::frames]
    elif most_starts < len(starts):
        starts = starts[np.linspace(0, len(starts) - 1, most_starts).round().astype(int)]
    for number in range(len(starts))[processes.rank :: processes.count]:
        batch = archive.batch(starts[number : number + 1], frames).to(device)
        x = (batch.states - network.mean) / network.std
        noise = draw(x.shape[1:], member_generators(0, [number]), dtype=x.dtype, device=device)
        for clean in range(kinds):
            for k, level in enumerate(levels):
                times = torch.full(x.shape[:2], level, device=device)
                times[:, :clean] = 0.0
                given = noised(x, times, noise)
                given.frames[:, :clean] = x[:, :clean]
                estimate = _estimate(network, given, batch.forcings, "float32")
                e = (estimate - x)[:, clean:].double().square() * weights[:, None].double()
                squares[clean, k] += e.mean((0, 1, 3, 4)).cpu()
    processes.sum_(squares)
    ignorant = cell_by_cell(torch.tensor(levels, dtype=torch.float64))
    ratios = (squares / len(starts) / ignorant[:, None]).sqrt()
    return DenoisingErrors(ratios, len(starts))


def _estimate(network: Any, given: Noised, forcings: Tensor | None, precision: str) -> Tensor:
    with torch.autocast(given.frames.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        estimate: Tensor = network(given.frames, forcings, given.times)
    return estimate.float()
