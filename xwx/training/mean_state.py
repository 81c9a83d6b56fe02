"""The mean state of a period: as much of it as is climate and not the weather of the period."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xwx.training.data import Archive

__all__ = ["mean_state"]


def mean_state(archive: Archive, weights: NDArray[np.float64], mean: Tensor, std: Tensor) -> Tensor:
    r"""Return the mean of normalised states over time, less what chance has put there.

    Weeks of weather do not average out at large scales, while what lies over mountains does not
    move. So the mean of the first half of the period is compared with that of the second, zonal
    wavenumber by wavenumber: with r their correlation, ``2 r / (1 + r)`` of the variance of the
    mean of both is expected to come back in another period (Spearman and Brown), and that share
    of the mean is returned. Of a grid that does not go round the globe, the same share of all.

    Parameters
    ----------
    archive : Archive
    weights : array, shape (H,)
        Mean-one area weights of the rows.
    mean, std : Tensor, shape (C, 1, 1)
        The normalisation.

    Returns
    -------
    Tensor of float64, shape (C, H, W)
    """
    half = len(archive.times) // 2
    parts = (archive.states[:half], archive.states[half : 2 * half])
    offset, unit = (value.double().numpy() for value in (mean, std))
    halves: list[Any] = [(_mean(part) - offset) / unit for part in parts]
    if not archive.spec.grid.periodic:
        return torch.from_numpy(_alike(halves[0], halves[1], weights, axis=(1, 2)))
    first, second = (np.fft.rfft(part, axis=-1) for part in halves)
    both = _alike(first, second, weights, axis=1)
    return torch.from_numpy(np.fft.irfft(both, n=archive.states.shape[-1], axis=-1))


def _mean(states: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean over time, a state at a time: there may be more than fit into memory."""
    total = np.zeros(states.shape[1:])
    for state in states:
        total += state
    return total / len(states)


def _alike(one: Any, other: Any, weights: NDArray[np.float64], axis: Any) -> Any:
    """Return the share of the mean of two fields (C, H, ...) that is in both."""
    w = weights[:, None]
    product = (w * (one * np.conj(other)).real).sum(axis, keepdims=True)
    power = (w * (np.abs(one) ** 2 + np.abs(other) ** 2)).sum(axis, keepdims=True) / 2
    r = np.clip(product / np.maximum(power, np.finfo(np.float64).tiny), 0, 1)
    return 2 * r / (1 + r) * (one + other) / 2
