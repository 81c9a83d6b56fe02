"""Points: the whole field of pressure from 1, 5 and 25 % of the grid's points.

The points are drawn once for each share, by area (so that they are spread evenly over the sphere)
and with a fixed seed, and are the same at all times, as stations are. Values are exact; every
method is told of a small error. The variograms of kriging are those of GSTools (``pip install
gstools``), imported where it is used: it is no dependency of the package. The weights are solved
for here, once for all states rather than again for each; they are those of the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from common import (
    FINE,
    TIME,
    WAYS,
    Floats,
    Prior,
    Row,
    Weeks,
    baseline_row,
    model_row,
    publish,
    rmse,
)
from covariances import COLUMNS, Interpolation, Observed, chord, directions_of, flat
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

if TYPE_CHECKING:
    from gstools import CovModel

SHARES = (0.01, 0.05, 0.25)
#: Further draws, for what the choice of points is worth.
SEEDS = (1, 2, 3, 4)
#: With more points than these, a variogram of each state is that of all states, and takes hours.
MANY = 1000
Numbers = NDArray[np.intp]


def run(weeks: Weeks, prior: Prior) -> None:
    """Write the table of errors."""
    parts = {}
    for share in SHARES:
        chosen = draw(weeks, share, 0)
        rows = [*kriging_rows(weeks, chosen), *optimal_rows(weeks, chosen, share)]
        for way in WAYS:
            sample = model_sample(weeks, prior, share, way)
            if sample is not None:
                rows.append(model_row(way, sample, weeks, vorticity=False))
        parts[f"From {share:.0%} of the points ({len(chosen)})"] = rows
    publish("points", parts)


def draw(weeks: Weeks, share: float, seed: int) -> Numbers:
    """Return the numbers of points in the flat grid, drawn by area without replacement."""
    weights = weeks.report.wx.area_weights.broadcast_like(weeks.report["msl"].isel({TIME: 0}))
    area = weights.transpose("latitude", "longitude").values.astype(np.float64).ravel()
    count = round(share * area.size)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(area.size, count, replace=False, p=area / area.sum()))


def optimal_rows(weeks: Weeks, chosen: Numbers, share: float) -> list[Row]:
    """Return the lines of optimal interpolation, with the spread over other draws of points."""
    known = Interpolation(weeks, "msl", Observed.points(chosen))
    rows = []
    for name, empirical in (("isotropic", False), ("isotropic and EOFs", True)):
        setting = known.chosen(empirical=empirical)
        print(f"optimal interpolation, {name}, {share:.0%}: {setting}", flush=True)
        found, before = (known.estimate(w, setting) for w in (weeks.report, weeks.choose))
        row = baseline_row(f"optimal interpolation, {name}", found, before, weeks, False)
        if share < 0.1:
            others = [Interpolation(weeks, "msl", Observed.points(draw(weeks, share, seed)))
                      for seed in SEEDS]  # fmt: skip
            errors = [rmse(o.estimate(weeks.report, setting), weeks.report) for o in others]
            values = [float(e["msl"]) for e in errors]
            row["of four other draws"] = f"{min(values):.0f} to {max(values):.0f}"
        rows.append(row)
    return rows


def kriging_rows(weeks: Weeks, chosen: Numbers) -> list[Row]:
    """Return the lines of kriging."""
    fields = {name: flat(week["msl"]) for name, week in _weeks(weeks).items()}
    means = {name: flat(weeks.climatology(week)["msl"]) for name, week in _weeks(weeks).items()}
    anomalies = {name: fields[name] - means[name] for name in fields}
    ways = {
        "ordinary kriging, variogram of each state": (fields, 1, False),
        "ordinary kriging": (fields, 1, True),
        "universal kriging (powers of latitude)": (fields, 5, True),
        "kriging of anomalies": (anomalies, 0, True),
    }
    rows = []
    for name, (values, drift, learned) in ways.items():
        if not learned and len(chosen) > MANY:
            continue
        model = variogram(values["learn"][::16], drift) if learned else None
        found = []
        for week in ("report", "choose"):
            made = krige(values[week], model, drift, chosen)
            made = made + (means[week] if values is anomalies else 0.0)
            like = _weeks(weeks)[week][["msl"]]
            data = made.reshape(like["msl"].shape).astype(np.float32)
            found.append(like.copy(data={"msl": data}))
        rows.append(baseline_row(name, *found, weeks, False))
        rows[-1]["of four other draws"] = ""
        print(rows[-1], flush=True)
    return rows


def krige(values: Floats, model: CovModel | None, drift: int, chosen: Numbers) -> Floats:
    """Return kriged fields (times, points) of what the chosen points show of `values`.

    Parameters
    ----------
    values : array
        The true fields, as (times, points).
    model : CovModel, optional
        The variogram; by default that of the observations, for each state.
    drift : int
        How many powers of the sine of latitude are unknown: 0 for simple kriging about zero, 1 for
        ordinary kriging.
    """
    if model is None:
        one = [krige(v[None], variogram(v[None, chosen], 0, chosen), drift, chosen) for v in values]
        return np.concatenate(one)
    directions = directions_of(FINE)
    apart = 2 * np.arcsin(chord(directions, directions[chosen]) / 2)
    between = model.cov_yadrenko(apart)
    matrix = between[chosen] + model.nugget * np.eye(len(chosen))
    basis, seen = powers(drift), values[:, chosen].T
    factor = cho_factor(matrix)
    # The unknown drift by generalised least squares, then simple kriging of what it leaves.
    weighted = cho_solve(factor, basis[chosen])
    beta = np.linalg.solve(basis[chosen].T @ weighted, weighted.T @ seen)
    rest = seen - basis[chosen] @ beta
    found: Floats = (basis @ beta + between @ cho_solve(factor, rest)).T
    return found


def variogram(past: Floats, drift: int, points: Numbers | None = None) -> CovModel:
    """Fit a rational quadratic variogram with a nugget, of unit exponent, up to 40 degrees.

    Parameters
    ----------
    past : array
        Fields (times, points), whole ones unless `points` tells which.
    drift : int
        From two on, the powers of the sine of latitude are taken off first.
    points : array, optional
    """
    import gstools as gs  # noqa: PLC0415

    lat, lon = np.repeat(FINE.rows, COLUMNS), np.tile(FINE.columns, FINE.shape[0])
    width = 4.0
    if points is None:
        area = np.cos(np.deg2rad(lat)).clip(0)
        points = np.random.default_rng(0).choice(area.size, 600, False, area / area.sum())
        past, width = past[:, points], 2.0
    if drift > 1:
        basis = powers(drift)[points]
        past = past - (basis @ np.linalg.lstsq(basis, past.T, rcond=None)[0]).T
    edges = np.deg2rad(np.arange(0.0, 41.0, width))
    centre, gamma = gs.vario_estimate((lat[points], lon[points]), past, edges, latlon=True)
    model = gs.Rational(latlon=True)
    model.fit_variogram(centre, gamma, alpha=False, init_guess=guess(centre, gamma))
    model.nugget = max(model.nugget, 1e-4 * model.var)
    return model


def guess(centre: Floats, gamma: Floats) -> dict[str, float]:
    """Return what a fit of the variogram starts from."""
    return {"var": float(gamma.max()), "len_scale": 0.2, "nugget": float(gamma.max()) * 1e-3}


def powers(count: int) -> Floats:
    """Return powers of the sine of latitude at all points, as (points, count)."""
    found: Floats = np.sin(np.deg2rad(np.repeat(FINE.rows, COLUMNS)))[:, None] ** np.arange(count)
    return found


def model_sample(weeks: Weeks, prior: Prior, share: float, way: str) -> xr.Dataset | None:
    """Return the model's ensemble for the reported week; None without a model."""
    seen = np.zeros(FINE.shape, dtype=bool)
    seen.ravel()[draw(weeks, share, 0)] = True
    mask = xr.DataArray(seen, dims=("latitude", "longitude"))
    observed = weeks.report.assign(
        msl=weeks.report["msl"].where(mask), vo=weeks.report["vo"].where(False)
    )
    return prior.sampled(f"points-{share:g}", lambda **how: observed.wx.reconstruct(**how), way)


def _weeks(weeks: Weeks) -> dict[str, xr.Dataset]:
    return {"learn": weeks.learn, "choose": weeks.choose, "report": weeks.report}
