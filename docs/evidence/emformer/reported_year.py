"""Scores of a model of the simulated climate on the year that took no part in its making.

    python docs/evidence/emformer/reported_year.py [MODEL] [--data runs/climate.zarr] [--every 20]
        [--picture PATH]

RMSE of the model, of persistence and of a climatology, ACC, and how far global means drift from the
truth's over 40 steps, from a start every fifth day of 2008. Done with `ds.wx.forecast` and
`fc.wx.verify`: what a user would get.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
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
UNITS = {"z500": "m2 s-2", "t850": "K", "q700": "kg kg-1", "u10": "m s-1", "msl": "Pa"}
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
    parser.add_argument("--picture", help="where to draw the errors against lead time")
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
    means = globally(truth)
    for first in range(0, len(starts), 8):
        some = list(starts[first : first + 8])
        fc = narrow(
            year.wx.forecast(model, STEPS, start=some, cache=chosen.cache, variables=VARIABLES)
        )
        same = xwx.metrics.persistence(truth, fc)
        with_mean = {"climatology": climatology, "statistics": True}
        parts.append(fc.wx.verify(truth, ["rmse", "acc"], **with_mean))
        still.append(same.wx.verify(truth, ["rmse", "acc"], **with_mean))
        drifts.append(globally(fc) - means.sel(time=fc.init_time + fc.lead_time).drop_vars("time"))
    scores = {
        "model": xwx.metrics.combine(parts),
        "persistence": xwx.metrics.combine(still),
    }
    usual = climate(truth, climatology)
    show(scores, usual)
    drift = xr.concat(drifts, "init_time").isel(lead_time=-1)
    print("\nglobal mean minus the truth's after 10 days, mean and standard deviation over starts")
    for name in LEVELS:
        print(f"{name:>6} {float(drift[name].mean()):10.4g} {float(drift[name].std()):10.4g}")
    if chosen.picture:
        draw(scores, usual, chosen.picture)


def globally(ds: xr.Dataset) -> xr.Dataset:
    """Return means over the globe."""
    return ds.weighted(ds.wx.area_weights).mean(["latitude", "longitude"])


def climate(truth: xr.Dataset, climatology: xr.Dataset) -> xr.Dataset:
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


def draw(scores: dict[str, xr.Dataset], climatology: xr.Dataset, path: str) -> None:
    """Draw RMSE against lead time, a panel a field."""
    figure, panels = plt.subplots(1, len(LEVELS), figsize=(15, 3.4), layout="constrained")
    for axes, name in zip(panels, LEVELS, strict=True):
        for source, style in (("model", "C0-"), ("persistence", "C1--")):
            line = scores[source][name].sel(metric="rmse")
            axes.plot(line.lead_time / pd.Timedelta(days=1), line, style, label=source)
        axes.axhline(float(climatology[name].squeeze()), color="0.4", ls=":", label="climatology")
        axes.set(title=f"{name} [{UNITS[name]}]", xlabel="lead time [days]", ylim=(0, None))
    panels[0].set_ylabel("RMSE")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
