"""The batches of a stage: drawn, augmented, and prepared ahead of the step that needs them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xwx.training.data import Archive, Batch
from xwx.training.distributed import Processes
from xwx.training.settings import StageConfig

__all__ = ["Ahead", "Batches"]


class Batches:
    """Gives the batch of any update; every draw follows from the seed and its number.

    Parameters
    ----------
    archive : Archive
    config : StageConfig
    length : callable
        From the number of an update to how many states its windows have.
    change : Tensor, shape (C, 1, 1)
        Standard deviation of one step's change, in units of which noise is drawn.
    processes : Processes
        Each gets its entries of the batch that a single process would get.
    offset : Tensor, shape (C, H, W), optional
        Taken off the states.
    pin : bool
        Put batches where a GPU fetches them from without waiting.

    Raises
    ------
    ConfigError
        When the batch does not divide by the processes.
    """

    def __init__(
        self,
        archive: Archive,
        config: StageConfig,
        length: Callable[[int], int],
        change: Tensor,
        processes: Processes,
        *,
        offset: Tensor | None = None,
        pin: bool = False,
    ) -> None:
        self.archive, self.config, self.length = archive, config, length
        self.change, self.offset, self.pin = change, offset, pin
        self.part = processes.part(config.batch_size)

    def __call__(self, update: int) -> Batch:
        """Return this process's entries of the batch of an update, augmented."""
        config, spec = self.config, self.archive.spec
        length = self.length(update)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + update)
        batch = self.archive.batch(self.draw(update, length)[self.part], length)
        if self.offset is not None:
            batch = replace(batch, states=batch.states - self.offset)
        batch = config.augment(
            batch, spec, self.change, generator, part=self.part, size=config.batch_size
        )
        return batch.pin() if self.pin else batch

    def draw(self, update: int, length: int) -> np.ndarray[Any, Any]:
        """Return the windows of an update: a fresh permutation of all of them each epoch."""
        starts = self.archive.starts(length)
        size = self.config.batch_size
        flat = np.arange(update * size, (update + 1) * size)
        order = {
            epoch: np.random.default_rng((self.config.seed, int(epoch))).permutation(starts)
            for epoch in np.unique(flat // len(starts))
        }
        return np.array([order[n // len(starts)][n % len(starts)] for n in flat])


class Ahead:
    """Prepares batches in a thread, in order, at most `ahead` more than were taken.

    Parameters
    ----------
    make : callable
        From the number of an update to its batch.
    first, end : int
        The updates, `end` left out.
    ahead : int
        0 makes each batch when it is taken.

    Attributes
    ----------
    waited : float
        Seconds that :meth:`take` has taken in all.
    """

    def __init__(self, make: Callable[[int], Batch], first: int, end: int, ahead: int) -> None:
        self.make, self.next, self.end, self.ahead = make, first, end, ahead
        self.waited = 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches") if ahead else None
        self._queue: deque[Future[Batch]] = deque()
        self._fill()

    def _fill(self) -> None:
        while self._pool and len(self._queue) < self.ahead and self.next < self.end:
            self._queue.append(self._pool.submit(self.make, self.next))
            self.next += 1

    def take(self) -> Batch:
        """Return the next batch; what went wrong in the thread is raised here."""
        began = time.perf_counter()
        if self._pool:
            batch = self._queue.popleft().result()
            self._fill()
        else:
            batch = self.make(self.next)
            self.next += 1
        self.waited += time.perf_counter() - began
        return batch

    def close(self) -> None:
        """Give up what was prepared, and end the thread."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._queue.clear()
