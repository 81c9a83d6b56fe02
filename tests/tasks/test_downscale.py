"""Downscale: the means of what comes back are what went in, in its layout, on the model's cells."""

from __future__ import annotations

import json
import re

import cftime
import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import torch
import xarray as xr

from xwx.constraints import DryAirMass, Observe
from xwx.diffusion.schedule import Rectified
from xwx.diffusion.settings import Sampling
from xwx.errors import MismatchError, ModelNotFoundError
from xwx.models import card as catalogue
from xwx.models.card import Card
from xwx.models.checkpoint import Model
from xwx.models.wind import Wind, WindConfig
from xwx.spec import Channel, Grid, Spec

QUICK = Sampling(steps=4)
NOISE = {"z": "30 m2 s-2", "t": "0.2 K", "t2m": "0.2 K", "msl": "20 Pa"}
SIGMA = {"z": 30.0, "t": 0.2, "t2m": 0.2, "msl": 20.0}
HOURS = np.timedelta64(1, "h")


class White(torch.nn.Module):
    """Channels that go together (rho) at each cell of each state, and nothing else does.

    The posterior mean is known, and the guidance exact.
    """

    def __init__(self, spec, mean, std, frames=5, rho=0.0):
        super().__init__()
        self.spec, self.frames = spec, frames
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("std", std.reshape(-1, 1, 1))
        size = len(spec.channels)
        self.register_buffer("covariance", (1 - rho) * torch.eye(size) + rho)

    def denoise(self, z, forcing=None, t=None):
        alpha, sigma = (f(t)[..., None, None] for f in (Rectified().alpha, Rectified().sigma))
        noisy = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.covariance))
        gain = alpha * torch.linalg.solve(noisy, self.covariance).mT
        return torch.einsum("btcd,btdhw->btchw", gain, z)


@pytest.fixture(scope="module")
def white(worlds):
    """A function that makes a prior whose posterior is known."""

    def make(frames=5, rho=0.0, **changes):
        spec = worlds.spec(**changes)
        array = torch.from_numpy(worlds.states(8))
        if "channels" in changes:
            array = array[:, : len(changes["channels"])]
        network = White(spec, array.mean((0, 2, 3)), array.std((0, 2, 3)), frames, rho)
        return Model(network, spec, Card("white", licence="CC0-1.0", sha256="ab" * 32))

    return make


def areas(ds):
    """Area weights by hand: the sine of latitude between the edges of cells."""
    half = abs(float(ds.latitude[1] - ds.latitude[0])) / 2
    edges = np.deg2rad([ds.latitude - half, ds.latitude + half])
    return xr.DataArray(np.sin(edges[1]) - np.sin(edges[0]), {"latitude": ds.latitude})


def pooled(ds, rows=4, columns=4):
    """Means over blocks of cells, weighted with their areas."""
    weights = areas(ds)
    blocks = {"latitude": rows, "longitude": columns}
    even = weights * xr.ones_like(ds.longitude, dtype=float)
    out = (ds * weights).coarsen(blocks).sum() / even.coarsen(blocks).sum()
    for name in ds.data_vars:
        out[name] = (
            out[name].transpose(*ds[name].dims).astype("float32").assign_attrs(ds[name].attrs)
        )
    for name in ds.coords:
        out[name].attrs = dict(ds[name].attrs)
    out.attrs = dict(ds.attrs)
    return out


def misses(mean, wanted):
    """The differences in standard deviations of the noise, of all variables."""
    return np.concatenate(
        [((mean[n] - wanted[n]) / SIGMA[n]).values.ravel() for n in SIGMA if n in wanted]
    )


# Presentations of the same means; each takes and gives a Dataset.
def south_first(ds):
    return ds.isel(latitude=slice(None, None, -1))


def west_first(ds):
    east = (ds.longitude.values + 180) % 360 - 180
    ds = ds.assign_coords(longitude=("longitude", east, ds.longitude.attrs))
    return ds.sortby("longitude")


def transposed(ds):
    return ds.transpose("longitude", "level", "latitude", "time")


