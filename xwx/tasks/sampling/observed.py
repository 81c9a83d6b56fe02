"""What of a Dataset was observed: its finite values, where a mask lets them through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import Frame, dequantify, find_coordinates
from xwx.spec import Grid
from xwx.tasks.sampling.cover import Cover

__all__ = ["Observed", "embedded", "observed"]

Mask = xr.DataArray | xr.Dataset | bool | None
#: Coordinates agree when they differ by less than this fraction of them, or of one.
_SLACK = 1e-6


@dataclass(frozen=True, eq=False)
class Observed:
    """The observed values of a Dataset.

    Attributes
    ----------
    values : Dataset
        NaN where nothing was; plain arrays, read into memory.
    known, unknown : int
        How many values of the model's channels were observed, and how many were not.
    """

    values: xr.Dataset
    known: int
    unknown: int


def observed(ds: xr.Dataset, mask: Mask, frame: Frame, what: str) -> Observed:
    """Keep the finite values of a Dataset where a mask is True.

    Parameters
    ----------
    ds : Dataset
    mask : DataArray, Dataset or bool, optional
        Of bool, with the coordinates of `ds`, in any order; one for all variables that they can
        be broadcast to, or one for each. None is True everywhere.
    frame : Frame
        Of the model's variables of `ds`.
    what : str
        For errors.

    Raises
    ------
    TypeError
        For a mask that is not of bool.
    MismatchError
        For one whose dimensions or coordinates are not those of a variable, or that has none for
        a variable.
    """
    plain = dequantify(ds[list(frame.variables)])
    masks = _masks(plain, mask, what)
    kept = {
        name: plain[name].where(np.isfinite(plain[name]) & masks.get(name, True))
        for name in frame.variables
    }
    values = plain.assign(
        {name: field.assign_attrs(plain[name].attrs) for name, field in kept.items()}
    )
    values = values.compute()
    known = unknown = 0
    for field in frame.fields:
        array = values[field.name]
        if field.level_dim is not None:
            array = array.isel({field.level_dim: list(field.levels)})
        here = int(array.notnull().sum())
        known, unknown = known + here, unknown + array.size - here
    return Observed(values, known, unknown)


def _masks(ds: xr.Dataset, mask: Mask, what: str) -> Mapping[str, xr.DataArray | bool]:
    """Return the mask of each variable."""
    if mask is None or isinstance(mask, bool):
        return dict.fromkeys(map(str, ds.data_vars), mask is not False)
    if not isinstance(mask, xr.DataArray | xr.Dataset):
        raise TypeError(
            f"mask is a {type(mask).__name__}: give a DataArray of bool, a Dataset of them, or "
            "mask=False to observe nothing of the Dataset itself"
        )
    if isinstance(mask, xr.DataArray):
        given = dict.fromkeys(map(str, ds.data_vars), mask)
    else:
        given = {str(name): mask[name] for name in mask.data_vars}
    for name, one in given.items():
        if one.dtype != bool:
            where = "" if isinstance(mask, xr.DataArray) else f" of {name!r}"
            raise TypeError(
                f"the mask{where} is of {one.dtype}: give one of bool, True where it was observed, "
                "such as mask == 1 or ds.notnull()"
            )
    problems: list[Problem] = []
    out: dict[str, xr.DataArray | bool] = {}
    for name in map(str, ds.data_vars):
        if name not in given:
            problems.append(_no_mask(name))
            continue
        fitted = _fitted(given[name], ds[name])
        if isinstance(fitted, Problem):
            problems.append(fitted)
        else:
            out[name] = fitted
    if problems:
        raise MismatchError(list(dict.fromkeys(problems)), what)
    return out


def _fitted(mask: xr.DataArray, field: xr.DataArray) -> xr.DataArray | Problem:
    """Return a mask with the coordinates of a variable, or say why it has others."""
    if extra := [dim for dim in mask.dims if dim not in field.dims]:
        return Problem(
            kind="extra-dimension",
            where=f"mask of {field.name}",
            message=f"it runs along {extra}, and {field.name!r} runs along {list(field.dims)}",
            remedy=f'mask=xr.Dataset({{"{field.name}": mask.any({extra!r}), ...}})  # one for each',
        )
    order: dict[Any, NDArray[np.intp]] = {}
    for dim in mask.dims:
        at = _matched(mask, field, dim)
        if at is None:
            return Problem(
                kind="wrong-mask",
                where=f"mask of {field.name}",
                message=(
                    f"its {mask.sizes[dim]} values along {dim!r} are not at the "
                    f"{field.sizes[dim]} of the Dataset: the coordinates have to be the same, in "
                    "any order"
                ),
                remedy=f'mask.reindex_like(ds["{field.name}"], fill_value=False)',
            )
        order[dim] = at
    fitted = mask.isel(order)
    dims = [dim for dim in field.dims if dim in mask.dims]
    return fitted.drop_vars(list(fitted.coords)).transpose(*dims)


def _matched(mask: xr.DataArray, field: xr.DataArray, dim: Any) -> NDArray[np.intp] | None:
    """Return where along a dimension of a mask the values of a variable are; None for nowhere."""
    size = field.sizes[dim]
    if mask.sizes[dim] != size:
        return None
    theirs, mine = mask.indexes.get(dim), field.indexes.get(dim)
    if theirs is None or mine is None:
        return np.arange(size)
    if theirs.dtype.kind == "f" and mine.dtype.kind in "fiu":
        away = np.abs(np.subtract.outer(mine.to_numpy(), theirs.to_numpy()))
        at, near = away.argmin(axis=1), away.min(axis=1)
        fits = bool((near <= _SLACK * np.maximum(1.0, np.abs(mine))).all())
    else:
        at = theirs.get_indexer(mine) if theirs.is_unique else np.full(size, -1)
        fits = bool((at >= 0).all())
    return at if fits and np.unique(at).size == size else None


def _no_mask(name: str) -> Problem:
    return Problem(
        kind="missing-mask",
        where=name,
        message="the Dataset of masks has none for it",
        remedy=f'mask["{name}"] = ds["{name}"].notnull()  # or xr.zeros_like(..., dtype=bool)',
    )


def embedded(ds: xr.Dataset, here: Cover, grid: Grid) -> xr.Dataset:
    """Return a Dataset of a region on the whole grid of the model, NaN outside.

    Parameters
    ----------
    ds : Dataset
        On the model's cells.
    here : Cover
        The region.
    grid : Grid
        The model's.
    """
    if here.grid == grid:
        return ds
    names = find_coordinates(ds)
    wanted: dict[Any, Any] = {names.latitude: grid.rows, names.longitude: grid.columns}
    exact, dims = {}, {}
    for name, centres in wanted.items():
        away = np.mod(ds[name].values[:, None] - centres + 180.0, 360.0) - 180.0
        (dim,) = ds[name].dims
        exact[name] = xr.Variable(dim, centres[np.abs(away).argmin(axis=1)], ds[name].attrs)
        dims[dim] = name
    moved = ds.assign_coords(exact).swap_dims({d: n for d, n in dims.items() if d != n})
    return moved.reindex(wanted)
