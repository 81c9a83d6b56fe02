"""The numbers on maps: the field itself, whatever its layout, and no more of it than is asked."""

from __future__ import annotations

from datetime import datetime, timedelta

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xwx.errors import MismatchError
from xwx.plot import PlotAccessor
from xwx.plot.coastlines import coastlines
from xwx.plot.slab import cells, closed, slab_of

LAYOUTS = {
    "as it is": lambda ds: ds,
    "south first": lambda ds: ds.isel(latitude=slice(None, None, -1)),
    "from -180": lambda ds: ds.assign_coords(
        longitude=("longitude", (ds.longitude.values + 180) % 360 - 180, {"units": "degrees_east"})
    ),
    "sorted from -180": lambda ds: LAYOUTS["from -180"](ds).sortby("longitude"),
    "westwards": lambda ds: ds.isel(longitude=slice(None, None, -1)),
    "rolled": lambda ds: ds.roll(longitude=5, roll_coords=True),
    "transposed": lambda ds: ds.transpose("longitude", ..., "latitude"),
    "other names": lambda ds: ds.rename(latitude="lat", longitude="lon", time="valid_time"),
    "dask": lambda ds: ds.chunk(time=1, latitude=3),
    "quantified": lambda ds: ds.pint.quantify(),
    "closed globe": lambda ds: ds.pad(longitude=(0, 1), mode="wrap").assign_coords(
        longitude=("longitude", np.append(ds.longitude, 360.0), {"units": "degrees_east"})
    ),
}


def field_at(ds, name, lat, lon):
    """Return the values of the grid points that lie next to places."""
    rows = np.abs(ds.latitude.values - lat[:, None]).argmin(1)
    apart = np.abs((ds.longitude.values - lon[:, None] + 180) % 360 - 180)
    return ds[name].transpose("latitude", "longitude").values[np.ix_(rows, apart.argmin(1))]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("projection", [None, "Robinson"])
def test_the_cells_hold_the_field_whatever_its_layout(drawn, layout, projection):
    ds = drawn.forecast()
    laid = LAYOUTS[layout](ds)
    mesh = PlotAccessor(laid).map("msl", time=2, projection=projection)
    corners = mesh.get_coordinates()
    lon, lat = corners[0, :, 0], corners[:, 0, 1]
    assert np.all(np.diff(lon) > 0)
    assert np.all(np.diff(lat) > 0)
    np.testing.assert_allclose([lon[0], lon[-1]], [-180, 180], atol=1e-5)
    np.testing.assert_allclose([lat[0], lat[-1]], [-90, 90], atol=1e-9)
    want = field_at(ds.isel(time=2), "msl", (lat[1:] + lat[:-1]) / 2, (lon[1:] + lon[:-1]) / 2)
    np.testing.assert_array_equal(mesh.get_array().reshape(want.shape), want)
    assert mesh.get_clim() == (ds.msl[2].min(), ds.msl[2].max())
    assert mesh.axes.get_title() == "2026-01-30 12:00, +18 h"


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(3, 40),
    first=st.floats(-180, 360),
    centre=st.sampled_from([0.0, 180.0, 90.0, -37.5, 11.25]),
)
@example(width=16, first=1e-6, centre=11.25)
def test_a_globe_is_cut_at_the_edge_of_the_map_without_gap_or_overlap(width, first, centre):
    lon = (first + np.arange(width) * 360.0 / width) % 360.0
    array = xr.DataArray(
        np.tile(np.arange(width, dtype=float), (2, 1)),
        {"latitude": [10.0, -10.0], "longitude": lon},
        ("latitude", "longitude"),
    )
    slab = slab_of(array, "latitude", "longitude")
    assert slab.periodic
    x, _, values = cells(slab, centre)
    assert np.all(np.diff(x) > 0)
    np.testing.assert_allclose([x[0], x[-1]], [centre - 180, centre + 180], atol=1e-5)
    middle = (x[1:] + x[:-1]) / 2
    apart = np.abs((lon - middle[:, None] + 180) % 360 - 180)
    # A sliver at an edge may lie exactly between two points.
    wide = np.diff(x) > 1e-3
    np.testing.assert_array_equal(values[0][wide], apart.argmin(1)[wide])
    ring = closed(slab, centre)
    np.testing.assert_allclose(ring.longitude[[0, -1]], [centre - 180, centre + 180], atol=1e-5)
    np.testing.assert_array_equal(ring.values[:, 0], ring.values[:, -1])


