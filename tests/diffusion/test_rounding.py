"""Strict values met with rounded numbers: only last bits change, and only where they may."""

from __future__ import annotations

import pytest
import torch

from xwx.diffusion.operators import Custom
from xwx.diffusion.protocols import Observation
from xwx.diffusion.rounding import settle

SHAPE = (2, 3, 2, 20, 31)


def states(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (1e5 + 1e3 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)).to(dtype)


def weights():
    row = torch.cos(torch.linspace(-1.5, 1.5, SHAPE[3], dtype=torch.float64))
    return row[:, None] / (row.sum() * SHAPE[4])


def means(*frames):
    """Return the operator that sees the mean of the first channel in each of the frames."""

    def seen(x):
        part = x[:, list(frames), 0]
        return (weights().to(x.dtype) * part * (1 + 1e-7 * part)).sum((-2, -1))

    return Custom(seen, len(frames))


def finest():
    """Return by how much the last bit of a polar cell moves the mean: less cannot be met."""
    return float(weights().min()) * 2**-7 * 1.05


def off(observation, x):
    return (observation.operator(x.double()) - observation.value).abs()


@pytest.mark.parametrize("missing", [3e-3, -2e-5, 1e-7])
def test_values_are_met_far_below_a_last_bit(missing):
    x = states()
    operator = means(0, 2)
    value = operator(x.double()) + torch.tensor([[missing, -missing], [2 * missing, 0.0]])
    observation = Observation(operator, value, 1.0, strict=True)
    settled = settle(observation, x, (0, 1, 2))
    assert settled.dtype == torch.float32
    assert off(observation, settled).max() < finest() < 2e-6  # a last bit is 7.8e-3
    above = torch.nextafter(x, torch.full_like(x, torch.inf))
    below = torch.nextafter(x, torch.full_like(x, -torch.inf))
    assert ((settled == x) | (settled == above) | (settled == below)).all()
    assert torch.equal(settled[:, 1], x[:, 1])
    assert torch.equal(settled[:, :, 1], x[:, :, 1])
    assert torch.equal(settled[1, 2], x[1, 2])  # nothing was missing there


def test_values_that_are_not_strict_and_given_frames_are_left():
    x = states()
    operator = means(0, 2)
    value = operator(x.double()) + 1e-3
    observation = Observation(operator, value, 1.0, torch.tensor([False, True]))
    settled = settle(observation, x, (0, 1, 2))
    assert torch.equal(settled[:, 0], x[:, 0])
    assert off(observation, settled)[:, 1].max() < finest()
    strict = Observation(operator, value, 1.0, strict=True)
    given = settle(strict, x, (0, 1))
    assert torch.equal(given[:, 2], x[:, 2])
    assert off(strict, given)[:, 0].max() < finest()
    assert off(strict, given)[:, 1].min() > 9e-4
    both = Custom(lambda y: operator(y).sum(1, keepdim=True), 1)  # has a part in frame 2
    mixed = Observation(both, both(x.double()) + 1e-3, 1.0, strict=True)
    assert torch.equal(settle(mixed, x, (0, 1)), x)


def test_what_cannot_be_reached_by_last_bits_is_approached_as_far_as_they_go():
    x = states()[:1]
    operator = means(0)
    observation = Observation(operator, operator(x.double()) + 1.0, 1.0, strict=True)
    settled = settle(observation, x, (0, 1, 2))
    assert (settled[:, 0, 0] > x[:, 0, 0]).all()
    assert off(observation, settled).max() < 1.0 - 0.005


def test_the_states_that_were_given_stay_as_they_were():
    x = states()
    before = x.clone()
    operator = means(1)
    settle(Observation(operator, operator(x.double()) + 1e-4, 1.0, strict=True), x, (1,))
    assert torch.equal(x, before)
