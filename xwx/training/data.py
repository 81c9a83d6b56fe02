"""Training windows cut from an archive of packed states, and the symmetries that multiply them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xwx.spec import Spec

__all__ = ["Archive", "Augment", "Batch", "statistics"]

Floats = NDArray[np.float64]

#: Variables that change sign when the hemispheres are exchanged.
ODD_UNDER_MIRROR = frozenset({"v", "v10", "v100", "vo"})


@dataclass(frozen=True)
class Batch:
    """Consecutive states and forcings.

    Attributes
    ----------
    states : Tensor, shape (B, history + steps, C, H, W)
        Canonical units, oldest first.
    forcings : Tensor, shape (B, history + steps, F, H, W), or None
    """

    states: Tensor
    forcings: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        forcings = None if self.forcings is None else self.forcings.to(device)
        return Batch(self.states.to(device), forcings)

    def forcing(self, index: int) -> Tensor | None:
        """Return the forcings (B, F, H, W) of state `index`."""
        return None if self.forcings is None else self.forcings[:, index]


@dataclass(frozen=True)
class Archive:
    """States packed by the gate, one step apart except where the record has gaps.

    Parameters
    ----------
    states : float32 array, shape (T, C, H, W)
    forcings : float32 array, shape (T, F, H, W), or None
    times : array, shape (T,)
        Valid times, increasing.
    spec : Spec
    """

    states: NDArray[np.float32]
    forcings: NDArray[np.float32] | None
    times: NDArray[np.datetime64]
    spec: Spec

    def starts(self, length: int) -> NDArray[np.intp]:
        """Return where windows of `length` consecutive states begin, gaps left out."""
        count = len(self.times) - length + 1
        if count < 1:
            return np.empty(0, dtype=np.intp)
        gap = np.diff(self.times) != np.timedelta64(self.spec.step)
        gaps = np.concatenate([[0], np.cumsum(gap)])  # before each state
        return np.flatnonzero(gaps[length - 1 :] == gaps[:count])

    def batch(self, starts: Sequence[int] | NDArray[np.intp], length: int) -> Batch:
        """Return the windows of `length` states that begin at `starts`."""
        index = np.asarray(starts)[:, None] + np.arange(length)
        forcings = None if self.forcings is None else torch.from_numpy(self.forcings[index])
        return Batch(torch.from_numpy(self.states[index]), forcings)


def statistics(archive: Archive, weights: NDArray[np.float64]) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, standard deviation and standard deviation of one step's change, each (C,).

    Parameters
    ----------
    archive : Archive
    weights : array, shape (H,)
        Mean-one area weights of the rows.

    Raises
    ------
    ValueError
        For a channel that never changes.
    """

    def moments(fields: Iterable[NDArray[np.float32]]) -> tuple[Floats, Floats]:
        total = np.zeros(len(archive.spec.channels))
        square = np.zeros_like(total)
        count = 0
        for field in fields:  # one state at a time: archives are large
            count += 1
            weighted = field.astype(np.float64) * weights[:, None]
            total += weighted.mean((-2, -1))
            square += (weighted * field).mean((-2, -1))
        mean = total / max(count, 1)
        return mean, np.sqrt(np.maximum(square / max(count, 1) - mean**2, 0))

    mean, std = moments(archive.states)
    _, change = moments(archive.states[n + 1] - archive.states[n] for n in archive.starts(2))
    for channel, spread in zip(archive.spec.channels, std * change, strict=True):
        if not spread > 0:
            raise ValueError(
                f"channel {channel} does not change in the training period: leave it out, or "
                "choose another period"
            )
    return tuple(torch.from_numpy(a).float() for a in (mean, std, change))  # type: ignore[return-value]


@dataclass(frozen=True)
class Augment:
    """Symmetries of the atmosphere on a rotating sphere, and noise, drawn for each window.

    Parameters
    ----------
    roll : bool
        Turn the globe by a random number of columns; forcings turn with it, so that the sun
        stays where it was over the weather.
    mirror : bool
        Exchange the hemispheres half of the time, with the sign of odd variables changed; only
        on a grid whose rows lie alike north and south of the equator.
    noise : float
        Standard deviation of white noise on the input states, in units of one step's change.
    """

    roll: bool = True
    mirror: bool = True
    noise: float = 0.0

    def __call__(
        self, batch: Batch, spec: Spec, change: Tensor, generator: torch.Generator
    ) -> Batch:
        """Return an augmented copy of `batch`.

        Parameters
        ----------
        batch : Batch
        spec : Spec
        change : Tensor, shape (C, 1, 1)
            Standard deviation of one step's change.
        generator : torch.Generator
            Source of every draw.
        """
        states, forcings = batch.states.clone(), batch.forcings
        forcings = None if forcings is None else forcings.clone()
        odd = torch.tensor([-1.0 if c.name in ODD_UNDER_MIRROR else 1.0 for c in spec.channels])
        season = torch.tensor([-1.0 if f.endswith("_year") else 1.0 for f in spec.forcings])
        mirror = self.mirror and np.allclose(spec.grid.rows, -spec.grid.rows[::-1], atol=1e-4)
        for n in range(len(states)):
            if self.roll and spec.grid.periodic:
                shift = int(torch.randint(spec.grid.shape[1], (), generator=generator))
                states[n] = states[n].roll(shift, dims=-1)
                if forcings is not None:
                    forcings[n] = forcings[n].roll(shift, dims=-1)
            if mirror and torch.rand((), generator=generator) < 0.5:
                states[n] = states[n].flip(-2) * odd[:, None, None]
                if forcings is not None:
                    forcings[n] = forcings[n] * season[:, None, None]
        if self.noise:
            past = states[:, : spec.history]
            drawn = torch.randn(past.shape, generator=generator)
            states[:, : spec.history] = past + self.noise * change * drawn
        return Batch(states, forcings)
