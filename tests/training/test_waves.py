"""The covariance of cells by how far they are apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xwx.spec import Channel, Grid, Spec
from xwx.training.data import Archive
from xwx.training.waves import neighbours, waves

ROWS, COLUMNS = 5, 7
WEIGHTS = np.array([0.4, 1.2, 1.8, 1.2, 0.4])


def archive_of(grid: Grid) -> Archive:
    states = np.random.default_rng(3).normal(size=(6, 2, ROWS, COLUMNS)).cumsum(-1)
    times = np.datetime64("2025-12-01", "ns") + np.arange(6) * np.timedelta64(6, "h")
    spec = Spec((Channel("msl"), Channel("t2m")), grid)
    return Archive(states.astype(np.float32), None, times, spec)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("reach", [2, 5, 11])  # up to beyond what the map is extended to
def test_it_is_the_mean_product_of_all_pairs(periodic, reach):
    grid = Grid.regular(ROWS, COLUMNS, poles=True)
    if not periodic:
        grid = Grid(grid.latitude, tuple(np.arange(COLUMNS) * 5.0))
    assert grid.periodic == periodic
    archive = archive_of(grid)
    mean, std = torch.tensor([[[0.5]], [[-1.0]]]), torch.tensor([[[2.0]], [[3.0]]])
    made = waves(archive, WEIGHTS, mean, std)
    assert made.spectrum.shape == (2, 2 * ROWS, made.columns // 2 + 1)
    assert made.columns == (COLUMNS if periodic else 2 * COLUMNS)
    found = neighbours(made, reach)
    x = (archive.states - np.array([0.5, -1.0])[:, None, None]) / np.array([2.0, 3.0])[
        :, None, None
    ]
    expected = np.zeros((2, 2 * reach + 1, 2 * reach + 1))
    for down in range(-reach, reach + 1):
        for east in range(-reach, reach + 1):
            for i in range(ROWS):
                for j in range(COLUMNS):
                    k, m = i + down, j + east
                    if not 0 <= k < ROWS or not (periodic or 0 <= m < COLUMNS):
                        continue
                    pair = x[:, :, i, j] * x[:, :, k, m % COLUMNS]
                    share = np.sqrt(WEIGHTS[i] * WEIGHTS[k])
                    # pairs of neighbouring states: all but the first and last count twice
                    often = np.array([1, 2, 2, 2, 2, 1])[:, None] / 10
                    expected[:, down + reach, east + reach] += share * (often * pair).sum(0)
    np.testing.assert_allclose(found.numpy(), expected / (ROWS * COLUMNS), rtol=1e-6, atol=1e-9)


def test_no_combination_of_cells_has_a_negative_variance():
    globe = archive_of(Grid.regular(ROWS, COLUMNS, poles=True))
    made = waves(globe, WEIGHTS, torch.zeros(2, 1, 1), torch.ones(2, 1, 1))
    found = neighbours(made, 4)
    row, column = torch.arange(3).repeat_interleave(3), torch.arange(3).repeat(3)
    between = found[:, row[:, None] - row + 4, column[:, None] - column + 4]
    assert torch.linalg.eigvalsh(between).min() > -1e-9


def test_a_wave_that_moves_and_fades_is_remembered_so():
    """Zonal wavenumber 2 moves by 30 degrees of phase a step, and half of it is new each time."""
    grid = Grid.regular(ROWS, COLUMNS, poles=True)
    rng = np.random.default_rng(0)
    longitude = 2 * np.pi * np.arange(COLUMNS) / COLUMNS
    amplitude, states = 1.0 + 0.0j, []
    for _ in range(4000):
        kick = rng.normal(size=2) @ [1, 1j]
        amplitude = 0.5 * np.exp(-1j * np.pi / 6) * amplitude + kick
        wave = (amplitude * np.exp(2j * longitude)).real
        states.append(np.broadcast_to(wave, (2, ROWS, COLUMNS)))
    times = np.datetime64("2025-12-01", "ns") + np.arange(4000) * np.timedelta64(6, "h")
    archive = Archive(
        np.array(states, np.float32), None, times, Spec((Channel("msl"), Channel("t2m")), grid)
    )
    made = waves(archive, np.ones(ROWS), torch.zeros(2, 1, 1), torch.ones(2, 1, 1))
    r = made.memory[0, 0, 2]
    assert abs(complex(r) - 0.5 * np.exp(-1j * np.pi / 6)) < 0.15  # of 128 pairs
    assert made.memory.abs().max() < 1


def series(amplitudes, seed=1):
    """Return an archive of one pattern, with an amplitude at each time."""
    pattern = np.random.default_rng(seed).normal(size=(2, ROWS, COLUMNS))
    states = np.asarray(amplitudes)[:, None, None, None] * pattern
    times = np.datetime64("2025-12-01", "ns") + np.arange(len(states)) * np.timedelta64(6, "h")
    spec = Spec((Channel("msl"), Channel("t2m")), Grid.regular(ROWS, COLUMNS, poles=True))
    return Archive(states.astype(np.float32), None, times, spec), pattern


def made_of(archive):
    return waves(archive, np.ones(ROWS), torch.zeros(2, 1, 1), torch.ones(2, 1, 1))


def test_what_only_grows_is_remembered_whole_and_what_turns_its_sign_with_it():
    """Memory is a correlation: how large states are at either end of a step does not count."""
    grown = made_of(series([1.0, 2.0, 4.0])[0]).memory
    torch.testing.assert_close(grown, torch.full_like(grown, 1 - 1e-6), rtol=0, atol=1e-8)
    assert grown.abs().max() < 1  # or a covariance over time would have no inverse
    turned = made_of(series([1.0, -3.0, 9.0])[0]).memory
    torch.testing.assert_close(turned, torch.full_like(turned, -1 + 1e-6), rtol=0, atol=5e-7)


def test_pairs_are_spread_over_the_whole_period():
    """Of 401 states of growing size 128 pairs are looked at."""
    size = np.sqrt(np.arange(401.0))
    archive, pattern = series(size)
    variance = float(made_of(archive).spectrum[:, :, 0].mean() / 200)
    expected = np.abs(np.fft.fft2(pattern, s=(2 * ROWS, COLUMNS))) ** 2 / (ROWS * COLUMNS)
    assert variance == pytest.approx(expected[:, :, 0].mean(), rel=0.01)
