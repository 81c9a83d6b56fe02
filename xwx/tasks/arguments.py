"""Arguments that several tasks take, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["is_lazy", "listed", "refuse_other", "seed_number", "whole_number"]


def whole_number(name: str, value: Any, least: int, example: int, what: str = "model steps") -> int:
    """Return a count, or say what is wrong with it."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(
            f"{name}={value!r} is a {type(value).__name__}: give a whole number of {what}, "
            f"such as {name}={example}"
        )
    if value < least:
        raise ValueError(f"{name}={value!r}: give at least {least}")
    return int(value)


def seed_number(seed: Any) -> int:
    """Return a seed, or say what is wrong with it."""
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed={seed!r} is a {type(seed).__name__}: give a whole number")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed!r}: give a whole number from 0, below 2**63")
    return int(seed)


def refuse_other(ds: Any, task: str) -> None:
    """Refuse what is not a Dataset."""
    if not isinstance(ds, xr.Dataset):
        hint = ": use .to_dataset()" if isinstance(ds, xr.DataArray) else ""
        raise TypeError(f"{task} needs an xarray.Dataset, got {type(ds).__name__}{hint}")


def is_lazy(ds: xr.Dataset) -> bool:
    """Whether any variable is of dask arrays."""
    return any(variable.chunks is not None for variable in ds.data_vars.values())


def listed(variables: str | Sequence[str] | None) -> list[str] | None:
    """Return names of variables as a list, None for all."""
    if variables is None:
        return None
    if isinstance(variables, str):
        return [variables]
    if not isinstance(variables, Iterable) or not all(isinstance(v, str) for v in variables):
        raise TypeError(f'variables={variables!r}: give names of variables, such as ["msl"]')
    return list(variables)
