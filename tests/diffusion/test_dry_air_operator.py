"""The mass of dry air of a state: closed forms, the labelled implementation, monotony."""

import numpy as np
import pytest
import torch
import xarray as xr

from xwx.diffusion.dry_air import DryAirMass, FromChannel, FromGeopotential, FromSeaLevel, mass_of
from xwx.diffusion.protocols import Observation
from xwx.diffusion.stack import standardised
from xwx.fields.dry_air import dry_air_mass
from xwx.fields.grid import cell_areas
from xwx.spec import Channel, Grid

GRID = Grid.regular(7, 10, poles=True)
H, W = GRID.shape
AREA = torch.from_numpy(cell_areas(GRID.rows))
LEVELS = (50000.0, 70000.0, 85000.0, 92500.0, 100000.0)
N = len(LEVELS)
#: Shuffled on purpose: humidity and geopotential on five levels, and four single-level fields.
CHANNELS = (
    Channel("t2m"),
    *(Channel("z", p) for p in LEVELS[::-1]),
    Channel("sp"),
    *(Channel("q", p) for p in (*LEVELS[2:], *LEVELS[:2])),
    Channel("msl"),
)
R, G = 287.05, 9.80665


def without(*names):
    return tuple(c for c in CHANNELS if c.name not in names)


def world(channels, members=2, frames=3, seed=0):
    """Return a moist, bumpy atmosphere (B, T, C, H, W) and the geopotential of its surface."""
    rng = np.random.default_rng(seed)
    shape = (members, frames, H, W)
    orography = np.clip(rng.normal(2000, 9000, (H, W)), -500, 45000)
    bottom = 1e5 + 2000 * rng.standard_normal(shape)
    warm = 265 + 10 * rng.standard_normal(shape)
    fields = {
        "sp": lambda p: bottom * np.exp(-orography / (R * warm)),
        "msl": lambda p: bottom,
        "t2m": lambda p: warm + 8,
        "z": lambda p: R * warm * np.log(bottom / p) + 50 * rng.standard_normal(shape),
        "q": lambda p: 1e-2 * (p / 1e5) ** 3 * rng.uniform(0.1, 1.0, shape),
    }
    x = np.stack([fields[c.name](c.level) for c in channels], axis=2)
    return torch.from_numpy(x), torch.from_numpy(orography)


def labelled(x, channels, orography):
    """Return the Dataset that holds the same states."""
    dims = ("member", "time", "latitude", "longitude")
    units = {"z": "m2 s-2", "q": "kg kg-1", "t2m": "K", "msl": "Pa", "sp": "Pa"}
    names = {
        "z": "geopotential",
        "q": "specific_humidity",
        "t2m": "air_temperature",
        "msl": "air_pressure_at_mean_sea_level",
        "sp": "surface_air_pressure",
    }
    data = {}
    for name in {c.name for c in channels}:
        at = {c.level: x[:, :, n].numpy() for n, c in enumerate(channels) if c.name == name}
        attrs = {"units": units[name], "standard_name": names[name]}
        if None in at:
            data[name] = (dims, at[None], attrs)
        else:
            array = np.stack([at[p] for p in LEVELS], axis=2)
            data[name] = ((*dims[:2], "level", *dims[2:]), array, attrs)
    attrs = {"units": "m2 s-2", "standard_name": "surface_geopotential"}
    data["z_sfc"] = (dims[2:], orography.numpy(), attrs)
    coords = {
        "level": ("level", [p / 100 for p in LEVELS], {"units": "hPa"}),
        "latitude": ("latitude", GRID.rows, {"units": "degrees_north"}),
        "longitude": ("longitude", GRID.columns, {"units": "degrees_east"}),
        "time": ("time", np.arange(x.shape[1]).astype("datetime64[D]").astype("datetime64[ns]")),
    }
    return xr.Dataset(data, coords)


