"""A stage of training: it learns, it stops and goes on bit for bit, and it keeps its word."""

from __future__ import annotations

import csv
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import xwx.training.trainer as trainer_module
from xwx.errors import CheckpointError, ConfigError
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec
from xwx.training.accumulate import Accumulation
from xwx.training.batches import Batches
from xwx.training.data import Archive, Augment, statistics
from xwx.training.distributed import ALONE, Processes
from xwx.training.evaluate import measure
from xwx.training.loss import LossConfig
from xwx.training.settings import StageConfig
from xwx.training.state import load_state, optimizer_tensors, restore_optimizer, save_state
from xwx.training.trainer import Trainer

ROWS, COLUMNS = 5, 8
WEIGHTS = np.array([0.4, 1.2, 1.8, 1.2, 0.4])
SPEC = Spec(
    (Channel("msl"), Channel("vo", 85000.0)),
    Grid.regular(ROWS, COLUMNS, poles=True),
    history=2,
    forcings=("sin_latitude",),
)
NETWORK = EMFormerConfig(
    dim=8,
    heads=2,
    depth=2,
    ratio=2.0,
    levels=1,
    outer=0,
    cross=False,
    windows=((2, 2),),
    positions="latitude",
    predict="increment",
    dropout=0.1,
)
CONFIG = StageConfig(
    updates=10,
    batch_size=3,
    learning_rate=3e-3,
    warmup=2,
    ema=0.9,
    rollout=((0.0, 1), (0.5, 2)),
    validate_every=3,
    leads=(1, 2),
    seed=4,
    augment=Augment(noise=0.2),
)


def archive_of(count: int, first: int = 0, spec: Spec = SPEC) -> Archive:
    """Return waves that travel eastwards by one column a step, with a little noise."""
    t = (first + np.arange(count))[:, None, None]
    latitude = np.deg2rad(spec.grid.rows)[:, None]
    longitude = np.deg2rad(spec.grid.columns)[None, :]
    phase = longitude - 2 * np.pi / COLUMNS * t
    msl = 1013 + 10 * np.cos(latitude) * (np.cos(phase) + 0.5 * np.sin(2 * phase))
    vo = 3 * np.sin(latitude) * np.sin(phase)
    states = np.stack([msl, vo], axis=1)[:, : len(spec.channels)]
    states = states + 0.01 * np.random.default_rng(first).normal(size=states.shape)
    times = np.datetime64("2025-12-01", "ns") + (first + np.arange(count)) * np.timedelta64(6, "h")
    forcings = (np.sin(latitude) + 0.1 * np.sin(t) + 0 * longitude).astype(np.float32)[:, None]
    return Archive(states.astype(np.float32), forcings, times, spec)


TRAIN, VALID = archive_of(24), archive_of(8, first=40)


class Kept(list):
    """What was kept: the log row and the averaged weights of every improvement."""

    def __call__(self, network, facts) -> None:
        weights = {k: v.clone() for k, v in network.state_dict().items()}
        clocked = ("seconds", "waiting")
        self.append(({k: v for k, v in facts.items() if k not in clocked}, weights))


def make(
    folder: Path,
    config: StageConfig = CONFIG,
    network: EMFormerConfig = NETWORK,
    keep: Kept | None = None,
    train: Archive = TRAIN,
    valid: Archive = VALID,
) -> Trainer:
    torch.manual_seed(11)
    model = EMFormer(network, train.spec)
    model.set_statistics(*statistics(train, WEIGHTS))
    weights = torch.from_numpy(WEIGHTS).float()
    keep = Kept() if keep is None else keep
    return Trainer(model, train, valid, weights, config, folder, keep)


