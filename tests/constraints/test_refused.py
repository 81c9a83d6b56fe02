"""What constraints refuse, as early as they can, and what they warn of."""

import re
from functools import partial

import pytest
import torch
import xarray as xr

from xwx.constraints import AreaMean, DryAirMass, Observe, TimeMean, Warming
from xwx.diffusion.chain import plan_windows
from xwx.errors import MismatchError, XwxWarning
from xwx.fields import regrid
from xwx.spec import Grid


@pytest.mark.parametrize("given", [False, True])
def test_the_longest_period_is_what_the_sampler_draws_beside_what_it_knows(small, given):
    """Whatever is accepted can be drawn, and one state more cannot."""
    scene, x = small.scene(25, window=5, start=given)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]].isel(time=slice(int(given), None))
    for states in (1, 3, 4, 5):
        means = ds.coarsen(time=states, boundary="trim", coord_func="min").mean(keep_attrs=True)
        bind = partial(TimeMean(means, period=f"{6 * states}h").bind, scene)
        if states <= 4:
            plan_windows(25, 5, bind().groups)
            continue
        with pytest.raises(MismatchError) as error:
            bind()
        (problem,) = error.value.problems
        assert problem.kind == "long-period"
        assert problem.message.startswith(f"{len(means.time) - (not given)} of {len(means.time)}")
        assert problem.remedy.startswith("give means over 24 h or less")
    if not given:  # the first window knows no state before
        alone = ds.isel(time=slice(0, 5)).mean("time", keep_attrs=True)
        alone = alone.expand_dims(time=ds.time[:1])
        (group,) = TimeMean(alone, period="30h").bind(scene).groups
        assert group == range(5)
        plan_windows(25, 5, (group,))


def test_periods_that_overlap_in_a_chain_are_one_error(small):
    scene, x = small.scene(12, window=5)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]]
    rolling = ds.isel(time=slice(1, 6))
    with pytest.raises(MismatchError) as error:
        TimeMean(rolling, period="18h").bind(scene)
    assert [p.kind for p in error.value.problems] == ["overlapping-periods"]
    assert len(TimeMean(rolling.isel(time=slice(0, 2)), period="18h").bind(scene).groups) == 2


@pytest.mark.parametrize(("period", "broken"), [("12h", False), ("10h", True), ("6.01h", True)])
def test_a_period_that_ends_on_a_part_of_a_step(small, period, broken):
    scene, x = small.scene(8)
    values = small.labelled(x.numpy(), scene.times)[["msl"]].isel(time=[1, 4])
    if not broken:
        assert TimeMean(values, period=period).bind(scene).groups == (range(1, 3), range(4, 6))
        return
    with pytest.raises(MismatchError, match="a whole number of steps of 6 h") as error:
        TimeMean(values, period=period).bind(scene)
    assert [p.kind for p in error.value.problems] == ["wrong-period"]


@pytest.mark.parametrize("kind", [AreaMean, TimeMean, Observe])
def test_values_of_the_given_state_alone_demand_nothing(small, kind):
    scene, x = small.scene(6, start=True)
    ds = small.labelled(x.numpy(), scene.times)[["msl", "t2m"]]
    values = regrid(ds, Grid.regular(4, 6, poles=False)) if kind is AreaMean else ds
    more = {"period": "6h"} if kind is TimeMean else {}
    with pytest.raises(MismatchError, match="starts from") as error:
        kind(values.isel(time=[0]), **more).bind(scene)
    assert [p.kind for p in error.value.problems] == ["given-state"]
    kind(values.isel(time=[0, 2]), **more).bind(scene)
    free, _ = small.scene(6)
    kind(values.isel(time=[0]), **more).bind(free)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DryAirMass(target=98305), 'target="98305 Pa"'),
        (lambda: DryAirMass(target="98305"), 'target="98305 Pa"'),
        (lambda: DryAirMass(noise="0 Pa"), '"0.1 Pa"'),
        (lambda: DryAirMass(noise=0.1), 'noise="0.1 Pa"'),
        (lambda: Warming(2), 'delta="2 K"'),
        (lambda: Warming("2"), 'delta="2 K"'),
        (lambda: Warming("2 K", noise="0 K"), "positive"),
        (lambda: Observe(xr.Dataset(), noise="0 Pa"), "positive"),
        (lambda: Observe(xr.Dataset(), noise={"msl": "-1 Pa"}), "positive"),
        (lambda: Observe(xr.Dataset(), tolerance="30"), 'tolerance="30 min"'),
        (lambda: AreaMean(xr.Dataset(), noise=1), 'noise="0.5 hPa"'),
        (lambda: TimeMean(xr.Dataset(), period=1), 'period="1D"'),
        (lambda: TimeMean(xr.Dataset(), noise="much"), '"0.5 hPa"'),
    ],
)
def test_what_can_be_refused_at_once_is(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


@pytest.mark.parametrize("kind", [AreaMean, TimeMean, Observe])
def test_values_of_another_unit_are_warned_of(small, kind):
    scene, x = small.scene(6)
    ds = small.labelled(x.numpy(), scene.times)[["msl", "t2m"]]
    values = regrid(ds, Grid.regular(4, 6, poles=False)) if kind is AreaMean else ds
    wrong = values.assign(
        msl=(values.msl / 100).assign_attrs(values.msl.attrs),
        t2m=(values.t2m - 273.15).assign_attrs(values.t2m.attrs),
    )
    more = {"period": "6h"} if kind is TimeMean else {}
    with pytest.warns(XwxWarning) as said:
        kind(wrong, **more).bind(scene)
    (warning,) = said
    assert "is its unit `hPa`?" in str(warning.message)
    assert "is its unit `degC`?" in str(warning.message)


def test_stations_of_another_unit_are_warned_of(small):
    scene, x = small.scene(6)
    ds = small.labelled(x.numpy(), scene.times)[["msl"]].isel(time=[0, 3])
    list_ = ds.stack(station=("lat", "lon")).reset_index("station")
    wrong = list_.assign(msl=(list_.msl / 100).assign_attrs(list_.msl.attrs))
    Observe(list_).bind(scene)
    with pytest.warns(XwxWarning, match="`msl` is 10.* Pa on average.*`hPa`"):
        Observe(wrong).bind(scene)


@pytest.mark.parametrize("west", [False, True])
def test_a_part_of_the_grid_is_observed_in_either_convention(small, west):
    scene, x = small.scene(4)
    ds = small.labelled(x.numpy(), scene.times)[["msl", "u10"]]
    if west:
        ds = ds.assign_coords(lon=("lon", (ds.lon.values + 180) % 360 - 180, ds.lon.attrs))
        ds = ds.sortby("lon")
    part = ds.isel(lat=slice(2, 6), lon=slice(4, 9))
    seen = Observe(part).bind(scene).observe(range(4))
    assert seen.operator.size == part.msl.size + part.u10.size
    assert torch.equal(seen.operator(small.window_of(x, range(4)))[0], seen.value)
    with pytest.raises(MismatchError, match="regrid"):
        Observe(ds.isel(lat=slice(None, None, 2))).bind(scene)
