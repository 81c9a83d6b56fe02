"""Climatologies against xarray's groupby and loops over samples; their entries by valid time."""

from __future__ import annotations

import itertools

import cftime
import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.metrics.almanac import at_valid_times, check_apart
from xwx.metrics.climatology import climatology

LAT = [60.0, 0.0, -45.0]


def archive(first="2015-01-01", last="2017-12-31T12", step="12h", calendar=None, dtype="float64"):
    """Return random states in an odd layout: level before time."""
    if calendar is None:
        times = np.array(pd.date_range(first, last, freq=step))
    else:
        times = xr.date_range(first, last, freq=step, calendar=calendar, use_cftime=True).values
    rng = np.random.default_rng(3)
    data = rng.normal(280.0, 5.0, (2, len(times), 3, 4)).astype(dtype)
    return xr.Dataset(
        {
            "t": (("level", "time", "lat", "lon"), data, {"units": "K", "long_name": "warmth"}),
            "lsm": (("lat", "lon"), np.eye(3, 4)),
        },
        {
            "level": ("level", [850, 500], {"units": "hPa"}),
            "time": times,
            "lat": ("lat", LAT, {"units": "degrees_north"}),
            "lon": np.arange(4.0),
            "season": ("time", np.zeros(len(times))),
        },
        {"title": "odd"},
    )


def samples(ds, day, hour, window=1, days=366):
    """Return the samples of t that count for a day and hour, one by one."""
    out = []
    rows = zip(ds.time.dt.dayofyear.values, ds.time.dt.hour.values, strict=True)
    for index, (sample_day, sample_hour) in enumerate(rows):
        apart = abs(int(sample_day) - day)
        if min(apart, days - apart) <= window // 2 and sample_hour == hour:
            out.append(ds.t.values[:, index])
    return np.array(out)


@pytest.fixture(scope="module")
def ds():
    return archive()


def test_the_mean_is_that_of_xarrays_groupby(ds):
    clim = climatology(ds)
    assert clim.t.dims == ("level", "dayofyear", "hour", "lat", "lon")
    assert clim.t.attrs == ds.t.attrs
    assert clim.attrs == {
        "title": "odd",
        "xwx_climatology_period": "2015-01-01T00 .. 2017-12-31T12",
        "xwx_climatology_window": 1,
        "xwx_climatology_years": 3,
    }
    xr.testing.assert_identical(clim.lsm, ds.lsm)
    for name in ("level", "lat", "lon"):
        xr.testing.assert_identical(clim[name], ds[name])
    assert set(clim.coords) == {"level", "lat", "lon", "dayofyear", "hour"}
    np.testing.assert_array_equal(clim.dayofyear, np.arange(1, 367))
    np.testing.assert_array_equal(clim.hour, [0, 12])
    for hour in (0, 12):
        theirs = ds.t[:, ds.time.dt.hour == hour].groupby("time.dayofyear").mean()
        theirs = theirs.transpose("level", "dayofyear", "lat", "lon")
        np.testing.assert_allclose(clim.t.sel(hour=hour), theirs, rtol=1e-12)


@pytest.mark.parametrize("backing", ["numpy", "dask"])
@pytest.mark.parametrize("window", [1, 5])
def test_mean_std_and_quantiles_are_those_of_a_loop(ds, window, backing):
    data = ds.chunk(time=101, lat=2) if backing == "dask" else ds
    clim = climatology(
        data, statistics=("mean", "std", "quantile"), quantiles=(0.1, 0.75), window=window
    ).compute()
    for day, hour in itertools.product((1, 2, 60, 180, 364, 365, 366), (0, 12)):
        found = samples(ds, day, hour, window)
        one = clim.sel(dayofyear=day, hour=hour)
        np.testing.assert_allclose(one.t, found.mean(0), rtol=1e-12)
        spread = found.std(0, ddof=1) if len(found) > 1 else np.full((2, 3, 4), np.nan)
        np.testing.assert_allclose(one.t_std, spread, rtol=1e-11)
        np.testing.assert_allclose(one.t_quantile, np.quantile(found, (0.1, 0.75), 0), rtol=1e-12)
    assert clim.t_quantile.dims == ("quantile", "level", "dayofyear", "hour", "lat", "lon")
    assert clim.t_std.dims == clim.t.dims


