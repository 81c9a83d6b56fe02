"""Batches: the same whoever prepares them and when, few at a time, and waiting is measured."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from xwx.errors import ConfigError
from xwx.spec import Channel, Grid, Spec
from xwx.training.batches import Ahead, Batches
from xwx.training.data import Archive, Augment, Batch
from xwx.training.distributed import ALONE, Processes
from xwx.training.settings import StageConfig

SPEC = Spec(
    (Channel("v", 85000.0), Channel("msl")),
    Grid.regular(4, 8, poles=False),
    history=2,
    forcings=("sin_year", "sin_local_time"),
)
CONFIG = StageConfig(
    batch_size=6, rollout=((0.0, 1), (0.5, 3)), updates=10, seed=3, augment=Augment(noise=0.5)
)
CHANGE = torch.tensor([0.1, 10.0]).view(2, 1, 1)


def archive() -> Archive:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(30, 2, *SPEC.grid.shape)).astype(np.float32)
    forcings = rng.normal(size=(30, 2, *SPEC.grid.shape)).astype(np.float32)
    times = np.datetime64("2025-12-01", "ns") + np.arange(30) * np.timedelta64(6, "h")
    return Archive(states, forcings, times, SPEC)


def length(update: int) -> int:
    return SPEC.history + CONFIG.steps(update)


def assert_equal(one: Batch, two: Batch) -> None:
    assert torch.equal(one.states, two.states)
    assert torch.equal(one.forcings, two.forcings)


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("update", [0, 7])
def test_processes_share_the_batch_of_one(count: int, update: int) -> None:
    """Windows, turns, mirrors and noise are those of a single process."""
    whole = Batches(archive(), CONFIG, length, CHANGE, ALONE)(update)
    assert whole.states.shape == (6, 3 if update == 0 else 5, 2, 4, 8)
    parts = [
        Batches(archive(), CONFIG, length, CHANGE, Processes(rank, count))(update)
        for rank in range(count)
    ]
    together = Batch(
        torch.cat([part.states for part in parts]), torch.cat([part.forcings for part in parts])
    )
    assert_equal(together, whole)
    assert not torch.equal(whole.states[0], whole.states[1])


def test_an_offset_is_taken_off_before_the_globe_is_turned() -> None:
    offset = torch.arange(64.0).view(2, 4, 8)
    still = replace(CONFIG, augment=Augment(roll=False, mirror=False))
    plain = Batches(archive(), still, length, CHANGE, ALONE)(7)
    less = Batches(archive(), still, length, CHANGE, ALONE, offset=offset)(7)
    assert torch.equal(less.states, plain.states - offset)
    assert torch.equal(less.forcings, plain.forcings)
    turning = replace(CONFIG, augment=Augment(roll=True, mirror=False))
    turned = Batches(archive(), turning, length, CHANGE, ALONE, offset=offset)(7)
    for one, other in zip(turned.states, less.states, strict=True):
        assert any(torch.equal(one, other.roll(n, -1)) for n in range(8))
    assert not torch.equal(turned.states, less.states)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size=6 does not divide by 4 processes"):
        Batches(archive(), CONFIG, length, CHANGE, Processes(1, 4))


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_the_thread_changes_nothing(ahead: int) -> None:
    batches = Batches(archive(), CONFIG, length, CHANGE, ALONE)
    queue = Ahead(batches, 2, 9, ahead)
    for update in range(2, 9):
        assert_equal(queue.take(), batches(update))
    queue.close()


class Slow:
    """Makes empty batches, one after the other, and counts those made."""

    def __init__(self, seconds: float, fault: int | None = None) -> None:
        self.seconds, self.fault, self.made = seconds, fault, 0
        self.threads: set[int] = set()

    def __call__(self, update: int) -> Batch:
        time.sleep(self.seconds)
        if update == self.fault:
            raise OSError("the disk is gone")
        assert update == self.made
        self.made += 1
        self.threads.add(threading.get_ident())
        return Batch(torch.full((1,), float(update)), None)


def test_few_batches_are_held() -> None:
    slow = Slow(0.0)
    queue = Ahead(slow, 0, 100, 3)
    for taken in range(1, 6):
        assert float(queue.take().states) == taken - 1
        time.sleep(0.1)  # much longer than the thread needs for all it may do
        assert slow.made == taken + 3
    queue.close()
    time.sleep(0.05)
    assert slow.made == 8
    assert len(slow.threads) == 1
    assert threading.get_ident() not in slow.threads
    assert slow.threads.isdisjoint(t.ident for t in threading.enumerate())


def test_the_last_batch_is_the_last() -> None:
    slow = Slow(0.0)
    queue = Ahead(slow, 0, 4, 3)
    assert [float(queue.take().states) for _ in range(4)] == [0, 1, 2, 3]
    queue.close()
    assert slow.made == 4


@pytest.mark.parametrize(("ahead", "least", "most"), [(0, 0.55, 1.2), (2, 0.0, 0.4)])
def test_waiting_is_the_time_that_work_does_not_hide(ahead: int, least: float, most: float) -> None:
    """Batches take 60 ms, the work on each 90 ms: only without a thread does anything wait."""
    queue = Ahead(Slow(0.06), 0, 10, ahead)
    for _ in range(10):
        queue.take()
        time.sleep(0.09)
    queue.close()
    assert least <= queue.waited <= most


def test_what_goes_wrong_in_the_thread_is_raised() -> None:
    for ahead in (0, 2):
        queue = Ahead(Slow(0.0, fault=2), 0, 10, ahead)
        queue.take(), queue.take()
        with pytest.raises(OSError, match="the disk is gone"):
            queue.take()
        queue.close()
