"""Area-conserving remapping: nothing is lost, nothing is moved."""

from __future__ import annotations

import numpy as np
import pytest

from xwx.climate.remap import Remap, overlap


def gaussian(rows, columns):
    """Return areas and latitudes from the south, and longitudes, of a Gaussian grid."""
    sines, weights = np.polynomial.legendre.leggauss(rows)
    return weights, np.rad2deg(np.arcsin(sines)), 360.0 * np.arange(columns) / columns


def target_areas(rows):
    """Return areas of equiangular rows from the north; they sum to one."""
    edges = np.sin(np.deg2rad(np.linspace(90, -90, rows + 1)))
    return -np.diff(edges) / 2


SHAPES = [(32, 64), (19, 37), (7, 12), (60, 130)]


@pytest.mark.parametrize("shape", SHAPES)
def test_global_means_are_kept(shape):
    weights, _, longitude = gaussian(48, 96)
    field = np.random.default_rng(0).standard_normal((3, 2, 48, 96))
    found = Remap.equiangular(weights, longitude, shape)(field).astype(np.float64)
    before = np.einsum("tkyx,y->tk", field, weights / weights.sum()) / 96
    after = np.einsum("tkyx,y->tk", found, target_areas(shape[0])) / shape[1]
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_constants_stay(shape):
    weights, _, longitude = gaussian(48, 96)
    found = Remap.equiangular(weights, longitude, shape)(np.full((48, 96), 273.15))
    assert found.dtype == np.float32
    assert found.shape == shape
    assert np.all(found == np.float32(273.15))


def test_every_cell_is_the_mean_over_its_area():
    """Against a sum over very many points of the sphere."""
    weights, _, longitude = gaussian(10, 8)
    field = np.random.default_rng(1).standard_normal((10, 8))
    found = Remap.equiangular(weights, longitude, (4, 6))(field)
    fine = 20000
    sines = -1 + (np.arange(fine) + 0.5) * 2 / fine
    source_row = np.searchsorted(np.cumsum(weights) - 1, sines)
    row = np.floor((90 - np.rad2deg(np.arcsin(sines))) / 45).astype(int)
    degrees = 7.5 * (np.arange(48) + 0.5)  # no edge of a cell lies between
    source_column = np.round(degrees / 45).astype(int) % 8
    column = np.round(degrees / 60).astype(int) % 6
    dense = field[np.minimum(source_row, 9)][:, source_column]
    for i in range(4):
        for j in range(6):
            mean = dense[row == i][:, column == j].mean()
            assert found[i, j] == pytest.approx(mean, abs=2e-3)


def test_rows_run_from_the_north_and_columns_from_greenwich():
    weights, latitude, longitude = gaussian(48, 96)
    grid = Remap.equiangular(weights, longitude, (32, 64))
    assert grid.latitude[[0, -1]].tolist() == [87.1875, -87.1875]
    assert grid.longitude[[0, 1, -1]].tolist() == [0.0, 5.625, 354.375]
    east = np.broadcast_to(np.cos(np.deg2rad(longitude - 40)), (48, 96))
    north = np.broadcast_to(latitude[:, None], (48, 96))
    rows = grid(north)[:, 0]
    np.testing.assert_allclose(rows, grid.latitude, atol=1.6)
    assert np.all(np.diff(rows) < 0)
    np.testing.assert_allclose(grid(east)[0], np.cos(np.deg2rad(grid.longitude - 40)), atol=3e-3)


def test_a_turn_of_the_globe_commutes_with_the_map():
    """Three columns of 96 are two of 64."""
    weights, _, longitude = gaussian(48, 96)
    grid = Remap.equiangular(weights, longitude, (32, 64))
    field = np.random.default_rng(2).standard_normal((48, 96))
    turned = grid(np.roll(field, 3, axis=-1))
    np.testing.assert_allclose(turned, np.roll(grid(field), 2, axis=-1), rtol=0, atol=1e-6)


def test_the_native_grid_is_only_turned():
    _, latitude, longitude = gaussian(6, 9)
    field = np.random.default_rng(3).standard_normal((2, 6, 9)).astype(np.float32)
    grid = Remap.native(latitude, longitude)
    assert np.array_equal(grid(field), field[:, ::-1])
    assert np.array_equal(grid.latitude, latitude[::-1])
    assert np.array_equal(grid.longitude, longitude)


def test_overlaps_by_hand():
    found = overlap([0, 1, 3], [0, 2, 3])
    np.testing.assert_allclose(found, [[0.5, 0.5], [0, 1]])
    round_the_circle = overlap([-5, 5, 355], [-10, 10, 350], 360.0)
    np.testing.assert_allclose(round_the_circle, [[0.5, 0.5], [0, 1]])
    assert overlap([0, 90, 180, 270, 360], [-45, 45, 315], 360.0)[0] == pytest.approx(
        [0.5, 0, 0, 0.5]
    )