@pytest.mark.parametrize(
    ("missing", "way"),
    [((), FromChannel), (("sp",), FromGeopotential), (("sp", "z"), FromSeaLevel)],
)
def test_agrees_with_the_labelled_implementation(missing, way):
    channels = without(*missing)
    x, orography = world(channels)
    operator = DryAirMass.of(channels, AREA, (0, 2), orography)
    assert type(operator.surface) is way
    expected = dry_air_mass(labelled(x, channels, orography))
    got = operator(x)
    pressure = expected["dry_air_pressure"].isel(time=[0, 2]).transpose("member", "time").values
    np.testing.assert_allclose(got.numpy(), pressure, rtol=1e-12)
    mass = expected["dry_air_mass"].isel(time=[0, 2]).transpose("member", "time").values
    np.testing.assert_allclose(mass_of(got).numpy(), mass, rtol=1e-12)


@pytest.mark.parametrize("surface", [60000.0, 85000.0, 101325.0, 103000.0])
def test_constant_humidity_has_a_closed_form(surface):
    channels = without("z", "msl", "t2m")
    x = torch.full((1, 1, len(channels), H, W), 0.006, dtype=torch.float64)
    x[:, :, channels.index(Channel("sp"))] = surface
    operator = DryAirMass.of(channels, AREA, (0,))
    mass = float(mass_of(operator(x))[0, 0])
    assert mass == pytest.approx((1 - 0.006) * surface * 4 * np.pi * 6.371e6**2 / G, rel=1e-13)
    # dry air: all that is left is that the thicknesses sum to the surface pressure, in each column
    x[:, :, [n for n, c in enumerate(channels) if c.name == "q"]] = 0.0
    assert torch.equal(operator.columns(x), torch.full_like(x[:, :, 0], surface))


def test_the_thickness_of_a_level_is_what_is_above_ground():
    channels = without("z", "msl", "t2m")
    operator = DryAirMass.of(channels, AREA, (0,))
    sp = channels.index(Channel("sp"))
    edges = {50000.0: (0, 60000), 70000.0: (60000, 77500), 85000.0: (77500, 88750)}
    edges |= {92500.0: (88750, 96250), 100000.0: (96250, 1e9)}
    for surface in (55000.0, 80000.0, 101000.0):
        x = torch.zeros(1, 1, len(channels), H, W, dtype=torch.float64)
        x[:, :, sp] = surface
        for level, (top, bottom) in edges.items():
            moist = x.clone()
            moist[:, :, channels.index(Channel("q", level))] = 1e-3
            thickness = (operator.columns(x) - operator.columns(moist)) / 1e-3
            exact = max(min(bottom, surface) - min(top, surface), 0)
            torch.testing.assert_close(
                thickness, torch.full_like(thickness, exact), rtol=1e-9, atol=1e-6
            )


def test_the_known_mass_of_the_atmosphere():
    assert float(mass_of(torch.tensor(98305.0).double())) == pytest.approx(5.1130e18, rel=1e-4)


def test_the_surface_of_an_isothermal_atmosphere_is_found_exactly():
    bottom, temperature = 101000.0, 270.0
    orography = torch.linspace(-800, 52000, H * W, dtype=torch.float64).view(H, W)
    exact = bottom * torch.exp(-orography / (R * temperature))
    levels = torch.tensor(LEVELS).double()
    heights = (R * temperature * torch.log(bottom / levels))[None, None, :, None, None]
    heights = heights.expand(1, 1, N, H, W)
    found = FromGeopotential(tuple(range(N)), LEVELS, orography)(lambda c: heights[:, :, list(c)])
    torch.testing.assert_close(found[0, 0], exact, rtol=1e-12, atol=0)
    # without a lapse of temperature the hypsometric way is the same
    still = temperature - 0.5 * 0.0065 * orography / G
    parts = torch.stack([torch.full_like(still, bottom), still, 0 * still])[None, None]
    again = FromSeaLevel(0, 1, 2, orography)(lambda c: parts[:, :, list(c)])
    torch.testing.assert_close(again[0, 0], exact, rtol=1e-12, atol=0)


