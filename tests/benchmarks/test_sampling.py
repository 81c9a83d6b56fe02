"""What sampling costs beyond its network, and guidance beyond sampling: ratios of one process.

``pytest -p no:xdist --benchmark-enable -s tests/benchmarks/test_sampling.py`` prints them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from datetime import timedelta

import numpy as np
import pytest
import torch
import xarray as xr

import xwx
from xwx import Channel, Grid, Spec
from xwx.models.card import Card
from xwx.models.checkpoint import Model
from xwx.models.wind import Wind, WindConfig
from xwx.tasks.sampling.posterior import posterior, scene_of

CHANNELS, ROWS, COLUMNS = 2, 73, 144  # of the bundled prior


def model():
    spec = Spec(
        tuple(Channel("t", 1000.0 * n) for n in range(1, CHANNELS + 1)),
        Grid.regular(ROWS, COLUMNS, poles=True),
        timedelta(hours=6),
        1,
        ("cos_local_time", "sin_year"),
    )
    torch.manual_seed(0)
    network = Wind(WindConfig.preset("wind_mini"), spec).eval()
    return Model(network, spec, Card("mini"))


def scene(of, count):
    times = np.datetime64("2026-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    start = np.zeros((CHANNELS, ROWS, COLUMNS), np.float32)
    return scene_of(of, times, xr.Dataset(), start)


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_overhead_over_the_bare_evaluations(benchmark):
    """CPU time of a posterior over that of the network within it, unguided: at most 3 % more."""
    made = model()
    inside = [0.0]
    bare = Wind.denoise

    def timed(*args):
        began = time.process_time()
        out = bare(*args)
        inside[0] += time.process_time() - began
        return out

    ratios = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wind, "denoise", timed)
        for _ in range(5):
            inside[0], began = 0.0, time.process_time()
            list(posterior(made, scene(made, 5), members=2, seed=0))
            total = time.process_time() - began
            assert inside[0] > 0.1, "the network was not timed"
            ratios.append(total / inside[0])
    benchmark.extra_info["overhead ratio"] = round(min(ratios), 4)
    benchmark.pedantic(lambda: list(posterior(made, scene(made, 5), members=1, seed=0)), rounds=1)
    print(f"posterior / bare evaluations = {min(ratios):.4f} of", *(f"{r:.4f}" for r in ratios))
    assert min(ratios) <= 1.03


@pytest.mark.usefixtures("_one_thread")
def test_two_days_of_ten_members(monkeypatch):
    """A forecast of the bundled prior calls its network 300 times, and does little else.

    What it took is printed: the goal of three minutes is one of this machine, not of every.
    """
    made, ds = xwx.load("wind-era5-mini", device="cpu"), xwx.tutorial.open_dataset("era5-winter")
    spent, bare = [], Wind.denoise

    def timed(*args):
        began = time.process_time()
        out = bare(*args)
        spent.append(time.process_time() - began)
        return out

    monkeypatch.setattr(Wind, "denoise", timed)
    began = time.process_time()
    with xwx.set_options(progress=False):
        fc = ds.wx.forecast(made, steps=8, members=10, seed=0)
    total = time.process_time() - began
    ratio = total / sum(spent)
    print(f"two days, ten members: {total:.0f} s of one core, {ratio:.3f} of the bare calls")
    assert fc["msl"].sizes["member"] == 10
    assert len(spent) == 10 * 2 * 15
    assert ratio <= 1.15


COSTS = """
    import json, sys, time
    from datetime import timedelta
    import numpy as np, torch, xarray as xr
    from torch.profiler import ProfilerActivity, profile
    import xwx
    from xwx.constraints.scene import Bound
    from xwx.diffusion.operators import Observe
    from xwx.diffusion.protocols import Observation
    from xwx.models.card import Card
    from xwx.models.checkpoint import Model
    from xwx.models.wind import Wind, WindConfig
    from xwx.tasks.sampling.posterior import posterior, scene_of
    from xwx.tasks.sampling.room import sampling_footprint

    torch.set_num_threads(1)
    mode, iterations, again, count, (size, rows, columns) = map(json.loads, sys.argv[1:])
    grid = xwx.Grid.regular(rows, columns, poles=rows % 2 == 1)
    channels = tuple(xwx.Channel("t", 1000.0 * n) for n in range(1, size + 1))
    window = (5, size, rows, columns)
    spec = xwx.Spec(channels, grid, timedelta(hours=6))

    class Stations:
        def bind(self, scene):
            index = torch.arange(0, 5 * size * rows * columns, 997)
            seen = Observation(Observe(index, window), torch.ones(len(index)), 1.0)
            return Bound("stations", lambda covered: seen)

    torch.manual_seed(0)
    network = Wind(WindConfig.preset("wind_mini"), spec).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
        wave = torch.arange(network.spectrum.shape[-1]) + torch.arange(2 * rows)[:, None] / 2
        network.set_waves(
            (1 + wave).pow(-3).expand(network.spectrum.shape),
            torch.full(network.spectrum.shape, 0.8 + 0j),
        )
    model = Model(network, spec, Card("mini"))
    times = np.datetime64("2026-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    scene = scene_of(model, times, xr.Dataset(), np.zeros(window[1:], np.float32))

    def spent(guided, sampling):
        began = time.process_time()
        for piece in posterior(model, scene, guided, members=1, seed=0, sampling=sampling):
            del piece
        return time.process_time() - began

    def peak(guided, sampling):
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            spent(guided, sampling)
        events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        alive = most = 0
        for event in events:
            alive += event.nbytes()
            most = max(most, alive)
        return most

    weights = sum(p.nbytes for p in network.parameters())
    plain = xwx.Sampling(steps=3)
    guided = xwx.Sampling(steps=3, guidance=mode, iterations=iterations)
    network.checkpointing = again
    spent([Stations()], guided)
    times = [(spent([], plain), spent([Stations()], guided)) for _ in range(5)]
    alone, beside = peak([], plain) + weights, peak([Stations()], guided) + weights
    planned = sampling_footprint(
        model, guided, guided=True, device=torch.device("cpu")
    ).peak
    print(json.dumps([min(b for _, b in times) / min(a for a, _ in times), beside / alone,
                      planned / beside, beside]))
"""


#: Channels, rows and columns: twenty on a coarse grid, and those of the bundled prior.
TWENTY, BUNDLED = (20, 32, 64), (2, 73, 144)
CASES = [
    ("mmps", 3, TWENTY), ("mmps", 1, TWENTY), ("tmpd", 2, TWENTY), ("pigdm", 1, TWENTY),
    ("dps", 1, TWENTY), ("mmps", 3, BUNDLED), ("background", 0, BUNDLED),
]  # fmt: skip


def costs(mode, iterations, again, count=5, size=TWENTY):
    """Return time and memory of a guided step over a free one, the plan's, and the bytes."""
    words = [json.dumps(word) for word in (mode, max(1, iterations), again, count, size)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COSTS), *words],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="the profiler's memory events are of Linux")
