"""Each thing that can be wrong with a Dataset: its kind, what is named, and a remedy that works."""

import re
from datetime import timedelta

import cftime
import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.fields import area_weights, check, grid_of, pack, regrid
from xwx.fields.plausible import Learned
from xwx.fields.units import affine
from xwx.spec import Channel, Grid, Spec

SPEC = Spec(
    (Channel("t", 85000.0), Channel("t", 50000.0), Channel("msl"), Channel("t2m")),
    Grid.regular(6, 8, poles=False),
    step=timedelta(hours=6),
    history=2,
)
TIMES = np.datetime64("2020-01-01", "ns") + np.arange(4) * np.timedelta64(6, "h")


def good():
    rng = np.random.default_rng(1)
    upper, flat = ("time", "level", "lat", "lon"), ("time", "lat", "lon")
    return xr.Dataset(
        {
            "t": (upper, rng.normal(260, 9, (4, 3, 6, 8)), {"units": "K"}),
            "msl": (flat, rng.normal(1e5, 9e2, (4, 6, 8)), {"units": "Pa"}),
            "t2m": (flat, rng.normal(280, 9, (4, 6, 8)), {"units": "K"}),
        },
        coords={
            "time": TIMES,
            "level": ("level", [500, 850, 1000], {"units": "hPa"}),
            "lat": SPEC.grid.rows,
            "lon": SPEC.grid.columns,
        },
    )


def edit(function):
    def make():
        ds = good()
        out = function(ds)
        return ds if out is None else out

    return make


def attrs(ds, name, **new):
    old = dict(ds[name].attrs)
    ds[name].attrs = {k: v for k, v in (old | new).items() if v is not None}


def curvilinear(ds):
    ds = ds.rename_dims(lat="y", lon="x").drop_vars(["lat", "lon"])
    lat, lon = np.meshgrid(SPEC.grid.rows, SPEC.grid.columns, indexing="ij")
    return ds.assign_coords(XLAT=(("y", "x"), lat), XLONG=(("y", "x"), lon))


def hole(ds):
    ds["t"][3, 1, 2, 2:5] = np.nan


def seam(ds):
    return xr.concat([ds, ds.isel(lon=[0]).assign_coords(lon=[360.0])], "lon", data_vars="minimal")


def retime(*indices):
    return edit(lambda ds: ds.isel(time=list(indices)))


def calendar(ds):
    return ds.assign_coords(time=[cftime.Datetime360Day(2020, 2, 30, 6 * n) for n in range(4)])


