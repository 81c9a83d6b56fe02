"""Power spectra: along circles of latitude, and in spherical harmonics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xwx.metrics.arrays.quadrature import RULES, highest_degree, rule_of

__all__ = ["HIGHEST", "legendre", "spherical_power", "spherical_wavenumbers", "zonal_power"]

Floats = NDArray[np.float64]
#: The axes of latitude and of longitude.
Axes = tuple[int, int]
#: The highest total wavenumber: beyond it the scaled recurrence overflows.
HIGHEST = 2700
#: Values of fields that are transformed at a time, to bound the memory.
_BLOCK = 1 << 24
#: Values of Legendre functions that are kept between calls for one grid (64 MiB).
_KEPT = 1 << 23
#: A power of two, so that scaling is exact.
_SCALE = 2.0**-930


def zonal_power(field: ArrayLike, weights: ArrayLike, axis: Axes = (-2, -1)) -> Floats:
    r"""Mean power of each zonal wavenumber over rows of latitude.

    .. math::

        F_k = \frac1W \sum_x f_x e^{-2\pi i k x / W}, \qquad
        P_k = c_k \sum_h w_h |F_k(h)|^2 \Big/ \sum_h w_h

    with :math:`c_k = 1` for the mean and for the wave of Nyquist, 2 for the others, so that the
    powers sum to the weighted mean square.

    Parameters
    ----------
    field : array_like
        Real, in any units; NaN in a row of any weight makes all powers NaN.
    weights : array_like, shape (H,)
        Of the rows, not negative, of any positive scale.
    axis : tuple of int
        Latitude and longitude. Columns are equally spaced round the globe.

    Returns
    -------
    array of float64, shape (..., W // 2 + 1)
        In the units of the field squared; the further axes of `field` come first.

    Raises
    ------
    ValueError
        For weights that do not fit the rows, or sum to nothing.
    """
    values = np.moveaxis(np.asarray(field), axis, (-2, -1))
    shares = np.asarray(weights, dtype=np.float64)
    rows, columns = values.shape[-2:]
    if shares.shape != (rows,):
        raise ValueError(f"weights have shape {shares.shape}, need one for each of {rows} rows")
    if not (np.all(shares >= 0) and shares.sum() > 0):
        raise ValueError("weights must not be negative, and one of them positive")
    factors = np.full(columns // 2 + 1, 2.0)
    factors[0] = 1.0
    if columns % 2 == 0:
        factors[-1] = 1.0
    shares = shares / shares.sum()
    out = np.empty((*values.shape[:-2], factors.size))
    for block, into in _blocks(values, out):
        waves = np.fft.rfft(block.astype(np.float64), axis=-1) / columns
        into[:] = factors * np.einsum("h,bhk->bk", shares, waves.real**2 + waves.imag**2)
    return out


def spherical_wavenumbers(latitude: ArrayLike, columns: int) -> int:
    """Return how many total wavenumbers, from 0, a grid resolves: see :func:`spherical_power`.

    Parameters
    ----------
    latitude : array_like, shape (H,)
        Degrees north.
    columns : int

    Raises
    ------
    ValueError
        For rows that are no grid of the globe, or finer than the Legendre functions reach.
    """
    rows = np.asarray(latitude).size
    degree = highest_degree(rule_of(latitude), rows, columns)
    if degree > HIGHEST:
        raise ValueError(
            f"the grid of {rows} x {columns} resolves the total wavenumber {degree}, beyond the "
            f"{HIGHEST} up to which harmonics are computed; regrid to fewer rows first"
        )
    return degree + 1


def spherical_power(field: ArrayLike, latitude: ArrayLike, axis: Axes = (-2, -1)) -> Floats:
    r"""Power of each total wavenumber of the spherical harmonics.

    .. math:: P_l = \frac1{4\pi} \sum_{m=-l}^{l} |a_{lm}|^2, \qquad
              a_{lm} = \int f \, Y_{lm}^* \, d\Omega

    for orthonormal :math:`Y_{lm}`. The powers of a field without higher wavenumbers sum to its
    mean square over the sphere. The integral is the quadrature that belongs to the rows
    (Gauss-Legendre, Clenshaw-Curtis or Fejér) and stops at the wavenumber up to which it is exact:
    see :func:`~xwx.metrics.arrays.quadrature.highest_degree`.

    Parameters
    ----------
    field : array_like
        Real, on a global grid, in any units; NaN anywhere makes all powers NaN.
    latitude : array_like, shape (H,)
        Degrees north, in either direction: Gaussian, or equally spaced with or without the poles.
    axis : tuple of int
        Latitude and longitude. Columns are equally spaced round the globe.

    Returns
    -------
    array of float64, shape (..., L + 1)
        In the units of the field squared; the further axes of `field` come first.

    Raises
    ------
    ValueError
        For other latitudes, and for more wavenumbers than 2700.
    """
    values = np.moveaxis(np.asarray(field), axis, (-2, -1))
    rows, columns = values.shape[-2:]
    if np.shape(latitude) != (rows,):
        raise ValueError(f"latitude has shape {np.shape(latitude)}, the field has {rows} rows")
    count = spherical_wavenumbers(latitude, columns)
    sines, weights = RULES[rule_of(latitude)](rows)
    out = np.empty((*values.shape[:-2], count))
    for block, into in _blocks(values, out):
        waves = np.fft.rfft(block.astype(np.float64), axis=-1)[..., :count] / columns
        # The powers do not depend on which pole comes first.
        _add_orders(waves, sines, weights, into)
    return out


def _blocks(
    values: NDArray[np.generic], out: Floats
) -> Iterator[tuple[NDArray[np.generic], Floats]]:
    """Yield some fields (B, H, W) at a time, with the place (B, K) for their spectra."""
    fields = values.reshape(-1, *values.shape[-2:])
    spectra = out.reshape(-1, out.shape[-1])
    step = max(1, _BLOCK // (values.shape[-2] * values.shape[-1]))
    for first in range(0, fields.shape[0], step):
        yield fields[first : first + step], spectra[first : first + step]


def _add_orders(
    waves: NDArray[np.complex128], sines: Floats, weights: Floats, power: Floats
) -> None:
    """Fill `power` (B, L + 1) from the zonal waves (B, H, L + 1) of the rows.

    Legendre functions are even or odd about the equator as l - m is, so that half the rows do.
    """
    count, half = power.shape[-1], (sines.size + 1) // 2
    shares = weights[:half] / 2
    if sines.size % 2:
        shares[-1] /= 2  # the equator is its own mirror image, and counts twice below
    north, south = waves[:, :half], waves[:, ::-1][:, :half]
    even, odd = (_by_order(part, shares) for part in (north + south, north - south))
    power[:] = 0.0
    for order, table in enumerate(_tables(sines[:half], count)):
        factor = 1.0 if order == 0 else 2.0
        for first, part in ((0, even), (1, odd)):
            amplitudes = table[first::2] @ part[order]
            squares = np.square(amplitudes).reshape(-1, power.shape[0], 2).sum(axis=-1)
            power[:, order + first :: 2] += factor * squares.T


def _by_order(waves: NDArray[np.complex128], shares: Floats) -> Floats:
    """Return weighted waves as (order, row, field and part), real and imaginary part apart."""
    turned = np.ascontiguousarray((waves * shares[:, None]).transpose(2, 1, 0))
    return turned.view(np.float64)


def _tables(sines: Floats, count: int) -> Iterator[Floats]:
    """Yield the Legendre functions (l = m ... L, row) of each order m = 0 ... L."""
    if count * (count + 1) // 2 * sines.size <= _KEPT:
        yield from _kept(sines.tobytes(), count)
    else:
        yield from (legendre(order, count - 1, sines) for order in range(count))


@lru_cache(maxsize=4)
def _kept(sines: bytes, count: int) -> tuple[Floats, ...]:
    rows = np.frombuffer(sines)
    return tuple(legendre(order, count - 1, rows) for order in range(count))


def legendre(order: int, degree: int, sines: ArrayLike) -> Floats:
    r"""Return normalised associated Legendre functions of one order.

    By the recurrence over the degree at fixed order :math:`m`,

    .. math::

        \bar P_{lm} = \sqrt{\tfrac{4l^2-1}{l^2-m^2}} \Bigl(x \bar P_{l-1,m} -
        \sqrt{\tfrac{(l-1)^2-m^2}{4(l-1)^2-1}} \, \bar P_{l-2,m}\Bigr),

    with :math:`\frac12 \int_{-1}^1 \bar P_{lm}^2 dx = 1` and no Condon-Shortley phase. It runs on
    :math:`\bar P_{lm} / \cos^m\varphi`, scaled, since a high power of the cosine near a pole is
    less than the least float.

    Parameters
    ----------
    order : int
        m >= 0.
    degree : int
        The highest l, at least m and at most 2700.
    sines : array_like, shape (H,)
        x, the sines of latitude.

    Returns
    -------
    array of float64, shape (degree - order + 1, H)
        For l = m ... degree.

    References
    ----------
    S. A. Holmes and W. E. Featherstone, 2002: A unified approach to the Clenshaw summation and the
    recursive computation of very high degree and order normalised associated Legendre functions.
    J. Geodesy 76, 279-299.
    """
    x = np.asarray(sines, dtype=np.float64)
    out = np.empty((degree - order + 1, x.size))
    steps = np.arange(1, order + 1)
    out[0] = _SCALE * np.sqrt(np.prod((2.0 * steps + 1.0) / (2.0 * steps)))
    if degree > order:
        out[1] = np.sqrt(2.0 * order + 3.0) * x * out[0]
    at = np.arange(order + 2, degree + 1, dtype=np.float64)
    first = np.sqrt((4.0 * at**2 - 1.0) / (at**2 - order**2))
    second = np.sqrt(((at - 1.0) ** 2 - order**2) / (4.0 * (at - 1.0) ** 2 - 1.0))
    for n, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True), start=2):
        np.multiply(x, out[n - 1], out=out[n])
        out[n] -= b * out[n - 2]
        out[n] *= a
    cosines = np.sqrt((1.0 - x) * (1.0 + x))
    # in two parts: the power alone may underflow where the product does not
    part = order // 2
    out *= cosines**part / _SCALE * cosines ** (order - part)
    return out
