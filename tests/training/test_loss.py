"""The hybrid loss: its formulas, its path from latitude to variables, and where it locks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from xwx.training.loss import LOSSES, HybridLoss, LossConfig

MULTIPLIERS = torch.tensor([1.6, 1.2, 0.9, 0.7, 0.4], dtype=torch.float64)


@pytest.fixture
def case():
    """Return weights, a prediction, a target, and the squared error between them."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(6, generator=generator, dtype=torch.float64) + 0.2
    weights /= weights.mean()
    prediction, target = torch.randn(2, 4, 3, 6, 8, generator=generator, dtype=torch.float64)
    return weights, prediction, target, (prediction - target) ** 2


def make(weights: Tensor, theta: float = 0.7, s: float | None = None, **settings) -> HybridLoss:
    loss = HybridLoss(weights, 3, LossConfig(theta=theta, **settings))
    with torch.no_grad():
        loss.s.copy_(torch.tensor([0.3, -0.8, 1.1]) if s is None else torch.full((3,), s))
    return loss


def latitude_term(weights: Tensor, e: Tensor) -> float:
    return float((weights[:, None] * e).sum() / e.numel())


def variable_term(e: Tensor, s: Tensor) -> float:
    per_channel = e.mean((0, 2, 3))
    return float((per_channel / s.exp() + s).sum() / len(s))


# ---- formulas (oracles 28 and 29)


@pytest.mark.parametrize("theta", [0.0, 1e-3, 0.7, 1.3, math.pi / 2])
def test_value_and_gradients(case, theta):
    weights, prediction, target, e = case
    loss = make(weights, theta)
    value = loss(prediction, target)
    value.backward()
    s = loss.s.detach()
    latitude, variable = latitude_term(weights, e), variable_term(e, s)
    expected = math.cos(theta) ** 2 * latitude + math.sin(theta) ** 2 * variable
    assert float(value.detach()) == pytest.approx(expected, abs=1e-12)
    assert float(loss.theta.grad) == pytest.approx(
        math.sin(2 * theta) * (variable - latitude), abs=1e-12
    )
    slope = math.sin(theta) ** 2 * (1 - e.mean((0, 2, 3)) * torch.exp(-s)) / 3
    torch.testing.assert_close(loss.s.grad, slope, rtol=0, atol=1e-12)


def test_the_ends_are_the_two_terms_and_stationary(case):
    weights, prediction, target, e = case
    for theta, term in (
        (0.0, lambda s: latitude_term(weights, e)),
        (math.pi / 2, lambda s: variable_term(e, s)),
    ):
        loss = make(weights, theta)
        value = loss(prediction, target)
        value.backward()
        assert float(value.detach()) == pytest.approx(term(loss.s.detach()), rel=1e-15)
        assert abs(float(loss.theta.grad)) <= 1e-15


def test_gradient_with_respect_to_the_forecast(case):
    weights, prediction, target, _ = case
    prediction = prediction.clone().requires_grad_()
    loss = make(weights)
    loss(prediction, target).backward()
    share = math.sin(0.7) ** 2
    factor = (1 - share) * weights[:, None] + share * torch.exp(-loss.s.detach())[:, None, None]
    expected = factor * 2 * (prediction.detach() - target) / prediction.numel()
    torch.testing.assert_close(prediction.grad, expected, rtol=0, atol=1e-14)


def test_log_errors_minimise_the_variable_term(case):
    weights, prediction, target, e = case
    loss = make(weights, math.pi / 2)
    per_channel = e.mean((0, 2, 3))
    with torch.no_grad():
        loss.s.copy_(per_channel.log())
    best = loss(prediction, target)
    assert float(best.detach()) == pytest.approx(float((1 + per_channel.log()).mean()), abs=1e-12)
    best.backward()
    assert loss.s.grad.abs().max() <= 1e-12
    for step in (-0.1, 0.1):
        for channel in range(3):
            moved = make(weights, math.pi / 2)
            with torch.no_grad():
                moved.s.copy_(per_channel.log())
                moved.s[channel] += step
            assert float(moved(prediction, target).detach()) > float(best.detach())


def test_weights_belong_to_rows(case):
    weights, prediction, _, _ = case
    target = prediction.clone()
    target[:, :, 4] += 2.0
    value = make(weights, 0.0)(prediction, target)
    assert float(value.detach()) == pytest.approx(4 * float(weights[4]) / 6, rel=1e-14)


# ---- how it moves (oracles 30 and 31)