def levels_in_pascal(ds):
    ds = ds.isel(level=[1, 0])
    return ds.assign_coords(level=("level", ds.level.values * 100, {"units": "Pa"}))


def renamed(ds):
    return ds.rename(
        time="valid_time", level="plev", latitude="lat", longitude="lon",
        z="geopotential", t="ta", t2m="tas", msl="psl",
    )  # fmt: skip


def chunked(ds):
    return ds.chunk(dict.fromkeys(ds.dims, 2))


REARRANGED = [south_first, west_first, transposed, levels_in_pascal, renamed, chunked]
REARRANGED.append(lambda ds: chunked(renamed(transposed(west_first(south_first(ds))))))


@pytest.fixture(scope="module")
def coarse(worlds):
    return pooled(worlds.dataset(3))


def test_the_means_of_the_states_are_those_that_went_in(white, coarse, worlds):
    out = coarse.wx.downscale(white(), seed=0, noise=NOISE, sampling=QUICK)
    states = out.drop_vars(["residual", "constraint"])
    miss = misses(pooled(states), coarse)
    assert np.abs(miss).max() < 5
    assert 0.01 < np.sqrt(np.mean(miss**2)) < 1.2
    within = misses(states, worlds.dataset(3))
    assert np.sqrt(np.mean(within**2)) > 10  # what the means leave open is drawn
    assert list(states.data_vars) == list(coarse.data_vars)
    assert states.sizes == worlds.dataset(3).sizes
    np.testing.assert_array_equal(states.latitude, worlds.GRID.rows)
    np.testing.assert_array_equal(states.longitude, worlds.GRID.columns)
    for name in coarse.variables:
        assert out[name].attrs == coarse[name].attrs
        assert out[name].dims == coarse[name].dims
        assert out[name].dtype == coarse[name].dtype


def test_the_residual_is_what_the_means_miss(white, coarse):
    out = coarse.wx.downscale(white(), seed=0, noise=NOISE, sampling=QUICK, members=2)
    assert out.residual.dims == ("constraint", "member", "time")
    assert list(out.constraint.values) == ["area_mean"]
    assert out.residual.attrs["units"] == "1"
    for member in (0, 1):
        states = out.isel(member=member).drop_vars(["residual", "constraint"])
        root = np.sqrt(np.mean(misses(pooled(states), coarse) ** 2))
        np.testing.assert_allclose(out.residual.isel(member=member), root, rtol=2e-2)


@pytest.mark.parametrize("layout", REARRANGED)
def test_the_numbers_do_not_depend_on_the_layout(white, coarse, layout):
    extra = ["constraint", "residual"]
    wanted = layout(coarse.wx.downscale(white(), seed=3, sampling=QUICK).drop_vars(extra))
    given = layout(coarse)
    out = given.wx.downscale(white(), seed=3, sampling=QUICK).drop_vars(extra)
    xr.testing.assert_equal(out, wanted.compute())
    for name in given.data_vars:
        assert out[name].attrs == given[name].attrs
        assert out[name].dims == given[name].dims
    for name in given.coords:
        assert out[name].attrs == given[name].attrs
        assert out[name].dims == given[name].dims


def test_units_come_back_too(white, coarse):
    wanted = coarse.wx.downscale(white(), seed=3, sampling=QUICK)
    given = coarse.pint.quantify().pint.to({"msl": "hPa", "t2m": "degC", "t": "degF"})
    out = given.wx.downscale(white(), seed=3, sampling=QUICK)
    for name in coarse.data_vars:
        assert out[name].pint.units == given[name].pint.units
    back = out.pint.to({"msl": "Pa", "t2m": "K", "t": "K"}).pint.dequantify()
    for name in coarse.data_vars:
        np.testing.assert_allclose(back[name], wanted[name], rtol=2e-6)
    plain = coarse.assign(msl=(coarse.msl / 100).assign_attrs(coarse.msl.attrs, units="hPa"))
    in_hpa = plain.wx.downscale(white(), seed=3, sampling=QUICK)
    np.testing.assert_allclose(in_hpa.msl * 100, wanted.msl, rtol=2e-6)
    assert in_hpa.msl.attrs["units"] == "hPa"