def test_contour_lines_meet_the_edge_where_the_field_between_its_columns_does():
    lon = np.arange(0.0, 360.0, 40.0)
    array = xr.DataArray(
        np.tile(np.arange(9.0) ** 2, (2, 1)),
        {"latitude": [0.0, 1.0], "longitude": lon},
        ("latitude", "longitude"),
    )
    slab = slab_of(array, "latitude", "longitude")
    for centre, edge in ((0.0, 0.5 * 16 + 0.5 * 25), (10.0, 0.25 * 16 + 0.75 * 25), (20.0, 25.0)):
        ring = closed(slab, centre)
        np.testing.assert_allclose(ring.values[:, [0, -1]], edge, rtol=1e-6)
        assert ring.longitude.size == lon.size + (1 if centre == 20.0 else 2)


@pytest.mark.parametrize("longitudes", [[350.0, 0.0, 10.0], [-10.0, 0.0, 10.0], [10.0, 0.0, 350.0]])
def test_a_region_across_greenwich_is_one_piece(longitudes):
    values = np.array([[1.0, 2.0, 3.0]] * 2)
    if longitudes[0] == 10.0:
        values = values[:, ::-1]
    array = xr.DataArray(
        values, {"latitude": [40.0, 50.0], "longitude": longitudes}, ("latitude", "longitude")
    )
    slab = slab_of(array, "latitude", "longitude")
    assert not slab.periodic
    np.testing.assert_array_equal(slab.longitude, [-10, 0, 10])
    np.testing.assert_array_equal(slab.values[0], [1, 2, 3])
    assert slab.box == (-15, 15, 35, 55)


def test_only_the_field_that_is_drawn_is_computed(drawn):
    ds = drawn.forecast()
    seen = []

    def note(block, block_info=None):
        if block_info:
            seen.append(tuple(block_info[0]["chunk-location"]))
        return block

    lazy = ds.chunk(time=1, level=1)
    lazy["t"] = lazy.t.copy(data=lazy.t.data.map_blocks(note, dtype="float32", meta=ds.t.values))
    lazy["z"] = lazy.z.copy(
        data=lazy.z.data.map_blocks(lambda b: 1 / 0, dtype="float32", meta=ds.z.values)
    )
    PlotAccessor(lazy).map("t", time=2, level=500)
    assert [place[:2] for place in seen] == [(2, 1)]


@pytest.mark.parametrize(
    "time",
    [
        1,
        -3,
        np.timedelta64(12, "h"),
        timedelta(hours=12),
        pd.Timedelta("12h"),
        "2026-01-30T06",
        "2026-01-30 06:00",
        datetime(2026, 1, 30, 6),
        pd.Timestamp("2026-01-30 06"),
        np.datetime64("2026-01-30T06:00", "ns"),
    ],
)
def test_a_step_by_number_lead_time_or_valid_time(drawn, time):
    mesh = PlotAccessor(drawn.forecast()).map("msl", time=time)
    assert mesh.axes.get_title() == "2026-01-30 06:00, +12 h"


def test_times_of_a_calendar_that_is_not_the_real_one(drawn):
    ds = drawn.forecast()
    times = xr.date_range("2026-02-29", periods=4, freq="6h", calendar="360_day", use_cftime=True)
    ds = ds.assign_coords(time=times).drop_vars("init_time")
    for time in (1, "2026-02-29T06", times[1]):
        mesh = PlotAccessor(ds).map("msl", time=time)
        assert mesh.axes.get_title() == "2026-02-29 06:00, +12 h"
    ensemble = xr.concat([ds[["t2m"]], ds[["t2m"]]], "member")
    ax = PlotAccessor(ensemble).plume(latitude=0, longitude=0)
    assert ax.get_xlabel() == "lead time [h]"


