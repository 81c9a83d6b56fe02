"""Warm: temperatures shift by what was asked for, humidities scale, and nothing else moves."""

from __future__ import annotations

import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xwx.errors import MismatchError


@pytest.fixture
def moist(worlds):
    """The small world with specific humidity, some of it missing."""
    ds = worlds.dataset(2)
    q = (np.exp((ds.t - 260) / 20) * 1e-3).astype("float32").assign_attrs(units="kg kg-1")
    ds["q"] = q.where(ds.latitude > -80).assign_attrs(standard_name="specific_humidity")
    return ds


@pytest.mark.parametrize(
    ("humidity", "factor"), [("compound", 1.07**2), ("linear", 1.14)], ids=["compound", "linear"]
)
def test_two_kelvin(moist, humidity, factor):
    out = moist.wx.warm("2 K", humidity=humidity)
    for name in ("t", "t2m"):
        np.testing.assert_allclose(out[name] - moist[name].astype("f8"), 2, atol=2e-5)
    np.testing.assert_allclose(out.q, moist.q * factor, rtol=1e-6)
    for name in ("z", "msl"):
        xr.testing.assert_identical(out[name], moist[name])
    assert np.array_equal(out.q.isnull(), moist.q.isnull())
    assert out.q.isnull().any()
    for name in moist.variables:
        assert out[name].attrs == moist[name].attrs
        assert out[name].dtype == moist[name].dtype
        assert out[name].dims == moist[name].dims
    before, line = out.attrs["history"].splitlines()
    assert before == moist.attrs["history"]
    assert "warmed by 2 K" in line
    assert humidity in line


def test_the_default_is_two_kelvin_that_compound(moist):
    xr.testing.assert_equal(moist.wx.warm(), moist.wx.warm("2 K", humidity="compound"))


def saturation(kelvin):
    """Saturation vapour pressure [Pa], as Bolton (1980) wrote it."""
    celsius = kelvin - 273.15
    return 611.2 * np.exp(17.67 * celsius / (celsius + 243.5))


@pytest.mark.parametrize("delta", [2.0, -3.5])
def test_constant_relative_humidity(moist, delta):
    out = moist.wx.warm(f"{delta} K", humidity="relative")
    relative = moist.q / saturation(moist.t.astype("f8"))
    np.testing.assert_allclose(out.q / saturation(out.t.astype("f8")), relative, rtol=1e-5)
    growth = (out.q / moist.q).mean(("time", "latitude", "longitude"))
    assert np.all(np.abs(growth ** (1 / delta) - 1.08) < 0.03)


def test_a_cooling_undoes_a_warming(moist):
    back = moist.wx.warm("3 K").wx.warm("-3 K")
    np.testing.assert_allclose(back.t, moist.t, rtol=3e-7)
    np.testing.assert_allclose(back.q, moist.q, rtol=1e-6)
    two = moist.astype("f8").wx.warm("1 K", humidity="relative").wx.warm("1 K", humidity="relative")
    once = moist.astype("f8").wx.warm("2 K", humidity="relative")
    np.testing.assert_allclose(two.q, once.q, rtol=1e-12)


@pytest.mark.parametrize("delta", ["3.6 delta_degF", "2 delta_degC", "2 degC", "2000 mK", "2K"])
def test_units_of_the_warming(moist, delta):
    np.testing.assert_allclose(moist.wx.warm(delta).t, moist.wx.warm("2 K").t, rtol=1e-7)


