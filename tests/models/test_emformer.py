"""EMFormer: symmetries, edges, counts and seams, each against an exact answer."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xwx.models.emformer import PRESETS, EMFormer, EMFormerConfig
from xwx.models.layers.attention import CrossAttention, global_attention, window_attention
from xwx.models.layers.blocks import Block, Reach, hybrid
from xwx.models.layers.convolutions import MultiConvs
from xwx.models.layers.embeddings import lay_out
from xwx.models.layers.hierarchy import Prune, Recover, join, split
from xwx.models.layers.maps import TokenMap
from xwx.options import set_options
from xwx.spec import Channel, Grid, Spec

TINY = EMFormerConfig(
    dim=16,
    heads=2,
    depth=4,
    ratio=2.0,
    levels=2,
    outer=2,
    windows=((2, 4), (4, 2)),
    positions="latitude",
)


def spec_of(
    rows: int = 12,
    columns: int = 32,
    *,
    channels: int = 2,
    history: int = 1,
    forcings: tuple[str, ...] = (),
    poles: bool = False,
) -> Spec:
    names = tuple(Channel("t", 1000.0 * (n + 1)) for n in range(channels))
    grid = Grid.regular(rows, columns, poles=poles)
    return Spec(names, grid, history=history, forcings=forcings)


def build(config: EMFormerConfig = TINY, spec: Spec | None = None, seed: int = 0) -> EMFormer:
    """Return a double-precision network in which no parameter is left at its initial value."""
    torch.manual_seed(seed)
    network = EMFormer(config, spec or spec_of()).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def states(spec: Spec, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, spec.history, len(spec.channels), *spec.grid.shape)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# ---- longitude


@pytest.mark.parametrize("rows", [12, 11])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cross": False},
        {"recover_keys": "self", "latitude": "pole"},
        {"predict": "increment", "positions": "none", "kernels": ()},
        {"levels": 0, "outer": 0, "patch": 4},
    ],
)
def test_turning_the_globe_turns_the_forecast(changes, rows):
    spec = spec_of(rows, 64)
    network = build(replace(TINY, **changes), spec)
    x = states(spec)
    y, _ = network(x)
    # patch x merges in longitude x the widest window (of which the narrower ones are divisors)
    shift = network.config.patch * 2 ** ((network.config.levels + 1) // 2) * 4
    for turn in (shift, 3 * shift):
        turned, _ = network(x.roll(turn, dims=-1))
        torch.testing.assert_close(turned, y.roll(turn, dims=-1), rtol=0, atol=1e-11)
    assert (y.roll(shift, dims=-1) - y).abs().max() > 1e-2


def test_without_windows_one_merged_patch_is_enough():
    spec = spec_of(12, 32)
    network = build(replace(TINY, outer=0, depth=2, windows=((12, 64),)), spec)
    x = states(spec)
    y, _ = network(x)
    torch.testing.assert_close(
        network(x.roll(4, dims=-1))[0], y.roll(4, dims=-1), rtol=0, atol=1e-11
    )


def test_full_positions_know_the_longitude():
    network = build(replace(TINY, positions="full"))
    x = states(network.spec)
    y, _ = network(x)
    assert (network(x.roll(16, dims=-1))[0] - y.roll(16, dims=-1)).abs().max() > 1e-2


# ---- rows that do not divide


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("rows", [73, 37, 19])
def test_the_southernmost_row_is_read_and_predicted(rows, levels):
    spec = spec_of(rows, 16, poles=True)
    config = replace(TINY, dim=8, outer=1, depth=2, levels=levels)
    network = build(config, spec)
    x = states(spec).requires_grad_()
    y, _ = network(x)
    assert y.shape == (1, 2, rows, 16)
    slope = torch.autograd.grad(y[..., -1, :].square().sum(), x)[0]
    assert slope[..., -1, :].abs().min() > 1e-9
    assert slope[..., 0, :].abs().min() > 0  # and it hears of the other pole
    moved = y.std(-1)[0, 0]  # no row is a constant
    assert moved.min() > 1e-3


@pytest.mark.parametrize("keys", ["neighbourhood", "self"])
@pytest.mark.parametrize("latitude", ["zero", "pole"])
@pytest.mark.parametrize("rows", [19, 17, 9])
def test_nothing_in_the_padding_reaches_the_forecast(rows, latitude, keys):
    """Garbage in the padding tokens after every layer leaves the forecast as it is, bit for bit."""
    spec = spec_of(rows, 32, poles=True)
    config = replace(TINY, levels=4, outer=1, latitude=latitude, recover_keys=keys)
    network = build(config, spec)
    x = states(spec)
    expected, _ = network(x)

    maps = [network.where]
    for prune in network.prune:
        maps.append(maps[-1].merged(prune.axis))
    assert any(where.valid < where.height for where in maps)

    def spoil(where: TokenMap):
        def hook(module, inputs, output):
            tokens, rest = output if isinstance(output, tuple) else (output, None)
            tokens = tokens.clone()
            tokens[:, where.valid * where.width :] = 1e3 * torch.randn_like(
                tokens[:, where.valid * where.width :]
            )
            return tokens if rest is None and not isinstance(output, tuple) else (tokens, rest)

        return hook

    network.embed.register_forward_hook(spoil(maps[0]))
    for finer, coarse, prune, recover, before, after in zip(
        maps, maps[1:], network.prune, network.recover, network.before, network.after, strict=False
    ):
        prune.register_forward_hook(spoil(coarse))
        recover.register_forward_hook(spoil(finer))
        for block in (*before, *after):
            block.register_forward_hook(spoil(finer))
    for block in network.valley:
        block.register_forward_hook(spoil(maps[-1]))
    torch.testing.assert_close(network(x)[0], expected, rtol=0, atol=0)


def test_a_quarter_degree_globe_loses_no_row():
    config = EMFormerConfig(patch=4, dim=64, heads=4, depth=2, outer=1)
    spec = spec_of(721, 1440, channels=3, poles=True)
    with torch.device("meta"):
        network = EMFormer(config, spec)
        y, _ = network(torch.zeros(1, 1, 3, 721, 1440))
    assert y.shape == (1, 3, 721, 1440)
    where = network.where
    assert (where.height, where.width, where.valid) == (184, 360, 181)  # 181 x 4 >= 721
    for prune in network.prune:
        where = where.merged(prune.axis)
    assert (where.height, where.width, where.valid) == (46, 90, 46)


@pytest.mark.parametrize(
    ("shape", "patch", "axes", "expected"),
    [
        ((64, 128), 1, ("lon", "lat", "lon", "lat"), (64, 128, 64)),
        ((73, 144), 2, ("lon", "lat"), (38, 72, 37)),
        ((721, 1440), 4, (), (181, 360, 181)),
        ((5, 8), 2, ("lat", "lat"), (4, 4, 3)),
    ],
)
def test_layouts(shape, patch, axes, expected):
    where = lay_out(shape, patch, axes, periodic=True)
    assert (where.height, where.width, where.valid) == expected


def test_four_levels_make_16_by_32_of_64_by_128():
    with torch.device("meta"):
        network = EMFormer(EMFormerConfig.preset("emformer_budget"), spec_of(128, 256))
    where, sizes = network.where, []
    for prune in network.prune:
        sizes.append(where.size)
        where = where.merged(prune.axis)
    assert [*sizes, where.size] == [(64, 128), (64, 64), (32, 64), (32, 32), (16, 32)]


# ---- regional grids


def test_a_region_does_not_wrap():
    latitude, longitude = range(50, 26, -2), range(10, 74, 2)
    spec = Spec((Channel("msl"),), Grid(tuple(latitude), tuple(longitude)))
    assert not spec.grid.periodic
    config = replace(TINY, outer=1, depth=1, levels=0, recover_keys="neighbourhood")
    network = build(config, spec)
    x = states(spec).requires_grad_()
    y, _ = network(x)
    west = torch.autograd.grad(y[..., 0].square().sum(), x)[0]
    assert west[..., 0].abs().min() > 0
    assert west[..., -8:].abs().max() == 0  # a globe would bring in its last columns
    globe = build(config, spec_of(12, 32, channels=1))
    west = torch.autograd.grad(globe(x)[0][..., 0].square().sum(), x)[0]
    assert west[..., -4:].abs().max() > 0


# ---- attention inside windows


def naive_windows(
    qkv: Tensor, where: TokenMap, heads: int, window: tuple[int, int], *, roll: bool
) -> Tensor:
    """Attend token by token: find each token's window on the map, list its members, softmax."""
    rows, columns = min(window[0], where.valid), min(window[1], where.width)
    width = where.width
    shift = columns // 2 if roll and where.periodic and width % columns == 0 else 0
    batch, _, dim3 = qkv.shape
    q, k, v = (part.view(batch, where.height, width, heads, -1) for part in qkv.chunk(3, -1))
    out = torch.zeros(batch, where.height, width, dim3 // 3, dtype=qkv.dtype)
    for r in range(where.valid):
        for c in range(width):
            top = r // rows * rows
            left = shift + (c - shift) % width // columns * columns
            members = [
                (i, j % width)
                for i in range(top, min(top + rows, where.valid))
                for j in range(left, left + columns)
                if where.periodic or j < width
            ]
            i, j = (list(index) for index in zip(*members, strict=True))
            score = torch.einsum("bhd,bnhd->bhn", q[:, r, c], k[:, i, j]) / q.shape[-1] ** 0.5
            mixed = torch.einsum("bhn,bnhd->bhd", score.softmax(-1), v[:, i, j])
            out[:, r, c] = mixed.flatten(1)
    return out.flatten(1, 2)


@pytest.mark.parametrize("roll", [False, True])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("size", "valid", "window"),
    [
        ((4, 8), 4, (2, 4)),  # divides
        ((4, 8), 3, (2, 4)),  # a padding row
        ((6, 8), 5, (4, 2)),  # rows do not divide
        ((4, 7), 4, (2, 4)),  # columns do not divide
        ((6, 10), 5, (4, 4)),  # neither
        ((3, 4), 2, (8, 8)),  # the window is larger than the map
    ],
)
def test_windows_are_the_windows_on_the_map(size, valid, window, periodic, roll):
    where = TokenMap(*size, valid=valid, periodic=periodic)
    qkv = torch.randn(2, size[0] * size[1], 12, dtype=torch.float64)
    out = window_attention(qkv, where, 2, window, roll=roll)
    expected = naive_windows(qkv, where, 2, window, roll=roll)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_a_window_as_large_as_the_map_is_global_attention():
    for periodic, valid in ((True, 4), (True, 3), (False, 3)):
        where = TokenMap(4, 6, valid=valid, periodic=periodic)
        qkv = torch.randn(2, 24, 12, dtype=torch.float64)
        everywhere, _ = global_attention(qkv, where, 2)
        for roll in (False, True):
            inside = window_attention(qkv, where, 2, (4, 6), roll=roll)
            n = valid * 6
            torch.testing.assert_close(inside[:, :n], everywhere[:, :n], rtol=0, atol=1e-12)


