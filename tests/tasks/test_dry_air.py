"""The mass of dry air: closed forms, three ways to the surface pressure, layouts, refusals."""

from __future__ import annotations

import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.tasks.dry_air import dry_air_mass

LAT, LON = np.linspace(90, -90, 13), np.arange(0, 360, 20.0)
LEVELS = np.array([50, 100, 200, 300, 500, 700, 850, 925, 1000.0])
GRAVITY, GAS, RADIUS = 9.80665, 287.05, 6.371e6
SHAPE = (2, LEVELS.size, LAT.size, LON.size)
KILOGRAMS = 4 * np.pi * RADIUS**2 / GRAVITY  # of a column of 1 Pa round the globe


def dataset(q=0.0, sp=None, **more):
    """A Dataset of two times; fields of (time, lat, lon) or of the table's static kind by name."""
    attrs = {
        "sp": ("surface_air_pressure", "Pa"),
        "msl": ("air_pressure_at_mean_sea_level", "Pa"),
        "t2m": ("air_temperature", "K"),
        "z_sfc": ("surface_geopotential", "m2 s-2"),
    }
    fields = {"q": (("time", "level", "lat", "lon"), np.broadcast_to(q, SHAPE).copy(),
                    {"standard_name": "specific_humidity", "units": "kg kg-1"})}  # fmt: skip
    if "z" in more:
        fields["z"] = (
            fields["q"][0],
            np.broadcast_to(more.pop("z"), SHAPE).copy(),
            {"standard_name": "geopotential", "units": "m2 s-2"},
        )
    for name, values in (more if sp is None else {"sp": sp} | more).items():
        name_, units = attrs[name]
        dims = ("lat", "lon") if name == "z_sfc" else ("time", "lat", "lon")
        size = SHAPE[2:] if name == "z_sfc" else (SHAPE[0], *SHAPE[2:])
        fields[name] = (dims, np.broadcast_to(values, size).copy(),
                        {"standard_name": name_, "units": units})  # fmt: skip
    return xr.Dataset(
        fields,
        {
            "time": np.array(["2026-01-01", "2026-01-02"], "datetime64[ns]"),
            "level": ("level", LEVELS, {"units": "hPa"}),
            "lat": ("lat", LAT, {"units": "degrees_north"}),
            "lon": ("lon", LON, {"units": "degrees_east"}),
        },
        {"title": "dry"},
    )


def varied(seed=0):
    rng = np.random.default_rng(seed)
    return dataset(rng.uniform(0, 0.02, SHAPE), rng.uniform(4e4, 1.04e5, (2, *SHAPE[2:])))


@pytest.mark.parametrize("sp", [60000.0, 85000.0, 101325.0, 103000.0, 7000.0])
def test_constants(sp):
    out = dry_air_mass(dataset(0.0073, sp))
    np.testing.assert_allclose(out.dry_air_pressure, (1 - 0.0073) * sp, rtol=1e-13)
    np.testing.assert_allclose(out.dry_air_mass, (1 - 0.0073) * sp * KILOGRAMS, rtol=1e-13)


def test_a_year_of_reanalysis_in_kilograms():
    mass = dry_air_mass(dataset(0.0, 98305.0)).dry_air_mass
    assert [f"{value:.4e}" for value in mass.values] == ["5.1130e+18"] * 2


def test_layers_by_hand():
    """Half levels lie midway; one column of one sphere, a humidity for each level."""
    q = np.arange(1, 10) / 100
    edges = [0, 7500, 15000, 25000, 40000, 60000, 77500, 88750, 96250]
    out = dry_air_mass(dataset(q[:, None, None], 99000.0))
    thickness = np.diff([*edges, 99000])
    np.testing.assert_allclose(out.dry_air_pressure, ((1 - q) * thickness).sum(), rtol=1e-14)
    # 60000 Pa: the levels from 700 hPa down are under ground, and may be missing
    q[5:] = np.nan
    out = dry_air_mass(dataset(q[:, None, None], 60000.0))
    expected = ((1 - q) * np.diff([*edges, 99000]))[:5].sum()
    np.testing.assert_allclose(out.dry_air_pressure, expected, rtol=1e-14)
    q[4] = np.nan  # this one is not
    assert np.isnan(dry_air_mass(dataset(q[:, None, None], 60000.0)).dry_air_pressure).all()


def test_a_missing_level_under_ground_is_as_moist_as_the_one_above():
    """The layer of 1000 hPa begins at 962.5 hPa."""
    q = np.arange(1, 10) / 100
    filled = np.append(q[:8], q[7])
    q[8] = np.nan
    expected = dry_air_mass(dataset(filled[:, None, None], 97000.0)).dry_air_pressure
    found = dry_air_mass(dataset(q[:, None, None], 97000.0)).dry_air_pressure
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(dry_air_mass(dataset(q[:, None, None], 100001.0)).dry_air_pressure).all()


