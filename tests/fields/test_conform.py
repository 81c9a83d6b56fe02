"""One Dataset in the presentation of another: the numbers follow from the coordinates alone."""

import dask
import dask.array
import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xwx.errors import MismatchError
from xwx.fields import conform, grid_of, regrid, table
from xwx.fields.profile import profiles
from xwx.fields.recognise import recognise
from xwx.spec import Grid

G = 9.80665
LAT, LON = np.linspace(75.0, -75.0, 7), np.arange(9) * 40.0
LEVELS = (850.0, 500.0)  # hPa
KEYS = ("z", "t", "msl", "t2m", "index")
SCHEMES = {
    "era5": (("z", "t", "msl", "t2m", "my_index"), "latitude", "longitude", "pressure_level"),
    "cmip": (("zg", "ta", "psl", "tas", "my_index"), "lat", "lon", "plev"),
    "cf": (("Z", "T", "P", "T2", "INDEX"), "y", "x", "isobaric"),
    "wb2": (
        ("geopotential", "temperature", "mean_sea_level_pressure", "2m_temperature", "my_index"),
        "latitude", "lon", "level",
    ),
}  # fmt: skip
STANDARD = {
    "t": "air_temperature",
    "msl": "air_pressure_at_mean_sea_level",
    "t2m": "air_temperature",
    "index": "my_own_index",
}
#: Units, with (scale, offset): canonical = scale * value + offset.
UNITS = {
    "z": {"m2 s-2": (1, 0), "m**2 s**-2": (1, 0), "m": (G, 0), "dam": (10 * G, 0), "gpm": (G, 0)},
    "t": {"K": (1, 0), "degC": (1, 273.15), "celsius": (1, 273.15)},
    "msl": {"Pa": (1, 0), "hPa": (100, 0), "millibar": (100, 0)},
    "t2m": {"K": (1, 0), "degC": (1, 273.15), "degF": (5 / 9, 459.67 * 5 / 9)},
    "index": {"W m-2": (1, 0), "kW m-2": (1000, 0)},
}


def truth(key, time, level, lat, lon):
    """Return the exact canonical values of a quantity at coordinates that broadcast."""
    wave = np.sin(0.7 * time + 0.01 * level) * np.cos(np.deg2rad(lon) - 0.02 * lat)
    wave = wave + 0.3 * np.sin(np.deg2rad(2 * lon + 3 * lat)) + 0.004 * lat
    size = {"z": (3e4, 3e3), "t": (260, 20), "msl": (1e5, 2e3), "t2m": (280, 15), "index": (5, 3)}
    base, scale = size[key]
    return base + scale * wave


def plain(variable):
    return np.asarray(getattr(variable.data, "magnitude", variable.data))


def choices(draw, like):
    pick = lambda *options: draw(st.sampled_from(options))  # noqa: E731
    return {
        "scheme": pick(*SCHEMES),
        "north_first": pick(True, False),
        "west": pick(0.0, -180.0, -20.0),
        "roll": pick(*range(9)),
        "level_unit": pick("hPa", "Pa", "millibar"),
        "levels": draw(st.permutations(LEVELS)),
        "units": {key: pick(*UNITS[key]) for key in KEYS},
        "dtype": pick("float32", "float64"),
        "order": draw(st.permutations(["time", "level", "lat", "lon"])),
        "chunks": None if like else draw(st.one_of(st.none(), st.integers(1, 5))),
        "quantified": pick(False, False, True),
        "glued": pick(False, False, True),
        "part": draw(st.booleans()) if like else False,
        "extra": None if like else pick(None, "number", "member"),
    }


pairs = st.composite(lambda draw: (choices(draw, False), choices(draw, True)))()


