"""Data files on disk, opened and replaced for the command line through xarray's engines."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr
from zarr.storage import ZipStore

from xwx.errors import StoreError

__all__ = ["is_zarr", "open_data", "replacing", "write_netcdf"]

_SUFFIXES = {
    "zarr": (".zarr", ".zarr.zip"),
    "netcdf": (".nc", ".nc4", ".cdf", ".netcdf", ".h5"),
    "cfgrib": (".grib", ".grb", ".grib2", ".grb2"),
}
_ENGINES = {"zarr": ("zarr",), "netcdf": ("netcdf4",), "cfgrib": ("cfgrib",)}


@contextmanager
def open_data(path: Path) -> Iterator[xr.Dataset]:
    """Open NetCDF, Zarr (a directory or ``.zarr.zip``) or GRIB, told apart by suffix.

    Parameters
    ----------
    path : Path
        The file or directory.

    Yields
    ------
    Dataset
        Lazy; closed on leaving.

    Raises
    ------
    StoreError
        If it does not exist, is of an unknown format or damaged, or its engine is not installed.
    """
    if not path.exists():
        raise StoreError(f"{path} does not exist")
    form = _format(path)
    options: dict[str, Any] = {"engine": _engine(form), "decode_timedelta": False}
    source: Any = path
    if form == "cfgrib":
        options["backend_kwargs"] = {"indexpath": ""}  # leave no index beside the user's file
    try:
        if path.suffix == ".zip":
            source = ZipStore(path, mode="r")
        with warnings.catch_warnings():
            # Metadata that are not consolidated cost milliseconds on a local disk.
            warnings.filterwarnings("ignore", ".*consolidated metadata", RuntimeWarning)
            ds = xr.open_dataset(source, **options)
    except Exception as error:
        raise StoreError(
            f"{path} cannot be read as {form} ({type(error).__name__}: {error})"
            f"{_filter_hint(path) if 'filter_by_keys' in str(error) else ''}"
        ) from error
    with ds:
        yield ds


def _filter_hint(path: Path) -> str:
    """Say how to choose among the messages of a GRIB file, which takes Python."""
    return (
        "\nThe command line has no option for this: choose one in Python with\n"
        f'    ds = xr.open_dataset("{path}", engine="cfgrib", '
        'backend_kwargs={"filter_by_keys": {...}})\n'
        "and go on with ds.wx.forecast(...)"
    )


def _format(path: Path) -> str:
    """Tell the format of a path from its suffix, or from what a directory holds."""
    for form, suffixes in _SUFFIXES.items():
        if path.name.lower().endswith(suffixes):
            return form
    if is_zarr(path):
        return "zarr"
    known = ", ".join(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
    raise StoreError(f"{path}: unknown format; xwx reads {known}")


def is_zarr(path: Path) -> bool:
    """Return whether a directory is a Zarr store."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zmetadata"))


def _engine(form: str) -> str:
    """Name the installed xarray engine for a format."""
    installed = xr.backends.list_engines()
    for engine in _ENGINES[form]:
        if engine in installed:
            return engine
    raise StoreError(
        f"reading or writing {form} needs {' or '.join(_ENGINES[form])}: "
        "pip install 'xarray-wx[io]'"
    )


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give a name to write to; an existing output is replaced once the new one is complete.

    A new Zarr store is written in place, so that what was finished before an interrupt is kept.

    Parameters
    ----------
    out : Path
        The output, in an existing directory.

    Yields
    ------
    Path
        Where to write: `out`, or a scratch name beside it.
    """
    if out.suffix == ".zarr" and not os.path.lexists(out):
        yield out
        return
    final = Path(os.path.realpath(out))  # a link goes on pointing where it did
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=final.parent) as scratch:
        target = Path(scratch, out.name)
        yield target
        if final.is_dir():
            final.rename(Path(scratch, "replaced"))
        os.replace(target, final)


def write_netcdf(ds: xr.Dataset, path: Path) -> None:
    """Write a Dataset as NetCDF with the engine that is installed.

    Raises
    ------
    StoreError
        If there is no engine for it.
    """
    ds.to_netcdf(path, engine=_engine("netcdf"))  # type: ignore[call-overload]
