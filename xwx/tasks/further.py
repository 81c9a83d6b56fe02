"""What scores need beside forecast and truth: climatologies, in the forecast's presentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import conform, dequantify, find_coordinates
from xwx.metrics.almanac import at_valid_times, check_apart, check_days
from xwx.metrics.metric import Metric
from xwx.metrics.pairs import Pairing

__all__ = ["Further", "check_climatology", "presented"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Further:
    """Further inputs of the scores.

    Attributes
    ----------
    names : tuple of str
        As the statistics call them.
    datasets : mapping of str -> Dataset
        Each with the forecast's variables, and days of the year or none.
    constants : mapping of str -> array
    """

    names: tuple[str, ...] = ()
    datasets: Mapping[str, xr.Dataset] = field(default_factory=dict)
    constants: Mapping[str, Floats] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        climatology: xr.Dataset | None,
        metrics: tuple[Metric | str, ...],
        like: xr.Dataset,
    ) -> Further:
        """Find what the scores need in a climatology.

        Parameters
        ----------
        climatology : Dataset or None
        metrics : tuple of Metric or str
        like : Dataset
            The forecast's variables.

        Raises
        ------
        ValueError
            When a score needs a climatology and there is none.
        MismatchError
            When it lacks something.
        """
        needs = frozenset().union(*(m.needs for m in metrics if isinstance(m, Metric)))
        if not needs:
            return cls()
        if climatology is None:
            raise ValueError(_none(metrics))
        clim = dequantify(climatology)
        found: dict[str, xr.Dataset] = {}
        constants: dict[str, Floats] = {}
        if "climatology" in needs:
            found["climatology"] = _presented(clim, "", like)
        if "quantiles" in needs:
            suffix = "_quantile" if any(f"{n}_quantile" in clim for n in like.data_vars) else ""
            found["quantiles"] = _presented(clim, suffix, like)
            if "quantile" not in found["quantiles"].dims:
                raise MismatchError([_no_quantiles()], what="the climatology")
            constants["quantile"] = clim["quantile"].values.astype(np.float64)
        if "seeps" in needs:
            found["dry_fraction"] = _fractions(clim, like)
            found["threshold"] = _presented(clim, "_seeps_threshold", like)
        kept = {name: _without_extra(ds, like) for name, ds in found.items()}
        return cls(tuple(kept), kept, constants)

    def pairings(self, name: str, valid: NDArray[Any]) -> list[Pairing]:
        """Return the inputs of a variable at valid times, shape (starts, leads)."""
        times, inverse = np.unique(valid, return_inverse=True)
        return [
            Pairing(_cases(self.datasets[n], name, times), "case", inverse.reshape(valid.shape))
            for n in self.names
        ]


def _without_extra(clim: xr.Dataset, like: xr.Dataset) -> xr.Dataset:
    """Refuse dimensions that are neither the forecast's nor a climatology's."""
    known = {*like.dims, "dayofyear", "month", "hour", "quantile"}
    time = find_coordinates(clim).time  # an archive is no climatology, and is told so later
    known |= set() if time is None else set(clim[time].dims)
    extra = [str(dim) for dim in clim.dims if dim not in known]
    wide = [dim for dim in extra if clim.sizes[dim] > 1]
    if wide:
        raise MismatchError([_extra(clim, dim) for dim in wide], what="the climatology")
    return clim.isel(dict.fromkeys(extra, 0), drop=True)


def _extra(clim: xr.Dataset, dim: str) -> Problem:
    return Problem(
        kind="extra-dimension",
        where=dim,
        message=(
            f"it has {clim.sizes[dim]} values along {dim!r}; a climatology runs along dayofyear "
            "or month, and hour, or is one field"
        ),
        remedy=(
            f'clim = xwx.metrics.climatology(reanalysis)  # or clim.isel(...), clim.mean("{dim}")'
        ),
    )


def _cases(ds: xr.Dataset, name: str, times: NDArray[Any]) -> xr.DataArray:
    array = at_valid_times(ds[[name]], times)[name]
    return array if "case" in array.dims else array.expand_dims(case=times.size)


def _presented(clim: xr.Dataset, suffix: str, like: xr.Dataset) -> xr.Dataset:
    """Return the variables ``{name}{suffix}`` of a climatology as the forecast presents `name`."""
    return presented(_suffixed(clim, suffix), like, "the climatology")


def _suffixed(clim: xr.Dataset, suffix: str) -> xr.Dataset:
    if not suffix:
        return clim
    chosen = {k: k.removesuffix(suffix) for k in map(str, clim.data_vars) if k.endswith(suffix)}
    if not chosen:
        raise MismatchError([_no_statistic(suffix)], what="the climatology")
    return clim[list(chosen)].rename(chosen)


def _no_statistic(suffix: str) -> Problem:
    return Problem(
        kind="missing-statistic",
        where=f"*{suffix}",
        message=f"no variable of the climatology ends in {suffix!r}, as SEEPS needs",
        remedy=(
            'xwx.metrics.climatology(reanalysis, statistics=("mean", "seeps"), window=61)'
            "  # or xwx.metrics.seeps_climatology(reanalysis)"
        ),
    )


def _fractions(clim: xr.Dataset, like: xr.Dataset) -> xr.Dataset:
    """Return the fractions of dry weather: pure numbers, found by the names of their variables."""
    bare = _suffixed(clim, "_seeps_dry_fraction")
    found = {}
    for name in map(str, like.data_vars):
        units = str(like[name].attrs["units"])  # so that nothing is converted
        labelled = bare.assign({k: v.assign_attrs(units=units) for k, v in bare.data_vars.items()})
        found[name] = presented(labelled, like, "the climatology", only=[name])[name]
    return xr.Dataset(found)


def presented(
    ds: xr.Dataset, like: xr.Dataset, role: str, only: Sequence[str] | None = None
) -> xr.Dataset:
    """Present a Dataset as the forecast is presented; errors say which Dataset they are of."""
    try:
        return conform(ds, like, what="the forecast", only=only)
    except MismatchError as error:
        raise MismatchError(error.problems, what=f"the forecast, as {role}") from error


def check_climatology(
    climatology: xr.Dataset | None, valid: NDArray[Any], *, overlap: bool
) -> None:
    """Refuse a climatology that says it was made of the scored times, unless told."""
    if climatology is None:
        return
    check_days(climatology, valid.ravel())
    if not overlap:
        check_apart(climatology, valid.ravel())


def _none(metrics: tuple[Metric | str, ...]) -> str:
    labels = [m.label for m in metrics if isinstance(m, Metric) and m.needs]
    return (
        f"metrics: {', '.join(labels)} need{'s' * (len(labels) == 1)} climatology=...: a Dataset "
        "of the variables by day of the year and hour, such as "
        'xwx.metrics.climatology(reanalysis, period=("1990", "2019"))'
    )


def _no_quantiles() -> Problem:
    return Problem(
        kind="missing-quantiles",
        where="quantile",
        message="it has no dimension 'quantile', which the extreme forecast index needs",
        remedy=(
            'xwx.metrics.climatology(reanalysis, statistics=("mean", "quantile"), '
            "quantiles=np.arange(0.01, 1, 0.01), window=15)"
        ),
    )
