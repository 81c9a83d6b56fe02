"""A small world whose states are known, and Datasets of it in any presentation."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import strategies as st

from xwx.constraints import Scene
from xwx.spec import Channel, Grid, Spec

CHANNELS = (
    Channel("t", 85000.0),
    Channel("u10"),
    Channel("z", 100000.0),
    Channel("msl"),
    Channel("q", 85000.0),
    Channel("z", 50000.0),
    Channel("t2m"),
    Channel("q", 50000.0),
    Channel("v10"),
)
LEVELS = (50000.0, 85000.0, 100000.0)
POLES = Grid.regular(9, 12, poles=True)
BETWEEN = Grid.regular(8, 12, poles=False)
REGION = Grid((52.0, 50.0, 48.0, 46.0), (0.0, 3.0, 6.0, 9.0, 12.0))
SIZE = {
    "t": (270.0, 8.0),
    "u10": (1.0, 6.0),
    "v10": (-1.0, 5.0),
    "z": (3e4, 900.0),
    "msl": (1.01e5, 900.0),
    "q": (5e-3, 1e-3),
    "t2m": (285.0, 9.0),
}
ATTRS = {
    "t": ("air_temperature", "K"),
    "u10": ("eastward_wind", "m s-1"),
    "v10": ("northward_wind", "m s-1"),
    "z": ("geopotential", "m2 s-2"),
    "msl": ("air_pressure_at_mean_sea_level", "Pa"),
    "q": ("specific_humidity", "kg kg-1"),
    "t2m": ("air_temperature", "K"),
}
#: Other units, and what is to be done to the numbers.
UNITS = {
    "t": ("degC", lambda x: x - 273.15),
    "t2m": ("degC", lambda x: x - 273.15),
    "msl": ("hPa", lambda x: x / 100.0),
    "q": ("g kg-1", lambda x: x * 1000.0),
    "u10": ("km h-1", lambda x: x * 3.6),
    "v10": ("knot", lambda x: x / (1852.0 / 3600.0)),
    "z": ("m", lambda x: x / 9.80665),
}
NAMES = {"t": "ta", "msl": "psl", "q": "hus", "u10": "uas", "t2m": "tas", "v10": "vas"}


def spec(grid=POLES, channels=CHANNELS):
    return Spec(channels, grid, timedelta(hours=6))


def states(count, grid=POLES, seed=0, channels=CHANNELS):
    """Return physical states (N, C, H, W), float64."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, len(channels), *grid.shape))
    out = np.empty_like(noise)
    for n, c in enumerate(channels):
        out[:, n] = middle(c) + SIZE[c.name][1] * noise[:, n]
    return out


def middle(channel):
    """Return the mean of a channel."""
    at = {("z", 100000.0): 1000.0, ("z", 50000.0): 54000.0}
    return at.get((channel.name, channel.level), SIZE[channel.name][0])


def times(count, first="2026-01-25T00"):
    return np.datetime64(first, "ns") + np.arange(count) * np.timedelta64(6, "h")


def labelled(x, when, grid=POLES, channels=CHANNELS):
    """Return states as a Dataset in canonical units and orientation."""
    at = {(c.name, c.level): x[:, n] for n, c in enumerate(channels)}
    data = {}
    for name in dict.fromkeys(c.name for c in channels):
        standard, units = ATTRS[name]
        attrs = {"standard_name": standard, "units": units}
        flat = at.get((name, None))
        if flat is not None:
            data[name] = (("time", "lat", "lon"), flat, attrs)
            continue
        dim = f"p_{name}"
        held = [v for v in LEVELS if (name, v) in at]
        values = np.stack([at[name, v] for v in held], axis=1)
        data[name] = (("time", dim, "lat", "lon"), values, attrs)
    coords = {
        "time": when,
        "lat": ("lat", grid.rows, {"units": "degrees_north"}),
        "lon": ("lon", grid.columns, {"units": "degrees_east"}),
    }
    for name in ("t", "z", "q"):
        held = [v for v in LEVELS if (name, v) in at]
        if held:
            attrs = {"units": "Pa", "standard_name": "air_pressure"}
            coords[f"p_{name}"] = (f"p_{name}", held, attrs)
    return xr.Dataset(data, coords)


def scene(count=10, grid=POLES, window=5, *, start=False, given=None, x=None, channels=CHANNELS):
    """Return a series of states and the states themselves (N, C, H, W), as tensors."""
    x = states(count, grid, channels=channels) if x is None else x
    std = torch.tensor([SIZE[c.name][1] for c in channels])[:, None, None].float()
    mean = torch.tensor([middle(c) for c in channels])[:, None, None].float()
    return Scene(
        spec(grid, channels),
        window,
        times(count),
        mean,
        std,
        xr.Dataset() if given is None else given,
        torch.from_numpy(x[0]).float() if start else None,
    ), torch.from_numpy(x)


def window_of(x, window):
    """Return the states of a window (1, T, C, H, W), those after the series as zeros."""
    out = torch.zeros(1, len(window), *x.shape[1:], dtype=x.dtype)
    for frame, state in enumerate(window):
        if state < len(x):
            out[0, frame] = x[state]
    return out


def present(ds, how):
    """Return a Dataset in another presentation."""
    if how["units"]:
        for name in list(ds.data_vars):
            units, change = UNITS[name]
            attrs = {**ds[name].attrs, "units": units}
            if name == "z":
                attrs["standard_name"] = "geopotential_height"
            ds[name] = change(ds[name]).assign_attrs(attrs)
    if how["levels"]:
        for dim in ("p_t", "p_z", "p_q"):
            if dim in ds.dims:
                attrs = {**ds[dim].attrs, "units": "hPa"}
                ds = ds.assign_coords({dim: (dim, ds[dim].values / 100.0, attrs)})
                ds = ds.isel({dim: slice(None, None, -1)})
    if how["west"] and "lon" in ds.dims:
        ds = ds.assign_coords(lon=(ds["lon"] + 180.0) % 360.0 - 180.0).sortby("lon")
        ds["lon"].attrs["units"] = "degrees_east"
    if how["south"] and "lat" in ds.dims:
        ds = ds.isel(lat=slice(None, None, -1))
    if how["names"]:
        ds = ds.rename({k: v for k, v in NAMES.items() if k in ds.data_vars})
    if how["dims"]:
        ds = ds.transpose("lon", ..., "time", missing_dims="ignore")
    if how["dask"]:
        ds = ds.chunk(dict.fromkeys(ds.dims, 2))
    if how["pint"]:
        import pint_xarray  # noqa: F401
        from cf_xarray.units import units

        ds = ds.pint.quantify(unit_registry=units)
    return ds


presentations = st.fixed_dictionaries(
    {
        key: st.booleans()
        for key in ("units", "levels", "west", "south", "names", "dims", "dask", "pint")
    }
)


@pytest.fixture(scope="session")
def small():
    """The small world."""
    return SimpleNamespace(
        CHANNELS=CHANNELS,
        POLES=POLES,
        BETWEEN=BETWEEN,
        REGION=REGION,
        SIZE=SIZE,
        spec=spec,
        states=states,
        times=times,
        labelled=labelled,
        scene=scene,
        window_of=window_of,
        present=present,
        presentations=presentations,
    )
