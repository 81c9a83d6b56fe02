"""Sums of statistics over points, for every case: one pass over the data for all scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.metrics.arrays.case import Case
from xwx.metrics.blocks import over_blocks
from xwx.metrics.statistics import CASES, WEIGHT, FieldStatistic, Statistic

__all__ = ["Recipe", "sum_cases"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """What is summed, and over what.

    Attributes
    ----------
    statistics : tuple of Statistic or FieldStatistic
    member_dim : str or None
    horizontal : (str, str)
        Dimensions of latitude and longitude.
    averaged : tuple of str
        Which of these are summed over.
    skipna : bool
        Whether points without a value do not count; otherwise they make the sum NaN.
    further : tuple of str
        Names of further inputs, in the order they are given.
    constants : mapping of str -> array
        Further inputs that are the same at all points.
    """

    statistics: tuple[Statistic | FieldStatistic, ...]
    member_dim: str | None
    horizontal: tuple[str, str]
    averaged: tuple[str, ...]
    skipna: bool
    further: tuple[str, ...] = ()
    constants: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The statistics that come out, the weights first."""
        keys = dict.fromkeys((WEIGHT, CASES))
        for s in self.statistics:
            keys.update(dict.fromkeys(s.keys if isinstance(s, FieldStatistic) else (s.key,)))
        return tuple(keys)

    @property
    def per(self) -> tuple[str, ...]:
        """The weight of each of the keys."""
        fields = {k for s in self.statistics if isinstance(s, FieldStatistic) for k in s.keys}
        return tuple(CASES if key in fields or key == CASES else WEIGHT for key in self.keys)

    @property
    def summary(self) -> frozenset[str]:
        """The sums over members that are needed."""
        return frozenset().union(*(s.summary for s in self.statistics))


def sum_cases(
    recipe: Recipe,
    forecast: xr.DataArray,
    truth: xr.DataArray,
    weights: xr.DataArray,
    scored: xr.DataArray,
    further: Sequence[xr.DataArray] = (),
) -> xr.DataArray:
    """Sum the statistics of every case over the points.

    Parameters
    ----------
    recipe : Recipe
    forecast : DataArray
        Any dimensions, those of `recipe.horizontal` and `recipe.member_dim` among them.
    truth : DataArray
        The forecast's dimensions without the members.
    weights : DataArray, (region, latitude, longitude)
    scored : DataArray of bool
        Which cases have a truth: the others sum to nothing, weight included.
    further : sequence of DataArray
        Further inputs, with the horizontal dimensions last but for one of their own.

    Returns
    -------
    DataArray
        Float64, with the dimensions ``statistic`` and ``region``, those of `recipe.horizontal`
        that are not averaged, and all further ones of the forecast but the members.
    """
    core = list(recipe.horizontal)
    members = [] if recipe.member_dim is None else [recipe.member_dim]
    sizes = {dim: forecast.sizes[dim] for dim in core if dim not in recipe.averaged}
    inputs = [(forecast, members + core), (truth, core), (scored, [])]
    inputs += [(f, [d for d in f.dims if d == "quantile"] + core) for f in further]
    result = over_blocks(
        _Block(recipe, weights.values),
        inputs,
        [str(dim) for dim in forecast.dims if dim not in members + core],
        {"statistic": len(recipe.keys), "region": weights.sizes["region"], **sizes},
    )
    coords = {
        "statistic": list(recipe.keys),
        "per": ("statistic", list(recipe.per)),
        "region": weights["region"].values,
    }
    summed: xr.DataArray = result.assign_coords(coords)
    return summed