def test_double_precision_is_kept_and_members_have_a_dimension(white, coarse):
    one = coarse.wx.downscale(white(), seed=1, sampling=QUICK)
    out = coarse.astype("float64").wx.downscale(white(), members=3, seed=1, sampling=QUICK)
    assert out.t2m.dtype == np.float64
    assert out.t2m.dims == ("member", "time", "latitude", "longitude")
    assert out.z.dims == ("member", "time", "level", "latitude", "longitude")
    assert out.member.attrs["standard_name"] == "realization"
    assert "member" not in one.dims
    for name in coarse.data_vars:  # the first is the one that is drawn alone
        np.testing.assert_array_equal(out[name].sel(member=0).astype("float32"), one[name])
    spread = (out.t2m - out.t2m.mean("member")).std()
    assert spread > 1


def test_cells_without_a_value_are_left_out(white, coarse):
    """No other cell hears of them, and they hear of none."""
    holes = coarse.where((coarse.latitude < 60) | (coarse.longitude > 90))
    other = holes.copy(deep=True)
    other["t2m"] = other.t2m + 3
    one = holes.wx.downscale(white(), seed=2, sampling=QUICK)
    two = other.wx.downscale(white(), seed=2, sampling=QUICK)
    whole = coarse.wx.downscale(white(), seed=2, sampling=QUICK)
    hole = {"latitude": slice(90, 45), "longitude": slice(0, 85)}
    np.testing.assert_allclose(one.t2m.sel(hole), two.t2m.sel(hole), rtol=1e-6)
    away = {"latitude": slice(40, -90)}
    shift = pooled((two - one)[["t2m"]])
    np.testing.assert_allclose(shift.t2m.sel(away), 3, atol=0.1)
    np.testing.assert_allclose(one.t2m.sel(away), whole.t2m.sel(away), atol=0.02)
    assert np.abs(whole.t2m.sel(hole) - one.t2m.sel(hole)).max() > 1


@pytest.mark.parametrize(
    ("rows", "columns", "inside", "east"),
    [
        (slice(1, 3), slice(2, 5), slice(4, 12), np.arange(8, 20)),
        (slice(0, 2), [7, 0, 1], slice(0, 8), [*range(28, 32), *range(8)]),  # over Greenwich
    ],
)
def test_a_region_comes_back_on_the_models_cells_in_it(
    white, coarse, worlds, rows, columns, inside, east
):
    region = coarse.isel(latitude=rows, longitude=columns)
    out = region.wx.downscale(white(), seed=0, noise=NOISE, sampling=QUICK)
    np.testing.assert_array_equal(out.latitude, worlds.GRID.rows[inside])
    np.testing.assert_array_equal(out.longitude % 360, worlds.GRID.columns[east])
    means = pooled(
        out.drop_vars(["residual", "constraint"]).assign_coords(longitude=range(len(east)))
    )
    wanted = region.assign_coords(longitude=means.longitude)
    assert np.abs(misses(means, wanted)).max() < 5
    # the same draws, and the same observations there: the same numbers as from the globe
    whole = coarse.wx.downscale(white(), seed=0, noise=NOISE, sampling=QUICK)
    there = whole.isel(latitude=inside, longitude=east)
    for name in coarse.data_vars:
        np.testing.assert_allclose(out[name], there[name].values, rtol=0, atol=0.3 * SIGMA[name])


def test_a_region_over_greenwich_keeps_its_convention(white, coarse):
    region = west_first(coarse).sel(longitude=slice(-60, 60), latitude=slice(60, -60))
    out = region.wx.downscale(white(), seed=0, sampling=QUICK)
    assert out.longitude.values[0] == -45.0
    assert np.all(np.diff(out.longitude) == 11.25)
    whole = west_first(coarse.wx.downscale(white(), seed=0, sampling=QUICK))
    there = whole.sel(longitude=out.longitude, latitude=out.latitude)
    np.testing.assert_allclose(out.t2m, there.t2m, rtol=0, atol=0.02)


