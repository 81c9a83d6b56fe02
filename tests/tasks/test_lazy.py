"""Forecasts from dask arrays: nothing is computed before it is asked for."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import torch
import xarray as xr

from xwx.errors import MismatchError, XwxError


def never(graph, keys, **kwargs):
    raise AssertionError("something was computed")


@pytest.fixture
def counted(worlds):
    """A model that counts how often its network ran."""
    calls = []

    def forward(x, step):
        calls.append(step)
        return 0.5 * x + 0.25 * x.roll(1, -1) + 0.25 * x.roll(1, -2)

    return worlds.toy(forward=forward), calls


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "latitude": 5}, {"longitude": 7}, {}])
def test_several_starts_stay_lazy(worlds, counted, chunks):
    model, calls = counted
    ds = worlds.dataset(5)
    with dask.config.set(scheduler=never):
        fc = ds.chunk(chunks).wx.forecast(model, steps=3, start=ds.time.values[2:])
    assert calls == []
    assert all(variable.chunks is not None for variable in fc.data_vars.values())
    assert fc.msl.chunksizes["init_time"] == (1, 1, 1)
    assert fc.msl.chunksizes["lead_time"] == (3,)
    assert all(coordinate.chunks is None for coordinate in fc.coords.values())
    with dask.config.set(scheduler="synchronous"):
        whole = fc.compute()
    assert len(calls) == 9, "each start once, however many variables"
    eager = ds.wx.forecast(model, steps=3, start=ds.time.values[2:])
    xr.testing.assert_identical(whole.drop_attrs(deep=False), eager.drop_attrs(deep=False))
    for name in eager.variables:
        assert whole[name].encoding == eager[name].encoding


def test_one_task_a_start(worlds, counted):
    model, calls = counted
    ds = worlds.dataset(6).chunk(time=1)
    fc = ds.wx.forecast(model, steps=4, start=ds.time[1:])
    graph = {}
    for variable in fc.data_vars.values():
        graph |= dict(variable.data.__dask_graph__())
    tasks = [key for key in graph if "forecast-" in str(key[0])]
    assert len(tasks) == 5, tasks
    assert {str(key[0]) for key in tasks} == {str(tasks[0][0])}
    with dask.config.set(scheduler="synchronous"):
        fc.isel(init_time=3).load()
    assert len(calls) == 4, "one start of four steps"


def test_threads_do_not_disturb_each_other(worlds):
    """Random draws are the start's own, whichever thread runs it."""
    ds = worlds.dataset(6)
    model = worlds.toy(forward=lambda x, step: x + torch.randn_like(x))
    eager = ds.wx.forecast(model, steps=3, start=ds.time.values, seed=1)
    before = torch.get_rng_state()
    lazy = ds.chunk(time=1).wx.forecast(model, steps=3, start=ds.time.values, seed=1)
    with dask.config.set(scheduler="threads", num_workers=4):
        xr.testing.assert_equal(lazy.compute(), eager)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_start_is_eager(worlds, counted):
    model, calls = counted
    ds = worlds.dataset(4)
    with dask.config.set(scheduler="synchronous"):
        fc = ds.chunk(time=1, latitude=4).wx.forecast(model, steps=2)
    assert len(calls) == 2
    assert all(variable.chunks is None for variable in fc.variables.values())
    worlds.identical(
        fc.drop_attrs(deep=False), ds.wx.forecast(model, steps=2).drop_attrs(deep=False)
    )


def test_a_choice_of_variables_stays_lazy(worlds, counted):
    model, _ = counted
    ds = worlds.dataset(4)
    start = ds.time.values[1:]
    with dask.config.set(scheduler=never):
        fc = ds.chunk(time=1).wx.forecast(model, steps=2, start=start, variables="t2m")
        with pytest.raises(MismatchError, match="nonsense"):
            ds.chunk(time=1).wx.forecast(model, steps=2, start=start, variables="nonsense")
    with dask.config.set(scheduler="synchronous"):
        eager = ds.wx.forecast(model, steps=2, start=start).t2m
        np.testing.assert_array_equal(fc.t2m.values, eager.values)


def test_what_only_the_values_show_is_said_when_they_are_computed(worlds, counted):
    model, _ = counted
    ds = worlds.dataset(4)
    ds["msl"][3, 2] = np.nan
    lazy = ds.chunk(time=1).wx.forecast(model, steps=2, start=ds.time.values[2:])
    with dask.config.set(scheduler="synchronous"):
        assert lazy.msl.isel(init_time=0).notnull().values.all()
        with pytest.raises(MismatchError, match="32 NaN"):
            lazy.compute()
    bad = worlds.toy(forward=lambda x, step: x * np.nan)
    lazy = ds.chunk(time=1).wx.forecast(bad, steps=2, start=ds.time.values[:2])
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(XwxError, match="not finite at step 1"),
    ):
        lazy.compute()


def test_quantified_dask_arrays(worlds, counted):
    import pint_xarray  # noqa: F401 - registers ds.pint

    model, calls = counted
    ds = worlds.dataset(4)
    held = ds.chunk(time=1).pint.quantify(dict.fromkeys(ds.coords))
    for name in ds.coords:
        held[name].attrs = ds[name].attrs
    with dask.config.set(scheduler=never):
        fc = held.wx.forecast(model, steps=2, start=ds.time.values[2:])
    assert calls == []
    assert f"{fc.msl.data.units:~}" == "Pa"
    eager = ds.wx.forecast(model, steps=2, start=ds.time.values[2:])
    with dask.config.set(scheduler="synchronous"):
        values = fc.msl.data.magnitude.compute()
    np.testing.assert_array_equal(values, eager.msl.values)


def test_the_seed_belongs_to_the_call(worlds):
    """Computed twice, an unseeded forecast is the same twice."""
    ds = worlds.dataset(3)
    model = worlds.toy(forward=lambda x, step: x + torch.randn_like(x))
    fc = ds.chunk(time=1).wx.forecast(model, steps=2, start=ds.time.values[1:])
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(fc.compute(), fc.compute())


def test_a_scalar_time(worlds, counted):
    """A list of one start of a Dataset of one time, without a time dimension."""
    model, calls = counted
    ds = worlds.dataset(3)
    one = ds.isel(time=-1)
    with dask.config.set(scheduler=never):
        lazy = one.chunk(latitude=4).wx.forecast(model, steps=2, start=[ds.time.values[-1]])
    assert calls == []
    eager = one.wx.forecast(model, steps=2, start=[ds.time.values[-1]])
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(
            lazy.compute().drop_attrs(deep=False), eager.drop_attrs(deep=False)
        )
    wanted = ds.wx.forecast(model, steps=2)
    np.testing.assert_array_equal(eager.z.values[0], wanted.z.values)