def test_a_roll_in_longitude_changes_nothing():
    channels = without("sp")
    x, orography = world(channels)
    whole = DryAirMass.of(channels, AREA, range(3), orography)
    rolled = DryAirMass.of(channels, AREA, range(3), orography.roll(4, -1))
    torch.testing.assert_close(rolled(x.roll(4, -1)), whole(x), rtol=1e-14, atol=0)


def test_more_vapour_is_less_dry_air_and_more_pressure_is_more():
    x, _ = world(CHANNELS, members=1, frames=1)
    operator = DryAirMass.of(CHANNELS, AREA, (0,))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(operator.columns(leaf).sum(), leaf)
    humid = [n for n, c in enumerate(CHANNELS) if c.name == "q"]
    assert float(gradient[:, :, humid].max()) <= 0
    sp = CHANNELS.index(Channel("sp"))
    place = np.searchsorted([60000, 77500, 88750, 96250], x[0, 0, sp].numpy())
    lowest = np.array([CHANNELS.index(Channel("q", p)) for p in LEVELS])[place]
    expected = 1 - np.take_along_axis(x[0, 0].numpy(), lowest[None], 0)[0]
    np.testing.assert_allclose(gradient[0, 0, sp].numpy(), expected, rtol=1e-12)


def test_single_precision_resolves_two_thousandths_of_a_pascal():
    channels = without("sp")
    x, orography = world(channels)
    operator = DryAirMass.of(channels, AREA, range(3), orography)
    mean, std = x.mean((0, 1, 3, 4))[:, None, None], x.std((0, 1, 3, 4))[:, None, None]
    seen = Observation(operator, operator(x), 0.01)
    bare = standardised(seen, mean, std)
    z = (x - mean) / std
    off = bare.operator(z.float()).double() - bare.value
    assert bare.operator(z.float()).dtype == torch.float32
    assert float(off.abs().max() / bare.variances.sqrt()[0]) < 0.02
    torch.testing.assert_close(bare.operator(z), bare.value, rtol=1e-9, atol=1e-9)


def test_a_bad_guess_of_the_geopotential_stays_finite():
    channels = without("sp")
    x, orography = world(channels)
    heights = [n for n, c in enumerate(channels) if c.name == "z"]
    x[:, :, heights] = 20000.0  # all levels at the same place
    x[:, 1, heights] += 3000.0 * torch.randn(2, N, H, W, dtype=torch.float64)
    operator = DryAirMass.of(channels, AREA, range(3), orography)
    leaf = x.clone().requires_grad_()
    y = operator(leaf)
    (gradient,) = torch.autograd.grad(y.sum(), leaf)
    assert torch.isfinite(y).all()
    assert torch.isfinite(gradient).all()


def test_errors_name_what_is_missing():
    _, orography = world(CHANNELS, 1, 1)
    with pytest.raises(ValueError, match="no specific humidity 'q'"):
        DryAirMass.of(without("q"), AREA, (0,))
    with pytest.raises(ValueError, match="orography=None; give the geopotential"):
        DryAirMass.of(without("sp"), AREA, (0,))
    with pytest.raises(ValueError, match="'z' is on 0 levels"):
        DryAirMass.of(without("sp", "z", "t2m"), AREA, (0,), orography)
    with pytest.raises(ValueError, match=r"humidity: 1 channels at the levels \(1.0, 2.0\)"):
        DryAirMass((1,), (1.0, 2.0), FromChannel(0), AREA, (0,))
    with pytest.raises(ValueError, match="increasing pressure"):
        FromGeopotential((0, 1), (2.0, 1.0), orography)
    with pytest.raises(ValueError, match="area has the shape"):
        DryAirMass((1,), (1.0,), FromChannel(0), 0 * AREA, (0,))
    x, _ = world(CHANNELS, 1, 1)
    with pytest.raises(ValueError, match="has 7 rows: area has 6"):
        DryAirMass.of(CHANNELS, AREA[1:], (0,))(x)
