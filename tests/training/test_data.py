"""Windows, statistics and augmentation of training data."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
import torch

from xwx.fields import forcings
from xwx.spec import Channel, Grid, Spec
from xwx.training.data import Archive, Augment, Batch, statistics

START = np.datetime64("2025-12-01T00", "ns")
STEP = np.timedelta64(6, "h")


def archive_of(hours, rows=4, columns=6, names=("msl", "vo"), forcings=0, history=1) -> Archive:
    times = START + np.asarray(hours) * np.timedelta64(1, "h")
    rng = np.random.default_rng(0)
    shape = (len(times), len(names), rows, columns)
    spec = Spec(
        tuple(Channel(name) for name in names),
        Grid.regular(rows, columns, poles=False),
        history=history,
        forcings=("cos_local_time", "sin_year")[:forcings],
    )
    extra = None
    if forcings:
        extra = rng.normal(size=(len(times), forcings, rows, columns)).astype(np.float32)
    return Archive(rng.normal(size=shape).astype(np.float32), extra, times, spec)


# ---- windows


@pytest.mark.parametrize(
    ("hours", "length", "expected"),
    [
        ([0, 6, 12, 18, 24], 2, [0, 1, 2, 3]),
        ([0, 6, 12, 24, 30, 36], 2, [0, 1, 3, 4]),
        ([0, 6, 12, 24, 30, 36], 3, [0, 3]),
        ([0, 6, 12, 24, 30, 36], 4, []),
        ([0, 6, 12, 24, 30, 36], 1, [0, 1, 2, 3, 4, 5]),
        ([0, 6], 3, []),
        ([], 1, []),
        # two faults that cancel: 3 h and 9 h are not two steps of 6 h
        ([0, 3, 12, 18, 24], 3, [2]),
        ([0, 6, 6, 12, 18], 3, [2]),
    ],
)
def test_windows_hold_consecutive_states(hours, length, expected):
    archive = archive_of(hours)
    assert archive.starts(length).tolist() == expected


def test_windows_follow_the_step_of_the_spec():
    archive = archive_of([0, 1, 2, 4])
    hourly = Spec(archive.spec.channels, archive.spec.grid, step=timedelta(hours=1))
    hourly_archive = Archive(archive.states, None, archive.times, hourly)
    assert hourly_archive.starts(2).tolist() == [0, 1]
    assert archive.starts(2).tolist() == []


def test_batches_are_copies_of_the_archive():
    archive = archive_of(range(0, 60, 6), forcings=2)
    batch = archive.batch([3, 0], 4)
    for n, start in enumerate((3, 0)):
        assert np.array_equal(batch.states[n].numpy(), archive.states[start : start + 4])
        assert np.array_equal(batch.forcings[n].numpy(), archive.forcings[start : start + 4])
    assert torch.equal(batch.forcing(2), batch.forcings[:, 2])
    batch.states.zero_()
    assert np.abs(archive.states).min() > 0
    assert archive_of([0, 6]).batch([0], 2).forcing(1) is None


# ---- statistics


@pytest.mark.parametrize("hours", [range(0, 60, 6), [0, 6, 12, 30, 36, 60]])
def test_statistics_are_those_of_the_sphere(hours):
    archive = archive_of(hours, rows=5)
    archive.states[:, 0] = archive.states[:, 0] * 800 + 101_000  # a mean far above the spread
    weights = np.array([0.4, 1.1, 2.0, 1.1, 0.4])
    weights /= weights.mean()
    fields = archive.states.astype(np.float64)
    volume = np.broadcast_to(weights[:, None], fields.shape[-2:])
    pairs = [n for n in range(len(hours) - 1) if hours[n + 1] - hours[n] == 6]
    changes = np.stack([archive.states[n + 1] - archive.states[n] for n in pairs])
    for c in range(2):
        mean, std, change = (part[c] for part in statistics(archive, weights))
        w = np.broadcast_to(volume, fields[:, c].shape)
        expected = np.average(fields[:, c], weights=w)
        spread = np.sqrt(np.average((fields[:, c] - expected) ** 2, weights=w))
        assert float(mean) == pytest.approx(expected, rel=1e-7)
        assert float(std) == pytest.approx(spread, rel=1e-7)
        d = changes[:, c].astype(np.float64)
        w = np.broadcast_to(volume, d.shape)
        drift = np.average(d, weights=w)
        assert float(change) == pytest.approx(
            np.sqrt(np.average((d - drift) ** 2, weights=w)), rel=1e-7
        )


def test_statistics_are_exact_in_float64():
    """Against all states at once in float64, of which one channel is nearly constant."""
    hours = [*range(0, 120, 6), *range(150, 240, 6), 300, 306, 400]
    archive = archive_of(hours, rows=5, columns=7, names=("z", "q", "t2m"))
    archive.states[:, 0] = 2e5 + 40 * archive.states[:, 0]
    archive.states[:, 1] = 1e-3 * np.cumsum(archive.states[:, 1], axis=0)
    weights = np.array([0.2, 1.3, 2.1, 1.2, 0.2])
    weights /= weights.mean()
    found = np.stack([part.double().numpy() for part in statistics(archive, weights)])
    dense = archive.states.astype(np.float64)
    share = np.broadcast_to((weights / weights.sum())[:, None] / 7, (5, 7))
    follows = np.diff(hours) == 6
    for c in range(3):
        field, change = dense[:, c], (dense[1:, c] - dense[:-1, c])[follows]
        mean, drift = ((part * share).sum((1, 2)).mean() for part in (field, change))
        std, step = (
            np.sqrt((((part - centre) ** 2) * share).sum((1, 2)).mean())
            for part, centre in ((field, mean), (change, drift))
        )
        np.testing.assert_allclose(found[:, c], [mean, std, step], rtol=1.2e-7)  # of float32


def test_a_channel_that_stays_is_named():
    archive = archive_of(range(0, 60, 6))
    archive.states[:, 1] = 3.0
    with pytest.raises(ValueError, match="channel vo does not change"):
        statistics(archive, np.ones(4))
    with pytest.raises(ValueError, match="channel msl does not change"):
        statistics(archive_of([0, 12, 24]), np.ones(4))  # no two states a step apart
    with pytest.raises(ValueError, match="channel msl does not change"):
        statistics(archive_of([]), np.ones(4))


def test_windows_are_read_from_a_memory_map(tmp_path):
    archive = archive_of(range(0, 60, 6), rows=3)
    np.save(tmp_path / "states.npy", archive.states)
    mapped = np.load(tmp_path / "states.npy", mmap_mode="r")
    other = Archive(mapped, None, archive.times, archive.spec)
    batch, same = other.batch([4, 1, 4], 5), archive.batch(np.array([4, 1, 4]), 5)
    assert torch.equal(batch.states, same.states)
    batch.states.zero_()  # a copy
    assert np.array_equal(mapped, archive.states)
    assert other.batch([], 3).states.shape == (0, 3, 2, 3, 6)
    for found, wanted in zip(
        statistics(other, np.ones(3)), statistics(archive, np.ones(3)), strict=False
    ):
        assert torch.equal(found, wanted)


def test_forcings_that_are_not_there_are_computed_for_the_batch():
    archive = archive_of([0, 6, 12, 36, 42, 48, 54], forcings=2)
    every = forcings(archive.times, archive.spec.grid, archive.spec.forcings)
    stored = Archive(archive.states, every, archive.times, archive.spec)
    lean = Archive(archive.states, None, archive.times, archive.spec)
    starts = lean.starts(3)
    assert starts.tolist() == [0, 3, 4]
    assert torch.equal(lean.batch(starts, 3).forcings, stored.batch(starts, 3).forcings)
    assert np.array_equal(lean.batch([3], 3).forcings[0], every[3:6])


# ---- augmentation


def augmented(archive: Archive, augment: Augment, starts, length=3, seed=0, change=None) -> Batch:
    change = torch.ones(len(archive.spec.channels), 1, 1) if change is None else change
    batch = archive.batch(starts, length)
    before = batch.states.clone()
    generator = torch.Generator().manual_seed(seed)
    out = augment(batch, archive.spec, change, generator)
    assert torch.equal(batch.states, before)  # the batch itself is left alone
    return out


def test_forcings_turn_with_the_weather():
    archive = archive_of(range(0, 60, 6), columns=8, forcings=2)
    out = augmented(archive, Augment(mirror=False), [0, 1, 2, 3, 4, 5])
    plain = archive.batch([0, 1, 2, 3, 4, 5], 3)
    shifts = set()
    for n in range(6):
        fits = [
            shift
            for shift in range(8)
            if torch.equal(out.states[n], plain.states[n].roll(shift, -1))
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
        assert torch.equal(out.forcings[n], plain.forcings[n].roll(fits[0], -1))
    assert len(shifts) > 2


def test_all_turns_are_drawn():
    archive = archive_of(range(0, 12, 6), columns=6)
    out = augmented(archive, Augment(mirror=False), [0] * 200, length=1)
    first = torch.from_numpy(archive.states[0, 0, 0])
    counts = [
        sum(torch.equal(state[0, 0, 0], first.roll(shift)) for state in out.states)
        for shift in range(6)
    ]
    assert sum(counts) == 200
    assert min(counts) > 10


def test_the_mirror_exchanges_hemispheres_seasons_and_the_sign_of_odd_variables():
    names = ("msl", "u10", "v10", "vo", "v")
    archive = archive_of(range(0, 12, 6), names=names, forcings=2)
    out = augmented(archive, Augment(roll=False), [0] * 64, length=2)
    plain = archive.batch([0], 2)
    sign = torch.tensor([1.0, 1, -1, -1, -1])[:, None, None]
    mirrored = 0
    for n in range(64):
        if torch.equal(out.states[n], plain.states[0]):
            assert torch.equal(out.forcings[n], plain.forcings[0])
            continue
        mirrored += 1
        assert torch.equal(out.states[n], plain.states[0].flip(-2) * sign)
        # the sun's hour is the same for both hemispheres, the season is half a year off
        assert torch.equal(out.forcings[n][:, 0], plain.forcings[0][:, 0])
        assert torch.equal(out.forcings[n][:, 1], -plain.forcings[0][:, 1])
    assert 16 < mirrored < 48


def test_twice_in_the_mirror_is_where_it_was():
    archive = archive_of(range(0, 60, 6), forcings=2)
    mirror = Augment(roll=False)
    once = augmented(archive, mirror, [0, 1, 2, 3], seed=5)
    change = torch.ones(2, 1, 1)
    twice = mirror(once, archive.spec, change, torch.Generator().manual_seed(5))
    assert not torch.equal(once.states, twice.states)
    assert torch.equal(twice.states, archive.batch([0, 1, 2, 3], 3).states)
    assert torch.equal(twice.forcings, archive.batch([0, 1, 2, 3], 3).forcings)


def test_no_mirror_on_one_hemisphere_and_no_turn_of_a_region():
    archive = archive_of(range(0, 60, 6))
    north = Grid((60.0, 45.0, 30.0, 15.0), archive.spec.grid.longitude)
    region = Grid((30.0, 10.0, -10.0, -30.0), (0.0, 10.0, 20.0, 30.0, 40.0, 50.0))
    for grid, turns in ((north, True), (region, False)):
        other = Archive(archive.states, None, archive.times, Spec(archive.spec.channels, grid))
        rows = other.batch([0] * 32, 1).states.mean(-1)
        found = augmented(other, Augment(), [0] * 32, 1)
        if turns:
            torch.testing.assert_close(found.states.mean(-1), rows, rtol=0, atol=1e-6)
        else:
            sign = torch.tensor([1.0, -1.0])[:, None, None]
            plain = other.batch([0], 1).states[0]
            for state in found.states:
                assert torch.equal(state, plain) or torch.equal(state, plain.flip(-2) * sign)


@pytest.mark.parametrize("noise", [-0.1, math.nan])
def test_noise_is_not_negative(noise):
    with pytest.raises(ValueError, match=f"augment noise={noise}: must be at least 0"):
        Augment(noise=noise)


@pytest.mark.parametrize("history", [1, 2])
def test_noise_is_on_the_inputs_only_and_as_large_as_asked(history):
    archive = archive_of(range(0, 60, 6), rows=32, columns=64, history=history)
    change = torch.tensor([2.0, 0.5])[:, None, None]
    augment = Augment(roll=False, mirror=False, noise=0.1)
    out = augmented(archive, augment, [0, 1, 2, 3], length=history + 2, change=change)
    plain = archive.batch([0, 1, 2, 3], history + 2)
    assert torch.equal(out.states[:, history:], plain.states[:, history:])
    noise = out.states[:, :history] - plain.states[:, :history]
    count = noise[:, :, 0].numel()
    for channel, size in enumerate((0.2, 0.05)):
        drawn = noise[:, :, channel]
        assert float(drawn.std()) == pytest.approx(size, rel=4 / (2 * count) ** 0.5)
        assert abs(float(drawn.mean())) < 4 * size / count**0.5
    first, second = noise[0, 0, 0].flatten(), noise[1, 0, 0].flatten()
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.1


def test_every_draw_comes_from_the_generator():
    archive = archive_of(range(0, 60, 6), forcings=2)
    augment = Augment(noise=0.3)
    torch.manual_seed(1)
    one = augmented(archive, augment, [0, 1, 2, 3], seed=7)
    torch.manual_seed(2)
    two = augmented(archive, augment, [0, 1, 2, 3], seed=7)
    other = augmented(archive, augment, [0, 1, 2, 3], seed=8)
    assert torch.equal(one.states, two.states)
    assert torch.equal(one.forcings, two.forcings)
    assert not torch.equal(one.states, other.states)


def test_nothing_asked_nothing_done():
    archive = archive_of(range(0, 60, 6), forcings=2)
    out = augmented(archive, Augment(roll=False, mirror=False), [0, 1])
    assert torch.equal(out.states, archive.batch([0, 1], 3).states)
    assert torch.equal(out.forcings, archive.batch([0, 1], 3).forcings)


def test_augmented_weather_obeys_the_same_dynamics():
    """Solid-body rotation about the axis: each row moves by its own speed, alike in both halves.

    Pressure is carried along, vorticity (odd across the equator) grows where pressure is high.
    """
    rows, columns = 6, 12
    speed = torch.tensor([1, 2, 3, 3, 2, 1])
    f = torch.tensor([1.0, 0.6, 0.2, -0.2, -0.6, -1.0])[:, None]

    def advance(state: torch.Tensor) -> torch.Tensor:
        carried = torch.stack(
            [state[..., row, :].roll(int(speed[row]), -1) for row in range(rows)], dim=-2
        )
        msl, vo = carried.unbind(-3)
        return torch.stack([msl, vo + f * msl], dim=-3)

    states = [torch.randn(2, rows, columns)]
    for _ in range(7):
        states.append(advance(states[-1]))
    times = START + np.arange(8) * STEP
    spec = Spec((Channel("msl"), Channel("vo")), Grid.regular(rows, columns, poles=False))
    archive = Archive(torch.stack(states).numpy(), None, times, spec)
    out = augmented(archive, Augment(), [0, 1, 2, 3, 4] * 4, length=4).states
    plain = archive.batch([0, 1, 2, 3, 4] * 4, 4).states
    assert not torch.equal(out, plain)
    for step in range(3):
        torch.testing.assert_close(advance(out[:, step]), out[:, step + 1], rtol=0, atol=1e-6)
