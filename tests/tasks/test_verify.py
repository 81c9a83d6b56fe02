"""What a user meets at ``ds.wx.verify`` besides the numbers of the scores."""

import re
import tracemalloc
import warnings

import numpy as np
import pytest
import xarray as xr

from xwx.errors import MismatchError, XwxWarning
from xwx.metrics import CRPS, NRMSE, Brier, pairs
from xwx.metrics.climatology import climatology
from xwx.metrics.resample import Resampling
from xwx.metrics.single import ACC

LAT, LON = np.linspace(90, -90, 7), np.arange(8) * 45.0
TIMES = np.arange("2019-11-20", "2020-03-10", 12, dtype="M8[h]").astype("M8[ns]")
LEADS = (np.arange(1, 4) * np.timedelta64(12, "h")).astype("m8[ns]")
ATTRS = {
    "t2m": {"units": "K", "standard_name": "air_temperature"},
    "msl": {"units": "Pa", "standard_name": "air_pressure_at_mean_sea_level"},
}
EDGES = np.clip(np.linspace(105, -105, 8), -90, 90)
ROWS = -np.diff(np.sin(np.deg2rad(EDGES))) / 2


def horizontal():
    return {
        "latitude": ("latitude", LAT, {"units": "degrees_north"}),
        "longitude": ("longitude", LON, {"units": "degrees_east"}),
    }


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(0)
    ds = xr.Dataset(coords={"time": TIMES, **horizontal()})
    for name, mean, scale in (("t2m", 280, 10), ("msl", 1e5, 500)):
        field = mean + scale * rng.standard_normal((TIMES.size, 7, 8))
        ds[name] = ("time", "latitude", "longitude"), field, ATTRS[name]
    return ds


def forecast_of(truth, starts, members=0, seed=1, bias=0.0):
    rng = np.random.default_rng(seed)
    starts = np.asarray(starts)
    at = starts[:, None] + np.arange(1, 4)
    shape = {"init_time": starts.size, "lead_time": 3, "member": members}
    shape = {k: n for k, n in shape.items() if n}
    ds = xr.Dataset(coords={"init_time": TIMES[starts], "lead_time": LEADS, **horizontal()})
    for name, scale in (("t2m", 3), ("msl", 200)):
        field = truth[name].values[at]
        field = field[:, :, None] if members else field
        noise = rng.standard_normal((*shape.values(), 7, 8)) + bias
        ds[name] = (*shape, "latitude", "longitude"), field + scale * noise, ATTRS[name]
    return ds.assign_coords(time=(("init_time", "lead_time"), TIMES[at]))


@pytest.fixture(scope="module")
def forecast(truth):
    return forecast_of(truth, range(0, 200, 4))


@pytest.fixture(scope="module")
def ensemble(truth):
    return forecast_of(truth, range(6), members=3)


def squared(forecast, truth, name):
    """Area mean of the squared error of each case, by hand."""
    at = np.searchsorted(TIMES, forecast.time.values)
    error = forecast[name].values - truth[name].values[at]
    return np.tensordot((error**2).mean(axis=-1), ROWS, axes=(2, 0))


# --- confidence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["wb2", "wb1"])
@pytest.mark.parametrize("block", [None, 1, 7])
def test_intervals_by_hand(forecast, truth, convention, block):
    out = forecast.wx.verify(
        truth, "rmse", confidence=0.8, block=block, resamples=130, seed=2, convention=convention
    )
    draws = Resampling(0.8, block, 130, 2).counts(50, "init_time")
    mse = squared(forecast, truth, "msl")
    scores = []
    for counts in np.concatenate([c.values for c in draws]):
        again = np.repeat(mse, counts.astype(int), axis=0)
        assert len(again) == 50
        one = np.sqrt(again.mean(axis=0)) if convention == "wb2" else np.sqrt(again).mean(axis=0)
        scores.append(one)
    exact = np.quantile(scores, [0.1, 0.9], axis=0).T
    assert out.msl_interval.dims == ("metric", "lead_time", "bound")
    assert out.bound.values.tolist() == ["lower", "upper"]
    assert np.allclose(out.msl_interval[0], exact, rtol=1e-12)
    assert out.msl_interval.attrs["units"] == "Pa"


