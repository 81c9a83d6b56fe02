"""Configuration files: the bundled one is read as written, and a slip is named."""

from __future__ import annotations

from pathlib import Path

import pytest

import xwx
from xwx.errors import ConfigError
from xwx.spec import Channel
from xwx.training.config import read_config

BUNDLED = Path(xwx.__file__).parent / "models/bundled/emformer-era5-mini/train.toml"


def test_the_bundled_configuration_says_what_it_says() -> None:
    config = read_config(BUNDLED)
    assert config.name == "emformer-era5-mini"
    assert config.data.channels == (Channel("msl"), Channel("vo", 85000.0))
    assert config.data.train[1] < config.data.valid[0] < config.data.valid[1] < config.data.test[0]
    assert config.architecture == "emformer"
    assert "architecture" not in config.network
    assert config.training.augment.roll
    assert config.training.augment.mirror
    assert config.training.loss.mode == "learnable"
    assert config.training.steps(0) == 1
    assert config.training.steps(config.training.updates - 1) == 4


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("batch_size", "batch_sise", "batch_sise"),
        ("roll = true", "rol = true", "[training.augment] has unknown keys rol"),
        ('mode = "learnable"', 'mode = "learned"', "mode='learned'"),
        ('name = "emformer-era5-mini"', "", "'name' is missing"),
        ("level_hPa = 850", "level = 850", "a channel has unknown keys level"),
        ("history = 4", "histry = 4", "[data] has unknown keys histry"),
        ("[training.loss]", "[training.loss", "is not TOML"),
        ("threads = 1", "threds = 1", "the file has unknown keys threds"),
        ("threads = 1", "threads = 1.5", "threads=1.5: must be a whole number"),
        ("threads = 1", "threads = 0", "threads=0: must be at least 1"),
        ('name = "emformer-era5-mini"', "name = 5", "name=5: must be a text"),
        ('version = "1"', "version = 1", "[card] version=1: must be a text"),
        ('version = "1"', 'sha256 = "1"', "[card] has unknown keys sha256"),
        ('dataset = "era5-winter"', "dataset = 3", "[data] dataset=3: must be a text"),
        ('dataset = "era5-winter"', "", "'dataset' is missing"),
        ("level_hPa = 850", 'level_hPa = "850"', "level_hPa='850': must be a number"),
        ("history = 4", "history = true", "[data] history=True: must be a whole number"),
        ("step_hours = 6", 'step_hours = "6 h"', "[data] step_hours='6 h': must be a number"),
        ('"2026-01-24T18"]', "7]", "[data] valid=['2026-01-18T00', 7]: must be [first time, last"),
        ("updates = 1800", 'updates = "many"', "[training] updates='many': must be a whole number"),
        ("ema = 0.995", "ema = true", "[training] ema=True: must be a number"),
        ("[0.6, 2]", "[0.6, 2.5]", "must be a list, each item [a number, a whole number]"),
        ("leads = [1,", 'leads = ["1",', "must be a list, each item a whole number"),
        ("roll = true", "roll = 1", "[training.augment] roll=1: must be true or false"),
        ("dim = 64", 'dim = "64"', "[network] dim='64': must be a whole number"),
    ],
)
def test_a_slip_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = BUNDLED.read_text()
    assert old in text
    path = tmp_path / "slip.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        read_config(tmp_path / "nowhere.toml")
