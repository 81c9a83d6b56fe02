"""Regridding: what must be kept exactly, and what must be refused."""

import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.fields import area_weights, regrid
from xwx.spec import Grid

FINE = Grid.regular(37, 72, poles=True)
COARSE = Grid.regular(9, 16, poles=False)


def dataset(grid=FINE, function=None):
    lat, lon = np.meshgrid(grid.rows, grid.columns, indexing="ij")
    if function is None:
        values = 280 + 20 * np.cos(np.deg2rad(lat)) + np.sin(3 * np.deg2rad(lon)) * lat / 30
    else:
        values = function(lat, lon)
    return xr.Dataset(
        {"t": (("lat", "lon"), values, {"units": "K"}), "count": ("n", [1, 2])},
        coords={
            "lat": ("lat", grid.rows, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": ("lon", grid.columns, {"standard_name": "longitude"}),
        },
        attrs={"title": "a field"},
    )


def global_mean(ds):
    return float(ds["t"].weighted(area_weights(ds)).mean())


@pytest.mark.parametrize("target", [COARSE, Grid.regular(91, 180, poles=True)])
def test_conservative_keeps_the_global_mean(target):
    ds = dataset()
    assert global_mean(regrid(ds, target)) == pytest.approx(global_mean(ds), rel=1e-12, abs=0)


@pytest.mark.parametrize("method", ["conservative", "linear"])
@pytest.mark.parametrize("value", [273.15, 1e-7, -101325.1])
def test_constants_stay_exactly(method, value):
    out = regrid(dataset(function=lambda lat, lon: 0 * lat + value), COARSE, method)
    assert np.all(out["t"].values == value)


def test_linear_is_exact_for_linear_functions():
    out = regrid(dataset(function=lambda lat, lon: 2 * lat + 1), COARSE, "linear")
    np.testing.assert_allclose(out["t"], 2 * COARSE.rows[:, None] + np.ones(16), rtol=1e-13)


def test_linear_closes_round_the_globe():
    source = dataset(Grid((10.0, 0.0), (0.0, 90.0, 180.0, 270.0)), lambda lat, lon: lon)
    out = regrid(source, Grid((10.0, 0.0), (45.0, 135.0, 225.0, 315.0)), "linear")
    np.testing.assert_allclose(out["t"][0], [45, 135, 225, 135], rtol=1e-14)


def test_conservative_by_hand():
    # cells of 90 degrees centred on 0, 90, 180, 270; the target's are centred on 45, 225
    source = dataset(Grid((45.0, -45.0), (0.0, 90.0, 180.0, 270.0)), lambda lat, lon: lon)
    out = regrid(source, Grid((45.0, -45.0), (45.0, 225.0)))
    # [-45, 135]: cells 0 and 90; [135, 315]: cells 180 and 270
    np.testing.assert_allclose(out["t"][0], [45.0, 225.0], rtol=1e-14)


def test_the_layout_does_not_change_the_numbers():
    ds = dataset()
    plain = regrid(ds, COARSE)
    other = ds.isel(lat=slice(None, None, -1)).roll(lon=20, roll_coords=True).transpose()
    other = other.assign_coords(
        lon=("lon", (other.lon.values + 180) % 360 - 180, {"standard_name": "longitude"})
    )
    out = regrid(other, COARSE)
    assert out["t"].dims == ("lon", "lat")
    assert out.lat[0] < out.lat[-1]
    assert float(out.lon.min()) == -180
    back = out.assign_coords(lon=out.lon % 360).sortby("lon").sortby("lat", ascending=False)
    np.testing.assert_allclose(back["t"].transpose("lat", "lon"), plain["t"], rtol=1e-13)


def test_labels_dtype_dask_and_pint_are_kept():
    ds = dataset().astype("float32").expand_dims(member=2)
    plain = regrid(ds, COARSE)
    assert plain["t"].dtype == np.float32
    assert plain["t"].attrs == {"units": "K"}
    assert plain.attrs == ds.attrs
    lazy = regrid(ds.chunk(lat=10, lon=10), COARSE)
    assert lazy["t"].chunks is not None
    xr.testing.assert_identical(lazy.compute(), plain)
    quantified = regrid(ds.pint.quantify(lat=None, lon=None), COARSE)
    assert str(quantified["t"].data.units) == "kelvin"
    np.testing.assert_array_equal(quantified["t"].data.magnitude, plain["t"])


@pytest.mark.parametrize("method", ["conservative", "linear"])
def test_nan_spreads_no_further_than_it_reaches(method):
    ds = dataset()
    ds["t"][18, 0] = np.nan  # the equator at 0 degrees east
    gaps = regrid(ds, COARSE, method)["t"].isnull()
    reached = gaps.where(gaps, drop=True)
    assert 1 <= int(gaps.sum()) <= 2
    assert np.all(np.abs(reached.lat) <= 20)
    assert set(reached.lon.values) <= {0.0, 337.5}


@pytest.mark.parametrize("method", ["conservative", "linear"])
def test_regional_target_and_source(method):
    europe = Grid((60.0, 57.5, 55.0), (0.0, 2.5, 5.0))
    inner = regrid(dataset(), europe, method)
    assert inner["t"].shape == (3, 3)
    with pytest.raises(MismatchError, match="not inside"):
        regrid(inner, COARSE, method)


def test_refusals():
    with pytest.raises(ValueError, match="'cubic'"):
        regrid(dataset(), COARSE, "cubic")
    wide = xr.Dataset(
        {"t": (("y", "x"), np.zeros((2, 2)))},
        coords={"lat": (("y", "x"), np.eye(2)), "lon": (("y", "x"), np.eye(2))},
    )
    with pytest.raises(MismatchError, match="two-dimensional"):
        regrid(wide, COARSE)
