"""Scores may not depend on how either side is laid out, and come in the layout of the forecast.

Forecast, truth and climatology are made by formula in one plain form. Hypothesis draws another
presentation of each: names, units, orders, layouts of time, chunks. The scores must be those of
the plain form, which tests/oracles compares with other libraries.
"""

from functools import cache

import dask
import numpy as np
import pint_xarray  # noqa: F401 - registers ds.pint
import pytest
import scores as peer
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xwx  # noqa: F401 - registers ds.wx
from xwx.metrics import Brier, ThresholdCRPS

G = 9.80665
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
STARTS = np.datetime64("2020-02-27T00", "ns") + np.arange(4) * 12 * HOUR
LEADS = np.array([6, 12, 30]) * HOUR
LEVELS = (850.0, 500.0, 250.0)
LATITUDE = 90.0 - (np.arange(7) + 0.5) * (180.0 / 7)
LONGITUDE = 40.0 * np.arange(9)
KEYS = ("t2m", "z", "msl")
ATTRS = {"t2m": {"units": "K"}, "z": {"units": "m2 s-2"}, "msl": {"units": "Pa"}}
STANDARD = {"t2m": "air_temperature", "z": "geopotential", "msl": "air_pressure_at_mean_sea_level"}
# canonical = scale * value + offset
MEASURES = {
    "t2m": (("K", 1.0, 0.0), ("kelvin", 1.0, 0.0), ("degC", 1.0, 273.15), ("celsius", 1.0, 273.15)),
    "z": (("m2 s-2", 1.0, 0.0), ("m**2 s**-2", 1.0, 0.0), ("m", G, 0.0)),
    "msl": (("Pa", 1.0, 0.0), ("hPa", 100.0, 0.0), ("millibars", 100.0, 0.0)),
}
SCHEMES = {
    "cds": (("t2m", "z", "msl"), "latitude", "longitude", "pressure_level"),
    "weatherbench2": (
        ("2m_temperature", "geopotential", "mean_sea_level_pressure"),
        "latitude",
        "longitude",
        "level",
    ),
    "cmip": (("tas", "zg", "psl"), "lat", "lon", "plev"),
    "grib": (("2t", "gh", "prmsl"), "latitude", "longitude", "isobaricInhPa"),
}
#: Of one unit, so that they can be quantified; and pure numbers.
ENSEMBLE = (
    ("rmse", "bias", "crps", "spread", "energy_score"),
    ("acc", "acc_centred", "ssr", "ssr_raw"),
)
SINGLE = (("rmse", "bias", "mae"), ("acc", "acc_centred"))
#: The names of the dimensions of starts and leads in each layout.
LAYOUTS = {
    "one": ("init_time", "lead_time"),
    "several": ("init_time", "lead_time"),
    "weatherbench2": ("time", "prediction_timedelta"),
    "cfgrib": ("time", "step"),
    "hours": ("forecast_reference_time", "forecast_period"),
}


def wave(key, t, level, r, c):
    """Return fields by formula, in canonical units; t in days, the others in degrees and hPa."""
    r, c = np.deg2rad(r), np.deg2rad(c)
    shape = np.sin(1.3 * t + 2 * r + 0.01 * level) * np.cos(2 * c + t) + 0.4 * np.cos(3 * r - c)
    scale, base = {"t2m": (9.0, 280.0), "z": (900.0, 12000.0), "msl": (1500.0, 101000.0)}[key]
    return base + scale * shape


def labelled(dims, values, coords):
    """Put formulas of each key into a Dataset; only z has levels."""
    data = {}
    for key in KEYS:
        layered = key == "z"
        array = values(key, LEVELS if layered else (1000.0,))
        own = dims if layered else tuple(d for d in dims if d != "level")
        array = array if layered else array.squeeze(dims.index("level"))
        data[key] = (own, array, dict(ATTRS[key]))
    coords = coords | {
        "level": ("level", list(LEVELS), {"units": "hPa", "positive": "down"}),
        "latitude": ("latitude", LATITUDE, {"units": "degrees_north"}),
        "longitude": ("longitude", LONGITUDE, {"units": "degrees_east"}),
    }
    return xr.Dataset(data, coords)


def mesh(*axes):
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def days(times):
    return (times - STARTS[0]) / (24 * HOUR)


