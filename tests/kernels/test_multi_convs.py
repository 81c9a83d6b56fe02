"""The fused multi-convs against three convolutions, hand-made gradients, and the sphere itself."""

from __future__ import annotations

import math
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad
from xwx_kernels import multi_convs, selection
from xwx_kernels.multi_convs import fuse_kernels, pad_map

BACKENDS = ["torch", "numba"]
SIZES = [(6, 8), (7, 9), (5, 5), (3, 4), (4, 3), (1, 2), (2, 7), (12, 2), (1, 5)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def surround(x: Tensor, radius: int, longitude: str, latitude: str) -> np.ndarray:
    """Pad a map (B, h, w, C) with numpy alone; across a pole lies a doubled globe."""
    field = x.detach().numpy()
    height, width = field.shape[1:3]
    if latitude == "pole":
        beyond = np.roll(field[:, ::-1], width // 2, axis=2)
        globe = np.concatenate([beyond, field, beyond], axis=1)
        while globe.shape[1] < height + 2 * radius:
            globe = np.concatenate([field, globe, field], axis=1)
            beyond, field = field, beyond
        extra = (globe.shape[1] - height - 2 * radius) // 2
        field = globe[:, extra : extra + height + 2 * radius]
    else:
        field = np.pad(field, ((0, 0), (radius, radius), (0, 0), (0, 0)))
    mode = "wrap" if longitude == "circular" else "constant"
    return np.pad(field, ((0, 0), (0, 0), (radius, radius), (0, 0)), mode=mode)


def branches(
    x: Tensor,
    kernels: list[Tensor],
    size: tuple[int, int],
    longitude: str = "circular",
    latitude: str = "zero",
) -> Tensor:
    """Return the sum of separate ``torch.nn.Conv2d`` layers, each padded for itself."""
    batch, _, channels = x.shape
    total = torch.zeros_like(x)
    for kernel in kernels:
        k = kernel.shape[-1]
        layer = nn.Conv2d(
            channels, channels, k, groups=channels // kernel.shape[1], bias=False, dtype=x.dtype
        )
        with torch.no_grad():
            layer.weight.copy_(kernel)
        padded = surround(x.view(batch, *size, channels), k // 2, longitude, latitude)
        y = layer(torch.from_numpy(padded).permute(0, 3, 1, 2))
        total = total + y.permute(0, 2, 3, 1).reshape(x.shape)
    return total


def draw(
    size: tuple[int, int],
    channels: int = 3,
    sizes: tuple[int, ...] = (1, 3, 5),
    *,
    batch: int = 2,
    per_group: int = 1,
    seed: int = 0,
) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, size[0] * size[1], channels, generator=generator, dtype=torch.float64)
    kernels = [
        torch.randn(channels, per_group, k, k, generator=generator, dtype=torch.float64)
        for k in sizes
    ]
    return x, kernels


# ---- forward


@pytest.mark.parametrize("longitude", ["circular", "zero"])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("size", SIZES)
def test_equals_three_conv2d(size, channels, longitude, backend):
    x, kernels = draw(size, channels)
    expected = branches(x, kernels, size, longitude)
    y = multi_convs(x, *kernels, size=size, longitude=longitude, backend=backend)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    single = multi_convs(
        x.float(), *(k.float() for k in kernels), size=size, longitude=longitude, backend=backend
    )
    assert single.dtype == torch.float32
    assert (single.double() - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("longitude", ["circular", "zero"])
@pytest.mark.parametrize("size", [(6, 8), (5, 2), (1, 4), (2, 6)])
def test_pole_equals_three_conv2d_on_a_doubled_globe(size, longitude, backend):
    x, kernels = draw(size)
    y = multi_convs(x, *kernels, size=size, longitude=longitude, latitude="pole", backend=backend)
    expected = branches(x, kernels, size, longitude, "pole")
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def layers(
    x: Tensor, kernels: list[Tensor], size: tuple[int, int], longitude: str, latitude: str
) -> Tensor:
    """Return what separate ``torch.nn.Conv2d`` layers give, differentiably, kernels as given.

    The numbers of the tokens are padded by numpy, and the tokens gathered by these numbers.
    """
    batch, tokens, channels = x.shape
    number = torch.arange(1.0, tokens + 1, dtype=torch.float64).view(1, *size, 1)
    with_zero = torch.cat([torch.zeros_like(x[:, :1]), x], dim=1)
    total = torch.zeros(batch, channels, *size, dtype=x.dtype)
    for kernel in kernels:
        k = kernel.shape[-1]
        index = torch.from_numpy(surround(number, k // 2, longitude, latitude)).long()[0, ..., 0]
        layer = nn.Conv2d(
            channels, channels, k, groups=channels // kernel.shape[1], bias=False, dtype=x.dtype
        )
        image = with_zero[:, index].permute(0, 3, 1, 2)
        total = total + torch.func.functional_call(layer, {"weight": kernel}, (image,))
    return total.permute(0, 2, 3, 1).reshape(x.shape)


SIDES = st.one_of(st.integers(1, 7), st.sampled_from([45, 90]))


@settings(max_examples=80, deadline=None)
@given(
    backend=st.sampled_from(BACKENDS),
    height=SIDES,
    width=SIDES,
    batch=st.integers(1, 2),
    channels=st.sampled_from([1, 3, 24, 65]),
    sizes=st.one_of(
        st.just([1, 3, 5]), st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=4)
    ),
    longitude=st.sampled_from(["circular", "zero"]),
    latitude=st.sampled_from(["zero", "pole"]),
    seed=st.integers(0, 2**16),
)
def test_outputs_and_every_gradient_of_any_map(
    backend, height, width, batch, channels, sizes, longitude, latitude, seed
):
    """Against separate layers in float64, whose padding and gradients are torch's and numpy's."""
    width = max(width, 2) if longitude == "circular" else width
    width += width % 2 if latitude == "pole" else 0
    if height * width > 1000:
        channels = min(channels, 3)  # keeps the reference quick
    size = (height, width)
    x, kernels = draw(size, channels, tuple(sizes), batch=batch, seed=seed)
    gradient = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    mine = [t.clone().requires_grad_() for t in (x, *kernels)]
    theirs = [t.clone().requires_grad_() for t in (x, *kernels)]
    pads = {"longitude": longitude, "latitude": latitude}
    y = multi_convs(mine[0], *mine[1:], size=size, **pads, backend=backend)
    expected = layers(theirs[0], theirs[1:], size, **pads)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)
    got = torch.autograd.grad(y, mine, gradient)
    wanted = torch.autograd.grad(expected, theirs, gradient)
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).norm() <= 1e-12 * b.norm() + 1e-12


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 7),
    width=st.integers(2, 7),
    groups=st.integers(1, 3),
    per_group=st.integers(2, 3),
    sizes=st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=4),
    longitude=st.sampled_from(["circular", "zero"]),
    seed=st.integers(0, 2**16),
)
def test_groups_of_channels(height, width, groups, per_group, sizes, longitude, seed):
    size = (height, width)
    x, kernels = draw(size, groups * per_group, tuple(sizes), per_group=per_group, seed=seed)
    y = multi_convs(x, *kernels, size=size, longitude=longitude)
    expected = branches(x, kernels, size, longitude)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)


