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


def finest(rows=slice(None)):
    """Return by how much the last bit of the smallest cell moves a mean: less cannot be met."""
    return float(weights()[rows].min()) * 2**-7 * 1.05


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


def parts(*chosen):
    """Return the operator that sees the mean over some rows and columns of the first channel.

    Each choice is (frame, rows, columns).
    """

    def seen(x):
        means = [
            (weights().to(x.dtype)[rows] * x[:, frame, 0][:, rows, columns]).sum((-2, -1))
            for frame, rows, columns in chosen
        ]
        return torch.stack(means, dim=1)

    return Custom(seen, len(chosen))


WHOLE = slice(None)


@pytest.mark.parametrize(
    ("chosen", "changing"),
    [
        # a band within the globe, which has no cells of its own, first or last
        ([(0, WHOLE, WHOLE), (0, slice(4, 12), WHOLE)], 1),
        ([(0, slice(4, 12), WHOLE), (0, WHOLE, WHOLE)], 1),
        # two that overlap, and a third within one of them
        ([(0, slice(12), WHOLE), (0, slice(8, None), WHOLE), (0, slice(2, 6), slice(9))], 1),
        # a few cells that cannot take up what is missing: the rest of the band has to
        ([(0, WHOLE, slice(0, 20)), (0, WHOLE, slice(1, None))], 2),
    ],
)
def test_values_that_share_cells_are_met_together(chosen, changing):
    x = states()
    operator = parts(*chosen)
    missing = torch.tensor([3e-3, -1e-3, 2e-4]).double()[: len(chosen)]
    if changing == 2:  # of what one column takes by last bits, twice
        missing = missing * 2.5 * float(weights()[:, :1].sum()) / 3e-3 * 2**-7
    value = operator(x.double()) + missing * torch.tensor([[1.0], [-0.7]])
    observation = Observation(operator, value, 1.0, strict=True)
    settled = settle(observation, x, (0, 1, 2))
    limits = torch.tensor([finest(rows) for _, rows, _ in chosen])
    assert (off(observation, settled) < limits).all()
    bits = (settled.view(torch.int32) - x.view(torch.int32)).abs()
    assert bits.max() <= changing + 1
    assert torch.equal(settled[:, 1:], x[:, 1:])


def test_cells_of_values_that_are_met_are_not_taken_for_others():
    """Single cells, that hold what they have to, and the mean over all cells."""
    x = states()
    cells = [(0, slice(n, n + 1), slice(n, n + 1)) for n in range(5, 15)]
    operator = parts((0, WHOLE, WHOLE), *cells)
    value = operator(x.double())
    value[:, 0] += 1e-3
    settled = settle(Observation(operator, value, 1.0, strict=True), x, (0, 1, 2))
    assert (operator(settled.double()) - value)[:, 0].abs().max() < finest()
    assert torch.equal(operator(settled.double())[:, 1:], value[:, 1:])


def test_it_does_not_matter_how_states_lie_in_memory():
    x = states()
    operator = means(0)
    observation = Observation(operator, operator(x.double()) + 1e-3, 1.0, strict=True)
    expected = settle(observation, x, (0, 1, 2))
    for order in ((0, 1, 2, 4, 3), (4, 1, 0, 3, 2)):
        back = [order.index(n) for n in range(5)]
        turned = x.permute(order).contiguous().permute(back)
        assert not turned.is_contiguous()
        assert torch.equal(settle(observation, turned, (0, 1, 2)), expected)


def test_the_states_that_were_given_stay_as_they_were():
    x = states()
    before = x.clone()
    operator = means(1)
    settle(Observation(operator, operator(x.double()) + 1e-4, 1.0, strict=True), x, (1,))
    assert torch.equal(x, before)
