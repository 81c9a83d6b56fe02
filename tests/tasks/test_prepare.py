"""What a network is told of its data before it learns: here, the fields that do not change."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import xarray as xr

from xwx import Channel, Grid, Spec
from xwx.errors import ConfigError
from xwx.models.wind import Wind, WindConfig
from xwx.tasks.prepare import set_static

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
