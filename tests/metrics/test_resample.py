"""Resampling of starts: the draws, their blocks, and intervals that cover the truth."""

import numpy as np
import pytest

from xwx.metrics.resample import Resampling


def drawn(resampling: Resampling, starts: int) -> np.ndarray:
    return np.concatenate([c.values for c in resampling.counts(starts, "init_time")])


@pytest.mark.parametrize(("starts", "block"), [(7, 1), (7, 2), (8, 3), (12, None), (200, None)])
def test_every_resample_has_as_many_starts(starts, block):
    counts = drawn(Resampling(block=block, resamples=230), starts)
    assert counts.shape == (230, starts)
    assert (counts.sum(axis=1) == starts).all()
    assert (counts >= 0).all()
    assert (counts == np.round(counts)).all()


def test_draws_are_whole_blocks_round_the_circle():
    # two blocks of six of twelve starts: their sum is fixed by where the two begin
    windows = [np.roll(np.r_[np.ones(6), np.zeros(6)], n) for n in range(12)]
    possible = {tuple(a + b) for a in windows for b in windows}
    found = {tuple(row) for row in drawn(Resampling(block=6, resamples=2000), 12)}
    assert found == possible


@pytest.mark.parametrize(("starts", "length"), [(8, 2), (9, 3), (27, 3), (28, 4), (64, 4), (2, 2)])
def test_default_block_is_the_cube_root_rounded_up(starts, length):
    assert Resampling().length(starts) == length


def test_every_start_is_drawn_alike():
    counts = drawn(Resampling(block=4, resamples=4000), 10)
    assert np.allclose(counts.mean(axis=0), 1.0, atol=0.07)


def test_the_seed_decides():
    one, same, other = (drawn(Resampling(seed=s, resamples=150), 20) for s in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()


def test_more_resamples_continue_the_fewer():
    few, many = (drawn(Resampling(resamples=n), 20) for n in (100, 250))
    assert (many[:100] == few).all()


def covered(block: int, correlation: float) -> float:
    """Share of synthetic series whose interval of the mean holds the true mean, 0."""
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(200):
        noise = rng.standard_normal(300)
        series = np.empty(300)
        series[0] = noise[0]
        for n in range(1, 300):
            series[n] = correlation * series[n - 1] + np.sqrt(1 - correlation**2) * noise[n]
        resampling = Resampling(0.9, block, 200, int(rng.integers(1 << 30)))
        means = drawn(resampling, 300) @ series / 300
        low, high = np.quantile(means, resampling.bounds)
        hits += low <= 0 <= high
    return hits / 200


def test_coverage_of_independent_starts():
    assert 0.84 <= covered(1, 0.0) <= 0.96


def test_coverage_of_correlated_starts_needs_blocks():
    assert 0.80 <= covered(25, 0.8) <= 0.97
    assert covered(1, 0.8) < 0.6


@pytest.mark.parametrize("confidence", [0, 1, 1.5, 95, -0.1, "a", True, np.nan])
def test_confidence_out_of_range(confidence):
    with pytest.raises(ValueError, match=r"confidence=.*between 0 and 1, such as 0\.95"):
        Resampling(confidence)


@pytest.mark.parametrize(
    "wrong",
    [
        {"block": 0},
        {"block": -1},
        {"block": 1.5},
        {"resamples": 9},
        {"resamples": 100.0},
        {"seed": "a"},
        {"seed": -1},
    ],
)
def test_other_arguments(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}: give a whole number"):
        Resampling(**wrong)


def test_too_few_starts():
    with pytest.raises(ValueError, match="there is 1 start,"):
        next(Resampling(0.9).counts(1, "init_time"))
    with pytest.raises(ValueError, match=r"block=5: 9 starts .* or a block of 4 or less"):
        next(Resampling(0.9, 5).counts(9, "init_time"))
    assert next(Resampling(0.9, 4).counts(9, "init_time")).shape == (100, 9)
