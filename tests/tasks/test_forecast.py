"""The main job: what comes back continues what went in, number by number and label by label."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime

import cftime
import numpy as np
import pandas as pd
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import torch
import xarray as xr

import xwx
from xwx.errors import MismatchError, ModelNotFoundError, XwxError
from xwx.fields import pack
from xwx.models import card as catalogue
from xwx.models import registry
from xwx.models.checkpoint import save_checkpoint
from xwx.models.emformer import EMFormer

EXTRA = ["init_time", "lead_time"]
HOURS = np.timedelta64(1, "h")


def plain(ds, name):
    return np.asarray(getattr(ds[name].data, "magnitude", ds[name].data))


# Presentations of the same states; each takes and gives a Dataset.
def south_first(ds):
    return ds.isel(latitude=slice(None, None, -1))


def west_first(ds):
    ds = ds.roll(longitude=16, roll_coords=True)
    attrs = ds.longitude.attrs
    return ds.assign_coords(longitude=("longitude", (ds.longitude.values + 180) % 360 - 180, attrs))


def levels_in_pascal(ds):
    ds = ds.isel(level=[1, 0])
    return ds.assign_coords(level=("level", ds.level.values * 100, {"units": "Pa"}))


def transposed(ds):
    return ds.transpose("longitude", "level", "latitude", "time")


def in_float64(ds):
    return ds.astype("float64")


def renamed(ds):
    ds = ds.rename(
        time="valid_time", level="plev", latitude="lat", longitude="lon",
        z="geopotential", t="ta", t2m="tas", msl="psl",
    )  # fmt: skip
    return ds.assign_attrs(Conventions="CF-1.8")


def one_member(ds):
    return ds.expand_dims(number=[3], axis=1).transpose("time", "number", ...)


def with_coordinates(ds):
    area = np.arange(32.0 * 16).reshape(32, 16)
    return ds.assign_coords(
        expver="0001", cell_area=(("longitude", "latitude"), area, {"units": "m2"})
    )


LAYOUTS = [
    lambda ds: ds, south_first, west_first, levels_in_pascal, transposed, in_float64, renamed,
    one_member, with_coordinates,
    lambda ds: renamed(in_float64(west_first(transposed(south_first(levels_in_pascal(ds)))))),
]  # fmt: skip
NAMES = [getattr(f, "__name__", "").strip("<>") for f in LAYOUTS]
NAMES[0], NAMES[-1] = "canonical", "everything"


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
def test_a_forecast_continues_the_dataset(worlds, layout, history):
    """Concatenated, they are the Dataset that holds all the states, to the last bit."""
    ds = layout(worlds.dataset(5))
    fc = ds.wx.forecast(worlds.toy(history), steps=3)
    time = "valid_time" if "valid_time" in ds.dims else "time"
    assert fc.sizes[time] == 3
    whole = xr.concat([ds, fc.drop_vars(EXTRA)], time)
    wanted = layout(worlds.dataset(5, 3, history))
    history_attr = fc.attrs["history"].splitlines()
    assert history_attr[0] == ds.attrs["history"]
    worlds.identical(whole, wanted)
    for name in ds.variables:
        assert fc[name].encoding == ds[name].encoding, name
        assert fc[name].attrs == ds[name].attrs, name
        assert fc[name].dims == ds[name].dims, name
    assert set(fc.variables) - set(ds.variables) == set(EXTRA)
    assert set(fc.xindexes) == set(ds.xindexes)
    assert fc.indexes[time].equals(pd.DatetimeIndex(wanted[time].values[5:]))


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=NAMES[1:])
def test_the_numbers_of_a_transformer_do_not_depend_on_the_layout(worlds, layout):
    model = worlds.emformer(history=2, forcings=("sin_local_time", "cos_year"))
    ds = worlds.dataset(4)
    wanted = layout(ds.wx.forecast(model, steps=2).drop_vars(EXTRA))
    xr.testing.assert_identical(
        layout(ds).wx.forecast(model, steps=2).drop_vars(EXTRA).drop_attrs(), wanted.drop_attrs()
    )
    assert not np.array_equal(
        wanted.to_array().values,
        layout(ds)
        .isel({d: [-1, -1] for d in ("time", "valid_time") if d in wanted.dims})
        .to_array()
        .values,
    )


def test_lead_and_initial_time(worlds):
    fc = worlds.dataset(5).wx.forecast(worlds.toy(), steps=3)
    assert fc.lead_time.dims == ("time",)
    assert (fc.lead_time.values / HOURS).tolist() == [6, 12, 18]
    assert fc.lead_time.dtype == "timedelta64[ns]"
    assert fc.lead_time.attrs["standard_name"] == "forecast_period"
    assert fc.init_time.dims == ()
    assert fc.init_time.values == np.datetime64("2026-01-31T00")
    assert fc.init_time.attrs["standard_name"] == "forecast_reference_time"
    np.testing.assert_array_equal(fc.time.values, fc.init_time.values + fc.lead_time.values)
    assert "units" not in fc.lead_time.attrs


def test_history_of_two_needs_the_one_before(worlds):
    ds = worlds.dataset(5)
    whole = ds.wx.forecast(worlds.toy(2), steps=2, start=ds.time[3])
    other = ds.copy(deep=True)
    other["msl"][:2] = 1.0  # too long ago to matter
    xr.testing.assert_equal(other.wx.forecast(worlds.toy(2), steps=2, start=ds.time[3]), whole)
    other["msl"][2] = 1.0
    assert (other.wx.forecast(worlds.toy(2), steps=2, start=ds.time[3]).msl != whole.msl).any()


def test_a_forcing_is_that_of_the_latest_state(worlds):
    """The toy adds sin(local time), which at longitude 0 and 00, 06, 12, 18 UTC is 0, 1, 0, -1."""
    model = worlds.toy(forcings=("sin_local_time",))
    ds = worlds.labelled(np.zeros((2, 6, 16, 32), "float32"), worlds.times(2, "2026-01-30T00"))
    fc = ds.wx.forecast(model, steps=2)  # starts at 06 UTC
    angle = 2 * np.pi * (6 / 24 + worlds.GRID.columns / 360)
    first = np.broadcast_to(np.sin(angle).astype("float32"), (16, 32))
    np.testing.assert_allclose(fc.msl[0], first, rtol=0, atol=2e-7)
    second = worlds.advance(first, first) + np.sin(angle + np.pi / 2).astype("float32")
    np.testing.assert_allclose(fc.msl[1], second, rtol=0, atol=4e-7)


@pytest.mark.parametrize("start", ["list", "slice", "array", "coordinate", "tuple", "index"])
def test_several_starts_are_the_single_ones_side_by_side(worlds, start):
    ds = transposed(west_first(worlds.dataset(6)))
    model = worlds.emformer(2)
    chosen = ds.time.values[2:5]
    given = {
        "list": list(chosen),
        "slice": slice(chosen[0], chosen[-1]),
        "array": chosen,
        "coordinate": ds.time[2:5],
        "tuple": tuple(map(str, chosen)),
        "index": pd.DatetimeIndex(chosen),
    }[start]
    fc = ds.wx.forecast(model, steps=2, start=given)
    assert fc.msl.dims == ("longitude", "latitude", "init_time", "lead_time")
    assert fc.time.dims == ("init_time", "lead_time")
    assert dict(fc.time.attrs) == dict(ds.time.attrs)
    np.testing.assert_array_equal(fc.init_time.values, chosen)
    assert (fc.lead_time.values / HOURS).tolist() == [6, 12]
    np.testing.assert_array_equal(fc.time.values, (fc.init_time + fc.lead_time).values)
    assert set(fc.xindexes) == {"init_time", "lead_time", "latitude", "longitude", "level"}
    assert list(fc.data_vars) == list(ds.data_vars)
    for number, time in enumerate(chosen):
        one = ds.wx.forecast(model, steps=2, start=time)
        part = fc.isel(init_time=number).swap_dims(lead_time="time")
        for name in one.data_vars:
            xr.testing.assert_identical(part[name].variable, one[name].variable)
        for name in one.coords:
            np.testing.assert_array_equal(part[name].values, one[name].values)


def test_starts_come_back_in_the_order_given(worlds):
    ds = worlds.dataset(5)
    fc = ds.wx.forecast(worlds.toy(), steps=1, start=[ds.time.values[3], ds.time.values[1]])
    np.testing.assert_array_equal(fc.init_time.values, ds.time.values[[3, 1]])
    states = worlds.states(5)
    for number, position in enumerate((3, 1)):
        wanted = worlds.advance(states[position], states[position])[1]
        np.testing.assert_array_equal(fc.msl[number, 0], wanted)


def test_a_list_of_one_keeps_the_dimensions(worlds):
    ds = worlds.dataset(3)
    fc = ds.wx.forecast(worlds.toy(), steps=2, start=[ds.time.values[1]])
    assert dict(fc.msl.sizes) == {"init_time": 1, "lead_time": 2, "latitude": 16, "longitude": 32}
    one = ds.wx.forecast(worlds.toy(), steps=2, start=ds.time.values[1])
    np.testing.assert_array_equal(fc.msl.values[0], one.msl.values)


@pytest.mark.parametrize(
    "start",
    [
        "2026-01-30T06", "2026-01-30 06:00", np.datetime64("2026-01-30T06"),
        np.datetime64("2026-01-30T06", "ns"), np.array("2026-01-30T06", "datetime64[s]"),
        datetime(2026, 1, 30, 6), pd.Timestamp("2026-01-30T06"),
        xr.DataArray(np.datetime64("2026-01-30T06", "ns")),
    ],
    ids=lambda s: f"{type(s).__name__}-{s}",
)  # fmt: skip
def test_words_for_a_start(worlds, start):
    ds = worlds.dataset(4)
    fc = ds.wx.forecast(worlds.toy(), steps=2, start=start)
    assert fc.init_time.values == ds.time.values[1]
    worlds.identical(
        fc.drop_vars(EXTRA).drop_attrs(),
        worlds.labelled(worlds.followed(worlds.states(2), 2), worlds.times(4))
        .isel(time=[2, 3])
        .drop_attrs(),
    )


def test_a_day_is_its_midnight(worlds):
    fc = worlds.dataset(4).wx.forecast(worlds.toy(), steps=1, start="2026-01-30")
    assert fc.init_time.values == np.datetime64("2026-01-30T00")
    fc = worlds.dataset(4).wx.forecast(worlds.toy(), steps=1, start=date(2026, 1, 30))
    assert fc.init_time.values == np.datetime64("2026-01-30T00")


@pytest.mark.parametrize("start", [0, -1, 2.0, True, [1, 2], np.int64(3), np.array([0]), b"x"])
def test_a_position_is_no_start(worlds, start):
    with pytest.raises(TypeError, match=r"not a time: .*ds\[\"time\"\]\[i\]"):
        worlds.dataset(4).wx.forecast(worlds.toy(), steps=1, start=start)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("2026-01-30T03", "holds no time 2026-01-30T03"),
        ("2030", "'2030' is not a time"),
        ("01/30/2026", "'01/30/2026' is not a time"),
        (slice("01/30/2026", None), "'01/30/2026' is not a time"),
        (["2026-01-30T06", "2026-01-30T07"], "holds no time 2026-01-30T07"),
        (slice("2030", "2031"), "slice 2030 to 2031 holds no time"),
        ([], "list of starts is empty"),
        ("yesterday noon", "'yesterday noon' is not a time"),
        (pd.NaT, "NaT"),
        (np.datetime64("NaT"), "NaT"),
    ],
    ids=str,
)
def test_a_time_that_is_not_there(worlds, start, words):
    with pytest.raises(MismatchError, match=re.escape(words)) as caught:
        worlds.dataset(4).wx.forecast(worlds.toy(), steps=1, start=start)
    (problem,) = caught.value.problems
    assert "4 times from 2026-01-30 00:00:00 to 2026-01-30 18:00:00" in problem.message
    assert 'ds["time"]' in problem.remedy


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("psl", ["psl"]), ("msl", ["psl"]), (["tas"], ["tas"]), (("t2m", "geopotential"),
        ["geopotential", "tas"]), (["ta", "psl"], ["ta", "psl"]), (["msl", "psl"], ["psl"]),
    ],
)  # fmt: skip
def test_a_choice_of_variables(worlds, wanted, names):
    ds = renamed(worlds.dataset(3))
    whole = ds.wx.forecast(worlds.toy(), steps=2)
    part = ds.wx.forecast(worlds.toy(), steps=2, variables=wanted)
    assert set(part.data_vars) == set(names)
    for name in names:
        xr.testing.assert_identical(part[name].variable, whole[name].variable)
    needs_levels = bool({"ta", "geopotential"} & set(names))
    assert ("plev" in part.coords) == needs_levels


@pytest.mark.parametrize("wanted", ["nonsense", ["msl", "nonsense"]])
def test_a_variable_that_the_model_does_not_have(worlds, wanted, tmp_path):
    model = worlds.toy(forward=lambda x, step: pytest.fail("the network ran"))
    for store in (None, tmp_path / "new.zarr"):
        with pytest.raises(MismatchError, match=r"'nonsense'.*psl.*msl"):
            renamed(worlds.dataset(3)).wx.forecast(model, steps=2, variables=wanted, store=store)
    assert not list(tmp_path.iterdir())


def test_no_variables_is_a_mistake(worlds):
    model = worlds.toy(forward=lambda x, step: pytest.fail("the network ran"))
    with pytest.raises((MismatchError, ValueError), match="variables"):
        worlds.dataset(3).wx.forecast(model, steps=2, variables=[])


@pytest.mark.parametrize("steps", [True, False, 2.0, "2", None, np.float32(2), np.True_, [2]])
def test_steps_of_another_type(worlds, steps):
    with pytest.raises(TypeError, match=re.escape(f"steps={steps!r}")):
        worlds.dataset(3).wx.forecast(worlds.toy(), steps=steps)


@pytest.mark.parametrize("steps", [0, -1, np.int64(0)])
def test_steps_below_one(worlds, steps):
    with pytest.raises(ValueError, match=r"steps=.*at least 1"):
        worlds.dataset(3).wx.forecast(worlds.toy(), steps=steps)


@pytest.mark.parametrize("steps", [np.int64(2), np.uint8(2), np.int32(2)])
def test_steps_of_numpy(worlds, steps):
    fc = worlds.dataset(3).wx.forecast(worlds.toy(), steps)
    assert (fc.lead_time.values / HOURS).tolist() == [6, 12]


def noise(x, step):
    return x + torch.randn_like(x)


def test_a_seed_makes_noise_reproducible_and_leaves_yours_alone(worlds):
    ds, model = worlds.dataset(3), worlds.toy(forward=noise)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    a = ds.wx.forecast(model, steps=3, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    b = ds.wx.forecast(model, steps=3, seed=5)
    other = ds.wx.forecast(model, steps=3, seed=6)
    xr.testing.assert_equal(a, b)
    assert (other.msl != a.msl).any()
    assert (a.attrs["xwx_seed"], other.attrs["xwx_seed"]) == (5, 6)
    longer = ds.wx.forecast(model, steps=5, seed=5)  # the stream does not know how long it is
    xr.testing.assert_equal(longer.isel(time=slice(3)), a)


def test_without_a_seed_every_forecast_is_another(worlds):
    ds, model = worlds.dataset(3), worlds.toy(forward=noise)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    a, b = (ds.wx.forecast(model, steps=1) for _ in range(2))
    assert (a.msl != b.msl).any()
    assert torch.equal(torch.get_rng_state(), before)
    again = ds.wx.forecast(model, steps=1, seed=a.attrs["xwx_seed"])  # it was kept
    xr.testing.assert_equal(again, a)


@pytest.mark.parametrize("seed", ["7", 1.5, True, -1])
def test_a_seed_is_a_whole_number(worlds, seed):
    with pytest.raises((TypeError, ValueError), match="seed"):
        worlds.dataset(3).wx.forecast(worlds.toy(), steps=1, seed=seed)


@pytest.mark.parametrize(
    ("argument", "option", "shown"),
    [(True, None, True), (False, True, False), (None, True, True), (None, None, False),
     (None, False, False), (True, False, True)],
)  # fmt: skip
def test_the_progress_bar(worlds, capsys, argument, option, shown):
    with xwx.set_options(progress=option):
        worlds.dataset(3).wx.forecast(worlds.toy(), steps=4, progress=argument)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("4/4" in err and "toy" in err) if shown else err == ""


def test_devices(worlds):
    ds, model = worlds.dataset(3), worlds.emformer()
    xr.testing.assert_equal(
        ds.wx.forecast(model, steps=1, device="cpu"), ds.wx.forecast(model, steps=1)
    )
    if not torch.cuda.is_available():
        with pytest.raises(XwxError, match=r'device="cuda" needs an NVIDIA GPU.*device="cpu"'):
            ds.wx.forecast(model, steps=1, device="cuda")
    with pytest.raises(XwxError, match="device='abacus' is unknown"):
        ds.wx.forecast(model, steps=1, device="abacus")


def spoil(value, step, channel):
    def forward(x, now):
        x = x.clone()
        if now == step:
            x[:, channel, 3, 4] = value
        return x

    return forward


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_that_blows_up(worlds, value):
    model = worlds.toy(forward=spoil(value, 3, 2))
    with pytest.raises(XwxError, match=r"toy gave values that are not finite at step 3 \(18:00:00 "
                       r"after 2026-01-30T12.*\) in z\[500 hPa\]: "):  # fmt: skip
        worlds.dataset(3).wx.forecast(model, steps=5)


def test_what_the_attributes_say(worlds):
    ds = worlds.dataset(3)
    fc = ds.wx.forecast(worlds.toy(), steps=2, seed=3)
    lines = fc.attrs["history"].splitlines()
    assert lines[0] == "made by formula"
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ xwx \S+: forecast of 2 steps of 6:00:00 by toy, "
        r"started at 2026-01-30T12:00:00\S*",
        lines[1],
    )
    assert len(lines) == 2
    assert fc.attrs["title"] == "a small world"
    added = {key: fc.attrs[key] for key in set(fc.attrs) - set(ds.attrs)}
    assert added == {
        "xwx_version": xwx.__version__,
        "xwx_model": "toy",
        "xwx_model_licence": "CC0-1.0",
        "xwx_model_sha256": "ab" * 32,
        "xwx_seed": 3,
        "xwx_cache": 0,
    }
    bare = ds.drop_attrs(deep=False).wx.forecast(worlds.toy(), steps=2)
    assert len(bare.attrs["history"].splitlines()) == 1


@pytest.mark.parametrize("several", [False, True])
def test_the_dataset_is_left_as_it_was(worlds, tmp_path, several):
    ds = transposed(south_first(worlds.dataset(4)))
    ds["msl"].encoding = {"dtype": "int16", "scale_factor": 0.1, "add_offset": 1e5}
    ds.encoding = {"unlimited_dims": {"time"}}
    ds = ds.assign_coords(lead_time=0, init_time=ds.time[0].drop_vars("time"))
    before = ds.copy(deep=True)
    before.encoding = dict(ds.encoding)
    start = list(ds.time.values[:2]) if several else None
    for store in (None, tmp_path / "out.zarr"):
        fc = ds.wx.forecast(worlds.toy(), steps=2, start=start, store=store).load()
        for name in fc.variables:  # nor may changes of the result reach it
            fc[name].attrs["mine"] = 1
            fc[name].encoding["mine"] = 1
        for variable in fc.data_vars.values():
            variable.values[...] = 0
        fc.attrs["mine"] = 1
        worlds.identical(ds, before)
        fc.close()


def test_a_forecast_of_a_forecast(worlds):
    """Two steps after two steps are four steps; init_time and lead_time do not disturb."""
    ds, model = worlds.dataset(4), worlds.toy()
    first = ds.wx.forecast(model, steps=2)
    again = first.wx.forecast(model, steps=2)
    whole = ds.wx.forecast(model, steps=4)
    xr.testing.assert_equal(again.drop_vars(EXTRA), whole.isel(time=[2, 3]).drop_vars(EXTRA))
    assert again.init_time.values == first.time.values[-1]
    assert (again.lead_time.values / HOURS).tolist() == [6, 12]
    assert len(again.attrs["history"].splitlines()) == 3


def test_one_lead_of_several_starts_is_a_dataset_again(worlds):
    """Of a result with init_time and lead_time: one start, along its valid times."""
    ds, model = worlds.dataset(4), worlds.toy()
    several = ds.wx.forecast(model, steps=2, start=list(ds.time.values[1:3]))
    one = several.isel(init_time=1).swap_dims(lead_time="time")
    again = one.wx.forecast(model, steps=1)
    wanted = ds.wx.forecast(model, steps=3, start=ds.time.values[2]).isel(time=[2])
    xr.testing.assert_equal(again.drop_vars(EXTRA), wanted.drop_vars(EXTRA))


def calendar(ds, name):
    kind = {"noleap": cftime.DatetimeNoLeap, "360_day": cftime.Datetime360Day}[name]
    first = kind(2001, 2, 27, 18)
    step = pd.Timedelta("6h").to_pytimedelta()
    when = [first + n * step for n in range(ds.sizes["time"])]
    out = ds.assign_coords(time=("time", when, ds.time.attrs))
    out["time"].encoding = {"units": "days since 1850-01-01", "calendar": name}
    return out


@pytest.mark.parametrize("name", ["noleap", "360_day"])
def test_calendars_without_real_dates(worlds, name):
    ds = calendar(worlds.dataset(4), name)
    whole = xr.concat([ds, ds.wx.forecast(worlds.toy(), steps=5).drop_vars(EXTRA)], "time")
    worlds.identical(whole, calendar(worlds.dataset(4, 5), name))
    assert whole.time.values[5].isoformat() == (
        "2001-03-01T00:00:00" if name == "noleap" else "2001-02-29T00:00:00"
    )
    local = ds.wx.forecast(worlds.toy(forcings=("sin_local_time",)), steps=2)
    real = worlds.labelled(worlds.states(4), worlds.times(4, "2026-01-29T18"))
    same = real.wx.forecast(worlds.toy(forcings=("sin_local_time",)), steps=2)
    np.testing.assert_array_equal(local.z.values, same.z.values)


@pytest.mark.parametrize("name", ["noleap", "360_day"])
def test_starts_in_another_calendar(worlds, name):
    ds = calendar(worlds.dataset(4), name)
    for start in (ds.time.values[1], "2001-02-28T00", ds.time[1], datetime(2001, 2, 28)):
        fc = ds.wx.forecast(worlds.toy(), steps=1, start=start)
        assert fc.init_time.item() == ds.time.values[1]
    fc = ds.wx.forecast(worlds.toy(), steps=2, start=slice("2001-02-28", None))
    assert fc.sizes["init_time"] == 3
    assert fc.time.values[2, 1] == ds.time.values[3] + 2 * pd.Timedelta("6h").to_pytimedelta()
    with pytest.raises(MismatchError, match="holds no time"):
        ds.wx.forecast(worlds.toy(), steps=1, start="2001-02-28T03")
    with pytest.raises((TypeError, MismatchError), match="time"):
        ds.wx.forecast(worlds.toy(), steps=1, start=cftime.DatetimeGregorian(2001, 2, 28))
    if name == "360_day":
        at_the_end = calendar(worlds.dataset(12), name)
        fc = at_the_end.wx.forecast(worlds.toy(), steps=1, start="2001-02-30T00")
        assert fc.init_time.item().isoformat() == "2001-02-30T00:00:00"


@pytest.mark.parametrize("name", ["noleap", "360_day"])
def test_a_model_that_needs_the_date_says_so(worlds, name):
    ds = calendar(worlds.dataset(4), name)
    with pytest.raises(MismatchError, match=f"calendar is '{name}'") as caught:
        ds.wx.forecast(worlds.toy(forcings=("sin_year",)), steps=1)
    assert [p.kind for p in caught.value.problems] == ["calendar"]
    assert "convert_calendar" in caught.value.problems[0].remedy


def test_cftime_of_the_real_calendar_counts_as_real(worlds):
    ds = worlds.dataset(4)
    when = xr.date_range("2026-01-30", periods=4, freq="6h", calendar="standard", use_cftime=True)
    other = ds.assign_coords(time=("time", when, ds.time.attrs))
    model = worlds.toy(forcings=("cos_year",))
    a, b = ds.wx.forecast(model, steps=2), other.wx.forecast(model, steps=2)
    np.testing.assert_array_equal(a.z.values, b.z.values)
    assert b.time.values[-1] == cftime.DatetimeGregorian(2026, 1, 31, 6)


def quantified(ds):
    held = ds.pint.quantify(dict.fromkeys(ds.coords))
    for name in ds.coords:  # pint-xarray takes the units off these too
        held[name].attrs = ds[name].attrs
    return held


def test_quantified_in_quantified_out(worlds):
    ds = quantified(worlds.dataset(4))
    fc = ds.wx.forecast(worlds.toy(), steps=2)
    whole = xr.concat([ds, fc.drop_vars(EXTRA)], "time")
    wanted = quantified(worlds.dataset(4, 2))
    for name in ("z", "t", "t2m", "msl"):
        assert whole[name].data.units == wanted[name].data.units
        np.testing.assert_array_equal(plain(whole, name), plain(wanted, name))
        assert whole[name].attrs == wanted[name].attrs
    several = ds.wx.forecast(worlds.toy(), steps=2, start=list(ds.time.values[2:]))
    assert several.msl.data.units == ds.msl.data.units
    np.testing.assert_array_equal(plain(several, "msl")[1], plain(fc, "msl"))


def test_quantities_in_other_units(worlds):
    """One rounding to float32 on the way in, one on the way out."""
    array = worlds.states(4)
    array[:, 1] = np.round(array[:, 1] / 12.5) * 12.5  # hPa that are exact in binary
    celsius = np.round(array[:, 3] - 273.0)
    array[:, 3] = (celsius.astype("float64") + 273.15).astype("float32")
    ds = worlds.labelled(array, worlds.times(4))
    ds["msl"] = ds.msl.copy(data=array[:, 1] / 100).assign_attrs(units="hPa")
    ds["t2m"] = ds.t2m.copy(data=celsius).assign_attrs(units="degC")
    fc = quantified(ds).wx.forecast(worlds.toy(), steps=2)
    assert f"{fc.msl.data.units:~}" == "hPa"
    ahead = worlds.followed(array, 2)[4:].astype("float64")
    np.testing.assert_array_equal(plain(fc, "msl"), (ahead[:, 1] / 100).astype("float32"))
    np.testing.assert_array_equal(plain(fc, "t2m"), (ahead[:, 3] - 273.15).astype("float32"))


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("engine", ["netcdf4", "zarr"])
@pytest.mark.parametrize("several", [False, True])
def test_packed_integers_never_wrap(worlds, tmp_path, beyond, engine, several):
    """An input packed to int16 has a scale for its own range, which a forecast may leave."""
    ds = worlds.dataset(4)
    pack = {"dtype": "int16", "scale_factor": 0.25, "add_offset": 1e5, "_FillValue": -32768}
    zarr = {"consolidated": False, "zarr_format": 2}
    kwargs = {"engine": engine} if engine == "netcdf4" else zarr
    write = "to_netcdf" if engine == "netcdf4" else "to_zarr"
    read = {} if engine == "netcdf4" else {"consolidated": False}
    getattr(ds, write)(tmp_path / "in", encoding={"msl": pack}, **kwargs)
    model = worlds.toy(forward=lambda x, step: x * 1.25 if beyond else x)
    with xr.open_dataset(tmp_path / "in", engine=engine, **read) as opened:
        start = list(opened.time.values[-2:]) if several else None
        fc = opened.wx.forecast(model, steps=2, start=start)
        getattr(fc, write)(tmp_path / "out", **kwargs)
    with xr.open_dataset(tmp_path / "out", engine=engine, decode_timedelta=True, **read) as back:
        np.testing.assert_array_equal(back.msl, fc.msl)
        np.testing.assert_array_equal(back.z, fc.z)
        np.testing.assert_array_equal(back.time.values, fc.time.values)


def catalogue_of(models, folder, monkeypatch):
    for model in models:
        save_checkpoint(folder / model.name, model.network, model.spec, model.card)
    monkeypatch.setattr(catalogue, "BUNDLED", folder)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [])
    registry._load_bundled.cache_clear()


def test_the_default_is_the_first_model_that_fits(worlds, tmp_path, monkeypatch):
    from dataclasses import replace

    tiny, greedy = worlds.emformer(), worlds.emformer(history=3)
    models = [
        replace(greedy, card=replace(greedy.card, name="a-greedy")),
        replace(tiny, card=replace(tiny.card, name="b-modest")),
        replace(tiny, card=replace(tiny.card, name="c-modest")),
    ]
    catalogue_of(models, tmp_path, monkeypatch)
    ds = worlds.dataset(2)
    fc = ds.wx.forecast(steps=1)
    assert fc.attrs["xwx_model"] == "b-modest"
    np.testing.assert_array_equal(fc.msl, ds.wx.forecast(tiny, steps=1).msl)
    assert worlds.dataset(3).wx.forecast(steps=1).attrs["xwx_model"] == "a-greedy"
    # whether a model fits depends on the start
    early = worlds.dataset(4).wx.forecast(steps=1, start="2026-01-30T06")
    assert early.attrs["xwx_model"] == "b-modest"
    with pytest.raises(ModelNotFoundError) as caught:
        ds.drop_vars("msl").wx.forecast(steps=1)
    text = str(caught.value)
    for name in ("a-greedy:", "b-modest:", "c-modest:"):
        assert name in text
    assert text.count("no variable gives 'msl'") == 3
    assert text.count("needs 3 states") == 1


def test_no_model_is_installed(worlds, tmp_path, monkeypatch):
    catalogue_of([], tmp_path, monkeypatch)
    with pytest.raises(ModelNotFoundError, match="none is installed"):
        worlds.dataset(2).wx.forecast(steps=1)
    with pytest.raises(ModelNotFoundError, match="nonesuch"):
        worlds.dataset(2).wx.forecast("nonesuch", steps=1)


@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("era5-winter", "emformer-era5-mini"),
        ("simulated-fortnight", "emformer-simclimate-mini"),
    ],
)
def test_the_bundled_model_is_found_for_the_bundled_data(data, model):
    ds = xwx.tutorial.open_dataset(data)
    fc = ds.wx.forecast(steps=1)
    assert fc.attrs["xwx_model"] == model
    assert fc.attrs["xwx_model_sha256"] == xwx.load(model).card.sha256
    assert fc.msl.dtype == np.float32


def test_something_else_than_a_dataset(worlds):
    from xwx.tasks.forecast import forecast

    with pytest.raises(TypeError, match="Dataset"):
        forecast(worlds.dataset(2).msl, worlds.toy(), 1)


def nan_in(ds, name, **where):
    ds = ds.copy(deep=True)
    ds[name][where] = np.nan
    return ds


def no_units(ds, name):
    ds = ds.copy()
    ds[name].attrs = {k: v for k, v in ds[name].attrs.items() if k != "units"}
    return ds


def with_units(ds, name, units):
    ds = ds.copy()
    ds[name].attrs = {**ds[name].attrs, "units": units}
    return ds


def curvilinear(ds):
    ds = ds.rename(latitude="y", longitude="x")
    lat, lon = np.meshgrid(ds.y, ds.x, indexing="ij")
    ds = ds.drop_vars(["x", "y"])
    return ds.assign_coords(
        latitude=(("y", "x"), lat, {"units": "degrees_north"}),
        longitude=(("y", "x"), lon, {"units": "degrees_east"}),
    )


def duplicated_latitude(ds):
    lat = ds.latitude.values.copy()
    lat[3] = lat[4]
    return ds.assign_coords(latitude=("latitude", lat, ds.latitude.attrs))


def zigzag_latitude(ds):
    return ds.isel(latitude=[0, 2, 1, *range(3, 16)])


def bare_time(ds):
    return ds.assign_coords(time=("time", np.arange(5), {"units": "hours since 2000-01-01"}))


FAILURES = {
    "missing variable": (lambda ds: ds.drop_vars("msl"), {"missing-variable"}),
    "missing level": (lambda ds: ds.sel(level=[850.0]), {"missing-level"}),
    "missing unit": (lambda ds: no_units(ds, "t2m"), {"missing-units"}),
    "unconvertible unit": (lambda ds: with_units(ds, "msl", "K"), {"unconvertible-units"}),
    "nonsense unit": (lambda ds: with_units(ds, "msl", "foo bar"), {"unconvertible-units"}),
    "level without unit": (lambda ds: no_units(ds, "level"), {"missing-units"}),
    "two candidates": (lambda ds: ds.assign(psl=ds.msl), {"ambiguous-variable"}),
    "level twice": (lambda ds: ds.isel(level=[0, 1, 1]), {"duplicated-level"}),
    "wrong grid": (
        lambda ds: ds.isel(longitude=slice(None, None, 2)),
        {"wrong-grid"},
    ),
    "shifted grid": (
        lambda ds: ds.assign_coords(longitude=ds.longitude + 1.0),
        {"wrong-grid"},
    ),
    "regional": (lambda ds: ds.isel(longitude=slice(4, 12)), {"regional-grid"}),
    "one hemisphere": (lambda ds: ds.isel(latitude=slice(8)), {"regional-grid"}),
    "latitude twice": (duplicated_latitude, {"duplicated-latitude"}),
    "latitude to and fro": (zigzag_latitude, {"non-monotonic-latitude"}),
    "meridian twice": (lambda ds: ds.isel(longitude=[*range(32), 0]), {"duplicated-longitude"}),
    "NaN": (lambda ds: nan_in(ds, "t", time=-1, level=1, latitude=3), {"nan"}),
    "NaN in the history": (lambda ds: nan_in(ds, "msl", time=-2, latitude=3), {"nan"}),
    "infinite": (lambda ds: ds.assign(msl=ds.msl / 0), {"nan"}),
    "time step": (lambda ds: ds.isel(time=[0, 2, 4]), {"wrong-step"}),
    "gap": (lambda ds: ds.isel(time=[0, 1, 2, 4]), {"wrong-step"}),
    "unsorted time": (lambda ds: ds.isel(time=[1, 0, 2, 3, 4]), {"unsorted-time", "wrong-step"}),
    "reversed time": (lambda ds: ds.isel(time=[4, 3, 2, 1, 0]), {"unsorted-time"}),
    "duplicated time": (lambda ds: ds.isel(time=[0, 1, 2, 2, 3]), {"duplicated-time"}),
    "undecoded time": (bare_time, {"undecoded-time"}),
    "no time": (lambda ds: ds.isel(time=0, drop=True), {"missing-time"}),
    "too little history": (lambda ds: ds.isel(time=[0]), {"too-little-history"}),
    "empty": (lambda ds: xr.Dataset(), {"empty-dataset"}),
    "coordinates only": (lambda ds: ds[[]], {"empty-dataset"}),
    "no times": (lambda ds: ds.isel(time=[]), {"zero-length"}),
    "no latitudes": (lambda ds: ds.isel(latitude=[]), {"zero-length"}),
    "no levels": (lambda ds: ds.isel(level=[]), {"zero-length", "missing-variable"}),
    "two-dimensional latitude": (curvilinear, {"curvilinear-grid"}),
    "points": (
        lambda ds: ds.stack(cell=("latitude", "longitude")).reset_index("cell"),
        {"unstructured-grid"},
    ),
    "integers": (lambda ds: ds.assign(msl=ds.msl.astype("int16")), {"integer-field"}),
    "text": (lambda ds: ds.assign(msl=ds.msl.astype(str)), {"wrong-dtype"}),
    "members": (
        lambda ds: ds.expand_dims(number=[0, 1]),
        {"extra-dimension"},
    ),
    "no time of its own": (lambda ds: ds.assign(msl=ds.msl.isel(time=0, drop=True)),
                           {"missing-dimension"}),
    "several at once": (
        lambda ds: no_units(ds.drop_vars("msl").isel(time=[0, 2, 4]), "t2m"),
        {"missing-variable", "wrong-step", "missing-units"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAILURES)
def test_one_error_with_all_that_check_finds(worlds, fault, tmp_path):
    """Never a number: the network must not even run."""
    spoil_it, kinds = FAILURES[fault]
    with np.errstate(all="ignore"):
        ds = spoil_it(worlds.dataset(5))
    model = worlds.toy(history=2, forward=lambda x, step: pytest.fail("the network ran"))
    report = ds.wx.check(model)
    assert {p.kind for p in report.problems} == kinds
    for store in (None, tmp_path / "new.zarr"):
        with pytest.raises(MismatchError) as caught:
            ds.wx.forecast(model, steps=1, store=store)
        assert set(caught.value.problems) == set(report.problems)
        assert len(caught.value.problems) == len(report.problems)
    assert all(p.remedy and p.message and p.where for p in report.problems)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["NaN", "missing level", "wrong grid"])
def test_the_same_when_it_is_read_from_dask(worlds, fault):
    ds = FAILURES[fault][0](worlds.dataset(5)).chunk(time=1)
    model = worlds.toy(history=2)
    with pytest.raises(MismatchError) as caught:
        ds.wx.forecast(model, steps=1)
    assert set(caught.value.problems) == set(ds.wx.check(model).problems)


def test_a_gap_elsewhere_does_not_matter_to_starts(worlds):
    """With starts given, only the history before each must be of the model's step."""
    ds = worlds.dataset(6).isel(time=[0, 1, 3, 4, 5])
    fc = ds.wx.forecast(worlds.toy(2), steps=1, start=[ds.time.values[1], ds.time.values[3]])
    assert fc.sizes["init_time"] == 2
    with pytest.raises(MismatchError, match="12 h"):
        ds.wx.forecast(worlds.toy(2), steps=1, start=[ds.time.values[1], ds.time.values[2]])


