"""Every kind of picture against the picture it was when someone looked at it.

Tolerance: 4 (root mean square of 8-bit colours). With the versions of the constraints the pictures
are equal; without coastlines, contours, barbs or a shaded interval they differ by 6.6 to 23. The
room between is for the antialiasing of other builds.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xwx.plot import PlotAccessor

picture = pytest.mark.mpl_image_compare(
    baseline_dir="baseline",
    style="default",
    tolerance=4,
    remove_text=True,
    savefig_kwargs={"dpi": 50},
)


@picture
def test_map(drawn):
    ds = drawn.forecast()
    mesh = PlotAccessor(ds).map("t", time=1, level=850, contours="msl", contour_levels=5)
    return mesh.figure


@picture
def test_map_of_a_region_with_wind(drawn):
    ds = drawn.forecast().isel(time=[0]).assign(u=lambda d: d.t - 260, v=lambda d: d.t - 250)
    for name, stated in (("u", "eastward_wind"), ("v", "northward_wind")):
        ds[name].attrs = {"units": "m s-1", "standard_name": stated}
    ds = ds.sel(latitude=slice(75, 25)).isel(longitude=[*range(28, 32), *range(5)])
    return PlotAccessor(ds).map("t", level=500, wind=True).figure


@picture
def test_map_of_a_projection(drawn):
    return PlotAccessor(drawn.forecast()).map("msl", time=0, projection="Robinson").figure


@picture
def test_compare(drawn):
    truth = drawn.forecast()
    return PlotAccessor(truth.roll(longitude=1)).compare(truth, "t2m", time=0)


@picture
def test_scores(drawn):
    others = {"persistence": drawn.scores(scale=1.5)}
    return PlotAccessor(drawn.scores()).scores("msl", others=others).figure


@picture
def test_scores_of_levels(drawn):
    return PlotAccessor(drawn.scores(20)).scores("t", "acc")


@picture
def test_plume(drawn):
    plot = PlotAccessor(drawn.ensemble(count=8))
    return plot.plume(latitude=50, longitude=-10, truth=drawn.forecast(6)).figure


@picture
def test_spaghetti(drawn):
    plot = PlotAccessor(drawn.ensemble(members=4))
    return plot.spaghetti(contour=280, time=2, projection="NorthPolarStereo").figure


@picture
def test_spectra(drawn):
    k = np.arange(40)
    ds = xr.Dataset({"ke": ("wavenumber", (k + 1.0) ** -2.5)}, {"wavenumber": k})
    return PlotAccessor(ds).spectra(others={"truth": 2 * ds}).figure


@picture
def test_spread_skill(drawn):
    x = np.sqrt(np.arange(1.0, 9))
    values = np.stack([x, 0.8 * x, np.full(8, 0.8)])
    coords = {"metric": ["skill", "spread", "ssr"], "lead_time": drawn.leads(8)}
    ds = xr.Dataset({"t2m": (("metric", "lead_time"), values, {"units": "K"})}, coords)
    return PlotAccessor(ds).spread_skill()


@picture
def test_rank_histogram():
    ds = xr.Dataset({"t2m": ("rank", [5, 3, 2, 3, 4, 9])}, {"rank": np.arange(6)})
    return PlotAccessor(ds).rank_histogram().figure


@picture
def test_scorecard(drawn):
    own, other = drawn.scores(scale=0.9), drawn.scores()
    own["t"] = own.t * (1 + 0.3 * (own.level == 850) * (own.lead_time > drawn.leads(3)[-1]))
    bound = xr.Variable("bound", ["lower", "upper"])
    apart = own.t - other.t
    own["t_difference_interval"] = xr.concat([apart - 0.2, apart + 0.2], bound)
    return PlotAccessor(own).scorecard(other).figure
