"""Window attention against key sets written down token by token, and against the globe itself."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from xwx_kernels import window_attention
from xwx_kernels._operators.window_attention import fused

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: Size, window, shift, longitude.
MAPS = [
    ((4, 6), (2, 3), 0, "circular"),
    ((4, 6), (2, 3), 1, "circular"),
    ((7, 6), (3, 2), 1, "circular"),
    ((5, 8), (3, 5), 0, "circular"),
    ((5, 8), (3, 5), 0, "zero"),
    ((3, 5), (1, 4), 0, "circular"),
    ((3, 4), (5, 9), 0, "circular"),
    ((3, 4), (5, 9), 3, "circular"),
    ((3, 4), (5, 9), 0, "zero"),
    ((4, 1), (3, 1), 0, "circular"),
    ((1, 5), (1, 2), 0, "zero"),
]


def seen(
    size: tuple[int, int], window: tuple[int, int], shift: int, longitude: str
) -> dict[int, list[int]]:
    """Return the keys of every token, from the definition: whose window, and who is in it."""
    height, width = size
    rows, columns = min(window[0], height), min(window[1], width)
    keys = {}
    for north in range(0, height, rows):
        members = range(north, min(north + rows, height))
        for west in range(shift, shift + width, columns):
            own = [c for c in range(west, west + columns) if c < shift + width]
            more = [c for c in range(west, west + columns) if c not in own]
            if longitude == "zero":
                more = []
            tokens = [r * width + c % width for r in members for c in own + more]
            for row in members:
                for column in own:
                    assert row * width + column % width not in keys
                    keys[row * width + column % width] = tokens
    assert sorted(keys) == list(range(height * width))
    return keys


def attend(qkv: Tensor, heads: int, keys: dict[int, list[int]]) -> np.ndarray:
    """Loop over samples, tokens and heads in float64 and numpy."""
    array = qkv.detach().cpu().double().numpy()
    batch, count, width = array.shape
    array = array.reshape(batch, count, 3, heads, width // (3 * heads))
    out = np.full((batch, count, *array.shape[3:]), np.nan)
    for b, token, head in np.ndindex(batch, count, heads):
        q, k, v = array[b, token, 0, head], *(array[b, keys[token], i, head] for i in (1, 2))
        weights = np.exp(k @ q / np.sqrt(len(q)))
        out[b, token, head] = weights @ v / weights.sum()
    return out.reshape(batch, count, -1)


def slopes(qkv: Tensor, gradient: Tensor, heads: int, keys: dict[int, list[int]]) -> Tensor:
    """Differentiate attention of all tokens to all, with the others' weights struck out."""
    wide = qkv.detach().cpu().double().requires_grad_()
    batch, count, width = wide.shape
    q, k, v = wide.view(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
    admitted = torch.zeros(count, count, dtype=torch.float64)
    for token, those in keys.items():
        admitted[token, those] = 1
    weights = torch.exp(q @ k.transpose(-1, -2) / (width // 3 // heads) ** 0.5) * admitted
    out = weights / weights.sum(-1, keepdim=True) @ v
    out = out.transpose(1, 2).reshape(batch, count, width // 3)
    return torch.autograd.grad(out, wide, gradient.cpu().double())[0]


def draw(size, heads=2, dim=3, *, batch=2, dtype=torch.float64, seed=0) -> tuple[Tensor, Tensor]:
    """Return qkv, which wants a gradient, and a gradient of the results."""
    generator = torch.Generator().manual_seed(seed)
    count, width = size[0] * size[1], heads * dim
    qkv = torch.randn(batch, count, 3 * width, generator=generator, dtype=torch.float64)
    gradient = torch.randn(batch, count, width, generator=generator, dtype=torch.float64)
    return qkv.to(DEVICE, dtype).requires_grad_(), gradient.to(DEVICE, dtype)


def turn(tokens: Tensor, size: tuple[int, int], columns: int) -> Tensor:
    return tokens.unflatten(1, size).roll(columns, dims=2).flatten(1, 2)


def close(value: Tensor, expected: Tensor | np.ndarray, tolerance: float) -> None:
    """See that the error is small against what is expected, everywhere and on the whole."""
    expected = torch.as_tensor(expected)
    error = value.detach().cpu().double() - expected
    assert error.abs().max() <= tolerance * max(1.0, float(expected.abs().max()))
    assert error.norm() <= tolerance * expected.norm()


# ---- the definition


def test_without_queries_every_token_gets_the_mean_of_its_window():
    """Equal weights, so the answer can be written down."""
    qkv = torch.zeros(1, 10, 3, dtype=torch.float64)
    qkv[0, :, 2] = torch.tensor([1.0, 2, 3, 4, 5, 10, 20, 30, 40, 50])

    def means(**options) -> list[list[float]]:
        return window_attention(qkv, heads=1, **options)[0, :, 0].view(options["size"]).tolist()

    whole = means(size=(2, 5), window=(1, 2))  # the fifth column sees the first
    assert whole == [[1.5, 1.5, 3.5, 3.5, 3], [15, 15, 35, 35, 30]]
    edge = means(size=(2, 5), window=(1, 2), longitude="zero")
    assert edge == [[1.5, 1.5, 3.5, 3.5, 5], [15, 15, 35, 35, 50]]
    south = means(size=(5, 2), window=(2, 1))
    assert south == [[2, 3], [2, 3], [12.5, 20], [12.5, 20], [40, 50]]
    shifted = means(size=(5, 2), window=(1, 1))
    assert shifted == qkv[0, :, 2].view(5, 2).tolist()


def test_a_shifted_window_lies_across_the_date_line():
    qkv = torch.zeros(1, 4, 3, dtype=torch.float64)
    qkv[0, :, 2] = torch.tensor([1.0, 2, 4, 8])
    out = window_attention(qkv, size=(1, 4), window=(1, 2), heads=1, shift=1)
    assert out.flatten().tolist() == [4.5, 3, 3, 4.5]


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("case", MAPS, ids=str)
def test_outputs_and_gradients(case, backend):
    size, window, shift, longitude = case
    keys = seen(*case)
    qkv, gradient = draw(size)
    if DEVICE == "cuda" and backend == "auto":
        pytest.skip("float64 on a GPU is what backend='torch' tests")
    options = {"size": size, "window": window, "shift": shift, "longitude": longitude}
    out = window_attention(qkv, heads=2, backend=backend, **options)
    assert out.dtype == qkv.dtype
    close(out, attend(qkv, 2, keys), 1e-12)
    out.backward(gradient)
    close(qkv.grad, slopes(qkv, gradient, 2, keys), 1e-12)
    single = window_attention(qkv.detach().float(), heads=2, backend=backend, **options)
    close(single, attend(qkv.float(), 2, keys), 1e-5)


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 7)),
    window=st.tuples(st.integers(1, 7), st.integers(1, 8)),
    start=st.integers(0, 7),
    longitude=st.sampled_from(["circular", "zero"]),
    heads=st.integers(1, 3),
    dim=st.integers(1, 4),
    batch=st.integers(1, 3),
    backend=st.sampled_from(["auto", "torch"]),
    seed=st.integers(0, 2**16),
)
def test_any_map_and_any_window(size, window, start, longitude, heads, dim, batch, backend, seed):
    columns = min(window[1], size[1])
    shift = 0 if longitude == "zero" or size[1] % columns else start % columns
    keys = seen(size, window, shift, longitude)
    qkv, gradient = draw(size, heads, dim, batch=batch, seed=seed)
    out = window_attention(
        qkv,
        size=size,
        window=window,
        heads=heads,
        shift=shift,
        longitude=longitude,
        backend=backend,
    )
    close(out, attend(qkv, heads, keys), 1e-12)
    out.backward(gradient)
    close(qkv.grad, slopes(qkv, gradient, heads, keys), 1e-11)


@pytest.mark.parametrize("shift", [0, 1])
def test_turning_the_globe_by_a_whole_window_first_or_last_is_the_same(shift):
    size = (5, 8)
    qkv, _ = draw(size)

    def op(x: Tensor) -> Tensor:
        return window_attention(x, size=size, window=(2, 4), heads=2, shift=shift)

    torch.testing.assert_close(op(turn(qkv, size, 4)), turn(op(qkv), size, 4), rtol=0, atol=0)
    assert (op(turn(qkv, size, 2)) - turn(op(qkv), size, 2)).abs().max() > 1e-3


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_shift_is_a_turn_there_and_back(shift):
    size = (3, 8)
    qkv, _ = draw(size)
    plain = window_attention(turn(qkv, size, -shift), size=size, window=(2, 4), heads=2)
    out = window_attention(qkv, size=size, window=(2, 4), heads=2, shift=shift)
    torch.testing.assert_close(out, turn(plain, size, shift), rtol=0, atol=0)


def test_samples_do_not_see_each_other():
    qkv, _ = draw((5, 7), batch=3)
    options = {"size": (5, 7), "window": (2, 3), "heads": 2, "backend": "torch"}
    together = window_attention(qkv, **options)
    for n in range(3):
        alone = window_attention(qkv[n : n + 1], **options)
        torch.testing.assert_close(together[n : n + 1], alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", MAPS[3:5], ids=str)
def test_derivatives_of_the_reference(case):
    size, window, shift, longitude = (3, 5), (2, 3), *case[2:]
    qkv, _ = draw(size, 1, 2, batch=1)

    def op(x: Tensor) -> Tensor:
        return window_attention(
            x,
            size=size,
            window=window,
            heads=1,
            shift=shift,
            longitude=longitude,
            backend="torch",
        )

    assert torch.autograd.gradcheck(op, (qkv,))
    assert torch.autograd.gradgradcheck(op, (qkv,))


# ---- Triton, in its interpreter where there is no GPU


def options_of(case, **more):
    names = ("size", "window", "shift", "longitude")
    return {**dict(zip(names, case, strict=True)), "backend": "triton", **more}


@pytest.mark.parametrize(
    ("case", "heads", "dim"),
    [
        *((case, 2, 3) for case in MAPS),
        (MAPS[1], 1, 8),
        (MAPS[3], 1, 24),
        (MAPS[4], 3, 24),
        (((4, 8), (4, 4), 2, "circular"), 2, 16),
        (((8, 16), (8, 8), 4, "circular"), 1, 8),
    ],
    ids=str,
)
def test_triton_in_float32(case, heads, dim):
    keys = seen(*case)
    qkv, gradient = draw(case[0], heads, dim, dtype=torch.float32)
    out = window_attention(qkv, heads=heads, **options_of(case))
    close(out, attend(qkv, heads, keys), 1e-5)
    out.backward(gradient)
    close(qkv.grad, slopes(qkv, gradient, heads, keys), 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("case", "heads", "dim"),
    [
        (MAPS[1], 2, 3),
        (MAPS[3], 1, 40),
        (MAPS[4], 2, 8),
        (((8, 16), (8, 16), 0, "circular"), 1, 8),
    ],
    ids=str,
)
def test_triton_in_16_bits(case, heads, dim, dtype):
    """Inputs are exact; results, and on a GPU the weights, are rounded: 2^-8 or 2^-11 each."""
    keys = seen(*case)
    qkv, gradient = draw(case[0], heads, dim, dtype=dtype)
    out = window_attention(qkv, heads=heads, **options_of(case))
    assert out.dtype == dtype
    rounding = torch.finfo(dtype).eps / 2
    close(out, attend(qkv, heads, keys), 2 * rounding)
    out.backward(gradient)
    close(qkv.grad, slopes(qkv, gradient, heads, keys), 3 * rounding)


@pytest.mark.parametrize("case", [MAPS[1], MAPS[3], MAPS[4], MAPS[8]], ids=str)
def test_triton_writes_everything_and_the_same_again(case):
    """What torch hands out unwritten is filled with NaN here."""
    qkv, gradient = draw(case[0], dtype=torch.float32)
    results = []
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3, device=DEVICE).isnan().all()
        for _ in range(2):
            out = window_attention(qkv, heads=2, **options_of(case))
            results.append((out, torch.autograd.grad(out, qkv, gradient)[0]))
    finally:
        torch.use_deterministic_algorithms(False)
    for first, second in zip(*results, strict=True):
        assert first.isfinite().all()
        assert torch.equal(first, second)


@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
@pytest.mark.parametrize("case", [*MAPS[2:5], MAPS[7], MAPS[10]], ids=str)
@np.errstate(invalid="ignore")  # the interpreter's
def test_what_is_not_a_number_stays_in_its_windows(case, backend):
    keys = seen(*case)
    for bad in (0, len(keys) - 1):
        qkv, gradient = draw(case[0], 1, 2, dtype=torch.float32)
        with torch.no_grad():
            qkv[0, bad] = torch.nan
        out = window_attention(qkv, heads=1, **options_of(case, backend=backend))
        struck = [token for token, those in keys.items() if bad in those]
        assert out.isnan().any(-1)[0].nonzero().flatten().tolist() == sorted(struck)
        assert not out[1].isnan().any()

        qkv, gradient = draw(case[0], 1, 2, dtype=torch.float32)
        gradient[0, bad] = torch.nan
        out = window_attention(qkv, heads=1, **options_of(case, backend=backend))
        (slope,) = torch.autograd.grad(out, qkv, gradient)
        q, k, v = slope.isnan().any(0).view(len(keys), 3, -1).any(-1).unbind(1)
        assert q.nonzero().flatten().tolist() == [bad]
        assert k.nonzero().flatten().tolist() == v.nonzero().flatten().tolist()
        assert v.nonzero().flatten().tolist() == sorted(keys[bad])


@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
def test_tokens_that_lie_otherwise_in_memory(backend):
    qkv, gradient = draw(MAPS[3][0], dtype=torch.float32)
    options = options_of(MAPS[3], backend=backend, heads=2)
    expected = torch.autograd.grad(window_attention(qkv, **options), qkv, gradient)[0]
    other = qkv.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    away = gradient.transpose(0, 1).contiguous().transpose(0, 1)
    out = window_attention(other, **options)
    torch.testing.assert_close(out, window_attention(qkv, **options), rtol=0, atol=1e-6)
    slope = torch.autograd.grad(out, other, away)[0]
    torch.testing.assert_close(slope, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype, backend):
    qkv, _ = draw((4, 6), dtype=dtype)
    options = options_of(MAPS[1], backend=backend, heads=2)
    expected = window_attention(qkv, **options)
    with torch.autocast(DEVICE, torch.bfloat16):
        out = window_attention(qkv, **options)
    assert out.dtype == dtype
    assert torch.equal(out, expected)


# ---- what torch is told


@pytest.mark.parametrize("case", [MAPS[1], MAPS[3]], ids=str)
def test_the_operator_is_what_it_says(case):
    size, window, shift, longitude = case
    qkv, _ = draw(size, dtype=torch.float32)
    torch.library.opcheck(fused, (qkv, *size, *window, 2, shift, longitude, "triton"))


@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
@pytest.mark.parametrize("case", [MAPS[1], MAPS[3]], ids=str)
def test_compiled_as_one_graph(case, backend):
    qkv, gradient = draw(case[0], dtype=torch.float32)

    def op(x: Tensor) -> Tensor:
        return window_attention(x, heads=2, **options_of(case, backend=backend))

    torch.compiler.reset()
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(qkv), op(qkv), rtol=0, atol=1e-6)
    slope = torch.autograd.grad(compiled(qkv), qkv, gradient)[0]
    expected = torch.autograd.grad(op(qkv), qkv, gradient)[0]
    torch.testing.assert_close(slope, expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_compiled_with_inductor(backend):
    case = ((16, 32), (8, 8), 4, "circular")
    qkv, gradient = draw(case[0], 4, 4, dtype=torch.float32, batch=1)

    def op(x: Tensor) -> Tensor:
        return window_attention(x, heads=4, **options_of(case, backend=backend))

    torch.compiler.reset()
    compiled = torch.compile(op, fullgraph=True)
    keys = seen(*case)
    close(compiled(qkv.detach()), attend(qkv, 4, keys), 1e-5)  # without gradients it is fused more
    (slope,) = torch.autograd.grad(compiled(qkv), qkv, gradient)
    close(slope, slopes(qkv, gradient, 4, keys), 1e-5)
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_forward_mode_and_transforms(backend):
    case = MAPS[3]
    qkv, along = (x.detach() for x in (draw(case[0])[0], draw(case[0], seed=1)[0]))

    def op(x: Tensor) -> Tensor:
        return window_attention(x, heads=2, **options_of(case, backend=backend))

    _, tangent = torch.func.jvp(op, (qkv,), (along,))
    step = 1e-5
    difference = (op(qkv + step * along) - op(qkv - step * along)) / (2 * step)
    close(tangent, difference.cpu(), 1e-8)
    gradient = draw(case[0], seed=2)[1]
    (slope,) = torch.func.vjp(op, qkv)[1](gradient)
    close(slope, slopes(qkv, gradient, 2, seen(*case)), 1e-12)
    mapped = torch.func.vmap(op)(qkv[:, None])[:, 0]
    torch.testing.assert_close(mapped, op(qkv), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
@pytest.mark.parametrize("case", [MAPS[1], MAPS[3], MAPS[4]], ids=str)
def test_an_empty_batch_is_an_empty_result(case, backend):
    qkv, gradient = draw(case[0], batch=0, dtype=torch.float32)
    out = window_attention(qkv, heads=2, **options_of(case, backend=backend))
    assert out.shape == gradient.shape
    assert torch.autograd.grad(out, qkv, gradient)[0].shape == qkv.shape


def test_second_derivatives_are_refused_with_the_way_out():
    qkv, gradient = draw((4, 6), dtype=torch.float32)
    out = window_attention(qkv, heads=2, **options_of(MAPS[1]))
    (slope,) = torch.autograd.grad(out, qkv, gradient, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='torch'"):
        slope.sum().backward()


# ---- refusals


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 12), {}, r"size=\(3, 4\) needs \(B, 12, 3\*D\)"),
        ((2, 11, 12), {}, r"shape \(2, 11, 12\).* needs \(B, 12, 3\*D\)"),
        ((2, 0, 12), {"size": (0, 4)}, r"size=\(0, 4\)"),
        ((2, 12, 12), {"heads": 3}, "12 channels, heads=3: need a multiple of 3"),
        ((2, 12, 12), {"heads": 0}, "heads=0"),
        ((2, 12, 0), {}, "0 channels"),
        ((2, 12, 12), {"window": (0, 2)}, r"window=\(0, 2\): pass at least one row"),
        ((2, 12, 12), {"window": (2, -1)}, r"window=\(2, -1\)"),
        ((2, 12, 12), {"longitude": "periodic"}, "'circular', 'zero'"),
        ((2, 12, 12), {"shift": 2}, r"shift=2 is not in 0, \.\.\., 1"),
        ((2, 12, 12), {"shift": -1}, "shift=-1"),
        ((2, 12, 12), {"shift": 4, "window": (2, 9)}, r"shift=4 is not in 0, \.\.\., 3"),
        ((2, 12, 12), {"shift": 1, "longitude": "zero"}, "longitude='circular'.*pass shift=0"),
        ((2, 12, 12), {"shift": 1, "window": (2, 3)}, "4 % 3 = 1: pass shift=0"),
        ((2, 12, 12), {"backend": "cuda"}, "backend='cuda': choose from auto, triton, torch$"),
    ],
)
def test_refusals_say_what_is_wrong(shape, options, message):
    options = {"size": (3, 4), "window": (2, 2), "heads": 2, **options}
    with pytest.raises(ValueError, match=message):
        window_attention(torch.zeros(shape), **options)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (torch.Tensor.int, {}, r"qkv has type torch\.int32: pass floating point"),
        (lambda x: x.to(torch.complex64), {}, r"qkv has type torch\.complex64: pass qkv\.real"),
        (torch.Tensor.numpy, {}, r"qkv is a numpy\.ndarray: pass a torch\.Tensor"),
        (torch.clone, {"window": 2}, "window=2: pass two whole numbers, rows and columns"),
        (torch.clone, {"size": 12}, "size=12: pass two whole numbers"),
        (torch.clone, {"window": (2.0, 2)}, r"window=\(2\.0, 2\): pass two whole numbers"),
        (torch.clone, {"heads": 2.0}, r"heads=2\.0: pass a whole number"),
        (torch.clone, {"shift": 1.0}, r"shift=1\.0: pass a whole number"),
    ],
)
def test_types_that_do_not_fit(change, options, message):
    options = {"size": (3, 4), "window": (2, 2), "heads": 2, **options}
    with pytest.raises(TypeError, match=message):
        window_attention(change(torch.zeros(2, 12, 12)), **options)


@pytest.mark.parametrize(
    ("backend", "dtype", "window", "message"),
    [
        ("numba", torch.float32, (2, 2), "this operation has no numba kernel"),
        ("triton", torch.float64, (2, 2), "does not take torch.float64"),
        ("triton", torch.float32, (5, 13), "float32 go up to 64 tokens, this one has 65"),
        ("triton", torch.bfloat16, (5, 26), "bfloat16 go up to 128 tokens, this one has 130"),
    ],
)
def test_what_a_backend_cannot_do(backend, dtype, window, message):
    qkv = torch.zeros(1, 5 * 26, 6, dtype=dtype, device=DEVICE)
    with pytest.raises(RuntimeError, match=message):
        window_attention(qkv, size=(5, 26), window=window, heads=1, backend=backend)