def test_rolled_windows_cross_the_date_line_unmasked():
    where = TokenMap(2, 8, valid=2, periodic=True)
    qkv = torch.randn(1, 16, 12, dtype=torch.float64, requires_grad=True)
    out = window_attention(qkv, where, 2, (2, 4), roll=True).view(2, 8, 4)
    slope = torch.autograd.grad(out[0, 0].sum(), qkv)[0].view(2, 8, 12)[..., 8:]
    heard = slope.abs().amax((0, 2)) > 0
    assert heard.tolist() == [True, True, False, False, False, False, True, True]


def test_padding_rows_are_never_attended_to():
    where = TokenMap(6, 4, valid=5, periodic=True)
    qkv = torch.randn(1, 24, 12, dtype=torch.float64, requires_grad=True)
    everywhere, _ = global_attention(qkv, where, 2)
    inside = window_attention(qkv, where, 2, (4, 4), roll=False)
    for out in (everywhere, inside):
        slope = torch.autograd.grad(out[:, :20].square().sum(), qkv, retain_graph=True)[0]
        assert slope[:, 20:].abs().max() == 0
        assert slope[:, :20].abs().min() > 0


def test_blocks_take_turns():
    windows = ((8, 8), (16, 4), (4, 16))
    reaches = [hybrid(n, windows, roll=True) for n in range(8)]
    assert [r.window for r in reaches] == [
        (8, 8),
        None,
        (16, 4),
        None,
        (4, 16),
        None,
        (8, 8),
        None,
    ]
    assert [r.roll for r in reaches] == [False, False, True, False, False, False, True, False]
    outer = [hybrid(n, windows, roll=False, windows_only=True) for n in range(4)]
    assert [r.window for r in outer] == [(8, 8), (16, 4), (4, 16), (8, 8)]
    assert not any(r.roll for r in outer)