def test_day_366_without_a_leap_year_is_day_365_and_other_days_are_nan():
    ds = archive("2017-01-01", "2018-12-31T12").isel(time=slice(2, None))
    ds = ds.isel(time=ds.time.dt.dayofyear.values != 100)
    clim = climatology(ds, statistics=("mean", "std", "quantile"), quantiles=(0.5,))
    for name in ("t", "t_std", "t_quantile"):
        xr.testing.assert_equal(
            clim[name].sel(dayofyear=366, drop=True), clim[name].sel(dayofyear=365, drop=True)
        )
        assert bool(clim[name].sel(dayofyear=365).notnull().all())
        assert bool(clim[name].sel(dayofyear=100).isnull().all())
    np.testing.assert_array_equal(clim.t.sel(dayofyear=1, hour=0), ds.t.sel(time="2018-01-01T00"))
    assert bool(clim.t_std.sel(dayofyear=1).isnull().all())  # of one sample
    lazy = climatology(ds.chunk(time=50), statistics=("mean", "std"))
    xr.testing.assert_allclose(lazy.compute(), clim[["t", "t_std", "lsm"]], rtol=1e-12)


@pytest.mark.parametrize(("calendar", "days"), [("noleap", 365), ("360_day", 360)])
def test_calendars_of_models(calendar, days):
    ds = archive("2001-01-01", "2003-12-30", "24h", calendar)
    clim = climatology(ds, window=3)
    assert clim.sizes["dayofyear"] == days
    assert clim.attrs["xwx_climatology_period"] == "2001-01-01T00 .. 2003-12-30T00"
    for day in (1, 59, 60, days):
        found = samples(ds, day, 0, 3, days)
        assert len(found) in (8, 9)
        np.testing.assert_allclose(clim.t.sel(dayofyear=day, hour=0), found.mean(0), rtol=1e-12)
    valid = np.array([cftime.datetime(2010, 3, 1, calendar=calendar)])
    row = 60 if calendar == "noleap" else 61
    found = at_valid_times(clim, valid).t.isel(case=0)
    np.testing.assert_array_equal(found, clim.t.sel(dayofyear=row, hour=0))


def test_the_period_and_the_hours_are_as_asked(ds):
    some = climatology(ds, period=("2016", "2016"), hours=(12,))
    assert some.attrs["xwx_climatology_period"] == "2016-01-01T12 .. 2016-12-31T12"
    assert some.attrs["xwx_climatology_years"] == 1
    np.testing.assert_array_equal(some.hour, [12])
    year = ds.t.sel(time="2016")
    theirs = year[:, year.time.dt.hour == 12].transpose("level", "time", "lat", "lon")
    np.testing.assert_array_equal(some.t.isel(hour=0), theirs)
    shuffled = ds.isel(time=np.random.default_rng(0).permutation(ds.sizes["time"]))
    for period in (slice("2016", "2016"), (2016, 2016)):
        xr.testing.assert_identical(climatology(shuffled, period=period, hours=(12,)), some)


def test_missing_values_propagate_or_are_skipped(ds):
    holes = ds.copy(deep=True)
    holes.t[0, 3] = np.nan  # 2015-01-02T12
    holes.t[:, :, 2, 3] = np.nan  # a point that never is
    holes.t[1, 0, 1, 1] = np.nan  # the first of a point, that variances would refer to
    for data in (holes, holes.chunk(time=77)):
        plain = climatology(data, statistics=("mean", "std")).compute()
        there = plain.t.isel(lat=slice(2))
        assert int(there.isnull().sum()) == 8 + 1
        assert bool(there.sel(dayofyear=2, hour=12, level=850).isnull().all())
        kept = climatology(
            data, statistics=("mean", "std", "quantile"), quantiles=(0.3,), skipna=True
        ).compute()
        assert bool(kept.t.isel(lat=2, lon=3).isnull().all())
        for day, hour in ((2, 12), (1, 0), (366, 0)):
            found = samples(holes, day, hour)
            found = found[..., :2, :]
            one = kept.isel(lat=slice(2)).sel(dayofyear=day, hour=hour)
            np.testing.assert_allclose(one.t, np.nanmean(found, 0), rtol=1e-12)
            np.testing.assert_allclose(one.t_quantile[0], np.nanquantile(found, 0.3, 0), rtol=1e-12)
            if day != 366:
                np.testing.assert_allclose(one.t_std, np.nanstd(found, 0, ddof=1), rtol=1e-10)


