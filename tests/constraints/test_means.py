"""Means over coarser cells, over time, and over both."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xwx.constraints import AreaMean, TimeMean
from xwx.errors import MismatchError
from xwx.fields import regrid
from xwx.spec import Grid

QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
GRIDS = [
    Grid.regular(5, 5, poles=True),
    Grid.regular(3, 6, poles=False),
    Grid((40.0, 15.0, -10.0), (10.0, 50.0, 90.0)),
    Grid((40.0, 10.0), (10.0, 50.0, 330.0)),
]


def close(observation, x, window, small):
    seen = observation.operator(small.window_of(x, window))[0]
    scale = observation.value.abs().clamp(min=1e-3)
    torch.testing.assert_close(seen / scale, observation.value / scale, rtol=0, atol=1e-10)


@pytest.mark.parametrize("grid", GRIDS, ids=["poles", "between", "region", "seam"])
@pytest.mark.parametrize("fine", ["POLES", "BETWEEN"])
def test_area_means_are_those_of_regridding(small, grid, fine):
    scene, x = small.scene(4, getattr(small, fine))
    ds = small.labelled(x.numpy(), scene.times, getattr(small, fine))
    coarse = regrid(ds, grid)
    bound = AreaMean(coarse).bind(scene)
    assert bound.name == "area_mean"
    seen = bound.observe(range(1, 5))
    rows, columns = grid.shape
    assert seen.operator.size == 3 * 9 * rows * columns
    close(seen, x, range(1, 5), small)


@QUICK
@given(how=st.data())
def test_area_means_do_not_depend_on_the_presentation(small, how):
    scene, x = small.scene(3)
    coarse = regrid(small.labelled(x.numpy(), scene.times)[["t", "z", "u10"]], GRIDS[0])
    how = how.draw(small.presentations)
    a = AreaMean(coarse).bind(scene).observe(range(3))
    b = AreaMean(small.present(coarse.copy(), how)).bind(scene).observe(range(3))
    torch.testing.assert_close(b.value, a.value, rtol=1e-12, atol=1e-9)
    y = small.window_of(x, range(3))
    torch.testing.assert_close(b.operator(y), a.operator(y), rtol=1e-12, atol=1e-9)


def test_a_cell_reaches_to_its_bounds(small):
    scene, x = small.scene(1)
    bounds = {
        "lat": ("lat", [60.0, -30.0], {"bounds": "lat_bnds", "units": "degrees_north"}),
        "lon": ("lon", [-60.0, 90.0], {"bounds": "lon_bnds", "units": "degrees_east"}),
        "time": scene.times[:1],
        "lat_bnds": (("lat", "nv"), [[33.75, 90.0], [-56.25, 0.0]]),
        "lon_bnds": (("lon", "nv"), [[-105.0, -15.0], [75.0, 105.0]]),
    }
    dims = ("time", "lat", "lon")
    values = xr.Dataset({"msl": (dims, np.zeros((1, 2, 2)), {"units": "Pa"})}, bounds)
    operator = AreaMean(values).bind(scene).observe(range(1)).operator
    seen = operator(small.window_of(x, range(1)))[0]
    edges = np.deg2rad([90.0, 78.75, 56.25, 33.75, 11.25, -11.25, -33.75, -56.25])
    area = -np.diff(np.sin(edges))
    msl = x[0, 3].numpy()
    # columns are eastwards from 0: 75 to 105 is column 3, 255 to 345 are columns 9, 10, 11
    north = [area[:3] @ msl[:3, 3], area[:3] @ msl[:3, 9:].mean(1)]
    south = np.append(np.sin(np.deg2rad(11.25)), area[5:7])
    low = [south @ msl[4:7, 3], south @ msl[4:7, 9:].mean(1)]
    expected = [*(np.array(north) / area[:3].sum()), *(np.array(low) / south.sum())]
    np.testing.assert_allclose(seen.numpy(), expected, rtol=1e-12)


def test_cells_without_a_number_are_left_out(small):
    scene, x = small.scene(3)
    coarse = regrid(small.labelled(x.numpy(), scene.times)[["msl", "t2m"]], GRIDS[1])
    coarse["msl"][1, 0, 3] = np.nan
    coarse["t2m"][2] = np.nan
    bound = AreaMean(coarse, {"msl": "2 Pa", "t2m": "3 K"}).bind(scene)
    seen = bound.observe(range(3))
    assert seen.operator.size == 3 * 2 * 18 - 19
    close(seen, x, range(3), small)
    assert sorted(seen.variances.tolist()) == [4.0] * 53 + [9.0] * 36
    with pytest.raises(MismatchError, match="NaN"):
        AreaMean(coarse.where(False)).bind(scene)


def test_a_gaussian_model_reaches_to_the_poles(small):
    rows = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(8)[0]))[::-1]
    scene, x = small.scene(1, Grid(tuple(rows), small.POLES.longitude))
    ones = xr.Dataset(
        {"msl": (("time", "lat", "lon"), np.ones((1, 4, 4)), {"units": "Pa"})},
        {"time": scene.times, "lat": [67.5, 22.5, -22.5, -67.5], "lon": [0.0, 90.0, 180.0, 270.0]},
    )
    seen = AreaMean(ones).bind(scene).observe(range(1))
    torch.testing.assert_close(
        seen.operator(torch.ones_like(small.window_of(x, range(1)))), seen.value[None]
    )


def test_finer_cells_are_refused(small):
    scene, x = small.scene(2)
    grid = Grid.regular(17, 24, poles=True)
    fine = regrid(small.labelled(x.numpy(), scene.times)[["msl"]], grid, "linear")
    with pytest.raises(MismatchError) as error:
        AreaMean(fine).bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "finer-grid"
    assert "11.25 x 15" in problem.message
    assert "22.5 x 30" in problem.message


def test_cells_that_reach_out_of_a_region_are_refused_with_those_that_do_not(small):
    scene, _ = small.scene(1, small.REGION)
    values = xr.Dataset(
        {"msl": (("time", "lat", "lon"), np.ones((1, 3, 4)), {"units": "Pa"})},
        {"time": scene.times, "lat": [46.5, 48.0, 51.0], "lon": [-3.0, 1.5, 6.0, 10.5]},
    )
    with pytest.raises(MismatchError) as error:
        AreaMean(values).bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "outside-grid"
    assert problem.message.startswith("3 of 12 cells")
    made = {"values": values}
    exec(problem.remedy, made)
    assert made["values"].lon.values.tolist() == [1.5, 6.0, 10.5]
    bound = AreaMean(made["values"]).bind(scene)
    assert bound.observe(range(1)).operator.size == 9


@pytest.mark.parametrize("dim", ["lat", "lon"])
def test_one_row_or_column_needs_bounds(small, dim):
    scene, x = small.scene(1)
    coarse = regrid(small.labelled(x.numpy(), scene.times)[["msl"]], GRIDS[1]).isel({dim: [1]})
    with pytest.raises(MismatchError) as error:
        AreaMean(coarse).bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "missing-bounds"
    made = {"values": coarse}
    low, high = {"lat": (-30, 30), "lon": (30, 90)}[dim]
    exec(problem.remedy.replace("LOW", str(low)).replace("HIGH", str(high)), made)
    close(AreaMean(made["values"]).bind(scene).observe(range(1)), x, range(1), small)


def test_bounds_of_other_points_are_refused(small):
    scene, x = small.scene(1)
    coarse = regrid(small.labelled(x.numpy(), scene.times)[["msl"]], GRIDS[1])
    coarse["lon"].attrs["bounds"] = "lon_bnds"
    coarse["lon_bnds"] = (("lon", "nv"), np.stack([coarse.lon + 60, coarse.lon + 120], 1))
    with pytest.raises(MismatchError) as error:
        AreaMean(coarse).bind(scene)
    assert [p.kind for p in error.value.problems] == ["wrong-bounds"]


def daily(small, count=10, grid=None, **how):
    scene, x = small.scene(count)
    ds = small.labelled(x.numpy(), scene.times)
    means = ds.resample(time="1D", **how).mean(keep_attrs=True)
    return scene, x, means.isel(time=slice(0, count // 4))


def test_daily_means_are_those_of_resampling(small):
    scene, x, means = daily(small)
    bound = TimeMean(means).bind(scene)
    assert bound.name == "time_mean"
    assert bound.groups == (range(4), range(4, 8))
    seen = bound.observe(range(4, 8))
    assert seen.operator.size == 9 * 9 * 12
    close(seen, x, range(4, 8), small)
    both = bound.observe(range(8))
    assert both.operator.size == 2 * 9 * 9 * 12
    close(both, x, range(8), small)


def test_a_mean_that_a_window_cuts_is_not_observed(small):
    scene, _, means = daily(small)
    bound = TimeMean(means).bind(scene)
    assert bound.observe(range(1, 5)) is None
    assert bound.observe(range(2, 8)).operator.size == 9 * 9 * 12
    assert bound.observe(range(8, 12)) is None


@pytest.mark.parametrize("label", ["right", "middle"])
def test_other_labels(small, label):
    scene, x, means = daily(small)
    shift = {"right": 24, "middle": 12}[label]
    means = means.assign_coords(time=means.time + np.timedelta64(shift, "h"))
    bound = TimeMean(means, label=label).bind(scene)
    assert bound.groups == (range(4), range(4, 8))
    close(bound.observe(range(4)), x, range(4), small)


def test_bounds_say_more_than_labels(small):
    scene, x, _ = daily(small)
    ds = small.labelled(x.numpy(), scene.times)[["t2m"]]
    means = xr.concat(
        [ds.isel(time=slice(1, 3)).mean("time"), ds.isel(time=slice(3, 7)).mean("time")], "time"
    )
    means = means.assign_coords(time=scene.times[[1, 5]])
    means["t2m"].attrs.update(units="K", standard_name="air_temperature")
    means["time"].attrs["bounds"] = "time_bnds"
    means["time_bnds"] = (("time", "nv"), scene.times[[[1, 3], [3, 7]]])
    bound = TimeMean(means, period="1D", label="right").bind(scene)
    assert bound.groups == (range(1, 3), range(3, 7))
    close(bound.observe(range(1, 7)), x, range(1, 7), small)


def test_one_mean_needs_its_length(small):
    scene, x, means = daily(small)
    one = means.isel(time=1)
    with pytest.raises(MismatchError) as error:
        TimeMean(one).bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "unknown-period"
    assert 'period="1D"' in problem.remedy
    bound = TimeMean(one, period="1D").bind(scene)
    assert bound.groups == (range(4, 8),)
    close(bound.observe(range(4, 8)), x, range(4, 8), small)


def test_time_and_area_means_at_once(small):
    scene, x, means = daily(small)
    coarse = regrid(means, GRIDS[1])
    seen = TimeMean(coarse).bind(scene).observe(range(4))
    assert seen.operator.size == 9 * 18
    close(seen, x, range(4), small)


@QUICK
@given(how=st.data())
def test_time_means_do_not_depend_on_the_presentation(small, how):
    scene, x, means = daily(small)
    means = means[["t", "z", "q"]]
    grid = how.draw(st.sampled_from([None, GRIDS[0]]))
    means = means if grid is None else regrid(means, grid)
    a = TimeMean(means).bind(scene).observe(range(4))
    other = small.present(means.copy(), how.draw(small.presentations))
    b = TimeMean(other).bind(scene).observe(range(4))
    torch.testing.assert_close(b.value, a.value, rtol=1e-12, atol=1e-9)
    y = small.window_of(x, range(4))
    torch.testing.assert_close(b.operator(y), a.operator(y), rtol=1e-12, atol=1e-9)


def test_gaps_in_time_means_are_left_out(small):
    scene, x, means = daily(small)
    means["msl"][0, :4] = np.nan
    seen = TimeMean(means[["msl"]]).bind(scene).observe(range(4))
    assert seen.operator.size == 5 * 12
    close(seen, x, range(4), small)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("time: mean", True),
        ("area: mean time: mean (interval: 6 hours comment: of states)", True),
        ("area: time: mean", True),
        ("area: point", True),
        ("time: point", False),
        ("time: maximum", False),
        ("lat: lon: mean time: minimum", False),
        ("time: maximum within days time: mean over days", False),
    ],
)
def test_cell_methods(small, text, good):
    scene, _, means = daily(small)
    means = means[["t2m", "msl"]]
    means["t2m"].attrs["cell_methods"] = text
    if good:
        TimeMean(means).bind(scene)
        return
    with pytest.raises(MismatchError) as error:
        TimeMean(means).bind(scene)
    (problem,) = error.value.problems
    assert problem.where == "t2m"
    assert text in problem.message


def test_cell_methods_call_time_by_its_standard_name(small):
    scene, _, means = daily(small)
    means = means[["t2m"]].rename(time="valid_time")
    TimeMean(means).bind(scene)
    means["t2m"].attrs["cell_methods"] = "time: maximum"
    with pytest.raises(MismatchError, match="maximum"):
        TimeMean(means).bind(scene)


def test_a_mean_beyond_the_series_is_refused_with_those_within(small):
    scene, x, _ = daily(small)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    means = ds.resample(time="1D").mean(keep_attrs=True)
    assert means.sizes["time"] == 3
    with pytest.raises(MismatchError) as error:
        TimeMean(means).bind(scene)
    (problem,) = error.value.problems
    assert problem.message.startswith("1 of 3 means")
    made = {"values": means}
    exec(problem.remedy, made)
    assert len(TimeMean(made["values"], period="1D").bind(scene).groups) == 2


def test_a_mean_of_more_states_than_a_window_is_refused(small):
    scene, x = small.scene(10, window=3)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    means = ds.resample(time="1D").mean(keep_attrs=True).isel(time=slice(0, 2))
    with pytest.raises(MismatchError) as error:
        TimeMean(means).bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "long-period"
    assert "2 of 2 means are over 4 states, more than the 2" in problem.message
    assert problem.remedy.startswith("give means over 12 h or less")


def test_a_period_shorter_than_the_step_holds_no_state(small):
    scene, _x, means = daily(small)
    late = means.assign_coords(time=means.time + np.timedelta64(1, "h"))
    with pytest.raises(MismatchError) as error:
        TimeMean(late, period="3h").bind(scene)
    assert [p.kind for p in error.value.problems] == ["empty-period"]


def test_calendars_of_means(small):
    from dataclasses import replace

    scene, x, means = daily(small)
    other = means.convert_calendar("noleap", use_cftime=True)
    times = xr.DataArray(scene.times, dims="time", coords={"time": scene.times})
    same = replace(scene, times=times.convert_calendar("noleap", use_cftime=True).time.values)
    bound = TimeMean(other).bind(same)
    assert bound.groups == (range(4), range(4, 8))
    close(bound.observe(range(4, 8)), x, range(4, 8), small)
    with pytest.raises(MismatchError, match="calendar"):
        TimeMean(other).bind(scene)


def test_bad_arguments_of_time_means(small):
    scene, _, means = daily(small)
    with pytest.raises(ValueError, match="label"):
        TimeMean(means, label="centre").bind(scene)
    with pytest.raises(ValueError, match="period"):
        TimeMean(means, period="often").bind(scene)