@cache
def forecast():
    """Return four starts of three leads of four members."""

    def values(key, levels):
        s, lead, m, level, r, c = mesh(
            days(STARTS), LEADS / (24 * HOUR), np.arange(4), levels, LATITUDE, LONGITUDE
        )
        error = np.sin(2.1 * m * (1 + r) + 0.1 * c + s) * (0.4 + lead) + 0.5 + 0.2 * np.cos(r * s)
        size = {"t2m": 1.0, "z": 90.0, "msl": 150.0}[key]
        return wave(key, s + lead, level, r, c) + size * error

    dims = ("init_time", "lead_time", "member", "level", "latitude", "longitude")
    coords = {"init_time": STARTS, "lead_time": LEADS, "member": np.arange(4)}
    return labelled(dims, values, coords)


@cache
def truth():
    """Return every sixth hour, before the first start and after the last lead too."""
    times = STARTS[0] + np.arange(-2, 14) * 6 * HOUR

    def values(key, levels):
        return wave(key, *mesh(days(times), levels, LATITUDE, LONGITUDE))

    return labelled(("time", "level", "latitude", "longitude"), values, {"time": times})


@cache
def climatology():
    """Return days 57 to 63 of the year, four hours of each."""
    day, hour = np.arange(57, 64), np.array([0, 6, 12, 18])

    def values(key, levels):
        d, h, level, r, c = mesh(day, hour, levels, LATITUDE, LONGITUDE)
        size = {"t2m": 2.0, "z": 150.0, "msl": 300.0}[key]
        return wave(key, 0.0, level, 0.8 * r, 0.0 * c) + size * np.sin(0.8 * d + h + 0.02 * c)

    dims = ("dayofyear", "hour", "level", "latitude", "longitude")
    return labelled(dims, values, {"dayofyear": day, "hour": hour})


@cache
def expected(metrics, start, ensemble):
    """Return the scores of the plain form: of one start, or of all where `start` is None."""
    plain = forecast() if start is None else forecast().isel(init_time=[start])
    plain = plain if ensemble else plain.isel(member=1, drop=True)
    return plain.wx.verify(truth(), metrics, climatology=climatology()).drop_vars("cases")


@st.composite
def presentations(draw, dims):
    """Draw how one Dataset is presented; `dims` are its own dimensions beside those of space."""
    pick = lambda *options: draw(st.sampled_from(options))  # noqa: E731
    scheme, standard = pick(*SCHEMES), pick(True, False, "unknown")
    units = {key: pick(*MEASURES[key]) for key in KEYS}
    if units["z"][0] == "m" and standard is True:
        scheme = pick("cmip", "grib")  # a height is no variable called geopotential
    every = (*dims, "level", "latitude", "longitude")
    return {
        "scheme": scheme,
        "standard_names": standard,
        "units": units,
        "level_unit": pick("hPa", "Pa", "millibars"),
        "levels": draw(st.permutations(LEVELS)),
        "south_first": pick(True, False),
        "west": pick(0.0, -180.0),
        "roll": pick(*range(9)),
        "order": draw(st.permutations(every)),
        "keys": draw(st.permutations(KEYS)),
        "chunks": draw(
            st.none() | st.dictionaries(st.sampled_from(every), st.integers(1, 5), max_size=3)
        ),
        "quantified": pick(None, None, "variables", "all"),
    }


@st.composite
def cases(draw):
    """Draw a forecast, a truth and a climatology."""
    pick = lambda *options: draw(st.sampled_from(options))  # noqa: E731
    ensemble = pick(True, True, False)
    times = [*range(truth().sizes["time"])]
    return {
        "layout": pick(*LAYOUTS),
        "start": pick(*range(4)),
        "starts": draw(st.permutations(range(4))),
        "leads": draw(st.permutations(range(3))),
        "members": draw(st.permutations(range(4))) if ensemble else None,
        "member_dim": pick("member", "number", "realization", "ensemble"),
        "metrics": pick(*(ENSEMBLE if ensemble else SINGLE)),
        "times": draw(st.permutations(times)),
        "single": pick(None, "number", "step"),
        "truth_time": pick("time", "valid_time"),
        "float32_coords": draw(st.booleans()),
        "forecast": draw(presentations(("init_time", "lead_time", "member"))),
        "truth": draw(presentations(("time",))),
        "climatology": draw(presentations(("dayofyear", "hour"))),
    }


