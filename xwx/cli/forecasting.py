"""The commands that forecast: ``check``, ``plan``, ``forecast``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from xwx.cli.app import app, check_date, check_output, from_zero, positive


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
def plan(
    source: Annotated[Path, Parameter(name="IN")],
    /,
    *,
    out: Path | None = None,
    model: str | None = None,
    steps: Annotated[int, Parameter(converter=positive)] = 40,
    start: Annotated[list[str] | None, Parameter(validator=check_date, negative="")] = None,
    members: Annotated[int | None, Parameter(converter=positive)] = None,
    cache: Annotated[int | None, Parameter(converter=from_zero)] = None,
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
    members
        How many forecasts of each start, of a generative model; by default one.
    cache
        How many of its own steps the network remembers.
    variables
        Which variables to write; by default all that the model gives.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    if out is not None:
        check_output(source, out, overwrite=False)
    from xwx.files import open_data

    with open_data(source) as ds:
        from xwx.tasks.plan import plan as run

        found = run(
            ds,
            model,
            steps=steps,
            start=start[0] if start and len(start) == 1 else start,
            members=members,
            cache=cache,
            variables=variables,
            store=None if out is None or out.suffix != ".zarr" else out,
            device=device,
        )
    print(found)
    return 0 if found.fits else 1


@app.command
def forecast(
    source: Annotated[Path, Parameter(name="IN")],
    /,
    *,
    out: Path,
    model: str | None = None,
    steps: Annotated[int, Parameter(converter=positive)] = 40,
    start: Annotated[list[str] | None, Parameter(validator=check_date, negative="")] = None,
    members: Annotated[int | None, Parameter(converter=positive)] = None,
    cache: Annotated[int | None, Parameter(converter=from_zero)] = None,
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
    members
        How many forecasts of each start, of a generative model; by default one.
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
    check_output(source, out, overwrite=overwrite)
    from xwx.files import open_data, replacing, write_netcdf

    options: dict[str, Any] = {
        "start": start[0] if start and len(start) == 1 else start,
        "members": members,
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