def test_area_mean_by_hand():
    edges = np.clip([*(LAT + 7.5), -97.5], -90, 90)
    areas = np.sin(np.deg2rad(edges[:-1])) - np.sin(np.deg2rad(edges[1:]))
    sp = 1e5 + 100 * np.arange(13)[:, None] + np.arange(18)
    out = dry_air_mass(dataset(0.0, sp))
    mean = np.average(sp.mean(axis=1), weights=areas)
    np.testing.assert_allclose(out.dry_air_pressure, mean, rtol=1e-14)


def test_monotone():
    ds = varied()
    base = dry_air_mass(ds).dry_air_mass
    wetter, heavier = ds.copy(deep=True), ds.copy(deep=True)
    wetter["q"][:, 3, 5, 5] += 1e-3
    heavier["sp"][:, 5, 5] += 1.0
    assert (dry_air_mass(wetter).dry_air_mass < base).all()
    assert (dry_air_mass(heavier).dry_air_mass > base).all()


def test_times_apart_and_missing():
    ds = varied()
    whole = dry_air_mass(ds)
    assert whole.dry_air_mass.dims == ("time",)
    np.testing.assert_allclose(dry_air_mass(ds.isel(time=1)).dry_air_mass, whole.dry_air_mass[1],
                               rtol=1e-14)  # fmt: skip
    ds["sp"][0, 2, 2] = np.nan
    assert np.isnan(dry_air_mass(ds).dry_air_mass).values.tolist() == [True, False]


def layouts(ds):
    rng = np.random.default_rng(1)
    yield ds.roll(lon=5, roll_coords=True)
    yield ds.assign_coords(lon=("lon", (LON + 180) % 360 - 180, ds.lon.attrs)).sortby("lon")
    yield ds.isel(lat=slice(None, None, -1))
    yield ds.isel(level=rng.permutation(LEVELS.size))
    yield ds.assign_coords(level=("level", LEVELS * 100, {"units": "Pa"}))
    yield ds.transpose("lon", "level", "time", "lat")
    yield ds.chunk()
    yield ds.chunk(time=1, level=4, lat=5, lon=7)
    grams = (ds.q * 1000).assign_attrs(units="g kg-1", standard_name="specific_humidity")
    yield ds.assign(q=grams)
    yield ds.rename(q="hus", level="plev", lat="latitude").drop_attrs(deep=False)
    split = {f"q{level:g}": ds.q.sel(level=level, drop=True) for level in LEVELS[::-1]}
    yield ds.drop_vars(["q", "level"]).assign(split)


@pytest.mark.parametrize("number", range(11))
def test_the_layout_does_not_change_the_numbers(number):
    ds = varied()
    other = list(layouts(ds))[number]
    np.testing.assert_allclose(
        dry_air_mass(other).dry_air_mass, dry_air_mass(ds).dry_air_mass, rtol=1e-13
    )


TEMPERATURE, SEA_LEVEL = 271.3, 101500.0
#: The surface of a rough planet, from 400 m under the sea to 5500 m above it.
SURFACE = GRAVITY * np.random.default_rng(2).uniform(-400, 5500, SHAPE[2:])
#: The surface pressure of a dry atmosphere of one temperature.
EXACT = SEA_LEVEL * np.exp(-SURFACE / (GAS * TEMPERATURE))
ISOTHERMAL = (GAS * TEMPERATURE * np.log(SEA_LEVEL / (100 * LEVELS)))[:, None, None]
#: Half the lapse from the sea to the surface is added to it again.
AIR = TEMPERATURE - 0.5 * 0.0065 * SURFACE / GRAVITY


def source(ds):
    out = dry_air_mass(ds)
    assert out.dry_air_mass.attrs["comment"] == out.dry_air_pressure.attrs["comment"]
    return out.dry_air_pressure, out.dry_air_mass.attrs["comment"]


def test_three_ways_agree_where_all_are_exact():
    expected, comment = source(dataset(sp=EXACT, z=ISOTHERMAL, z_sfc=SURFACE, msl=9e4, t2m=200.0))
    assert comment == "surface pressure: 'sp'"
    found, comment = source(dataset(z=ISOTHERMAL, z_sfc=SURFACE, msl=9e4, t2m=200.0))
    assert comment == "surface pressure: from 'z' at 'z_sfc'"
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found, comment = source(dataset(z_sfc=SURFACE, msl=SEA_LEVEL, t2m=AIR))
    assert comment == "surface pressure: from 'msl', 't2m', 'z_sfc', hypsometric"
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_interpolation_is_linear_between_its_own_two_levels():
    """A column whose temperature changes from layer to layer has kinks at the levels."""
    layers = np.array([230, 215, 220, 230, 250, 268, 280, 285.0])
    steps = GAS * layers * np.diff(np.log(LEVELS))
    heights = np.append(np.cumsum(steps[::-1])[::-1], 0.0) + 900.0
    for height, low, high, layer in ((900.0 + 0.3 * steps[7], 7, 8, 7),
                                     (heights[4] - 0.6 * steps[4], 4, 5, 4),
                                     (heights[0] + 10.0, 0, 1, 0), (-500.0, 7, 8, 7)):  # fmt: skip
        part = (heights[low] - height) / steps[layer]
        exact = 100 * LEVELS[low] * (LEVELS[high] / LEVELS[low]) ** part
        ds = dataset(z=heights[:, None, None], z_sfc=height)
        np.testing.assert_allclose(dry_air_mass(ds).dry_air_pressure, exact, rtol=1e-12)


