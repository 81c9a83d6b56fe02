"""Scores of parts, combined, are the scores of the whole."""

import itertools

import numpy as np
import pytest
import xarray as xr

from xwx.errors import MismatchError
from xwx.metrics import Brier
from xwx.metrics.combine import combine

METRICS = ("rmse", "bias", "mae", "crps", "ssr", "spread")
HALVES = (slice(0, 5), slice(5, 12))


def globe(latitude, starts=7, leads=3, members=3):
    """Return an ensemble forecast and its truth."""
    rng = np.random.default_rng(5)
    longitude = ("longitude", np.arange(16) * 22.5, {"units": "degrees_east"})
    rows = ("latitude", np.asarray(latitude, np.float64), {"units": "degrees_north"})
    time = np.arange("2020-02-26", "2020-03-08", 12, dtype="M8[h]").astype("M8[ns]")
    truth = xr.Dataset(coords={"time": time, "latitude": rows, "longitude": longitude})
    lead = (np.arange(1, leads + 1) * np.timedelta64(12, "h")).astype("m8[ns]")
    begun = time[:starts]
    forecast = xr.Dataset(
        coords={"init_time": begun, "lead_time": lead, "latitude": rows, "longitude": longitude}
    )
    for name, units, standard, mean, scale in (
        ("t2m", "K", "air_temperature", 280, 10),
        ("u10", "m s-1", "eastward_wind", 1, 5),
    ):
        attrs = {"units": units, "standard_name": standard}
        field = mean + scale * rng.standard_normal((time.size, len(rows[1]), 16))
        truth[name] = ("time", "latitude", "longitude"), field, attrs
        at = np.arange(starts)[:, None] + np.arange(1, leads + 1)
        noise = rng.standard_normal((starts, leads, members, len(rows[1]), 16))
        dims = ("init_time", "lead_time", "member", "latitude", "longitude")
        forecast[name] = dims, field[at][:, :, None] + scale / 2 * noise, attrs
    return forecast, truth


EVEN = np.linspace(82.5, -82.5, 12)
POLES = np.linspace(90, -90, 12)
UNEVEN = np.array([-85, -70, -50, -33, -20, -7, 5, 16, 31, 52, 66, 84.0])


@pytest.fixture(scope="module")
def pair():
    return globe(POLES)


def sums(forecast, truth, metrics=METRICS, **options):
    return forecast.wx.verify(truth, metrics, statistics=True, **options)


def assert_same(one, other, tolerance=1e-12):
    assert set(one.data_vars) == set(other.data_vars)
    for name, values in other.data_vars.items():
        xr.testing.assert_allclose(one[name], values, rtol=tolerance, atol=1e-13)
        assert one[name].attrs == values.attrs
        assert bool(values.notnull().any())
    assert np.array_equal(one.cases, other.cases)


CUTS = {
    "whole": [{}],
    "starts": [{"init_time": s} for s in (slice(5, 7), slice(0, 2), slice(2, 5))],
    "leads": [{"lead_time": [2]}, {"lead_time": [0, 1]}],
    "bands": [{"latitude": s} for s in HALVES],
    "meridians": [{"longitude": s} for s in (slice(3, 9), slice(9, 16), slice(0, 3))],
    "all": [
        {"init_time": i, "lead_time": j, "latitude": k}
        for i, j, k in itertools.product((slice(0, 4), slice(4, 7)), ([0, 2], [1]), HALVES)
    ],
}


@pytest.mark.parametrize("latitude", [EVEN, POLES], ids=["even", "poles"])
@pytest.mark.parametrize("weights", ["area", "cos"])
@pytest.mark.parametrize("cut", CUTS)
def test_parts_make_the_whole(latitude, weights, cut):
    forecast, truth = globe(latitude)
    parts = [sums(forecast.isel(part), truth, weights=weights) for part in CUTS[cut]]
    assert_same(combine(parts[::-1]), forecast.wx.verify(truth, METRICS, weights=weights))


def test_bounds_make_parts_of_uneven_rows_exact():
    forecast, truth = globe(UNEVEN)
    edges = np.r_[-90, (UNEVEN[1:] + UNEVEN[:-1]) / 2, 90]
    forecast["bnds"] = ("latitude", "edge"), np.stack([edges[:-1], edges[1:]], axis=1)
    forecast.latitude.attrs["bounds"] = "bnds"
    cuts = (slice(0, 5), slice(5, 6), slice(6, 12))  # one row of them alone
    parts = [sums(forecast.isel(latitude=cut), truth) for cut in cuts]
    assert_same(combine(parts), forecast.wx.verify(truth, METRICS))


