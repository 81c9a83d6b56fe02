"""Output stores: a Zarr that grows by one step at a time, so that memory does not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from xwx.errors import StoreError

__all__ = ["StepStore"]

#: What an encoding keeps in a new store; packing to integers is not kept, because a forecast may
#: leave the range that the packing of the input was made for.
_KEPT = ("units", "calendar")


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
    A chunk holds one step. Steps that were not written read as NaN.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.begun = False
        self._steps: frozenset[str] = frozenset()
        if self.path.suffix != ".zarr":
            raise StoreError(f"store={str(path)!r} is no Zarr store: end its name in .zarr")
        if self.path.exists():
            raise StoreError(
                f"store={str(path)!r} exists already and is left as it is: choose another name, "
                "or delete it first"
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
        self._steps = frozenset(sizes)
        encoding = {
            str(name): _encoding(variable, sizes) for name, variable in first.variables.items()
        }
        with _refusing(self.path):
            first.drop_encoding().to_zarr(
                self.path, mode="w-", encoding=encoding, consolidated=False, zarr_format=3
            )
            group = zarr.open_group(self.path, mode="r+")
            for name, variable in first.variables.items():
                if self._steps & set(variable.dims):
                    array: Any = group[str(name)]
                    array.resize(tuple(sizes.get(str(d), first.sizes[d]) for d in variable.dims))
            region = {dim: slice(0, size) for dim, size in sizes.items()}
            self._put(coords, region)
        self.begun = True

    def write(self, step: xr.Dataset, where: Mapping[str, int]) -> None:
        """Write one step of size 1 along the dimensions of steps, at a position along each."""
        with _refusing(self.path):
            self._put(
                step.drop_vars(list(step.coords)), {dim: slice(n, n + 1) for dim, n in where.items()}
            )

    def _put(self, ds: xr.Dataset, region: Mapping[str, slice]) -> None:
        ds.drop_encoding().reset_coords().to_zarr(
            self.path, region=dict(region), consolidated=False, zarr_format=3
        )

    def open(self, *, chunked: bool = False) -> xr.Dataset:
        """Open what was written, lazily: with dask, or read when it is used."""
        return xr.open_dataset(
            self.path,
            engine="zarr",
            chunks={} if chunked else None,
            consolidated=False,
            decode_timedelta=True,
        )


def _encoding(variable: xr.Variable, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return how an array is stored: one step a chunk, coordinates in one piece."""
    encoding = {key: variable.encoding[key] for key in _KEPT if key in variable.encoding}
    if variable.dtype.kind in "mMO" and variable.dtype.kind != "O" or encoding:
        encoding["dtype"] = "int64"
    if variable.dims:
        whole = set(map(str, variable.dims)) <= set(sizes)
        chunks = [sizes.get(str(d), n) if whole else n for d, n in variable.sizes.items()]
        encoding["chunks"] = tuple(max(1, n) for n in chunks)
    if variable.dtype.kind == "f" and set(map(str, variable.dims)) & set(sizes):
        encoding["_FillValue"] = np.nan
    return encoding


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what a file system refuses into an error that names the store."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"store {str(path)!r} cannot be written: {error}") from error