def test_interval_of_a_difference_is_paired(truth):
    one = forecast_of(truth, range(0, 200, 4), seed=1)
    hard = 1 + 5 * np.random.default_rng(3).random(50)  # some starts are hard for both
    at = np.searchsorted(TIMES, one.time.values)
    both = []
    for factor in (1.0, 1.05):
        error = one.t2m.values - truth.t2m.values[at]
        field = truth.t2m.values[at] + factor * hard[:, None, None, None] * error
        both.append(one[["t2m"]].assign(t2m=(one.t2m.dims, field, ATTRS["t2m"])))
    out = both[0].wx.verify(truth, "rmse", reference=both[1], confidence=0.9, resamples=200)
    alone = both[1].wx.verify(truth, "rmse", confidence=0.9, resamples=200)
    width = out.t2m_interval.diff("bound").values
    paired = out.t2m_difference_interval.diff("bound").values
    assert (paired < 0.1 * width).all()
    assert (out.t2m_difference_interval.sel(bound="upper") < 0).all()
    assert (out.t2m_interval.sel(bound="upper") > alone.t2m_interval.sel(bound="lower")).all()
    assert np.allclose(out.t2m_difference, out.t2m - alone.t2m)


def test_a_forecast_against_itself(forecast, truth):
    out = forecast.wx.verify(truth, reference=forecast, confidence=0.9, resamples=20)
    for name in ("t2m", "msl"):
        assert (out[f"{name}_difference"] == 0).all()
        assert (out[f"{name}_difference_interval"] == 0).all()
        assert (out[f"{name}_interval"].sel(bound="upper") > 0).any()


def test_reference_in_another_presentation(forecast, truth):
    other = forecast_of(truth, range(0, 200, 4), seed=9)
    plain = forecast.wx.verify(truth, reference=other, confidence=0.9, resamples=20)
    turned = other.isel(latitude=slice(None, None, -1)).roll(longitude=3, roll_coords=True)
    turned = turned.assign(
        msl=(turned.msl / 100).assign_attrs(ATTRS["msl"], units="hPa"),
        t2m=(turned.t2m - 273.15).assign_attrs(ATTRS["t2m"], units="degC"),
    ).rename(init_time="forecast_reference_time", lead_time="step", t2m="tas", msl="psl")
    again = forecast.wx.verify(truth, reference=turned, confidence=0.9, resamples=20)
    for name, values in plain.data_vars.items():
        xr.testing.assert_allclose(again[name], values, rtol=1e-9, atol=1e-9)


def test_reference_of_other_starts_and_leads(forecast, truth):
    other = forecast_of(truth, range(8, 200, 4), seed=9)
    some = other.isel(lead_time=[0, 2], init_time=slice(None, None, -1))
    with pytest.warns(XwxWarning, match="54 of 150 cases of the forecast are not in the reference"):
        out = forecast.wx.verify(truth, "rmse", reference=some)
    common = forecast.isel(init_time=slice(2, None), lead_time=[0, 2])
    exact = common.wx.verify(truth, "rmse")
    xr.testing.assert_allclose(out[["t2m", "msl"]], exact[["t2m", "msl"]], rtol=1e-13)
    expected = exact.t2m - other.isel(lead_time=[0, 2]).wx.verify(truth, "rmse").t2m
    assert np.allclose(out.t2m_difference, expected, rtol=0, atol=1e-12)
    assert (out.cases == 48).all()
    with pytest.raises(MismatchError, match="it has no case of the forecast's"):
        forecast.wx.verify(truth, reference=other.isel(init_time=[0]).assign_coords(
            init_time=TIMES[[1]]).drop_vars("time"))  # fmt: skip


def test_seed_and_dask(forecast, truth):
    def scores(ds, seed):
        return ds.wx.verify(truth, reference=forecast, confidence=0.9, resamples=120, seed=seed)

    one, same, other = (scores(forecast, s) for s in (3, 3, 4))
    lazy = scores(forecast.chunk(init_time=7), 3)
    assert lazy.t2m_interval.chunks is not None
    xr.testing.assert_identical(one.drop_attrs(), same.drop_attrs())
    xr.testing.assert_allclose(one, lazy.compute(), rtol=1e-12)
    assert (one.t2m_interval != other.t2m_interval).all()


def test_too_few_starts(forecast, truth):
    for ds in (forecast.isel(init_time=[0]), forecast.isel(init_time=0)):
        with pytest.raises(ValueError, match="there is 1 start,"):
            ds.wx.verify(truth, confidence=0.9)
    with pytest.raises(ValueError, match="block=26: 50 starts make fewer than two blocks"):
        forecast.wx.verify(truth, confidence=0.9, block=26)


