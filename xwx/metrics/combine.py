"""Sums of several parts together: over times, regions of the globe, and machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.metrics.finish import Finish, finish
from xwx.metrics.names import from_text
from xwx.metrics.resample import Resampling

__all__ = ["combine"]

_SAME = ("start_dim", "lead_dim", "members", "metrics", "weights")


def combine(
    parts: xr.Dataset | Sequence[xr.Dataset],
    *,
    regions: Mapping[str, Sequence[str]] | None = None,
    by: Literal["season", "month", "year", "hour"] | None = None,
    confidence: float | None = None,
    block: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    convention: Literal["wb2", "wb1"] = "wb2",
    statistics: bool = False,
) -> xr.Dataset:
    """Make scores of the sums of several parts, as if they had been scored together.

    Parameters
    ----------
    parts : Dataset or sequence of Dataset
        As ``ds.wx.verify(..., statistics=True)`` returns them, computed or lazy, or read from
        files: of different starts, of different leads, or of different parts of the globe.
        Cells at the edge of a part end where its CF bounds of latitude say; without bounds half a
        spacing outside, which is where the whole grid cuts them if its spacing is even. Parts of
        other grids, such as Gaussian ones, need bounds, and so does a single row.
    regions : mapping of str -> sequence of str, optional
        New regions, each made of regions that share no area.
    by, confidence, block, resamples, seed, convention
        As for :func:`xwx.tasks.verify.verify`.
    statistics : bool
        Return the sums of all parts, to be combined again.

    Returns
    -------
    Dataset
        Scores, or sums.

    Raises
    ------
    MismatchError
        Where parts do not fit, or one case would count twice.
    """
    listed = [parts] if isinstance(parts, xr.Dataset) else list(parts)
    if not listed or not all(isinstance(p, xr.Dataset) and "metrics" in p.attrs for p in listed):
        raise TypeError("parts: give Datasets that ds.wx.verify(..., statistics=True) returned")
    _check_alike(listed)
    sums = _together([_with_known_coordinates(p) for p in listed])
    if regions is not None:
        sums = _regions(sums, regions)
    if statistics:
        return sums
    resampling = None
    if confidence is not None:
        resampling = Resampling(confidence, block, resamples, seed)
    metrics = from_text(str(sums.attrs["metrics"]))
    over_starts = _averaged_over_starts(sums)
    return finish(sums, Finish(metrics, by, over_starts, convention, resampling))


def _averaged_over_starts(sums: xr.Dataset) -> bool:
    """Whether scores of these sums are averaged over the starts."""
    averaged = str(sums.attrs.get("averaged", sums.attrs["start_dim"]))
    return str(sums.attrs["start_dim"]) in averaged.split()


def _with_known_coordinates(part: xr.Dataset) -> xr.Dataset:
    """Read the coordinates, which are small; the sums stay lazy."""
    return part.assign_coords({k: c.compute() for k, c in part.coords.items() if c.chunks})


def _check_alike(parts: Sequence[xr.Dataset]) -> None:
    first = _form(parts[0])
    for number, part in enumerate(parts[1:], 1):
        other = _form(part)
        wrong = [k for k in first | other if first.get(k) != other.get(k)]
        if wrong:
            raise _refusal(
                f"part {number}",
                "; ".join(f"its {k}: {other.get(k)}, of part 0: {first.get(k)}" for k in wrong),
                "verify all parts with the same arguments, variables, units and levels",
            )


def _form(part: xr.Dataset) -> dict[str, str]:
    """Return what all parts must have alike."""
    own = {str(part.attrs.get(key)) for key in ("start_dim", "lead_dim")} | {"region"}
    out = {key: str(part.attrs.get(key)) for key in _SAME}
    out["variables"] = ", ".join(sorted(map(str, part.data_vars)))
    for name, sums in part.data_vars.items():
        out[f"units of {name}"] = str(sums.attrs.get("units"))
        levels = [str(d) for d in sums.dims if str(d) == sums.attrs.get("level_dim")]
        out |= {f"{d} of {name}": str(sums[d].values) for d in levels if d in sums.coords}
        out[f"dimensions of {name}"] = ", ".join(sorted({*map(str, sums.dims), *own}))
    return out


def _refusal(where: str, message: str, remedy: str) -> MismatchError:
    return MismatchError([Problem("unlike-parts", where, message, remedy)], what="the other parts")


def _together(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Add parts of the same cases, then put those of different cases side by side."""
    start, lead = (str(parts[0].attrs[key]) for key in ("start_dim", "lead_dim"))
    if len(parts) > 1 and any(start not in part.dims for part in parts):
        raise _refusal(
            "parts",
            f"the sums of maps are over all {start!r}s, and do not say any more which these were",
            f"verify with dim=... that keeps {start!r}, or all starts at once",
        )
    added = [_added(group) for group in _alike(parts, (start, lead, "region"))]
    for dim in ("region", lead, start):
        added = _concatenated(added, dim, [d for d in ("region", lead, start) if d != dim])
    if len(added) > 1:
        raise _refusal(
            "parts",
            "they make no whole: some starts, leads or regions are missing, or there twice",
            "give every part once; look at part.coords",
        )
    return added[0]