def test_any_grid_will_do_even_one_with_rows_on_the_poles(white, worlds):
    """Cells that divide none of the model's, some of them NaN: a constant stays one."""
    target = Grid.regular(7, 9, poles=True)
    coarse = worlds.dataset(1).map(lambda v: xr.full_like(v, float(v.mean())))
    coarse = coarse.wx.regrid(target)
    out = coarse.wx.downscale(white(), seed=0, noise=NOISE, sampling=Sampling(steps=12))
    back = out[list(coarse.data_vars)].wx.regrid(target)
    assert np.abs(misses(back, coarse)).max() < 6
    assert out.sizes["latitude"], out.sizes["longitude"] == (16, 32)


def test_snapshots_further_apart_than_the_step(white, coarse):
    """The states between are drawn, but not returned."""
    out = coarse.isel(time=[0, 2]).wx.downscale(white(), seed=0, noise=NOISE, sampling=QUICK)
    assert list(out.time.values) == list(coarse.time.values[[0, 2]])
    wanted = coarse.isel(time=[0, 2])
    means = pooled(out.drop_vars(["residual", "constraint"]))
    assert np.abs(misses(means, wanted)).max() < 5


def test_a_series_of_many_windows(white, worlds):
    coarse = pooled(worlds.dataset(9))
    out = coarse.wx.downscale(white(frames=3), seed=0, noise=NOISE, sampling=QUICK)
    assert list(out.time.values) == list(coarse.time.values)
    means = pooled(out.drop_vars(["residual", "constraint"]))
    assert np.abs(misses(means, coarse)).max() < 6
    assert np.isfinite(out.residual).all()


def test_one_moment_without_a_dimension_of_time(white, coarse):
    out = coarse.isel(time=1).wx.downscale(white(), members=2, seed=0, noise=NOISE, sampling=QUICK)
    assert "time" not in out.dims
    assert out.time == coarse.time[1]
    assert out.residual.dims == ("constraint", "member")
    one = pooled(out.isel(member=0).drop_vars(["residual", "constraint"]))
    assert np.abs(misses(one, coarse.isel(time=1))).max() < 5


def means_over(ds, freq):
    out = ds.resample(time=freq).mean(keep_attrs=True)
    for name in out.data_vars:
        out[name].attrs["cell_methods"] = "area: mean time: mean (interval: 6 h)"
    return out


def test_means_over_time_become_states(white, worlds):
    daily = means_over(worlds.dataset(8), "1D")
    out = daily.wx.downscale(white(), freq="6h", seed=0, noise=NOISE, sampling=QUICK)
    assert list(out.time.values) == list(worlds.times(8))
    again = out.drop_vars(["residual", "constraint"]).resample(time="1D").mean()
    assert np.abs(misses(again, daily)).max() < 6
    assert (out.t2m - again.t2m.reindex(time=out.time, method="ffill")).std() > 1
    assert list(out.constraint.values) == ["time_mean"]
    assert out.t2m.attrs["cell_methods"] == "area: mean time: point"
    assert daily.t2m.attrs["cell_methods"] == "area: mean time: mean (interval: 6 h)"
    assert out.time.attrs == daily.time.attrs


def test_means_over_cells_and_time_at_once(white, worlds):
    both = pooled(worlds.dataset(8).resample(time="1D").mean(keep_attrs=True))
    out = both.wx.downscale(white(), freq="6h", members=2, seed=0, noise=NOISE, sampling=QUICK)
    assert out.sizes["time"] == 8
    assert out.sizes["latitude"] == 16
    for member in (0, 1):
        states = out.isel(member=member).drop_vars(["residual", "constraint"])
        again = pooled(states).resample(time="1D").mean()
        assert np.abs(misses(again, both)).max() < 5


