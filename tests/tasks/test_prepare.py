"""What a network is told of its data before it learns: statistics, and fields of the ground."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import torch
import xarray as xr

from xwx import Channel, Grid, Spec
from xwx.diffusion.background import Background
from xwx.diffusion.schedule import Rectified
from xwx.errors import ConfigError
from xwx.fields import latitude_weights
from xwx.models.wind import Wind, WindConfig
from xwx.tasks.prepare import set_static, set_statistics
from xwx.training.data import Archive
from xwx.training.distributed import ALONE

GRID = Grid.regular(16, 32, poles=False)


def network(*names):
    spec = Spec((Channel("msl"),), GRID, timedelta(hours=6))
    return Wind(WindConfig.preset("wind_tiny", static=names), spec)


def dataset(**units):
    rng = np.random.default_rng(0)
    shape = ("latitude", "longitude")
    height = rng.uniform(0, 5000, GRID.shape)
    land = (height > 2000).astype(float)
    return xr.Dataset(
        {
            "orog": (shape, height, {"standard_name": "surface_altitude", "units": "m"} | units),
            "lsm": (shape, land, {"standard_name": "land_binary_mask", "units": "1"}),
        },
        {
            "latitude": ("latitude", GRID.rows, {"units": "degrees_north"}),
            "longitude": ("longitude", GRID.columns, {"units": "degrees_east"}),
        },
    )


@pytest.mark.parametrize("names", [("z_sfc", "lsm"), ("lsm", "z_sfc")])
def test_fields_of_the_dataset_normalised_and_in_the_order_of_the_configuration(names):
    ds, made = dataset(), network(*names)
    set_static(made, ds)
    for name, found in zip(names, made.static.double().numpy(), strict=True):
        field = {"z_sfc": ds["orog"], "lsm": ds["lsm"]}[name].values
        expected = (field - field.mean()) / field.std()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_neither_layout_nor_unit_matters():
    ds = dataset()
    plain, turned = network("z_sfc"), network("z_sfc")
    set_static(plain, ds)
    other = ds.isel(latitude=slice(None, None, -1)).roll(longitude=7, roll_coords=True)
    other["orog"] = (other["orog"] / 1000).assign_attrs(ds["orog"].attrs | {"units": "km"})
    set_static(turned, other.transpose("longitude", "latitude"))
    np.testing.assert_allclose(turned.static.numpy(), plain.static.numpy(), rtol=0, atol=1e-5)


def test_one_that_runs_along_time_is_read_once():
    ds, made = dataset(), network("z_sfc")
    set_static(made, ds)
    expected = made.static.clone()
    times = np.datetime64("2026-01-01T00", "ns") + np.arange(3) * np.timedelta64(6, "h")
    long = ds.expand_dims(time=times)
    long["time"].attrs["standard_name"] = "time"
    again = network("z_sfc")
    set_static(again, long)
    np.testing.assert_array_equal(again.static.numpy(), expected.numpy())


def test_a_network_without_them_asks_nothing_of_the_dataset():
    set_static(network(), xr.Dataset())


def test_a_field_that_is_not_there_is_named_with_what_to_add():
    with pytest.raises(ConfigError, match=r"static names 'lsm'.*land_binary_mask.*leave it out"):
        set_static(network("z_sfc", "lsm"), dataset().drop_vars("lsm"))


def test_a_field_without_a_unit_is_not_guessed():
    ds = dataset()
    del ds["orog"].attrs["units"]
    with pytest.raises(ConfigError, match=r"'z_sfc'.*orog"):
        set_static(network("z_sfc"), ds)


def test_a_field_that_changes_is_none():
    with pytest.raises(ConfigError, match=r"static names 'msl': choose from .*z_sfc"):
        set_static(network("msl"), dataset())


# ---- statistics

FIRST, STEPS = np.datetime64("2025-12-01", "ns"), 2 * GRID.shape[1]
REGION = Grid(tuple(range(56, 40, -1)), tuple(range(10, 26)))


def told(grid, travelling, still=0.0, **changes):
    """Return a network told of states that travel by one column a step over what does not move."""
    states = np.stack([np.roll(travelling, n, axis=-1) for n in range(STEPS)]) + still
    spec = Spec((Channel("msl"),), grid, timedelta(hours=6))
    times = FIRST + np.arange(STEPS) * np.timedelta64(6, "h")
    archive = Archive(states[:, None].astype(np.float32), None, times, spec)
    options = {"departures": True, "stencil": 3, "background": True, "frames": 2} | changes
    network = Wind(WindConfig.preset("wind_tiny", predict="scaled", known_t=True, **options), spec)
    set_statistics(network, archive, ALONE)
    return network, states


def some(grid, seed=0):
    """Return a field whose rows have a mean of 0."""
    field = np.random.default_rng(seed).normal(size=grid.shape)
    return field - field.mean(-1, keepdims=True)


def covariance(network):
    """Return what multiplies states by the covariance of two frames, as nothing is seen of them."""
    background = Background.of(network, network.spec.grid)
    t, free = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool)
    return background, background.spread(t, free, Rectified())


def test_departures_have_the_mean_state_taken_off_and_waves_are_theirs():
    travelling, still = some(GRID), 5 * some(GRID, 1) + 3
    network, states = told(GRID, travelling, still)
    normal = (states - float(network.mean)) / float(network.std)
    weights = latitude_weights(GRID.rows)[:, None]
    assert float((weights * normal.mean(0)).mean()) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(network.mean_state[0].numpy(), normal.mean(0), atol=1e-4)
    # P is the variance of departures, by area: over all waves, of which half are kept
    often = np.full(network.spectrum.shape[-1], 2.0)
    often[[0, -1]] = 1.0
    power = float((network.spectrum[0].double().numpy() * often).sum())
    departures = travelling / float(network.std)
    expected = (weights * departures**2).mean()
    assert power / (2 * GRID.shape[0] * GRID.shape[1]) == pytest.approx(expected, rel=1e-3)
    assert expected < 0.1  # of 1, which is the variance of the states
    plain, _ = told(GRID, travelling, still, departures=False)
    assert float(plain.spectrum.mean()) == pytest.approx(1, rel=0.1)


def test_the_background_of_what_travels_eastwards_looks_eastwards():
    network, _ = told(GRID, some(GRID))
    _, spread = covariance(network)
    impulse = torch.zeros(1, 2, 1, *GRID.shape, dtype=torch.float64)
    impulse[0, 0, 0, 8, 30] = 1.0
    later = spread(impulse)[0, 1, 0]
    assert divmod(int(later.argmax()), GRID.shape[1]) == (8, 31)
    before = spread(impulse.flip(1))[0, 0, 0]
    assert divmod(int(before.argmax()), GRID.shape[1]) == (8, 29)
    at_once = spread(impulse)[0, 0, 0]
    # all that travels arrives: but for the memory's last millionth, and what is seen at t = 1
    torch.testing.assert_close(later.roll(-1, -1), at_once, rtol=0, atol=1e-4)


@pytest.mark.parametrize("grid", [GRID, REGION])
def test_the_background_has_the_covariance_of_the_states(grid):
    """Of an impulse in a corner: what pairs of cells so far apart have in common on average."""
    travelling = some(grid)
    network, states = told(grid, travelling, departures=False)
    background, spread = covariance(network)
    rows, columns = grid.shape
    assert background.columns == (columns if grid.periodic else 2 * columns)
    assert background.shape == grid.shape
    impulse = torch.zeros(1, 2, 1, rows, columns, dtype=torch.float64)
    impulse[..., 0, 0, 0, 0] = 1.0
    found = spread(impulse)[0, 0, 0]
    x = (states - float(network.mean)) / float(network.std)
    x = x * np.sqrt(latitude_weights(grid.rows))[:, None]
    around = np.concatenate([x, x if grid.periodic else np.zeros_like(x)], axis=-1)
    for down, east in ((0, 0), (0, 1), (2, 3), (0, columns - 1), (rows - 1, 2)):
        other = around[:, down:, east : east + columns]
        expected = (x[:, : rows - down] * other).sum((1, 2)).mean() / (rows * columns)
        assert float(found[down, east]) == pytest.approx(expected, abs=2e-3), (down, east)


def test_a_network_without_them_is_told_mean_and_deviation_only():
    network, states = told(GRID, some(GRID), departures=False, stencil=0, background=False)
    assert Background.of(network, GRID) is None
    assert float(network.std) == pytest.approx(states.std(), rel=0.1)
    assert network.stencil is None


def test_the_stencil_is_told_how_alike_neighbours_are():
    """Waves that are long from west to east, and change from row to row."""
    angle = 2 * np.pi * np.arange(GRID.shape[1]) / GRID.shape[1]
    signs = np.random.default_rng(4).choice([-1.0, 1.0], GRID.shape[0])
    network, _ = told(GRID, signs[:, None] * np.cos(angle))
    kernel = network.stencil.kernels[16, 0].detach()  # at t = 0.5
    along, across = kernel[1, [0, 2]], kernel[[0, 2], 1]
    assert along.min() > 0.05
    assert across.abs().max() < 0.5 * along.min()
