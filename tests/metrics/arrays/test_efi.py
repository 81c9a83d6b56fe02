"""The extreme forecast index: exact at the ends, and against the integral."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from xwx.metrics.arrays.efi import extreme_forecast_index

LEVELS = np.arange(1, 100) / 100
#: Quantiles of a climate uniform over [0, 1], at one point.
UNIFORM = LEVELS[:, None]


def test_ends_are_exact():
    for levels in (LEVELS, [0.5], [0.0, 0.1, 1.0], [0.013, 0.2, 0.21, 0.97]):
        climate = np.broadcast_to(np.asarray(levels)[:, None], (len(levels), 2))
        members = np.repeat([[2.0, -1.0]], 7, axis=0)
        assert extreme_forecast_index(members, climate, levels).tolist() == [1.0, -1.0]


def test_an_ensemble_like_the_climate():
    for count in (100, 1000):  # members midway between quantiles, as many between each two
        members = ((np.arange(count) + 0.5) / count)[:, None]
        assert extreme_forecast_index(members, UNIFORM, LEVELS) == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize("seed", [0, 1])
def test_against_the_integral(seed):
    rng = np.random.default_rng(seed)
    levels = np.sort(rng.uniform(0.02, 0.98, 6))
    climate = np.sort(rng.normal(size=(6, 3)), axis=0)
    members = rng.normal(0.4, 1, (11, 3))
    found = extreme_forecast_index(members, climate, levels)
    ends = [0.0, *(levels[1:] + levels[:-1]) / 2, 1.0]
    for point in range(3):
        total = 0.0
        for low, high, quantile in zip(ends[:-1], ends[1:], climate[:, point], strict=True):
            fraction = np.count_nonzero(members[:, point] < quantile) / 11
            # p = sin^2 t takes the singularities away: dp / sqrt(p (1 - p)) = 2 dt
            total += quad(lambda t, f=fraction: 2 * (np.sin(t) ** 2 - f),
                          np.arcsin(np.sqrt(low)), np.arcsin(np.sqrt(high)))[0]  # fmt: skip
        assert found[point] == pytest.approx(2 / np.pi * total, abs=1e-12)


def test_a_shift_by_closed_form():
    """All members in the middle: F steps from 0 to 1 at p = 1/2, and the index is nought."""
    middle = np.full((5, 1), 0.5)
    levels = np.arange(0.005, 1, 0.01)
    assert extreme_forecast_index(middle, levels[:, None], levels) == pytest.approx(0, abs=1e-15)
    # a step at p0 gives 1 - 2 (1 - 2/pi arcsin sqrt p0)
    index = extreme_forecast_index(np.full((5, 1), 0.75), levels[:, None], levels)
    assert index == pytest.approx(1 - 2 * (1 - 2 / 3), abs=1e-15)


def test_equal_is_not_below():
    assert extreme_forecast_index([[0.0]], [[0.0], [0.0]], [0.3, 0.6]) == 1.0


def test_missing_values():
    members = np.array([[0.5, np.nan, 0.5], [0.6, 0.6, 0.6]])
    climate = np.array([[0.1, 0.1, 0.1], [0.9, 0.9, np.nan]])
    found = extreme_forecast_index(members, climate, [0.1, 0.9])
    assert np.isnan(found).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("members", "quantiles", "levels", "message"),
    [
        (np.ones(3), np.ones((2, 3)), [0.1, 0.2], "need \\(members, points\\)"),
        (np.ones((0, 3)), np.ones((2, 3)), [0.1, 0.2], "need \\(members, points\\)"),
        (np.ones((4, 3)), np.ones((3, 3)), [0.1, 0.2], "levels, points"),
        (np.ones((4, 3)), np.ones((2, 1)), [0.1, 0.2], "levels, points"),
        (np.ones((4, 3)), np.ones((2, 3)), [0.2, 0.2], "increase strictly"),
        (np.ones((4, 3)), np.ones((2, 3)), [0.2, 1.2], "within \\[0, 1\\]"),
        (np.ones((4, 1)), [[2.0], [1.0]], [0.2, 0.4], "quantiles decrease"),
    ],
)
def test_arguments_that_do_not_fit(members, quantiles, levels, message):
    with pytest.raises(ValueError, match=message):
        extreme_forecast_index(members, quantiles, levels)
