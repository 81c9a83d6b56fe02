"""The numbers may not depend on how the data is laid out, and the layout comes back.

A Dataset in canonical form is made by formula. Hypothesis draws presentations of it: other names,
units, orders, types, storage. Packed, each must give the array that the formula gives; unpacked,
the presentation it was drawn in.
"""

from datetime import timedelta

import dask
import dask.array
import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xwx.fields import check, pack, unpack
from xwx.spec import Channel, Grid, Spec

G = 9.80665
SPEC = Spec(
    channels=(
        Channel("t", 50000.0),
        Channel("msl"),
        Channel("z", 85000.0),
        Channel("u", 85000.0),
        Channel("z", 50000.0),
        Channel("t2m"),
        Channel("t", 85000.0),
        Channel("u10"),
        Channel("u", 50000.0),
    ),
    grid=Grid.regular(6, 8, poles=False),
    step=timedelta(hours=6),
    history=2,
)
# the same without the second level: for level dimensions of length one
ONE_LEVEL = Spec(
    tuple(c for c in SPEC.channels if c.level != 85000.0), SPEC.grid, SPEC.step, SPEC.history
)
LEVELS = (1000.0, 850.0, 500.0, 250.0)  # hPa
KEYS = ("z", "t", "u", "t2m", "u10", "msl")
STANDARD = {
    "z": "geopotential",
    "t": "air_temperature",
    "u": "eastward_wind",
    "t2m": "air_temperature",
    "u10": "eastward_wind",
    "msl": "air_pressure_at_mean_sea_level",
}
CANONICAL = {"z": "m2 s-2", "t": "K", "u": "m s-1", "t2m": "K", "u10": "m s-1", "msl": "Pa"}
# spellings of the same unit, and other units with (scale, offset) to the canonical one
SAME = {
    "z": ["m2 s-2", "m**2 s**-2", "m2/s2", "J kg-1"],
    "t": ["K", "kelvin"],
    "u": ["m s-1", "m s**-1", "m/s"],
    "t2m": ["K"],
    "u10": ["m s**-1"],
    "msl": ["Pa", "pascal"],
}
OTHER = {
    "z": [("m", G, 0.0), ("gpm", G, 0.0)],
    "t": [("degC", 1.0, 273.15), ("celsius", 1.0, 273.15)],
    "u": [("km h-1", 1 / 3.6, 0.0)],
    "t2m": [("degC", 1.0, 273.15)],
    "u10": [("cm s-1", 0.01, 0.0)],
    "msl": [("hPa", 100.0, 0.0), ("millibars", 100.0, 0.0)],
}
SCHEMES = {
    "cds": (("z", "t", "u", "t2m", "u10", "msl"), "latitude", "longitude", "pressure_level"),
    "weatherbench2": (
        (
            "geopotential",
            "temperature",
            "u_component_of_wind",
            "2m_temperature",
            "10m_u_component_of_wind",
            "mean_sea_level_pressure",
        ),
        "latitude",
        "longitude",
        "level",
    ),
    "cmip": (("zg", "ta", "ua", "tas", "uas", "psl"), "lat", "lon", "plev"),
    "grib": (("gh", "t", "u", "2t", "10u", "prmsl"), "latitude", "longitude", "isobaricInhPa"),
    "arco": (
        (
            "geopotential",
            "temperature",
            "u_component_of_wind",
            "2m_temperature",
            "10m_u_component_of_wind",
            "mean_sea_level_pressure",
        ),
        "lat",
        "lon",
        "level",
    ),
}
SHAPE = (3, len(LEVELS), 6, 8)


def formula(key):
    """Return float32 values (time, level, lat, lon) or (time, lat, lon) in canonical units."""
    time, level, row, column = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    wave = np.sin(0.7 * time + 1.3 * level) + np.cos(0.9 * row * (level + 1)) + np.sin(column + row)
    scale, base = {
        "z": (900.0, 12000.0),
        "t": (9.0, 260.0),
        "u": (8.0, 3.0),
        "t2m": (9.0, 280.0),
        "u10": (5.0, -1.0),
        "msl": (1500.0, 101000.0),
    }[key]
    values = (base + scale * wave).astype(np.float32)
    return values if key in ("z", "t", "u") else values[:, 0]


def expected(values, spec):
    """Return the packed array that the values of each key must give."""
    out = np.empty((3, len(spec.channels), 6, 8), np.float64)
    for number, channel in enumerate(spec.channels):
        block = values[channel.name]
        level = None if channel.level is None else LEVELS.index(channel.level / 100)
        out[:, number] = block if level is None else block[:, level]
    return out


