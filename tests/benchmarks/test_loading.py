"""Training data cost little beside training: in time, and in memory while they are packed.

Ratios within one run, or within one process: a machine's own speed does not enter.
"""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec
from xwx.training.data import Archive, statistics

GRID = Grid.regular(32, 64, poles=False)
LEVELS = [50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000]
CHANNELS = tuple(Channel(k, 100.0 * level) for k in "zqtuv" for level in LEVELS)
CHANNELS += tuple(Channel(k) for k in ("t2m", "u10", "v10", "msl", "sp"))
SPEC = Spec(CHANNELS, GRID, forcings=("cos_local_time", "sin_local_time", "cos_year", "sin_year"))

PACKING = """
import resource, sys
from datetime import timedelta
from pathlib import Path
import numpy as np, xarray as xr
from xwx.spec import Channel, Spec
from xwx.fields import grid_of
from xwx.tasks.archive import make_archive

ds = xr.open_dataset(sys.argv[1], engine="zarr", consolidated=False)
spec = Spec((Channel("msl"), Channel("t2m")), grid_of(ds), timedelta(hours=6))
last = str(ds.time.values[int(sys.argv[2]) - 1])
make_archive(ds, spec, ("2000-01-01", "2000-01-04"), Path(sys.argv[3]) / "warm")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
archive = make_archive(ds, spec, ("2000-01-01", last), Path(sys.argv[3]))
# pages of the file that was written count as resident, and can be dropped at any time
written = archive.states.nbytes
print(len(archive.times), before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, written)
"""


def archive(folder, count=200):
    """Return an archive of `count` states of seventy channels, in a memory map."""
    states = np.lib.format.open_memmap(
        folder / "states.npy", mode="w+", dtype=np.float32, shape=(count, 70, *GRID.shape)
    )
    rng = np.random.default_rng(0)
    for n in range(count):
        states[n] = rng.standard_normal(states.shape[1:], dtype=np.float32)
    states.flush()
    times = np.datetime64("2000-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    return Archive(np.load(folder / "states.npy", mmap_mode="r"), None, times, SPEC)


def seconds(function, rounds):
    """Return the median CPU time."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def test_a_batch_is_read_in_a_tenth_of_the_step_that_it_feeds(tmp_path, benchmark):
    data = archive(tmp_path)
    config = EMFormerConfig.preset("emformer_tiny", dim=64, heads=4, depth=4, levels=1)
    network = EMFormer(config, SPEC)
    network.set_statistics(torch.zeros(70), torch.ones(70), torch.ones(70))
    optimizer = torch.optim.AdamW(network.parameters())
    rng = np.random.default_rng(1)

    def read():
        return data.batch(rng.choice(data.starts(2), 8, replace=False), 2)

    def step():
        batch = read_once
        optimizer.zero_grad()
        out, _ = network(batch.states[:, :1], batch.forcing(0), None)
        (out - batch.states[:, 1]).abs().mean().backward()
        optimizer.step()

    read_once = read()
    step()
    ratio = seconds(read, 15) / seconds(step, 5)
    benchmark.extra_info["reading over training"] = ratio
    benchmark.pedantic(read, rounds=5)
    assert ratio < 0.10, f"reading a batch takes {ratio:.2f} of a training step"


def test_statistics_take_less_than_state_by_state(tmp_path, benchmark):
    data = archive(tmp_path, 60)
    weights = np.ones(GRID.shape[0])

    def one_by_one():
        """The mean, the square and the change of each state, in float64."""
        last = None
        for state in data.states:
            field = state.astype(np.float64) * weights[:, None]
            field.mean((-2, -1))
            (field * state).mean((-2, -1))
            if last is not None:
                change = (state - last).astype(np.float64) * weights[:, None]
                change.mean((-2, -1))
                (change * (state - last)).mean((-2, -1))
            last = state

    ratio = seconds(lambda: statistics(data, weights), 5) / seconds(one_by_one, 5)
    benchmark.extra_info["over state by state"] = ratio
    benchmark.pedantic(lambda: statistics(data, weights), rounds=2)
    assert ratio < 1.0, f"statistics take {ratio:.2f} of state by state"


@pytest.mark.slow
def test_four_times_the_states_pack_in_the_same_memory(tmp_path):
    """The peak of a process of its own, less the pages of the file it leaves behind."""
    import xarray as xr

    count, rows, columns = 640, 96, 192
    times = np.datetime64("2000-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    base = np.random.default_rng(0).standard_normal((count, rows, columns), dtype=np.float32)
    ds = xr.Dataset(
        {
            name: (("time", "latitude", "longitude"), base + offset, {"units": units})
            for name, offset, units in (("msl", 1e5, "Pa"), ("t2m", 280, "K"))
        },
        {
            "time": times,
            "latitude": np.linspace(89, -89, rows),
            "longitude": np.arange(columns) * 360 / columns,
        },
    )
    store = tmp_path / "years.zarr"
    chunks = {name: {"chunks": (20, rows, columns)} for name in ds.data_vars}
    ds.to_zarr(store, encoding=chunks, consolidated=False)
    peaks = {}
    for states in (count // 4, count):
        folder = tmp_path / str(states)
        command = [sys.executable, "-c", PACKING, str(store), str(states), str(folder)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found, before, peak, written = map(int, out.split())
        assert found == states
        peaks[states] = max(0, (peak - before) * 1024 - written)
    # 640 states are 94 MB, a piece is 32 MiB
    assert peaks[count] <= max(peaks[count // 4], 32 << 20) * 1.25, peaks
