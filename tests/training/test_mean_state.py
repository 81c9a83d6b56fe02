"""The mean state: what two halves of a period have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xwx.spec import Channel, Grid, Spec
from xwx.training.data import Archive
from xwx.training.mean_state import mean_state

ROWS, COLUMNS = 5, 8
WEIGHTS = np.array([0.4, 1.2, 1.8, 1.2, 0.4])
GLOBE = Grid.regular(ROWS, COLUMNS, poles=True)
REGION = Grid(GLOBE.latitude, tuple(np.arange(COLUMNS) * 5.0))


def archive_of(states, grid=GLOBE) -> Archive:
    times = np.datetime64("2025-12-01", "ns") + np.arange(len(states)) * np.timedelta64(6, "h")
    spec = Spec((Channel("msl"), Channel("t2m")), grid)
    return Archive(np.asarray(states, np.float32), None, times, spec)


def found(states, grid=GLOBE, mean=0.0, std=1.0):
    mean, std = (torch.full((2, 1, 1), value) for value in (mean, std))
    return mean_state(archive_of(states, grid), WEIGHTS, mean, std).numpy()


def some(seed):
    return np.random.default_rng(seed).normal(size=(2, ROWS, COLUMNS))


@pytest.mark.parametrize("grid", [GLOBE, REGION])
def test_what_comes_back_is_kept_whole_and_what_does_not_is_dropped(grid):
    a, b = some(0), some(1)
    np.testing.assert_allclose(found([a, b, a, b], grid), (a + b) / 2, atol=1e-6)
    np.testing.assert_allclose(found([a, b, -a, -b], grid), 0, atol=1e-7)
    # of an odd number the last one is left out
    np.testing.assert_allclose(found([a, a, 100 * b], grid), a, atol=1e-6)


@pytest.mark.parametrize("columns", [7, 9])
def test_of_an_odd_number_of_columns(columns):
    grid = Grid.regular(ROWS, columns, poles=True)
    a = np.random.default_rng(3).normal(size=(2, ROWS, columns))
    np.testing.assert_allclose(found([a, a], grid), a, atol=1e-6)


def test_normalised_as_the_network_is():
    a = some(2)
    np.testing.assert_allclose(found([a, a], mean=0.5, std=4.0), (a - 0.5) / 4, atol=1e-6)


def test_each_wavenumber_is_kept_as_far_as_it_comes_back():
    """Wavenumber 1 is the same in both halves, 2 not at all, of 3 half of the variance."""
    angle = 2 * np.pi * np.arange(COLUMNS) / COLUMNS
    still = np.cos(angle) + np.cos(3 * angle)
    first = still + np.cos(2 * angle) + np.sin(3 * angle)
    second = still - np.cos(2 * angle) - np.sin(3 * angle)
    states = np.broadcast_to(np.stack([first, second])[:, None, None], (2, 2, ROWS, COLUMNS))
    # amplitudes of 3: 1 in common, 1 opposite, so r = 0 and nothing is kept of it
    np.testing.assert_allclose(found(states)[0, 2], np.cos(angle), atol=1e-6)
    second = still - np.cos(2 * angle) - 0.5 * np.sin(3 * angle)
    first = still + np.cos(2 * angle) + 0.5 * np.sin(3 * angle)
    states = np.broadcast_to(np.stack([first, second])[:, None, None], (2, 2, ROWS, COLUMNS))
    r = (1 - 0.25) / (1 + 0.25)
    kept = np.cos(angle) + 2 * r / (1 + r) * np.cos(3 * angle)
    np.testing.assert_allclose(found(states)[1, 3], kept, atol=1e-6)


def test_rows_count_by_their_area():
    a = np.zeros((2, ROWS, COLUMNS))
    a[:, 2] = 1.0
    b = a.copy()
    b[:, 0] = 3.0  # a small polar row in which the halves disagree
    opposite = a.copy()
    opposite[:, 0] = -3.0
    r = (1.8 - 0.4 * 9) / (1.8 + 0.4 * 9)
    assert r < 0
    np.testing.assert_allclose(found([b, opposite]), 0, atol=1e-7)
    b[:, 0], opposite[:, 0] = 1.0, -1.0
    r = (1.8 - 0.4) / (1.8 + 0.4)
    np.testing.assert_allclose(found([b, opposite]), 2 * r / (1 + r) * a, atol=1e-6)