# --- groups, regions, maps ------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["season", "month", "year", "hour"])
def test_groups_are_selections(forecast, truth, by):
    out = forecast.wx.verify(truth, "rmse", by=by)
    labels = getattr(forecast.time.dt, by)
    assert set(out[by].values) == set(np.unique(labels))
    mse = squared(forecast, truth, "t2m")
    for label in out[by].values:
        for lead in range(3):
            inside = (labels == label).values[:, lead]
            exact = np.sqrt(mse[inside, lead].mean()) if inside.any() else np.nan
            found = out.t2m.sel({by: label})[0, lead]
            assert np.allclose(found, exact, rtol=1e-12, equal_nan=True)
            assert int(out.cases.sel({by: label})[lead]) == inside.sum()


def test_seasons_are_in_their_order(forecast, truth):
    assert forecast.wx.verify(truth, by="season").season.values.tolist() == ["DJF", "SON"]


def test_maps_and_zonal_means(forecast, truth):
    at = np.searchsorted(TIMES, forecast.time.values)
    error = forecast.t2m.values - truth.t2m.values[at]
    maps = forecast.wx.verify(truth, ["bias", "rmse"], dim="init_time").t2m
    assert maps.dims == ("metric", "lead_time", "latitude", "longitude")
    assert np.allclose(maps[0], error.mean(axis=0), rtol=0, atol=1e-11)
    assert np.allclose(maps[1], np.sqrt((error**2).mean(axis=0)), rtol=1e-12)
    assert np.array_equal(maps.latitude, LAT)
    zonal = forecast.wx.verify(truth, ["rmse"], dim=("init_time", "longitude")).t2m
    assert zonal.dims == ("metric", "lead_time", "latitude")
    assert np.allclose(zonal[0], np.sqrt((error**2).mean(axis=(0, 3))), rtol=1e-12)
    each = forecast.wx.verify(truth, ["rmse"], dim=("latitude", "longitude")).t2m
    assert np.allclose(
        each.transpose("init_time", "lead_time", "metric")[..., 0],
        np.sqrt(squared(forecast, truth, "t2m")),
        rtol=1e-12,
    )


def test_regions(forecast, truth):
    mask = xr.DataArray(np.random.default_rng(2).random((7, 8)), coords=forecast.t2m[0, 0].coords,
                        dims=("latitude", "longitude"))  # fmt: skip
    regions = {"date line": (-40, 61, 170, -160), "mask": mask > 0.5, "part": mask}
    out = forecast.wx.verify(truth, "mse", regions=regions)
    at = np.searchsorted(TIMES, forecast.time.values)
    error = (forecast.t2m.values - truth.t2m.values[at]) ** 2
    south, north = np.minimum(EDGES[1:], EDGES[:-1]), np.maximum(EDGES[1:], EDGES[:-1])
    sines = np.sin(np.deg2rad([np.clip(south, -40, 61), np.clip(north, -40, 61)]))
    columns = np.array([0, 0, 0, 0, 30, 0, 0, 0.0])  # the cell about 180 is 157.5 to 202.5
    weights = [
        (sines[1] - sines[0])[:, None] * columns,
        ROWS[:, None] * (mask > 0.5).values,
        ROWS[:, None] * mask.values,
    ]
    for name, weight in zip(regions, weights, strict=True):
        exact = (error.mean(axis=0) * weight).sum(axis=(1, 2)) / weight.sum()
        assert np.allclose(out.t2m.sel(region=name)[0], exact, rtol=1e-12)


# --- times ----------------------------------------------------------------------------------------


def test_some_cases_without_a_truth(forecast, truth):
    short = truth.sel(time=slice("2019-12-31"))
    there = forecast.time.values <= short.time.values[-1]
    first = forecast.time.values[~there].min().astype("M8[m]")
    answer = f"{(~there).sum()} of 150 cases have no truth, the first at {first}: the scores are of"
    with pytest.warns(XwxWarning, match=re.escape(answer)):
        out = forecast.wx.verify(short, "mse")
    mse = squared(forecast, truth.reindex(time=TIMES), "t2m")
    assert np.array_equal(out.cases, there.sum(axis=0))
    assert 0 < there.sum() < there.size
    exact = np.where(there, mse, 0).sum(axis=0) / there.sum(axis=0)
    assert np.allclose(out.t2m[0], exact, rtol=1e-12)


@pytest.mark.parametrize("calendar", ["noleap", "standard"])
def test_no_common_time(forecast, truth, calendar):
    later = truth.assign_coords(time=truth.time + np.timedelta64(1000, "D"))
    other = truth.convert_calendar(calendar, use_cftime=True)
    for wrong in (later, other):
        with pytest.raises(
            MismatchError, match=r"no valid time of the forecast .*2019-11-20T12:00"
        ):
            forecast.wx.verify(wrong)


