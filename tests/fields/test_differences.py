"""Units of differences and powers, and Quantities of results."""

import dask
import dask.array
import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr

from xwx.fields import difference_units, power_units, requantify
from xwx.fields.units import parse, registry


@pytest.mark.parametrize("text", ["degC", "celsius", "°C", "degrees_celsius", "degree_Celsius"])
def test_a_difference_of_celsius_is_in_kelvin(text):
    assert difference_units(text) == ("K", 1.0)


def test_a_difference_of_fahrenheit_is_in_kelvin():
    units, factor = difference_units("degF")
    assert units == "K"
    assert factor == pytest.approx(5 / 9, rel=1e-14)
    # 212 degF - 32 degF: from melting ice to boiling water
    assert 180 * factor == pytest.approx(100, rel=1e-14)


@pytest.mark.parametrize(
    "text", ["K", "hPa", "m2 s-2", "1", "%", "gpm", "dBZ", "dB", "degR", "delta_degC", "K km-1"]
)
def test_other_units_stay_as_they_are(text):
    assert difference_units(text) == (text, 1.0)


@pytest.mark.parametrize(
    ("text", "n", "wanted"),
    [
        ("K", 2, "K2"),
        ("K", 1, "K"),
        ("m2 s-2", 2, "m4 s-4"),
        ("m**2 s**-2", 2, "m4 s-4"),
        ("m/s", 2, "m2 s-2"),
        ("m s-1", 3, "m3 s-3"),
        ("hPa", 2, "hPa2"),
        ("kg kg-1", 2, "kg2 kg-2"),
        ("1", 2, "1"),
        ("%", 2, "percent2"),
        ("%", 1, "%"),
        ("gpdam", 2, "dam2"),
        ("mb", 2, "mbar2"),
        ("(0 - 1)", 2, "1"),
        ("hPa2", -1, "hPa-2"),
        ("s-1", -1, "s"),
        ("dBZ", 2, "dBZ2"),
        ("1e-5 s", 2, "(1e-5 s)2"),
    ],
)
def test_powers_are_readable(text, n, wanted):
    assert power_units(text, n) == wanted


@pytest.mark.parametrize("n", [-2, -1, 1, 2, 3, 4])
@pytest.mark.parametrize(
    "text",
    [
        "K",
        "m2 s-2",
        "m**2 s**-2",
        "1",
        "hPa",
        "%",
        "kg kg-1",
        "gpm",
        "gpdam",
        "mb",
        "km/h",
        "mm/day",
        "J kg-1",
        "W m**-2",
        "Pa s-1",
        "degrees_north",
        "m of water equivalent",
        "fraction",
        "µm",
        "delta_degC",
        "K km-1",
    ],
)
def test_powers_are_read_back(text, n):
    spelt = power_units(text, n)
    one = registry.Quantity(1.0, parse(spelt)).to_base_units()
    exact = (registry.Quantity(1.0, parse(text)) ** n).to_base_units()
    assert one.dimensionality == exact.dimensionality
    assert one.magnitude == pytest.approx(exact.magnitude, rel=1e-12)


@pytest.mark.parametrize("text", ["degC", "degF", "°C"])
def test_a_scale_with_a_zero_of_its_own_has_no_powers(text):
    with pytest.raises(ValueError, match="difference_units"):
        power_units(text, 2)


def test_requantify():
    da = xr.DataArray([1.0, 2.0], dims="x", name="a", attrs={"units": "hPa", "long_name": "b"})
    out = requantify(da.assign_coords(x=[3, 4]), "Pa2")
    assert out.data.units == registry.Unit("Pa ** 2")
    np.testing.assert_array_equal(out.data.magnitude, [1.0, 2.0])
    assert out.attrs == {"long_name": "b"}
    assert da.attrs == {"units": "hPa", "long_name": "b"}
    np.testing.assert_array_equal(out["x"], [3, 4])
    assert out.pint.dequantify(format="cf").attrs["units"] == "Pa2"


def test_requantify_stays_lazy():
    never = dask.array.from_delayed(dask.delayed(pytest.fail)("computed"), (2,), "float64")
    out = requantify(xr.DataArray(never, dims="x"), "degC")
    assert isinstance(out.data.magnitude, dask.array.Array)
    assert str(out.data.units) == "degree_Celsius"


def test_requantify_refuses_what_is_no_unit():
    with pytest.raises(ValueError, match="dBZ"):
        requantify(xr.DataArray([1.0], name="r"), "dBZ")
