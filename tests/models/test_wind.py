"""WIND: symmetries, edges, counts and seams of the denoiser, each against an exact answer."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xwx.models.architectures import find_architecture
from xwx.models.card import Card
from xwx.models.checkpoint import load_checkpoint, save_checkpoint
from xwx.models.footprint import footprint, weights_of
from xwx.models.wind import PRESETS, Wind, WindConfig
from xwx.spec import Channel, Grid, Spec

TINY = WindConfig.preset("wind_tiny", frames=3)  # a stride of 8 cells
FORCINGS = ("cos_local_time", "sin_year")
REGION = Grid(tuple(range(50, 34, -1)), tuple(range(10, 42)))


def spec_of(
    rows: int = 16,
    columns: int = 32,
    *,
    channels: int = 2,
    forcings: tuple[str, ...] = FORCINGS,
    poles: bool = False,
    grid: Grid | None = None,
) -> Spec:
    names = tuple(Channel("t", 1000.0 * (n + 1)) for n in range(channels))
    return Spec(names, grid or Grid.regular(rows, columns, poles=poles), forcings=forcings)


def shake(network: nn.Module, seed: int = 0) -> None:
    """Leave no parameter at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise)


def build(config: WindConfig = TINY, spec: Spec | None = None, seed: int = 0) -> Wind:
    """Return a double-precision network in which everything acts, static fields too."""
    torch.manual_seed(seed)
    network = Wind(config, spec or spec_of()).double().eval()
    shake(network, seed)
    network.static.normal_()
    return network


def draw(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def windows(network: Wind, batch: int = 1, seed: int = 1) -> tuple[Tensor, Tensor | None]:
    """Return noisy states and forcings."""
    spec, frames = network.spec, network.frames
    z = draw(batch, frames, len(spec.channels), *spec.grid.shape, seed=seed)
    if not spec.forcings:
        return z, None
    return z, draw(batch, frames, len(spec.forcings), *spec.grid.shape, seed=seed + 1)


def turned(network: Wind, columns: int) -> Wind:
    """Return the network with all that it knows of longitude turned."""
    other = Wind(network.config, network.spec).double().eval()
    other.load_state_dict(network.state_dict())
    other.coordinates.copy_(network.coordinates.roll(columns, -1))
    other.static.copy_(network.static.roll(columns, -1))
    return other


# ---- longitude and latitude


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, 16),
        ({"fit": "resample", "predict": "gate"}, 13),
        ({"static": ("orography",), "known_t": True}, 9),
        ({"attend": ()}, 16),
        ({"attend": (0, 1, 2), "coordinates": "latitude"}, 16),
    ],
)
def test_turning_the_globe_turns_what_is_seen(changes, rows):
    network = build(replace(TINY, **changes), spec_of(rows, 32, poles=True))
    z, forcing = windows(network)
    t = torch.full((1, 3), 0.4, dtype=torch.float64)
    x = network.denoise(z, forcing, t)
    for shift in (8, -24):
        seen = turned(network, shift).denoise(z.roll(shift, -1), forcing.roll(shift, -1), t)
        torch.testing.assert_close(seen, x.roll(shift, -1), rtol=0, atol=1e-11)
    assert (x.roll(8, -1) - x).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("coordinates", "static", "commutes"),
    [
        ("full", (), False),
        ("latitude", (), True),
        ("none", (), True),
        ("none", ("orography",), False),
    ],
)
def test_what_knows_the_longitude(coordinates, static, commutes):
    network = build(replace(TINY, coordinates=coordinates, static=static))
    z, forcing = windows(network)
    x = network.denoise(z, forcing)
    moved = network.denoise(z.roll(8, -1), forcing.roll(8, -1)) - x.roll(8, -1)
    assert (moved.abs().max() < 1e-11) == commutes
    assert commutes or moved.abs().max() > 1e-2