def decay(ratio: float, floor: float, steps: int) -> tuple[np.ndarray, HybridLoss, Tensor]:
    """Train theta and s on errors that fall from 1.5 to 0.02 in 30 000 steps, stop after `steps`.

    Five variables; the area-weighted error is `ratio` times the plain one. Returns theta after
    every step, the loss with its last gradients, and the errors of the last step.
    """
    weights = torch.tensor([0.5, 1.5], dtype=torch.float64)
    # rows (a, b) with (a + b) / 2 = 1 and (a / 2 + 3 b / 2) / 2 = ratio
    rows = torch.tensor([3 - 2 * ratio, 2 * ratio - 1], dtype=torch.float64)
    pattern = (MULTIPLIERS[:, None] * rows).sqrt()[None, :, :, None]
    loss = HybridLoss(weights, 5, LossConfig(floor=floor))
    optimiser = torch.optim.Adam(loss.parameters(), lr=2e-4, foreach=False)
    target = torch.zeros_like(pattern)
    sizes = np.sqrt(1.5 * (0.02 / 1.5) ** (np.arange(steps) / 30_000)).tolist()
    path = np.empty(steps)
    for n, size in enumerate(sizes):
        optimiser.zero_grad()
        loss(size * pattern, target).backward()
        optimiser.step()
        loss.clamp_()
        path[n] = loss.theta.item()
    return path, loss, MULTIPLIERS * sizes[-1] ** 2


def test_theta_rises_to_the_variable_term_where_errors_are_even():
    path, loss, e = decay(ratio=1.0, floor=1e-3, steps=30_000)
    assert np.diff(path, prepend=1e-3).min() >= 0
    passed = int(np.argmax(path >= 0.99 * math.pi / 2)) + 1
    assert abs(passed - 7351) <= 0.02 * 7351
    assert path[-1] == pytest.approx(math.pi / 2, abs=1e-3)
    assert (loss.s.detach() - e.log()).abs().max() <= 0.05


def test_without_a_floor_theta_locks_where_errors_peak_at_high_latitude():
    path, loss, e = decay(ratio=0.8, floor=0.0, steps=8000)
    assert path[-1] == 0
    # Nothing will ever move again: both gradients are zero, though s is far from ln e.
    assert float(loss.theta.grad) == 0
    assert loss.s.grad.tolist() == [0] * 5
    assert loss.s.detach().abs().max() <= 2e-3
    assert e.log().min() < -1


def test_the_floor_lets_it_recover():
    path, _, _ = decay(ratio=0.8, floor=1e-3, steps=13_000)
    passed = int(np.argmax(path >= 0.99 * math.pi / 2)) + 1
    assert abs(passed - 10_700) <= 0.02 * 10_700
    assert path.min() >= 1e-3
    assert path[-1] == pytest.approx(math.pi / 2, abs=1e-3)


# ---- modes


def test_a_schedule_turns_by_the_progress_of_training(case):
    weights, prediction, target, _ = case
    loss = make(weights, mode="schedule")
    for progress, theta in ((0.0, 0.0), (0.5, math.pi / 4), (1.0, math.pi / 2)):
        loss.advance_(progress)
        assert loss.theta.item() == pytest.approx(theta, abs=1e-15)
    for progress in (-1.0, 2.0):
        loss.advance_(progress)
        assert 0 <= loss.theta.item() <= math.pi / 2
    loss(prediction, target).backward()
    assert loss.theta.grad is None
    assert loss.s.grad.abs().min() > 0
    loss.advance_(0.0)
    loss.clamp_()
    assert loss.theta.item() == 0  # the floor is for a theta that learns


def test_a_fixed_theta_stays(case):
    weights, prediction, target, _ = case
    loss = make(weights, 0.4, mode="fixed")
    loss.advance_(0.9)
    loss.clamp_()
    loss(prediction, target).backward()
    assert loss.theta.item() == 0.4
    assert not loss.theta.requires_grad
    assert loss.s.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("theta", "expected"),
    [(-1.0, 1e-3), (0.0, 1e-3), (0.3, 0.3), (2.0, math.pi / 2)],
)
def test_the_clamp(case, theta, expected):
    loss = make(case[0], theta)
    loss.clamp_()
    assert loss.theta.item() == pytest.approx(expected, rel=1e-15)
    released = make(case[0], theta, variant="released")
    released.clamp_()
    assert released.theta.item() == theta


