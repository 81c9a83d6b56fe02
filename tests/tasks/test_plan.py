"""What a plan says, against what the forecast then takes and makes."""

from __future__ import annotations

import dataclasses
import re
import tracemalloc

import numpy as np
import pytest
import torch

import xwx
from xwx.cli import main
from xwx.errors import MismatchError, StoreError
from xwx.models import footprint as counting
from xwx.models.card import Card
from xwx.models.checkpoint import Model
from xwx.models.wind import Wind, WindConfig
from xwx.tasks import plan as planning
from xwx.tasks.planned import human_size, human_time

STATE = 6 * 16 * 32 * 4  # the small world's six channels


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch):
    """Spare the measurement: 1 GFLOP/s and 2 GB/s."""
    speed = planning.speed_of(torch.device("cpu"), torch.float32, 1)
    monkeypatch.setattr(
        planning, "speed_of", lambda *_: dataclasses.replace(speed, operations=1e9, traffic=2e9)
    )


@pytest.fixture
def known_footprint(monkeypatch):
    """Give any network a footprint, which depends on precision and memory."""

    def pretend(network, spec, *, device, autocast=None, steps=2, remember=None):
        half = 1 if autocast is None else 2
        frames = steps - 2 if remember else 0
        return counting.Footprint(
            weights=1000,
            states=300,
            memory=frames * 10**6 // half,
            activations=10**7 // half,
            operations=2 * 10**9,
            traffic=10**9,
            calls=1000,
        )

    monkeypatch.setattr(planning, "footprint", pretend)


def test_it_is_the_plan_of_the_call_that_was_described(worlds):
    model = worlds.emformer()
    ds = worlds.dataset()
    plan = ds.wx.plan(model, steps=7, start=ds.time[[1, 3]])
    assert (plan.model, plan.device, plan.precision) == ("tiny", "cpu", "float32")
    assert (plan.steps, plan.starts, plan.cache) == (7, 2, 0)
    assert plan.parameters == sum(p.numel() for p in model.network.parameters())
    assert plan.weights == 4 * (plan.parameters + 3 * len(worlds.CHANNELS))
    assert plan.states == 3 * STATE
    assert plan.device_memory == plan.weights + plan.states + plan.activations
    assert plan.fits
    assert plan.problems == ()


def test_the_time_is_that_of_work_traffic_and_calls(worlds, known_footprint):
    plan = worlds.dataset().wx.plan(worlds.toy(), steps=10)
    assert plan.seconds_per_step == pytest.approx(2 + 0.5 + 1000 * planning._CALL)
    assert plan.seconds == pytest.approx(10 * plan.seconds_per_step)


def in_other_units(ds):
    t = ds.t2m.assign_attrs(units="degC").copy(data=ds.t2m.values - 273.15)
    return ds.assign(t2m=t)


def in_float64(ds):
    return ds.astype("float64")


def as_it_is(ds):
    return ds


@pytest.mark.parametrize("change", [as_it_is, in_other_units, in_float64])
@pytest.mark.parametrize("variables", [None, ["t", "t2m"]])
def test_memory_of_the_result_is_that_which_numpy_takes(worlds, change, variables):
    ds = change(worlds.dataset())
    model, steps = worlds.toy(), 400
    plan = ds.wx.plan(model, steps=steps, variables=variables)
    ds.wx.forecast(model, steps=2, variables=variables)  # all is imported
    tracemalloc.start()
    try:
        ds.wx.forecast(model, steps=steps, variables=variables)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.85 < plan.in_memory / taken < 1.15


