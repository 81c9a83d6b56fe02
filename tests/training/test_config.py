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