def test_columns_are_resampled_round_the_globe():
    network = build(replace(TINY, fit="resample"), spec_of(10, 12))  # 12 columns become 16
    z, forcing = windows(network)
    x = network.denoise(z, forcing)
    seen = turned(network, 6).denoise(z.roll(6, -1), forcing.roll(6, -1))
    torch.testing.assert_close(seen, x.roll(6, -1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("grid", [None, REGION])
def test_what_a_cell_is_convolved_with(grid):
    """Two convolutions reach two patches: round the globe, not over a pole or out of a region."""
    config = replace(TINY, multipliers=(1,), depths=(1,), attend=())
    network = build(config, spec_of(grid=grid))
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.GroupNorm):  # it averages over the whole map
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, nn.Identity())
    z, forcing = windows(network)
    z.requires_grad_()
    x = network.denoise(z, forcing)
    slope = torch.autograd.grad(x[0, :, :, 0, 0].sum(), z)[0][0, 0].abs().amax(0)
    heard = torch.zeros(16, 32, dtype=torch.bool)
    heard[:6, :6] = True
    heard[:6, -4:] = grid is None
    assert torch.equal(slope > 0, heard)


def test_a_region_does_not_turn():
    config = replace(TINY, coordinates="none")
    for grid, commutes in ((None, True), (REGION, False)):
        network = build(config, spec_of(grid=grid))
        z, forcing = windows(network)
        x = network.denoise(z, forcing).roll(8, -1)
        moved = network.denoise(z.roll(8, -1), forcing.roll(8, -1)) - x
        assert (moved.abs().max() < 1e-11) == commutes


@pytest.mark.parametrize("fit", ["pad", "resample"])
@pytest.mark.parametrize("rows", [9, 13, 16])
def test_every_row_is_read_and_estimated(rows, fit):
    grid = Grid(tuple(range(50, 50 - rows, -1)), tuple(range(10, 26)))
    network = build(replace(TINY, fit=fit), spec_of(grid=grid))
    z, forcing = windows(network)
    z.requires_grad_()
    x = network.denoise(z, forcing)
    assert x.shape == z.shape
    slope = torch.autograd.grad(x.square().sum(), z)[0]
    assert slope.abs().min() > 1e-9
    assert x.std(-1).min() > 1e-3


# ---- time


@pytest.mark.parametrize(("attend", "hears"), [((1,), True), ((2,), True), ((), False)])
def test_all_frames_hear_all_frames_where_they_attend(attend, hears):
    network = build(replace(TINY, attend=attend))
    z, forcing = windows(network)
    z.requires_grad_()
    x = network.denoise(z, forcing)
    for k in range(3):
        slope = torch.autograd.grad(x[0, k].square().sum(), z, retain_graph=True)[0][0]
        heard = slope.abs().amax((1, 2, 3)) > 1e-9
        assert heard.tolist() == [hears or n == k for n in range(3)]


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0], [0, 2, 1]])
def test_the_order_of_the_frames_counts_only_through_attention(order):
    for attend, counts in (((1, 2), True), ((), False)):
        network = build(replace(TINY, attend=attend))
        z, forcing = windows(network)
        x = network.denoise(z, forcing)[:, order]
        moved = (network.denoise(z[:, order], forcing[:, order]) - x).abs().max()
        assert (moved > 1e-3) == counts
        assert counts or moved < 1e-12


def test_a_network_that_is_told_the_noise_of_each_frame():
    network = build(replace(TINY, known_t=True, attend=()))
    z, forcing = windows(network, 2)
    t = draw(2, 3).sigmoid()
    x = network.denoise(z, forcing, t)
    other = t.clone()
    other[1, 2] = 0.9
    moved = (network.denoise(z, forcing, other) - x).abs().amax((2, 3, 4))
    assert moved[1, 2] > 1e-3
    assert moved.flatten()[:5].max() < 1e-12
    with pytest.raises(ValueError, match=r"noise times t of shape None, need \(2, 3\)"):
        network.denoise(z, forcing)
    with pytest.raises(ValueError, match=r"\(2,\), need \(2, 3\)"):
        network.denoise(z, forcing, t[:, 0])
    attending = build(replace(TINY, known_t=True))
    moved = attending.denoise(z, forcing, other) - attending.denoise(z, forcing, t)
    assert moved[1].abs().amax((1, 2, 3)).min() > 1e-6
    assert moved[0].abs().max() < 1e-12


def test_a_blind_network_ignores_the_time():
    network = build()
    z, forcing = windows(network)
    x = network.denoise(z, forcing)
    assert torch.equal(network.denoise(z, forcing, torch.rand(1, 3)), x)
    assert torch.equal(network(z, forcing), x)


# ---- what goes in, what comes out


@pytest.mark.parametrize("predict", ["clean", "gate"])
def test_a_new_network_expects_the_mean(predict):
    network = Wind(replace(TINY, predict=predict), spec_of(forcings=()))
    z = draw(2, 3, 2, 16, 32).float()
    assert torch.equal(network.denoise(z), torch.zeros_like(z))


