"""Which cells of a model lie in a region, and under which longitudes they come back."""

from __future__ import annotations

import numpy as np
import pytest

from xwx.errors import MismatchError
from xwx.fields import Horizontal
from xwx.spec import Grid
from xwx.tasks.sampling.cover import cover

GRID = Grid.regular(16, 32, poles=False)  # 11.25 degrees
ROUND = np.arange(8) * 45.0
BAND = [67.5, 22.5, -22.5, -67.5]


def seen(latitude, longitude, grid=GRID):
    where = Horizontal("y", "x", np.asarray(latitude, float), np.asarray(longitude, float))
    return cover(where, grid, "the model")


@pytest.mark.parametrize(
    ("longitude", "first", "second", "last"),
    [
        (ROUND, 0.0, 11.25, 348.75),
        (ROUND - 180, -180.0, -168.75, 168.75),
        (ROUND - 135, -180.0, -168.75, 168.75),  # up to 180 itself
        (ROUND + 360, 337.5, 348.75, 686.25),  # neither convention: from the first cell's edge
        (ROUND[::-1], 348.75, 337.5, 0.0),
        (np.roll(ROUND, 4), 157.5, 168.75, 146.25),  # goes through 0 on the way
    ],
)
def test_the_whole_globe_keeps_its_convention(longitude, first, second, last):
    found = seen(BAND, longitude)
    assert found.grid is GRID
    assert list(found.longitude[[0, 1, -1]]) == [first, second, last]
    np.testing.assert_array_equal(np.sort(found.longitude % 360), GRID.columns)
    np.testing.assert_array_equal(found.latitude, GRID.rows)
    np.testing.assert_array_equal(found.columns, np.arange(32))


@pytest.mark.parametrize(
    ("longitude", "wanted"),
    [
        ([0, 10, 20], [0, 11.25, 22.5]),
        ([-10, 0, 10], [-11.25, 0, 11.25]),
        ([10, 0, -10], [11.25, 0, -11.25]),
        ([350, 0, 10], [348.75, 0, 11.25]),
        ([10, 0, 350], [11.25, 0, 348.75]),
        ([350, 360, 370], [348.75, 360, 371.25]),
        ([0, 10, 350], [0, 11.25, 348.75]),  # sorted, with a gap
        ([170, 180, 190], [168.75, 180, 191.25]),
        ([170, 180, -170], [168.75, -180, -168.75]),
        ([350, 10], [348.75, 0, 11.25]),
        ([10, 350], [0, 11.25, 348.75]),
        ([5, 15], [0, 11.25]),  # reaches from 0 to 20, cells whose centres are there
    ],
)
def test_a_region_keeps_its_convention(longitude, wanted):
    found = seen([-10, 0, 10, 20], longitude)
    assert list(found.longitude) == wanted
    np.testing.assert_allclose(
        np.sort(np.mod(found.grid.columns, 360)), np.sort(np.mod(wanted, 360))
    )
    assert sorted(GRID.columns[found.columns]) == sorted(np.mod(wanted, 360))
    assert list(found.latitude) == [-5.625, 5.625, 16.875]  # from -15 to 25, south first
    assert found.grid.latitude == (16.875, 5.625, -5.625)
    assert list(GRID.rows[found.rows]) == [16.875, 5.625, -5.625]


def test_rows_that_stop_short_of_the_poles_stand_for_them():
    poles = Grid.regular(17, 32, poles=True)
    gaussian = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(8)[0]))
    assert list(seen(gaussian, ROUND, poles).latitude) == list(poles.rows[::-1])
    assert seen(gaussian[1:-1], ROUND, poles).latitude.max() == 56.25
    region = seen(gaussian, [0, 10, 20], poles)  # a pole is no part of a sector
    assert region.latitude.max() == 78.75


def test_a_model_of_a_region():
    grid = Grid(tuple(np.arange(60, 19, -2.0)), tuple(np.arange(350, 391, 2.0)))
    found = seen([55, 50, 45], [-5, 0, 5], grid)
    assert list(found.latitude) == list(np.arange(56, 43, -2))
    assert list(found.longitude) == list(np.arange(-6, 7, 2))
    assert list(grid.columns[found.columns] % 360) == list(np.mod(found.longitude, 360))


@pytest.mark.parametrize(
    ("latitude", "longitude", "text"),
    [
        ([20.0], [0, 10], "has no width"),
        ([20, 10], [3.0], "has no width"),
        ([80, 82, 81], [0, 10], "monotonic"),
        ([1.0, 0.0], [2.0, 3.0], "no cell"),
    ],
)
def test_regions_without_a_cell(latitude, longitude, text):
    with pytest.raises(MismatchError, match=text):
        seen(latitude, longitude)
