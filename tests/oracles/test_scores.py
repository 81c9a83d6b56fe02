"""Scores against other libraries and plain loops, through the accessor.

All inputs are made by formula. Every value of the table is computed twice more, by ways that know
nothing of each other: packages of verification (scores, scoringrules, properscoring, scipy), and
loops in float64 that add with :func:`math.fsum`. All three must agree to ten digits.
"""

import itertools
import math
import operator

import numpy as np
import properscoring
import pytest
import scores as peer
import scoringrules
import xarray as xr
from scipy.spatial.distance import cdist, pdist

import xwx  # noqa: F401 - registers ds.wx
from xwx.metrics import (
    ACC,
    CRPS,
    NRMSE,
    SEEPS,
    SSR,
    Brier,
    EnergyScore,
    ThresholdCRPS,
)

G = 9.80665
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
GRIDS = {
    "centred": (-82.5 + 15.0 * np.arange(12), 15.0 * np.arange(24)),
    "poles": (90.0 - 22.5 * np.arange(9), 22.5 * np.arange(16)),
}
STARTS = np.datetime64("2020-02-27T00", "ns") + np.arange(3) * 24 * HOUR
LEADS = np.array([6, 24]) * HOUR
LEVELS = (850.0, 500.0)
MEMBERS = 5
UNITS = {"t2m": "K", "z": "m2 s-2", "tp": "m"}
CASE = ("init_time", "lead_time")
MAP = ("latitude", "longitude")
QUANTILES = np.array([0.02, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.99])
SCALE = {"t2m": 7.0, "z": [900.0, 1100.0], "tp": 0.002}


def wave(name, t, level, r, c):
    """Return a field by formula: t in days, rows in degrees north, columns in degrees east."""
    r, c, level = np.deg2rad(r), np.deg2rad(c), level / 100.0
    smooth = np.sin(0.3 * t + 2 * r) * np.cos(2 * c + 0.2 * t) + 0.4 * np.cos(3 * r - c + t)
    rough = np.sin(7.3 * c + 5.1 * r + 2.9 * t + level) * np.cos(11.7 * r - 3.3 * c)
    if name == "t2m":
        return 280 + 12 * smooth + 3 * rough
    if name == "z":
        return G * (12000 - 1200 * level + (100 + 5 * level) * (smooth + 0.3 * rough))
    return 0.004 * np.maximum(smooth + rough - 0.1, 0.0) ** 2


def scatter(name, m, t, lead, level, r, c):
    """Return what the members depart by from the truth, by formula: larger at later leads."""
    r, c = np.deg2rad(r), np.deg2rad(c)
    size = {"t2m": 2.0, "z": 400.0, "tp": 0.003}[name]
    own = np.sin(12.9898 * m + 4.1 * r * m + 7.7 * c + 1.3 * t + 0.01 * level)
    return size * ((1 + lead) * own + 0.4 * np.cos(3.7 * c - 9.1 * r + 2 * t) + 0.1 + 0.1 * lead)


def mesh(*axes):
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def days(times):
    return (times - STARTS[0]) / (24 * HOUR)


def coordinates(grid):
    lat, lon = GRIDS[grid]
    return {
        "latitude": ("latitude", lat, {"units": "degrees_north"}),
        "longitude": ("longitude", lon, {"units": "degrees_east"}),
        "level": ("level", list(LEVELS), {"units": "hPa"}),
    }


def made(grid, names, dims, values, coords):
    """Put formulas into a Dataset; only z has levels."""
    data = {}
    for name in names:
        own = tuple(d for d in dims if d != "level" or name == "z")
        array = values(name, LEVELS if name == "z" else (1000.0,))
        array = array if name == "z" else array.squeeze(dims.index("level"))
        data[name] = (own, array, {"units": UNITS[name]})
    ds = xr.Dataset(data, coords | coordinates(grid))
    return ds if "z" in names else ds.drop_vars("level")


def truth_of(grid, names=("t2m", "z", "tp")):
    """Return the truth: more times than are needed, and not in order."""
    times = STARTS[0] + np.array([48, 6, 24, 30, 54, 72, 0, 12, 96]) * HOUR
    lat, lon = GRIDS[grid]

    def values(name, levels):
        return wave(name, *mesh(days(times), levels, lat, lon))

    return made(grid, names, ("time", "level", *MAP), values, {"time": times})


def forecast_of(grid, names=("t2m", "z", "tp")):
    """Return three starts of two leads of five members."""
    lat, lon = GRIDS[grid]
    dims = (*CASE, "member", "level", *MAP)

    def values(name, levels):
        s, lead, m, level, r, c = mesh(
            days(STARTS), LEADS / (24 * HOUR), np.arange(1.0, 1 + MEMBERS), levels, lat, lon
        )
        out = wave(name, s + lead, level, r, c) + scatter(name, m, s, lead, level, r, c)
        return np.maximum(out, 0.0) if name == "tp" else out

    coords = {"init_time": STARTS, "lead_time": LEADS, "member": np.arange(MEMBERS)}
    return made(grid, names, dims, values, coords)


def climatology_of(grid, names=("t2m", "z")):
    """Return a climatology by day of the year and hour, different at each."""
    lat, lon = GRIDS[grid]
    day, hour = np.arange(1, 367), np.array([18, 0, 12, 6])

    def values(name, levels):
        d, h, level, r, c = mesh(day, hour, levels, lat, lon)
        mean = wave(name, 0.0, level, 0.7 * r, 0.0 * c)
        return mean + {"t2m": 1.5, "z": 90.0}[name] * np.sin(0.9 * d + 0.4 * h + np.deg2rad(c))

    dims = ("dayofyear", "hour", "level", *MAP)
    return made(grid, names, dims, values, {"dayofyear": day, "hour": hour})