def test_geopotential_may_be_missing_under_ground_only():
    masked = dataset(z=ISOTHERMAL, z_sfc=SURFACE)
    under = masked.level * 100 > xr.DataArray(EXACT, dims=("lat", "lon"))
    masked["z"], masked["q"] = masked.z.where(~under), masked.q.where(~under)
    exact = dry_air_mass(dataset(sp=EXACT)).dry_air_pressure
    np.testing.assert_allclose(dry_air_mass(masked).dry_air_pressure, exact, rtol=1e-12)
    for level in (0, 4):
        hole = masked.copy(deep=True)
        hole["z"][0, level, 6, 6] = np.nan
        assert np.isnan(dry_air_mass(hole).dry_air_pressure).values.tolist() == [True, False]


def test_hypsometric_is_of_the_moist_air_at_the_lowest_level():
    q = np.linspace(0, 0.01, 9)[:, None, None]
    moist = AIR / (1 + 0.6077 * 0.01)
    expected = dry_air_mass(dataset(q, sp=EXACT)).dry_air_pressure
    found = dry_air_mass(dataset(q, z_sfc=SURFACE, msl=SEA_LEVEL, t2m=moist))
    np.testing.assert_allclose(found.dry_air_pressure, expected, rtol=1e-12)
    # without a value at the lowest level it is that of the next; above ground still missed
    ds = dataset(q, z_sfc=GRAVITY * 3000.0, msl=SEA_LEVEL, t2m=270.0)
    ds["q"][:, 7:] = np.nan
    below = dataset(np.minimum(q, q[6]), z_sfc=GRAVITY * 3000.0, msl=SEA_LEVEL, t2m=270.0)
    np.testing.assert_allclose(
        dry_air_mass(ds).dry_air_pressure, dry_air_mass(below).dry_air_pressure, rtol=1e-13
    )


def test_heights_are_converted():
    ds = dataset(z=ISOTHERMAL, z_sfc=SURFACE)
    exact = dry_air_mass(ds).dry_air_pressure
    ds["z"] = (ds.z / 9.80665).assign_attrs(standard_name="geopotential_height", units="m")
    ds["z_sfc"] = (ds.z_sfc / 9.80665).assign_attrs(standard_name="surface_altitude", units="m")
    mixed = dry_air_mass(ds.assign(z_sfc=dataset(z_sfc=SURFACE).z_sfc)).dry_air_pressure
    np.testing.assert_allclose(mixed, exact, rtol=1e-13)
    found = dry_air_mass(ds.rename(z_sfc="orog"))
    np.testing.assert_allclose(found.dry_air_pressure, exact, rtol=1e-13)
    assert "'orog'" in found.dry_air_mass.attrs["comment"]


def test_labels():
    ds = varied().expand_dims(member=[3, 4]).assign_coords(init_time=np.datetime64("2026-01-01"))
    ds["sp"] = ds.sp.isel(member=0, drop=True)
    ds = ds.assign_coords(lead_time=("time", ds.time.values - ds.time.values[0]))
    out = dry_air_mass(ds)
    assert list(out.data_vars) == ["dry_air_pressure", "dry_air_mass"]
    assert set(out.coords) == {"time", "member", "init_time", "lead_time"}
    assert out.dry_air_mass.dims == ("member", "time")
    assert (out.dry_air_pressure.attrs["units"], out.dry_air_mass.attrs["units"]) == ("Pa", "kg")
    assert out.attrs == ds.attrs
    assert out.dry_air_mass.dtype == np.float64
    assert set(dry_air_mass(varied().isel(time=0)).coords) == {"time"}


def test_lazy_and_quantified():
    ds = varied()
    lazy = dry_air_mass(ds.chunk(time=1))
    assert lazy.dry_air_mass.chunks is not None
    assert dry_air_mass(ds.astype("f4")).dry_air_mass.dtype == np.float64
    out = dry_air_mass(ds.pint.quantify(lat=None, lon=None))
    assert str(out.dry_air_mass.data.units) == "kilogram"
    assert str(out.dry_air_pressure.data.units) == "pascal"
    np.testing.assert_allclose(out.dry_air_mass.data.magnitude, dry_air_mass(ds).dry_air_mass)