def test_nan_that_no_start_reads_does_not_matter(worlds):
    ds = nan_in(worlds.dataset(5), "msl", time=0)
    fc = ds.wx.forecast(worlds.toy(), steps=1)
    assert fc.msl.notnull().all()
    with pytest.raises(MismatchError, match="NaN"):
        ds.wx.forecast(worlds.toy(), steps=1, start=ds.time.values[:2])


def test_a_bad_start_is_found_before_the_good_ones_are_run(worlds, tmp_path):
    ds = nan_in(worlds.dataset(5), "msl", time=3)
    model = worlds.toy(forward=lambda x, step: pytest.fail("the network ran"))
    for store in (None, tmp_path / "new.zarr"):
        with pytest.raises(MismatchError, match="512 NaN of"):
            ds.wx.forecast(model, steps=1, start=ds.time.values, store=store)
    assert not list(tmp_path.iterdir())


def test_every_start_draws_the_same_as_alone(worlds):
    ds, model = worlds.dataset(4), worlds.toy(forward=noise)
    both = ds.wx.forecast(model, steps=2, start=ds.time.values[1:3], seed=4)
    for number in (0, 1):
        one = ds.wx.forecast(model, steps=2, start=ds.time.values[1 + number], seed=4)
        np.testing.assert_array_equal(both.z.values[number], one.z.values)


