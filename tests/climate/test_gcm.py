"""Three simulated days of the real model, which is installed with the extra `climate`."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import xarray as xr

from xwx.cli import main
from xwx.climate.settings import LEVELS, Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of the model are not ours
    pytest.mark.skipif(
        importlib.util.find_spec("jcm") is None,
        reason="needs the package jcm: run `make test-climate`",
    ),
]

UPPER = ("z", "q", "u", "v", "t")
SURFACE = ("t2m", "u10", "v10", "msl", "sp")
DAYS = ["--years", str(3 / 365), "--spinup-days", "2", "--chunk-days", "1"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three days after two of spin-up, a day at a time, by the command."""
    path = tmp_path_factory.mktemp("climate") / "climate.zarr"
    assert main(["simulate-climate", str(path), *DAYS, "--no-progress"]) == 0
    return path


@pytest.fixture(scope="module")
def climate(store):
    return xr.open_dataset(store, engine="zarr", consolidated=False).load()


def area_mean(field):
    """Return the mean over the sphere of an equiangular grid without poles."""
    edges = np.sin(np.deg2rad(np.linspace(90, -90, field.sizes["latitude"] + 1)))
    weights = xr.DataArray(-np.diff(edges), dims="latitude")
    return field.astype("f8").weighted(weights).mean(["latitude", "longitude"])


def test_twelve_states_in_a_layout_that_the_gate_takes(climate):
    from xwx.fields import check, grid_of
    from xwx.spec import Channel, Spec

    channels = tuple(Channel(k, 100.0 * p) for k in UPPER for p in LEVELS)
    channels += tuple(map(Channel, SURFACE))
    assert len(channels) == 70
    assert climate.sizes["time"] == 12
    assert climate.time.values[0] == np.datetime64("2000-01-03T06")
    for time in range(12):
        report = check(climate, Spec(channels, grid_of(climate)), positions=[time])
        assert report.ok, report
    assert set(np.diff(climate.time)) == {np.timedelta64(6, "h")}


def test_the_mass_is_held_and_the_sea_level_is_where_it_should_be(climate):
    assert np.all(abs(area_mean(climate.sp) - 98550.0) < 40.0)
    assert np.all(abs(area_mean(climate.msl) - 101000.0) < 1000.0)
    assert float(climate.msl.min()) > 93000
    assert float(climate.msl.max()) < 107000
    sea = climate.lsm < 0.01
    flat = (climate.msl - climate.sp).where(sea & (abs(climate.z_sfc) < 50))
    assert float(abs(flat).max()) < 100.0


def test_temperature_and_geopotential_are_hydrostatic(climate):
    """Thickness against the mean of the temperatures at both ends: thin layers, virtual or not."""
    lower, upper = climate.sel(level=300), climate.sel(level=250)
    thickness = upper.z - lower.z
    expected = 287.0 * (upper.t + lower.t) / 2 * np.log(300 / 250)
    assert float(abs(thickness / expected - 1).max()) < 0.03
    for level in (1000, 850, 500, 200):
        falls = climate.z.sel(level=level) < climate.z.sel(level=50)
        assert bool(falls.all())


def test_numbers_are_physical(climate):
    for name, variable in climate.data_vars.items():
        assert np.isfinite(variable).all(), name
    assert float(climate.tp.min()) >= 0
    assert 0.01 < float(area_mean(climate.tp).mean()) * 4000 < 8  # mm a day, from dry and calm
    assert float(climate.q.min()) >= 0
    assert 150 < float(climate.t.min()) < float(climate.t.max()) < 340
    assert 330 < float(area_mean(climate.tisr).mean()) < 360  # a quarter of the solar constant


def test_chunks_join_without_a_jump(climate):
    """States 3 | 4 and 7 | 8 lie in different chunks."""
    for name in ("msl", "t2m", "u10"):
        size = np.sqrt((climate[name].diff("time") ** 2).mean(["latitude", "longitude"])).values
        inside = np.delete(size, [3, 7])
        assert size[[3, 7]].max() < 1.5 * inside.max(), name
    z = climate.z.sel(level=500)
    size = np.sqrt((z.diff("time") ** 2).mean(["latitude", "longitude"])).values
    assert size[[3, 7]].max() < 1.5 * np.delete(size, [3, 7]).max()
    rain = area_mean(climate.tp).values
    assert rain[[0, 4, 8]].max() < 1.5 * np.delete(rain, [0, 4, 8]).max()
    assert rain[[0, 4, 8]].min() > 0.5 * np.delete(rain, [0, 4, 8]).min()


def test_a_new_process_goes_on_with_the_same_bits(climate, tmp_path):
    """Two days, the model made anew from what was saved, and the third."""
    from xwx.climate.gcm import Speedy
    from xwx.tasks.simulate import simulate

    path = tmp_path / "climate.zarr"
    for years in (2 / 365, 3 / 365):
        settings = Settings(years, 2.0, 1.0)
        simulate(path, settings, Speedy, progress=False)
    again = xr.open_dataset(path, engine="zarr", consolidated=False).load()
    xr.testing.assert_identical(again, climate)
