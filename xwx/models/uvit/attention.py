"""A transformer block in which every token of a window attends to all, of all frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xwx.models.layers.blocks import Mlp
from xwx.models.uvit.conditioning import Film
from xwx.models.uvit.rotary import Rotation

__all__ = ["SpaceTimeBlock"]

#: Added to the mean square of queries and keys.
_EPSILON = 1e-6


class SpaceTimeBlock(nn.Module):
    """Attention over time and space, then an MLP, each modulated, and zero at first.

    Queries and keys are normalised to unit root mean square a head, and turned by their position.
    There is no causal mask: a frame hears of the later ones too.

    Parameters
    ----------
    dim, heads : int
    ratio : float
        Width of the MLP over `dim`.
    condition : int
        Length of the vector that modulates.
    dropout : float
        On the two residual branches, in training.
    """

    def __init__(self, dim: int, heads: int, ratio: float, condition: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim, elementwise_affine=False)
        self.film_attention = Film(condition, dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.norm_query = nn.RMSNorm(dim // heads)
        self.norm_key = nn.RMSNorm(dim // heads)
        self.proj = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim, elementwise_affine=False)
        self.film_mlp = Film(condition, dim)
        self.mlp = Mlp(dim, ratio)
        self.dropout = nn.Dropout(dropout)
        for last in (self.proj, self.mlp[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, condition: Tensor, frames: int, turn: Rotation) -> Tensor:
        """Transform maps (B * T, C, h, w), for one condition (1, D), or one a frame (B * T, D)."""
        count, dim, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(count, height * width, dim)
        y = _modulate(self.norm_attention(tokens), self.film_attention, condition)
        tokens = tokens + self.dropout(self.proj(self._attend(y, frames, turn)))
        y = _modulate(self.norm_mlp(tokens), self.film_mlp, condition)
        tokens = tokens + self.dropout(self.mlp(y))
        out: Tensor = tokens.view(count, height, width, dim).permute(0, 3, 1, 2)
        return out

    def _attend(self, x: Tensor, frames: int, turn: Rotation) -> Tensor:
        """Mix tokens (B * T, h * w, D) of the same window."""
        shape = x.shape
        window = (shape[0] // frames, frames * shape[1], 3, self.heads, -1)
        q, k, v = self.qkv(x).view(window).permute(2, 0, 3, 1, 4)
        q, k = _place(q, self.norm_query.weight, turn), _place(k, self.norm_key.weight, turn)
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        return out.transpose(1, 2).reshape(shape)


def _place(x: Tensor, weight: Tensor, turn: Rotation) -> Tensor:
    """Normalise and turn queries or keys, in the precision of the rotation."""
    exact = turn.cosine.dtype
    return turn(F.rms_norm(x.to(exact), weight.shape, weight.to(exact), _EPSILON))


def _modulate(x: Tensor, film: Film, condition: Tensor) -> Tensor:
    scale, shift = film(condition)
    return torch.addcmul(shift[:, None], x, scale[:, None])