@pytest.mark.parametrize(
    "start",
    ["2026-01-30T06:00Z", "2026-01-30T07:00+01:00", pd.Timestamp("2026-01-30T06", tz="UTC"),
     datetime(2026, 1, 30, 6, tzinfo=UTC)],
    ids=str,
)  # fmt: skip
def test_a_start_with_a_time_zone_is_utc(worlds, start):
    fc = worlds.dataset(4).wx.forecast(worlds.toy(), steps=1, start=start)
    assert fc.init_time.values == np.datetime64("2026-01-30T06")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_resolution_of_times_is_kept(worlds, unit):
    ds = worlds.dataset(4)
    ds = ds.assign_coords(time=("time", ds.time.values.astype(f"M8[{unit}]"), ds.time.attrs))
    assert ds.time.dtype == f"datetime64[{unit}]"
    fc = ds.wx.forecast(worlds.toy(), steps=2)
    assert fc.time.dtype == ds.time.dtype
    assert xr.concat([ds, fc.drop_vars(EXTRA)], "time").time.dtype == ds.time.dtype
    several = ds.wx.forecast(worlds.toy(), steps=2, start=ds.time.values[1:])
    np.testing.assert_array_equal(several.time.values[-1], fc.time.values)
    assert several.init_time.dtype == ds.time.dtype


