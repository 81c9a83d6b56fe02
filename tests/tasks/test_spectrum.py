"""Spectra of Datasets: numbers, labels, units, lazy and quantified arrays, refusals."""

from __future__ import annotations

import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.tasks.spectrum import spectrum

LAT, LON = np.linspace(90, -90, 19), np.arange(0, 360, 10.0)


def dataset():
    """A wave of number 3 in z whose amplitude is the latitude + 100, and temperatures in degC."""
    wave = (LAT + 100)[:, None] * np.cos(np.deg2rad(3 * LON))
    z = np.stack([wave, 2 * wave])[:, None] * np.array([1.0, 10.0])[:, None, None]
    t = 10 + np.cos(np.deg2rad(2 * LON)) + 0 * LAT[:, None]
    return xr.Dataset(
        {
            "z": (
                ("time", "level", "lat", "lon"),
                z,
                {"units": "m2 s-2", "standard_name": "geopotential", "long_name": "geopotential"},
            ),
            "t2m": (("lon", "time", "lat"), np.stack([t, t]).transpose(2, 0, 1), {"units": "degC"}),
            "bare": (("lat", "lon"), wave),
            "mean": ("time", [1.0, 2.0]),
        },
        {
            "lat": ("lat", LAT, {"units": "degrees_north"}),
            "lon": ("lon", LON, {"units": "degrees_east"}),
            "time": np.array(["2026-01-01", "2026-01-02"], "datetime64[ns]"),
            "level": ("level", [500, 850], {"units": "hPa"}),
            "init_time": np.datetime64("2026-01-01", "ns"),
            "mask": (("lat", "lon"), wave > 0),
        },
        {"title": "waves"},
    )


def areas(rows, lat=LAT):
    """Areas of the cells of 10 degrees round some rows."""
    north, south = np.clip(lat + 5, -90, 90), np.clip(lat - 5, -90, 90)
    return np.where(rows, np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south)), 0.0)


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ({}, (np.abs(LAT) >= 29) & (np.abs(LAT) <= 61)),
        ({"hemisphere": "south", "latitudes": (10.0, 45.0)}, (LAT <= -9) & (LAT >= -45)),
        ({"hemisphere": "north", "latitudes": None}, LAT > 5),
        ({"latitudes": None}, LAT < 100),
        ({"latitudes": (20.0, 20.0)}, np.abs(np.abs(LAT) - 20) < 1),
    ],
)
def test_zonal_power_of_a_wave_by_hand(arguments, rows):
    out = spectrum(dataset(), **arguments)
    weights = areas(rows)
    power = np.average((LAT + 100) ** 2 / 2, weights=weights)
    np.testing.assert_allclose(out.z.values[..., 3], power * np.outer([1, 4], [1, 100]), rtol=1e-12)
    assert np.delete(out.z.values, 3, axis=-1).max() < 1e-12 * power
    np.testing.assert_allclose(out.t2m.values[[0, 2]], [[283.15**2] * 2, [0.5] * 2], rtol=1e-12)


def test_labels():
    ds = dataset()
    for kind, count in (("zonal", 19), ("spherical", 10)):
        out = spectrum(ds, kind)
        assert list(out.data_vars) == ["z", "t2m", "bare"]
        assert out.z.dims == ("time", "level", "wavenumber")
        assert out.t2m.dims == ("wavenumber", "time")
        assert out.bare.dims == ("wavenumber",)
        assert out.sizes["wavenumber"] == count
        np.testing.assert_array_equal(out.wavenumber, np.arange(count))
        assert out.wavenumber.dtype.kind == "i"
        assert out.wavenumber.attrs["units"] == "1"
        assert ("zonal" in out.wavenumber.attrs["long_name"]) == (kind == "zonal")
        assert set(out.coords) - {"wavelength"} == {"time", "level", "init_time", "wavenumber"}
        xr.testing.assert_identical(out.level, ds.level.reset_coords(drop=True).assign_coords(
            init_time=ds.init_time))  # fmt: skip
        assert out.z.attrs == {"units": "m4 s-4", "long_name": "power of geopotential"}
        assert out.t2m.attrs == {"units": "K2", "long_name": "power of t2m"}
        assert "units" not in out.bare.attrs
        assert out.attrs == ds.attrs
    assert "wavelength" not in spectrum(ds).coords
    length = out.wavelength
    assert length.attrs["units"] == "m"
    assert length[0] == np.inf
    assert length[9] == pytest.approx(2 * np.pi * 6.371e6 / 90**0.5, rel=1e-14)
    assert length.dims == ("wavenumber",)


def test_spherical_power_of_a_harmonic():
    """x^2 - y^2 is a harmonic of degree 2 with the mean square 4/15."""
    lat, lon = np.deg2rad(LAT)[:, None], np.deg2rad(LON)
    ds = dataset()[["bare"]]
    ds["bare"][:] = np.cos(lat) ** 2 * np.cos(2 * lon) + 3 + np.sin(lat)
    out = spectrum(ds, "spherical").bare
    np.testing.assert_allclose(out[:3], [9, 1 / 3, 4 / 15], rtol=1e-12)
    np.testing.assert_allclose(out[3:], 0, atol=1e-15)


