"""Time: states every six hours from daily means, on the model's grid and over cells of 10 degrees.

Daily means are those of the states of 00, 06, 12 and 18 UTC, and stand for 09 UTC. Interpolation
is given the days of the whole archive, the model those of 24 to 31 January: the day before the
reported week for all. The last two states lie beyond the middle of the last day.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from common import FINE, TIME, Floats, Prior, Row, Weeks, baseline_row, model_row, publish, rmse
from covariances import flat
from interpolate import (
    bicubic,
    conserving_in_time,
    cubic_in_time,
    linear_in_time,
    to_cells,
)
from space import CELLS

#: Neighbours [rows, columns on each side] whose daily means a regression sees, of three days.
_REACH = (2, 4)
#: Of the regression, over the variance of its predictors.
_RIDGE = 1e-3
_MIDDLE = np.timedelta64(9, "h")


def run(weeks: Weeks, prior: Prior) -> None:
    """Write the table of errors."""
    parts = {}
    for title, degrees in (("2.5 degrees", None), ("10 degrees", "10")):
        rows = baselines(weeks, degrees)
        sample = model_sample(weeks, prior, degrees)
        if sample is not None:
            rows.append(model_row("WIND", sample, weeks))
        parts[f"From daily means at {title}"] = rows
    publish("daily", parts)


def baselines(weeks: Weeks, degrees: str | None) -> list[Row]:
    """Return the lines of interpolations and of a regression."""
    ways: dict[str, Callable[[xr.Dataset, xr.Dataset], xr.Dataset]] = {
        "linear": linear_in_time,
        "cubic": cubic_in_time,
        "cubic, keeping every mean": conserving_in_time,
    }
    means = middle_of_days(daily_means(weeks.everything))
    if degrees is not None:
        means = bicubic(to_cells(means, CELLS[degrees]))
    inner = weeks.report.isel({TIME: slice(None, -2)})
    rows = []
    for tides in (False, True):
        known = _without_tides(means, weeks) if tides else means
        for name, way in ways.items():
            found, before = (way(known, week) for week in (weeks.report, weeks.choose))
            if tides:
                found, before = _with_tides(found, weeks), _with_tides(before, weeks)
            title = f"{name}, with the mean daily cycle" if tides else name
            rows.append(baseline_row(title, found, before, weeks))
            rows[-1]["but the last two states"] = _error(found, inner)
    found, before = regression(means, weeks)
    rows.append(baseline_row("regression on neighbours and days", found, before, weeks))
    rows[-1]["but the last two states"] = _error(found, inner)
    return rows


def daily_means(ds: xr.Dataset) -> xr.Dataset:
    """Return the means of days, at the days' beginning."""
    with xr.set_options(keep_attrs=True):
        return ds.resample({TIME: "1D"}).mean()


def middle_of_days(daily: xr.Dataset) -> xr.Dataset:
    """Put the means of days where their middle is."""
    return daily.assign_coords({TIME: daily[TIME] + _MIDDLE})


def regression(means: xr.Dataset, weeks: Weeks) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the reported week and the one before, of msl, by ridge regression.

    For every latitude and hour, the anomaly is regressed on those of the daily means of the day,
    of the one before and of the one after, at the 45 nearest points: the same weights at all
    longitudes, fitted to the learned days. For the last day of the archive, that after it is the
    day itself.
    """
    name = "msl"
    days = means[TIME].size
    mean = daily_means(weeks.climatology(weeks.everything)[[name]])
    seen = flat(means[name]).reshape(days, *FINE.shape) - flat(mean[name]).reshape(
        days, *FINE.shape
    )
    every = weeks.everything[[name]]
    truth = flat((every - weeks.climatology(every))[name]).reshape(days, 4, *FINE.shape)
    learned = weeks.learn[TIME].size // 4
    found = np.zeros_like(truth)
    around = [np.maximum(np.arange(days) - 1, 0), np.arange(days)]
    around.append(np.minimum(np.arange(days) + 1, days - 1))
    for row in range(FINE.shape[0]):
        x = np.concatenate([_neighbours(seen[when], row) for when in around], axis=-1)
        y = truth[:, :, row].transpose(0, 2, 1)
        inside = slice(1, learned - 1)
        a, b = x[inside].reshape(-1, x.shape[-1]), y[inside].reshape(-1, 4)
        square = a.T @ a
        square[np.diag_indices_from(square)] += _RIDGE * np.trace(square) / len(square)
        found[:, :, row] = (x @ np.linalg.solve(square, a.T @ b)).transpose(0, 2, 1)
    field = weeks.climatology(every)[name] + every[name].copy(data=found.reshape(-1, *FINE.shape))
    ds = every.copy(data={name: field.transpose(*every[name].dims).values.astype(np.float32)})
    return ds.sel({TIME: weeks.report[TIME]}), ds.sel({TIME: weeks.choose[TIME]})


def model_sample(weeks: Weeks, prior: Prior, degrees: str | None) -> xr.Dataset | None:
    """Return the model's ensemble for the reported week; None without a model."""
    days = daily_means(weeks.everything.sel({TIME: slice("2026-01-24", "2026-01-31")}))
    if degrees is not None:
        days = to_cells(days, CELLS[degrees])
    return prior.sampled(
        f"daily-{degrees or '2.5'}", lambda **how: days.wx.downscale(freq="6h", **how)
    )


def _neighbours(fields: Floats, row: int) -> Floats:
    """Return the fields (days, rows, columns) about a row, as (days, columns, neighbours)."""
    up, across = _REACH
    rows = np.clip(np.arange(row - up, row + up + 1), 0, FINE.shape[0] - 1)
    shifts = range(-across, across + 1)
    parts = [np.roll(fields[:, r], shift, axis=-1) for r in rows for shift in shifts]
    return np.stack(parts, axis=-1)


def _without_tides(means: xr.Dataset, weeks: Weeks) -> xr.Dataset:
    """Take the learned mean of all hours off daily means."""
    with xr.set_options(keep_attrs=True):
        return means - weeks.hourly_means.mean("hour")


def _with_tides(found: xr.Dataset, weeks: Weeks) -> xr.Dataset:
    """Add the learned mean of each hour."""
    with xr.set_options(keep_attrs=True):
        return found + weeks.climatology(found)


def _error(found: xr.Dataset, truth: xr.Dataset) -> str:
    error = rmse(found.sel({TIME: truth[TIME]})[["msl"]], truth)["msl"]
    return f"{float(error):.0f}"
