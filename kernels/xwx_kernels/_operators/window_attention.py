"""What torch is told of the fast window attention: its shapes, its gradient, its limits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xwx_kernels.selection import load

__all__ = ["fused"]


@torch.library.custom_op("xwx_kernels::window_attention", mutates_args=())
def fused(
    qkv: Tensor,
    height: int,
    width: int,
    rows: int,
    columns: int,
    heads: int,
    shift: int,
    longitude: str,
    backend: str,
) -> Tensor:
    """Compute by the named implementation; a window of rows x columns fits into the map."""
    run = load(backend, "window_attention").forward
    out: Tensor = run(qkv.contiguous(), (height, width), (rows, columns), heads, shift, longitude)
    return out


@torch.library.custom_op("xwx_kernels::window_attention_backward", mutates_args=())
def fused_backward(
    gradient: Tensor,
    qkv: Tensor,
    height: int,
    width: int,
    rows: int,
    columns: int,
    heads: int,
    shift: int,
    longitude: str,
    backend: str,
) -> Tensor:
    """Return the gradient of queries, keys and values."""
    run = load(backend, "window_attention").backward
    settings = (height, width), (rows, columns), heads, shift, longitude
    dqkv: Tensor = run(gradient.contiguous(), qkv.contiguous(), *settings)
    return dqkv


@fused.register_fake
def _(qkv: Tensor, *_: Any) -> Tensor:
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)


@fused_backward.register_fake
def _(gradient: Tensor, qkv: Tensor, *_: Any) -> Tensor:
    return qkv.new_empty(qkv.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, *ctx.settings = inputs
    # Nothing else is kept: inside a window the weights are cheaper computed again than stored.
    ctx.save_for_backward(qkv)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    (qkv,) = ctx.saved_tensors
    dqkv = fused_backward(gradient, qkv, *ctx.settings) if ctx.needs_input_grad[0] else None
    return (dqkv, *(None for _ in ctx.settings))


def _refuse(ctx: Any, *gradients: Any) -> None:
    raise RuntimeError(
        "window_attention: its fast implementations differentiate once; for second derivatives "
        "call it with backend='torch'"
    )


fused.register_autograd(_backward, setup_context=_setup)
fused_backward.register_autograd(_refuse)
