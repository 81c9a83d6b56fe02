"""One sequence of training: how far gradients flow, what is remembered, and when it is learned."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xwx.errors import ConfigError
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec
from xwx.training.accumulate import Accumulation
from xwx.training.data import Batch
from xwx.training.memory import empty_memory, set_memory
from xwx.training.settings import StageConfig

SPEC = Spec((Channel("msl"), Channel("t2m")), Grid.regular(4, 8, poles=False), history=2)
SIZE = EMFormerConfig(
    dim=8,
    heads=2,
    depth=2,
    ratio=2.0,
    levels=1,
    outer=0,
    cross=False,
    windows=((2, 2),),
    positions="latitude",
)


def square(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean()


def stage(steps: int, **settings) -> StageConfig:
    return StageConfig(rollout=((0.0, steps),), **settings)


@pytest.fixture
def network() -> EMFormer:
    torch.manual_seed(5)
    built = EMFormer(SIZE, SPEC).double()
    with torch.no_grad():  # as after some training: attention that prefers, convs that mix
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


def sequences(count: int, steps: int) -> Batch:
    generator = torch.Generator().manual_seed(count + steps)
    shape = (count, SPEC.history + steps, 2, *SPEC.grid.shape)
    return Batch(torch.randn(shape, generator=generator, dtype=torch.float64), None)


def gradients(network: nn.Module, config: StageConfig, batch: Batch) -> tuple[float, Tensor]:
    """Return the loss of a sequence and its gradient as one vector."""
    network.zero_grad()
    steps = batch.states.shape[1] - SPEC.history
    learn = Accumulation(network, square, torch.ones(2, 1, 1).double(), SPEC.history, config)
    loss = learn(batch, steps)
    assert not loss.requires_grad
    parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return float(loss), torch.cat(parts)


# ---- a network of one number, for which everything is known in closed form


class Scale(nn.Module):
    """The next state is the last one times a number."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, x: Tensor, forcing: Tensor | None, memory: None) -> tuple[Tensor, None]:
        return self.a * x[:, -1], None


@pytest.mark.parametrize(
    ("gradient", "segment"),
    [("through", 5), ("detach", 1), ("bptt:1", 1), ("bptt:2", 2), ("bptt:3", 3), ("bptt:9", 5)],
)
def test_gradients_flow_through_one_segment(gradient: str, segment: int) -> None:
    a, x, targets = 1.3, 0.7, [0.2, -0.4, 1.1, 0.9, 2.0]
    series = torch.tensor([9.0, x, *targets], dtype=torch.float64)
    model = Scale(a)
    config = stage(5, gradient=gradient)
    learn = Accumulation(model, square, torch.ones(1).double(), 2, config)
    loss = learn(Batch(series.view(1, 7, 1, 1, 1), None), 5)
    forecasts = [x * a**n for n in range(1, 6)]
    errors = np.array(forecasts) - targets
    assert float(loss) == pytest.approx(np.mean(errors**2), rel=1e-14)
    # Within a segment that began at x', step k is a**k x' and its derivative k a**(k-1) x'.
    slopes = [(n % segment + 1) * x * a**n for n in range(5)]
    expected = np.mean(2 * errors * slopes)
    assert float(model.a.grad) == pytest.approx(expected, rel=1e-13)


def test_one_step_of_the_optimiser_a_forecast_step() -> None:
    """As released: every step's own loss, not divided, moves the number for the next step."""
    a, x, rate, targets = 1.3, 0.7, 0.05, [0.2, -0.4, 1.1]
    model = Scale(a)
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)

    def turn() -> None:
        optimiser.step()
        optimiser.zero_grad()

    series = torch.tensor([9.0, x, *targets], dtype=torch.float64)
    config = stage(3, gradient="detach", update="per_step")
    learn = Accumulation(model, square, torch.ones(1).double(), 2, config)
    loss = learn(Batch(series.view(1, 5, 1, 1, 1), None), 3, turn)
    losses = []
    for target in targets:
        forecast = a * x
        losses.append((forecast - target) ** 2)
        a -= rate * 2 * (forecast - target) * x
        x = forecast
    assert float(model.a.detach()) == pytest.approx(a, rel=1e-14)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-14)


