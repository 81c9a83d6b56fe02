"""Starts, lead times and valid times, in every layout that forecasts come in."""

import cftime
import numpy as np
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.tasks.timeline import timeline_of, valid_index

STARTS = np.array(["2020-02-27T00", "2020-02-28T12", "2020-03-01T00"], "M8[ns]")
LEADS = np.array([6, 24, 72], "timedelta64[h]").astype("m8[ns]")
VALID = STARTS[:, None] + LEADS


def forecast(**coords):
    """Two-dimensional layout: starts and leads."""
    ds = xr.Dataset({"x": (("init_time", "lead_time", "lat", "lon"), np.zeros((3, 3, 2, 4)))})
    return ds.assign_coords(
        {
            "init_time": STARTS,
            "lead_time": LEADS,
            "lat": ("lat", [30.0, -30.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 90.0, 180.0, 270.0], {"units": "degrees_east"}),
            **coords,
        }
    )


def one_start():
    """Valid times along ``time``, lead times beside them, a scalar start."""
    ds = forecast(time=(("init_time", "lead_time"), VALID)).isel(init_time=1)
    return ds.swap_dims(lead_time="time")


def hours(ds, units="hours", per=1.0):
    dim = ds.lead_time.dims
    return ds.assign_coords(lead_time=(dim, np.array([6, 24, 72]) / per, {"units": units}))


TABLE = {
    "plain": (forecast(), VALID),
    "with a valid time": (forecast(time=(("init_time", "lead_time"), VALID)), VALID),
    "valid time turned": (forecast(time=(("lead_time", "init_time"), VALID.T)), VALID),
    "hours": (hours(forecast()), VALID),
    "days": (hours(forecast(), "days", 24), VALID),
    "seconds": (forecast(init_time=STARTS.astype("M8[s]")), VALID),
    "as WeatherBench": (
        forecast().rename(init_time="time", lead_time="prediction_timedelta"),
        VALID,
    ),
    "starts named by metadata": (
        forecast()
        .rename(init_time="begun")
        .assign_coords(begun=("begun", STARTS, {"standard_name": "forecast_reference_time"})),
        VALID,
    ),
    "dimensions without coordinates": (
        forecast()
        .rename_dims(init_time="i", lead_time="j")
        .reset_index(["init_time", "lead_time"]),
        VALID,
    ),
    "turned": (forecast().transpose("lon", "lead_time", "lat", "init_time"), VALID),
    "one start": (one_start(), VALID[1:2]),
    "one start, unnamed": (one_start().drop_vars("init_time"), VALID[1:2]),
    "one start, hours": (hours(one_start()), VALID[1:2]),
    "one start, leads": (forecast().isel(init_time=1), VALID[1:2]),
    "one lead": (forecast().isel(lead_time=2), VALID[:, 2:]),
    "one lead, with its valid time": (
        forecast(time=(("init_time", "lead_time"), VALID)).isel(lead_time=2),
        VALID[:, 2:],
    ),
    "one lead, along time": (
        forecast(time=(("init_time", "lead_time"), VALID))
        .isel(lead_time=2)
        .swap_dims(init_time="time"),
        VALID[:, 2:],
    ),
    "one of both": (forecast().isel(init_time=1, lead_time=2), VALID[1:2, 2:]),
    "valid times of one lead": (
        forecast()
        .isel(lead_time=1)
        .assign_coords(init_time=VALID[:, 1])
        .rename(init_time="valid_time"),
        VALID[:, 1:2],
    ),
    "valid times along a step of length one": (
        forecast()
        .isel(lead_time=[1])
        .assign_coords(init_time=VALID[:, 1])
        .rename(init_time="valid_time", lead_time="step"),
        VALID[:, 1:2],
    ),
    "archive": (
        forecast().isel(lead_time=0, drop=True).rename(init_time="time"),
        STARTS[:, None],
    ),
    "archive, one time": (
        forecast().isel(lead_time=0, init_time=1, drop=True).assign_coords(time=STARTS[1]),
        STARTS[1:2, None],
    ),
}


@pytest.mark.parametrize("layout", TABLE)
def test_layouts(layout):
    ds, valid = TABLE[layout]
    ds = ds.assign(crs=0)  # a variable without dimensions is in many files
    found = timeline_of(ds)
    assert found.valid.dtype.kind == "M"
    assert np.array_equal(found.valid, valid)
    assert (found.ds.sizes[found.start_dim], found.ds.sizes[found.lead_dim]) == valid.shape
    assert {found.start_dim, found.lead_dim} <= set(found.ds["x"].dims)
    assert np.array_equal(found.valid[:, :1] - found.leads_of[:1] + found.leads_of, found.valid)
    assert (found.several, found.leads) == (len(ds.x.dims) - found.leads > 2, found.leads)