def _added(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Add the sums of different parts of the globe."""
    if len(parts) == 1:
        return parts[0]
    extents = [tuple(map(float, np.atleast_1d(p.attrs["extent"]))) for p in parts]
    for n, one in enumerate(extents):
        for other in extents[n + 1 :]:
            if _overlap(one, other):
                raise _refusal(
                    "parts",
                    "the same cases are there twice, over areas that overlap: "
                    f"{_area(one)} and {_area(other)}",
                    "give every part once",
                )
    _check_parts(parts, extents)
    out = parts[0]
    for part in parts[1:]:
        out = (out + part.drop_vars("scored")).assign_attrs(out.attrs)
    cases = {"statistic": "cases"}
    for name, held in parts[0].data_vars.items():  # a case that is in every part is one case
        largest = held.sel(cases)
        for part in parts[1:]:
            largest = largest.where(largest >= part[name].sel(cases), part[name].sel(cases))
        whole = out[name].where(out["statistic"] != "cases", largest)
        out[name] = whole.transpose(*held.dims).assign_attrs(held.attrs)
    low, high = np.min(extents, axis=0), np.max(extents, axis=0)
    return out.assign_attrs(extent=[low[0], high[1], low[2], high[3]])


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes (south, north, west, east) share an area; longitudes are periodic."""
    slack = 1e-6
    rows = min(one[1], other[1]) - max(one[0], other[0]) > slack
    turns = (-720.0, -360.0, 0.0, 360.0, 720.0)
    columns = any(min(one[3], other[3] + t) - max(one[2], other[2] + t) > slack for t in turns)
    return rows and columns


def _area(extent: Sequence[float]) -> str:
    south, north, west, east = extent
    return f"{south:g} to {north:g} degrees north, {west:g} to {east:g} east"


def _check_parts(parts: Sequence[xr.Dataset], extents: Sequence[Sequence[float]]) -> None:
    """Refuse parts of the globe whose sums do not add up to those of the whole."""
    _check_additive(parts[0], "parts of the globe")
    if any(not part.attrs.get("even", 1) for part in parts):
        raise _refusal(
            "parts",
            "their rows are not equally spaced: the cells at a cut are not those of the whole grid",
            "give the latitude CF bounds before the grid is cut",
        )
    for part, extent in zip(parts, extents, strict=True):
        if extent[0] == extent[1] or extent[2] == extent[3]:
            raise _refusal(
                "parts",
                f"one is a single row or column ({_area(extent)}), whose area is not known",
                "give its latitude CF bounds, or cut parts of two rows and columns or more",
            )
        if not np.array_equal(part["scored"].values, parts[0]["scored"].values):
            raise _refusal(
                "scored",
                "some cases have a truth in one part of the globe, and none in another",
                "verify all parts with the same truth times",
            )
        if part.sizes != parts[0].sizes or not all(
            part.indexes[d].equals(parts[0].indexes[d]) for d in part.indexes
        ):
            raise _refusal(
                "parts",
                f"they keep different points: {dict(parts[0].sizes)} and {dict(part.sizes)}",
                "make scores of maps part by part, then put these side by side: xr.concat",
            )


def _check_additive(part: xr.Dataset, what: str) -> None:
    """Refuse to add what is no sum over points."""
    first = part[next(iter(part.data_vars))]
    whole = [str(k) for k, per in zip(first["statistic"].values, first["per"].values, strict=True)
             if per == "cases" and k != "cases"]  # fmt: skip
    if whole:
        raise _refusal(
            "parts",
            f"{', '.join(whole)} are of a whole field or region: those of {what} do not add up",
            "verify the whole at once for these metrics",
        )


def _concatenated(parts: Sequence[xr.Dataset], dim: str, others: Sequence[str]) -> list[xr.Dataset]:
    """Put parts side by side that differ along one dimension alone."""
    out = []
    for group in _alike(parts, others):
        if len(group) == 1 or dim not in group[0].dims:
            out += group
            continue
        labels = np.concatenate([np.atleast_1d(p[dim].values) for p in group])
        if np.unique(labels).size < labels.size:
            values, counts = np.unique(labels, return_counts=True)
            raise _refusal(
                dim,
                f"{values[counts > 1][0]} is in more than one part, and would count twice",
                "give every start, lead and region once",
            )
        extents = [np.round(p.attrs["extent"], 6).tolist() for p in group]
        if any(extent != extents[0] for extent in extents):
            raise _refusal(
                dim,
                f"some are of {_area(extents[0])}, and others are not",
                "give all parts of the globe for every start and lead",
            )
        whole = _side_by_side(group, dim)
        single = set.intersection(*(set(str(p.attrs["single"]).split()) for p in group)) - {dim}
        whole = whole.sortby(dim) if dim != "region" else whole
        out.append(whole.assign_attrs(single=" ".join(sorted(single))))
    return out


def _alike(parts: Sequence[xr.Dataset], dims: Sequence[str]) -> list[list[xr.Dataset]]:
    """Sort parts into groups of the same labels along some dimensions."""
    groups: dict[Any, list[xr.Dataset]] = {}
    for part in parts:
        key = tuple(tuple(part[d].values.tolist()) if d in part.dims else () for d in dims)
        groups.setdefault(key, []).append(part)
    return list(groups.values())


def _side_by_side(parts: Sequence[xr.Dataset], dim: str) -> xr.Dataset:
    return xr.concat(
        parts,
        dim,
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )


def _regions(sums: xr.Dataset, regions: Mapping[str, Sequence[str]]) -> xr.Dataset:
    """Add regions to new ones, which follow the others."""
    known = list(map(str, sums["region"].values))
    _check_additive(sums, "regions")
    new = []
    for name, members in regions.items():
        if name in known or isinstance(members, str):
            raise ValueError(
                f"regions={{{name!r}: {members!r}}}: give a new name, and a list of names among "
                f"{', '.join(known)}"
            )
        if missing := [m for m in members if m not in known]:
            raise ValueError(f"regions: {missing} are not among those scored: {', '.join(known)}")
        chosen = sums.sel(region=list(members))
        added = chosen.map(lambda s: _sum_regions(s).assign_attrs(s.attrs))
        new.append(added.expand_dims(region=[name]).assign_attrs(sums.attrs))
    parts = [sums, *(part.transpose(*sums.dims) for part in new)]
    out = _side_by_side(parts, "region")
    single = " ".join(d for d in str(sums.attrs["single"]).split() if d != "region")
    return out.assign_attrs(single=single)


def _sum_regions(s: xr.DataArray) -> xr.DataArray:
    total: xr.DataArray = s.sum("region", skipna=False)
    return total.where(s["statistic"] != "cases", s.max("region"))
