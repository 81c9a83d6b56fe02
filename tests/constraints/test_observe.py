"""Values on the model's grid, with gaps."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xwx.constraints import Constraint, Observe
from xwx.errors import MismatchError

QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def kinds(error):
    return {p.kind for p in error.value.problems}


def gaps(ds, seed=1):
    """Return a Dataset with about a tenth of its values, of a few variables."""
    rng = np.random.default_rng(seed)
    return ds.map(lambda a: a.where(rng.random(a.shape) < 0.1), keep_attrs=True)


def test_it_is_a_constraint(small):
    assert isinstance(Observe(xr.Dataset()), Constraint)


@QUICK
@given(how=st.data())
def test_what_is_observed_does_not_depend_on_the_presentation(small, how):
    scene, x = small.scene(5)
    ds = gaps(small.labelled(x.numpy(), scene.times))[["t", "z", "q", "t2m", "u10"]]
    how = how.draw(small.presentations)
    plain = Observe(ds).bind(scene)
    other = Observe(small.present(ds.copy(), how)).bind(scene)
    for window in (range(4), range(3, 7)):
        a, b = plain.observe(window), other.observe(window)
        assert torch.equal(a.operator.index, b.operator.index)
        torch.testing.assert_close(b.value, a.value, rtol=1e-12, atol=1e-9)
        torch.testing.assert_close(b.variances, a.variances)
        seen = a.operator(small.window_of(x, window))[0]
        assert torch.equal(seen, a.value)


def test_every_number_and_no_other_is_observed(small):
    scene, x = small.scene(6)
    ds = gaps(small.labelled(x.numpy(), scene.times))
    count = int(sum(ds[name].notnull().sum() for name in ds.data_vars))
    bound = Observe(ds).bind(scene)
    sizes = [bound.observe(range(n, n + 2)).operator.size for n in (0, 2, 4)]
    assert bound.name == "observed"
    assert bound.groups == ()
    assert sum(sizes) == count


def test_times_without_values_and_after_the_series_are_not_observed(small):
    scene, x = small.scene(6)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]].isel(time=[1, 5])
    bound = Observe(ds).bind(scene)
    assert bound.observe(range(2, 5)) is None
    assert bound.observe(range(6, 10)) is None
    last = bound.observe(range(4, 8))
    assert last.operator.size == 9 * 12
    assert torch.equal(last.operator(small.window_of(x, range(4, 8)))[0], last.value)
    assert torch.equal(last.value, x[5, 3].flatten())


def test_one_state_needs_no_dimension_of_time(small):
    scene, x = small.scene(4)
    ds = small.labelled(x.numpy(), scene.times)[["t2m"]].isel(time=2)
    seen = Observe(ds).bind(scene).observe(range(1, 4))
    assert torch.equal(seen.value, x[2, 6].flatten())


def test_the_noise_is_a_difference_in_any_unit(small):
    scene, x = small.scene(2)
    ds = small.labelled(x.numpy(), scene.times).isel(time=[0])[["t2m", "msl", "z"]]
    small_ds = ds.isel(lat=slice(None), lon=slice(None))
    noise = {"t2m": "0.5 degC", "msl": "0.5 hPa", "z": "10 m"}
    seen = Observe(small_ds, noise).bind(scene).observe(range(2))
    sigma = seen.variances.sqrt().view(4, -1)  # channels in the model's order: z, msl, z, t2m
    expected = [98.0665, 50.0, 98.0665, 0.5]
    for row, value in zip(sigma, expected, strict=True):
        torch.testing.assert_close(row, torch.full_like(row, value))


def test_by_default_the_noise_is_a_hundredth_of_the_standard_deviation(small):
    scene, x = small.scene(2)
    ds = small.labelled(x.numpy(), scene.times)[["t2m", "msl"]].isel(time=[0])
    seen = Observe(ds, {"msl": "1 hPa"}).bind(scene).observe(range(2))
    sigma = seen.variances.sqrt().view(2, -1)
    torch.testing.assert_close(sigma[0], torch.full_like(sigma[0], 100.0))
    torch.testing.assert_close(sigma[1], torch.full_like(sigma[1], 0.01 * small.SIZE["t2m"][1]))


def test_a_quantity_will_do(small):
    from cf_xarray.units import units

    scene, x = small.scene(2)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    seen = Observe(ds, units.Quantity(0.5, "hPa")).bind(scene).observe(range(2))
    assert float(seen.variances[0]) == 2500.0


@pytest.mark.parametrize(
    ("noise", "text"),
    [
        (0.5, "no unit"),
        ("half a kelvin", "no number"),
        ("0 Pa", "positive"),
        ("-1 Pa", "positive"),
        ("1 K", "does not convert"),
        ({"tcc": "1 %"}, "'tcc'"),
    ],
)
def test_a_noise_that_means_nothing_is_refused(small, noise, text):
    scene, x = small.scene(2)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    with pytest.raises(ValueError, match=text):
        Observe(ds, noise).bind(scene)


def test_all_problems_are_named_at_once(small):
    scene, x = small.scene(4)
    ds = small.labelled(x.numpy(), scene.times)[["t", "t2m", "z"]]
    del ds["t2m"].attrs["units"]
    ds["sunshine"] = ds["t2m"].assign_attrs(units="h", standard_name="duration_of_sunshine")
    ds = ds.isel(p_z=[0, 1]).assign_coords(p_z=("p_z", [30000.0, 100000.0], ds["p_z"].attrs))
    with pytest.raises(MismatchError) as error:
        Observe(ds.isel(lat=slice(None, None, 2))).bind(scene)
    assert kinds(error) >= {"missing-units", "unknown-variable", "unknown-level", "wrong-grid"}
    text = str(error.value)
    assert "AreaMean(values)" in text
    assert "values.wx.regrid(model)" in text
    assert '["t2m"].attrs["units"] = "K"' in text
    assert "300 hPa" in text
    assert "sunshine" in text


def test_the_remedy_for_a_level_works(small):
    scene, x = small.scene(2)
    values = small.labelled(x.numpy(), scene.times)[["t"]]
    wide = xr.concat(
        [values, values.assign_coords(p_t=("p_t", [20000.0], values.p_t.attrs))], "p_t"
    )
    with pytest.raises(MismatchError) as error:
        Observe(wide).bind(scene)
    (problem,) = error.value.problems
    made = {"values": wide}
    exec(problem.remedy, made)
    assert torch.equal(
        Observe(made["values"]).bind(scene).observe(range(1)).value, x[0, 0].flatten()
    )


def test_bounds_are_no_variables(small):
    scene, x = small.scene(2)
    ds = small.labelled(x.numpy(), scene.times)[["t2m"]]
    ds["lat"].attrs["bounds"] = "lat_bnds"
    ds["lat_bnds"] = (("lat", "nv"), np.stack([ds.lat - 1, ds.lat + 1], 1))
    assert Observe(ds).bind(scene).observe(range(1)).operator.size == 9 * 12


def test_nothing_but_gaps_is_an_error(small):
    scene, x = small.scene(3)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    with pytest.raises(MismatchError) as error:
        Observe(ds.where(False)).bind(scene)
    assert kinds(error) == {"nothing-observed"}
    late = ds.where(ds.time == ds.time[-1])
    assert Observe(late).bind(scene).observe(range(2)) is None


def test_infinity_is_no_gap(small):
    scene, x = small.scene(3)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    ds["msl"][1, 0, 0] = np.inf
    with pytest.raises(MismatchError, match="infinite"):
        Observe(ds).bind(scene).observe(range(3))


def test_times_that_are_no_states_are_named_with_what_mends_them(small):
    scene, x = small.scene(5)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    hourly = ds.resample(time="3h").nearest()
    with pytest.raises(MismatchError) as error:
        Observe(hourly).bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "time-between"
    assert problem.message.startswith("4 of 9 times")
    assert "values = values.isel(time=slice(0, 9, 2))" in problem.remedy
    assert Observe(hourly.isel(time=slice(0, 9, 2))).bind(scene).observe(range(5))
    late = ds.assign_coords(time=ds.time + np.timedelta64(12, "h"))
    with pytest.raises(MismatchError) as error:
        Observe(late).bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "time-outside"
    assert problem.message.startswith("2 of 5 times")
    made = {"values": late, "np": np}
    exec(problem.remedy, made)
    assert made["values"].time.size == 3
    Observe(made["values"]).bind(scene)


def test_with_a_tolerance_values_count_as_those_of_the_nearest_state(small):
    scene, x = small.scene(5)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]].isel(time=[1, 2, 3])
    shift = np.array([10, -30, 31], "timedelta64[m]")
    ds = ds.assign_coords(time=ds.time + shift)
    seen = Observe(ds, tolerance="30 min").bind(scene).observe(range(5))
    assert torch.equal(seen.value, x[1:3, 3].flatten())
    assert torch.equal(seen.operator(small.window_of(x, range(5)))[0], seen.value)


@pytest.mark.parametrize("tolerance", ["soon", "-1 h", "1 m", 5])
def test_a_tolerance_that_is_no_time_is_refused(small, tolerance):
    scene, x = small.scene(2)
    with pytest.raises(ValueError, match="tolerance"):
        Observe(small.labelled(x.numpy(), scene.times), tolerance=tolerance).bind(scene)


def test_calendars(small):
    from dataclasses import replace

    scene, x = small.scene(4)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    other = ds.convert_calendar("noleap", use_cftime=True)
    with pytest.raises(MismatchError) as error:
        Observe(other).bind(scene)
    assert kinds(error) == {"calendar"}
    same = replace(scene, times=other.time.values)
    seen = Observe(other).bind(same).observe(range(1, 3))
    assert torch.equal(seen.value, x[1:3, 3].flatten())
    with pytest.raises(MismatchError) as error:
        Observe(ds).bind(same)
    assert kinds(error) == {"calendar"}


def test_what_is_no_dataset_is_refused(small):
    scene, x = small.scene(2)
    with pytest.raises(TypeError, match="to_dataset"):
        Observe(small.labelled(x.numpy(), scene.times)["msl"]).bind(scene)


def test_a_member_dimension_is_no_observation(small):
    scene, x = small.scene(2)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    with pytest.raises(MismatchError) as error:
        Observe(xr.concat([ds, ds], "member")).bind(scene)
    assert kinds(error) == {"extra-dimension"}
