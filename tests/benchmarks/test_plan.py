"""What a plan predicts against what torch then allocates, each in a process of its own.

Measured is the peak of what torch's CPU allocator has handed out and not got back, by its own
profiler, while a network is made and a forecast runs. The resident memory of the process is not
compared here: it also has what the C library keeps and what is imported on the way, which for
networks of this size is as large as they are. `published_size.py` prints it for the large one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

PEAK = """
    import json, sys, warnings
    from datetime import timedelta
    import numpy as np, torch, xarray as xr
    from torch.profiler import ProfilerActivity, profile
    import xwx
    from xwx.models.card import Card
    from xwx.models.checkpoint import Model
    from xwx.models.emformer import EMFormer, EMFormerConfig

    torch.set_num_threads(1)
    size, precision, cache = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    xwx.set_options(precision=precision, device="cpu", progress=False)
    pressures = range(50, 750, 10)
    grid = xwx.Grid.regular(32, 64, poles=False)
    spec = xwx.Spec(tuple(xwx.Channel("t", 100.0 * p) for p in pressures), grid)
    ds = xr.Dataset(
        {"t": (("time", "level", "latitude", "longitude"),
               np.ones((1, 70, 32, 64), np.float32), {"units": "K"})},
        {"time": [np.datetime64("2026-01-31T18", "ns")],
         "level": ("level", list(pressures), {"units": "hPa"}),
         "latitude": ("latitude", grid.rows, {"units": "degrees_north"}),
         "longitude": ("longitude", grid.columns, {"units": "degrees_east"})},
    )

    def build():
        network = EMFormer(EMFormerConfig.from_mapping(size), spec).eval()
        return Model(network, spec, Card("measured"))

    plan = ds.wx.plan(build(), steps=cache + 3, cache=cache)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        ds.wx.forecast(build(), steps=cache + 3, cache=cache)
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    alive = peak = 0
    for event in events:
        alive += event.nbytes()
        peak = max(peak, alive)
    print(json.dumps([plan.device_memory, peak]))
"""

TINY = {"preset": "emformer_tiny"}
MIDDLE = {"dim": 192, "depth": 8}


@pytest.mark.skipif(sys.platform == "win32", reason="the profiler's memory events are of Linux")
@pytest.mark.parametrize(
    ("size", "precision", "cache"),
    [
        (TINY, "float32", 0),
        (TINY, "bfloat16", 5),
        (MIDDLE, "float32", 5),
        (MIDDLE, "bfloat16", 0),
    ],
)
def test_predicted_peak_of_device_memory(size, precision, cache):
    """Within 15 per cent."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PEAK), json.dumps(size), precision, str(cache)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    predicted, peak = json.loads(done.stdout.splitlines()[-1])
    print(f"predicted {predicted / 1e6:.2f} MB, measured {peak / 1e6:.2f}: {predicted / peak:.3f}")
    assert peak > 4_000_000, "the measure saw nothing"
    assert 0.85 <= predicted / peak <= 1.15