def present(how):
    """Make a Dataset by formula, in a presentation."""
    names, lat, lon, level = SCHEMES[how["scheme"]]
    rows = LAT if how["north_first"] else LAT[::-1]
    columns = (np.roll(LON, how["roll"]) - how["west"]) % 360 + how["west"]
    if how["part"]:
        rows, columns = rows[1:4], columns[2:7]
    pressures = np.array(how["levels"])
    grid = np.meshgrid(np.arange(3.0), pressures, rows, columns, indexing="ij")
    ds = xr.Dataset()
    for key, name in zip(KEYS, names, strict=True):
        scale, offset = UNITS[key][how["units"][key]]
        values = ((truth(key, *grid) - offset) / scale).astype(how["dtype"])
        attrs = {"units": how["units"][key], "long_name": f"{key} of {how['scheme']}"}
        heights = key == "z" and scale != 1
        attrs["standard_name"] = (
            STANDARD[key] if key != "z" else f"geopotential{'_height' * heights}"
        )
        if key in ("z", "t"):
            ds[name] = (("time", "level", "lat", "lon"), values, attrs)
        else:
            single = truth(key, *(g[:, 0] for g in (grid[0], grid[1] * 0, *grid[2:])))
            values = ((single - offset) / scale).astype(how["dtype"])
            ds[name] = (("time", "lat", "lon"), values, attrs)
    factor = {"hPa": 1.0, "millibar": 1.0, "Pa": 100.0}[how["level_unit"]]
    ds = ds.assign_coords(
        time=np.datetime64("2020-01-01", "ns") + np.arange(3) * np.timedelta64(6, "h"),
        level=("level", pressures * factor, {"units": how["level_unit"], "positive": "down"}),
        lat=("lat", rows, {"units": "degrees_north", "standard_name": "latitude"}),
        lon=("lon", columns, {"units": "degrees_east", "standard_name": "longitude"}),
        height=((), 2.0, {"units": "m", "standard_name": "height"}),
    )
    ds[names[0]], ds[names[1]], ds[names[2]], ds[names[4]] = (
        ds[name].drop_vars("height") for name in (names[0], names[1], names[2], names[4])
    )
    ds = ds.transpose(*how["order"])
    if how["glued"] and how["scheme"] != "cf":
        for at, value in enumerate(how["levels"]):
            ds[f"{names[0]}{value:g}"] = ds[names[0]].isel(level=at, drop=True)
        ds = ds.drop_vars(names[0])
    if how["extra"]:
        size = {"number": 1, "member": 2}[how["extra"]]
        ds = ds.expand_dims({how["extra"]: np.arange(size)}, axis=1)
        ds[names[2]] = ds[names[2]] + 0 * ds[how["extra"]].astype(how["dtype"])
        ds[names[2]].attrs = {"units": how["units"]["msl"], "standard_name": STANDARD["msl"]}
    if how["chunks"]:
        ds = ds.chunk(how["chunks"])
    ds = ds.rename(level=level, lat=lat, lon=lon)
    return ds.pint.quantify() if how["quantified"] else ds


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(pairs)
def test_numbers_follow_from_the_coordinates(pair):
    given_, wanted = pair
    ds, like = present(given_), present(wanted)
    with dask.config.set(scheduler="synchronous"):
        out = conform(ds, like)
    assert list(out.data_vars) == list(like.data_vars)
    _, lat, lon, _ = SCHEMES[wanted["scheme"]]
    for name, coordinate in ((lat, out[lat]), (lon, out[lon])):
        np.testing.assert_array_equal(coordinate.values, plain(like[name].variable))
        assert coordinate.dims == like[name].dims
        assert coordinate.attrs["units"]
    xr.testing.assert_identical(out["time"].variable, ds["time"].variable)
    for name in out.data_vars:
        assert (out[name].chunks is not None) == bool(given_["chunks"])
        check_field(out, like, name, given_, wanted)


