"""Maps that go on beyond their last column with the first: the globe closes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["close_ring"]


def close_ring(x: Tensor, columns: int) -> Tensor:
    """Return maps (..., W) with so many of their own columns beyond either end.

    What :func:`torch.nn.functional.pad` does with ``mode="circular"``, but in the memory format
    of `x`, and with one copy on the way back where each of its slices fills a map with zeros.

    Raises
    ------
    ValueError
        If there are not so many columns.
    """
    if not columns:
        return x
    if columns > x.shape[-1]:
        raise ValueError(
            f"{columns} columns beyond either end of a map that has {x.shape[-1]}: a stencil of "
            f"more than {2 * x.shape[-1] + 1} cells is too wide for it"
        )
    out: Tensor = _Ring.apply(x, columns)  # type: ignore[no-untyped-call]
    return out


class _Ring(torch.autograd.Function):
    """The padding, its adjoint (what lies beyond an end is added where it was taken), its jvp."""

    @staticmethod
    def forward(x: Tensor, columns: int) -> Tensor:
        return torch.cat([x[..., -columns:], x, x[..., :columns]], dim=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.columns = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        n = ctx.columns
        out = grad[..., n:-n].clone()
        out[..., -n:] += grad[..., :n]
        out[..., :n] += grad[..., -n:]
        return out, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return close_ring(tangent, ctx.columns)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, None], x: Tensor, columns: int) -> Any:
        dim = dims[0]
        if dim is None:
            return close_ring(x, columns), None
        return close_ring(x.movedim(dim, 0), columns), 0
