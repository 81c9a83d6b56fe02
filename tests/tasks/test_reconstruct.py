"""Reconstruct: what was observed is met within its noise, and the rest is drawn to go with it."""

from __future__ import annotations

import json
import warnings

import cftime
import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xwx.constraints import AreaMean, Observe
from xwx.diffusion.schedule import Rectified
from xwx.diffusion.settings import Sampling
from xwx.errors import MismatchError
from xwx.models.card import Card
from xwx.models.checkpoint import Model

QUICK = Sampling(steps=4)
NOISE = {"z": "30 m2 s-2", "t": "0.2 K", "t2m": "0.2 K", "msl": "20 Pa"}
SIGMA = {"z": 30.0, "t": 0.2, "t2m": 0.2, "msl": 20.0}
EXTRA = ["residual", "constraint"]
MINUTES = np.timedelta64(1, "m")


class White(torch.nn.Module):
    """Channels that go together (rho) at each cell of each state, and nothing else does."""

    def __init__(self, array, frames, rho):
        super().__init__()
        self.frames = frames
        self.register_buffer("mean", array.mean((0, 2, 3)).reshape(-1, 1, 1))
        self.register_buffer("std", array.std((0, 2, 3)).reshape(-1, 1, 1))
        size = array.shape[1]
        self.register_buffer("covariance", (1 - rho) * torch.eye(size) + rho)

    def denoise(self, z, forcing=None, t=None):
        alpha, sigma = (f(t)[..., None, None] for f in (Rectified().alpha, Rectified().sigma))
        noisy = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.covariance))
        gain = alpha * torch.linalg.solve(noisy, self.covariance).mT
        return torch.einsum("btcd,btdhw->btchw", gain, z)


@pytest.fixture(scope="module")
def white(worlds):
    """A function that makes a prior whose posterior is known."""

    def make(frames=5, rho=0.0):
        network = White(torch.from_numpy(worlds.states(8)), frames, rho)
        return Model(network, worlds.spec(), Card("white", licence="CC0-1.0", sha256="ab" * 32))

    return make


@pytest.fixture
def ds(worlds):
    return worlds.dataset(3)


@pytest.fixture
def seen(ds):
    """About a tenth of the points."""
    chance = np.random.default_rng(0).random((16, 32)) < 0.1
    return xr.DataArray(chance, {"latitude": ds.latitude, "longitude": ds.longitude})


def test_what_was_observed_is_met_and_the_rest_is_drawn(white, ds, seen):
    out = ds.wx.reconstruct(seen, white(), seed=0, noise=NOISE, sampling=QUICK)
    for name in ds.data_vars:
        miss = ((out[name] - ds[name]) / SIGMA[name]).where(seen)
        assert np.abs(miss).max() < 5
        rest = (out[name] - ds[name]).where(~seen) / SIGMA[name]
        assert np.sqrt((rest**2).mean()) > 30
        assert not np.array_equal(out[name].where(seen), ds[name].where(seen))  # met, not copied
        assert out[name].attrs == ds[name].attrs
        assert out[name].dims == ds[name].dims
    root = [(((out[n] - ds[n]) / SIGMA[n]) ** 2).where(seen) for n in ds.data_vars]
    count = sum(int(r.count()) for r in root)
    np.testing.assert_allclose(
        out.residual, (sum(float(r.sum()) for r in root) / count) ** 0.5, rtol=0.02
    )
    assert list(out.constraint.values) == ["observed"]
    assert out.sizes["time"] == 3
    assert "reconstructed by white" in out.attrs["history"]