def test_a_gate_keeps_a_share_of_the_noisy_state_point_by_point():
    network = build(replace(TINY, predict="gate", fit="resample"), spec_of(13, 32))
    z, forcing = windows(network)
    head = network.backbone.head
    assert head.weight.shape[0] == 4 * TINY.patch**2
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.25, -3, 0.5, 1.0]).repeat_interleave(TINY.patch**2))
    x = network.denoise(z, forcing)
    torch.testing.assert_close(x[:, :, 0], 0.25 + 0.5 * z[:, :, 0], rtol=0, atol=1e-14)
    torch.testing.assert_close(x[:, :, 1], -3 + z[:, :, 1], rtol=0, atol=1e-14)


def test_a_scaled_network_errs_by_no_more_than_the_noise_there_is():
    """A new one gives the best estimate cell by cell; what it learns acts by the noise."""
    config = replace(TINY, predict="scaled", known_t=True, fit="resample")
    network = Wind(config, spec_of(13, 32)).double()
    z, forcing = windows(network, 2)
    t = torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.9, 0.4]]).double()
    alpha = (1 - t + t * 1e-3)[..., None, None, None]
    sigma = (t + (1 - t) * 1e-3)[..., None, None, None]
    best = alpha / (alpha**2 + sigma**2) * z
    torch.testing.assert_close(network.denoise(z, forcing, t), best, rtol=0, atol=1e-14)
    with torch.no_grad():
        network.backbone.head.bias.fill_(2.0)
    moved = network.denoise(z, forcing, t) - best
    expected = (2 * sigma / (alpha**2 + sigma**2).sqrt()).expand_as(moved)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-14)
    shake(network)
    seen = []
    network.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = network.denoise(z, forcing, t)
    state = seen[0][:, :2].view(2, 3, 2, *seen[0].shape[-2:])
    again = network.fit((z / (alpha**2 + sigma**2).sqrt()).flatten(0, 1)).view_as(state)
    torch.testing.assert_close(state, again, rtol=0, atol=1e-14)
    assert (x - best).abs().max() > 1e-2


def test_a_stencil_filters_what_is_given_beside_the_levels():
    scaled = replace(TINY, predict="scaled", known_t=True)
    plain, network = build(scaled), build(replace(scaled, stencil=3))
    network.load_state_dict(plain.state_dict(), strict=False)
    z, forcing = windows(network, 2)
    t = torch.tensor([[0.0, 0.5, 1.0], [0.25, 0.5, 1.0]]).double()
    with torch.no_grad():
        kernels = network.stencil.kernels.zero_()
        kernels[16, 0, 1, 2] = 0.5  # at t = 0.5, of the first channel: the eastern neighbour
        kernels[32, 1, 0, 1] = -2.0  # at t = 1, of the second: the northern one
        kernels[8:10, 1, 1, 1] = torch.tensor([1.0, 3.0]).double()  # t = 0.25 and a bit after
    added = network.denoise(z, forcing, t) - plain.denoise(z, forcing, t)
    expected = torch.zeros_like(z)
    half = 0.5005 / (2 * 0.5005**2)  # sigma / (alpha^2 + sigma^2)
    expected[:, 1, 0] = 0.5 * half * z[:, 1, 0].roll(-1, -1)
    end = 1 / (1 + 1e-6)
    expected[:, 2, 1] = -2 * end * torch.cat([z[:, 2, 1, :1], z[:, 2, 1, :-1]], dim=-2)
    alpha, sigma = 0.75025, 0.25075
    expected[1, 0, 1] = sigma / (alpha**2 + sigma**2) * z[1, 0, 1]
    torch.testing.assert_close(added, expected, rtol=0, atol=1e-12)
    between = t.clone()
    between[1, 0] = 8.5 / 32
    added = network.denoise(z, forcing, between) - plain.denoise(z, forcing, between)
    sigma = 8.5 / 32 + (1 - 8.5 / 32) * 1e-3
    alpha = 1 - 8.5 / 32 + 8.5 / 32 * 1e-3
    share = 2.0 * sigma / (alpha**2 + sigma**2)
    torch.testing.assert_close(added[1, 0, 1], share * z[1, 0, 1], rtol=0, atol=1e-12)


