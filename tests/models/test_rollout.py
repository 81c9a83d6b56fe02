"""Rollouts: lazy, in order, and no longer in memory than they must be."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest
import torch

from xwx.models.rollout import rollout


def recurrence(x, forcing, memory):
    """Return ``2 x[-1] + 3 x[-2] (+ forcing)`` and count in the memory."""
    y = 2 * x[:, -1] + (3 * x[:, -2] if x.shape[1] > 1 else 0)
    if forcing is not None:
        y = y + forcing
    return y, None if memory is None else memory + 1


@pytest.mark.parametrize("steps", [0, 1, 6])
def test_a_recurrence(steps):
    x = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1, 1)
    states = [float(y) for y in rollout(recurrence, x, steps)]
    expected = [1.0, 1.0]
    for _ in range(steps):
        expected.append(2 * expected[-1] + 3 * expected[-2])
    assert states == expected[2:]
    assert x.flatten().tolist() == [1, 1]


def test_the_oldest_state_leaves_first():
    seen = []

    def network(x, forcing, memory):
        seen.append(x.flatten().tolist())
        return x[:, -1] + 1, memory

    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1)
    assert [float(y) for y in rollout(network, x, 3)] == [4, 5, 6]
    assert seen == [[1, 2, 3], [2, 3, 4], [3, 4, 5]]


def test_forcings_are_asked_for_step_by_step():
    asked = []

    def forcing(step):
        asked.append(step)
        return torch.full((1, 1, 1, 1), 10.0**step)

    states = rollout(recurrence, torch.zeros(1, 1, 1, 1, 1), 3, forcing)
    assert isinstance(states, Iterator)
    assert asked == []
    assert float(next(states)) == 1
    assert asked == [0]
    assert [float(y) for y in states] == [12, 124]
    assert asked == [0, 1, 2]


def test_the_memory_is_handed_on():
    memories = []

    def network(x, forcing, memory):
        memories.append(memory)
        return recurrence(x, forcing, memory)

    list(rollout(network, torch.zeros(1, 1, 1, 1, 1), 4, memory=5))
    assert memories == [5, 6, 7, 8]
    memories.clear()
    list(rollout(network, torch.zeros(1, 1, 1, 1, 1), 2))
    assert memories == [None, None]


@pytest.mark.parametrize("history", [1, 3])
def test_a_rollout_is_resumed(history):
    """Stopped, and gone on from its window and memory, it makes the same states."""
    x = torch.arange(1.0, history + 1).view(1, history, 1, 1, 1)

    def forcing(step):
        return torch.full((1, 1, 1, 1), 7.0 + step)

    whole = list(rollout(recurrence, x, 7, forcing, 10))
    first = rollout(recurrence, x, 7, forcing, 10)
    made = [next(first) for _ in range(3)]
    assert (first.step, first.memory) == (3, 13)
    assert first.window.shape == x.shape
    assert first.window[:, -1].tolist() == made[-1].tolist()
    then = rollout(recurrence, first.window, 4, lambda n: forcing(n + 3), first.memory)
    assert [float(y) for y in [*made, *then]] == [float(y) for y in whole]
    assert then.memory == 17
    assert [float(y) for y in first] == [float(y) for y in whole[3:]]
    with pytest.raises(StopIteration):
        next(first)


def test_a_step_that_fails_changes_nothing():
    def network(x, forcing, memory):
        if memory == 2:
            raise RuntimeError("no")
        return x[:, -1] + 1, memory + 1

    states = rollout(network, torch.zeros(1, 1, 1, 1, 1), 9, memory=0)
    assert [float(next(states)) for _ in range(2)] == [1, 2]
    with pytest.raises(RuntimeError):
        next(states)
    assert (states.step, states.memory, float(states.window)) == (2, 2, 2)


def test_one_generation_of_memory_is_kept():
    class Frames:
        pass

    alive: list[weakref.ref] = []

    def network(x, forcing, memory):
        memory = Frames()
        alive.append(weakref.ref(memory))
        return x[:, -1], memory

    states = rollout(network, torch.zeros(1, 1, 1, 1, 1), 5, memory=Frames())
    for _ in states:
        assert sum(ref() is not None for ref in alive) == 1


def test_only_the_last_states_are_kept():
    alive: list[weakref.ref] = []
    most = 0
    x = torch.zeros(1, 2, 1, 4, 4)
    for y in rollout(recurrence, x, 30):
        alive.append(weakref.ref(y))
        del y
        most = max(most, sum(ref() is not None for ref in alive))
    assert most <= 2


def test_gradients_go_through_all_steps():
    x = torch.ones(1, 1, 1, 1, 1, requires_grad=True)
    *_, last = rollout(recurrence, x, 5)
    last.sum().backward()
    assert float(x.grad) == 2**5
