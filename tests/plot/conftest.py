"""Forecasts and scores by formula, small enough to draw often."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

mpl.use("Agg")

HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")


@pytest.fixture(autouse=True)
def no_figure_left():
    """Close what a test drew, and see that it began with nothing."""
    import matplotlib.pyplot as plt

    assert not plt.get_fignums()
    yield
    plt.close("all")


def leads(count, hours=6):
    return np.arange(1, count + 1) * hours * HOUR


def forecast(worlds, count=4):
    """Return a forecast of one start, 6-hourly, in the layout of the toy world."""
    ds = worlds.dataset(count)
    coords = {
        "lead_time": ("time", leads(count), {"standard_name": "forecast_period"}),
        "init_time": ((), ds.time.values[0] - 6 * HOUR),
    }
    return ds.assign_coords(coords)


def ensemble(worlds, members=7, count=4):
    """Return an ensemble around the forecast: member m is warmer by m K, and later in phase."""
    fc = forecast(worlds, count)[["t2m"]]
    parts = [(fc + m).assign(t2m=lambda d, m=m: d.t2m.roll(longitude=m)) for m in range(members)]
    out = xr.concat(parts, "member").assign_coords(member=np.arange(members))
    out["t2m"].attrs = fc.t2m.attrs
    return out


def scores(count=8, scale=1.0, hours=6):
    """Return scores by formula: rmse = scale sqrt(lead), acc = 1 - 0.02 rmse, bias = rmse / 10."""
    rmse = scale * np.sqrt(np.arange(1.0, count + 1))
    values = np.stack([rmse, 1 - 0.02 * rmse, 0.1 * rmse])
    layered = values[:, None] * np.array([1.0, 2.0])[None, :, None]
    units = {"metric_units": "rmse: Pa; acc: 1; bias: Pa", "long_name": "Sea level pressure"}
    ds = xr.Dataset(
        {
            "msl": (("metric", "lead_time"), values, units),
            "t": (("metric", "level", "lead_time"), layered, {"metric_units": "rmse: K; bias: K"}),
        },
        {
            "metric": ["rmse", "acc", "bias"],
            "lead_time": leads(count, hours),
            "level": ("level", [850.0, 500.0], {"units": "hPa"}),
        },
    )
    bound = xr.Variable("bound", ["lower", "upper"])
    return ds.assign(msl_interval=xr.concat([0.9 * ds.msl, 1.2 * ds.msl], bound))


@pytest.fixture
def drawn(worlds):
    """Makers of what is drawn."""
    return SimpleNamespace(
        forecast=lambda count=4: forecast(worlds, count),
        ensemble=lambda members=7, count=4: ensemble(worlds, members, count),
        scores=scores,
        leads=leads,
        HOUR=HOUR,
    )