def check_field(out, like, name, given_, wanted):
    names, lat, lon, level = SCHEMES[wanted["scheme"]]
    glued = name not in names
    key = "z" if glued else KEYS[names.index(name)]
    got = out[name]
    assert got.dtype == np.dtype(given_["dtype"])
    units = str(like[name].data.units) if wanted["quantified"] else wanted["units"][key]
    assert got.attrs == {**like[name].attrs, "units": units}
    assert set(like[name].dims) <= set(got.dims)
    assert set(got.dims) - set(like[name].dims) == ({given_["extra"]} - {None})
    if key in ("z", "t") and not glued:
        np.testing.assert_array_equal(got[level], plain(like[level].variable))
        factor = {"hPa": 1.0, "millibar": 1.0, "Pa": 0.01}[wanted["level_unit"]]
        pressure = got[level].variable * factor
    else:
        pressure = float(name.removeprefix(names[0])) if glued else 0.0
    time = xr.Variable("time", np.arange(3.0))
    exact = truth(key, time, pressure, out[lat].variable, out[lon].variable)
    scale, offset = UNITS[key][wanted["units"][key]]
    exact = xr.DataArray((exact - offset) / scale)
    # rounded once in the units that were given, and once in those that are wanted
    own = UNITS[key][given_["units"][key]][0] / scale
    large = truth(key, 0, 0, 0, 0) * 1.6
    slack = np.spacing(np.array(large / scale, given_["dtype"])) + own * np.spacing(
        np.array(large / UNITS[key][given_["units"][key]][0], given_["dtype"])
    )
    gap = abs(got.variable.astype("float64") - exact.variable)
    assert float(gap.max()) <= 3 * slack, (name, float(gap.max()), slack)


DEFAULT = {
    "scheme": "era5", "north_first": True, "west": 0.0, "roll": 0, "level_unit": "hPa",
    "levels": LEVELS, "dtype": "float32", "order": ("time", "level", "lat", "lon"),
    "units": {"z": "m2 s-2", "t": "K", "msl": "Pa", "t2m": "K", "index": "W m-2"},
    "chunks": None, "quantified": False, "glued": False, "part": False, "extra": None,
}  # fmt: skip


def world(**how):
    units = DEFAULT["units"] | how.pop("units", {})
    return present(DEFAULT | how | {"units": units})


def test_the_same_presentation_gives_the_same_dataset():
    ds = world()
    xr.testing.assert_identical(conform(ds, ds), ds)


def test_without_a_change_of_units_the_bits_stay():
    ds, like = world(dtype="float64"), world(north_first=False, west=-180.0, roll=4)
    ds["z"][0, 0, 1, 2] = np.nan
    out = conform(ds, like)
    back = conform(out, ds)
    xr.testing.assert_identical(back, ds)
    assert not np.array_equal(out["t2m"], ds["t2m"])


def test_a_change_of_units_is_rounded_once():
    ds, like = world(units={"t2m": "degF"}), world(units={"msl": "hPa"})
    ds["t2m"].values[:] = np.random.default_rng(1).normal(50.0, 30.0, ds["t2m"].shape)
    exact = ds["t2m"].values.astype("float64") * 5 / 9 + 459.67 * 5 / 9
    np.testing.assert_array_equal(conform(ds, like)["t2m"], exact.astype("float32"))
    exact = ds["msl"].values.astype("float64") / 100
    np.testing.assert_array_equal(conform(ds, like)["msl"], exact.astype("float32"))


def test_a_view_where_slices_will_do():
    ds = world()
    out = conform(ds, world(north_first=False).isel(latitude=slice(1, 4)))
    assert np.shares_memory(out["t2m"].values, ds["t2m"].values)


def test_longitudes_and_latitudes_within_tolerance_become_those_of_the_forecast():
    ds, like = world(), world(west=-180.0)
    like = like.assign_coords(
        longitude=like["longitude"].astype("float32") + np.float32(1e-3), latitude=LAT + 1e-3
    )
    like["latitude"].attrs["units"] = "degrees_north"
    like["longitude"].attrs["units"] = "degrees_east"
    out = conform(ds, like)
    for name in ("latitude", "longitude"):
        xr.testing.assert_identical(out[name].variable, like[name].variable)
    np.testing.assert_array_equal(
        out["msl"].transpose(*ds["msl"].dims)[0, 0], ds["msl"].sel(longitude=LON % 360)[0, 0]
    )


@pytest.mark.parametrize("key", list(table()))
def test_every_name_of_the_table_is_recognised(key):
    entry = table()[key]
    for name in entry.names:
        for stated in (None, *entry.all_standard_names):
            attrs = {"units": entry.measures(stated)[0][0]}
            attrs |= {} if stated is None else {"standard_name": stated}
            dims = ("level",) * entry.levels
            ds = xr.Dataset({name: (dims, np.zeros((1,) * len(dims)), attrs)})
            if dims:
                ds = ds.assign_coords(level=("level", [500.0], {"units": "hPa"}))
            assert recognise(profiles(ds)[0]) is entry