def present(ds, how):
    """Return a Dataset of the plain form as it is to be presented; names of time come later."""
    names, lat, lon, level = SCHEMES[how["scheme"]]
    ds = ds[list(how["keys"])].sel(level=list(how["levels"]))
    for key in KEYS:
        unit, scale, offset = how["units"][key]
        ds[key] = (ds[key] - offset) / scale if (scale, offset) != (1.0, 0.0) else ds[key]
        ds[key].attrs = {"units": unit, "long_name": f"a {key}"}
        if how["standard_names"] is True:
            height = key == "z" and unit == "m"
            ds[key].attrs["standard_name"] = "geopotential_height" if height else STANDARD[key]
        elif how["standard_names"] == "unknown":
            ds[key].attrs["standard_name"] = "unknown"
    if how["level_unit"] == "Pa":
        ds = ds.assign_coords(level=ds.level * 100)
    ds.level.attrs = {"units": how["level_unit"], "positive": "down"}
    if how["south_first"]:
        ds = ds.isel(latitude=slice(None, None, -1))
    ds = ds.roll(longitude=how["roll"], roll_coords=True)
    east = (ds.longitude.values - how["west"]) % 360 + how["west"]
    ds = ds.assign_coords(longitude=("longitude", east, {"units": "degrees_east"}))
    ds = ds.transpose(*(d for d in how["order"] if d in ds.dims))
    if how["chunks"] is not None:
        ds = ds.chunk({d: n for d, n in how["chunks"].items() if d in ds.dims})
    new = {"latitude": lat, "longitude": lon, "level": level}
    return ds.rename({k: v for k, v in new.items() if k != v} | dict(zip(KEYS, names, strict=True)))


def quantified(ds, how):
    """Put values, and perhaps coordinates, into pint Quantities."""
    if how["quantified"] is None:
        return ds
    keep = {} if how["quantified"] == "all" else dict.fromkeys(ds.coords)
    out = ds.pint.quantify(keep)
    for name in keep:  # pint-xarray takes the units off these too
        out[name].attrs = ds[name].attrs
    return out


def present_forecast(case):
    """Return the forecast in one of the layouts that forecasts come in."""
    how, layout = case["forecast"], case["layout"]
    ds = forecast().isel(init_time=case["starts"], lead_time=case["leads"])
    members = case["members"]
    ds = ds.isel(member=1, drop=True) if members is None else ds.isel(member=members)
    if layout == "one":
        ds = ds.sel(init_time=STARTS[case["start"]])
    ds = present(ds, how)
    start, lead = LAYOUTS[layout]
    valid = ds["init_time"] + ds["lead_time"]
    if layout == "one":
        ds = ds.assign_coords(time=valid).swap_dims(lead_time="time")
    elif layout == "several":
        ds = ds.assign_coords(time=valid)
    elif layout == "cfgrib":
        ds = ds.assign_coords(valid_time=valid)
    if layout == "hours":
        hours = (ds["lead_time"].values / HOUR).astype(int)
        ds = ds.assign_coords(lead_time=("lead_time", hours, {"units": "hours"}))
    new = {"init_time": start, "lead_time": lead, "member": case["member_dim"]}
    ds = ds.rename({k: v for k, v in new.items() if k != v and k in ds.coords})
    return quantified(ds, how)


def present_truth(case):
    """Return the truth: its times in any order, and perhaps a dimension of length one."""
    ds = present(truth().isel(time=case["times"]), case["truth"])
    _, lat, lon, _ = SCHEMES[case["truth"]["scheme"]]
    if case["float32_coords"]:
        ds = ds.assign_coords({k: ds[k].astype("float32") for k in (lat, lon)})
    if case["single"] is not None:
        value = 0 * HOUR if case["single"] == "step" else 0
        ds = ds.expand_dims({case["single"]: [value]}, axis=1)
    if case["truth_time"] != "time":
        ds = ds.rename(time=case["truth_time"])
    return quantified(ds, case["truth"])


def nothing(*args, **kwargs):
    raise AssertionError("something was computed")