# ---- the whole network, with memory


@pytest.mark.parametrize("cache", [0, 2])
def test_detached_steps_are_steps_of_their_own(network: EMFormer, cache: int) -> None:
    """The gradient is the mean of those of single steps from given states and given memories."""
    batch = sequences(2, 4)
    config = stage(4, gradient="detach", cache=cache, alpha=0.7)
    loss, found = gradients(network, config, batch)
    memory = network.remember(cache, alpha=0.7)
    x, total = batch.states[:, :2], torch.zeros_like(found)
    losses = []
    for step in range(4):
        with torch.enable_grad():
            y, memory = network(x, None, memory)
            one = square(y, batch.states[:, 2 + step])
        total += torch.cat(
            [g.flatten() for g in torch.autograd.grad(one, list(network.parameters()))]
        )
        losses.append(float(one.detach()))
        x = torch.stack([x[:, 1], y.detach()], dim=1)
    torch.testing.assert_close(found, total / 4, rtol=1e-10, atol=1e-12)
    assert loss == pytest.approx(np.mean(losses), rel=1e-13)


def slope(network: EMFormer, config: StageConfig, batch: Batch, direction: Tensor) -> float:
    """Return the derivative of the loss along a direction of the weights by differences."""
    values = []
    for sign in (1, -1):
        moved = copy.deepcopy(network)
        first = 0
        with torch.no_grad():
            for parameter in moved.parameters():
                part = direction[first : first + parameter.numel()]
                parameter.add_(sign * 1e-5 * part.view_as(parameter))
                first += parameter.numel()
        values.append(gradients(moved, config, batch)[0])
    return (values[0] - values[1]) / 2e-5


def test_with_kv_grad_through_it_is_the_derivative_of_the_loss(network: EMFormer) -> None:
    """Nothing is left out then; without either, the gradient is another."""
    batch = sequences(1, 4)
    config = stage(4, cache=2, kv_grad=True)
    _, whole = gradients(network, config, batch)
    direction = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1)).double()
    expected = slope(network, config, batch, direction)
    assert float(whole @ direction) == pytest.approx(expected, rel=1e-6)
    for other in (
        replace(config, kv_grad=False),
        replace(config, gradient="bptt:2"),
        replace(config, gradient="detach", kv_grad=False),
    ):
        loss, part = gradients(network, other, batch)
        assert loss == pytest.approx(gradients(network, config, batch)[0], rel=1e-14)
        assert float((part - whole).norm() / whole.norm()) > 1e-3


