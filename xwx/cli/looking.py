"""The commands that show what there is: ``models``, ``info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from xwx.cli.app import app
from xwx.version import __version__


@app.command
def models(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """List the models that are installed.

    Parameters
    ----------
    json_
        Print the full cards as JSON.
    """
    from xwx.models.card import list_models

    cards = list_models()
    if json_:
        print(json.dumps({name: card.to_json() for name, card in cards.items()}, indent=1))
        return 0
    rows = [("name", "version", "licence", "description")]
    rows += [(c.name, c.version, c.licence, c.description) for c in cards.values()]
    widths = [max(len(row[n]) for row in rows) for n in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[3]]).rstrip())
    return 0


@app.command
def info(target: Annotated[str | None, Parameter(name="PATH-OR-MODEL")] = None, /) -> int:
    """Describe the installation, or a model, or a data file.

    Parameters
    ----------
    target
        A model's name, a checkpoint directory or a data file; by default the installation.
    """
    if target is None:
        for key, value in _installation().items():
            print(f"{key:<9} {value}")
        return 0
    from xwx.models.card import DOCUMENT, bundled_models, list_models, read_document, table

    directory = bundled_models().get(target, Path(target))
    if any((folder / DOCUMENT).is_file() for folder in (directory, directory / "model")):
        document = read_document(directory)
        spec = document.spec
        rows = {
            "architecture": document.architecture,
            "channels": ", ".join(map(str, spec.channels)),
            "grid": spec.grid,
            "step": f"{spec.step}, {spec.history} state(s) of history",
            "forcings": ", ".join(spec.forcings) or "none",
        }
        print(table(document.card.rows() | rows))
    elif target in (cards := list_models()):
        print(cards[target])
    else:
        from xwx.files import open_data

        with open_data(Path(target)) as ds:
            print(ds)
    return 0


def _installation() -> dict[str, str]:
    """Return versions of what matters, and the device that would be used."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from xwx.models.registry import resolve_device

    found = {"xwx": __version__, "python": platform.python_version()}
    for package in ("torch", "triton", "numba", "xarray", "numpy", "zarr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"device": str(resolve_device())}
