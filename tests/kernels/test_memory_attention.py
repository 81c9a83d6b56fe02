"""Attention over cached frames against the dense softmax over all keys, and against its algebra."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from xwx_kernels._operators import memory_attention as operators
from xwx_kernels.memory_attention import memory_attention

module = import_module("xwx_kernels.memory_attention")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: On a GPU the fused form is float32 at best, and may use TF32.
FUSED = (torch.float64, 1e-12) if DEVICE == "cpu" else (torch.float32, 5e-3)
BACKENDS = ("auto", "torch")
NAMES = ("q", "k", "v", "cache_k", "cache_v", "bias")


def draw(
    batch: int = 2,
    heads: int = 3,
    rows: int = 7,
    width: int = 5,
    frames: int = 4,
    *,
    bias: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """Return arguments by name."""
    shapes = dict.fromkeys(("q", "k", "v"), (batch, heads, rows, width))
    shapes |= dict.fromkeys(("cache_k", "cache_v"), (batch, heads, frames, rows, width))
    shapes["cache_score"] = (batch, frames)
    if bias:
        shapes["bias"] = (heads, frames + 1)
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)
        for name, shape in shapes.items()
    }


def dense(inputs: dict[str, Tensor], alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return out, mass and score in numpy, from one softmax over the keys of all frames."""
    host = {name: tensor.detach().double().cpu().numpy() for name, tensor in inputs.items()}
    keys = np.concatenate([host["cache_k"], host["k"][:, :, None]], axis=2)
    values = np.concatenate([host["cache_v"], host["v"][:, :, None]], axis=2)
    batch, heads, frames, rows, width = keys.shape
    logits = np.einsum("bhid,bhtjd->bhitj", host["q"], keys) / math.sqrt(width)
    if "bias" in host:
        logits = logits + host["bias"][None, :, None, :, None]
    flat = logits.reshape(batch, heads, rows, frames * rows)
    flat = np.exp(flat - flat.max(-1, keepdims=True))
    flat = flat / flat.sum(-1, keepdims=True)
    p = flat.reshape(logits.shape)
    mass = p.sum(-1).mean((1, 2))
    score = mass.copy()
    score[:, :-1] = alpha * mass[:, :-1] + (1 - alpha) * host["cache_score"]
    return np.einsum("bhitj,bhtjd->bhid", p, values), mass, score


def dense_torch(inputs: dict[str, Tensor]) -> Tensor:
    """Return the attention over concatenated frames, for autograd."""
    frames = inputs["cache_k"].shape[2] + 1
    keys = torch.cat([inputs["cache_k"].flatten(2, 3), inputs["k"]], dim=2)
    values = torch.cat([inputs["cache_v"].flatten(2, 3), inputs["v"]], dim=2)
    logits = inputs["q"] @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])
    if "bias" in inputs:
        each = inputs["bias"][:, :, None].expand(-1, frames, inputs["k"].shape[2])
        logits = logits + each.flatten(1)[:, None]
    return logits.softmax(-1) @ values


def near(actual: Tensor, expected: np.ndarray | Tensor, tolerance: float) -> None:
    torch.testing.assert_close(
        actual.detach().double().cpu(),
        torch.as_tensor(expected).detach().double().cpu(),
        rtol=tolerance,
        atol=tolerance,
    )


def precision(backend: str) -> tuple[torch.dtype, float]:
    return FUSED if backend == "auto" else (torch.float64, 1e-12)


# ---- against the dense form


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frames", [0, 1, 2, 5])
@pytest.mark.parametrize("width", [1, 8, 96])
def test_equals_one_softmax_over_all_keys(width, frames, bias, backend):
    dtype, tolerance = precision(backend)
    inputs = draw(width=width, frames=frames, bias=bias, dtype=dtype)
    result = memory_attention(**inputs, alpha=0.7, backend=backend)
    assert result.mass.dtype == result.score.dtype == dtype
    for actual, expected in zip(result, dense(inputs, 0.7), strict=True):
        assert tuple(actual.shape) == expected.shape
        near(actual, expected, tolerance)
    near(result.mass.sum(1), torch.ones(2), 1e-12 if dtype == torch.float64 else 1e-6)


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    rows=st.integers(1, 9),
    width=st.integers(1, 9),
    frames=st.integers(0, 5),
    bias=st.booleans(),
    layout=st.sampled_from(["as given", "heads inside", "channels apart", "every other"]),
    backend=st.sampled_from(BACKENDS),
    seed=st.integers(0, 2**16),
)
def test_any_size_and_any_strides(batch, heads, rows, width, frames, bias, layout, backend, seed):
    dtype, tolerance = precision(backend)
    inputs = draw(batch, heads, rows, width, frames, bias=bias, seed=seed, dtype=dtype)
    expected = dense(inputs, 0.9)
    result = memory_attention(**{n: relaid(x, layout) for n, x in inputs.items()}, backend=backend)
    for actual, exact in zip(result, expected, strict=True):
        near(actual, exact, tolerance)


