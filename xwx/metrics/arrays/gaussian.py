"""The continuous ranked probability score of a normal distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xwx.metrics.arrays.sorting import compiled

__all__ = ["gaussian_crps"]

Floats = NDArray[np.float64]


def gaussian_crps(mean: ArrayLike, deviation: ArrayLike, truth: ArrayLike) -> Floats:
    r"""Return the CRPS of normal distributions.

    .. math::

        \mathrm{CRPS} = \sigma \Bigl[z (2 \Phi(z) - 1) + 2 \varphi(z) - \frac1{\sqrt\pi}\Bigr],
        \qquad z = \frac{y - \mu}{\sigma}

    Parameters
    ----------
    mean, deviation : array_like
        :math:`\mu` and :math:`\sigma \ge 0` of the forecast, in the units of the truth. Without
        any deviation the score is the absolute error.
    truth : array_like
        :math:`y`; the three broadcast.

    Returns
    -------
    array of float64
        In the units of the truth. NaN where an argument is NaN.

    Raises
    ------
    ValueError
        For a negative deviation.

    References
    ----------
    T. Gneiting, A. E. Raftery, A. H. Westveld and T. Goldman, 2005: Calibrated probabilistic
    forecasting using ensemble model output statistics and minimum CRPS estimation. Mon. Wea. Rev.
    133, 1098-1118.
    """
    sigma = np.asarray(deviation, dtype=np.float64)
    if np.any(sigma < 0):
        raise ValueError(f"deviation: {np.nanmin(sigma):g} is negative; give a standard deviation")
    error = np.asarray(truth, dtype=np.float64) - np.asarray(mean, dtype=np.float64)
    error, sigma = np.broadcast_arrays(error, sigma)
    out: Floats = np.empty(error.shape)
    _fill(np.ravel(error), np.ravel(sigma), out.reshape(-1))
    return out


@compiled
def _fill(error: Any, sigma: Any, out: Any) -> None:
    """Loop over points: numpy has no error function."""
    for n in range(out.size):
        if sigma[n] == 0.0:
            out[n] = abs(error[n])
        else:
            z = error[n] / sigma[n]
            density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
            shape = z * math.erf(z / math.sqrt(2.0)) + 2.0 * density - 1.0 / math.sqrt(math.pi)
            out[n] = sigma[n] * shape
