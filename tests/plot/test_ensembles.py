"""Plumes, spaghetti and films, and what is said where they cannot be."""

from __future__ import annotations

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.animation import writers
from matplotlib.collections import PolyCollection, QuadMesh
from PIL import Image

from xwx.errors import MismatchError
from xwx.plot import PlotAccessor
from xwx.plot.ensembles import distance


def test_distances_on_great_circles():
    quarter = np.pi / 2 * 6371
    np.testing.assert_allclose(distance(0, 0, np.array([0, 0, 90]), np.array([90, 180, 37])),
                               [quarter, 2 * quarter, quarter])  # fmt: skip
    np.testing.assert_allclose(distance(10, 359.5, np.array(10.0), np.array(-0.5)), 0, atol=1e-9)
    # Over the pole the way is short: 60 N to 60 N on the other side is 60 degrees.
    np.testing.assert_allclose(distance(60, 0, np.array(60.0), np.array(180.0)), 2 / 3 * quarter)


@pytest.mark.parametrize("longitude", [-11.0, 349.0])
def test_a_plume_holds_the_members_at_the_nearest_point(drawn, longitude):
    ds = drawn.ensemble(members=7, count=5)
    ax = PlotAccessor(ds).plume(latitude=51, longitude=longitude)
    lat, lon = ds.latitude.values, ds.longitude.values
    row, column = np.abs(lat - 51).argmin(), np.abs(lon - 349).argmin()
    values = ds.t2m.transpose("member", "time", ...).values[:, :, row, column]
    for member, line in enumerate(ax.lines[:7]):
        np.testing.assert_array_equal(line.get_ydata(), values[member])
    median = next(line for line in ax.lines if line.get_label() == "median")
    np.testing.assert_array_equal(median.get_ydata(), np.sort(values, axis=0)[3])
    bands = {c.get_label(): c for c in ax.collections if isinstance(c, PolyCollection)}
    for label, share in (("90 %", 0.05), ("50 %", 0.25)):
        y = bands[label].get_paths()[0].vertices[:, 1]
        low, high = np.quantile(values, (share, 1 - share), axis=0)
        np.testing.assert_allclose([y.min(), y.max()], [low.min(), high.max()], rtol=1e-6)
    assert f"{abs(lat[row]):g}°N" in ax.get_title()
    away = distance(51, longitude, lat[row : row + 1], lon[column : column + 1])[0]
    assert f"{away:.0f} km from 51°N 11°W" in ax.get_title()


def test_a_plume_with_the_truth_at_the_times_it_has(drawn):
    ds, fc = drawn.ensemble(count=5), drawn.forecast(5)
    truth = fc[["t2m"]].drop_vars(["lead_time", "init_time"])
    truth = truth.copy(data={"t2m": fc.t2m.values - 273.15}).sortby("latitude")
    truth["t2m"].attrs = {"units": "degC", "standard_name": "air_temperature"}
    ax = PlotAccessor(ds).plume(latitude=-30, longitude=100, truth=truth.isel(time=[3, 1]))
    line = next(line for line in ax.lines if line.get_label() == "truth")
    want = fc.t2m.sel(latitude=-30, longitude=100, method="nearest").values
    np.testing.assert_allclose(line.get_ydata(), want[[3, 1]], atol=1e-3)
    np.testing.assert_array_equal(line.get_xdata(), fc.time.values[[3, 1]])


def test_a_truth_of_other_times_is_an_error(drawn):
    truth = drawn.forecast(1).assign_coords(time=[np.datetime64("2025-01-01", "ns")])
    with pytest.raises(MismatchError, match="none of the valid times 2026-01-30 00:00 to"):
        PlotAccessor(drawn.ensemble()).plume(latitude=0, longitude=0, truth=truth)
    assert not plt.get_fignums()


def test_a_plume_at_a_level_with_the_truth_on_levels_in_pascals(drawn):
    fc = drawn.forecast(3)
    ds = xr.concat([fc[["t"]], fc[["t"]]], "member")
    ds["t"].attrs = fc.t.attrs
    truth = fc[["t"]].assign_coords(level=("level", [85000.0, 50000.0], {"units": "Pa"}))
    truth = truth.isel(level=[1, 0]).drop_vars(["lead_time", "init_time"])
    with pytest.raises(MismatchError, match=r"level: it has 2 values.*850, 500"):
        PlotAccessor(ds).plume(latitude=0, longitude=0)
    ax = PlotAccessor(ds).plume(latitude=50, longitude=20, level=500, truth=truth)
    want = fc.t.sel(latitude=50, longitude=20, method="nearest").sel(level=500).values
    for label in ("median", "truth"):
        line = next(line for line in ax.lines if line.get_label() == label)
        np.testing.assert_array_equal(line.get_ydata(), want)
    assert "at 500 hPa" in ax.get_title()


