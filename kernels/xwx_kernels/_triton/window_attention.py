"""Attention inside windows for GPUs: one program for one head of one window.

A program finds its tokens by arithmetic, straight in the map: nothing is rolled, padded, cut into
windows or put together again. It holds the weights of its window, and reads and writes queries,
keys, values and results a few channels at a time.

Gradients are written once, without atomics, so they are the same on every run. A key that a second
window sees across the date line writes that share to a side buffer, which is added afterwards.
"""

# Triton gives the parameters of kernels their types.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from xwx_kernels.selection import INTERPRETED

__all__ = ["backward", "forward", "settings"]


@triton.jit
def _locate(
    height,
    width,
    heads,
    shift,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CIRCULAR: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Return this program's head and, for every slot of its window, where it lies and what it is.

    That is its token, its place among the extra keys, whether it is a query, whether it is a key.
    """
    program = tl.program_id(0)
    head = program % heads
    window = program // heads
    across = tl.cdiv(width, COLUMNS)
    down = tl.cdiv(height, ROWS)
    slot = tl.arange(0, SLOTS)
    row = window // across % down * ROWS + slot // COLUMNS
    column = window % across * COLUMNS + slot % COLUMNS
    key = (slot < ROWS * COLUMNS) & (row < height)
    query = key & (column < width)
    if not CIRCULAR:
        key = query
    # 64 bits: the numbers in a batch of maps may pass 2^31.
    line = (window // (across * down)).to(tl.int64) * height + row
    token = line * width + (column + shift) % width
    extra = line * (across * COLUMNS - width) + column - width
    return head, token, extra, query, key


@triton.jit
def _load(start, channel, held, DIM: tl.constexpr, WIDE: tl.constexpr):
    """Return some channels of the tokens that start at `start`; 0 for what is not held."""
    held = held[:, None] & (channel < DIM)[None, :]
    value = tl.load(start[:, None] + channel[None, :], mask=held, other=0.0)
    return value.to(tl.float32) if WIDE else value


@triton.jit
def _store(start, channel, value, held, DIM: tl.constexpr):
    """Write some channels of the tokens that start at `start`, in the type of the memory."""
    held = held[:, None] & (channel < DIM)[None, :]
    at = start[:, None] + channel[None, :]
    tl.store(at, value.to(start.dtype.element_ty), mask=held)


@triton.jit
def _weights(
    q,
    k,
    query,
    key,
    scale,
    DIM: tl.constexpr,
    CHUNK: tl.constexpr,
    SLOTS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Return softmax(q k^T scale) over the keys of a window, (queries, keys) in float32."""
    scores = tl.zeros((SLOTS, SLOTS), tl.float32)
    for first in range(0, DIM, CHUNK):
        channel = first + tl.arange(0, CHUNK)
        rows = _load(q, channel, query, DIM, WIDE)
        columns = _load(k, channel, key, DIM, WIDE)
        scores = tl.dot(rows, tl.trans(columns), scores, input_precision="ieee")
    scores = tl.where(key[None, :], scores * (scale * 1.4426950408889634), float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def window_attention_forward(
    qkv,
    out,
    height,
    width,
    heads,
    shift,
    scale,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CIRCULAR: tl.constexpr,
    DIM: tl.constexpr,
    CHUNK: tl.constexpr,
    SLOTS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Write the results of one head of one window."""
    head, token, _, query, key = _locate(
        height, width, heads, shift, ROWS, COLUMNS, CIRCULAR, SLOTS
    )
    q = qkv + token * (3 * heads * DIM) + head * DIM
    k = q + heads * DIM
    v = k + heads * DIM
    y = out + token * (heads * DIM) + head * DIM
    p = _weights(q, k, query, key, scale, DIM, CHUNK, SLOTS, WIDE)
    for first in range(0, DIM, CHUNK):
        channel = first + tl.arange(0, CHUNK)
        values = _load(v, channel, key, DIM, WIDE)
        mean = tl.dot(p.to(values.dtype), values, input_precision="ieee")
        _store(y, channel, mean, query, DIM)


@triton.jit
def window_attention_backward(
    gradient,
    qkv,
    dqkv,
    side,
    height,
    width,
    heads,
    shift,
    scale,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CIRCULAR: tl.constexpr,
    DIM: tl.constexpr,
    CHUNK: tl.constexpr,
    SLOTS: tl.constexpr,
    WIDE: tl.constexpr,
    SIDE: tl.constexpr,
):
    """Write the gradients of queries, keys and values of one head of one window.

    With weights p, gradient g of the results and scores s: dv = p^T g, dp = g v^T,
    ds = p (dp - sum_k p dp), dq = ds k scale, dk = ds^T q scale.
    """
    head, token, extra, query, key = _locate(
        height, width, heads, shift, ROWS, COLUMNS, CIRCULAR, SLOTS
    )
    q = qkv + token * (3 * heads * DIM) + head * DIM
    k = q + heads * DIM
    v = k + heads * DIM
    g = gradient + token * (heads * DIM) + head * DIM
    p = _weights(q, k, query, key, scale, DIM, CHUNK, SLOTS, WIDE)
    ds = tl.zeros((SLOTS, SLOTS), tl.float32)
    for first in range(0, DIM, CHUNK):
        channel = first + tl.arange(0, CHUNK)
        results = _load(g, channel, query, DIM, WIDE)
        values = _load(v, channel, key, DIM, WIDE)
        ds = tl.dot(results, tl.trans(values), ds, input_precision="ieee")
    ds = p * (ds - tl.sum(p * ds, 1)[:, None]) * scale

    dq = dqkv + token * (3 * heads * DIM) + head * DIM
    dk = dq + heads * DIM
    dv = dk + heads * DIM
    dk_extra = side + extra * (2 * heads * DIM) + head * DIM
    dv_extra = dk_extra + heads * DIM
    for first in range(0, DIM, CHUNK):
        channel = first + tl.arange(0, CHUNK)
        rows = _load(q, channel, query, DIM, WIDE)
        columns = _load(k, channel, key, DIM, WIDE)
        results = _load(g, channel, query, DIM, WIDE)
        slope = ds.to(rows.dtype)
        to_q = tl.dot(slope, columns, input_precision="ieee")
        to_k = tl.dot(tl.trans(slope), rows, input_precision="ieee")
        to_v = tl.dot(tl.trans(p.to(rows.dtype)), results, input_precision="ieee")
        _store(dq, channel, to_q, query, DIM)
        _store(dk, channel, to_k, query, DIM)
        _store(dv, channel, to_v, query, DIM)
        if SIDE:
            _store(dk_extra, channel, to_k, key & ~query, DIM)
            _store(dv_extra, channel, to_v, key & ~query, DIM)


def forward(
    qkv: Tensor,
    size: tuple[int, int],
    window: tuple[int, int],
    heads: int,
    shift: int,
    longitude: str,
) -> Tensor:
    """Return the attention (B, h*w, D) of contiguous `qkv` (B, h*w, 3*D)."""
    out = qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)
    chosen = settings(qkv, size, window, heads, shift, longitude)
    with torch.cuda.device_of(qkv):
        window_attention_forward[_programs(qkv, size, window, heads)](qkv, out, **chosen)
    return out


def backward(
    gradient: Tensor,
    qkv: Tensor,
    size: tuple[int, int],
    window: tuple[int, int],
    heads: int,
    shift: int,
    longitude: str,
) -> Tensor:
    """Return the gradient (B, h*w, 3*D); `gradient` and `qkv` contiguous."""
    dqkv = torch.empty_like(qkv)
    extra = -size[1] % window[1] if longitude == "circular" else 0
    batch, dim = qkv.shape[0], qkv.shape[2] // 3
    side = qkv.new_empty(batch, size[0], extra, 2 * dim)
    chosen = settings(qkv, size, window, heads, shift, longitude)
    with torch.cuda.device_of(qkv):
        window_attention_backward[_programs(qkv, size, window, heads)](
            gradient, qkv, dqkv, side, SIDE=extra > 0, **chosen
        )
    if extra:
        dqkv.view(batch, *size, 3 * dim)[:, :, :extra, dim:] += side
    return dqkv


def _programs(
    qkv: Tensor, size: tuple[int, int], window: tuple[int, int], heads: int
) -> tuple[int]:
    """Return the grid. Heads run fastest: they share the cache lines of a token."""
    down, across = triton.cdiv(size[0], window[0]), triton.cdiv(size[1], window[1])
    return (qkv.shape[0] * down * across * heads,)


def settings(
    qkv: Tensor,
    size: tuple[int, int],
    window: tuple[int, int],
    heads: int,
    shift: int,
    longitude: str,
) -> dict[str, Any]:
    """Return what both kernels are told beyond their tensors."""
    dim = qkv.shape[2] // (3 * heads)
    slots = max(16, triton.next_power_of_2(window[0] * window[1]))
    single = qkv.dtype == torch.float32
    return {
        "height": size[0],
        "width": size[1],
        "heads": heads,
        "shift": shift,
        "scale": 1 / math.sqrt(dim),
        "ROWS": window[0],
        "COLUMNS": window[1],
        "CIRCULAR": longitude == "circular",
        "DIM": dim,
        # Without tensor cores all is in registers: fewer channels at once, and more warps.
        "CHUNK": 16 if single or dim <= 16 else 32,
        "SLOTS": slots,
        # The interpreter adds up products in the type of the inputs.
        "WIDE": INTERPRETED,
        "num_warps": 8 if single or slots > 64 else 4,
        "num_stages": 1 if single or slots > 64 else 2,
        # A multiplication and an addition are one instruction, whatever the default is.
        "enable_fp_fusion": True,
    }