@pytest.mark.parametrize("theta", [1e-3, 0.7])
def test_decoupled_weights_learn_at_full_rate(case, theta):
    weights, prediction, target, e = case
    results = []
    for decouple in (False, True):
        x = prediction.clone().requires_grad_()
        loss = make(weights, theta, decouple=decouple)
        value = loss(x, target)
        value.backward()
        results.append((value.detach(), x.grad, loss.theta.grad, loss.s.grad, loss.s.detach()))
    (value, x, angle, slow, s), (value2, x2, angle2, fast, _) = results
    assert float(value2) == pytest.approx(float(value), rel=1e-14)
    torch.testing.assert_close(x2, x, rtol=0, atol=1e-15)
    assert float(angle2) == pytest.approx(float(angle), abs=1e-15)
    whole = (1 - e.mean((0, 2, 3)) * torch.exp(-s)) / 3
    torch.testing.assert_close(fast, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(slow, math.sin(theta) ** 2 * whole, rtol=0, atol=1e-12)


# ---- the released variant


@pytest.mark.parametrize("theta", [-1.5708, 0.0, 0.4])
def test_the_released_mix(case, theta):
    weights, prediction, target, e = case
    loss = make(weights, theta, variant="released")
    value = loss(prediction, target)
    value.backward()
    s = loss.s.detach()
    rmse = float(np.sqrt((weights[:, None] * e).numpy().mean((-2, -1))).mean())
    variable = variable_term(e, s)
    share = (1 + math.sin(theta)) / 2
    expected = share * variable + (1 - share) * rmse
    assert float(value.detach()) == pytest.approx(expected, abs=1e-12)
    slope = math.cos(theta) / 2 * (variable - rmse)
    assert float(loss.theta.grad) == pytest.approx(slope, abs=1e-12)


def test_the_released_start_is_stationary(case):
    weights, prediction, target, _ = case
    loss = make(weights, -1.5708, s=0.0, variant="released")
    loss(prediction, target).backward()
    assert abs(float(loss.theta.grad)) < 1e-5


# ---- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "l1"}, "loss kind='l1': choose from hybrid, sum, l2"),
        ({"mode": "annealed"}, "loss mode='annealed': choose from learnable, schedule, fixed"),
        ({"variant": "code"}, "loss variant='code': choose from paper, released"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)


def test_state_and_defaults(case):
    loss = HybridLoss(case[0], 3)
    assert loss.theta.item() == 1e-3
    assert loss.s.tolist() == [0, 0, 0]
    assert set(dict(loss.named_parameters())) == {"theta", "s"}
    weights = case[0].clone()
    weights[0] = 99
    assert float(loss.weights.max()) < 99


# ---- the variants that are compared


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("l2", lambda plain, latitude, variable, rmse: plain),
        ("latitude", lambda plain, latitude, variable, rmse: latitude),
        ("variable", lambda plain, latitude, variable, rmse: variable),
        ("sum", lambda plain, latitude, variable, rmse: latitude + variable),
        ("equal", lambda plain, latitude, variable, rmse: (latitude + variable) / 2),
        (
            "schedule",  # a third of the way: theta = pi/6
            lambda plain, latitude, variable, rmse: 0.75 * latitude + 0.25 * variable,
        ),
        (
            "learnable",
            lambda plain, latitude, variable, rmse: (
                latitude + math.sin(1e-3) ** 2 * (variable - latitude)
            ),
        ),
        ("released", lambda plain, latitude, variable, rmse: rmse),
    ],
)
def test_the_variants(case, preset, expected):
    weights, prediction, target, e = case
    loss = HybridLoss(weights, 3, LOSSES[preset])
    with torch.no_grad():
        loss.s.copy_(torch.tensor([0.3, -0.8, 1.1]))
    loss.advance_(1 / 3)
    loss.clamp_()
    terms = (
        float(e.mean()),
        latitude_term(weights, e),
        variable_term(e, loss.s.detach()),
        float(np.sqrt((weights[:, None] * e).numpy().mean((-2, -1))).mean()),
    )
    found = loss(prediction, target)
    assert float(found.detach()) == pytest.approx(expected(*terms), rel=1e-9)
    learned = {name for name, p in loss.named_parameters() if p.requires_grad}
    also = {"theta"} if preset in ("learnable", "released") else set()
    assert learned == (set() if preset == "l2" else {"s"} | also)


def test_all_variants_are_there():
    assert list(LOSSES) == [
        *("l2", "latitude", "variable", "sum", "equal", "schedule", "learnable", "released"),
    ]
    assert LOSSES["learnable"] == LossConfig()


@pytest.mark.parametrize("setting", [{"theta": 0.5}, {"mode": "fixed"}, {"variant": "released"}])
def test_settings_of_theta_without_one(setting):
    with pytest.raises(ValueError, match=r"loss \w+=.* with kind='sum', which has no theta"):
        LossConfig(kind="sum", **setting)


@pytest.mark.parametrize(
    ("settings", "theta"),
    [({}, 1.2), ({"mode": "fixed", "theta": 0.4}, 0.4), ({"carry": False}, 0.7)],
)
def test_a_loss_goes_on_where_another_ended(case, settings, theta):
    """With its s and, where it is learned, its theta; and gives the same loss then."""
    weights, prediction, target, _ = case
    ended = HybridLoss(weights, 3, LossConfig(theta=1.2))
    with torch.no_grad():
        ended.s.copy_(torch.tensor([0.3, -0.8, -2.4]))
    begun = HybridLoss(weights, 3, LossConfig(**{"theta": 0.7} | settings))
    begun.begin_(ended.balance())
    carried = settings.get("carry", True)
    assert float(begun.theta.detach()) == pytest.approx(theta, abs=1e-6)
    assert torch.equal(begun.s, ended.s if carried else torch.zeros(3))
    if not settings:
        assert torch.allclose(begun(prediction, target), ended(prediction, target), rtol=1e-5)


def test_a_theta_that_is_carried_keeps_its_floor():
    begun = HybridLoss(torch.ones(2), 1, LossConfig(floor=0.01))
    begun.begin_({"theta": -1.5708, "s": [0.5]})
    assert float(begun.theta.detach()) == pytest.approx(0.01)