@pytest.mark.parametrize("several", [False, True])
def test_disk_and_chunks_are_those_of_the_store(worlds, tmp_path, several):
    ds = in_float64(worlds.dataset()).transpose("longitude", "time", ...)
    ds = ds.assign(msl=ds.msl.astype("float32"))
    start = ds.time[[0, 2]] if several else None
    path = tmp_path / "fc.zarr"
    plan = ds.wx.plan(worlds.toy(), steps=3, start=start, store=path)
    assert not path.exists()
    fc = ds.wx.forecast(worlds.toy(), steps=3, start=start, store=path)
    assert plan.chunks == {name: v.encoding["chunks"] for name, v in fc.data_vars.items()}
    assert plan.disk == sum(v.nbytes for v in fc.data_vars.values())
    assert plan.host_memory == plan.with_store < plan.in_memory
    assert plan.store == str(path)


def test_a_lazy_result_takes_one_start_at_a_time(worlds):
    ds = worlds.dataset()
    starts = ds.time[[1, 2, 3]]
    eager = ds.wx.plan(worlds.toy(), steps=50, start=starts)
    lazy = ds.chunk().wx.plan(worlds.toy(), steps=50, start=starts)
    # The levels of t and z are not neighbours among the channels: four of six are copied.
    assert eager.in_memory == 3 * 50 * (STATE + STATE * 4 // 6)
    assert lazy.in_memory == 2 * 50 * STATE  # states one by one, then as an array
    assert lazy.lazy
    assert not eager.lazy
    assert "start by start" in repr(lazy)


def test_cache_is_that_of_the_call_or_of_the_network(worlds):
    ds, model = worlds.dataset(), worlds.emformer()
    assert ds.wx.plan(model, steps=9).memory == 0
    frames = ds.wx.plan(model, steps=9, cache=2)
    assert frames.cache == 2
    assert frames.memory > 0
    assert "2 steps remembered" in repr(frames)
    # A forecast that ends before its memory is full never fills it.
    assert ds.wx.plan(model, steps=1, cache=2).memory == frames.memory / 2
    with pytest.raises(ValueError, match="no memory"):
        ds.wx.plan(worlds.toy(), cache=2)


def test_a_network_that_cannot_run_without_numbers_gets_a_plan_that_says_so(worlds):
    model = worlds.toy(forward=lambda last, step: last * float(last.max()))
    plan = worlds.dataset().wx.plan(model, steps=2)
    assert plan.activations is None
    assert plan.seconds is None
    assert plan.device_memory == plan.states == 3 * STATE
    assert "at least" in repr(plan)
    assert "cannot run without numbers" in repr(plan)


def test_too_little_memory_on_the_device(worlds, monkeypatch, known_footprint):
    model, ds = worlds.emformer(), worlds.dataset()

    def remedy(free, **call):
        monkeypatch.setattr(planning, "free_on_device", lambda device: free)
        monkeypatch.setattr(planning, "weights_of", lambda network: 0)
        found = ds.wx.plan(model, steps=40, **call)
        return [p.remedy for p in found.problems if p.kind == "device-memory"]

    assert remedy(16 * 10**6, cache=5) == []
    (both,) = remedy(12 * 10**6, cache=5)
    assert "bfloat16" in both
    assert "7.5 MB" in both
    assert "cache=0" in both
    assert "10 MB" in both
    (one,) = remedy(8 * 10**6, cache=5)
    assert "bfloat16" in one
    assert "cache=0" not in one
    (none,) = remedy(10**6, cache=5)
    assert none == "a machine with more memory, or a smaller model"


def test_too_little_main_memory_for_the_result(worlds, monkeypatch, tmp_path):
    ds = worlds.dataset()
    monkeypatch.setattr(planning, "free_ram", lambda: 10**6)
    monkeypatch.setattr(planning, "free_on_device", lambda device: 10**9)
    assert ds.wx.plan(worlds.toy(), steps=10).fits
    plan = ds.wx.plan(worlds.toy(), steps=100)
    (problem,) = plan.problems
    assert not plan.fits
    assert problem.kind == "main-memory"
    assert problem.message.startswith("2.05 MB")
    assert 'store="forecast.zarr"' in problem.remedy
    assert problem.remedy in repr(plan)
    assert ds.wx.plan(worlds.toy(), steps=100, store=tmp_path / "fc.zarr").fits
    (several,) = ds.wx.plan(worlds.toy(), steps=100, start=ds.time[[1, 2]]).problems
    assert "ds.chunk()" in several.remedy


def test_too_little_disk(worlds, monkeypatch, tmp_path):
    ds = worlds.dataset()
    monkeypatch.setattr(planning, "free_disk", lambda path: 10**6)
    (problem,) = ds.wx.plan(worlds.toy(), steps=100, store=tmp_path / "fc.zarr").problems
    assert problem.kind == "disk"
    assert "1.23 MB" in problem.message
    assert ds.wx.plan(worlds.toy(), steps=20, store=tmp_path / "fc.zarr").fits
    assert ds.wx.plan(worlds.toy(), steps=100).fits


def test_it_refuses_what_the_forecast_refuses(worlds, tmp_path):
    ds, model = worlds.dataset(), worlds.toy()
    with pytest.raises(ValueError, match="steps=0"):
        ds.wx.plan(model, steps=0)
    with pytest.raises(TypeError, match="cache='x'"):
        ds.wx.plan(model, cache="x")
    with pytest.raises(MismatchError, match="t2m"):
        ds.drop_vars("t2m").wx.plan(model)
    with pytest.raises(MismatchError, match="sst"):
        ds.wx.plan(model, variables=["sst"])
    with pytest.raises(StoreError, match="zarr"):
        ds.wx.plan(model, store=tmp_path / "fc.nc")
    with pytest.raises(MismatchError, match="holds no time"):
        ds.wx.plan(model, start="1999-01-01")


def test_no_field_is_read_and_no_step_made(worlds):
    ds, model = worlds.dataset(), worlds.toy()
    ds = ds.assign(t2m=ds.t2m.copy(data=np.full(ds.t2m.shape, np.nan, np.float32)))
    assert ds.wx.plan(model).fits
    assert model.network.calls == 0


def test_it_is_shown_in_units_for_people(worlds):
    plan = worlds.dataset().wx.plan(worlds.emformer(), steps=3)
    text, page = repr(plan), plan._repr_html_()
    assert text.startswith("<xwx.Plan: 3 steps of tiny on cpu in float32>")
    assert human_size(plan.device_memory) in text
    assert page.count("<tr>") == page.count("</tr>") > 5
    weird = dataclasses.replace(plan, model="<b>&", problems=())
    assert "<b>&" not in weird._repr_html_()


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (999_600, "1 MB"),
     (1_234_567, "1.23 MB"), (20_000_000_000, "20 GB"), (3 * 10**18, "3e+03 PB")],
)  # fmt: skip
def test_sizes(count, words):
    assert human_size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0421, "42 ms"), (0.512, "512 ms"), (1.0, "1 s"), (2.41, "2.4 s"), (80.0, "80 s"),
     (150.0, "2.5 min"), (8000.0, "2.2 h"), (10 * 86400.0, "10 days")],
)  # fmt: skip
def test_times(seconds, words):
    assert human_time(seconds) == words