def test_a_large_mean_in_float32_keeps_its_digits():
    ds = archive("1980-01-01", "2019-12-31", "24h")[["t"]]
    exact = 101325.0 + (ds.t - 280) / 50  # a spread of a tenth of a pascal
    single = exact.astype("float32").to_dataset(name="msl")
    clim = climatology(single, statistics=("mean", "std"), window=61)
    assert clim.msl.dtype == clim.msl_std.dtype == np.float32
    double = climatology(single.astype("float64"), statistics=("mean", "std"), window=61)
    np.testing.assert_allclose(clim.msl, double.msl, atol=4e-3, rtol=0)  # half a unit of float32
    held = single.msl.values.astype("float64")
    days = single.time.dt.dayofyear.values
    near = np.minimum(abs(days - 200), 366 - abs(days - 200)) <= 30
    found = held[:, near]
    np.testing.assert_allclose(double.msl.sel(dayofyear=200)[:, 0], found.mean(1), atol=1e-9)
    np.testing.assert_allclose(double.msl_std.sel(dayofyear=200)[:, 0], found.std(1, ddof=1), 1e-9)
    huge = (single.msl.astype("float64") + 1e9).to_dataset(name="x")
    spread = climatology(huge, statistics=("std",), window=61).x_std
    np.testing.assert_allclose(spread, double.msl_std, rtol=1e-5)


def test_integers_give_float64_and_celsius_a_deviation_in_kelvin(ds):
    whole = (ds.t - 273.15).round().astype("int16").to_dataset(name="t")
    whole.t.attrs["units"] = "degC"
    clim = climatology(whole, statistics=("mean", "std"), window=3)
    assert clim.t.dtype == clim.t_std.dtype == np.float64
    assert clim.t.attrs["units"] == "degC"
    assert clim.t_std.attrs["units"] == "K"
    fahrenheit = (whole.t * 1.8 + 32).assign_attrs(units="degF").to_dataset(name="t")
    other = climatology(fahrenheit, statistics=("std",), window=3)
    assert other.t_std.attrs["units"] == "K"
    np.testing.assert_allclose(other.t_std, clim.t_std, rtol=1e-9)


def test_quantities_stay_quantities(ds):
    held = ds.pint.quantify()
    clim = climatology(held, statistics=("mean", "std"), window=3)
    assert str(clim.t.pint.units) == "kelvin"
    plain = climatology(ds, statistics=("mean", "std"), window=3)
    np.testing.assert_array_equal(clim.t.pint.magnitude, plain.t.values)
    np.testing.assert_array_equal(clim.t_std.pint.magnitude, plain.t_std.values)


def counted(ds, chunks):
    """Return a dask archive, the number of times that each chunk was loaded."""
    loads = {}

    def load(block, block_info=None):
        where = tuple(block_info[0]["chunk-location"])
        loads[where] = loads.get(where, 0) + 1
        return block

    source = dask.array.from_array(ds.t.values, chunks=chunks)
    made = source.map_blocks(load, dtype=source.dtype, meta=source._meta)
    return ds.assign(t=ds.t.copy(data=made)), loads