@pytest.mark.parametrize("decoded", [False, True])
def test_bounds_say_over_which_periods(white, worlds, decoded):
    """Half a day each, a hole of half a day between: the states of the hole are not returned."""
    states = worlds.dataset(6)
    halves = [
        states.isel(time=part).mean("time", keep_attrs=True) for part in (slice(0, 2), slice(4, 6))
    ]
    when = worlds.times(6)
    ds = xr.concat(halves, xr.Variable("time", when[[1, 5]], states.time.attrs))
    edges = np.stack([when[[0, 4]], when[[0, 4]] + 12 * HOURS], axis=1)
    ds = ds.assign(time_bnds=(("time", "bnds"), edges))
    ds = ds.transpose("time", ...)
    if decoded:  # as with decode_coords="all"
        ds = ds.set_coords("time_bnds")
        ds.time.encoding["bounds"] = "time_bnds"
    else:
        ds.time.attrs["bounds"] = "time_bnds"
    out = ds.wx.downscale(white(), freq="6h", seed=0, noise=NOISE, sampling=QUICK)
    assert list(out.time.values) == list(when[[0, 1, 4, 5]])
    assert "bounds" not in {**out.time.attrs, **out.time.encoding}
    assert "bounds" in {**ds.time.attrs, **ds.time.encoding}
    for part, n in ((slice(0, 2), 0), (slice(2, 4), 1)):
        mean = out.isel(time=part).drop_vars(["residual", "constraint"]).mean("time")
        assert np.abs(misses(mean, ds.isel(time=n))).max() < 6


def test_one_mean_without_a_dimension_of_time(white, worlds):
    states = worlds.dataset(4)
    when = worlds.times(5)
    mean = states.mean("time", keep_attrs=True).assign_coords(time=when[1])
    mean = mean.assign(time_bnds=("bnds", when[[0, 4]]))
    mean.time.attrs["bounds"] = "time_bnds"
    out = mean.wx.downscale(white(), freq="6h", seed=0, noise=NOISE, sampling=QUICK)
    assert list(out.time.values) == list(when[:4])
    assert out.t2m.dims == ("time", "latitude", "longitude")
    assert np.abs(misses(out.drop_vars(["residual", "constraint"]).mean("time"), mean)).max() < 6


def test_calendars_other_than_that_of_the_world(white, coarse):
    out = coarse.wx.downscale(white(), seed=0, sampling=QUICK)
    when = [
        cftime.Datetime360Day(2026, 2, 29, 12) + n * np.timedelta64(6, "h").item() for n in range(3)
    ]
    other = coarse.assign_coords(time=("time", when, coarse.time.attrs))
    again = other.wx.downscale(white(), seed=0, sampling=QUICK)
    assert list(again.time.values) == when
    np.testing.assert_array_equal(again.t2m, out.t2m)


def test_what_else_the_prior_infers(white, coarse, worlds):
    """Under the model's names, in canonical units, in the dimensions of the Dataset."""
    model = white(rho=0.9)
    alone = transposed(south_first(worlds.dataset(2)))[["t2m"]].pint.quantify().pint.to(t2m="degC")
    alone = alone.transpose("longitude", "latitude", "time").wx.regrid(
        Grid.regular(8, 16, poles=False)
    )
    out = alone.wx.downscale(
        model, variables=["t2m", "msl", "z"], seed=0, noise="0.1 K", sampling=Sampling(steps=12)
    )
    assert list(out.data_vars)[:1] == ["t2m"]
    assert out.msl.dims == ("longitude", "latitude", "time")
    assert out.z.dims == ("level", "longitude", "latitude", "time")
    assert out.msl.pint.units == "pascal"
    assert list(out.level.values) == [500.0, 850.0]
    assert out.level.attrs["units"] == "hPa"
    plain = out.pint.dequantify()
    assert plain.msl.attrs["standard_name"] == "air_pressure_at_mean_sea_level"
    assert plain.msl.dtype == np.float32
    assert np.all(np.diff(plain.latitude) > 0)
    mean, std = (u.flatten().tolist() for u in (model.network.mean, model.network.std))
    normal = {
        "t2m": (plain.t2m + 273.15 - mean[3]) / std[3],
        "msl": (plain.msl - mean[1]) / std[1],
        "z": (plain.z.sel(level=500) - mean[2]) / std[2],
    }
    for name in ("msl", "z"):
        slope = float((normal[name] * normal["t2m"]).mean() / (normal["t2m"] ** 2).mean())
        assert abs(slope - 0.9) < 0.1, name


