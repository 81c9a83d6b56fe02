"""What torch is told of memory attention: frame by frame on torch's own flash attention.

A flash kernel gives ``out_tau`` and ``lse_tau``, the logsumexp of the logits, of one frame. With
``z_tau = lse_tau + bias_tau`` the joint softmax is the mean of the ``out_tau`` with weights
``softmax_tau(z)``, exactly.

Backward, a flash kernel forms ``P = exp(logits - lse)`` and ``delta = rowsum(gradient * out)``
from the ``lse`` and ``out`` it is handed. Handed the merged ones, ``logsumexp_tau(z) - bias_tau``
and ``out``, its P is the joint softmax restricted to its frame: its gradients are the joint ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["fused"]

#: Queries at a time where logits are formed outside a kernel.
ROWS = 128


@torch.library.custom_op("xwx_kernels::memory_attention", mutates_args=())
def fused(
    q: Tensor, k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the attention over all frames, and z (B, heads, M + 1, N), no gradient through z."""
    frames = _frames(k, v, cache_k, cache_v)
    z: list[Tensor] = []
    for tau in reversed(range(len(frames))):
        part, lse = _attend(q, *(x.to(q.dtype) for x in frames[tau]))
        if bias is not None:
            lse = lse + bias[:, tau, None].to(lse.dtype)
        if not z:
            out, total = part.to(lse.dtype), lse
        else:
            # After hidden frames alone, all that is new counts: -inf - -inf is no difference.
            ahead = torch.where(total == -torch.inf, torch.inf, lse - total)
            out.lerp_(part.to(out.dtype), torch.sigmoid(ahead)[..., None])
            total = torch.logaddexp(total, lse)
        z.append(lse)
    if bias is not None:  # that may hide all frames, which leaves nothing to attend to
        out.masked_fill_(total[..., None] == -torch.inf, torch.nan)
    return _heads_inside(out.to(q.dtype)), torch.stack(z[::-1], dim=2)


# The schema is spelled out for releases of torch that cannot infer lists.
@torch.library.custom_op(
    "xwx_kernels::memory_attention_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor q, Tensor k, Tensor v, Tensor cache_k, Tensor cache_v, "
    "Tensor? bias, Tensor out, Tensor z, bool[] need) -> Tensor[]",
)
def fused_backward(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache_k: Tensor,
    cache_v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    z: Tensor,
    need: list[bool],
) -> list[Tensor]:
    """Return the gradients of q, k, v, cache_k, cache_v and bias; empty where not needed."""
    targets = _targets((q, k, v, cache_k, cache_v, bias), need)
    dq, *dframes, dbias = targets
    total = z.logsumexp(2)
    delta = (gradient.to(z.dtype) * out).sum(-1)
    query = torch.zeros(q.shape, dtype=z.dtype, device=q.device)
    slopes = z.new_zeros(z.shape[1:3])
    pairs = zip(_frames(k, v, cache_k, cache_v), _frames(*dframes), strict=True)
    for tau, (frame, (into_k, into_v)) in enumerate(pairs):
        key, value = (x.to(q.dtype) for x in frame)
        lse = total if bias is None else total - bias[:, tau, None].to(z.dtype)
        if into_k.numel() or into_v.numel() or need[5]:
            part, key_part, value_part = _attend_backward(gradient, q, key, value, out, lse)
            query += part
            if into_k.numel():
                into_k.copy_(key_part)
            if into_v.numel():
                into_v.copy_(value_part)
            if need[5]:
                # Over queries, weight * (gradient . out_tau) adds up to value_part . value.
                weight = torch.exp(z[:, :, tau] - total)
                along = (value_part.to(z.dtype) * value).sum((0, 2, 3))
                slopes[:, tau] = along - (weight * delta).sum((0, 2))
        elif need[0]:
            _add_query_gradient(query, gradient, q, key, value, out, lse, delta)
    if need[0]:
        dq.copy_(query)
    if need[5]:
        dbias.copy_(_balanced(slopes, z))
    return targets


def _balanced(slopes: Tensor, z: Tensor) -> Tensor:
    """Return the gradients of the bias (heads, M + 1), made to add up to zero over the frames.

    The exact ones do. A sum that is left comes of the rounding of ``out``, which belongs to the
    frames as their weights do.
    """
    share = z.softmax(2).sum((0, 3))
    return slopes - slopes.sum(1, keepdim=True) * (share / share.sum(1, keepdim=True))


