"""Which waves states are made of, how long each is remembered, and how neighbours are alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xwx.training.data import Archive

__all__ = ["Waves", "neighbours", "waves"]

#: States that are looked at, and bytes of them, at most.
_MOST, _SIZE = 128, 256 << 20


class Waves(NamedTuple):
    """What :class:`~xwx.diffusion.background.Background` is made of.

    Attributes
    ----------
    spectrum : Tensor, shape (C, R, F)
        The mean square of each wave; its mean over all is the variance. Rows are extended by zeros
        to twice their number, and so are columns where the globe does not close.
    memory : Tensor, shape (C, R, F), complex
        What a wave is multiplied by in one step, on average; of absolute value below 1.
    columns : int
        To which columns are extended.
    closes : bool
        Whether the globe closes, so that they are not.
    """

    spectrum: Tensor
    memory: Tensor
    columns: int
    closes: bool


def waves(archive: Archive, weights: NDArray[np.float64], mean: Tensor, std: Tensor) -> Waves:
    """Return the waves of normalised states times the root of the area weight.

    Parameters
    ----------
    archive : Archive
        Pairs of its states are taken, evenly spread.
    weights : array, shape (H,)
        Mean-one area weights of the rows.
    mean, std : Tensor, shape (C, 1, 1) or (C, H, W)
        The normalisation.
    """
    rows, columns = archive.spec.grid.shape
    closes = archive.spec.grid.periodic
    whole = (2 * rows, columns if closes else 2 * columns)
    starts = archive.starts(2)
    count = min(len(starts), _MOST, max(8, _SIZE // (2 * archive.states[:1].nbytes)))
    chosen = starts[np.linspace(0, len(starts) - 1, count).round().astype(int)]
    root = torch.from_numpy(np.sqrt(weights))[:, None]
    power: Tensor = torch.zeros(())
    together: Tensor = torch.zeros(())
    for start in chosen:
        pair = archive.batch([int(start)], 2).states[0].double()
        x = root * (pair - mean.double()) / std.double()
        z = torch.fft.rfft2(x, s=whole, norm="ortho")
        power = power + z.abs().square()
        together = together + z[1] * z[0].conj()
    # In units of the states' own cells, not of those that were added.
    spectrum = power.mean(0) / count * (whole[0] * whole[1] / (rows * columns))
    memory = together / (power[0] * power[1]).sqrt().clamp(min=1e-30)
    memory = memory / memory.abs().clamp(min=1.0) * (1 - 1e-6)
    return Waves(spectrum, memory, whole[1], closes)


def neighbours(found: Waves, reach: int) -> Tensor:
    """Return the covariance of two cells, by how far they are apart.

    It is the covariance of something: no combination of cells has a negative variance.

    Parameters
    ----------
    found : Waves
    reach : int
        The largest distance, in rows and in columns. Where it is more than the map has, there are
        no such pairs, and the covariance is 0.

    Returns
    -------
    Tensor, shape (C, 2 reach + 1, 2 reach + 1)
        By how many rows and columns one cell lies behind the other; no distance in the middle.
    """
    whole = found.spectrum.shape[1], found.columns
    covariance = torch.fft.irfft2(found.spectrum, s=whole)
    apart = torch.arange(-reach, reach + 1)
    near = covariance[:, (apart % whole[0])[:, None], apart % whole[1]]
    # Beyond the map, distances would come back from the other end of what it was extended to.
    there = (apart.abs() < whole[0] // 2)[:, None]
    if not found.closes:
        there = there & (apart.abs() < whole[1] // 2)
    return torch.where(there, near, 0.0)
