"""Optimal interpolation: the best linear estimate from a mean and a covariance that were learned.

    x = m + B A' (A B A' + R)^-1 (y - A m)

Two covariances of a field, and any mixture of them. The *isotropic* one is s(i) s(j) c(d): the
learned standard deviation of each latitude, and a Matern correlation of the chord, which is one on
the sphere too. Its length is fitted by least squares to the correlations of learned anomalies by
distance, up to 60 degrees; its smoothness is chosen. The *empirical* one is the sample covariance
of the learned states, which has as many EOFs as there are states; a taper (G. Gaspari and
S. E. Cohn, 1999, Q. J. R. Meteorol. Soc. 125, eq. 4.10) between points and the centres of what is
observed takes off what it claims over long distances. Both are about the learned mean of the hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
import xarray as xr
from common import FINE, TIME, Floats, Weeks, area_mean
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import curve_fit
from scipy.sparse import csr_array, kron
from scipy.special import gamma, kv

from xwx.spec import Grid

RADIUS = 6371.0
COLUMNS = FINE.shape[1]
#: What may be chosen: smoothness of the isotropic correlation, share of the empirical covariance,
#: half the distance [km] at which that ends, and the error of observations over the field's
#: standard deviation.
SMOOTH = (0.75, 1.0, 1.5, 2.5)
SHARES = (0.25, 0.5, 0.8, 0.95)
TAPERS = (2500.0, 5000.0, 10000.0)
NUGGETS = (0.01, 0.03)


@dataclass(frozen=True, eq=False)
class Observed:
    """What is seen of a field.

    Attributes
    ----------
    operator : sparse array, shape (observations, points)
    centres : array, shape (observations, 3)
        Directions of what is seen, on the unit sphere.
    period : int
        After so many columns of the grid the operator repeats itself, one cell further east;
        all of them where it does not.
    columns : int
        Cells in a row.
    """

    operator: csr_array
    centres: Floats
    period: int = COLUMNS
    columns: int = 1

    @classmethod
    def cells(cls, cells: Grid) -> Observed:
        """Return area means over cells: weights factor into those of rows and of columns."""
        operator = csr_array(kron(_along(cells, "latitude"), _along(cells, "longitude")))
        columns = cells.shape[1]
        return cls(operator, directions_of(cells), COLUMNS // columns, columns)

    @classmethod
    def points(cls, chosen: Floats) -> Observed:
        """Return points, by their numbers in the flat grid."""
        at = np.arange(len(chosen)), chosen
        operator = csr_array((np.ones(len(chosen)), at), shape=(len(chosen), np.prod(FINE.shape)))
        return cls(operator, directions_of(FINE)[chosen])


@dataclass(frozen=True)
class Setting:
    """What the week before chooses: see the constants above."""

    smooth: float
    nugget: float
    share: float = 0.0
    taper: float = 1.0

    def __str__(self) -> str:
        text = f"smoothness {self.smooth:g}, nugget {self.nugget:g}"
        return text + (f", share {self.share:g}, taper {self.taper:g} km" if self.share else "")


@dataclass(eq=False)
class Interpolation:
    """Optimal interpolation of a variable from what is seen of it.

    Attributes
    ----------
    weeks : Weeks
    name : str
        The variable.
    observed : Observed
    """

    weeks: Weeks
    name: str
    observed: Observed
    _parts: dict[tuple[str, float], tuple[Floats, Floats]] = field(default_factory=dict)

    def estimate(self, truth: xr.Dataset, setting: Setting) -> xr.Dataset:
        """Return the estimate at the times of the truth."""
        seen_by, matrix = self._covariances(setting)
        matrix[np.diag_indices_from(matrix)] += (setting.nugget * self.scale) ** 2
        mean = flat(self.weeks.climatology(truth)[self.name])
        misfit = self.observed.operator @ (flat(truth[self.name]) - mean).T
        found = mean + (seen_by @ cho_solve(cho_factor(matrix), misfit)).T
        data = found.reshape(truth[self.name].shape).astype(np.float32)
        return truth[[self.name]].copy(data={self.name: data})

    def chosen(self, *, empirical: bool) -> Setting:
        """Return the setting that is best in the week that chooses."""
        truth = self.weeks.choose[[self.name]]
        errors = {}
        for setting in self._settings(empirical):
            error = self.estimate(truth, setting)[self.name] - truth[self.name]
            errors[setting] = float(area_mean(error**2).mean())
        return min(errors, key=lambda setting: errors[setting])

    def _settings(self, empirical: bool) -> Iterator[Setting]:
        if not empirical:
            yield from (Setting(*both) for both in product(SMOOTH, NUGGETS))
            return
        base = self.chosen(empirical=False)
        for nugget, share, taper in product(NUGGETS, SHARES, TAPERS):
            yield Setting(base.smooth, nugget, share, taper)

    @cached_property
    def anomalies(self) -> Floats:
        """Learned states less the mean of the hour, as (times, points)."""
        learn = self.weeks.learn[[self.name]]
        return flat((learn - self.weeks.climatology(learn))[self.name])

    @cached_property
    def scale(self) -> float:
        """The learned standard deviation, over the globe."""
        area = np.cos(np.deg2rad(np.repeat(FINE.rows, COLUMNS))).clip(0)
        return float(np.sqrt(np.average((self.anomalies**2).mean(axis=0), weights=area)))

    @cached_property
    def deviation(self) -> Floats:
        """The learned standard deviation of the latitude of each point."""
        square = (self.anomalies**2).mean(axis=0).reshape(FINE.shape).mean(axis=1)
        found: Floats = np.sqrt(np.repeat(square, COLUMNS))
        return found

    def _covariances(self, setting: Setting) -> tuple[Floats, Floats]:
        """Return B A' (points, observations) and A B A'."""
        near, near_matrix = self._part(("isotropic", setting.smooth))
        if not setting.share:
            return near, near_matrix.copy()
        far, far_matrix = self._part(("empirical", setting.taper))
        one, two = 1 - setting.share, setting.share
        return one * near + two * far, one * near_matrix + two * far_matrix

    def _part(self, kind: tuple[str, float]) -> tuple[Floats, Floats]:
        if kind not in self._parts:
            make = self._isotropic if kind[0] == "isotropic" else self._empirical
            self._parts[kind] = make(kind[1])
        return self._parts[kind]

    def _isotropic(self, smooth: float) -> tuple[Floats, Floats]:
        """Return both products: one period of columns is computed, the others are turned."""
        operator, period = self.observed.operator, self.observed.period
        used = np.unique(operator.indices)
        part = operator[:, used]
        length = self._length(smooth)
        shape = (*FINE.shape, -1, self.observed.columns)
        out = np.empty((self.deviation.size, operator.shape[0])).reshape(shape)
        directions = directions_of(FINE)
        for row in range(FINE.shape[0]):
            first = row * COLUMNS + np.arange(period)
            correlation = _matern(chord(directions[first], directions[used]), smooth, length)
            covariance = correlation * self.deviation[first, None] * self.deviation[used]
            base = (part @ covariance.T).T.reshape(period, *shape[2:])
            for column in range(COLUMNS):
                turned = np.roll(base[column % period], column // period, axis=-1)
                out[row, column] = turned
        seen_by = out.reshape(self.deviation.size, -1)
        return seen_by, operator @ seen_by

    def _empirical(self, taper: float) -> tuple[Floats, Floats]:
        seen = (self.observed.operator @ self.anomalies.T) / np.sqrt(len(self.anomalies) - 1)
        whole = self.anomalies.T / np.sqrt(len(self.anomalies) - 1)
        centres = self.observed.centres
        reach = taper / RADIUS
        by = _taper(chord(directions_of(FINE), centres) / reach) * (whole @ seen.T)
        return by, _taper(chord(centres, centres) / reach) * (seen @ seen.T)

    @lru_cache  # noqa: B019 - as many as there are smoothnesses
    def _length(self, smooth: float) -> float:
        """Fit the length of the correlation, as a fraction of the radius of the Earth."""
        apart, correlation, number = self.correlations
        near = (number > 30) & (apart < np.deg2rad(60))
        chord = 2 * np.sin(apart[near] / 2)
        fit, _ = curve_fit(
            lambda d, length: _matern_exactly(d, smooth, length), chord, correlation[near], p0=0.15
        )
        return float(fit[0])

    @cached_property
    def correlations(self) -> tuple[Floats, Floats, Floats]:
        """Distances [rad], correlations of learned anomalies by distance, and numbers of pairs.

        From 3,000 points drawn by area. Ratios of sums, so that where the weather varies most
        counts most.
        """
        area = np.cos(np.deg2rad(np.repeat(FINE.rows, COLUMNS))).clip(0)
        points = np.random.default_rng(0).choice(area.size, 3000, False, area / area.sum())
        values = self.anomalies[:, points]
        product_of = values.T @ values / len(values)
        scale = self.deviation[points, None] * self.deviation[points]
        directions = directions_of(FINE)[points]
        apart = 2 * np.arcsin(chord(directions, directions) / 2)
        edges = np.deg2rad(np.arange(0.0, 181.0))
        others = ~np.eye(len(points), dtype=bool)
        number, _ = np.histogram(apart[others], edges)
        total, _ = np.histogram(apart[others], edges, weights=product_of[others])
        full, _ = np.histogram(apart[others], edges, weights=scale[others])
        return (edges[:-1] + edges[1:]) / 2, total / np.maximum(full, 1e-30), number


def flat(values: xr.DataArray) -> Floats:
    """Return fields as (times, points)."""
    ordered = values.transpose(TIME, ..., "latitude", "longitude").values
    found: Floats = ordered.reshape(len(ordered), -1).astype(np.float64)
    return found


def _along(cells: Grid, axis: str) -> csr_array:
    """Return the weights of rows, or columns, by regridding fields that are one in one of them."""
    sizes = dict(zip(("latitude", "longitude"), FINE.shape, strict=True))
    unit = xr.DataArray(np.eye(sizes[axis]), dims=("number", axis))
    fields = unit * xr.DataArray(np.ones(FINE.shape), dims=tuple(sizes))
    fields = fields.assign_coords(
        latitude=("latitude", FINE.rows, {"units": "degrees_north"}),
        longitude=("longitude", FINE.columns, {"units": "degrees_east"}),
    )
    coarse = fields.to_dataset(name="one").wx.regrid(cells, "conservative")["one"]
    other = "latitude" if axis == "longitude" else "longitude"
    weights = coarse.isel({other: 0}).transpose(axis, "number").values
    return csr_array(np.where(weights > 1e-12, weights, 0.0))


def directions_of(grid: Grid) -> Floats:
    """Return the points of a grid on the unit sphere, as (points, 3)."""
    lat, lon = np.meshgrid(np.deg2rad(grid.rows), np.deg2rad(grid.columns), indexing="ij")
    xyz = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    return np.stack([axis.ravel() for axis in xyz], axis=-1)


def chord(a: Floats, b: Floats) -> Floats:
    found: Floats = np.sqrt(np.maximum(2 - 2 * (a @ b.T), 0.0))
    return found


def _matern(chord: Floats, smooth: float, length: float) -> Floats:
    """Return the Matern correlation, from a fine table: Bessel functions are slow."""
    table = np.linspace(0, 2, 20001)
    index = chord * 10000
    low = np.minimum(index.astype(int), 19999)
    values = _matern_exactly(table, smooth, length)
    part = index - low
    return (1 - part) * values[low] + part * values[low + 1]


def _matern_exactly(chord: Floats, smooth: float, length: float) -> Floats:
    x = np.sqrt(2 * smooth) * np.maximum(chord, 1e-6) / abs(length)
    found: Floats = 2 ** (1 - smooth) / gamma(smooth) * x**smooth * kv(smooth, x)
    return found


def _taper(r: Floats) -> Floats:
    """Return the fifth-order function of Gaspari and Cohn, zero from 2 on."""
    near = 1 + r**2 * (-5 / 3 + r * (5 / 8 + r * (1 / 2 - r / 4)))
    far = 4 - 5 * r + r**2 * (5 / 3 + r * (5 / 8 + r * (-1 / 2 + r / 12)))
    far = far - 2 / (3 * np.maximum(r, 1e-9))
    return np.where(r < 1, near, np.where(r < 2, far, 0.0))
