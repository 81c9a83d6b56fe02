"""Forecasts of two days, ten members, from starts in the reported week.

All baselines have ten members too, and know the learned states alone:

- *climatology*: states of the learned period, drawn at the hour that is forecast;
- *persistence, dressed*: the state at the start, and on it what persistence was wrong by at each
  lead after starts drawn from the learned period, at the same hour: the same starts at all leads;
- *damped persistence, dressed*: the anomaly at the start times a factor for each variable,
  latitude and lead, and errors of that;
- *regression on neighbours, dressed*: for every latitude, lead and variable a ridge regression of
  the anomaly on those of both variables about it, most of them upstream, and at its own latitude
  six hours before; the same weights at all longitudes. Its errors are those in blocks of eight
  days of the learned period that were left out of the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import matplotlib
import numpy as np
import xarray as xr
from common import FINE, HERE, STATES_A_DAY, TIME, Floats, Prior, Row, Weeks, publish
from covariances import flat
from numpy.typing import NDArray

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STEPS = 8
#: States between two starts: every twelve hours.
EVERY = 2
NAMES = ("msl", "vo")
#: Neighbours of the regression: rows, and columns to the west.
ROWS = np.array([-4, -2, 0, 2, 4])
COLUMNS_WEST = (-4, -2, 0, 2, 4, 6, 9, 12, 16)
#: Over the variance of the neighbours.
RIDGE = 1e-2
BLOCKS = 6
Draw = Callable[[NDArray[np.intp], int, np.random.Generator], Floats]


@dataclass(frozen=True, eq=False)
class Past:
    """Anomalies of all states, as (times, points of both variables).

    Attributes
    ----------
    weeks : Weeks
    """

    weeks: Weeks

    @cached_property
    def values(self) -> Floats:
        """Anomalies about the learned mean of the hour."""
        every = self.weeks.everything
        anomaly = every - self.weeks.climatology(every)
        return np.concatenate([flat(anomaly[name]) for name in NAMES], axis=1)

    @cached_property
    def fields(self) -> Floats:
        """The same over the standard deviations, as (times, variables, rows, columns)."""
        values = self.values.reshape(-1, len(NAMES), *FINE.shape)
        return (values / self.deviation).astype(np.float32)

    @cached_property
    def deviation(self) -> Floats:
        """Learned standard deviation of each variable and latitude, as (variables, rows, 1)."""
        learned = self.values[: self.learned].reshape(-1, len(NAMES), *FINE.shape)
        found: Floats = np.sqrt((learned**2).mean((0, -1)))[..., None]
        return found

    @property
    def learned(self) -> int:
        """How many states are learned from."""
        return int(self.weeks.learn[TIME].size)


def run(weeks: Weeks, prior: Prior) -> None:
    """Write the table of scores by lead, and draw them."""
    past = Past(weeks)
    first = past.learned + weeks.choose[TIME].size
    starts = np.arange(first, weeks.everything[TIME].size - STEPS, EVERY)
    words = f"{len(starts)} starts, every {6 * EVERY} hours."
    ways: dict[str, Draw] = {
        "climatology": lambda at, m, rng: climatology(past, at, m, rng),
        "persistence, dressed": lambda at, m, rng: dressed(past, at, m, rng, kept_whole),
        "damped persistence, dressed": lambda at, m, rng: dressed(past, at, m, rng, damped),
        "regression on neighbours, dressed": lambda at, m, rng: dressed(
            past, at, m, rng, regressed
        ),
    }
    ensembles = {}
    for name, way in ways.items():
        values = way(starts, prior.members, np.random.default_rng(0))
        ensembles[name] = as_forecast(values, weeks, starts)
    times = list(weeks.everything[TIME].values[starts])
    sample = prior.sampled(
        "forecasts", lambda **how: weeks.everything.wx.forecast(steps=STEPS, start=times, **how)
    )
    if sample is not None:
        ensembles["WIND"] = sample[list(NAMES)]
    scores = {
        name: ds.wx.verify(weeks.everything, ("rmse", "crps", "ssr"))
        for name, ds in ensembles.items()
    }
    parts = {}
    for metric, title in (
        ("crps", "Fair CRPS of msl [Pa]"),
        ("rmse", "RMSE of the mean of the members, msl [Pa]"),
        ("ssr", "Spread-skill ratio of msl"),
    ):
        parts[title] = [_line(name, found["msl"], metric) for name, found in scores.items()]
    parts["Fair CRPS of vo [1e-6 s-1]"] = [
        _line(name, found["vo"] * 1e6, "crps") for name, found in scores.items()
    ]
    publish("forecasts", parts, words)
    draw({name: found["msl"] for name, found in scores.items()})


def climatology(
    past: Past, starts: NDArray[np.intp], members: int, rng: np.random.Generator
) -> Floats:
    """Return learned anomalies (starts, leads, members, points), at the hour of each lead."""
    days = past.learned // STATES_A_DAY
    out = np.empty((len(starts), STEPS, members, past.values.shape[1]), dtype=np.float32)
    for n, start in enumerate(starts):
        drawn = rng.choice(days, members, replace=False)
        for lead in range(STEPS):
            hour = (start + lead + 1) % STATES_A_DAY
            out[n, lead] = past.values[drawn * STATES_A_DAY + hour]
    return out


def dressed(
    past: Past,
    starts: NDArray[np.intp],
    members: int,
    rng: np.random.Generator,
    predict: Callable[[Past, NDArray[np.intp], int], tuple[Floats, Floats]],
) -> Floats:
    """Return a forecast (starts, leads, members, points) with learned errors on it."""
    last = past.learned - STEPS
    drawn = [
        rng.choice(np.arange(start % STATES_A_DAY, last, STATES_A_DAY), members, replace=False)
        for start in starts
    ]
    out = np.empty((len(starts), STEPS, members, past.values.shape[1]), dtype=np.float32)
    for lead in range(1, STEPS + 1):
        found, errors = predict(past, starts, lead)
        for n in range(len(starts)):
            out[n, lead - 1] = found[n] + errors[drawn[n]]
    return out


def kept_whole(past: Past, starts: NDArray[np.intp], lead: int) -> tuple[Floats, Floats]:
    """Return persistence of the field itself, and its learned errors.

    In anomalies, what persists is the field less the mean of the hour that is forecast.
    """
    every = past.weeks.everything
    mean = past.weeks.climatology(every)
    field = np.concatenate([flat(every[name]) for name in NAMES], axis=1)
    hours = np.concatenate([flat(mean[name]) for name in NAMES], axis=1)
    learned = past.learned
    errors = field[lead:learned] - field[: learned - lead]
    return field[starts] - hours[starts + lead], errors


def damped(past: Past, starts: NDArray[np.intp], lead: int) -> tuple[Floats, Floats]:
    """Return damped persistence, and its learned errors."""
    before, after = past.values[: past.learned - lead], past.values[lead : past.learned]
    shape = (len(NAMES), FINE.shape[0], FINE.shape[1])
    both, one = ((p * before).sum(0).reshape(shape).sum(-1) for p in (after, before))
    factor = np.repeat(both / one, FINE.shape[1], axis=-1).ravel()
    return factor * past.values[starts], after - factor * before


def regressed(
    past: Past, starts: NDArray[np.intp], lead: int, ridge: float = RIDGE
) -> tuple[Floats, Floats]:
    """Return the regression on neighbours, and errors in blocks that it was not fitted to."""
    before = np.arange(1, past.learned - lead)
    blocks = before * BLOCKS // past.learned
    found = np.empty((len(starts), len(NAMES), *FINE.shape), dtype=np.float32)
    errors = np.empty((past.learned - lead, len(NAMES), *FINE.shape), dtype=np.float32)
    fields = past.fields
    for row in range(FINE.shape[0]):
        x = _predictors(fields, np.concatenate([before, starts]), row)
        y = fields[before + lead, :, row].transpose(0, 2, 1)
        inside = x[: len(before)]
        parts = [(_samples(inside[blocks == b]), _samples(y[blocks == b])) for b in range(BLOCKS)]
        left = np.stack([seen.T @ seen for seen, _ in parts])
        right = np.stack([seen.T @ wanted for seen, wanted in parts])
        found[:, :, row] = _predict(x[len(before) :], left.sum(0), right.sum(0), ridge)
        for b in range(BLOCKS):
            others = np.arange(BLOCKS) != b
            out = before[blocks == b]
            guess = _predict(inside[blocks == b], left[others].sum(0), right[others].sum(0), ridge)
            errors[out, :, row] = fields[out + lead, :, row] - guess
    # The first state has none before it.
    errors[0] = errors[STATES_A_DAY]
    found, errors = found * past.deviation, errors * past.deviation
    return found.reshape(len(starts), -1), errors.reshape(len(errors), -1)


def _predictors(fields: Floats, times: NDArray[np.intp], row: int) -> Floats:
    """Return the neighbours of a row, mostly upstream, as (times, columns, neighbours)."""
    rows = np.clip(row + ROWS, 0, FINE.shape[0] - 1)
    now = fields[times][:, :, rows]
    earlier = fields[times - 1][:, :, rows[len(ROWS) // 2 : len(ROWS) // 2 + 1]]
    both = [part.reshape(len(times), -1, FINE.shape[1]) for part in (now, earlier)]
    values = np.concatenate(both, axis=1)
    shifted = np.stack([np.roll(values, shift, axis=-1) for shift in COLUMNS_WEST], axis=1)
    return shifted.reshape(len(times), -1, FINE.shape[1]).transpose(0, 2, 1)


def _predict(x: Floats, left: Floats, right: Floats, ridge: float) -> Floats:
    """Solve for the weights, and return predictions (times, variables, columns)."""
    square = left + ridge * np.trace(left) / len(left) * np.eye(len(left))
    return (x @ np.linalg.solve(square, right)).transpose(0, 2, 1)


def _samples(values: Floats) -> Floats:
    return values.reshape(-1, values.shape[-1])


def as_forecast(values: Floats, weeks: Weeks, starts: NDArray[np.intp]) -> xr.Dataset:
    """Return anomalies (starts, leads, members, points) as a forecast with its climatology."""
    every = weeks.everything
    times = every[TIME].values[starts]
    leads = np.arange(1, STEPS + 1) * np.timedelta64(6, "h")
    at = starts[:, None] + np.arange(1, STEPS + 1)
    mean = weeks.climatology(every)
    out = {}
    for name, part in zip(NAMES, np.split(values, len(NAMES), axis=-1), strict=True):
        field = part.reshape(*part.shape[:-1], *every[name].shape[1:])
        base = mean[name].transpose(*every[name].dims).values[at][:, :, None]
        dims = ("init_time", "lead_time", "member", *every[name].dims[1:])
        out[name] = (dims, (field + base).astype(np.float32), every[name].attrs)
    coords = {k: c for k, c in every.coords.items() if TIME not in c.dims}
    standard = {"standard_name": "forecast_reference_time"}, {"standard_name": "forecast_period"}
    return xr.Dataset(out, coords).assign_coords(
        init_time=("init_time", times, standard[0]),
        lead_time=("lead_time", leads.astype("timedelta64[ns]"), standard[1]),
        member=("member", np.arange(values.shape[2]), {"standard_name": "realization"}),
    )


def draw(scores: dict[str, xr.DataArray]) -> None:
    """Draw CRPS and spread-skill ratio against lead time."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, found in scores.items():
        hours = found["lead_time"] / np.timedelta64(1, "h")
        style = {"color": "k", "linewidth": 2} if name == "WIND" else {}
        for axis, metric in zip(axes, ("crps", "ssr"), strict=True):
            axis.plot(
                hours, found.sel(metric=metric).values, "o-", markersize=3, label=name, **style
            )
    axes[0].set(xlabel="lead time [h]", ylabel="Pa", title="Fair CRPS of msl")
    axes[1].set(xlabel="lead time [h]", title="Spread-skill ratio of msl")
    axes[1].axhline(1, color="grey", linewidth=0.8)
    axes[0].legend(fontsize=8)
    figure.savefig(HERE / "forecasts.png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def _line(name: str, found: xr.DataArray, metric: str) -> Row:
    values = found.sel(metric=metric).squeeze()
    digits = 2 if metric == "ssr" else 1
    hours = (values["lead_time"] / np.timedelta64(1, "h")).values
    return {"": name} | {
        f"{hour:.0f} h": f"{float(value):.{digits}f}"
        for hour, value in zip(hours, values.values, strict=True)
    }
