"""Packing and unpacking: recognition, conversion, and the layouts of real files."""

from datetime import timedelta

import cftime
import numpy as np
import pint
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.fields import check, pack, unpack
from xwx.fields.units import affine
from xwx.spec import Channel, Grid, Spec

GRID = Grid((60.0, 0.0, -60.0), (0.0, 90.0, 180.0, 270.0))
START = np.datetime64("2020-01-01", "ns")
SIX = np.timedelta64(6, "h")


def field(value, **attrs):
    """Return a field on GRID at two times."""
    values = value + np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return xr.DataArray(
        values,
        dims=("time", "lat", "lon"),
        coords={"time": START + np.arange(2) * SIX, "lat": GRID.rows, "lon": GRID.columns},
        attrs=attrs,
    )


def spec(*channels):
    return Spec(tuple(Channel(*c) if isinstance(c, tuple) else Channel(c) for c in channels), GRID)


def on_level(array, level, units="hPa", dim=()):
    return array.assign_coords(level=(dim, [level] if dim else level, {"units": units}))


def above(array, height):
    return array.assign_coords(height=((), height, {"units": "m", "standard_name": "height"}))


@pytest.mark.parametrize(
    ("channel", "name", "array"),
    [
        ("t2m", "tas", field(280, units="K")),
        ("t2m", "2t", field(280, units="K", standard_name="unknown")),
        ("t2m", "foo", above(field(280, units="K", standard_name="air_temperature"), 2.0)),
        ("u10", "10m_u_component_of_wind", field(1, units="m s**-1")),
        ("u100", "u100", field(1, units="m s-1", standard_name="eastward_wind")),
        ("t2m", "t2m", on_level(field(280, units="K", standard_name="air_temperature"), 850)),
        ("sp", "sp", on_level(field(1e5, units="Pa"), 850)),
        ("skt", "foo", on_level(field(280, units="K", standard_name="surface_temperature"), 850)),
        ("msl", "prmsl", field(1e5, units="Pa")),
        ("msl", "foo", field(1e5, units="Pa", standard_name="air_pressure_at_sea_level")),
        (("t", 50000.0), "t500", field(250, units="K")),
        (("z", 50000.0), "geopotential_500", field(5e4, units="m2 s-2")),
        (("z", 50000.0), "z", on_level(field(5e4, units="m**2 s**-2"), 500)),
        (("vo", 85000.0), "vo", on_level(field(1, units="s**-1"), 85000.0, "Pa")),
        (("q", 85000.0), "hus", on_level(field(1, units="kg kg**-1"), 850, "millibars")),
        ("siconc", "sea_ice_cover", field(0, units="(0 - 1)")),
        ("tp6h", "total_precipitation_6hr", field(0, units="m")),
        ("lsm", "lsm", field(0, units="(0 - 1)").isel(time=0, drop=True)),
    ],
)
def test_recognised(channel, name, array):
    ds = xr.Dataset({name: array, "other": field(0)})
    packed, frame = pack(ds, spec(channel))
    np.testing.assert_array_equal(packed[:, 0], np.broadcast_to(array.values, (2, 3, 4)))
    xr.testing.assert_identical(unpack(packed, frame), ds[[name]])


@pytest.mark.parametrize(
    ("channel", "name", "array"),
    [
        ("u10", "u100", field(1, units="m s-1", standard_name="eastward_wind")),
        ("u10", "u10", above(field(1, units="m s-1"), 100.0)),
        ("t2m", "skt", field(280, units="K", standard_name="air_temperature")),
        ("t2m", "foo", field(280, units="K", standard_name="air_temperature")),
        ("t2m", "t2m", on_level(field(280, units="K").expand_dims("level"), 850, "hPa", "level")),
        ("t2m", "t", on_level(field(280, units="K", standard_name="air_temperature"), 850)),
        (
            "t2m",
            "t",
            on_level(above(field(280, units="K", standard_name="air_temperature"), 2), 850),
        ),
        ("u10", "u", on_level(field(1, units="m s-1", standard_name="eastward_wind"), 850)),
        (
            ("t", 85000.0),
            "t2m",
            on_level(field(280, units="K", standard_name="air_temperature"), 850),
        ),
        (("u", 1000.0), "u10", field(1, units="m s-1")),
        (("t", 85000.0), "t", field(280, units="K")),
        ("msl", "msl", field(1e5, units="Pa", standard_name="surface_air_pressure")),
        ("tp", "tp6h", field(0, units="m", standard_name="lwe_thickness_of_precipitation_amount")),
        ("z_sfc", "z", field(1, units="m2 s-2", standard_name="geopotential")),
    ],
)
def test_not_mistaken(channel, name, array):
    (problem,) = check(xr.Dataset({name: array}), spec(channel)).problems
    assert problem.kind == "missing-variable"
    assert repr(name) in problem.message or name == "u10"


