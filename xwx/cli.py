"""The command line: ``xwx forecast``, ``plan``, ``check``, ``train``, ``info`` and others.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the data, the model or the
machine does not do, 2 wrong usage, 130 interrupted. ``XWX_DEBUG=1`` shows tracebacks.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, Token

from xwx.errors import ConfigError, StoreError, XwxError
from xwx.version import __version__

__all__ = ["app", "main"]

_DATE = re.compile(r"\d{4,}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?Z?)?")
_OUTPUTS = (".zarr", ".nc")


app = App(
    name="xwx",
    help="Weather models on the command line: forecast a NetCDF, Zarr or GRIB file.",
    version=__version__,
)


class UsageError(XwxError):
    """Options that contradict each other or the file system: exit code 2."""


def _check_date(kind: Any, value: Any) -> None:
    for date in [value] if isinstance(value, str) else value or []:
        if not _DATE.fullmatch(date):
            raise ValueError(f"{date!r} is not an ISO date such as 2026-01-25T00")


def _positive(kind: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; 2.5 is not rounded."""
    text = tokens[0].value
    if not re.fullmatch(r"0*[1-9][0-9]*", text):
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _from_zero(kind: Any, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError(f"{text!r} is not a whole number of at least 0")
    return int(text)


@app.command
def forecast(
    source: Annotated[Path, Parameter(name="IN")],
    /,
    *,
    out: Path,
    model: str | None = None,
    steps: Annotated[int, Parameter(converter=_positive)] = 40,
    start: Annotated[list[str] | None, Parameter(validator=_check_date, negative="")] = None,
    cache: Annotated[int | None, Parameter(converter=_from_zero)] = None,
    variables: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    seed: int | None = None,
    device: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    progress: bool | None = None,
) -> int:
    """Forecast the states in a file and write the result in the same layout.

    Parameters
    ----------
    source
        NetCDF, Zarr (directory or .zarr.zip) or GRIB.
    out
        Where the forecast goes: a name that ends in .zarr (written step by step) or .nc.
    model
        A name from `xwx models` or a checkpoint directory; by default the one that fits.
    steps
        How many time steps of the model.
    start
        ISO time of the first state; repeat it for several starts. By default the last time.
    cache
        How many of its own steps the model remembers; by default what it was fine-tuned with.
    variables
        Which variables to write; by default all that the model gives.
    seed
        Seed of models that draw random numbers.
    device
        auto, cpu, cuda, cuda:N or mps.
    overwrite
        Replace an existing output.
    progress
        Show a progress bar; by default when it takes long.
    """
    _check_output(source, out, overwrite=overwrite)
    from xwx.files import open_data, replacing, write_netcdf

    options: dict[str, Any] = {
        "start": start[0] if start and len(start) == 1 else start,
        "cache": cache,
        "variables": variables,
        "seed": seed,
        "device": device,
        "progress": progress,
    }
    with open_data(source) as ds, replacing(out) as target:
        from xwx.tasks.forecast import forecast as run

        if out.suffix == ".zarr":
            run(ds, model, steps, store=str(target), **options)
        else:
            write_netcdf(run(ds, model, steps, **options), target)
    print(out)
    return 0


@app.command
def plan(
    source: Annotated[Path, Parameter(name="IN")],
    /,
    *,
    out: Path | None = None,
    model: str | None = None,
    steps: Annotated[int, Parameter(converter=_positive)] = 40,
    start: Annotated[list[str] | None, Parameter(validator=_check_date, negative="")] = None,
    cache: int | None = None,
    variables: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    device: str | None = None,
) -> int:
    """Say what the same forecast would take, before it runs: exit code 0 if it fits, 1 if not.

    Parameters
    ----------
    source
        NetCDF, Zarr (directory or .zarr.zip) or GRIB.
    out
        Where the forecast would go: one in .zarr is written step by step. Nothing is written.
    model
        A name from `xwx models` or a checkpoint directory; by default the one that fits.
    steps
        How many time steps of the model.
    start
        ISO time of the first state; repeat it for several starts. By default the last time.
    cache
        How many of its own steps the network remembers.
    variables
        Which variables to write; by default all that the model gives.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    if out is not None:
        _check_output(source, out, overwrite=False)
    from xwx.files import open_data

    with open_data(source) as ds:
        from xwx.tasks.plan import plan as run

        found = run(
            ds,
            model,
            steps=steps,
            start=start[0] if start and len(start) == 1 else start,
            cache=cache,
            variables=variables,
            store=None if out is None or out.suffix != ".zarr" else out,
            device=device,
        )
    print(found)
    return 0 if found.fits else 1


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
def check(source: Annotated[Path, Parameter(name="IN")], /, *, model: str | None = None) -> int:
    """Say whether a file fits a model, and what to mend if not: exit code 0 or 1.

    Parameters
    ----------
    source
        NetCDF, Zarr (directory or .zarr.zip) or GRIB.
    model
        A name from `xwx models` or a checkpoint directory; by default any model will do.
    """
    from xwx.files import open_data

    with open_data(source) as ds:
        from xwx.tasks.check import check as run

        report = run(ds, model)
    print(report)
    return 0 if report.ok else 1


@app.command
def train(
    config: Annotated[Path, Parameter(name="CONFIG")],
    /,
    *,
    resume: Annotated[bool, Parameter(negative="--fresh")] = True,
    out: Path | None = None,
    progress: bool | None = None,
) -> int:
    """Train a model as a configuration file says, and print where the checkpoint is.

    Several processes share the work under `torchrun --nproc-per-node N -m xwx train CONFIG`.

    Parameters
    ----------
    config
        A TOML file.
    resume
        Continue an interrupted run, or start afresh.
    out
        Directory of the run; by default the configuration's.
    progress
        Show a progress bar.
    """
    if config.is_dir():
        raise ConfigError(f"{config} is a directory: give the TOML file")
    if not config.exists():
        raise StoreError(f"{config} does not exist: give a configuration file")
    from xwx.tasks.train import train as run

    path = run(config, out=out, resume=resume, progress=progress)
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one speaks
        print(path)
    return 0


@app.command(name="simulate-climate")
def simulate_climate(
    out: Annotated[Path, Parameter(name="OUT.zarr")],
    /,
    *,
    years: float = 5.0,
    spinup_days: float = 365.0,
    chunk_days: float = 5.0,
    grid: str = "64x32",
    seed: int = 0,
    start: str = "2000-01-01",
    step_minutes: float = 40.0,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    progress: bool | None = None,
) -> int:
    """Simulate years of weather with a small GCM, with the variables of ERA5, to train on.

    Needs the extra `climate`. An interrupted run that is started again goes on where it was.

    Parameters
    ----------
    out
        A Zarr store.
    years
        Years of 365 days to keep; more than before to go on with a complete store.
    spinup_days
        Days before them that are not kept.
    chunk_days
        Days simulated and written at a time.
    grid
        Columns x rows of an equiangular grid, or native for the Gaussian 96x48.
    seed
        Seed of the noise in the first state.
    start
        First day of the spin-up.
    step_minutes
        Time step of the model.
    overwrite
        Start afresh and replace an existing store.
    progress
        Show a progress bar.
    """
    from xwx.climate.requirements import require
    from xwx.climate.settings import Settings

    try:
        settings = Settings(years, spinup_days, chunk_days, grid, seed, start, step_minutes)
    except ValueError as error:
        raise UsageError(str(error)) from error
    require()
    from xwx.climate.gcm import Speedy
    from xwx.tasks.simulate import simulate

    states = settings.chunks * settings.chunk_states
    size = f"{states} states need up to {settings.nbytes / 1e9:.2f} GB"
    print(f"xwx: {size} in {out}", file=sys.stderr)
    print(simulate(out, settings, Speedy, overwrite=overwrite, progress=progress))
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


def _check_output(source: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse an output of an unknown format, or one that would destroy something."""
    if out.suffix not in _OUTPUTS:
        raise UsageError(f"--out {out}: give a name that ends in {' or '.join(_OUTPUTS)}")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the directory {out.parent} does not exist")
    if not os.path.lexists(out):
        return
    if source.exists() and out.exists() and out.samefile(source):
        raise UsageError(f"--out {out} is the input: give another name")
    if not overwrite:
        raise UsageError(f"--out {out} exists: give --overwrite to replace it, or another name")
    from xwx.files import is_zarr

    if out.is_dir() and not (out.suffix == ".zarr" and is_zarr(out)):
        raise UsageError(f"--out {out} is a directory that holds something else: move it away")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _guard(lambda: _run(tokens))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(tokens: list[str]) -> int:
    command, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    code = command(*bound.args, **bound.kwargs)
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _guard(job: Callable[[], int]) -> int:
    """Turn exceptions into a message and an exit code."""
    try:
        return job()
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (CycloptsError, UsageError) as error:
        return _fail(f"{error}\nTry: xwx --help", 2)
    except BrokenPipeError:
        raise
    except (XwxError, OSError) as error:
        return _fail(str(error), 1)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return _fail(f"{message}\nXWX_DEBUG=1 shows where this comes from", 1)


def _fail(message: str, code: int) -> int:
    if os.environ.get("XWX_DEBUG", "") not in ("", "0"):
        traceback.print_exc()
    print(f"xwx: {message}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"xwx: warning: {message}", file=sys.stderr)
