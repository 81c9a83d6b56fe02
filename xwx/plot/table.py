"""Reading a Dataset of scores: one metric, level and region of a variable."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields import find_coordinates, lead_times
from xwx.plot.select import chosen, plain
from xwx.plot.words import duration, level_text, long_name, several

__all__ = ["by_lead", "metric_units", "part", "title_of"]


def part(
    ds: xr.Dataset,
    variable: str,
    metric: str | None,
    *,
    keep: Collection[str],
    region: str | None = None,
    **select: Any,
) -> xr.DataArray:
    """Return one metric of a variable along `keep`.

    Raises
    ------
    MismatchError
        If the variable or metric is missing, or other dimensions are left.
    ValueError
        For a region, level or time that there is not.
    """
    if variable not in ds:
        problem = Problem(
            kind="unknown-variable",
            where=variable,
            message=f"these scores do not have it; they have {several(list(ds.data_vars))}",
            remedy="compare scores of the same variables",
        )
        raise MismatchError([problem], what="a picture of scores")
    if metric is not None:
        ds = _label(ds, variable, "metric", metric)
    if region is not None:
        ds = _label(ds, variable, "region", region)
    return chosen(ds, variable, "a picture", keep=keep, **select)


def _label(ds: xr.Dataset, variable: str, dim: str, label: str) -> xr.Dataset:
    """Select one label of a dimension of labels."""
    if dim not in ds[variable].coords:
        problem = Problem(
            kind=f"missing-{dim}",
            where=dim,
            message=f"{variable!r} has no coordinate {dim!r}, as the scores of wx.verify have",
            remedy=f"scores = fc.wx.verify(truth)  # {dim}={label!r}",
        )
        raise MismatchError([problem], what="a picture of scores")
    held = [str(value) for value in ds[dim].values.reshape(-1)]
    if label not in held:
        problem = Problem(
            kind=f"missing-{dim}",
            where=dim,
            message=f"there is no {dim} {label!r}; there are {several(held)}",
            remedy=f"name one of them: {dim}={held[0]!r}, or verify with {label!r}",
        )
        raise MismatchError([problem], what="a picture of scores")
    return ds.isel({dim: held.index(label)}) if ds[dim].ndim else ds


def by_lead(given: Any) -> xr.Dataset:
    """Return scores without Quantities, their lead time as a dimension where it runs along time.

    Raises
    ------
    TypeError
        If it is no Dataset.
    """
    ds = plain(given)
    leads = [str(k) for k in ds.coords if ds[k].ndim == 1 and lead_times(ds, str(k)) is not None]
    if not leads:
        return ds
    name = leads[0]
    values = lead_times(ds, name)
    ds = ds.assign_coords({name: (ds[name].dims, values, ds[name].attrs)})
    ds = ds if name in ds.dims else ds.swap_dims({ds[name].dims[0]: name})
    return ds if name == "lead_time" else ds.rename({name: "lead_time"})


def metric_units(array: xr.DataArray, metric: str) -> str:
    """Return the units of one metric of a variable of scores."""
    listed = dict(
        entry.split(":", 1) for entry in str(array.attrs.get("metric_units", "")).split(";")
        if ":" in entry
    )  # fmt: skip
    units = {key.strip(): value.strip() for key, value in listed.items()}
    return units.get(metric, str(array.attrs.get("units", "")))


def title_of(ds: xr.Dataset, array: xr.DataArray, variable: str) -> str:
    """Return the variable's name with its level, lead time and region, as far as it has one."""
    vertical = find_coordinates(ds).vertical or "level"
    name = level_text(array, vertical)
    parts = [long_name(ds[variable], name)]
    labels = [array.coords[key] for key in ("region", "season") if key in array.coords]
    parts += [str(label.values) for label in labels if label.ndim == 0]
    if "lead_time" in array.coords and array["lead_time"].ndim == 0:
        parts.append(f"+{duration(array['lead_time'].values.reshape(-1)[0])}")
    return ", ".join(parts)
