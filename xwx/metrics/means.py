"""Means of statistics: their sums over the sum of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["Facts", "Means"]


@dataclass(frozen=True)
class Facts:
    """What sums say of themselves beside their numbers.

    Attributes
    ----------
    members : int
    levels : mapping of str -> str
        The dimension of levels of each variable that has one.
    """

    members: int
    levels: Mapping[str, str]

    @classmethod
    def of(cls, sums: xr.Dataset) -> Facts:
        """Read them off the attributes."""
        levels = {str(k): str(v.attrs["level_dim"]) for k, v in sums.data_vars.items()
                  if "level_dim" in v.attrs}  # fmt: skip
        return cls(int(sums.attrs["members"]), levels)


class Means:
    """The means of the statistics of one variable, by key.

    Parameters
    ----------
    sums : DataArray
        Sums along ``statistic``, with the coordinate ``per`` (the statistic that holds their
        weight), and whatever else was not summed over.
    name : str
        Of the variable.
    level : str or None
        Its dimension of levels.
    members : int
    """

    def __init__(self, sums: xr.DataArray, name: str, level: str | None, members: int) -> None:
        self._sums, self.name, self._level, self.members = sums, name, level, members

    def __getitem__(self, key: str) -> xr.DataArray:
        return _mean(self._sums, key)

    def pooled(self, key: str) -> xr.DataArray:
        """Return the mean over all times, lead times and groups, for each level and region."""
        kept = {"statistic", "region", "resample", self._level}
        return _mean(self._sums.sum([d for d in self._sums.dims if d not in kept]), key)

    def per_level(self, scale: Mapping[str, Any]) -> xr.DataArray | float:
        """Return the number, or one for each level, that a user gave for the variable."""
        if self.name not in scale:
            raise ValueError(f"scale: there is none for {self.name!r}, only for {list(scale)}")
        values = np.asarray(scale[self.name], dtype=np.float64)
        count = 1 if self._level is None else self._sums.sizes[self._level]
        if values.ndim == 0:
            return float(values)
        if self._level is None or values.shape != (count,):
            raise ValueError(
                f"scale: {self.name!r} has {count} levels, and {values.size} numbers were given"
            )
        return xr.DataArray(values, dims=self._level)


def _mean(sums: xr.DataArray, key: str) -> xr.DataArray:
    chosen = sums.sel(statistic=key)
    weight = sums.sel(statistic=str(chosen["per"].item()))
    bare = [c.reset_coords(["statistic", "per"], drop=True) for c in (chosen, weight)]
    return bare[0] / bare[1].where(bare[1] > 0)
