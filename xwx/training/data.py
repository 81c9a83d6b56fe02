"""Training windows cut from an archive of packed states, and the symmetries that multiply them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xwx.fields import forcings
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
        """Move to a device, without waiting where the batch is pinned."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> Batch:
        """Move to memory that a GPU reads by itself."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        forcings = None if self.forcings is None else move(self.forcings)
        return Batch(move(self.states), forcings)

    def forcing(self, index: int) -> Tensor | None:
        """Return the forcings (B, F, H, W) of state `index`."""
        return None if self.forcings is None else self.forcings[:, index]


@dataclass(frozen=True)
class Archive:
    """States packed by the gate, one step apart except where the record has gaps.

    Parameters
    ----------
    states : float32 array, shape (T, C, H, W)
        May be a memory map: only what a batch needs is read.
    forcings : float32 array, shape (T, F, H, W), or None
        None where the spec asks for none, and where they are to be computed with each batch.
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
        first = [int(start) for start in starts]
        states = torch.from_numpy(_windows(self.states, first, length))
        if not self.spec.forcings:
            return Batch(states, None)
        if self.forcings is not None:
            return Batch(states, torch.from_numpy(_windows(self.forcings, first, length)))
        times = self.times[np.add.outer(first, np.arange(length)).ravel()]
        forced = forcings(times, self.spec.grid, self.spec.forcings)
        return Batch(
            states, torch.from_numpy(forced.reshape(len(first), length, *forced.shape[1:]))
        )

    def samples(self, most: int = 16, size: int = 64 << 20) -> NDArray[np.float32]:
        """Return a few states, evenly spread: at most `most`, and about `size` bytes of them."""
        count = min(len(self.times), max(2, min(most, size // self.states[:1].nbytes)))
        chosen = np.linspace(0, len(self.times) - 1, count).round().astype(int)
        return np.stack([self.states[n] for n in chosen])


def _windows(array: NDArray[np.float32], starts: Sequence[int], length: int) -> NDArray[np.float32]:
    """Copy windows (B, length, ...), each in one contiguous read."""
    out = np.empty((len(starts), length, *array.shape[1:]), dtype=np.float32)
    for n, start in enumerate(starts):
        out[n] = array[start : start + length]
    return out


def statistics(archive: Archive, weights: NDArray[np.float64]) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, standard deviation and standard deviation of one step's change, each (C,).

    In one pass over the states, in float64.

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
    share = weights / (weights.size * archive.spec.grid.shape[1])
    # Squares are summed about a value near the mean: geopotential varies by little of its size.
    near = archive.states[:1].astype(np.float64).sum((0, -1)) @ share
    follows = np.zeros(len(archive.times), dtype=bool)
    follows[archive.starts(2) + 1] = True
    level, change = _Moments(share), _Moments(share)
    # Three states in float64, written over and over: new ones would cost more than the sums.
    now, before, difference = np.empty((3, *archive.states.shape[1:]))
    for state, consecutive in zip(archive.states, follows, strict=True):
        now, before = before, now
        np.subtract(state, near[:, None, None], out=now)
        level.add(now)
        if consecutive:
            change.add(np.subtract(now, before, out=difference))
    mean, std, step = near + level.mean, level.std, change.std
    for channel, spread in zip(archive.spec.channels, std * step, strict=True):
        if not spread > 0:
            raise ValueError(
                f"channel {channel} does not change in the training period: leave it out, or "
                "choose another period"
            )
    return tuple(torch.from_numpy(a).float() for a in (mean, std, step))  # type: ignore[return-value]


class _Moments:
    """Area-weighted mean and standard deviation of states that come one by one."""

    def __init__(self, share: Floats) -> None:
        self.share = share
        self.count = 0
        self.total, self.square = np.zeros(1), np.zeros(1)

    def add(self, state: Floats) -> None:
        """Count the fields (C, H, W) of a state."""
        self.count += 1
        self.total = self.total + state.sum(-1) @ self.share
        self.square = self.square + np.einsum("chw,chw->ch", state, state) @ self.share

    @property
    def mean(self) -> Floats:
        """Mean of each channel."""
        return self.total / max(self.count, 1)

    @property
    def std(self) -> Floats:
        """Standard deviation of each channel about its mean."""
        variance = self.square / max(self.count, 1) - self.mean**2
        return np.asarray(np.sqrt(np.maximum(variance, 0)))


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

    Raises
    ------
    ValueError
        For a negative `noise`.
    """

    roll: bool = True
    mirror: bool = True
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ValueError(f"augment noise={self.noise!r}: must be at least 0")

    def __call__(
        self,
        batch: Batch,
        spec: Spec,
        change: Tensor,
        generator: torch.Generator,
        part: slice | None = None,
        size: int | None = None,
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
        part : slice, optional
            Which entries of a larger batch are given; they are augmented as if all were.
        size : int, optional
            Entries of that larger batch.
        """
        states, forcings = batch.states.clone(), batch.forcings
        forcings = None if forcings is None else forcings.clone()
        odd = torch.tensor([-1.0 if c.name in ODD_UNDER_MIRROR else 1.0 for c in spec.channels])
        season = torch.tensor([-1.0 if f.endswith("_year") else 1.0 for f in spec.forcings])
        draws = self._draw(size or len(states), spec, generator)[part or slice(None)]
        for n, (shift, mirrored) in enumerate(draws):
            if shift is not None:
                states[n] = states[n].roll(shift, dims=-1)
                if forcings is not None:
                    forcings[n] = forcings[n].roll(shift, dims=-1)
            if mirrored:
                states[n] = states[n].flip(-2) * odd[:, None, None]
                if forcings is not None:
                    forcings[n] = forcings[n] * season[:, None, None]
        if self.noise:
            past = states[:, : spec.history]
            shape = (size or len(states), *past.shape[1:])
            drawn = torch.randn(shape, generator=generator)[part or slice(None)]
            states[:, : spec.history] = past + self.noise * change * drawn
        return Batch(states, forcings)

    def _draw(
        self, size: int, spec: Spec, generator: torch.Generator
    ) -> list[tuple[int | None, bool]]:
        """Return for each window by how many columns it turns, and whether it is mirrored."""
        mirror = self.mirror and np.allclose(spec.grid.rows, -spec.grid.rows[::-1], atol=1e-4)
        draws: list[tuple[int | None, bool]] = []
        for _ in range(size):
            shift = None
            if self.roll and spec.grid.periodic:
                shift = int(torch.randint(spec.grid.shape[1], (), generator=generator))
            draws.append((shift, mirror and bool(torch.rand((), generator=generator) < 0.5)))
        return draws