def scored(case):
    """Verify; nothing may be computed where anything is lazy."""
    sides = [present_forecast(case), present_truth(case)]
    clim = quantified(present(climatology(), case["climatology"]), case["climatology"])
    acc = "acc" in case["metrics"]
    with dask.config.set(scheduler=nothing):
        out = sides[0].wx.verify(sides[1], case["metrics"], climatology=clim if acc else None)
    drawn = [case[side]["chunks"] for side in ("forecast", "truth", *["climatology"] * acc)]
    lazy = any(chunks is not None for chunks in drawn)
    assert all((values.chunks is not None) == lazy for values in out.data_vars.values())
    with dask.config.set(scheduler="synchronous"):
        return sides[0], out.compute()


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(cases())
def test_scores_do_not_depend_on_layout(case):
    ds, out = scored(case)
    names, _, _, level = SCHEMES[case["forecast"]["scheme"]]
    _, lead = LAYOUTS[case["layout"]]
    assert list(out.data_vars) == [str(name) for name in ds.data_vars]
    assert out["metric"].values.tolist() == list(case["metrics"])
    start = case["start"] if case["layout"] == "one" else None
    want = expected(case["metrics"], start, case["members"] is not None)
    for key, name in zip(KEYS, names, strict=True):
        found = out[name]
        assert set(found.dims) == {"metric", lead, *([level] if key == "z" else [])}
        assert found.dims[0] == "metric"
        unit, scale, _ = case["forecast"]["units"][key]
        pure = "acc" in case["metrics"] or "ssr" in case["metrics"]
        kelvin = "K" if unit in ("degC", "celsius") else unit  # of differences
        assert_unit(found, "1" if pure else kelvin, case)
        values = found.copy(data=getattr(found.data, "magnitude", found.data))
        values = values.isel({lead: np.argsort(case["leads"])})
        if key == "z":
            back = [case["forecast"]["levels"].index(v) for v in LEVELS]
            values = values.isel({level: back})
        values = values.transpose("metric", *([level] if key == "z" else []), lead)
        known = want[key].transpose(*(d.replace(lead, "lead_time").replace(level, "level")
                                      for d in values.dims))  # fmt: skip
        factor = 1.0 if pure else scale
        size = np.abs(known.values).max()
        np.testing.assert_allclose(values * factor, known, rtol=1e-12, atol=1e-13 * size)
    np.testing.assert_array_equal(magnitudes(out[lead]), magnitudes(leads_of(ds, lead)))
    np.testing.assert_array_equal(magnitudes(out[level]), magnitudes(ds[level]))
    np.testing.assert_array_equal(out["cases"], 1 if case["layout"] == "one" else 4)


def leads_of(ds, lead):
    return ds[lead].reset_coords(drop=True)


def magnitudes(array):
    return np.asarray(getattr(array.data, "magnitude", array.data))


def assert_unit(found, unit, case):
    if case["forecast"]["quantified"] is None:
        assert found.attrs["units"] == unit
    else:
        assert found.data.units == xr.DataArray(1.0).pint.quantify(unit).data.units


# --- lazy ------------------------------------------------------------------------------------

EVERYTHING = (
    "rmse", "mae", "bias", "mse", "skill", "spread", "acc", "acc_centred", "nrmse", "crps",
    "crps_ecdf", "ssr", "ssr_raw", "ssr_unbiased", "energy_score", "mnrmse",
)  # fmt: skip
CHUNKS = {
    "forecast": {"init_time": 3, "lead_time": 2, "member": 3, "latitude": 4, "longitude": 5},
    "truth": {"time": 5, "level": 2, "latitude": 3, "longitude": 4},
    "climatology": {"dayofyear": 3, "hour": 3, "longitude": 7},
}
OPTIONS = {
    "plain": {},
    "regions": {"regions": ["tropics", "global"]},
    "season": {"by": "month"},
    "wb1": {"convention": "wb1"},
    "skipna": {"skipna": True},
    "maps": {"dim": "init_time"},
    "interval": {"confidence": 0.9, "resamples": 10},
}


@pytest.mark.parametrize(
    ("lazy", "options"),
    [*((tuple(CHUNKS), o) for o in OPTIONS), *(((side,), "plain") for side in CHUNKS)],
)
def test_lazy_scores_are_the_eager_ones(lazy, options):
    metrics = [m for m in EVERYTHING if options != "maps" or m not in FIELDS]
    sides = {"forecast": forecast(), "truth": truth(), "climatology": climatology()}
    eager = scores_of(sides, metrics, options)
    sides |= {side: sides[side].chunk(CHUNKS[side]) for side in lazy}
    with dask.config.set(scheduler=nothing):
        found = scores_of(sides, metrics, options)
    assert all(values.chunks is not None for values in found.data_vars.values())
    with dask.config.set(scheduler="synchronous"):
        found = found.compute()
    assert list(found.data_vars) == list(eager.data_vars)
    for name, values in eager.data_vars.items():
        assert found[name].dims == values.dims
        assert found[name].attrs == values.attrs
        size = np.nanmax(np.abs(values.values))
        scaled = "mnrmse" in name or values["metric"] == "nrmse"  # about a mean that is large
        gap = np.abs(found[name] - values) - 1e-14 * size
        assert bool((values.isnull() | (gap <= xr.where(scaled, 1e-11, 1e-13) * abs(values))).all())
        assert bool((values.isnull() == found[name].isnull()).all())


