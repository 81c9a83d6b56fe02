"""Statistics of ensembles against their definitions, in float64 and for every layout."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import subprocess
import sys
import textwrap
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xwx.metrics.arrays.ensemble import STATISTICS, summarise
from xwx.metrics.arrays.sorting import network, sort_columns

SIZES = (1, 2, 3, 5, 8, 10, 50, 51, 129)
CRPS = ("absolute", "difference")


def fields(count, points, dtype=np.float64, ties=False):
    """Return members and truth by formula: about 50 000 with a spread of a few hundred."""
    m, p = np.ogrid[:count, :points]
    members = 5e4 + 300 * np.sin(1.7 * m * m + 0.3 * p) + 20 * np.cos(0.11 * p * m)
    truth = 5e4 + 250 * np.sin(0.3 * p[0] + 0.5)
    if ties:
        members, truth = np.round(members, -2), np.round(truth, -2)
    return members.astype(dtype), truth.astype(dtype)


def by_definition(members, truth):
    """Return every statistic from the double sum over members."""
    x, y = members.astype(np.float64), truth.astype(np.float64)
    count = len(x)
    pairs = np.zeros(y.shape)
    for one in x:
        for other in x:
            pairs += abs(one - other)
    none = np.full(y.shape, np.nan)
    return {
        "mean": x.mean(axis=0),
        "variance": x.var(axis=0, ddof=1) if count > 1 else none,
        "absolute": abs(x - y).mean(axis=0),
        "difference": pairs / (count * (count - 1)) if count > 1 else none,
        "below": (x < y).sum(axis=0),
        "equal": (x == y).sum(axis=0),
    }


def crps(members, truth, fair=True):
    count = len(members)
    parts = summarise(members, truth, CRPS)
    return parts["absolute"] - parts["difference"] / 2 * (1 if fair else (count - 1) / count)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("points", [1, 7, 64, 65, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", [False, True])
def test_against_the_double_sum(count, points, dtype, ties):
    """To 1e-12 even for float32, whose differences are taken in float64; ranks exactly."""
    members, truth = fields(count, points, dtype, ties)
    before = members.copy()
    expected = by_definition(members, truth)
    found = summarise(members, truth, STATISTICS)
    np.testing.assert_array_equal(members, before)
    assert list(found) == list(STATISTICS)
    for name, values in found.items():
        assert values.dtype == np.float64
        assert values.shape == (points,)
        rtol = 0 if name in ("below", "equal") else 1e-12
        np.testing.assert_allclose(values, expected[name], rtol=rtol, err_msg=name)
    if ties and count > 9 and points > 9:
        assert found["equal"].any(), "the ties are not tested"


@pytest.mark.parametrize("count", [255, 256, 257, 300])
def test_where_sorting_changes_hands(count):
    members, truth = fields(count, 70)
    expected = by_definition(members, truth)
    found = summarise(members, truth, STATISTICS)
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("points", [4095, 4096, 4097, 9000])
@pytest.mark.parametrize("count", [2, 16])
def test_where_blocks_meet(count, points):
    members, truth = fields(count, points)
    expected = by_definition(members, truth)
    found = summarise(members, truth, STATISTICS)
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("names", [[], ["mean"], ["variance"], ["equal"], *map(list, [CRPS])])
def test_only_what_is_wanted(names):
    members, truth = fields(5, 20)
    whole = summarise(members, truth, STATISTICS)
    found = summarise(members, truth, names)
    assert set(found) == set(names)
    for name in names:
        np.testing.assert_array_equal(found[name], whole[name])


@pytest.mark.parametrize("scale", [1e-8, 1e-3])
def test_small_spread_on_a_large_value(scale):
    """Against exact arithmetic: neither the variance nor the difference loses digits."""
    column = [1e8 + scale * n * n for n in range(7)]
    exact = [Fraction(value) for value in column]
    found = summarise(np.array(column)[:, None], np.array([0.0]), STATISTICS)
    pairs = [abs(a - b) for a, b in itertools.permutations(exact, 2)]
    variance = float(statistics.variance(exact))
    assert found["difference"][0] == pytest.approx(float(sum(pairs) / 42), rel=1e-14, abs=0)
    assert found["variance"][0] == pytest.approx(variance, rel=1e-13, abs=1e-16)
    assert found["mean"][0] == pytest.approx(float(sum(exact) / 7), rel=1e-15, abs=0)


@pytest.mark.parametrize("count", [2, 3, 50, 51])
def test_identical_members_score_their_absolute_error(count):
    one, truth = fields(1, 65, np.float32)
    found = summarise(np.repeat(one, count, axis=0), truth, STATISTICS)
    error = abs(one[0].astype(float) - truth)
    np.testing.assert_allclose(found["absolute"], error, rtol=1e-15)
    np.testing.assert_array_equal(found["difference"], 0)
    np.testing.assert_array_equal(found["variance"], 0)
    np.testing.assert_array_equal(found["mean"], one[0])


@pytest.mark.parametrize("fair", [True, False])
@pytest.mark.parametrize("count", [2, 10, 51])
def test_against_scores(count, fair):
    scores = pytest.importorskip("scores.probability")
    members, truth = fields(count, 65)
    theirs = scores.crps_for_ensemble(
        xr.DataArray(members, dims=("member", "point")),
        xr.DataArray(truth, dims="point"),
        "member",
        method="fair" if fair else "ecdf",
        preserve_dims=["point"],
    )
    np.testing.assert_allclose(crps(members, truth, fair), theirs, rtol=1e-10)


@pytest.mark.parametrize("fair", [True, False])
@pytest.mark.parametrize("count", [2, 10, 51])
def test_against_scoringrules(count, fair):
    scoringrules = pytest.importorskip("scoringrules")
    members, truth = fields(count, 65)
    estimator = "fair" if fair else "nrg"
    theirs = scoringrules.crps_ensemble(
        truth, members, m_axis=0, estimator=estimator, backend="numpy"
    )
    np.testing.assert_allclose(crps(members, truth, fair), theirs, rtol=1e-10)


@pytest.mark.parametrize("count", [1, 2, 10, 51])
def test_against_properscoring(count):
    properscoring = pytest.importorskip("properscoring")
    members, truth = fields(count, 65)
    theirs = properscoring.crps_ensemble(truth, members, axis=0)
    ours = crps(members, truth, fair=False)
    if count == 1:
        ours = summarise(members, truth, ["absolute"])["absolute"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def gaussian_crps(mean, deviation, truth):
    """Return the CRPS of a normal distribution (Gneiting et al., 2005)."""
    z = (truth - mean) / deviation
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return deviation * (z * math.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


@pytest.mark.parametrize("count", [2, 10])
def test_the_fair_score_has_no_bias(count):
    """On average over samples it is the score of the distribution; the other one is above it."""
    draws = 200_000
    exact = gaussian_crps(0.3, 1.7, 1.1)
    assert exact == pytest.approx(0.5447600, abs=1e-7)
    members = np.random.default_rng(7).normal(0.3, 1.7, (count, draws))
    truth = np.full(draws, 1.1)
    for fair, expected in ((True, exact), (False, exact + 1.7 / math.sqrt(math.pi) / count)):
        found = crps(members, truth, fair)
        error = found.std() / math.sqrt(draws)
        assert error < 0.005
        assert abs(found.mean() - expected) < 4 * error
    if count == 10:
        assert found.mean() == pytest.approx(0.640, abs=0.005)


@pytest.mark.parametrize("count", [3, 10, 51, 300])
def test_the_order_of_members_does_not_count(count):
    members, truth = fields(count, 130)
    order = np.random.default_rng(3).permutation(count)
    found, other = (summarise(x, truth, STATISTICS) for x in (members, members[order]))
    for name in ("difference", "below", "equal"):
        np.testing.assert_array_equal(found[name], other[name])
    for name in ("mean", "variance", "absolute"):
        np.testing.assert_allclose(found[name], other[name], rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 5, 50, 257])
def test_nan_stays_at_its_point_and_in_every_statistic(count, dtype):
    members, truth = fields(count, count + 2, dtype)
    expected = summarise(members, truth, STATISTICS)
    members[np.arange(count), np.arange(count)] = np.nan  # each member in turn
    truth[count] = np.nan
    found = summarise(members, truth, STATISTICS)
    for name in STATISTICS:
        assert np.isnan(found[name][: count + 1]).all(), name
        np.testing.assert_array_equal(found[name][-1], expected[name][-1])


@pytest.mark.parametrize("count", [2, 3, 50, 51])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_gives_no_finite_number(count, value):
    """Neither in one member, nor in all, nor in the truth; ranks are counted."""
    members, truth = fields(count, 4)
    members[count // 2, 0] = value
    members[:, 1] = value
    truth[1:3] = value
    found = summarise(members, truth, STATISTICS)
    for name in ("mean", "variance", "difference"):
        assert not np.isfinite(found[name][:2]).any(), name
        assert np.isfinite(found[name][2:]).all(), name
    assert not np.isfinite(found["absolute"][:3]).any()
    assert np.isfinite(found["absolute"][3])
    assert found["mean"][0] == value
    assert found["absolute"][2] == np.inf
    assert found["equal"][1] == count
    assert found["below"][2] == (count if value > 0 else 0)


def test_one_member_has_no_spread():
    members, truth = fields(1, 5)
    found = summarise(members, truth, STATISTICS)
    assert np.isnan(found["variance"]).all()
    assert np.isnan(found["difference"]).all()
    np.testing.assert_array_equal(found["mean"], members[0])
    np.testing.assert_array_equal(found["absolute"], abs(members[0] - truth))


def test_no_points():
    found = summarise(np.empty((3, 0)), np.empty(0), STATISTICS)
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(STATISTICS, (0,))


@settings(deadline=None, max_examples=60)
@given(
    order=st.permutations(range(4)),
    steps=st.tuples(*[st.sampled_from([1, -1, 2, -2])] * 3),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", ">f8", "f2", "i2", "i4", "u1"]),
    frozen=st.booleans(),
)
def test_any_layout_gives_the_same_bits(order, steps, dtype, frozen):
    """One lead of an array with axes in any order, strided, reversed, foreign or read-only."""
    shape = (6, 3, 10, 14)  # member, lead, latitude, longitude
    values = np.random.default_rng(5).integers(0, 200, shape).astype(dtype)
    stored = np.ascontiguousarray(values.transpose(order))
    stored.flags.writeable = not frozen
    view = stored.transpose(np.argsort(order))[:, 1]
    view = view[tuple(slice(None, None, step) for step in steps)]
    plain = values[:, 1][tuple(slice(None, None, step) for step in steps)].astype("f8")
    truth = plain[0] * 0 + 77
    flat = view.reshape(len(view), -1)
    found = summarise(flat, truth.astype(dtype).reshape(-1), STATISTICS)
    expected = by_definition(plain.reshape(len(plain), -1), truth.reshape(-1))
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=name)
    strided = summarise(view[:, 0], truth[0].astype(dtype), STATISTICS)
    for name in STATISTICS:
        np.testing.assert_array_equal(strided[name], found[name][: truth.shape[1]], err_msg=name)


def test_truth_is_not_rounded_to_the_type_of_the_members():
    """Half a unit in the last place of float32 is a difference, not a tie."""
    members = np.ones((2, 1), np.float32)
    found = summarise(members, np.array([1 + 1e-9]), STATISTICS)
    assert (found["below"], found["equal"]) == (2, 0)
    assert found["absolute"][0] == pytest.approx(1e-9, rel=1e-6)


def test_memory_is_that_of_the_results():
    """A strided view of many members is never copied as a whole."""
    members = np.zeros((50, 2, 40_000), np.float32)[:, 1]
    truth = np.zeros(40_000)
    summarise(members[:, :9], truth[:9], STATISTICS)
    tracemalloc.start()
    try:
        summarise(members, truth, CRPS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < members.nbytes / 4


def test_threads_do_not_meet():
    cases = [fields(10 + n % 5, 3000 + n) for n in range(16)]
    alone = [summarise(*case, STATISTICS) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: summarise(*case, STATISTICS), cases))
    for one, other in zip(alone, together, strict=True):
        for name in STATISTICS:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(
    ("members", "truth", "wanted", "message"),
    [
        (np.ones((3, 4)), np.ones(4), ["crps"], r"wanted: \['crps'\] not known; choose from mean"),
        (np.ones((3, 4)), np.ones(3), CRPS, r"\(3, 4\) and truth of shape \(3,\)"),
        (np.ones(4), np.ones(4), CRPS, "give .M, P. with at least one member"),
        (np.ones((0, 4)), np.ones(4), CRPS, "at least one member"),
        (np.ones((2, 2), complex), np.ones(2), CRPS, "complex128: give real numbers"),
    ],
)
def test_refused(members, truth, wanted, message):
    with pytest.raises(ValueError, match=message):
        summarise(members, truth, wanted)


@pytest.mark.parametrize("rows", range(1, 13))
def test_network_sorts_every_column_of_zeros_and_ones(rows):
    """Then it sorts everything (Knuth's zero-one principle)."""
    columns = (np.arange(2**rows) >> np.arange(rows)[:, None] & 1).astype(np.float32)
    for lower, upper in network(rows):
        assert lower < upper
        pair = columns[[lower, upper]]
        columns[lower], columns[upper] = pair.min(axis=0), pair.max(axis=0)
    assert (np.diff(columns, axis=0) >= 0).all()


@pytest.mark.parametrize(("rows", "comparators"), [(1, 0), (2, 1), (4, 5), (8, 19), (16, 63)])
def test_network_has_the_size_of_batchers(rows, comparators):
    assert network(rows).shape == (comparators, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sort_columns(dtype):
    draw = np.random.default_rng(11)
    for rows in (*range(1, 70), 127, 128, 129, 256, 257):
        block = draw.integers(-40, 40, (rows, 33)).astype(dtype)
        expected = np.sort(block, axis=0)
        sort_columns(block)
        np.testing.assert_array_equal(block, expected)


@pytest.mark.parametrize("rows", [2, 5, 50, 257])
def test_sorting_neither_loses_a_nan_nor_doubles_one(rows):
    block = np.random.default_rng(13).permuted(
        np.repeat(np.arange(rows, dtype=np.float64)[:, None], 40, axis=1), axis=0
    )
    block[block == rows // 2] = np.nan
    expected = np.sort(block, axis=0)
    sort_columns(block)
    np.testing.assert_array_equal(np.sort(block, axis=0), expected)


SMALL = """
    import warnings
    warnings.simplefilter("error")
    import numba, numpy as np
    FIRST
    from xwx.metrics.arrays.ensemble import STATISTICS, summarise
    members = np.array([[3.0, 1.0, np.inf, np.nan], [1.0, 1.0, 0.0, 0.0], [8.0, 1.0, 0.0, 0.0]])
    found = summarise(members, np.array([3.0, 2.0, 0.0, 0.0]), STATISTICS)
    assert [found[name][0] for name in STATISTICS] == [4.0, 13.0, 7 / 3, 14 / 3, 1.0, 1.0]
    assert [found[name][1] for name in STATISTICS] == [1.0, 0.0, 1.0, 0.0, 3.0, 0.0]
    assert found["absolute"][2] == found["difference"][2] == np.inf
    assert all(np.isnan(values[3]) for values in found.values())
    assert np.isnan(summarise(members[:1], members[1], ["difference"])["difference"]).all()
"""


def in_a_process(first, **environment):
    """Run the small case in a process of its own, after some first lines."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SMALL).replace("FIRST", first)],
        env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_without_compiler():
    in_a_process("assert numba.config.DISABLE_JIT", NUMBA_DISABLE_JIT="1")


def test_where_no_cache_can_be_written():
    """Numba then refuses to compile with a cache; without one it compiles."""
    first = """
njit = numba.njit
def only_without_cache(*args, cache=False, **options):
    if cache:
        raise RuntimeError("cannot cache function: no locator available")
    return njit(*args, **options)
numba.njit = only_without_cache
"""
    in_a_process(first)


def test_with_a_cold_cache(tmp_path):
    in_a_process("", NUMBA_CACHE_DIR=str(tmp_path))
    assert list(tmp_path.rglob("*.nbc")), "nothing was kept for the next process"
    in_a_process("", NUMBA_CACHE_DIR=str(tmp_path))