def test_meridians_across_the_seam(pair):
    forecast, truth = pair
    turned = forecast.roll(longitude=6, roll_coords=True)
    parts = [
        sums(turned.isel(longitude=c), truth) for c in (slice(0, 4), slice(4, 11), slice(11, 16))
    ]
    assert_same(combine(parts), forecast.wx.verify(truth, METRICS))


def test_single_starts(pair):
    forecast, truth = pair
    one = sums(forecast.isel(init_time=3), truth)
    assert_same(combine(one), forecast.isel(init_time=3).wx.verify(truth, METRICS))
    parts = [sums(forecast.isel(init_time=n), truth) for n in (4, 1)]
    assert_same(combine(parts), forecast.isel(init_time=[1, 4]).wx.verify(truth, METRICS))


@pytest.mark.parametrize(
    "options",
    [
        {"by": "month"},
        {"by": "season"},
        {"convention": "wb1"},
        {"confidence": 0.9, "resamples": 40, "seed": 4, "block": 2},
        {"by": "hour", "confidence": 0.8, "resamples": 20, "convention": "wb1"},
    ],
    ids=str,
)
def test_options_are_those_of_verify(pair, options):
    forecast, truth = pair
    parts = [sums(forecast.isel(init_time=s), truth) for s in (slice(3, 7), slice(0, 3))]
    assert_same(combine(parts, **options), forecast.wx.verify(truth, METRICS, **options))


def reopened(part, path, kind):
    if kind == "netcdf":
        part.to_netcdf(path)
        with xr.open_dataset(path, decode_timedelta=True) as ds:
            return ds.load()
    part.to_zarr(path, consolidated=False, zarr_format=2)
    return xr.open_zarr(path, consolidated=False, decode_timedelta=True)


@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
@pytest.mark.parametrize("cut", ["whole", "all"])
def test_through_files(pair, tmp_path, kind, cut):
    forecast, truth = pair
    metrics = (*METRICS, Brier({"t2m": "280 K", "u10": "3.6 km/h"}), "mnrmse")
    parts = [
        reopened(sums(forecast.isel(part), truth, metrics), tmp_path / str(n), kind)
        for n, part in enumerate(CUTS[cut])
    ]
    options = {"by": "month", "confidence": 0.5, "resamples": 20}
    assert_same(combine(parts, **options), forecast.wx.verify(truth, metrics, **options), 1e-11)


def test_lazy_sums_stay_lazy(pair):
    forecast, truth = pair
    lazy = forecast.chunk(init_time=2, latitude=-1)
    parts = [
        sums(lazy.isel(init_time=slice(0, 4)), truth),
        sums(forecast.isel(init_time=[4, 5, 6]), truth),
    ]
    out = combine(parts)
    assert out.t2m.chunks is not None
    assert_same(out.compute(), forecast.wx.verify(truth, METRICS))


def test_sums_again(pair):
    forecast, truth = pair
    parts = [sums(forecast.isel(part), truth) for part in CUTS["all"]]
    first = combine(parts[:4], statistics=True)
    assert (first.t2m.sel(statistic="cases") == 1).all()
    assert_same(combine([first, *parts[4:]]), forecast.wx.verify(truth, METRICS))


def test_regions_make_regions(pair):
    forecast, truth = pair
    parts = sums(forecast, truth, regions=["tropics", "extratropics"])
    out = combine(parts, regions={"globe": ["tropics", "extratropics"]})
    added = combine(parts, regions={"globe": ["tropics", "extratropics"]}, statistics=True)
    assert (added.t2m.sel(statistic="cases") == 1).all()
    whole = forecast.wx.verify(truth, METRICS)
    assert out.region.values.tolist() == ["tropics", "extratropics", "globe"]
    for name in whole.data_vars:
        found = out[name].sel(region="globe", drop=True)
        xr.testing.assert_allclose(found, whole[name], rtol=1e-13, atol=1e-13)
    bands = [sums(forecast.isel(latitude=b), truth, regions={"all": (-90, 90)}) for b in HALVES]
    assert_same(combine(bands).isel(region=0, drop=True), whole)


def test_rank_histograms_and_gaps(pair):
    forecast, truth = pair
    for metrics in ("rank_histogram", "nrmse"):
        parts = [sums(forecast.isel(latitude=b), truth, metrics) for b in HALVES]
        assert_same(combine(parts), forecast.wx.verify(truth, metrics), 1e-10)


def refusal(parts, **options):
    with pytest.raises(MismatchError) as caught:
        combine(parts, **options)
    return str(caught.value)


