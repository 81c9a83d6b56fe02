"""Where training data come from: bundled, on disk, or at an address; one source or several."""

from __future__ import annotations

import glob
import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xwx import tutorial
from xwx.errors import ConfigError
from xwx.fields import find_coordinates

__all__ = ["open_sources", "stamp"]

#: Protocol -> the module that fsspec needs for it, and the package that has it.
_PROTOCOLS = {
    "gs": ("gcsfs", "gcsfs"),
    "gcs": ("gcsfs", "gcsfs"),
    "s3": ("s3fs", "s3fs"),
    "http": ("aiohttp", "aiohttp"),
    "https": ("aiohttp", "aiohttp"),
    "az": ("adlfs", "adlfs"),
}
#: The pressure levels of ERA5 [hPa].
_ERA5_LEVELS = frozenset(
    {1, 2, 3, 5, 7, 10, 20, 30, 50, 70, *range(100, 251, 25), *range(300, 751, 50)}
    | {*range(775, 1001, 25)}
)
#: What ARCO-ERA5 has as the units of its levels, which no library reads.
_HECTOPASCAL = "Hectopascal(hPa)"
_SOURCES = "xwx_sources"


def open_sources(names: str | Sequence[str]) -> xr.Dataset:
    """Open one source, or several joined along time.

    Parameters
    ----------
    names : str or sequence of str
        See :func:`xwx.tasks.archive.open_training_data`.

    Raises
    ------
    ConfigError
        As said there.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise ConfigError("[data] dataset=[]: name one source at least")
    found = [path for name in wanted for path in _expanded(name)]
    if len(found) == 1:
        return _with_levels(_open(found[0]))
    if importlib.util.find_spec("dask") is None:
        raise ConfigError(
            f"[data] dataset={names!r}: joining several sources needs dask: "
            "pip install 'xarray-wx[dask]'"
        )
    return _with_levels(_joined(found, [_open(path, chunks={}) for path in found]))


def _expanded(name: str) -> list[str]:
    """Return the paths that a pattern or ``~`` stands for, sorted; anything else as it is."""
    if "://" in name or name in tutorial.names():
        return [name]
    name = os.path.expanduser(name)
    if not glob.has_magic(name) or Path(name).exists():
        return [name]
    if paths := sorted(glob.glob(name)):
        return paths
    raise ConfigError(f"[data] dataset={name!r}: no path is of this pattern")


def _open(name: str, chunks: Any = None) -> xr.Dataset:
    options: dict[str, Any] = {"chunks": chunks}
    if name in tutorial.names():
        ds = tutorial.open_dataset(name, **options)
        ds.encoding[_SOURCES] = [name]
        return ds
    if "://" in name:
        _check_protocol(name)
        options["engine"] = "zarr"
    try:
        with warnings.catch_warnings():
            # A store without consolidated metadata is opened all the same.
            warnings.filterwarnings("ignore", ".*consolidated metadata", RuntimeWarning)
            ds = xr.open_dataset(name, decode_timedelta=False, **options)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"[data] dataset={name!r} cannot be opened ({error}); it is neither a path nor an "
            f"address nor one of {', '.join(tutorial.names())}"
        ) from error
    ds.encoding[_SOURCES] = [name]
    return ds


def _check_protocol(address: str) -> None:
    """See that the packages for an address are installed."""
    protocol = address.split("://")[0]
    modules = [("fsspec", "fsspec")]
    modules += [_PROTOCOLS[protocol]] if protocol in _PROTOCOLS else []
    missing = [package for module, package in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"[data] dataset={address!r}: reading {protocol}:// needs {' and '.join(missing)}: "
            f"pip install {' '.join(missing)}"
        )


def _joined(names: Sequence[str], parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join along time; what has no time is taken from the first."""
    clock = [find_coordinates(part).time for part in parts]
    for name, time, part in zip(names, clock, parts, strict=True):
        if time is None or time != clock[0] or part[time].dims != (time,) or not part[time].size:
            raise ConfigError(
                f"[data] dataset: {name!r} has no times along a dimension "
                f"{clock[0] or 'time'!r} to be joined along"
            )
    time = str(clock[0])
    for n in range(1, len(parts)):
        last, first = parts[n - 1][time].values[-1], parts[n][time].values[0]
        if not last < first:
            raise ConfigError(
                f"[data] dataset: {names[n]!r} begins at {np.datetime_as_string(first, 'm')}, "
                f"before {names[n - 1]!r} ends at {np.datetime_as_string(last, 'm')}: name them "
                "in the order of their times, and no time twice"
            )
    try:
        ds = xr.concat(
            parts, time, data_vars="minimal", coords="minimal", compat="override", join="exact",
            combine_attrs="override",
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"[data] dataset: the sources do not join ({error})") from error
    ds.encoding = {_SOURCES: list(names)}
    return ds


def _with_levels(ds: xr.Dataset) -> xr.Dataset:
    """Say the unit of the levels of ARCO-ERA5 and WeatherBench 2, whose own is not one.

    Only where the layout leaves no doubt: a ``level`` with the spelling of ARCO-ERA5, or without
    any, on levels of ERA5 and beside its ``geopotential``.
    """
    if "level" not in ds.coords or "geopotential" not in ds.data_vars:
        return ds
    level = ds["level"]
    own = level.attrs.get("units", "")
    known = level.ndim == 1 and set(level.values.tolist()) <= _ERA5_LEVELS
    if not known or own not in ("", _HECTOPASCAL):
        return ds
    out = ds.assign_coords(level=level.assign_attrs(units="hPa"))
    out.encoding = ds.encoding
    return out


def stamp(ds: xr.Dataset) -> str | None:
    """Tell the state of the sources that :func:`open_sources` opened; None for another Dataset.

    Path, bytes and time of the last change of what is on disk; the address of what is not.
    """
    names = ds.encoding.get(_SOURCES)
    return None if names is None else "; ".join(map(_stamp, names))


def _stamp(name: str) -> str:
    path = Path(name)
    if not path.exists():
        return name
    files = [path] if path.is_file() else [Path(at, f) for at, _, own in os.walk(path) for f in own]
    stats = [file.stat() for file in files]
    size, newest = sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)
    return f"{path.resolve()} ({len(files)} files, {size} bytes, {newest})"