def quantiles_of(grid):
    """Return a climatology of quantiles of t2m, in other order of dimensions than it is used."""
    lat, lon = GRIDS[grid]
    day, hour = np.arange(1, 367), np.array([0, 6, 12, 18])

    def values(name, levels):
        q, d, h, level, r, c = mesh(QUANTILES, day, hour, levels, lat, lon)
        middle = wave(name, 0.0, level, r, c) + np.sin(0.9 * d + 0.4 * h)
        return middle + 8.0 * np.log(q / (1 - q)) * (1 + 0.1 * np.cos(np.deg2rad(r)))

    dims = ("quantile", "dayofyear", "hour", "level", *MAP)
    coords = {"quantile": QUANTILES, "dayofyear": day, "hour": hour}
    return made(grid, ("t2m",), dims, values, coords)


def seeps_climatology_of(grid):
    """Return dry fractions of 0.02 to 0.98 and thresholds of 0.4 to 4 mm, by day and hour."""
    lat, lon = GRIDS[grid]
    d, h, r, c = mesh(np.arange(1, 367), np.array([0, 6, 12, 18]), lat, lon)
    phase = np.sin(0.3 * d + 0.2 * h + np.deg2rad(3 * c)) * np.cos(np.deg2rad(2 * r))
    dims = ("dayofyear", "hour", *MAP)
    data = {
        "tp_seeps_dry_fraction": (dims, 0.5 + 0.48 * phase, {"units": "1"}),
        "tp_seeps_threshold": (dims, 0.0022 + 0.0018 * np.cos(2 * phase), {"units": "m"}),
    }
    coords = {"dayofyear": np.arange(1, 367), "hour": [0, 6, 12, 18]} | coordinates(grid)
    return xr.Dataset(data, coords).drop_vars("level")


def beside(ds, times):
    """Take what belongs to the valid times: of a truth along time, or of a climatology."""
    valid = times if isinstance(times, xr.DataArray) else xr.DataArray(times)
    if "time" in ds.dims:
        return ds.sel(time=valid).drop_vars("time")
    at = {"dayofyear": valid.dt.dayofyear, "hour": valid.dt.hour}
    return ds.sel(at).drop_vars(list(at))


def weights_of(grid, kind="area"):
    """Return the area of the cells, or the cosine of latitude; independent of the package."""
    lat = GRIDS[grid][0]
    if kind == "cos":
        row = np.cos(np.deg2rad(lat))
    else:
        half = abs(lat[1] - lat[0]) / 2
        south, north = np.maximum(lat - half, -90.0), np.minimum(lat + half, 90.0)
        row = np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south))
    return xr.DataArray(row, dims="latitude", coords={"latitude": lat})


class World:
    """The inputs on one grid, with everything beside the forecast: for the references."""

    def __init__(self, grid):
        self.grid = grid
        self.forecast, self.truth = forecast_of(grid), truth_of(grid)
        valid = self.forecast.init_time + self.forecast.lead_time
        self.beside = beside(self.truth, valid)
        self.climatology = climatology_of(grid)
        self.normal = beside(self.climatology, valid)
        self.quantiles = quantiles_of(grid)
        self.rank = beside(self.quantiles, valid)
        self.seeps = seeps_climatology_of(grid)
        self.rain = beside(self.seeps, valid)
        self.central = self.forecast.mean("member")
        self.area = weights_of(grid)

    def by_loops(self, function, name, weights, *, kept=("lead_time",), further=()):
        """Average a function of a point over starts and points, in loops with exact sums.

        `function` takes the members (a list of floats), the truth, and the values of `further`.
        """
        dims = ("level",) * (name == "z") + CASE + MAP
        members = self.forecast[name].transpose(*dims, "member").values
        arrays = [self.beside[name], *further]
        arrays = [a.transpose(*dims, ...).values for a in arrays]
        shape = members.shape[:-1]
        area = weights.broadcast_like(self.forecast[name].isel(member=0, drop=True))
        area = area.transpose(*dims).values
        keep = [n for n, d in enumerate(dims) if d in (*kept, "level")]
        sums = {}
        for at in np.ndindex(*shape):
            value = function(members[at].tolist(), *(a[at] for a in arrays))
            parts = sums.setdefault(tuple(at[n] for n in keep), ([], []))
            parts[0].append(value * area[at])
            parts[1].append(area[at])
        out = np.empty([shape[n] for n in keep])
        for at, (top, bottom) in sums.items():
            out[at] = math.fsum(top) / math.fsum(bottom)
        return out


@pytest.fixture(scope="module")
def made_worlds():
    return {grid: World(grid) for grid in GRIDS}


@pytest.fixture(params=GRIDS, scope="module")
def world(request, made_worlds):
    return made_worlds[request.param]


def agree(found, *references, rtol=1e-10):
    """See that all references agree with each other and with what was found."""
    assert len(references) >= 2
    found, *others = (np.asarray(getattr(v, "values", v)) for v in (found, *references))
    assert np.all(np.isfinite(found))
    assert np.ptp(found) > 1e-3 * np.abs(found).max(), "the same everywhere would prove little"
    for other in others:
        np.testing.assert_allclose(found, other, rtol=rtol, atol=0)