def test_standard_name_wins_over_short_name():
    ds = xr.Dataset(
        {
            "msl": field(0, units="Pa"),
            "pressure": field(1e5, units="Pa", standard_name="air_pressure_at_mean_sea_level"),
        }
    )
    packed, frame = pack(ds, spec("msl"))
    assert frame.variables == ("pressure",)
    assert packed[0, 0, 0, 0] == 1e5


@pytest.mark.parametrize(
    ("source", "target", "scale", "offset"),
    [
        ("degC", "K", 1.0, 273.15),
        ("hPa", "Pa", 100.0, 0.0),
        ("mb", "Pa", 100.0, 0.0),
        ("millibars", "Pa", 100.0, 0.0),
        ("m**2 s**-2", "m2 s-2", 1.0, 0.0),
        ("s**-1", "s-1", 1.0, 0.0),
        ("g kg-1", "kg kg**-1", 0.001, 0.0),
        ("%", "1", 0.01, 0.0),
        ("(0 - 1)", "1", 1.0, 0.0),
        ("mm", "m", 0.001, 0.0),
        ("km h-1", "m s-1", 1 / 3.6, 0.0),
    ],
)
def test_conversions_are_exact(source, target, scale, offset):
    found = affine(source, target)
    assert found.scale == pytest.approx(scale, rel=2e-16, abs=0)
    assert found.offset == offset


def test_degrees_are_no_fraction():
    assert affine("degrees_north", "1") is None


def test_height_becomes_geopotential_and_comes_back():
    height = on_level(field(5500, units="m", standard_name="geopotential_height"), 500)
    ds = xr.Dataset({"zg": height}, attrs={"history": "opened"})
    packed, frame = pack(ds, spec(("z", 50000.0)))
    exact = ds.zg.values.astype(np.float64) * 9.80665
    np.testing.assert_array_equal(packed[:, 0], exact.astype(np.float32))
    back = unpack(packed, frame)
    assert back.history.splitlines()[0] == "opened"
    assert "9.80665" in back.history.splitlines()[1]
    assert len(frame.notes) == 1
    gap = np.abs(back.zg.values - ds.zg.values)
    assert np.all(gap <= np.spacing(ds.zg.values))
    assert back.zg.attrs == ds.zg.attrs


def test_geopotential_in_metres_is_a_contradiction():
    ds = xr.Dataset({"z": on_level(field(1, units="m", standard_name="geopotential"), 500)})
    (problem,) = check(ds, spec(("z", 50000.0))).problems
    assert problem.kind == "unconvertible-units"


def test_a_conversion_rounds_once():
    ds = xr.Dataset({"t2m": field(-0.1, units="degC")})
    packed, _ = pack(ds, spec("t2m"))
    exact = (ds.t2m.values.astype(np.float64) + 273.15).astype(np.float32)
    np.testing.assert_array_equal(packed[:, 0], exact)


def new_cds():
    """Mimic the netCDF of the Climate Data Store since 2024."""
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "msl": (
                ("valid_time", "latitude", "longitude"),
                rng.normal(1e5, 1, (2, 3, 4)).astype("f4"),
                {"standard_name": "air_pressure_at_mean_sea_level", "units": "Pa"},
            ),
            "vo": (
                ("valid_time", "pressure_level", "latitude", "longitude"),
                rng.normal(0, 1e-5, (2, 1, 3, 4)).astype("f4"),
                {"standard_name": "atmosphere_relative_vorticity", "units": "s**-1"},
            ),
        },
        coords={
            "valid_time": ("valid_time", START + np.arange(2) * SIX, {"standard_name": "time"}),
            "pressure_level": ("pressure_level", [850.0], {"units": "hPa"}),
            "latitude": ("latitude", GRID.rows, {"units": "degrees_north"}),
            "longitude": ("longitude", GRID.columns, {"units": "degrees_east"}),
            "number": 0,
            "expver": ("valid_time", np.array(["0001", "0005"])),
        },
    )


NEW_CDS = spec(("vo", 85000.0), "msl")


def test_a_forecast_of_another_length():
    ds = new_cds()
    packed, frame = pack(ds, NEW_CDS, times=[1])
    np.testing.assert_array_equal(frame.times, ds.valid_time.values[1:])
    times = frame.times[-1] + SIX * np.arange(1, 4)
    forecast = unpack(np.repeat(packed, 3, axis=0), frame, time=times)
    assert forecast.vo.dims == ds.vo.dims
    assert "expver" not in forecast.coords
    assert int(forecast.number) == 0
    assert forecast.valid_time.attrs == ds.valid_time.attrs
    whole = xr.concat([ds.drop_vars("expver"), forecast], "valid_time")
    np.testing.assert_array_equal(np.diff(whole.valid_time.values), [SIX] * 4)