# ---- the block


@pytest.mark.parametrize("reach", [Reach(), Reach((2, 4), roll=True)])
def test_identity_kernels_leave_the_plain_attention_block(reach):
    torch.manual_seed(0)
    where = TokenMap(4, 8, valid=3, periodic=True)
    convs = MultiConvs(3 * 16)
    block = Block(16, 2, 4.0, reach, convs).double()
    assert sum(p.numel() for p in convs.parameters()) == 35 * 3 * 16
    with torch.no_grad():
        for kernel in convs.kernels[1:]:
            kernel.zero_()
    plain = Block(16, 2, 4.0, reach, None).double()
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if "convs" not in k})
    x = torch.randn(2, 32, 16, dtype=torch.float64)
    assert torch.equal(block(x, where)[0], plain(x, where)[0])


def test_convolution_weights_of_the_whole_network():
    count = {}
    for kernels in ((), (1, 3, 5), (3,)):
        with torch.device("meta"):
            network = EMFormer(replace(TINY, kernels=kernels), spec_of())
        count[kernels] = sum(p.numel() for p in network.parameters())
    blocks = TINY.depth + 2 * TINY.levels * TINY.outer
    assert count[1, 3, 5] - count[()] == blocks * 35 * 3 * TINY.dim
    assert count[(3,)] - count[()] == blocks * 9 * 3 * TINY.dim