@st.composite
def presentations(draw):
    """Draw the choices of one presentation."""
    pick = lambda *options: draw(st.sampled_from(options))  # noqa: E731
    scheme = pick(*SCHEMES)
    one_level = draw(st.sampled_from([False, False, True]))
    more = draw(st.permutations([850.0, 500.0, *pick((), (1000.0,), (1000.0, 250.0))]))
    return {
        "scheme": scheme,
        "time": pick("time", "valid_time"),
        "north_first": pick(True, False),
        "west": pick(0.0, -180.0),
        "roll": pick(*range(8)),
        "spec": ONE_LEVEL if one_level else SPEC,
        "levels": [500.0] if one_level else more,
        "level_unit": pick("hPa", "Pa", "millibars"),
        "standard_names": pick(True, False, "unknown"),
        "units": {
            key: draw(st.one_of(st.sampled_from(SAME[key]), st.sampled_from(OTHER[key])))
            for key in KEYS
        },
        "dtype": pick("float32", "float64", "packed"),
        "order": draw(st.permutations(["time", "level", "lat", "lon"])),
        "chunks": draw(st.one_of(st.none(), st.tuples(*[st.integers(1, 8)] * 4))),
        "quantified": pick(None, "variables", "all"),
        "size_one": pick(None, "number", "step"),
        "extras": draw(st.booleans()),
        "float32_coords": draw(st.booleans()),
    }


def present(how):
    """Make the Dataset of a presentation; return it and its exact canonical values."""
    names, lat, lon, level = SCHEMES[how["scheme"]]
    ds = xr.Dataset()
    changed = set()
    for key, name in zip(KEYS, names, strict=True):
        unit = how["units"][key]
        if key == "z" and how["standard_names"] is True:
            unit = unit if name in ("zg", "gh") or isinstance(unit, str) else SAME["z"][0]
        values = formula(key)
        if not isinstance(unit, str):
            unit, scale, offset = unit
            values = ((values.astype(np.float64) - offset) / scale).astype(np.float32)
            changed.add(key)
        dims = ("time", "level", "lat", "lon") if values.ndim == 4 else ("time", "lat", "lon")
        attrs = {"units": unit, "long_name": f"a {key}"}
        if how["standard_names"] is True:
            heights = key == "z" and key in changed
            attrs["standard_name"] = "geopotential_height" if heights else STANDARD[key]
        elif how["standard_names"] == "unknown":
            attrs["standard_name"] = "unknown"
        ds[name] = (dims, values, attrs)
    ds = ds.assign_coords(
        time=np.datetime64("2020-02-28T12", "ns") + np.arange(3) * np.timedelta64(6, "h"),
        level=("level", np.array(LEVELS)),
        lat=("lat", SPEC.grid.rows, {"units": "degrees_north"}),
        lon=("lon", SPEC.grid.columns, {"units": "degrees_east", "long_name": "longitude"}),
    )
    ds.attrs = {"title": "a presentation", "history": "made"}
    ds = ds.sel(level=list(how["levels"]))
    return arrange(ds, how, level, lat, lon), changed


def arrange(ds, how, level, lat, lon):
    if how["level_unit"] == "Pa":
        ds = ds.assign_coords(level=ds.level * 100)
    ds.level.attrs.update(units=how["level_unit"], positive="down")
    if not how["north_first"]:
        ds = ds.isel(lat=slice(None, None, -1))
    ds = ds.roll(lon=how["roll"], roll_coords=True)
    attrs = ds.lon.attrs
    ds = ds.assign_coords(lon=("lon", (ds.lon.values - how["west"]) % 360 + how["west"], attrs))
    if how["float32_coords"]:
        ds = ds.assign_coords(lat=ds.lat.astype("float32"), lon=ds.lon.astype("float32"))
    if how["size_one"]:
        ds = ds.expand_dims({how["size_one"]: [0]}, axis=1)
    order = [*how["order"], *([how["size_one"]] if how["size_one"] else [])]
    ds = ds.transpose(*order)
    if how["extras"]:
        ds["orography_stddev"] = (("lat", "lon"), np.ones((6, 8)), {"units": "m"})
        ds["flag"] = ("time", np.array(["a", "b", "c"]))
        ds = ds.assign_coords(
            expver="0001",
            month=("time", np.array([2, 2, 2])),
            cell_area=(("lon", "lat"), np.arange(48.0).reshape(8, 6), {"units": "m2"}),
        )
    return ds.rename(time=how["time"], level=level, lat=lat, lon=lon)