def test_nothing_counts_twice(pair):
    forecast, truth = pair
    whole = sums(forecast, truth)
    assert "the same cases are there twice" in refusal([whole, whole])
    some = [sums(forecast.isel(init_time=s), truth) for s in (slice(0, 4), slice(3, 7))]
    assert "init_time: 2020-02-27T12:00:00.000000000 is in more than one part" in refusal(some)
    bands = [sums(forecast.isel(latitude=s), truth) for s in (slice(0, 6), slice(5, 12))]
    assert "over areas that overlap" in refusal(bands)


def test_no_part_is_missing(pair):
    forecast, truth = pair
    parts = [sums(forecast.isel(part), truth) for part in CUTS["all"]]
    for lost in range(len(parts)):
        rest = parts[:lost] + parts[lost + 1 :]
        with pytest.raises(MismatchError, match=r"every start and lead|make no whole"):
            combine(rest)


def test_a_truth_in_one_band_only(pair):
    forecast, truth = pair
    with pytest.warns(UserWarning, match="cases have no truth"):
        short = sums(forecast.isel(latitude=HALVES[0]), truth.isel(time=slice(0, 5)))
    rest = sums(forecast.isel(latitude=HALVES[1]), truth)
    assert "have a truth in one part of the globe, and none in another" in refusal([short, rest])


def test_a_single_row_without_bounds(pair):
    forecast, truth = pair
    parts = [sums(forecast.isel(latitude=s), truth) for s in (slice(0, 1), slice(1, 12))]
    assert "a single row or column" in refusal(parts)


def test_unlike_parts(pair):
    forecast, truth = pair
    first, second = forecast.isel(init_time=[0]), forecast.isel(init_time=[1])
    part = sums(first, truth)
    hours = (second.u10 * 3.6).assign_attrs(second.u10.attrs, units="km/h")
    for other, answer in (
        (sums(second, truth, ["rmse"]), "part 1: its metrics: "),
        (sums(second, truth, weights="cos"), "part 1: its weights: cos, of part 0: area"),
        (sums(second.isel(member=[0, 1]), truth), "part 1: its members: 2, of part 0: 3"),
        (sums(second[["t2m"]], truth), "part 1: its variables: t2m, of part 0: t2m, u10"),
        (sums(second.assign(u10=hours), truth), "its units of u10: km/h, of part 0: m s-1"),
    ):
        assert answer in refusal([part, other])


def test_other_levels(pair):
    forecast, truth = pair
    level = ("level", [850.0, 500.0], {"units": "hPa"})
    deep = [ds[["t2m"]].rename(t2m="t").expand_dims(level=2).assign_coords(level=level)
            for ds in (forecast, truth)]  # fmt: skip
    parts = [sums(deep[0].isel(init_time=[n], level=levels), deep[1], "rmse")
             for n, levels in ((0, [0, 1]), (1, [1, 0]))]  # fmt: skip
    assert "part 1: its level of t: [500. 850.], of part 0: [850. 500.]" in refusal(parts)


def test_what_is_no_sum_over_points(pair):
    forecast, truth = pair
    bands = [sums(forecast.isel(latitude=b), truth, "energy_score") for b in HALVES]
    assert "energy_score" in refusal(bands)
    starts = [sums(forecast.isel(init_time=[n]), truth, "energy_score") for n in range(7)]
    assert_same(combine(starts), forecast.wx.verify(truth, "energy_score"))
    climatology = truth.mean("time", keep_attrs=True)
    regions = ["tropics", "extratropics"]
    part = sums(forecast, truth, "acc_centred", regions=regions, climatology=climatology)
    assert "centred_covariance" in refusal(part, regions={"globe": regions})


def test_maps(pair):
    forecast, truth = pair
    dim = ("init_time", "longitude")
    part = sums(forecast, truth, dim=dim)
    assert_same(combine(part), forecast.wx.verify(truth, METRICS, dim=dim))
    halves = [sums(forecast.isel(init_time=s), truth, dim=dim) for s in (slice(0, 4), slice(4, 7))]
    assert "the sums of maps are over all 'init_time's" in refusal(halves)


def test_arguments(pair):
    forecast, truth = pair
    part = sums(forecast, truth, regions=["tropics", "extratropics"])
    for wrong in ([], forecast.wx.verify(truth), [part, 3], truth):
        with pytest.raises(TypeError, match="statistics=True"):
            combine(wrong)
    for regions in ({"new": "tropics"}, {"tropics": ["extratropics"]}):
        with pytest.raises(ValueError, match="give a new name, and a list of names among tropics"):
            combine(part, regions=regions)
    with pytest.raises(ValueError, match=r"\['moon'\] are not among those scored: tropics, extra"):
        combine(part, regions={"new": ["tropics", "moon"]})
    with pytest.raises(ValueError, match="by='week': give one of 'season', 'month'"):
        combine(part, by="week")
    with pytest.raises(ValueError, match="convention='wb3'"):
        combine(part, convention="wb3")