def scored(world, metric, name, **options):
    """Return the scores of one variable through the accessor, the levels first."""
    out = world.forecast[[name]].wx.verify(world.truth, metric, **options)
    values = out[name].isel(metric=0)
    first = [d for d in ("level", "rank", "region") if d in values.dims]
    return values.transpose(*first, ...)


def by_peer(world, function, name, weights, **options):
    """Ask the package scores for the mean over starts and points; the levels first."""
    if "ensemble_member_dim" in options or "ens_member_dim" in options:
        fields = world.forecast[name]
    else:
        fields = world.central[name]
    dims = ["init_time", *MAP]
    out = function(fields, world.beside[name], reduce_dims=dims, weights=weights, **options)
    return out.transpose(*[d for d in ("level", "rank") if d in out.dims], ...)


def mean(values):
    return math.fsum(values) / len(values)


# --- single forecasts ------------------------------------------------------------------------

DETERMINISTIC = {
    "rmse": (peer.continuous.rmse, lambda x, y: (mean(x) - y) ** 2, math.sqrt),
    "mse": (peer.continuous.mse, lambda x, y: (mean(x) - y) ** 2, float),
    "mae": (peer.continuous.mae, lambda x, y: abs(mean(x) - y), float),
    "bias": (peer.continuous.additive_bias, lambda x, y: mean(x) - y, float),
}


@pytest.mark.parametrize("kind", ["area", "cos"])
@pytest.mark.parametrize("name", ["t2m", "z", "tp"])
@pytest.mark.parametrize("metric", DETERMINISTIC)
def test_errors_of_the_mean_of_the_members(world, metric, name, kind):
    library, point, last = DETERMINISTIC[metric]
    weights = weights_of(world.grid, kind)
    loops = np.vectorize(last)(world.by_loops(point, name, weights))
    found = scored(world, metric, name, weights=kind)
    agree(found, by_peer(world, library, name, weights), loops)


@pytest.mark.parametrize("name", ["t2m", "z"])
def test_acc(world, name):
    normal, area = world.normal[name], world.area
    ours, theirs = world.central[name] - normal, world.beside[name] - normal
    dims = ["init_time", *MAP]
    top, *bottom = (
        (a * b).weighted(area).mean(dims) for a, b in ((ours, theirs), (ours,) * 2, (theirs,) * 2)
    )
    labels = (top / np.sqrt(bottom[0] * bottom[1])).transpose(..., "lead_time")
    points = (
        lambda x, y, c: (mean(x) - c) * (y - c),
        lambda x, y, c: (mean(x) - c) ** 2,
        lambda x, y, c: (y - c) ** 2,
    )
    loops = [world.by_loops(p, name, area, further=[normal]) for p in points]
    found = scored(world, "acc", name, climatology=world.climatology)
    agree(found, labels, loops[0] / np.sqrt(loops[1] * loops[2]))


@pytest.mark.parametrize("name", ["t2m", "z"])
def test_centred_acc(world, name):
    """By numpy's weighted covariances, and as the correlation that scores and loops know."""
    dims = ("level",) * (name == "z") + ("lead_time", "init_time", *MAP)
    normal = world.normal[name]
    pair = [(side[name] - normal).transpose(*dims).values for side in (world.central, world.beside)]
    area = world.area.broadcast_like(world.truth[name].isel(time=0, drop=True)).transpose(..., *MAP)
    area = area.values.reshape(-1, area.sizes["latitude"] * area.sizes["longitude"])[0]
    shape = pair[0].shape[: -len(MAP) - 1]
    covariances, loops = np.empty((*shape, 2, 2)), np.empty(shape)
    for at in np.ndindex(*shape):
        flat = [p[at].reshape(len(STARTS), -1) for p in pair]
        covariances[at] = np.mean(
            [np.cov(a, b, aweights=area, ddof=0) for a, b in zip(*flat, strict=True)], axis=0
        )
        sums = [[], [], []]
        for a, b in zip(*flat, strict=True):
            total = math.fsum(area)
            centre = [math.fsum(area * v) / total for v in (a, b)]
            for n, (u, v) in enumerate(((0, 1), (0, 0), (1, 1))):
                product = ((a, b)[u] - centre[u]) * ((a, b)[v] - centre[v])
                sums[n].append(math.fsum(area * product) / total)
        top, left, right = map(mean, sums)
        loops[at] = top / math.sqrt(left * right)
    c = covariances
    found = scored(world, ACC(centred=True), name, climatology=world.climatology)
    agree(found, c[..., 0, 1] / np.sqrt(c[..., 0, 0] * c[..., 1, 1]), loops)
    of_each = scored(world, "acc_centred", name, climatology=world.climatology, convention="wb1")
    np.testing.assert_allclose(of_each, centred(pair, area).mean(-1), rtol=1e-10)


def centred(pair, area):
    """Return the correlation of each start about its own area means."""
    a, b = (p.reshape(*p.shape[:-2], -1) for p in pair)
    a, b = (v - np.average(v, axis=-1, weights=area)[..., None] for v in (a, b))
    return (area * a * b).sum(-1) / np.sqrt((area * a**2).sum(-1) * (area * b**2).sum(-1))