def test_some_of_its_variables(white, coarse):
    whole = coarse.wx.downscale(white(), seed=0, sampling=QUICK)
    out = coarse.wx.downscale(white(), variables="msl", seed=0, sampling=QUICK)
    assert list(out.data_vars) == ["msl", "residual"]
    np.testing.assert_array_equal(out.msl, whole.msl)
    with pytest.raises(MismatchError, match="neither among") as caught:
        coarse.wx.downscale(white(), variables=["msl", "snow"])
    assert "variables=['t', 'msl', 'z', 't2m']" in str(caught.value)


def test_what_the_model_does_not_have_is_left(white, coarse):
    """Variables, and levels of one of two variables that share an axis."""
    few = tuple(c for c in white().spec.channels if c != Channel("t", 50000.0))
    model = white(channels=few)
    more = coarse.assign(tp=coarse.t2m.assign_attrs(units="m", standard_name="precipitation"))
    out = more.wx.downscale(model, seed=0, sampling=QUICK)
    assert list(out.data_vars) == ["z", "t", "t2m", "msl", "residual"]
    assert np.isfinite(out.z).all()
    assert np.isfinite(out.t.sel(level=850)).all()
    assert np.isnan(out.t.sel(level=500)).all()


def test_more_constraints_at_once(worlds):
    """Stations, means over cells, and the mass of dry air of every state."""
    channels = (Channel("sp"), Channel("q", 85000.0), Channel("q", 50000.0), Channel("t2m"))
    spec = Spec(channels, worlds.GRID)
    mean, std = torch.tensor([98500.0, 8e-3, 1e-3, 280.0]), torch.tensor([500.0, 1e-3, 2e-4, 10.0])
    model = Model(White(spec, mean, std), spec, Card("moist"))
    when = worlds.times(2)
    coarse = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), np.full((2, 4, 8), 285.0, "f4"), {"units": "K"})},
        {"time": when, "lat": np.linspace(67.5, -67.5, 4), "lon": np.arange(8) * 45.0 + 16.875},
    )
    coarse.lat.attrs["units"], coarse.lon.attrs["units"] = "degrees_north", "degrees_east"
    row, column = worlds.GRID.rows[3], worlds.GRID.columns[5]
    reports = xr.Dataset(
        {"sp": (("station", "time"), [[979.0, 978.0]], {"units": "hPa"})},
        {"lat": ("station", [row]), "lon": ("station", [column]), "time": when},
    )
    reports.lat.attrs["units"], reports.lon.attrs["units"] = "degrees_north", "degrees_east"
    out = coarse.wx.downscale(
        model,
        noise="0.1 K",
        constraints=[Observe(reports, noise="0.2 hPa"), DryAirMass("98305 Pa", strict=True)],
        variables=["t2m", "sp", "q"],
        members=2,
        seed=0,
        sampling=QUICK,
    )
    assert list(out.constraint.values) == ["area_mean", "stations", "dry_air_mass"]
    mass = out[["sp", "q"]].wx.dry_air_mass().dry_air_pressure
    np.testing.assert_allclose(mass, 98305.0, atol=0.05)
    there = out.sp.sel(lat=row, lon=column)
    assert np.abs(there - np.array([97900.0, 97800.0])).max() < 5 * 20
    means = out.t2m.weighted(areas(out.rename(lat="latitude")).rename(latitude="lat"))
    assert abs(float(means.mean(("lat", "lon", "time", "member"))) - 285.0) < 0.1
    text = out.attrs["xwx_constraints"]
    assert [w in text for w in ("AreaMean", "Observe", "DryAirMass")] == [True] * 3
    assert "strict=True" in text