# --- input that does not fit ----------------------------------------------------------------------


def without(ds, name, attribute):
    ds = ds.copy()
    ds[name] = (
        ds[name]
        .drop_attrs()
        .assign_attrs({k: v for k, v in ds[name].attrs.items() if k != attribute})
    )
    return ds


def finer(truth):
    lat = ("latitude", np.linspace(90, -90, 13), {"units": "degrees_north"})
    return truth.isel(latitude=[n // 2 for n in range(13)]).assign_coords(latitude=lat)


def shifted(truth):
    lon = ("longitude", LON + 10, {"units": "degrees_east"})
    return truth.assign_coords(longitude=lon)


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (
            finer,
            'further points between those of the forecast\n    -> verify(truth, grid="forecast',
        ),
        (shifted, "8 of 8 longitudes of the forecast are up to 10 degrees from the nearest"),
        (lambda t: t.isel(latitude=slice(1, 5)), "forecast = forecast.isel(latitude=slice(1, 5))"),
        (lambda t: t.expand_dims(member=3), "'t2m', 'msl' have 3 values along 'member'"),
        (lambda t: t.isel(time=[0, 1, 1, 2]), 'truth.drop_duplicates("time")'),
        (lambda t: t.drop_vars("msl"), "no variable gives 'msl'"),
        (lambda t: t.drop_vars("time"), "the Dataset does not fit the truth"),
        (lambda t: without(t, "t2m", "units"), 'ds["t2m"].attrs["units"] = "K"'),
        (lambda t: t.astype(int, keep_attrs=True), "it holds int64 numbers: most likely packed"),
        (lambda t: xr.Dataset(), "no one-dimensional latitude was found"),
    ],
)
def test_truth_that_does_not_fit(forecast, truth, change, answer):
    with pytest.raises(MismatchError) as caught:
        forecast.wx.verify(change(truth))
    assert answer in str(caught.value) or answer.replace("truth.", "ds.") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (
            lambda f: without(f, "msl", "units"),
            "in the forecast: found for 'msl', but it has no units",
        ),
        (lambda f: xr.Dataset(), "no one-dimensional latitude was found"),
        (lambda f: f.drop_vars(["t2m", "msl"]), "no variable of real numbers runs along latitude"),
        (lambda f: f.drop_vars("init_time"), "no coordinate that says when forecasts began"),
        (lambda f: f.isel(init_time=slice(0)), "init_time: it has length 0"),
        (lambda f: f.isel(latitude=slice(0)), "latitude: in the forecast: it has length 0"),
        (
            lambda f: f.isel(init_time=[0, 1, 1]),
            "init_time: 1 of its 3 values occur more than once",
        ),
    ],
)
def test_forecasts_that_do_not_fit(forecast, truth, change, answer):
    with pytest.raises(MismatchError, match=re.escape(answer)):
        change(forecast).wx.verify(truth)


def test_a_truth_of_several_starts_and_leads(forecast, truth):
    with pytest.raises(MismatchError, match="it has 50 starts and 3 lead times: several"):
        forecast.wx.verify(forecast)
    one = truth.expand_dims(member=1, number=1)
    expected = forecast.wx.verify(truth)
    xr.testing.assert_identical(forecast.wx.verify(one).drop_attrs(), expected.drop_attrs())