def test_initial_kernels():
    torch.manual_seed(0)
    convs = MultiConvs(600, (5, 1, 3))
    assert [k.shape[-1] for k in convs.kernels] == [1, 3, 5]
    assert torch.equal(convs.kernels[0], torch.ones(600, 1, 1, 1))
    for kernel, k in zip(convs.kernels[1:], (3, 5), strict=True):
        assert float(kernel.detach().std()) == pytest.approx(0.02 / k, rel=0.05)
    dense = MultiConvs(6, (1, 3), groups=2)
    with torch.no_grad():
        dense.kernels[1].zero_()
    x = torch.randn(1, 12, 6)
    where = TokenMap(3, 4, valid=3, periodic=True)
    assert torch.equal(dense(x, where), x)
    xavier = MultiConvs(64, (3,), groups=1, init="xavier").kernels[0].detach()
    bound = (6 / (9 * 128)) ** 0.5
    assert float(xavier.abs().max()) <= bound
    assert float(xavier.std()) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_the_pole_lies_beyond_the_last_row_with_data():
    convs = MultiConvs(2, (5,), latitude="pole").double()
    x = torch.randn(1, 24, 2, dtype=torch.float64)
    padded = convs(x, TokenMap(4, 6, valid=3, periodic=True))
    exact = convs(x[:, :18], TokenMap(3, 6, valid=3, periodic=True))
    assert torch.equal(padded[:, :18], exact)


# ---- prune and recover


@pytest.mark.parametrize("axis", ["lon", "lat"])
@pytest.mark.parametrize(("height", "width"), [(4, 6), (2, 2), (6, 4)])
def test_split_and_join_are_inverse(axis, height, width):
    where = TokenMap(height, width, valid=height, periodic=True)
    x = torch.randn(2, height * width, 3)
    pairs = split(x, where, axis)
    assert torch.equal(join(pairs, where, axis), x)
    tokens = x.view(2, height, width, 3)
    if axis == "lon":
        first, second = tokens[:, :, 0::2], tokens[:, :, 1::2]
    else:
        first, second = tokens[:, 0::2], tokens[:, 1::2]
    assert torch.equal(pairs[:, :, 0], first.reshape(2, -1, 3))
    assert torch.equal(pairs[:, :, 1], second.reshape(2, -1, 3))


def test_permutation_weights_make_recover_the_inverse_of_prune():
    """Two tokens of dim 8, of which 4 are used, fit into one: four levels up and down are exact."""
    dim, used = 32, 2
    where = TokenMap(8, 8, valid=8, periodic=True)
    x = torch.zeros(1, 64, dim, dtype=torch.float64)
    x[..., :used] = torch.randn(1, 64, used, dtype=torch.float64)
    down, up, maps, f = [], [], [where], x
    for level, axis in enumerate(("lon", "lat", "lon", "lat")):
        size = used * 2**level
        prune = Prune(dim, 2, 2.0, axis, cross=False).double()
        recover = Recover(dim, 2, 2.0, axis, cross=False, keys="self").double()
        permutation = torch.zeros(dim, 2 * dim, dtype=torch.float64)
        for n in range(size):
            permutation[n, n] = 1
            permutation[size + n, dim + n] = 1
        with torch.no_grad():
            prune.merge.weight.copy_(permutation)
            recover.spread.weight.copy_(permutation.T)
            prune.merge.bias.zero_()
            recover.spread.bias.zero_()
        down.append(prune)
        up.append(recover)
    with torch.no_grad():
        for prune in down:
            f, where = prune(f, where)
            maps.append(where)
        assert where.size == (2, 2)
        for recover, (finer, coarse) in reversed(list(zip(up, pairwise(maps), strict=True))):
            f = recover(f, coarse, torch.zeros(1, f.shape[1] * 2, dim, dtype=f.dtype), finer)
    assert torch.equal(f, x)


