"""Verification of an ensemble at the size of a global forecast: time and memory.

Ratios within one run: a machine's own speed does not enter.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc

import dask.array
import numpy as np
import pytest
import xarray as xr

import xwx  # noqa: F401 - registers ds.wx

STEPS, MEMBERS, ROWS, COLUMNS = 40, 50, 121, 240


def world(members, truth):
    """Return a forecast of one start and its truth, (step, member, lat, lon), (step, lat, lon)."""
    start = np.datetime64("2020-01-01", "ns")
    leads = np.arange(1, STEPS + 1) * np.timedelta64(6 * 3600 * 10**9, "ns")
    coords = {
        "time": start + leads,
        "latitude": ("latitude", np.linspace(90, -90, ROWS), {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(COLUMNS) * 1.5, {"units": "degrees_east"}),
    }
    attrs = {"units": "K", "standard_name": "air_temperature"}
    dims = ("time", "latitude", "longitude")
    true = xr.Dataset({"t2m": (dims, truth, attrs)}, coords)
    forecast = xr.Dataset({"t2m": (("time", "member", *dims[1:]), members, attrs)}, coords)
    return forecast.assign_coords(lead_time=("time", leads), init_time=start), true


@pytest.fixture(scope="module")
def case():
    """Return 232 MB of members in float32, and their truth."""
    draw = np.random.default_rng(0)
    members = draw.standard_normal((STEPS, MEMBERS, ROWS, COLUMNS), dtype=np.float32)
    return world(members, draw.standard_normal((STEPS, ROWS, COLUMNS), dtype=np.float32))


def by_turns(*ways, repeats=5):
    """Return the median CPU seconds of each way; all meet the same machine."""
    times = [[] for _ in ways]
    for _ in range(repeats):
        for way, seconds in zip(ways, times, strict=True):
            began = time.process_time()
            way()
            seconds.append(time.process_time() - began)
    return [statistics.median(seconds) for seconds in times]


def test_time_against_sorting(case):
    """The fair CRPS from the accessor to the scores: at most 1.2 times a bare numpy.sort."""
    forecast, truth = case
    members = forecast["t2m"].values
    forecast.isel(time=[0]).wx.verify(truth, "crps")  # and everything is compiled
    ours, sorting = by_turns(
        lambda: forecast.wx.verify(truth, "crps"), lambda: np.sort(members, axis=1)
    )
    print(f"verify crps: {ours:.3f} s; / numpy.sort = {ours / sorting:.2f}")
    assert ours / sorting <= 1.2


def test_one_pass_for_all_scores(case):
    """Ten scores together cost less than half of what they cost one by one."""
    forecast, truth = case
    names = ["rmse", "mae", "bias", "mse", "crps", "crps_ecdf", "spread", "skill", "ssr", "ssr_raw"]
    together, apart = by_turns(
        lambda: forecast.wx.verify(truth, names),
        lambda: [forecast.wx.verify(truth, name) for name in names],
        repeats=3,
    )
    print(f"{len(names)} scores together / one by one = {together / apart:.2f}")
    assert together / apart <= 0.5


def peak(way):
    """Return the most memory that was held at a time, in bytes."""
    tracemalloc.start()
    try:
        way()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_beside_arrays_in_memory(case):
    """Less than one step of the members beside the arrays themselves."""
    forecast, truth = case
    step = forecast["t2m"].nbytes / STEPS
    held = peak(lambda: forecast.wx.verify(truth, ["crps", "rmse"]))
    print(f"peak / one step of the members = {held / step:.2f}")
    assert held / step <= 1


def test_memory_of_chunks():
    """With dask on both sides: a chunk, and the copy that dask makes of it for its task."""
    shape = (1, MEMBERS, ROWS, COLUMNS)

    def drawn(block_id):
        return np.random.default_rng(block_id[0]).standard_normal(shape, dtype=np.float32)

    chunks = ((1,) * STEPS, (MEMBERS,), (ROWS,), (COLUMNS,))
    members = dask.array.map_blocks(drawn, chunks=chunks, dtype=np.float32)
    true = dask.array.zeros((STEPS, ROWS, COLUMNS), chunks=(1, -1, -1), dtype=np.float32)
    forecast, truth = world(members, true)
    chunk = forecast["t2m"].nbytes / STEPS
    held = peak(
        lambda: forecast.wx.verify(truth, ["crps", "rmse"]).compute(scheduler="synchronous")
    )
    print(f"peak / one chunk = {held / chunk:.2f}")
    assert held / chunk <= 2.5
