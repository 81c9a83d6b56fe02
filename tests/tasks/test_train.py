"""From a configuration file to a model: trained, chosen, reported on, and loaded again."""

from __future__ import annotations

import copy
import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import xwx
from xwx.errors import ConfigError, MismatchError
from xwx.spec import Channel, Grid, Spec
from xwx.tasks.archive import make_archive
from xwx.tasks.report import default_channels, report
from xwx.tasks.train import train
from xwx.training.batches import Ahead
from xwx.training.config import read_config
from xwx.training.data import Batch

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
        ("depth = 4", "depth = 2"),
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


def test_the_statistics_are_those_of_the_training_period(trained: Path) -> None:
    ds = xwx.tutorial.open_dataset("era5-winter").load()
    learned = ds.sel(valid_time=slice("2025-12-01T00", "2025-12-05T18"))
    share = ds.wx.area_weights / ds.wx.area_weights.mean()
    mean = (share * learned.msl.astype("f8")).mean()
    network = xwx.load(trained).network
    assert float(network.mean[0]) == pytest.approx(float(mean), rel=1e-6)
    change = learned.msl.astype("f8").diff("valid_time")
    spread = np.sqrt((share * (change - (share * change).mean()) ** 2).mean())
    assert float(network.increment_std[0]) == pytest.approx(float(spread), rel=1e-4)


def test_a_run_leaves_a_model_that_forecasts(trained: Path) -> None:
    model = xwx.load(trained)
    scores = model.card.facts["rmse_over_persistence"]
    assert list(scores) == ["6 h", "12 h", "24 h", "48 h"]
    assert set(scores["6 h"]) == {"msl", "vo[850 hPa]"}
    rows = rows_of(trained.parent / "log.csv")
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


TRAIN = 'train = ["2025-12-01T00", "2025-12-05T18"]'
VALID = 'valid = ["2025-12-06T00", "2025-12-09T00"]'
TEST = 'test = ["2025-12-10T00", "2025-12-13T00"]'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            VALID,
            'valid = ["2025-12-05T18", "2025-12-09T00"]',
            "train and valid share 1 states, the",
        ),
        (TEST, 'test = ["2025-12-03", "2025-12-05"]', "train and test share 12 states"),
        (TEST, 'test = ["2025-12-08", "2025-12-11"]', "valid and test share 5 states"),
        (TEST, 'test = ["2025-12-10", "2025-12-11"]', "the test period holds 11 states and no"),
        (TEST, 'test = ["2027-12-10", "2027-12-11"]', "no state between 2027-12-10"),
    ],
)
def test_periods_are_looked_at_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str
) -> None:
    monkeypatch.setattr("xwx.tasks.train.Trainer", None)  # would be called to train
    with pytest.raises(ConfigError) as caught:
        train(write(tmp_path / "c.toml", (old, new)), out=tmp_path / "run", progress=False)
    assert words in str(caught.value)
    assert str(caught.value).count("[data]") == 1


def stored(folder: Path, change: float = 0.0) -> tuple[str, str]:
    """Write two weeks as a file of the user's, some values of it changed; name it in [data]."""
    ds = xwx.tutorial.open_dataset("era5-winter").isel(valid_time=slice(0, 56)).load()
    ds["msl"][{"valid_time": 3}] += change
    ds.drop_encoding().to_netcdf(folder / "own.nc")
    return 'dataset = "era5-winter"', f'dataset = "{folder / "own.nc"}"'


def test_a_channel_that_never_changes_cannot_be_scored(tmp_path: Path) -> None:
    own = stored(tmp_path)
    with xr.open_dataset(tmp_path / "own.nc") as opened:
        ds = opened.load()
    ds["vo"][{"valid_time": slice(20, 40)}] = 1e-5
    ds.to_netcdf(tmp_path / "own.nc")
    words = r"\[data\] valid: vo\[850 hPa\] does not change in this period"
    with pytest.raises(ConfigError, match=words):
        train(write(tmp_path / "c.toml", own), out=tmp_path / "run", progress=False)


