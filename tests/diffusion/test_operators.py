"""Operators on states: exact answers, adjoints, and what they must not touch."""

import math

import numpy as np
import pytest
import torch
from torch.func import jvp, vjp

from xwx.diffusion.cells import Overlaps, RowsColumns, take
from xwx.diffusion.dry_air import DryAirMass, FromGeopotential
from xwx.diffusion.operators import (
    AreaMean,
    AtPoints,
    Custom,
    Observe,
    Selected,
    SpaceTimeMean,
    Stack,
    TimeMean,
    stack,
    standardised,
    windows,
)
from xwx.diffusion.protocols import Observation, Operator
from xwx.diffusion.stations import stations
from xwx.diffusion.warming import Warming
from xwx.fields.grid import cell_areas
from xwx.fields.regrid import column_weights, row_weights
from xwx.spec import Grid

#: torch scripts its forward derivatives when they are first used, and warns of that itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

T, C, H, W = 5, 7, 9, 12
FINE = Grid.regular(H, W, poles=True)
AREA = torch.from_numpy(cell_areas(FINE.rows))


def coarsened(rows, columns):
    """Return the cells of a coarser grid, from the labelled side's exact overlaps."""
    return RowsColumns(
        torch.from_numpy(row_weights(FINE.rows, np.asarray(rows), "conservative")),
        torch.from_numpy(column_weights(FINE.columns, np.asarray(columns), "conservative")),
    )