@pytest.mark.parametrize("kind", ["zonal", "spherical"])
def test_the_layout_does_not_change_the_numbers(kind):
    rng = np.random.default_rng(0)
    ds = dataset()
    ds["z"] = ds.z.copy(data=rng.normal(size=ds.z.shape))
    plain = spectrum(ds, kind).z
    west = ds.assign_coords(lon=("lon", (LON + 180) % 360 - 180, ds.lon.attrs))
    for other in (
        ds.isel(lat=slice(None, None, -1)),
        ds.isel(lon=slice(None, None, -1)),
        ds.roll(lon=7, roll_coords=True),
        west,
        west.sortby("lon"),
        ds.isel(lon=rng.permutation(36)),
        ds.assign_coords(lon=ds.lon.astype("float32"), lat=ds.lat.astype("float32")),
        ds.rename(lat="latitude", lon="x").transpose(..., "time"),
        ds.chunk(),
        ds.chunk(time=1, lat=5, lon=11),
    ):
        found = spectrum(other, kind).z
        np.testing.assert_allclose(
            found.transpose(*plain.dims).values, plain.values, rtol=1e-12, atol=1e-16
        )


@pytest.mark.parametrize("kind", ["zonal", "spherical"])
def test_lazy_and_in_float64(kind):
    ds = dataset()
    lazy = spectrum(ds.chunk(time=1), kind)
    assert lazy.z.chunks is not None
    assert lazy.z.chunks[0] == (1, 1)
    xr.testing.assert_allclose(lazy.compute(), spectrum(ds, kind), rtol=1e-13)
    single = spectrum(ds.assign(z=ds.z.astype("f4")), kind)
    assert single.z.dtype == np.float64
    # what float32 cannot hold is not lost beside a large mean
    ds["z"] = (65536 + np.sign(ds.z)).astype("f4").assign_attrs(ds.z.attrs)
    exact = spectrum(ds.assign(z=ds.z.astype("f8")), kind)
    np.testing.assert_array_equal(spectrum(ds, kind).z, exact.z)


def test_quantified():
    ds = dataset()
    out = spectrum(ds[["z", "t2m"]].pint.quantify(t2m="degC", lat=None, lon=None, level=None))
    assert str(out.z.data.units) == "meter ** 4 / second ** 4"
    assert str(out.t2m.data.units) == "kelvin ** 2"
    plain = spectrum(ds)
    np.testing.assert_allclose(out.z.data.magnitude, plain.z.values, rtol=1e-14)
    np.testing.assert_allclose(out.t2m.data.magnitude, plain.t2m.values, rtol=1e-14)
    assert "units" not in out.z.attrs


def test_fahrenheit_is_kelvin_squared():
    ds = dataset()[["t2m"]]
    kelvin = spectrum(ds)
    ds["t2m"] = (ds.t2m * 1.8 + 32).assign_attrs(units="degF")
    out = spectrum(ds)
    assert out.t2m.attrs["units"] == "K2"
    np.testing.assert_allclose(out.t2m, kelvin.t2m, rtol=1e-12, atol=1e-20)


def test_missing_values_stay_in_their_time():
    ds = dataset()
    ds["z"][1, 0, 4, 7] = np.nan  # at 50 degrees north
    for kind in ("zonal", "spherical"):
        out = spectrum(ds, kind).z
        assert np.isnan(out[1, 0]).all()
        assert not np.isnan(out[0]).any()
        assert not np.isnan(out[1, 1]).any()
    assert not np.isnan(spectrum(ds, hemisphere="south").z).any()


CASES = {
    "no latitude": (lambda ds: ds.drop_vars("lat").rename(lat="n"), {}, "missing-latitude", "lat"),
    "regional": (lambda ds: ds.isel(lon=slice(0, 20)), {}, "regional-grid", "'lon': slice"),
    "a meridian twice": (
        lambda ds: xr.concat([ds, ds.isel(lon=[0]).assign_coords(lon=[360.0])], "lon"),
        {},
        "regional-grid",
        'isel({"lon": slice(None, -1)})',
    ),
    "one column": (lambda ds: ds.isel(lon=[0]), {}, "regional-grid", "whole globe"),
    "no quadrature": (
        lambda ds: ds.isel(lat=slice(1, None)),
        {"kind": "spherical"},
        "wrong-grid",
        "ds.wx.regrid",
    ),
    "no rows": (lambda ds: ds, {"latitudes": (31.0, 39.0)}, "missing-latitude", "latitudes=None"),
    "no fields": (lambda ds: ds.mean("lon").assign_coords(lon=LON), {}, "empty-dataset", "mean"),
    "taken": (lambda ds: ds.rename(level="wavenumber"), {}, "taken-name", "ds.rename"),
    "text": (lambda ds: ds.assign(z=ds.z.astype(str)), {}, "wrong-dtype", 'drop_vars("z")'),
    "units": (
        lambda ds: ds.assign_coords(lat=("lat", np.deg2rad(LAT), {"units": "radians",
                                                                  "standard_name": "latitude"})),
        {},
        "unconvertible-units",
        "rad2deg",
    ),
    "order": (lambda ds: ds.isel(lat=[0, 2, 1, *range(3, 19)]), {}, "non-monotonic-latitude",
              "sortby"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*default value for.*:FutureWarning")
@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit(name):
    change, arguments, kind, remedy = CASES[name]
    with pytest.raises(MismatchError) as caught:
        spectrum(change(dataset()), **arguments)
    (problem,) = caught.value.problems
    assert problem.kind == kind
    assert remedy.replace("'lon'", '"lon"') in problem.remedy


@pytest.mark.parametrize(
    "arguments",
    [{"kind": "meridional"}, {"hemisphere": "west"}, {"latitudes": (60.0, 30.0)},
     {"latitudes": (-60.0, 30.0)}, {"latitudes": (1.0, 2.0, 3.0)}],
)  # fmt: skip
def test_arguments_that_are_none(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}=.*give"):
        spectrum(dataset(), **arguments)


def test_nothing_is_changed():
    ds = dataset()
    before = ds.copy(deep=True)
    spectrum(ds)
    spectrum(ds, "spherical")
    xr.testing.assert_identical(ds, before)