def test_a_stencil_begins_as_the_best_linear_filter():
    """Of a field whose covariance is known: the conditional mean, as a Gaussian has it."""
    config = replace(TINY, predict="scaled", known_t=True, stencil=3)
    network = Wind(config, spec_of()).double()
    apart = torch.arange(-2, 3).double()
    decay = torch.exp(-(apart[:, None].square() + apart.square()) / 3)
    network.set_neighbours(torch.stack([decay, 0.5 * decay]))
    z, forcing = windows(network)
    x = network.denoise(z, forcing, torch.full((1, 3), 0.5).double()).detach()
    place = torch.stack(torch.meshgrid(*2 * [torch.arange(3)], indexing="ij"), -1).reshape(9, 2)
    gap = (place[:, None] - place).double().square().sum(-1)
    for channel, variance in enumerate((1.0, 0.5)):
        prior = variance * torch.exp(-gap / 3)
        joint = 0.5005**2 * (prior + torch.eye(9).double())
        seen = z[0, 1, channel, 4:7, 9:12].reshape(9)
        expected = 0.5005 * prior[4] @ torch.linalg.solve(joint, seen)
        assert float(x[0, 1, channel, 5, 10]) == pytest.approx(float(expected), rel=1e-9)
    # without covariance, the best is to look at the cell alone, whatever the time
    lonely = torch.zeros(2, 5, 5).double()
    lonely[:, 2, 2] = 1.0
    network.set_neighbours(lonely)
    assert network.stencil.kernels.abs().max() < 1e-9


def test_the_best_filter_looks_along_the_rows_where_fields_do():
    """A covariance that is long in one direction, and tilted: rows are rows, east is east."""
    config = replace(TINY, predict="scaled", known_t=True, stencil=5)
    network = Wind(config, spec_of(channels=1)).double()

    def covariance(down, east):
        return torch.exp(-(down.square() + 0.8 * down * east + 0.4 * east.square()) / 4)

    apart = torch.arange(-4, 5).double()
    network.set_neighbours(covariance(apart[:, None], apart)[None])
    z, forcing = windows(network)
    x = network.denoise(z, forcing, torch.full((1, 3), 0.5).double()).detach()
    rows, columns = (
        grid.flatten().double() for grid in torch.meshgrid(*2 * [torch.arange(5)], indexing="ij")
    )
    prior = covariance(rows[:, None] - rows, columns[:, None] - columns)
    joint = 0.5005**2 * (prior + torch.eye(25).double())
    expected = 0.5005 * prior[12] @ torch.linalg.solve(joint, z[0, 1, 0, 3:8, 8:13].flatten())
    assert float(x[0, 1, 0, 5, 10]) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("grid", [None, REGION])
def test_beyond_the_edge_of_a_map_its_outermost_cells_go_on(grid):
    """Of a stencil: a globe has an edge at the poles alone."""
    scaled = replace(TINY, predict="scaled", known_t=True)
    spec = spec_of(grid=grid)
    plain, network = build(scaled, spec), build(replace(scaled, stencil=5), spec)
    network.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        network.stencil.kernels.copy_(draw(1, 1, 5, 5).expand_as(network.stencil.kernels))
    z, forcing = windows(network)
    t = torch.ones(1, 3).double()
    added = network.denoise(z, forcing, t) - plain.denoise(z, forcing, t)
    around = np.pad(z.numpy(), [(0, 0)] * 3 + [(2, 2), (0, 0)], mode="edge")
    beyond = "wrap" if grid is None else "edge"
    around = np.pad(around, [(0, 0)] * 4 + [(2, 2)], mode=beyond)
    expected = sum(
        float(draw(1, 1, 5, 5)[0, 0, i, j]) * around[..., i : i + 16, j : j + 32]
        for i in range(5)
        for j in range(5)
    )
    expected = torch.from_numpy(expected) / (1 + 1e-6)  # sigma / (alpha^2 + sigma^2)
    torch.testing.assert_close(added, expected, rtol=0, atol=1e-12)


def test_waves_are_kept_as_they_are_given(tmp_path):
    config = replace(TINY, background=True)
    network = Wind(config, spec_of(forcings=()))
    spectrum = draw(2, 32, 17).square()
    memory = torch.complex(draw(2, 32, 17, seed=2), draw(2, 32, 17, seed=3)) / 10
    network.set_waves(spectrum, memory)
    path = save_checkpoint(tmp_path / "prior", network, network.spec, Card("prior"))
    other = load_checkpoint(path).network
    assert torch.equal(other.spectrum, spectrum.float())
    assert torch.equal(torch.complex(other.memory_real, other.memory_imag), memory.cfloat())
    regional = Wind(config, spec_of(grid=REGION))  # whose columns are extended, too
    assert regional.spectrum.shape == (2, 32, 33)
    blind = build()
    blind.set_waves(spectrum, memory)  # of no use to it
    assert blind.spectrum.numel() == 0


