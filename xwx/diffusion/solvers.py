"""Linear systems known by their action only: a small one for each member of a batch.

Own code, because scipy's solvers leave the device and know no batch: they would copy every
vector to the host, and solve the members one after the other, each with its own passes of the
network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Solution", "cg", "gmres"]

#: A residual this many roundings small is none.
_ROUNDINGS = 8.0


class Solution(NamedTuple):
    """What a solver found.

    Attributes
    ----------
    x : Tensor, shape (B, M)
        Close to the solutions of ``A x = b``.
    weights : Tensor, shape (B, n)
        x in the vectors v_1 ... v_n that `matvec` was called with, in that order:
        ``x = sum_j weights[:, j] v_j``. Whoever kept the ``L v_j`` of a linear L knows L x.
    """

    x: Tensor
    weights: Tensor


def gmres(matvec: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Solution:
    """Minimise ``|b - A x|`` over the Krylov spaces of dimension `iterations`, for any A.

    Arnoldi's process with two rounds of Gram-Schmidt, then a least-squares problem of a few
    unknowns. It ends early once every member's space is exhausted. A product that is not finite
    ends its member's space, too.

    Parameters
    ----------
    matvec : callable
        From (B, M) to (B, M): A, which is linear, of each member its own.
    b : Tensor, shape (B, M)
    iterations : int
        Calls of `matvec`, at most.

    Returns
    -------
    Solution

    References
    ----------
    Saad and Schultz (1986), https://doi.org/10.1137/0907058.
    """
    tiny = _ROUNDINGS * torch.finfo(b.dtype).eps
    length = torch.linalg.vector_norm(b, dim=-1)
    basis = [_scaled(b, length)]
    # Of full size even when it ends early: so a member's numbers do not depend on the others.
    inner = b.new_zeros(b.shape[0], iterations + 1, iterations)
    done = 0
    for j in range(iterations):
        if not bool((basis[j] != 0).any()):
            break
        w = matvec(basis[j])
        w = torch.where(torch.isfinite(w).all(-1, keepdim=True), w, 0)
        full = torch.linalg.vector_norm(w, dim=-1)
        for _ in range(2):
            for i, q in enumerate(basis):
                along = (q * w).sum(-1)
                inner[:, i, j] += along
                w = w - along[:, None] * q
        left = torch.linalg.vector_norm(w, dim=-1)
        left = torch.where(left > tiny * full, left, torch.zeros_like(left))
        inner[:, j + 1, j] = left
        basis.append(_scaled(w, left))
        done = j + 1
    right = b.new_zeros(b.shape[0], iterations + 1, 1)
    right[:, 0, 0] = length
    weights = (torch.linalg.pinv(inner) @ right)[:, :done, 0]
    return Solution(_combined(weights, basis[:done], b), weights)


def cg(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    iterations: int,
    *,
    relative: float = 0.0,
    absolute: float = 0.0,
) -> Solution:
    """Conjugate gradients from x = 0, for symmetric positive A, with a check that it is.

    A member whose direction p has no positive curvature, ``p' A p <= 0``, keeps the iterate it
    has: A is not positive there, and a step would go astray.

    Parameters
    ----------
    matvec : callable
        From (B, M) to (B, M): A, which is linear, of each member its own.
    b : Tensor, shape (B, M)
    iterations : int
        Calls of `matvec`, at most.
    relative, absolute : float
        A member is done where the root mean square of ``b - A x`` is below `absolute`, or below
        `relative` times that of b; by default where rounding leaves nothing to gain.

    Returns
    -------
    Solution

    References
    ----------
    Hestenes and Stiefel (1952), https://doi.org/10.6028/jres.049.044.
    """
    relative = max(relative, _ROUNDINGS * torch.finfo(b.dtype).eps)
    r, p = b, b
    square = (r * r).sum(-1)
    enough = (relative**2 * square).clamp(min=absolute**2 * b.shape[-1])
    active = square > enough
    x, weights = torch.zeros_like(b), []
    for _ in range(iterations):
        if not bool(active.any()):
            break
        image = matvec(p)
        curvature = (p * image).sum(-1)
        active = active & (curvature > 0)
        step = torch.where(active, square / torch.where(active, curvature, 1), 0)
        x = x + step[:, None] * p
        weights.append(step)
        r = r - step[:, None] * image
        following = (r * r).sum(-1)
        active = active & (following > enough)
        ratio = torch.where(active, following / torch.where(active, square, 1), 0)
        p, square = torch.where(active[:, None], r + ratio[:, None] * p, p), following
    stacked = torch.stack(weights, dim=-1) if weights else b.new_zeros(b.shape[0], 0)
    return Solution(x, stacked)


def _scaled(v: Tensor, length: Tensor) -> Tensor:
    """Return the vectors at length 1, and zero where the length is zero."""
    length = length[:, None]
    return torch.where(length > 0, v / torch.where(length > 0, length, 1), 0)


def _combined(weights: Tensor, vectors: list[Tensor], like: Tensor) -> Tensor:
    """Return the sums of vectors (B, M) times their weights (B, n)."""
    out = torch.zeros_like(like)
    for j, v in enumerate(vectors):
        out = out + weights[:, j, None] * v
    return out
