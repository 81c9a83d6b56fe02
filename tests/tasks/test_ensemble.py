"""Forecasts with a generative model: members, layouts, stores, constraints, refusals."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch
import xarray as xr

import xwx
from xwx.constraints.scene import Bound
from xwx.diffusion.noise import initial_noise, member_generators
from xwx.diffusion.operators import Observe
from xwx.diffusion.protocols import Observation
from xwx.diffusion.schedule import Rectified
from xwx.errors import MismatchError, Problem
from xwx.fields import member_dim
from xwx.models.card import Card
from xwx.models.checkpoint import Model
from xwx.models.wind import Wind, WindConfig

FRAMES = 4
ONCE = xwx.Sampling(steps=1)


class Toy(torch.nn.Module):
    """Adds a tenth of a deviation to each state of a window, and a hundredth of the noise."""

    frames = FRAMES

    def __init__(self, states):
        super().__init__()
        array = torch.from_numpy(states)
        self.register_buffer("mean", array.mean((0, 2, 3)).view(-1, 1, 1))
        self.register_buffer("std", array.std((0, 2, 3)).view(-1, 1, 1))

    def denoise(self, z, forcing, t):
        number = torch.arange(FRAMES).view(1, -1, 1, 1, 1)
        return z[:, :1] + 0.1 * number + 0.01 * z


@pytest.fixture
def toy(worlds):
    return Model(Toy(worlds.states(8)), worlds.spec(), Card("toy-prior", licence="CC0-1.0"))


class Near:
    """Demands one value of the first channel in the second state of every window."""

    def bind(self, scene):
        shape = (FRAMES, len(scene.spec.channels), *scene.spec.grid.shape)
        index = torch.tensor([shape[1] * shape[2] * shape[3]])
        # What the constraint takes from the user's Dataset and from the start.
        value = torch.from_numpy(scene.given["t2m"].values.ravel()[:1]).double()
        assert scene.given.sizes["time"] == 1
        assert scene.given["time"].values[0] == scene.times[0]
        assert scene.start.shape == shape[1:]
        return Bound("near", lambda covered: Observation(Observe(index, shape), value, 1.0))


def expected(model, start, steps, seed, members):
    """Return what the toy gives: (members, steps, C, H, W)."""
    mean, std = model.network.mean, model.network.std
    generators = member_generators(seed, range(members))
    last = ((torch.from_numpy(start) - mean) / std).expand(members, *start.shape)
    out = []
    while len(out) < steps:
        noise = initial_noise((FRAMES, *start.shape), generators, Rectified())
        made = [last + 0.1 * k + 0.01 * noise[:, k] for k in range(1, FRAMES)]
        out, last = out + made, made[-1]
    return (mean + std * torch.stack(out[:steps], 1)).numpy()


def plain(fc):
    """Return a Dataset without what tells a single forecast from a member."""
    fc = fc.drop_vars(["member", "residual", "constraint"], errors="ignore")
    return fc.assign_attrs(history="")


def test_members_continue_the_dataset(worlds, toy):
    ds = worlds.dataset()
    fc = ds.wx.forecast(toy, steps=7, members=3, seed=4, sampling=ONCE)
    assert member_dim(fc) == "member"
    assert fc.sizes["member"] == 3
    assert fc.member.values.tolist() == [0, 1, 2]
    assert fc.member.attrs["standard_name"] == "realization"
    assert fc.t2m.dims == ("member", "time", "latitude", "longitude")
    np.testing.assert_array_equal(fc.time, worlds.times(12)[5:])
    assert fc.lead_time.dims == ("time",)
    values = expected(toy, worlds.states(5)[-1], 7, 4, 3)
    for member in range(3):
        truth = worlds.labelled(values[member], worlds.times(12)[5:])
        for name in truth.data_vars:
            scale = float(truth[name].std())
            got = fc[name].isel(member=member).values
            np.testing.assert_allclose(got, truth[name].values, rtol=0, atol=1e-4 * scale)


def test_one_forecast_has_no_dimension_of_members(worlds, toy):
    ds = worlds.dataset()
    one = ds.wx.forecast(toy, steps=5, seed=4, sampling=ONCE)
    many = ds.wx.forecast(toy, steps=5, seed=4, members=3, sampling=ONCE)
    assert "member" not in one.variables
    worlds.identical(plain(one), plain(many.isel(member=0)))
    two = ds.wx.forecast(toy, steps=5, seed=4, members=2, sampling=ONCE)
    xr.testing.assert_equal(two, many.isel(member=[0, 1]))
    joined = xr.concat([ds, one.drop_vars(["init_time", "lead_time"])], "time")
    assert joined.sizes["time"] == 10


def in_own_layout(ds):
    """Return a Dataset in other units, order and orientation."""
    t2m = (ds.t2m.astype("float64") - 273.15).assign_attrs(ds.t2m.attrs | {"units": "degC"})
    ds = ds.assign(t2m=t2m).isel(latitude=slice(None, None, -1))
    return ds.rename(msl="pressure").transpose("longitude", "time", ...)


def test_layout_in_is_layout_out(worlds, toy):
    ds = worlds.dataset()
    base = ds.wx.forecast(toy, steps=4, members=2, seed=1, sampling=ONCE)
    own = in_own_layout(ds).wx.forecast(toy, steps=4, members=2, seed=1, sampling=ONCE)
    assert own.t2m.dims == ("longitude", "member", "time", "latitude")
    assert own.t2m.attrs["units"] == "degC"
    wanted = in_own_layout(base).transpose("longitude", "member", "time", ...)
    assert list(own.data_vars) == list(wanted.data_vars)
    xr.testing.assert_allclose(own, wanted, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("constraints", [(), (Near(),)])
def test_starts_stores_and_tasks_of_dask_give_the_same(worlds, toy, tmp_path, members, constraints):
    ds = worlds.dataset()
    options = {"members": members, "constraints": constraints, "seed": 2, "sampling": ONCE}
    fc = ds.wx.forecast(toy, steps=5, start=ds.time[[1, 3]], **options)
    dims = ("init_time", "lead_time", "latitude", "longitude")
    assert fc.t2m.dims == (dims if members is None else ("member", *dims))
    assert fc.time.dims == ("init_time", "lead_time")
    for number, start in enumerate([1, 3]):
        alone = ds.wx.forecast(toy, steps=5, start=ds.time[start], **options)
        for name in fc.data_vars:
            mine = fc[name].isel(init_time=number)
            np.testing.assert_array_equal(mine.values, alone[name].values)
    lazy = ds.chunk(time=1).wx.forecast(toy, steps=5, start=ds.time[[1, 3]], **options)
    assert lazy.t2m.chunks is not None
    worlds.identical(plain(lazy.compute()), plain(fc))
    for several, name in ((True, "several"), (False, "one")):
        start = ds.time[[1, 3]] if several else ds.time[3]
        there = {"start": start, **options}
        stored = ds.wx.forecast(toy, steps=5, store=tmp_path / f"{name}.zarr", **there)
        xr.testing.assert_equal(stored, ds.wx.forecast(toy, steps=5, **there))
        assert "xwx_incomplete" not in stored.attrs
        if constraints:
            assert list(lazy.data_vars)[-1] == "residual"
            xr.testing.assert_equal(lazy.residual.compute(), fc.residual)


def test_residuals_are_laid_out_beside_the_forecast(worlds, toy):
    ds = worlds.dataset()
    fc = ds.wx.forecast(
        toy, steps=5, members=2, seed=2, sampling=ONCE, constraints=[Near(), Near()]
    )
    assert fc.residual.dims == ("constraint", "member", "time")
    assert fc.constraint.values.tolist() == ["near", "near_2"]
    assert fc.residual.attrs["units"] == "1"
    seen = fc.t.sel(level=850)[:, [0, 3], 0, 0].values  # the second state of each window
    missed = abs(seen - float(ds.t2m[-1, 0, 0]))
    for window, steps in ((0, slice(0, 3)), (1, slice(3, 5))):
        for member in range(2):
            np.testing.assert_allclose(
                fc.residual[:, member, steps].values, missed[member, window], atol=1e-4
            )
    free = ds.wx.forecast(toy, steps=5, members=2, seed=2, sampling=ONCE)
    assert "residual" not in free
    away = abs(free.t.sel(level=850)[:, 0, 0, 0].values - float(ds.t2m[-1, 0, 0]))
    assert (missed[:, 0] < away).all()  # it was guided


def test_a_choice_of_variables(worlds, toy):
    ds = worlds.dataset()
    whole = ds.wx.forecast(toy, steps=4, members=2, seed=1, sampling=ONCE)
    some = ds.wx.forecast(toy, steps=4, members=2, seed=1, sampling=ONCE, variables=["msl", "t"])
    assert set(some.data_vars) == {"msl", "t"}
    xr.testing.assert_equal(some, whole[["t", "msl"]])


def test_attributes_say_how_it_was_made(worlds, toy):
    ds = worlds.dataset()
    fc = ds.wx.forecast(toy, steps=2, members=2, seed=9, sampling=ONCE, constraints=[Near()])
    assert fc.attrs["xwx_seed"] == 9
    assert json.loads(fc.attrs["xwx_sampling"])["steps"] == 1
    assert fc.attrs["xwx_constraints"] == "Near()"
    assert "2 members" in fc.attrs["history"]
    assert "xwx_cache" not in fc.attrs


def test_scores_of_ensembles_take_it_as_it_is(worlds, toy):
    ds = worlds.dataset(12)
    fc = ds.isel(time=slice(5)).wx.forecast(
        toy, steps=4, members=3, seed=1, sampling=ONCE, constraints=[Near()]
    )
    scores = fc[["t2m"]].wx.verify(ds, "crps")
    members = fc.t2m.values.astype("float64")
    truth = ds.t2m.isel(time=slice(5, 9)).values
    pairs = abs(members[:, None] - members[None]).sum((0, 1)) / (2 * 3 * 2)
    crps = abs(members - truth).mean(0) - pairs
    weights = ds.wx.area_weights.values[:, None]
    wanted = (crps * weights).mean((1, 2)) / weights.mean()
    np.testing.assert_allclose(scores.t2m.sel(metric="crps").values.ravel(), wanted, rtol=1e-5)


def test_what_a_kind_of_model_does_not_take(worlds, toy):
    ds, single = worlds.dataset(), worlds.toy()
    for given in ({"members": 4}, {"sampling": ONCE}, {"constraints": [Near()]}):
        with pytest.raises(ValueError, match=rf"{next(iter(given))}.*toy .*is deterministic"):
            ds.wx.forecast(single, steps=2, **given)
        with pytest.raises(ValueError, match="is deterministic"):
            ds.wx.plan(single, steps=2, **given)
    with pytest.raises(ValueError, match="cache=2: the network of toy-prior"):
        ds.wx.forecast(toy, steps=2, cache=2)
    with pytest.raises(ValueError, match="members=0: give at least 1"):
        ds.wx.forecast(toy, steps=2, members=0)
    with pytest.raises(TypeError, match=r"members=2\.5 is a float: give a whole number of members"):
        ds.wx.forecast(toy, steps=2, members=2.5)
    with pytest.raises(TypeError, match=r"sampling=\{'steps': 3\}: give xwx.Sampling"):
        ds.wx.forecast(toy, steps=2, sampling={"steps": 3})
    taken = ds.rename(msl="residual")
    with pytest.raises(ValueError, match=r'ds.rename\(residual="..."\)'):
        taken.wx.forecast(toy, steps=2, sampling=ONCE, constraints=[Far()])


class Far:
    """Observes nothing."""

    def bind(self, scene):
        return Bound("far", lambda covered: None)


class Lacking:
    """Lacks something."""

    def bind(self, scene):
        raise MismatchError([Problem("missing", "orography", "is missing", "add it")])


def test_a_constraint_that_lacks_something_is_told_at_the_call_of_a_lazy_forecast(worlds, toy):
    ds = worlds.dataset().chunk(time=1)
    with pytest.raises(MismatchError, match="orography"):
        ds.wx.forecast(toy, steps=2, start=ds.time[[0, 1]], constraints=[Lacking()])


@pytest.mark.parametrize("several", [False, True])
def test_the_plan_of_an_ensemble_is_that_of_its_store(worlds, toy, tmp_path, several):
    ds = worlds.dataset()
    start = ds.time[[0, 2]] if several else None
    options = {"members": 3, "start": start, "sampling": ONCE, "store": tmp_path / "fc.zarr"}
    plan = ds.wx.plan(toy, steps=7, **options)
    fc = ds.wx.forecast(toy, steps=7, **options)
    assert plan.chunks == {name: v.encoding["chunks"] for name, v in fc.data_vars.items()}
    assert plan.disk == sum(v.nbytes for v in fc.data_vars.values())
    # Three windows of three new states, for each member by itself.
    assert plan.evaluations == 3 * 3 * (2 if several else 1)
    assert ds.wx.plan(toy, steps=9, members=3, sampling=xwx.Sampling(batch=2)).evaluations == 90
    assert "3 members" in repr(plan)
    assert "network calls" in repr(plan)


def test_memory_of_an_ensemble_is_that_which_numpy_takes(worlds, toy):
    ds = worlds.dataset()
    plan = ds.wx.plan(toy, steps=40, members=6, sampling=ONCE)
    ds.wx.forecast(toy, steps=2, members=2, sampling=ONCE)  # all is imported
    tracemalloc.start()
    try:
        ds.wx.forecast(toy, steps=40, members=6, sampling=ONCE)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.85 < plan.in_memory / taken < 1.15


def test_guidance_is_planned_with_its_passes_backward(worlds):
    config = WindConfig.preset("wind_tiny", frames=3)
    network = Wind(config, worlds.spec()).eval()
    model, ds = Model(network, worlds.spec(), Card("tiny-wind")), worlds.dataset()
    free = ds.wx.plan(model, steps=2)
    found = {
        count: ds.wx.plan(
            model, steps=2, constraints=[Far()], sampling=xwx.Sampling(iterations=count)
        )
        for count in (1, 2, 3)
    }
    assert found[1].activations > 2 * free.activations
    state = 4 * 6 * 16 * 32
    assert found[2].activations - found[1].activations == 3 * state
    assert found[3].activations - found[2].activations == 3 * state
    assert free.seconds < found[1].seconds < found[2].seconds < found[3].seconds
    pair = ds.wx.plan(model, steps=2, members=2, sampling=xwx.Sampling(batch=2))
    assert 1.8 < (pair.device_memory - pair.weights) / (free.device_memory - free.weights) < 2.3
    with pytest.raises(ValueError, match="eta=2"):
        ds.wx.plan(model, sampling=xwx.Sampling(eta=2))


def test_an_interrupted_store_says_so(worlds, toy, tmp_path):
    ds, path = worlds.dataset(), tmp_path / "fc.zarr"
    windows = []

    def stop(z, forcing, t):
        windows.append(0)
        if len(windows) > 2:
            raise KeyboardInterrupt
        return z

    toy.network.denoise = stop
    with pytest.raises(KeyboardInterrupt):
        ds.wx.forecast(toy, steps=9, sampling=ONCE, store=path, members=2)
    half = xr.open_zarr(path, consolidated=False)
    assert half.attrs["xwx_incomplete"] == 1
    assert np.isfinite(half.t2m[:, :3]).all()
    assert np.isnan(half.t2m[:, 3:]).all()
