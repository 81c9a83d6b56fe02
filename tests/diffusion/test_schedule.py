"""The rectified schedule at its ends, in between, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from xwx.diffusion.schedule import Rectified, per_frame


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_exact_and_the_sum_is_constant(dtype):
    schedule = Rectified()
    ends = torch.tensor([0.0, 1.0], dtype=dtype)
    floor = torch.tensor(1e-3, dtype=dtype)
    assert torch.equal(schedule.alpha(ends), torch.stack([torch.ones_like(floor), floor]))
    assert torch.equal(schedule.sigma(ends), torch.stack([floor, torch.ones_like(floor)]))
    t = torch.linspace(0, 1, 101, dtype=dtype)
    total = schedule.alpha(t) + schedule.sigma(t)
    assert total.dtype == dtype
    torch.testing.assert_close(
        total, torch.full_like(t, 1.001), rtol=4 * torch.finfo(dtype).eps, atol=0
    )


def test_signal_to_noise_falls_strictly():
    schedule = Rectified(floor=0.02)
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    assert bool(((schedule.alpha(t) / schedule.sigma(t)).diff() < 0).all())
    assert float(schedule.alpha(t)[-1]) == float(schedule.sigma(t)[0]) == 0.02


def test_the_halfway_point_by_hand():
    quarter = torch.tensor([[0.25]], dtype=torch.float64)
    assert float(Rectified(0.1).alpha(quarter)) == pytest.approx(0.775, abs=1e-15)
    assert float(Rectified(0.1).sigma(quarter)) == pytest.approx(0.325, abs=1e-15)


def test_times_are_uniform_from_one_to_zero():
    times = Rectified().times(5)
    assert times.dtype == torch.float64
    torch.testing.assert_close(
        times, torch.tensor([1, 0.8, 0.6, 0.4, 0.2, 0], dtype=torch.float64), rtol=0, atol=1e-15
    )
    assert Rectified().times(1).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("floor", [0.0, 1.0, -0.1, float("nan")])
def test_a_floor_that_is_none_is_refused(floor):
    with pytest.raises(ValueError, match="floor"):
        Rectified(floor)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        Rectified().times(0)


def test_a_value_a_frame_meets_its_frame():
    states = torch.ones(2, 3, 4, 5, 6)
    values = torch.arange(6.0).reshape(2, 3)
    out = per_frame(values, states) * states
    assert torch.equal(out.mean((2, 3, 4)), values)
    assert out.shape == states.shape
