"""Attention over cached frames against one attention over all keys, without and with scores."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from measuring import Case, Ways
from torch import Tensor
from xwx_kernels.memory_attention import memory_attention

#: Batch, heads, tokens, channels of a head. 512 is the valley of the 1.4 degree presets, 4050 the
#: map of 45 x 90 tokens.
ON_CPU = ((1, 8, 512, 96), (1, 8, 1024, 96))
ON_GPU = (*ON_CPU, (1, 8, 4050, 96))
CACHED = 5


def cases(device: torch.device, *, quick: bool = False) -> Iterator[Case]:
    """Yield forward alone, and forward with backward while the cache stays as it is."""
    on_gpu = device.type == "cuda"
    for dtype in (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,):
        for shape in (ON_GPU[-1:] if quick else ON_GPU) if on_gpu else ON_CPU:
            for backward in (False, True):
                yield _case(shape, dtype, device, backward=backward)


def _case(
    shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device, *, backward: bool
) -> Case:
    batch, heads, tokens, width = shape
    frames = CACHED + 1
    elements = batch * heads * tokens * width
    # forward: q, all keys and values in, out out. backward: out, its gradient, and all of the
    # former in, three gradients out
    maps = 2 + 2 * frames + (6 + 2 * frames if backward else 0)
    # products of N x N x d. backward: three for the queries' gradient, two more for the present
    products = 2 * frames + (3 * frames + 2 if backward else 0)
    return Case(
        "memory_attention",
        f"{batch} x {heads} heads x {tokens} tokens, {width} channels, {CACHED} cached",
        "forward+backward" if backward else "forward",
        dtype,
        lambda: ways(shape, dtype, device, backward=backward),
        maps * elements * torch.finfo(dtype).bits // 8,
        products * 2 * elements * tokens,
        "matrix",
    )


def ways(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    *,
    backward: bool = True,
    cached: int = CACHED,
) -> Ways:
    """Return the ways to attend to the same frames, on fresh inputs.

    The cache lies in memory as it is handed to each: with an axis of frames, or with all its keys
    in a row. The present's keys have to be put behind the latter, which is part of the figure.
    """
    batch, heads, tokens, width = shape
    make = {"device": device, "dtype": dtype}
    q, k, v, gradient = (torch.randn(shape, **make) for _ in range(4))
    cache_k, cache_v = (torch.randn(batch, heads, cached, tokens, width, **make) for _ in range(2))
    score = torch.rand(batch, cached, device=device)
    keys, values = cache_k.flatten(2, 3), cache_v.flatten(2, 3)
    leaves = [x.requires_grad_(backward) for x in (q, k, v)]

    def ours() -> Tensor:
        return memory_attention(q, k, v, cache_k, cache_v, score).out

    def joint() -> Tensor:
        return F.scaled_dot_product_attention(
            q, torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        )

    def dense() -> Tensor:
        p = (q @ torch.cat([keys, k], dim=2).mT / math.sqrt(width)).softmax(-1)
        with torch.no_grad():
            mass = p.unflatten(-1, (cached + 1, tokens)).sum(-1).mean((1, 2))
            mass[:, :-1] = 0.9 * mass[:, :-1] + 0.1 * score
        return p @ torch.cat([values, v], dim=2)

    def complete(way) -> object:
        if not backward:
            with torch.no_grad():
                return way()
        return torch.autograd.grad(way(), leaves, gradient)

    named = {
        "memory_attention": ours,
        "scaled_dot_product_attention, no scores": joint,
        "dense, with scores": dense,
    }
    return {name: (lambda way=way: complete(way)) for name, way in named.items()}
