"""Lead times, decoded or as numbers with a unit."""

import numpy as np
import pytest
import xarray as xr

from xwx.fields import lead_times

HOURS = np.array([6, 12, 36], "timedelta64[h]")


def held(values, name="lead_time", **attrs):
    return xr.Dataset(coords={name: (name, values, attrs)})


@pytest.mark.parametrize(
    ("values", "units"),
    [
        ([6, 12, 36], "hours"),
        ([6.0, 12.0, 36.0], "h"),
        ([0.25, 0.5, 1.5], "days"),
        ([360, 720, 2160], "minutes"),
        ([21600, 43200, 129600], "s"),
    ],
)
def test_numbers_with_units(values, units):
    found = lead_times(held(values, units=units), "lead_time")
    assert found.dtype == "timedelta64[ns]"
    assert (found == HOURS).all()


@pytest.mark.parametrize(
    "name", ["lead_time", "prediction_timedelta", "forecast_period", "step", "lead", "leadtime"]
)
def test_names(name):
    assert (lead_times(held(HOURS.astype("m8[ns]"), name), name) == HOURS).all()


def test_third_of_an_hour_is_exact_to_a_millisecond():
    found = lead_times(held([1 / 3], units="hours"), "lead_time")
    assert found[0] == np.timedelta64(20, "m")


def test_a_standard_name():
    ds = held(HOURS.astype("m8[ns]"), "x", standard_name="forecast_period")
    assert (lead_times(ds, "x") == HOURS).all()


@pytest.mark.parametrize(
    ("values", "attrs"),
    [([6, 12, 36], {}), ([6, 12, 36], {"units": "m"}), (["a", "b", "c"], {"units": "hours"})],
)
def test_what_is_no_lead_time(values, attrs):
    assert lead_times(held(values, **attrs), "lead_time") is None
    assert lead_times(held(HOURS.astype("m8[ns]"), "age"), "age") is None
