"""SEEPS: the properties it was designed for, and the `scores` package as the reference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scores.categorical import seeps

from xwx.errors import MismatchError
from xwx.metrics.climatology import climatology
from xwx.metrics.seeps import dry_amount, precipitation_in, seeps_climatology, seeps_error

DRY, HEAVY = 0.1, 3.0
AMOUNTS = {"dry": 0.0, "light": 1.0, "heavy": 9.0}


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.85])
def test_a_constant_forecast_scores_one_and_a_perfect_one_zero(p):
    frequencies = (p, 2 * (1 - p) / 3, (1 - p) / 3)
    truth = np.array(list(AMOUNTS.values()))
    for amount in AMOUNTS.values():
        error = seeps_error(np.full(3, amount), truth, np.full(3, p), np.full(3, HEAVY), DRY)
        assert np.dot(frequencies, error) == pytest.approx(1.0, abs=1e-14)
    np.testing.assert_array_equal(seeps_error(truth, truth, p, HEAVY, DRY), 0.0)


def test_each_pair_of_categories_has_its_penalty():
    p = 0.4
    table = 0.5 * np.array(
        [
            [0, 1 / (1 - p), 4 / (1 - p)],
            [1 / p, 0, 3 / (1 - p)],
            [1 / p + 3 / (2 + p), 3 / (2 + p), 0],
        ]
    )
    amounts = np.array(list(AMOUNTS.values()))
    error = seeps_error(amounts[:, None], amounts[None], p, HEAVY, DRY)
    np.testing.assert_allclose(error, table, rtol=1e-15)


def amounts(rng, shape):
    """Return amounts, of which a half are exactly zero."""
    return np.where(rng.random(shape) < 0.5, 0.0, rng.exponential(3.0, shape))


def test_the_same_as_the_scores_package():
    rng = np.random.default_rng(5)
    forecast, truth = amounts(rng, (11, 7, 9)), amounts(rng, (11, 7, 9))
    p, heavy = rng.uniform(0.01, 0.99, (7, 9)), rng.uniform(0.5, 4.0, (7, 9))
    truth[0, 0], forecast[1, 1, 1] = np.nan, np.nan
    heavy[3, 3] = np.nan
    # On a bound: theirs belongs to the lower category, so they get the next lower number.
    forecast[2], truth[3] = DRY, heavy
    labelled = [xr.DataArray(x, dims=["case", "y", "x"][-x.ndim :]) for x in (forecast, truth, p)]
    theirs = seeps(
        *labelled,
        xr.DataArray(np.nextafter(heavy, 0), dims=["y", "x"]),
        dry_light_threshold=float(np.nextafter(DRY, 0)),
        preserve_dims="all",
    )
    ours = seeps_error(forecast, truth, p, heavy, DRY)
    assert ours.dtype == np.float64
    assert 0.1 < np.isnan(ours).mean() < 0.5
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_value_on_a_bound_is_of_the_higher_category(dtype):
    p = 0.4
    bound, heavy = np.array([1e-4], dtype), np.array([2e-3], dtype)
    zero, light = np.zeros(1, dtype), np.array([1e-3], dtype)
    assert seeps_error(bound, light, p, heavy, 1e-4) == 0
    assert seeps_error(light, bound, p, heavy, 1e-4) == 0
    assert seeps_error(bound, zero, p, heavy, 1e-4) == pytest.approx(0.5 / p)
    assert seeps_error(heavy, 2 * heavy, p, heavy, 1e-4) == 0
    assert seeps_error(heavy, light, p, heavy, 1e-4) == pytest.approx(1.5 / (2 + p))
    assert seeps_error(light, heavy, p, heavy, 1e-4) == pytest.approx(1.5 / (1 - p))


def test_where_it_hardly_ever_or_nearly_always_rains_there_is_no_score():
    p = np.array([0.0, 0.0999, 0.1, 0.85, 0.8501, 1.0, np.nan])
    error = seeps_error(np.zeros(7), np.zeros(7), p, HEAVY, DRY)
    np.testing.assert_array_equal(np.isnan(error), [1, 1, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match="dry=0"):
        seeps_error(0.0, 0.0, 0.5, HEAVY, 0)


def archive(units="mm", factor=1.0):
    times = pd.date_range("2015-01-01", "2017-12-31T12", freq="12h")
    data = amounts(np.random.default_rng(8), (3, len(times), 2)) * factor
    return xr.Dataset(
        {
            "tp6h": (("y", "time", "x"), data, {"units": units}),
            "t2m": ("time", np.zeros(len(times))),
        },
        {"time": times, "x": [0.0, 1.0]},
    )


def reference(values, dry=DRY):
    """Return the fraction of dry samples and the 2/3 quantile of others, of a list of numbers."""
    wet = [v for v in values if v >= dry]
    return 1 - len(wet) / len(values), (np.quantile(wet, 2 / 3) if wet else np.nan)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("group", [None, "month", "dayofyear"])
def test_the_climatology_is_that_of_the_samples_of_each_point(group, lazy):
    ds = archive()
    ds.tp6h[1, :, 0] = 0.0  # a desert
    clim = seeps_climatology(ds.chunk(time=100, x=1) if lazy else ds, group=group, window=21)
    assert set(clim.data_vars) == {"tp6h_seeps_dry_fraction", "tp6h_seeps_threshold"}
    groups = {None: (), "month": ("month",), "dayofyear": ("dayofyear", "hour")}[group]
    assert (clim.tp6h_seeps_threshold.chunks is not None) == lazy
    assert clim.tp6h_seeps_dry_fraction.dims == ("y", *groups, "x")
    assert clim.tp6h_seeps_dry_fraction.attrs["units"] == "1"
    assert clim.tp6h_seeps_threshold.attrs["units"] == "mm"
    assert clim.tp6h_seeps_threshold.attrs["xwx_seeps_dry"] == "0.1 mm"
    day, hour = ds.time.dt.dayofyear.values, ds.time.dt.hour.values
    near = (np.minimum(abs(day - 3), 366 - abs(day - 3)) <= 10) & (hour == 12)
    used, label = {
        None: (np.ones(len(day), bool), {}),
        "month": (ds.time.dt.month.values == 2, {"month": 2}),
        "dayofyear": (near, {"dayofyear": 3, "hour": 12}),
    }[group]
    one = clim.sel(label).compute()
    for y in range(3):
        for x in range(2):
            fraction, threshold = reference(ds.tp6h.values[y, used, x])
            assert float(one.tp6h_seeps_dry_fraction[y, x]) == pytest.approx(fraction, rel=1e-13)
            np.testing.assert_allclose(one.tp6h_seeps_threshold[y, x], threshold, rtol=1e-13)


def test_missing_samples():
    ds = archive()
    ds.tp6h[0, 5, 0] = np.nan
    plain, kept = (seeps_climatology(ds, group=None, skipna=skip) for skip in (False, True))
    for name in plain.data_vars:
        assert np.isnan(plain[name].values).sum() == 1
        assert np.isnan(plain[name].values[0, 0])
    fraction, threshold = reference(np.delete(ds.tp6h.values[0, :, 0], 5))
    assert float(kept.tp6h_seeps_dry_fraction[0, 0]) == pytest.approx(fraction, rel=1e-13)
    assert float(kept.tp6h_seeps_threshold[0, 0]) == pytest.approx(threshold, rel=1e-13)


def test_one_call_makes_the_mean_and_the_thresholds():
    ds = archive()
    clim = climatology(ds, statistics=("mean", "seeps"), window=31)
    alone = seeps_climatology(ds.tp6h, window=31)
    assert set(clim.data_vars) == {"tp6h", "t2m", *alone.data_vars}
    for name in alone.data_vars:
        xr.testing.assert_identical(clim[name], alone[name])


def test_the_climatology_does_not_depend_on_the_unit():
    mm, m = archive(), archive("m", 1e-3)
    one, other = (seeps_climatology(ds, window=31) for ds in (mm, m))
    xr.testing.assert_equal(one.tp6h_seeps_dry_fraction, other.tp6h_seeps_dry_fraction)
    np.testing.assert_allclose(
        other.tp6h_seeps_threshold * 1000, one.tp6h_seeps_threshold, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("units", "dry", "amount"),
    [
        ("mm", "0.1 mm", 0.1),
        ("m", "0.1 mm", 1e-4),
        ("kg m-2", "0.1 mm", 0.1),
        ("kg m**-2", "0.25 kg m-2", 0.25),
        ("cm", "0.25 mm", 0.025),
        ("mm", 0.3, 0.3),
    ],
)
def test_the_amount_of_dry_weather_in_the_unit_of_the_variable(units, dry, amount):
    assert dry_amount(archive(units).tp6h, dry) == amount


def test_what_is_no_precipitation_is_refused():
    assert precipitation_in(archive()) == {"tp6h": 0.1}
    with pytest.raises(MismatchError, match="none of the variables t2m is precipitation"):
        seeps_climatology(archive()[["t2m"]])
    with pytest.raises(MismatchError, match=r"(?s)units='mm h-1'.*multiply a rate by its period"):
        seeps_climatology(archive("mm h-1"))
    bare = archive()
    del bare.tp6h.attrs["units"]
    with pytest.raises(MismatchError, match="units=None"):
        seeps_climatology(bare)
    for dry in ("0.1", "0.1 K", "some mm", "-1 mm", 0.0, float("nan")):
        with pytest.raises(ValueError, match="give a positive amount with its unit"):
            dry_amount(archive().tp6h, dry)
    with pytest.raises(ValueError, match="group='season'"):
        seeps_climatology(archive(), group="season")
