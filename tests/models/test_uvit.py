"""Layers on windows of maps: each against a formula, an inverse or a symmetry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xwx.models.uvit.attention import SpaceTimeBlock
from xwx.models.uvit.conditioning import Blind, Film, Informed
from xwx.models.uvit.convolutions import Down, MapConv, ResBlock, Up
from xwx.models.uvit.fit import Pad, Resample, fit, interpolation
from xwx.models.uvit.rotary import rotation, wave_numbers

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Return the module in double precision with no parameter at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return module


# ---- convolutions


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("size", [(4, 6), (3, 1), (1, 5)])
def test_a_convolution_goes_round_the_globe_but_never_over_a_pole(size, periodic):
    conv = shaken(MapConv(2, 3, periodic=periodic))
    x = draw(2, 2, *size)
    expected = conv.bias[:, None, None].expand(2, 3, *size).clone()
    rows, columns = size
    for r in range(rows):
        for c in range(columns):
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    inside = 0 <= r + i < rows and (periodic or 0 <= c + j < columns)
                    if inside:
                        seen = x[:, :, r + i, (c + j) % columns]
                        expected[:, :, r, c] += seen @ conv.weight[:, :, i + 1, j + 1].T
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-13)


def test_a_residual_block_is_its_formula():
    block = shaken(ResBlock(6, 3, 4, 0.0, periodic=True))
    x, condition = draw(3, 6, 5, 4), draw(3, 4, seed=1)

    def normed(y: Tensor) -> Tensor:
        groups = y.reshape(3, 3, -1)
        centred = groups - groups.mean(-1, keepdim=True)
        return (centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()).view_as(y)

    def silu(y: Tensor) -> Tensor:
        return y / (1 + torch.exp(-y))

    weight, bias = (p[:, None, None] for p in (block.norm_first.weight, block.norm_first.bias))
    y = block.first(silu(normed(x) * weight + bias))
    film = condition @ block.film.weight.T + block.film.bias
    scale, shift = film[:, :6, None, None], film[:, 6:, None, None]
    expected = x + block.second(silu(normed(y) * (1 + scale) + shift))
    torch.testing.assert_close(block(x, condition), expected, rtol=0, atol=1e-12)
    alone = block(x[1:2], condition[1:2])
    torch.testing.assert_close(alone, expected[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "block", [ResBlock(8, 2, 4, 0.0, periodic=True), SpaceTimeBlock(12, 2, 2.0, 4, 0.0)]
)
def test_a_new_block_changes_nothing(block):
    x = torch.randn(2, 12 if isinstance(block, SpaceTimeBlock) else 8, 3, 4)
    given = (torch.randn(1, 4),)
    if isinstance(block, SpaceTimeBlock):
        given = (*given, 2, turning(2, (3, 4), 6))
    assert torch.equal(block(x, *given), x)


# ---- changes of scale


def test_the_shortcut_down_averages_and_the_one_up_copies():
    def plain(module):
        torch.nn.init.zeros_(module.conv.weight)
        torch.nn.init.zeros_(module.conv.bias)
        return module.double()

    x = draw(2, 4, 6, 8)
    torch.testing.assert_close(plain(Down(4, 4))(x), F.avg_pool2d(x, 2), rtol=0, atol=1e-15)
    twice = plain(Down(4, 8))(x)  # one channel for each of the two rows of four neighbours
    torch.testing.assert_close(twice[:, ::2], F.avg_pool2d(x[:, :, ::2], (1, 2)))
    torch.testing.assert_close(twice[:, 1::2], F.avg_pool2d(x[:, :, 1::2], (1, 2)))
    assert torch.equal(plain(Up(4, 4))(x), x.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(plain(Up(16, 4))(plain(Down(4, 16))(x)), x)
    y = draw(2, 8, 3, 4)
    torch.testing.assert_close(plain(Down(4, 8))(plain(Up(8, 4))(y)), y, rtol=0, atol=1e-15)


def test_beside_the_shortcuts_there_is_a_convolution_of_two_by_two():
    down, up = shaken(Down(4, 8)), shaken(Up(8, 4), seed=1)
    x, y = draw(2, 4, 6, 8), draw(2, 8, 3, 4)
    kernel = down.conv.weight.view(8, 4, 2, 2)
    expected = F.conv2d(x, kernel, down.conv.bias, stride=2)
    zero = torch.zeros_like
    with torch.no_grad():
        conv = down(x)
        down.conv.weight.copy_(zero(down.conv.weight))
        down.conv.bias.copy_(zero(down.conv.bias))
        torch.testing.assert_close(conv - down(x), expected, rtol=0, atol=1e-13)
    kernel = up.conv.weight.view(4, 2, 2, 8).permute(3, 0, 1, 2)
    with torch.no_grad():
        up.conv.bias.zero_()
        expected = F.conv_transpose2d(y, kernel, stride=2)
        copied = y.view(2, 4, 2, 3, 4).repeat_interleave(2, -1)
        copied = copied.permute(0, 1, 3, 2, 4).reshape(2, 4, 6, 8)
        torch.testing.assert_close(up(y) - copied, expected, rtol=0, atol=1e-13)


# ---- rotary positions


def turning(frames, size, dim, *, periodic=True, dtype=torch.float64):
    return rotation(frames, size, dim, periodic=periodic, device=CPU, dtype=dtype)


def test_whole_waves_from_the_longest_to_the_shortest():
    assert wave_numbers(4, 16) == [1, 2, 4, 8]
    assert wave_numbers(7, 9) == [1, 1, 2, 2, 3, 3, 4]
    assert wave_numbers(2, 3) == [1, 1]
    assert wave_numbers(3, 1) == [1, 1, 1]


@pytest.mark.parametrize("periodic", [True, False])
def test_each_axis_turns_its_own_pairs(periodic):
    frames, rows, columns, dim = 3, 4, 6, 32  # 16 pairs: 4 of time, 6 of each direction
    turn = turning(frames, (rows, columns), dim, periodic=periodic)
    for n in range(frames * rows * columns):
        k, r, c = n // (rows * columns), n // columns % rows, n % columns
        angles = [k * 3.0 ** (-p / 4) for p in range(4)] + [r * 4.0 ** (-p / 6) for p in range(6)]
        if periodic:
            angles += [2 * math.pi * m * c / 6 for m in (1, 1, 2, 2, 2, 3)]
        else:
            angles += [c * 6.0 ** (-p / 6) for p in range(6)]
        expected = np.exp(1j * np.array(angles))
        np.testing.assert_allclose(turn.cosine[n], expected.real, rtol=0, atol=1e-14)
        np.testing.assert_allclose(turn.sine[n], expected.imag, rtol=0, atol=1e-14)
    x = draw(dim)
    turned = turn(x.expand(frames * rows * columns, dim)).numpy()
    as_numbers = (x[:16] + 1j * x[16:]).numpy() * (turn.cosine + 1j * turn.sine).numpy()
    np.testing.assert_allclose(turned[:, :16] + 1j * turned[:, 16:], as_numbers, atol=1e-14)


def test_products_depend_on_differences_and_on_the_way_round_the_globe():
    frames, rows, columns = 3, 4, 9
    turn = turning(frames, (rows, columns), 20)
    everywhere = (frames * rows * columns, 20)
    q, k = turn(draw(20).expand(everywhere)), turn(draw(20, seed=1).expand(everywhere))
    score = (q @ k.T).view(frames, rows, columns, frames, rows, columns)
    moved = score.roll((4, 4), (2, 5))
    torch.testing.assert_close(moved, score, rtol=0, atol=1e-13)
    torch.testing.assert_close(score[1:, :, :, 1:], score[:-1, :, :, :-1], rtol=0, atol=1e-13)
    torch.testing.assert_close(score[:, 1:, :, :, 1:], score[:, :-1, :, :, :-1], rtol=0, atol=1e-13)
    for axis in range(3):  # and each axis counts, in its direction
        first, other = [0] * 6, [0] * 6
        first[axis], other[axis + 3] = 1, 1
        assert abs(float(score[tuple(first)] - score[tuple(other)])) > 1e-2
    apart = turning(frames, (rows, columns), 20, periodic=False)
    q, k = apart(draw(20).expand(everywhere)), apart(draw(20, seed=1).expand(everywhere))
    score = (q @ k.T).view(frames, rows, columns, frames, rows, columns)
    assert (score.roll((4, 4), (2, 5)) - score).abs().max() > 0.1


def test_half_precision_is_turned_in_single():
    assert turning(2, (3, 4), 8, dtype=torch.bfloat16).cosine.dtype == torch.float32


# ---- attention


@pytest.mark.parametrize("conditions", [1, 6])
def test_every_token_of_a_window_attends_to_all_of_it(conditions):
    frames, heads, dim, rows, columns = 3, 2, 12, 2, 4
    block = shaken(SpaceTimeBlock(dim, heads, 2.0, 4, 0.0))
    turn = turning(frames, (rows, columns), dim // heads)
    x, condition = draw(2 * frames, dim, rows, columns), draw(conditions, 4, seed=1)

    def modulated(y: Tensor, film: Film) -> Tensor:
        y = y - y.mean(-1, keepdim=True)
        y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        out = condition @ film.weight.T + film.bias
        out = out.expand(2 * frames, -1).repeat_interleave(rows * columns, 0)
        return y * (1 + out[:, :dim]) + out[:, dim:]

    def unit(y: Tensor, weight: Tensor) -> Tensor:
        return turn(y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight)

    tokens = x.movedim(1, -1).reshape(-1, dim)
    qkv = modulated(tokens, block.film_attention) @ block.qkv.weight.T + block.qkv.bias
    mixed = torch.zeros_like(tokens)
    count = frames * rows * columns
    for window in range(2):
        here = slice(window * count, (window + 1) * count)
        for head in range(heads):
            q, k, v = (qkv[here, n * dim + head * 6 : n * dim + head * 6 + 6] for n in range(3))
            q, k = unit(q, block.norm_query.weight), unit(k, block.norm_key.weight)
            weights = torch.softmax(q @ k.T / 6**0.5, -1)
            mixed[here, head * 6 : head * 6 + 6] = weights @ v
    tokens = tokens + block.proj(mixed)
    tokens = tokens + block.mlp(modulated(tokens, block.film_mlp))
    expected = tokens.view(2 * frames, rows, columns, dim).movedim(-1, 1)
    torch.testing.assert_close(block(x, condition, frames, turn), expected, rtol=0, atol=1e-11)


# ---- conditions


def test_times_are_told_apart_and_the_blind_hear_nothing():
    torch.manual_seed(0)
    informed, blind = Informed(16).double(), Blind(16).double()
    t = torch.tensor([[0.0, 0.001, 0.5], [0.999, 1.0, 0.5]], dtype=torch.float64)
    vectors = informed(t)
    assert vectors.shape == (6, 16)
    torch.testing.assert_close(vectors[2], vectors[5], rtol=0, atol=1e-15)
    assert torch.cdist(vectors[:5], vectors[:5]).fill_diagonal_(1).min() > 1e-3
    torch.testing.assert_close(informed(t[1:]), vectors[3:], rtol=0, atol=1e-15)
    assert torch.equal(blind(t), blind(None))
    assert blind(None).shape == (1, 16)


# ---- from the grid and back


@pytest.mark.parametrize("kind", ["pad", "resample"])
@pytest.mark.parametrize(
    ("grid", "stride", "size"),
    [((73, 144), 16, (80, 144)), ((121, 240), 16, (128, 240)), ((9, 16), 8, (16, 16))],
)
def test_the_map_is_the_next_that_the_stride_divides(grid, stride, size, kind):
    there = fit(kind, grid, stride, periodic=True).double()
    x = draw(2, 3, *grid)
    assert there(x).shape == (2, 3, *size)
    assert there.back(there(x)).shape == x.shape
    constant = torch.full((1, 1, *grid), 0.1, dtype=torch.float64)
    assert (there(constant) - 0.1).abs().max() <= 2e-17
    assert (there.back(there(constant)) - 0.1).abs().max() <= 2e-17
    assert torch.equal(there(x)[:, :, [0, -1]], x[:, :, [0, -1]])  # the poles stay where they are


def test_padding_copies_the_outermost_and_loses_nothing():
    pad = fit("pad", (5, 6), 8, periodic=False)
    assert isinstance(pad, Pad)
    x = draw(2, 3, 5, 6)
    y = pad(x)
    assert torch.equal(pad.back(y), x)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 2), (1, 1)), mode="edge")
    np.testing.assert_array_equal(y, expected)
    untouched = fit("pad", (8, 16), 8, periodic=True)
    wide = draw(1, 1, 8, 16)
    assert untouched(wide) is wide


def test_a_globe_has_no_room_for_more_columns():
    with pytest.raises(ValueError, match="20 columns round the globe do not divide by 8"):
        fit("pad", (8, 20), 8, periodic=True)
    assert fit("pad", (8, 20), 8, periodic=False).size == (8, 24)


@pytest.mark.parametrize("periodic", [True, False])
def test_resampling_is_linear_interpolation(periodic):
    grid, size = (7, 10), (8, 16)
    there = fit("resample", grid, 8, periodic=periodic).double()
    assert isinstance(there, Resample)
    assert there.size == size

    def expected(x, grid, size):
        rows = np.linspace(0, grid[0] - 1, size[0])
        x = np.stack([np.interp(rows, np.arange(grid[0]), line) for line in x.T], axis=1)
        if periodic:
            columns, period = np.arange(size[1]) * grid[1] / size[1], grid[1]
        else:
            columns, period = np.linspace(0, grid[1] - 1, size[1]), None
        return np.stack([np.interp(columns, np.arange(grid[1]), r, period=period) for r in x])

    x, y = draw(*grid), draw(*size, seed=1)
    np.testing.assert_allclose(
        there(x[None, None])[0, 0], expected(x.numpy(), grid, size), rtol=0, atol=5e-6
    )
    np.testing.assert_allclose(
        there.back(y[None, None])[0, 0], expected(y.numpy(), size, grid), rtol=0, atol=5e-6
    )


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("count", "out"), [(73, 80), (80, 73), (1, 4), (4, 1), (6, 6)])
def test_weights_are_convex_and_sum_to_one_exactly(count, out, periodic):
    weights = interpolation(count, out, periodic=periodic)
    assert weights.shape == (out, count)
    assert weights.min() >= 0
    assert torch.equal(weights.double().sum(1), torch.ones(out, dtype=torch.float64))
    if count == out:
        assert torch.equal(weights, torch.eye(count))


def test_resampling_turns_with_the_globe_and_keeps_precision():
    there = fit("resample", (8, 12), 16, periodic=True).double()
    x = draw(1, 1, 8, 12)
    torch.testing.assert_close(there(x.roll(3, -1)), there(x).roll(4, -1), rtol=0, atol=1e-14)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(there(x), there(x.clone()))
        assert there(x).dtype == torch.float64
        assert there(x.bfloat16()).dtype == torch.float32
