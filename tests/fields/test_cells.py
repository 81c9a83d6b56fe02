"""Cells of one grid and of another: what overlaps, and what must not."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xwx.fields.align import axes_of
from xwx.fields.cells import Cells, Overlap, cells_of, model_cells, overlap
from xwx.fields.orient import Turn
from xwx.spec import Grid

FINE = Grid.regular(19, 24, poles=True)


@given(st.integers(2, 8), st.integers(2, 11), st.booleans(), st.floats(0.0, 20.0))
def test_the_whole_globe_is_divided(rows, columns, poles, shift):
    grid = Grid.regular(rows, columns, poles=poles)
    east = np.sort((grid.columns + shift) % 360.0)
    grid = Grid(grid.latitude, tuple(east))
    found = overlap(model_cells(grid), FINE)
    assert isinstance(found, Overlap)
    edges = model_cells(FINE)
    heights = np.diff(np.sin(np.deg2rad(edges.rows)), axis=1)[:, 0]
    widths = np.diff(edges.columns, axis=1)[:, 0]
    np.testing.assert_allclose(found.rows.sum(0), heights, atol=1e-12)
    np.testing.assert_allclose(found.columns.sum(0), widths, atol=1e-9)


@pytest.mark.parametrize("pair", [(350.0, 370.0), (-10.0, 10.0), (10.0, -10.0), (350.0, 10.0)])
def test_bounds_over_the_seam_are_the_arc_of_their_point(pair):
    ds = xr.Dataset(
        {"msl": (("lat", "lon"), np.zeros((2, 1)))},
        {
            "lat": ("lat", [20.0, -20.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0], {"units": "degrees_east", "bounds": "lon_bnds"}),
            "lon_bnds": (("lon", "nv"), [pair]),
        },
    )
    cells = cells_of(ds, axes_of(ds), (Turn(), Turn()))
    assert isinstance(cells, Cells)
    found = overlap(cells, FINE)
    expected = np.zeros(24)
    expected[[0]], expected[[1, 23]] = 15.0, 2.5
    np.testing.assert_allclose(found.columns, [expected])


def test_a_zonal_mean_is_one_cell_round_the_globe():
    ds = xr.Dataset(
        {"msl": (("lat", "lon"), np.zeros((2, 1)))},
        {
            "lat": ("lat", [20.0, -20.0], {"units": "degrees_north"}),
            "lon": ("lon", [180.0], {"units": "degrees_east", "bounds": "lon_bnds"}),
            "lon_bnds": (("lon", "nv"), [[0.0, 360.0]]),
        },
    )
    found = overlap(cells_of(ds, axes_of(ds), (Turn(), Turn())), FINE)
    np.testing.assert_allclose(found.columns, np.full((1, 24), 15.0))
