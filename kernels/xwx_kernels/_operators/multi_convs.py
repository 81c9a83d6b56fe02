"""What torch is told of the fast multi-convs: their shapes, their gradients, their limits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xwx_kernels.selection import load

__all__ = ["fused"]


# Schemas are spelled out for releases of torch that cannot infer lists.
@torch.library.custom_op(
    "xwx_kernels::multi_convs",
    mutates_args=(),
    schema="(Tensor x, Tensor[] kernels, SymInt rows, SymInt columns, str longitude, "
    "str latitude, str backend) -> Tensor",
)
def fused(
    x: Tensor,
    kernels: list[Tensor],
    rows: int,
    columns: int,
    longitude: str,
    latitude: str,
    backend: str,
) -> Tensor:
    """Compute by the named implementation, whose `forward` takes contiguous tokens."""
    run = load(backend, "multi_convs").forward
    y: Tensor = run(x.contiguous(), kernels, (rows, columns), longitude, latitude)
    return y


@torch.library.custom_op(
    "xwx_kernels::multi_convs_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor[] kernels, SymInt rows, SymInt columns, "
    "str longitude, str latitude, str backend, bool need_x, bool need_kernels) -> Tensor[]",
)
def fused_backward(
    gradient: Tensor,
    x: Tensor,
    kernels: list[Tensor],
    rows: int,
    columns: int,
    longitude: str,
    latitude: str,
    backend: str,
    need_x: bool,
    need_kernels: bool,
) -> list[Tensor]:
    """Return the gradients of the tokens and of every kernel; an empty tensor if not needed."""
    run = load(backend, "multi_convs").backward
    dx, dkernels = run(
        gradient.contiguous(),
        x.contiguous(),
        kernels,
        (rows, columns),
        longitude,
        latitude,
        need_x=need_x,
        need_kernels=need_kernels,
    )
    return [_or_empty(dx, x), *(_or_empty(dk, k) for dk, k in zip(dkernels, kernels, strict=True))]


def _or_empty(tensor: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if tensor is None else tensor


@fused.register_fake
def _(x: Tensor, kernels: list[Tensor], *_: Any) -> Tensor:
    return x.new_empty(x.shape)


@fused_backward.register_fake
def _(gradient: Tensor, x: Tensor, kernels: list[Tensor], *settings: Any) -> list[Tensor]:
    *_, need_x, need_kernels = settings
    return [
        x.new_empty(x.shape if need_x else 0),
        *(k.new_empty(k.shape if need_kernels else 0) for k in kernels),
    ]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, kernels, *ctx.settings = inputs
    # The gradient of the tokens needs the kernels only: with frozen kernels x is let go.
    ctx.save_for_backward(x if any(k.requires_grad for k in kernels) else None, *kernels)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, *kernels = ctx.saved_tensors
    need_x, need_each = ctx.needs_input_grad[:2]
    x = gradient if x is None else x  # not read then, but of the right shape and type
    dx, *dkernels = fused_backward(gradient, x, kernels, *ctx.settings, need_x, any(need_each))
    wanted = [dk if need else None for dk, need in zip(dkernels, need_each, strict=True)]
    return (dx if need_x else None, wanted, *(None for _ in ctx.settings))


def _refuse(ctx: Any, *gradients: Any) -> None:
    raise RuntimeError(
        "multi_convs: its fast implementations differentiate once; for second derivatives call it "
        "with backend='torch'"
    )


fused.register_autograd(_backward, setup_context=_setup)
fused_backward.register_autograd(_refuse)