def test_kv_grad_ends_with_the_segment(network: EMFormer) -> None:
    """Segments of two steps: the gradient is the mean of two sequences' of two steps."""
    batch = sequences(1, 4)
    _, found = gradients(network, stage(4, gradient="bptt:2", cache=3, kv_grad=True), batch)
    memory = network.remember(3, attached=True)
    x, total = batch.states[:, :2], torch.zeros_like(found)
    for first in (0, 2):
        both = torch.zeros((), dtype=torch.float64)
        for step in (first, first + 1):
            y, memory = network(x, None, memory)
            x = torch.stack([x[:, 1], y], dim=1)
            both = both + square(y, batch.states[:, 2 + step])
        grads = torch.autograd.grad(both, list(network.parameters()))
        total += torch.cat([g.flatten() for g in grads])
        x = x.detach()
        memory = [None if m is None else m.detach() for m in memory]
    torch.testing.assert_close(found, total / 4, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gradient", ["through", "detach", "bptt:2"])
def test_recomputing_changes_nothing(network: EMFormer, gradient: str) -> None:
    batch = sequences(2, 4)
    kv_grad = gradient != "detach"
    config = stage(4, gradient=gradient, cache=2, kv_grad=kv_grad)
    loss, expected = gradients(network, config, batch)
    network.checkpointing = True
    again, found = gradients(network, config, batch)
    assert again == loss
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


class Held:
    """Counts the bytes that autograd holds for backward passes."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def pack(self, tensor: Tensor) -> Kept:
        return Kept(self, tensor)

    @staticmethod
    def unpack(kept: Kept) -> Tensor:
        return kept.tensor


class Kept:
    def __init__(self, held: Held, tensor: Tensor) -> None:
        self.held, self.tensor, self.size = held, tensor, tensor.nbytes
        held.now += self.size
        held.peak = max(held.peak, held.now)

    def __del__(self) -> None:
        self.held.now -= self.size


def peak(network: EMFormer, config: StageConfig, steps: int) -> int:
    held = Held()
    with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
        gradients(network, config, sequences(1, steps))
    assert held.now == 0
    return held.peak


@pytest.mark.parametrize(
    ("settings", "few"),
    [
        ({"gradient": "detach"}, 3),
        ({"gradient": "detach", "cache": 2}, 3),
        ({"gradient": "bptt:2", "cache": 2, "kv_grad": True}, 6),
    ],
)
def test_what_is_held_does_not_grow_with_the_steps(
    network: EMFormer, settings: dict, few: int
) -> None:
    """From when the memory is full; segments hold no more than themselves."""
    assert peak(network, stage(10, **settings), 10) == peak(network, stage(10, **settings), few)
    assert peak(network, stage(10), 10) > 3 * peak(network, stage(10), 3)


def test_bfloat16_with_recomputation_stays_near_float32(network: EMFormer) -> None:
    """Accumulative, on the CPU: the loss within 2 %, the gradient within 10 % of its length."""
    network = network.float()
    batch = Batch(sequences(4, 5).states.float(), None)
    config = stage(5, gradient="detach", cache=3)
    network.zero_grad()

    def run(config: StageConfig) -> tuple[float, Tensor]:
        network.zero_grad()
        loss = Accumulation(network, square, torch.ones(2, 1, 1), 2, config)(batch, 5)
        return float(loss), torch.cat([p.grad.flatten() for p in network.parameters()])

    loss, exact = run(config)
    network.checkpointing = True
    rounded, found = run(replace(config, precision="bfloat16", recompute=True))
    assert found.dtype == torch.float32
    assert 0 < abs(rounded / loss - 1) < 0.02
    assert 0 < float((found - exact).norm() / exact.norm()) < 0.1


# ---- what a network keeps of it


def test_a_network_without_memory_is_refused_one() -> None:
    assert empty_memory(Scale(1.0), StageConfig()) is None
    with pytest.raises(ConfigError, match=r"cache=3: Scale has no memory .*set cache = 0"):
        empty_memory(Scale(1.0), stage(2, cache=3))


def test_a_network_remembers_what_it_was_trained_to(network: EMFormer) -> None:
    assert network.remember() is None
    set_memory(network, stage(4, cache=3, alpha=0.6))
    assert (network.config.cache, network.config.alpha) == (3, 0.6)
    assert {m.length for m in network.remember() if m is not None} == {3}
    set_memory(network, StageConfig())
    assert network.remember() is None
    set_memory(Scale(1.0), StageConfig())  # nothing to set


def test_biases_for_lags_are_for_one_cache() -> None:
    network = EMFormer(replace(SIZE, cache=4, lag_bias=True), SPEC)
    set_memory(network, StageConfig())  # pretraining: the biases wait
    assert network.config.cache == 4
    set_memory(network, stage(4, cache=4, alpha=0.5))
    assert network.config.alpha == 0.5
    with pytest.raises(ConfigError, match=r"cache=3: .* each of cache=4 frames; set cache = 4"):
        set_memory(network, stage(4, cache=3))
