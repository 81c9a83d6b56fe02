"""Scores of a model of the simulated climate on the year that took no part in its making.

    python docs/evidence/emformer/reported_year.py [MODEL] [--data runs/climate.zarr] [--every 20]

RMSE of the model, of persistence and of a climatology, ACC, and how far global means drift over 40
steps, from a start every fifth day of 2008. Done with `ds.wx.forecast` and `fc.wx.verify`: what a
user would get.
"""

from __future__ import annotations

import argparse

import pandas as pd
import xarray as xr

import xwx

VARIABLES = ("z", "t", "q", "u10", "msl")
LEVELS = {
    "z500": ("z", 500),
    "t850": ("t", 850),
    "q700": ("q", 700),
    "u10": ("u10", None),
    "msl": ("msl", None),
}
DAYS = (0.25, 1, 3, 5, 7, 10)
STEPS = 40


def narrow(ds: xr.Dataset) -> xr.Dataset:
    """Keep the fields that are reported, one variable each."""
    fields = {
        name: ds[variable] if level is None else ds[variable].sel(level=level, drop=True)
        for name, (variable, level) in LEVELS.items()
    }
    return xr.Dataset(fields)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="emformer-simclimate-mini")
    parser.add_argument("--data", default="runs/climate.zarr")
    parser.add_argument("--every", type=int, default=20, help="states between starts")
    parser.add_argument("--cache", type=int)
    chosen = parser.parse_args()

    xwx.set_options(progress=False)
    ds = xr.open_zarr(chosen.data, consolidated=False, chunks=None)
    model = xwx.load(chosen.model)
    known = narrow(ds.sel(time=slice("2001", "2006"))).load()
    climatology = xwx.metrics.climatology(known, window=31, hours=[0, 6, 12, 18])
    year = ds.sel(time=slice("2008-01-01", "2008-12-28T18"))
    truth = narrow(year).load()
    starts = year.time.values[: -STEPS : chosen.every]
    parts, still, drifts = [], [], []
    for first in range(0, len(starts), 8):
        some = list(starts[first : first + 8])
        fc = narrow(
            year.wx.forecast(model, STEPS, start=some, cache=chosen.cache, variables=VARIABLES)
        )
        same = xwx.metrics.persistence(truth, fc)
        with_mean = {"climatology": climatology, "statistics": True}
        parts.append(fc.wx.verify(truth, ["rmse", "acc"], **with_mean))
        still.append(same.wx.verify(truth, ["rmse", "acc"], **with_mean))
        weights = fc.wx.area_weights
        mean = fc.weighted(weights).mean(["latitude", "longitude"])
        drifts.append(mean.isel(lead_time=-1, drop=True) - mean.isel(lead_time=0, drop=True))
    scores = {
        "model": xwx.metrics.combine(parts),
        "persistence": xwx.metrics.combine(still),
    }
    show(scores, climate(truth, climatology, starts))
    drift = xr.concat(drifts, "init_time")
    print(
        "\nchange of global means between 6 h and 10 days, mean and standard deviation over starts"
    )
    for name in LEVELS:
        print(f"{name:>6} {float(drift[name].mean()):10.4g} {float(drift[name].std()):10.4g}")


def climate(truth: xr.Dataset, climatology: xr.Dataset, starts: object) -> xr.Dataset:
    """Return the RMSE of the climatology over the year."""
    days = truth.time.dt.dayofyear
    guess = climatology.sel(dayofyear=days, hour=truth.time.dt.hour).drop_vars(
        ["dayofyear", "hour"]
    )
    return guess.transpose(*truth.dims).wx.verify(truth, "rmse")


def show(scores: dict[str, xr.Dataset], climatology: xr.Dataset) -> None:
    """Print RMSE and ACC, a line a field and source, a column a lead time."""
    leads = [pd.Timedelta(days=day) for day in DAYS]
    print("".join(["".ljust(24), *(f"{day:>9g} d" for day in DAYS)]))
    for name in LEVELS:
        for source, scored in scores.items():
            values = scored[name].sel(metric="rmse").sel(lead_time=leads).values
            print(f"{name + ' rmse ' + source:24}" + "".join(f"{v:11.4g}" for v in values))
        print(f"{name + ' rmse climatology':24}{float(climatology[name].squeeze()):11.4g}")
        values = scores["model"][name].sel(metric="acc").sel(lead_time=leads).values
        print(f"{name + ' acc model':24}" + "".join(f"{v:11.4f}" for v in values))


if __name__ == "__main__":
    main()