def test_meridians_agree_across_the_seam_and_over_a_turn():
    ds = world()
    shifted = ds.assign_coords(longitude=("longitude", LON - 1e-3, ds["longitude"].attrs))
    further = ds.assign_coords(longitude=("longitude", LON + 720, ds["longitude"].attrs))
    for one, other in ((ds, shifted), (shifted, ds), (ds, further), (further, ds)):
        out = conform(one, other)
        np.testing.assert_array_equal(out["t2m"], ds["t2m"])
        xr.testing.assert_identical(out["longitude"].variable, other["longitude"].variable)


def test_other_dimensions_and_coordinates_stay():
    ds = world().assign_coords(
        init_time=np.datetime64("2019-12-31", "ns"),
        expver="0001",
        lead_time=("time", np.arange(3).astype("timedelta64[h]")),
        area=(("latitude", "longitude"), np.ones((7, 9))),
        quantile=("quantile", [0.1, 0.9]),
    )
    ds = ds.expand_dims(number=[0])
    like = world(scheme="cmip", level_unit="Pa").isel(time=0, drop=True)
    out = conform(ds, like.assign_coords(column=("lon", np.arange(9)), season="DJF"))
    assert set(out.coords) == {
        *("time", "init_time", "expver", "lead_time", "number", "height"),
        *("lat", "lon", "plev", "column"),
    }
    assert out["psl"].dims == ("number", "time", "lat", "lon")
    assert "area" not in conform(ds, world(north_first=False)).coords
    assert out.sizes["number"] == 1


def test_a_level_that_was_selected():
    ds, like = world(), world(scheme="cmip", units={"z": "m"}).sel(plev=500.0)
    out = conform(ds, like)
    assert out["zg"].dims == ("time", "lat", "lon")
    assert out["plev"].item() == 500.0
    np.testing.assert_allclose(out["zg"], ds["z"].sel(pressure_level=500.0) / G, rtol=1e-7)
    back = conform(like, world(glued=True), only=["z500"])
    np.testing.assert_allclose(back["z500"], ds["z"].sel(pressure_level=500.0), rtol=3e-7)


def test_variables_without_rows_and_columns_are_left_out():
    like = world()
    like["mean"] = like["t2m"].mean(("latitude", "longitude"))
    like["zonal"] = like["t2m"].mean("longitude")
    assert list(conform(world(), like).data_vars) == ["z", "t", "msl", "t2m", "my_index"]
    assert list(conform(world().drop_vars("z"), like, only=["t2m", "msl"])) == ["msl", "t2m"]


def test_own_diagnostics():
    like = world()[["my_index"]]
    other = world(units={"index": "kW m-2"})[["my_index"]].rename(my_index="another")
    np.testing.assert_allclose(conform(other, like)["my_index"], like["my_index"], rtol=1e-6)
    del other["another"].attrs["standard_name"]
    refused(other, like, "missing-variable", "my_index", "rename")
    named = other.rename(another="my_index")
    np.testing.assert_allclose(conform(named, like)["my_index"], like["my_index"], rtol=1e-6)
    named["my_index"].attrs["standard_name"] = "quite_another"
    problem = refused(named, like, "missing-variable", "my_index", "rename")
    assert "quite_another" in problem.message


def test_own_diagnostics_whose_units_are_no_unit():
    ds = world()[["my_index"]]
    ds["my_index"].attrs["units"] = "dBZ"
    xr.testing.assert_identical(conform(ds, ds), ds)
    other = ds.copy()
    other["my_index"] = other["my_index"].assign_attrs(units="mm6 m-3")
    refused(other, ds, "unconvertible-units", "my_index", "dBZ")


def test_own_diagnostics_on_levels():
    def own(**how):
        ds = world(**how)
        mine = 2 * ds[SCHEMES[how.get("scheme", "era5")][0][1]]
        mine.attrs = {"units": "kg"}
        return ds.assign(mine=mine)[["mine"]]

    ds, like = own(), own(scheme="cmip", level_unit="Pa", levels=(500.0, 850.0))
    out = conform(ds, like)
    np.testing.assert_array_equal(out["mine"], like["mine"])
    refused(ds.isel(pressure_level=[0]), like, "missing-level", "mine", "open 'mine' at 500 hPa")
    flat = ds.isel(pressure_level=0, drop=True)
    problem = refused(flat, like, "missing-variable", "mine", "rename")
    assert "not on pressure levels" in problem.message


