"""Run the network of the published size end to end, and print what it takes.

``python tests/benchmarks/published_size.py [--grid 128x256 | 721x1440] [--steps N] [--cache N]
[--device cpu] [--precision float32] [--threads 1] [--store PATH]``

70 channels, ``emformer_budget`` with patches of 2 x 2 cells at 1.4 degrees and 4 x 4 at 0.25
degrees, where the 721 rows of ERA5 with both poles are padded to the south. The state is made by
formula and the weights are random, so that the forecast means nothing; time and memory do not
depend on the numbers. It stays finite for any number of steps: the head normalises its tokens, and
its weights bound what comes out of it, in standard deviations of each channel round its mean.

The step is timed inside the rollout, without reading the input and writing the result: by the
clock, and on a CPU in processor time, which other programs disturb less. The resident memory is
that of the whole process beyond what it had before the network was made, when a small forecast had
loaded all that is imported and compiled.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import xwx
from xwx.models.card import Card
from xwx.models.checkpoint import Model
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec

PRESSURES = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
#: Units and standard names, as ERA5 has them.
UPPER = {
    "z": ("m2 s-2", "geopotential"),
    "q": ("kg kg-1", "specific_humidity"),
    "u": ("m s-1", "eastward_wind"),
    "v": ("m s-1", "northward_wind"),
    "t": ("K", "air_temperature"),
}
SINGLE = {"t2m": "K", "u10": "m s-1", "v10": "m s-1", "msl": "Pa", "sp": "Pa"}
#: Rows, columns, whether the outer rows lie on the poles, and the side of a patch.
GRIDS = {"128x256": (128, 256, False, 2), "721x1440": (721, 1440, True, 4)}
#: Milliseconds a step at 1.4 degrees on one A100 (arXiv 2602.01194).
PUBLISHED = 98.3


def state(grid: Grid) -> xr.Dataset:
    """Return one state on 13 levels by formula: a jet, waves, warm tropics, low mountains."""
    lat = np.radians(grid.rows, dtype=np.float32)[:, None]
    lon = np.radians(grid.columns, dtype=np.float32)
    p = np.asarray(PRESSURES, dtype=np.float32)[:, None, None] / 1000
    wave = np.cos(lat) ** 2 * (np.sin(5 * lon + 3 * lat) + 0.4 * np.cos(11 * lon - 7 * lat))
    t2m = 300 - 45 * np.sin(lat) ** 2 + 4 * wave
    jet = 35 * np.sin(2 * lat) ** 2 + 8 * wave
    t = np.maximum(t2m + 70 * np.log(p) * (1 - 0.25 * np.log(p) ** 2 / 9), 195 + 3 * wave)
    msl = 101325 - 900 * np.cos(4 * lat) + 1200 * wave
    height = 900 * np.cos(lat) * np.maximum(0, np.sin(2 * lon + 1)) ** 2
    upper = {
        "z": 287.0 * (t + t2m) / 2 * (np.log(msl / 1e5) - np.log(p)),
        "q": 0.017 * p**3 * np.cos(lat) ** 4 * (1 + 0.2 * wave),
        "u": jet * (0.2 + np.sin(np.pi * (1 - p) ** 0.7)),
        "v": 9 * (0.3 + 1 - p) * np.cos(lat) * np.cos(5 * lon + 3 * lat),
        "t": t,
    }
    single = {
        "t2m": t2m,
        "u10": 0.2 * jet - 4 * np.cos(3 * lat),
        "v10": 3 * np.cos(lat) * np.cos(5 * lon + 3 * lat),
        "msl": msl,
        "sp": msl * np.exp(-9.81 * height / (287.0 * t2m)),
    }
    place = ("latitude", "longitude")
    data = {
        name: (("time", "level", *place), field[None].astype(np.float32), attributes(*UPPER[name]))
        for name, field in upper.items()
    }
    data |= {
        name: (("time", *place), field[None].astype(np.float32), {"units": SINGLE[name]})
        for name, field in single.items()
    }
    coords = {
        "time": ("time", [np.datetime64("2026-01-31T18", "ns")]),
        "level": ("level", list(PRESSURES), {"units": "hPa", "positive": "down"}),
        "latitude": ("latitude", grid.rows, {"units": "degrees_north"}),
        "longitude": ("longitude", grid.columns, {"units": "degrees_east"}),
    }
    return xr.Dataset(data, coords)


def attributes(units: str, name: str) -> dict[str, str]:
    """Return the attributes of a variable."""
    return {"units": units, "standard_name": name}


def published(ds: xr.Dataset, grid: Grid, patch: int, preset: str = "emformer_budget") -> Model:
    """Return the network with random weights and the statistics of the state."""
    channels = (*(Channel(n, 100.0 * p) for n in UPPER for p in PRESSURES), *map(Channel, SINGLE))
    spec = Spec(channels, grid, timedelta(hours=6))
    torch.manual_seed(0)
    network = EMFormer(EMFormerConfig.preset(preset, patch=patch), spec).eval()
    fields = [*(ds[n].values[0, k] for n in UPPER for k in range(13)), *(ds[n][0] for n in SINGLE)]
    mean = torch.tensor([float(np.mean(field)) for field in fields])
    std = torch.tensor([float(np.std(field)) for field in fields])
    network.set_statistics(mean, std, 0.1 * std)
    return Model(network, spec, Card("emformer-budget", licence="none: random weights"))


class Watch:
    """Notes when each step of the network ends, how long it took, and the memory by then."""

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self.resident: list[int] = []
        network.register_forward_pre_hook(self._begin)
        network.register_forward_hook(self._end)

    def clear(self) -> None:
        """Forget what was noted."""
        self.seconds, self.processor, self.resident = [], [], []

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()

    def _begin(self, *_: object) -> None:
        self.began = self._now()

    def _end(self, *_: object) -> None:
        clock, processor = self._now()
        self.seconds.append(clock - self.began[0])
        self.processor.append(processor - self.began[1])
        self.resident.append(resident("VmRSS"))


def resident(key: str) -> int:
    """Return a figure of this process' resident memory in bytes (Linux)."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{key}:\s+(\d+) kB", text)
    assert found, f"/proc/self/status has no {key}"
    return 1024 * int(found[1])


