"""The CRPS of a normal distribution against its integral and another library."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from xwx.metrics.arrays.gaussian import gaussian_crps

CASES = [(0.0, 1.0, 0.0), (0.0, 1.0, 1.3), (280.0, 2.5, 271.0), (-3.0, 0.2, -2.9), (1.0, 7.0, 40)]


@pytest.mark.parametrize(("mean", "deviation", "truth"), CASES)
def test_against_the_integral(mean, deviation, truth):
    below = quad(lambda x: norm.cdf(x, mean, deviation) ** 2, mean - 40 * deviation, truth,
                 epsabs=1e-11, limit=200, points=[mean])[0]  # fmt: skip
    above = quad(lambda x: norm.sf(x, mean, deviation) ** 2, truth, mean + 40 * deviation,
                 epsabs=1e-11, limit=200, points=[mean])[0]  # fmt: skip
    assert gaussian_crps(mean, deviation, truth) == pytest.approx(below + above, abs=1e-8)


def test_closed_forms():
    # at the mean: sigma (sqrt 2 - 1) / sqrt pi
    assert gaussian_crps(5.0, 3.0, 5.0) == pytest.approx(3 * (2**0.5 - 1) / np.pi**0.5, rel=1e-14)
    # far away: the distance less sigma / sqrt pi
    assert gaussian_crps(0.0, 1.0, -1e3) == pytest.approx(1e3 - np.pi**-0.5, rel=1e-15)
    np.testing.assert_array_equal(gaussian_crps([1.0, 2.0], 0.0, [3.0, -2.0]), [2.0, 4.0])
    np.testing.assert_allclose(gaussian_crps(0, 1e-9, [0.5, -2.0]), [0.5, 2.0], rtol=1e-8)


def test_broadcasts_and_scales():
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=(4, 1)), rng.uniform(0.1, 3, (1, 5))
    truth = rng.normal(size=(3, 4, 5)).astype(np.float32)
    crps = gaussian_crps(mean, deviation, truth)
    assert crps.shape == (3, 4, 5)
    assert crps.dtype == np.float64
    np.testing.assert_allclose(gaussian_crps(7 * mean, 7 * deviation, 7 * truth.astype(float)),
                               7 * crps, rtol=1e-12)  # fmt: skip
    assert crps[1, 2, 3] == gaussian_crps(mean[2, 0], deviation[0, 3], truth[1, 2, 3])
    assert gaussian_crps(np.empty(0), 1.0, 0.0).shape == (0,)


def test_missing_values():
    found = gaussian_crps([np.nan, 0, 0, 0], [1, np.nan, 1, 0], [0, 0, np.nan, 0.0])
    assert np.isnan(found).tolist() == [True, True, True, False]


def test_negative_deviation():
    with pytest.raises(ValueError, match=r"deviation: -0\.5 is negative"):
        gaussian_crps(0.0, [1.0, -0.5], 0.0)


def test_against_scoringrules():
    library = pytest.importorskip("scoringrules")
    rng = np.random.default_rng(1)
    mean, deviation, truth = rng.normal(size=50), rng.uniform(0.1, 3, 50), rng.normal(size=50)
    np.testing.assert_allclose(
        gaussian_crps(mean, deviation, truth), library.crps_normal(truth, mean, deviation),
        rtol=1e-12,
    )  # fmt: skip
