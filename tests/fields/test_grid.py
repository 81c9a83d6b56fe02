"""Cell areas, weights and forcings against closed forms."""

import cftime
import numpy as np
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.fields import area_weights, cell_areas, find_coordinates, forcings, latitude_weights
from xwx.spec import FORCINGS, Grid


@pytest.mark.parametrize("poles", [True, False])
@pytest.mark.parametrize("rows", [2, 3, 32, 73, 721])
def test_areas_of_the_sphere_sum_to_two(rows, poles):
    grid = Grid.regular(rows, 4, poles=poles)
    assert abs(cell_areas(grid.rows).sum() - 2) < 1e-13
    assert abs(latitude_weights(grid.rows).mean() - 1) < 1e-14


def test_areas_of_a_grid_with_poles():
    delta = np.deg2rad(1.5)
    rows = Grid.regular(121, 4, poles=True).rows
    areas = cell_areas(rows)
    interior = 2 * np.cos(np.deg2rad(rows[1:-1])) * np.sin(delta / 2)
    np.testing.assert_allclose(areas[1:-1], interior, rtol=0, atol=1e-14)
    np.testing.assert_allclose(areas[[0, -1]], 2 * np.sin(delta / 4) ** 2, rtol=0, atol=1e-14)


def test_area_and_cosine_weights_agree_but_at_the_poles():
    cell_centred = Grid.regular(32, 4, poles=False).rows
    np.testing.assert_allclose(
        latitude_weights(cell_centred), latitude_weights(cell_centred, "cos"), rtol=0, atol=1e-13
    )
    rows = Grid.regular(121, 4, poles=True).rows
    gap = np.abs(latitude_weights(rows) - latitude_weights(rows, "cos"))
    assert gap.max() == pytest.approx(5.183e-3, abs=5e-6)
    assert set(np.argsort(gap)[-2:]) == {0, 120}


def test_areas_follow_the_order_of_the_rows():
    rows = np.array([80.0, 50.0, 10.0, -70.0])
    np.testing.assert_array_equal(cell_areas(rows)[::-1], cell_areas(rows[::-1]))
    # edges at 90 (clipped from 95), 65, 30, -30, -90 (clipped from -110)
    by_hand = np.array([1 - np.sin(np.deg2rad(65)), np.sin(np.deg2rad(65)) - 0.5, 1.0, 0.5])
    np.testing.assert_allclose(cell_areas(rows), by_hand, atol=1e-15)


def test_bounds_win_over_midpoints():
    ds = xr.Dataset(
        {"lat_bnds": (("lat", "bnds"), [[-90.0, 0.0], [0.0, 30.0], [30.0, 90.0]])},
        coords={
            "lat": ("lat", [-45.0, 15.0, 60.0], {"units": "degrees_north", "bounds": "lat_bnds"})
        },
    )
    np.testing.assert_allclose(area_weights(ds), 1.5 * np.array([1.0, 0.5, 0.5]), atol=1e-15)


@pytest.mark.parametrize("bad", [[0.0], [0.0, 10.0, 5.0], [0.0, 0.0], [80.0, 100.0]])
def test_latitudes_that_make_no_cells(bad):
    with pytest.raises(ValueError, match=r"latitude"):
        cell_areas(bad)


def test_unknown_weights():
    with pytest.raises(ValueError, match="'sin'"):
        latitude_weights([0.0, 10.0], "sin")


def test_area_weights_without_latitude():
    with pytest.raises(MismatchError, match="latitude"):
        area_weights(xr.Dataset({"a": ("x", [1.0])}))


def test_coordinates_by_attributes_before_names():
    ds = xr.Dataset(
        {"a": (("when", "height", "south_north", "west_east"), np.zeros((1, 1, 2, 2)))},
        coords={
            "when": ("when", np.array(["2020-01-01"], "datetime64[ns]")),
            "height": ("height", [500.0], {"units": "mbar"}),
            "south_north": ("south_north", [0.0, 1.0], {"standard_name": "latitude"}),
            "west_east": ("west_east", [0.0, 1.0], {"units": "degrees_east"}),
        },
    )
    found = find_coordinates(ds)
    assert (found.latitude, found.longitude) == ("south_north", "west_east")
    assert (found.time, found.vertical) == ("when", "height")


GRID = Grid((60.0, 0.0), (0.0, 90.0, 180.0, 270.0))


def test_forcings_of_the_coordinates():
    values = forcings(np.array(["2020-01-01"], "datetime64[ns]"), GRID, FORCINGS[:4])
    assert values.shape == (1, 4, 2, 4)
    assert values.dtype == np.float32
    exact = np.array([np.sqrt(3) / 2, 0.0])[:, None] * np.ones(4)
    np.testing.assert_allclose(values[0, 0], exact, atol=1e-7)
    np.testing.assert_allclose(values[0, 1, :, 0], [0.5, 1.0], atol=1e-7)
    np.testing.assert_allclose(values[0, 2, 0], [0, 1, 0, -1], atol=1e-7)
    np.testing.assert_allclose(values[0, 3, 0], [1, 0, -1, 0], atol=1e-7)


@pytest.mark.parametrize(
    "time",
    [np.datetime64("2021-05-30T06"), cftime.Datetime360Day(2021, 2, 30, 6)],
)
def test_local_time_is_solar(time):
    names = ("sin_local_time", "cos_local_time", "sin_2_local_time", "cos_2_local_time")
    values = forcings([time], GRID, names)[0, :, 0]
    # 06 UTC is 06, 12, 18, 24 h at 0, 90, 180, 270 degrees east
    exact = [[1, 0, -1, 0], [0, -1, 0, 1], [0, 0, 0, 0], [-1, 1, -1, 1]]
    np.testing.assert_allclose(values, exact, atol=1e-6)


@pytest.mark.parametrize(
    ("time", "fraction"),
    [
        (np.datetime64("2021-01-01T00"), 0.0),
        (np.datetime64("2021-07-02T12"), 0.5),
        (np.datetime64("2020-07-02T00"), 0.5),
        (np.datetime64("2020-12-31T12"), 365.5 / 366),
        (cftime.DatetimeGregorian(2021, 4, 2, 6), 0.25),
    ],
)
def test_fraction_of_the_year(time, fraction):
    values = forcings([time], GRID, ["sin_year", "cos_year"])
    angle = 2 * np.pi * fraction
    np.testing.assert_allclose(values[0, 0], np.sin(angle), atol=1e-7)
    np.testing.assert_allclose(values[0, 1], np.cos(angle), atol=1e-7)


def test_no_year_without_dates():
    with pytest.raises(MismatchError, match="360_day"):
        forcings([cftime.Datetime360Day(2021, 2, 30)], GRID, ["sin_year"])


def test_unknown_forcing():
    with pytest.raises(ValueError, match="sun"):
        forcings(["2021-01-01"], GRID, ["sun"])