def test_a_plume_reads_one_column(drawn):
    seen = []

    def note(block, block_info=None):
        if block_info:
            seen.append(tuple(block_info[0]["chunk-location"][-2:]))
        return block

    ds = drawn.ensemble(members=3)
    lazy = ds.chunk(latitude=4, longitude=8)
    data = lazy.t2m.data.map_blocks(note, dtype="float32", meta=ds.t2m.values)
    PlotAccessor(lazy.assign(t2m=lazy.t2m.copy(data=data))).plume(latitude=80, longitude=2)
    assert set(seen) == {(0, 0)}


def test_a_place_outside_the_grid_is_an_error(drawn):
    ds = drawn.ensemble().sel(latitude=slice(80, 20), longitude=slice(0, 60))
    with pytest.raises(ValueError, match=r"the nearest grid point is .* km away"):
        PlotAccessor(ds).plume(latitude=-20, longitude=30)
    with pytest.raises(ValueError, match="latitude=95"):
        PlotAccessor(ds).plume(latitude=95, longitude=30)
    with pytest.raises(MismatchError, match="has a dimension 'member'"):
        PlotAccessor(drawn.forecast()).plume("t2m", latitude=0, longitude=0)
    assert not plt.get_fignums()


def test_spaghetti_is_a_line_for_each_member_where_the_field_has_the_value(drawn):
    ds = drawn.ensemble(members=3).isel(time=[0])
    ds["t2m"] = (ds.latitude + 5.0 * ds.member + 0 * ds.t2m).transpose(*ds.t2m.dims)
    ax = PlotAccessor(ds).spaghetti(contour=20.0)
    sets = [c for c in ax.collections if hasattr(c, "allsegs")]
    assert len(sets) == 4  # and the mean
    for lines, latitude in zip(sets, (20, 15, 10, 15), strict=True):
        (line,) = lines.allsegs[0]
        np.testing.assert_allclose(line[:, 1], latitude, atol=1e-9)
        np.testing.assert_allclose([line[:, 0].min(), line[:, 0].max()], [-180, 180], atol=1e-5)
    with pytest.raises(ValueError, match="contour=300: no member has it"):
        PlotAccessor(ds).spaghetti(contour=300)


def test_a_film_reads_a_frame_at_a_time_and_closes_its_figure(drawn, tmp_path, capsys):
    ds = drawn.forecast(3)[["msl"]]
    seen = []

    def note(block, block_info=None):
        if block_info:
            seen.append(block_info[0]["chunk-location"][0])
        return block

    lazy = ds.chunk(time=1)
    data = lazy.msl.data.map_blocks(note, dtype="float32", meta=ds.msl.values)
    lazy = lazy.assign(msl=lazy.msl.copy(data=data))
    path = tmp_path / "film.gif"
    PlotAccessor(lazy).animate("msl", path, dpi=30, progress=True)
    assert not plt.get_fignums()
    assert seen[:3] == [0, 1, 2]  # for the range
    assert seen[3:] == [0, 0, 1, 2]  # the first picture, then the frames
    with Image.open(path) as film:
        assert film.n_frames == 3
    assert "6/6" in capsys.readouterr().err


def test_a_film_has_one_range_and_each_frame_its_field_and_title(drawn):
    ds = drawn.forecast(3)
    film = PlotAccessor(ds).animate("msl", progress=False)
    (number,) = plt.get_fignums()
    ax = plt.figure(number).axes[0]
    mesh = next(c for c in ax.collections if isinstance(c, QuadMesh))
    film._draw_was_started = True  # matplotlib warns of films that nobody watched
    assert mesh.get_clim() == (ds.msl.min(), ds.msl.max())
    for step, title in enumerate(("2026-01-30 00:00, +6 h", "2026-01-30 06:00, +12 h")):
        film._draw_frame(step)
        assert ax.get_title() == title
        values = np.asarray(mesh.get_array()).reshape(ds.latitude.size, -1)
        np.testing.assert_array_equal(np.sort(np.unique(values)), np.unique(ds.msl[step]))


def test_an_mp4_without_ffmpeg_names_the_gif(drawn, monkeypatch):
    monkeypatch.setattr(writers, "is_available", lambda name: False)
    with pytest.raises(ValueError, match=r"ffmpeg.*'film\.gif'"):
        PlotAccessor(drawn.forecast()).animate("msl", "film.mp4")
    with pytest.raises(ValueError, match=r"ends in \.gif or \.mp4"):
        PlotAccessor(drawn.forecast()).animate("msl", "film.avi")
    assert not plt.get_fignums()


@pytest.mark.parametrize("missing", ["cartopy", "matplotlib"])
def test_without_the_libraries_the_error_names_the_extra(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "try:\n    import xwx.plot\n"
        "except ImportError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "xarray-wx[plot]"' in run.stdout