class _Block:
    """The cases of one block of the arrays."""

    def __init__(self, recipe: Recipe, weights: Floats) -> None:
        self.recipe, self.weights = recipe, weights

    def __call__(self, *arrays: NDArray[Any]) -> Floats:
        ranks = self._ranks()
        pairs = list(zip(arrays, ranks, strict=True))
        loops = np.broadcast_shapes(*(a.shape[: a.ndim - rank] for a, rank in pairs))
        wide = [np.broadcast_to(a, loops + a.shape[a.ndim - rank :]) for a, rank in pairs]
        rows = len(self.recipe.keys), len(self.weights)
        out = np.zeros((*loops, *rows, *self._kept(self.weights.shape[1:])))
        for at in np.ndindex(*loops):
            forecast, truth, scored, *further = (w[at] for w in wide)
            if scored:
                out[at] = self._case(forecast, truth, further).reshape(out.shape[len(loops) :])
        return out

    def _ranks(self) -> list[int]:
        ranks = [2 + (self.recipe.member_dim is not None), 2, 0]
        return ranks + [2 + (name == "quantiles") for name in self.recipe.further]

    def _kept(self, sizes: Sequence[int]) -> tuple[int, ...]:
        pairs = zip(self.recipe.horizontal, sizes, strict=True)
        return tuple(size for dim, size in pairs if dim not in self.recipe.averaged)

    def _case(
        self,
        forecast: NDArray[Any],
        truth: NDArray[Any],
        further: Sequence[NDArray[Any]],
    ) -> Floats:
        """Return the sums, (statistic, region, and the points that are kept)."""
        flat = [a.reshape(*a.shape[:-2], -1) for a in (forecast, truth, *further)]
        area = self.weights.reshape(len(self.weights), -1)
        if self.recipe.skipna:
            flat, area = _without_gaps(flat, area)
        known = {**dict(zip(self.recipe.further, flat[2:], strict=True)), **self.recipe.constants}
        case = Case(flat[0], flat[1], known, self.recipe.summary)
        grid = truth.shape
        rows: dict[str, Floats] = {
            WEIGHT: self._over_points(np.ones((1, area.shape[1])), area, grid)[0],
            CASES: self._over_points(np.ones((1, area.shape[1])), area, grid)[0] > 0,
        }
        points = [s for s in self.recipe.statistics if isinstance(s, Statistic)]
        unique = {s.key: s for s in points}
        if unique:
            values = np.stack([s.of(case) for s in unique.values()])
            rows.update(zip(unique, self._over_points(values, area, grid), strict=True))
        for s in self.recipe.statistics:
            if isinstance(s, FieldStatistic) and s.keys[0] not in rows:
                columns = np.stack([_of_region(s, case, region) for region in area], axis=1)
                rows.update(zip(s.keys, columns, strict=True))
        return np.stack([rows[key] for key in self.recipe.keys])

    def _over_points(self, values: Floats, area: Floats, grid: tuple[int, ...]) -> Floats:
        """Sum (statistic, point) with the weights to (statistic, region, kept points)."""
        if len(self.recipe.averaged) == 2:
            return _weighted(values, area)
        axes = [n for n, dim in enumerate(self.recipe.horizontal) if dim in self.recipe.averaged]
        product = np.where(area == 0, 0.0, values[:, None] * area)
        whole = product.reshape(*product.shape[:2], *grid)
        summed = whole.sum(axis=tuple(2 + axis for axis in axes)) if axes else whole
        return summed.reshape(*product.shape[:2], -1)


def _of_region(s: FieldStatistic, case: Case, region: Floats) -> Floats:
    return s.of(case, region) if region.any() else np.zeros(len(s.keys))


def _weighted(values: Floats, area: Floats) -> Floats:
    """Return ``values @ area.T``; a gap counts in the regions that it lies in, and in no other."""
    gaps = np.isnan(values)
    if not gaps.any():
        return np.asarray(values @ area.T)
    sums = np.where(gaps, 0.0, values) @ area.T
    sums[(gaps.astype(np.float64) @ (area > 0).T) > 0] = np.nan
    return np.asarray(sums)


def _without_gaps(flat: Sequence[NDArray[Any]], area: Floats) -> tuple[list[NDArray[Any]], Floats]:
    """Take the points that have every value; the others get zeros and no weight."""
    gap = np.zeros(flat[1].shape, dtype=bool)
    for values in flat:
        gap |= np.isnan(values).reshape(-1, gap.size).any(axis=0)
    if not gap.any():
        return list(flat), area
    return [np.where(gap, values.dtype.type(0), values) for values in flat], np.where(gap, 0, area)
