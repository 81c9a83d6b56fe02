"""Errors of tracks: great-circle distances between positions of storms."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EARTH_RADIUS",
    "common_distance_error",
    "great_circle_distance",
    "mean_distance_error",
]

Floats = NDArray[np.float64]
Counts = NDArray[np.intp]
#: Mean radius of the Earth [km].
EARTH_RADIUS = 6371.0


def great_circle_distance(
    latitude: ArrayLike, longitude: ArrayLike, latitude_to: ArrayLike, longitude_to: ArrayLike
) -> Floats:
    r"""Distance along the sphere between positions.

    .. math::

        d = 2 R \arcsin \sqrt{\sin^2 \tfrac{\varphi_2 - \varphi_1}2 +
            \cos\varphi_1 \cos\varphi_2 \sin^2 \tfrac{\lambda_2 - \lambda_1}2}

    (the haversine formula), with R = 6371 km.

    Parameters
    ----------
    latitude, longitude, latitude_to, longitude_to : array_like
        Degrees north and east, longitudes in any convention; all four broadcast.

    Returns
    -------
    array of float64
        Kilometres; NaN where a coordinate is NaN.

    Raises
    ------
    ValueError
        For a latitude beyond 90 degrees.
    """
    (north, east), (north_to, east_to) = (
        _radians(latitude, longitude),
        _radians(latitude_to, longitude_to),
    )
    square = (
        np.sin((north_to - north) / 2) ** 2
        + np.cos(north) * np.cos(north_to) * np.sin((east_to - east) / 2) ** 2
    )
    # rounding may lift the square of antipodes above one
    return np.asarray(2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.minimum(square, 1.0))))


def _radians(latitude: ArrayLike, longitude: ArrayLike) -> tuple[Floats, Floats]:
    north = np.asarray(latitude, dtype=np.float64)
    if np.any(np.abs(north) > 90.0):
        worst = north.flat[np.nanargmax(np.abs(north))]
        raise ValueError(f"latitude: {worst:g} is beyond 90 degrees; is it a longitude?")
    return np.deg2rad(north), np.deg2rad(np.asarray(longitude, dtype=np.float64))


def mean_distance_error(
    latitude: ArrayLike, longitude: ArrayLike, latitude_truth: ArrayLike, longitude_truth: ArrayLike
) -> tuple[Floats, Counts]:
    """Mean distance error of tracks, over the lead times that forecast and truth both have.

    Parameters
    ----------
    latitude, longitude, latitude_truth, longitude_truth : array_like, shape (..., leads)
        Positions [degrees north and east], NaN where a storm is not, or no longer, found. The
        truth broadcasts against the forecast.

    Returns
    -------
    error : array of float64, shape (...)
        Kilometres; NaN for a track without a common lead time.
    count : array of int, shape (...)
        How many lead times are in the mean.

    Raises
    ------
    ValueError
        For a latitude beyond 90 degrees.
    """
    distance = great_circle_distance(latitude, longitude, latitude_truth, longitude_truth)
    return _mean(distance, np.isfinite(distance))


def common_distance_error(
    latitude: ArrayLike, longitude: ArrayLike, latitude_truth: ArrayLike, longitude_truth: ArrayLike
) -> tuple[Floats, Counts]:
    """Mean distance error of several models, over the lead times that all of them have.

    A model that loses a difficult storm early is not rewarded for that.

    Parameters
    ----------
    latitude, longitude : array_like, shape (models, ..., leads)
        Positions [degrees north and east] of each model, NaN where a storm is not found.
    latitude_truth, longitude_truth : array_like, shape (..., leads)

    Returns
    -------
    error : array of float64, shape (models, ...)
        Kilometres; NaN for a track without a common lead time.
    count : array of int, shape (...)
        How many lead times are in the means, the same for every model.

    Raises
    ------
    ValueError
        For a latitude beyond 90 degrees.
    """
    distance = great_circle_distance(latitude, longitude, latitude_truth, longitude_truth)
    common = np.isfinite(distance).all(axis=0)
    error, _ = _mean(distance, np.broadcast_to(common, distance.shape))
    return error, np.asarray(common.sum(axis=-1))


def _mean(distance: Floats, used: NDArray[np.bool_]) -> tuple[Floats, Counts]:
    """Return mean and count along the last axis of what is used; NaN where nothing is."""
    count = np.asarray(used.sum(axis=-1))
    total = np.where(used, distance, 0.0).sum(axis=-1)
    return np.asarray(total / np.where(count, count, np.nan)), count