def test_gaussian_rows_and_a_pole_left_out():
    lat = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(13)[0]))
    ds = dataset(0.01, 1e5).assign_coords(lat=("lat", lat, {"units": "degrees_north"}))
    np.testing.assert_allclose(dry_air_mass(ds).dry_air_pressure, 99000, rtol=1e-13)
    np.testing.assert_allclose(
        dry_air_mass(dataset(0.01, 1e5).isel(lat=slice(0, 12))).dry_air_pressure, 99000, rtol=1e-13
    )


def test_bounds_of_rows_from_south_to_north():
    ds = varied().isel(lat=slice(None, None, -1))
    edges = np.array([-90, -70, -60, -50, -40, -30, -20, 0, 10, 30, 50, 60, 80, 90.0])
    pairs = np.stack([edges[:-1], edges[1:]], axis=1)
    for turned in (ds, ds.isel(lat=slice(None, None, -1))):
        order = slice(None) if turned is ds else slice(None, None, -1)
        bounded = turned.assign_coords(lat_bnds=(("lat", "side"), pairs[order]))
        bounded["lat"].attrs["bounds"] = "lat_bnds"
        rows = bounded.assign(q=0 * bounded.q.assign_attrs(ds.q.attrs))
        rows["q"].attrs = ds.q.attrs
        weights = np.diff(np.sin(np.deg2rad(edges)))[order]
        exact = np.average(rows.sp.mean("lon"), weights=weights, axis=1)
        np.testing.assert_allclose(dry_air_mass(rows).dry_air_pressure, exact, rtol=1e-13)


CASES = {
    "no humidity": (lambda ds: ds.drop_vars("q"), "missing-variable", "q", "specific_humidity"),
    "nothing at the surface": (
        lambda ds: ds.drop_vars("sp"), "missing-variable", "sp", "z_sfc, msl, t2m"),
    "no units": (lambda ds: ds.assign(q=ds.q.drop_attrs()), "missing-units", "q", "kg kg-1"),
    "a pressure in kelvins": (
        lambda ds: ds.assign(sp=ds.sp.assign_attrs(units="K")), "unconvertible-units", "sp", "Pa"),
    "levels without units": (
        lambda ds: ds.assign_coords(level=("level", LEVELS)), "missing-units", "level",
        "hPa"),
    "two humidities": (
        lambda ds: ds.assign(hus=ds.q), "ambiguous-variable", "q[50 hPa]", "hus"),
    "regional columns": (
        lambda ds: ds.isel(lon=slice(3, 15)), "regional-grid", "latitude, longitude", "globe"),
    "regional rows": (
        lambda ds: ds.isel(lat=slice(2, None)), "regional-grid", "latitude, longitude", "globe"),
    "one row": (
        lambda ds: ds.isel(lat=[4]), "regional-grid", "latitude, longitude", "globe"),
    "a meridian twice": (
        lambda ds: ds.isel(lon=[0, *range(18)]), "wrong-grid", "latitude, longitude", "increase"),
    "no longitude": (
        lambda ds: ds.isel(lon=0, drop=True), "missing-latitude", "latitude, longitude",
        "longitude"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit(name):
    change, kind, where, text = CASES[name]
    with pytest.raises(MismatchError) as caught:
        dry_air_mass(change(varied()))
    (problem,) = caught.value.problems
    assert (problem.kind, problem.where) == (kind, where)
    assert text in str(problem)
    assert "does not fit the mass of dry air" in str(caught.value)


def test_everything_missing_is_said_at_once():
    with pytest.raises(MismatchError) as caught:
        dry_air_mass(varied()[["sp"]].rename(sp="a").drop_attrs())
    assert {p.where for p in caught.value.problems} == {"q", "sp"}


def test_one_level_of_geopotential_is_too_few():
    ds = dataset(z_sfc=SURFACE)
    ds["z500"] = ds.q.isel(level=4, drop=True).assign_attrs(
        units="m2 s-2", standard_name="geopotential")  # fmt: skip
    with pytest.raises(MismatchError, match="found on 1 levels, two are needed"):
        dry_air_mass(ds)


def test_the_surface_geopotential_is_known_by_a_standard_name_of_its_own():
    from xwx.fields.locate import locate
    from xwx.fields.profile import profiles
    from xwx.spec import Channel

    field = (("lat", "lon"), np.zeros((2, 2)), {"units": "m2 s-2"})
    for stated, found in (("surface_geopotential", True), ("geopotential", False)):
        ds = xr.Dataset({"zsfc": field})
        ds["zsfc"].attrs["standard_name"] = stated
        places, _ = locate([Channel("z_sfc")], profiles(ds))
        assert bool(places) is found