def test_one_of_several_with_one_standard_name_is_taken_by_its_name():
    ds = world()
    day = ds[["my_index"]].assign(night=(ds["my_index"] + 1).assign_attrs(ds["my_index"].attrs))
    out = conform(day, day)
    np.testing.assert_array_equal(out["night"], day["night"])
    np.testing.assert_array_equal(out["my_index"], day["my_index"])
    problem = refused(day.rename(my_index="day"), ds, "ambiguous-variable", "my_index", "drop_vars")
    assert "'day', 'night'" in problem.message


def refused(ds, like, kind, where, remedy, **options):
    """See that one problem is reported, of this kind; return it."""
    with pytest.raises(MismatchError) as caught:
        conform(ds, like, **options)
    found = [p for p in caught.value.problems if p.kind == kind]
    assert len(found) == 1, caught.value
    if options.get("only") is None and len(like.data_vars) == 1:
        assert len(caught.value.problems) == 1, caught.value
    assert found[0].where == where
    assert remedy in found[0].remedy
    assert caught.value.what == options.get("what", "the forecast")
    return found[0]


def without_units(ds, name):
    ds = ds.copy()
    ds[name] = ds[name].copy()
    del ds[name].attrs["units"]
    return ds


@pytest.mark.parametrize(("name", "unit"), [("t2m", "K"), ("my_index", "W m-2"), ("z", "m2 s-2")])
def test_units_are_never_guessed(name, unit):
    ds = world()
    bare, one = without_units(ds, name), [name]
    remedy = f'ds["{name}"].attrs["units"] = "{unit}"'
    problem = refused(bare, ds, "missing-units", name, remedy, only=one)
    exec(problem.remedy, {"ds": bare})
    xr.testing.assert_identical(conform(bare, ds, only=one)[name], ds[name])
    forecast = without_units(ds, name)
    problem = refused(ds, forecast, "missing-units", name, "forecast[", only=one)
    assert problem.message.startswith("in the forecast: ")
    exec(problem.remedy, {"forecast": forecast})
    assert "units" in forecast[name].attrs
    with pytest.raises(MismatchError) as caught:
        conform(without_units(ds, name), without_units(ds, name), only=one)
    assert [p.kind for p in caught.value.problems] == ["missing-units"] * 2


def test_units_of_another_dimension():
    ds, like = world(), world()
    ds["msl"].attrs["units"] = "K"
    refused(ds, like[["msl"]], "unconvertible-units", "msl", 'ds["msl"]')
    like["my_index"].attrs["units"] = "m"
    refused(ds, like[["my_index"]], "unconvertible-units", "my_index", 'ds["my_index"]')
    like["t"].attrs["units"] = "m"
    refused(ds, like[["t"]], "unconvertible-units", "t", 'forecast["t"]')


def test_levels_without_units_and_twice():
    ds, like = world(), world()[["t"]]
    bare = ds.assign_coords(pressure_level=("pressure_level", list(LEVELS)))
    refused(bare, like, "missing-units", "pressure_level", 'ds["pressure_level"].attrs["units"]')
    refused(ds, bare[["t"]], "missing-units", "pressure_level", 'forecast["pressure_level"]')
    twice = ds.isel(pressure_level=[0, 1, 1])
    refused(twice, like, "duplicated-level", "pressure_level", "ds = ds.drop_duplicates")
    refused(ds, twice[["t"]], "duplicated-level", "pressure_level", "forecast = forecast.drop_dup")
    refused(ds.sel(pressure_level=[500]), like, "missing-level", "t", "open 't' at 850 hPa")


