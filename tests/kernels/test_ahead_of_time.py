"""The Triton kernels, compiled for three generations of GPUs that need not be there."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

COMPILE = Path(__file__).parents[2] / "kernels" / "benchmarks" / "compile.py"

#: Registers of a thread and bytes of shared memory of a program. 168 registers let a
#: multiprocessor hold three programs of 128 threads, 255 let it hold two.
BOUNDS = {
    "convolve": (168, 25_000),
    "convolve pole": (168, 25_000),
    "convolve one row": (168, 25_000),
    "transpose": (168, 25_000),
    "transpose pole": (168, 25_000),
    "differentiate": (255, 40_000),
    "differentiate pole": (255, 40_000),
    "differentiate one row": (255, 40_000),
    "differentiate kernels": (168, 40_000),
    "gather": (64, 4_000),
    "windows": (128, 25_000),
    "windows backward": (192, 50_000),
    "windows backward seam": (224, 50_000),
    "windows of 128": (255, 100_000),
    "windows of 128 backward": (255, 100_000),
}


def compiled(*arguments: str) -> list[dict[str, str]]:
    """Return the table that the command prints; in a process where nothing is interpreted."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(COMPILE), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(done.stdout.splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("--arch", "90"), 24),
        (("--arch", "80", "100", "--dtype", "bf16"), 24),
    ],
    ids=["hopper", "ampere and blackwell"],
)
def test_registers_suffice(arguments, count):
    rows = compiled(*arguments, "--kernel", *BOUNDS)
    assert len(rows) >= count
    for row in rows:
        registers, shared = BOUNDS[row["kernel"]]
        assert int(row["stack"]) == int(row["local"]) == 0, row
        assert 16 <= int(row["registers"]) <= registers, row
        assert 0 < int(row["shared"]) <= shared, row
        # Windows in 16 bits are products of matrices; nothing in float32 may pass through TF32.
        on_matrix_units = row["kernel"].startswith("windows") and row["dtype"] == "bf16"
        assert (int(row["matrix"]) > 0) == on_matrix_units, row
        if row["kernel"] != "gather" and not on_matrix_units:
            assert int(row["FFMA"]) > 0, row


def test_an_unknown_kernel_is_an_error():
    done = subprocess.run(
        [sys.executable, str(COMPILE), "--kernel", "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "choose from" in done.stderr
