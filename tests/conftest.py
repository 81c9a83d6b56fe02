"""Small worlds with known answers, shared by the tests of forecasts."""

from __future__ import annotations

import os
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from xwx.spec import Channel, Grid, Spec

# Without a GPU the Triton kernels run in the interpreter, which Triton reads when it is imported.
# Sandboxes may hide the driver's folder under /proc, and WSL has /dev/dxg only.
if not any(map(os.path.exists, ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"))):
    os.environ.setdefault("TRITON_INTERPRET", "1")

GRID = Grid.regular(16, 32, poles=False)
#: On purpose neither in the order of the variables nor in that of the levels.
CHANNELS = (
    Channel("t", 85000.0),
    Channel("msl"),
    Channel("z", 50000.0),
    Channel("t2m"),
    Channel("z", 85000.0),
    Channel("t", 50000.0),
)
LEVELS = (850.0, 500.0)
STEP = np.timedelta64(6, "h")
ATTRS = {
    "z": {"units": "m2 s-2", "standard_name": "geopotential", "long_name": "Geopotential"},
    "t": {"units": "K", "standard_name": "air_temperature"},
    "t2m": {"units": "K", "standard_name": "air_temperature", "long_name": "2 m temperature"},
    "msl": {"units": "Pa", "standard_name": "air_pressure_at_mean_sea_level"},
}


def spec(history=1, forcings=(), **changes):
    """Return what the toy networks need."""
    return Spec(
        changes.get("channels", CHANNELS),
        changes.get("grid", GRID),
        timedelta(hours=6),
        history,
        forcings,
    )


def times(count, first="2026-01-30T00"):
    return np.datetime64(first, "ns") + np.arange(count) * STEP


def states(count):
    """Return states by formula: float32, (time, channel, lat, lon), canonical units."""
    size = {"z": (5e4, 3e3), "t": (260.0, 20.0), "t2m": (280.0, 15.0), "msl": (1e5, 2e3)}
    time, row, column = np.ogrid[:count, : GRID.shape[0], : GRID.shape[1]]
    out = [
        size[c.name][0]
        + size[c.name][1]
        * (np.sin(0.3 * time + n + 0.4 * row) + 0.5 * np.cos(0.2 * column * (n + 1) - time))
        for n, c in enumerate(CHANNELS)
    ]
    return np.stack(out, axis=1).astype(np.float32)


def advance(older, last):
    """Return the state that the toy network makes: exact in float32, in this order."""
    half = np.float32(0.5) * last
    return half + np.float32(0.25) * np.roll(last, 1, -1) + np.float32(0.25) * np.roll(older, 1, -2)


def followed(array, steps, history=1):
    """Return states and the `steps` states that the toy network makes after them."""
    out = list(array)
    for _ in range(steps):
        out.append(advance(out[-history], out[-1]))
    return np.stack(out)


def labelled(array, when):
    """Return the Dataset that holds states, in canonical units and orientation."""
    at = {(c.name, c.level): array[:, n] for n, c in enumerate(CHANNELS)}
    dims = ("time", "level", "latitude", "longitude")
    data = {
        name: (dims, np.stack([at[name, 100 * p] for p in LEVELS], axis=1), ATTRS[name])
        for name in ("z", "t")
    }
    data |= {
        name: (("time", "latitude", "longitude"), at[name, None], ATTRS[name])
        for name in ("t2m", "msl")
    }
    coords = {
        "time": ("time", when, {"standard_name": "time", "long_name": "valid time"}),
        "level": ("level", list(LEVELS), {"units": "hPa", "positive": "down"}),
        "latitude": ("latitude", GRID.rows, {"units": "degrees_north"}),
        "longitude": ("longitude", GRID.columns, {"units": "degrees_east", "axis": "X"}),
    }
    ds = xr.Dataset(data, coords, {"title": "a small world", "history": "made by formula"})
    ds["time"].encoding = {"units": "hours since 1900-01-01", "calendar": "standard"}
    return ds


def dataset(count=5, steps=0, history=1):
    """Return a Dataset of `count` states, and of `steps` that the toy network adds to them."""
    return labelled(followed(states(count), steps, history), times(count + steps))


def toy(history=1, forcings=(), forward=None, name="toy", **changes):
    """Return a Model of a network with a known answer.

    `forward(x, step)` replaces the network's arithmetic; steps count from 1.
    """
    import torch

    from xwx.models.card import Card
    from xwx.models.checkpoint import Model

    class Network(torch.nn.Module):
        calls = 0

        def forward(self, x, forcing, memory):
            self.calls += 1
            last = x[:, -1]
            if forward is not None:
                return forward(last, self.calls), memory
            y = 0.5 * last + 0.25 * last.roll(1, -1) + 0.25 * x[:, 0].roll(1, -2)
            return y if forcing is None else y + forcing[:, :1], memory

    card = Card(name, licence="CC0-1.0", sha256="ab" * 32)
    return Model(Network(), spec(history, forcings, **changes), card)


def emformer(history=1, forcings=(), seed=0):
    """Return a Model of a tiny EMFormer with random weights, its head included."""
    import torch

    from xwx.models.card import Card
    from xwx.models.checkpoint import Model
    from xwx.models.emformer import EMFormer, EMFormerConfig

    config = EMFormerConfig.preset(
        "emformer_tiny", dim=16, heads=2, depth=2, levels=1, predict="increment"
    )
    what = spec(history, forcings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EMFormer(config, what).eval()
        torch.nn.init.normal_(network.head.linear.weight, std=0.1)
    array = torch.from_numpy(states(8))
    network.set_statistics(
        array.mean((0, 2, 3)), array.std((0, 2, 3)), (array[1:] - array[:-1]).std((0, 2, 3))
    )
    return Model(network, what, Card("tiny", licence="CC0-1.0", sha256="cd" * 32))


def identical(a, b):
    """See that two Datasets are the same down to encodings, dtypes and order."""
    xr.testing.assert_identical(a, b)
    assert list(a.data_vars) == list(b.data_vars)
    for name in a.variables:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].dims == b[name].dims, name
        assert a[name].encoding == b[name].encoding, name
        assert type(a[name].variable) is type(b[name].variable), name
    assert a.encoding == b.encoding


@pytest.fixture(scope="session")
def worlds():
    """Small worlds: Datasets by formula, and models that fit them."""
    return SimpleNamespace(
        GRID=GRID,
        CHANNELS=CHANNELS,
        spec=spec,
        times=times,
        states=states,
        advance=advance,
        followed=followed,
        labelled=labelled,
        dataset=dataset,
        toy=toy,
        emformer=emformer,
        identical=identical,
    )
