"""Attention over a map of tokens: everywhere, inside windows, and across a few neighbours."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
import xwx_kernels
from torch import Tensor, nn
from xwx_kernels.window_attention import gather_windows

from xwx.models.layers.kernels import backend
from xwx.models.layers.maps import TokenMap
from xwx.models.layers.memory import Memory

__all__ = [
    "CrossAttention",
    "global_attention",
    "remembering_window_attention",
    "window_attention",
]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Turn (B, N, D) into (B, heads, N, D / heads)."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Turn (B, heads, N, d) into (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def global_attention(
    qkv: Tensor,
    where: TokenMap,
    heads: int,
    memory: Memory | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Memory | None]:
    """Let every token attend to every token that holds data, and to a memory if there is one.

    Parameters
    ----------
    qkv : Tensor, shape (B, N, 3 D)
    where : TokenMap
    heads : int
    memory : Memory, optional
    bias : Tensor, shape (heads, lags), optional
        Of the frames in the memory, as :meth:`Memory.attend` takes it.

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
        out, memory = memory.attend(q, k, v, bias)
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
    out = xwx_kernels.window_attention(
        where.crop(qkv),
        size=where.data,
        window=window,
        heads=heads,
        shift=_shift(where, window[1], roll=roll),
        longitude=where.longitude,
        backend=backend("triton"),
    )
    return where.restore(out)


def remembering_window_attention(
    qkv: Tensor,
    where: TokenMap,
    heads: int,
    window: tuple[int, int],
    memory: Memory,
    bias: Tensor | None = None,
    *,
    roll: bool,
) -> tuple[Tensor, Memory]:
    """Attend inside windows as :func:`window_attention`, and to what each of them remembers.

    Every window is a batch entry of the memory, with scores of its own. Windows that the southern
    edge cuts short, or the eastern one of a map that is not periodic, hold fewer tokens: they are
    a part of their own, so that nothing beyond the edge needs a mask. A last window that goes on
    round the globe asks and remembers with all its tokens.

    Parameters
    ----------
    qkv, where, heads, window, roll
        As for :func:`window_attention`.
    memory : Memory
        An empty one, or what the step before returned.
    bias : Tensor, shape (heads, lags), optional

    Returns
    -------
    Tensor, shape (B, h * w, D)
        Zero in the padding rows of the map.
    Memory
        The memory for the next step, one part for the windows of each shape.
    """
    height, width = where.data
    tokens = where.crop(qkv).reshape(len(qkv), height, width, -1)
    shift = _shift(where, window[1], roll=roll)
    across = [(0, width, min(window[1], width))] if where.periodic else _bands(width, window[1])
    parts: list[Memory] = []
    lines = []
    for top, bottom, rows in _bands(height, window[0]):
        line = []
        for left, right, columns in across:
            past = memory.parts[len(parts)] if memory.parts else memory
            size = bottom - top, right - left
            places, _, slots = gather_windows(
                size, (rows, columns), shift, where.longitude, qkv.device
            )
            part = tokens[:, top:bottom, left:right].flatten(1, 2)
            part = part.index_select(1, places.flatten())
            part = part.view(-1, places.shape[1], part.shape[2])
            q, k, v = (split_heads(x, heads) for x in part.chunk(3, dim=-1))
            out, past = past.attend(q, k, v, bias)
            out = join_heads(out).reshape(len(qkv), places.numel(), -1)
            line.append(out.index_select(1, slots).view(len(qkv), *size, -1))
            parts.append(past)
        lines.append(torch.cat(line, dim=2))
    out = torch.cat(lines, dim=1).flatten(1, 2)
    return where.restore(out), replace(memory, parts=tuple(parts))


def _shift(where: TokenMap, columns: int, *, roll: bool) -> int:
    """Return the column at which the first window begins."""
    columns = min(columns, where.width)
    return columns // 2 if roll and where.periodic and where.width % columns == 0 else 0


def _bands(count: int, window: int) -> list[tuple[int, int, int]]:
    """Cut an axis into what windows divide and the rest: first, end, and tokens of a window."""
    whole = count // window * window
    bands = (0, whole, window), (whole, count, count - whole)
    return [band for band in bands if band[0] < band[1]]


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
