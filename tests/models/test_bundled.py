"""The models that come with the package: small, made by the file beside them, and worth having."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import xwx
from xwx.models.card import bundled_models
from xwx.models.wind import WindConfig
from xwx.training.config import read_config

NAMES = sorted(bundled_models())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small(name: str) -> None:
    folder = bundled_models()[name]
    assert (folder / "model.safetensors").stat().st_size <= 25e6
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in folder.rglob("*")), (
        "readable by all"
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_file_beside_it_describes_it(name: str) -> None:
    folder = bundled_models()[name]
    config = read_config(folder / "train.toml")
    model = xwx.load(name, device="cpu")
    assert config.name == name == model.card.name
    assert config.data.channels == model.spec.channels
    assert config.data.train[1] < config.data.valid[0] < config.data.valid[1] < config.data.test[0]
    built = json.loads(json.dumps(model.network.to_config()))  # with what came later at its default
    wanted = dict(config.network)
    if "preset" in wanted:
        wanted |= json.loads(json.dumps(asdict(WindConfig.preset(wanted.pop("preset")))))
        wanted |= {key: value for key, value in config.network.items() if key != "preset"}
    for key, value in wanted.items():
        assert built[key] == value, key
    assert model.card.licence == config.card["licence"] == "Apache-2.0"
    text = (folder / "train.toml").read_text()
    assert not any(Path(word.strip('"')).is_absolute() for word in text.split() if word[0] == '"')


@pytest.mark.parametrize("name", NAMES)
def test_the_logs_are_those_of_its_stages(name: str) -> None:
    folder = bundled_models()[name]
    config = read_config(folder / "train.toml")
    stages = {"log.csv": config.training, "finetuning/log.csv": config.finetuning}
    for path, stage in stages.items():
        assert (folder / path).exists() == (stage is not None)
        if stage is not None:
            rows = np.genfromtxt(folder / path, delimiter=",", names=True)
            assert rows["update"][-1] == stage.updates
            assert np.all(np.diff(rows["update"]) == stage.validate_every)


def test_the_seventy_channels_forecast() -> None:
    """Bounds with a quarter to spare: a flipped latitude or a swapped level is worse by far."""
    ds = xwx.tutorial.open_dataset("simulated-fortnight")
    model = xwx.load("emformer-simclimate-mini", device="cpu")
    assert len(model.spec.channels) == 70
    fc = ds.wx.forecast(model, steps=40, start="2008-01-01")
    assert set(fc.data_vars) == {"z", "q", "u", "v", "t", "t2m", "u10", "v10", "msl", "sp"}
    still = xwx.metrics.persistence(ds[list(fc.data_vars)], fc)
    truth = ds[list(fc.data_vars)]
    ours, theirs = (side.wx.verify(truth, "rmse") for side in (fc, still))
    day = np.timedelta64(24, "h")
    for name in ("t2m", "u10", "v10", "msl", "sp"):
        first, second = (float(s[name].sel(lead_time=day).squeeze()) for s in (ours, theirs))
        assert first < 0.4 * second, name
    for name in ("z", "q", "u", "v", "t"):
        first, second = (s[name].sel(lead_time=day).squeeze() for s in (ours, theirs))
        if name == "q":  # next to none is above, and the card says how ill it is forecast
            first, second = first.sel(level=slice(400, 1000)), second.sel(level=slice(400, 1000))
        assert (first < 0.4 * second).all(), name
    z500 = ours.z.sel(level=500).squeeze()
    assert float(z500.sel(lead_time=day)) < 60
    assert float(z500.sel(lead_time=10 * day)) < 615  # the climatology's


def test_the_prior_makes_states_of_their_means() -> None:
    """Bounds with a quarter to spare; three members, of one window."""
    ds = xwx.tutorial.open_dataset("era5-winter").sel(
        valid_time=slice("2026-01-25T00", "2026-01-26T00")
    )
    model = xwx.load("wind-era5-mini", device="cpu")
    cells = xwx.Grid.regular(18, 36, poles=False)
    coarse = ds.wx.regrid(cells, "conservative")
    fine = coarse.wx.downscale(
        model, members=3, seed=0, sampling=xwx.Sampling(guidance="background")
    )
    smooth = coarse.wx.regrid(model.spec.grid, "linear")
    ours, theirs = (
        float(state.wx.verify(ds[["msl"]], "rmse")["msl"].mean())
        for state in (fine[["msl"]].mean("member", keep_attrs=True), smooth[["msl"]])
    )
    assert ours < 0.9 * theirs
    assert ours < 190  # 145 measured
    assert float(fine.residual.mean()) < 2