def test_a_mask_is_as_good_as_nan(white, ds, seen):
    by_mask = ds.wx.reconstruct(seen, white(), seed=0, sampling=QUICK)
    by_nan = ds.where(seen).wx.reconstruct(model=white(), seed=0, sampling=QUICK)
    both = ds.where(seen | (ds.latitude > 0)).wx.reconstruct(seen, white(), seed=0, sampling=QUICK)
    each = xr.Dataset(dict.fromkeys(ds.data_vars, seen))
    by_each = ds.wx.reconstruct(each, white(), seed=0, sampling=QUICK)
    whole = seen.broadcast_like(ds.t2m).transpose("longitude", "time", "latitude")
    flipped = whole.isel(latitude=slice(None, None, -1), time=[2, 0, 1])
    surface = ds[["t2m", "msl"]]
    by_flipped = surface.wx.reconstruct(flipped, white(), seed=0, sampling=QUICK)
    of_surface = surface.wx.reconstruct(seen, white(), seed=0, sampling=QUICK)
    xr.testing.assert_equal(by_mask, by_nan)
    xr.testing.assert_equal(by_mask, both)
    xr.testing.assert_equal(by_mask, by_each)
    xr.testing.assert_equal(by_flipped, of_surface)
    infinite = ds.where(seen, np.inf).wx.reconstruct(model=white(), seed=0, sampling=QUICK)
    xr.testing.assert_equal(by_mask, infinite)


def test_masks_without_coordinates_and_with_rounded_ones(white, ds, seen):
    wanted = ds.wx.reconstruct(seen, white(), seed=0, sampling=QUICK)
    bare = seen.drop_vars(["latitude", "longitude"])
    xr.testing.assert_equal(ds.wx.reconstruct(bare, white(), seed=0, sampling=QUICK), wanted)
    rounded = seen.assign_coords(latitude=seen.latitude.astype("f4") * np.float32(1 + 2e-7))
    xr.testing.assert_equal(ds.wx.reconstruct(rounded, white(), seed=0, sampling=QUICK), wanted)


def test_a_mask_of_one_variable_and_not_of_another(white, ds):
    masks = xr.Dataset({n: xr.full_like(ds[n], n == "msl", dtype=bool) for n in ds.data_vars})
    out = ds.wx.reconstruct(masks, white(), seed=0, noise=NOISE, sampling=QUICK)
    assert np.abs((out.msl - ds.msl) / SIGMA["msl"]).max() < 5
    assert np.sqrt((((out.t2m - ds.t2m) / SIGMA["t2m"]) ** 2).mean()) > 30


@settings(max_examples=10, deadline=None)
@given(
    order=st.permutations(["time", "level", "latitude", "longitude"]),
    south=st.booleans(),
    west=st.booleans(),
    lazy=st.booleans(),
    names=st.booleans(),
    mask_order=st.booleans(),
)
def test_the_numbers_do_not_depend_on_the_layout(
    worlds, white, order, south, west, lazy, names, mask_order
):
    ds = worlds.dataset(2)
    chance = np.random.default_rng(1).random((16, 32)) < 0.2
    seen = xr.DataArray(chance, {"latitude": ds.latitude, "longitude": ds.longitude})

    def layout(ds):
        ds = ds.isel(latitude=slice(None, None, -1)) if south else ds
        if west:
            east = (ds.longitude.values + 180) % 360 - 180
            ds = ds.assign_coords(longitude=("longitude", east, ds.longitude.attrs))
            ds = ds.sortby("longitude")
        ds = ds.transpose(*order, missing_dims="ignore")
        ds = ds.rename({"latitude": "lat"}) if names else ds
        return ds.chunk(longitude=7) if lazy else ds

    own = layout(seen.to_dataset(name="m")).m.compute()
    own = own.transpose() if mask_order else own
    out = layout(ds).wx.reconstruct(own, white(), seed=5, sampling=QUICK)
    wanted = ds.wx.reconstruct(seen, white(), seed=5, sampling=QUICK)
    xr.testing.assert_equal(out.drop_vars(EXTRA), layout(wanted.drop_vars(EXTRA)).compute())
    for name in ds.data_vars:
        assert out[name].dims == layout(ds)[name].dims


def test_units_come_back_and_those_of_noise_are_read(white, ds, seen):
    wanted = ds.wx.reconstruct(seen, white(), noise=NOISE, seed=0, sampling=QUICK)
    own = ds.pint.quantify().pint.to(t2m="degC", msl="hPa")
    noise = NOISE | {"msl": "0.2 hPa", "t2m": "200 mK"}
    out = own.wx.reconstruct(seen, white(), noise=noise, seed=0, sampling=QUICK)
    assert out.t2m.pint.units == own.t2m.pint.units
    back = out.pint.to(t2m="K", msl="Pa").pint.dequantify()
    for name in ds.data_vars:
        np.testing.assert_allclose(back[name], wanted[name], rtol=2e-6)