def state(members=2, seed=0, dtype=torch.float64):
    """Return states with temperatures, humidity on channels 3, 4 and geopotential on 5, 6."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(members, T, C, H, W, generator=generator, dtype=torch.float64)
    size = torch.tensor([10.0, 10.0, 1e3, 1e-3, 2e-3, 500.0, 300.0]).double()
    middle = torch.tensor([280.0, 250.0, 1e5, 5e-3, 9e-3, 15000.0, 1000.0]).double()
    return (middle[:, None, None] + size[:, None, None] * x).to(dtype)


def operators():
    """Return one of each operator."""
    generator = torch.Generator().manual_seed(5)
    mask = torch.rand(T, C, H, W, generator=generator) < 0.03
    cells = coarsened([90.0, 30.0, -30.0, -90.0], [0.0, 90.0, 180.0, 270.0])
    orography = 3000.0 * torch.rand(H, W, generator=generator, dtype=torch.float64)
    surface = FromGeopotential((5, 6), (85000.0, 100000.0), orography)
    polar = stations(
        Grid.regular(H, W, poles=False),
        torch.tensor([85.0, -87.0, 0.3]),
        torch.tensor([-170.0, 359.0, 40.0]),
        channels=[0, 1, 1],
        frames=[0, 4, 2],
        shape=(T, C),
        vector=[False, True, True],
    )
    product = torch.kron(cells.rows, cells.columns).to_sparse()
    return {
        "area": AreaMean(cells, (0, 3, 4), (1, 2, 4)),
        "overlaps": AreaMean(Overlaps.of(product, (H, W)), (6, 0), (0, 4)),
        "time": TimeMean(windows(T, 4, 1), (0, 2), (H, W)),
        "both": SpaceTimeMean(windows(T, 2), cells, (1, 2, 6)),
        "observe": Observe.where(mask),
        "points": polar,
        "dry air": DryAirMass((3, 4), (85000.0, 100000.0), surface, AREA, (0, 2)),
        "warming": Warming(cells, (0, 1), (4,), range(T)),
        "custom": Custom(lambda x: (x[:, 0, 0] ** 2).mean((1, 2))[:, None], 1),
        "selected": Selected(AreaMean(cells, (2,), (0,)), torch.tensor([3, 0])),
        "stack": Stack((Observe.where(mask), AreaMean(cells, (5,), (3,)))),
    }


NAMES = list(operators())
LINEAR = [name for name in NAMES if name not in ("dry air", "custom")]
MEAN = torch.tensor([280.0, 250.0, 1e5, 5e-3, 9e-3, 15000.0, 1000.0]).double()[:, None, None]
STD = torch.tensor([12.0, 9.0, 900.0, 1e-3, 3e-3, 700.0, 250.0]).double()[:, None, None]


@pytest.mark.parametrize("name", NAMES)
def test_the_two_derivatives_are_adjoint_and_members_are_apart(name):
    operator, x = operators()[name], state()
    assert isinstance(operator, Operator)
    assert operator.linear == (name in LINEAR)
    v = STD * state(seed=1).sub(MEAN).div(STD).clamp(-3, 3)
    y, forward = jvp(operator, (x,), (v,))
    assert y.shape == (2, operator.size)
    u = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    _, pull = vjp(operator, x)
    (back,) = pull(u)
    scale = (forward.abs() * u.abs()).sum()
    assert abs((forward * u).sum() - (v * back).sum()) <= 1e-12 * scale
    step = 1e-4
    central = (operator(x + step * v) - operator(x - step * v)) / (2 * step)
    torch.testing.assert_close(forward, central, rtol=1e-6, atol=1e-6 * float(forward.abs().max()))
    # a member's values and gradient do not depend on the other's
    torch.testing.assert_close(operator(x[1:]), y[1:], rtol=1e-13, atol=0)
    (alone,) = pull(torch.stack([u[0], torch.zeros_like(u[1])]))
    assert not alone[1].any()
    torch.testing.assert_close(alone[0], back[0], rtol=1e-12, atol=1e-15)
    leaf = x.clone().requires_grad_()
    (usual,) = torch.autograd.grad(operator(leaf), leaf, u)
    torch.testing.assert_close(usual, back, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_so_and_agrees(name):
    operator, x = operators()[name], state()
    exact, single = operator(x), operator(x.float())
    moved = operator.to(dtype=torch.float32)
    assert single.dtype == torch.float32
    assert moved(x.float()).dtype == torch.float32
    assert moved.size == operator.size
    for y in (single, moved(x.float())):
        torch.testing.assert_close(
            y.double(), exact, rtol=2e-6, atol=1e-6 * float(exact.abs().max())
        )


@pytest.mark.parametrize("name", NAMES)
def test_standardised_is_the_same_observation_of_normalised_states(name):
    operator, x = operators()[name], state()
    y = operator(x[:1])[0] + 0.5
    variance = 1.0 + torch.arange(operator.size, dtype=torch.float64)
    physical = Observation(operator, y, variance, strict=True)
    bare = standardised(physical, MEAN, STD)
    z = (x - MEAN) / STD
    torch.testing.assert_close(
        bare.whitened_residual(z), physical.whitened_residual(x), rtol=1e-8, atol=1e-8
    )
    assert bare.strict is True
    if name in LINEAR:  # of the order of one, and still linear
        assert float(bare.operator(z).abs().max()) < 6
        origin = bare.operator(torch.zeros_like(z))
        torch.testing.assert_close(origin, torch.zeros_like(origin))


def test_area_means_of_the_gate_conserve_and_pool_constants():
    # 9 rows with poles into 4 with poles: uneven bands, the polar rows in none but their own
    cells = coarsened([90.0, 30.0, -30.0, -90.0], [0.0, 90.0, 180.0, 270.0])
    operator = AreaMean(cells, range(C), range(T))
    flat = torch.full((1, T, C, H, W), 273.15, dtype=torch.float64)
    torch.testing.assert_close(operator(flat), operator(flat) * 0 + 273.15, rtol=1e-15, atol=0)
    x = state()
    coarse = operator(x).view(2, T, C, 4, 4)
    share = torch.from_numpy(cell_areas([90.0, 30.0, -30.0, -90.0])) / 2
    fine = (AREA / 2) @ x.mean(-1)[..., None]
    torch.testing.assert_close(
        (coarse.mean(-1) * share).sum(-1), fine[..., 0], rtol=1e-12, atol=1e-12
    )


def test_blocks_are_the_weighted_means_of_their_own_cells():
    # whole cells in each block: the mean by hand, and A Aᵀ diagonal
    rows = torch.block_diag(*[AREA[a:b][None] for a, b in ((0, 4), (4, 8), (8, 9))])
    columns = torch.block_diag(*[torch.ones(1, 3, dtype=torch.float64)] * 4)
    operator = AreaMean(RowsColumns(rows, columns), (2,), (3,))
    x = state(1)
    got = operator(x).view(3, 4)
    for i, (a, b) in enumerate(((0, 4), (4, 8), (8, 9))):
        for j in range(4):
            block = x[0, 3, 2, a:b, 3 * j : 3 * j + 3].numpy()
            weights = np.repeat(AREA[a:b].numpy()[:, None], 3, 1)
            assert float(got[i, j]) == pytest.approx(np.average(block, weights=weights), rel=1e-14)
    flat = torch.zeros(1, T * C * H * W, dtype=torch.float64).view(1, T, C, H, W)
    matrix = torch.autograd.functional.jacobian(operator, flat)[0].reshape(12, -1)
    product = matrix @ matrix.mT
    assert float(product.diag().min()) > 0
    assert float((product - product.diag().diag()).abs().max()) == 0


def test_without_coarsening_area_means_are_the_identity():
    operator = AreaMean(coarsened(FINE.rows, FINE.columns), range(C), range(T))
    x = state()
    torch.testing.assert_close(operator(x), x.flatten(1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_coo])
def test_overlaps_of_any_shape_agree_with_the_matrix(layout):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(6, H * W, generator=generator, dtype=torch.float64)
    matrix *= torch.rand(6, H * W, generator=generator) < torch.linspace(0.02, 0.9, 6)[:, None]
    given = matrix.to_sparse() if layout is torch.sparse_coo else matrix
    operator = AreaMean(Overlaps.of(given, (H, W)), (4, 1), (2, 0))
    x = state()
    picked = x[:, [2, 0]][:, :, [4, 1]].flatten(3)
    expected = picked @ (matrix / matrix.sum(1, keepdim=True)).mT
    torch.testing.assert_close(operator(x), expected.flatten(1), rtol=1e-13, atol=0)


def test_a_regional_coarse_grid_reads_nothing_outside():
    cells = coarsened([30.0, 10.0], [345.0, 375.0])  # over Greenwich
    operator = AreaMean(cells, (1,), (0,))
    x = state(1)
    reached = vjp(operator, x)[1](torch.ones(1, 4, dtype=torch.float64))[0] != 0
    columns = torch.nonzero(reached[0, 0, 1].any(0)).flatten().tolist()
    assert columns == [0, 1, 11]
    poisoned = torch.where(reached, x, torch.nan)
    assert torch.equal(operator(poisoned), operator(x))


def test_a_mean_over_time_of_a_ramp_is_its_middle():
    ramp = torch.arange(8.0).double()[None, :, None, None, None].expand(1, 8, 1, 2, 3)
    operator = TimeMean(windows(8, 4), (0,), (2, 3))
    assert operator(ramp)[0].tolist() == [1.5] * 6 + [5.5] * 6
    assert windows(8, 4, 2).argmax(1).tolist() == [0, 2, 4]
    assert windows(5, 2).sum(1).tolist() == [1.0, 1.0]
    trend = torch.tensor([[-1.0, 0, 0, 0, 0, 0, 0, 1.0]])
    assert TimeMean(trend, (0,), (2, 3))(ramp)[0].tolist() == [7.0] * 6


def test_space_and_time_are_the_one_after_the_other():
    x, weights = state(), windows(T, 2, 1)
    cells = coarsened([90.0, 0.0, -90.0], [0.0, 120.0, 240.0])
    channels = (6, 1, 2)
    got = SpaceTimeMean(weights, cells, channels)(x).view(2, 4, 3, 9)
    area = AreaMean(cells, channels, range(T))(x).view(2, T, 3, 9)
    torch.testing.assert_close(got, (area[:, 1:] + area[:, :-1]) / 2, rtol=1e-13, atol=0)


def test_observed_entries_only():
    mask = torch.rand(T, C, H, W, generator=torch.Generator().manual_seed(3)) < 0.1
    operator = Observe.where(mask)
    x = state()
    assert operator.size == int(mask.sum())
    assert torch.equal(operator(x), x[:, mask])
    hole = torch.where(mask, x, torch.nan)
    u = torch.ones(2, operator.size, dtype=torch.float64)
    y, pull = vjp(operator, hole)
    assert torch.equal(y, x[:, mask])
    assert torch.equal(pull(u)[0], mask.double().expand_as(x))


@pytest.mark.parametrize("name", ["area", "time", "both", "warming", "dry air", "selected"])
def test_other_channels_and_frames_are_never_read(name):
    operator, x = operators()[name], state()
    y, pull = vjp(operator, x)
    reached = (pull(torch.ones_like(y))[0] != 0).any(4).any(3).any(0)
    poisoned = torch.where(reached[None, :, :, None, None], x, torch.nan)
    out, pull = vjp(operator, poisoned)
    assert torch.equal(out, y)
    back = pull(torch.ones_like(y))[0]
    assert torch.isfinite(back).all()
    assert not back[:, ~reached].any()
    bare = standardised(Observation(operator, y, 1.0), MEAN, STD).operator
    assert torch.isfinite(bare((poisoned - MEAN) / STD)).all()


def sphere(grid):
    """Return x, y, z on a grid, which are smooth across the poles and the date line."""
    lat, lon = np.deg2rad(np.meshgrid(grid.rows, grid.columns, indexing="ij"))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def at(grid, lat, lon, **kwargs):
    n = len(lat)
    return stations(
        grid,
        torch.tensor(lat),
        torch.tensor(lon),
        channels=kwargs.pop("channels", [0] * n),
        frames=[0] * n,
        shape=(1, 3),
        **kwargs,
    )


def test_stations_on_cells_read_them_and_between_them_their_mean():
    grid = Grid.regular(6, 8, poles=False)  # rows at 75, 45, 15, ...; columns each 45 degrees
    x = torch.arange(3.0 * 48).double().view(1, 1, 3, 6, 8)
    operator = at(
        grid, [45.0, 30.0, 15.0, -75.0], [90.0, -22.5, 720.0, 337.5], channels=[1, 0, 2, 0]
    )
    field = x[0, 0]
    expected = [
        field[1, 1, 2],
        (field[0, 1, 7] + field[0, 1, 0] + field[0, 2, 7] + field[0, 2, 0]) / 4,
        field[2, 2, 0],
        (field[0, 5, 7] + field[0, 5, 0]) / 2,
    ]
    torch.testing.assert_close(operator(x)[0], torch.stack(expected), rtol=1e-14, atol=0)
    holes = torch.full_like(x, torch.nan)
    holes[0, 0, 1, 1, 2] = 3.0
    alone = at(grid, [45.0], [90.0], channels=[1])
    y, pull = vjp(alone, holes)
    assert y.tolist() == [[3.0]]
    assert float(pull(torch.ones_like(y))[0].sum()) == 1.0


@pytest.mark.parametrize("poles", [False, True])
def test_stations_near_the_poles_see_across_them(poles):
    grid = Grid.regular(32 + poles, 65, poles=poles)  # odd: no column faces another
    x = torch.from_numpy(sphere(grid))[None, None]
    lat = [90.0, 89.0, 88.0, -89.5, -90.0]
    lon = [10.0, 200.0, -75.0, 359.9, 123.0]
    for channel in range(3):
        got = at(grid, lat, lon, channels=[channel] * 5)(x)[0].numpy()
        la, lo = np.deg2rad(lat), np.deg2rad(lon)
        exact = [np.cos(la) * np.cos(lo), np.cos(la) * np.sin(lo), np.sin(la)][channel]
        np.testing.assert_allclose(got, exact, atol=4e-3)


def test_wind_turns_its_sign_over_the_pole():
    grid = Grid.regular(30, 60, poles=False)
    lon = np.deg2rad(grid.columns)
    u = -np.sin(lon)[None].repeat(30, 0)  # a uniform wind along x near the north pole
    x = torch.from_numpy(np.stack([u] * 3))[None, None]
    where = 30.0, 47.0, 200.0
    wind = at(grid, [89.9] * 3, list(where), vector=[True] * 3)(x)[0].numpy()
    np.testing.assert_allclose(wind, -np.sin(np.deg2rad(where)), atol=2e-3)
    scalar = at(grid, [89.9] * 3, list(where))(x)[0].numpy()
    assert np.abs(scalar).max() < 0.05  # the mean of two that oppose each other


def test_the_numbers_do_not_depend_on_where_the_globe_was_cut():
    x = state()
    rolled = torch.roll(x, 5, -1)
    cells = coarsened([90.0, 30.0, -30.0, -90.0], np.arange(12) * 30.0)
    area = AreaMean(cells, (0,), (0,))
    torch.testing.assert_close(
        area(rolled).view(2, 4, 12), torch.roll(area(x).view(2, 4, 12), 5, -1), rtol=1e-13, atol=0
    )
    lat, lon = torch.tensor([12.0, -71.0]), torch.tensor([350.0, 20.0])
    kinds = {"channels": [0, 1], "frames": [0, 3], "shape": (T, C)}
    torch.testing.assert_close(
        stations(FINE, lat, lon + 150.0, **kinds)(rolled),
        stations(FINE, lat, lon, **kinds)(x),
        rtol=1e-12,
        atol=0,
    )


def test_warming_shifts_the_means_of_the_perturbed_state():
    operator, x = operators()["warming"], state()
    for compound, factor in ((True, 1.1449), (False, 1.14)):
        warm = x.clone()
        warm[:, :, :2] += 2.0
        warm[:, :, 4] *= factor
        got = operator.target(operator(x), 2.0, compound=compound)
        torch.testing.assert_close(got, operator(warm), rtol=1e-13, atol=0)
    globe = Warming(RowsColumns.sphere(AREA, W), (1,), (), (2,))
    exact = np.average(x[1, 2, 1].numpy().mean(-1), weights=AREA.numpy())
    assert float(globe(x)[1, 0]) == pytest.approx(exact, rel=1e-14)


def test_stacked_observations_stay_block_diagonal_and_per_member():
    made = operators()
    x = state()
    first = Observation(made["area"], made["area"](x), 4.0)
    second = Observation(
        made["dry air"],
        made["dry air"](x[:1])[0],
        torch.tensor([0.01, 0.04], dtype=torch.float64),
        True,
    )
    both = stack([first, second])
    n = first.operator.size
    assert both.value.shape == (2, n + 2)
    assert torch.equal(both.value[:, :n], first.value)
    assert torch.equal(both.value[1, n:], second.value)
    assert both.variances.tolist() == [4.0] * n + [0.01, 0.04]
    assert both.demanded.tolist() == [False] * n + [True] * 2
    assert torch.equal(both.operator(x)[:, :n], first.value)
    assert stack([second, second]).value.shape == (4,)
    with pytest.raises(ValueError, match=r"\[2, 3\] members"):
        stack([first, Observation(made["area"], first.value[[0, 0, 1]], 1.0)])


def test_taking_parts_is_indexing():
    x = state(1)
    for index in ([0], [3, 4, 5], [6, 0, 1], [2, 2], list(range(C))):
        assert torch.equal(take(x, 2, index, "channel"), x[:, :, index])
    assert take(x, 2, [3, 4], "channel").data_ptr() == x[:, :, 3].data_ptr()


def test_errors_name_the_value_and_the_remedy():
    cells = coarsened([45.0, -45.0], [0.0, 180.0])
    x = state()
    mask = torch.zeros(T, C, H, W, dtype=torch.bool)
    grid = Grid.regular(H, W, poles=True)
    region = Grid((50.0, 40.0), (0.0, 10.0, 20.0))
    one = torch.ones(2, 3)
    faults = [
        ("channel 7 is asked for.*has 7.*last is 6", lambda: AreaMean(cells, (7,), (0,))(x)),
        ("frame 5 is asked for", lambda: AreaMean(cells, (0,), (5,))(x)),
        ("channels=\\(\\)", lambda: AreaMean(cells, (), (0,))),
        ("frames=\\(-1,\\)", lambda: AreaMean(cells, (0,), (-1,))),
        ("weights are for \\(9, 12\\)", lambda: AreaMean(cells, (0,), (0,))(x[..., :-1])),
        ("without overlap: \\[1\\]", lambda: RowsColumns(torch.tensor([[1.0], [0.0]]), one)),
        ("rows.*not negative", lambda: RowsColumns(-one, one)),
        ("give \\(coarse cells, 108\\)", lambda: Overlaps.of(one, (H, W))),
        (
            "coarse cells \\[1\\] overlap nothing",
            lambda: Overlaps.of(torch.eye(6)[:2] * torch.tensor([[1.0], [0.0]]), (2, 3)),
        ),
        ("length=6.*one to 5", lambda: windows(5, 6)),
        ("stride=0", lambda: windows(5, 2, 0)),
        ("weights of shape \\(1, 3\\)", lambda: TimeMean(0 * one[:1], (0,), (H, W))),
        ("are for 3 frames", lambda: TimeMean(one, (0,), (H, W))(x)),
        ("TimeMean was made for \\(3, 4\\)", lambda: TimeMean(windows(5, 5), (0,), (3, 4))(x)),
        ("no entry.*is observed", lambda: Observe.where(mask)),
        ("mask is torch.float32", lambda: Observe.where(mask.float())),
        ("index reaches from 0 to 4", lambda: Observe(torch.tensor([0, 4]), (1, 1, 2, 2))),
        ("made for \\(members, 5, 7", lambda: Observe.where(~mask)(x[:, 1:])),
        ("latitude of station 1 is 60", lambda: at(region, [45.0, 60.0], [5.0, 5.0])),
        ("longitude of station 0 is 359", lambda: at(region, [45.0], [359.0])),
        ("latitude of station 0 is nan", lambda: at(grid, [math.nan], [0.0])),
        ("latitude of station 0 is 91", lambda: at(Grid.regular(6, 8, poles=False), [91.0], [0.0])),
        ("channels holds 3: the state has 0 to 2", lambda: at(grid, [0.0], [0.0], channels=[3])),
        ("1 latitudes, but", lambda: at(grid, [0.0], [0.0], channels=[0, 1])),
        ("index and weight", lambda: AtPoints(torch.zeros(2, 1).long(), one, (1, 1, 2, 2))),
        ("Custom gave the shape \\(2, 2\\)", lambda: Custom(lambda x: x[:, 0, 0, 0, :2], 3)(x)),
        ("sees 4 values", lambda: Selected(AreaMean(cells, (0,), (0,)), torch.tensor([4]))),
        ("operators=\\(\\)", lambda: Stack(())),
        ("observations=\\[\\]", lambda: stack([])),
        ("\\[1\\] are both", lambda: Warming(cells, (0, 1), (1,), (0,))),
        ("reference has the shape", lambda: Warming(cells, (0,), (), (0,)).target(one, 2.0)),
        ("state has the shape \\(5, 7", lambda: AreaMean(cells, (0,), (0,))(x[0])),
    ]
    for message, cause in faults:
        with pytest.raises(ValueError, match=message):
            cause()
    seen = Observation(AreaMean(cells, (0,), (0,)), torch.zeros(4).double(), 1.0)
    with pytest.raises(ValueError, match="give \\(channels, 1, 1\\)"):
        standardised(seen, MEAN[:, 0, 0], STD[:, 0, 0])
    with pytest.raises(ValueError, match=r"std reaches down to 0\.0"):
        standardised(seen, MEAN, 0 * STD)
