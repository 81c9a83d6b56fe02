"""``import xwx`` costs hardly more than ``import xarray``, and loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "triton", "numba", "pint", "dask", "matplotlib", "zarr", "cyclopts")
ROUNDS = 7

# CPU time, not elapsed time, and the least of several: other processes may share the machine.
CLOCK = "import time, {module}; print(time.process_time())"
LOADED = """
import json, sys
import {module}
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def python(script: str) -> str:
    """Run a script in a fresh interpreter and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def loaded_by(module: str) -> set[str]:
    """Return the top-level modules that importing ``module`` leaves in memory."""
    return set(json.loads(python(LOADED.format(module=module))))


def test_importing_loads_nothing_heavy() -> None:
    assert not loaded_by("xwx") & set(HEAVY)


def test_importing_registers_the_accessor() -> None:
    assert python("import xarray, xwx; print(hasattr(xarray.Dataset, 'wx'))").strip() == "True"


@pytest.mark.slow
def test_importing_takes_at_most_a_quarter_longer_than_xarray() -> None:
    for module in ("xarray", "xwx"):
        python(CLOCK.format(module=module))  # bytecode and disk caches
    seconds: dict[str, list[float]] = {"xarray": [], "xwx": []}
    for _ in range(ROUNDS):
        for module, times in seconds.items():
            times.append(float(python(CLOCK.format(module=module))))
    assert min(seconds["xwx"]) <= 1.25 * min(seconds["xarray"])
