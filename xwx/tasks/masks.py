"""Masks whose longitudes are in another convention than those of the Dataset they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import xarray as xr

from xwx.errors import Problem
from xwx.fields import find_coordinates
from xwx.fields.embed import same_meridians
from xwx.fields.units import magnitudes

__all__ = ["on_the_meridians", "reworded"]


def on_the_meridians(mask: Any, ds: xr.Dataset) -> Any:
    """Return a mask with the longitudes of a Dataset, where they are the same but for turns.

    Parameters
    ----------
    mask : DataArray, Dataset or other
        What is no array is returned as it is.
    ds : Dataset
    """
    name = find_coordinates(ds).longitude
    if name is None:
        return mask
    if isinstance(mask, xr.DataArray):
        return same_meridians(mask, ds[name])
    if isinstance(mask, xr.Dataset) and mask.data_vars:
        return mask.map(same_meridians, longitude=ds[name])
    return mask


def reworded(problems: Sequence[Problem], mask: Any, ds: xr.Dataset) -> list[Problem]:
    """Name a remedy that loses no point of a mask in another convention of longitude."""
    name = find_coordinates(ds).longitude
    if not isinstance(mask, xr.DataArray | xr.Dataset) or name is None or name not in mask.coords:
        return list(problems)
    own = magnitudes(ds[name].variable)
    low = "0" if own.min() >= 0 else f"{own.min():g}"
    east = f'mask["{name}"] % 360' if low == "0" else f'(mask["{name}"] - {low}) % 360 + {low}'
    first = f'mask.assign_coords({{"{name}": {east}}}).sortby("{name}")'
    near = f'.reindex({{"{name}": ds["{name}"]}}, method="nearest", tolerance=1e-6'
    return [
        replace(p, remedy=p.remedy.replace("mask.", f"mask = {first}{near}, fill_value=False).", 1))
        if p.kind == "wrong-mask"
        else p
        for p in problems
    ]