# name: (Dataset, kind, where, words of the message, words of the remedy, does exec mend it?)
FAULTS = {
    "missing variable": (
        edit(lambda ds: ds.drop_vars("msl")),
        "missing-variable",
        "msl",
        ["air_pressure_at_mean_sea_level", "prmsl"],
        "standard_name",
        False,
    ),
    "missing level": (
        edit(lambda ds: ds.sel(level=[500, 1000])),
        "missing-level",
        "t",
        ["850 hPa", "500, 1000 hPa"],
        "open 't' at 850 hPa too; other levels are no substitute",
        False,
    ),
    "missing level outside": (
        edit(lambda ds: ds.sel(level=[850])),
        "missing-level",
        "t",
        ["500 hPa", "850 hPa"],
        "open 't' at 500 hPa",
        False,
    ),
    "missing units": (
        edit(lambda ds: attrs(ds, "msl", units=None)),
        "missing-units",
        "msl",
        ['"Pa"'],
        'ds["msl"].attrs["units"] = "Pa"',
        True,
    ),
    "missing units of the levels": (
        edit(lambda ds: attrs(ds, "level", units=None)),
        "missing-units",
        "level",
        ["pressure"],
        'ds["level"].attrs["units"] = "hPa"',
        True,
    ),
    "unconvertible units by name": (
        edit(lambda ds: attrs(ds, "msl", units="K")),
        "unconvertible-units",
        "msl",
        ["'K'", '"Pa"'],
        "attrs",
        True,
    ),
    "unreadable units by standard_name": (
        edit(lambda ds: attrs(ds, "t2m", units="lukewarm", standard_name="air_temperature")),
        "unconvertible-units",
        "t2m",
        ["'lukewarm'", '"K"'],
        "attrs",
        True,
    ),
    "two candidates": (
        edit(
            lambda ds: ds.assign(psl=ds.msl + 1).assign(
                psl=lambda d: d.psl.assign_attrs(units="Pa")
            )
        ),
        "ambiguous-variable",
        "msl",
        ["'msl'", "'psl'"],
        "ds.drop_vars(['psl'])",
        True,
    ),
    "the name of another variable": (
        edit(lambda ds: attrs(ds, "msl", standard_name="surface_air_pressure")),
        "missing-variable",
        "msl",
        ["surface_air_pressure"],
        "standard_name",
        False,
    ),
    "another height": (
        edit(
            lambda ds: ds.assign(
                t2m=ds.t2m.assign_coords(
                    height=((), 10.0, {"units": "m", "standard_name": "height"})
                )
            )
        ),
        "missing-variable",
        "t2m",
        ["height of 10 m"],
        "standard_name",
        False,
    ),
    "level dropped": (
        edit(lambda ds: ds.sel(level=500, drop=True)),
        "missing-variable",
        "t",
        ["no pressure coordinate"],
        "assign_coords(level=((), 850,",
        False,
    ),
    "wrong grid": (
        edit(lambda ds: ds.isel(lat=slice(0, 6, 2)).isel(lon=slice(0, 8, 2))),
        "wrong-grid",
        "lat",
        ["3 values from 75 to -45", "6 values from 75 to -75"],
        "ds.wx.regrid(model)",
        False,
    ),
    "shifted grid": (
        edit(lambda ds: ds.assign_coords(lon=ds.lon + 5)),
        "wrong-grid",
        "lon",
        ["8 values from 5 to 320", "differing by up to 5"],
        "ds.wx.regrid(model)",
        False,
    ),
    "regional grid": (
        edit(lambda ds: ds.isel(lat=slice(0, 3), lon=slice(0, 4))),
        "regional-grid",
        "lon",
        ["0 to 135", "0 to 315", "regridding cannot"],
        "region",
        False,
    ),
    "latitude to and fro": (
        edit(lambda ds: ds.isel(lat=[0, 2, 1, 3, 4, 5])),
        "non-monotonic-latitude",
        "lat",
        ["up and down"],
        'ds.sortby("lat")',
        True,
    ),
    "duplicated latitude": (
        edit(lambda ds: ds.isel(lat=[0, 1, 1, 2, 3, 4, 5])),
        "duplicated-latitude",
        "lat",
        ["45"],
        'ds.drop_duplicates("lat")',
        True,
    ),
    "longitude to and fro": (
        edit(lambda ds: ds.isel(lon=[0, 2, 1, 3, 5, 4, 6, 7])),
        "non-monotonic-longitude",
        "lon",
        ["to and fro"],
        'ds.sortby("lon")',
        True,
    ),
    "seam column": (
        edit(seam),
        "duplicated-longitude",
        "lon",
        ["(0 and 360)"],
        "ds.isel(lon=slice(None, -1))",
        True,
    ),
    "NaN": (
        edit(hole),
        "nan",
        "t at 850 hPa",
        ["3 NaN of 96", "at 2020-01-01T18:00"],
        "use times or a source without gaps",
        False,
    ),
    "infinity": (
        edit(lambda ds: ds["msl"].__setitem__((3, 0, 0), -np.inf)),
        "nan",
        "msl",
        ["1 infinite of 96", "at 2020-01-01T18:00"],
        "use times or a source without gaps",
        False,
    ),
    "finer step": (
        edit(lambda ds: ds.assign_coords(time=TIMES[0] + np.arange(4) * np.timedelta64(3, "h"))),
        "wrong-step",
        "time",
        ["6 h", "3 h"],
        "slice(1, None, 2)",
        True,
    ),
    "coarser step": (
        edit(lambda ds: ds.assign_coords(time=TIMES[0] + np.arange(4) * np.timedelta64(12, "h"))),
        "wrong-step",
        "time",
        ["6 h", "12 h"],
        "resample",
        True,
    ),
    "gap": (
        retime(0, 2, 3),
        "wrong-step",
        "time",
        ["12 h", "2020-01-01T12:00"],
        "slice(1, None)",
        True,
    ),
    "unsorted time": (
        retime(1, 0, 2, 3),
        "unsorted-time",
        "time",
        ["2020-01-01T00:00", "2020-01-01T06:00"],
        'ds.sortby("time")',
        True,
    ),
    "duplicated time": (
        retime(0, 1, 1, 2, 3),
        "duplicated-time",
        "time",
        ["2020-01-01T06:00"],
        'ds.drop_duplicates("time")',
        True,
    ),
    "not a time": (
        edit(lambda ds: ds.assign_coords(time=np.append(np.datetime64("NaT", "ns"), TIMES[1:]))),
        "nat",
        "time",
        ["1 of 4"],
        "notnull",
        True,
    ),
    "undecoded time": (
        edit(
            lambda ds: ds.assign_coords(
                time=("time", [0, 6, 12, 18], {"units": "hours since 2020-01-01"})
            )
        ),
        "undecoded-time",
        "time",
        ["hours since 2020-01-01"],
        "xr.decode_cf(ds)",
        True,
    ),
    "no time": (
        edit(lambda ds: ds.isel(time=3, drop=True)),
        "missing-time",
        "time",
        ["dates"],
        "expand_dims(time=[when])",
        False,
    ),
    "time coordinate dropped": (
        edit(lambda ds: ds.rename(time="valid_time").drop_vars("valid_time")),
        "missing-time",
        "valid_time",
        ["dimension 'valid_time' has no coordinate"],
        "ds = ds.assign_coords(valid_time=times)  # its valid times",
        True,
    ),
    "time coordinate dropped, a scalar time left": (
        edit(
            lambda ds: (
                ds.rename(time="valid_time").drop_vars("valid_time").assign_coords(start=TIMES[0])
            )
        ),
        "missing-time",
        "valid_time",
        ["dimension 'valid_time' has no coordinate"],
        "ds = ds.assign_coords(valid_time=times)",
        True,
    ),
    "too little history": (
        retime(3),
        "too-little-history",
        "time",
        ["2 states", "only 1"],
        "xr.concat",
        False,
    ),
    "empty Dataset": (
        xr.Dataset,
        "empty-dataset",
        "Dataset",
        ["no data variables"],
        "open_dataset",
        False,
    ),
    "zero-length time": (
        edit(lambda ds: ds.isel(time=[])),
        "zero-length",
        "time",
        ["length 0"],
        "select",
        False,
    ),
    "zero-length latitude": (
        edit(lambda ds: ds.sel(lat=slice(-90, 90))),
        "zero-length",
        "lat",
        ["length 0"],
        "select",
        False,
    ),
    "zero-length level": (
        edit(lambda ds: ds.isel(level=[])),
        "zero-length",
        "level",
        ["length 0"],
        "select",
        False,
    ),
    "two-dimensional latitude": (
        edit(curvilinear),
        "curvilinear-grid",
        "XLAT, XLONG",
        ["two-dimensional (y, x)"],
        "xesmf.Regridder",
        False,
    ),
    "curvilinear GRIB": (
        edit(lambda ds: curvilinear(ds).rename(XLAT="latitude", XLONG="longitude")),
        "curvilinear-grid",
        "latitude, longitude",
        ["two-dimensional (y, x)"],
        "xesmf",
        False,
    ),
    "reduced GRIB": (
        edit(lambda ds: ds.stack(values=["lat", "lon"]).reset_index("values")),
        "unstructured-grid",
        "lat, lon",
        ["'values'"],
        "cdo",
        False,
    ),
    "integers": (
        edit(lambda ds: ds.assign(msl=ds.msl.astype("int32").assign_attrs(units="Pa"))),
        "integer-field",
        "msl",
        ["int32", "scale_factor"],
        "xr.decode_cf(ds)",
        False,
    ),
    "complex numbers": (
        edit(lambda ds: ds.assign(msl=ds.msl.astype(complex).assign_attrs(units="Pa"))),
        "wrong-dtype",
        "msl",
        ["complex128"],
        "astype",
        False,
    ),
    "ensemble": (
        edit(lambda ds: ds.expand_dims(number=3)),
        "extra-dimension",
        "number",
        ["3 values", "'t', 'msl', 't2m'"],
        "ds.isel(number=0)",
        True,
    ),
    "field without time": (
        edit(lambda ds: ds.assign(msl=ds.msl[0].drop_vars("time"))),
        "missing-dimension",
        "msl",
        ["'time'"],
        "broadcast_like",
        True,
    ),
    "duplicated level": (
        edit(lambda ds: ds.isel(level=[0, 1, 1])),
        "duplicated-level",
        "level",
        ["850, 850"],
        'ds.drop_duplicates("level")',
        True,
    ),
}


