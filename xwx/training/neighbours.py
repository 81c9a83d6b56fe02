"""How much cells near each other have in common."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xwx.training.data import Archive

__all__ = ["neighbours"]


def neighbours(
    archive: Archive, weights: NDArray[np.float64], mean: Tensor, std: Tensor, reach: int
) -> Tensor:
    """Return the covariance of normalised states at two cells, by how far they are apart.

    That of ``sqrt(w) x``, summed over the globe and beyond its edges taken for zero, so that it is
    the covariance of something: no combination of cells has a negative variance.

    Parameters
    ----------
    archive : Archive
        A few of its states are taken, evenly spread.
    weights : array, shape (H,)
        Mean-one area weights of the rows.
    mean, std : Tensor, shape (C, 1, 1) or (C, H, W)
        The normalisation.
    reach : int
        The largest distance, in rows and in columns.

    Returns
    -------
    Tensor of float64, shape (C, 2 reach + 1, 2 reach + 1)
        By how many rows and columns one cell lies behind the other; no distance in the middle.
    """
    rows, columns = archive.spec.grid.shape
    around = columns if archive.spec.grid.periodic else columns + reach
    states = archive.samples(most=128).astype(np.float64)
    offset, unit = (value.double().numpy() for value in (mean, std))
    x = np.sqrt(weights)[:, None] * (states - offset) / unit
    power = np.abs(np.fft.fft2(x, s=(rows + reach, around))) ** 2
    covariance = np.fft.ifft2(power.mean(0)).real / (rows * columns)
    apart = np.arange(-reach, reach + 1)
    chosen = covariance[:, apart[:, None], apart % around]
    return torch.from_numpy(np.ascontiguousarray(chosen))
