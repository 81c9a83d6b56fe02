"""Cells of a grid in its own order: exact areas, and parts of cells."""

import numpy as np
import pytest
import xarray as xr

from xwx.fields import Horizontal, horizontal_of


def grid(latitude, longitude, bounds=None):
    rows, columns = (np.asarray(v, np.float64) for v in (latitude, longitude))
    return Horizontal("y", "x", rows, columns, bounds)


GLOBE = grid(np.linspace(90, -90, 13), np.arange(0, 360, 22.5))
OFFSET = grid(np.linspace(-87.5, 87.5, 36), np.arange(-180, 180, 5.0))


@pytest.mark.parametrize("globe", [GLOBE, OFFSET])
def test_areas_of_a_globe_sum_to_one(globe):
    assert globe.row_weights("area").sum() == pytest.approx(1.0, abs=1e-14)
    assert globe.column_widths.sum() == pytest.approx(1.0, abs=1e-14)


def test_area_of_each_row():
    edges = np.clip(np.linspace(97.5, -97.5, 14), -90, 90)
    exact = (np.sin(np.deg2rad(edges[:-1])) - np.sin(np.deg2rad(edges[1:]))) / 2
    assert np.allclose(GLOBE.row_weights("area"), exact, rtol=0, atol=1e-15)
    assert np.allclose(
        GLOBE.row_weights("cos"), np.cos(np.deg2rad(GLOBE.latitude)), rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("globe", [GLOBE, OFFSET])
@pytest.mark.parametrize(("south", "north"), [(-20, 20), (-90, -33.3), (12.34, 12.35), (0, 90)])
def test_area_between_parallels_is_analytic(globe, south, north):
    inside = (globe.row_weights("area") * globe.row_parts(south, north)).sum()
    exact = (np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south))) / 2
    assert inside == pytest.approx(exact, abs=1e-14)


@pytest.mark.parametrize("globe", [GLOBE, OFFSET])
@pytest.mark.parametrize(
    ("west", "east", "width"),
    [
        (0, 360, 360),
        (-180, 180, 360),
        (-12.5, 42.5, 55),
        (145, -130, 85),
        (170, 190, 20),
        (350, 10, 20),
        (-10, 10, 20),
        (350, 349.9, 359.9),  # a cell that holds both ends counts twice but for the gap
        (10, 9.9, 359.9),
        (1.1, 1.2, 0.1),
        (359.9, 0.1, 0.2),
    ],
)
def test_width_between_meridians(globe, west, east, width):
    parts = globe.column_parts(west, east)
    assert (globe.column_widths * parts).sum() == pytest.approx(width / 360, abs=1e-14)
    assert parts.min() >= 0
    assert parts.max() <= 1 + 1e-14


def test_order_and_convention_are_kept():
    turned = grid(GLOBE.latitude[::-1], np.roll((GLOBE.longitude + 180) % 360 - 180, 5))
    assert np.allclose(turned.row_parts(-20, 20), GLOBE.row_parts(-20, 20)[::-1])
    assert np.allclose(turned.column_parts(145, -130), np.roll(GLOBE.column_parts(145, -130), 5))


@pytest.mark.parametrize("first", [0, 100, 330, 357])
def test_a_region_reaches_half_a_spacing_out_and_has_no_seam(first):
    region = grid([40.0, 41.0], (first + np.arange(8) * 5.0) % 360)
    west, east = region.column_edges.min(), region.column_edges.max()
    assert (west, east) == (first - 2.5, first + 37.5)
    assert np.allclose(region.column_widths, 5 / 360)
    assert np.allclose(np.diff(region.column_edges, axis=1), 5.0)


def test_two_columns_of_a_region():
    assert grid([40.0, 41.0], [0.0, 90.0]).column_edges.tolist() == [[-45, 45], [45, 135]]
    assert grid([40.0, 41.0], [0.0, 180.0]).column_edges.tolist() == [[-90, 90], [90, 270]]


def test_bounds_decide():
    bounds = np.array([[-90, -30], [50, -30], [50, 90.0]])
    rows = grid([-60.0, 0.0, 70.0], [0.0, 180.0], bounds)
    assert rows.row_edges.tolist() == [[-90, -30], [-30, 50], [50, 90]]
    assert rows.row_weights("area").sum() == pytest.approx(1.0)


def test_a_single_point_lies_inside_or_outside():
    point = grid([47.0], [11.0])
    assert point.row_weights("area").tolist() == [1.0]
    assert point.column_widths.tolist() == [1.0]
    assert (point.row_parts(40, 50), point.row_parts(50, 60)) == ([1.0], [0.0])
    assert (point.column_parts(5, 16), point.column_parts(-10, 5)) == ([1.0], [0.0])


@pytest.mark.parametrize("kind", ["foo", None, 3, np.ones(13)])
def test_other_weights(kind):
    with pytest.raises(ValueError, match=r'weights=.*: give "area" or "cos"'):
        GLOBE.row_weights(kind)


def test_of_a_dataset():
    ds = xr.Dataset({"a": (("j", "i"), np.zeros((3, 4)))})
    ds = ds.assign_coords(
        lat=("j", [10.0, 0.0, -10.0], {"standard_name": "latitude", "units": "degrees_north"}),
        lon=("i", [0.0, 90.0, -180.0, -90.0], {"units": "degrees_east"}),
    )
    found = horizontal_of(ds, "the forecast")
    assert (found.latitude_dim, found.longitude_dim) == ("j", "i")
    assert found.latitude.tolist() == [10, 0, -10]
    assert found.longitude.tolist() == [0, 90, -180, -90]
    assert str(found) == "3 x 4 (latitude 10 to -10, longitude 0 to -90)"
    with pytest.raises(ValueError, match="no one-dimensional latitude was found"):
        horizontal_of(ds.drop_vars("lat"), "the forecast")
