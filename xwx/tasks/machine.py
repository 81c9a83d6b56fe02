"""What a machine has room for, and how fast it is, measured in a fraction of a second."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

__all__ = ["Speed", "free_disk", "free_on_device", "free_ram", "speed_of"]

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Speed:
    """What a device reaches at large sizes.

    Attributes
    ----------
    operations : float
        Floating-point operations a second in a matrix product.
    traffic : float
        Bytes a second, read and written, in a copy.
    """

    operations: float
    traffic: float


def free_ram() -> int | None:
    """Return the bytes of main memory that a process can still get; None where nothing tells.

    The system's own estimate, or less where the process has a limit (a container, a batch job).
    """
    found = [n for n in (_available(), _unused_of_limit()) if n is not None]
    return min(found, default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    kilobytes = fields.get("MemAvailable", "").split()
    return 1024 * int(kilobytes[0]) if kilobytes else None


def _unused_of_limit(folder: Path = _CGROUP) -> int | None:
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return max(0, int(limit) - int(used)) if limit.isdigit() else None


def free_on_device(device: torch.device) -> int | None:
    """Return the bytes of a device's memory that are free; None where nothing tells."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserved
    if device.type == "mps":
        most = torch.mps.recommended_max_memory()
        return max(0, int(most) - int(torch.mps.driver_allocated_memory()))
    return free_ram()


def free_disk(path: str | os.PathLike[str]) -> int:
    """Return the free bytes of the file system that holds the directory of `path`."""
    return shutil.disk_usage(Path(path).expanduser().absolute().parent).free


@cache
def speed_of(device: torch.device, dtype: torch.dtype, threads: int) -> Speed:
    """Measure a matrix product and a copy on a device, with the threads that torch has now.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
        Of the product.
    threads : int
        ``torch.get_num_threads()``: another number is another measurement.
    """
    size, length = (8192, 2**28) if device.type == "cuda" else (1024, 2**25)
    a = torch.ones(size, size, device=device, dtype=dtype)
    source = torch.ones(length // 4, device=device)
    target = torch.empty_like(source)
    product = _seconds(lambda: a @ a, device)
    copied = _seconds(lambda: target.copy_(source), device)
    return Speed(2 * size**3 / product, 2 * length / copied)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the least seconds of a few calls: what else runs makes one slower, never faster."""
    times = []
    for _ in range(4):
        began = time.perf_counter()
        run()
        if device.type != "cpu":
            torch.get_device_module(device).synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])