def test_the_good_one_is_good():
    report = check(good(), SPEC)
    assert report.ok
    assert "fits" in str(report)
    report.raise_if_bad()
    assert pack(good(), SPEC)[0].shape == (4, 4, 6, 8)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_and_the_remedy_mends_it(fault):
    make, kind, where, words, remedy, mends = FAULTS[fault]
    ds = make()
    report = check(ds, SPEC)
    found = [p for p in report.problems if p.kind == kind and p.where == where]
    assert len(found) == 1, report
    for word in words:
        assert word in found[0].message
    assert remedy in found[0].remedy
    if mends:
        space = {"ds": ds, "xr": xr, "np": np, "times": TIMES}
        for problem in report.problems:
            exec(problem.remedy, space)
        after = [p.kind for p in check(space["ds"], SPEC).problems]
        assert set(after) <= {"too-little-history"}


@pytest.mark.parametrize(
    "fault", sorted(set(FAULTS) - {"finer step", "coarser step", "gap", "too little history"})
)
def test_pack_refuses_it_too(fault):
    make, kind, *_ = FAULTS[fault]
    with pytest.raises(MismatchError) as caught:
        pack(make(), SPEC)
    assert kind in {p.kind for p in caught.value.problems}


def test_calendar_matters_only_where_the_date_does():
    ds = calendar(good())
    assert check(ds, SPEC).ok
    dated = Spec(SPEC.channels, SPEC.grid, SPEC.step, SPEC.history, ("sin_year",))
    (problem,) = check(ds, dated).problems
    assert problem.kind == "calendar"
    assert "360_day" in problem.message
    assert "convert_calendar" in problem.remedy