@pytest.mark.parametrize("names", [["vo"], "vo"])
def test_a_choice_of_variables(names):
    ds = new_cds()
    packed, frame = pack(ds, NEW_CDS)
    xr.testing.assert_identical(unpack(packed, frame, variables=names), ds[["vo"]])


def test_a_choice_by_the_names_of_the_table():
    ds = new_cds().rename(msl="psl")
    packed, frame = pack(ds, NEW_CDS)
    assert list(unpack(packed, frame, variables=["msl"])) == ["psl"]
    with pytest.raises(MismatchError, match=r"'t2m'.*psl \(msl\), vo"):
        unpack(packed, frame, variables=["t2m"])


def test_shapes_that_do_not_fit():
    packed, frame = pack(new_cds(), NEW_CDS)
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4\)"):
        unpack(packed[:1], frame)
    with pytest.raises(ValueError, match=r"2 times"):
        unpack(packed[:, :1], frame)


def test_dimensions_transposed_south_first_and_one_scalar_time():
    """Mimic a reanalysis in (level, longitude, latitude) with the time as a scalar."""
    values = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    ds = xr.Dataset(
        {"temperature": (("level", "longitude", "latitude"), values, {"units": "K"})},
        coords={
            "level": ("level", np.array([500, 850], "int32"), {"units": "hPa"}),
            "longitude": GRID.columns,
            "latitude": GRID.rows[::-1],
            "time": START,
        },
    )
    packed, frame = pack(ds, spec(("t", 85000.0), ("t", 50000.0)))
    np.testing.assert_array_equal(packed[0, 0], values[1].T[::-1])
    np.testing.assert_array_equal(packed[0, 1], values[0].T[::-1])
    xr.testing.assert_identical(unpack(packed, frame), ds.expand_dims("time"))


def test_levels_that_the_model_has_of_one_variable_only():
    values = np.ones((1, 2, 3, 4), np.float32)
    dims = ("time", "level", "lat", "lon")
    ds = xr.Dataset(
        {"t": (dims, values, {"units": "K"}), "u": (dims, values, {"units": "m s-1"})},
        coords={
            "time": [START],
            "level": ("level", [500, 850], {"units": "hPa"}),
            "lat": GRID.rows,
            "lon": GRID.columns,
        },
    )
    packed, frame = pack(ds, spec(("t", 85000.0), ("u", 50000.0)))
    back = unpack(packed, frame)
    assert back.t.sel(level=500).isnull().all()
    xr.testing.assert_identical(back.t.sel(level=850), ds.t.sel(level=850))
    xr.testing.assert_identical(unpack(packed, frame, variables=["t"]).t, ds.t.sel(level=[850]))


@pytest.mark.parametrize("lead", [0, 6])
def test_grib_times_run_along(lead):
    """Mimic cfgrib: time is when the forecast began, valid_time when it is valid."""
    step = np.timedelta64(lead, "h").astype("timedelta64[ns]")
    ds = new_cds().rename(valid_time="time").drop_vars("expver")
    ds.time.attrs["standard_name"] = "forecast_reference_time"
    ds = ds.assign_coords(
        step=step, valid_time=("time", ds.time.values + step, {"standard_name": "time"})
    )
    packed, frame = pack(ds, NEW_CDS)
    np.testing.assert_array_equal(frame.times, ds.valid_time.values)
    xr.testing.assert_identical(unpack(packed, frame), ds)
    later = unpack(packed, frame, time=frame.times + 2 * SIX)
    np.testing.assert_array_equal(later.valid_time, ds.valid_time.values + 2 * SIX)
    np.testing.assert_array_equal(later.time, ds.time.values + 2 * SIX)


def test_cftime():
    ds = new_cds().drop_vars("expver")
    times = [cftime.Datetime360Day(2020, 2, 30, h) for h in (0, 6)]
    ds = ds.assign_coords(valid_time=times)
    assert check(ds, NEW_CDS).ok
    packed, frame = pack(ds, NEW_CDS)
    xr.testing.assert_identical(unpack(packed, frame), ds)
    later = frame.times + timedelta(hours=12)
    assert unpack(packed, frame, time=later).valid_time.values[1].strftime("%m-%dT%H") == "02-30T18"


