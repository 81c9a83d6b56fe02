"""The sums of a forecast beside its truth, which scores are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields import find_coordinates
from xwx.metrics.metric import Metric, Subject
from xwx.metrics.names import MNRMSE, to_text
from xwx.metrics.pairs import Gaps, Pairing, sum_pairs
from xwx.metrics.regions import region_weights
from xwx.metrics.single import NRMSE
from xwx.metrics.sums import Recipe
from xwx.tasks.further import Further
from xwx.tasks.sides import Forecast, Truth
from xwx.tasks.timeline import valid_index

__all__ = ["Scoring"]


@dataclass(frozen=True, eq=False)
class Scoring:
    """How forecasts are scored.

    Attributes
    ----------
    metrics : tuple of Metric or str
    averaged : tuple of str
        Dimensions that are averaged over.
    weights : {"area", "cos"}
    regions : object
        As the user gave them.
    skipna : bool
    """

    metrics: tuple[Metric | str, ...]
    averaged: tuple[str, ...]
    weights: Literal["area", "cos"]
    regions: Any
    skipna: bool

    def sums(
        self, forecast: Forecast, truth: Truth, further: Further, other: Forecast | None = None
    ) -> xr.Dataset:
        """Sum the statistics of all cases; see :func:`xwx.metrics.combine` for the form.

        Points that `other`, a forecast of the same cases, does not have are left out with those
        of the forecast.
        """
        positions = valid_index(truth.times, forecast.timeline.valid)
        start, lead = forecast.dims
        maps = not set(forecast.axes) <= set(self.averaged)
        over_starts = maps and start in self.averaged
        area = region_weights(self.regions, forecast.horizontal, self.weights)
        out = {}
        for name in forecast.names:
            array = forecast.timeline.ds[name]
            gaps = []
            if other is not None and self.skipna:
                held = other.timeline.ds[name]
                gaps.append(Gaps(held, forecast.dims, other.member_dim))
            recipe = self._recipe(
                forecast, name, (*further.names, *("gaps" for _ in gaps)), further
            )
            summed = sum_pairs(
                recipe,
                array,
                forecast.dims,
                Pairing(truth.fields[name], truth.dim, positions),
                area,
                [*further.pairings(name, forecast.timeline.valid), *gaps],
                over_starts=over_starts,
            )
            level = _level_of(forecast.timeline.ds, name)
            out[name] = summed.assign_attrs(
                _kept(array.attrs) | ({"level_dim": level} if level else {})
            )
        scored = xr.DataArray(positions >= 0, dims=(start, lead)).astype(int)
        clock = xr.DataArray(forecast.timeline.valid, dims=(start, lead))
        coords = {"scored": scored.sum(start) if over_starts else scored}
        if not over_starts:
            coords["valid_time"] = clock
        ds = xr.Dataset(out).assign_coords(coords)
        axes = {
            str(d): forecast.timeline.ds[d] for d in ds.dims if d in forecast.timeline.ds.coords
        }
        return ds.assign_coords(axes).assign_attrs(self._attrs(forecast))

    def _recipe(
        self, forecast: Forecast, name: str, names: tuple[str, ...], further: Further
    ) -> Recipe:
        units = str(forecast.timeline.ds[name].attrs["units"])
        subject = Subject(name, units, forecast.members)
        metrics = [NRMSE() if m == MNRMSE else m for m in self.metrics]
        statistics = [s for m in metrics if isinstance(m, Metric) for s in m.statistics(subject)]
        return Recipe(
            statistics=tuple(statistics),
            member_dim=forecast.member_dim,
            horizontal=forecast.axes,
            averaged=tuple(d for d in forecast.axes if d in self.averaged),
            skipna=self.skipna,
            further=names,
            constants=further.constants,
        )

    def _attrs(self, forecast: Forecast) -> dict[str, Any]:
        t, h = forecast.timeline, forecast.horizontal
        single = [] if t.leads else [t.lead_dim]
        single += [] if t.several else [t.start_dim]
        return {
            "start_dim": t.start_dim,
            "lead_dim": t.lead_dim,
            "single": " ".join(single + ([] if self.regions is not None else ["region"])),
            "members": forecast.members,
            "metrics": to_text(self.metrics),
            "averaged": " ".join(self.averaged),
            "weights": self.weights,
            "even": int(h.bounds is not None or _even(h.latitude)),
            "extent": [float(v) for v in (h.row_edges.min(), h.row_edges.max(),
                       h.column_edges.min(), h.column_edges.max())],
        }  # fmt: skip


def _kept(attrs: Any) -> dict[str, Any]:
    return {k: attrs[k] for k in ("units", "standard_name", "long_name") if k in attrs}


def _even(latitude: NDArray[np.float64]) -> bool:
    """Whether rows are equally spaced, so that a part of them has the cells of the whole."""
    steps = np.abs(np.diff(latitude))
    return bool(steps.size == 0 or np.ptp(steps) < 1e-4 * steps.max())


def _level_of(ds: xr.Dataset, name: str) -> str | None:
    vertical = find_coordinates(ds).vertical
    if vertical is None or ds[vertical].ndim == 0:
        return None
    dim = str(ds[vertical].dims[0])
    return dim if dim in ds[name].dims else None
