"""The dimension of members."""

import numpy as np
import pytest
import xarray as xr

from xwx.fields import member_dim


@pytest.mark.parametrize(
    "name", ["member", "realization", "number", "ensemble", "ensemble_member", "ens", "sample"]
)
def test_names_in_use(name):
    assert member_dim(xr.Dataset({"x": ((name, "y"), np.zeros((2, 3)))})) == name


def test_a_standard_name_wins_over_names():
    ds = xr.Dataset({"x": (("number", "run"), np.zeros((2, 3)))})
    ds = ds.assign_coords(run=("run", [1, 2, 3], {"standard_name": "realization"}))
    assert member_dim(ds) == "run"
    along = ds.rename(run="label").swap_dims(label="run")
    assert member_dim(along) == "run"


def test_none():
    assert member_dim(xr.Dataset({"x": ("y", [1.0])})) is None
    assert member_dim(xr.Dataset({"x": ("y", [1.0])}, {"number": 3})) is None
