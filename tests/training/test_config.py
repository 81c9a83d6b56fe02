"""Configuration files: the bundled one is read as written, and a slip is named."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

import xwx
from xwx.errors import ConfigError
from xwx.models.registry import find_spec
from xwx.spec import Channel
from xwx.training.config import DataConfig, read_config
from xwx.training.data import Augment
from xwx.training.loss import LOSSES, LossConfig
from xwx.training.noise import NoiseConfig
from xwx.training.settings import StageConfig

BUNDLED = Path(xwx.__file__).parent / "models/bundled/emformer-era5-mini/train.toml"
PRIOR = BUNDLED.parents[1] / "wind-era5-mini/train.toml"


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
    ("written", "read"),
    [
        ('["2018", "2018-06"]', ("2018", "2018-06")),
        ('["2018-06", "2018"]', ("2018-06", "2018")),  # to the end of the year
        ('["2018-06-30 18:00", "2018-07-01T00"]', ("2018-06-30T18:00", "2018-07-01T00")),
        ("[2018-06-30, 2018-07-01T06:00:00]", ("2018-06-30", "2018-07-01T06:00:00")),
        ("[2018-06-30T01:00:00+02:00, 2018-07-01T00:00:00Z]",
         ("2018-06-29T23:00:00", "2018-07-01T00:00:00")),
        ('["2000-02-30", "2000-02-30"]', ("2000-02-30", "2000-02-30")),  # of a 360-day calendar
    ],
)  # fmt: skip
def test_times_of_a_period(tmp_path: Path, written: str, read: tuple[str, str]) -> None:
    text = BUNDLED.read_text().replace('["2026-01-18T00", "2026-01-24T18"]', written)
    (tmp_path / "c.toml").write_text(text)
    assert read_config(tmp_path / "c.toml").data.valid == read


def test_a_channel_on_several_levels(tmp_path: Path) -> None:
    text = BUNDLED.read_text().replace("level_hPa = 850", "level_hPa = [850, 500.5]")
    (tmp_path / "c.toml").write_text(text)
    vorticity = Channel("vo", 85000.0), Channel("vo", 50050.0)
    assert read_config(tmp_path / "c.toml").data.channels == (Channel("msl"), *vorticity)


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
        (
            "level_hPa = 850",
            "level_hPa = [850, true]",
            "level_hPa=[850, True]: must be a number or",
        ),
        ("level_hPa = 850", "level_hPa = [850, 850]", "channels declared twice: vo[850 hPa]"),
        ("history = 4", "history = true", "[data] history=True: must be a whole number"),
        ("step_hours = 6", 'step_hours = "6 h"', "[data] step_hours='6 h': must be a number"),
        ('"2026-01-24T18"]', "]", "[data] valid=['2026-01-18T00']: must be [first time, last"),
        ('"2026-01-24T18"]', "7]", "[data] valid: 7 is no time; write it as '2018', '2018-06',"),
        ('"2026-01-24T18"]', '"24.1.2026"]', "[data] valid: '24.1.2026' is no time"),
        ('"2026-01-24T18"]', '"2026-01-17"]', "[data] valid: it ends with 2026-01-17, before it"),
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


FINETUNING = """
[finetuning]
updates = 100
learning_rate = 1e-5
rollout = [[0.0, 5], [0.2, 10]]
gradient = "detach"
cache = 5

