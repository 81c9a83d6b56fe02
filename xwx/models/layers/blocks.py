"""The EMFormer block: multi-convs on the concatenated queries, keys and values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xwx.models.layers.attention import (
    global_attention,
    remembering_window_attention,
    window_attention,
)
from xwx.models.layers.convolutions import MultiConvs
from xwx.models.layers.maps import TokenMap
from xwx.models.layers.memory import Memory

__all__ = ["Block", "Mlp", "Reach", "hybrid"]


@dataclass(frozen=True)
class Reach:
    """How far a block attends: inside windows, or everywhere when `window` is None."""

    window: tuple[int, int] | None = None
    roll: bool = False


def hybrid(
    index: int, windows: tuple[tuple[int, int], ...], *, roll: bool, windows_only: bool = False
) -> Reach:
    """Return the reach of block `index`: even blocks attend in windows, odd ones everywhere.

    Window shapes follow each other in turn; every second windowed block is rolled by half a
    window when `roll` is set. With `windows_only` no block attends everywhere.
    """
    if index % 2 and not windows_only:
        return Reach()
    turn = index if windows_only else index // 2
    return Reach(windows[turn % len(windows)], roll=roll and turn % 2 == 1)


class Mlp(nn.Sequential):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, ratio: float) -> None:
        hidden = round(dim * ratio)
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class Block(nn.Module):
    """Pre-norm transformer block with multi-convs (EMFormer, equations 36 and 37).

    ``h = x + Proj(MHA(MultiConvs(W_qkv LN(x) + b)))`` and ``x' = h + MLP(LN(h))``.

    Parameters
    ----------
    dim, heads : int
    ratio : float
        Width of the MLP over `dim`.
    reach : Reach
    convs : MultiConvs or None
        On 3 * `dim` channels; None leaves the plain attention block.
    dropout : float
        On the two residual branches, in training.
    remembers : bool
        Whether the block uses the memory it is given.
    lags : int
        Frames, with the present, whose logits get a learned bias; 0 for none.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        ratio: float,
        reach: Reach,
        convs: MultiConvs | None,
        dropout: float = 0.0,
        *,
        remembers: bool = True,
        lags: int = 0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.reach = reach
        self.remembers = remembers
        self.lag_bias = nn.Parameter(torch.zeros(heads, lags)) if lags else None
        self.norm_attention = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.convs = convs
        self.proj = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, ratio)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, where: TokenMap, memory: Memory | None = None
    ) -> tuple[Tensor, Memory | None]:
        """Transform tokens (B, N, D); a block that does not remember hands a memory on as it is."""
        qkv = self.qkv(self.norm_attention(x))
        if self.convs is not None:
            qkv = self.convs(qkv, where)
        past = memory if self.remembers else None
        window, roll, bias = self.reach.window, self.reach.roll, self.lag_bias
        if window is None:
            out, past = global_attention(qkv, where, self.heads, past, bias)
        elif past is None:
            out = window_attention(qkv, where, self.heads, window, roll=roll)
        else:
            out, past = remembering_window_attention(
                qkv, where, self.heads, window, past, bias, roll=roll
            )
        x = x + self.dropout(self.proj(out))
        return x + self.dropout(self.mlp(self.norm_mlp(x))), past if self.remembers else memory