def test_missing_and_ambiguous_variables():
    ds, like = world(), world()[["msl"]]
    refused(ds.drop_vars("msl"), like, "missing-variable", "msl", "air_pressure_at_mean_sea_level")
    double = ds.assign(psl=ds["msl"])
    refused(double, like, "ambiguous-variable", "msl", "ds = ds.drop_vars(['psl'])")
    flat = ds.assign(msl=ds["msl"].isel(longitude=0, drop=True))
    refused(flat, like, "missing-dimension", "msl", "ds.drop_vars")


def test_all_problems_are_reported_at_once():
    ds = without_units(world(), "my_index").drop_vars(["msl"]).isel(pressure_level=[0])
    with pytest.raises(MismatchError, match="does not fit the old forecast: 5 problems") as caught:
        conform(ds.isel(latitude=slice(3)), world(), what="the old forecast")
    kinds = [p.kind for p in caught.value.problems]
    assert kinds[:2] == ["missing-level"] * 2
    assert kinds[2:] == ["missing-variable", "missing-units", "wrong-grid"]


def test_a_level_that_nothing_states_is_no_level():
    ds, like = world(), world()[["z"]].isel(pressure_level=0, drop=True)
    problem = refused(ds, like, "missing-variable", "z", "rename")
    assert "it is 'z' of the table, and the one wanted is not" in problem.message
    assert "it has no pressure coordinate" in problem.message
    same = ds.isel(pressure_level=1, drop=True)
    np.testing.assert_array_equal(conform(same, like)["z"], same["z"])


def test_a_shifted_grid_is_refused():
    ds, like = world(), world()[["msl"]]
    off = ds.assign_coords(longitude=("longitude", LON + 20, ds["longitude"].attrs))
    problem = refused(off, like, "wrong-grid", "latitude, longitude", 'verify(truth, grid="forec')
    assert "9 of 9 longitudes of the forecast are up to 20 degrees from the nearest" in str(problem)
    assert "7 x 9 (latitude 75 to -75, longitude 20 to 340)" in problem.message
    assert "7 x 9 (latitude 75 to -75, longitude 0 to 320)" in problem.message
    near = ds.assign_coords(latitude=("latitude", LAT + 0.1, ds["latitude"].attrs))
    refused(near, like, "wrong-grid", "latitude, longitude", 'verify(truth, grid="forecast")')
    there = regrid(off, grid_of(like))
    assert conform(there, like)["msl"].shape == (3, 7, 9)


@pytest.mark.parametrize(("west", "roll"), [(0.0, 0), (-180.0, 4), (0.0, 3)])
def test_truth_of_a_part_says_which_part(west, roll):
    truth_ = world(north_first=False).isel(latitude=slice(2, 5), longitude=[7, 8, 0, 1])
    forecast = world(west=west, roll=roll)
    problem = refused(truth_, forecast, "wrong-grid", "latitude, longitude", "forecast.isel(")
    space = {"forecast": forecast, "np": np}
    exec(problem.remedy, space)
    out = conform(truth_, space["forecast"])
    assert out.sizes["latitude"] == 3
    assert out.sizes["longitude"] == 4
    np.testing.assert_array_equal(out["t"], space["forecast"]["t"])
    away = world().isel(latitude=slice(0, 2))
    refused(truth_, away[["msl"]], "wrong-grid", "latitude, longitude", "no point in common")