def test_the_attributes_say_how_it_was_made(white, coarse):
    out = coarse.wx.downscale(white(), seed=7, members=2, noise=NOISE, sampling=QUICK)
    assert out.attrs["title"] == coarse.attrs["title"]
    assert out.attrs["xwx_seed"] == 7
    assert out.attrs["xwx_model"] == "white"
    assert out.attrs["xwx_model_licence"] == "CC0-1.0"
    assert out.attrs["xwx_model_sha256"] == "ab" * 32
    assert json.loads(out.attrs["xwx_sampling"])["steps"] == 4
    assert "AreaMean" in out.attrs["xwx_constraints"]
    before, line = out.attrs["history"].splitlines()
    assert before == coarse.attrs["history"]
    assert re.search(r"downscaled by white, 2 samples of 3 states from 2026-01-30T00", line)
    again = coarse.wx.downscale(white(), seed=7, members=2, noise=NOISE, sampling=QUICK)
    xr.testing.assert_equal(out, again)
    fresh = coarse.wx.downscale(white(), noise=NOISE, sampling=QUICK)
    repeated = coarse.wx.downscale(
        white(), noise=NOISE, sampling=QUICK, seed=fresh.attrs["xwx_seed"]
    )
    xr.testing.assert_equal(fresh, repeated)