def test_everything_at_once():
    ds = good().drop_vars("t2m").isel(lat=[0, 2, 1, 3, 4, 5], time=[0, 1, 1, 3])
    attrs(ds, "msl", units=None)
    ds["t"][3, 0, 0, 0] = np.nan
    report = check(ds, SPEC)
    kinds = {p.kind for p in report.problems}
    assert kinds == {
        "missing-variable",
        "missing-units",
        "non-monotonic-latitude",
        "duplicated-time",
        "wrong-step",
        "nan",
    }
    text, html = str(report), report._repr_html_()
    for problem in report.problems:
        assert problem.message in text
        assert problem.remedy in text
    assert html.count("<tr>") == len(report.problems) + 1
    with pytest.raises(MismatchError, match="6 problems"):
        report.raise_if_bad()
    assert check(ds, SPEC, values=False).problems == tuple(
        p for p in report.problems if p.kind != "nan"
    )


def test_several_starts_need_their_own_history_only():
    ds = good().isel(time=[0, 1, 3])
    assert check(ds, SPEC, positions=[1]).ok
    assert {p.kind for p in check(ds, SPEC, positions=[1, 2]).problems} == {"wrong-step"}
    assert {p.kind for p in check(ds, SPEC, positions=[0, 1]).problems} == {"too-little-history"}
    assert {p.kind for p in check(ds, SPEC, positions=[7, 1]).problems} == {"start-outside"}