def log_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the log without the columns that a clock writes."""
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds")
        row.pop("waiting")
    return rows


def learner(trainer: Trainer) -> Accumulation:
    """Return what a trainer learns from one batch with."""
    change = trainer.network.increment_std if hasattr(trainer.network, "mean") else torch.ones(1)
    return Accumulation(trainer.network, trainer.loss, change, SPEC.history, trainer.config)


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return every tensor that the rest of a run depends on."""
    return {
        **{f"network.{k}": v for k, v in trainer.network.state_dict().items()},
        **{f"average.{k}": v for k, v in trainer.average.state_dict().items()},
        **{f"loss.{k}": v for k, v in trainer.loss.state_dict().items()},
        **optimizer_tensors(trainer.optimizers[0]),
        "rng": torch.get_rng_state(),
    }


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def assert_same_kept(one: Kept, two: Kept) -> None:
    assert [facts for facts, _ in one] == [facts for facts, _ in two]
    for (_, a), (_, b) in zip(one, two, strict=True):
        assert_same(a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run from beginning to end."""
    folder, keep = tmp_path_factory.mktemp("whole"), Kept()
    trainer = make(folder, keep=keep)
    best = trainer.fit(progress=False)
    return trainer, best, folder, keep, everything(trainer)


# ---- it learns


def test_it_learns_and_beats_persistence(tmp_path):
    config = replace(
        CONFIG, updates=120, batch_size=8, learning_rate=1e-2, rollout=((0.0, 1),), ema=0.9
    )
    config = replace(config, augment=Augment(mirror=False), validate_every=40)
    keep = Kept()
    trainer = make(tmp_path, config, replace(NETWORK, dropout=0.0), keep)
    start = measure(trainer.network, VALID, trainer.weights, (1, 2), trainer.device).ratios
    assert torch.equal(start, torch.ones(2, 2, dtype=torch.float64))  # increments begin at zero
    best = trainer.fit(progress=False)
    losses = [float(row["loss"]) for row in log_of(tmp_path)]
    assert losses[-1] < 0.3 * losses[0]
    assert best < 0.6
    assert best == pytest.approx(min(float(row["score"]) for row in log_of(tmp_path)), rel=1e-12)
    facts, weights = keep[-1]
    assert facts["score"] == best
    trainer.average.load_state_dict(weights)
    ratios = measure(trainer.average, VALID, trainer.weights, (1, 2), trainer.device).ratios
    assert float(ratios.mean()) == best


def test_ratios_are_the_root_of_mean_squares_over_those_of_persistence():
    """A forecast that is off by a constant, against the waves' own change, with numpy."""

    class Off(torch.nn.Module):
        def forward(self, x, forcing, memory):
            asked.append((x[:, -1], forcing))
            return x[:, -1] + torch.tensor([2.0, 0.5])[:, None, None], memory

    asked: list[tuple[torch.Tensor, torch.Tensor]] = []
    weights = torch.from_numpy(WEIGHTS)
    errors = measure(Off(), VALID, weights, (1, 3), torch.device("cpu"), batch_size=2)
    fields = VALID.states.astype(np.float64)
    starts = range(1, len(fields) - 3)
    assert len(asked) == 3 * math.ceil(len(starts) / 2)
    for n, (state, forcing) in enumerate(asked):
        at = [1 + 2 * (n // 3) + b + n % 3 for b in range(len(state))]
        assert np.array_equal(forcing.numpy(), VALID.forcings[at])
    for n, lead in enumerate((1, 3)):
        for c, offset in enumerate((2.0, 0.5)):
            truth = np.stack([fields[s + lead, c] for s in starts])
            now = np.stack([fields[s, c] for s in starts])
            volume = np.broadcast_to(WEIGHTS[:, None], truth.shape)
            forecast = np.average((now + lead * offset - truth) ** 2, weights=volume)
            persistence = np.average((now - truth) ** 2, weights=volume)
            ratio = math.sqrt(forecast / persistence)
            assert float(errors.ratios[n, c]) == pytest.approx(ratio, rel=1e-5)
            assert float(errors.rmse[n, c]) == pytest.approx(math.sqrt(forecast), rel=1e-5)


def test_log(whole):
    _, best, folder, keep, _ = whole
    rows = log_of(folder)
    assert [row["update"] for row in rows] == ["3", "6", "9", "10"]
    assert [row["steps"] for row in rows] == ["1", "2", "2", "2"]
    learned = whole[0].loss.s.tolist()
    assert [float(rows[-1][f"s {name}"]) for name in ("msl", "vo")] == pytest.approx(learned)
    assert list(rows[0])[-4:] == [
        "ratio msl 6 h",
        "ratio vo[850 hPa] 6 h",
        "ratio msl 12 h",
        "ratio vo[850 hPa] 12 h",
    ]
    for row in rows:
        ratios = [float(v) for k, v in row.items() if k.startswith("ratio")]
        assert float(row["score"]) == pytest.approx(np.mean(ratios), rel=1e-12)
    assert best == min(float(row["score"]) for row in rows) == keep[-1][0]["score"]


# ---- it goes on


@pytest.mark.parametrize("until", [1, 3, 4, 6, 9])
def test_an_interrupted_run_ends_the_same(whole, tmp_path, until):
    """With dropout, noise and turns, so that every random number matters."""
    _, best, folder, kept, expected = whole
    keep = Kept()
    first = make(tmp_path, keep=keep)
    first.fit(progress=False, until=until)
    assert first.update == until
    torch.manual_seed(999)  # another process has another generator
    second = make(tmp_path, keep=keep)
    assert second.fit(progress=False) == best
    assert_same(everything(second), expected)
    assert log_of(tmp_path) == log_of(folder)
    assert_same_kept(keep, kept)


@pytest.mark.parametrize("torn", ["", "1"])
def test_a_killed_run_ends_the_same(whole, tmp_path, torn):
    """The state is that of the validation before; the log is ahead of it, or torn."""
    _, best, folder, _, expected = whole
    first = make(tmp_path)
    first.fit(progress=False, until=6)
    shutil.copy(first.state_path, tmp_path / "older")
    first.fit(progress=False, until=9)
    (tmp_path / "older").replace(first.state_path)
    with (tmp_path / "log.csv").open("a") as file:
        file.write(torn)
    second = make(tmp_path)
    assert second.fit(progress=False) == best
    assert_same(everything(second), expected)
    assert log_of(tmp_path) == log_of(folder)


def test_a_write_that_was_cut_off_does_not_count(whole, tmp_path):
    _, best, _, _, expected = whole
    first = make(tmp_path)
    first.fit(progress=False, until=5)
    (tmp_path / "state.safetensors.new").write_bytes(first.state_path.read_bytes()[:500])
    second = make(tmp_path)
    assert second.fit(progress=False) == best
    assert_same(everything(second), expected)


def test_a_finished_run_stays_finished(whole):
    _, best, folder, _, expected = whole
    before = log_of(folder)
    again = make(folder)
    assert again.fit(progress=False) == best
    assert again.update == CONFIG.updates
    assert log_of(folder) == before
    own = everything(again)
    assert_same(own, {**expected, "rng": own["rng"]})


def test_afresh_on_demand(whole, tmp_path):
    _, best, folder, _, expected = whole
    make(tmp_path).fit(progress=False, until=4)
    again = make(tmp_path)
    torch.manual_seed(999)  # nothing depends on the generator that all share
    assert again.fit(progress=False, resume=False) == best
    assert_same(everything(again), expected)
    assert log_of(tmp_path) == log_of(folder)


def test_another_seed_is_another_run(whole, tmp_path):
    trainer = make(tmp_path, replace(CONFIG, seed=5))
    trainer.fit(progress=False)
    expected = whole[-1]
    assert not torch.equal(
        everything(trainer)["network.embed.conv.weight"], expected["network.embed.conv.weight"]
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": replace(CONFIG, learning_rate=1e-3)}, ["training.learning_rate", "-> 0.001"]),
        (
            {"config": replace(CONFIG, loss=LossConfig(mode="fixed"))},
            ["training.loss.mode", "-> fixed"],
        ),
        ({"config": replace(CONFIG, augment=Augment())}, ["training.augment."]),
        ({"network": replace(NETWORK, heads=4)}, ["network.heads", "-> 4"]),
        ({"network": replace(NETWORK, dropout=0.2)}, ["network.dropout", "-> 0.2"]),
        ({"train": archive_of(23)}, ["data.train [24, ", "-> [23, "]),
        ({"valid": archive_of(8, first=41)}, ["data.valid [8, "]),
        (
            {
                "train": archive_of(24, spec=replace(SPEC, forcings=("cos_latitude",))),
                "config": replace(CONFIG, seed=9),
            },
            ["training.seed", "-> 9", "data.forcings", "cos_latitude"],
        ),
    ],
)
def test_another_run_is_not_continued(tmp_path, changes, words):
    make(tmp_path).fit(progress=False, until=1)
    with pytest.raises(ConfigError, match="belongs to a run with other settings: ") as caught:
        make(tmp_path, **changes).fit(progress=False)
    for word in [*words, "`xwx train CONFIG --fresh`", "another --out"]:
        assert word in str(caught.value)
    assert "training.batch_size" not in str(caught.value)


def test_what_changes_no_result_may_change(whole, tmp_path):
    _, best, _, _, expected = whole
    make(tmp_path).fit(progress=False, until=4)
    second = make(tmp_path, replace(CONFIG, prefetch=0, recompute=True))
    assert second.network.checkpointing
    assert second.fit(progress=False) == best
    assert_same(everything(second), expected)


def test_a_state_without_the_newer_settings_goes_on(whole, tmp_path):
    """Of a run before a setting was there: what is not in the state had its default."""
    _, best, folder, _, expected = whole
    first = make(tmp_path)
    first.fit(progress=False, until=6)
    tensors, facts = load_state(first.state_path)
    for name in ("gradient", "cache", "alpha", "update", "optimizer"):
        del facts["config"][name]
    del facts["config"]["loss"]["kind"], facts["network"]["cache"], facts["start"]
    save_state(first.state_path, tensors, facts)
    rows = (tmp_path / "log.csv").read_text().splitlines()
    head = rows[0].split(",")
    at = head.index("waiting")
    older = [",".join(v for n, v in enumerate(row.split(",")) if n != at) for row in rows]
    (tmp_path / "log.csv").write_text("\n".join(older) + "\n")
    second = make(tmp_path)
    assert second.fit(progress=False) == best
    assert_same(everything(second), expected)
    with (tmp_path / "log.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    for row, wanted in zip(found, log_of(folder), strict=True):
        del row["seconds"]
        assert row == wanted
    with pytest.raises(ConfigError, match=r"training\.gradient through -> detach"):
        make(tmp_path, replace(CONFIG, gradient="detach")).fit(progress=False)


def test_the_state_is_written_between_validations(whole, tmp_path, monkeypatch):
    """A run that is killed goes on from its last minutes, not from the validation before."""
    _, best, folder, _, expected = whole
    monkeypatch.setattr(trainer_module, "SAVE_EVERY", 0.0)
    first = make(tmp_path)
    step, made = first._step, []

    def killed(batch):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(step(batch))
        return made[-1]

    first._step = killed
    with pytest.raises(KeyboardInterrupt):
        first.fit(progress=False)
    assert load_state(first.state_path)[1]["update"] == 5
    monkeypatch.undo()
    second = make(tmp_path)
    assert second.fit(progress=False) == best
    assert_same(everything(second), expected)
    assert log_of(tmp_path) == log_of(folder)
    assert load_state(second.state_path)[1]["update"] == CONFIG.updates


def test_without_the_clock_the_state_is_that_of_the_validation(tmp_path):
    trainer = make(tmp_path)
    trainer._save = lambda: saved.append(trainer.update)
    saved: list[int] = []
    trainer.fit(progress=False)
    assert saved == [3, 6, 9, 10]


class SlowArchive(Archive):
    """Reads every batch in a third of a second."""

    def batch(self, starts, length):
        time.sleep(0.3)
        return super().batch(starts, length)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_log_says_what_waiting_cost(tmp_path, prefetch):
    """Four batches from a slow disk; with quick steps no thread can hide them."""
    slow = SlowArchive(TRAIN.states, TRAIN.forcings, TRAIN.times, SPEC)
    config = replace(CONFIG, updates=4, validate_every=4, prefetch=prefetch)
    make(tmp_path / "slow", config, train=slow).fit(progress=False)
    make(tmp_path / "quick", config).fit(progress=False)
    rows = []
    for name in ("slow", "quick"):
        with (tmp_path / name / "log.csv").open(newline="") as file:
            rows.extend(csv.DictReader(file))
    slow_row, quick_row = rows
    steps = float(quick_row["seconds"])
    waited = float(slow_row["waiting"]) * float(slow_row["seconds"])
    assert waited > 1.2 - prefetch / 2 * min(steps, 0.9) - 0.1
    assert float(slow_row["waiting"]) <= 1
    assert float(quick_row["waiting"]) < 0.5 * float(slow_row["waiting"])


# ---- the other ways of learning


ACCUMULATIVE = replace(
    CONFIG, rollout=((0.0, 2), (0.5, 4)), gradient="detach", cache=2, alpha=0.8, recompute=True
)


@pytest.mark.parametrize(
    "config",
    [
        ACCUMULATIVE,
        replace(ACCUMULATIVE, gradient="bptt:2", kv_grad=True),
        replace(ACCUMULATIVE, update="per_step"),
        replace(ACCUMULATIVE, optimizer="muon", muon_learning_rate=0.01),
        replace(ACCUMULATIVE, precision="bfloat16"),
        replace(ACCUMULATIVE, loss=LossConfig(kind="l2")),
    ],
    ids=["accumulative", "bptt", "per_step", "muon", "bfloat16", "l2"],
)
def test_other_ways_are_resumed_bit_for_bit(tmp_path, config):
    one = make(tmp_path / "one", config)
    best = one.fit(progress=False)
    expected = every_tensor(one)
    make(tmp_path / "two", config).fit(progress=False, until=7)
    torch.manual_seed(999)
    two = make(tmp_path / "two", config)
    assert two.fit(progress=False) == best
    assert_same(every_tensor(two), expected)
    assert log_of(tmp_path / "one") == log_of(tmp_path / "two")
    start = make(tmp_path / "three", config)
    moved = [
        not torch.equal(a, b)
        for a, b in zip(one.network.parameters(), start.network.parameters(), strict=True)
    ]
    assert sum(moved) > 0.8 * len(moved)


def every_tensor(trainer: Trainer) -> dict[str, torch.Tensor]:
    muon = [optimizer_tensors(optimizer, "muon") for optimizer in trainer.optimizers[1:]]
    assert all(muon)
    return {**everything(trainer), **{k: v for tensors in muon for k, v in tensors.items()}}


def test_validation_remembers_as_training_does(tmp_path):
    """The score in the log is that of forecasts with the memory of the stage, and of no other."""
    config = replace(ACCUMULATIVE, leads=(1, 4), validate_every=10)
    keep = Kept()
    trainer = make(tmp_path, config, keep=keep)
    # As after longer training: an attention that differs between past and present.
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    trainer.average.load_state_dict(trainer.network.state_dict())
    trainer.fit(progress=False)
    trainer.average.load_state_dict(keep[-1][1])
    squares = {}
    fields = torch.from_numpy(VALID.states).double()
    for name, memory in (
        ("same", lambda: trainer.average.remember(2, alpha=0.8)),
        ("longer", lambda: trainer.average.remember(3, alpha=0.8)),
        ("none", lambda: None),
    ):
        total = np.zeros(2)
        for start in VALID.starts(2 + 4):
            x, held = torch.from_numpy(VALID.states[None, start : start + 2]), memory()
            for step in range(4):
                forcing = torch.from_numpy(VALID.forcings[None, start + 1 + step])
                with torch.no_grad():
                    y, held = trainer.average(x, forcing, held)
                x = torch.stack([x[:, 1], y], dim=1)
            error = (y[0].double() - fields[start + 5]) ** 2
            total += (error.numpy() * WEIGHTS[:, None]).mean((1, 2))
        squares[name] = total
    still = sum(
        (((fields[s + 1] - fields[s + 5]) ** 2).numpy() * WEIGHTS[:, None]).mean((1, 2))
        for s in VALID.starts(2 + 4)
    )
    row = log_of(tmp_path)[-1]
    found = [float(row[f"ratio {channel} 24 h"]) for channel in SPEC.channels]
    assert found == pytest.approx(np.sqrt(squares["same"] / still), rel=1e-6)
    for other in ("longer", "none"):
        assert found != pytest.approx(np.sqrt(squares[other] / still), rel=1e-4)


def test_validation_of_a_few_starts_spreads_them_over_the_period(tmp_path):
    """The score of three forecasts out of many is that of the first, the middle and the last."""
    valid = archive_of(14, first=40)
    trainer = make(tmp_path, replace(CONFIG, validation_starts=3, leads=(2,)), valid=valid)
    trainer.fit(progress=False, until=3)
    starts = valid.starts(2 + 2)
    assert len(starts) == 11
    squares = torch.zeros(2, 2, dtype=torch.float64)
    for start in (starts[0], starts[5], starts[10]):
        one = archive_of(4, first=40 + int(start))
        one.states[:] = valid.states[start : start + 4]
        one.forcings[:] = valid.forcings[start : start + 4]
        errors = measure(trainer.average, one, trainer.weights, (2,), trainer.device)
        assert errors.starts == 1
        squares += torch.stack([errors.forecast[0], errors.persistence[0]])
    row = log_of(tmp_path)[-1]
    found = [float(row[f"ratio {channel} 12 h"]) for channel in SPEC.channels]
    assert found == pytest.approx((squares[0] / squares[1]).sqrt().tolist(), rel=1e-6)


def test_one_update_a_forecast_step(tmp_path):
    """Each is clipped, and theta kept above its floor, before the next forecast is made."""
    trainer = make(tmp_path, replace(ACCUMULATIVE, update="per_step", clip=1e-3))
    made = []
    step = trainer.optimizers[0].step

    def spy():
        parts = [p.grad for g in trainer.optimizers[0].param_groups for p in g["params"]]
        norm = torch.cat([p.flatten() for p in parts if p is not None]).norm()
        made.append((float(norm), float(trainer.loss.theta.detach())))
        step()

    trainer.optimizers[0].step = spy
    trainer.fit(progress=False, until=1)
    assert len(made) == 2
    assert [norm for norm, _ in made] == pytest.approx([1e-3] * 2, rel=1e-4)
    assert min(theta for _, theta in made) >= np.float32(1e-3)


#: Of the first version of the loop, which knew none of the newer settings: ten updates of
#: CONFIG, torch 2.13 on x86_64.
RECORDED = {
    "network.embed.conv.weight": [
        -0.14308790862560272,
        0.007929012179374695,
        0.2307109534740448,
        -0.1342681646347046,
    ],
    "average.head.linear.weight": [
        -0.017424127086997032,
        -0.017340965569019318,
        0.014373967424035072,
        0.017311396077275276,
    ],
    "network.valley.1.convs.kernels.2": [
        0.013303713873028755,
        -0.011994815431535244,
        0.011883587576448917,
        -0.009035898372530937,
    ],
    "loss.s": [-0.01392358262091875, 0.016870742663741112],
    "average.valley.0.qkv.bias": [
        0.018620379269123077,
        0.13001732528209686,
        0.14295585453510284,
        0.08205131441354752,
    ],
}


def test_older_settings_give_the_weights_they_gave(whole):
    """To the rounding of another machine; each update moves them by some 3e-3."""
    _, best, _, _, tensors = whole
    assert best == pytest.approx(0.9520089068468139, rel=1e-6)
    for name, values in RECORDED.items():
        found = tensors[name].flatten()[: len(values)].tolist()
        assert found == pytest.approx(values, abs=2e-6), name


# ---- the state on disk


@pytest.mark.parametrize(
    "fault", ["empty", "truncated", "text", "foreign", "no facts", "bad facts"]
)
def test_a_damaged_state_is_an_error(tmp_path, fault):
    trainer = make(tmp_path)
    trainer.fit(progress=False, until=1)
    path = trainer.state_path
    whole = path.read_bytes()
    some = {"x": torch.zeros(2)}
    if fault == "empty":
        path.write_bytes(b"")
    elif fault == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif fault == "text":
        path.write_text("a state of mind" * 20)
    elif fault == "foreign":
        save_file(some, path)
    elif fault == "no facts":
        save_file(some, path, metadata={"format": "xwx-training-1"})
    else:
        save_file(some, path, metadata={"format": "xwx-training-1", "facts": "{"})
    with pytest.raises(CheckpointError, match="delete it to start afresh"):
        make(tmp_path).fit(progress=False)


def test_state_round_trip(tmp_path):
    path = tmp_path / "state.safetensors"
    view = torch.arange(12.0).view(3, 4).T  # not contiguous, shared
    facts = {"update": 3, "best": math.inf, "text": "päärynä"}
    save_state(path, {"a": view, "b": view, "c": torch.tensor(2.0)}, facts)
    tensors, again = load_state(path)
    assert_same(tensors, {"a": view, "b": view, "c": torch.tensor(2.0)})
    assert again == facts
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
    assert load_file(path).keys() == tensors.keys()


def test_an_optimiser_goes_on_where_it_was(tmp_path):
    def steps(count, parameter, optimiser):
        for _ in range(count):
            optimiser.zero_grad()
            (parameter**4).sum().backward()
            optimiser.step()

    one = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    first = torch.optim.AdamW([one], lr=0.1)
    steps(3, one, first)
    two = torch.nn.Parameter(one.detach().clone())
    second = torch.optim.AdamW([two], lr=0.1)
    path = tmp_path / "state.safetensors"
    save_state(path, {**optimizer_tensors(first), "network.x": torch.zeros(1)}, {})
    restore_optimizer(second, load_state(path)[0])
    steps(3, one, first)
    steps(3, two, second)
    assert torch.equal(one, two)


# ---- one update


def test_the_gradient_is_clipped_before_the_step(tmp_path):
    seen = {}
    for clip in (1e9, 0.5):
        trainer = make(tmp_path / str(clip), replace(CONFIG, clip=clip))
        trainer.network.set_statistics(
            torch.tensor([1013.0, 0.0]), torch.ones(2), torch.full((2,), 1e-3)
        )
        trainer.average.load_state_dict(trainer.network.state_dict())  # errors become enormous
        gradients = []
        step = trainer.optimizers[0].step

        def spy(*args, trainer=trainer, gradients=gradients, step=step):
            groups = trainer.optimizers[0].param_groups
            parts = [p.grad for g in groups for p in g["params"] if p.grad is not None]
            gradients.append(torch.cat([part.flatten() for part in parts]))
            return step(*args)

        trainer.optimizers[0].step = spy
        trainer.fit(progress=False, until=1)
        seen[clip] = gradients[0].double()
    raw, clipped = seen[1e9], seen[0.5]
    assert raw.norm() > 50
    assert float(clipped.norm()) == pytest.approx(0.5, rel=1e-5)
    torch.testing.assert_close(clipped / 0.5, raw / raw.norm(), rtol=0, atol=1e-6)


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path):
    broken = archive_of(24)
    broken.states[:] = np.nan
    trainer = make(tmp_path, train=TRAIN)
    trainer.train_data = broken
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    with pytest.raises(RuntimeError, match="non-finite"):
        trainer.fit(progress=False)
    assert_same(before, trainer.network.state_dict())


def test_weight_decay_is_for_matrices_and_kernels(tmp_path):
    trainer = make(tmp_path)
    decayed, plain = trainer.optimizers[0].param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    names = {id(p): n for n, p in trainer.network.named_parameters()}
    names |= {id(p): f"loss.{n}" for n, p in trainer.loss.named_parameters()}
    decayed_names = {names[id(p)] for p in decayed["params"]}
    plain_names = {names[id(p)] for p in plain["params"]}
    assert decayed_names | plain_names == set(names.values())
    assert not decayed_names & plain_names
    assert {"loss.theta", "loss.s", "head.norm.weight", "embed.conv.bias"} <= plain_names
    assert not [n for n in decayed_names if "norm" in n or n.endswith("bias") or "loss" in n]
    assert {
        "valley.0.qkv.weight",
        "valley.1.convs.kernels.2",
        "head.linear.weight",
    } <= decayed_names


def test_theta_is_clamped_after_the_step(tmp_path):
    for start, end in ((5.0, math.pi / 2), (-5.0, 1e-3)):
        trainer = make(tmp_path / str(start))
        with torch.no_grad():
            trainer.loss.theta.fill_(start)
        trainer.fit(progress=False, until=1)
        assert trainer.loss.theta.item() == pytest.approx(end, rel=1e-6)


def test_a_fixed_theta_is_not_optimised(tmp_path):
    trainer = make(tmp_path, replace(CONFIG, loss=LossConfig(mode="fixed", theta=0.3)))
    trainer.fit(progress=False, until=2)
    assert trainer.loss.theta.item() == pytest.approx(0.3, rel=1e-6)
    assert trainer.loss.s.detach().abs().max() > 0


def test_a_scheduled_theta_follows_the_updates(tmp_path):
    trainer = make(tmp_path, replace(CONFIG, loss=LossConfig(mode="schedule")))
    trainer.fit(progress=False, until=6)
    assert trainer.loss.theta.item() == pytest.approx(math.pi / 2 * 5 / 10, rel=1e-6)


def test_learning_rates(tmp_path):
    config = StageConfig(updates=110, warmup=10, learning_rate=1.0, learning_rate_min=0.2)
    assert [config.rate(n) for n in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    middle = 0.2 + 0.8 * 0.5
    assert [config.rate(n) for n in (10, 60, 110, 500)] == pytest.approx([1.0, middle, 0.2, 0.2])
    assert config.rate(35) == pytest.approx(0.2 + 0.4 * (1 + math.sqrt(0.5)))
    trainer = make(tmp_path)
    used = []
    step = trainer.optimizers[0].step

    def spy():
        used.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        return step()

    trainer.optimizers[0].step = spy
    trainer.fit(progress=False)
    assert used == [[CONFIG.rate(n)] * 2 for n in range(10)]


def test_the_average_follows_the_weights(tmp_path):
    trainer = make(tmp_path, replace(CONFIG, ema=0.15))
    name = "valley.0.qkv.weight"
    mean = trainer.network.state_dict()[name].clone()
    for update in range(4):
        trainer.fit(progress=False, until=update + 1, resume=False)
        decay = min(0.15, (1 + update) / (10 + update))
        mean = decay * mean + (1 - decay) * trainer.network.state_dict()[name]
        torch.testing.assert_close(trainer.average.state_dict()[name], mean, rtol=0, atol=1e-7)


# ---- windows and rollouts


def test_the_rollout_grows_on_time(tmp_path):
    config = replace(CONFIG, updates=8, rollout=((0.0, 1), (0.25, 2), (0.75, 3)))
    assert [config.steps(n) for n in range(8)] == [1, 1, 2, 2, 2, 2, 3, 3]
    trainer = make(tmp_path, config)
    lengths = []
    batch = trainer.train_data.batch

    def spy(starts, length):
        lengths.append(length)
        return batch(starts, length)

    object.__setattr__(trainer.train_data, "batch", spy)
    try:
        trainer.fit(progress=False)
    finally:
        object.__delattr__(trainer.train_data, "batch")
    assert lengths == [3, 3, 4, 4, 4, 4, 5, 5]


def test_an_epoch_sees_every_window_once():
    four = replace(CONFIG, batch_size=4)
    batches = Batches(TRAIN, four, lambda _: 3, torch.ones(2, 1, 1), ALONE)
    starts = TRAIN.starts(3)
    count = len(starts)
    drawn = [n for update in range(3 * count // 4) for n in batches.draw(update, 3).tolist()]
    epochs = [drawn[n * count : (n + 1) * count] for n in range(3)]
    for epoch in epochs[:2]:
        assert sorted(epoch) == starts.tolist()
    assert epochs[0] != epochs[1]


def test_the_loss_is_the_mean_over_the_steps_in_units_of_change(tmp_path):
    """Persistence forecasts at theta = 0: the area-weighted error, counted by hand."""
    config = replace(CONFIG, rollout=((0.0, 2),), loss=LossConfig(mode="fixed", theta=0.0))
    trainer = make(tmp_path, config)
    batch = TRAIN.batch([3, 8], 4)
    value = float(learner(trainer)(batch, 2))
    change = trainer.network.increment_std.numpy()
    fields = batch.states.numpy().astype(np.float64)
    errors = [((fields[:, 1 + n] - fields[:, 1]) / change) ** 2 for n in (1, 2)]
    expected = np.mean([(e * WEIGHTS[:, None]).mean() for e in errors])
    assert value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("gradient", ["through", "detach", "bptt:2"])
def test_forcings_are_those_of_the_latest_state(tmp_path, gradient):
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x, forcing, memory):
            seen.append(forcing)
            return x[:, -1] * one, memory

    one = torch.ones((), requires_grad=True)
    trainer = make(tmp_path, replace(CONFIG, gradient=gradient))
    trainer.network = Spy()
    batch = TRAIN.batch([3, 8], 5)
    learner(trainer)(batch, 3)
    assert len(seen) == 3
    for step, forcing in enumerate(seen):
        now = 1 + step  # of two states, the second is the latest
        assert torch.equal(forcing, batch.forcings[:, now])
        assert np.array_equal(forcing.numpy(), TRAIN.forcings[[3 + now, 8 + now]])


def test_bfloat16_on_the_cpu(tmp_path):
    trainer = make(tmp_path, replace(CONFIG, precision="bfloat16"))
    before = trainer.network.state_dict()["valley.0.qkv.weight"].clone()
    types = set()
    trainer.network.valley[0].qkv.register_forward_hook(
        lambda module, inputs, output: types.add((trainer.network.training, output.dtype))
    )
    best = trainer.fit(progress=False)
    assert types == {(True, torch.bfloat16)}
    after = trainer.network.state_dict()["valley.0.qkv.weight"]
    assert after.dtype == torch.float32
    assert not torch.equal(before, after)
    assert math.isfinite(best)


# ---- refusals


@pytest.mark.parametrize(
    ("train", "valid", "message"),
    [
        (3, 8, "the training period holds 3 states and no window of 4 consecutive ones"),
        (24, 3, "the validation period holds 3 states and no window of 4 consecutive ones"),
    ],
)
def test_periods_that_are_too_short(tmp_path, train, valid, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, train=archive_of(train), valid=archive_of(valid, first=40))


def test_what_the_network_cannot_do_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no block of this EMFormer remembers"):
        make(tmp_path, replace(CONFIG, cache=2), replace(NETWORK, depth=1))
    with pytest.raises(ConfigError, match=r"recompute=True: Linear .* set recompute = false"):
        Trainer(
            *(torch.nn.Linear(2, 2), TRAIN, VALID, torch.from_numpy(WEIGHTS)),
            *(replace(CONFIG, recompute=True), tmp_path, Kept()),
        )
    with pytest.raises(ConfigError, match="batch_size=3 does not divide by 2 processes"):
        Trainer(
            *(torch.nn.Linear(2, 2), TRAIN, VALID, torch.from_numpy(WEIGHTS)),
            *(CONFIG, tmp_path, Kept()),
            processes=Processes(0, 2),
        )