def test_a_network_with_random_weights(worlds):
    """The real architecture: it runs, with forcings, and the sizes fit."""
    spec = worlds.spec(forcings=("sin_local_time", "cos_year"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Wind(WindConfig.preset("wind_tiny", frames=3), spec).eval()
    array = torch.from_numpy(worlds.states(8))
    network.set_statistics(*(f((0, 2, 3)) for f in (array.mean, array.std, array.std)))
    model = Model(network, spec, Card("tiny"))
    coarse = pooled(worlds.dataset(4))
    out = coarse.wx.downscale(model, members=2, seed=0, sampling=Sampling(steps=2))
    alone = coarse.wx.downscale(model, seed=0, sampling=Sampling(steps=2))
    assert np.isfinite(out.to_array()).all()
    np.testing.assert_allclose(out.t2m.sel(member=0), alone.t2m, rtol=1e-5)


def problems(call):
    with pytest.raises(MismatchError) as caught:
        call()
    return {p.kind: p for p in caught.value.problems}


def test_there_is_nothing_to_downscale_on_the_models_grid(white, worlds):
    ds = worlds.dataset(2)
    found = problems(lambda: west_first(ds).wx.downscale(white()))
    assert list(found) == ["nothing-to-do"]
    assert 'freq="6h"' in found["nothing-to-do"].remedy


def test_means_over_time_are_no_snapshots(white, worlds):
    daily = pooled(worlds.dataset(8).resample(time="1D").mean(keep_attrs=True))
    daily.t2m.attrs["cell_methods"] = "time: mean"
    found = problems(lambda: daily.wx.downscale(white()))
    assert list(found) == ["cell-methods"]
    assert "freq" in found["cell-methods"].remedy
    daily.t2m.attrs["cell_methods"] = "time: lat: lon: mean"
    assert list(problems(lambda: daily.wx.downscale(white()))) == ["cell-methods"]
    daily.t2m.attrs["cell_methods"] = "time: point area: mean"
    assert daily.wx.downscale(white(), sampling=QUICK).sizes["time"] == 2


def test_freq_is_the_step_of_the_model(white, coarse):
    found = problems(lambda: coarse.wx.downscale(white(), freq="3h"))
    assert found["wrong-freq"].remedy == 'freq="6h"'
    with pytest.raises(ValueError, match="freq="):
        coarse.wx.downscale(white(), freq="often")
    found = problems(lambda: coarse.isel(time=[0]).wx.downscale(white(), freq="6h"))
    assert "time_bnds" in found["unknown-period"].remedy


def test_times_have_to_be_steps_apart(white, coarse):
    off = coarse.assign_coords(time=coarse.time.values + np.array([0, 0, 3]) * HOURS)
    found = problems(lambda: off.wx.downscale(white()))
    ds = off
    kept = eval(found["wrong-step"].remedy.removeprefix("ds = "))
    assert list(kept.time.values) == list(off.time.values[:2])
    back = problems(lambda: coarse.isel(time=[1, 0]).wx.downscale(white()))
    assert list(back) == ["unsorted-time"]
    assert "missing-time" in problems(lambda: coarse.isel(time=0, drop=True).wx.downscale(white()))
    assert ds is off


def test_all_problems_at_once(white, coarse):
    bad = coarse.assign_coords(time=coarse.time.values + np.array([0, 0, 3]) * HOURS)
    bad.t2m.attrs["units"] = "m"
    found = problems(lambda: bad.wx.downscale(white()))
    assert {"wrong-step", "unconvertible-units"} <= set(found)
    nothing = problems(
        lambda: coarse[["t2m"]].rename(t2m="snow").drop_attrs().wx.downscale(white())
    )
    assert "missing-variable" in nothing
    many = coarse.expand_dims(ensemble=3)
    assert "extra-dimension" in problems(lambda: many.wx.downscale(white()))


def test_cells_finer_than_the_models(white, worlds):
    fine = worlds.dataset(1).wx.regrid(Grid.regular(32, 64, poles=False), "linear")
    assert "finer-grid" in problems(lambda: fine.wx.downscale(white()))


def test_a_model_that_cannot_be_sampled(worlds, coarse):
    with pytest.raises(ValueError, match="generative") as caught:
        coarse.wx.downscale(worlds.toy())
    assert "toy" in str(caught.value)


def test_the_first_generative_model_that_fits(white, worlds, coarse, monkeypatch):
    installed = {"toy": worlds.toy(), "white": white(), "other": white()}
    monkeypatch.setattr("xwx.tasks.sampling.sampled.list_models", lambda: installed)
    monkeypatch.setattr("xwx.tasks.sampling.sampled.find_spec", lambda name: installed[name].spec)
    monkeypatch.setattr("xwx.tasks.sampling.sampled.load", lambda name, device: installed[name])
    assert coarse.wx.downscale(sampling=QUICK).attrs["xwx_model"] == "white"
    with pytest.raises(ModelNotFoundError) as caught:
        coarse[["t2m"]].rename(t2m="snow").drop_attrs().wx.downscale()
    assert "white:" in str(caught.value)
    del installed["white"], installed["other"]
    with pytest.raises(ModelNotFoundError, match="deterministic"):
        coarse.wx.downscale()
    monkeypatch.setattr("xwx.tasks.sampling.sampled.list_models", dict)
    with pytest.raises(ModelNotFoundError, match="none is installed"):
        coarse.wx.downscale()
    assert catalogue.list_models()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"members": 0}, ValueError),
        ({"members": 2.5}, TypeError),
        ({"seed": -1}, ValueError),
        ({"noise": "0.1 K"}, ValueError),  # of four variables
        ({"noise": {"snow": "1 m"}}, ValueError),
        ({"sampling": {"steps": 3}}, TypeError),
        ({"constraints": DryAirMass()}, TypeError),
        ({"variables": 3}, TypeError),
    ],
)
def test_arguments_that_make_no_sense(white, coarse, arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        coarse.wx.downscale(white(), **arguments)


@pytest.mark.parametrize("held", ["attrs", "encoding"])
def test_bounds_that_were_left_behind_are_missed(white, worlds, held):
    daily = means_over(worlds.dataset(8), "1D")
    middle = daily.assign_coords(time=daily.time + 12 * HOURS)
    getattr(middle.time, held)["bounds"] = "time_bnds"
    found = problems(lambda: middle.wx.downscale(white(), freq="6h"))
    assert list(found) == ["missing-bounds"]
    assert "'time_bnds'" in found["missing-bounds"].message
    assert f'ds["time"].{held}.pop("bounds")' in found["missing-bounds"].remedy
    getattr(middle.time, held).pop("bounds")
    out = middle.wx.downscale(white(), freq="6h", noise=NOISE, sampling=QUICK)
    assert out.time.values[0] == middle.time.values[0]


@pytest.mark.parametrize("calendar", ["datetime64", "noleap"])
def test_means_over_part_of_a_step(white, worlds, calendar):
    ds = worlds.dataset(9).isel(time=slice(0, None, 3))
    ds = ds.assign_coords(time=worlds.times(9)[0] + np.arange(3) * 9 * HOURS)
    if calendar != "datetime64":
        ds = ds.convert_calendar(calendar, use_cftime=True)
    found = problems(lambda: ds.wx.downscale(white(), freq="6h"))
    assert list(found) == ["wrong-period"]
    assert "9 h" in found["wrong-period"].message
