"""Reports of stations, between the cells of the model's grid."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xwx.constraints import Observe
from xwx.errors import MismatchError

QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LAT = np.array([11.25, -40.0, 60.0, 78.75])
LON = np.array([15.0, -170.0, 355.0, 200.0])


def stations(ds, lat=LAT, lon=LON):
    """Return what stations measure of smooth states: a bilinear interpolation, by xarray."""
    round_globe = xr.concat([ds, ds.isel(lon=[0]).assign_coords(lon=[360.0])], "lon")
    at = {
        "lat": ("station", lat),
        "lon": ("station", np.mod(lon, 360.0)),
    }
    lat, lon = lat.copy(), lon.copy()
    out = round_globe.interp(at)
    units = {"lat": "degrees_north", "lon": "degrees_east"}
    out = out.assign_coords(lat=("station", lat), lon=("station", lon))
    for name, unit in units.items():
        out[name].attrs["units"] = unit
    return out


def test_a_report_is_what_lies_between_the_cells(small):
    scene, x = small.scene(5)
    obs = stations(small.labelled(x.numpy(), scene.times))
    bound = Observe(obs).bind(scene)
    window = range(2, 6)
    seen = bound.observe(window)
    assert bound.name == "stations"
    assert seen.operator.size == 3 * 9 * 4
    there = seen.operator(small.window_of(x, window))[0]
    torch.testing.assert_close(there, seen.value, rtol=1e-12, atol=1e-9)
    assert bound.observe(range(5, 9)) is None


@QUICK
@given(how=st.data())
def test_the_presentation_does_not_matter(small, how):
    scene, x = small.scene(3)
    obs = stations(small.labelled(x.numpy(), scene.times)[["t", "msl", "u10", "z"]])
    how = how.draw(small.presentations)
    a = Observe(obs).bind(scene).observe(range(3))
    b = (
        Observe(
            small.present(obs.copy(), {**how, "west": 0, "south": 0, "dims": 0}).transpose(
                "station", ...
            )
        )
        .bind(scene)
        .observe(range(3))
    )
    assert torch.equal(a.operator.index, b.operator.index)
    torch.testing.assert_close(b.value, a.value, rtol=1e-12, atol=1e-9)


def test_a_list_of_reports_has_a_time_each(small):
    scene, x = small.scene(4)
    obs = stations(small.labelled(x.numpy(), scene.times)[["msl", "t2m"]])
    listed = obs.stack(report=("time", "station")).reset_index("report")
    listed = listed.isel(report=np.random.default_rng(0).permutation(listed.sizes["report"]))
    window = range(1, 3)
    seen = Observe(listed).bind(scene).observe(window)
    there = seen.operator(small.window_of(x, window))[0]
    torch.testing.assert_close(there, seen.value, rtol=1e-12, atol=1e-9)
    whole = Observe(obs).bind(scene).observe(window)
    assert torch.equal(seen.value.sort().values, whole.value.sort().values)


def test_one_time_for_all(small):
    scene, x = small.scene(4)
    obs = stations(small.labelled(x.numpy(), scene.times)[["msl"]]).isel(time=2)
    bound = Observe(obs).bind(scene)
    assert bound.observe(range(2)) is None
    seen = bound.observe(range(1, 5))
    torch.testing.assert_close(seen.operator(small.window_of(x, range(1, 5)))[0], seen.value)


def test_missing_reports_are_left_out(small):
    scene, x = small.scene(3)
    obs = stations(small.labelled(x.numpy(), scene.times)[["msl", "t2m"]])
    obs["msl"][1, 2] = np.nan
    obs["t2m"][:, 0] = np.nan
    seen = Observe(obs, {"msl": "2 hPa", "t2m": "1 K"}).bind(scene).observe(range(3))
    assert seen.operator.size == 24 - 4
    assert torch.isfinite(seen.value).all()
    pressure = seen.operator.channel == 3
    assert int(pressure.sum()) == 11
    assert set(seen.variances[pressure].tolist()) == {4e4}
    assert set(seen.variances[~pressure].tolist()) == {1.0}
    with pytest.raises(MismatchError) as error:
        Observe(obs.where(False)).bind(scene)
    assert [p.kind for p in error.value.problems] == ["nothing-observed"]


def test_wind_turns_over_a_pole_and_pressure_does_not(small):
    scene, _ = small.scene(2, small.BETWEEN)
    obs = xr.Dataset(
        {
            "u10": ("station", [4.0], {"units": "m s-1"}),
            "msl": ("station", [1e5], {"units": "Pa"}),
        },
        {"lat": ("station", [90.0]), "lon": ("station", [30.0]), "time": scene.times[0]},
    )
    seen = Observe(obs).bind(scene).observe(range(2))
    x = torch.ones(1, 2, 9, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(seen.operator(x)[0], torch.tensor([0.0, 1.0]).double())


@pytest.mark.parametrize("repeated", [1, 9])
def test_stations_outside_a_region_are_one_problem(small, repeated):
    scene, _ = small.scene(2, small.REGION)
    places = {
        "lat": ("station", [50.0, 45.0, 47.0, 53.0, 46.0] * repeated),
        "lon": ("station", [1.0, 1.0, -1.0, 1.0, 372.0] * repeated),
        "time": scene.times[0],
    }
    obs = xr.Dataset({"msl": ("station", np.full(5 * repeated, 1e5), {"units": "Pa"})}, places)
    with pytest.raises(MismatchError) as error:
        Observe(obs).bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "outside-grid"
    assert problem.message.startswith(f"{3 * repeated} of {5 * repeated} stations")
    made = {"values": obs}
    exec(problem.remedy, made)
    seen = Observe(made["values"]).bind(scene).observe(range(2))
    assert seen.operator.size == 2 * repeated


def test_every_station_inside_is_taken_and_every_one_outside_refused(small):
    """The check beforehand and the operator draw the same line."""
    for grid in (small.POLES, small.BETWEEN, small.REGION):
        scene, _ = small.scene(1, grid)
        for lat in (-90.0, -89.0, 45.9999999, 46.0, 45.99, 52.1, 90.0):
            for lon in (0.0, -1e-7, -0.1, 12.0, 12.1, 372.0):
                places = {
                    "lat": ("station", [lat]),
                    "lon": ("station", [lon]),
                    "time": scene.times[0],
                }
                obs = xr.Dataset({"msl": ("station", [1e5], {"units": "Pa"})}, places)
                inside = grid is not small.REGION or (
                    46 - 1e-6 <= lat <= 52 and -1e-6 <= (lon + 180) % 360 - 180 <= 12
                )
                if inside:
                    assert Observe(obs).bind(scene).observe(range(1)).operator.size == 1
                else:
                    with pytest.raises(MismatchError):
                        Observe(obs).bind(scene)


def test_reports_between_states_name_the_tolerance(small):
    scene, x = small.scene(4)
    obs = stations(small.labelled(x.numpy(), scene.times)[["msl"]])
    late = obs.assign_coords(time=obs.time + np.array([0, 20, -20, 45], "timedelta64[m]"))
    with pytest.raises(MismatchError) as error:
        Observe(late).bind(scene)
    (problem,) = error.value.problems
    assert problem.message.startswith("3 of 4 times")
    assert 'Observe(values, tolerance="30 min")' in problem.remedy
    assert "assign_coords" in problem.remedy
    seen = Observe(late, tolerance="30 min").bind(scene).observe(range(4))
    whole = Observe(obs).bind(scene).observe(range(3))
    assert torch.equal(seen.value, whole.value)
    assert torch.equal(seen.operator.index, whole.operator.index)


def test_the_faults_of_reports_are_named_at_once(small):
    scene, x = small.scene(3)
    obs = stations(small.labelled(x.numpy(), scene.times)[["msl", "t2m"]])
    del obs["t2m"].attrs["units"]
    obs["lat"][1] = np.nan
    obs["msl"] = obs["msl"].expand_dims(sensor=2)
    with pytest.raises(MismatchError) as error:
        Observe(obs).bind(scene)
    kinds = {p.kind for p in error.value.problems}
    assert kinds == {"missing-units", "nan-position", "extra-dimension"}
    position = next(p for p in error.value.problems if p.kind == "nan-position")
    made = {"values": obs, "np": np}
    exec(position.remedy, made)
    assert made["values"].sizes["station"] == 3


@pytest.mark.parametrize("value", [9999.0, -999.0])
def test_longitudes_beyond_two_turns_are_no_place(small, value):
    scene, x = small.scene(3)
    obs = stations(small.labelled(x.numpy(), scene.times)[["msl"]])
    obs["lon"][1] = value
    with pytest.raises(MismatchError) as error:
        Observe(obs).bind(scene)
    (problem,) = error.value.problems
    assert f"{value:g}" in problem.message
    made = {"values": obs}
    exec(problem.remedy, made)
    assert made["values"].sizes["station"] == 3


def test_places_that_are_variables_are_to_be_made_coordinates(small):
    scene, x = small.scene(3)
    obs = stations(small.labelled(x.numpy(), scene.times)[["msl"]])
    with pytest.raises(MismatchError, match="set_coords"):
        Observe(obs.reset_coords(["lat", "lon"])).bind(scene)
    listed = obs.stack(report=("time", "station")).reset_index("report")
    with pytest.raises(MismatchError, match=r"set_coords\('time'\)"):
        Observe(listed.reset_coords("time")).bind(scene)


def test_radiosondes_have_levels(small):
    scene, x = small.scene(2)
    obs = stations(small.labelled(x.numpy(), scene.times)[["z"]])
    assert obs["z"].dims == ("time", "p_z", "station")
    seen = Observe(obs).bind(scene).observe(range(2))
    assert sorted(set(seen.operator.channel.tolist())) == [2, 5]
    torch.testing.assert_close(seen.operator(small.window_of(x, range(2)))[0], seen.value)