def test_members_differ_where_nothing_was_observed(white, ds, seen):
    out = ds.wx.reconstruct(seen, white(), members=3, noise=NOISE, seed=0, sampling=QUICK)
    assert out.t2m.dims == ("member", "time", "latitude", "longitude")
    assert out.residual.dims == ("constraint", "member", "time")
    spread = out.t2m.std("member")
    assert spread.where(seen).max() < 1 < spread.where(~seen).mean()
    one = ds.wx.reconstruct(seen, white(), noise=NOISE, seed=0, sampling=QUICK)
    np.testing.assert_array_equal(out.t2m.sel(member=0), one.t2m)


def test_a_variable_from_another(white, ds):
    """One variable was observed: others follow as far as they go with it."""
    model = white(rho=0.9)
    out = ds[["t2m"]].wx.reconstruct(
        model=model, variables=["t2m", "msl"], noise="0.1 K", seed=0, sampling=Sampling(steps=12)
    )
    assert out.msl.dims == ds.t2m.dims
    assert out.msl.attrs["units"] == "Pa"
    mean, std = (u.flatten().tolist() for u in (model.network.mean, model.network.std))
    t2m, msl = (ds.t2m - mean[3]) / std[3], (out.msl - mean[1]) / std[1]
    assert abs(float((t2m * msl).mean() / (t2m**2).mean()) - 0.9) < 0.05
    np.testing.assert_allclose((msl - 0.9 * t2m).std(), (1 - 0.81) ** 0.5, rtol=0.2)


def test_a_region_of_the_models_grid(white, ds, seen, worlds):
    west = (ds.longitude.values + 180) % 360 - 180
    turned = ds.assign_coords(longitude=("longitude", west, ds.longitude.attrs)).sortby("longitude")
    there = {"latitude": slice(60, -20), "longitude": slice(-50, 70)}
    region = turned.sel(there).isel(latitude=slice(None, None, -1))
    size = np.arange(region.latitude.size * region.longitude.size).reshape(region.latitude.size, -1)
    region = region.assign_coords(cell=(("latitude", "longitude"), size))
    mask = seen.assign_coords(longitude=west).sortby("longitude").sel(there)
    out = region.wx.reconstruct(mask, white(), seed=0, noise=NOISE, sampling=QUICK)
    xr.testing.assert_equal(out.latitude, region.latitude)
    xr.testing.assert_equal(out.longitude, region.longitude)
    xr.testing.assert_equal(out.cell, region.cell)
    assert np.abs(((out.t2m - region.t2m) / SIGMA["t2m"]).where(mask)).max() < 5
    # the draws of the globe, with the same observations there
    everywhere = ds.wx.reconstruct(
        seen & seen.longitude.isin(region.longitude % 360) & seen.latitude.isin(region.latitude),
        white(), seed=0, noise=NOISE, sampling=QUICK,
    )  # fmt: skip
    same = everywhere.sel(latitude=region.latitude, longitude=region.longitude.values % 360)
    np.testing.assert_allclose(out.t2m, same.t2m, rtol=1e-6)


def stations(when, latitude, longitude, **variables):
    """Reports of stations, variables as (values (time, station), units)."""
    data = {n: (("time", "station"), v, {"units": u}) for n, (v, u) in variables.items()}
    out = xr.Dataset(
        data, {"time": when, "lat": ("station", latitude), "lon": ("station", longitude)}
    )
    out.lat.attrs["units"], out.lon.attrs["units"] = "degrees_north", "degrees_east"
    return out


