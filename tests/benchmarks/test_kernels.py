"""The fused operations against what they replace: CPU time, one thread, by turns."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "kernels" / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Run alone, and find the modules of the benchmarks as the runner does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))
    torch.set_num_threads(threads)


def slower(ways: dict, ours: str, other: str, repeats: int = 7) -> float:
    """Return how many times as long the other way takes."""
    measuring = importlib.import_module("measuring")
    seconds = measuring.by_turns({name: ways[name] for name in (ours, other)}, repeats)
    return seconds[other] / seconds[ours]


@pytest.mark.parametrize("shape", [(1, 45, 90, 2304), (4, 16, 32, 768)])
@pytest.mark.parametrize(
    ("other", "goal"), [("three branches, NCHW", 3.0), ("one 5 x 5, NCHW", 1.5)]
)
def test_multi_convs_forward_and_backward(shape, other, goal):
    """Against images that need no rearrangement."""
    ways = importlib.import_module("multi_convs").ways(shape)
    ratio = slower(ways, "multi_convs", other, repeats=5)
    assert ratio > goal, f"{other}: {ratio:.2f} times as long as multi_convs, goal {goal}"


def test_memory_attention_costs_what_attention_costs():
    """It gives scores, too, which the dense form pays for with a map of all keys."""
    ways = importlib.import_module("memory_attention").ways((1, 8, 512, 96))
    alone = slower(ways, "memory_attention", "scaled_dot_product_attention, no scores")
    assert alone > 0.9, f"one attention without scores takes {alone:.2f} times as long"
    dense = slower(ways, "memory_attention", "dense, with scores")
    assert dense > 1.3, f"the dense form takes {dense:.2f} times as long"


def test_the_runner_runs():
    """From end to end, on the smallest set of repeats."""
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--device", "cpu", "--repeats", "1"]
    done = subprocess.run(
        [*command, "--only", "memory_attention"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "floor" in done.stdout
    assert done.stdout.count("memory_attention, ") == 4
