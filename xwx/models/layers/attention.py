"""Attention over a map of tokens: everywhere, inside windows, and across a few neighbours."""

from __future__ import annotations

import torch.nn.functional as F
import xwx_kernels
from torch import Tensor, nn

from xwx.models.layers.kernels import backend
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
        Zero in the padding rows of the map.
    Memory or None
        The memory for the next step, None when there was none.
    """
    q, k, v = (split_heads(part, heads) for part in where.crop(qkv).chunk(3, dim=-1))
    if memory is None:
        out = F.scaled_dot_product_attention(q, k, v)
    else:
        out, memory = memory.attend(q, k, v)
    return where.restore(join_heads(out)), memory


def window_attention(
    qkv: Tensor, where: TokenMap, heads: int, window: tuple[int, int], *, roll: bool
) -> Tensor:
    """Attend inside windows; on a periodic map the windows tile the whole circle.

    A map whose columns do not divide is continued round the globe to the next multiple, so that
    the last window sees its true eastern neighbours. Padding rows are not attended to.

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
    columns = min(window[1], where.width)
    shift = columns // 2 if roll and where.periodic and where.width % columns == 0 else 0
    out = xwx_kernels.window_attention(
        where.crop(qkv),
        size=where.data,
        window=window,
        heads=heads,
        shift=shift,
        longitude=where.longitude,
        backend=backend("triton"),
    )
    return where.restore(out)


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