def test_one_state_with_a_scalar_time(worlds):
    """As ``ds.isel(time=-1)`` leaves it: the result has the time dimension that it lacks."""
    ds, model = worlds.dataset(4), worlds.toy()
    fc = ds.isel(time=-1).wx.forecast(model, steps=2)
    wanted = ds.wx.forecast(model, steps=2)
    xr.testing.assert_identical(fc.drop_attrs(deep=False), wanted.drop_attrs(deep=False))


@pytest.mark.parametrize("several", [False, True])
def test_the_layout_of_grib(worlds, several):
    """Dimension ``time`` for the analysis, a scalar ``step`` of zero, ``valid_time`` beside."""
    ds = worlds.dataset(4)
    base = ds.assign_coords(
        step=np.timedelta64(0, "ns"), valid_time=("time", ds.time.values, {"standard_name": "time"})
    )
    base["time"].attrs = {"standard_name": "forecast_reference_time"}
    start = ds.time.values[2:] if several else None
    fc = base.wx.forecast(worlds.toy(), steps=2, start=start)
    wanted = ds.wx.forecast(worlds.toy(), steps=2, start=start)
    np.testing.assert_array_equal(fc.msl.values, wanted.msl.values)
    np.testing.assert_array_equal(fc.valid_time.values, wanted.time.values)
    if not several:
        xr.concat([base, fc.drop_vars(EXTRA)], "time")


