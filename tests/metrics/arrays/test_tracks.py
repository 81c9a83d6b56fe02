"""Distances on the sphere and mean errors of tracks."""

from __future__ import annotations

import numpy as np
import pytest

from xwx.metrics.arrays.tracks import (
    common_distance_error,
    great_circle_distance,
    mean_distance_error,
)

HALF = 6371.0 * np.pi
NAN = np.nan


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ((0, 0), (0, 1), HALF / 180),
        ((0, 0), (1, 0), HALF / 180),
        ((0, 0), (0, 180), HALF),
        ((37, -20), (-37, 160), HALF),
        ((90, 0), (-90, 123), HALF),
        ((90, 10), (90, 200), 0.0),
        ((90, 0), (0, 77), HALF / 2),
        ((0, 179.5), (0, -179.5), HALF / 180),
        ((0, 359.5), (0, 0.5), HALF / 180),
        ((12, 34), (12, 394), 0.0),
        ((60, 0), (60, 180), HALF / 3),
        ((45, 0), (45, 90), HALF / 3),
    ],
)
def test_exact_distances(one, other, distance):
    for a, b in ((one, other), (other, one)):
        assert great_circle_distance(*a, *b) == pytest.approx(distance, rel=1e-12, abs=1e-9)


def test_a_degree_in_kilometres():
    assert round(float(great_circle_distance(0, 10, 0, 11)), 2) == 111.19


def test_against_the_angle_between_vectors():
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-90, 90, (2, 200)), rng.uniform(-180, 360, (2, 200))
    phi, lam = np.deg2rad(lat), np.deg2rad(lon)
    at = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
    angle = np.arctan2(
        np.linalg.norm(np.cross(at[:, 0], at[:, 1], axis=0), axis=0), (at[:, 0] * at[:, 1]).sum(0)
    )
    np.testing.assert_allclose(
        great_circle_distance(lat[0], lon[0], lat[1], lon[1]), 6371 * angle, rtol=1e-10
    )


def test_antipodes_round_to_no_more_than_half_the_way():
    lat, lon = np.random.default_rng(1).uniform(-90, 90, (2, 20000)).round(1)
    np.testing.assert_allclose(great_circle_distance(lat, lon, -lat, lon + 180), HALF, rtol=1e-7)


def test_small_distances_are_sharp():
    assert great_circle_distance(50, 5, 50 + 1e-6, 5) == pytest.approx(HALF / 180e6, rel=1e-7)


def test_latitudes_that_are_none():
    with pytest.raises(ValueError, match="latitude: 120 is beyond 90"):
        great_circle_distance([10, 120], 0, NAN, 0)
    with pytest.raises(ValueError, match="latitude: -91 is beyond"):
        great_circle_distance(0, 0, -91, 0)


def test_mean_over_leads_that_both_have():
    # degrees along the equator; the last track has no lead in common
    lat = np.array([[0, 0, 0, NAN], [0, 0, NAN, NAN], [0, NAN, NAN, NAN]])
    lon = np.array([[1, 2, 4, 9], [359, 0, NAN, NAN], [5, 5, 5, 5.0]])
    truth = np.array([[0, 0, NAN, 0], [0, 0, 0, 0], [NAN, 0, 0, 0]])
    error, count = mean_distance_error(lat, lon, truth, np.zeros((3, 4)))
    np.testing.assert_allclose(error, np.array([1.5, 0.5, NAN]) * HALF / 180, rtol=1e-12)
    assert count.tolist() == [2, 2, 0]


def test_leads_common_to_models():
    # the second model loses the storm before its error grows
    lon = np.array([[[1.0, 2, 6], [3, 3, 3]], [[2, 2, NAN], [NAN, 1, 1]]])
    lat, zero = np.zeros((2, 2, 3)), np.zeros((2, 3))
    error, count = common_distance_error(lat, lon, zero, zero)
    np.testing.assert_allclose(error, np.array([[1.5, 3], [2, 1]]) * HALF / 180, rtol=1e-12)
    assert count.tolist() == [2, 2]
    alone, own = mean_distance_error(lat, lon, zero, zero)
    np.testing.assert_allclose(alone[0], np.array([3.0, 3]) * HALF / 180, rtol=1e-12)
    assert own.tolist() == [[3, 3], [2, 2]]
