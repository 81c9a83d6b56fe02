"""A part of a grid on the whole of it: the same points, whatever their longitudes are called."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xwx.fields.embed import on_whole_grid, same_meridians
from xwx.spec import Grid

GRID = Grid.regular(9, 12, poles=True)


def field(rows, columns):
    """Values that say where they are."""
    lat, lon = GRID.rows[rows], GRID.columns[columns]
    values = 1000.0 * lat[:, None] + lon
    return xr.Dataset(
        {"t2m": (("lat", "lon"), values, {"units": "K"})},
        {"lat": ("lat", lat, {"units": "degrees_north"}),
         "lon": ("lon", lon, {"units": "degrees_east"})},
    )  # fmt: skip


@settings(deadline=None)
@given(
    top=st.integers(0, 6),
    height=st.integers(2, 7),
    first=st.integers(0, 11),
    count=st.integers(2, 7),
    base=st.sampled_from([0.0, -180.0, -360.0]),
    south=st.booleans(),
    dask=st.booleans(),
    pint=st.booleans(),
)
def test_every_value_is_at_its_place_and_nothing_else_is(
    top, height, first, count, base, south, dask, pint
):
    rows = list(range(top, min(top + height, 9)))
    columns = np.mod(np.arange(first, first + count), 12)
    part = field(rows, columns)
    east = np.mod(part.lon.values - base, 360.0) + base
    part = part.assign_coords(lon=("lon", east, part.lon.attrs)).sortby("lon")
    part = part.isel(lat=slice(None, None, -1)) if south else part
    part = part.chunk({"lat": 2}) if dask else part
    if pint:
        import pint_xarray  # noqa: F401

        part = part.pint.quantify()
    whole = on_whole_grid(part, GRID)
    np.testing.assert_array_equal(whole.lat, GRID.rows)
    np.testing.assert_array_equal(whole.lon, GRID.columns)
    exact = field(range(9), range(12)).t2m.values
    inside = np.zeros((9, 12), bool)
    inside[np.ix_(rows, columns)] = True
    np.testing.assert_array_equal(whole.t2m.values, np.where(inside, exact, np.nan))
    assert whole.t2m.attrs["units"] in ("K", "kelvin")


def test_points_with_others_between_may_be_means_and_are_left_alone():
    for part in (field([2, 4], [4, 5]), field([2, 3], [1, 3, 5]), field([2, 3], [0, 5, 7, 11])):
        assert on_whole_grid(part, GRID) is part


def test_other_points_are_left_alone():
    part = field([2, 3], [4, 5])
    for other in (part.assign_coords(lon=part.lon + 7.0), part.assign_coords(lat=part.lat + 3.0)):
        assert on_whole_grid(other, GRID) is other


@pytest.mark.parametrize("base", [0.0, -180.0, -540.0])
def test_meridians_are_the_same_but_for_turns(base):
    own = xr.DataArray(np.arange(0.0, 360.0, 0.1), dims="lon", name="lon")
    own = own.assign_coords(lon=own)["lon"]
    east = np.mod(own.values - base, 360.0) + base
    mask = xr.DataArray(np.arange(3600), {"lon": np.sort(east)}, dims="lon")
    found = same_meridians(mask, own)
    assert set(found.lon.values) == set(own.values)  # to the last bit
    np.testing.assert_allclose(
        np.mod(found.lon.values - mask.lon.values + 180.0, 360.0), 180.0, atol=1e-9
    )
    apart = mask.assign_coords(lon=mask.lon + 0.05)
    assert same_meridians(apart, own) is apart
