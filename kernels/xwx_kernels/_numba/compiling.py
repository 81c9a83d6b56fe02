"""How the functions of this directory are compiled and spread over threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar

import numba
import torch

__all__ = ["compiled", "in_shares", "inlined", "shares"]

Function = TypeVar("Function", bound=Callable[..., Any])

#: Multiply and add may contract to one operation. Sums keep their order, NaN and Inf their meaning.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}

#: Multiply-adds that are worth waking a thread for; about a tenth of a millisecond.
_WORTH_A_THREAD = 2_000_000


def compiled(function: Function) -> Function:
    """Compile on first use, and keep the result on disk where that is possible."""
    try:
        fast: Function = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no directory for the cache can be written
        fast = numba.njit(**_OPTIONS)(function)
    return fast


def inlined(function: Function) -> Function:
    """Compile as part of the functions that call it: for bodies of a few dozen cycles."""
    fast: Function = numba.njit(forceinline=True, **_OPTIONS)(function)
    return fast


def shares(tasks: int, operations: int) -> list[tuple[int, int]]:
    """Split tasks into one range for each thread that there is enough work for.

    Parameters
    ----------
    tasks : int
        How many independent tasks of about equal size.
    operations : int
        Multiply-adds in all of them together.
    """
    wanted = min(torch.get_num_threads(), tasks, operations // _WORTH_A_THREAD)
    count = max(1, wanted)
    ends = [tasks * n // count for n in range(count + 1)]
    return list(pairwise(ends))


def in_shares(run: Callable[[int, int, int], None], ranges: list[tuple[int, int]]) -> None:
    """Call ``run(share, first, last)`` for every range, all but the last one on other threads."""
    *others, own = enumerate(ranges)
    waiting = [_pool(os.getpid()).submit(run, n, *ends) for n, ends in others]
    try:
        run(own[0], *own[1])
    finally:
        for future in waiting:
            future.result()


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process. A fork inherits none, so it has to make its own."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="xwx_kernels")
