"""Drift of the dry-air pressure: lines, thresholds, layouts."""

from __future__ import annotations

import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.metrics.drift import mass_drift

DAY = np.timedelta64(86_400_000_000_000, "ns")
DAYS = np.array([0, 1, 2, 4, 8, 16])


def series(values, dim="time", units="Pa", **more):
    when = DAYS * DAY if dim == "lead_time" else np.datetime64("2026-01-01", "ns") + DAYS * DAY
    return xr.DataArray(values, {dim: when} | more, (dim,), "dry_air_pressure", {"units": units})


@pytest.mark.parametrize("dim", ["time", "lead_time"])
def test_a_line(dim):
    out = mass_drift(series(98305 - 0.5 * DAYS, dim), threshold=1.5)
    np.testing.assert_allclose(out.drift, -0.5 * DAYS, atol=1e-10)
    assert out.drift.dims == (dim,)
    assert out.trend == pytest.approx(-0.5 * 365.25, rel=1e-10)
    assert out.max_abs_drift == 8
    assert out.first_exceedance == 4 * DAY
    assert out.first_exceedance.dtype == np.dtype("timedelta64[ns]")
    assert [out[n].attrs["units"] for n in ("drift", "trend", "max_abs_drift")] == [
        "Pa", "Pa yr-1", "Pa"]  # fmt: skip
    assert "units" not in out.first_exceedance.attrs
    assert set(out.coords) == {dim}


def test_trend_is_that_of_least_squares():
    values = 98000 + np.random.default_rng(0).normal(size=6)
    out = mass_drift(series(values), threshold=1)
    assert out.trend == pytest.approx(np.polyfit(DAYS / 365.25, values - 98000, 1)[0], rel=1e-9)


def test_the_first_exceedance_is_strict_and_of_either_sign():
    values = 98000 + np.array([0, 2.0, -3.0, 1.0, 5.0, 0])
    for threshold, day in ((1.9, 1), (2.0, 2), (2.5, 2), (3.0, 8)):
        assert mass_drift(series(values), threshold=threshold).first_exceedance == day * DAY
    never = mass_drift(series(values), threshold=5.0)
    assert np.isnat(never.first_exceedance.values)
    assert never.max_abs_drift == 5


def test_units_and_quantities():
    out = mass_drift(series(980 + 0.01 * DAYS, units="hPa"), threshold=3.9)
    np.testing.assert_allclose(out.drift, DAYS, atol=1e-9)
    assert out.first_exceedance == 4 * DAY
    held = mass_drift(series(980 + 0.01 * DAYS, units="hPa").pint.quantify(), threshold=3.9)
    xr.testing.assert_allclose(held, out)


def starts():
    rng = np.random.default_rng(1)
    values = 98000 + np.array([1, 2, 30])[:, None] * DAYS + rng.normal(size=(2, 3, 6)) * 0.01
    init = np.datetime64("2026-01-01", "ns") + np.arange(3) * DAY
    return xr.DataArray(
        values,
        {"init_time": init, "lead_time": DAYS * DAY, "member": [0, 1],
         "time": (("init_time", "lead_time"), init[:, None] + DAYS * DAY)},
        ("member", "init_time", "lead_time"), attrs={"units": "Pa"},
    )  # fmt: skip


def test_several_starts_and_members():
    da = starts()
    out = mass_drift(da, threshold=17.0)
    assert out.drift.dims == da.dims
    assert out.trend.dims == out.first_exceedance.dims == ("member", "init_time")
    days = out.first_exceedance / DAY
    np.testing.assert_array_equal(days, [[np.nan, 16, 1]] * 2)
    for member in (0, 1):
        for start in range(3):
            one = mass_drift(da[member, start], threshold=17.0)
            np.testing.assert_allclose(one.trend, out.trend[member, start], rtol=1e-12)
            np.testing.assert_array_equal(one.first_exceedance, out.first_exceedance[member, start])
    xr.testing.assert_allclose(mass_drift(da.transpose(), threshold=17.0).trend.T, out.trend)


def test_lazy():
    da = starts()
    out = mass_drift(da.chunk(init_time=1, lead_time=4), threshold=17.0)
    assert all(out[name].chunks is not None for name in out.data_vars)
    xr.testing.assert_allclose(out.compute(), mass_drift(da, threshold=17.0), rtol=1e-12)


def test_one_start_with_lead_times():
    da = series(98000.0 + DAYS).assign_coords(lead_time=("time", DAYS * DAY))
    assert mass_drift(da, threshold=3).trend == pytest.approx(365.25, rel=1e-10)


def test_other_calendars():
    when = xr.date_range("2026-02-20", periods=10, calendar="360_day", use_cftime=True)
    da = xr.DataArray(98000 + 2.0 * np.arange(10), {"time": when}, attrs={"units": "Pa"})
    out = mass_drift(da, threshold=7)
    assert out.trend == pytest.approx(2 * 365.25, rel=1e-9)
    assert out.first_exceedance == 4 * DAY


def test_missing_values():
    values = 98000.0 + DAYS
    values[2] = np.nan
    out = mass_drift(series(values), threshold=3)
    assert np.isnan(out.trend)
    assert np.isnan(out.max_abs_drift)
    assert out.first_exceedance == 4 * DAY


@pytest.mark.parametrize(
    ("da", "kind"),
    [
        (series(98000.0 + DAYS, units="kg"), "unconvertible-units"),
        (series(98000.0 + DAYS).drop_attrs(), "unconvertible-units"),
        (series(98000.0 + DAYS)[:1], "missing-time"),
        (series(98000.0 + DAYS).drop_vars("time"), "missing-time"),
        (series(98000.0 + DAYS, "lead_time").drop_vars("lead_time"), "missing-time"),
        (series(98000.0 + DAYS, "lead_time").assign_coords(lead_time=DAYS), "missing-time"),
        (series(98000.0 + DAYS)[::-1], "non-monotonic-time"),
        (series(98000.0 + DAYS)[[0, 1, 1, 2]], "non-monotonic-time"),
    ],
)
def test_series_that_do_not_fit(da, kind):
    with pytest.raises(MismatchError) as caught:
        mass_drift(da, threshold=1)
    assert [p.kind for p in caught.value.problems] == [kind]


@pytest.mark.parametrize("threshold", [0, -1.0, float("nan")])
def test_thresholds_that_are_none(threshold):
    with pytest.raises(ValueError, match=f"threshold={threshold}.*positive"):
        mass_drift(series(98000.0 + DAYS), threshold=threshold)