def machine(device: torch.device) -> str:
    """Return the device, the threads, the versions and the date."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif found := re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text()):
        name = found[1]
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "numba", "xarray", "zarr"))
    return (
        f"{name}, {torch.get_num_threads()} thread(s); Python {platform.python_version()}, "
        f"xwx {xwx.__version__}, {packages}; {datetime.date.today()}"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", choices=GRIDS, default="128x256")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--cache", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--store", type=Path, help="a new .zarr; by default a temporary one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    rows, columns, poles, patch = GRIDS[arguments.grid]
    grid = Grid.regular(rows, columns, poles=poles)
    print(machine(device))
    with xwx.set_options(precision=arguments.precision, progress=False):
        warm_up(device)
    ds = state(grid)
    before = resident("VmRSS")
    model = published(ds, grid, patch).to(device)
    with xwx.set_options(precision=arguments.precision, progress=False):
        report(ds, model, arguments, before)


def warm_up(device: torch.device) -> None:
    """Import and compile with a small network what the large one needs."""
    grid = Grid.regular(32, 64, poles=False)
    ds = state(grid)
    model = published(ds, grid, 2, preset="emformer_tiny").to(device)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "forecast.zarr")
        ds.wx.plan(model, steps=2, cache=1, store=store)
        ds.wx.forecast(model, steps=3, cache=1, store=store).load()


def report(ds: xr.Dataset, model: Model, arguments: argparse.Namespace, before: int) -> None:
    """Plan, run, and print both."""
    call = {"steps": arguments.steps, "cache": arguments.cache}
    watch = Watch(model.network, model.device)
    with tempfile.TemporaryDirectory() as folder:
        store = arguments.store or Path(folder, "forecast.zarr")
        plan = ds.wx.plan(model, **call, store=store)
        watch.clear()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        began = time.perf_counter()
        fc = ds.wx.forecast(model, **call, store=store)
        whole = time.perf_counter() - began
        last = fc.isel(time=-1).load()
        disk = sum(file.stat().st_size for file in Path(store).rglob("*") if file.is_file())
    assert all(bool(np.isfinite(v).all()) for v in last.data_vars.values())
    print(f"{arguments.grid}, {model.parameters / 1e6:.1f} M parameters, {arguments.steps} steps, "
          f"cache {arguments.cache}, {arguments.precision}, into a Zarr store")  # fmt: skip
    timing("clock", watch.seconds)
    if model.device.type == "cpu":
        timing("processor", watch.processor)
    print(f"with reading and writing {1e3 * whole / arguments.steps:.0f} ms a step by the clock; "
          f"predicted about {1e3 * (plan.seconds_per_step or 0):.0f} ms")  # fmt: skip
    memory(watch.resident, plan, before)
    print(f"disk: {disk / 1e9:.2f} GB written, predicted at most {plan.disk / 1e9:.2f} GB")
    on_gpu(model.device, watch.seconds, plan.device_memory)


def timing(name: str, seconds: list[float]) -> None:
    """Print the time of the steps."""
    first, *rest = (1e3 * s for s in seconds)
    line = f"{name}: first step {first:.0f} ms"
    if rest:
        line += f", then median {statistics.median(rest):.0f} ms"
        line += f" (least {min(rest):.0f}, most {max(rest):.0f})"
    if len(rest) >= 15:
        ratio = statistics.median(rest[-10:]) / statistics.median(rest[5:15])
        line += f"; median of the last 10 steps over that of steps 7 to 16: {ratio:.3f}"
    print(line)


def memory(held: list[int], plan: xwx.tasks.plan.Plan, before: int) -> None:
    """Print the memory of the process beside what it had before the network was made."""
    peak = resident("VmHWM") - before
    predicted = plan.device_memory + plan.host_memory
    print(f"peak resident {peak / 1e6:.0f} MB beside {before / 1e6:.0f} MB before the network; "
          f"predicted {predicted / 1e6:.0f} MB, {predicted / peak:.2f} of it")  # fmt: skip
    print(plan)
    if len(held) >= 16:
        early, late = max(held[6:16]) - before, max(held[-10:]) - before
        print(f"resident: steps 7 to 16 {early / 1e6:.0f} MB, last 10 {late / 1e6:.0f} MB, "
              f"ratio {late / early:.3f}")  # fmt: skip


def on_gpu(device: torch.device, seconds: list[float], predicted: int) -> None:
    """Print what belongs to a GPU, or that it is not known."""
    if device.type != "cuda":
        print(f"GPU: not yet measured (published: {PUBLISHED} ms a step at 1.4 degrees, A100)")
        return
    peak = torch.cuda.max_memory_allocated(device)
    print(f"GPU: peak allocated {peak / 1e6:.0f} MB, predicted {predicted / 1e6:.0f} MB; "
          f"{1e3 * statistics.median(seconds[1:] or seconds):.1f} ms a step "
          f"(published: {PUBLISHED} ms at 1.4 degrees, A100)")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