def test_dense_kernels_are_a_full_conv2d():
    size = (5, 8)
    x, kernels = draw(size, 4, (1, 3, 5), per_group=4)
    image = x.view(2, *size, 4).permute(0, 3, 1, 2)
    expected = sum(
        F.conv2d(F.pad(image, (r, r, 0, 0), mode="circular"), k, padding=(r, 0))
        for r, k in enumerate(kernels)
    )
    y = multi_convs(x, *kernels, size=size)
    torch.testing.assert_close(y, expected.permute(0, 2, 3, 1).reshape(x.shape), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [1, 3, 7])
@pytest.mark.parametrize("latitude", ["zero", "pole"])
def test_turning_the_globe_first_or_last_is_the_same(shift, latitude, backend):
    size = (5, 8)
    x, kernels = draw(size)

    def turn(tokens: Tensor) -> Tensor:
        return tokens.view(2, *size, 3).roll(shift, dims=2).reshape(tokens.shape)

    first = multi_convs(turn(x), *kernels, size=size, latitude=latitude, backend=backend)
    last = turn(multi_convs(x, *kernels, size=size, latitude=latitude, backend=backend))
    torch.testing.assert_close(first, last, rtol=0, atol=1e-12)


def test_an_edge_of_zeros_is_not_a_globe(backend):
    x, kernels = draw((5, 8))
    turned = x.view(2, 5, 8, 3).roll(1, dims=2).reshape(x.shape)
    y = multi_convs(x, *kernels, size=(5, 8), longitude="zero", backend=backend).view(2, 5, 8, 3)
    z = multi_convs(turned, *kernels, size=(5, 8), longitude="zero", backend=backend).view(
        2, 5, 8, 3
    )
    torch.testing.assert_close(z[:, :, 3:6], y[:, :, 2:5], rtol=0, atol=1e-12)
    assert (z[:, :, 0] - y[:, :, -1]).abs().min() > 1e-6


