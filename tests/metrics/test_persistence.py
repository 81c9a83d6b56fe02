"""Persistence equals the states at the starts, selected by hand."""

import numpy as np
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.metrics.persistence import persistence

TIMES = np.arange("2020-01-01", "2020-01-06", 6, dtype="M8[h]").astype("M8[ns]")
LEADS = np.array([6, 12, 18], "timedelta64[h]").astype("m8[ns]")
K = {"units": "K", "standard_name": "air_temperature"}


@pytest.fixture
def analyses():
    rng = np.random.default_rng(0)
    values = 280 + rng.standard_normal((TIMES.size, 3, 4, 8))
    ds = xr.Dataset({"t": (("time", "level", "latitude", "longitude"), values, K)})
    return ds.assign_coords(
        time=TIMES,
        level=("level", [500.0, 700.0, 850.0], {"units": "hPa"}),
        latitude=("latitude", [75.0, 25.0, -25.0, -75.0], {"units": "degrees_north"}),
        longitude=("longitude", np.arange(8) * 45.0, {"units": "degrees_east"}),
    )


def several(analyses, starts=(2, 0, 5), **extra):
    begun = TIMES[list(starts)]
    shape = {"init_time": len(begun), **extra, "lead_time": 3}
    blank = analyses.t.isel(time=0, drop=True)
    t = blank.expand_dims(shape) * np.nan
    ds = t.assign_attrs(K).to_dataset(name="t")
    time = (("init_time", "lead_time"), begun[:, None] + LEADS)
    return ds.assign_coords(init_time=begun, lead_time=LEADS, time=time)


def test_several_starts(analyses):
    out = persistence(analyses, several(analyses))
    assert out.t.dims == ("init_time", "lead_time", "level", "latitude", "longitude")
    for n, start in enumerate((2, 0, 5)):
        for lead in range(3):
            assert np.array_equal(out.t[n, lead], analyses.t[start])
    xr.testing.assert_equal(out.time, several(analyses).time)
    assert out.t.attrs == K


def test_one_start(analyses):
    for forecast in (
        several(analyses).isel(init_time=1),
        several(analyses).isel(init_time=1).swap_dims(lead_time="time"),
    ):
        out = persistence(analyses, forecast)
        assert out.t.dims == forecast.t.dims
        assert set(out.coords) == set(forecast.coords)
        for lead in range(3):
            assert np.array_equal(out.t[lead], analyses.t[0])


def test_as_weatherbench_names_it(analyses):
    forecast = several(analyses).drop_vars("time")
    renamed = forecast.rename(init_time="time", lead_time="prediction_timedelta")
    out = persistence(analyses, renamed)
    assert np.array_equal(out.t, persistence(analyses, forecast).t)
    assert out.t.dims[:2] == ("time", "prediction_timedelta")


def test_members_are_dropped(analyses):
    forecast = several(analyses, member=5)
    out = persistence(analyses, forecast)
    assert "member" not in out.dims
    assert np.array_equal(out.t, persistence(analyses, several(analyses)).t)


def test_another_presentation(analyses):
    plain = persistence(analyses, several(analyses))
    turned = analyses.isel(latitude=slice(None, None, -1), level=[2, 0, 1]).roll(longitude=3)
    turned = turned.assign_coords(
        longitude=np.roll((analyses.longitude.values + 180) % 360 - 180, 3)
    )
    turned.longitude.attrs["units"] = "degrees_east"
    turned = turned.assign_coords(level=("level", [85000.0, 50000.0, 70000.0], {"units": "Pa"}))
    celsius = (turned.t - 273.15).assign_attrs(K, units="degC").transpose("level", ..., "time")
    other = celsius.to_dataset(name="ta").rename(time="valid_time")
    out = persistence(other, several(analyses))
    assert np.allclose(out.t, plain.t, rtol=1e-13)
    assert out.t.attrs["units"] == "K"


def test_lazy_and_without_copies(analyses):
    out = persistence(analyses.chunk(time=1), several(analyses))
    assert out.t.chunks is not None
    assert np.array_equal(out.t, persistence(analyses, several(analyses)).t)


def test_constants_of_the_forecast_do_not_matter(analyses):
    height = analyses.t.isel(time=0, level=0, drop=True).assign_attrs(units="m", standard_name="z")
    out = persistence(analyses, several(analyses).assign(height=height, crs=0))
    assert list(out.data_vars) == ["t"]


def test_verified_against_the_analyses(analyses):
    out = persistence(analyses, several(analyses))
    scores = out.wx.verify(analyses, "mse")
    error = analyses.t.values[[3, 1, 6]] - analyses.t.values[[2, 0, 5]]
    rows = np.diff(np.sin(np.deg2rad([-90, -50, 0, 50, 90])))
    exact = np.average((error**2).mean(axis=(0, 3)), axis=1, weights=rows)
    assert np.allclose(scores.t.sel(metric="mse")[0], exact, rtol=1e-12)


def refusal(ds, forecast):
    with pytest.raises(MismatchError) as caught:
        persistence(ds, forecast)
    return caught.value.problems[0].kind, str(caught.value)


def test_refusals(analyses):
    forecast = several(analyses)
    kind, text = refusal(analyses.isel(time=slice(1, 5)), forecast)
    assert kind == "missing-start-time"
    assert "lacks 2 of the starts of the forecast, the first 2020-01-01T00:00" in text
    calendar = analyses.convert_calendar("noleap", use_cftime=True)
    assert "lacks 3 of the starts" in refusal(calendar, forecast)[1]
    assert refusal(analyses, forecast.drop_vars("init_time"))[0] == "missing-start"
    assert refusal(analyses, analyses)[0] == "missing-start"
    assert refusal(analyses.isel(time=2), forecast)[0] == "single-time"
    assert refusal(analyses.drop_vars("time"), forecast)[0] == "missing-time"
    assert refusal(analyses.isel(time=[0, 0, 2, 5]), forecast)[0] == "duplicated-time"
    kind, text = refusal(analyses.expand_dims(run=2), forecast)
    assert kind == "extra-dimension"
    assert "ds = ds.isel(run=0)" in text