@pytest.mark.parametrize("name", ["t2m", "z", "tp"])
def test_nrmse(world, name):
    squares = world.by_loops(lambda x, y: (mean(x) - y) ** 2, name, world.area)
    rmse = by_peer(world, peer.continuous.rmse, name, world.area)
    given = np.array(SCALE[name])[..., None]
    found = scored(world, NRMSE(SCALE), name)
    agree(found, rmse / given, np.sqrt(squares) / given)
    deviation = world.beside[name].weighted(world.area).std([*CASE, *MAP]).values[..., None]
    own = [
        world.by_loops(lambda x, y, n=n: y**n, name, world.area, kept=()) for n in (1, 2)
    ]  # about a mean that is large: fewer digits are left
    scale = np.sqrt(own[1] - own[0] ** 2)[..., None]
    agree(scored(world, "nrmse", name), rmse / deviation, np.sqrt(squares) / scale, rtol=1e-9)


def test_mnrmse(world):
    channels, loops = [], []
    for name in ("t2m", "z", "tp"):
        rmse = by_peer(world, peer.continuous.rmse, name, world.area)
        deviation = world.beside[name].weighted(world.area).std([*CASE, *MAP])
        channels.append(np.atleast_2d((rmse / deviation).values))
        squares = world.by_loops(lambda x, y: (mean(x) - y) ** 2, name, world.area)
        centre = world.by_loops(lambda x, y: y, name, world.area, kept=())
        flat = xr.DataArray(centre, dims=["level"][: centre.ndim])
        about = (world.beside[name].drop_vars("level", errors="ignore") - flat) ** 2
        variance = world.by_loops(lambda x, y, v: v, name, world.area, kept=(), further=[about])
        loops.append(np.atleast_2d(np.sqrt(squares / variance[..., None])))
    found = world.forecast.wx.verify(world.truth, "mnrmse")["mnrmse"].squeeze()
    assert found.dims == ("lead_time",)
    agree(found, *(np.concatenate(v).mean(0) for v in (channels, loops)))


# --- ensembles -------------------------------------------------------------------------------


def pairs(x):
    return math.fsum(abs(a - b) for a, b in itertools.product(x, x))


def crps(x, y, *, fair=True):
    """Return the CRPS by its double sum over members."""
    count = len(x) * (len(x) - 1) if fair else len(x) ** 2
    return mean([abs(a - y) for a in x]) - pairs(x) / (2 * count)


@pytest.mark.parametrize("name", ["t2m", "z", "tp"])
@pytest.mark.parametrize("fair", [True, False])
def test_crps(world, name, fair):
    members, truth = world.forecast[name], world.beside[name]
    last = members.transpose(..., "member")
    known = truth.transpose(*last.dims[:-1])
    library = by_peer(
        world, peer.probability.crps_for_ensemble, name, world.area,
        ensemble_member_dim="member", method="fair" if fair else "ecdf",
    )  # fmt: skip
    rules = scoringrules.crps_ensemble(
        known.values, last.values, estimator="fair" if fair else "nrg"
    )
    wide = known.copy(data=rules).weighted(world.area).mean(["init_time", *MAP])
    wide = wide.transpose(..., "lead_time")
    loops = world.by_loops(lambda x, y: crps(x, y, fair=fair), name, world.area)
    found = scored(world, CRPS(fair=fair), name)
    agree(found, library, wide, loops)
    if not fair:
        proper = known.copy(data=properscoring.crps_ensemble(known.values, last.values))
        proper = proper.weighted(world.area).mean(["init_time", *MAP]).transpose(..., "lead_time")
        agree(found, proper, loops)


@pytest.mark.parametrize("name", ["t2m", "z"])
def test_spread_skill_and_their_ratio(world, name):
    dims, count = ["init_time", *MAP], MEMBERS
    variance = world.forecast[name].var("member", ddof=1).weighted(world.area).mean(dims)
    variance = variance.transpose(..., "lead_time").values
    error = by_peer(world, peer.continuous.mse, name, world.area).values
    loops = [
        world.by_loops(point, name, world.area)
        for point in (
            lambda x, y: math.fsum((a - mean(x)) ** 2 for a in x) / (len(x) - 1),
            lambda x, y: (mean(x) - y) ** 2,
        )
    ]
    agree(scored(world, "spread", name), *map(np.sqrt, (variance, loops[0])))
    agree(scored(world, "skill", name), *map(np.sqrt, (error, loops[1])))
    ways = {
        "raw": lambda s2, e2: np.sqrt(s2 / e2),
        "adjusted": lambda s2, e2: np.sqrt((count + 1) / count * s2 / e2),
        "unbiased": lambda s2, e2: np.sqrt(s2 / (e2 - s2 / count)),
    }
    for estimator, formula in ways.items():
        found = scored(world, SSR(estimator), name)
        agree(found, formula(variance, error), formula(*loops))


@pytest.mark.parametrize(("name", "threshold"), [("t2m", "280.5 K"), ("t2m", "3 degC")])
def test_brier(world, name, threshold):
    limit = {"280.5 K": 280.5, "3 degC": 276.15}[threshold]
    library = by_peer(
        world, peer.probability.brier_score_for_ensemble, name, world.area,
        ensemble_member_dim="member", event_thresholds=limit, fair_correction=False,
        event_threshold_operator=operator.gt,
    )  # fmt: skip
    chance = (world.forecast[name] > limit).mean("member")
    event = (world.beside[name] > limit).transpose(*chance.dims)
    rules = chance.copy(data=scoringrules.brier_score(event.values.astype(float), chance.values))
    loops = world.by_loops(
        lambda x, y: (sum(a > limit for a in x) / len(x) - (y > limit)) ** 2, name, world.area
    )
    found = scored(world, Brier(threshold), name)
    rules = rules.weighted(world.area).mean(["init_time", *MAP])
    agree(found, library.squeeze(), rules, loops)


