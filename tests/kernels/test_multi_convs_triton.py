"""The Triton multi-convs: on a GPU where there is one, in Triton's interpreter where not.

Sums are IEEE float32 in both (products of matrices, which GPUs round, are not involved), so the
same bounds hold. Memory that torch hands out is full of NaN here: what was not written shows.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from xwx_kernels import multi_convs

pytest.importorskip("triton")

from xwx_kernels._triton import multi_convs as implementation

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PADS = list(itertools.product(["circular", "zero"], ["zero", "pole"]))


@pytest.fixture(autouse=True)
def poisoned():
    """Fill every new tensor with NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.zeros(1).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def programs(monkeypatch):
    """Set how many multiprocessors there are, and so how many programs share a map."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(implementation, "_multiprocessors", lambda device: count)

    return pretend


def beyond(size: tuple[int, int], radius: int, longitude: str, latitude: str) -> Tensor:
    """Return which token is seen at each place of the surrounded map; 0 is none, 1 the first."""
    globe = 1 + np.arange(size[0] * size[1]).reshape(size)
    if latitude == "pole":
        far = np.roll(globe[::-1], size[1] // 2, axis=1)
        stack = np.concatenate([globe, far] * 5)  # once round the globe and again
        first = 4 * size[0] - radius
        globe = stack[first : first + size[0] + 2 * radius]
    else:
        globe = np.pad(globe, ((radius, radius), (0, 0)))
    mode = "wrap" if longitude == "circular" else "constant"
    return torch.from_numpy(np.pad(globe, ((0, 0), (radius, radius)), mode=mode).copy())


def branches(x: Tensor, kernels: list[Tensor], size, longitude, latitude) -> Tensor:
    """Return the sum of separate convolutions, each padded for itself, in float64."""
    with_none = F.pad(x, (0, 0, 1, 0))
    total = 0.0
    for kernel in kernels:
        seen = with_none[:, beyond(size, kernel.shape[-1] // 2, longitude, latitude)]
        y = F.conv2d(seen.permute(0, 3, 1, 2), kernel, groups=x.shape[2])
        total = total + y.permute(0, 2, 3, 1).reshape(x.shape)
    return total


def draw(size, channels=3, sizes=(1, 3, 5), *, batch=2, dtype=torch.float32, kernel_dtype=None):
    """Return tokens, kernels and a gradient, exact in their types."""
    generator = torch.Generator().manual_seed(size[0] * 100 + size[1] + channels)
    tokens = (batch, size[0] * size[1], channels)
    x, gradient = (torch.randn(tokens, generator=generator).to(dtype) for _ in range(2))
    kernels = [
        torch.randn(channels, 1, k, k, generator=generator).to(kernel_dtype or dtype) for k in sizes
    ]
    return x, kernels, gradient


def run(x, kernels, gradient, size, pads, needs=None):
    """Return output and gradients by Triton, and the same in float64 by convolutions."""
    both = []
    for exact in (False, True):
        inputs = [
            t.detach().double() if exact else t.detach().to(DEVICE).clone() for t in (x, *kernels)
        ]
        for tensor, need in zip(inputs, needs or [True] * len(inputs), strict=True):
            tensor.requires_grad_(need)
        if exact:
            y = branches(inputs[0], inputs[1:], size, *pads)
        else:
            longitude, latitude = pads
            options = {"longitude": longitude, "latitude": latitude, "backend": "triton"}
            y = multi_convs(inputs[0], *inputs[1:], size=size, **options)
        y.backward(gradient.to(y))
        both.append(
            [y.detach().cpu(), *(t.grad if t.grad is None else t.grad.cpu() for t in inputs)]
        )
    return both


def check(x, kernels, gradient, size, pads, needs=None):
    """Compare with float64: float32 by its rounding, shorter types by their last place."""
    for ours, exact in zip(*run(x, kernels, gradient, size, pads, needs), strict=True):
        assert (ours is None) == (exact is None)
        if exact is None:
            continue
        assert ours.shape == exact.shape
        error = (ours.double() - exact).abs()
        allowed = torch.full_like(exact, 3e-6 * float(exact.abs().max()))
        if ours.dtype != torch.float32:
            # Triton's interpreter cuts bfloat16 off where a GPU rounds it.
            exponent = torch.frexp(exact).exponent.double() - 1
            allowed += 2**exponent * torch.finfo(ours.dtype).eps
        assert bool((error <= allowed).all()), float((error - allowed).max())


# ---- every output, every gradient


@pytest.mark.parametrize(("longitude", "latitude"), PADS)
@pytest.mark.parametrize("size", [(1, 2), (2, 4), (5, 6), (1, 18)])
def test_even_maps(size, longitude, latitude):
    check(*draw(size, batch=1 if size[1] > 6 else 2), size, (longitude, latitude))


@pytest.mark.parametrize("longitude", ["circular", "zero"])
@pytest.mark.parametrize("size", [(1, 3), (2, 5), (4, 7)])
def test_odd_maps(size, longitude):
    check(*draw(size, 1), size, (longitude, "zero"))


@pytest.mark.parametrize("height", [1, 6])
def test_a_single_column(height):
    check(*draw((height, 1)), (height, 1), ("zero", "zero"))


@pytest.mark.parametrize("channels", [16, 65, 128])
def test_channels(channels):
    check(*draw((3, 4), channels, batch=1), (3, 4), ("circular", "pole"))


@pytest.mark.parametrize("sizes", [(1,), (3,), (5,), (1, 3), (5, 3), (3, 3), (5, 1, 5, 1)])
def test_any_branches(sizes):
    check(*draw((4, 6), 2, sizes, batch=1), (4, 6), ("circular", "zero"))


def test_a_kernel_larger_than_the_globe_goes_round_it():
    """On a ring of two columns every tap falls on one of them."""
    x, kernels, _ = draw((1, 2), 1, (5,), batch=1)
    y = multi_convs(x.to(DEVICE), kernels[0].to(DEVICE), size=(1, 2), backend="triton").cpu()
    row = kernels[0][0, 0, 2].double()
    same, other = row[0] + row[2] + row[4], row[1] + row[3]
    a, b = x.flatten().double()
    expected = torch.stack([same * a + other * b, same * b + other * a])
    torch.testing.assert_close(y.flatten().double(), expected, rtol=0, atol=3e-6)


# ---- who computes what


@pytest.mark.parametrize("count", [1, 2, 100])
@pytest.mark.parametrize(("size", "latitude"), [((7, 17), "zero"), ((2, 18), "pole")])
def test_any_number_of_programs(programs, count, size, latitude):
    programs(count)
    check(*draw(size, 2, batch=1), size, ("circular", latitude))


def test_the_number_of_programs_changes_the_grid(programs):
    grids = []
    for count in (1, 2, 100):
        programs(count)
        x = torch.zeros(1, 7 * 17, 2)
        grids.append(implementation._divide(x, (7, 17), 0, "differentiate")[0][0])
    assert grids[0] < grids[1] < grids[2] == 14


@pytest.mark.parametrize("slots", [1, 7, 396])
@pytest.mark.parametrize(("parts", "rows"), [(1, 1), (8, 64), (12, 37), (1, 721), (720, 5)])
@pytest.mark.parametrize("blocks", [1, 3, 36, 1000])
def test_no_wave_is_longer_than_it_must_be(slots, parts, rows, blocks):
    programs = implementation.share(parts, rows, blocks, slots)
    assert 1 <= programs <= parts * rows

    def cost(count: int) -> int:
        return -(-count * blocks // slots) * (-(-parts * rows // count) + 4)

    one_wave = min(max(slots // blocks, 1), parts * rows)
    assert cost(programs) <= cost(one_wave)
    assert cost(programs) <= cost(1)


def test_a_device_is_filled():
    """36 blocks of 64 channels on 132 multiprocessors that hold three programs each."""
    assert implementation.share(8, 64, 36, 396) == 11


# ---- gradients that nobody asked for


@pytest.mark.parametrize("latitude", ["zero", "pole"])
@pytest.mark.parametrize(
    "needs",
    [(True, False, False, False), (False, True, True, True), (True, False, True, False)],
)
def test_frozen_inputs(needs, latitude):
    check(*draw((3, 6), batch=1), (3, 6), ("circular", latitude), needs)


@pytest.mark.parametrize("need_x", [False, True])
@pytest.mark.parametrize("need_kernels", [False, True])
def test_only_what_is_needed_comes_back(need_x, need_kernels):
    x, kernels, gradient = (
        [t.to(DEVICE) for t in part] if isinstance(part, list) else part.to(DEVICE)
        for part in draw((2, 4))
    )
    dx, dkernels = implementation.backward(
        gradient,
        x,
        kernels,
        (2, 4),
        "circular",
        "pole",
        need_x=need_x,
        need_kernels=need_kernels,
    )
    assert (dx is not None) == need_x
    assert [dk is not None for dk in dkernels] == [need_kernels] * 3
    if dx is not None:
        assert dx.is_contiguous()
        assert dx.shape == x.shape


# ---- types


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kernel_dtype", [torch.float32, None])
@pytest.mark.parametrize("latitude", ["zero", "pole"])
def test_half_precision_is_rounded_once(dtype, kernel_dtype, latitude):
    inputs = draw((3, 6), 16, batch=1, dtype=dtype, kernel_dtype=kernel_dtype)
    check(*inputs, (3, 6), ("circular", latitude))


def test_branches_of_several_types():
    x, kernels, gradient = draw((3, 4), 2, (3, 3, 5))
    kernels = [kernels[0].bfloat16(), kernels[1], kernels[2].half()]
    check(x, kernels, gradient, (3, 4), ("circular", "zero"))


@pytest.mark.parametrize("shape", [(0, 6, 3), (2, 6, 0)])
def test_nothing_gives_nothing(shape):
    x = torch.zeros(shape, device=DEVICE, requires_grad=True)
    kernel = torch.ones(shape[2], 1, 3, 3, device=DEVICE, requires_grad=True)
    y = multi_convs(x, kernel, size=(2, 3), backend="triton")
    y.sum().backward()
    assert y.shape == shape
    assert x.grad.shape == shape
    assert torch.equal(kernel.grad, torch.zeros_like(kernel))


# ---- the same every time


def test_bitwise_the_same(programs):
    programs(3)
    inputs = draw((4, 6), 2, batch=1)
    first, _ = run(*inputs, (4, 6), ("circular", "pole"))
    again, _ = run(*inputs, (4, 6), ("circular", "pole"))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


# ---- refusals


def test_a_kernel_that_is_too_large_is_refused():
    x, kernels, _ = draw((4, 6), 2, (7,))
    with pytest.raises(RuntimeError, match=r"up to 5 x 5, not 7 x 7"):
        multi_convs(x.to(DEVICE), kernels[0].to(DEVICE), size=(4, 6), backend="triton")