def test_one_kernel_of_ones_counts_neighbours(backend):
    x = torch.ones(1, 12, 1, dtype=torch.float64)
    counts = multi_convs(
        x, torch.ones(1, 1, 3, 3, dtype=torch.float64), size=(3, 4), backend=backend
    )
    assert counts.view(3, 4).tolist() == [[6.0] * 4, [9.0] * 4, [6.0] * 4]
    counts = multi_convs(
        x,
        torch.ones(1, 1, 3, 3, dtype=torch.float64),
        size=(3, 4),
        longitude="zero",
        backend=backend,
    )
    assert counts.view(3, 4).tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]


@pytest.mark.parametrize("channels", [1, 3])
def test_tokens_that_lie_otherwise_in_memory(channels, backend):
    x, kernels = draw((4, 6), channels)
    other = x.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(
        multi_convs(other, *kernels, size=(4, 6), backend=backend),
        multi_convs(x, *kernels, size=(4, 6), backend=backend),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_type_of_the_tokens_comes_back(dtype):
    x, kernels = draw((4, 6))
    x, kernels = x.to(dtype), [k.float() for k in kernels]
    assert multi_convs(x, *kernels, size=(4, 6)).dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert multi_convs(x, *kernels, size=(4, 6)).dtype == dtype


# ---- what lies beyond the edges


def smooth(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Evaluate a polynomial on the sphere; latitude beyond 90 degrees goes on across the pole."""
    x = np.cos(latitude)[:, None] * np.cos(longitude)
    y = np.cos(latitude)[:, None] * np.sin(longitude)
    z = np.sin(latitude)[:, None] + 0 * longitude
    return 1 + x - 2 * y + 0.5 * z + 3 * x * y - x * z + y**3 + x**2 * z


@pytest.mark.parametrize("radius", [1, 2, 6, 9, 20])
def test_pole_padding_continues_a_smooth_field_on_the_sphere(radius):
    rows, columns = 6, 10
    step_lat, step_lon = math.pi / rows, 2 * math.pi / columns
    latitude = math.pi / 2 - (np.arange(-radius, rows + radius) + 0.5) * step_lat
    longitude = np.arange(-radius, columns + radius) * step_lon
    expected = torch.from_numpy(smooth(latitude, longitude))
    inner = expected[radius : radius + rows, radius : radius + columns]
    padded = pad_map(inner[None, ..., None], radius, "circular", "pole")
    torch.testing.assert_close(padded[0, ..., 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("radius", [1, 4, 11])
def test_the_padded_globe_is_periodic(radius):
    x = torch.randn(1, 4, 6, 2, dtype=torch.float64)
    padded = pad_map(x, radius, "circular", "pole")
    rows, columns = padded.shape[1:3]
    if columns > 6:
        assert torch.equal(padded[:, :, 6:], padded[:, :, : columns - 6])
    if rows > 8:  # twice across a pole is once round
        assert torch.equal(padded[:, 8:], padded[:, : rows - 8])
    assert torch.equal(padded[:, radius : radius + 4, radius : radius + 6], x)


def test_the_row_beyond_the_pole_is_the_first_row_half_a_circle_on():
    x = torch.arange(8.0).view(1, 2, 4, 1)
    padded = pad_map(x, 1, "circular", "pole")[0, ..., 0]
    assert padded.tolist() == [
        [1, 2, 3, 0, 1, 2],
        [3, 0, 1, 2, 3, 0],
        [7, 4, 5, 6, 7, 4],
        [5, 6, 7, 4, 5, 6],
    ]


def test_no_radius_no_padding():
    x = torch.randn(1, 3, 4, 2)
    assert pad_map(x, 0, "circular", "pole") is x


def test_a_radius_larger_than_the_map(backend):
    x, kernels = draw((2, 3), 2, (1, 11))
    y = multi_convs(x, *kernels, size=(2, 3), backend=backend)
    torch.testing.assert_close(y, branches(x, kernels, (2, 3)), rtol=0, atol=1e-12)


# ---- gradients


@pytest.mark.parametrize("longitude", ["circular", "zero"])
@pytest.mark.parametrize("latitude", ["zero", "pole"])
@pytest.mark.parametrize("size", [(3, 4), (4, 2)])
def test_gradcheck(size, longitude, latitude, backend):
    x, kernels = draw(size, 2, batch=1)
    inputs = [t.requires_grad_() for t in (x, *kernels)]

    def op(x: Tensor, *kernels: Tensor) -> Tensor:
        return multi_convs(
            x, *kernels, size=size, longitude=longitude, latitude=latitude, backend=backend
        )

    assert torch.autograd.gradcheck(op, inputs)


def test_gradcheck_of_dense_kernels():
    x, kernels = draw((2, 3), 2, (1, 3), batch=1, per_group=2)
    inputs = [t.requires_grad_() for t in (x, *kernels)]
    assert torch.autograd.gradcheck(lambda x, *k: multi_convs(x, *k, size=(2, 3)), inputs)


@pytest.mark.parametrize("longitude", ["circular", "zero"])
@pytest.mark.parametrize("latitude", ["zero", "pole"])
def test_every_branch_gets_its_slice_of_one_reduction(longitude, latitude, backend):
    """``G[c, d] = sum gy[c, p] x[c, p + d]``: one 25-tap reduction holds all three gradients."""
    size = (5, 6)
    x, kernels = draw(size)
    kernels = [k.requires_grad_() for k in kernels]
    gy = torch.randn(x.shape, dtype=torch.float64)
    multi_convs(
        x, *kernels, size=size, longitude=longitude, latitude=latitude, backend=backend
    ).backward(gy)
    padded = torch.from_numpy(surround(x.view(2, *size, 3), 2, longitude, latitude))
    whole = torch.empty(3, 5, 5, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            seen = padded[:, i : i + size[0], j : j + size[1]]
            whole[:, i, j] = (gy.view(2, *size, 3) * seen).sum((0, 1, 2))
    for radius, kernel in enumerate(kernels):
        inner = whole[:, 2 - radius : 3 + radius, 2 - radius : 3 + radius]
        torch.testing.assert_close(kernel.grad[:, 0], inner, rtol=0, atol=1e-12)


def test_autograd_of_separate_layers_gives_the_same_gradients(backend):
    size = (5, 6)
    x, kernels = draw(size)
    gy = torch.randn(x.shape, dtype=torch.float64)
    mine = [t.clone().requires_grad_() for t in (x, *kernels)]
    multi_convs(mine[0], *mine[1:], size=size, backend=backend).backward(gy)
    theirs = [t.clone().requires_grad_() for t in (x, *kernels)]
    image = theirs[0].view(2, *size, 3).permute(0, 3, 1, 2)
    total = sum(
        F.conv2d(
            F.pad(image, (r, r, 0, 0), mode="circular") if r else image,
            k,
            padding=(r, 0),
            groups=3,
        )
        for r, k in enumerate(theirs[1:])
    )
    total.backward(gy.view(2, *size, 3).permute(0, 3, 1, 2))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("longitude", ["circular", "zero"])
@pytest.mark.parametrize("latitude", ["zero", "pole"])
def test_the_gradient_of_the_tokens_is_the_adjoint(longitude, latitude, backend):
    size = (4, 6)
    x, kernels = draw(size)
    other, _ = draw(size, seed=1)
    gy, _ = draw(size, seed=2)
    x.requires_grad_()
    pads = {"longitude": longitude, "latitude": latitude}
    multi_convs(x, *kernels, size=size, **pads, backend=backend).backward(gy)
    there = (gy * multi_convs(other, *kernels, size=size, **pads, backend=backend)).sum()
    back = (x.grad * other).sum()
    assert abs(float(there - back)) <= 1e-12 * float(there.abs().clamp(min=1))


# ---- what separate branches mean to an optimiser


def train(parameters: list[Tensor], optimiser: torch.optim.Optimizer, scale: Tensor | None) -> None:
    size = (6, 8)
    x, target_kernels = draw(size, seed=5)
    target = multi_convs(x, *target_kernels, size=size)
    for _ in range(50):
        optimiser.zero_grad()
        (multi_convs(x, *parameters, size=size) - target).square().mean().backward()
        if scale is not None:
            parameters[0].grad *= scale
        optimiser.step()


def fused_and_separate(kind: type[torch.optim.Optimizer]) -> tuple[Tensor, Tensor]:
    """Train three branches, and one kernel whose steps are 3, 2 and 1 times as long by ring."""
    _, kernels = draw((6, 8), seed=6)
    single = [fuse_kernels(tuple(kernels)).clone().requires_grad_()]
    separate = [k.clone().requires_grad_() for k in kernels]
    ring = torch.ones(5, 5, dtype=torch.float64)
    ring[1:4, 1:4] = 2
    ring[2, 2] = 3
    train(separate, kind(separate, lr=0.05), None)
    train(single, kind(single, lr=0.05), ring)
    start = fuse_kernels(tuple(kernels))
    end = fuse_kernels(tuple(separate)).detach()
    assert (end - start).abs().max() > 1e-2  # it did move
    return single[0].detach(), end


def test_under_sgd_three_branches_are_one_kernel_with_three_step_lengths():
    single, separate = fused_and_separate(torch.optim.SGD)
    torch.testing.assert_close(single, separate, rtol=0, atol=1e-12)


def test_under_adam_they_are_not():
    single, separate = fused_and_separate(torch.optim.Adam)
    assert (single - separate).abs().max() > 1e-4


# ---- refusals


@pytest.mark.parametrize(
    ("x", "kernels", "options", "message"),
    [
        ((2, 12), [(3, 1, 3, 3)], {}, "size=\\(3, 4\\) needs \\(B, 12, C\\)"),
        ((2, 11, 3), [(3, 1, 3, 3)], {}, "needs \\(B, 12, C\\)"),
        ((2, 12, 3), [], {}, "no kernel given"),
        ((2, 12, 3), [(4, 1, 3, 3)], {}, "does not fit 3 channels"),
        ((2, 12, 3), [(3, 2, 3, 3)], {}, "does not fit 3 channels"),
        ((2, 12, 3), [(3, 0, 3, 3)], {}, "does not fit 3 channels"),
        ((2, 12, 3), [(3, 3, 3)], {}, "does not fit 3 channels"),
        ((2, 12, 3), [(3, 1, 3, 3), (3, 3, 3, 3)], {}, "does not fit 3 channels"),
        ((2, 12, 3), [(3, 1, 4, 4)], {}, "odd"),
        ((2, 12, 3), [(3, 1, 3, 5)], {}, "same in both directions"),
        ((2, 12, 3), [(3, 1, 3, 3)], {"longitude": "periodic"}, "'circular', 'zero'"),
        ((2, 12, 3), [(3, 1, 3, 3)], {"latitude": "circular"}, "'zero', 'pole'"),
        ((2, 12, 3), [(3, 1, 3, 3)], {"size": (12, 1)}, "at least 2 columns"),
        ((2, 12, 3), [(3, 1, 3, 3)], {"size": (4, 3), "latitude": "pole"}, "even number"),
        ((2, 12, 3), [(3, 1, 3, 3)], {"backend": "cuda"}, "auto, triton, numba, torch"),
        ((2, 0, 3), [(3, 1, 3, 3)], {"size": (0, 4)}, r"size=\(0, 4\): pass at least one row"),
        ((2, 3, 3, 4), [(3, 1, 3, 3)], {}, r"images .* by x\.flatten\(2\)\.mT"),
    ],
)
def test_refusals_say_what_is_wrong(x, kernels, options, message):
    options = {"size": (3, 4), **options}
    with pytest.raises(ValueError, match=message):
        multi_convs(torch.zeros(x), *(torch.zeros(k) for k in kernels), **options)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.int64}, r"x has type torch\.int64: pass floating point, as in x\.float\(\)"),
        ({"x": torch.bool}, r"x has type torch\.bool"),
        ({"x": torch.complex64}, r"x has type torch\.complex64: pass x\.real and x\.imag"),
        ({"kernels": torch.int32}, r"kernels\[0\] has type torch\.int32"),
        ({"kernels": torch.complex128}, r"kernels\[0\] has type torch\.complex128"),
        ({"x": torch.Tensor.numpy}, r"x is a numpy\.ndarray: pass a torch\.Tensor"),
        ({"kernels": lambda k: [k, k]}, r"kernels\[0\] is a list: pass its tensors one by one"),
    ],
)
def test_types_that_would_lose_something(change, message, backend):
    """A cast would cut digits or an imaginary part without a word."""
    given = {"x": torch.ones(2, 12, 3), "kernels": torch.ones(3, 1, 3, 3)}
    for name, kind in change.items():
        given[name] = given[name].to(kind) if isinstance(kind, torch.dtype) else kind(given[name])
    with pytest.raises(TypeError, match=message):
        multi_convs(*given.values(), size=(3, 4), backend=backend)


@pytest.mark.parametrize("size", [12, (3.0, 4.0), (3, 4, 1), None, "34"])
def test_a_size_is_two_whole_numbers(size):
    with pytest.raises(TypeError, match=r"size=.*pass two whole numbers, rows and columns"):
        multi_convs(torch.ones(2, 12, 3), torch.ones(3, 1, 3, 3), size=size)


def test_whole_numbers_of_numpy_will_do():
    x, kernels = draw((3, 4))
    size = tuple(np.array([3, 4]))
    assert torch.equal(multi_convs(x, *kernels, size=size), multi_convs(x, *kernels, size=(3, 4)))


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_tensors_on_two_devices(backend):
    x, kernels = draw((3, 4))
    kernels[1] = kernels[1].to("meta")
    with pytest.raises(ValueError, match=r"kernels\[1\] is on meta, x is on cpu"):
        multi_convs(x, *kernels, size=(3, 4), backend=backend)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize(("batch", "channels"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_in_nothing_out(batch, channels, backend):
    x, kernels = draw((3, 4), channels, batch=batch)
    inputs = [t.requires_grad_() for t in (x, *kernels)]
    y = multi_convs(*inputs, size=(3, 4), backend=backend)
    grads = torch.autograd.grad(y.sum(), inputs)
    assert y.shape == x.shape
    assert [g.shape for g in grads] == [t.shape for t in inputs]
    assert all(g.count_nonzero() == 0 for g in grads[1:])


def test_one_column_is_fine_without_a_globe():
    x, kernels = draw((6, 1))
    y = multi_convs(x, *kernels, size=(6, 1), longitude="zero")
    torch.testing.assert_close(y, branches(x, kernels, (6, 1), "zero"), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("backend", "types", "shape", "message"),
    [
        ("numba", (torch.bfloat16, torch.bfloat16), (3, 1, 3, 3), "does not take torch.bfloat16"),
        ("numba", (torch.float32, torch.float64), (3, 1, 3, 3), "float32, a kernel is not"),
        ("numba", (torch.float32, torch.float32), (3, 3, 3, 3), "depthwise"),
        ("triton", (torch.float64, torch.float64), (3, 1, 3, 3), "does not take torch.float64"),
        ("triton", (torch.float32, torch.float32), (3, 1, 7, 7), "up to 5 x 5, not 7 x 7"),
    ],
)
def test_what_was_asked_for_and_cannot_run(backend, types, shape, message, monkeypatch):
    monkeypatch.setattr(selection, "INTERPRETED", True)  # Triton takes these tensors
    x, kernel = torch.zeros(2, 12, 3, dtype=types[0]), torch.zeros(shape, dtype=types[1])
    with pytest.raises(RuntimeError, match=f"backend='{backend}' cannot run: .*{message}"):
        multi_convs(x, kernel, size=(3, 4), backend=backend)
    multi_convs(x, kernel, size=(3, 4))  # "auto" finds a way


# ---- where auto is torch


def taken(monkeypatch: pytest.MonkeyPatch, x: Tensor, *kernels: Tensor, **options) -> str:
    """Return the implementation that a call takes."""
    calls = []
    module = sys.modules[multi_convs.__module__]
    run = module.fused
    with monkeypatch.context() as patch:
        patch.setattr(module, "fused", lambda *a: (calls.append(a[-1]), run(*a))[1])
        multi_convs(x, *kernels, **options)
    return calls[0] if calls else "torch"


@pytest.mark.parametrize(
    ("sizes", "channels", "width", "forward", "training"),
    [
        ((1,), 15, 128, "torch", "torch"),
        ((1,), 16, 16, "numba", "numba"),
        ((3,), 191, 128, "torch", "torch"),
        ((3, 1), 192, 64, "numba", "numba"),
        ((3,), 192, 63, "torch", "torch"),
        ((1, 3, 5), 31, 128, "torch", "torch"),
        ((1, 3, 5), 32, 128, "torch", "numba"),
        ((7,), 127, 32, "torch", "numba"),
        ((7,), 128, 32, "numba", "numba"),
        ((1, 3, 5), 128, 31, "torch", "numba"),
        ((1, 3, 5), 300, 15, "torch", "torch"),
    ],
)
def test_auto_takes_numba_where_it_is_faster(
    sizes, channels, width, forward, training, monkeypatch
):
    x, kernels = draw((2, width), channels, sizes, batch=1)
    x, kernels, size = x.float(), [k.float() for k in kernels], (2, width)
    assert taken(monkeypatch, x, *kernels, size=size) == forward
    assert taken(monkeypatch, x, *kernels, size=size, backend="numba") == "numba"
    kernels[0].requires_grad_()
    assert taken(monkeypatch, x, *kernels, size=size) == training
    with torch.no_grad():
        assert taken(monkeypatch, x, *kernels, size=size) == forward


def test_in_float64_few_channels_are_enough(monkeypatch):
    for channels, expected in ((7, "torch"), (8, "numba")):
        x, kernels = draw((2, 4), channels)
        assert taken(monkeypatch, x, *kernels, size=(2, 4)) == expected


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own
def test_forward_mode():
    """The operation is linear in the tokens, so its derivative is itself, and never zero."""
    x, kernels = draw((3, 16), 8)
    along, _ = draw((3, 16), 8, seed=1)

    def op(x: Tensor) -> Tensor:
        return multi_convs(x, *kernels, size=(3, 16))

    expected = branches(along, kernels, (3, 16))
    assert expected.abs().max() > 1
    _, tangent = torch.func.jvp(op, (x,), (along,))
    torch.testing.assert_close(tangent, expected, rtol=0, atol=1e-11)
    with forward_ad.dual_level():
        dual = op(forward_ad.make_dual(x, along))
        tangent = forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(tangent, expected, rtol=0, atol=1e-11)
    whole = torch.compile(
        lambda x: torch.func.jvp(op, (x,), (along,))[1], fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(whole(x), expected, rtol=0, atol=1e-11)
    torch.compiler.reset()
    with pytest.raises(RuntimeError, match=r"forward-mode .*backend='torch'"):
        torch.func.jvp(
            lambda x: multi_convs(x, *kernels, size=(3, 16), backend="numba"), (x,), (along,)
        )


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own
def test_transforms_of_torch_func():
    """Gradients, whole Jacobians and maps over an axis are those of separate layers."""
    size = (2, 3)
    x, kernels = draw(size, 8, (1, 3), batch=1)

    def op(x: Tensor, *kernels: Tensor) -> Tensor:
        return multi_convs(x, *kernels, size=size)

    wanted = torch.autograd.functional.jacobian(
        lambda x, *k: layers(x, list(k), size, "circular", "zero"), (x, *kernels)
    )
    for jacobian in (torch.func.jacfwd, torch.func.jacrev):
        found = jacobian(op, argnums=(0, 1, 2))(x, *kernels)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    many, _ = draw(size, 8, (1, 3), batch=6, seed=1)
    mapped = torch.func.vmap(lambda x: op(x, *kernels))(many.unflatten(0, (3, 2)))
    torch.testing.assert_close(mapped.flatten(0, 1), op(many, *kernels), rtol=0, atol=1e-12)


# ---- second derivatives


def test_torch_differentiates_twice():
    x, kernels = draw((2, 3), 1, (1, 3), batch=1)
    inputs = [t.requires_grad_() for t in (x, *kernels)]

    def op(x: Tensor, *kernels: Tensor) -> Tensor:
        return multi_convs(x, *kernels, size=(2, 3), backend="torch").square()

    assert torch.autograd.gradgradcheck(op, inputs)


def test_the_fast_ones_refuse_and_say_what_to_do():
    x, kernels = draw((2, 3), 1, (1, 3), batch=1)
    x.requires_grad_()
    y = multi_convs(x, *kernels, size=(2, 3), backend="numba").square().sum()
    (slope,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='torch'"):
        slope.square().sum().backward()


def test_sums_are_wide_whatever_the_tokens_are():
    """In bfloat16 arithmetic 1 + 24 / 512 would be lost beside the rounding of each term."""
    x = torch.ones(1, 30, 1, dtype=torch.bfloat16)
    kernel = torch.full((1, 1, 5, 5), 1 / 512)
    kernel[..., 2, 2] = 1.0
    y = multi_convs(x, kernel, size=(5, 6), backend="torch").view(5, 6)
    assert y[2].tolist() == [torch.tensor(1 + 24 / 512).bfloat16().item()] * 6
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(multi_convs(x, kernel, size=(5, 6), backend="torch").view(5, 6), y)


# ---- compiled


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("latitude", ["zero", "pole"])
def test_compiled_for_any_size(latitude):
    """Sizes of maps that the compiler does not know, some smaller than the kernel."""

    def op(x: Tensor, kernel: Tensor) -> Tensor:
        size = (x.shape[1], x.shape[2])
        tokens = x.flatten(1, 2)
        return multi_convs(tokens, kernel, size=size, latitude=latitude, backend="torch")

    compiled = torch.compile(op, dynamic=True, fullgraph=True)
    for size in ((4, 6), (6, 8), (2, 4)):
        x, kernels = draw(size, 3, (7,))
        tokens = x.unflatten(1, size)
        expected = branches(x, kernels, size, latitude=latitude)
        torch.testing.assert_close(compiled(tokens, *kernels), expected, rtol=0, atol=1e-11)
    torch.compiler.reset()