def test_several_starts_need_one_start(drawn):
    fc = drawn.forecast().drop_vars("init_time").swap_dims(time="lead_time")
    starts = fc.time.values[:1] - np.timedelta64(6, "h") + np.arange(2) * np.timedelta64(1, "D")
    ds = xr.concat([fc.drop_vars("time"), fc.drop_vars("time") + 1], "init_time")
    ds = ds.assign_coords(
        init_time=starts, time=(("init_time", "lead_time"), starts[:, None] + fc.lead_time.values)
    )
    ds["msl"].attrs = fc.msl.attrs
    with pytest.raises(MismatchError, match=r"init_time: it has 2 values(.|\n)*isel\(init_time=0"):
        PlotAccessor(ds).map("msl", time=0)
    with pytest.raises(ValueError, match="select one start first"):
        PlotAccessor(ds).map("msl", time="2026-01-31T06")
    one = ds.isel(init_time=[1])
    for time in (1, np.timedelta64(12, "h"), "2026-01-31T06"):
        mesh = PlotAccessor(one).map("msl", time=time)
        assert mesh.axes.get_title() == "2026-01-31 06:00, +12 h"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({}, MismatchError, "z, t, t2m, msl can be drawn"),
        ({"variable": "rain"}, MismatchError, "rain: there is no such variable"),
        ({"variable": "msl"}, MismatchError, r"time: it has 4 values.*: 2026-01-30 00:00, "),
        (
            {"variable": "t", "time": 0},
            MismatchError,
            r"level: it has 2 values.*850, 500",
        ),
        ({"variable": "msl", "time": 4}, ValueError, "there are 4 steps"),
        ({"variable": "msl", "time": True}, TypeError, "time=True is a bool"),
        ({"variable": "msl", "time": "2026-02-01"}, ValueError, "no such valid time; there are"),
        (
            {"variable": "msl", "time": np.timedelta64(1, "h")},
            ValueError,
            "no such lead time; there are 6 h, 12 h, 18 h, 24 h",
        ),
        ({"variable": "t", "time": 0, "level": 700}, ValueError, "there are 850, 500 hPa"),
        ({"variable": "msl", "time": 0, "level": 700}, ValueError, "has no levels"),
        ({"variable": "msl", "time": 0, "projection": "Flat"}, ValueError, "no such projection"),
        ({"variable": "msl", "time": 0, "projection": 3}, TypeError, "projection=3 is a int"),
        ({"variable": "msl", "time": 0, "extent": (0, 9, 50, 40)}, ValueError, "south < north"),
        ({"variable": "msl", "time": 0, "wind": True}, MismatchError, "wind barbs: 2 problems"),
    ],
)
def test_errors_say_what_to_do_and_leave_no_figure(drawn, arguments, error, match):
    with pytest.raises(error, match=match):
        PlotAccessor(drawn.forecast()).map(**arguments)
    assert not plt.get_fignums()


def test_axes_without_a_projection_are_refused(drawn):
    with pytest.raises(TypeError, match="axes with a projection"):
        PlotAccessor(drawn.forecast()).map("msl", time=0, ax=plt.subplots()[1])


def test_a_data_array_is_refused(drawn):
    with pytest.raises(TypeError, match=r"use \.to_dataset\(\)"):
        PlotAccessor(drawn.forecast().msl).map()


def test_given_axes_are_used_and_no_figure_is_made(drawn):
    ax = plt.axes(projection=ccrs.PlateCarree())
    mesh = PlotAccessor(drawn.forecast()).map("msl", time=0, ax=ax)
    assert mesh.axes is ax
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("name", "attrs", "cmap", "symmetric"),
    [
        ("vo", {"units": "s-1"}, "PuOr_r", True),
        ("x", {"standard_name": "eastward_wind", "units": "m s-1"}, "PuOr_r", True),
        ("t850", {"units": "K"}, "inferno", False),
        ("t", {"standard_name": "geopotential", "units": "m2 s-2"}, "viridis", False),
        ("tp", {"units": "m"}, "Blues", False),
        ("unknown", {}, "viridis", False),
    ],
)
def test_colours_follow_the_standard_name_and_then_the_name(drawn, name, attrs, cmap, symmetric):
    ds = drawn.forecast()[["msl"]].isel(time=0).rename(msl=name)
    ds[name].attrs = attrs
    shifted = ds.copy(data={name: ds[name].values - 1e5})
    mesh = PlotAccessor(shifted).map()
    low, high = mesh.get_clim()
    assert mesh.get_cmap().name == cmap
    assert (low == -high) is symmetric
    if symmetric:
        most = np.percentile(np.abs(shifted[name].values), 99.5)
        np.testing.assert_allclose(high, most, rtol=1e-6)


def test_the_label_has_name_level_and_units(drawn):
    mesh = PlotAccessor(drawn.forecast()).map("z", time=0, level=500)
    assert mesh.colorbar.ax.get_ylabel() == "Geopotential at 500 hPa [m² s⁻²]"