@pytest.mark.filterwarnings("ignore:Times can't be serialized faithfully")  # xarray's own
def test_times_that_the_encoding_cannot_hold(worlds, tmp_path):
    """One state at midnight in whole days: written, the 6-hourly forecast keeps its hours."""
    ds = worlds.dataset(1)
    ds["time"].encoding = {"units": "days since 1900-01-01", "dtype": np.dtype("int32")}
    for name, start in (("one.nc", None), ("several.nc", ds.time.values)):
        fc = ds.wx.forecast(worlds.toy(), steps=3, start=start)
        fc.to_netcdf(tmp_path / name)
        with xr.open_dataset(tmp_path / name, decode_timedelta=True) as back:
            for key in ("time", "init_time", "lead_time"):
                np.testing.assert_array_equal(back[key].values, fc[key].values)


def test_half_precision_inside_the_network(worlds):
    ds, model = worlds.dataset(3), worlds.emformer()
    whole = ds.wx.forecast(model, steps=1)
    with xwx.set_options(precision="bfloat16"):
        half = ds.wx.forecast(model, steps=1)
        exact = ds.wx.forecast(worlds.toy(), steps=1)
    before = ds.isel(time=-1)
    for name in ds.data_vars:
        assert half[name].dtype == np.float32
        change = (whole[name] - before[name]).values
        error = (half[name] - whole[name]).values
        assert 0 < np.sqrt((error**2).mean()) < 0.05 * np.sqrt((change**2).mean())
    xr.testing.assert_equal(exact, ds.wx.forecast(worlds.toy(), steps=1))


