"""The numbers in curves, cards and comparisons."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection, QuadMesh

from xwx.errors import MismatchError
from xwx.plot import PlotAccessor
from xwx.plot.scorecard import gain


def test_a_comparison_brings_the_truth_into_the_forecasts_presentation(drawn):
    fc = drawn.forecast()
    rng = np.random.default_rng(0)
    error = rng.normal(0.5, 2.0, fc.t2m.shape).astype("float32")
    truth = fc[["t2m"]].copy(data={"t2m": fc.t2m.values - 273.15 - error})
    truth["t2m"].attrs = {"units": "degC", "standard_name": "air_temperature"}
    truth = truth.drop_vars(["lead_time", "init_time"]).rename(latitude="lat", longitude="lon")
    truth = truth.sortby("lat").roll(lon=7, roll_coords=True).isel(time=[3, 1, 2])
    figure = PlotAccessor(fc).compare(truth, "t2m", time="2026-01-30T06")
    meshes = [next(c for c in ax.collections if isinstance(c, QuadMesh)) for ax in figure.axes[:3]]
    ours, theirs, apart = (np.asarray(m.get_array()).ravel() for m in meshes)
    assert meshes[0].get_clim() == meshes[1].get_clim()
    assert meshes[0].get_clim() == (min(ours.min(), theirs.min()), max(ours.max(), theirs.max()))
    low, high = meshes[2].get_clim()
    assert low == -high
    np.testing.assert_allclose(apart, ours - theirs, atol=1e-6)
    # Areas of rows from the sines of their edges, poles included.
    rows = fc.latitude.values
    edges = np.concatenate([[90.0], (rows[1:] + rows[:-1]) / 2, [-90.0]])
    weights = -np.diff(np.sin(np.deg2rad(edges)))[:, None] * np.ones(fc.longitude.size)
    rmse = np.sqrt(np.average(error[1].astype(float) ** 2, weights=weights))
    bias = np.average(error[1].astype(float), weights=weights)
    found = re.search(r"RMSE ([\d.]+), bias ([\d.-]+) K", figure.axes[2].get_title())
    np.testing.assert_allclose([float(x) for x in found.groups()], [rmse, bias], rtol=2e-3)
    assert figure.axes[1].get_title() == "truth\n2026-01-30 06:00"


def test_a_difference_of_celsius_is_in_kelvin_and_of_the_region_that_is_shown(drawn):
    fc = drawn.forecast()[["t2m"]].isel(time=[0])
    fc["t2m"] = (fc.t2m - 273.15).assign_attrs(fc.t2m.attrs, units="degC")
    truth = fc.copy()
    truth["t2m"] = fc.t2m - 1.0 * (fc.longitude < 180) * (fc.latitude > 0)
    truth["t2m"].attrs = fc.t2m.attrs
    figure = PlotAccessor(fc).compare(truth, extent=(20, 100, 20, 70))
    assert "RMSE 1, bias 1 K" in figure.axes[2].get_title()
    figure = PlotAccessor(fc).compare(truth)
    assert "RMSE 0.5, bias 0.25 K" in figure.axes[2].get_title()


def test_a_truth_without_the_valid_time_is_an_error(drawn):
    fc = drawn.forecast()
    with pytest.raises(MismatchError, match="it has no 2026-01-30 18:00; it has 2 times"):
        PlotAccessor(fc).compare(fc.isel(time=[0, 1]), "msl", time=3)
    assert not plt.get_fignums()


def test_a_curve_with_its_interval(drawn):
    ds = drawn.scores(8)
    ax = PlotAccessor(ds).scores("msl", others={"worse": drawn.scores(8, 2.0)})
    first, second = ax.lines
    np.testing.assert_array_equal(first.get_xdata(), 6.0 * np.arange(1, 9))
    np.testing.assert_array_equal(first.get_ydata(), np.sqrt(np.arange(1.0, 9)))
    np.testing.assert_array_equal(second.get_ydata(), 2 * np.sqrt(np.arange(1.0, 9)))
    band = next(c for c in ax.collections if isinstance(c, PolyCollection))
    corners = {tuple(v) for v in band.get_paths()[0].vertices}
    for x, y in first.get_xydata():
        assert (x, 0.9 * y) in corners
        assert (x, 1.2 * y) in corners
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lead time [h]", "RMSE [Pa]")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["forecast", "worse"]


def test_an_interval_is_no_variable_to_choose_and_lead_time_may_run_along_time(drawn):
    ds = drawn.scores()[["msl", "msl_interval"]]
    times = np.datetime64("2026-01-30", "ns") + drawn.leads(8)
    along = ds.assign_coords(time=("lead_time", times)).swap_dims(lead_time="time")
    for one in (ds, along):
        ax = PlotAccessor(one).scores()
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), 6.0 * np.arange(1, 9))
    np.testing.assert_allclose(
        PlotAccessor(along).scorecard(2 * ds).collections[0].get_array(), 50.0
    )


def test_long_leads_are_in_days_and_pure_numbers_without_units(drawn):
    ax = PlotAccessor(drawn.scores(10, hours=24)).scores("msl", "acc")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(1, 11))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lead time [days]", "ACC")


def test_levels_are_panels_unless_one_is_chosen(drawn):
    plot = PlotAccessor(drawn.scores())
    figure = plot.scores("t")
    assert [ax.get_title() for ax in figure.axes] == ["t at 850 hPa", "t at 500 hPa"]
    for factor, ax in zip((1, 2), figure.axes, strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), factor * np.sqrt(np.arange(1.0, 9)))
    ax = plot.scores("t", level=500)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), 2 * np.sqrt(np.arange(1.0, 9)))
    with pytest.raises(ValueError, match="2 panels"):
        plot.scores("t", ax=ax)


def test_regions_are_panels_or_chosen(drawn):
    ds = drawn.scores()[["msl"]]
    ds = xr.concat([ds, 3 * ds], xr.Variable("region", ["tropics", "europe"]))
    plot = PlotAccessor(ds)
    assert [ax.get_title() for ax in plot.scores("msl").axes] == [
        "Sea level pressure, tropics",
        "Sea level pressure, europe",
    ]
    ax = plot.scores("msl", region="europe")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 3 * np.sqrt(np.arange(1.0, 9)))
    with pytest.raises(MismatchError, match="there is no region 'asia'; there are tropics, europe"):
        plot.scores("msl", region="asia")
    both = xr.concat([drawn.scores()[["t"]]] * 2, xr.Variable("region", ["a", "b"]))
    with pytest.raises(MismatchError, match="region: it has 2 values"):
        PlotAccessor(both).scores("t")
    assert len(plt.get_fignums()) == 2


def test_a_missing_metric_is_named(drawn):
    with pytest.raises(MismatchError, match="no metric 'crps'; there are rmse, acc, bias"):
        PlotAccessor(drawn.scores()).scores("msl", "crps")
    with pytest.raises(MismatchError, match="no metric 'skill'"):
        PlotAccessor(drawn.scores()).spread_skill("msl")
    assert not plt.get_fignums()


def test_spread_and_skill_and_their_ratio(drawn):
    x = np.arange(1.0, 9)
    coords = {"metric": ["ssr", "spread", "skill"], "lead_time": drawn.leads(8)}
    values = np.stack([x / 100, 3 * x, 4 * x])
    ds = xr.Dataset({"t": (("metric", "lead_time"), values, {"metric_units": "skill: K"})}, coords)
    figure = PlotAccessor(ds).spread_skill()
    top, bottom = figure.axes
    by_label = {line.get_label(): line.get_ydata() for line in top.lines}
    np.testing.assert_array_equal(by_label["spread"], 3 * x)
    np.testing.assert_array_equal(by_label["RMSE of the ensemble mean"], 4 * x)
    np.testing.assert_array_equal(bottom.lines[0].get_ydata(), x / 100)
    assert top.get_ylabel() == "spread and skill [K]"


def test_ranks_are_shares_of_one(drawn):
    counts = np.array([[1, 2, 5], [4, 4, 2]])
    ds = xr.Dataset({"t": (("lead_time", "rank"), counts)}, {"lead_time": drawn.leads(2)})
    ax = PlotAccessor(ds).rank_histogram(time=np.timedelta64(12, "h"))
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.4, 0.4, 0.2])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 1 / 3)
    with pytest.raises(MismatchError, match=r"lead_time: it has 2 values.*6 h, 12 h"):
        PlotAccessor(ds).rank_histogram()


def test_spectra_have_slopes_of_their_exponents(drawn):
    k = np.arange(64)
    power = np.append(1e9, k[1:] ** -3.0)
    ds = xr.Dataset({"ke": ("wavenumber", power, {"units": "m2 s-2"})}, {"wavenumber": k})
    ax = PlotAccessor(ds).spectra(others={"truth": 2 * ds})
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert lines["this Dataset"][:, 0].min() == 1  # the mean has no place on a logarithmic axis
    np.testing.assert_array_equal(lines["this Dataset"][:, 1], power[1:])
    np.testing.assert_array_equal(lines["truth"][:, 1], 2 * power[1:])
    for label, slope in ((r"$k^{-3}$", -3), (r"$k^{-5/3}$", -5 / 3)):
        x, y = np.log(lines[label]).T
        np.testing.assert_allclose(np.diff(y) / np.diff(x), slope)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


@pytest.mark.parametrize(
    ("metric", "own", "other", "want"),
    [
        ("rmse", 0.9, 1.0, 10.0),
        ("rmse", 3.0, 2.0, -50.0),
        ("acc", 0.9, 0.6, 50.0),
        ("bias", -1.0, 2.0, 50.0),
        ("bias", 3.0, -2.0, -50.0),
        ("mae", 1.0, 0.0, np.nan),
    ],
)
def test_gain_is_positive_where_the_forecast_is_better(metric, own, other, want):
    np.testing.assert_allclose(gain(np.array([own]), np.array([other]), metric), [want])


def test_the_scorecard_is_blue_where_better_and_dotted_where_sure(drawn):
    own, other = drawn.scores(3, scale=0.5), drawn.scores(3)
    bound = xr.Variable("bound", ["lower", "upper"])
    low = xr.full_like(own.t, -1.0)
    high = low.copy()
    high[0] = [[-0.1, 0.1, 0.1], [0.1, 0.1, -0.1]]
    own["t_difference_interval"] = xr.concat([low, high], bound)
    ax = PlotAccessor(own).scorecard(other.isel(lead_time=[2, 0, 1]))
    mesh = ax.collections[0]
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(3, 3), 50.0)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["msl", "t 850 hPa", "t 500 hPa"]
    assert {tuple(at) for at in ax.lines[0].get_xydata()} == {(0.5, 1.5), (2.5, 2.5)}
    low, high = mesh.get_clim()
    assert low == -high
    red, _, blue, _ = mesh.get_cmap()(1.0)
    assert blue > 2 * red
    worse = PlotAccessor(other).scorecard(own.drop_vars("t_difference_interval"), "rmse")
    np.testing.assert_allclose(worse.collections[0].get_array(), -100.0)


def test_a_scorecard_needs_the_same_leads_and_a_metric_with_a_direction(drawn):
    plot = PlotAccessor(drawn.scores(4))
    with pytest.raises(MismatchError, match="it lacks 2 lead times, the first is 18 h"):
        plot.scorecard(drawn.scores(2))
    with pytest.raises(ValueError, match="neither more nor less"):
        plot.scorecard(drawn.scores(4), "ssr")
    with pytest.raises(MismatchError, match="msl: these scores do not have it"):
        plot.scorecard(drawn.scores(4)[["t"]])
    assert not plt.get_fignums()
