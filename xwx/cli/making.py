"""The commands that make models and what they learn from: ``train``, ``simulate-climate``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from xwx.cli.app import UsageError, app
from xwx.errors import ConfigError, StoreError


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