def test_a_choice_of_variables_takes_its_own_memory_only(worlds):
    """The array behind one of four variables holds no other."""
    fc = worlds.dataset(3).wx.forecast(worlds.toy(), steps=4, variables="msl")
    held = fc.msl.values
    while held.base is not None:
        held = held.base
    assert held.nbytes == 4 * 16 * 32 * 4


# ---- networks that remember


def remembering(worlds, cache, **changes):
    """Return a Model that was, as it says, fine-tuned to remember `cache` steps."""
    model = worlds.emformer()
    config = replace(model.network.config, cache=cache, **changes)
    network = EMFormer(config, model.spec).eval()
    network.load_state_dict(model.network.state_dict(), strict=False)
    with torch.no_grad():
        for block in network.valley:
            block.qkv.weight.mul_(5)
    return replace(model, network=network)


def by_hand(model, ds, position, steps, cache):
    """Return forecast states step by step, with a memory that begins at the start."""
    x = torch.from_numpy(pack(ds, model.spec, times=slice(position, position + 1))[0])[None]
    memory, states = model.network.remember(cache), []
    with torch.no_grad():
        for _ in range(steps):
            y, memory = model.network(x, None, memory)
            x = y[:, None]
            states.append(y[0].numpy())
    return np.stack(states)


def array_of(fc, model):
    """Return the packed states of a forecast, of one start."""
    return pack(fc.drop_vars(EXTRA, errors="ignore"), model.spec)[0]