def test_other_values_are_another_run(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", stored(tmp_path))
    train(path, out=tmp_path / "run", progress=False)
    stored(tmp_path, change=500.0)
    with pytest.raises(ConfigError, match=r"data\.train's values \w+ -> \w+\. Set them back"):
        train(path, out=tmp_path / "run", progress=False)
    train(path, out=tmp_path / "run", progress=False, resume=False)
    train(path, out=tmp_path / "run", progress=False)


def test_an_interrupted_fresh_start_does_not_go_on_from_what_was_there(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the stage in which it was stopped, nor in the one after it."""
    path, out = finetuned.parent / "c.toml", tmp_path / "run"
    shutil.copytree(finetuned, out)
    take, taken = Ahead.take, []

    def stops(self: Ahead) -> Batch:
        taken.append(1)
        if len(taken) == 1:
            raise KeyboardInterrupt
        return take(self)

    monkeypatch.setattr(Ahead, "take", stops)
    with pytest.raises(KeyboardInterrupt):
        train(path, out=out, progress=False, resume=False)
    assert not list(out.rglob("state.safetensors"))
    train(path, out=out, progress=False)
    assert same(out / "model", finetuned / "model")
    assert len(taken) > 3


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


# ---- two stages

FINETUNING = """
[finetuning]
updates = 5
batch_size = 2
learning_rate = 1e-3
rollout = [[0.0, 2], [0.5, 3]]
gradient = "detach"
cache = 2
alpha = 0.8
validate_every = 2
leads = [1, 4]
"""


def write_both(path: Path, *changes: tuple[str, str]) -> Path:
    write(path, *changes)
    path.write_text(path.read_text() + FINETUNING)
    return path


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two stages: its folder."""
    folder = tmp_path_factory.mktemp("finetune")
    reported = ("step_hours = 6", 'step_hours = 6\nreport = ["vo[850 hPa]"]')
    train(write_both(folder / "c.toml", reported), out=folder / "run", progress=False)
    return folder / "run"


def rows_of(log: Path) -> list[dict[str, str]]:
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return xwx.load(path).network.state_dict()


def same(one: Path, two: Path) -> bool:
    first, second = weights_of(one), weights_of(two)
    return all(torch.equal(first[key], second[key]) for key in first)


def test_fine_tuning_begins_where_pretraining_ended(finetuned: Path, trained: Path) -> None:
    """The first stage is that of a run without a second; the result is the second's."""
    assert same(finetuned / "pretrained", trained)
    assert same(finetuned / "model", finetuned / "finetuning" / "model")
    assert not same(finetuned / "model", finetuned / "pretrained")
    before, after = weights_of(finetuned / "pretrained"), weights_of(finetuned / "model")
    # Five updates of 1e-3 by Adam, and the mean, std and positions of the first stage.
    assert max(float((after[k] - before[k]).abs().max()) for k in after) < 6e-3
    assert torch.equal(after["mean"], before["mean"])
    rows = rows_of(finetuned / "finetuning" / "log.csv")
    assert [row["update"] for row in rows] == ["2", "4", "5"]
    assert [row["steps"] for row in rows] == ["2", "3", "3"]


def test_the_result_remembers_by_default(finetuned: Path) -> None:
    model = xwx.load(finetuned / "model")
    assert (model.network.config.cache, model.network.config.alpha) == (2, 0.8)
    assert xwx.load(finetuned / "pretrained").network.config.cache == 0
    assert model.card.facts["stage"] == "finetuning"
    assert (model.card.facts["cache"], model.card.facts["alpha"]) == (2, 0.8)


def test_the_report_is_of_forecasts_with_memory(finetuned: Path) -> None:
    """Of weights far from persistence, where the memory matters."""
    model = xwx.load(finetuned / "model")
    model = replace(model, network=copy.deepcopy(model.network))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    config = read_config(finetuned.parent / "c.toml")
    opened = xwx.tutorial.open_dataset("era5-winter")
    archive = make_archive(opened, model.spec, config.data.test, lead_in=True)
    assert set(model.card.facts["rmse"]) == {"6 h", "24 h"}
    facts = report(model, archive, config, torch.device("cpu")).card.facts
    assert list(facts["rmse"]) == list(facts["rmse_over_persistence"]) == ["6 h", "24 h"]
    assert set(facts["rmse"]["6 h"]) == {"vo[850 hPa]"}
    ds = xwx.tutorial.open_dataset("era5-winter").load()
    starts = ds.valid_time.sel(valid_time=slice("2025-12-10T00", "2025-12-12T00")).values
    weights = ds.wx.area_weights
    found = {}
    for cache in (None, 0):
        fc = ds.wx.forecast(model, steps=4, start=starts, cache=cache)
        error = weights * (fc.vo.astype("f8") - ds.vo.sel(valid_time=fc.valid_time)) ** 2
        found[cache] = np.sqrt(error.mean(["init_time", "latitude", "longitude"]).values.ravel())
    expected = [found[None][0], found[None][3]]
    assert list(facts["rmse"]["6 h"].values()) == pytest.approx(expected[:1], rel=2e-5)
    assert list(facts["rmse"]["24 h"].values()) == pytest.approx(expected[1:], rel=2e-5)
    assert found[0][3] != pytest.approx(expected[1], rel=1e-4)
    assert facts["starts"] == len(starts)


def test_the_report_scores_as_many_starts_as_validation(finetuned: Path) -> None:
    model = xwx.load(finetuned / "model")
    config = read_config(finetuned.parent / "c.toml")
    ds = xwx.tutorial.open_dataset("era5-winter").load()
    archive = make_archive(ds, model.spec, config.data.test, lead_in=True)
    three = replace(config, finetuning=replace(config.finetuning, validation_starts=3))
    facts = report(model, archive, three, torch.device("cpu")).card.facts
    assert facts["starts"] == 3
    starts = ds.valid_time.sel(valid_time=slice("2025-12-10T00", "2025-12-12T00")).values
    fc = ds.wx.forecast(model, steps=4, start=starts[[0, len(starts) // 2, -1]])
    square = (fc.vo.astype("f8") - ds.vo.sel(valid_time=fc.valid_time)) ** 2
    error = np.sqrt((ds.wx.area_weights * square).mean(["init_time", "latitude", "longitude"]))
    assert facts["rmse"]["24 h"]["vo[850 hPa]"] == pytest.approx(float(error[3].item()), rel=2e-5)


@pytest.mark.parametrize("take", [2, 5])
def test_an_interrupted_run_ends_the_same(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: int
) -> None:
    """Of two updates and five, with the state written after every one: stopped before one."""
    path = write_both(tmp_path / "c.toml")
    monkeypatch.setattr("xwx.training.trainer.SAVE_EVERY", 0.0)
    whole = Ahead.take
    taken: list[int] = []

    def stop(self: Ahead) -> Batch:
        taken.append(1)
        if len(taken) == take:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(Ahead, "take", stop)
    with pytest.raises(KeyboardInterrupt):
        train(path, out=tmp_path / "run", progress=False)
    torch.manual_seed(999)
    train(path, out=tmp_path / "run", progress=False)
    assert len(taken) == 7 + 1  # none was made twice
    for model in ("pretrained", "finetuning/model", "model"):
        assert same(tmp_path / "run" / model, finetuned / model)
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == (
        finetuned / "model/model.safetensors"
    ).read_bytes()


def test_a_second_stage_may_follow_later(finetuned: Path, trained: Path, tmp_path: Path) -> None:
    """A finished pretraining is not done again when [finetuning] is added."""
    run = tmp_path / "run"
    shutil.copytree(trained.parent, run)
    before = (run / "state.safetensors").read_bytes()
    train(write_both(tmp_path / "c.toml"), out=run, progress=False)
    assert (run / "state.safetensors").read_bytes() == before
    assert same(run / "model", finetuned / "model")
    assert same(run / "pretrained", trained)
    train(tmp_path / "c.toml", out=run, progress=False)  # finished: nothing is left to do
    assert same(run / "model", finetuned / "model")


def test_fine_tuning_may_begin_from_any_model(
    finetuned: Path, trained: Path, tmp_path: Path
) -> None:
    text = write_both(tmp_path / "c.toml").read_text()
    text = text[: text.index("[network]")] + FINETUNING
    text = text.replace("threads = 1", f'threads = 1\nstart = "{trained}"')
    (tmp_path / "c.toml").write_text(text)
    train(tmp_path / "c.toml", out=tmp_path / "run", progress=False)
    assert same(tmp_path / "run" / "model", finetuned / "model")
    assert xwx.load(tmp_path / "run" / "model").card.facts["start"] == str(trained)
    assert not (tmp_path / "run" / "log.csv").exists()


@pytest.mark.parametrize("carry", [True, False])
def test_a_second_stage_goes_on_with_the_loss_of_the_first(
    finetuned: Path, tmp_path: Path, carry: bool
) -> None:
    """Without learning, its theta and s are those of the model that it starts from."""
    card = xwx.load(finetuned / "pretrained").card
    balance = card.facts["balance"]
    assert len(balance["s"]) == 2
    assert max(map(abs, balance["s"])) > 1e-4
    assert balance["theta"] > 1.5e-3
    assert "balance" not in card.rows()
    start = f'start = "{finetuned / "pretrained"}"\nthreads = 1'
    text = write(tmp_path / "c.toml", ("threads = 1", start)).read_text()
    slow = "learning_rate = 1e-7\nlearning_rate_min = 1e-7"
    still = FINETUNING.replace("learning_rate = 1e-3", slow)
    text = text[: text.index("[network]")] + still
    text += "" if carry else "[finetuning.loss]\ncarry = false\n"
    (tmp_path / "c.toml").write_text(text)
    train(tmp_path / "c.toml", out=tmp_path / "run", progress=False)
    row = rows_of(tmp_path / "run" / "finetuning" / "log.csv")[-1]
    found = [float(row["theta"]), float(row["s msl"]), float(row["s vo"])]
    expected = [balance["theta"], *balance["s"]] if carry else [1e-3, 0.0, 0.0]
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_second_stage_that_cannot_run_is_refused_before_the_first(tmp_path: Path) -> None:
    shallow = ("depth = 2", "depth = 1")
    with pytest.raises(ConfigError, match=r"\[finetuning\] .*no block remembers"):
        train(write_both(tmp_path / "c.toml", shallow), out=tmp_path / "run", progress=False)
    path = write_both(tmp_path / "c.toml")
    path.write_text(path.read_text().replace("[0.5, 3]", "[0.5, 30]"))
    with pytest.raises(ConfigError, match=r"\[finetuning\] the training period holds 20 states"):
        train(path, out=tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_another_start_is_another_run(trained: Path, finetuned: Path, tmp_path: Path) -> None:
    text = write_both(tmp_path / "c.toml").read_text()
    text = text[: text.index("[network]")] + FINETUNING
    for start in (trained, finetuned / "pretrained", finetuned / "model"):
        path = tmp_path / "c.toml"
        path.write_text(text.replace("threads = 1", f'threads = 1\nstart = "{start}"'))
        if start == finetuned / "model":
            with pytest.raises(ConfigError, match="the model to start from"):
                train(path, out=tmp_path / "run", progress=False)
        else:  # the same weights by another name are the same model
            train(path, out=tmp_path / "run", progress=False)


def test_a_model_of_another_grid_is_named(trained: Path, tmp_path: Path) -> None:
    text = write_both(tmp_path / "c.toml").read_text()
    ds = xwx.tutorial.open_dataset("era5-winter").isel(latitude=slice(0, 40))
    ds.drop_encoding().to_netcdf(tmp_path / "north.nc")
    text = text[: text.index("[network]")] + FINETUNING
    text = text.replace("threads = 1", f'threads = 1\nstart = "{trained}"')
    text = text.replace('"era5-winter"', f'"{tmp_path / "north.nc"}"')
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"the model is for a grid of .*, the dataset has"):
        train(tmp_path / "c.toml", out=tmp_path / "run", progress=False)


def test_packed_states_give_the_same_weights(trained: Path, tmp_path: Path) -> None:
    packed = ("step_hours = 6", f'step_hours = 6\npacked = "{tmp_path / "packed"}"')
    train(write(tmp_path / "c.toml", packed), out=tmp_path / "run", progress=False)
    assert list((tmp_path / "packed").glob("*.npy"))
    assert same(tmp_path / "run" / "model", trained)


def test_the_run_is_drawn_where_matplotlib_is(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained.parent
    picture = run / "training.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.unlink()
    monkeypatch.setitem(sys.modules, "xwx.tasks.curves", None)
    train(run.parent / "c.toml", out=run, progress=False)
    assert not picture.exists()
    assert capsys.readouterr().err.startswith(f"xwx: no {picture} (")


# ---- several processes


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(finetuned: Path, tmp_path: Path) -> None:
    """Continued by two in the middle of pretraining, through fine-tuning, to rounding."""
    path = write_both(tmp_path / "c.toml")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["-m", "xwx", "train", str(path), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "run" / "model")]  # one process speaks
    for model in ("pretrained", "finetuning/model", "model"):
        one, two = weights_of(tmp_path / "run" / model), weights_of(finetuned / model)
        for name, tensor in one.items():
            torch.testing.assert_close(tensor, two[name], rtol=0, atol=1e-6, msg=name)
    for log in ("log.csv", "finetuning/log.csv"):
        rows = [rows_of(folder / log) for folder in (tmp_path / "run", finetuned)]
        for row, expected in zip(*rows, strict=True):
            assert float(row["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
            assert float(row["score"]) == pytest.approx(float(expected["score"]), rel=1e-5)
    # One process goes on where two stopped, and finds everything done.
    assert train(path, out=tmp_path / "run", progress=False) == tmp_path / "run" / "model"


def test_default_channels_of_the_report() -> None:
    grid = Grid.regular(4, 8, poles=False)
    levels = [50000.0, 85000.0, 70000.0]
    many = [Channel(name, level) for level in levels for name in "zqtuv"] + [Channel("t2m")]
    assert default_channels(Spec(tuple(many[:10]), grid)) == tuple(map(str, many[:10]))
    assert default_channels(Spec(tuple(many), grid)) == (
        *("z[500 hPa]", "t[850 hPa]", "u[850 hPa]", "v[850 hPa]", "q[700 hPa]", "t2m"),
    )
    strange = tuple(Channel("z", 100.0 * n) for n in range(1, 13))
    assert default_channels(Spec(strange, grid)) == tuple(map(str, strange[:10]))


# ---- a prior


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior trained for seconds: its checkpoint."""
    folder = tmp_path_factory.mktemp("prior")
    text = (BUNDLED.parents[1] / "wind-era5-mini/train.toml").read_text()
    config = read_config(BUNDLED.parents[1] / "wind-era5-mini/train.toml")
    changes = [
        (f"updates = {config.training.updates}", "updates = 2"),
        (f"validate_every = {config.training.validate_every}", "validate_every = 1"),
        (f"warmup = {config.training.warmup}", "warmup = 0"),
        ("batch_size = 8", "batch_size = 1"),
        (
            'preset = "wind_mini"',
            'preset = "wind_tiny"\nknown_t = true\npredict = "scaled"\nstencil = 5',
        ),
        ('"2026-01-17T18"', '"2025-12-05T18"'),
        ('["2026-01-18T00", "2026-01-24T18"]', '["2025-12-06T00", "2025-12-08T00"]'),
        ('["2026-01-25T00", "2026-01-31T18"]', '["2025-12-10T00", "2025-12-12T12"]'),
    ]
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    (folder / "c.toml").write_text(text)
    return train(folder / "c.toml", out=folder / "run", progress=False)


def test_a_prior_begins_with_what_neighbours_tell(prior: Path) -> None:
    """After two updates it is all but the best linear filter, far better than one cell alone."""
    model = xwx.load(prior)
    scores = model.card.facts["rmse_over_that_cell_by_cell"]
    assert set(scores) == {"noise", "forecast"}
    assert list(scores["noise"]) == [f"noise time {t}" for t in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert scores["noise"]["noise time 0.5"]["msl"] < 0.6
    assert scores["noise"]["noise time 0.5"]["vo[850 hPa]"] < 1
    assert model.card.facts["windows"] == 2
    assert model.network.frames == 5
    assert (prior.parent / "training.png").is_file()


def test_the_log_of_a_prior_has_its_own_columns(prior: Path) -> None:
    rows = rows_of(prior.parent / "log.csv")
    assert [row["update"] for row in rows] == ["1", "2"]
    ratios = [float(v) for k, v in rows[-1].items() if k.startswith("ratio ")]
    assert len(ratios) == 2 * 5 * 2
    assert float(rows[-1]["score"]) == pytest.approx(np.mean(ratios))


def test_a_static_field_that_the_data_lack_is_named(tmp_path: Path) -> None:
    text = (BUNDLED.parents[1] / "wind-era5-mini/train.toml").read_text()
    text = text.replace('preset = "wind_mini"', 'preset = "wind_tiny"\nstatic = ["lsm"]', 1)
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(xwx.errors.ConfigError, match=r"static names 'lsm'.*leave it out"):
        train(tmp_path / "c.toml", out=tmp_path / "run", progress=False)
