"""Regrid: bring a Dataset onto the grid of a model, or any other."""

from __future__ import annotations

import os
from typing import Literal

import xarray as xr

from xwx.fields import regrid as regrid_to
from xwx.models.checkpoint import Model
from xwx.models.registry import find_spec
from xwx.spec import Grid

__all__ = ["regrid"]


def regrid(
    ds: xr.Dataset,
    target: str | os.PathLike[str] | Model | Grid,
    method: Literal["conservative", "linear"] = "conservative",
) -> xr.Dataset:
    """Bring a Dataset onto another latitude-longitude grid.

    Parameters
    ----------
    ds : Dataset
    target : str, path-like, Model or Grid
        A model whose grid is wanted, or a grid.
    method : {"conservative", "linear"}
        Area means over exact spherical cell overlaps, or bilinear interpolation.

    Returns
    -------
    Dataset

    Raises
    ------
    MismatchError
        When the target lies outside the Dataset's grid, or that has no rows and columns.
    """
    grid = target if isinstance(target, Grid) else find_spec(target).grid
    return regrid_to(ds, grid, method)