def test_departures_are_from_the_mean_state():
    """A network that sees departures alone, with the mean state taken off and put back."""
    scaled = replace(TINY, predict="scaled", known_t=True)
    plain, network = build(scaled), build(replace(scaled, departures=True))
    state = draw(2, 16, 32)
    network.set_mean_state(state)
    z, forcing = windows(network, 2)
    t = torch.tensor([[0.0, 0.5, 1.0], [0.25, 0.5, 1.0]]).double()
    assert torch.equal(network.denoise_departures(z, forcing, t), plain.denoise(z, forcing, t))
    alpha = ((1 - t) + t * 1e-3)[..., None, None, None]
    expected = state + plain.denoise(z - alpha * state, forcing, t)
    torch.testing.assert_close(network.denoise(z, forcing, t), expected, rtol=0, atol=1e-12)
    twin = Wind.from_config(network.to_config(), network.spec).double()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin.denoise(z, forcing, t), network.denoise(z, forcing, t))
    plain.set_mean_state(state)  # of no use to it
    assert plain.mean_state.numel() == 0


def test_only_what_changed_below_comes_up():
    """Blocks that change nothing leave the levels without effect, whatever goes down and up."""
    network = Wind(replace(TINY, multipliers=(1, 2, 4)), spec_of()).double().backbone
    for module in (network.embed, network.head, network.norm, network.down, network.up):
        shake(module)
    with torch.no_grad():
        for up in network.up:
            up.conv.bias.zero_()
    x = draw(3, 7, 16, 32)
    y = network.head(nn.functional.silu(network.norm(network.embed(x))))
    expected = y.view(3, 2, 2, 2, 8, 16).permute(0, 1, 4, 2, 5, 3).reshape(3, 2, 16, 32)
    found = network(x, network.condition(None))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_every_input_counts():
    network = build(replace(TINY, static=("orography", "land")))
    z, forcing = windows(network, 2)
    forcing.requires_grad_()
    network.static.requires_grad_()
    network.coordinates.requires_grad_()
    network.denoise(z, forcing).square().sum().backward()
    assert forcing.grad.abs().amax((-2, -1)).min() > 1e-6
    assert network.static.grad.abs().amax((-2, -1)).min() > 1e-6
    assert network.coordinates.grad.abs().amax((-2, -1)).min() > 1e-6


def test_forcings_may_be_shared_by_the_members():
    network = build()
    z, forcing = windows(network, 3)
    shared = network.denoise(z, forcing[:1])
    assert torch.equal(shared, network.denoise(z, forcing[:1].repeat(3, 1, 1, 1, 1)))


def test_places_lie_on_the_unit_sphere():
    network = Wind(TINY, spec_of(19, 32, poles=True))
    x = network.coordinates.double()
    assert x.shape == (3, 19, 32)
    torch.testing.assert_close(x.square().sum(0), torch.ones_like(x[0]), rtol=0, atol=1e-6)
    expected = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, 1]]).double()
    here = torch.stack([x[:, 0, 3], x[:, -1, 7], x[:, 9, 0], x[:, 9, 8]])
    torch.testing.assert_close(here, expected, rtol=0, atol=1e-6)


def test_windows_do_not_meet():
    network = build()
    z, forcing = windows(network, 3)
    x = network.denoise(z, forcing)
    alone = network.denoise(z[1:2], forcing[1:2])
    torch.testing.assert_close(alone[0], x[1], rtol=0, atol=1e-12)
    other = draw(*z.shape, seed=9)
    other[1] = z[1]
    torch.testing.assert_close(network.denoise(other, forcing)[1], x[1], rtol=0, atol=1e-12)
    assert torch.equal(network.denoise(z, forcing), x)


# ---- gradients


