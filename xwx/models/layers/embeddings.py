"""From fields to tokens and back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from xwx.models.layers.maps import TokenMap

__all__ = ["Head", "PatchEmbed", "lay_out"]


def lay_out(
    shape: tuple[int, int], patch: int, axes: tuple[str, ...], *, periodic: bool
) -> TokenMap:
    """Return the token map of a grid that is cut into patches and then merged along `axes`.

    Rows are padded at the southern edge to the next multiple; none is dropped. Columns must
    divide, because the globe closes there.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the grid.
    patch : int
    axes : tuple of {"lon", "lat"}
        The axis of each merge.
    periodic : bool

    Raises
    ------
    ValueError
        When the columns do not divide, with the number that they must divide by.
    """
    rows, columns = shape
    across = patch * 2 ** axes.count("lon")
    down = patch * 2 ** axes.count("lat")
    if columns % across:
        raise ValueError(
            f"{columns} columns do not divide by {across} = patch {patch} x 2 for each of "
            f"{axes.count('lon')} merges in longitude: choose a smaller patch or fewer levels"
        )
    height = -(-rows // down) * down // patch
    return TokenMap(height, columns // patch, valid=-(-rows // patch), periodic=periodic)


class PatchEmbed(nn.Module):
    """Convolution with a kernel as large as its stride: fields (B, C, H, W) to tokens (B, N, D).

    Parameters
    ----------
    channels, dim, patch : int
    where : TokenMap
        From :func:`lay_out`; rows that the grid lacks are zeros at the southern edge.
    """

    def __init__(self, channels: int, dim: int, patch: int, where: TokenMap) -> None:
        super().__init__()
        self.where = where
        self.patch = patch
        self.conv = nn.Conv2d(channels, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Embed."""
        missing = self.where.height * self.patch - x.shape[-2]
        tokens: Tensor = self.conv(F.pad(x, (0, 0, 0, missing)))
        return tokens.flatten(2).transpose(1, 2)


class Head(nn.Module):
    """LayerNorm and a bias-free linear map from tokens (B, N, D) to fields (B, C, H, W).

    Parameters
    ----------
    dim, channels, patch : int
    where : TokenMap
    rows : int
        Rows of the grid; padding south of them is cropped.
    """

    def __init__(self, dim: int, channels: int, patch: int, where: TokenMap, rows: int) -> None:
        super().__init__()
        self.where = where
        self.patch = patch
        self.rows = rows
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, channels * patch**2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn tokens into fields."""
        p = self.patch
        y: Tensor = self.linear(self.norm(x))
        y = y.view(x.shape[0], *self.where.size, -1, p, p)
        y = y.permute(0, 3, 1, 4, 2, 5).reshape(
            x.shape[0], -1, self.where.height * p, self.where.width * p
        )
        return y[:, :, : self.rows]
