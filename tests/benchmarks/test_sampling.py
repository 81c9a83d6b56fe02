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

from xwx import Channel, Grid, Spec
from xwx.models.card import Card
from xwx.models.checkpoint import Model
from xwx.models.wind import Wind, WindConfig
from xwx.tasks.posterior import posterior, scene_of

CHANNELS, ROWS, COLUMNS = 20, 32, 64


def model(checkpointing=False):
    spec = Spec(
        tuple(Channel("t", 1000.0 * n) for n in range(1, CHANNELS + 1)),
        Grid.regular(ROWS, COLUMNS, poles=False),
        timedelta(hours=6),
        1,
        ("cos_local_time", "sin_year"),
    )
    torch.manual_seed(0)
    network = Wind(WindConfig.preset("wind_mini"), spec).eval()
    network.checkpointing = checkpointing
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
    """CPU time of a posterior over that of the network within it, unguided.

    The goal is 3 %; 4 to 5 % were measured for this small network, so that 8 % is a fault.
    """
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
    assert min(ratios) <= 1.08


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
    from xwx.tasks.posterior import posterior, scene_of
    from xwx.tasks.room import sampling_footprint

    torch.set_num_threads(1)
    mode, iterations, again, count = (json.loads(word) for word in sys.argv[1:])
    grid = xwx.Grid.regular(32, 64, poles=False)
    channels = tuple(xwx.Channel("t", 1000.0 * n) for n in range(1, 21))
    spec = xwx.Spec(channels, grid, timedelta(hours=6))

    class Stations:
        def bind(self, scene):
            index = torch.arange(0, 5 * 20 * 32 * 64, 997)
            seen = Observation(Observe(index, (5, 20, 32, 64)), torch.ones(len(index)), 1.0)
            return Bound("stations", lambda covered: seen)

    torch.manual_seed(0)
    network = Wind(WindConfig.preset("wind_mini"), spec).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    model = Model(network, spec, Card("mini"))
    times = np.datetime64("2026-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    scene = scene_of(model, times, xr.Dataset(), np.zeros((20, 32, 64), np.float32))

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
    times = [(spent([], plain), spent([Stations()], guided)) for _ in range(3)]
    alone, beside = peak([], plain) + weights, peak([Stations()], guided) + weights
    planned = sampling_footprint(
        model, guided, guided=True, device=torch.device("cpu")
    ).peak
    print(json.dumps([min(b for _, b in times) / min(a for a, _ in times), beside / alone,
                      planned / beside, beside]))
"""


def costs(mode, iterations, again, count=5):
    """Return time and memory of a guided step over a free one, the plan's, and the bytes."""
    words = [json.dumps(word) for word in (mode, iterations, again, count)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COSTS), *words],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="the profiler's memory events are of Linux")
@pytest.mark.parametrize(
    ("mode", "passes"), [("mmps", 3), ("mmps", 1), ("pigdm", 1), ("tmpd", 2), ("dps", 1)]
)
def test_guided_over_free(mode, passes):
    """Time at most 2 + the passes backward, and the memory that was planned within 15 %.

    The goal of 1.6 times the memory with checkpointing is not reached by this small network, whose
    states are large beside its activations: 1.77 was measured for three passes.
    """
    time_ratio, memory_ratio, planned, _ = costs(mode, passes, False)
    again_time, again_memory, _, _ = costs(mode, passes, True)
    print(
        f"{mode} with {passes} passes backward: time x {time_ratio:.2f}, memory x "
        f"{memory_ratio:.2f} (planned / taken {planned:.3f}); checkpointing: time x "
        f"{again_time:.2f}, memory x {again_memory:.2f}"
    )
    assert 1 < time_ratio <= 2 + passes
    assert 1 < again_memory <= 2
    assert again_memory < memory_ratio
    assert 0.85 <= planned <= 1.15


@pytest.mark.skipif(sys.platform == "win32", reason="the profiler's memory events are of Linux")
def test_memory_does_not_grow_with_the_windows():
    """Two windows and eight: the same peak of what torch allocates, within 1 %."""
    short, long = costs("pigdm", 1, False, 9)[3], costs("pigdm", 1, False, 33)[3]
    print(f"peak of 8 windows / of 2: {long / short:.4f}")
    assert long / short <= 1.01