def store(ds, how):
    """Put the values into the drawn type, storage and wrapper."""
    fields = [name for name in ds.data_vars if ds[name].ndim > 2]
    if how["dtype"] == "float64":
        ds = ds.assign({name: ds[name].astype("float64") for name in fields})
    if how["dtype"] == "packed":
        encoding = {}
        for name in fields:
            low, high = float(ds[name].min()), float(ds[name].max())
            encoding[name] = {
                "dtype": "int16",
                "scale_factor": (high - low) / 65000,
                "add_offset": (high + low) / 2,
                "_FillValue": np.int16(-32768),
            }
        for name in fields:
            ds[name].encoding = encoding[name]
        ds = xr.decode_cf(encoded(ds))
        ds = ds.set_coords([name for name in ("cell_area", "expver", "month") if name in ds])
    if how["chunks"]:
        sizes = dict(zip(ds[fields[0]].dims, how["chunks"], strict=False))
        for name in fields:
            own = {dim: min(n, ds.sizes[dim]) for dim, n in sizes.items() if dim in ds[name].dims}
            ds[name] = ds[name].variable.chunk(own)
    if how["quantified"]:
        before = ds.drop_vars("flag", errors="ignore")
        keep = {} if how["quantified"] == "all" else dict.fromkeys(ds.coords)
        ds = before.pint.quantify(keep)
        for name in keep:  # pint-xarray takes the units off these too
            ds[name].attrs = before[name].attrs
    return ds


def encoded(ds):
    """Encode as for a file: integers, scale_factor, add_offset."""
    variables, attrs = xr.conventions.cf_encoder(ds.variables, ds.attrs)
    return xr.Dataset(variables, attrs=attrs)