@pytest.mark.parametrize("length", [29, 365, 2000])
@pytest.mark.parametrize("statistics", [("mean",), ("mean", "std")])
def test_dask_is_lazy_and_loads_each_chunk_once(ds, length, statistics):
    some = ds.isel(time=slice(None, 1500))
    lazy, loads = counted(some, (1, length, 3, 2))
    clim = climatology(lazy, statistics=statistics, window=3)
    assert not loads
    out = clim.compute(scheduler="threads", num_workers=3)
    assert len(loads) == 2 * -(-1500 // length) * 2
    assert set(loads.values()) == {1}
    xr.testing.assert_allclose(out, climatology(some, statistics=statistics, window=3), rtol=1e-12)
    lazy, loads = counted(some, (1, length, 3, 2))
    climatology(lazy, period=("2016", "2016"), statistics=statistics).compute()
    assert max(where[1] for where in loads) == min((730 + 731) // length, -(-1500 // length) - 1)
    assert min(where[1] for where in loads) == 730 // length


def test_what_dask_holds_is_not_written_to():
    from xwx.metrics.archive import _fold

    held, of = np.ones((1, 3, 2)), np.array([2, -1])
    after = _fold(held, np.full((2, 2), 5.0), of, None, shape=held.shape, skipna=False)
    np.testing.assert_array_equal(held, 1.0)
    np.testing.assert_array_equal(after[0], [[1, 1], [1, 1], [6, 6]])


def test_chunks_of_a_single_time(ds):
    some = ds.isel(time=slice(1400, 1500), level=[0])  # over the end of a leap year
    lazy, loads = counted(some, (1, 1, 3, 4))
    clim = climatology(lazy, statistics=("mean", "std")).compute()
    assert len(loads) == 100
    assert set(loads.values()) == {1}
    xr.testing.assert_allclose(clim, climatology(some, statistics=("mean", "std")), rtol=1e-12)


def test_quantiles_are_lazy_too(ds):
    lazy, loads = counted(ds, (1, 100, 3, 2))
    clim = climatology(lazy, statistics=("quantile",), quantiles=(0.5,), hours=(0,))
    assert not loads
    assert clim.t_quantile.chunks is not None


def test_a_file_is_read_in_blocks_of_time(ds, tmp_path, monkeypatch):
    import xwx.metrics.archive as passes

    ds.drop_vars("season").to_netcdf(tmp_path / "x.nc", engine="netcdf4")
    sizes = []
    real = passes.magnitudes
    monkeypatch.setattr(passes, "magnitudes", lambda v: sizes.append(v.size) or real(v))
    monkeypatch.setattr(passes, "BLOCK", 8 * 24 * 50)
    settings = {"statistics": ("mean", "std", "quantile"), "quantiles": (0.2,), "window": 3}
    with xr.open_dataset(tmp_path / "x.nc", engine="netcdf4") as opened:
        clim = climatology(opened, **settings)
        assert not opened.t.variable._in_memory
    assert max(sizes) <= 24 * 100
    assert len(sizes) > 40
    sizes.clear()
    monkeypatch.undo()
    xr.testing.assert_allclose(clim, climatology(ds, **settings), rtol=1e-12)


def refusal(call, *args, **kwargs):
    with pytest.raises(MismatchError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_what_does_not_serve_is_refused_with_a_remedy(ds):
    assert "hour 6" in (said := refusal(climatology, ds, hours=(0, 6)))
    assert "hours=(0, 12)" in said
    said = refusal(climatology, ds, period=("1990", "1995"))
    assert "2015-01-01T00 .. 2017-12-31T12" in said
    assert "no time is within period=('1990', '1995')" in said
    off = ds.assign_coords(time=ds.time + np.timedelta64(30, "m"))
    assert '.dt.floor("h")' in refusal(climatology, off)
    twice = xr.concat([ds, ds.isel(time=[0])], "time", data_vars="minimal")
    assert "drop_duplicates" in refusal(climatology, twice)
    assert "decode_cf" in refusal(
        climatology,
        ds.assign_coords(time=("time", np.arange(ds.sizes["time"]), {"units": "h since 2"})),
    )
    assert "single time" in refusal(climatology, ds.isel(time=0))
    words = ds.assign(word=("time", np.full(ds.sizes["time"], "x")))
    assert "ds.drop_vars('word')" in refusal(climatology, words)
    assert "none of the variables t" in refusal(climatology, ds, statistics=("seeps",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 2}, "window=2: give an odd number"),
        ({"window": 367}, "less than 366"),
        ({"statistics": "mean"}, "statistics='mean': give a tuple"),
        ({"statistics": ("median",)}, "median"),
        ({"statistics": ("quantile",)}, "the one needs the other"),
        ({"quantiles": (0.5,)}, "the one needs the other"),
        ({"statistics": ("quantile",), "quantiles": (50,)}, r"fractions within \[0, 1\]"),
        ({"period": ("1993",)}, "the first and the last"),
    ],
)
def test_arguments_that_are_not_understood(ds, arguments, message):
    with pytest.raises(ValueError, match=message):
        climatology(ds, **arguments)


def weatherbench(days=366, hours=(0, 6, 12, 18)):
    """Return a climatology of the form of WeatherBench 2, its hours out of order."""
    hours = np.flip(hours)
    data = 1000.0 * np.asarray(hours)[:, None, None, None] + np.arange(1, days + 1)[:, None, None]
    data = data + np.arange(6).reshape(2, 3) / 10
    return xr.Dataset(
        {
            "z": (("hour", "dayofyear", "lon", "lat"), data, {"units": "m"}),
            "lsm": (("lon", "lat"), np.ones((2, 3))),
        },
        {"hour": hours, "dayofyear": np.arange(1, days + 1), "lat": LAT},
        {"title": "wb2"},
    )


VALID = np.array(
    ["2016-12-31T18", "2017-12-31T00", "2016-02-29T06", "2017-03-01T06", "2016-02-29T06"],
    dtype="datetime64[ns]",
)
DAYS, HOURS = (366, 365, 60, 60, 60), (18, 0, 6, 6, 6)


@pytest.mark.parametrize("chunks", [None, {}, {"dayofyear": 50, "hour": 1, "lat": 2}])
@pytest.mark.parametrize("turned", [False, True])
def test_entries_are_those_of_the_day_and_the_hour(chunks, turned):
    clim = weatherbench()
    if turned:
        clim = clim.transpose("lat", "dayofyear", "lon", "hour")
    lazy = clim if chunks is None else clim.chunk(chunks)
    found = at_valid_times(lazy, VALID)
    assert (found.z.chunks is None) == (chunks is None)
    assert found.z.dims == (("lat", "case", "lon") if turned else ("case", "lon", "lat"))
    assert set(found.coords) == {"lat"}
    xr.testing.assert_identical(found.lsm.compute(), clim.lsm)
    assert (found.attrs, found.z.attrs) == ({"title": "wb2"}, {"units": "m"})
    for case, (day, hour) in enumerate(zip(DAYS, HOURS, strict=True)):
        for lon, lat in itertools.product(range(2), range(3)):
            value = 1000.0 * hour + day + (3 * lon + lat) / 10
            assert float(found.z.isel(case=case, lon=lon, lat=lat)) == value


def test_365_days_serve_leap_years_too():
    found = at_valid_times(weatherbench(365), VALID[:2], dim="valid").z
    np.testing.assert_array_equal(found.isel(lon=0, lat=0), [18365.0, 365.0])
    assert found.dims[0] == "valid"


def test_other_forms(ds):
    full = weatherbench()
    by_day = full.isel(hour=0, drop=True)
    np.testing.assert_array_equal(at_valid_times(by_day, VALID).z[:, 0, 0] - 18000, DAYS)
    by_hour = full.isel(dayofyear=0, drop=True)
    np.testing.assert_array_equal(
        at_valid_times(by_hour, VALID).z[:, 0, 0], np.array(HOURS) * 1e3 + 1
    )
    month = ds.groupby("time.month").mean()
    found = at_valid_times(month, VALID).t.transpose("case", ...)
    np.testing.assert_array_equal(
        found, month.t.sel(month=xr.DataArray([12, 12, 2, 3, 2], dims="c")).transpose("c", ...)
    )
    daily = ds.groupby("time.dayofyear").mean()
    found = at_valid_times(daily, VALID).t.transpose("case", ...)
    np.testing.assert_array_equal(found[2], daily.t.sel(dayofyear=60))
    xr.testing.assert_identical(at_valid_times(ds[["lsm"]], VALID).lsm, ds.lsm)
    empty = at_valid_times(full, VALID[:0])
    assert empty.z.shape == (0, 2, 3)


def test_cftime_valid_times():
    valid = np.array([cftime.DatetimeNoLeap(2016, 3, 1, 6), cftime.DatetimeNoLeap(2016, 12, 31)])
    found = at_valid_times(weatherbench(), valid).z[:, 0, 0]
    np.testing.assert_array_equal(found, [6060.0, 365.0])


def test_only_the_chunks_that_are_wanted_are_read():
    clim = weatherbench()
    seen = []

    def load(block, block_info=None):
        seen.append(tuple(block_info[0]["chunk-location"]))
        return block

    source = dask.array.from_array(clim.z.values, chunks=(1, 20, 2, 3))
    made = source.map_blocks(load, dtype=source.dtype, meta=source._meta)
    found = at_valid_times(clim.assign(z=clim.z.copy(data=made)), VALID)
    assert not seen
    found.compute()
    hours = list(clim.hour.values)
    wanted = {(hours.index(h), (d - 1) // 20, 0, 0) for d, h in zip(DAYS, HOURS, strict=True)}
    assert sorted(seen) == sorted(wanted)


def test_a_file_stays_closed_until_it_is_needed(tmp_path):
    clim = weatherbench()
    clim.to_netcdf(tmp_path / "c.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "c.nc", engine="netcdf4") as opened:
        found = at_valid_times(opened, VALID)
        assert not found.z.variable._in_memory
        part = found.isel(case=slice(1, 3))
        assert not part.z.variable._in_memory
        xr.testing.assert_identical(
            part.load().drop_encoding(), at_valid_times(clim, VALID).isel(case=slice(1, 3))
        )


def test_entries_that_a_climatology_lacks(ds):
    clim = weatherbench(hours=(0, 12))
    said = refusal(at_valid_times, clim, VALID)
    assert "valid times are at hour 6, 18, the climatology has hours 0, 12" in said
    assert 'clim.mean("hour")' in said
    assert "clim.interp(hour=[6, 18])" in said
    assert "hours=(6, 18,)" in said
    winter = weatherbench().isel(dayofyear=slice(0, 59))
    said = refusal(at_valid_times, winter, VALID)
    assert "dayofyear 60, 365, 366 (3 in all), the climatology has 1 to 59 (59 of them)" in said
    assert "xwx.metrics.climatology(clim)" in refusal(at_valid_times, ds, VALID)
    assert "has no coordinate" in refusal(at_valid_times, clim.drop_vars("dayofyear"), VALID)
    both = clim.isel(hour=0, drop=True).expand_dims(month=[1, 2])
    assert 'drop_dims("month")' in refusal(at_valid_times, both, VALID)
    nat = np.append(VALID, np.datetime64("NaT"))
    assert "1 of 6 valid times are NaT" in refusal(at_valid_times, clim, nat)
    with pytest.raises(ValueError, match=r"shape \(1, 5\)"):
        at_valid_times(clim, VALID[None])


def test_a_climatology_of_the_scored_times_is_refused(ds):
    clim = climatology(ds, period=("2015", "2016"))
    said = refusal(check_apart, clim, VALID)
    assert "3 of 5 valid times (2016-02-29T06 .. 2016-12-31T18)" not in said  # 18 is after 12
    assert "2 of 5 valid times (2016-02-29T06 .. 2016-02-29T06)" in said
    assert "2015-01-01T00 .. 2016-12-31T12" in said
    assert "period=(first, last)" in said
    assert "climatology_overlap=True" in said
    check_apart(clim, VALID[:2])
    ends = np.array(["2014-12-31T23", "2016-12-31T13"], "datetime64[ns]")
    check_apart(clim, ends)
    for inside in ("2015-01-01T00", "2016-12-31T12"):
        assert "1 of 1" in refusal(check_apart, clim, np.array([inside], "datetime64[ns]"))
    check_apart(weatherbench(), VALID)
    check_apart(clim, VALID[:0])
    model = np.array([cftime.DatetimeNoLeap(2016, 5, 1)])
    assert "1 of 1 valid times (2016-05-01T00" in refusal(check_apart, clim, model)
    said = refusal(check_apart, clim.assign_attrs(xwx_climatology_period="1990-2010"), VALID)
    assert "'1990-2010' does not say" in said