@pytest.mark.parametrize("cross", [False, True])
def test_a_patch_stays_within_its_parent(cross):
    torch.manual_seed(0)
    start = TokenMap(8, 16, valid=8, periodic=True)
    prunes = [Prune(8, 2, 2.0, axis, cross=cross) for axis in ("lon", "lat", "lon", "lat")]

    def merge(x: Tensor) -> Tensor:
        where = start
        for prune in prunes:
            x, where = prune(x, where)
        return x.view(2, 4, 8)

    background = torch.randn(1, 128, 8)
    for row, column in ((0, 0), (3, 7), (5, 15), (4, 8)):
        spot = background.clone()
        spot[0, row * 16 + column] += 1
        changed = (merge(spot) != merge(background)).any(-1)
        expected = torch.zeros(2, 4, dtype=torch.bool)
        expected[row // 4, column // 4] = True
        assert torch.equal(changed, expected)


def attention(module: CrossAttention, x: Tensor, keys: Tensor) -> Tensor:
    """Return ``CrossAttn(LN x; LN keys)`` of one set, head by head, by the textbook."""
    p = dict(module.named_parameters())

    def norm(a: Tensor, name: str) -> Tensor:
        a = (a - a.mean(-1, keepdim=True)) / (a.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        return a * p[f"{name}.weight"] + p[f"{name}.bias"]

    dim = x.shape[-1]
    q = norm(x, "norm_query") @ p["query.weight"].T + p["query.bias"]
    kv = norm(keys, "norm_key") @ p["key_value.weight"].T + p["key_value.bias"]
    k, v, d = kv[:, :dim], kv[:, dim:], dim // module.heads
    out = []
    for h in range(module.heads):
        part = slice(h * d, (h + 1) * d)
        out.append(torch.softmax(q[:, part] @ k[:, part].T / d**0.5, -1) @ v[:, part])
    return torch.cat(out, -1) @ p["proj.weight"].T + p["proj.bias"]


@pytest.mark.parametrize("axis", ["lon", "lat"])
def test_prune_is_its_equations(axis):
    torch.manual_seed(0)
    where = TokenMap(4, 6, valid=4, periodic=True)
    prune = Prune(8, 2, 2.0, axis, cross=True).double()
    x = torch.randn(2, 24, 8, dtype=torch.float64)
    out, merged = prune(x, where)
    assert merged.size == ((4, 3) if axis == "lon" else (2, 6))
    for row, column in ((0, 0), (1, 2), (merged.height - 1, merged.width - 1)):
        if axis == "lon":
            pair = x.view(2, 4, 6, 8)[1, row, [2 * column, 2 * column + 1]]
        else:
            pair = x.view(2, 4, 6, 8)[1, [2 * row, 2 * row + 1], column]
        g = prune.merge(pair.flatten())
        g = g + attention(prune.attend, g[None], pair)[0]
        g = g + prune.mlp(prune.norm(g))
        found = out[1].view(*merged.size, 8)[row, column]
        torch.testing.assert_close(found, g, rtol=0, atol=1e-12)


@pytest.mark.parametrize("axis", ["lon", "lat"])
def test_recover_is_its_equations(axis):
    torch.manual_seed(0)
    where = TokenMap(6, 8, valid=6, periodic=True)
    coarse = where.merged(axis)
    recover = Recover(8, 2, 2.0, axis, cross=True, keys="neighbourhood").double()
    v = torch.randn(2, 24, 8, dtype=torch.float64)
    residual = torch.randn(2, 48, 8, dtype=torch.float64)
    out = recover(v, coarse, residual, where)
    grid = v[1].view(*coarse.size, 8)
    for row, column in ((0, 0), (3, 5), (5, 7)):
        i, j = (row, column // 2) if axis == "lon" else (row // 2, column)
        half = (column if axis == "lon" else row) % 2
        u = recover.spread(grid[i, j])[8 * half : 8 * half + 8]
        u = u + residual[1].view(6, 8, 8)[row, column]
        keys = [
            grid[a, b % coarse.width]
            for a in (i - 1, i, i + 1)
            for b in (j - 1, j, j + 1)
            if 0 <= a < coarse.height
        ]
        u = u + attention(recover.attend, u[None], torch.stack(keys))[0]
        u = u + recover.mlp(recover.norm(u))
        found = out[1].view(6, 8, 8)[row, column]
        torch.testing.assert_close(found, u, rtol=0, atol=1e-12)


def test_a_block_is_its_equations():
    torch.manual_seed(0)
    where = TokenMap(3, 4, valid=3, periodic=True)
    block = Block(8, 2, 2.0, Reach(), MultiConvs(24)).double()
    x = torch.randn(1, 12, 8, dtype=torch.float64)
    qkv = block.convs(block.qkv(block.norm_attention(x)), where)[0]
    heads = []
    for h in range(2):
        q, k, v = (qkv[:, n * 8 + h * 4 : n * 8 + h * 4 + 4] for n in range(3))
        heads.append(torch.softmax(q @ k.T / 2, -1) @ v)
    h = x[0] + block.proj(torch.cat(heads, -1))
    expected = h + block.mlp(block.norm_mlp(h))
    torch.testing.assert_close(block(x, where)[0][0], expected, rtol=0, atol=1e-12)


def test_attention_to_a_single_key_ignores_the_query():
    torch.manual_seed(0)
    attend = CrossAttention(8, 2).double()
    keys = torch.randn(5, 1, 8, dtype=torch.float64)
    x = torch.randn(5, 3, 8, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(attend(x, keys).square().sum(), x)[0]
    assert slope.abs().max() <= 1e-15
    moved = attend(x + torch.randn_like(x), keys)
    torch.testing.assert_close(moved, attend(x, keys), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("keys", "heard"), [("self", False), ("neighbourhood", True)])
def test_query_weights_of_recover(keys, heard):
    network = build(replace(TINY, recover_keys=keys))
    network(states(network.spec))[0].square().sum().backward()
    for recover in network.recover:
        slope = recover.attend.query.weight.grad.abs().max()
        scale = recover.attend.key_value.weight.grad.abs().max()
        assert (slope > 1e-6 * scale) == heard


@pytest.mark.parametrize("periodic", [True, False])
def test_recover_looks_at_the_neighbours_that_exist(periodic):
    torch.manual_seed(0)
    where = TokenMap(6, 8, valid=5, periodic=periodic)
    coarse = where.merged("lat")
    assert coarse.valid == 3
    recover = Recover(8, 2, 2.0, "lat", cross=True, keys="neighbourhood").double()
    with torch.no_grad():
        recover.spread.weight.zero_()  # leave only the path through the neighbours
    v = torch.randn(1, 24, 8, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(1, 48, 8, dtype=torch.float64)
    out = recover(v, coarse, residual, where).view(6, 8, 8)
    for row, column in ((0, 0), (3, 4), (4, 7)):
        slope = torch.autograd.grad(out[row, column].sum(), v, retain_graph=True)[0]
        heard = {divmod(int(n), 8) for n in torch.nonzero(slope[0].abs().amax(-1))}
        expected = {
            (i, j % 8)
            for i in range(row // 2 - 1, row // 2 + 2)
            for j in range(column - 1, column + 2)
            if 0 <= i < 3 and (periodic or 0 <= j < 8)
        }
        assert heard == expected


# ---- seams


def test_batch_entries_do_not_meet():
    spec = spec_of(11, 32, history=2, forcings=("sin_latitude",))
    network = build(spec=spec)
    x, other = states(spec, 3), states(spec, 3, seed=9)
    forcing = torch.randn(3, 1, 11, 32, dtype=torch.float64)
    y, _ = network(x, forcing)
    mixed = torch.stack([other[0], x[1], other[2]])
    alone, _ = network(x[1:2], forcing[1:2])
    torch.testing.assert_close(network(mixed, forcing)[0][1], y[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(alone[0], y[1], rtol=0, atol=1e-12)


class Remembering:
    """A memory that counts its steps and adds nothing."""

    def __init__(self, log: list, steps: int = 0) -> None:
        self.log, self.steps = log, steps

    def attend(self, q, k, v, bias=None):
        self.log.append((q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return out, Remembering(self.log, self.steps + 1)


@pytest.mark.parametrize("rows", [12, 17])
def test_a_memory_sees_the_global_blocks_and_comes_back(rows):
    spec = spec_of(rows, 32)
    network = build(replace(TINY, levels=4 if rows == 17 else 2), spec)
    x = states(spec, 2)
    expected, none = network(x)
    assert none is None
    log: list = []
    memory = [Remembering(log) for _ in network.valley]
    y, after = network(x, None, memory)
    assert torch.equal(y, expected)
    assert [m.steps for m in after] == [0, 1, 0, 1]
    assert after[0] is memory[0]
    assert all(m.steps == 0 for m in memory)  # the old one is left as it was
    coarse = network.where
    for prune in network.prune:
        coarse = coarse.merged(prune.axis)
    tokens = coarse.valid * coarse.width  # what lies beyond the southern edge is not remembered
    assert len(log) == 2
    for q, k, v in log:
        assert q.shape == k.shape == v.shape == (2, 2, tokens, 8)
    _, again = network(x, None, after)
    assert [m.steps for m in again] == [0, 2, 0, 2]
    assert network(x, None, [None] * 4)[1] == [None] * 4


def test_what_a_memory_answers_is_used():
    class Silent:
        def attend(self, q, k, v, bias=None):
            return torch.zeros_like(q), self

    network = build()
    x = states(network.spec)
    y, _ = network(x, None, [Silent()] * 4)
    assert (y - network(x)[0]).abs().max() > 1e-2


# ---- the compiler, and the options


def test_the_network_compiles_whole():
    """Without a break in the graph, forward and backward, to the same bits."""
    network = build(replace(TINY, dim=8, depth=2, levels=1, outer=0))
    x = states(network.spec)
    parameters = list(network.parameters())
    y, _ = network(x)
    expected = torch.autograd.grad(y.square().sum(), parameters)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    z, _ = compiled(x)
    assert torch.equal(y, z)
    for a, b in zip(torch.autograd.grad(z.square().sum(), parameters), expected, strict=True):
        assert torch.equal(a, b)


def test_the_option_kernels_reaches_the_operations():
    network = build()
    x = states(network.spec)
    y, _ = network(x)
    with set_options(kernels="torch"):
        torch.testing.assert_close(network(x)[0], y, rtol=0, atol=1e-12)
    with set_options(kernels="triton"), pytest.raises(RuntimeError, match="float64"):
        network(x)
    with set_options(kernels="numba"):  # windows do not come in numba, and run as with "auto"
        torch.testing.assert_close(network(x)[0], y, rtol=0, atol=0)
    dense = build(replace(TINY, groups=1))
    with set_options(kernels="numba"):  # nor do dense convolutions
        dense(x)


# ---- states, increments, units


@pytest.mark.parametrize("history", [1, 3])
def test_increments_begin_with_persistence(history):
    spec = spec_of(11, 32, history=history)
    torch.manual_seed(0)
    network = EMFormer(replace(TINY, predict="increment"), spec).eval()
    network.set_statistics(
        torch.tensor([250.0, 5e4]), torch.tensor([10.0, 3e3]), torch.tensor([1.0, 70.0])
    )
    x = 1e3 * states(spec, 2).float()
    assert torch.equal(network(x)[0], x[:, -1])


def test_increments_are_counted_in_their_standard_deviation():
    network = build(replace(TINY, predict="increment"))
    x = states(network.spec)
    unit, _ = network(x)
    network.set_statistics(torch.zeros(2), torch.ones(2), torch.tensor([2.0, 5.0]))
    y, _ = network(x)
    scale = torch.tensor([2.0, 5.0])[:, None, None]
    torch.testing.assert_close(y - x[:, -1], scale * (unit - x[:, -1]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("predict", ["state", "increment"])
def test_the_forecast_does_not_depend_on_units(predict):
    network = build(replace(TINY, predict=predict))
    x = 10 * states(network.spec, 2) + 280
    mean, std, change = torch.tensor([[280.0, 275.0], [9.0, 12.0], [1.5, 2.5]]).double()
    network.set_statistics(mean, std, change)
    y, _ = network(x)
    factor = torch.tensor([1.8, 0.01], dtype=torch.float64)
    offset = torch.tensor([-459.67, 3.0], dtype=torch.float64)

    def convert(field: Tensor) -> Tensor:
        return field * factor[:, None, None] + offset[:, None, None]

    other = build(replace(TINY, predict=predict))
    other.set_statistics(mean * factor + offset, std * factor, change * factor)
    torch.testing.assert_close(other(convert(x))[0], convert(y), rtol=0, atol=1e-10)


def test_the_statistics_are_kept_with_the_weights():
    network = build()
    network.set_statistics(torch.tensor([1.0, 2]), torch.tensor([3.0, 4]), torch.tensor([5.0, 6]))
    other = build(seed=3)
    other.load_state_dict(network.state_dict())
    assert other.mean.flatten().tolist() == [1, 2]
    assert other.std.flatten().tolist() == [3, 4]
    assert other.increment_std.flatten().tolist() == [5, 6]


def test_every_state_of_the_history_and_every_forcing_counts():
    spec = spec_of(12, 32, history=3, forcings=("sin_latitude", "cos_year"))
    network = build(spec=spec)
    x = states(spec).requires_grad_()
    forcing = torch.randn(1, 2, 12, 32, dtype=torch.float64, requires_grad=True)
    network(x, forcing)[0].square().sum().backward()
    assert x.grad.abs().amax((-2, -1)).min() > 1e-6
    assert forcing.grad.abs().amax((-2, -1)).min() > 1e-6
    swapped = network(x[:, [1, 0, 2]], forcing)[0]
    assert (swapped - network(x, forcing)[0]).abs().max() > 1e-3


def test_dropout_acts_in_training_only():
    network = build(replace(TINY, dropout=0.5))
    x = states(network.spec)
    assert torch.equal(network(x)[0], network(x)[0])
    network.train()
    assert not torch.equal(network(x)[0], network(x)[0])


# ---- counts


def formula(config: EMFormerConfig, spec: Spec) -> int:
    """Count the parameters from the equations of the paper, layer by layer."""
    d, r, p = config.dim, config.ratio, config.patch
    mlp = 2 * round(r * d) * d + round(r * d) + d
    attention = 4 * d**2 + 4 * d
    convs = sum(k**2 for k in config.kernels) * 3 * d
    block = 2 * d + attention + convs + 2 * d + mlp
    # keys and queries have a norm each; so has the MLP
    cross = (2 * 2 * d + attention + 2 * d + mlp) if config.cross else 0
    prune = 2 * d * d + d + cross
    recover = d * 2 * d + 2 * d + cross
    after = 2 * d  # the norm at the end of a level
    level = prune + recover + after + 2 * config.outer * block
    channels = len(spec.channels)
    embed = (spec.history * channels + len(spec.forcings)) * p * p * d + d
    head = 2 * d + d * channels * p * p
    merges = {"lon": (config.levels + 1) // 2, "lat": config.levels // 2}
    down = p * 2 ** merges["lat"]
    height = -(-spec.grid.shape[0] // down) * down // p
    width = spec.grid.shape[1] // p
    position = {"full": height * width, "latitude": height, "none": 0}[config.positions] * d
    return embed + position + config.levels * level + config.depth * block + head


@pytest.mark.parametrize(
    ("name", "changes", "total"),
    [
        ("emformer_budget", {"kernels": ()}, 157_955_328),
        ("emformer_budget", {}, 159_890_688),
        ("emformer_released", {"kernels": ()}, 356_406_528),
        ("emformer_released", {}, 359_632_128),
        ("emformer_tiny", {}, 1_247_808),
    ],
)
def test_presets_on_the_meta_device(name, changes, total):
    config = EMFormerConfig.preset(name, **changes)
    spec = spec_of(128, 256, channels=70)
    with torch.device("meta"):
        network = EMFormer(config, spec)
    assert all(p.is_meta for p in network.parameters())
    assert sum(p.numel() for p in network.parameters()) == formula(config, spec) == total


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "none"},
        {"positions": "full", "levels": 3},
        {"cross": False, "kernels": (3, 7), "outer": 0},
        {"patch": 4, "ratio": 2.5, "levels": 1},
        {"dim": 24, "heads": 3, "levels": 0},
    ],
)
def test_counts_follow_the_formula(changes):
    config = replace(TINY, **changes)
    spec = spec_of(19, 64, channels=3, history=2, forcings=("sin_year",))
    with torch.device("meta"):
        network = EMFormer(config, spec)
    assert sum(p.numel() for p in network.parameters()) == formula(config, spec)


# ---- configurations


def test_a_configuration_survives_json():
    for config in (*PRESETS.values(), replace(TINY, predict="increment", groups=3)):
        again = EMFormerConfig.from_mapping(json.loads(json.dumps(config.__dict__)))
        assert again == config
    network = build()
    twin = EMFormer.from_config(json.loads(json.dumps(network.to_config())), network.spec).double()
    twin.load_state_dict(network.state_dict())
    x = states(network.spec)
    assert torch.equal(twin.eval()(x)[0], network(x)[0])


def test_a_mapping_may_start_from_a_preset():
    config = EMFormerConfig.from_mapping({"preset": "emformer_budget", "depth": 3})
    assert config == EMFormerConfig(ratio=3.0, outer=0, cross=False, depth=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "emformer_huge"}, "emformer_released, emformer_budget, emformer_tiny"),
        ({"width": 3}, "unknown EMFormer settings width"),
        ({"dim": 10, "heads": 4}, "dim=10 does not divide by heads=4"),
        ({"recover_keys": "all"}, "recover_keys='all': choose from neighbourhood, self"),
        ({"conv_init": "zeros"}, "conv_init"),
        ({"latitude": "mirror"}, "latitude='mirror'"),
        ({"positions": "rotary"}, "positions"),
        ({"predict": "change"}, "predict='change': choose from state, increment"),
        ({"patch": 0}, "patch=0: at least 1"),
        ({"levels": -1}, "levels=-1: at least 0"),
        ({"windows": ()}, "windows"),
        ({"windows": ((0, 4),)}, "windows"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        EMFormerConfig.from_mapping(values)


@pytest.mark.parametrize(
    ("changes", "columns", "message"),
    [
        ({"levels": 4}, 36, "36 columns do not divide by 8 = patch 2 x 2 for each of 2 merges"),
        ({"patch": 3}, 32, "32 columns do not divide"),
        ({"levels": 5, "outer": 0}, 16, "leave 1 column of tokens"),
        ({"latitude": "pole", "levels": 1}, 28, r"even number of columns .*\[14, 7\]"),
        ({"kernels": (1, 4)}, 32, "odd sizes"),
        ({"groups": 5}, 32, "48 channels do not divide by groups=5"),
    ],
)
def test_grids_that_do_not_fit(changes, columns, message):
    with pytest.raises(ValueError, match=message):
        EMFormer(replace(TINY, **changes), spec_of(12, columns))


def test_a_pole_needs_a_globe():
    region = Grid(tuple(range(50, 26, -2)), tuple(range(10, 74, 2)))
    with pytest.raises(ValueError, match="needs a global grid"):
        EMFormer(replace(TINY, latitude="pole"), Spec((Channel("msl"),), region))


def test_inputs_that_do_not_fit():
    spec = spec_of(11, 32, history=2, forcings=("sin_year",))
    network = build(spec=spec)
    x, forcing = states(spec), torch.zeros(1, 1, 11, 32, dtype=torch.float64)
    for wrong in (x[:, :1], x[:, :, :1], x[..., :-1], x[..., :-1, :], x[:, 0]):
        with pytest.raises(ValueError, match="2, 2, 11, 32"):
            network(wrong, forcing)
    with pytest.raises(ValueError, match="sin_year"):
        network(x)
    with pytest.raises(ValueError, match="forcings of shape"):
        network(x, forcing[..., :-1])
    with pytest.raises(ValueError, match="memory of 1 entries, need one a block of the valley: 4"):
        network(x, forcing, [None])
    plain = build(spec=spec_of())
    with pytest.raises(ValueError, match="forcings of shape"):
        plain(states(plain.spec), torch.zeros(1, 1, 12, 32))
