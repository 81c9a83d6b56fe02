"""Time ways to compute the same thing, and what the machine could do at best.

On a CPU: one thread, processor time of this process, the ways by turns, the median. On a GPU: a
CUDA graph of several calls on different inputs, together four times what the last cache holds, so
that neither the cost of launching nor data of an earlier call is part of the figure; CUDA events,
warm, the median.
"""

from __future__ import annotations

import gc
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch

Ways = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Case:
    """One operation at one size: its ways, the first of which is ours, and its two floors.

    Parameters
    ----------
    operation, size, passes : str
        For the table.
    dtype : torch.dtype
    build : callable
        Makes fresh inputs and returns the ways to compute on them.
    moved : int
        Bytes that must move: every input read once, every output written once.
    done : int
        Floating-point operations that must be done; a multiplication with addition is two.
    unit : {"vector", "matrix"}
        What does them at best.
    """

    operation: str
    size: str
    passes: str
    dtype: torch.dtype
    build: Callable[[], Ways]
    moved: int
    done: int
    unit: str


@dataclass(frozen=True)
class Ceilings:
    """What the device reaches: bytes a second copied, operations a second by unit and type."""

    copy: float
    rates: dict[tuple[str, torch.dtype], float]

    def floor(self, case: Case) -> float:
        """Return the seconds below which no version of a case can run."""
        return max(case.moved / self.copy, case.done / self.rates[case.unit, case.dtype])


def describe(device: torch.device) -> str:
    """Return the device and the versions, for the head of a table."""
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}; Triton {version('triton')}"
    else:
        name = f"{_processor()}, 1 thread"
    return f"{name}; torch {torch.__version__}, Python {platform.python_version()}"


def measure(case: Case, device: torch.device, repeats: int) -> dict[str, float]:
    """Return the median seconds of each way; not a number for one that failed."""
    if device.type != "cuda":
        return by_turns(case.build(), repeats)
    # Every case is compiled for its own shape, and none falls back at the limit of recompilations.
    torch.compiler.reset()
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    few = 2 if case.moved >= 2**28 else 3
    ways = [case.build() for _ in range(max(few, min(32, math.ceil(4 * cache / case.moved))))]
    seconds = {}
    for name in ways[0]:
        try:
            seconds[name] = _on_gpu([w[name] for w in ways], repeats)
        except Exception as error:  # one way that fails is one missing line
            first = str(error).splitlines()[:1]
            print(f"  {name}: {type(error).__name__}: {first}", file=sys.stderr, flush=True)
            seconds[name] = math.nan
        gc.collect()
        torch.cuda.empty_cache()
    return seconds


def by_turns(ways: Ways, repeats: int) -> dict[str, float]:
    """Return the median processor seconds of each way; the ways take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for n in range(repeats + 2):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if n >= 2:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def ceilings(device: torch.device) -> Ceilings:
    """Measure a large copy, matrix products and chains of multiplications with addition."""
    many = 2**30 if device.type == "cuda" else 2**26
    source = torch.randn(many // 4, device=device)
    target = torch.empty_like(source)
    size = 8192 if device.type == "cuda" else 1024
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device).to(dtype)
        rates["matrix", dtype] = 2 * size**3 / _alone(lambda a=a: a @ a, device)
        rates["vector", dtype] = _vector_rate(device)
    return Ceilings(2 * many / _alone(lambda: target.copy_(source), device), rates)


def _vector_rate(device: torch.device) -> float:
    """Return operations a second of float32 arithmetic outside matrix units.

    A float32 matrix product without TF32 runs on those units, on a GPU as on a CPU.
    """
    size = 4096 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return float(2 * size**3 / _alone(lambda: a @ a, device))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _alone(way: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        return _on_gpu([way], 20)
    return by_turns({"": way}, 7)[""]


#: Seconds of replays that a way gets at most, and of one call beyond which it is not captured.
ENOUGH, SLOW = 0.2, 0.5


def _on_gpu(calls: Sequence[Callable[[], object]], repeats: int) -> float:
    """Return the median device seconds of one call, by replays of a graph of all of them."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        calls[0]()  # compiles
        begin.record()
        calls[0]()
        end.record()
        end.synchronize()
        once = begin.elapsed_time(end) * 1e-3
        if once > SLOW:
            return once
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    times = []
    for n in range(max(5, min(repeats, int(ENOUGH / (once * len(calls))))) + 3):
        # The device waits 0.1 ms, in which the launch of the graph reaches it.
        torch.cuda._sleep(200_000)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        if n >= 3:
            times.append(begin.elapsed_time(end) * 1e-3 / len(calls))
    return statistics.median(times)


def _processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