@pytest.mark.parametrize("tail", ["upper", "lower"])
def test_threshold_weighted_crps(world, tail):
    limit = 281.0
    library = by_peer(
        world, peer.probability.tail_tw_crps_for_ensemble, "t2m", world.area,
        ensemble_member_dim="member", threshold=limit, tail=tail, method="fair",
    )  # fmt: skip
    chain = {"upper": lambda v: np.maximum(v, limit), "lower": lambda v: np.minimum(v, limit)}[tail]
    members = world.forecast["t2m"].transpose(..., "member")
    known = world.beside["t2m"].transpose(*members.dims[:-1])
    rules = scoringrules.twcrps_ensemble(
        known.values, members.values, v_func=chain, estimator="fair"
    )
    rules = known.copy(data=rules).weighted(world.area).mean(["init_time", *MAP])
    clip = max if tail == "upper" else min
    loops = world.by_loops(
        lambda x, y: crps([clip(a, limit) for a in x], clip(y, limit)), "t2m", world.area
    )
    found = scored(world, ThresholdCRPS("281 K", tail), "t2m")
    agree(found, library, rules, loops)


@pytest.mark.parametrize("fair", [True, False])
def test_energy_score(world, fair):
    area = world.area.broadcast_like(world.truth["t2m"].isel(time=0, drop=True))
    share = (area / area.sum()).transpose(*MAP)
    root = np.sqrt(share)
    members = (world.forecast["z"] * root).transpose(
        "level", "lead_time", "init_time", "member", *MAP
    )
    known = (world.beside["z"] * root).transpose("level", "lead_time", "init_time", *MAP)
    flat = members.values.reshape(*members.shape[:4], -1)
    truth = known.values.reshape(*known.shape[:3], -1)
    rules = scoringrules.es_ensemble(truth, flat, estimator="fair" if fair else "nrg").mean(-1)
    distances = np.empty(truth.shape[:3])
    count = MEMBERS * (MEMBERS - 1) if fair else MEMBERS**2
    for at in np.ndindex(*distances.shape):
        from_truth = cdist(flat[at], truth[at][None]).mean()
        distances[at] = from_truth - pdist(flat[at]).sum() / count
    agree(scored(world, EnergyScore(fair), "z"), rules, distances.mean(-1))


@pytest.mark.parametrize("name", ["t2m", "z"])
def test_rank_histogram(world, name):
    library = by_peer(
        world, peer.probability.rank_histogram, name, world.area, ens_member_dim="member"
    )
    loops = np.stack(
        [
            world.by_loops(lambda x, y, k=k: sum(a < y for a in x) == k, name, world.area)
            for k in range(MEMBERS + 1)
        ],
        axis=int(name == "z"),
    )
    found = scored(world, "rank_histogram", name)
    np.testing.assert_array_equal(found["rank"], np.arange(MEMBERS + 1))
    np.testing.assert_allclose(found.sum("rank"), 1.0, rtol=1e-14)
    agree(found, library.transpose(..., "lead_time"), loops)


def test_a_truth_equal_to_members_shares_its_ranks(world):
    """In whole kelvins many are equal: each of the places between equal members gets its part."""
    forecast, truth = (ds[["t2m"]].map(np.round) for ds in (world.forecast, world.truth))
    found = forecast.wx.verify(truth, "rank_histogram")["t2m"].squeeze()
    members, known = (ds["t2m"] for ds in (forecast, world.beside[["t2m"]].map(np.round)))
    below, within = (members < known).sum("member"), (members <= known).sum("member")
    assert float((below < within).mean()) > 0.2
    for rank in range(MEMBERS + 1):
        here = xr.where((below <= rank) & (rank <= within), 1 / (within - below + 1), 0.0)
        want = here.weighted(world.area).mean(["init_time", *MAP])
        np.testing.assert_allclose(found.sel(rank=rank), want, rtol=1e-12)


# --- precipitation and extremes --------------------------------------------------------------


def test_seeps(world):
    """Three categories of the mean of the members; no amount lies on a threshold."""
    f, o = world.central["tp"], world.beside["tp"]
    p, heavy = world.rain["tp_seeps_dry_fraction"], world.rain["tp_seeps_threshold"]
    library = peer.categorical.seeps(
        f, o, p, heavy, dry_light_threshold=1e-4, reduce_dims=["init_time", *MAP],
        weights=world.area,
    )  # fmt: skip

    def penalty(x, y, p, heavy):
        if not 0.1 <= p <= 0.85:
            return 0.0
        matrix = [
            [0, 1 / (1 - p), 4 / (1 - p)],
            [1 / p, 0, 3 / (1 - p)],
            [1 / p + 3 / (2 + p), 3 / (2 + p), 0],
        ]
        row, column = (int(v > 1e-4) + int(v > heavy) for v in (mean(x), y))
        return 0.5 * matrix[row][column]

    total = world.by_loops(penalty, "tp", world.area, further=[p, heavy])
    counted = world.by_loops(lambda x, y, p: float(0.1 <= p <= 0.85), "tp", world.area, further=[p])
    assert np.all((counted > 0.5) & (counted < 1))
    found = scored(world, SEEPS("0.1 mm"), "tp", climatology=world.seeps)
    agree(found, library, total / counted)
    whole = world.seeps.assign(
        tp_seeps_threshold=(world.seeps.tp_seeps_threshold * 1000).assign_attrs(units="mm")
    )
    again = scored(world, "seeps", "tp", climatology=whole)
    np.testing.assert_allclose(again, found, rtol=1e-12)


