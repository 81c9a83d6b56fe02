"""Memory attention: tokens attend to the present and to cached frames, which earn scores.

The queries of the present frame attend jointly to the keys of M cached frames and of the present,
``T = M + 1`` frames of N tokens. A frame's mass is its share of the attention, averaged over heads
and queries; its score is a running mean of that mass, by which a memory decides what to forget
(EMFormer, arXiv 2602.01194, section 3.2).

``backend="auto"`` runs torch's own flash attention one frame at a time and merges the frames by
their logsumexp, so that no map of N x N or N x T N weights is ever formed. ``backend="torch"`` is
the reference: differentiable torch operations, with one frame's N x N map at a time forward. There
is no kernel in Triton: its matrix products take powers of two, so heads of 96 channels would run
as 128, while torch's flash attention takes them as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xwx_kernels._operators.memory_attention import fused
from xwx_kernels.arguments import check_tensors
from xwx_kernels.precision import as_given, has_type
from xwx_kernels.selection import BACKENDS, transformed

__all__ = ["MemoryAttention", "memory_attention", "reference"]


_TENSORS = ("q", "k", "v", "cache_k", "cache_v", "cache_score", "bias")


class MemoryAttention(NamedTuple):
    """What :func:`memory_attention` returns."""

    out: Tensor
    mass: Tensor
    score: Tensor


def memory_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache_k: Tensor | None = None,
    cache_v: Tensor | None = None,
    cache_score: Tensor | None = None,
    alpha: float = 0.9,
    *,
    bias: Tensor | None = None,
    backend: str = "auto",
) -> MemoryAttention:
    """Attend to the present and to cached frames, and score the frames.

    With ``Z[i, (tau, j)] = q_i . k_{tau, j} / sqrt(d) + bias_tau`` and P its softmax over all
    (tau, j) jointly, ``out = P V``, ``mass[tau] = mean over heads and i of sum_j P[i, (tau, j)]``,
    and ``score = alpha * mass + (1 - alpha) * cache_score`` for cached frames, ``mass`` for the
    present.

    Computed in the type of `q`, to which keys and values are cast frame by frame; softmax is in
    float32 or wider. Under ``torch.autocast`` everything but float64 is computed in its type, as
    ``scaled_dot_product_attention`` does. Any strides will do; rows of d elements that lie
    together, as in a chunk of a joint projection, are read in place.

    Gradients flow to `q`, `k`, `v`, `cache_k`, `cache_v` and `bias`, not through `mass` and
    `score`. Those that nobody asked for are not returned; for frozen caches in float32 or float64
    a CPU leaves out their two fifths of the products.

    Parameters
    ----------
    q, k, v : Tensor, shape (B, heads, N, d)
        Queries, keys and values of the present frame.
    cache_k, cache_v : Tensor, shape (B, heads, M, N, d), optional
        Keys and values of M cached frames, oldest first; without them M is 0.
    cache_score : Tensor, shape (B, M), optional
        Scores of the cached frames; needed if there are any.
    alpha : float
        Weight of the present mass in the scores, from 0 to 1.
    bias : Tensor, shape (heads, M + 1), optional
        Added to the logits of all keys of a frame; the last column is the present. -inf hides a
        frame; with all of them hidden the result is NaN.
    backend : {"auto", "torch"}
        What computes it. ``"auto"`` is flash attention frame by frame on CPUs and on CUDA, which
        differentiates once, and the reference elsewhere, for float64 on CUDA, for ``torch.func``
        and in forward mode. ``"torch"`` is the reference, which differentiates any number of times.

    Returns
    -------
    out : Tensor, shape (B, heads, N, d)
        In the type of `q`, or of autocast.
    mass : Tensor, shape (B, M + 1)
        Float32 or wider; sums to one over the frames.
    score : Tensor, shape (B, M + 1)
        In the type of `mass`.

    Raises
    ------
    TypeError
        For what is not a tensor of floating point.
    ValueError
        For shapes or devices that do not agree, a cache without scores, `alpha` outside 0 to 1,
        or an unknown backend.
    RuntimeError
        For ``backend="triton"`` and ``"numba"``, in which this operation does not exist.
    """
    _check_backend(backend)
    given = zip(_TENSORS, (q, k, v, cache_k, cache_v, cache_score, bias), strict=True)
    check_tensors("memory_attention", {n: x for n, x in given if x is not None})
    if (cache_k is None) != (cache_v is None):
        raise ValueError("memory_attention: one of cache_k and cache_v is given: pass both or none")
    if cache_k is None or cache_v is None:
        cache_k = cache_v = q.new_empty((*q.shape[:2], 0, *q.shape[2:]))
    if cache_score is None and cache_k.ndim > 2 and cache_k.shape[2] == 0:
        cache_score = q.new_empty((q.shape[0], 0))
    cached = _check(q, k, v, cache_k, cache_v, cache_score, bias)
    if not 0 <= alpha <= 1:
        raise ValueError(f"memory_attention: alpha={alpha}: pass a weight from 0 to 1")
    attend = fused if backend == "auto" and _fusible(q) else reference
    out, z = attend(q.to(_compute_type(q)), k, v, cache_k, cache_v, bias)
    if attend is fused and out.requires_grad:
        out = out.clone()  # backward needs what the caller may change in place
    # Detached, not under no_grad: an exported program cannot switch gradients off and on.
    mass = z.detach().softmax(2).mean((1, 3))
    past = alpha * mass[:, :-1] + (1 - alpha) * cached.detach().to(mass.dtype)
    return MemoryAttention(out, mass, torch.cat([past, mass[:, -1:]], dim=1))


def reference(
    q: Tensor, k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attend to each frame by itself, then merge, in torch operations.

    Returns
    -------
    out : Tensor, shape (B, heads, N, d)
    z : Tensor, shape (B, heads, M + 1, N)
        Logarithm of the sum of the exponentials of a frame's logits; its softmax over the frames
        is the mass of each.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    keys, values = ((*cache.unbind(2), x) for cache, x in ((cache_k, k), (cache_v, v)))
    outs, sums = [], []
    with as_given(q.device):
        query = q.to(wide) * q.shape[-1] ** -0.5
        for key, value in zip(keys, values, strict=True):
            # The cast to the type of q rounds as the fused form does.
            logits = query @ key.to(q.dtype).to(wide).mT
            outs.append(logits.softmax(-1) @ value.to(q.dtype).to(wide))
            sums.append(logits.logsumexp(-1))
        z = torch.stack(sums, dim=2)
        if bias is not None:  # on all logits of a frame is on their logsumexp
            z = z + bias[:, :, None].to(wide)
        weights = z.softmax(2).unbind(2)
        out = sum(w[..., None] * part for w, part in zip(weights, outs, strict=True))
    return torch.as_tensor(out).to(q.dtype), z


def _compute_type(q: Tensor) -> torch.dtype:
    """Return the type to compute in: that of the queries, or the one autocast asks for."""
    kind = q.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return q.dtype
    return q.dtype if q.dtype == torch.float64 else torch.get_autocast_dtype(kind)


def _fusible(q: Tensor) -> bool:
    """Whether torch has a flash attention that returns logsumexp for these queries."""
    if q.numel() == 0 or transformed():
        return False
    if q.device.type == "cuda":
        usable = q.dtype != torch.float64 and torch.version.hip is None
        return usable and has_type(q.device, q.dtype)
    return q.device.type == "cpu"


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"memory_attention: backend={backend!r}: choose from auto, torch")
    if backend not in ("auto", "torch"):
        raise RuntimeError(
            f"memory_attention: backend={backend!r} cannot run: this operation has no {backend} "
            "kernel. backend='auto' takes torch's flash attention, backend='torch' plain torch"
        )


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache_k: Tensor,
    cache_v: Tensor,
    cache_score: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """Refuse what does not fit together; return the scores, which are there then."""
    if q.ndim != 4 or 0 in q.shape[1:]:
        raise ValueError(
            f"memory_attention: q has shape {tuple(q.shape)}: need (B, heads, N, d) with at least "
            "one head, token and channel"
        )
    batch, heads, rows, width = q.shape
    frames = cache_k.shape[2] if cache_k.ndim == 5 else "M"
    if cache_score is None:
        raise ValueError(
            f"memory_attention: cache_k has shape {tuple(cache_k.shape)}, but cache_score is "
            f"missing: pass the scores of its frames ({batch}, {frames}) as earlier calls "
            "returned them, or zeros"
        )
    present, past = (batch, heads, rows, width), (batch, heads, frames, rows, width)
    columns = frames + 1 if isinstance(frames, int) else "M + 1"
    for name, tensor, shape in (
        ("k", k, present),
        ("v", v, present),
        ("cache_k", cache_k, past),
        ("cache_v", cache_v, past),
        ("cache_score", cache_score, (batch, frames)),
        ("bias", bias, (heads, columns)),
    ):
        if tensor is not None and tuple(tensor.shape) != shape:
            need = f"({', '.join(map(str, shape))})"
            raise ValueError(
                f"memory_attention: {name} has shape {tuple(tensor.shape)}: need {need} to go "
                f"with q of shape {present}"
            )
    return cache_score
