"""Depthwise multi-convs on the CPU: one sweep over the map forward, one backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xwx_kernels._numba.compiling import in_shares, shares
from xwx_kernels._numba.correlation import BLOCK, GROUP, sweep
from xwx_kernels._numba.plans import Plan, plan_backward, plan_forward

__all__ = ["backward", "forward"]


def forward(
    x: Tensor, kernels: list[Tensor], size: tuple[int, int], longitude: str, latitude: str
) -> Tensor:
    """Return the sum of all branches, of the shape of x.

    Parameters
    ----------
    x : Tensor, shape (B, h*w, C)
        Contiguous, float32 or float64.
    kernels : list of Tensor, each of shape (C, 1, k, k), k odd
        In the type of `x`.
    size : (int, int)
        Rows h and columns w.
    longitude, latitude : str
        As in :func:`xwx_kernels.multi_convs`.
    """
    weights = _fuse(kernels)
    plan = plan_forward(*size, weights.shape[0] // 2, longitude, latitude)
    y = torch.empty_like(x)
    _sweep(x, None, _blocks(weights), y, None, plan, (*size, x.shape[2], weights.shape[0]))
    return y


def backward(
    gradient: Tensor,
    x: Tensor,
    kernels: list[Tensor],
    size: tuple[int, int],
    longitude: str,
    latitude: str,
    *,
    need_x: bool,
    need_kernels: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Return the gradients of x and of every kernel; None for what is not needed.

    Both see the gradient through the same taps: ``dx = sum_t K_t gradient_t`` and
    ``G_t = sum gradient_t x``, so both come of one sweep over the packed gradient.

    Parameters
    ----------
    gradient : Tensor, shape (B, h*w, C)
        Of the output; contiguous, in the type of `x`.
    x, kernels, size, longitude, latitude
        As in :func:`forward`. `x` is read for the gradients of the kernels only.
    need_x, need_kernels : bool
    """
    # Seen from the source, a tap to the east is a tap to the west: kernel rows are read backwards.
    weights = _fuse(kernels).flip(1)
    k, _, channels = weights.shape
    plan = plan_backward(*size, k // 2, longitude, latitude)
    tasks = gradient.shape[0] * _count(channels)
    dx = torch.empty_like(gradient) if need_x else None
    shape = (tasks, k * k * BLOCK)
    totals = gradient.new_empty(shape, dtype=torch.float64) if need_kernels else None
    _sweep(gradient, x, _blocks(weights), dx, totals, plan, (*size, channels, k))
    if totals is None:
        return dx, [None for _ in kernels]
    whole = torch.zeros(_count(channels), k, k, BLOCK, dtype=torch.float64)
    for part in totals.view(len(gradient), *whole.shape):
        whole += part
    whole = whole.permute(0, 3, 1, 2).reshape(-1, 1, k, k)[:channels].flip(3)
    return dx, [_centre(whole, kernel) for kernel in kernels]


def _centre(whole: Tensor, kernel: Tensor) -> Tensor:
    """Return the gradient of one kernel: the middle of the gradient of their sum."""
    size = kernel.shape[-1]
    margin = (whole.shape[-1] - size) // 2
    middle = slice(margin, margin + size)
    return torch.empty_like(kernel).copy_(whole[..., middle, middle])


def _fuse(kernels: list[Tensor]) -> Tensor:
    """Return the sum of the centred kernels, of shape (k, k, C)."""
    largest = max(kernel.shape[-1] for kernel in kernels)
    weights = kernels[0].new_zeros(largest, largest, kernels[0].shape[0])
    for kernel in kernels:
        margin = (largest - kernel.shape[-1]) // 2
        middle = slice(margin, largest - margin)
        weights[middle, middle] += kernel.detach()[:, 0].permute(1, 2, 0)
    return weights


def _count(channels: int) -> int:
    return -(-channels // BLOCK)


def _blocks(weights: Tensor) -> Tensor:
    """Return weights (k, k, C) as (blocks, k, k, BLOCK), with zeros for the missing channels."""
    k, _, channels = weights.shape
    blocks = weights.new_zeros(k, k, _count(channels) * BLOCK)
    blocks[..., :channels] = weights
    return blocks.view(k, k, -1, BLOCK).permute(2, 0, 1, 3).contiguous()


def _sweep(
    source: Tensor,
    other: Tensor | None,
    weights: Tensor,
    result: Tensor | None,
    totals: Tensor | None,
    plan: Plan,
    shape: tuple[int, int, int, int],
) -> None:
    """Run `correlation.sweep` on as many threads as are worth their while."""
    batch, length, channels = source.shape
    k, pitch = shape[-1], plan.columns.shape[1]
    work = batch * length * channels * k * k * ((result is not None) + (totals is not None))
    ranges = shares(batch * _count(channels), work)
    empty = source.new_empty
    unused = empty(0)
    tensors = (unused if t is None else t for t in (source, other, weights, result))
    table = empty((0, 0), dtype=torch.float64) if totals is None else totals
    arrays = (*(_flat(t) for t in tensors), table.numpy())
    sizes = (k * pitch * BLOCK, GROUP * BLOCK, GROUP * BLOCK, k * k * BLOCK)
    scratch = [tuple(empty(size).numpy() for size in sizes) for _ in ranges]
    settings = (*shape, result is not None, totals is not None)

    def run(share: int, first: int, last: int) -> None:
        sweep(first, last, arrays, scratch[share], tuple(plan), settings)

    in_shares(run, ranges)


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().view(-1).numpy()