def plain(variable):
    data = getattr(variable.data, "magnitude", variable.data)
    return np.asarray(data)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Chunks of a few numbers are not worth a thread each."""
    with dask.config.set(scheduler="synchronous"):
        yield


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(presentations())
def test_numbers_do_not_depend_on_layout_and_layout_returns(how):
    ds, changed = present(how)
    ds = store(ds, how)
    report = check(ds, how["spec"])
    assert report.ok, report
    array, frame = pack(ds, how["spec"])
    ds = ds.compute()
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert_numbers(array, ds, how, changed)
    assert_layout(unpack(array, frame), ds, how, changed)


def assert_numbers(array, ds, how, changed):
    if how["dtype"] == "packed":
        return assert_decoded(array, ds, how, changed)
    spec = how["spec"]
    want = expected({key: formula(key).astype(np.float64) for key in KEYS}, spec)
    for number, channel in enumerate(spec.channels):
        if channel.name in changed:
            # the presentation itself was rounded to float32 in its own unit, the array once more
            tolerance = 1.51 * np.spacing(np.abs(want[:, number]).astype(np.float32))
            assert np.all(np.abs(array[:, number] - want[:, number]) <= tolerance)
        else:
            np.testing.assert_array_equal(array[:, number], want[:, number].astype(np.float32))
    return None


def assert_decoded(array, ds, how, changed):
    """Compare with the decoded values, taken out by label."""
    names, lat, lon, level = SCHEMES[how["scheme"]]
    factors = {key: {unit: (s, o) for unit, s, o in OTHER[key]} for key in KEYS}
    for number, channel in enumerate(how["spec"].channels):
        name = names[KEYS.index(channel.name)]
        da = ds[name]
        values = xr.DataArray(plain(da.variable), dims=da.dims)
        if channel.level is not None:
            levels = plain(ds[level].variable) / (100 if how["level_unit"] == "Pa" else 1)
            values = values.isel({level: int(np.argmin(np.abs(levels - channel.level / 100)))})
        if how["size_one"]:
            values = values.isel({how["size_one"]: 0})
        rows = np.argsort(-plain(ds[lat].variable))
        columns = np.argsort(plain(ds[lon].variable) % 360)
        values = values.transpose(how["time"], lat, lon).values[:, rows][:, :, columns]
        unit = how["units"][channel.name]
        if channel.name in changed:
            scale, offset = factors[channel.name][unit[0]]
            exact = values.astype(np.float64) * scale + offset
            gap = np.abs(array[:, number] - exact)
            assert np.all(gap <= np.spacing(np.abs(exact).astype(np.float32)))
        else:
            np.testing.assert_array_equal(array[:, number], values.astype(np.float32))


def assert_layout(back, ds, how, changed):
    names, _, _, level = SCHEMES[how["scheme"]]
    position = [n for n, v in enumerate(how["levels"]) if v in (850.0, 500.0)]
    need = ds[list(names)].isel({level: position})
    assert list(back.data_vars) == [n for n in ds.data_vars if n in names]
    converted = any(key == "z" and key in changed for key in KEYS)
    assert ("geopotential height" in back.attrs["history"]) == converted
    assert back.attrs["title"] == ds.attrs["title"]
    back = back.assign_attrs(history=ds.attrs["history"])
    exact = [
        name
        for key, name in zip(KEYS, names, strict=True)
        if key not in changed and plain(ds[name].variable).dtype == np.float32
    ]
    xr.testing.assert_identical(back[exact], need[exact])
    for key, name in zip(KEYS, names, strict=True):
        got, own = back[name], need[name]
        assert got.dims == own.dims
        assert got.dtype == own.dtype
        assert got.attrs == own.attrs
        assert set(got.coords) == set(own.coords)
        assert type(got.data) is type(own.data)
        if how["quantified"]:
            assert got.data.units == own.data.units
        for coordinate in own.coords:
            assert got[coordinate].variable.identical(own[coordinate].variable)
        kept = ("dtype", "scale_factor", "add_offset", "_FillValue")
        assert {k: got.encoding.get(k) for k in kept} == {k: own.encoding.get(k) for k in kept}
        a, b = plain(got.variable).astype(np.float64), plain(own.variable).astype(np.float64)
        # one rounding to float32, in canonical units
        scale = next((s for u, s, _ in OTHER[key] if u == how["units"][key][0]), 1.0)
        scale = scale if key in changed else 1.0
        largest = np.abs(formula(key)).max()
        assert np.all(np.abs(a - b) <= 1.01 * np.spacing(np.float32(largest)) / scale)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(presentations(), st.integers(1, 4))
def test_a_lazy_forecast_stays_lazy_and_has_the_layout(how, steps):
    ds, _ = present(how)
    ds = store(ds, how)
    array, frame = pack(ds, how["spec"], times=[-1])
    times = frame.times[-1] + np.arange(1, steps + 1) * np.timedelta64(6, "h")
    states = np.repeat(array, steps, axis=0)
    eager = unpack(states, frame, time=times)
    lazy = unpack(dask.array.from_array(states, chunks=(1, -1, -1, -1)), frame, time=times)
    for name, variable in lazy.data_vars.items():
        assert variable.chunks is not None
        assert variable.dims == ds[name].dims
    np.testing.assert_array_equal(lazy[how["time"]].values, times)
    xr.testing.assert_identical(lazy.compute(), eager)


@pytest.mark.parametrize("engine", ["netcdf4", "zarr"])
def test_packed_integers_on_disk(tmp_path, engine):
    how = {
        "scheme": "cds", "time": "valid_time", "north_first": True, "west": -180.0, "roll": 3,
        "levels": [250.0, 500.0, 850.0], "level_unit": "hPa", "standard_names": False,
        "units": {key: SAME[key][0] for key in KEYS}, "dtype": "float32", "quantified": None,
        "order": ["time", "level", "lat", "lon"], "chunks": None, "spec": SPEC,
        "size_one": "number", "extras": True, "float32_coords": False,
    }  # fmt: skip
    ds, changed = present(how)
    pack16 = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 9e4, "_FillValue": -32768}
    path = tmp_path / f"file.{engine}"
    if engine == "zarr":
        ds.drop_vars("flag").to_zarr(
            path, encoding={"msl": pack16}, consolidated=False, zarr_format=2
        )
    else:
        ds.to_netcdf(path, engine=engine, encoding={"msl": pack16})
    options = {"consolidated": False} if engine == "zarr" else {}
    with xr.open_dataset(path, engine=engine, **options) as opened:
        array, frame = pack(opened, how["spec"])
        back = unpack(array, frame)
        names = list(back.data_vars)
        assert "int16" in str(back["msl"].encoding["dtype"])
        assert not {"chunks", "preferred_chunks", "source"} & set(back["msl"].encoding)
        exact = opened[names].sel(pressure_level=[500.0, 850.0]).load()
        exact["msl"] = exact["msl"].astype("float32").astype(exact["msl"].dtype)
        xr.testing.assert_identical(back, exact)
        back.to_netcdf(tmp_path / "again.nc")
        assert_decoded(array, opened.load(), how | {"dtype": "packed"}, changed)
