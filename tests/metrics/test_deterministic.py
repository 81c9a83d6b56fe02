"""Deterministic scores: exact identities, on random fields with any weights."""

from __future__ import annotations

import numpy as np
import pint
import pytest

from xwx.metrics.deterministic import acc, area_mean, bias, mae, mean_over_starts, mse, rmse

SHAPE = (5, 3, 9, 16)  # starts, channels, rows, columns


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def fields(rng):
    return rng.normal(size=SHAPE), rng.normal(size=SHAPE), rng.uniform(0.1, 3.0, size=9)


def test_a_constant_field_is_its_own_mean(rng):
    weights = rng.uniform(size=9)
    np.testing.assert_allclose(area_mean(np.full(SHAPE, 4.2), weights), 4.2, rtol=1e-14)


def test_area_mean_of_a_worked_example():
    field = np.array([[1.0, 3.0], [10.0, 20.0]])
    assert area_mean(field, [3.0, 1.0]) == pytest.approx((3 * 2.0 + 15.0) / 4, rel=1e-15)
    assert area_mean(field, [1.0, 3.0], (1, 0)) == pytest.approx((5.5 + 3 * 11.5) / 4, rel=1e-15)


@pytest.mark.parametrize("c", [3.25, -0.7])
def test_a_constant_offset(fields, c):
    x, _, weights = fields
    np.testing.assert_allclose(rmse(x + c, x, weights), abs(c), rtol=1e-13)
    np.testing.assert_allclose(mae(x + c, x, weights), abs(c), rtol=1e-13)
    np.testing.assert_allclose(bias(x + c, x, weights), c, rtol=1e-13)


def test_acc_identities(fields):
    x, y, weights = fields
    zero = np.zeros(SHAPE)
    np.testing.assert_allclose(acc(x, x, zero, weights), 1, atol=1e-12)
    np.testing.assert_allclose(acc(-x, x, zero, weights), -1, atol=1e-12)
    np.testing.assert_allclose(acc(7.5 * x, y, zero, weights), acc(x, y, zero, weights), rtol=1e-12)
    assert np.all(np.abs(acc(x, y, zero, weights)) < 1)


def test_acc_centred_ignores_an_offset(fields):
    x, y, weights = fields
    zero = np.zeros(SHAPE)
    shifted = acc(x + 5, y, zero, weights, centred=True)
    np.testing.assert_allclose(shifted, acc(x, y, zero, weights, centred=True), atol=1e-12)
    assert np.all(np.abs(acc(x + 5, y, zero, weights) - acc(x, y, zero, weights)) > 1e-3)


def test_acc_takes_anomalies_from_the_climatology(fields):
    x, y, weights = fields
    climatology = np.broadcast_to(np.linspace(0, 9, 16), SHAPE)
    np.testing.assert_allclose(
        acc(x + climatology, y + climatology, climatology, weights),
        acc(x, y, np.zeros(SHAPE), weights),
        rtol=1e-12,
    )


def test_acc_of_no_anomaly_is_nan(fields):
    x, _, weights = fields
    assert np.isnan(acc(x, np.zeros(SHAPE), np.zeros(SHAPE), weights)).all()


def test_normalised_rmse(fields):
    x, y, weights = fields
    sigma = np.array([2.0, 0.3, 5e-5])[:, None, None]
    np.testing.assert_allclose(
        rmse(x / sigma, y / sigma, weights) * sigma[:, 0, 0], rmse(x, y, weights), rtol=1e-12
    )


def test_mean_of_roots_is_at_most_root_of_means(fields):
    x, y, weights = fields
    errors = mse(x, y, weights)
    wb1 = mean_over_starts(errors)
    wb2 = mean_over_starts(errors, convention="wb2")
    assert wb1.shape == (3,)
    assert np.all(wb1 < wb2)
    same = np.broadcast_to(errors[:1], errors.shape)
    np.testing.assert_allclose(
        mean_over_starts(same), mean_over_starts(same, convention="wb2"), rtol=1e-14
    )
    np.testing.assert_allclose(mean_over_starts(same), np.sqrt(errors[0]), rtol=1e-14)
    assert mean_over_starts([1.0, 9.0]) == 2.0
    assert mean_over_starts([1.0, 9.0], convention="wb2") == pytest.approx(5**0.5, rel=1e-15)


SCORES = {
    "rmse": rmse,
    "mae": mae,
    "bias": bias,
    "acc": lambda x, y, w, axis=(-2, -1): acc(x, y, 0.1 * y, w, axis),
    "acc-centred": lambda x, y, w, axis=(-2, -1): acc(x, y, 0.1 * y, w, axis, centred=True),
}


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_invariance(fields, score):
    x, y, weights = fields
    expected = score(x, y, weights)
    assert expected.dtype == np.float64
    roll = [np.roll(a, 5, axis=-1) for a in (x, y)]
    np.testing.assert_allclose(score(*roll, weights), expected, rtol=1e-13, atol=1e-13)
    flipped = score(x[..., ::-1, :], y[..., ::-1, :], weights[::-1])
    np.testing.assert_allclose(flipped, expected, rtol=1e-13, atol=1e-13)
    scaled = score(x, y, 1e3 * weights)
    np.testing.assert_allclose(scaled, expected, rtol=1e-13, atol=1e-13)
    turned = [a.transpose(3, 0, 2, 1) for a in (x, y)]
    np.testing.assert_allclose(score(*turned, weights, (2, 0)), expected, rtol=1e-13, atol=1e-13)


def test_flipping_latitude_without_its_weights_matters(fields):
    x, y, weights = fields
    assert not np.allclose(rmse(x[..., ::-1, :], y[..., ::-1, :], weights), rmse(x, y, weights))


def test_units(fields):
    x, y, weights = fields
    ureg = pint.UnitRegistry()
    heights = [ureg.Quantity(5000 + 50 * a, "m") for a in (x, y)]
    potentials = [(h * ureg.Quantity(9.80665, "m/s**2")).to("m**2/s**2") for h in heights]
    np.testing.assert_allclose(
        rmse(*(p.magnitude for p in potentials), weights),
        9.80665 * rmse(*(h.magnitude for h in heights), weights),
        rtol=1e-12,
    )


def test_float32_fields_are_averaged_in_float64():
    x = np.full((400, 800), 101325.1, dtype=np.float32)
    truth = np.zeros_like(x)
    exact = float(np.float32(101325.1))
    for score in (rmse, mae, bias):
        assert score(x, truth, np.ones(400)) == pytest.approx(exact, rel=1e-14)


def test_missing_values_propagate(fields):
    x, y, weights = fields
    x[2, 1, 0, 0] = np.nan
    assert np.argwhere(np.isnan(rmse(x, y, weights))).tolist() == [[2, 1]]


def test_refusals(fields):
    x, y, weights = fields
    with pytest.raises(ValueError, match="shapes differ"):
        rmse(x, y[0], weights)
    with pytest.raises(ValueError, match=r"weights of shape \(8,\) for 9 rows"):
        rmse(x, y, weights[1:])
    for bad in (-weights, 0 * weights, weights * np.nan, weights * np.inf):
        with pytest.raises(ValueError, match="weights must be"):
            rmse(x, y, bad)
    with pytest.raises(ValueError, match="different axes"):
        rmse(x, y, weights, (-2, 2))
    with pytest.raises(ValueError, match='give "wb1" or "wb2"'):
        mean_over_starts([1.0], convention="wb3")
