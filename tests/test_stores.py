"""Forecasts on disk: what is read back is what would have been in memory."""

from __future__ import annotations

import json
import os
import warnings
from datetime import timedelta

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xwx.errors import StoreError, XwxError
from xwx.stores import StepStore


def same(stored, memory):
    """See that a stored forecast is the one in memory, but for when it was made."""
    attrs = [{k: v for k, v in ds.attrs.items() if k not in ("history", "xwx_seed")}
             for ds in (stored, memory)]  # fmt: skip
    assert attrs[0] == attrs[1]
    xr.testing.assert_identical(stored.drop_attrs(deep=False), memory.drop_attrs(deep=False))
    for name in memory.variables:
        if memory[name].dtype.kind != "U":  # text of any length, in a Zarr
            assert stored[name].dtype == memory[name].dtype, name
        assert stored[name].dims == memory[name].dims, name
    assert set(stored.xindexes) == set(memory.xindexes)


def west_first(ds):
    attrs = ds.longitude.attrs
    ds = ds.roll(longitude=16, roll_coords=True)
    ds = ds.assign_coords(longitude=("longitude", (ds.longitude.values + 180) % 360 - 180, attrs))
    return ds.isel(latitude=slice(None, None, -1)).rename(time="valid_time", longitude="lon")


def mixed(ds):
    area = np.arange(32.0 * 16).reshape(32, 16)
    ds = ds.astype("float64").transpose("level", "longitude", "time", "latitude")
    return ds.assign_coords(expver="0001", area=(("longitude", "latitude"), area, {"units": "m2"}))


def noleap(ds):
    first = cftime.DatetimeNoLeap(2001, 2, 28)
    step = pd.Timedelta("6h").to_pytimedelta()
    when = [first + n * step for n in range(ds.sizes["time"])]
    out = ds.assign_coords(time=("time", when, ds.time.attrs))
    out["time"].encoding = {"units": "days since 1850-01-01", "calendar": "noleap"}
    return out


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
@pytest.mark.parametrize("layout", [lambda ds: ds, west_first, mixed, noleap],
                         ids=["canonical", "west-first", "mixed", "noleap"])  # fmt: skip
@pytest.mark.parametrize("variables", [None, "t2m"])
def test_the_store_equals_the_memory(worlds, tmp_path, layout, several, variables):
    ds = layout(worlds.dataset(4))
    model = worlds.emformer(history=2)
    time = "valid_time" if "valid_time" in ds.dims else "time"
    start = list(ds[time].values[2:]) if several else None
    kwargs = {"steps": 3, "start": start, "variables": variables}
    memory = ds.wx.forecast(model, **kwargs)
    path = tmp_path / "out.zarr"
    stored = ds.wx.forecast(model, store=path, **kwargs)
    same(stored, memory)
    assert list(stored.data_vars) == list(memory.data_vars)
    for reopened in (
        xr.open_zarr(path, decode_timedelta=True),
        xr.open_dataset(path, decode_timedelta=True),
        xr.open_dataset(path, engine="zarr", decode_timedelta=True, chunks=None),
    ):
        with reopened:
            same(reopened, memory)
    lead = np.arange(1, 4) * np.timedelta64(6, "h")
    np.testing.assert_array_equal(stored.lead_time.values, lead)


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_it_opens_without_a_warning(worlds, tmp_path, several):
    """With xarray's own defaults."""
    ds = worlds.dataset(4)
    start = list(ds.time.values[2:]) if several else None
    memory = ds.wx.forecast(worlds.toy(), steps=2, start=start)
    ds.wx.forecast(worlds.toy(), steps=2, start=start, store=tmp_path / "out.zarr").close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for opened in (xr.open_zarr(tmp_path / "out.zarr"), xr.open_dataset(tmp_path / "out.zarr")):
            with opened:
                same(opened, memory)