#: Scores of whole fields, which have no maps.
FIELDS = ("acc_centred", "energy_score")


def scores_of(sides, metrics, options):
    return sides["forecast"].wx.verify(
        sides["truth"], metrics, climatology=sides["climatology"], **OPTIONS[options]
    )


@pytest.mark.parametrize("metric", FIELDS)
@pytest.mark.parametrize("dim", ["init_time", "longitude"])
@pytest.mark.parametrize("lazy", [False, True])
def test_scores_of_whole_fields_are_refused_for_maps(metric, dim, lazy):
    ds = forecast().chunk() if lazy else forecast()
    with pytest.raises(ValueError, match=metric):
        ds.wx.verify(truth(), metric, climatology=climatology(), dim=dim)


@pytest.mark.parametrize("wide", [False, True])
def test_a_truth_of_valid_times_may_say_that_its_step_is_zero(wide):
    exact = truth().rename(time="valid_time").assign_coords(step=0 * HOUR)
    exact = exact.expand_dims("step") if wide else exact
    found = forecast().wx.verify(exact, ("rmse", "bias", "mae"))
    want = forecast().wx.verify(truth(), ("rmse", "bias", "mae"))
    xr.testing.assert_identical(found.drop_attrs(), want.drop_attrs())


# --- gaps ------------------------------------------------------------------------------------

GAPS = ((1, 2), (5, 0), (5, 8))  # rows and columns
POINTS = ("rmse", "mae", "bias", "acc", "acc_centred", "nrmse", "crps", "ssr", "energy_score")


def gappy(ds, key="t2m", **where):
    """Return a Dataset with NaN at some points, at some positions along other dimensions."""
    hole = xr.zeros_like(ds[key], dtype=bool)
    for row, column in GAPS:
        hole[{"latitude": row, "longitude": column, **where}] = True
    return ds.assign({key: ds[key].where(~hole)})


def mask():
    """Return a region without the points that are missing."""
    whole = xr.ones_like(truth()["t2m"].isel(time=0, drop=True))
    for row, column in GAPS:
        whole[{"latitude": row, "longitude": column}] = 0.0
    return whole


def compared(one, other):
    """See that scores are the same and finite."""
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("chunked", [False, True])
def test_gaps_make_only_scores_nan_that_they_belong_to(chunked):
    """A member at one lead; the regions that do not hold the points keep their numbers."""
    holes = gappy(forecast(), init_time=2, lead_time=1, member=3)
    holes = holes.chunk(CHUNKS["forecast"]) if chunked else holes
    options = {"climatology": climatology(), "regions": ["global", "antarctic", "tropics"]}
    whole = forecast().wx.verify(truth(), POINTS, **options)
    found = holes.wx.verify(truth(), POINTS, **options).compute()
    struck = found["t2m"].isnull()
    want = (found["lead_time"] == LEADS[1]) & (found["region"] != "tropics")
    # the deviation that normalises is that of the truth, which is whole: only the error is struck
    assert bool((struck == want).all())
    compared(found["t2m"].where(~struck, 0.0), whole["t2m"].where(~struck, 0.0))
    for name in ("z", "msl"):
        xr.testing.assert_identical(found[name], whole[name])


@pytest.mark.parametrize("side", ["forecast", "truth", "climatology"])
@pytest.mark.parametrize("chunked", [False, True])
def test_left_out_points_are_points_without_weight(side, chunked):
    """Gaps at all times: left out, or outside the region, is the same."""
    sides = {"forecast": forecast(), "truth": truth(), "climatology": climatology()}
    holes = sides | {side: gappy(sides[side])}
    if chunked:
        holes = {name: ds.chunk(CHUNKS[name]) for name, ds in holes.items()}
    regions = {"here": mask()}
    want = sides["forecast"].wx.verify(truth(), POINTS, climatology=climatology(), regions=regions)
    out = holes["forecast"].wx.verify(
        holes["truth"], POINTS, climatology=holes["climatology"], skipna=True
    )
    compared(out["t2m"].compute(), want["t2m"].isel(region=0, drop=True))
    outside = holes["forecast"].wx.verify(
        holes["truth"], POINTS, climatology=holes["climatology"], regions=regions
    )
    compared(outside["t2m"].compute(), want["t2m"])
    bare = (
        holes["forecast"]
        .wx.verify(holes["truth"], POINTS, climatology=holes["climatology"])["t2m"]
        .compute()
    )
    touched = POINTS if side != "climatology" else ("acc", "acc_centred")
    assert bare.sel(metric=list(touched)).isnull().all()


