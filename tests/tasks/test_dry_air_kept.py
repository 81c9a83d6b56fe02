"""Forecasts that keep the dry air they began with: to the noise, and to rounding."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import torch
import xarray as xr

import xwx
from xwx.constraints import DryAirMass
from xwx.errors import MismatchError
from xwx.fields import grid_of
from xwx.models.card import Card
from xwx.models.wind import Wind, WindConfig

LEVELS = (100, 300, 500, 700, 850, 1000)


@pytest.fixture(scope="module")
def fortnight() -> xr.Dataset:
    ds = xwx.tutorial.open_dataset("simulated-fortnight")
    return ds[["q", "sp"]].sel(level=list(LEVELS)).isel(time=slice(-2, None)).load()


@pytest.fixture(scope="module")
def model(fortnight: xr.Dataset) -> xwx.Model:
    channels = [xwx.Channel("q", 100.0 * level) for level in LEVELS]
    spec = xwx.Spec((*channels, xwx.Channel("sp")), grid_of(fortnight), timedelta(hours=6))
    torch.manual_seed(0)
    network = Wind(WindConfig.preset("wind_tiny", known_t=True, predict="scaled"), spec).eval()
    q, sp = fortnight["q"], fortnight["sp"]
    mean = [*q.mean(["time", "latitude", "longitude"]).values, float(sp.mean())]
    std = [*q.std(["time", "latitude", "longitude"]).values, float(sp.std())]
    network.set_statistics(*(torch.tensor(np.array(v)) for v in (mean, std, std)))
    with torch.no_grad():
        network.backbone.head.weight.normal_(std=0.1)
    return xwx.Model(network, spec, Card("random weights"))


def drift(fc: xr.Dataset, ds: xr.Dataset) -> np.ndarray:
    start = float(ds.wx.dry_air_mass()["dry_air_pressure"][-1])
    members = [fc] if "member" not in fc.dims else [fc.isel(member=n) for n in fc.member.values]
    return np.stack([f.wx.dry_air_mass()["dry_air_pressure"].values - start for f in members])


def test_free_forecasts_lose_what_constrained_ones_keep(fortnight, model):
    given = {"steps": 7, "members": 2, "seed": 1, "progress": False}
    free = drift(fortnight.wx.forecast(model, **given), fortnight)
    assert np.abs(free).min() > 10
    kept = fortnight.wx.forecast(model, constraints=[DryAirMass()], **given)
    assert np.abs(drift(kept, fortnight)).max() < 0.01
    assert kept["residual"].max() < 0.1
    strict = fortnight.wx.forecast(model, constraints=[DryAirMass(strict=True)], **given)
    assert np.abs(drift(strict, fortnight)).max() < 1e-6
    assert strict["sp"].dtype == np.float32
    assert float(np.abs(strict["sp"] - kept["sp"]).max()) < 1.0
    loose = fortnight.wx.forecast(model, constraints=[DryAirMass(noise="1000 Pa")], **given)
    assert np.abs(drift(loose, fortnight)).max() > 1


def test_a_mass_of_ones_own(fortnight, model):
    target = DryAirMass(target="990 hPa", strict=True)
    fc = fortnight.wx.forecast(model, steps=4, constraints=[target], seed=0, progress=False)
    found = fc.wx.dry_air_mass()["dry_air_pressure"].values
    np.testing.assert_allclose(found, 99000, rtol=0, atol=1e-6)


def test_a_model_without_the_channels_says_what_is_missing_once():
    ds = xwx.tutorial.open_dataset("era5-winter").isel(valid_time=slice(-1, None))
    spec = xwx.load("emformer-era5-mini").spec
    plain = xwx.Spec(spec.channels, spec.grid, spec.step)
    network = Wind(WindConfig.preset("wind_tiny"), plain).eval()
    with pytest.raises(MismatchError) as raised:
        ds.wx.forecast(xwx.Model(network, plain, Card("m")), 4, constraints=[DryAirMass()])
    text = str(raised.value)
    for words in ("specific humidity 'q'", "'sp'", "'z' on two levels", "'t2m'", "z_sfc"):
        assert words in text