def efi_by_quadrature(members, quantiles, levels):
    """Integrate the definition of the extreme forecast index.

    With p = sin(a)**2, dp / sqrt(p (1 - p)) = 2 da, so that the index is
    4 / pi times the integral of sin(a)**2 - F over a from 0 to pi / 2. F, the fraction of members
    below the quantile, is that of the nearest level.
    """
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    nodes, weights = np.polynomial.legendre.leggauss(24)
    total = 0.0
    for n in range(levels.size):
        low, high = np.arcsin(np.sqrt(edges[n : n + 2]))
        angle = low + (nodes + 1) * (high - low) / 2
        fraction = (members < quantiles[n]).mean(axis=0)
        integrand = np.sin(angle)[:, None] ** 2 - fraction
        total = total + (weights[:, None] * integrand).sum(0) * (high - low) / 2
    return 4 / np.pi * total


def efi_of(members, quantiles):
    """Integrate by parts: 1 less twice the arc of the levels that members lie below."""
    edges = [(a + b) / 2 for a, b in itertools.pairwise(QUANTILES)]
    arcs = [0.0, *(2 / math.pi * math.asin(math.sqrt(b)) for b in edges), 1.0]
    return 1 - 2 * mean(
        [1 - arcs[sum(1 for q in quantiles if q <= a)] if a >= quantiles[0] else 1 for a in members]
    )


def test_eecrps(world):
    members = world.forecast["t2m"].transpose("member", ...)
    known = world.beside["t2m"].transpose(*members.dims[1:])
    ranks = world.rank["t2m"].transpose("quantile", *members.dims[1:])
    index = efi_by_quadrature(
        members.values.reshape(MEMBERS, -1), ranks.values.reshape(QUANTILES.size, -1), QUANTILES
    )
    assert index.min() < -0.3
    assert index.max() > 0.3
    each = peer.probability.crps_for_ensemble(
        members, known, "member", method="fair", preserve_dims="all"
    ).transpose(*known.dims)
    product = each * np.abs(index.reshape(known.shape))
    library = product.weighted(world.area).mean(["init_time", *MAP])
    loops = world.by_loops(
        lambda x, y, q: abs(efi_of(x, q.tolist())) * crps(x, y),
        "t2m",
        world.area,
        further=[ranks],
    )
    found = scored(world, "eecrps", "t2m", climatology=world.quantiles)
    agree(found, library, loops)


# --- parts of the globe, maps ----------------------------------------------------------------


@pytest.mark.parametrize("metric", ["rmse", "crps"])
def test_regions(world, metric):
    """A cell that a parallel cuts weighs the part of its area that is inside."""
    lat = GRIDS[world.grid][0]
    half = abs(lat[1] - lat[0]) / 2
    south, north = np.maximum(lat - half, -90.0), np.minimum(lat + half, 90.0)

    def between(low, high):
        edges = np.clip([south, north], low, high)
        return np.diff(np.sin(np.deg2rad(edges)), axis=0)[0]

    rows = {
        "tropics": between(-20, 20),
        "extratropics": between(-90, -20) + between(20, 90),
    }
    library = {
        "rmse": (peer.continuous.rmse, {}),
        "crps": (
            peer.probability.crps_for_ensemble,
            {"ensemble_member_dim": "member", "method": "fair"},
        ),
    }[metric]
    point = {"rmse": lambda x, y: (mean(x) - y) ** 2, "crps": crps}[metric]
    last = {"rmse": np.sqrt, "crps": np.asarray}[metric]
    references = [[], []]
    for row in rows.values():
        weights = world.area.copy(data=row)
        references[0].append(by_peer(world, library[0], "t2m", weights, **library[1]).values)
        references[1].append(last(world.by_loops(point, "t2m", weights)))
    found = scored(world, metric, "t2m", regions=list(rows))
    assert list(found["region"].values) == list(rows)
    agree(found, *map(np.array, references))


@pytest.mark.parametrize("metric", ["rmse", "crps", "ssr_raw"])
def test_maps(world, metric):
    members, known = world.forecast["t2m"], world.beside["t2m"]
    each = np.ones_like(world.area)
    equal = world.area.copy(data=each)
    kept = ("lead_time", *MAP)
    square = lambda x, y: (mean(x) - y) ** 2  # noqa: E731
    variance = lambda x, y: np.var(x, ddof=1)  # noqa: E731
    if metric == "rmse":
        library = peer.continuous.rmse(world.central["t2m"], known, reduce_dims="init_time")
        loops = np.sqrt(world.by_loops(square, "t2m", equal, kept=kept))
    elif metric == "crps":
        library = peer.probability.crps_for_ensemble(
            members, known, "member", method="fair", reduce_dims=["init_time"]
        )
        loops = world.by_loops(crps, "t2m", equal, kept=kept)
    else:
        error = ((world.central["t2m"] - known) ** 2).mean("init_time")
        library = np.sqrt(members.var("member", ddof=1).mean("init_time") / error)
        parts = [world.by_loops(f, "t2m", equal, kept=kept) for f in (variance, square)]
        loops = np.sqrt(parts[0] / parts[1])
    found = scored(world, metric, "t2m", dim="init_time").transpose(*kept)
    np.testing.assert_array_equal(found["latitude"], world.forecast["latitude"])
    agree(found, library.transpose(*kept), loops)


# --- identities ------------------------------------------------------------------------------