@pytest.fixture
def reports(worlds):
    """Stations on points of the grid, so that what they see is known; two reports are missing."""
    rows, columns = worlds.GRID.rows[[2, 7, 9, 13]], worlds.GRID.columns[[0, 5, 31, 16]] - 360
    t2m = np.array([[10.0, 20.0, 25.0, -5.0]] * 3) + np.arange(3)[:, None]
    t2m[1, 2] = np.nan
    msl = np.full((3, 4), 1001.5)
    msl[0, 0] = np.nan
    return stations(worlds.times(3), rows, columns, t2m=(t2m, "degC"), msl=(msl, "hPa"))


def at(out, reports):
    """What a result has at the stations."""
    return out.sel(
        latitude=reports.lat, longitude=(reports.lon % 360), method="nearest", tolerance=1e-6
    )


def test_reports_of_stations_alone(white, reports, worlds):
    noise = {"t2m": "0.2 K", "msl": "0.2 hPa"}
    reports = reports.assign_attrs(title="reports", featureType="timeSeries")
    out = reports.wx.reconstruct(white(), noise=noise, members=2, seed=0, sampling=QUICK)
    assert out.attrs["title"] == "reports"
    assert "featureType" not in out.attrs  # of CF's points: these are fields
    assert list(out.data_vars) == ["msl", "t2m", "residual"]
    assert out.t2m.dims == ("member", "time", "latitude", "longitude")
    np.testing.assert_array_equal(out.latitude, worlds.GRID.rows)
    np.testing.assert_array_equal(out.longitude, worlds.GRID.columns)
    assert out.latitude.attrs["standard_name"] == "latitude"
    assert list(out.time.values) == list(worlds.times(3))
    assert out.t2m.attrs == {"standard_name": "air_temperature", "units": "degC"}
    assert out.msl.attrs["units"] == "hPa"
    assert np.abs(at(out, reports).t2m - reports.t2m).max() < 1
    assert np.abs(at(out, reports).msl - reports.msl).max() < 1
    assert out.t2m.std("member").mean() > 1
    assert list(out.constraint.values) == ["stations"]


def test_other_variables_and_levels_from_stations(white, reports):
    heights = reports.assign(z500=reports.msl * 0 + 5500)
    heights.z500.attrs = {"units": "m", "standard_name": "geopotential_height"}
    heights = heights.pint.quantify()
    out = heights.wx.reconstruct(white(), variables=["z", "t"], seed=0, sampling=QUICK)
    assert list(out.data_vars) == ["t", "z", "residual"]
    assert out.z.pint.units == "meter"
    assert out.z.attrs["standard_name"] == "geopotential_height"
    assert out.t.pint.units == "kelvin"
    assert out.t.dims == ("time", "level", "latitude", "longitude")
    assert list(out.level.values) == [500.0, 850.0]
    plain = out.pint.dequantify()
    there = at(plain, reports).z.sel(level=500).transpose(*reports.msl.dims)
    assert np.abs(there - reports.msl * 0 - 5500).max() < 20
    assert 4000 < plain.z.sel(level=500).mean() < 6500


def test_a_list_of_reports_each_with_its_time(white, reports, worlds):
    flat = reports.stack(report=("time", "station")).reset_index("report")
    late = flat.assign_coords(time=flat.time + np.resize([0, -7, 20], 12) * MINUTES)
    shuffled = late.isel(report=np.random.default_rng(0).permutation(12))
    out = shuffled.wx.reconstruct(white(), tolerance="30 min", seed=0, sampling=QUICK)
    wanted = reports.wx.reconstruct(white(), seed=0, sampling=QUICK)
    assert list(out.time.values) == list(worlds.times(3))
    np.testing.assert_allclose(out.t2m, wanted.t2m, rtol=1e-5)
    with pytest.raises(MismatchError, match="no whole number of steps") as caught:
        shuffled.wx.reconstruct(white())
    assert 'tolerance="30 min"' in caught.value.problems[0].remedy


