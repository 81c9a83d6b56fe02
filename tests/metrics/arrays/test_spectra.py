"""Spectra: Parseval, single waves, harmonics of scipy, three grids, rotations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import sph_harm_y

from xwx.metrics.arrays.quadrature import (
    RULES,
    clenshaw_curtis,
    fejer,
    gauss_legendre,
    highest_degree,
    rule_of,
)
from xwx.metrics.arrays.spectra import (
    HIGHEST,
    legendre,
    spherical_power,
    spherical_wavenumbers,
    zonal_power,
)


def latitudes(rule, rows):
    """Return latitudes [degrees north], written down without the quadratures."""
    if rule == "gauss":
        return np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(rows)[0]))[::-1]
    if rule == "poles":
        return np.linspace(90, -90, rows)
    return 90 - (np.arange(rows) + 0.5) * 180 / rows


def synthesis(amplitudes, rule, rows, columns, shift=0.0):
    """Return the real field of complex amplitudes {(l, m >= 0): a}, by scipy's harmonics."""
    colatitude = np.deg2rad(90 - latitudes(rule, rows))[:, None]
    longitude = 2 * np.pi * np.arange(columns) / columns + shift
    field = np.zeros((rows, columns))
    for (degree, order), a in amplitudes.items():
        wave = a * sph_harm_y(degree, order, colatitude, longitude)
        field += wave.real if order == 0 else 2 * wave.real
    return field


def random_amplitudes(highest, seed=0):
    rng = np.random.default_rng(seed)
    return {
        (degree, order): rng.normal() + 1j * rng.normal() * (order > 0)
        for degree in range(highest + 1)
        for order in range(degree + 1)
    }


def expected(amplitudes, count):
    power = np.zeros(count)
    for (degree, order), a in amplitudes.items():
        power[degree] += (1 if order == 0 else 2) * abs(a) ** 2 / (4 * np.pi)
    return power