def test_barbs_are_the_wind_in_knots_at_its_places(drawn):
    ds = drawn.forecast().isel(time=0)
    ds["u10"] = (0 * ds.t2m + 10).assign_attrs(units="m s-1", standard_name="eastward_wind")
    ds["v10"] = (0 * ds.t2m - 36).assign_attrs(units="km h-1", standard_name="northward_wind")
    mesh = PlotAccessor(ds).map("msl", wind=True)
    (barbs,) = [c for c in mesh.axes.collections if type(c).__name__ == "Barbs"]
    np.testing.assert_allclose(barbs.u, 10 * 3600 / 1852, rtol=1e-6)
    np.testing.assert_allclose(barbs.v, -10 * 3600 / 1852, rtol=1e-6)
    assert np.abs(barbs.y).max() < 88
    np.testing.assert_array_equal(np.ravel(barbs.flip), barbs.y < 0)
    assert set(np.round(barbs.x % 360, 3)) <= set(np.round(ds.longitude.values, 3))


@pytest.mark.parametrize(
    "projection", ["Orthographic", "Mollweide", "SouthPolarStereo", "Mercator", "LambertConformal"]
)
def test_any_projection_draws_without_a_warning(drawn, projection):
    ds = drawn.forecast().isel(time=0)
    ds["u10"] = (0 * ds.t2m + 10).assign_attrs(units="m s-1", standard_name="eastward_wind")
    ds["v10"] = (0 * ds.t2m + 5).assign_attrs(units="m s-1", standard_name="northward_wind")
    mesh = PlotAccessor(ds).map("msl", contours="t2m", wind=True, projection=projection)
    mesh.figure.canvas.draw()


@pytest.mark.parametrize(
    ("box", "projection"),
    [
        ((-20, 40, 30, 72), ccrs.LambertConformal),
        ((110, 180, -50, -10), ccrs.LambertConformal),
        ((-30, 30, -20, 20), ccrs.PlateCarree),
        ((160, -150, -60, -30), ccrs.LambertConformal),
        ((-180, 180, 55, 90), ccrs.NorthPolarStereo),
        ((-180, 180, -90, -55), ccrs.SouthPolarStereo),
    ],
)
def test_a_region_has_a_fitting_projection_that_shows_it(drawn, box, projection):
    mesh = PlotAccessor(drawn.forecast()).map("msl", time=0, extent=box)
    ax = mesh.axes
    assert isinstance(ax.projection, projection)
    west, east, south, north = box
    middle = (west + (east + 360 * (east <= west))) / 2
    x, y = ax.projection.transform_point(middle, (south + north) / 2, ccrs.PlateCarree())
    assert ax.get_xlim()[0] <= x <= ax.get_xlim()[1]
    assert ax.get_ylim()[0] <= y <= ax.get_ylim()[1]


def test_coastlines_run_past_ports_and_not_through_deserts():
    from shapely.geometry import Point

    lines = coastlines()
    for port in ((-9.4, 38.7), (18.4, -33.9), (151.2, -33.9), (-74.0, 40.6), (-70.9, -53.2)):
        assert lines.distance(Point(port)) < 0.8, port
    for inland in ((10, 22), (100, 60), (-60, -10), (0, 85), (0, -89), (180, 0)):
        assert lines.distance(Point(inland)) > 4, inland
    jumps = [np.abs(np.diff(np.array(line.coords), axis=0)).max() for line in lines.geoms]
    assert max(jumps) < 10


def test_without_latex_and_with_masked_values(drawn):
    assert not plt.rcParams["text.usetex"]
    ds = drawn.forecast().isel(time=0)
    ds["msl"] = ds.msl.where(ds.latitude > 0)
    mesh = PlotAccessor(ds).map("msl")
    assert np.isnan(np.asarray(mesh.get_array())).any() or np.ma.is_masked(mesh.get_array())
    assert mesh.get_clim() == (ds.msl.min(), ds.msl.max())


@pytest.mark.parametrize("text", ["12h", "+12 h", "0.5 days", "720 min"])
def test_a_lead_time_in_words(text):
    from xwx.plot.steps import _lead

    assert _lead(text) == np.timedelta64(12, "h")


@pytest.mark.parametrize("value", ["2026-01-25", 3, np.timedelta64(6, "h"), "h", "24 x"])
def test_what_is_no_lead_time_stays(value):
    from xwx.plot.steps import _lead

    assert _lead(value) is value
