"""The check of a Dataset against named models, and against all there are."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import xarray as xr

from xwx.errors import ModelNotFoundError
from xwx.models import card as catalogue
from xwx.models import registry
from xwx.models.card import Card
from xwx.models.checkpoint import Model, save_checkpoint
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec
from xwx.tasks.check import check, check_models

GRID = Grid.regular(8, 16, poles=False)


def make(name: str, *channels: Channel) -> Model:
    spec = Spec(channels, GRID)
    config = EMFormerConfig.preset("emformer_tiny", dim=8, heads=2, depth=1, levels=0)
    return Model(EMFormer(config, spec), spec, Card(name))


@pytest.fixture(autouse=True)
def _models(tmp_path, monkeypatch):
    """One model that needs vorticity too, and one that takes pressure alone."""
    for model in (make("greedy", Channel("msl"), Channel("vo", 85000.0)),
                  make("modest", Channel("msl"))):  # fmt: skip
        save_checkpoint(tmp_path / model.name, model.network, model.spec, model.card)
    monkeypatch.setattr(catalogue, "BUNDLED", tmp_path)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [])
    registry._load_bundled.cache_clear()


@pytest.fixture
def ds():
    time = np.datetime64("2026-01-25T00", "ns") + np.arange(3) * np.timedelta64(6, "h")
    ds = xr.Dataset(
        {"msl": (("time", "latitude", "longitude"), np.full((3, 8, 16), 1e5, "float32"))},
        {"time": time, "latitude": GRID.rows, "longitude": GRID.columns},
    )
    ds["msl"].attrs = {"units": "Pa", "standard_name": "air_pressure_at_mean_sea_level"}
    ds["latitude"].attrs = {"units": "degrees_north"}
    ds["longitude"].attrs = {"units": "degrees_east"}
    return ds


def test_a_named_model(ds, tmp_path):
    assert check(ds, "modest").ok
    assert check(ds, tmp_path / "modest").ok
    assert check(ds, make("mine", Channel("msl"))).what == "mine"
    report = check(ds, "greedy")
    assert [p.kind for p in report.problems] == ["missing-variable"]
    assert report.what == "greedy"
    with pytest.raises(ModelNotFoundError):
        check(ds, "nothing")


def test_any_model(ds):
    report = check(ds)
    assert report.ok
    assert report.what == "modest"
    reports = check_models(ds)
    assert {name: r.ok for name, r in reports.items()} == {"greedy": False, "modest": True}


def test_no_model_fits(ds):
    report = check(ds.drop_vars("msl").assign(t2m=ds["msl"] * 0))
    assert not report.ok
    assert {p.where.split(":")[0] for p in report.problems} == {"greedy", "modest"}


def test_a_broken_plugin_spoils_nothing(ds, monkeypatch):
    broken = EntryPoint("broken", "no_such_package_xyz:f", catalogue.PLUGINS)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [broken])
    assert check(ds).what == "modest"
    (problem,) = check_models(ds)["broken"].problems
    assert problem.kind == "unusable-model"
    assert "no_such_package_xyz" in problem.message


def test_no_model_at_all(ds, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "BUNDLED", tmp_path / "nowhere")
    assert [p.kind for p in check(ds).problems] == ["no-model"]