@pytest.mark.parametrize("columns", [1, 2, 9, 16])
def test_zonal_powers_sum_to_the_mean_square(columns):
    rng = np.random.default_rng(1)
    field, weights = rng.normal(3, 1, (2, 3, 7, columns)), rng.uniform(0, 5, 7)
    power = zonal_power(field, weights)
    square = np.average((field**2).mean(-1), weights=weights, axis=-1)
    assert power.shape == (2, 3, columns // 2 + 1)
    np.testing.assert_allclose(power.sum(-1), square, rtol=1e-12)


@pytest.mark.parametrize(("columns", "wave"), [(16, 0), (16, 3), (16, 8), (15, 7)])
def test_a_zonal_wave_is_in_its_bin(columns, wave):
    field = 2.0 * np.cos(2 * np.pi * wave * np.arange(columns) / columns) * np.ones((4, 1))
    power = zonal_power(field, [1, 2, 3, 4])
    assert power[wave] / power.sum() > 1 - 1e-12
    # a cosine has half the mean square of a constant, but at the wave of Nyquist
    assert power[wave] == pytest.approx(4.0 if wave in (0, 8) else 2.0, rel=1e-12)


def test_rows_count_by_their_weights():
    field = np.array([[1.0, -1.0] * 4, [3.0] * 8, [np.nan] * 8])
    np.testing.assert_allclose(
        zonal_power(field[:2], [3, 1]), [9 / 4, 0, 0, 0, 3 / 4], rtol=1e-14, atol=1e-15
    )
    assert np.isnan(zonal_power(field, [3, 1, 1])).all()


def test_axes_may_be_anywhere():
    field = np.random.default_rng(2).normal(size=(5, 3, 8))
    turned = np.moveaxis(field, (1, 2), (2, 0))
    weights, lat = [1, 2, 3], latitudes("gauss", 3)
    np.testing.assert_array_equal(zonal_power(turned, weights, (2, 0)), zonal_power(field, weights))
    np.testing.assert_array_equal(spherical_power(turned, lat, (2, 0)), spherical_power(field, lat))


def test_weights_that_do_not_fit():
    with pytest.raises(ValueError, match="need one for each of 3 rows"):
        zonal_power(np.ones((3, 4)), [1, 2])
    for bad in ([0, 0, 0], [1, -1, 3], [np.nan, 1, 1]):
        with pytest.raises(ValueError, match="must not be negative"):
            zonal_power(np.ones((3, 4)), bad)


@pytest.mark.parametrize("rows", [2, 3, 8, 19, 64])
@pytest.mark.parametrize("rule", ["gauss", "poles", "cells"])
def test_quadratures_integrate_polynomials(rule, rows):
    quadrature = {"gauss": gauss_legendre, "poles": clenshaw_curtis, "cells": fejer}[rule]
    sines, weights = quadrature(rows)
    np.testing.assert_allclose(np.rad2deg(np.arcsin(sines)), latitudes(rule, rows), atol=1e-6)
    assert np.all(weights > 0)
    for power in range(2 * rows if rule == "gauss" else rows):
        exact = 0.0 if power % 2 else 2 / (power + 1)
        assert weights @ sines**power == pytest.approx(exact, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("rows", [2, 7, 64, 181])
@pytest.mark.parametrize("rule", ["gauss", "poles", "cells"])
def test_rows_are_recognised(rule, rows):
    lat = latitudes(rule, rows)
    if (rule, rows) == ("gauss", 2):
        lat = lat[::-1]
    assert rule_of(lat) == rule
    assert rule_of(lat[::-1].astype(np.float32)) == rule
    assert rule_of(np.round(lat, 3)) == rule


@pytest.mark.parametrize(
    "lat",
    [
        np.linspace(90, -89.75, 720),  # the row of a pole left out
        np.linspace(60, -60, 61),
        np.linspace(80, 10, 8),
        [5.0],
        [],
        np.append(np.linspace(90, -80, 18), np.nan),
    ],
)
def test_other_rows_are_refused(lat):
    with pytest.raises(ValueError, match=r"regrid first: ds\.wx\.regrid"):
        rule_of(lat)


@pytest.mark.parametrize(
    ("rule", "rows", "columns", "degree"),
    [
        ("gauss", 64, 128, 63),
        ("gauss", 64, 64, 31),
        ("poles", 721, 1440, 360),
        ("poles", 8, 16, 3),
        ("cells", 180, 360, 89),
        ("cells", 9, 40, 4),
        ("gauss", 3, 1, 0),
    ],
)
def test_what_a_grid_resolves(rule, rows, columns, degree):
    assert highest_degree(rule, rows, columns) == degree
    assert spherical_wavenumbers(latitudes(rule, rows), columns) == degree + 1


def test_too_many_wavenumbers():
    with pytest.raises(ValueError, match=f"beyond the {HIGHEST}.*regrid"):
        spherical_wavenumbers(latitudes("cells", 5404), 20000)


@pytest.mark.parametrize(("rule", "rows"), [("gauss", 12), ("poles", 24), ("cells", 23)])
def test_every_harmonic_is_in_its_bin(rule, rows):
    count = spherical_wavenumbers(latitudes(rule, rows), 25)
    assert count == 12
    for degree in range(count):
        for order in range(degree + 1):
            one = {(degree, order): 0.6 + 0.8j * (order > 0)}
            power = spherical_power(synthesis(one, rule, rows, 25), latitudes(rule, rows))
            np.testing.assert_allclose(power, expected(one, count), rtol=1e-11, atol=1e-13)


def test_three_grids_agree_with_the_amplitudes_and_the_mean_square():
    amplitudes = random_amplitudes(20)
    exact = expected(amplitudes, 21)
    for rule, rows in (("gauss", 21), ("poles", 41), ("cells", 42)):
        field = synthesis(amplitudes, rule, rows, 44)
        power = spherical_power(field, latitudes(rule, rows))
        np.testing.assert_allclose(power[:21], exact, rtol=1e-11)
        weights = RULES[rule](rows)[1] / 2
        square = weights @ (field**2).mean(-1)
        assert power.sum() == pytest.approx(square, rel=1e-12)
        upside_down = spherical_power(field[::-1], latitudes(rule, rows)[::-1])
        np.testing.assert_allclose(upside_down, power, rtol=1e-13)


def test_powers_do_not_depend_on_where_the_axis_points():
    lat = latitudes("gauss", 16)
    amplitudes = random_amplitudes(15, seed=4)
    one, other = (
        spherical_power(synthesis(amplitudes, "gauss", 16, 32, shift), lat) for shift in (0.0, 0.77)
    )
    np.testing.assert_allclose(other, one, rtol=1e-12)
    # polynomials of the direction (x, y, z), turned by any rotation of three dimensions
    colatitude, longitude = np.deg2rad(90 - lat)[:, None], 2 * np.pi * np.arange(32) / 32
    towards = np.stack(
        [
            np.sin(colatitude) * np.cos(longitude),
            np.sin(colatitude) * np.sin(longitude),
            np.cos(colatitude) + 0 * longitude,
        ],
        axis=-1,
    )
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]

    def of(x, y, z):
        return z + 2 * z**4 - 3 * x**2 * y + 0.5 * z**7

    before, after = (spherical_power(of(*np.moveaxis(t, -1, 0)), lat)
                     for t in (towards, towards @ turn))  # fmt: skip
    np.testing.assert_allclose(after, before, rtol=1e-11, atol=1e-14)
    assert np.count_nonzero(before > 1e-6) == 7


def test_harmonics_of_a_degree_fill_the_sphere():
    """The addition theorem: their squares sum to 2 l + 1 everywhere, close to a pole too."""
    degree = 360
    sines = np.sin(np.deg2rad([90.0, 89.99, 89.75, 85.0, 60.0, 12.3, 0.0, -89.75]))
    total = np.zeros(sines.size)
    with np.errstate(all="raise", under="ignore"):
        for order in range(degree + 1):
            total += (1 if order == 0 else 2) * legendre(order, degree, sines)[-1] ** 2
    np.testing.assert_allclose(total, 2 * degree + 1, rtol=2e-11)


@pytest.mark.parametrize("order", [300, 990, 1900, HIGHEST])
def test_functions_of_the_highest_degree_are_normalised(order):
    """A power of the cosine of latitude alone would underflow from degree 1900 on."""
    sines, weights = fejer(2 * HIGHEST + 2)
    with np.errstate(all="raise", under="ignore"):
        table = legendre(order, HIGHEST, sines)
    np.testing.assert_allclose(table[[0, -1]] ** 2 @ weights / 2, 1.0, rtol=1e-10)


def test_a_quarter_of_a_degree():
    lat, lon = np.deg2rad(latitudes("poles", 721)), 2 * np.pi * np.arange(1440) / 1440
    # cos^m(lat) cos(m lon) is the sectoral harmonic; its mean square is a product of ratios
    field = 3.0 + np.cos(lat)[:, None] ** 200 * np.cos(200 * lon)
    power = spherical_power(np.stack([field, field.astype(np.float32)]), np.rad2deg(lat))
    ratios = 2 * np.arange(1, 201) / (2 * np.arange(1, 201) + 1)
    assert power.shape == (2, 361)
    assert power[0, 0] == pytest.approx(9.0, rel=1e-12)
    assert power[0, 200] == pytest.approx(ratios.prod() / 2, rel=1e-11)
    assert power[0].sum() - power[0, 0] - power[0, 200] < 1e-12
    np.testing.assert_allclose(power[1, [0, 200]], power[0, [0, 200]], rtol=1e-6)


def test_missing_values_spread_over_their_own_field_only():
    field = np.random.default_rng(3).normal(size=(2, 9, 16))
    field[1, 4, 3] = np.nan
    power = spherical_power(field, latitudes("poles", 9))
    assert np.isnan(power[1]).all()
    np.testing.assert_array_equal(power[0], spherical_power(field[0], latitudes("poles", 9)))


def test_latitude_of_another_shape():
    with pytest.raises(ValueError, match=r"latitude has shape \(4,\), the field has 5 rows"):
        spherical_power(np.ones((5, 8)), np.zeros(4))


def test_blocks_do_not_show(monkeypatch):
    field, lat = np.random.default_rng(6).normal(size=(5, 3, 9, 16)), latitudes("cells", 9)
    whole = spherical_power(field, lat), zonal_power(field, np.ones(9))
    monkeypatch.setattr("xwx.metrics.arrays.spectra._BLOCK", 4 * 9 * 16)
    monkeypatch.setattr("xwx.metrics.arrays.spectra._KEPT", 0)
    np.testing.assert_allclose(spherical_power(field, lat), whole[0], rtol=1e-12)
    np.testing.assert_allclose(zonal_power(field, np.ones(9)), whole[1], rtol=1e-12)