def relaid(x: Tensor, layout: str) -> Tensor:
    """Return the same numbers, elsewhere in memory."""
    if layout == "heads inside":
        return x.transpose(1, -2).contiguous().transpose(1, -2)
    if layout == "channels apart":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "every other":
        return torch.stack([x, torch.full_like(x, torch.nan)], dim=-1)[..., 0]
    return x


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_cache_it_is_scaled_dot_product_attention(backend):
    dtype, tolerance = precision(backend)
    inputs = draw(dtype=dtype)
    q, k, v = inputs["q"], inputs["k"], inputs["v"]
    result = memory_attention(q, k, v, backend=backend)
    near(result.out, F.scaled_dot_product_attention(q, k, v), tolerance)
    assert result.mass.tolist() == result.score.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_cached_frames_does_not_matter(backend):
    dtype, tolerance = precision(backend)
    inputs = draw(bias=False, dtype=dtype)
    order = torch.tensor([2, 0, 3, 1], device=DEVICE)
    turned = dict(inputs)
    for name in ("cache_k", "cache_v"):
        turned[name] = inputs[name][:, :, order]
    turned["cache_score"] = inputs["cache_score"][:, order]
    a, b = (memory_attention(**x, backend=backend) for x in (inputs, turned))
    near(b.out, a.out, tolerance)
    moved = torch.cat([order, torch.tensor([4], device=DEVICE)])
    near(b.mass, a.mass[:, moved], tolerance)
    near(b.score, a.score[:, moved], tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_of_a_batch_do_not_meet(backend):
    dtype, tolerance = precision(backend)
    inputs = draw(batch=3, bias=False, dtype=dtype)
    together = memory_attention(**inputs, backend=backend)
    for n in range(3):
        alone = memory_attention(**{m: x[n : n + 1] for m, x in inputs.items()}, backend=backend)
        for a, b in zip(together, alone, strict=True):
            near(a[n : n + 1], b, tolerance)


def test_a_bias_is_added_to_the_logits_and_takes_a_frame_away():
    dtype, tolerance = FUSED
    inputs = draw(bias=False, dtype=dtype)
    for low in (-1e9, -math.inf):
        bias = torch.zeros(3, 5, device=DEVICE, dtype=dtype)
        bias[:, :2] = low
        result = memory_attention(**inputs, bias=bias)
        rest = {n: x[:, :, 2:] if n in ("cache_k", "cache_v") else x for n, x in inputs.items()}
        rest["cache_score"] = inputs["cache_score"][:, 2:]
        fewer = memory_attention(**rest)
        near(result.out, fewer.out, tolerance)
        assert result.mass[:, :2].abs().max() == 0
        near(result.mass[:, 2:], fewer.mass, tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("hidden", [(4,), (3, 4), (0, 1, 4), (0, 1, 2, 4), (0, 1, 2, 3)])
def test_any_frames_may_be_hidden(hidden, backend):
    """Against the dense form, which drops them: the present and the newest frame, too."""
    dtype, tolerance = precision(backend)
    inputs = draw(dtype=dtype)
    inputs["bias"][:, list(hidden)] = -math.inf
    shown = [n for n in range(5) if n not in hidden]
    for n in NAMES:
        inputs[n].requires_grad_()
    theirs = {n: x.detach().double().requires_grad_() for n, x in inputs.items()}
    result = memory_attention(**inputs, backend=backend)
    for actual, expected in zip(result, dense(inputs, 0.9), strict=True):
        near(actual, expected, tolerance)
    assert result.mass[:, list(hidden)].abs().max() == 0
    result.out.sum().backward()
    dense_torch(theirs).sum().backward()
    for n in NAMES[:-1]:
        near(inputs[n].grad, theirs[n].grad, 10 * tolerance)
    near(inputs["bias"].grad[:, shown], theirs["bias"].grad[:, shown], 10 * tolerance)
    assert inputs["bias"].grad[:, list(hidden)].abs().max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_attend_to_is_not_a_number(backend):
    inputs = draw(dtype=precision(backend)[0])
    inputs["bias"][1] = -math.inf
    out = memory_attention(**inputs, backend=backend).out
    assert out[:, 1].isnan().all()
    assert out[:, [0, 2]].isfinite().all()


# ---- scores


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_query_by_hand(backend):
    """The query is orthogonal to frame 0; with frame 1 and the present its logits are 3 and 1."""
    dtype, tolerance = precision(backend)
    make = {"device": DEVICE, "dtype": dtype}
    q = torch.tensor([[[[2.0, 0, 0, 0]]]], **make)
    k = torch.tensor([[[[1.0, 5, 0, 0]]]], **make)
    v = torch.tensor([[[[1.0, 0, 0, 0]]]], **make)
    cache_k = torch.tensor([[[[[0, 7.0, 0, 0]], [[3.0, 0, 0, 0]]]]], **make)
    cache_v = torch.tensor([[[[[0, 10.0, 0, 0]], [[0, 0, 100.0, 0]]]]], **make)
    score = torch.tensor([[0.5, 0.25]], **make)
    result = memory_attention(q, k, v, cache_k, cache_v, score, 0.9, backend=backend)
    e0, e3, e1 = 1.0, math.exp(3), math.exp(1)
    total = e0 + e3 + e1
    near(result.mass, torch.tensor([[e0, e3, e1]], dtype=torch.float64) / total, tolerance)
    expected = [[0.9 * e0 / total + 0.05, 0.9 * e3 / total + 0.025, e1 / total]]
    near(result.score, torch.tensor(expected, dtype=torch.float64), tolerance)
    out = torch.tensor([[[[e1, 10 * e0, 100 * e3, 0]]]], dtype=torch.float64) / total
    near(result.out, out, tolerance)
    assert result.score[0].argmin() == 0


def test_alpha_of_one_forgets_and_alpha_of_zero_keeps():
    inputs = draw(dtype=FUSED[0])
    result = memory_attention(**inputs, alpha=1)
    assert torch.equal(result.score, result.mass)
    result = memory_attention(**inputs, alpha=0)
    assert torch.equal(result.score[:, :-1], inputs["cache_score"])
    assert torch.equal(result.score[:, -1], result.mass[:, -1])


def test_a_frame_that_nobody_looks_at_decays():
    inputs = draw(frames=1, bias=False, dtype=FUSED[0])
    inputs["q"] = inputs["q"].abs() + 0.1
    inputs["cache_k"] = torch.full_like(inputs["cache_k"], -1e5)
    score = torch.ones_like(inputs["cache_score"])
    for step in range(1, 5):
        inputs["cache_score"] = score
        score = memory_attention(**inputs, alpha=0.9).score[:, :1]
        near(score, torch.full((2, 1), 0.1**step, dtype=torch.float64), 1e-6 * 0.1**step)


@pytest.mark.parametrize("backend", BACKENDS)
def test_mass_and_score_have_no_gradient(backend):
    inputs = {n: x.requires_grad_() for n, x in draw(dtype=FUSED[0]).items()}
    result = memory_attention(**inputs, backend=backend)
    assert result.out.requires_grad
    assert not result.mass.requires_grad
    assert not result.score.requires_grad
    if backend == "auto":
        assert [x.requires_grad for x in operators.fused(*(inputs[n] for n in NAMES))] == [
            True,
            False,
        ]


# ---- gradients


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("rows", "frames"), [(7, 4), (130, 2), (257, 1), (5, 0), (1, 1)])
def test_every_gradient_is_that_of_the_dense_form(rows, frames, frozen, bias, backend):
    dtype, tolerance = precision(backend)
    inputs = draw(rows=rows, frames=frames, bias=bias, dtype=dtype)
    wanted = [n for n in inputs if n in NAMES and not (frozen and n.startswith("cache"))]
    if frames == 0:
        wanted = [n for n in wanted if not n.startswith("cache")]
    gradient = torch.randn(inputs["q"].shape, dtype=torch.float64).to(DEVICE)
    theirs = {n: x.double().clone().requires_grad_(n in wanted) for n, x in inputs.items()}
    expected = torch.autograd.grad(dense_torch(theirs), [theirs[n] for n in wanted], gradient)
    ours = {n: x.requires_grad_(n in wanted) for n, x in inputs.items()}
    out = memory_attention(**ours, backend=backend).out
    actual = torch.autograd.grad(out, [ours[n] for n in wanted], gradient.to(dtype))
    for a, b in zip(actual, expected, strict=True):
        near(a, b, tolerance * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("name", NAMES)
def test_each_gradient_alone(name):
    """What is asked for does not depend on what else is, nor on how the gradient lies in memory."""
    dtype, tolerance = FUSED
    inputs = draw(dtype=dtype)
    theirs = {n: x.double().clone().requires_grad_(n == name) for n, x in inputs.items()}
    dense_torch(theirs).sum().backward()
    ours = {n: x.detach().clone().requires_grad_(n == name) for n, x in inputs.items()}
    memory_attention(**ours).out.sum().backward()
    near(ours[name].grad, theirs[name].grad, tolerance)
    assert all(x.grad is None for n, x in ours.items() if n != name)


@pytest.mark.parametrize("layout", ["heads inside", "channels apart", "every other"])
def test_gradients_of_inputs_that_lie_otherwise_in_memory(layout):
    dtype, tolerance = FUSED
    inputs = draw(dtype=dtype)
    for frozen in (False, True):
        grads = []
        for change in (lambda x: x, lambda x: relaid(x, layout)):
            mine = {n: x.clone() for n, x in inputs.items()}
            wanted = [n for n in NAMES if not (frozen and n in ("cache_k", "cache_v", "bias"))]
            for n in wanted:
                mine[n].requires_grad_()
            out = memory_attention(**{n: change(x) for n, x in mine.items()}).out
            weights = torch.linspace(-1, 1, out.numel(), device=DEVICE, dtype=dtype)
            loss = (change(out) * weights.view(out.shape)).sum()
            grads.append(torch.autograd.grad(loss, [mine[n] for n in wanted]))
        for a, b in zip(*grads, strict=True):
            near(a, b, tolerance)


@pytest.mark.skipif(DEVICE == "cuda", reason="the fused form on a GPU is not in float64")
@pytest.mark.parametrize("frozen", [False, True])
def test_gradcheck(frozen):
    inputs = draw(1, 2, 3, 2, 2)
    score = inputs.pop("cache_score")
    for n, x in inputs.items():
        x.requires_grad_(not (frozen and n.startswith("cache")))

    def op(q, k, v, cache_k, cache_v, bias):
        return memory_attention(q, k, v, cache_k, cache_v, score, bias=bias).out

    assert torch.autograd.gradcheck(op, list(inputs.values()))


def test_the_reference_differentiates_twice():
    inputs = draw(1, 2, 2, 2, 1)
    score = inputs.pop("cache_score")

    def op(q, k, v, cache_k, cache_v, bias):
        return memory_attention(q, k, v, cache_k, cache_v, score, bias=bias, backend="torch").out

    tensors = [x.requires_grad_() for x in inputs.values()]
    assert torch.autograd.gradcheck(op, tensors)
    assert torch.autograd.gradgradcheck(op, tensors)


def test_the_fused_form_refuses_to_differentiate_twice():
    inputs = draw(dtype=FUSED[0])
    q = inputs["q"].requires_grad_()
    out = memory_attention(**inputs).out
    (first,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='torch'"):
        first.sum().backward()


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_mode_and_transforms(backend):
    dtype, _ = precision("torch")
    inputs = draw(dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    along = torch.randn(inputs["q"].shape, generator=generator, dtype=dtype).to(DEVICE)

    def op(q: Tensor) -> Tensor:
        return memory_attention(**(inputs | {"q": q}), backend=backend).out

    def exact(q: Tensor) -> Tensor:
        return dense_torch(inputs | {"q": q})

    expected = torch.func.jvp(exact, (inputs["q"],), (along,))[1]
    assert expected.abs().max() > 0.1
    near(torch.func.jvp(op, (inputs["q"],), (along,))[1], expected, 1e-12)
    with forward_ad.dual_level():
        dual = op(forward_ad.make_dual(inputs["q"], along))
        near(forward_ad.unpack_dual(dual).tangent, expected, 1e-12)
    (ours,), (theirs,) = (torch.func.vjp(f, inputs["q"])[1](along) for f in (op, exact))
    near(ours, theirs, 1e-12)
    q = torch.stack([inputs["q"], along])
    near(torch.func.vmap(op)(q), torch.stack([exact(x) for x in q]), 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("frames", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_result_may_be_changed_in_place(dtype, frames, backend):
    """As by a dropout in place: values and gradients are those of the same out of place."""
    inputs = draw(frames=frames, dtype=dtype)
    grads = []
    for change in (lambda x: x * 2 + 1, lambda x: x.mul_(2).add_(1)):
        q = inputs["q"].clone().requires_grad_()
        out = change(memory_attention(**(inputs | {"q": q}), backend=backend).out)
        grads += [out.detach(), *torch.autograd.grad(out.square().sum(), q)]
    assert torch.equal(grads[0], grads[2])
    assert torch.equal(grads[1], grads[3])
    factor = torch.ones((), device=DEVICE, dtype=dtype, requires_grad=True)
    memory_attention(**inputs, backend=backend).out.mul_(factor).sum().backward()
    assert factor.grad.isfinite()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exported_program_is_saved_and_read(backend, tmp_path):
    """With gradients on, as by default."""
    inputs = draw(dtype=torch.float32)

    class Scores(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
            return tuple(memory_attention(*tensors, backend=backend))

    arguments = tuple(x for n, x in inputs.items() if n != "bias")
    program = torch.export.export(Scores(), arguments)
    torch.export.save(program, tmp_path / "scores.pt2")
    found = torch.export.load(tmp_path / "scores.pt2").module()(*arguments)
    for a, b in zip(found, memory_attention(*arguments, backend=backend), strict=True):
        near(a, b, 1e-6)


@pytest.mark.parametrize("frames", [0, 1, 4])
def test_the_gradient_of_the_bias_in_half_precision(frames):
    """It adds up to zero over the frames, and is zero for one; rounding is not in its way."""
    inputs = draw(2, 4, 256, 32, frames, dtype=torch.bfloat16)
    bias = inputs["bias"] = inputs["bias"].float().requires_grad_()
    gradient = torch.randn(inputs["q"].shape, generator=torch.Generator().manual_seed(1))
    gradient = gradient.to(DEVICE, torch.bfloat16)
    memory_attention(**inputs).out.backward(gradient)
    theirs = {n: x.detach().double().requires_grad_(n == "bias") for n, x in inputs.items()}
    dense_torch(theirs).backward(gradient.double())
    exact = theirs["bias"].grad
    assert (bias.grad.double() - exact).norm() <= 4e-3 * exact.norm() + 1e-12
    assert bias.grad.double().sum(1).abs().max() <= 1e-6 * (1 + exact.abs().max())
    if frames == 0:
        assert bias.grad.abs().max() == 0


# ---- what is not done


class Recorder(TorchDispatchMode):
    """Records operations, what attention was handed, and the size of the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.attention: list[tuple[str, list[Tensor]]] = []
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "xwx_kernels":  # look inside
            run = operators.fused_backward if "backward" in str(func) else operators.fused
            with self:
                return run._init_fn(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        made = [x.numel() for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.calls.append(str(func))
        if "attention" in str(func):
            self.attention.append((str(func), [x for x in args if isinstance(x, Tensor)]))
        self.largest = max([self.largest, *made])
        return result


@pytest.mark.parametrize("frozen", [False, True])
def test_no_map_of_weights_is_formed(frozen):
    rows, frames = 1024, 3
    inputs = draw(1, 1, rows, 4, frames, bias=not frozen, dtype=torch.float32)
    for n in NAMES:
        if n in inputs:
            inputs[n].requires_grad_(not (frozen and n.startswith("cache")))
    with Recorder() as fused:
        memory_attention(**inputs).out.sum().backward()
    assert any("flash" in name or "efficient" in name for name in fused.calls)  # it saw inside
    assert fused.largest <= max(inputs["cache_k"].numel(), operators.ROWS * rows)
    with Recorder() as plain:
        memory_attention(**inputs, backend="torch").out.sum().backward()
    assert plain.largest == rows * rows


def count(inputs: dict[str, Tensor], *wanted: str) -> list[str]:
    """Return the operations of a backward pass that gives the gradients asked for."""
    for n, x in inputs.items():
        x.requires_grad_(n in wanted)
    out = memory_attention(**inputs).out
    with Recorder() as recorder:
        out.sum().backward()
    return recorder.calls


def test_frozen_caches_cost_little():
    dtype = torch.float32
    flash = "_for_cpu_backward" if DEVICE == "cpu" else "attention_backward"
    inputs = draw(bias=False, dtype=dtype, frames=4)

    def kernels(*wanted: str) -> tuple[int, int]:
        calls = count(inputs, *wanted)
        return sum(flash in c for c in calls), sum("baddbmm" in c for c in calls)

    assert kernels("q", "k", "v", "cache_k", "cache_v") == (5, 0)
    assert kernels("cache_v") == (4, 0)
    assert kernels("k", "v") == (1, 0)
    assert kernels("q", "k", "v") == ((1, 4 * 3) if DEVICE == "cpu" else (5, 0))


def test_a_cache_of_another_type_is_not_copied_whole():
    inputs = draw(1, 2, 16, 8, 5, bias=False, dtype=torch.float32)
    for n in ("cache_k", "cache_v"):
        inputs[n] = inputs[n].bfloat16()
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        inputs["q"].requires_grad_()
        memory_attention(**inputs).out.sum().backward()
    whole = [x for x in saved if x.numel() == inputs["cache_k"].numel()]
    assert [x.dtype for x in whole] == [torch.bfloat16] * 2


# ---- numbers at the edge, and types


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_logits_stay_finite(dtype, backend):
    inputs = draw(bias=False, dtype=dtype)
    inputs["q"] = (inputs["q"] * 1e3).requires_grad_()
    inputs["cache_k"].requires_grad_()
    result = memory_attention(**inputs, backend=backend)
    result.out.sum().backward()
    for x in (*result, inputs["q"].grad, inputs["cache_k"].grad):
        assert torch.isfinite(x).all()
    near(result.mass.sum(1), torch.ones(2), 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_is_near_float64(dtype, backend):
    """Within four units of the last place of the largest value."""
    inputs = draw(rows=40, width=16, dtype=dtype)
    for n in NAMES:
        inputs[n].requires_grad_()
    result = memory_attention(**inputs, backend=backend)
    assert result.out.dtype == dtype
    assert result.mass.dtype == torch.float32
    bound = 4 * torch.finfo(dtype).eps
    out, mass, _ = dense(inputs, 0.9)
    near(result.out, out, bound * np.abs(out).max())
    near(result.mass, mass, bound * mass.max())
    theirs = {n: x.detach().double().requires_grad_() for n, x in inputs.items()}
    gradient = torch.randn(out.shape, device=DEVICE).to(dtype)
    expected = torch.autograd.grad(
        dense_torch(theirs), [theirs[n] for n in NAMES], gradient.double()
    )
    actual = torch.autograd.grad(result.out, [inputs[n] for n in NAMES], gradient)
    for n, a, b in zip(NAMES, actual, expected, strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).norm() <= (3 if n == "bias" else 1) * bound * b.norm(), n


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_of_another_type_are_cast_to_that_of_the_queries(backend):
    inputs = draw(dtype=torch.float32)
    for n in ("cache_k", "cache_v", "cache_score"):
        inputs[n] = inputs[n].bfloat16()
    cast = {n: x.float() for n, x in inputs.items()}
    inputs["cache_k"].requires_grad_()
    cast["cache_k"].requires_grad_()
    a, b = (memory_attention(**x, backend=backend) for x in (inputs, cast))
    for x, y in zip(a, b, strict=True):
        assert x.dtype == torch.float32
        assert torch.equal(x, y)
    a.out.sum().backward()
    b.out.sum().backward()
    assert inputs["cache_k"].grad.dtype == torch.bfloat16
    assert torch.equal(inputs["cache_k"].grad, cast["cache_k"].grad.bfloat16())


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_is_that_of_scaled_dot_product_attention(backend):
    inputs = draw(bias=False, frames=2, dtype=torch.float32)
    low = {n: x.bfloat16() for n, x in inputs.items() if n != "cache_score"}
    low["cache_score"] = inputs["cache_score"]
    expected = memory_attention(**low, backend=backend)
    with torch.autocast(DEVICE, torch.bfloat16):
        result = memory_attention(**inputs, backend=backend)
        theirs = F.scaled_dot_product_attention(inputs["q"], inputs["k"], inputs["v"])
        wide = memory_attention(**{n: x.double() for n, x in inputs.items()}, backend=backend)
    assert result.out.dtype == theirs.dtype == torch.bfloat16
    assert wide.out.dtype == torch.float64
    for x, y in zip(result, expected, strict=True):
        assert torch.equal(x, y)


def test_a_backward_pass_under_autocast_keeps_its_type():
    inputs = draw(bias=False, rows=9, dtype=torch.float32)
    grads = []
    for enabled in (False, True):
        q = inputs["q"].clone().requires_grad_()
        out = memory_attention(**(inputs | {"q": q})).out
        with torch.autocast(DEVICE, torch.bfloat16, enabled=enabled):
            grads += torch.autograd.grad(out.sum(), q)
    assert torch.equal(*grads)


# ---- torch's own checks


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frames", [0, 2])
def test_opcheck(frames, bias):
    inputs = draw(frames=frames, bias=bias, dtype=FUSED[0])
    arguments = [inputs[n].requires_grad_() for n in NAMES if n in inputs]
    arguments += [] if bias else [None]
    tolerance = {} if FUSED[0] == torch.float64 else {"atol": 1e-3, "rtol": 1e-3}
    torch.library.opcheck(operators.fused, arguments, **tolerance)
    out, z = (x.detach() for x in operators.fused(*arguments))
    arguments = [x if x is None else x.detach() for x in arguments]
    for need in ([True] * 5 + [bias], [True, False, True, False, False, False]):
        torch.library.opcheck(operators.fused_backward, (out, *arguments, out, z, need))


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_equals_eager(backend):
    inputs = draw(dtype=FUSED[0])

    def op(**inputs):
        return memory_attention(**inputs, alpha=0.8, backend=backend)

    results = []
    for run in (op, torch.compile(op, fullgraph=True, backend="aot_eager")):
        mine = {n: x.clone().requires_grad_(n in NAMES) for n, x in inputs.items()}
        result = run(**mine)
        result.out.square().sum().backward()
        results.append([*result, *(mine[n].grad for n in NAMES)])
    for a, b in zip(*results, strict=True):
        near(a, b, FUSED[1])


def test_memory_that_was_never_written_is_never_read():
    inputs = draw(rows=33, dtype=torch.float32)
    results = []
    for poisoned in (False, True):
        torch.use_deterministic_algorithms(poisoned)
        try:
            mine = {n: x.clone().requires_grad_(n in NAMES) for n, x in inputs.items()}
            result = memory_attention(**mine)
            grads = torch.autograd.grad(result.out.sum(), [mine[n] for n in NAMES])
            results.append([*result, *grads])
        finally:
            torch.use_deterministic_algorithms(False)
    assert torch.utils.deterministic.fill_uninitialized_memory
    for a, b in zip(*results, strict=True):
        near(b, a, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [5, 96, 260])
def test_kernels_of_a_gpu_take_these_shapes(width, dtype, monkeypatch):
    """On tensors without memory, so that it runs without a GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with FakeTensorMode(), Recorder() as recorder:
        joint = torch.empty(2, 33, 3 * 4 * width, device="cuda", dtype=dtype)
        q, k, v = (x.view(2, 33, 4, width).transpose(1, 2) for x in joint.chunk(3, dim=-1))
        out, lse = operators._attend(q, k, v)
        assert out.shape == q.shape
        assert out.dtype == dtype
        assert lse.shape == (2, 4, 33)
        assert lse.dtype == torch.float32
        multiple = 4 if dtype == torch.float32 else 8
        copied = any(".clone" in call or ".constant_pad" in call for call in recorder.calls)
        assert copied == (width % multiple > 0)
        grads = operators._attend_backward(torch.ones_like(q), q, k, v, out, lse)
        assert [tuple(x.shape) for x in grads] == [(2, 4, 33, width)] * 3
    flash = dtype == torch.bfloat16 and width <= 256
    kernel = "dot_product_flash" if flash else "dot_product_efficient"
    _, seen = (tensors for call, tensors in recorder.attention if kernel in call)
    padded = (2, 4, 33, width + -width % multiple)
    queries = 33 if flash else 64
    assert [tuple(x.shape) for x in seen[:6]] == [padded] * 5 + [(2, 4, queries)]
    assert seen[4].transpose(1, 2).is_contiguous()
    assert seen[5].is_contiguous()


def test_rows_are_aligned_only_where_they_are_not():
    x = torch.randn(2, 3, 6, 8)
    assert operators._aligned(x, 8) is x
    assert operators._aligned(x, 1) is x
    padded = operators._aligned(x[..., :5], 4)
    assert padded.shape == (2, 3, 6, 8)
    assert torch.equal(padded[..., :5], x[..., :5])
    assert padded[..., 5:].abs().max() == 0
    shifted = torch.randn(1 + 2 * 3 * 6 * 8)[1:].view(2, 3, 6, 8)
    for view in (shifted, torch.randn(2, 3, 6, 9)[..., :8], torch.randn(2, 3, 8, 6).mT):
        moved = operators._aligned(view, 8)
        assert torch.equal(moved, view)
        assert moved.storage_offset() == 0
        assert moved.stride() == (144, 48, 8, 1)


# ---- choices and refusals


def test_which_form_runs(monkeypatch):
    chosen = []
    for name in ("fused", "reference"):
        run = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, name=name, run=run: (chosen.append(name), run(*a))[1]
        )
    memory_attention(**draw(dtype=torch.float32))
    memory_attention(**draw(dtype=torch.float32), backend="torch")
    memory_attention(**draw(dtype=torch.float64))
    memory_attention(**draw(batch=0, dtype=torch.float32))
    memory_attention(**{n: x.to("meta") for n, x in draw().items()})
    float64 = "fused" if DEVICE == "cpu" else "reference"
    assert chosen == ["fused", "reference", float64, "reference", "reference"]


def test_an_empty_batch_is_an_empty_result():
    result = memory_attention(**draw(batch=0))
    assert [tuple(x.shape) for x in result] == [(0, 3, 7, 5), (0, 5), (0, 5)]


@pytest.mark.parametrize("backend", ["triton", "numba"])
def test_there_are_no_kernels_of_our_own(backend):
    with pytest.raises(RuntimeError, match=f"has no {backend} kernel"):
        memory_attention(**draw(), backend=backend)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": (2, 3, 7)}, r"q has shape \(2, 3, 7\)"),
        ({"q": (2, 3, 0, 5)}, "at least one"),
        ({"k": (2, 3, 7, 4)}, r"k has shape \(2, 3, 7, 4\): need \(2, 3, 7, 5\)"),
        ({"v": (2, 3, 6, 5)}, r"v has shape \(2, 3, 6, 5\)"),
        ({"cache_k": (2, 3, 7, 5)}, r"cache_k has shape .* need \(2, 3, M, 7, 5\)"),
        ({"cache_k": (2, 3, 4, 8, 5)}, r"cache_k has shape .* need \(2, 3, 4, 7, 5\)"),
        ({"cache_v": (2, 3, 3, 7, 5)}, r"cache_v has shape .* need \(2, 3, 4, 7, 5\)"),
        ({"cache_v": None}, "pass both or none"),
        ({"cache_score": None}, r"cache_score is missing: pass the scores .*\(2, 4\)"),
        ({"cache_score": (2, 5)}, r"cache_score has shape \(2, 5\): need \(2, 4\)"),
        ({"bias": (3, 4)}, r"bias has shape \(3, 4\): need \(3, 5\)"),
        ({"cache_k": None, "cache_v": None}, r"cache_score has shape \(2, 4\): need \(2, 0\)"),
    ],
)
def test_refusals_say_what_is_wrong(changes, message):
    inputs = draw()
    for name, shape in changes.items():
        inputs[name] = shape if shape is None else torch.zeros(shape, device=DEVICE)
    with pytest.raises(ValueError, match=message):
        memory_attention(**inputs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [*NAMES, "cache_score"])
def test_types_that_would_lose_something(name, backend):
    """A cast would cut digits or an imaginary part without a word."""
    for dtype, remedy in ((torch.int64, r"\.float\(\)"), (torch.complex64, r"\.real")):
        inputs = draw()
        inputs[name] = inputs[name].to(dtype)
        with pytest.raises(TypeError, match=f"{name} has type {dtype}: .*{name}{remedy}"):
            memory_attention(**inputs, backend=backend)
    with pytest.raises(TypeError, match=f"{name} is a numpy.ndarray"):
        memory_attention(**(draw() | {name: draw()[name].cpu().numpy()}), backend=backend)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_is_a_weight(alpha):
    with pytest.raises(ValueError, match=r"alpha=.*from 0 to 1"):
        memory_attention(**draw(), alpha=alpha)


def test_other_refusals():
    with pytest.raises(ValueError, match="choose from auto, torch"):
        memory_attention(**draw(), backend="cuda")
    inputs = draw()
    inputs["cache_v"] = inputs["cache_v"].to("meta")
    with pytest.raises(ValueError, match="cache_v is on meta"):
        memory_attention(**inputs)
