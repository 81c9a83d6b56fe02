"""From a configuration file to a model: trained, chosen, reported on, and loaded again."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import xwx
from xwx.errors import ConfigError, MismatchError
from xwx.tasks.train import train
from xwx.training.config import read_config

BUNDLED = Path(xwx.__file__).parent / "models/bundled/emformer-era5-mini/train.toml"


def write(path: Path, *changes: tuple[str, str]) -> Path:
    """Write the bundled configuration, shortened to seconds, with further changes."""
    text = BUNDLED.read_text()
    updates = f"updates = {read_config(BUNDLED).training.updates}"
    short = [
        (updates, "updates = 2"),
        ("validate_every = 100", "validate_every = 1"),
        ("warmup = 100", "warmup = 0"),
        ("batch_size = 8", "batch_size = 2"),
        ("dim = 64", "dim = 8"),
        ("heads = 4", "heads = 2"),
        ("depth = 4", "depth = 1"),
        (
            'train = ["2025-12-01T00", "2026-01-17T18"]',
            'train = ["2025-12-01T00", "2025-12-05T18"]',
        ),
        (
            'valid = ["2026-01-18T00", "2026-01-24T18"]',
            'valid = ["2025-12-06T00", "2025-12-09T00"]',
        ),
        ('test = ["2026-01-25T00", "2026-01-31T18"]', 'test = ["2025-12-10T00", "2025-12-13T00"]'),
    ]
    for old, new in [*short, *changes]:
        assert old in text, old
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: its checkpoint."""
    folder = tmp_path_factory.mktemp("train")
    path = train(write(folder / "c.toml"), out=folder / "run", progress=False)
    assert path == folder / "run" / "model"
    return path


def test_a_run_leaves_a_model_that_forecasts(trained: Path) -> None:
    model = xwx.load(trained)
    scores = model.card.facts["rmse_over_persistence"]
    assert list(scores) == ["6 h", "12 h", "24 h", "48 h"]
    assert set(scores["6 h"]) == {"msl", "vo[850 hPa]"}
    with (trained.parent / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["update"] for row in rows] == ["1", "2"]
    best = min(float(row["score"]) for row in rows)
    assert model.card.facts["validation_score"] == round(best, 5)
    ds = xwx.tutorial.open_dataset("era5-winter")
    fc = ds.wx.forecast(model, steps=1)
    # Two updates move the network a little from persistence, where it starts.
    change = np.abs(fc.msl.values[0] - ds.msl.values[-1])
    assert 0 < change.max() < 2000


def test_the_same_configuration_gives_the_same_weights_whatever_is_reported(
    trained: Path, tmp_path: Path
) -> None:
    # Another reported period: it takes no part in training or choosing.
    other = (
        'test = ["2025-12-10T00", "2025-12-13T00"]',
        'test = ["2026-01-01T00", "2026-01-04T00"]',
    )
    again = train(write(tmp_path / "c.toml", other), out=tmp_path / "run", progress=False)
    first, second = (xwx.load(path).network.state_dict() for path in (trained, again))
    assert all(torch.equal(first[key], second[key]) for key in first)
    scores = [xwx.load(path).card.facts["rmse_over_persistence"] for path in (trained, again)]
    assert scores[0] != scores[1]


def test_the_reported_scores_are_those_of_the_forecast_task(trained: Path) -> None:
    model = xwx.load(trained)
    ds = xwx.tutorial.open_dataset("era5-winter").load()
    starts = ds.valid_time.sel(valid_time=slice("2025-12-10T00", "2025-12-11T00")).values
    fc = ds.wx.forecast(model, steps=8, start=starts)
    truth = ds.sel(valid_time=fc.valid_time)
    now = ds.sel(valid_time=fc.init_time)
    weights = ds.wx.area_weights

    def square(other: object) -> np.ndarray:
        error = weights * (other.msl.astype("f8") - truth.msl) ** 2
        return error.mean(["init_time", "latitude", "longitude"]).values

    ratios = np.sqrt(square(fc) / square(now))
    found = model.card.facts["rmse_over_persistence"]
    for lead, hours in ((0, 6), (1, 12), (3, 24), (7, 48)):
        assert found[f"{hours} h"]["msl"] == pytest.approx(ratios[lead], abs=1e-4)


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", ('dataset = "era5-winter"', 'dataset = "era5-summer"'))
    with pytest.raises(ConfigError, match=r"era5-summer.*era5-winter"):
        train(path, out=tmp_path / "run", progress=False)


def test_a_channel_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", ('{ name = "msl" }', '{ name = "sp" }'))
    with pytest.raises(MismatchError, match="sp"):
        train(path, out=tmp_path / "run", progress=False)


def test_an_empty_period_is_named(tmp_path: Path) -> None:
    gone = (
        'valid = ["2025-12-06T00", "2025-12-09T00"]',
        'valid = ["2024-12-06T00", "2024-12-09T00"]',
    )
    with pytest.raises(ConfigError, match="no state between 2024-12-06T00"):
        train(write(tmp_path / "c.toml", gone), out=tmp_path / "run", progress=False)