def _frames(k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return keys and values of each frame, the present last."""
    return [*zip(cache_k.unbind(2), cache_v.unbind(2), strict=True), (k, v)]


def _attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax attention over one frame, a new tensor, and its logsumexp (B, heads, N)."""
    scale, width, rows = q.shape[-1] ** -0.5, q.shape[-1], q.shape[-2]
    kernel, multiple = _kernel(q)
    q, k, v = (_aligned(x, multiple) for x in (q, k, v))
    aten = torch.ops.aten
    if kernel == "cpu":
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
    elif kernel == "flash":
        out, lse = aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
    else:
        efficient = aten._scaled_dot_product_efficient_attention
        out, lse = efficient(q, k, v, None, True, scale=scale)[:2]
    return out.narrow(-1, 0, width), lse.narrow(-1, 0, rows)


def _attend_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of queries, keys and values through one frame."""
    scale, width, rows = q.shape[-1] ** -0.5, q.shape[-1], q.shape[-2]
    kernel, multiple = _kernel(q)
    q, k, v, gradient = (_aligned(x, multiple) for x in (q, k, v, gradient))
    out = _heads_inside(_aligned(out, multiple))
    aten = torch.ops.aten
    if kernel == "cpu":
        grads = aten._scaled_dot_product_flash_attention_for_cpu_backward(
            gradient, q, k, v, out, lse, 0.0, False, scale=scale
        )
    else:
        unused = torch.empty(0, dtype=torch.int64, device=q.device)  # state of a dropout
        if kernel == "flash":
            grads = aten._scaled_dot_product_flash_attention_backward(
                *(gradient, q, k, v, out, lse.contiguous(), None, None, rows, rows),
                *(0.0, False, unused, unused),
                scale=scale,
            )
        else:
            # The kernel reads whole blocks of 32 queries; exp(logits - inf) is zero.
            lse = F.pad(lse, (0, -rows % 32), value=torch.inf)
            grads = aten._scaled_dot_product_efficient_attention_backward(
                *(gradient, q, k, v, None, out, lse, unused, unused),
                *(0.0, [True, True, True, False]),
                scale=scale,
            )
    return tuple(grad.narrow(-1, 0, width) for grad in grads[:3])


def _add_query_gradient(
    into: Tensor,
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    delta: Tensor,
) -> None:
    """Add the gradient of the queries alone through one frame, for keys that stay as they are.

    On a CPU three matrix products for some rows at a time beat the flash kernel's five. In half
    precision they would round the logits, and on a GPU the flash kernel is faster.
    """
    if q.device.type != "cpu" or q.dtype != into.dtype:
        into += _attend_backward(gradient, q, k, v, out, lse)[0]
        return
    scale = q.shape[-1] ** -0.5
    into, gradient, q, k, v = (x.flatten(0, 1) for x in (into, gradient, q, k, v))
    lse, delta = (x.flatten(0, 1)[..., None] for x in (lse, delta))
    with torch.autocast("cpu", enabled=False):
        for start in range(0, q.shape[1], ROWS):
            rows = slice(start, start + ROWS)
            p = torch.baddbmm(lse[:, rows], q[:, rows], k.mT, beta=-1, alpha=scale).exp_()
            p *= torch.baddbmm(delta[:, rows], gradient[:, rows], v.mT, beta=-1)
            into[:, rows].baddbmm_(p, k, alpha=scale)


def _kernel(q: Tensor) -> tuple[str, int]:
    """Return which of torch's kernels takes these queries, and the multiple of a row it needs."""
    if q.device.type == "cpu":
        return "cpu", 1
    if q.dtype == torch.float32:
        return "efficient", 4
    # Beyond 192 channels its gradient needs more shared memory than a GeForce or an L4 has.
    if q.shape[-1] <= 192 and torch.cuda.get_device_capability(q.device) >= (8, 0):
        return "flash", 8
    return "efficient", 8


def _aligned(x: Tensor, multiple: int) -> Tensor:
    """Return x with rows of a multiple of elements at such addresses; x itself where it can be."""
    if missing := -x.shape[-1] % multiple:
        return F.pad(x, (0, missing))
    *steps, step = x.stride()
    if step == 1 and not any(n % multiple for n in (*steps, x.storage_offset())):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def _heads_inside(x: Tensor) -> Tensor:
    """Lay (B, heads, N, d) out in memory as (B, N, heads, d), as torch's kernels do."""
    inside = x.transpose(1, 2)
    if not inside.is_contiguous():
        inside = inside.clone(memory_format=torch.contiguous_format)
    return inside.transpose(1, 2)


def _targets(inputs: Sequence[Tensor | None], need: list[bool]) -> list[Tensor]:
    """Return room for the gradient of each input; no room, but the same axes, where not needed."""
    # All on one device: a tensor on the CPU, even an empty one, keeps compilers from CUDA graphs.
    device = next(x.device for x in inputs if x is not None)
    return [
        torch.empty(0, device=device)
        if x is None
        else x.new_empty((*x.shape[:-1], x.shape[-1] if n else 0))
        for x, n in zip(inputs, need, strict=True)
    ]


@fused.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(q.dtype, torch.float32)
    batch, heads, rows, _ = q.shape
    z = q.new_empty((batch, heads, cache_k.shape[2] + 1, rows), dtype=wide)
    return _heads_inside(q.new_empty(q.shape)), z


@fused_backward.register_fake
def _(gradient: Tensor, *rest: Any) -> list[Tensor]:
    *inputs, _, _, need = rest
    return _targets(inputs, need)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    need = list(ctx.needs_input_grad)
    grads = fused_backward(gradient, *ctx.saved_tensors, need)
    return tuple(grad if n else None for grad, n in zip(grads, need, strict=True))


def _refuse(ctx: Any, *gradients: Any) -> None:
    raise RuntimeError(
        "memory_attention: its fused form differentiates once; for second derivatives call it "
        "with backend='torch'"
    )


fused.register_autograd(_backward, setup_context=_setup)
fused_backward.register_autograd(_refuse)
