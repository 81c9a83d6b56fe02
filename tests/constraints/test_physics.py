"""The mass of dry air, a warming, and functions of one's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from xwx.constraints import Custom, DryAirMass, Warming
from xwx.errors import MismatchError
from xwx.fields.dry_air import dry_air_mass
from xwx.fields.grid import cell_areas
from xwx.spec import Channel, Grid

Q = (Channel("q", 50000.0), Channel("q", 85000.0))


def kinds(error):
    return [p.kind for p in error.value.problems]


def orography(grid, units="m2 s-2"):
    rng = np.random.default_rng(3)
    values = 4000.0 * rng.random(grid.shape)
    attrs = {"units": units, "standard_name": "surface_geopotential"}
    coords = {
        "lat": ("lat", grid.rows, {"units": "degrees_north"}),
        "lon": ("lon", grid.columns, {"units": "degrees_east"}),
    }
    return xr.Dataset({"z_sfc": (("lat", "lon"), values, attrs)}, coords)


def test_the_mass_is_that_of_the_labelled_side(small):
    ground = orography(small.POLES)
    scene, x = small.scene(6, given=ground, start=True)
    ds = small.labelled(x.numpy(), scene.times).assign(ground)
    pressure = torch.from_numpy(dry_air_mass(same_levels(ds)).dry_air_pressure.values)
    bound = DryAirMass(target="0.98 bar", noise="0.5 hPa").bind(scene)
    seen = bound.observe(range(1, 5))
    assert bound.name == "dry_air_mass"
    assert seen.value.dtype == torch.float64
    assert seen.value.tolist() == [98000.0] * 4
    assert seen.variances.tolist() == [2500.0] * 4
    there = seen.operator(small.window_of(x, range(1, 5)))[0]
    torch.testing.assert_close(there, pressure[1:5], rtol=1e-12, atol=0)


def same_levels(ds):
    """Return a Dataset whose humidity and geopotential share no coordinate with another."""
    return ds.rename({d: f"level_{d[-1]}" for d in ("p_t", "p_z", "p_q")})


def test_by_default_the_mass_of_the_start_is_kept(small):
    scene, _x = small.scene(6, given=orography(small.POLES), start=True)
    seen = DryAirMass(strict=True).bind(scene).observe(range(4))
    assert seen.operator.size == 3  # the start itself is not sampled
    assert bool(seen.demanded.all())
    start = scene.start.double()[None, None].expand(1, 4, -1, -1, -1)
    torch.testing.assert_close(seen.operator(start)[0], seen.value, rtol=1e-14, atol=0)
    assert DryAirMass().bind(scene).observe(range(6, 9)) is None
    assert not bool(DryAirMass().bind(scene).observe(range(4, 8)).demanded.any())


def test_without_a_start_a_target_is_needed(small):
    scene, _ = small.scene(6, given=orography(small.POLES))
    with pytest.raises(MismatchError, match=r'DryAirMass\(target="98305 Pa"\)'):
        DryAirMass().bind(scene)
    seen = DryAirMass("98305 Pa").bind(scene).observe(range(4))
    assert seen.operator.size == 4
    assert seen.variances.sqrt().tolist() == pytest.approx([0.1] * 4)


def test_a_target_along_time(small):
    scene, _x = small.scene(4, given=orography(small.POLES))
    target = xr.DataArray(
        [980.0, 981.0, 983.0], {"time": scene.times[[0, 1, 3]]}, ["time"], attrs={"units": "hPa"}
    )
    bound = DryAirMass(target).bind(scene)
    seen = bound.observe(range(1, 5))
    assert seen.value.tolist() == pytest.approx([98100.0, 98300.0])
    assert seen.operator.frames == (0, 2)
    with pytest.raises(MismatchError) as error:
        DryAirMass(target.assign_coords(time=target.time + np.timedelta64(1, "D"))).bind(scene)
    assert kinds(error) == ["time-outside"]
    assert "target = target.isel(" in str(error.value) or "give values" in str(error.value)
    bare = target.copy()
    bare.attrs = {}
    with pytest.raises(MismatchError, match="units"):
        DryAirMass(bare).bind(scene)


def test_the_orography_in_metres_or_by_hand(small):
    ground = orography(small.POLES)
    scene, _ = small.scene(3, given=ground, start=True)
    expected = DryAirMass().bind(scene).observe(range(1, 3)).value
    attrs = {"units": "m", "standard_name": "surface_altitude"}
    metres = (ground["z_sfc"] / 9.80665).assign_attrs(attrs).rename("topo")
    bare = replace(scene, given=xr.Dataset())
    for surface in (ground, ground["z_sfc"], metres, metres.isel(lat=slice(None, None, -1))):
        seen = DryAirMass(surface=surface).bind(bare).observe(range(1, 3))
        torch.testing.assert_close(seen.value, expected, rtol=1e-14, atol=0)
    held = replace(scene, given=ground.set_coords("z_sfc").assign(msl=("time", [0.0])))
    torch.testing.assert_close(DryAirMass().bind(held).observe(range(1, 3)).value, expected)


def test_every_way_to_the_surface_pressure_says_what_it_lacks(small):
    channels = (*Q, Channel("msl"), Channel("z", 50000.0))
    scene, _ = small.scene(3, channels=channels)
    with pytest.raises(MismatchError) as error:
        DryAirMass("98305 Pa").bind(scene)
    (problem,) = error.value.problems
    assert problem.kind == "no-surface-pressure"
    assert "as a channel it lacks 'sp'" in problem.message
    assert (
        "from geopotential it lacks 'z' on two levels (the model has 1), the orography 'z_sfc'"
        in problem.message
    )
    assert "from sea level it lacks 't2m', the orography 'z_sfc'" in problem.message
    assert "list_models" in problem.remedy


def test_only_the_orography_is_lacking(small):
    scene, _ = small.scene(3)
    with pytest.raises(MismatchError, match=r"DryAirMass\(surface=orography\)"):
        DryAirMass("98305 Pa").bind(scene)
    units = orography(small.POLES)
    del units["z_sfc"].attrs["units"]
    with pytest.raises(MismatchError) as error:
        DryAirMass("98305 Pa", surface=units).bind(scene)
    assert kinds(error) == ["missing-units"]
    assert 'surface["z_sfc"].attrs["units"]' in str(error.value)


@pytest.mark.parametrize("names", [("msl", "t2m"), ("sp",)])
def test_other_ways_to_the_surface_pressure(small, names):
    channels = (*Q, *map(Channel, names))
    ground = orography(small.POLES)
    small.SIZE.setdefault("sp", (9.8e4, 3e3))
    scene, x = small.scene(3, given=ground if "msl" in names else None, channels=channels)
    seen = DryAirMass("98305 Pa").bind(scene).observe(range(3))
    there = seen.operator(x[None])[0]
    dims = ("time", "lat", "lon")
    ds = ground.assign_coords(time=scene.times, level=("level", [500.0, 850.0], {"units": "hPa"}))
    ds["q"] = (("time", "level", "lat", "lon"), x[:, :2].numpy(), {"units": "kg kg-1"})
    for n, name in enumerate(names):
        ds[name] = (dims, x[:, 2 + n].numpy(), {"units": "K" if name == "t2m" else "Pa"})
    expected = dry_air_mass(ds).dry_air_pressure.values
    np.testing.assert_allclose(there.numpy(), expected, rtol=1e-12)


def test_a_model_without_humidity_or_of_a_region(small):
    scene, _ = small.scene(2, small.REGION, channels=(Channel("msl"), Channel("t2m")))
    with pytest.raises(MismatchError) as error:
        DryAirMass("98305 Pa").bind(scene)
    assert kinds(error) == ["regional-grid", "missing-channel", "no-surface-pressure"]


@pytest.mark.parametrize("bad", [{"target": "1 K"}, {"target": 98305.0}, {"noise": "0 Pa"}])
def test_bad_arguments_of_the_mass(small, bad):
    scene, _ = small.scene(3, given=orography(small.POLES), start=True)
    with pytest.raises(ValueError, match=next(iter(bad))):
        DryAirMass(**bad).bind(scene)


def global_mean(x, grid):
    area = cell_areas(grid.rows)
    return (x.mean(-1) * area).sum(-1) / area.sum()


@pytest.mark.parametrize(
    ("humidity", "factor"), [("compound", 1.07**2), ("linear", 1.14), (None, None)]
)
def test_a_warming_shifts_the_means_of_the_reference(small, humidity, factor):
    scene, x = small.scene(6, start=True)
    control = small.labelled(x.numpy(), scene.times).isel(time=slice(1, None))
    bound = Warming("2 K", reference=control, humidity=humidity).bind(scene)
    seen = bound.observe(range(4))
    warmed = x.clone()
    warmed[:, [0, 6]] += 2.0
    if factor is None:
        assert seen.operator.size == 3 * 2
    else:
        warmed[:, [4, 7]] *= factor
        assert seen.operator.size == 3 * 4
        expected = [global_mean(warmed[1, c].numpy(), small.POLES) for c in (0, 6, 4, 7)]
        np.testing.assert_allclose(seen.value[:4].numpy(), expected, rtol=1e-12)
    there = seen.operator(small.window_of(warmed, range(4)))[0]
    torch.testing.assert_close(there, seen.value, rtol=1e-12, atol=0)
    assert bound.name == "warming"
    longer = small.labelled(x.numpy(), scene.times)  # the start is in it, and not constrained
    again = Warming("2 K", reference=longer, humidity=humidity).bind(scene).observe(range(4))
    assert torch.equal(again.value, seen.value)


def test_the_reference_may_be_presented_in_any_way(small):
    scene, x = small.scene(4)
    control = small.labelled(x.numpy(), scene.times)
    how = dict.fromkeys(("units", "levels", "west", "south", "names", "dims", "dask", "pint"), True)
    a = Warming("3 delta_degC", control).bind(scene).observe(range(4))
    b = Warming("3 K", small.present(control.copy(), how)).bind(scene).observe(range(4))
    torch.testing.assert_close(a.value, b.value, rtol=1e-12, atol=0)


def test_without_a_reference_the_means_of_the_start_are_kept(small):
    scene, _x = small.scene(5, start=True)
    seen = Warming().bind(scene).observe(range(4))
    assert seen.operator.size == 3 * 4
    start = scene.start.double()[None, None].expand(1, 4, -1, -1, -1)
    torch.testing.assert_close(seen.operator(start)[0], seen.value, rtol=1e-14, atol=0)
    with pytest.raises(MismatchError, match="reference=control"):
        Warming().bind(replace(scene, start=None))


def test_the_noise_of_a_warming_is_a_hundredth_of_the_shift(small):
    scene, x = small.scene(2)
    control = small.labelled(x.numpy(), scene.times)
    seen = Warming("2 K", control).bind(scene).observe(range(1))
    wet = global_mean(x[0, 4].numpy(), small.POLES) * (1.07**2 - 1) / 100
    sigma = seen.variances.sqrt()
    torch.testing.assert_close(sigma[:3], torch.tensor([0.02, 0.02, wet]).double())
    given = Warming("2 K", control, {"t": "0.5 K"}).bind(scene).observe(range(1))
    torch.testing.assert_close(given.variances.sqrt()[:3], torch.tensor([0.5, 0.02, wet]).double())
    still = Warming("0 K", control).bind(scene).observe(range(1))
    torch.testing.assert_close(still.variances.sqrt()[0], torch.tensor(8e-4).double())


def test_a_low_pass_has_squares_and_smaller_ones_at_the_end(small):
    scene, x = small.scene(2)
    control = small.labelled(x.numpy(), scene.times)
    seen = Warming("2 K", control, cells=5, humidity=None).bind(scene).observe(range(1))
    assert seen.operator.size == 2 * 2 * 3
    area = cell_areas(small.POLES.rows)
    part = x[0, 0, 5:, 10:].mean(-1).numpy()
    expected = (area[5:] * part).sum() / area[5:].sum() + 2.0
    assert float(seen.value[5]) == pytest.approx(expected, rel=1e-12)


def test_the_faults_of_a_reference(small):
    scene, x = small.scene(4)
    control = small.labelled(x.numpy(), scene.times)
    with pytest.raises(MismatchError) as error:
        Warming("2 K", control.drop_vars("q").isel(time=slice(0, 3))).bind(scene)
    assert kinds(error) == ["missing-variable", "missing-time"]
    assert "q[850 hPa], q[500 hPa]" in str(error.value)
    holes = control.copy(deep=True)
    holes["t2m"][2, 0, 0] = np.nan
    with pytest.raises(MismatchError, match="NaN"):
        Warming("2 K", holes).bind(scene).observe(range(4))
    scene, _ = small.scene(3, channels=(Channel("msl"),), start=True)
    with pytest.raises(MismatchError, match="nothing to warm"):
        Warming().bind(scene)


@pytest.mark.parametrize(
    "bad",
    [
        {"delta": 2.0},
        {"delta": "2 Pa"},
        {"humidity": "wet"},
        {"cells": 0},
        {"cells": 1.5},
        {"delta": "-20 K", "humidity": "linear"},
    ],
)
def test_bad_arguments_of_a_warming(small, bad):
    scene, _ = small.scene(2, start=True)
    with pytest.raises(ValueError, match=next(iter(bad))):
        Warming(**bad).bind(scene)


def test_a_function_of_ones_own_sees_the_series_and_nothing_beyond(small):
    scene, x = small.scene(5)
    called = []

    def function(states, positions):
        called.append((tuple(states.shape[:2]), positions))
        return torch.stack([states[:, -1, 3].mean((-2, -1)), states[:, 0, 6].amax((-2, -1))], 1)

    bound = Custom(function, [1e5, 300.0], [10.0, 2.0], "mine").bind(scene)
    seen = bound.observe(range(3, 7))
    out = seen.operator(small.window_of(x, range(3, 7)))
    assert called[-1] == ((1, 2), range(3, 5))
    expected = torch.stack([x[4, 3].mean(), x[3, 6].max()])
    torch.testing.assert_close(out[0], expected)
    assert bound.name == "mine"
    assert seen.variances.tolist() == [100.0, 4.0]
    assert bound.observe(range(5, 9)) is None


@pytest.mark.parametrize(
    ("values", "noise", "text"),
    [
        ([], 1.0, "values"),
        ([[1.0]], 1.0, "values"),
        ([np.nan], 1.0, "values"),
        ([1.0], 0.0, "noise"),
        ([1.0], [1.0, 2.0], "noise"),
    ],
)
def test_bad_arguments_of_a_function(small, values, noise, text):
    scene, _ = small.scene(2)
    with pytest.raises(ValueError, match=text):
        Custom(lambda x, n: x, values, noise).bind(scene)


def test_all_of_them_stack(small):
    """Stations, a coarse analysis and the mass in one sampling."""
    from xwx.constraints import AreaMean, Observe
    from xwx.diffusion.stack import stack, standardised
    from xwx.fields import regrid

    scene, x = small.scene(4, given=orography(small.POLES), start=True)
    ds = small.labelled(x.numpy(), scene.times)
    coarse = regrid(ds[["t2m"]], Grid.regular(3, 6, poles=False))
    constraints = [Observe(ds[["msl"]].isel(time=[2])), AreaMean(coarse), DryAirMass(strict=True)]
    seen = [c.bind(scene).observe(range(4)) for c in constraints]
    both = stack(seen)
    assert both.operator.size == 108 + 4 * 18 + 3
    assert int(both.demanded.sum()) == 3
    plain = standardised(both, scene.mean, scene.std)
    z = ((x - scene.mean) / scene.std)[None, :4]
    residual = plain.whitened_residual(z)[0, : 108 + 72]
    torch.testing.assert_close(residual, torch.zeros_like(residual), rtol=0, atol=1e-5)