def test_stations_beside_states(white, ds, seen, reports):
    """Together with a part of the states, and alone for the layout that they have."""
    noise = {"t2m": "0.2 K", "msl": "0.2 hPa"}
    surface = ds[["msl", "t2m"]].isel(latitude=slice(None, None, -1))
    apart = seen & ~seen.latitude.isin(reports.lat)
    out = surface.wx.reconstruct(
        apart, white(), stations=reports, noise=noise, seed=0, sampling=QUICK
    )
    assert list(out.constraint.values) == ["observed", "stations"]
    assert np.abs((out.t2m - surface.t2m).where(apart)).max() < 1
    assert np.abs(at(out, reports).t2m - 273.15 - reports.t2m).max() < 1
    alone = surface.wx.reconstruct(
        False, white(), stations=reports, noise=noise, seed=0, sampling=QUICK
    )
    own = reports.wx.reconstruct(white(), noise=noise, seed=0, sampling=QUICK)
    assert list(alone.data_vars) == ["msl", "t2m", "residual"]
    xr.testing.assert_equal(alone.latitude, surface.latitude)
    np.testing.assert_allclose(
        alone.t2m.sortby("latitude", ascending=False) - 273.15, own.t2m, atol=1e-4
    )
    nothing = surface.where(False).wx.reconstruct(
        None, white(), stations=reports, noise=noise, seed=0, sampling=QUICK
    )
    xr.testing.assert_equal(nothing, alone)
    with pytest.raises(MismatchError, match="nothing is left to infer") as caught:
        surface.wx.reconstruct(None, white(), stations=reports)
    assert caught.value.problems[0].remedy.startswith("mask=False")


