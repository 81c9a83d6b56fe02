"""Scores of a deterministic forecast: area-weighted means of errors, in float64.

Every function takes arrays and axes. Weights are per row of latitude, of any positive scale;
longitudes count alike. Missing values propagate.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["acc", "area_mean", "bias", "mae", "mean_over_starts", "mse", "rmse"]

#: The axes of latitude and of longitude.
Axes = tuple[int, int]
Floats = NDArray[np.float64]


def area_mean(field: ArrayLike, weights: ArrayLike, axis: Axes = (-2, -1)) -> Floats:
    r"""Average over the sphere: :math:`\sum_h w_h \bar x_h / \sum_h w_h`.

    Parameters
    ----------
    field : array_like
        Values, any unit.
    weights : array_like, shape (rows,)
        Area weight of each row of latitude, not negative, of any scale.
    axis : (int, int)
        Axis of latitude, axis of longitude.

    Returns
    -------
    ndarray of float64
        Shape of `field` without the two axes, in its unit.

    Raises
    ------
    ValueError
        If the weights do not match the rows, are negative or NaN, or sum to zero, or the axes are
        the same.
    """
    values = np.asarray(field)
    w = np.asarray(weights, dtype=np.float64)
    row, column = (np.arange(values.ndim)[a] for a in axis)
    if row == column:
        raise ValueError(f"axis={axis!r}: latitude and longitude are different axes")
    if w.shape != (values.shape[row],):
        raise ValueError(f"weights of shape {w.shape} for {values.shape[row]} rows of latitude")
    if not (np.all(w >= 0) and 0 < w.sum() < np.inf):
        raise ValueError("weights must be finite, not negative, and not all zero")
    zonal = np.moveaxis(values, (row, column), (-2, -1)).mean(axis=-1, dtype=np.float64)
    return np.asarray(zonal @ (w / w.sum()))


def mse(forecast: ArrayLike, truth: ArrayLike, weights: ArrayLike, axis: Axes = (-2, -1)) -> Floats:
    """Return the area-weighted mean square error, in the square of the unit.

    Parameters and errors are those of :func:`rmse`.
    """
    return area_mean(_difference(forecast, truth) ** 2, weights, axis)


def rmse(
    forecast: ArrayLike, truth: ArrayLike, weights: ArrayLike, axis: Axes = (-2, -1)
) -> Floats:
    r"""Return the root of the area-weighted mean square error.

    .. math:: \sqrt{\sum_h w_h \overline{(\hat x_h - x_h)^2} / \sum_h w_h}

    Parameters
    ----------
    forecast, truth : array_like
        Arrays of one shape, in one unit.
    weights : array_like, shape (rows,)
        Area weight of each row of latitude, of any positive scale.
    axis : (int, int)
        Axis of latitude, axis of longitude.

    Returns
    -------
    ndarray of float64
        Shape of the arguments without the two axes, in their unit. For a mean over starts see
        :func:`mean_over_starts`.

    Raises
    ------
    ValueError
        If the shapes differ or the weights do not fit the rows.
    """
    return np.sqrt(mse(forecast, truth, weights, axis))


def mae(forecast: ArrayLike, truth: ArrayLike, weights: ArrayLike, axis: Axes = (-2, -1)) -> Floats:
    """Return the area-weighted mean absolute error, in the unit of the arguments.

    Parameters and errors are those of :func:`rmse`.
    """
    return area_mean(np.abs(_difference(forecast, truth)), weights, axis)


def bias(
    forecast: ArrayLike, truth: ArrayLike, weights: ArrayLike, axis: Axes = (-2, -1)
) -> Floats:
    """Return the area-weighted mean of forecast minus truth, in the unit of the arguments.

    Parameters and errors are those of :func:`rmse`.
    """
    return area_mean(_difference(forecast, truth), weights, axis)


def acc(
    forecast: ArrayLike,
    truth: ArrayLike,
    climatology: ArrayLike,
    weights: ArrayLike,
    axis: Axes = (-2, -1),
    *,
    centred: bool = False,
) -> Floats:
    r"""Return the anomaly correlation coefficient.

    .. math:: \frac{\sum w \hat x' x'}{\sqrt{\sum w \hat x'^2 \sum w x'^2}}

    with anomalies :math:`x' = x - \text{climatology}`.

    Parameters
    ----------
    forecast, truth, climatology : array_like
        Arrays of one shape, in one unit. The climatology is that of the valid time.
    weights : array_like, shape (rows,)
        Area weight of each row of latitude, of any positive scale.
    axis : (int, int)
        Axis of latitude, axis of longitude.
    centred : bool
        Subtract the area mean of the anomalies first, as the WMO does.

    Returns
    -------
    ndarray of float64
        Within [-1, 1]; NaN where an anomaly vanishes everywhere.

    Raises
    ------
    ValueError
        If the shapes differ or the weights do not fit the rows.
    """
    anomalies = [_difference(x, climatology) for x in (forecast, truth)]
    if centred:
        anomalies = [x - np.expand_dims(area_mean(x, weights, axis), axis) for x in anomalies]
    ours, theirs = anomalies
    covariance = area_mean(ours * theirs, weights, axis)
    variances = area_mean(ours**2, weights, axis), area_mean(theirs**2, weights, axis)
    with np.errstate(invalid="ignore"):
        return np.asarray(covariance / (np.sqrt(variances[0]) * np.sqrt(variances[1])))


def mean_over_starts(
    square_error: ArrayLike, axis: int = 0, *, convention: Literal["wb1", "wb2"] = "wb1"
) -> Floats:
    """Return the RMSE of many forecasts from the mean square error of each.

    Parameters
    ----------
    square_error : array_like
        As :func:`mse` gives it.
    axis : int
        The axis of starts.
    convention : {"wb1", "wb2"}
        Of WeatherBench 1, the mean of the roots, or of WeatherBench 2, the root of the mean. The
        former is never larger; they agree if and only if all starts score alike.

    Returns
    -------
    ndarray of float64
        Shape of `square_error` without the axis.

    Raises
    ------
    ValueError
        For an unknown convention.
    """
    errors = np.asarray(square_error, dtype=np.float64)
    if convention == "wb1":
        return np.asarray(np.sqrt(errors).mean(axis=axis))
    if convention == "wb2":
        return np.asarray(np.sqrt(errors.mean(axis=axis)))
    raise ValueError(f'convention={convention!r}: give "wb1" or "wb2"')


def _difference(left: ArrayLike, right: ArrayLike) -> Floats:
    """Subtract in float64; shapes must agree, since broadcasting hides mistakes."""
    a, b = np.asarray(left), np.asarray(right)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    return np.asarray(np.subtract(a, b, dtype=np.float64))
