"""Attention over a map of tokens: everywhere, inside windows, and across a few neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xwx.models.layers.maps import TokenMap
from xwx.models.layers.memory import Memory

__all__ = ["CrossAttention", "global_attention", "window_attention"]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Turn (B, N, D) into (B, heads, N, D / heads)."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Turn (B, heads, N, d) into (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def global_attention(
    qkv: Tensor, where: TokenMap, heads: int, memory: Memory | None = None
) -> tuple[Tensor, Memory | None]:
    """Let every token attend to every token that holds data, and to a memory if there is one.

    Parameters
    ----------
    qkv : Tensor, shape (B, N, 3 D)
    where : TokenMap
    heads : int
    memory : Memory, optional

    Returns
    -------
    Tensor, shape (B, N, D)
    Memory or None
        The memory for the next step, None when there was none.
    """
    q, k, v = (split_heads(part, heads) for part in qkv.chunk(3, dim=-1))
    mask = where.key_mask(qkv.device)
    if memory is not None:
        out, memory = memory.attend(q, k, v, mask)
        return join_heads(out), memory
    rows = None if mask is None else mask[None]  # one mask for all queries
    return join_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=rows)), None


def window_attention(
    qkv: Tensor, where: TokenMap, heads: int, window: tuple[int, int], *, roll: bool
) -> Tensor:
    """Attend inside windows; on a periodic map the windows tile the whole circle.

    A map whose columns do not divide is continued round the globe to the next multiple, so that
    the last window sees its true eastern neighbours. Rows beyond the southern edge are masked.

    Parameters
    ----------
    qkv : Tensor, shape (B, h * w, 3 D)
    where : TokenMap
    heads : int
    window : (int, int)
        Rows and columns of a window.
    roll : bool
        Whether to shift the windows by half their width, which needs no mask because longitude
        is periodic. Without effect on a map that is not periodic or does not divide.

    Returns
    -------
    Tensor, shape (B, h * w, D)
        Zero in the padding rows of the map.
    """
    batch, _, width3 = qkv.shape
    rows, columns = min(window[0], where.valid), min(window[1], where.width)
    extra_rows, extra_columns = -where.valid % rows, -where.width % columns
    shift = columns // 2 if roll and where.periodic and not extra_columns else 0
    x = qkv.view(batch, where.height, where.width, width3)[:, : where.valid]
    if shift:
        x = x.roll(-shift, dims=2)
    if extra_columns and where.periodic:
        x = torch.cat([x, x[:, :, :extra_columns]], dim=2)
    x = F.pad(x, (0, 0, 0, 0 if where.periodic else extra_columns, 0, extra_rows))
    down, across = x.shape[1] // rows, x.shape[2] // columns
    x = x.view(batch, down, rows, across, columns, width3).transpose(2, 3)
    x = x.reshape(batch * down * across, rows * columns, width3)
    q, k, v = (split_heads(part, heads) for part in x.chunk(3, dim=-1))
    mask = _window_mask(where, (down, rows), (across, columns), qkv.device)
    if mask is not None:
        mask = mask.repeat(batch, 1)[:, None, None]
    out = join_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    out = out.view(batch, down, across, rows, columns, -1).transpose(2, 3)
    out = out.reshape(batch, down * rows, across * columns, -1)[:, : where.valid, : where.width]
    if shift:
        out = out.roll(shift, dims=2)
    out = F.pad(out, (0, 0, 0, 0, 0, where.height - where.valid))
    return out.reshape(batch, where.height * where.width, -1)


def _window_mask(
    where: TokenMap, down: tuple[int, int], across: tuple[int, int], device: torch.device
) -> Tensor | None:
    """Return which tokens of each window hold data, (windows, tokens), or None for all."""
    height, width = down[0] * down[1], across[0] * across[1]
    full_width = where.periodic or width == where.width
    if height == where.valid and full_width:
        return None
    row = torch.arange(height, device=device) < where.valid
    column = torch.arange(width, device=device) < (width if full_width else where.width)
    mask = (row[:, None] & column).view(*down, *across).transpose(1, 2)
    return mask.reshape(down[0] * across[0], down[1] * across[1])


class CrossAttention(nn.Module):
    """Attention of a few queries to a few keys, many small sets at once.

    Queries and keys are normalised by a LayerNorm each (the authors' code leaves keys raw).

    Parameters
    ----------
    dim, heads : int
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query = nn.LayerNorm(dim)
        self.norm_key = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Parameters
        ----------
        x : Tensor, shape (S, n, D)
            S sets of n queries.
        keys : Tensor, shape (S, m, D)
        mask : Tensor of bool, shape (S, m), optional
            Which keys count.

        Returns
        -------
        Tensor, shape (S, n, D)
        """
        q = split_heads(self.query(self.norm_query(x)), self.heads)
        k, v = self.key_value(self.norm_key(keys)).chunk(2, dim=-1)
        k, v = split_heads(k, self.heads), split_heads(v, self.heads)
        if mask is not None:
            mask = mask[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        projected: Tensor = self.proj(join_heads(out))
        return projected
