"""From sigma to pressure levels: atmospheres whose answer is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from xwx.climate.levels import (
    GAS,
    GRAVITY,
    LAPSE,
    Ground,
    sea_level_pressure,
    to_pressure,
    to_ten_metres,
)
from xwx.climate.states import SigmaStates

SIGMA = np.array([0.025, 0.095, 0.2, 0.34, 0.51, 0.685, 0.835, 0.95])
LEVELS = [5000.0, 10000.0, 25000.0, 50000.0, 85000.0, 92500.0, 100000.0]
SHAPE = (3, 2, 5)  # times, rows, columns: all different
ALPHA = LAPSE * GAS / GRAVITY


def surface(seed=0, highest=3000.0):
    """Return surface pressure (T, Y, X) and geopotential (Y, X) of mountains and plains."""
    rng = np.random.default_rng(seed)
    phis = GRAVITY * highest * rng.random(SHAPE[1:])
    phis[0, 0] = 0.0
    ps = 101000 * np.exp(-phis / (GAS * 270)) + 800 * rng.standard_normal(SHAPE)
    return ps, phis


def states(ps, **given):
    """Return SigmaStates with what is given, zero elsewhere."""
    count = len(ps)
    column, plane = np.zeros((count, SIGMA.size, *ps.shape[1:])), np.zeros(ps.shape)
    fields = dict.fromkeys("tquvz", column) | dict.fromkeys(("t2m", "skt", "tp", "tisr"), plane)
    times = np.datetime64("2000-01-01") + np.arange(count)
    return SigmaStates(times=times, ps=ps, **{**fields, **given})


def column(sigma):
    """Return sigma as (1, K, 1, 1)."""
    return np.asarray(sigma)[None, :, None, None]


def test_an_isothermal_atmosphere_is_hydrostatic_on_every_level_above_the_ground():
    ps, phis = surface()
    cold = 250.0
    # its surface follows from the lowest level by the standard lapse rate: only levels above count
    z = phis - GAS * cold * np.log(column(SIGMA))
    t = np.full(z.shape, cold) * np.ones((len(ps), 1, 1, 1))
    found = to_pressure(states(ps, t=t, z=z * np.ones_like(t)), SIGMA, phis, LEVELS)
    for n, p in enumerate(LEVELS):
        free = p < SIGMA[-1] * ps
        exact = phis + GAS * cold * np.log(ps / p)
        assert free.any() or p > 90000.0
        np.testing.assert_allclose(found["z"][:, n][free], exact[free], rtol=1e-12)
        np.testing.assert_allclose(found["t"][:, n][free], cold, rtol=1e-13)


def test_temperature_linear_in_log_pressure_gives_the_exact_parabola_of_geopotential():
    """T = a + b x with x = ln(p / ps): phi = phis - R (a x + b x^2 / 2), whatever the spacing."""
    ps, phis = surface(1, highest=0.0)
    a, b, x = 280.0, 31.0, np.log(column(SIGMA)) * np.ones((len(ps), 1, *SHAPE[1:]))
    t, z = a + b * x, phis - GAS * (a * x + b * x**2 / 2)
    found = to_pressure(states(ps, t=t, z=z), SIGMA, phis, LEVELS[:5])
    for n, p in enumerate(LEVELS[:5]):
        y = np.log(p / ps)
        np.testing.assert_allclose(found["t"][:, n], a + b * y, rtol=1e-12)
        np.testing.assert_allclose(
            found["z"][:, n], phis - GAS * (a * y + b * y**2 / 2), rtol=1e-12
        )


def test_the_geopotential_between_levels_is_the_integral_of_the_temperature():
    """Of any temperature that is linear in ln p between levels, by an independent quadrature."""
    ps, phis = surface(2, highest=0.0)
    rng = np.random.default_rng(3)
    t = 250 + 30 * rng.standard_normal((len(ps), SIGMA.size, *SHAPE[1:]))
    x = np.log(SIGMA)
    thickness = GAS * (t[:, 1:] + t[:, :-1]) / 2 * np.diff(x)[None, :, None, None]
    z = np.zeros_like(t)
    z[:, :-1] = np.cumsum(thickness[:, ::-1], axis=1)[:, ::-1]
    z += 3000.0
    found = to_pressure(states(ps, t=t, z=z), SIGMA, phis, LEVELS[:5])
    for at in np.ndindex(*SHAPE):
        where = (at[0], slice(None), *at[1:])
        for n, p in enumerate(LEVELS[:5]):
            fine = np.linspace(np.log(p / ps[at]), x[-1], 20001)
            below = np.interp(fine, x, t[where])
            integral = GAS * np.trapezoid(below, fine)
            assert found["z"][at[0], n, *at[1:]] == pytest.approx(3000.0 + integral, rel=1e-7)
            assert found["t"][at[0], n, *at[1:]] == pytest.approx(below[0], rel=1e-12)


def test_below_the_ground_a_constant_lapse_rate_goes_on():
    """T = T* (p / ps)^alpha and its geopotential, of which the formulas keep the third order."""
    ps, phis = surface(4)
    low = np.full(SHAPE, 262.0)
    t = np.repeat(low[:, None], SIGMA.size, axis=1)
    found = to_pressure(states(ps, t=t), SIGMA, phis, [101500.0])
    ground = 262.0 * (1 + ALPHA * (1 / SIGMA[-1] - 1))
    y = np.log(101500.0 / ps)
    below = y > 0
    assert below.any()
    assert (y > 0.2).any()
    rest = (ALPHA * y[below]) ** 4 / 24
    error = found["t"][:, 0][below] / (ground * np.exp(ALPHA * y[below])) - 1
    assert np.all(np.abs(error) <= 1.01 * rest)
    exact = phis - GAS * ground * np.expm1(ALPHA * y) / ALPHA
    error = np.abs(found["z"][:, 0] - exact)[below]
    assert np.all(error <= 1.05 * GAS * ground * rest / ALPHA + 1e-8)


def test_wind_and_humidity_stay_below_the_ground_as_they_are_in_the_lowest_level():
    ps, phis = surface(5)
    rng = np.random.default_rng(6)
    fields = {n: rng.standard_normal((SHAPE[0], SIGMA.size, *SHAPE[1:])) for n in "quv"}
    t = np.full((SHAPE[0], SIGMA.size, *SHAPE[1:]), 280.0)
    found = to_pressure(states(ps, t=t, **fields), SIGMA, phis, [120000.0])
    for name, field in fields.items():
        np.testing.assert_array_equal(found[name][:, 0], field[:, -1])


def test_the_levels_of_the_model_themselves_come_back():
    ps = np.full(SHAPE, 100000.0)
    rng = np.random.default_rng(7)
    fields = {n: rng.standard_normal((SHAPE[0], SIGMA.size, *SHAPE[1:])) for n in "tquvz"}
    fields["t"] = 250 + fields["t"]
    found = to_pressure(states(ps, **fields), SIGMA, np.zeros(SHAPE[1:]), SIGMA * 100000.0)
    for name, field in fields.items():
        np.testing.assert_allclose(found[name], field, rtol=0, atol=1e-9)


# ---- the ground and the sea


def test_the_surface_follows_from_the_lowest_level_by_the_standard_lapse_rate():
    """Of an atmosphere of that lapse rate, T* = T (1/sigma)^alpha, to first order."""
    surface_air = 288.0
    lowest = surface_air * SIGMA[-1] ** ALPHA
    found = Ground.below(np.array([[[lowest]]]), SIGMA[-1], np.zeros((1, 1)))
    second = surface_air * ALPHA * (1 - SIGMA[-1]) ** 2  # of the first term left out, and more
    assert abs(found.temperature.item() - surface_air) < second
    assert found.alpha.item() == pytest.approx(0.19016, abs=1e-5)


def test_sea_level_pressure_of_the_standard_lapse_rate():
    """Exactly p0 = ps (1 + Gamma h / T*)^(g / (R Gamma)); (alpha x)^3 x / 4 is left out first."""
    height = np.array([[0.0, 300.0, 1200.0], [2500.0, -100.0, 800.0]])
    phis, ps = GRAVITY * height, np.full((1, 2, 3), 90000.0)
    ground = Ground(np.full((1, 2, 3), 270.0), np.full((1, 2, 3), ALPHA))
    exact = ps * (1 + LAPSE * height / 270.0) ** (GRAVITY / (GAS * LAPSE))
    found = sea_level_pressure(ps, phis, ground)
    x = phis / (GAS * 270.0)
    rest = np.abs((ALPHA * x) ** 3 * x / 4)
    assert np.all(np.abs(np.log(found / exact)) <= 1.2 * rest + 1e-15)
    assert found[0, 0, 0] == 90000.0
    assert np.argsort(found.ravel()).tolist() == np.argsort(height.ravel()).tolist()


@pytest.mark.parametrize(
    ("surface_air", "height", "temperature", "alpha"),
    [
        (280.0, 0.0, 280.0, ALPHA),
        (240.0, 0.0, 247.5, ALPHA),  # half-way to 255 K
        (285.0, 2000.0, 285.0, GAS * 5.5 / (GRAVITY * 2000.0)),  # so that the sea is at 290.5 K
        (300.0, 500.0, 295.25, 0.0),  # half-way to 290.5 K, and no lapse
    ],
)
def test_cold_and_hot_ground_is_moderated(surface_air, height, temperature, alpha):
    lowest = surface_air / (1 + ALPHA * (1 / SIGMA[-1] - 1))
    phis = np.array([[GRAVITY * height]])
    ground = Ground.below(np.array([[[lowest]]]), SIGMA[-1], phis)
    assert ground.temperature.item() == pytest.approx(temperature, rel=1e-12)
    assert ground.alpha.item() == pytest.approx(alpha, rel=1e-12, abs=1e-15)
    if alpha and height:  # the sea below is then at 290.5 K: T* (p0/ps)^alpha = 290.5, roughly
        sea = surface_air + alpha * phis.item() / GAS
        assert sea == pytest.approx(290.5, rel=1e-12)


# ---- wind at ten metres


def test_wind_at_ten_metres_follows_the_logarithm_of_height():
    land = np.array([[0.0, 1.0, 0.5]])
    phis = np.array([[0.0, 5000.0, 0.0]])
    z = phis[None] + GRAVITY * np.array([[[400.0, 400.0, 10.0]]])
    factor = to_ten_metres(z, phis, land)[0, 0]
    assert factor[0] == pytest.approx(np.log(10 / 2e-4) / np.log(400 / 2e-4))
    assert factor[1] == pytest.approx(np.log(50) / np.log(2000))
    low = np.log(10 / 2e-4) / np.log(50 / 2e-4), np.log(50) / np.log(250)  # 50 m at least
    assert factor[2] == pytest.approx(sum(low) / 2)
    assert factor[0] > factor[1]  # the sea is smooth
