"""Output stores: a Zarr that grows by one step at a time, so that memory does not."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from xwx.errors import StoreError

__all__ = ["StepStore"]

_EPOCH = "since 1970-01-01"


class StepStore:
    """A new Zarr store that is laid out with its first step and then filled step by step.

    Parameters
    ----------
    path : str or path-like
        A directory ending in ``.zarr`` that does not exist yet.

    Raises
    ------
    StoreError
        When something is at `path` already, or its name does not end in ``.zarr``.

    Notes
    -----
    A chunk holds one step. Steps that were not written read as NaN, and the store has the
    attribute ``xwx_incomplete`` until the last one is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"store={path!r} is a {type(path).__name__}: give the path of a store")
        if "://" in str(path):
            raise StoreError(
                f"store={str(path)!r} is an address: write to a local path ending in .zarr, then "
                "copy it there"
            )
        self.path = Path(path).expanduser()
        self.begun = False
        self._order: list[str] = []
        self._arrays: dict[str, Any] = {}
        self._unit: Any = "ns"
        self._cftime = False
        if self.path.suffix != ".zarr":
            raise StoreError(f"store={str(path)!r} is no Zarr store: end its name in .zarr")
        if os.path.lexists(self.path):
            raise self._taken()
        if not self.path.parent.is_dir():
            raise StoreError(
                f"store={str(path)!r}: there is no directory {str(self.path.parent)!r}; make it "
                "first"
            )

    def begin(self, first: xr.Dataset, coords: xr.Dataset) -> None:
        """Create every array at its full size and write the coordinates.

        Parameters
        ----------
        first : Dataset
            The first step, of size 1 along the dimensions of steps.
        coords : Dataset
            All coordinates along those dimensions, complete.
        """
        sizes = {str(dim): size for dim, size in coords.sizes.items()}
        encoding = {
            str(name): _encoding(coords.variables.get(name, variable), variable.sizes, sizes)
            for name, variable in first.variables.items()
        }
        for name in first.coords:  # CF has no missing values there
            encoding[str(name)].setdefault("_FillValue", None)
        with _refusing(self.path), self._claimed():
            _plain_text(first.drop_encoding().assign_attrs(xwx_incomplete=1)).to_zarr(
                self.path, mode="w-", encoding=encoding, consolidated=False, zarr_format=3
            )
            group = zarr.open_group(self.path, mode="r+")
            for name, variable in first.variables.items():
                if sizes.keys() & set(variable.dims):
                    array: Any = group[str(name)]
                    self._arrays[str(name)] = array
                    array.resize(tuple(sizes.get(str(d), first.sizes[d]) for d in variable.dims))
                    if name in coords.variables:
                        array[...] = _encoded(coords.variables[name], encoding[str(name)])
            self._consolidate()
        self._order = [str(name) for name in first.data_vars]
        for variable in first.coords.values():
            if variable.dtype.kind == "M":
                self._unit = np.datetime_data(variable.dtype)[0]
            self._cftime |= _holds_cftime(variable.variable)
        self.begun = True

    def write(self, step: xr.Dataset, where: Mapping[str, int]) -> None:
        """Write one step of size 1 along the dimensions of steps, at a position along each."""
        # Straight into the arrays: Dataset.to_zarr leaves cycles that keep steps alive for long.
        with _refusing(self.path):
            for name, variable in step.data_vars.items():
                if where.keys() & set(variable.dims):
                    index = [where.get(str(dim), slice(None)) for dim in variable.dims]
                    region = tuple(slice(n, n + 1) if isinstance(n, int) else n for n in index)
                    self._arrays[str(name)][region] = variable.values

    def finish(self) -> None:
        """Take the mark off that says that steps are missing."""
        with _refusing(self.path):
            del zarr.open_group(self.path, mode="r+").attrs["xwx_incomplete"]
            self._consolidate()

    def _taken(self) -> StoreError:
        return StoreError(
            f"store={str(self.path)!r} exists already and is left as it is: choose another name, "
            "or delete it first"
        )

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Make the directory, and leave no half-made store in the way of the next try.

        Making it fails where another process was first, so that only what is ours is removed.
        """
        try:
            self.path.mkdir()
        except FileExistsError as error:
            raise self._taken() from error
        try:
            yield
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def _consolidate(self) -> None:
        """Gather the metadata, which no step changes, so that opening the store reads them once."""
        with warnings.catch_warnings():
            # Zarr v3 has it by convention, not yet in its specification, and says so each time.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(self.path)

    def open(self, *, chunked: bool = False) -> xr.Dataset:
        """Open what was written, lazily: with dask, or read when it is used."""
        ds = xr.open_dataset(
            self.path,
            engine="zarr",
            chunks={} if chunked else None,
            decode_times=xr.coders.CFDatetimeCoder(
                use_cftime=self._cftime or None, time_unit=self._unit
            ),
            decode_timedelta=True,
        )
        coords = {name: coordinate.load() for name, coordinate in ds.coords.items()}
        for coordinate in coords.values():  # kept out of a copy in NetCDF too
            coordinate.encoding.setdefault("_FillValue", None)
        out = ds.assign_coords(coords)[self._order]
        out.set_close(ds.close)
        return out


def _encoding(
    variable: xr.Variable, own: Mapping[Any, int], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """Return how an array is stored: one step a chunk, coordinates in one piece.

    The packing of the input to integers is not kept: a forecast may leave its range.
    """
    encoding: dict[str, Any] = {}
    if variable.dtype.kind == "M" or _holds_cftime(variable):
        encoding = _clock(variable)
        if "calendar" in variable.encoding:
            encoding["calendar"] = variable.encoding["calendar"]
    elif variable.dtype.kind == "m":
        encoding = {"units": variable.encoding.get("units", "seconds"), "dtype": "int32"}
    along = set(map(str, variable.dims)) & set(sizes)
    if variable.dims:
        whole = len(along) == variable.ndim
        chunks = [sizes[str(d)] if whole else n for d, n in own.items()]
        encoding["chunks"] = tuple(max(1, n) for n in chunks)
    if variable.dtype.kind == "f" and along:
        encoding["_FillValue"] = np.nan
    return encoding


def _holds_cftime(variable: xr.Variable) -> bool:
    """Whether its objects are times, and not text, say."""
    return variable.dtype == object and variable.size > 0 and _is_cftime(variable.values.flat[0])


def _is_cftime(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "cftime"


def _clock(variable: xr.Variable) -> dict[str, Any]:
    """Return units that hold all times exactly, where possible with the integers of NetCDF-3."""
    times = variable.to_base_variable().values.ravel()
    if variable.dtype.kind == "M":
        whole = bool((times == times.astype("datetime64[h]")).all())
    else:
        whole = not any(t.minute or t.second or t.microsecond for t in times)
    if whole:
        return {"units": f"hours {_EPOCH}", "dtype": "int32"}
    return {"units": f"seconds {_EPOCH}", "dtype": "int64"}


def _plain_text(ds: xr.Dataset) -> xr.Dataset:
    """Let text be of any length: Zarr v3 has no settled type for that of a fixed length."""
    text = {name: v.astype(object) for name, v in ds.variables.items() if v.dtype.kind == "U"}
    return ds.assign_coords({k: v for k, v in text.items() if k in ds.coords}).assign(
        {k: v for k, v in text.items() if k not in ds.coords}
    )


def _encoded(variable: xr.Variable, encoding: Mapping[str, Any]) -> Any:
    """Return the numbers that an array stores for the values of a coordinate."""
    plain = variable.to_base_variable()
    plain.encoding = {key: value for key, value in encoding.items() if key != "chunks"}
    return xr.conventions.encode_cf_variable(plain).values


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what a file system refuses into an error that names the store."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"store {str(path)!r} cannot be written: {error}") from error
