"""Packing costs little more than the copy it must make anyway.

Ratios within one run: a machine's own speed does not enter.
"""

import time
import tracemalloc

import numpy as np
import pytest
import xarray as xr

from xwx.fields import pack
from xwx.spec import Channel, Grid, Spec

LEVELS = [50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000]
UPPER = {"z": "m2 s-2", "t": "K", "u": "m s-1", "v": "m s-1", "q": "kg kg-1"}
SURFACE = {"t2m": "K", "u10": "m s-1", "v10": "m s-1", "msl": "Pa", "sp": "Pa"}
GRID = Grid.regular(721, 1440, poles=True)
SPEC = Spec(
    tuple(Channel(k, 100.0 * level) for k in UPPER for level in LEVELS)
    + tuple(Channel(k) for k in SURFACE),
    GRID,
)


@pytest.fixture(scope="module")
def state():
    """A single-time state of 70 fields at 0.25 degrees, about 290 MB of float32."""
    rng = np.random.default_rng(0)
    plane = rng.standard_normal(GRID.shape, dtype=np.float32)
    ds = xr.Dataset(
        coords={
            "time": [np.datetime64("2020-01-01", "ns")],
            "level": ("level", LEVELS, {"units": "hPa"}),
            "latitude": GRID.rows,
            "longitude": GRID.columns,
        }
    )
    for key, units in UPPER.items():
        values = np.repeat(plane[None, None], len(LEVELS), axis=1)
        ds[key] = (("time", "level", "latitude", "longitude"), values, {"units": units})
    for key, units in SURFACE.items():
        ds[key] = (("time", "latitude", "longitude"), plane[None].copy(), {"units": units})
    return ds


def fields_of(ds):
    upper = [ds[k].values[0, n] for k in UPPER for n in range(len(LEVELS))]
    return upper + [ds[k].values[0] for k in SURFACE]


def seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def test_time_against_one_stack(state, benchmark):
    fields = fields_of(state)
    pack(state, SPEC)
    stack_times, pack_times = [], []
    for _ in range(25):  # in turns, so that both meet the same machine
        stack_times.append(seconds(lambda: np.stack(fields)))
        pack_times.append(seconds(lambda: pack(state, SPEC)))
    ratio = min(pack_times) / min(stack_times)
    benchmark.extra_info["ratio to numpy.stack"] = ratio
    benchmark.pedantic(pack, args=(state, SPEC), rounds=3)
    assert ratio <= 1.5, f"pack took {ratio:.2f} times one numpy.stack"


@pytest.mark.parametrize("layout", ["float32", "flipped and rolled", "float64", "converted"])
def test_peak_memory(state, layout):
    ds = state
    if layout == "flipped and rolled":
        ds = ds.isel(latitude=slice(None, None, -1), level=slice(None, None, -1))
        ds = ds.assign_coords(longitude=ds.longitude - 180)
    elif layout == "float64":
        ds = ds.assign(t=ds.t.astype("float64"))
    elif layout == "converted":
        ds = ds.assign({k: ds[k].assign_attrs(units="degC") for k in ("t", "t2m")})
    size = 4 * len(SPEC.channels) * GRID.shape[0] * GRID.shape[1]
    tracemalloc.start()
    try:
        array, _ = pack(ds, SPEC)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert array.nbytes == size
    assert peak <= 2.2 * size, f"peak memory is {peak / size:.2f} times the array"


def test_peak_memory_of_dask(state):
    ds = state.chunk(latitude=181)
    size = 4 * len(SPEC.channels) * GRID.shape[0] * GRID.shape[1]
    tracemalloc.start()
    try:
        pack(ds, SPEC)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 2.2 * size, f"peak memory is {peak / size:.2f} times the array"