@pytest.mark.parametrize(("cache", "meant"), [(None, 2), (0, 0), (1, 1), (np.int64(4), 4)])
def test_a_forecast_remembers_what_it_is_told_to(worlds, cache, meant):
    ds, model = worlds.dataset(3), remembering(worlds, 2)
    fc = ds.wx.forecast(model, steps=6, cache=cache)
    np.testing.assert_array_equal(array_of(fc, model), by_hand(model, ds, 2, 6, meant))
    assert fc.attrs["xwx_cache"] == meant
    assert type(fc.attrs["xwx_cache"]) is int
    other = by_hand(model, ds, 2, 6, meant + 1)
    np.testing.assert_array_equal(other[0], by_hand(model, ds, 2, 6, meant)[0])
    assert np.abs(other - by_hand(model, ds, 2, 6, meant)).max() > 0


@pytest.mark.parametrize("way", ["arrays", "store", "dask"])
def test_every_start_begins_with_an_empty_memory(worlds, way, tmp_path):
    ds, model = worlds.dataset(5), remembering(worlds, 2)
    given = ds.chunk(time=1) if way == "dask" else ds
    store = tmp_path / "fc.zarr" if way == "store" else None
    fc = given.wx.forecast(model, steps=5, start=ds.time[1:4], store=store)
    assert fc.attrs["xwx_cache"] == 2
    for n, position in enumerate((1, 2, 3)):
        one = ds.isel(time=slice(0, position + 1)).wx.forecast(model, steps=5)
        np.testing.assert_array_equal(array_of(one, model), by_hand(model, ds, position, 5, 2))
        for name in ds.data_vars:
            found = fc[name].isel(init_time=n).transpose("lead_time", ...).values
            np.testing.assert_array_equal(found, one[name].transpose("time", ...).values)


