"""What a machine has room for, and how fast it is, measured in a fraction of a second."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import torch

__all__ = ["Speed", "free_disk", "free_on_device", "free_ram", "speed_of"]

_CGROUP = "sys/fs/cgroup"
#: Files of a limit and of its use, and the entry of memory.stat that counts the page cache which
#: is given back on demand.
_V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
_V2 = "memory.max", "memory.current", "inactive_file"
#: Version 1 says "no limit" with the largest number of pages.
_NO_LIMIT = 2**62


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


def free_ram(root: Path = Path("/")) -> int | None:
    """Return the bytes of main memory that a process can still get; None where nothing tells.

    The system's own estimate, or less where the process has a limit (a container, a batch job).

    Parameters
    ----------
    root : Path
        Of the file system that holds ``proc`` and ``sys``.
    """
    available = _numbers(root / "proc/meminfo").get("MemAvailable")
    found = [] if available is None else [1024 * available]
    return min([*found, *_unused_of_limits(root)], default=None)


def _unused_of_limits(root: Path) -> Iterator[int]:
    """Yield what the control group of this process, and each above it, leaves of its limit.

    Version 1 and 2 of https://docs.kernel.org/admin-guide/cgroup-v2.html. In a container the path
    may be that of the host: what is not there is passed over, up to the container's own group.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / _CGROUP / ("memory" if controllers else "")
        limit, usage, reclaimable = _V1 if controllers else _V2
        group = PurePosixPath(path.lstrip("/"))
        for folder in (mount / part for part in (group, *group.parents)):
            most, used = _text(folder / limit).strip(), _text(folder / usage).strip()
            if most.isdecimal() and used.isdecimal() and int(most) < _NO_LIMIT:
                cached = _numbers(folder / "memory.stat").get(reclaimable, 0)
                yield max(0, int(most) - int(used) + cached)


def _numbers(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    lines = [line.replace(":", " ").split() for line in _text(path).splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}


def _text(path: Path) -> str:
    """Read a file; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


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