@pytest.mark.parametrize("side", ["ds", "forecast"])
def test_faults_of_the_axes_on_either_side(side):
    good = world()[["msl"]]

    def fault(bad, kind, where, remedy):
        ds, like = (bad, good) if side == "ds" else (good, bad)
        return refused(ds, like, kind, where, remedy)

    seam = xr.concat([good, good.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude")
    seam["longitude"].attrs = good["longitude"].attrs
    fault(seam, "duplicated-longitude", "longitude", f"{side} = {side}.isel(longitude=slice(None,")
    fault(good.isel(latitude=[0, 1, 1]), "duplicated-latitude", "latitude", "drop_duplicates")
    fault(good.isel(latitude=[0, 2, 1]), "non-monotonic-latitude", "latitude", f"{side}.sortby")
    fault(good.isel(longitude=[0, 2, 1, 3]), "non-monotonic-longitude", "longitude", "sortby")
    fault(good.isel(latitude=slice(0)), "zero-length", "latitude", "range")
    fault(good.drop_vars("latitude"), "missing-latitude", "latitude", f'{side}["NAME"]')
    radians = good.assign_coords(
        latitude=("latitude", np.deg2rad(LAT), {"units": "radians", "standard_name": "latitude"})
    )
    fault(radians, "unconvertible-units", "latitude", f"{side} = {side}.assign_coords")
    points = good.isel(latitude=xr.Variable("p", [0, 1]), longitude=xr.Variable("p", [0, 1]))
    fault(points, "unstructured-grid", "latitude, longitude", "regular")


def test_packed_integers_and_flags_are_refused():
    like = world()[["msl"]]
    packed = world().assign(msl=like["msl"].astype("int16").assign_attrs(like["msl"].attrs))
    refused(packed, like, "integer-field", "msl", "decode_cf")
    flags = world().assign(msl=(like["msl"] > 1e5).assign_attrs(like["msl"].attrs))
    refused(flags, like, "wrong-dtype", "msl", "astype")


def test_a_dimension_of_another_meaning_is_refused():
    ds = world().expand_dims("plev")
    like = world(scheme="cmip")[["ta"]]
    refused(ds, like, "extra-dimension", "t", 'ds = ds.rename({"plev": "another_plev"})')


def test_arguments():
    ds = world()
    with pytest.raises(TypeError, match="ds: a Dataset is needed, got DataArray"):
        conform(ds["t"], ds)
    with pytest.raises(TypeError, match="like: a Dataset is needed"):
        conform(ds, ds["t"])
    refused(ds, ds, "unknown-variable", "variables", "name variables", only=["nothing"])
    refused(ds, ds[["t"]].mean("latitude").assign(ds[["t"]].coords), "unknown-variable",
            "variables", "along latitude")  # fmt: skip


class Spy(xr.backends.BackendArray):
    """An array in a file: counts what is read of it."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, []

    def __getitem__(self, key):
        support = xr.core.indexing.IndexingSupport.OUTER
        return xr.core.indexing.explicit_indexing_adapter(key, self.shape, support, self._get)

    def _get(self, key):
        out = self.values
        for axis, k in reversed(list(enumerate(key))):
            out = out[(slice(None),) * axis + (k,)]
        if out.size:
            self.read.append((out.size, any(isinstance(k, np.ndarray) for k in key)))
        return out


def filed(ds):
    """Return a Dataset that looks as if opened from a file, and the spies that hold its values."""
    spies = {name: Spy(v.values) for name, v in ds.data_vars.items()}
    new = {
        name: xr.Variable(ds[name].dims, xr.core.indexing.LazilyIndexedArray(spy), ds[name].attrs)
        for name, spy in spies.items()
    }
    return ds.assign(new), spies


@pytest.mark.parametrize(
    "how",
    [
        {"north_first": False},
        {"west": -180.0, "roll": 4, "part": True},
        {"units": {"z": "dam", "t2m": "degC"}, "level_unit": "Pa", "levels": (500.0, 850.0)},
        {"glued": True, "west": -180.0},
    ],
)
@pytest.mark.parametrize("glued", [False, True])
def test_files_are_not_read_before_they_must(how, glued):
    ds, like = world(glued=glued), world(**how)
    lazy, spies = filed(ds)
    out, eager = conform(lazy, like), conform(ds, like)
    assert not any(spy.read for spy in spies.values())
    assert not any(v._in_memory for v in map(xr.DataArray.variable.fget, out.data_vars.values()))
    one = out.isel(time=1, latitude=slice(1, 3))
    assert not any(spy.read for spy in spies.values())
    for name, variable in one.data_vars.items():
        np.testing.assert_array_equal(variable, eager[name].isel(time=1, latitude=slice(1, 3)))
    for spy in spies.values():
        longitudes = 5 if how.get("part") else 9
        levels = 2 if spy.values.ndim == 4 else 1
        assert sum(size for size, _ in spy.read) == 2 * longitudes * levels
        assert not any(fancy for _, fancy in spy.read)
    for name, variable in out.data_vars.items():
        np.testing.assert_array_equal(variable, eager[name])
        pointwise = {"time": xr.Variable("p", [2, 0]), "latitude": xr.Variable("p", [0, 1])}
        np.testing.assert_array_equal(variable.isel(pointwise), eager[name].isel(pointwise))
        if "pressure_level" in variable.dims:
            upper = {"pressure_level": [1], "time": 0}
            np.testing.assert_array_equal(variable.isel(upper), eager[name].isel(upper))
        order = variable.dims[::-1]
        np.testing.assert_array_equal(variable.transpose(*order), eager[name].transpose(*order))
        empty = variable.isel(longitude=slice(0))
        assert empty.values.shape == empty.shape
        assert variable.isel(time=0, latitude=1, longitude=2).values.ndim == variable.ndim - 3


def test_dask_graphs_are_never_computed():
    ds = world(units={"z": "m", "msl": "hPa"})
    never = {
        name: (
            v.dims,
            dask.array.from_delayed(dask.delayed(pytest.fail)("computed"), v.shape, v.dtype),
            v.attrs,
        )
        for name, v in ds.data_vars.items()
    }
    how = {"glued": True, "west": -180.0, "north_first": False, "levels": (500.0, 850.0)}
    for lazy in (ds.assign(never), ds.assign(never).pint.quantify()):
        for like in (world(**how), world(**how).assign(never), ds.assign(never).pint.quantify()):
            if "z" in like and like["z"].chunks is not None and "z850" in like:
                like = like.drop_vars("z")
            out = conform(lazy, like)
            assert all(v.chunks is not None for v in out.data_vars.values())


def test_graphs_stay_small():
    ds = world().chunk(time=1)
    steps = {}
    for name, how in {
        "same": {},
        "rolled": {"roll": 4},
        "units": {"units": {"t2m": "degC"}},
    }.items():
        graph = conform(ds, world(**how))["t2m"].__dask_graph__()
        steps[name] = len(dict(graph)) - len(dict(ds["t2m"].__dask_graph__()))
    # a slice on each side of the seam and their join, for each of three chunks; one conversion
    assert steps == {"same": 0, "rolled": 12, "units": 3}


def test_regrid_stays_lazy_along_time():
    fine = xr.Dataset(
        {"t2m": (("number", "time", "lat", "lon"),
                 dask.array.ones((1, 3000, 18, 36), chunks=(1, 100, -1, -1), dtype="float32"),
                 {"units": "K"})},
        {"lat": ("lat", np.arange(85.0, -90, -10), {"units": "degrees_north"}),
         "lon": ("lon", np.arange(36) * 10.0, {"units": "degrees_east"}),
         "time": np.arange(3000).astype("datetime64[h]").astype("datetime64[ns]")},
    )  # fmt: skip
    like = world()[["t2m"]].sel(latitude=slice(60, -60)).isel(longitude=slice(2, 5))
    grid = grid_of(like)
    np.testing.assert_array_equal(grid.rows, [50, 25, 0, -25, -50])
    np.testing.assert_array_equal(grid.columns, [80, 120, 160])
    out = conform(regrid(fine, grid), like)
    assert out["t2m"].dims == ("number", "time", "latitude", "longitude")
    assert out["t2m"].chunks[1] == (100,) * 30
    assert float(out["t2m"].isel(time=slice(5)).min()) == 1.0


@pytest.mark.parametrize("west", [0.0, -180.0])
def test_regridding_to_a_region_over_greenwich(west):
    source = Grid.regular(18, 36, poles=False)
    values = np.random.default_rng(0).random(source.shape)
    fine = xr.Dataset(
        {"t2m": (("lat", "lon"), values, {"units": "K"})},
        {"lat": ("lat", source.rows, {"units": "degrees_north"}),
         "lon": ("lon", source.columns, {"units": "degrees_east"})},
    )  # fmt: skip
    like = world(west=west, roll=4)[["t2m"]]
    region = like.isel(longitude=np.flatnonzero(np.cos(np.deg2rad(like["longitude"])) > 0.1))
    assert region.sizes["longitude"] == 5
    whole = conform(regrid(fine, grid_of(like)), like)
    part = conform(regrid(fine, grid_of(region)), region)
    np.testing.assert_allclose(part["t2m"], whole["t2m"].sel(longitude=part["longitude"]))
