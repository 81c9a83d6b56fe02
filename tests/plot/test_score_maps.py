"""Maps of scores and of regions, and forecasts in the layouts of others."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh

from xwx.errors import MismatchError
from xwx.plot import PlotAccessor
from xwx.plot.slab import slab_of, within


@pytest.fixture
def maps_of_scores(drawn):
    """Make maps of three metrics over two lead times, with a difference beside them."""
    ds = drawn.forecast(2)[["msl"]].drop_vars(["time", "init_time", "lead_time"])
    field = (ds.msl - 1e5).rename(time="lead_time").assign_coords(lead_time=drawn.leads(2))
    parts = [np.abs(field), field / 10, field / 1e4, field**2]
    msl = xr.concat(parts, xr.Variable("metric", ["rmse", "bias", "acc", "mse"]))
    msl.attrs = {
        "long_name": "Mean sea level pressure",
        "standard_name": "air_pressure_at_mean_sea_level",
        "metric_units": "rmse: Pa; bias: Pa; acc: 1; mse: Pa2",
    }
    return xr.Dataset({"msl": msl, "msl_difference": (-2 * msl).assign_attrs(msl.attrs)})


@pytest.mark.parametrize(
    ("variable", "metric", "label", "diverging"),
    [
        ("msl", "rmse", "RMSE of mean sea level pressure [Pa]", False),
        ("msl", "mse", "MSE of mean sea level pressure [Pa²]", False),
        ("msl", "bias", "bias of mean sea level pressure [Pa]", True),
        ("msl", "acc", "ACC of mean sea level pressure", True),
        ("msl_difference", "rmse", "RMSE difference of mean sea level pressure [Pa]", True),
    ],
)
def test_a_map_of_a_score_has_its_name_unit_and_colours(
    maps_of_scores, variable, metric, label, diverging
):
    ds = maps_of_scores.sel(metric=metric, lead_time="12h")
    mesh = PlotAccessor(ds).map(variable)
    assert mesh.colorbar.ax.get_ylabel() == label
    low, high = mesh.get_clim()
    colours = mesh.get_cmap()(np.linspace(0, 1, 101))[:, :3]
    light = colours @ [0.2126, 0.7152, 0.0722]
    if diverging:
        assert low == -high
        np.testing.assert_allclose(high, np.percentile(np.abs(ds[variable]), 99.5), rtol=1e-6)
        assert light[50] > 0.9 > 0.4 > max(light[0], light[-1])
    else:
        assert low == ds[variable].min()
        assert light[0] > 0.9  # a coastline shows where scores are small
        assert np.all(np.diff(light) < 1e-9)
    assert mesh.axes.get_title() == "+12 h"


def test_a_score_with_one_unit_and_a_name_that_is_no_word(maps_of_scores):
    ds = maps_of_scores[["msl"]].sel(metric=["mse"]).isel(lead_time=0)
    ds["msl"].attrs = {"long_name": "CAPE", "units": "J2 kg-2"}
    mesh = PlotAccessor(ds).map(level=None)
    assert mesh.colorbar.ax.get_ylabel() == "MSE of CAPE [J² kg⁻²]"


def test_a_film_of_scores_has_the_colours_of_the_metric(maps_of_scores):
    film = PlotAccessor(maps_of_scores.sel(metric="bias")).animate("msl", progress=False)
    film._draw_was_started = True  # matplotlib warns of films that nobody watched
    ax = plt.gcf().axes[0]
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    low, high = mesh.get_clim()
    assert low == -high
    film._draw_frame(1)
    assert ax.get_title() == "+12 h"


def _square(west, east, south, north):
    """Return a globe of 10 by 10 degrees with numbers that tell its cells apart."""
    lat, lon = np.arange(85.0, -90, -10), np.arange(5.0, 360, 10)
    values = 100 * lat[:, None] + lon
    array = xr.DataArray(
        values, {"latitude": lat, "longitude": lon}, ("latitude", "longitude"), name="x"
    )
    inside = [
        100 * y + x
        for y in lat
        for x in lon
        if y + 5 > south and y - 5 < north
        if any(x + 5 + turn > west and x - 5 + turn < east for turn in (-360, 0, 360))
    ]
    return array, sorted(inside)


@pytest.mark.parametrize(
    "box",
    [
        (0, 30, 40, 60),
        (-12, 13, 35, 61),
        (-180, 180, 20, 90),
        (170, 201, -20, 0),
        (352, 355, 1, 2),
        (-9, 349, -90, 90),
        (12, 28, -3, 4),
    ],
)
def test_cells_in_a_box_are_those_that_overlap_it(box):
    array, want = _square(*box)
    found = within(slab_of(array, "latitude", "longitude"), box)
    assert sorted(np.ravel(found)) == want
    region = array.sel(longitude=slice(0, 100), latitude=slice(70, 0))
    west, east = box[0] % 360, box[0] % 360 + box[1] - box[0]
    if 10 <= west < east <= 90 and box[2] > 10 and box[3] < 60:
        found = within(slab_of(region, "latitude", "longitude"), box)
        assert sorted(np.ravel(found)) == want


def test_colours_span_what_an_extent_shows(drawn):
    ds = drawn.forecast().isel(time=0)
    part = ds.sel(latitude=slice(65, 25), longitude=slice(20, 90)).msl
    spike = ds.msl.where((ds.latitude > -60) | (ds.longitude < 180), 9e5).assign_attrs(ds.msl.attrs)
    ds = ds.assign(msl=spike)
    # Edges midway between the points, so that these cells and no others are shown.
    lat, lon = part.latitude.values, part.longitude.values
    high, wide = abs(lat[1] - lat[0]) / 2, (lon[1] - lon[0]) / 2
    box = (lon[0] - wide, lon[-1] + wide, lat.min() - high * 0.9, lat.max() + high * 0.9)
    mesh = PlotAccessor(ds).map("msl", extent=box)
    assert mesh.get_clim() == (part.min(), part.max())
    assert mesh.colorbar.extend == "neither"
    truth = ds.assign(msl=(ds.msl - 100 - 9000 * (ds.msl > 5e5)).assign_attrs(ds.msl.attrs))
    figure = PlotAccessor(ds).compare(truth, "msl", extent=box)
    clims = [
        c.get_clim() for ax in figure.axes[:3] for c in ax.collections if isinstance(c, QuadMesh)
    ]
    np.testing.assert_allclose(clims[0], (part.min() - 100, part.max()))
    np.testing.assert_allclose(clims[2], (-100, 100))


@pytest.mark.parametrize(
    "box",
    [
        (-12, 32, 34, 62),
        (5, 15, 45, 52),
        (110, 160, -45, -10),
        (160, -160, -50, -30),
        (-80, -30, -15, 15),
        (6, 8.5, 46, 48),
        (170, 190, -5, 8),
    ],
)
def test_a_regional_map_has_three_labels_on_each_axis(drawn, box):
    mesh = PlotAccessor(drawn.forecast()).map("msl", time=0, extent=box)
    mesh.figure.canvas.draw()
    (lines,) = [a for a in mesh.axes.artists if hasattr(a, "left_label_artists")]
    for artists in (lines.left_label_artists, lines.bottom_label_artists):
        texts = [a.get_text() for a in artists if a.get_visible()]
        assert len(texts) >= 3, texts


def test_coastlines_show_on_dark_and_on_light(drawn):
    ds = drawn.forecast()[["msl"]].isel(time=0)
    for colour, reverse in (("k", False), ("w", True)):
        mesh = PlotAccessor(0 * ds).map("msl", cmap=plt.matplotlib.colors.ListedColormap([colour]))
        # Without the lines of the graticule, in the middle of the map.
        for artist in mesh.axes.artists:
            if hasattr(artist, "left_label_artists"):
                artist.remove()
        mesh.figure.canvas.draw()
        box = mesh.axes.get_window_extent()
        pixels = np.asarray(mesh.figure.canvas.buffer_rgba())[..., :3].mean(axis=2)
        rows = slice(int(pixels.shape[0] - box.y1) + 5, int(pixels.shape[0] - box.y0) - 5)
        shown = pixels[rows, int(box.x0) + 5 : int(box.x1) - 5]
        seen = (shown < 100) if reverse else (shown > 130)
        assert 0.005 < seen.mean() < 0.3
        plt.close(mesh.figure)


@pytest.mark.parametrize("names", [("init_time", "lead_time"), ("time", "prediction_timedelta")])
def test_valid_times_are_start_plus_lead(drawn, names):
    fc = drawn.forecast(3)
    truth = fc.drop_vars(["init_time", "lead_time"])
    bare = fc.swap_dims(time="lead_time").drop_vars("time")
    bare = bare.rename(dict(zip(("init_time", "lead_time"), names, strict=True)))
    for one in (bare, bare.isel({names[1]: [1]})):
        figure = PlotAccessor(one).compare(truth, "msl", time="12h")
        assert figure.axes[0].get_title() == "forecast\n2026-01-30 06:00, +12 h"
        assert "RMSE 0, bias 0" in figure.axes[2].get_title()
    figure = PlotAccessor(bare).compare(truth, "msl", time="2026-01-30T06")
    assert "RMSE 0, bias 0" in figure.axes[2].get_title()
    members = xr.concat([bare[["msl"]]] * 3, "member")
    ax = PlotAccessor(members).plume(latitude=50, longitude=0, truth=truth)
    lines = {line.get_label(): line for line in ax.lines}
    assert ax.get_xlabel() == "valid time"
    np.testing.assert_array_equal(lines["median"].get_xdata(), fc.time.values)
    np.testing.assert_array_equal(lines["truth"].get_ydata(), lines["median"].get_ydata())


def test_scalar_start_and_lead_time_make_a_valid_time(drawn):
    fc = drawn.forecast(3)
    one = fc.swap_dims(time="lead_time").drop_vars("time").isel(lead_time=1)
    figure = PlotAccessor(one).compare(fc.drop_vars(["init_time", "lead_time"]), "msl")
    assert figure.axes[0].get_title() == "forecast\n2026-01-30 06:00, +12 h"


@pytest.mark.parametrize("time", ["24h", 0])
def test_the_remedy_for_several_starts_is_one_start(drawn, time):
    fc = drawn.forecast(4).swap_dims(time="lead_time").drop_vars(["time", "init_time"])
    starts = np.datetime64("2026-01-30", "ns") + np.arange(20) * np.timedelta64(1, "D")
    ds = xr.concat([fc] * 20, xr.Variable("init_time", starts))
    for one in (ds, ds.assign_coords(time=ds.init_time + ds.lead_time)):
        with pytest.raises(MismatchError, match="init_time: it has 20 values") as caught:
            PlotAccessor(one).map("msl", time=time)
        (problem,) = caught.value.problems
        assert problem.remedy == "fc.isel(init_time=0).wx.plot.map(...)"
        assert PlotAccessor(one.isel(init_time=0)).map("msl", time=time)


@pytest.mark.parametrize("time", ["25h", np.timedelta64(25, "h")])
def test_a_missing_lead_time_is_written_in_hours(drawn, time):
    with pytest.raises(ValueError, match=r"time=25 h: there is no such lead time; there are 6 h,"):
        PlotAccessor(drawn.forecast()).map("msl", time=time)


def test_a_grid_of_two_dimensions_says_what_a_map_needs(drawn):
    y, x = np.mgrid[40:50:4j, 0:10:5j]
    ds = xr.Dataset(
        {"T2": (("south_north", "west_east"), y + x)},
        {"XLAT": (("south_north", "west_east"), y), "XLONG": (("south_north", "west_east"), x)},
    )
    ds["XLAT"].attrs = {"units": "degrees_north", "standard_name": "latitude"}
    ds["XLONG"].attrs = {"units": "degrees_east", "standard_name": "longitude"}
    with pytest.raises(MismatchError, match="XLAT, XLONG: latitude and longitude are two-dim") as e:
        PlotAccessor(ds).map("T2")
    assert "xesmf" in str(e.value)
    assert "rows and columns" in str(e.value)
    assert "model" not in str(e.value)
    # The second remedy is true where the rows are straight, as they are here.
    straight = ds.assign_coords(
        south_north=ds.XLAT.isel(west_east=0), west_east=ds.XLONG.isel(south_north=0)
    ).drop_vars(["XLAT", "XLONG"])
    mesh = PlotAccessor(straight).map("T2")
    np.testing.assert_array_equal(np.ravel(mesh.get_array()), np.ravel(y + x))


def test_the_title_says_which_step_of_an_unknown_dimension(drawn):
    fc = drawn.forecast(4)[["msl"]].drop_vars(["time", "lead_time", "init_time"])
    ds = fc.rename(time="timestep").assign_coords(timestep=np.arange(4), crs=0, height=2.0)
    for one in (ds.isel(timestep=3), ds.isel(timestep=[3])):
        assert PlotAccessor(one).map().axes.get_title() == "timestep = 3"
    both = drawn.ensemble(3).isel(member=2, time=0)
    title = PlotAccessor(both).map().axes.get_title()
    assert title == "2026-01-30 00:00, +6 h, member = 2"
    with pytest.raises(MismatchError, match="timestep: it has 4 values"):
        PlotAccessor(ds).map()


def test_the_scorecard_says_what_dots_mean_and_ends_at_a_hundred_per_cent(drawn):
    own, other = drawn.scores(3, scale=9.0), drawn.scores(3)
    ax = PlotAccessor(own).scorecard(other)
    assert ax.collections[0].get_clim() == (-100, 100)
    assert ax.collections[0].colorbar.extend == "min"
    assert "dot" not in ax.get_title()
    assert PlotAccessor(own).scorecard(other, "bias").collections[0].get_clim() == (-100, 100)
    assert PlotAccessor(own).scorecard(other, limit=900).collections[0].get_clim() == (-900, 900)
    bound = xr.Variable("bound", ["lower", "upper"])
    own["t_difference_interval"] = xr.concat([own.t, own.t], bound)
    title = PlotAccessor(own).scorecard(other).get_title()
    assert title.endswith("\ndot: the interval of the difference excludes 0")
    own["t_difference_interval"].attrs["confidence"] = 0.95
    for one in (own, own.assign_attrs(xwx_confidence=0.9)):
        title = PlotAccessor(one).scorecard(other).get_title()
        assert title.endswith("\ndot: the 95 % interval of the difference excludes 0")
    small = PlotAccessor(drawn.scores(3, scale=0.8)).scorecard(other)
    np.testing.assert_allclose(small.collections[0].get_clim(), (-20, 20))
    assert small.collections[0].colorbar.extend == "neither"


def test_a_spectrum_alone_has_no_name_unless_it_is_given():
    k = np.arange(20.0)
    ds = xr.Dataset({"ke": ("wavenumber", (k + 1) ** -2)}, {"wavenumber": k})
    texts = {}
    for key, given in (
        ("alone", {}),
        ("named", {"name": "mine"}),
        ("both", {"others": {"truth": ds}}),
    ):
        legend = PlotAccessor(ds).spectra(**given).get_legend()
        texts[key] = [t.get_text() for t in legend.get_texts() if "$" not in t.get_text()]
    assert texts == {"alone": [], "named": ["mine"], "both": ["this Dataset", "truth"]}
    assert PlotAccessor(ds).spectra(slopes=()).get_legend() is None
