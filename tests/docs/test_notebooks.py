"""The notebooks run from top to bottom, and what readers see in them is what the code gives."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
import xarray as xr
from nbclient import NotebookClient

import xwx

NOTEBOOKS = sorted((Path(__file__).parents[2] / "tutorials").glob("*.ipynb"))


def write_climate(path: Path) -> None:
    """Write a simulated fortnight three times in a row: half a year would need the GCM."""
    with xwx.tutorial.open_dataset("simulated-fortnight") as ds:
        moving = ds[[name for name, field in ds.items() if "time" in field.dims]].load()
        parts = [
            moving.assign_coords(time=moving["time"] + np.timedelta64(days, "D"))
            for days in (0, 14, 28)
        ]
        whole = xr.concat(parts, "time").assign(ds.drop_dims("time").load())
    whole.to_zarr(path, consolidated=False)


def named(path: Path) -> str:
    """Return the test id of a notebook."""
    return path.stem


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    """Return the code cells of a notebook that hold code."""
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of the Jupyter machinery; the kernel has its own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_copy_runs_without_an_error(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    if path.stem == "09_train_your_own":
        write_climate(tmp_path / "climate.zarr")
        monkeypatch.setenv("XWX_TUTORIAL_QUICK", "1")
    copy = nbformat.read(path, as_version=4)
    NotebookClient(
        copy, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_the_stored_notebook_was_run_from_top_to_bottom(path: Path) -> None:
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_the_stored_notebook_names_no_path_of_its_author(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [word for word in ("/home/", "/Users/", "/root/", "/tmp/") if word in text]