@pytest.mark.parametrize(("mode", "passes", "size"), CASES)
def test_guided_over_free(mode, passes, size):
    """Time at most 2 + the passes backward, and the memory that was planned.

    With the two channels of the bundled prior three passes take 4.9 to 5.3 times the time of a free
    step, so that the goal of 5 is missed; 5.5 is a fault.
    Computing parts again is planned a little too high, never too low. The goal of 1.6 times the
    memory then is reached with twenty channels, and not with two, whose network is nearly all
    maps of the first level: what the way back starts from has to be kept for each of its parts.
    """
    time_ratio, memory_ratio, planned, _ = costs(mode, passes, False, size=size)
    line = (
        f"{mode:10} {passes} passes backward, {size[0]:2} channels: time x {time_ratio:.2f}, "
        f"memory x {memory_ratio:.2f} (planned / taken {planned:.2f})"
    )
    if not passes:  # no graph is kept, so that nothing could be computed again
        print(line)
        assert 1 < time_ratio <= 2
        assert 0.85 <= planned <= 1.15
        assert memory_ratio <= 1.6
        return
    again_time, again_memory, again_planned, _ = costs(mode, passes, True, size=size)
    print(
        f"{line}; computing again: time x {again_time:.2f}, memory x {again_memory:.2f} "
        f"({again_planned:.2f})"
    )
    assert 1 < time_ratio <= (2 + passes) * (1 if size == TWENTY else 1.1)
    assert 1 < again_memory <= (1.6 if size == TWENTY else 2)
    assert again_memory < memory_ratio
    assert 0.85 <= planned <= 1.15
    assert 0.95 <= again_planned <= 1.3


@pytest.mark.skipif(sys.platform == "win32", reason="the profiler's memory events are of Linux")
def test_memory_does_not_grow_with_the_windows():
    """Two windows and eight: the same peak of what torch allocates, within 1 %."""
    short, long = costs("pigdm", 1, False, 9)[3], costs("pigdm", 1, False, 33)[3]
    print(f"peak of 8 windows / of 2: {long / short:.4f}")
    assert long / short <= 1.01