def test_points_left_out_at_one_time_weigh_as_in_another_library():
    """A gap of one valid time: the mean is over all other points of all starts."""
    holes = gappy(truth(), time=5)
    found = forecast().wx.verify(holes, ("rmse", "crps"), skipna=True)["t2m"]
    valid = STARTS[:, None] + LEADS
    beside = holes["t2m"].sel(time=xr.DataArray(valid, dims=("init_time", "lead_time")))
    members = forecast()["t2m"]
    edges = np.deg2rad(np.linspace(90, -90, 8))
    area = xr.DataArray(-np.diff(np.sin(edges)), dims="latitude", coords={"latitude": LATITUDE})
    assert 0 < int(beside.isnull().sum()) < 3 * beside.sizes["init_time"] * len(LEADS)
    options = {"reduce_dims": ["init_time", "latitude", "longitude"], "weights": area}
    rmse = peer.continuous.rmse(members.mean("member"), beside.drop_vars("time"), **options)
    crps = peer.probability.crps_for_ensemble(
        members, beside.drop_vars("time"), "member", method="fair", **options
    )
    np.testing.assert_allclose(found, [rmse, crps], rtol=1e-12)


@pytest.mark.parametrize("metric", [Brier("281 K"), ThresholdCRPS("281 K"), "rank_histogram"])
def test_gaps_of_scores_that_count(metric):
    """A gap is no event that did not happen."""
    plain, ds = (f[["t2m"]].wx.verify for f in (forecast(), gappy(forecast(), lead_time=0)))
    spoilt = ds(truth(), metric)["t2m"]
    assert spoilt.isel(lead_time=0).isnull().all()
    compared(spoilt.isel(lead_time=slice(1, None)), plain(truth(), metric)["t2m"][..., 1:])
    want = plain(truth(), metric, regions={"here": mask()})["t2m"].isel(region=0, drop=True)
    compared(ds(truth(), metric, skipna=True)["t2m"].isel(lead_time=0), want.isel(lead_time=0))


def without_a_lead():
    """Return a forecast that is NaN at one of its leads."""
    empty = forecast()[["t2m"]].where(forecast()["lead_time"] != LEADS[1])
    empty["t2m"].attrs = {"units": "K"}
    return empty


def test_a_lead_of_gaps_alone_has_no_score():
    """Not even where gaps are left out; and it does not touch the others."""
    own = [m for m in POINTS if m not in ("nrmse", "acc", "acc_centred")]
    found, whole = (
        ds.wx.verify(truth(), own, skipna=True)["t2m"]
        for ds in (without_a_lead(), forecast()[["t2m"]])
    )
    assert found.isel(lead_time=1).isnull().all()
    compared(found[:, [0, 2]], whole[:, [0, 2]])


def test_no_point_left_is_not_said_to_be_a_constant_anomaly():
    options = {"climatology": climatology(), "skipna": True}
    found = without_a_lead().wx.verify(truth(), ("acc", "acc_centred"), **options)["t2m"]
    assert found.isel(lead_time=1).isnull().all()


def test_nrmse_loses_the_digits_that_mean_squares_share_and_no_others():
    """A deviation is a difference of mean squares: eps (mean / deviation)^2 of it is rounding."""
    exact, error = truth()[["msl"]], forecast()[["msl"]].isel(member=0, drop=True)
    sides = [((ds - 101000.0) * 0.01 + 101000.0) for ds in (error, exact)]
    for ds in sides:
        ds["msl"].attrs = {"units": "Pa"}
    valid = xr.DataArray(STARTS[:, None] + LEADS, dims=("init_time", "lead_time"))
    beside = sides[1]["msl"].sel(time=valid)
    edges = np.deg2rad(np.linspace(90, -90, 8))
    area = xr.DataArray(-np.diff(np.sin(edges)), dims="latitude", coords={"latitude": LATITUDE})
    scale = float(beside.weighted(area).std())
    rmse, nrmse = sides[0].wx.verify(sides[1], ("rmse", "nrmse"))["msl"].values
    lost = np.finfo(np.float64).eps * (101000.0 / scale) ** 2
    assert lost < 1e-6
    np.testing.assert_allclose(nrmse, rmse / scale, rtol=8 * lost)
