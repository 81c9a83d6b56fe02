"""The energy score against its definition, also where inner products would cancel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xwx.metrics.arrays import energy
from xwx.metrics.arrays.energy import energy_score


def fields(count, points):
    """Return members, truth and weights by formula."""
    m, p = np.ogrid[:count, :points]
    members = 280 + 3 * np.sin(1.7 * m * m + 0.3 * p) + np.cos(0.11 * p * m)
    return members, 280 + 2 * np.sin(0.3 * p[0] + 0.5), 0.2 + np.cos(0.01 * p[0]) ** 2


def distance(a, b, weights):
    """Return the weighted root mean square of a difference, in exact sums."""
    apart = a.astype(np.float64) - b.astype(np.float64)
    return math.sqrt(math.fsum(weights * apart * apart) / math.fsum(weights))


def by_definition(members, truth, weights, fair=True):
    """Return the score, the mean distance from the truth, and that of distinct members."""
    count = len(members)
    absolute = math.fsum(distance(x, truth, weights) for x in members) / count
    total = math.fsum(distance(x, z, weights) for x in members for z in members)
    pairs = count * (count - 1) if fair else count**2
    return absolute - total / (2 * pairs), absolute, total / (count * (count - 1))


@pytest.mark.parametrize("fair", [True, False])
@pytest.mark.parametrize("points", [1, 7, 1000])
@pytest.mark.parametrize("count", [2, 3, 10, 21])
def test_against_the_double_loop(count, points, fair):
    case = fields(count, points)
    np.testing.assert_allclose(
        energy_score(*case, fair=fair), by_definition(*case, fair), rtol=1e-12
    )


def test_where_parts_meet():
    case = fields(3, 2 * energy._POINTS + 5)
    np.testing.assert_allclose(energy_score(*case), by_definition(*case), rtol=1e-12)


@pytest.mark.parametrize("spread", [1e-2, 1e-5, 1e-8, 1e-11])
@pytest.mark.parametrize("apart", ["all alike", "one outlier", "two groups"])
def test_members_nearly_identical(spread, apart):
    """Ten digits of distances that are tiny beside the error, the values or other distances."""
    count, points = 8, 300
    members, truth, weights = fields(count, points)
    members = members[:1] + spread * members
    truth = truth + 50
    if apart == "one outlier":
        members[3] += 40
    elif apart == "two groups":
        members[::2] += 40
    found = energy_score(members, truth, weights)
    np.testing.assert_allclose(found, by_definition(members, truth, weights), rtol=1e-10)
    # The tiny distances alone: those within a group.
    squares = energy._between(members, weights / weights.sum())
    expected = distance(members[0], members[4], weights)
    assert math.sqrt(squares[0, 4]) == pytest.approx(expected, rel=1e-10, abs=0)
    assert squares[0, 4] == squares[4, 0]
    assert (np.diagonal(squares) == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_close_members_of_a_short_type(dtype):
    """Their differences are taken, and squared, in float64."""
    members, truth, weights = fields(5, 300)
    members = members[:1] - 200 + np.arange(5)[:, None] * 0.05
    members[2] += 120
    case = members.astype(dtype), (truth - 200).astype(dtype), weights
    np.testing.assert_allclose(energy_score(*case), by_definition(*case), rtol=1e-12)


def test_inner_products_are_taken_about_the_mean(monkeypatch):
    """Geopotential with a usual spread keeps its digits without any direct distance."""
    members, truth, weights = fields(8, 300)
    case = 5e4 + 10 * members, 5e4 + 10 * truth, weights
    monkeypatch.setattr(energy, "_CLOSE", -1.0)
    np.testing.assert_allclose(energy_score(*case), by_definition(*case), rtol=3e-14)


@pytest.mark.parametrize("fair", [True, False])
def test_one_point_is_the_crps(fair):
    """Absolute values are norms of one component, whatever its weight."""
    members, truth = np.array([[1.0], [4.0], [2.5]]), np.array([2.0])
    crps = (1 + 2 + 0.5) / 3 - (3 + 1.5 + 1.5) / (6 if fair else 9)
    for weight in (1.0, 0.01):
        score = energy_score(members, truth, np.array([weight]), fair=fair).score
        assert score == pytest.approx(crps, rel=1e-14)


def test_weights_count_and_their_scale_does_not():
    members = np.array([[3.0, 100.0], [0.0, 0.0]])
    truth = np.zeros(2)
    found = energy_score(members, truth, np.array([2.0, 0.0]))
    assert found == pytest.approx((1.5 - 1.5, 1.5, 3.0))
    found = energy_score(members, truth, np.array([0.75, 0.25]))
    norm = math.sqrt(0.75 * 9 + 0.25 * 100**2)
    assert found == pytest.approx((0.0, norm / 2, norm))
    assert energy_score(members, truth, np.array([7.5, 2.5])) == pytest.approx(found, rel=1e-14)


@pytest.mark.parametrize("estimator", ["nrg", "fair"])
def test_against_scoringrules(estimator):
    """Whose norm is a sum with equal weights."""
    scoringrules = pytest.importorskip("scoringrules")
    members, truth, _ = fields(10, 30)
    theirs = scoringrules.es_ensemble(
        truth, members, m_axis=0, v_axis=1, estimator=estimator, backend="numpy"
    )
    found = energy_score(members, truth, np.ones(30), fair=estimator == "fair").score
    assert found * math.sqrt(30) == pytest.approx(float(theirs), rel=1e-11)


def test_the_fair_score_has_no_bias():
    """Means over small ensembles and over large ones agree; those of the other score do not."""
    draw = np.random.default_rng(5)
    truth, weights = np.array([0.3, -0.2, 0.9]), np.array([1.0, 2.0, 0.5])

    def sample(count, draws, fair):
        return np.array(
            [
                energy_score(draw.standard_normal((count, 3)), truth, weights, fair=fair).score
                for _ in range(draws)
            ]
        )

    large = sample(400, 200, True)
    for fair in (True, False):
        small = sample(3, 4000, fair)
        error = math.hypot(small.std() / math.sqrt(4000), large.std() / math.sqrt(200))
        assert (abs(small.mean() - large.mean()) < 4 * error) == fair


def test_identical_members():
    one, truth, weights = fields(1, 50)
    found = energy_score(np.repeat(one, 6, axis=0), truth, weights)
    expected = distance(one[0], truth, weights)
    assert found.difference == 0
    assert found.score == found.absolute == pytest.approx(expected, rel=1e-14)


def test_one_member():
    case = fields(1, 50)
    expected = distance(case[0][0], case[1], case[2])
    fair, other = energy_score(*case), energy_score(*case, fair=False)
    assert math.isnan(fair.score)
    assert math.isnan(fair.difference)
    assert fair.absolute == other.absolute == other.score == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("weight", [1.0, 0.0])
@pytest.mark.parametrize("where", ["member", "truth"])
@pytest.mark.parametrize("fair", [True, False])
def test_what_is_not_finite_gives_no_finite_score(count, value, weight, where, fair):
    members, truth, weights = fields(count, 20)
    weights[5] = weight
    (members[count // 2] if where == "member" else truth)[5] = value
    score = energy_score(members, truth, weights, fair=fair).score
    assert math.isnan(score) if np.isnan(value) else not math.isfinite(score)


def test_float32_and_strides():
    members, truth, weights = fields(6, 200)
    members, truth = members.astype(np.float32), truth.astype(np.float32)
    expected = by_definition(members[:, ::-2], truth[::-2], weights[::-2])
    found = energy_score(members[:, ::-2], truth[::-2], weights[::-2].astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    last = np.ascontiguousarray(members.T).T
    np.testing.assert_allclose(
        energy_score(last, truth, weights), energy_score(members, truth, weights), rtol=1e-13
    )


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 4), (3,), (4,)), "members, truth and weights of shapes"),
        (((3, 4), (4,), (3,)), "members, truth and weights of shapes"),
        (((4,), (4,), (4,)), "at least one member"),
        (((0, 4), (4,), (4,)), "at least one member"),
    ],
)
def test_shapes_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        energy_score(*map(np.ones, shapes))


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, np.nan], [1, np.inf]])
def test_weights_refused(weights):
    with pytest.raises(ValueError, match="weights: give finite numbers, none negative"):
        energy_score(np.ones((2, 2)), np.ones(2), np.array(weights))