def test_only_the_starts_are_read():
    ds = good()
    ds["msl"][0] = np.nan
    assert check(ds, SPEC).ok
    assert not check(ds, SPEC, positions=[1]).ok


@pytest.mark.parametrize("thing", [None, 3, good()["t"]])
def test_not_a_dataset(thing):
    with pytest.raises(TypeError, match=r"xarray\.Dataset"):
        check(thing, SPEC)


def mirrored(name, function, units):
    """Return the good Dataset with one axis in other units, named by its standard_name."""
    ds = good().rename(lat="latitude", lon="longitude")
    attrs = {"units": units, "standard_name": name}
    return ds.assign_coords({name: (name, function(ds[name].values), attrs)})


@pytest.mark.parametrize("quantified", [False, True])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("name", "function", "units"),
    [
        ("latitude", np.negative, "degrees_south"),
        ("latitude", np.deg2rad, "radians"),
        ("latitude", np.positive, "K"),
        ("latitude", np.positive, "degrees_east"),
        ("longitude", np.negative, "degrees_west"),
        ("longitude", np.negative, "degreesW"),
        ("longitude", np.deg2rad, "rad"),
        ("longitude", np.positive, "m"),
    ],
)
def test_units_of_the_axes_are_read(name, function, units, named, quantified):
    ds = mirrored(name, function, units)
    if not named:
        del ds[name].attrs["standard_name"]
    if quantified and affine(units, units) is not None:  # pint knows no degrees_south
        ds = ds.pint.quantify()
    (problem,) = check(ds, SPEC).problems
    assert (problem.kind, problem.where) == ("unconvertible-units", name)
    needed = {"latitude": "degrees_north", "longitude": "degrees_east"}[name]
    assert needed in problem.message
    for refusing in (grid_of, lambda ds: regrid(ds, SPEC.grid), area_weights):
        if refusing is area_weights and name == "longitude":
            continue
        with pytest.raises(MismatchError) as caught:
            refusing(ds)
        assert caught.value.problems == (problem,)
    space = {"ds": ds, "np": np}
    exec(problem.remedy, space)
    assert check(space["ds"], SPEC).ok
    array = pack(space["ds"], SPEC)[0]
    np.testing.assert_array_equal(array, pack(good(), SPEC)[0])


@pytest.mark.parametrize("units", ["degrees", "deg", "degree", "°", "degrees_n", "degreeN", None])
@pytest.mark.parametrize("quantified", [False, True])
def test_units_of_the_axes_that_will_do(units, quantified):
    ds = good()
    attrs(ds, "lat", units=units)
    east = units and units.replace("_n", "_east").replace("N", "E")
    attrs(ds, "lon", units=east, standard_name="longitude")
    if quantified and units != "degrees_n":
        ds = ds.pint.quantify()
    assert check(ds, SPEC).ok
    assert grid_of(ds) == SPEC.grid


@pytest.mark.parametrize("units", ["hpa", "HPA", "pa", "Pascal", "Pascals"])
def test_units_of_the_levels_that_are_no_units(units):
    ds = good().rename(level="pressure_level")
    attrs(ds, "pressure_level", units=units)
    (problem,) = check(ds, SPEC).problems
    assert (problem.kind, problem.where) == ("unconvertible-units", "pressure_level")
    assert f"'pressure_level' has units '{units}', which cannot be read" in problem.message
    exec(problem.remedy, {"ds": ds})
    assert check(ds, SPEC).ok


@pytest.mark.parametrize("units", ["1", "m", "K"])
def test_levels_of_another_kind_are_no_pressure(units):
    ds = good()
    attrs(ds, "level", units=units)
    (problem,) = check(ds, SPEC).problems
    assert (problem.kind, problem.where) == ("missing-variable", "t")


@pytest.mark.parametrize("drop", [True, False])
def test_no_date_is_made_up(drop):
    ds = good().isel(time=3, drop=True) if drop else good().assign_coords(time=[0, 6, 12, 18])
    for problem in check(ds, SPEC).problems:
        assert not re.search(r"\d{4}-\d", problem.remedy), problem