def test_slopes_of_a_frozen_network():
    """By autograd, by torch.func and by differences."""
    network = build(replace(TINY, predict="gate")).requires_grad_(False)
    z, forcing = windows(network)
    toward, back = draw(*z.shape, seed=5), draw(*z.shape, seed=6)
    _, pull = torch.func.vjp(lambda y: network.denoise(y, forcing), z)
    slope = pull(back)[0]
    leaf = z.clone().requires_grad_()
    expected = torch.autograd.grad(network.denoise(leaf, forcing), leaf, back)[0]
    torch.testing.assert_close(slope, expected, rtol=0, atol=1e-12)
    step = 1e-5 * toward
    change = network.denoise(z + step, forcing) - network.denoise(z - step, forcing)
    numeric = float((change * back).sum()) / 2e-5
    assert float((slope * toward).sum()) == pytest.approx(numeric, rel=1e-6)


def test_computing_again_gives_the_same_gradients():
    network = build(spec=spec_of(16, 16))
    z, forcing = windows(network)
    parameters = list(network.parameters())
    expected = torch.autograd.grad(network(z, forcing).square().sum(), parameters)
    calls = Counter()
    unet = network.backbone
    blocks = [block for level in (*unet.levels_down, unet.middle, *unet.levels_up)
              for block in level.blocks]  # fmt: skip
    parts = [*blocks, *unet.down, *unet.up, unet.head]
    assert len({*parts}) == len(parts) == 5 + 2 + 2 + 1
    for part in parts:
        part.register_forward_pre_hook(lambda module, _: calls.update([module]))
    network.checkpointing = True
    found = torch.autograd.grad(network(z, forcing).square().sum(), parameters)
    assert calls == dict.fromkeys(parts, 2)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("predict", "known_t"),
    [("clean", False), ("clean", True), ("gate", False), ("gate", True), ("scaled", True)],
)
def test_every_parameter_learns(predict, known_t):
    """What is zero at first lets the rest learn from the second or third update on."""
    torch.manual_seed(0)
    stencil = 5 if predict == "scaled" else 0
    config = replace(TINY, predict=predict, known_t=known_t, stencil=stencil)
    network = Wind(config, spec_of(16, 16))
    z, forcing = (x.float() for x in windows(network))
    t = torch.rand(1, 3)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        (network(z, forcing, t) - z.roll(1, 1)).square().mean().backward()
        optimiser.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_a_window_is_learned_by_heart():
    """Noise so weak that the denoiser has only to remember: the error falls by a factor."""
    torch.manual_seed(0)
    network = Wind(TINY, spec_of(16, 16, forcings=()))
    x = draw(1, 3, 2, 2, 2).float().repeat_interleave(8, -1).repeat_interleave(8, -2)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        t = torch.rand(1, 3, 1, 1, 1)
        z = (1 - t) * x + t * torch.randn_like(x)
        loss = (network(z) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(float(x.square().mean()))
    assert sum(losses[-10:]) / 10 < 0.25 * losses[0]


def test_dropout_acts_in_training_only():
    network = build(replace(TINY, dropout=0.5))
    z, forcing = windows(network)
    assert torch.equal(network(z, forcing), network(z, forcing))
    network.train()
    assert not torch.equal(network(z, forcing), network(z, forcing))


def test_half_precision_inside():
    network = build(replace(TINY, predict="gate", fit="resample"), spec_of(13, 32)).float()
    z, forcing = (x.float() for x in windows(network))
    z.requires_grad_()
    expected = network(z, forcing)
    with torch.autocast("cpu", torch.bfloat16):
        x = network(z, forcing)
    assert x.dtype == torch.float32
    off = (x - expected).square().mean().sqrt() / expected.std()
    assert 1e-6 < off < 0.05
    assert torch.autograd.grad(x.sum(), z)[0].isfinite().all()


# ---- counts


def formula(config: WindConfig, spec: Spec) -> int:
    """Count the parameters layer by layer."""
    c, channels = config, len(spec.channels)
    places = {"full": 3, "latitude": 1, "none": 0}[c.coordinates]
    inputs = channels + len(spec.forcings) + len(c.static) + places
    outputs = channels * (2 if c.predict == "gate" else 1)
    total = (inputs * c.patch**2 + 1) * c.channels[0]
    total += 2 * c.channels[0] + (c.channels[0] + 1) * outputs * c.patch**2
    total += 2 * (c.condition + 1) * c.condition if c.known_t else c.condition
    total += 33 * channels * c.stencil**2
    for level, d in enumerate(c.channels):
        film = (c.condition + 1) * 2 * d
        if level in c.attend:
            hidden = round(c.ratio * d)
            mlp = 2 * hidden * d + hidden + d
            block = 2 * film + 4 * d * (d + 1) + 2 * (d // c.heads) + mlp
        else:
            block = film + 2 * d + 2 * (9 * d * d + d)
        last = level == c.levels - 1
        total += (1 if last else 2) * c.depths[level] * block
        if not last:
            below = c.channels[level + 1]
            total += (4 * d + 1) * below + (below + 1) * 4 * d
    return total


@pytest.mark.parametrize(
    ("name", "spec", "size", "total"),
    [
        ("wind_paper", spec_of(121, 240, channels=70, poles=True), (128, 240), 376_595_032),
        ("wind_mini", spec_of(73, 144, poles=True), (80, 144), 2_002_410),
        ("wind_tiny", spec_of(), (16, 32), 51_904),
    ],
)
def test_presets_on_the_meta_device(name, spec, size, total):
    config = WindConfig.preset(name)
    with torch.device("meta"):
        network = Wind(config, spec)
        x = network.denoise(
            torch.zeros(1, 5, len(spec.channels), *spec.grid.shape),
            torch.zeros(1, 5, len(spec.forcings), *spec.grid.shape),
            torch.zeros(1, 5),
        )
    assert x.shape == (1, 5, len(spec.channels), *spec.grid.shape)
    assert network.fit.size == size
    assert all(p.is_meta for p in network.parameters())
    count = sum(p.numel() for p in network.parameters())
    assert count == formula(config, spec) == total
    if name == "wind_mini":
        assert count < 5_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"known_t": True, "predict": "gate", "coordinates": "latitude"},
        {"multipliers": (1, 2), "depths": (2, 3), "attend": (0,), "static": ("a", "b")},
        {"multipliers": (1,), "depths": (0,), "attend": (), "coordinates": "none"},
    ],
)
def test_counts_follow_the_formula(changes):
    config = replace(TINY, **changes)
    with torch.device("meta"):
        network = Wind(config, spec_of())
    assert sum(p.numel() for p in network.parameters()) == formula(config, spec_of())