def one(world, name="t2m"):
    """Return the first member and the truth of its own valid times, as two forecasts."""
    first = world.forecast[[name]].isel(member=0, drop=True)
    exact = world.beside[[name]].transpose(*first[name].dims)
    exact[name].attrs = first[name].attrs
    return first, exact


@pytest.mark.parametrize("kind", ["area", "cos"])
@pytest.mark.parametrize("offset", [-2.5, 0.375, 1e3])
@pytest.mark.parametrize("regions", [None, ["global", "tropics", "europe", "arctic"]])
def test_rmse_of_a_constant_offset_is_its_size(world, kind, offset, regions):
    exact = one(world)[1].map(np.round)  # so that the sum is exact
    out = (exact + offset).wx.verify(
        world.truth[["t2m"]].map(np.round), ("rmse", "mae", "bias"), weights=kind, regions=regions
    )["t2m"]
    for metric, want in (("rmse", abs(offset)), ("mae", abs(offset)), ("bias", offset)):
        np.testing.assert_allclose(out.sel(metric=metric), want, rtol=1e-13)


@pytest.mark.parametrize("metric", ["acc", "acc_centred"])
def test_acc_of_equal_opposite_and_scaled_anomalies(world, metric):
    options = {"climatology": world.climatology, "regions": ["global", "tropics"]}
    first, exact = one(world)
    normal = world.normal[["t2m"]].transpose(*first["t2m"].dims)

    def of(fields):
        fields["t2m"].attrs = first["t2m"].attrs
        return fields.wx.verify(world.truth, metric, **options)["t2m"]

    np.testing.assert_allclose(of(exact), 1.0, rtol=1e-12)
    np.testing.assert_allclose(of(2 * normal - exact), -1.0, rtol=1e-12)
    plain = of(first)
    assert np.all(np.abs(plain) < 0.999)
    for factor in (0.25, 3.0):
        np.testing.assert_allclose(of(normal + factor * (first - normal)), plain, rtol=1e-12)
    np.testing.assert_allclose(of(normal - (first - normal)), -plain, rtol=1e-12)


def test_nrmse_times_the_scale_is_the_rmse_of_each_channel(world):
    out = world.forecast.wx.verify(world.truth, ("rmse", NRMSE(SCALE)))
    for name, scale in SCALE.items():
        given = xr.DataArray(scale, dims="level" if name == "z" else ())
        product = out[name].sel(metric="nrmse") * given
        xr.testing.assert_allclose(
            product.drop_vars("metric"),
            out[name].sel(metric="rmse").drop_vars("metric").transpose(*product.dims),
            rtol=1e-12,
        )
    assert out["z"].attrs["metric_units"] == "rmse: m2 s-2; nrmse: 1"


def test_the_mean_of_the_rmse_of_each_start_is_less_unless_all_are_equal(world):
    first, exact = one(world)
    first = exact + (first - exact) * xr.DataArray([1.0, 1.2, 0.7], dims="init_time")
    first["t2m"].attrs = exact["t2m"].attrs
    whole, each = (
        first.wx.verify(world.truth, "rmse", convention=c)["t2m"] for c in ("wb2", "wb1")
    )
    assert np.all(each < whole * (1 - 1e-2))
    singles = [first.isel(init_time=[n]).wx.verify(world.truth, "rmse")["t2m"] for n in range(3)]
    np.testing.assert_allclose(each, np.mean(singles, axis=0), rtol=1e-13)
    alike = exact + (first - exact).isel(init_time=0, drop=True)
    alike["t2m"].attrs = first["t2m"].attrs
    whole, each = (
        alike.wx.verify(world.truth, "rmse", convention=c)["t2m"] for c in ("wb2", "wb1")
    )
    np.testing.assert_allclose(each, whole, rtol=1e-12)


def test_scores_come_in_the_units_of_the_forecast(world):
    """Geopotential is g times height; differences of temperature are in K, whatever the scale."""
    metrics = ("rmse", "mae", "bias", "crps", "spread")
    plain = world.forecast.wx.verify(world.truth, metrics)
    heights = world.forecast[["z"]] / G
    heights["z"].attrs = {"units": "m", "standard_name": "geopotential_height"}
    high = heights.wx.verify(world.truth, metrics)
    np.testing.assert_allclose(plain["z"], G * high["z"], rtol=1e-12)
    assert (plain["z"].attrs["units"], high["z"].attrs["units"]) == ("m2 s-2", "m")
    both = heights.wx.verify(heights_of(world.truth), metrics)
    np.testing.assert_allclose(both["z"], high["z"], rtol=1e-12)
    for units, scale, zero in (("degC", 1.0, -273.15), ("degF", 1.8, -459.67)):
        warm = scale * world.forecast[["t2m"]] + zero
        warm["t2m"].attrs = {"units": units}
        out = warm.wx.verify(world.truth, metrics)["t2m"]
        assert out.attrs["units"] == "K"
        np.testing.assert_allclose(out, plain["t2m"], rtol=1e-12, atol=1e-12)
        squared = warm.wx.verify(world.truth, ("mse",))["t2m"]
        assert squared.attrs["units"] == "K2"
        np.testing.assert_allclose(squared[0], plain["t2m"].sel(metric="rmse") ** 2, rtol=1e-12)