def test_too_little_history_speaks_of_times():
    ds = good().rename(time="valid_time")
    (problem,) = check(ds, SPEC, positions=[0]).problems
    assert "only 1 there at 2020-01-01T00:00" in problem.message
    assert problem.remedy.startswith('start=ds["valid_time"][1:]')
    (problem,) = check(ds, SPEC, positions=[9]).problems
    assert problem.remedy == 'choose from ds["valid_time"]'


def test_many_times_of_nan_are_counted():
    ds = good().isel(time=[0, 1, 2, 3, 3]).assign_coords(time=np.append(TIMES, TIMES[-1] + 1))
    ds["t2m"][:] = np.nan
    (problem,) = check(ds, SPEC, positions=[1, 2, 3]).problems
    assert "2020-01-01T00:00, 2020-01-01T06:00, 2020-01-01T12:00 and 1 more" in problem.message


def test_values_of_another_unit_are_a_problem_where_it_is_known_what_was_learned(worlds):
    ds, spec = worlds.dataset(), worlds.spec()
    array = worlds.states(8)
    learned = Learned(array.mean((0, 2, 3)), array.std((0, 2, 3)))
    wrong = ds.assign(msl=(ds.msl / 100).assign_attrs(ds.msl.attrs))
    assert check(ds, spec, learned=learned).ok
    assert check(wrong, spec).ok
    assert check(wrong, spec, values=False, learned=learned).ok
    (problem,) = check(wrong, spec, learned=learned).problems
    assert (problem.kind, problem.where) == ("implausible-values", "msl")
    assert "is its unit `hPa`?" in problem.message
    exec(problem.remedy, {"ds": wrong})
    assert check(wrong, spec, learned=learned).ok


def test_the_values_of_a_lazy_dataset_are_computed_once_and_those_of_the_start_alone(worlds):
    import dask
    import dask.array

    calls = []

    def counted(block):
        calls.append(block.shape)
        return block

    ds = worlds.dataset().chunk(time=1)
    lazy = ds.map(lambda v: v.copy(data=v.data.map_blocks(counted, meta=np.array((), v.dtype))))
    array = worlds.states(8)
    learned = Learned(array.mean((0, 2, 3)), array.std((0, 2, 3)))
    with dask.config.set(scheduler="synchronous"):
        assert check(lazy, worlds.spec(), learned=learned).ok
    assert len(calls) == len(ds.data_vars)


def test_coordinates_that_lost_their_dimension(worlds):
    ds = worlds.dataset()
    (both,) = check(ds.isel(latitude=2, longitude=3), worlds.spec()).problems
    assert both.kind == "missing-dimension"
    assert "latitude=61.875 and longitude=33.75 are single values" in both.message
    picked = ds.isel(latitude=2, longitude=3)
    station = picked.reset_coords(["latitude", "longitude"])
    space = {"ds": picked}
    exec(both.remedy.partition("  #")[0], space)
    assert space["ds"].latitude.dims == space["ds"].longitude.dims == ("station",)
    assert space["ds"].t2m.dims[0] == "station"
    assert float(space["ds"].t2m[0, -1]) == float(station.t2m[-1])
    (one,) = check(ds.isel(latitude=2), worlds.spec()).problems[:1]
    space = {"ds": ds.isel(latitude=2)}
    exec(one.remedy, space)
    assert space["ds"].t2m.sizes["latitude"] == 1


def test_values_are_looked_at_in_the_first_state_that_is_needed_alone(worlds):
    ds, spec = worlds.dataset(), worlds.spec(history=2)
    array = worlds.states(8)
    learned = Learned(array.mean((0, 2, 3)), array.std((0, 2, 3)))
    for wrong, count in ((-1, 0), (-2, 1), (-3, 0)):
        pressure = ds.msl.copy(deep=True)
        pressure[wrong] /= 100.0
        assert len(check(ds.assign(msl=pressure), spec, learned=learned).problems) == count