class Step(nn.Module):
    """One call of the denoiser, as the footprint calls a network: the newest frame is the state."""

    def __init__(self, network: Wind) -> None:
        super().__init__()
        self.network = network

    def forward(self, x, forcing, memory):
        forcing = forcing[:, None].expand(-1, self.network.frames, -1, -1, -1)
        return self.network.denoise(x, forcing)[:, -1].clone(), memory


def test_the_footprint_is_known_without_computing():
    config = replace(TINY, multipliers=(1,), depths=(1,), attend=())
    spec = spec_of()
    network = Wind(config, spec).eval()
    found = footprint(Step(network), replace(spec, history=3), device=torch.device("cpu"))
    assert found.weights == weights_of(network)
    # The patches, two convolutions, the modulation of one condition, and the head.
    cells, patches = 3 * 16 * 32, 3 * 8 * 16
    products = cells * 7 * 16 + 2 * patches * 9 * 16 * 16 + 8 * 32 + patches * 16 * 8
    assert found.operations == 2 * products
    whole = Wind(TINY, spec).eval()
    found = footprint(Step(whole), replace(spec, history=3), device=torch.device("cpu"))
    assert found.memory == 0
    assert found.operations > 2 * products
    assert found.activations > 3 * 9 * 16 * 32 * 4  # what the network is told


# ---- static fields and files


def test_static_fields_are_normalised_and_kept_with_the_weights(tmp_path):
    config = replace(TINY, static=("orography", "land"))
    network = build(config).float()
    fields = torch.stack([draw(16, 32) * 900 + 400, (draw(16, 32, seed=2) > 0).double()])
    network.set_static(["land", "orography"], fields.flip(0))
    normal = (fields - fields.mean((1, 2), keepdim=True)) / fields.std(
        (1, 2), keepdim=True, correction=0
    )
    torch.testing.assert_close(network.static.double(), normal, rtol=0, atol=1e-6)
    path = save_checkpoint(tmp_path / "prior", network, network.spec, Card("prior"))
    model = load_checkpoint(path)
    assert isinstance(model.network, Wind)
    assert model.network.config == config
    assert torch.equal(model.network.static, network.static)
    z, forcing = (x.float() for x in windows(network))
    assert torch.equal(model.network.denoise(z, forcing), network.denoise(z, forcing))
    network.set_static(["orography", "land"], torch.full((2, 16, 32), 0.1))
    assert not network.static.any()


