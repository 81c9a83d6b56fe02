"""Rows of global grids as the nodes of a quadrature over the sine of latitude."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "RULES",
    "Rule",
    "clenshaw_curtis",
    "fejer",
    "gauss_legendre",
    "highest_degree",
    "rule_of",
]

Floats = NDArray[np.float64]
Rule = Literal["gauss", "poles", "cells"]
#: Latitudes agree when they differ by less than this fraction of the spacing of rows: GRIB rounds
#: them to a thousandth of a degree, and the rules differ by a quarter of the spacing.
_TOLERANCE = 0.01


def gauss_legendre(rows: int) -> tuple[Floats, Floats]:
    """Return the rows of a Gaussian grid.

    Parameters
    ----------
    rows : int
        At least one.

    Returns
    -------
    sines, weights : arrays of float64, shape (rows,)
        Sines of latitude from north to south, and weights that sum to 2. Polynomials of a degree
        up to ``2 rows - 1`` are integrated exactly.
    """
    sines, weights = np.polynomial.legendre.leggauss(rows)
    return sines[::-1].copy(), weights[::-1].copy()


def clenshaw_curtis(rows: int) -> tuple[Floats, Floats]:
    r"""Return equally spaced rows, the first and the last on the poles.

    With :math:`N` = rows - 1 and colatitudes :math:`\theta_j = j \pi / N`

    .. math::

        w_j = \frac{c_j}{N} \Bigl(1 - \sum_{k=1}^{\lfloor N/2 \rfloor}
              \frac{b_k}{4k^2-1} \cos 2k\theta_j\Bigr),

    where :math:`b_k` = 1 for :math:`2k = N` and 2 otherwise, :math:`c_j` = 1 on the poles and 2
    elsewhere.

    Parameters
    ----------
    rows : int
        At least two.

    Returns
    -------
    sines, weights : arrays of float64, shape (rows,)
        Sines of latitude from north to south, and weights that sum to 2. Polynomials of a degree
        up to ``rows - 1`` are integrated exactly.

    References
    ----------
    C. W. Clenshaw and A. R. Curtis, 1960: A method for numerical integration on an automatic
    computer. Numer. Math. 2, 197-205.
    """
    steps = rows - 1
    angles = np.pi * np.arange(rows) / steps
    series = _series(angles, 1 + steps // 2)
    if steps % 2 == 0:
        series[:, -1] /= 2
    weights = 2.0 / steps * (1.0 - series.sum(axis=1))
    weights[[0, -1]] /= 2
    return np.cos(angles), weights


def fejer(rows: int) -> tuple[Floats, Floats]:
    r"""Return equally spaced rows, the first and the last half a spacing off the poles.

    With colatitudes :math:`\theta_j = (j + 1/2) \pi / n` (Fejér's first rule)

    .. math::

        w_j = \frac2n \Bigl(1 - 2 \sum_{k=1}^{\lfloor n/2 \rfloor}
              \frac{\cos 2k\theta_j}{4k^2-1}\Bigr).

    Parameters
    ----------
    rows : int
        At least one.

    Returns
    -------
    sines, weights : arrays of float64, shape (rows,)
        Sines of latitude from north to south, and weights that sum to 2. Polynomials of a degree
        up to ``rows - 1`` are integrated exactly.

    References
    ----------
    J. Waldvogel, 2006: Fast construction of the Fejér and Clenshaw-Curtis quadrature rules.
    BIT Numer. Math. 46, 195-202.
    """
    angles = np.pi * (np.arange(rows) + 0.5) / rows
    weights = 2.0 / rows * (1.0 - _series(angles, 1 + rows // 2).sum(axis=1))
    return np.cos(angles), weights


def _series(angles: Floats, stop: int) -> Floats:
    """Return the terms ``2 cos(2 k angle) / (4 k^2 - 1)`` for 0 < k < stop."""
    order = np.arange(1, stop)
    terms: Floats = 2.0 * np.cos(2.0 * np.outer(angles, order)) / (4.0 * order**2 - 1.0)
    return terms


#: The rules by name: nodes (rows from north to south) and weights for a number of rows.
RULES: dict[Rule, Callable[[int], tuple[Floats, Floats]]] = {
    "poles": lru_cache(maxsize=8)(clenshaw_curtis),
    "cells": lru_cache(maxsize=8)(fejer),
    "gauss": lru_cache(maxsize=8)(gauss_legendre),  # the last, as it is the slowest to look at
}


def highest_degree(rule: Rule, rows: int, columns: int) -> int:
    """Return the highest total wavenumber that a grid resolves exactly.

    Products of two harmonics up to it are integrated exactly: along latitude for twice the
    wavenumber within the degree of the rule, so ``rows - 1`` for Gaussian rows and
    ``(rows - 1) // 2`` for equally spaced ones; along longitude for zonal wavenumbers below that
    of Nyquist, ``(columns - 1) // 2``.

    Parameters
    ----------
    rule : {"gauss", "poles", "cells"}
    rows, columns : int
    """
    meridional = rows - 1 if rule == "gauss" else (rows - 1) // 2
    return min(meridional, (columns - 1) // 2)


def rule_of(latitude: ArrayLike) -> Rule:
    """Recognise the rows of a global grid.

    Parameters
    ----------
    latitude : array_like, shape (H,)
        Degrees north, in either direction.

    Returns
    -------
    {"gauss", "poles", "cells"}
        Gaussian rows, equally spaced rows with the poles, equally spaced centres of cells.

    Raises
    ------
    ValueError
        For any other latitudes.
    """
    rows = np.asarray(latitude, dtype=np.float64)
    if rows.ndim == 1 and rows.size > 1:
        found = rows if rows[0] > rows[-1] else rows[::-1]
        for rule, nodes in RULES.items():
            # The sine of a row next to the pole says little of its latitude, the arcsine is
            # still good to 1e-8 radians there.
            expected = np.rad2deg(np.arcsin(np.clip(nodes(rows.size)[0], -1.0, 1.0)))
            if np.abs(found - expected).max() <= _TOLERANCE * 180.0 / rows.size:
                return rule
    span = f"{rows.size} values from {rows.flat[0]:g} to {rows.flat[-1]:g}" if rows.size else "none"
    raise ValueError(
        f"latitude: {span}: neither Gaussian rows nor equally spaced ones of the whole globe, with "
        "the poles or half a spacing off them; regrid first: "
        "ds.wx.regrid(xwx.Grid.regular(181, 360, poles=True))"
    )