def test_half_precision_in_the_memory(worlds):
    ds, model = worlds.dataset(3), remembering(worlds, 2)
    whole = array_of(ds.wx.forecast(model, steps=5), model)
    with xwx.set_options(precision="bfloat16"):
        half = array_of(ds.wx.forecast(model, steps=5), model)
    spread = whole.std((0, 2, 3), keepdims=True)
    assert 0 < np.abs((half - whole) / spread).max() < 0.5


@pytest.mark.parametrize("cache", [2.5, "5", True, [5]])
def test_a_cache_of_another_type(worlds, cache):
    with pytest.raises(TypeError, match=r"cache=.* such as cache=5"):
        worlds.dataset(1).wx.forecast(worlds.emformer(), steps=1, cache=cache)


def test_a_cache_that_the_network_does_not_have(worlds, tmp_path):
    ds = worlds.dataset(3)
    with pytest.raises(ValueError, match="cache=-1: give at least 0"):
        ds.wx.forecast(worlds.emformer(), steps=1, cache=-1)
    with pytest.raises(ValueError, match=r"cache=5: the network of toy \(Network\) has no memory"):
        ds.wx.forecast(worlds.toy(), steps=1, cache=5, store=tmp_path / "fc.zarr")
    assert not (tmp_path / "fc.zarr").exists()
    assert ds.wx.forecast(worlds.toy(), steps=1, cache=0).attrs["xwx_cache"] == 0
    with pytest.raises(ValueError, match="a bias for 2 remembered steps"):
        ds.wx.forecast(remembering(worlds, 2, lag_bias=True), steps=1, cache=3)
    fc = ds.wx.forecast(remembering(worlds, 2, lag_bias=True), steps=1, cache=1)
    assert fc.attrs["xwx_cache"] == 1
