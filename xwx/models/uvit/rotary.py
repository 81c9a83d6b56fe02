"""Rotary positions in time, latitude and longitude, the last one on a circle if the grid closes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rotation", "rotation", "wave_numbers"]


@dataclass(frozen=True)
class Rotation:
    """By how much each pair of channels of each token is turned: cosine and sine, (N, pairs)."""

    cosine: Tensor
    sine: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Turn queries or keys (..., N, 2 pairs)."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat(
            [
                first * self.cosine - second * self.sine,
                first * self.sine + second * self.cosine,
            ],
            dim=-1,
        )


def wave_numbers(count: int, columns: int) -> list[int]:
    """Return whole numbers of waves round a circle of `columns` tokens, from 1 to the shortest.

    Only whole numbers close: the product of a query with a key then depends on the way from one
    to the other round the globe, and not on where the map was cut open.
    """
    most = max(1, columns // 2)
    return [round(most ** (n / max(1, count - 1))) for n in range(count)]


def rotation(
    frames: int,
    size: tuple[int, int],
    dim: int,
    *,
    periodic: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Rotation:
    """Return the rotation of the tokens of a window, frame by frame, row by row.

    The pairs of channels are shared out: three eighths each to latitude and longitude, the rest
    to time. A pair of time or latitude turns by `extent ** -(k / n)` radians from one token to
    the next, for n pairs and `extent` tokens on that axis; one of longitude by
    `2 pi m / columns`, m from :func:`wave_numbers`, or as in latitude when the grid does not
    close.

    Parameters
    ----------
    frames : int
    size : (int, int)
        Rows and columns of tokens.
    dim : int
        Channels of a head, even and at least 6.
    periodic : bool
        Whether the last column neighbours the first.
    device : torch.device
    dtype : torch.dtype
        Of what is to be turned; computed in single precision at least.

    References
    ----------
    Su et al. (2021), RoFormer, arXiv:2104.09864.
    """
    kept = torch.promote_types(dtype, torch.float32)
    rows, columns = size
    pairs = dim // 2
    across = max(1, 3 * pairs // 8)
    circle = _circle if periodic else _line
    whole = (frames, rows, columns, -1)
    angles = torch.cat(
        [
            _line(frames, pairs - 2 * across, device, kept)[:, None, None].expand(whole),
            _line(rows, across, device, kept)[None, :, None].expand(whole),
            circle(columns, across, device, kept)[None, None].expand(whole),
        ],
        dim=-1,
    ).flatten(0, 2)
    return Rotation(angles.cos(), angles.sin())


def _line(extent: int, pairs: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return angles (extent, pairs) that grow along a line."""
    speeds = [extent ** -(n / pairs) for n in range(pairs)]
    place = torch.arange(extent, device=device, dtype=dtype)
    return torch.outer(place, torch.tensor(speeds, device=device, dtype=dtype))


def _circle(columns: int, pairs: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return angles (columns, pairs) that come back to where they began."""
    waves = torch.tensor(wave_numbers(pairs, columns), device=device, dtype=dtype)
    place = torch.arange(columns, device=device, dtype=dtype)
    # The remainder of whole numbers is exact, so that every turn of the globe is the same.
    return torch.outer(place, waves) % columns * (2 * math.pi / columns)