@pytest.mark.parametrize("units", ["degC", "degF", "K"])
@pytest.mark.parametrize("humidity", ["compound", "relative"])
def test_units_of_the_dataset(moist, units, humidity):
    wanted = moist.wx.warm("2 K", humidity=humidity)
    own = moist.astype("f8").pint.quantify().pint.to({"t": units, "t2m": units, "q": "g/kg"})
    out = own.wx.warm("2 K", humidity=humidity)
    for name in own.data_vars:
        assert out[name].pint.units == own[name].pint.units
    back = out.pint.to({"t": "K", "t2m": "K", "q": "kg/kg"}).pint.dequantify()
    for name in moist.data_vars:
        np.testing.assert_allclose(back[name], wanted[name], rtol=1e-6)
    plain = own.pint.dequantify().wx.warm("2 K", humidity=humidity)
    np.testing.assert_array_equal(plain.t, out.pint.dequantify().t)


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(["time", "level", "latitude", "longitude"]),
    turned=st.booleans(),
    reversed_levels=st.booleans(),
    humidity=st.sampled_from(["compound", "linear", "relative"]),
    lazy=st.booleans(),
    delta=st.floats(-5, 5),
)
def test_the_layout_does_not_matter(worlds, order, turned, reversed_levels, humidity, lazy, delta):
    ds = worlds.dataset(2)
    ds["hus"] = (np.exp((ds.t - 260) / 20) * 1e-3).assign_attrs(units="kg kg-1")

    def layout(ds):
        ds = ds.isel(latitude=slice(None, None, -1)) if turned else ds
        ds = ds.isel(level=[1, 0]) if reversed_levels else ds
        ds = ds.transpose(*order)
        return ds.chunk(latitude=5) if lazy else ds

    out = layout(ds).wx.warm(f"{delta} K", humidity=humidity)
    if lazy:
        assert out.t.chunks == layout(ds).t.chunks
        assert out.hus.chunks is not None
    xr.testing.assert_equal(out, layout(ds.wx.warm(f"{delta} K", humidity=humidity)))
    assert {name: v.dims for name, v in out.items()} == {n: v.dims for n, v in layout(ds).items()}


def test_levels_in_names(worlds):
    """Variables of one level each: every humidity finds the temperature of its own."""
    ds = worlds.dataset(1).sel(level=850, drop=True)[["t", "t2m"]].rename(t="t850")
    ds["q850"] = xr.full_like(ds.t850, 5e-3).assign_attrs(
        units="1", standard_name="specific_humidity"
    )
    ds["q500"] = ds.q850
    out = ds.drop_vars("q500").wx.warm("1 K", humidity="relative")
    ratio = saturation(ds.t850.astype("f8") + 1) / saturation(ds.t850.astype("f8"))
    np.testing.assert_allclose(out.q850, 5e-3 * ratio, rtol=1e-6)
    with pytest.raises(MismatchError, match="q500") as caught:
        ds.wx.warm("1 K", humidity="relative")
    assert [p.where for p in caught.value.problems] == ["q500"]
    assert "compound" in caught.value.problems[0].remedy
    np.testing.assert_allclose(ds.wx.warm("1 K").q500, 5e-3 * 1.07, rtol=1e-6)


def test_the_temperature_of_every_member_sets_the_humidity_of_each(moist):
    spread = xr.DataArray([0.0, 4.0], dims="member")
    many = moist.assign(t=(moist.t + spread).astype("f4").assign_attrs(moist.t.attrs))
    out = many.wx.warm("2 K", humidity="relative")
    assert set(out.q.dims) == {*moist.q.dims, "member"}
    for member in (0, 1):
        alone = many.isel(member=member).wx.warm("2 K", humidity="relative")
        np.testing.assert_array_equal(out.q.isel(member=member), alone.q)


def test_packing_to_integers_is_given_up_where_numbers_change(moist):
    for name in ("t", "z"):
        moist[name].encoding = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 250.0}
    out = moist.wx.warm("2 K")
    assert "scale_factor" not in out.t.encoding
    assert out.z.encoding == moist.z.encoding
    assert moist.t.encoding["dtype"] == "int16"


def test_what_cannot_be_warmed(moist, worlds):
    with pytest.raises(MismatchError, match="no variable is an air temperature"):
        moist[["z", "q", "msl"]].wx.warm()
    bad = moist.copy()
    del bad.t.attrs["units"]
    bad.q.attrs["units"] = "Pa"
    with pytest.raises(MismatchError) as caught:
        bad.wx.warm()
    assert {p.kind for p in caught.value.problems} == {"missing-units", "unconvertible-units"}
    counts = worlds.dataset(1).assign(
        t2m=worlds.dataset(1).t2m.astype("int16").assign_attrs(units="K")
    )
    with pytest.raises(MismatchError, match="int16"):
        counts.wx.warm()


@pytest.mark.parametrize("delta", [2, 2.0, "2", "warm", "2 m", "2 hPa", None])
def test_a_warming_has_a_unit_of_temperature(moist, delta):
    with pytest.raises(ValueError, match="delta="):
        moist.wx.warm(delta)


def test_arguments_that_make_no_sense(moist):
    with pytest.raises(ValueError, match="humidity='moist'"):
        moist.wx.warm(humidity="moist")
    with pytest.raises(ValueError, match="leaves no humidity"):
        moist.wx.warm("-15 K", humidity="linear")
    assert moist.wx.warm("-15 K").q.min() > 0