def test_quantified(worlds, tmp_path):
    import pint_xarray  # noqa: F401 - registers ds.pint

    ds = worlds.dataset(4)
    held = ds.pint.quantify(dict.fromkeys(ds.coords))
    for name in ds.coords:
        held[name].attrs = ds[name].attrs
    stored = held.wx.forecast(worlds.toy(), steps=2, store=tmp_path / "out.zarr")
    memory = ds.wx.forecast(worlds.toy(), steps=2)
    for name in ("z", "t", "t2m", "msl"):
        assert isinstance(stored[name].values, np.ndarray)
        np.testing.assert_array_equal(stored[name].values, memory[name].values)
    assert stored.msl.attrs["units"] == "Pa"
    assert stored.t2m.attrs["units"] == "K"
    # and it can be forecast from
    again = stored.wx.forecast(worlds.toy(), steps=2)
    wanted = ds.wx.forecast(worlds.toy(), steps=4).isel(time=[2, 3])
    np.testing.assert_array_equal(again.z.values, wanted.z.values)


@pytest.mark.parametrize(
    "units",
    [
        "days since 1900-01-01", "hours since 1900-01-01", "hours since 2026-01-30T05:30",
        "minutes since 2020-01-01", "seconds since 1970-01-01", "days since 2026-01-30 12:00:00",
        None,
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", ["2026-01-30T00:00", "2026-01-30T01:30", "2026-01-29T23:59:59"])
@pytest.mark.parametrize("dtype", [None, "int32", "float64"])
def test_valid_times_are_right_to_the_second(worlds, tmp_path, units, first, dtype):
    ds = worlds.dataset(3)
    ds = ds.assign_coords(time=("time", worlds.times(3, first), ds.time.attrs))
    ds["time"].encoding = {
        k: v for k, v in {"units": units, "dtype": dtype and np.dtype(dtype)}.items() if v
    }
    stored = ds.wx.forecast(worlds.toy(), steps=5, store=tmp_path / "one.zarr", variables="t2m")
    np.testing.assert_array_equal(stored.time.values, worlds.times(8, first)[3:])
    assert stored.init_time.values == ds.time.values[-1]
    with xr.open_zarr(tmp_path / "one.zarr") as opened:
        np.testing.assert_array_equal(opened.time.values, worlds.times(8, first)[3:])


def test_a_chunk_a_step(worlds, tmp_path):
    ds = worlds.dataset(4)
    ds.wx.forecast(worlds.toy(), steps=3, store=tmp_path / "one.zarr")
    ds.wx.forecast(worlds.toy(), steps=3, start=ds.time.values[:2], store=tmp_path / "two.zarr")
    for path, name, chunks in (
        ("one.zarr", "msl", [1, 16, 32]),
        ("one.zarr", "z", [1, 2, 16, 32]),
        ("two.zarr", "msl", [1, 1, 16, 32]),
        ("two.zarr", "time", [2, 3]),
        ("one.zarr", "time", [3]),
    ):
        meta = json.loads((tmp_path / path / name / "zarr.json").read_text())
        assert meta["chunk_grid"]["configuration"]["chunk_shape"] == chunks
    with xr.open_zarr(tmp_path / "one.zarr") as opened:
        assert opened.msl.variable.chunksizes["time"] == (1, 1, 1)


def test_dask_in_dask_out(worlds, tmp_path):
    ds = worlds.dataset(4)
    stored = ds.chunk(time=1).wx.forecast(
        worlds.toy(), steps=2, start=ds.time.values[2:], store=tmp_path / "out.zarr"
    )
    assert stored.chunksizes["lead_time"] == (1, 1)
    same(stored.compute(), ds.wx.forecast(worlds.toy(), steps=2, start=ds.time.values[2:]))


def test_values_beyond_the_packing_are_kept(worlds, tmp_path):
    ds = worlds.dataset(3)
    ds["msl"].encoding = {"dtype": "int16", "scale_factor": 0.25, "add_offset": 1e5}
    model = worlds.toy(forward=lambda x, step: x * 2)
    stored = ds.wx.forecast(model, steps=3, store=tmp_path / "out.zarr")
    np.testing.assert_array_equal(stored.msl.values[2], ds.msl.values[2] * 8)


@pytest.mark.parametrize("kind", ["directory", "file", "link", "store"])
def test_what_is_there_already_is_left_alone(worlds, tmp_path, kind):
    path = tmp_path / "out.zarr"
    ds = worlds.dataset(3)
    if kind == "directory":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        ds.wx.forecast(worlds.toy(), steps=1, store=path)
    before = sorted(os.walk(tmp_path))
    model = worlds.toy(forward=lambda x, step: pytest.fail("the network ran"))
    with pytest.raises(StoreError, match=r"out\.zarr' exists already"):
        ds.wx.forecast(model, steps=1, store=path)
    assert sorted(os.walk(tmp_path)) == before


@pytest.mark.parametrize("name", ["out", "out.nc", "out.zarr.zip", "zarr", ".zarr.d"])
def test_another_name(worlds, tmp_path, name):
    model = worlds.toy(forward=lambda x, step: pytest.fail("the network ran"))
    with pytest.raises(StoreError, match=r"end its name in \.zarr"):
        worlds.dataset(3).wx.forecast(model, steps=1, store=tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_trailing_slash_and_a_string(worlds, tmp_path):
    stored = worlds.dataset(3).wx.forecast(worlds.toy(), steps=1, store=f"{tmp_path}/out.zarr/")
    assert (tmp_path / "out.zarr" / "zarr.json").exists()
    stored.close()


@pytest.mark.parametrize("store", [3, True, {}])
def test_something_else_than_a_path(worlds, store):
    model = worlds.toy(forward=lambda x, step: pytest.fail("the network ran"))
    with pytest.raises((StoreError, TypeError), match=r"store=.* is a (int|bool|dict)"):
        worlds.dataset(3).wx.forecast(model, steps=1, store=store)


def test_a_folder_that_cannot_be_written(worlds, tmp_path):
    """A file where a folder is needed: refused for every user, root included."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"there is no directory .*file'"):
        worlds.dataset(3).wx.forecast(worlds.toy(), steps=1, store=tmp_path / "file" / "out.zarr")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(worlds, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        worlds.dataset(3).wx.forecast(worlds.toy(), steps=1, store=tmp_path / "locked" / "out.zarr")


def test_a_full_disk(worlds, tmp_path, monkeypatch):
    """What the file system refuses while writing names the store."""
    import errno

    def refuse(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_zarr", refuse)
    with pytest.raises(StoreError, match=r"out\.zarr' cannot be written: .*No space") as caught:
        worlds.dataset(3).wx.forecast(worlds.toy(), steps=1, store=tmp_path / "out.zarr")
    assert isinstance(caught.value.__cause__, OSError)


def stopping(error, at):
    def forward(x, step):
        if step == at:
            raise error
        return 0.5 * x + 0.25 * x.roll(1, -1) + 0.25 * x.roll(1, -2)

    return forward


def blowing_up(x, step):
    return x * np.nan if step == 4 else 0.5 * x + 0.25 * x.roll(1, -1) + 0.25 * x.roll(1, -2)


@pytest.mark.parametrize(
    ("forward", "error"),
    [(stopping(KeyboardInterrupt(), 4), KeyboardInterrupt), (blowing_up, XwxError)],
    ids=["interrupted", "not finite"],
)
def test_what_was_made_before_an_interruption_stays(worlds, tmp_path, forward, error):
    ds = worlds.dataset(4)
    path = tmp_path / "out.zarr"
    with pytest.raises(error):
        ds.wx.forecast(worlds.toy(forward=forward), steps=6, store=path)
    whole = ds.wx.forecast(worlds.toy(), steps=6)
    with xr.open_zarr(path) as left:
        xr.testing.assert_identical(
            left.isel(time=slice(3)).drop_attrs(deep=False),
            whole.isel(time=slice(3)).drop_attrs(deep=False),
        )
        for name in whole.data_vars:
            assert left[name].isel(time=slice(3, None)).isnull().all()
        for name in whole.coords:
            assert left[name].variable.equals(whole[name].variable), name


def test_an_interruption_among_several_starts(worlds, tmp_path):
    ds = worlds.dataset(4)
    start = ds.time.values[1:]
    with pytest.raises(KeyboardInterrupt):
        ds.wx.forecast(
            worlds.toy(forward=stopping(KeyboardInterrupt(), 5)),
            steps=3, start=start, store=tmp_path / "out.zarr",
        )  # fmt: skip
    whole = ds.wx.forecast(worlds.toy(), steps=3, start=start)
    made = np.array([[True, True, True], [True, False, False], [False, False, False]])
    with xr.open_zarr(tmp_path / "out.zarr") as left:
        for name in whole.data_vars:
            axes = tuple(d for d in whole[name].dims if d not in ("init_time", "lead_time"))
            np.testing.assert_array_equal(left[name].notnull().all(axes), made)
            np.testing.assert_array_equal(left[name].isnull().all(axes), ~made)
        mask = xr.DataArray(made, dims=("init_time", "lead_time"))
        xr.testing.assert_equal(left, whole.where(mask))
        np.testing.assert_array_equal(left.time.values, whole.time.values)


def test_a_step_store_by_hand(tmp_path):
    """Steps may be written in any order; those that are not read as NaN."""
    when = np.datetime64("2000-01-01", "ns") + np.arange(4) * np.timedelta64(90, "m")
    whole = xr.Dataset(
        {"a": (("time", "x"), np.arange(8.0).reshape(4, 2)), "mask": ("x", [1, 2])},
        {"time": when, "x": [10, 20]},
        {"title": "by hand"},
    )
    store = StepStore(tmp_path / "hand.zarr")
    store.begin(whole.isel(time=[0]), whole[["time"]].drop_vars("x", errors="ignore"))
    for n in (2, 0, 3):
        store.write(whole[["a"]].isel(time=[n]), {"time": n})
    assert store.open().attrs == {"title": "by hand", "xwx_incomplete": 1}
    store.finish()
    back = store.open()
    wanted = whole.where(whole.time != when[1])
    np.testing.assert_array_equal(back.a, wanted.a)
    np.testing.assert_array_equal(back.time, when)
    np.testing.assert_array_equal(back["mask"], [1, 2])
    assert back.attrs == {"title": "by hand"}


def test_a_forecast_of_a_stored_one(worlds, tmp_path):
    """Opened by xarray, its coordinates and its fields have other chunks."""
    ds = worlds.dataset(3)
    ds.wx.forecast(worlds.toy(), steps=4, store=tmp_path / "out.zarr").close()
    wanted = ds.wx.forecast(worlds.toy(), steps=6).isel(time=[4, 5])
    with xr.open_zarr(tmp_path / "out.zarr") as opened:
        once = opened.wx.forecast(worlds.toy(), steps=2)
        np.testing.assert_array_equal(once.z.values, wanted.z.values)
        both = opened.wx.forecast(worlds.toy(), steps=2, start=opened.time.values[-2:])
        np.testing.assert_array_equal(both.z.values[1], wanted.z.values)


@pytest.mark.parametrize("first", ["3000-01-01", "1500-06-01", "2026-01-30T00:00:30"])
@pytest.mark.parametrize("unit", ["s", "us"])
def test_times_of_another_resolution(worlds, tmp_path, first, unit):
    """Nanoseconds reach from 1678 to 2262 only."""
    when = np.datetime64(first, unit) + np.arange(3) * np.timedelta64(6, "h")
    ds = worlds.dataset(3).assign_coords(time=("time", when))
    for start, name in ((None, "one.zarr"), (when[1:], "several.zarr")):
        memory = ds.wx.forecast(worlds.toy(), steps=2, start=start)
        stored = ds.wx.forecast(worlds.toy(), steps=2, start=start, store=tmp_path / name)
        assert stored.time.dtype == f"datetime64[{unit}]"
        same(stored, memory)


def test_a_quantified_dataset_with_quantified_coordinates(worlds, tmp_path):
    ds = worlds.dataset(3)
    quantified = ds.pint.quantify()  # levels and latitudes too
    stored = quantified.wx.forecast(worlds.toy(), steps=2, store=tmp_path / "out.zarr")
    plain = ds.wx.forecast(worlds.toy(), steps=2)
    for name in ds.variables:
        np.testing.assert_array_equal(stored[name].values, plain[name].values)
    assert stored.level.attrs["units"] == "hPa"


def test_a_store_that_could_not_be_begun_leaves_nothing(worlds, tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("no metadata today")

    monkeypatch.setattr("xwx.stores.zarr.open_group", fail)
    with pytest.raises(RuntimeError, match="no metadata today"):
        worlds.dataset(3).wx.forecast(worlds.toy(), steps=2, store=tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("calendar", ["standard", "proleptic_gregorian", "noleap"])
def test_cftime_stays_cftime(worlds, tmp_path, calendar):
    ds = worlds.dataset(3).convert_calendar(calendar, use_cftime=True)
    stored = ds.wx.forecast(worlds.toy(), steps=2, store=tmp_path / "out.zarr")
    assert type(stored.time.values[0]) is type(ds.time.values[0])
    assert stored.time.values[0] - ds.time.values[-1] == timedelta(hours=6)


def test_an_address_a_home_and_a_folder_that_is_not_there(worlds, tmp_path, monkeypatch):
    ds, model = worlds.dataset(3), worlds.toy()
    with pytest.raises(StoreError, match="is an address"):
        ds.wx.forecast(model, steps=1, store="s3://bucket/out.zarr")
    with pytest.raises(StoreError, match="no directory"):
        ds.wx.forecast(model, steps=1, store=tmp_path / "nowhere" / "out.zarr")
    monkeypatch.setenv("HOME", str(tmp_path))
    ds.wx.forecast(model, steps=1, store="~/out.zarr")
    assert (tmp_path / "out.zarr").is_dir()


def test_a_store_says_whether_it_is_complete(worlds, tmp_path):
    ds = worlds.dataset(3)

    def stop(x, step):
        if step == 2:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        ds.wx.forecast(worlds.toy(forward=stop), steps=4, store=tmp_path / "half.zarr")
    with xr.open_dataset(tmp_path / "half.zarr", engine="zarr") as half:
        assert half.attrs["xwx_incomplete"] == 1
    whole = ds.wx.forecast(worlds.toy(), steps=4, store=tmp_path / "whole.zarr")
    assert "xwx_incomplete" not in whole.attrs
    with xr.open_dataset(tmp_path / "whole.zarr", engine="zarr") as again:
        assert "xwx_incomplete" not in again.attrs


def test_of_two_writers_the_second_leaves_the_store_of_the_first_alone(tmp_path):
    when = np.array(["2000-01-01"], "datetime64[ns]")
    ds = xr.Dataset({"a": (("time", "x"), np.ones((1, 2)))}, {"time": when})
    second, first = (StepStore(tmp_path / "out.zarr") for _ in range(2))
    first.begin(ds, ds[["time"]])
    first.write(ds[["a"]], {"time": 0})
    with pytest.raises(StoreError, match="exists already and is left as it is"):
        second.begin(ds, ds[["time"]])
    first.finish()
    xr.testing.assert_identical(first.open().load(), ds)


@pytest.mark.parametrize("dtype", [str, object])
def test_text_beside_the_data_is_text(worlds, tmp_path, dtype):
    ds = worlds.dataset()
    names = np.array([f"row {n}" for n in range(ds.sizes["latitude"])], dtype=dtype)
    ds = ds.assign_coords(name=("latitude", names))
    path = tmp_path / "fc.zarr"
    kept = ds.wx.forecast(worlds.toy(), steps=2, store=path)
    assert list(kept["name"].values) == list(names)
    with xr.open_zarr(path) as again:
        assert list(again["name"].values) == list(names)