@pytest.mark.parametrize(
    ("options", "kind", "answer"),
    [
        ({"metrics": "rmsee"}, ValueError, "unknown metric 'rmsee': did you mean 'rmse'?"),
        ({"metrics": []}, ValueError, "metrics is empty"),
        ({"metrics": [CRPS]}, TypeError, "CRPS is a class"),
        ({"metrics": ["nrmse", NRMSE({"t2m": 1.0})]}, ValueError, "nrmse is asked for twice"),
        (
            {"metrics": "crps"},
            ValueError,
            "crps needs an ensemble of at least 2 members, and the for",
        ),
        (
            {"metrics": ["crps", "ssr"]},
            ValueError,
            "crps, ssr need an ensemble of at least 2 members",
        ),
        (
            {"metrics": "rank_histogram"},
            ValueError,
            "rank_histogram needs an ensemble of at least 1 member",
        ),
        (
            {"metrics": "acc"},
            ValueError,
            "acc needs climatology=...: a Dataset of the variables by",
        ),
        (
            {"metrics": Brier("300 m")},
            ValueError,
            "'300 m' does not convert to 'K', the units of 't2m'",
        ),
        ({"metrics": Brier("300")}, ValueError, "'300' does not convert to 'K'"),
        ({"metrics": Brier("warm")}, ValueError, "'warm', for 't2m', is no number with a unit"),
        (
            {"metrics": Brier({"t2m": "300 K"})},
            ValueError,
            "no threshold for 'msl', only for ['t2m']",
        ),
        ({"dim": "lead_time"}, ValueError, "'lead_time' cannot be averaged over, only 'init_time'"),
        ({"weights": "foo"}, ValueError, 'weights=\'foo\': give "area" or "cos"'),
        ({"weights": np.ones(7)}, ValueError, 'give "area" or "cos"'),
        ({"by": "week"}, ValueError, "by='week': give one of 'season', 'month', 'year', 'hour'"),
        ({"grid": "foo"}, ValueError, 'grid=\'foo\': give "forecast", "truth" or a Grid'),
        ({"convention": "wb3"}, ValueError, "convention='wb3': give"),
        (
            {"regions": "tropic"},
            ValueError,
            "did you mean 'tropics'? The names are global, tropics",
        ),
        ({"regions": {"none": (10, 5)}}, ValueError, "region 'none': a box from 10 to 5"),
        ({"confidence": 95}, ValueError, "confidence=95: give a number between 0 and 1"),
        ({"confidence": 0.9, "block": 0}, ValueError, "block=0: give a whole number"),
        ({"dim": "init_time", "by": "month"}, ValueError, "by='month' needs scores averaged over"),
        (
            {"dim": "init_time", "confidence": 0.9},
            ValueError,
            "confidence=0.9 needs scores averaged",
        ),
        ({"dim": "longitude", "regions": "tropics"}, ValueError, "dim=... keeps latitude"),
        ({"dim": 3}, ValueError, "dim=3: 3 cannot be averaged over"),
        ({"dim": "init_time", "convention": "wb1"}, ValueError, "convention='wb1' needs scores"),
        (
            {"dim": ["latitude", "longitude"], "confidence": 0.9},
            ValueError,
            "dim=... keeps them: add 'init_time' to dim",
        ),
        ({"statistics": True, "by": "month"}, ValueError, "whatever by says: give it to"),
        (
            {"statistics": True, "confidence": 0.9, "convention": "wb1"},
            ValueError,
            "whatever confidence, convention says",
        ),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_arguments(forecast, truth, options, kind, answer):
    with pytest.raises(kind, match=re.escape(answer)):
        forecast.wx.verify(truth, **options)


def test_what_is_no_dataset(forecast, truth):
    for wrong in (truth.t2m, None, "truth.nc"):
        with pytest.raises(TypeError, match=r"truth must be an xarray\.Dataset, got"):
            forecast.wx.verify(wrong)
    with pytest.raises(TypeError, match=r"reference must be an xarray\.Dataset, got DataArray"):
        forecast.wx.verify(truth, reference=forecast.t2m)


def test_single_members(ensemble, truth):
    one = ensemble.isel(member=[1])
    with pytest.raises(ValueError, match="crps needs an ensemble of at least 2 members, and the"):
        one.wx.verify(truth, "crps")
    absolute = ensemble.isel(member=1).wx.verify(truth, "mae")
    assert np.allclose(one.wx.verify(truth, "crps_ecdf").t2m, absolute.t2m, rtol=1e-12)


# --- climatologies --------------------------------------------------------------------------------


def years(truth, **shape):
    """An archive of two years, before the scored times."""
    time = np.arange("2016-01-01", "2018-01-01", 12, dtype="M8[h]").astype("M8[ns]")
    field = np.random.default_rng(8).standard_normal((time.size, 7, 8)) + 280
    ds = xr.Dataset({"t2m": (("time", "latitude", "longitude"), field, ATTRS["t2m"])})
    return ds.assign_coords(time=time, **horizontal())


def test_climatologies_that_do_not_fit(forecast, truth):
    clim, one = climatology(years(truth)), forecast[["t2m"]]
    assert one.wx.verify(truth, "acc", climatology=clim).t2m.notnull().all()
    for wrong, answer in (
        (clim.isel(hour=[0]), "valid times are at hour 12, the climatology has hours 0"),
        (clim.isel(dayofyear=slice(100, 200)), "valid times need dayofyear 1, 2, 3, 4, 5, ..."),
        (clim.rename(t2m="x").assign_attrs(), None),
        (truth, "times, not days of the year"),
    ):
        if answer is None:
            wrong = clim.drop_vars("t2m")
            answer = "no variable gives 't2m'"
        with pytest.raises(MismatchError, match=re.escape(answer)):
            one.wx.verify(truth, "acc", climatology=wrong)
    with pytest.raises(MismatchError, match="no dimension 'quantile'"):
        forecast_of(truth, [0, 1], 3)[["t2m"]].wx.verify(truth, "eecrps", climatology=clim)


def test_a_climatology_of_the_scored_times(forecast, truth):
    one = forecast[["t2m"]].isel(init_time=slice(0, 3))
    clim = climatology(truth[["t2m"]])
    with pytest.raises(MismatchError, match="climatology_overlap=True to accept it"):
        one.wx.verify(truth, "acc", climatology=clim)
    with pytest.warns(XwxWarning, match="anomalies"):  # the truth of one year is its climatology
        out = one.wx.verify(truth, "acc", climatology=clim, climatology_overlap=True)
    assert out.t2m.dims == ("metric", "lead_time")


def test_anomalies_that_vanish(forecast, truth):
    clim = truth.mean("time", keep_attrs=True)
    flat = forecast.assign(t2m=clim.t2m.broadcast_like(forecast.t2m).assign_attrs(ATTRS["t2m"]))
    with pytest.warns(XwxWarning, match="t2m: acc is NaN where the anomalies") as caught:
        out = flat.wx.verify(truth, ACC(), climatology=clim)
    assert [w for w in caught if "msl" in str(w.message)] == []
    assert out.t2m.isnull().all()
    assert out.msl.notnull().all()


def test_nothing_but_nan(forecast, truth):
    empty = forecast.map(lambda v: v.where(False), keep_attrs=True)
    clim = truth.mean("time", keep_attrs=True)
    assert empty.wx.verify(truth, ["rmse", "acc"], climatology=clim).msl.isnull().all()
    assert empty.wx.verify(truth, "rmse", skipna=True).msl.isnull().all()


# --- memory and files -----------------------------------------------------------------------------


def test_files_are_read_start_by_start(truth, tmp_path, monkeypatch):
    forecast = forecast_of(truth, range(6))
    forecast.to_netcdf(tmp_path / "forecast.nc")
    truth.to_netcdf(tmp_path / "truth.nc")
    expected = forecast.wx.verify(truth)
    monkeypatch.setattr(pairs, "_BLOCK", 3 * 7 * 8)  # the leads of one start
    read = []
    with (
        xr.open_dataset(tmp_path / "forecast.nc", decode_timedelta=True, cache=False) as ds,
        xr.open_dataset(tmp_path / "truth.nc", cache=False) as true,
    ):
        original = xr.Variable.load

        def load(self, **kwargs):
            if self.ndim >= 3 and not self._in_memory:
                read.append(self.shape)
            return original(self, **kwargs)

        monkeypatch.setattr(xr.Variable, "load", load)
        out = ds.wx.verify(true)
        assert not ds.t2m.variable._in_memory
    assert read.count((1, 3, 7, 8)) == 12
    assert max(np.prod(shape) for shape in read) <= 3 * 7 * 8
    xr.testing.assert_allclose(out[["t2m", "msl"]], expected[["t2m", "msl"]], rtol=1e-13)


@pytest.mark.parametrize(("metrics", "members"), [("rmse", 0), (("crps", "ssr"), 8)])
def test_memory(metrics, members, monkeypatch):
    rng = np.random.default_rng(0)
    shape = {"init_time": 4, "lead_time": 4, "member": members, "latitude": 91, "longitude": 180}
    shape = {k: n for k, n in shape.items() if n}
    coords = {
        "latitude": ("latitude", np.linspace(90, -90, 91), {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(180) * 2.0, {"units": "degrees_east"}),
    }
    level = {"level": ("level", np.arange(100.0, 1000.0, 100.0), {"units": "hPa"})}
    shape = {**shape, "level": 9} if not members else shape
    coords |= {} if members else level
    attrs = {"units": "K", "standard_name": "air_temperature"}
    dims = [d for d in shape if d not in ("latitude", "longitude")] + ["latitude", "longitude"]
    name = "t2m" if members else "t"
    field = rng.standard_normal([shape[d] for d in dims], dtype=np.float32) + 280
    lead = (np.arange(1, 5) * np.timedelta64(12, "h")).astype("m8[ns]")
    begun = {"init_time": TIMES[:4], "lead_time": lead}
    forecast = xr.Dataset({name: (dims, field, attrs)}).assign_coords(coords | begun)
    one = forecast.isel(init_time=0, lead_time=0, drop=True)
    one = one.isel(member=0) if members else one
    truth = one.expand_dims(time=TIMES[:9]).map(lambda v: v.astype("f4"), keep_attrs=True)
    monkeypatch.setattr(pairs, "_BLOCK", field.size // 4)  # one start
    forecast.wx.verify(truth, metrics)
    tracemalloc.start()
    forecast.wx.verify(truth, metrics)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < forecast[name].nbytes / 2


def test_no_warning_for_a_plain_call(forecast, truth):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = forecast.wx.verify(truth)
    assert out.metric.values.tolist() == ["rmse", "bias"]
    assert out.t2m.attrs["units"] == "K"
    assert "cases" in out.coords


@pytest.mark.parametrize("threshold", [300.0, {"t2m": 300.0}, {}, None])
def test_a_threshold_without_a_unit_is_refused_where_it_is_given(threshold):
    with pytest.raises(TypeError, match="give the threshold with its unit"):
        Brier(threshold)


def test_refusals_say_which_side_they_are_of(forecast, truth):
    nameless = truth.drop_vars("t2m")
    with pytest.raises(MismatchError, match="does not fit the forecast, as the truth"):
        forecast.wx.verify(nameless)
    with pytest.raises(MismatchError, match="does not fit the forecast, as the climatology"):
        forecast.wx.verify(truth, "acc", climatology=nameless.isel(time=0, drop=True))
    with pytest.raises(TypeError, match=r"climatology must be an xarray.Dataset, got DataArray"):
        forecast.wx.verify(truth, "acc", climatology=truth["t2m"])


def test_packed_forecasts_are_refused_as_packed_truths_are(forecast, truth):
    with pytest.raises(MismatchError, match="packed values whose scale_factor"):
        forecast.assign(t2m=forecast["t2m"].astype("int16")).wx.verify(truth)


def test_too_few_starts_are_refused_before_anything_is_summed(forecast, truth, monkeypatch):
    monkeypatch.setattr("xwx.tasks.scoring.Scoring.sums", None)
    with pytest.raises(ValueError, match="make fewer than two blocks"):
        forecast.wx.verify(truth, confidence=0.9, block=100)


def test_scores_of_each_start_count_one_case_each(forecast, truth):
    each = forecast.wx.verify(truth, dim=["latitude", "longitude"])
    assert "scored" not in each.coords
    assert (each["cases"] == 1).all()


def test_the_cases_of_an_archive_without_leads(truth):
    found = truth.isel(time=slice(3, 8)).wx.verify(truth)
    assert int(found["cases"]) == 5
    assert found["cases"].ndim == 0
    assert (found["t2m"] == 0).all()


@pytest.mark.parametrize("name", ["t2m", "t2m_interval", "t2m_difference"])
def test_scores_of_several_units_have_none_in_common(forecast, truth, name):
    options = {"confidence": 0.9, "reference": forecast}
    mixed = forecast.wx.verify(truth, ["rmse", "mse"], **options)[name].attrs
    assert "units" not in mixed
    assert mixed["metric_units"] == "rmse: K; mse: K2"
    assert forecast.wx.verify(truth, ["rmse", "mae"], **options)[name].attrs["units"] == "K"


@pytest.mark.parametrize("keep", [True, False, "default"])
@pytest.mark.parametrize(
    "options", [{}, {"by": "month"}, {"confidence": 0.9, "block": 4}, {"convention": "wb1"}]
)
def test_whatever_xarray_does_with_attributes(forecast, truth, keep, options):
    expected = forecast.wx.verify(truth, ["rmse", "mse", "mnrmse"], **options)
    with xr.set_options(keep_attrs=keep):
        found = forecast.wx.verify(truth, ["rmse", "mse", "mnrmse"], **options)
    xr.testing.assert_identical(found.drop_attrs(deep=False), expected.drop_attrs(deep=False))
    assert found["t2m"].attrs == {
        "standard_name": "air_temperature",
        "metric_units": "rmse: K; mse: K2",
    }


def test_a_store_of_several_starts_is_verified_as_it_opens(truth, tmp_path):
    """Each step is a chunk of its own, the valid times are one for all."""
    known = forecast_of(truth, [3, 9, 20])
    known.chunk(init_time=1, lead_time=1).assign_coords(time=known.time).to_zarr(
        tmp_path / "fc.zarr", consolidated=False
    )
    opened = xr.open_zarr(tmp_path / "fc.zarr", consolidated=False, decode_timedelta=True)
    assert opened.time.chunks != opened.t2m.isel(latitude=0, longitude=0).chunks
    scores = opened.wx.verify(truth, ["rmse", "bias"])
    xr.testing.assert_allclose(scores.compute(), known.wx.verify(truth, ["rmse", "bias"]))


@pytest.mark.parametrize("lazy", [False, True])
def test_with_a_reference_points_that_either_lacks_are_left_out_of_both(forecast, truth, lazy):
    half = forecast.where(forecast.latitude < 0)
    half["t2m"] = half["t2m"].where(half["init_time"] != half["init_time"][1])
    for name in half.data_vars:
        half[name].attrs = forecast[name].attrs
    whole = forecast.chunk(init_time=7) if lazy else forecast
    found = whole.wx.verify(truth, "rmse", reference=half, skipna=True)
    assert (abs(found["t2m_difference"]) < 1e-12).all()
    expected = half.wx.verify(truth, "rmse", skipna=True)
    xr.testing.assert_allclose(found["t2m"], expected["t2m"], rtol=1e-12)
    ahead = half.wx.verify(truth, "rmse", reference=forecast, skipna=True)
    xr.testing.assert_allclose(ahead["t2m"], expected["t2m"], rtol=1e-12)
    assert (abs(ahead["t2m_difference"]) < 1e-12).all()


def test_members_that_are_missing_are_left_out_of_both(ensemble, truth):
    holes = ensemble.where((ensemble.member != 1) | (ensemble.longitude < 90))
    for name in holes.data_vars:
        holes[name].attrs = ensemble[name].attrs
    found = ensemble.wx.verify(truth, "crps", reference=holes, skipna=True)
    assert (abs(found["t2m_difference"]) < 1e-12).all()


def test_intervals_do_not_depend_on_the_order_of_starts(forecast, truth):
    order = np.random.default_rng(3).permutation(forecast.sizes["init_time"])
    options = {"confidence": 0.9, "block": 5}
    found = forecast.isel(init_time=order).wx.verify(truth, "rmse", **options)
    expected = forecast.wx.verify(truth, "rmse", **options)
    xr.testing.assert_allclose(found["t2m_interval"], expected["t2m_interval"], rtol=1e-12)


def test_a_reference_in_a_calendar_of_its_own(forecast, truth):
    ours, exact = (
        ds.convert_calendar("noleap", dim=dim, use_cftime=True)
        for ds, dim in ((forecast.drop_vars("time"), "init_time"), (truth, "time"))
    )
    found = ours.wx.verify(exact, "rmse", reference=ours)
    assert (found["t2m_difference"] == 0).all()


def test_a_climatology_without_the_days_that_are_needed(forecast, truth):
    some = climatology(truth, period=(TIMES[0], TIMES[40]))
    late = forecast.isel(init_time=slice(-3, None))
    with pytest.raises(MismatchError, match="it has no samples for day"):
        late.wx.verify(truth, "acc", climatology=some, climatology_overlap=True)


def test_a_climatology_along_something_else(forecast, truth):
    season = truth.groupby("time.season").mean(keep_attrs=True)
    season = xr.concat([season, season], "season") if season.sizes["season"] == 1 else season
    with pytest.raises(MismatchError, match="values along 'season'; a climatology runs along day"):
        forecast.wx.verify(truth, "acc", climatology=season)


def test_a_climatology_without_the_statistics_of_seeps(forecast, truth):
    with pytest.raises(MismatchError, match="ends in '_seeps_dry_fraction', as SEEPS needs"):
        forecast.wx.verify(truth, "seeps", climatology=truth.isel(time=0, drop=True))


def test_masks_in_any_order(forecast, truth):
    mask = truth["t2m"].isel(time=0, drop=True) > 280
    expected = forecast.wx.verify(truth, regions={"warm": mask})
    turned = mask.isel(latitude=slice(None, None, -1)).roll(longitude=3, roll_coords=True)
    turned = turned.assign_coords(longitude=(turned.longitude + 180) % 360 - 180).transpose()
    xr.testing.assert_allclose(forecast.wx.verify(truth, regions={"warm": turned}), expected)
    bare = mask.drop_vars(["latitude", "longitude"])
    xr.testing.assert_allclose(forecast.wx.verify(truth, regions={"warm": bare}), expected)
    with pytest.raises(MismatchError, match=r"mask = mask.isel\(when=0\)"):
        forecast.wx.verify(truth, regions={"warm": mask.expand_dims(when=2)})


def test_times_of_another_kind_have_a_remedy_that_works(forecast, truth):
    other = truth.convert_calendar("standard", use_cftime=True)
    with pytest.raises(
        MismatchError, match=r'convert_calendar\("proleptic_gregorian", use_cftime=F'
    ):
        forecast.wx.verify(other)
    mended = other.convert_calendar("proleptic_gregorian", use_cftime=False)
    xr.testing.assert_allclose(forecast.wx.verify(mended), forecast.wx.verify(truth))