def test_the_command_line_says_it_with_its_exit_code(worlds, tmp_path, monkeypatch, capsys):
    source, out = tmp_path / "in.nc", tmp_path / "fc.zarr"
    worlds.dataset().to_netcdf(source)
    model = worlds.emformer().save(tmp_path / "model")
    call = ["plan", str(source), "--model", str(model), "--steps", "30", "--out", str(out)]
    assert main(call) == 0
    assert "30 steps of tiny on cpu" in capsys.readouterr().out
    monkeypatch.setattr(planning, "free_disk", lambda path: 10)
    assert main(call) == 1
    assert str(out) in capsys.readouterr().out
    assert not out.exists()


def test_precision_is_the_option_in_force(worlds, known_footprint):
    with xwx.set_options(precision="bfloat16"):
        plan = worlds.dataset().wx.plan(worlds.toy())
    assert plan.precision == "bfloat16"
    assert plan.activations == 5 * 10**6


@pytest.fixture
def known_sampling(monkeypatch):
    """Give any prior a footprint that grows with the members that go through it together."""

    def pretend(model, sampling, *, guided, device, members=1, autocast=None):
        half = 1 if autocast is None else 2
        return counting.Footprint(1000, 300, 0, members * 10**5 // half, 10**9, 10**9, 1000)

    monkeypatch.setattr(planning, "sampling_footprint", pretend)
    monkeypatch.setattr(planning, "weights_of", lambda network: 1000)


@pytest.mark.usefixtures("known_sampling")
def test_the_numbers_that_would_fit_are_proposed(worlds, monkeypatch, tmp_path):
    ds = worlds.dataset()
    monkeypatch.setattr(planning, "free_on_device", lambda device: 10**9)

    def numbers(free, **call):
        monkeypatch.setattr(planning, "free_ram", lambda: free)
        found = ds.wx.plan(**call)
        (problem,) = (p for p in found.problems if p.kind == "main-memory")
        return dict(re.findall(r"(members|steps)=(\d+)", problem.remedy)), call

    def fits(call, **changes):
        return ds.wx.plan(**call | changes).fits

    found, call = numbers(10**6, model=worlds.toy(), steps=100)
    assert list(found) == ["steps"]
    steps = int(found["steps"])
    assert fits(call, steps=steps)
    assert not fits(call, steps=steps + 1)
    wind = tiny_wind(worlds)
    need = ds.wx.plan(wind, steps=40, members=1).device_memory
    found, call = numbers(need + 12 * 10**6, model=wind, steps=40, members=100)
    assert {name: int(n) > 0 for name, n in found.items()} == {"members": True, "steps": True}
    for name, number in found.items():
        assert fits(call, **{name: int(number)})
        assert not fits(call, **{name: int(number) + 1})
    found, call = numbers(need + 2 * 10**5, model=wind, steps=40, members=100)
    assert found["members"] == "1"  # neither alone will do
    assert fits(call, members=1, steps=int(found["steps"]))
    assert not fits(call, members=1, steps=int(found["steps"]) + 1)
    monkeypatch.setattr(planning, "free_disk", lambda path: 10**6)
    store = tmp_path / "fc.zarr"
    (problem,) = ds.wx.plan(worlds.toy(), steps=100, store=store).problems
    steps = int(re.search(r"steps=(\d+)", problem.remedy)[1])
    assert ds.wx.plan(worlds.toy(), steps=steps, store=store).fits
    assert not ds.wx.plan(worlds.toy(), steps=steps + 1, store=store).fits


@pytest.mark.usefixtures("known_sampling")
def test_the_batch_that_would_fit_is_proposed(worlds, monkeypatch):
    ds, wind = worlds.dataset(), tiny_wind(worlds)
    one, two, three = (
        ds.wx.plan(wind, steps=2, members=4, sampling=xwx.Sampling(batch=n)).device_memory
        for n in (1, 2, 3)
    )
    assert one < two < three
    for free, batch in ((one, 1), (two, 2), (three - 1, 2)):
        left = free - 1000  # the weights that are there count as free
        monkeypatch.setattr(planning, "free_on_device", lambda device, left=left: left)
        plan = ds.wx.plan(wind, steps=2, members=4, sampling=xwx.Sampling(batch=4))
        (problem,) = (p for p in plan.problems if p.kind == "device-memory")
        assert f"sampling=xwx.Sampling(batch={batch}), which needs" in problem.remedy


def tiny_wind(worlds):
    network = Wind(WindConfig.preset("wind_tiny", frames=3), worlds.spec())
    return Model(network.eval(), worlds.spec(), Card("tiny"))