[finetuning.loss]
preset = "schedule"
"""


def written(tmp_path: Path, *changes: tuple[str, str], more: str = FINETUNING) -> Path:
    text = BUNDLED.read_text() + more
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def table(name: str) -> tuple[str, str]:
    """Return what takes a table, with those below it, out of the bundled configuration."""
    text = BUNDLED.read_text()
    start = text.index(f"[{name}]")
    following = [text.find(f"\n[{other}]", start) for other in ("network", "training")]
    ends = [n for n in following if n > start]
    return text[start : min(ends, default=len(text))], ""


def test_two_stages(tmp_path: Path) -> None:
    config = read_config(written(tmp_path))
    assert list(config.stages) == ["training", "finetuning"]
    second = config.stages["finetuning"]
    assert second.rollout == ((0.0, 5), (0.2, 10))
    assert (second.gradient, second.cache, second.alpha) == ("detach", 5, 0.9)
    assert second.loss == LOSSES["schedule"]
    assert second.batch_size == StageConfig().batch_size  # nothing is taken over
    assert config.training.loss == LossConfig()
    assert config.training.cache == 0
    assert list(read_config(BUNDLED).stages) == ["training"]


@pytest.mark.parametrize("preset", LOSSES)
def test_presets_of_the_loss(tmp_path: Path, preset: str) -> None:
    change = ('mode = "learnable"', f'preset = "{preset}"')
    assert read_config(written(tmp_path, change)).training.loss == LOSSES[preset]


def test_a_preset_with_a_change(tmp_path: Path) -> None:
    change = ('mode = "learnable"', 'preset = "released"\ntheta = -1.0')
    loss = read_config(written(tmp_path, change)).training.loss
    assert (loss.variant, loss.theta) == ("released", -1.0)


NAME = "emformer-era5-mini"
START = ('name = "emformer-era5-mini"', f'name = "x"\nstart = "{NAME}"')
ONE = ('{ name = "msl" }, ', "")


def test_a_model_to_start_from(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, START, table("network"), table("training")))
    assert config.start == NAME
    assert (config.architecture, config.network, config.training) == ("", {}, None)
    assert list(config.stages) == ["finetuning"]
    spec = find_spec(NAME)
    text = (tmp_path / "c.toml").read_text()
    for key in ("channels", "history", "step_hours", "forcings"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(key))
    (tmp_path / "c.toml").write_text(text)
    data = read_config(tmp_path / "c.toml").data
    assert data == config.data
    assert data.channels == spec.channels
    assert data.history == spec.history == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("cache = 5", "cache = 5\nkv_grad = true")], "[finetuning] kv_grad=True with gradient="),
        ([("cache = 5", "cach = 5")], "[finetuning] has unknown keys cach"),
        ([("cache = 5", 'cache = "5"')], "[finetuning] cache='5': must be a whole number"),
        ([('preset = "schedule"', 'preset = "best"')], "[finetuning.loss] preset='best': choose"),
        ([('preset = "schedule"', 'preset = "l2"\ntheta = 1.0')], "loss theta=1.0 with kind='l2'"),
        ([("dim = 64", "dim = 64\ncache = 3")], "[network] cache=3: no stage trains with it"),
        (
            [("step_hours = 6", 'step_hours = 6\nreport = ["z"]')],
            "[data] report='z': not a channel",
        ),
        ([START], f"start='{NAME}' and [network]"),
        ([START, table("network")], f"start='{NAME}' and [training]"),
        (
            [(START[0], 'name = "x"\nstart = "nothing"'), table("network"), table("training")],
            "start='nothing': ",
        ),
        (
            [START, table("network"), table("training"), ONE],
            "[data] channels: the model takes msl besides, and not anything less",
        ),
        (
            [START, table("network"), table("training"), ("level_hPa = 850", "level_hPa = 500")],
            "the model takes vo[850 hPa] besides, and not vo[500 hPa]",
        ),
        (
            [START, table("network"), table("training"), ("history = 4", "history = 2")],
            "[data] history: 2, the model takes 4; leave history out",
        ),
        ([table("training")], "'training' is missing"),
    ],
)
def test_stages_that_do_not_go_together(
    tmp_path: Path, changes: list[tuple[str, str]], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(written(tmp_path, *changes))
    assert words in str(caught.value)


def test_start_needs_a_stage(tmp_path: Path) -> None:
    path = written(tmp_path, START, table("network"), table("training"), more="")
    with pytest.raises(ConfigError, match="'finetuning' is missing"):
        read_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        read_config(tmp_path / "nowhere.toml")


GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "train.md"


def test_the_guide_has_every_key_of_noise(tmp_path: Path) -> None:
    """All but `levels`, where an example is given, are the defaults."""
    text = next(t for t in GUIDE.read_text().split("```toml\n") if t.startswith("[training.noise]"))
    table = tomllib.loads(text.split("```")[0])["training"]["noise"]
    assert set(table) == {field.name for field in fields(NoiseConfig)}
    assert replace(NoiseConfig(**table), levels=NoiseConfig.levels) == NoiseConfig()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("shared = 2.0", r"\[training.noise\] noise shared=2.0: give a number from 0 to 1"),
        ("levels = [0.5, 0.2]", r"\[training.noise\] noise levels=\(0.5, 0.2\)"),
        ("level = 0.5", r"\[training.noise\] has unknown keys level"),
        ("pressure = 1.5", r"\[training.noise\] pressure=1.5: must be true or false"),
    ],
)
def test_noise_that_is_not_understood_is_named(tmp_path: Path, table: str, words: str) -> None:
    text = PRIOR.read_text()
    (tmp_path / "c.toml").write_text(text.replace("shared = 0.5", table))
    with pytest.raises(ConfigError, match=words):
        read_config(tmp_path / "c.toml")


def test_the_configuration_of_the_bundled_prior_is_read() -> None:
    config = read_config(PRIOR)
    assert config.architecture == "wind"
    assert config.training.noise.shared == 0.5
    assert config.training.noise.levels == NoiseConfig.levels


def test_the_guide_has_every_key_and_is_read(tmp_path: Path) -> None:
    """Its defaults are those of the classes too, where it gives them in brackets."""
    text = GUIDE.read_text().split("```toml\n")[1].split("```")[0]
    (tmp_path / "c.toml").write_text(text)
    config = read_config(tmp_path / "c.toml")
    assert list(config.stages) == ["training", "finetuning"]
    keys = {line.lstrip("# ").split(" =")[0] for line in text.splitlines() if " = " in line}
    for kind in (StageConfig, DataConfig, Augment):
        names = {field.name for field in fields(kind)} - {"augment", "loss", "noise"}
        assert names <= keys, kind
    assert {"name", "threads", "start", "architecture", "preset"} <= keys
    for line in text.splitlines():
        name, _, rest = line.lstrip("# ").partition(" = ")
        said = re.search(r"\[([^\]]*)\]$", rest.split("#")[-1])
        default = {field.name: field.default for field in fields(StageConfig)}.get(name)
        other = ("rollout", "leads", "muon_learning_rate", "noise")  # the last one is a table
        if said and name not in other and default is not None:
            assert said[1] == str(default).lower() or float(said[1]) == default, line
