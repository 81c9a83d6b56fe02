"""Prune and recover: two neighbouring tokens become one, and one becomes two again."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from xwx_kernels.multi_convs import pad_map

from xwx.models.layers.attention import CrossAttention
from xwx.models.layers.blocks import Mlp
from xwx.models.layers.maps import TokenMap

__all__ = ["Prune", "Recover", "join", "split"]


def split(x: Tensor, where: TokenMap, axis: str) -> Tensor:
    """Gather neighbours: tokens (B, N, D) of `where` become pairs (B, N / 2, 2, D)."""
    batch, _, dim = x.shape
    height, width = where.size
    if axis == "lon":
        return x.reshape(batch, height * width // 2, 2, dim)
    pairs = x.view(batch, height // 2, 2, width, dim).transpose(2, 3)
    return pairs.reshape(batch, height * width // 2, 2, dim)


def join(pairs: Tensor, where: TokenMap, axis: str) -> Tensor:
    """Undo :func:`split`: pairs (B, N / 2, 2, D) become tokens (B, N, D) of `where`."""
    batch, _, _, dim = pairs.shape
    height, width = where.size
    if axis == "lon":
        return pairs.reshape(batch, height * width, dim)
    x = pairs.view(batch, height // 2, width, 2, dim).transpose(2, 3)
    return x.reshape(batch, height * width, dim)


class Prune(nn.Module):
    """Merge pairs of neighbours along one axis (EMFormer, equations 34 to 37).

    ``g = W_d [f_1; f_2] + b`` and, with `cross`, ``g += CrossAttn(LN g; f_1, f_2)`` and
    ``g += MLP(LN g)``: attention stays inside the pair.

    Parameters
    ----------
    dim, heads : int
    ratio : float
        Width of the MLP over `dim`.
    axis : {"lon", "lat"}
    cross : bool
        Whether the merged token looks back at the pair.
    """

    def __init__(self, dim: int, heads: int, ratio: float, axis: str, *, cross: bool) -> None:
        super().__init__()
        self.axis = axis
        self.merge = nn.Linear(2 * dim, dim)
        self.attend = CrossAttention(dim, heads) if cross else None
        self.norm = nn.LayerNorm(dim) if cross else None
        self.mlp = Mlp(dim, ratio) if cross else None

    def forward(self, x: Tensor, where: TokenMap) -> tuple[Tensor, TokenMap]:
        """Turn tokens (B, N, D) into (B, N / 2, D) on the merged map."""
        pairs = split(where.blank_padding(x), where, self.axis)
        g: Tensor = self.merge(pairs.flatten(2))
        if self.attend is not None and self.norm is not None and self.mlp is not None:
            flat = g.flatten(0, 1)[:, None]
            g = g + self.attend(flat, pairs.flatten(0, 1)).view_as(g)
            g = g + self.mlp(self.norm(g))
        return g, where.merged(self.axis)


class Recover(nn.Module):
    """Split tokens into pairs again (EMFormer, equations 38 to 40).

    ``[u_1; u_2] = W_u v + b``, ``u += r`` (the tokens before pruning) and, with `cross`,
    ``u += CrossAttn(LN u; K)`` and ``u += MLP(LN u)``.

    Parameters
    ----------
    dim, heads : int
    ratio : float
        Width of the MLP over `dim`.
    axis : {"lon", "lat"}
    cross : bool
        Whether the pair looks back at coarse tokens.
    keys : {"neighbourhood", "self"}
        Which ones: the 3 x 3 round its own, or only its own as in the authors' code, where
        attention to a single key cannot depend on the query.
    """

    def __init__(
        self, dim: int, heads: int, ratio: float, axis: str, *, cross: bool, keys: str
    ) -> None:
        super().__init__()
        if keys not in ("neighbourhood", "self"):
            raise ValueError(f"recover_keys={keys!r}: choose 'neighbourhood' or 'self'")
        self.axis = axis
        self.radius = 1 if keys == "neighbourhood" else 0
        self.spread = nn.Linear(dim, 2 * dim)
        self.attend = CrossAttention(dim, heads) if cross else None
        self.norm = nn.LayerNorm(dim) if cross else None
        self.mlp = Mlp(dim, ratio) if cross else None

    def forward(self, v: Tensor, coarse: TokenMap, residual: Tensor, where: TokenMap) -> Tensor:
        """Turn tokens (B, N / 2, D) of `coarse` into (B, N, D) of `where`."""
        pairs = self.spread(v).unflatten(-1, (2, -1)) + split(residual, where, self.axis)
        if self.attend is not None and self.norm is not None and self.mlp is not None:
            keys, mask = self._neighbours(v, coarse)
            flat = pairs.flatten(0, 1)
            if mask is not None:
                mask = mask.repeat(v.shape[0], 1)
            pairs = pairs + self.attend(flat, keys.flatten(0, 1), mask).view_as(pairs)
            pairs = pairs + self.mlp(self.norm(pairs))
        return join(pairs, where, self.axis)

    def _neighbours(self, v: Tensor, coarse: TokenMap) -> tuple[Tensor, Tensor | None]:
        """Return each token's neighbourhood (B, N, m, D) and which of it exists (N, m)."""
        if self.radius == 0:
            return v[:, :, None], None
        data = torch.ones(1, coarse.height * coarse.width, 1, device=v.device, dtype=v.dtype)
        data = coarse.blank_padding(data)
        keys = _gather3x3(v, coarse)
        mask = _gather3x3(data, coarse)[0, ..., 0] > 0
        mask[:, 4] = True  # a padding token sees itself, so that no row of the softmax is empty
        return keys, mask


def _gather3x3(x: Tensor, where: TokenMap) -> Tensor:
    """Return the 3 x 3 neighbourhood of every token, (B, N, 9, D), zero beyond the edges."""
    batch, _, dim = x.shape
    height, width = where.size
    padded = pad_map(x.view(batch, height, width, dim), 1, where.longitude, "zero")
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(shifted, dim=3).view(batch, height * width, 9, dim)