def test_further_constraints(white, ds, seen):
    coarse = ds[["t2m"]].coarsen(latitude=8, longitude=8).mean() + 4
    coarse.t2m.attrs = ds.t2m.attrs
    for name in coarse.coords:
        coarse[name].attrs = ds[name].attrs
    out = ds[["t2m"]].wx.reconstruct(
        seen, white(), noise="0.2 K", seed=0, sampling=QUICK,
        constraints=[AreaMean(coarse, "0.05 K"), Observe(ds[["msl"]].where(seen))],
    )  # fmt: skip
    assert list(out.constraint.values) == ["observed", "area_mean", "observed_2"]
    area = np.cos(np.deg2rad(ds.latitude))
    for rows in (slice(0, 8), slice(8, 16)):
        got = out.t2m.isel(latitude=rows).weighted(area).mean(("latitude", "longitude"))
        wanted = coarse.t2m.isel(latitude=rows.start // 8).mean("longitude")
        np.testing.assert_allclose(got, wanted, atol=0.2)
    assert np.abs((out.t2m - ds.t2m).where(seen)).max() < 1.5


def test_a_single_state_and_long_series(white, worlds, seen):
    ds = worlds.dataset(9)
    long = ds.wx.reconstruct(seen, white(frames=4), seed=0, noise=NOISE, sampling=QUICK)
    assert list(long.time.values) == list(worlds.times(9))
    assert np.abs(((long.t2m - ds.t2m) / 0.2).where(seen)).max() < 5
    one = ds.isel(time=4).wx.reconstruct(seen, white(), seed=0, noise=NOISE, sampling=QUICK)
    assert one.t2m.dims == ("latitude", "longitude")
    assert one.time == ds.time[4]
    assert one.residual.dims == ("constraint",)
    assert np.abs(((one.t2m - ds.t2m[4]) / 0.2).where(seen)).max() < 5


def test_calendars_other_than_that_of_the_world(white, ds, seen):
    when = [
        cftime.Datetime360Day(2026, 2, 30, 12) + n * np.timedelta64(6, "h").item() for n in range(3)
    ]
    other = ds.assign_coords(time=("time", when, ds.time.attrs))
    out = other.wx.reconstruct(seen, white(), seed=0, sampling=QUICK)
    assert list(out.time.values) == when
    np.testing.assert_array_equal(
        out.t2m, ds.wx.reconstruct(seen, white(), seed=0, sampling=QUICK).t2m
    )


def problems(call):
    with pytest.raises(MismatchError) as caught:
        call()
    return {p.kind: p for p in caught.value.problems}


def test_a_state_between_that_is_missing(white, worlds, seen):
    ds = worlds.dataset(4).isel(time=[0, 1, 3])
    found = problems(lambda: ds.wx.reconstruct(seen, white()))
    assert list(found) == ["missing-time"]
    assert "2026-01-30T12:00" in found["missing-time"].message
    names = {"ds": ds}
    exec(found["missing-time"].remedy, names)
    out = names["ds"].wx.reconstruct(seen, white(), seed=0, noise=NOISE, sampling=QUICK)
    assert list(out.time.values) == list(worlds.times(4))
    assert np.isfinite(out.t2m).all()


def test_all_or_nothing_was_observed(white, ds):
    found = problems(lambda: ds.wx.reconstruct(model=white()))
    assert list(found) == ["all-observed"]
    for nothing in (
        lambda: ds.wx.reconstruct(False, white()),
        lambda: ds.where(False).wx.reconstruct(white()),
    ):
        assert list(problems(nothing)) == ["nothing-observed"]
    gap = ds.copy(deep=True)
    gap.msl[1, 2, 3] = np.nan
    assert gap.wx.reconstruct(white(), sampling=QUICK).msl.notnull().all()


def test_masks_that_do_not_fit(white, ds, seen, reports):
    with pytest.raises(TypeError, match="int64"):
        ds.wx.reconstruct(seen.astype(int), white())
    with pytest.raises(TypeError, match="'msl' is of float"):
        ds.wx.reconstruct(xr.Dataset({"msl": seen.astype(float), "t2m": seen}), white())
    with pytest.raises(TypeError, match="ndarray"):
        ds.wx.reconstruct(seen.values, white())
    shifted = seen.assign_coords(longitude=seen.longitude + 1)
    found = problems(lambda: ds.wx.reconstruct(shifted, white()))
    assert list(found) == ["wrong-mask"]
    assert "longitude" in found["wrong-mask"].message
    assert "wrong-mask" in problems(
        lambda: ds.wx.reconstruct(seen.isel(latitude=slice(3, 9)), white())
    )
    found = problems(lambda: ds.wx.reconstruct(seen.expand_dims(level=ds.level), white()))
    assert "level" in found["extra-dimension"].message
    found = problems(lambda: ds.wx.reconstruct(xr.Dataset({"msl": seen}), white()))
    assert "missing-mask" in found
    with pytest.raises(TypeError, match="no mask"):
        reports.wx.reconstruct(reports.t2m > 0, white())


def test_arguments_that_make_no_sense(white, ds, seen, worlds):
    with pytest.raises(TypeError, match="two models are given, 'one' in the place of the mask"):
        ds.wx.reconstruct("one", "other")
    with pytest.raises(TypeError, match=r"looks like the mask: .*reconstruct\(mask, model\)"):
        ds.wx.reconstruct(white(), seen)
    with pytest.raises(TypeError, match="stations is a DataArray"):
        ds.wx.reconstruct(seen, white(), stations=ds.t2m)
    with pytest.raises(ValueError, match="generative"):
        ds.wx.reconstruct(seen, worlds.toy())
    with pytest.raises(ValueError, match="tolerance"):
        stations(worlds.times(1), [0.0], [0.0], t2m=([[1.0]], "degC")).wx.reconstruct(
            white(), tolerance="much"
        )
    coarse = ds.coarsen(latitude=2, longitude=2).mean(keep_attrs=True)
    found = problems(lambda: coarse.wx.reconstruct(coarse.latitude > 0, white()))
    assert "downscale" in found["wrong-grid"].remedy


def west_first(mask):
    east = (mask.longitude + 180) % 360 - 180
    return mask.assign_coords(longitude=east).sortby("longitude")


def test_masks_in_another_convention_of_longitude(white, ds, seen):
    wanted = ds.wx.reconstruct(seen, white(), seed=0, sampling=QUICK)
    out = ds.wx.reconstruct(west_first(seen), white(), seed=0, sampling=QUICK)
    xr.testing.assert_equal(out, wanted)
    each = xr.Dataset(dict.fromkeys(ds.data_vars, west_first(seen)))
    xr.testing.assert_equal(ds.wx.reconstruct(each, white(), seed=0, sampling=QUICK), wanted)
    west = west_first(ds)
    back = west.wx.reconstruct(seen, white(), seed=0, sampling=QUICK)
    np.testing.assert_array_equal(back.t2m.sel(longitude=-11.25), out.t2m.sel(longitude=348.75))


@pytest.mark.parametrize("west", [False, True])
def test_the_remedy_for_a_mask_of_a_part_loses_none_of_its_points(white, ds, seen, west):
    part = west_first(seen).isel(longitude=slice(10, 24))  # on both sides of Greenwich
    own = west_first(ds) if west else ds
    found = problems(lambda: own.wx.reconstruct(part, white(), sampling=QUICK))
    made = {"ds": own, "mask": part}
    exec(found["wrong-mask"].remedy, made)
    assert int(made["mask"].sum()) == int(part.sum()) > 10
    out = own.wx.reconstruct(made["mask"], white(), seed=0, noise=NOISE, sampling=QUICK)
    miss = (west_first(out).t2m - west_first(ds).t2m).where(part)
    assert int(miss.notnull().sum()) == 3 * int(part.sum())
    assert np.abs(miss).max() < 5 * SIGMA["t2m"]


def test_values_of_another_unit_give_one_warning(white, ds, seen):
    wrong = ds.assign(msl=(ds.msl / 100).assign_attrs(ds.msl.attrs))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        wrong.wx.reconstruct(seen, white(), seed=0, sampling=QUICK)
    texts = [str(w.message) for w in said if "on average" in str(w.message)]
    assert len(texts) == 1
    assert texts[0].startswith("`msl` is ")
    assert "is its unit `hPa`?" in texts[0]


def test_what_a_deterministic_model_is_told(ds, seen, worlds):
    text = r"toy cannot be sampled: .*deterministic, and reconstruct .*model=\"wind-era5-mini\""
    with pytest.raises(ValueError, match=text):
        ds.wx.reconstruct(seen, worlds.toy())


def test_a_station_without_its_dimension(white, worlds):
    obs = stations(worlds.times(1), [10.0, 20.0], [5.0, 350.0], t2m=([[280.0, 281.0]], "K"))
    alone = obs.isel(station=0)
    (problem,) = problems(lambda: alone.wx.reconstruct(white(), sampling=QUICK)).values()
    made = {"ds": alone}
    exec(problem.remedy.partition("  #")[0], made)
    kept = obs.isel(station=[0]).wx.reconstruct(white(), seed=0, sampling=QUICK)
    out = made["ds"].wx.reconstruct(white(), seed=0, sampling=QUICK)
    np.testing.assert_array_equal(out.t2m, kept.t2m)
    assert "isel(station=[0])" in problem.remedy


def test_the_noise_that_was_used_is_recorded(white, ds, seen):
    own = ds[["msl", "z"]].assign(msl=(ds.msl / 100).assign_attrs(ds.msl.attrs, units="hPa"))
    model = white()
    area = AreaMean(pooled_twice(ds[["t2m"]]), noise="300 mK")
    out = own.wx.reconstruct(
        seen, model, noise={"msl": "0.5 hPa"}, constraints=[area], seed=0, sampling=QUICK
    )
    noise = json.loads(out.attrs["xwx_noise"])
    assert list(noise) == list(out.constraint.values) == ["observed", "area_mean"]
    assert noise["observed"]["msl"] == "0.5 hPa"
    assert noise["area_mean"] == {"t2m": "0.3 K"}
    std = dict(zip(map(str, model.spec.channels), model.network.std.flatten(), strict=True))
    for level in (500, 850):
        value, unit = noise["observed"][f"z at {level} hPa"].split(" ", 1)
        assert unit == "m2 s-2"
        assert float(value) == pytest.approx(0.01 * float(std[f"z[{level} hPa]"]), rel=1e-5)


def pooled_twice(ds):
    out = ds.coarsen(latitude=2, longitude=2).mean(keep_attrs=True)
    for name in ("latitude", "longitude"):
        out[name].attrs = dict(ds[name].attrs)
    return out
