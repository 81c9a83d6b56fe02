"""Regions: exact areas, masks, and answers to what is not understood."""

import itertools
import re

import numpy as np
import pytest
import xarray as xr

from xwx.fields import Horizontal
from xwx.metrics.regions import BOXES, Box, region_weights

LAT, LON = np.linspace(90, -90, 19), np.arange(0, 360, 15.0)
GRID = Horizontal("lat", "lon", LAT, LON)


def area(*numbers):
    """Area of a box, as a part of the globe."""
    south, north, west, east = (*numbers, 0, 360)[:4]
    width = (east - west) % 360 or 360
    return (np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south))) / 2 * width / 360


@pytest.mark.parametrize("name", BOXES)
def test_named_regions_have_their_area(name):
    weights = region_weights(name, GRID)
    exact = sum(area(b.south, b.north, b.west, b.east) for b in BOXES[name])
    assert weights.sizes == {"region": 1, "lat": 19, "lon": 24}
    assert weights.region.values.tolist() == [name]
    assert float(weights.sum()) == pytest.approx(exact, abs=1e-14)


@pytest.mark.parametrize(
    "numbers",
    [(-20, 20), (33.3, 47.1, 3.7, 11.2), (10, 30, 170, -170), (10, 30, -10, 10), (-90, 90, 5, 4)],
)
def test_boxes_have_their_area(numbers):
    boxes = {"one": numbers, "two": Box(*numbers), "again": list(numbers)}
    for weights in region_weights(boxes, GRID):
        assert float(weights.sum()) == pytest.approx(area(*numbers), abs=1e-14)


def test_disjoint_boxes_are_the_globe_cell_by_cell():
    cuts, turns = (-90, -44.4, 3.3, 21, 90), (-175.5, -20, 17.7, 111, 184.5)
    boxes = {
        f"{s} {w}": (s, n, w, e)
        for s, n in itertools.pairwise(cuts)
        for w, e in itertools.pairwise(turns)
    }
    whole = region_weights(None, GRID)[0]
    assert np.allclose(region_weights(boxes, GRID).sum("region"), whole, rtol=0, atol=1e-16)
    assert float(whole.sum()) == pytest.approx(1.0, abs=1e-14)


def test_cosine_weights():
    weights = region_weights(None, GRID, "cos")[0]
    exact = np.cos(np.deg2rad(LAT))[:, None] / 24 * np.ones(24)
    assert np.allclose(weights, exact, rtol=0, atol=1e-16)


def test_a_grid_of_a_region():
    part = Horizontal("lat", "lon", LAT[3:9], np.array([345.0, 0.0, 15.0, 30.0]))
    # rows 65 .. 5 north, columns 337.5 .. 37.5 east
    assert float(region_weights(None, part).sum()) == pytest.approx(area(5, 65, -22.5, 37.5))
    both = region_weights({"a": (0, 20, 10, 60)}, part)
    assert float(both.sum()) == pytest.approx(area(5, 20, 10, 37.5))
    with pytest.raises(ValueError, match="region 'antarctic' holds no part of the grid, 6 x 4"):
        region_weights(["tropics", "antarctic"], part)


def test_masks():
    whole = region_weights(None, GRID)[0]
    rng = np.random.default_rng(0)
    part = xr.DataArray(rng.random((24, 19)), dims=("lon", "lat"), coords={"lat": LAT, "lon": LON})
    weights = region_weights({"some": part > 0.5, "half": part}, GRID)
    assert np.array_equal(weights.sel(region="some"), whole * (part.T > 0.5))
    assert np.array_equal(weights.sel(region="half"), whole * part.T)


@pytest.mark.parametrize(
    ("regions", "kind", "answer"),
    [
        ("tropic", ValueError, "unknown region 'tropic': did you mean 'tropics'? The names are "),
        ("Europe", ValueError, "did you mean 'europe'?"),
        (["moon"], ValueError, "unknown region 'moon'. The names are global, tropics,"),
        ({}, ValueError, "give at least one, or None for all of the grid"),
        (3, TypeError, "regions=3: give names, such as ['tropics', 'europe']"),
        ((10, 20), TypeError, "regions=(10, 20): give names"),
        ({"alps": (44, 48, 5)}, TypeError, "region 'alps' is (44, 48, 5): give (south, north)"),
        ({"alps": 3}, TypeError, "region 'alps' is 3"),
        ({"a": (48, 44)}, ValueError, "region 'a': a box from 48 to 44 degrees north: give south"),
        ({"a": (4, 400)}, ValueError, "within -90 and 90"),
        ({"a": (4, 5, 6, 6)}, ValueError, "region 'a': a box from 6 to 6 degrees east is empty"),
    ],
)
def test_what_is_not_understood(regions, kind, answer):
    with pytest.raises(kind, match=re.escape(answer)):
        region_weights(regions, GRID)


def test_wrong_masks():
    mask = xr.DataArray(np.ones((19, 24)), dims=("lat", "lon"), coords={"lat": LAT, "lon": LON})
    assert float(region_weights({"a": mask}, GRID).sum()) == pytest.approx(1.0)
    for wrong in (
        mask.isel(lat=slice(3)),
        mask.isel(lat=slice(None, None, 2)),
        mask.expand_dims(when=2),
    ):
        with pytest.raises(ValueError, match="must lie on the forecast's own grid, 19 x 24"):
            region_weights({"a": wrong}, GRID)
    for values in (2.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="a mask holds true and false, or parts from 0 to 1"):
            region_weights({"a": mask * values}, GRID)
    with pytest.raises(ValueError, match="region 'a' holds no part of the grid"):
        region_weights({"a": mask > 1}, GRID)
