"""The wheel holds all that is needed, and forecasts from a clean environment elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
BIN = "Scripts" if os.name == "nt" else "bin"

FORECAST = """
import xarray as xr, xwx
ds = xwx.tutorial.open_dataset("era5-winter")
fc = ds.wx.forecast(steps=4)
assert xwx.__file__.startswith({prefix!r}), xwx.__file__
assert dict(fc.sizes) == dict(ds.sizes) | {{"valid_time": 4}}, fc.sizes
joined = xr.concat([ds, fc.drop_vars(["init_time", "lead_time"])], "valid_time")
assert joined.sizes["valid_time"] == 252
assert bool(fc.to_array().notnull().all())
print(fc)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command away from the checkout and return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def files(wheel: Path) -> set[PurePosixPath]:
    with zipfile.ZipFile(wheel) as archive:
        return {PurePosixPath(name) for name in archive.namelist()}


def test_every_module_and_all_data_are_in_the_wheel(files: set[PurePosixPath]) -> None:
    expected = set()
    for base, package in ((ROOT, "xwx"), (ROOT / "kernels", "xwx_kernels")):
        for path in (base / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(PurePosixPath(path.relative_to(base).as_posix()))
    assert not expected - files


@pytest.mark.parametrize(
    "pattern",
    [
        "xwx/py.typed",
        "xwx/fields/variables.toml",
        "xwx/models/bundled/*/model.safetensors",
        "xwx/models/bundled/*/model.json",
        "xwx/data/*.zarr.zip",
        "xwx_kernels/py.typed",
        "xwx_kernels/multi_convs.py",
        "xwx_kernels/_triton/stencils.py",
        "xwx_kernels/_numba/correlation.py",
        "xarray_wx-*.dist-info/licenses/LICENSE",
        "xarray_wx-*.dist-info/entry_points.txt",
    ],
)
def test_the_wheel_contains(files: set[PurePosixPath], pattern: str) -> None:
    assert any(file.match(pattern) for file in files)


def test_nothing_but_the_packages_is_in_the_wheel(files: set[PurePosixPath]) -> None:
    tops = {file.parts[0].split("-")[0] for file in files}
    assert tops == {"xwx", "xwx_kernels", "xarray_wx"}
    assert not {file for file in files if "__pycache__" in file.parts or file.name == "conftest.py"}


@pytest.mark.slow
def test_a_clean_environment_elsewhere_forecasts(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("elsewhere").resolve()
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", venv, cwd=folder)
    python = venv / BIN / "python"
    options = ("--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
    run(python, "-m", "pip", "install", *options, wheel, cwd=folder)

    script = FORECAST.format(prefix=str(venv))
    assert "lead_time" in run(python, "-W", "error", "-c", script, cwd=folder)
    models = run(venv / BIN / "xwx", "models", cwd=folder)
    assert "emformer-era5-mini" in models
    assert "emformer-simclimate-mini" in models
