"""Rows and columns: what is wrong where a Dataset has none."""

from __future__ import annotations

import xarray as xr

from xwx.errors import Problem
from xwx.fields.coordinates import Coordinates, curvilinear, single_places
from xwx.fields.units import magnitudes

__all__ = ["axes_problems"]


def axes_problems(ds: xr.Dataset, names: Coordinates) -> list[Problem]:
    """Return why a Dataset has no rows and columns; nothing where it has.

    Parameters
    ----------
    ds : Dataset
    names : Coordinates
        Of `ds`.
    """
    lat, lon = names.latitude, names.longitude
    if lat is None or lon is None:
        wide = curvilinear(ds)
        return [_curvilinear(ds, *wide)] if wide else _missing_axes(ds, names)
    if ds[lat].dims == ds[lon].dims:
        return [_unstructured(lat, lon, str(ds[lat].dims[0]))]
    return []


def _missing_axes(ds: xr.Dataset, names: Coordinates) -> list[Problem]:
    lat, lon = names.latitude, names.longitude
    single = single_places(ds)
    if gone := [name for name, axis in zip(single, (lat, lon), strict=True) if name and not axis]:
        return [_selected(ds, gone)]
    return [
        Problem(
            kind=f"missing-{kind}",
            where=kind,
            message=f"no one-dimensional {kind} was found, by standard_name, units or name",
            remedy=f'ds["NAME"].attrs["standard_name"] = "{kind}"  # NAME: what it is called',
        )
        for kind, name in (("latitude", lat), ("longitude", lon))
        if name is None
    ]


def _selected(ds: xr.Dataset, gone: list[str]) -> Problem:
    """Say that coordinates have lost their dimensions, as a selection of one of them does."""
    values = " and ".join(f"{name}={float(magnitudes(ds.variables[name])):g}" for name in gone)
    several = len(gone) > 1
    remedy = f"ds = ds.expand_dims({gone if several else gone[0]!r})"
    if several:
        remedy = (
            f'ds = ds.reset_coords({gone}).expand_dims("station").set_coords({gone})  # a station; '
            f"a cell of a grid: {remedy}; isel(station=[0]), with a list, keeps the dimension"
        )
    return Problem(
        kind="missing-dimension",
        where=", ".join(gone),
        message=f"{values} {'are single values' if several else 'is a single value'}, and run"
        f"{'' if several else 's'} along no dimension: one of them was selected",
        remedy=remedy,
    )


def _curvilinear(ds: xr.Dataset, lat: str, lon: str) -> Problem:
    dims = ", ".join(map(str, ds[lat].dims))
    return Problem(
        kind="curvilinear-grid",
        where=f"{lat}, {lon}",
        message=(
            f"latitude and longitude are two-dimensional ({dims}): a curvilinear or projected "
            "grid; one latitude a row and one longitude a column are needed"
        ),
        remedy=(
            f'ds = xesmf.Regridder(ds.rename({lat}="lat", {lon}="lon"), target, "bilinear")(ds)'
            "  # target: a Dataset with 1-D lat and lon, such as those of model.spec.grid"
        ),
    )


def _unstructured(lat: str, lon: str, dim: str) -> Problem:
    return Problem(
        kind="unstructured-grid",
        where=f"{lat}, {lon}",
        message=f"both run along {dim!r}: a list of points or a reduced grid, not rows and columns",
        remedy=(
            "interpolate to a regular grid first, "
            "e.g. `cdo setgridtype,regular in.grib out.grib` for a reduced Gaussian grid"
        ),
    )