@pytest.mark.parametrize("layout", TABLE)
def test_fields_stay_where_they_were(layout):
    ds, _ = TABLE[layout]
    ds = ds.assign(x=ds.x + np.arange(ds.x.size).reshape(ds.x.shape))
    found = timeline_of(ds)
    single = {d: 0 for d in (found.start_dim, found.lead_dim) if d not in ds.x.dims}
    dims = [d for d in ds.x.dims if d in found.ds.x.dims]
    same = found.ds.x.isel({d: n for d, n in single.items() if found.ds.sizes[d] == 1})
    assert np.array_equal(np.sort(same.values.ravel()), ds.x.values.ravel())
    if len(dims) == ds.x.ndim:
        assert np.array_equal(same.transpose(*dims), ds.x)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_calendars(calendar):
    starts = xr.date_range("2020-02-27", periods=3, freq="36h", calendar=calendar, use_cftime=True)
    ds = forecast(init_time=starts.values)
    found = timeline_of(ds)
    begun = cftime.datetime(2020, 2, 27, calendar=calendar)
    after = {"standard": (3, 1), "noleap": (3, 2), "360_day": (2, 30)}[calendar]
    assert found.valid[0, 0] == cftime.datetime(2020, 2, 27, 6, calendar=calendar)
    assert found.valid[0, 2] == cftime.datetime(2020, *after, calendar=calendar)
    assert begun == starts[0]
    one = forecast(time=(("init_time", "lead_time"), found.valid), init_time=starts.values)
    one = timeline_of(one.isel(init_time=1).swap_dims(lead_time="time"))
    assert np.array_equal(one.valid, found.valid[1:2])
    assert one.ds.init_time.values.tolist() == [starts[1]]


def refusal(ds):
    with pytest.raises(MismatchError) as caught:
        timeline_of(ds)
    return caught.value.problems[0].kind, str(caught.value)


def later(name, ds):
    return ds.assign_coords({name: ds[name] + np.timedelta64(1, "h")})


TIMED = forecast(time=(("init_time", "lead_time"), VALID))


@pytest.mark.parametrize(
    ("ds", "name", "said", "held"),
    [
        (later("time", TIMED), "time", "2020-02-27T07:00", "2020-02-27T06:00"),
        (later("init_time", one_start()), "init_time", "2020-02-28T13:00", "2020-02-28T12:00"),
        (later("time", TIMED.isel(init_time=1)), "time", "2020-02-28T19:00", "2020-02-28T18:00"),
        (later("time", TIMED.isel(lead_time=1)), "time", "2020-02-28T01:00", "2020-02-28T00:00"),
        (
            later("time", TIMED.isel(lead_time=1, init_time=1)),
            "time",
            "2020-02-29T13:00",
            "2020-02-29T12:00",
        ),
    ],
)
def test_contradictions(ds, name, said, held):
    kind, text = refusal(ds)
    assert kind == "contradicting-times"
    assert f"'{name}' says {said}" in text
    assert f"is {held}" in text
    assert f'ds = ds.drop_vars("{name}")' in text


def test_mixed_starts():
    ds = one_start().drop_vars("init_time")
    ds = ds.assign_coords(lead_time=("time", LEADS[[0, 0, 0]]))
    kind, text = refusal(ds)
    assert kind == "mixed-starts"
    assert "began at 3 times, 2020-02-28T12:00 to 2020-03-02T06:00" in text


@pytest.mark.parametrize(
    ("ds", "kind", "answer"),
    [
        (forecast().drop_vars(["init_time", "lead_time"]), "missing-time", "no coordinate holds"),
        (forecast().drop_vars("init_time"), "missing-start", "expand_dims(init_time=[when])"),
        (forecast().isel(init_time=slice(0)), "zero-length", "init_time: it has length 0"),
        (forecast().isel(lead_time=slice(0)), "zero-length", "lead_time: it has length 0"),
        (one_start().isel(time=slice(0)), "zero-length", "time: it has length 0"),
        (TABLE["archive"][0].isel(time=slice(0)), "zero-length", "time: it has length 0"),
        (forecast().isel(init_time=[0, 0, 1]), "duplicated-time", "1 of its 3 values"),
        (forecast().isel(lead_time=[0, 0, 0]), "duplicated-time", 'drop_duplicates("lead_time")'),
    ],
)
def test_other_refusals(ds, kind, answer):
    found, text = refusal(ds)
    assert found == kind
    assert answer in text


def test_positions():
    wanted = np.array([VALID[1], VALID[0]])
    assert valid_index(STARTS, wanted).tolist() == [[-1, -1, -1], [-1, -1, 2]]
    assert valid_index(VALID.ravel(), wanted).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert valid_index(VALID.ravel().astype("M8[s]"), wanted).tolist() == [[3, 4, 5], [0, 1, 2]]
    dates = xr.date_range("2020-02-27", periods=9, freq="6h", calendar="noleap", use_cftime=True)
    assert valid_index(dates.values, dates.values[[4, 2]]).tolist() == [4, 2]
    assert valid_index(dates.values, wanted).tolist() == [[-1] * 3] * 2
    other = xr.date_range("2020-02-27", periods=9, freq="6h", calendar="360_day", use_cftime=True)
    assert valid_index(dates.values, other.values).tolist() == [-1] * 9
