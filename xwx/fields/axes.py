"""Rows and columns: what is wrong where a Dataset has none."""

from __future__ import annotations

import xarray as xr

from xwx.errors import Problem
from xwx.fields.coordinates import Coordinates, curvilinear

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
        return [_curvilinear(ds, *wide)] if wide else _missing_axes(lat, lon)
    if ds[lat].dims == ds[lon].dims:
        return [_unstructured(lat, lon, str(ds[lat].dims[0]))]
    return []


def _missing_axes(lat: str | None, lon: str | None) -> list[Problem]:
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
