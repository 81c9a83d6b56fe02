"""Several processes, one training run: ``torchrun --nproc-per-node N -m xwx train CONFIG``.

Every process holds the whole network and learns from its slice of each batch. Gradients are
averaged once an update, in one flat ``all_reduce``. ``DistributedDataParallel`` is not used: its
hooks exchange gradients in every backward pass, and a sequence has one a segment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from xwx.errors import ConfigError
from xwx.models.registry import resolve_device

__all__ = ["ALONE", "Processes", "processes"]

#: How long a process waits for the others before it gives up: longer than packing an archive.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Parameters
    ----------
    rank : int
        Which one this is; the first writes files and shows progress.
    count : int
    device : torch.device
        Through which tensors are exchanged.
    """

    rank: int = 0
    count: int = 1
    device: str | torch.device = "cpu"

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def part(self, batch_size: int) -> slice:
        """Return which entries of a batch are this process's.

        Raises
        ------
        ConfigError
            When the batch does not divide.
        """
        if batch_size % self.count:
            raise ConfigError(
                f"batch_size={batch_size!r} does not divide by {self.count} processes: it counts "
                "the sequences of all processes together; set a multiple"
            )
        size = batch_size // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their means over the processes, in one exchange."""
        if self.count > 1:
            self._exchange(tensors, lambda flat: dist.all_reduce(flat), 1 / self.count)

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes."""
        if self.count > 1:
            self._exchange([tensor], lambda flat: dist.all_reduce(flat))

    def share_(self, tensor: Tensor) -> None:
        """Replace a tensor by the first process's."""
        if self.count > 1:
            self._exchange([tensor], lambda flat: dist.broadcast(flat, 0))

    def wait(self) -> None:
        """Let the processes meet."""
        self.sum_(torch.zeros(1))

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """Let the first process pass a block alone, and the others when its work is there."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def _exchange(
        self, tensors: Sequence[Tensor], exchange: Callable[[Tensor], Any], factor: float = 1.0
    ) -> None:
        flat = torch.cat([t.detach().flatten() for t in tensors]).to(self.device)
        exchange(flat)
        parts = torch.split(flat.mul_(factor), [t.numel() for t in tensors])
        with torch.no_grad():
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))


#: A run of one process.
ALONE = Processes()


@contextmanager
def processes(device: str | None = None) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that ``torchrun`` started, if it did, and give them a device each.

    Parameters
    ----------
    device : str, optional
        As for :func:`xwx.load`; of several GPUs each process takes that of its local rank.

    Yields
    ------
    Processes
    torch.device
        That of this process.

    Notes
    -----
    A process that fails leaves the block with its exception and exits, upon which ``torchrun``
    ends the others; one that hangs lets the others fail after :data:`PATIENCE`.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        yield ALONE, resolve_device(device)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    own = resolve_device(device)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    yield Processes(dist.get_rank(), dist.get_world_size(), own), own
    dist.destroy_process_group()  # not after an exception: it would wait for the others