def test_static_fields_that_do_not_fit():
    network = build(replace(TINY, static=("orography",)))
    with pytest.raises(ValueError, match=r"static fields land: this network takes orography"):
        network.set_static(["land"], torch.zeros(1, 16, 32))
    with pytest.raises(ValueError, match=r"need \(names, rows, columns\) = \(1, 16, 32\)"):
        network.set_static(["orography"], torch.zeros(1, 16, 31))
    with pytest.raises(ValueError, match="'orography' holds numbers that are not finite"):
        network.set_static(["orography"], torch.full((1, 16, 32), torch.nan))
    with pytest.raises(ValueError, match="this network takes none"):
        build().set_static(["orography"], torch.zeros(1, 16, 32))


def test_a_checkpoint_brings_back_the_same_bits(tmp_path):
    network = build(replace(TINY, fit="resample", known_t=True), spec_of(13, 20)).float()
    network.set_statistics(torch.tensor([1.0, 2]), torch.tensor([3.0, 4]), torch.tensor([5.0, 6]))
    path = save_checkpoint(tmp_path / "prior", network, network.spec, Card("prior"))
    other = load_checkpoint(path).network
    assert isinstance(other, find_architecture("wind"))
    assert other.mean.flatten().tolist() == [1, 2]
    assert other.std.flatten().tolist() == [3, 4]
    assert other.increment_std.flatten().tolist() == [5, 6]
    z, forcing = (x.float() for x in windows(network))
    t = torch.rand(1, 3)
    assert torch.equal(other(z, forcing, t), network(z, forcing, t))


# ---- configurations


def test_a_configuration_survives_json():
    for config in (*PRESETS.values(), replace(TINY, static=("orography",), predict="gate")):
        assert WindConfig.from_mapping(json.loads(json.dumps(asdict(config)))) == config
    network = build()
    twin = Wind.from_config(json.loads(json.dumps(network.to_config())), network.spec)
    assert twin.config == network.config
    assert twin.frames == 3


def test_a_mapping_may_start_from_a_preset():
    config = WindConfig.from_mapping({"preset": "wind_tiny", "frames": 3})
    assert config == TINY
    assert TINY.stride == 8
    assert WindConfig().stride == 16
    assert WindConfig().channels == (256, 512, 1024, 2048)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "wind_huge"}, "wind_paper, wind_mini, wind_tiny"),
        ({"dim": 3}, "unknown WIND settings dim"),
        ({"fit": "crop"}, "fit='crop': choose from pad, resample"),
        ({"coordinates": "lon"}, "coordinates='lon'"),
        ({"predict": "noise"}, "predict='noise': choose from clean, gate"),
        ({"predict": "scaled"}, "predict='scaled' with known_t=False"),
        ({"departures": True}, "departures=True with known_t=False"),
        ({"stencil": 4}, "stencil=4: give an odd number"),
        ({"stencil": 3}, "stencil=3 with predict='clean'"),
        ({"frames": 0}, "frames=0: at least 1"),
        ({"condition": 7}, "condition=7: give an even number"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"static": ("a", "a")}, "every name once"),
        ({"depths": (1, 1)}, "one of each a level"),
        ({"depths": (1, 1, 1, -1)}, "depths at least 0"),
        ({"attend": (4,)}, "no level 4 of 0 to 3"),
        ({"multipliers": (1, 3, 6, 6)}, "256 above 768: 4 x 256 does not divide by 768"),
        ({"heads": 3}, "level 2 with 1024 channels and heads=3"),
        ({"groups": 48}, "level 0 with 256 channels does not divide by groups=48"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        WindConfig.from_mapping(values)


def test_inputs_that_do_not_fit():
    network = build()
    z, forcing = windows(network, 2)
    for wrong in (z[:, :2], z[:, :, :1], z[..., 1:], z[0]):
        with pytest.raises(ValueError, match="3, 2, 16, 32"):
            network.denoise(wrong, forcing)
    for wrong in (
        None,
        forcing[:, :1],
        forcing[..., 1:],
        forcing[0],
        forcing.repeat(2, 1, 1, 1, 1),
    ):
        with pytest.raises(ValueError, match="cos_local_time, sin_year"):
            network.denoise(z, wrong)
    plain = build(spec=spec_of(forcings=()))
    with pytest.raises(ValueError, match="none"):
        plain.denoise(z, forcing)
    with pytest.raises(ValueError, match="36 columns round the globe do not divide by 8"):
        Wind(TINY, spec_of(16, 36))