def test_quantified_in_another_registry():
    other = pint.UnitRegistry(force_ndarray_like=True)
    ds = new_cds()
    ds["msl"] = ds.msl.copy(data=other.Quantity(ds.msl.values / 100, "hPa"))
    del ds["msl"].attrs["units"]
    packed, frame = pack(ds, NEW_CDS)
    assert frame.quantified
    back = unpack(packed, frame)
    assert back.msl.data._REGISTRY is other
    np.testing.assert_allclose(back.msl.data.magnitude, ds.msl.data.magnitude, rtol=1e-7)
    assert packed[0, 1, 0, 0] == pytest.approx(1e5, rel=1e-3)


@pytest.mark.parametrize("times", [slice(-1, None), [1], [-1], np.array([1])])
def test_choice_of_times(times):
    ds = new_cds()
    packed, frame = pack(ds, NEW_CDS, times=times)
    xr.testing.assert_identical(unpack(packed, frame), ds.isel(valid_time=[1]))


def test_times_outside():
    with pytest.raises(IndexError, match=r"\[2\]"):
        pack(new_cds(), NEW_CDS, times=[2])


def test_unknown_channel():
    with pytest.raises(MismatchError, match="'phlogiston'"):
        pack(new_cds(), spec("phlogiston"))


def test_the_dataset_is_not_touched():
    ds = new_cds()
    before = ds.copy(deep=True)
    packed, frame = pack(ds, NEW_CDS)
    packed += 1
    unpack(packed, frame).attrs["a"] = 1
    xr.testing.assert_identical(ds, before)


@pytest.mark.parametrize("select", ["squeeze", "sel"])
def test_a_level_left_over_from_a_selection(select):
    """Surface variables carry the scalar level of the others."""
    ds = new_cds().drop_vars("expver")
    ds = ds.sel(pressure_level=850) if select == "sel" else ds.sel(pressure_level=[850]).squeeze()
    assert float(ds.msl.pressure_level) == 850
    packed, frame = pack(ds, NEW_CDS)
    np.testing.assert_array_equal(packed[:, 0].squeeze(), ds.vo.values)
    xr.testing.assert_identical(unpack(packed, frame), ds)


def test_two_temperatures_beside_a_scalar_level():
    named = {"units": "K", "standard_name": "air_temperature"}
    ds = xr.Dataset({"t2m": field(280, **named), "t": field(250, **named)})
    ds = ds.assign_coords(level=((), 850, {"units": "hPa"}))
    packed, frame = pack(ds, spec(("t", 85000.0), "t2m"))
    np.testing.assert_array_equal(packed[:, 0], ds.t.values)
    np.testing.assert_array_equal(packed[:, 1], ds.t2m.values)
    xr.testing.assert_identical(unpack(packed, frame), ds)


@pytest.mark.parametrize("scalar", [True, False])
@pytest.mark.parametrize("dim", ["valid_time", "time"])
def test_when_a_forecast_began_is_not_continued(dim, scalar):
    """Mimic cfgrib: coordinates of the reference time and the step, of the input's states."""
    step = np.array([6, 6], "timedelta64[h]").astype("timedelta64[ns]")
    ds = new_cds().drop_vars("expver")
    valid = ds.valid_time.values
    ds = ds.rename(valid_time=dim).drop_vars(dim)
    ds = ds.assign_coords(
        time=(dim, valid - step, {"standard_name": "forecast_reference_time"}),
        valid_time=(dim, valid, {"standard_name": "time"}),
        step=((), step[0], {"standard_name": "forecast_period"})
        if scalar
        else (dim, step, {"standard_name": "forecast_period"}),
    )
    packed, frame = pack(ds, NEW_CDS)
    xr.testing.assert_identical(unpack(packed, frame), ds)
    later = unpack(packed, frame, time=frame.times + 2 * SIX)
    np.testing.assert_array_equal(later.valid_time, valid + 2 * SIX)
    assert "step" not in later.coords
    assert ("time" in later.coords) == (dim == "time")  # a dimension keeps its coordinate


def test_one_state_keeps_when_its_forecast_began():
    ds = new_cds().drop_vars("expver").isel(valid_time=0)
    ds = ds.assign_coords(
        time=((), ds.valid_time.values - SIX, {"standard_name": "forecast_reference_time"}),
        step=((), SIX.astype("timedelta64[ns]"), {"standard_name": "forecast_period"}),
    )
    packed, frame = pack(ds, NEW_CDS)
    xr.testing.assert_identical(unpack(packed, frame), ds.expand_dims("valid_time"))
    later = unpack(packed, frame, time=frame.times + SIX)
    assert not {"time", "step"} & set(later.coords)