def heights_of(ds):
    out = ds[["z"]] / G
    out["z"].attrs = {"units": "m", "standard_name": "geopotential_height"}
    return out


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_crps_of_any_number_of_members_is_its_double_sum(world, count):
    few = world.forecast[["t2m"]].isel(member=slice(count))
    out = few.wx.verify(world.truth, ("crps", "crps_ecdf"))["t2m"]
    x, y = few["t2m"], world.beside["t2m"]
    apart = abs(x - x.rename(member="other")).sum(["member", "other"])
    for metric, pairs_of in (("crps", count * (count - 1)), ("crps_ecdf", count**2)):
        point = abs(x - y).mean("member") - apart / (2 * pairs_of)
        want = point.weighted(world.area).mean(["init_time", *MAP])
        np.testing.assert_allclose(out.sel(metric=metric), want, rtol=1e-12)


def test_crps_without_spread_is_the_mean_absolute_error(world):
    single = world.forecast[["t2m"]].isel(member=[2])
    error = single.isel(member=0).wx.verify(world.truth, "mae")["t2m"]
    for metric in ("crps", "spread", "ssr", "energy_score", ThresholdCRPS("280 K")):
        with pytest.raises(ValueError, match=r"needs? an ensemble of at least 2 members"):
            single.wx.verify(world.truth, metric)
        with pytest.raises(ValueError, match="has no dimension of members"):
            single.isel(member=0).wx.verify(world.truth, metric)
    for alone in (single, single.isel(member=0)):
        found = alone.wx.verify(world.truth, "crps_ecdf")["t2m"]
        np.testing.assert_allclose(found, error, rtol=1e-13)
    alike = single.isel(member=[0, 0, 0, 0]).assign_coords(member=range(4))
    out = alike.wx.verify(world.truth, ("crps", "crps_ecdf", "mae"))["t2m"]
    np.testing.assert_allclose(out, np.broadcast_to(error, out.shape), rtol=1e-12)


@pytest.mark.parametrize("count", [2, 10, 50])
def test_spread_of_an_exchangeable_ensemble_matches_its_skill(count):
    """Members and truth are drawn alike: 20 000 points, a fixed seed."""
    draws = np.random.default_rng(20).normal(size=(count + 1, 100, 200))
    lat, lon = np.linspace(-89.1, 89.1, 100), np.arange(200) * 1.8
    coords = {
        "time": STARTS[:1],
        "latitude": ("latitude", lat, {"units": "degrees_north"}),
        "longitude": ("longitude", lon, {"units": "degrees_east"}),
    }
    attrs = {"units": "K"}
    truth = xr.Dataset({"t2m": (("time", *MAP), draws[:1], attrs)}, coords)
    members = xr.Dataset({"t2m": (("time", "member", *MAP), draws[None, 1:], attrs)}, coords)
    metrics = ("ssr", "ssr_raw", "ssr_unbiased", "crps")
    out = members.wx.verify(truth, metrics)["t2m"].squeeze()
    raw = {2: 0.8165, 10: 0.953, 50: 0.990}[count]
    assert out.sel(metric="ssr") == pytest.approx(1.0, abs=0.02)
    assert out.sel(metric="ssr_raw") == pytest.approx(raw, abs=0.02)
    # takes the noise of both off, which costs precision where members are few
    assert out.sel(metric="ssr_unbiased") == pytest.approx(1.0, abs=0.04)
    # the fair score does not depend on the number of members: 1 / sqrt(pi) for a normal truth
    assert out.sel(metric="crps") == pytest.approx(1 / math.sqrt(math.pi), rel=0.02)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_seeps_of_constant_forecasts_is_one_and_of_perfect_ones_zero(p):
    """The truth is dry, light and heavy as often as the climatology says, at every point."""
    count = 30
    dry, heavy = round(p * count), round((1 - p) / 3 * count)
    amounts = np.array([0.0] * dry + [0.004] * heavy + [0.001] * (count - dry - heavy))
    assert amounts.size == count
    when = STARTS[0] + np.arange(count) * 24 * HOUR
    shift = (np.arange(12)[:, None] * 7 + np.arange(24)) % count
    values = amounts[(np.arange(count)[:, None, None] + shift) % count]
    coords = {k: v for k, v in coordinates("centred").items() if k != "level"}
    truth = xr.Dataset({"tp": (("time", *MAP), values, {"units": "m"})}, {"time": when} | coords)
    flat = xr.ones_like(truth["tp"].isel(time=0, drop=True))
    climatology = xr.Dataset(
        {
            "tp_seeps_dry_fraction": (p * flat).assign_attrs(units="1"),
            "tp_seeps_threshold": (0.002 * flat).assign_attrs(units="m"),
        }
    )
    for amount in (0.0, 0.001, 0.004):
        same = xr.full_like(truth, amount)
        found = same.wx.verify(truth, "seeps", climatology=climatology)["tp"]
        np.testing.assert_allclose(found, 1.0, rtol=1e-12)
    assert float(truth.wx.verify(truth, "seeps", climatology=climatology)["tp"].squeeze()) == 0.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_eecrps_beyond_the_climate_is_the_crps(world, sign):
    beyond = world.quantiles.copy()
    beyond["t2m"] = (beyond["t2m"] - sign * 1e3).assign_attrs(units="K")
    forecast = world.forecast[["t2m"]]
    found = forecast.wx.verify(world.truth, "eecrps", climatology=beyond)["t2m"]
    want = forecast.wx.verify(world.truth, "crps")["t2m"]
    np.testing.assert_allclose(found.values, want.values, rtol=1e-12)
    usual = forecast.wx.verify(world.truth, "eecrps", climatology=world.quantiles)["t2m"]
    assert np.all(usual.values < 0.9 * want.values)
