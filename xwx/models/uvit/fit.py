"""From the grid to a map that the levels of a network divide, and back."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

__all__ = ["Fit", "Pad", "Resample", "fit", "interpolation"]

#: Weights of an interpolation are multiples of this: exact in single precision, as is their sum.
_UNIT = 2.0**-20


class Fit(nn.Module):
    """Takes maps (N, C, *grid) to (N, C, *size), and back.

    Parameters
    ----------
    grid, size : (int, int)
        Rows and columns of the grid, and of the map.
    """

    def __init__(self, grid: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.size = grid, size

    def forward(self, x: Tensor) -> Tensor:
        """Take maps (N, C, *grid) to (N, C, *size)."""
        raise NotImplementedError

    def back(self, x: Tensor) -> Tensor:
        """Take maps (N, C, *size) to (N, C, *grid)."""
        raise NotImplementedError


class Pad(Fit):
    """Copies of the outermost rows, and columns, on both sides; back, they are cut off."""

    def forward(self, x: Tensor) -> Tensor:
        """Take maps (N, C, *grid) to (N, C, *size)."""
        for axis in (-2, -1):
            missing = self.size[axis] - self.grid[axis]
            if missing:
                before, after = missing // 2, missing - missing // 2
                first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
                x = torch.cat([*[first] * before, x, *[last] * after], dim=axis)
        return x

    def back(self, x: Tensor) -> Tensor:
        """Take maps (N, C, *size) to (N, C, *grid)."""
        for axis in (-2, -1):
            missing = self.size[axis] - self.grid[axis]
            x = x.narrow(axis, missing // 2, self.grid[axis])
        return x


class Resample(Fit):
    """Linear interpolation in latitude and longitude, and the same the other way.

    The first and last rows stay where they are, be they poles or not: nothing is extrapolated.
    Columns are spread over the circle from the same first meridian if the grid closes.

    Parameters
    ----------
    grid, size : (int, int)
    periodic : bool
        Whether the last column neighbours the first.
    """

    def __init__(self, grid: tuple[int, int], size: tuple[int, int], *, periodic: bool) -> None:
        super().__init__(grid, size)
        for name, axis, closed in (("rows", 0, False), ("columns", 1, periodic)):
            there = interpolation(grid[axis], size[axis], periodic=closed)
            again = interpolation(size[axis], grid[axis], periodic=closed)
            self.register_buffer(name, there, persistent=False)
            self.register_buffer(f"{name}_back", again, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Take maps (N, C, *grid) to (N, C, *size)."""
        return self._apply_weights(x, self.get_buffer("rows"), self.get_buffer("columns"))

    def back(self, x: Tensor) -> Tensor:
        """Take maps (N, C, *size) to (N, C, *grid)."""
        return self._apply_weights(x, self.get_buffer("rows_back"), self.get_buffer("columns_back"))

    def _apply_weights(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        # Fields keep their precision: half of it would be noise of its own.
        exact = nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
        with exact:
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            if rows.shape[0] != rows.shape[1]:
                x = rows.to(x.dtype) @ x
            if columns.shape[0] != columns.shape[1]:
                x = x @ columns.to(x.dtype).T
        return x


def interpolation(count: int, out: int, *, periodic: bool) -> Tensor:
    """Return the weights of a linear interpolation from `count` points to `out`.

    Parameters
    ----------
    count, out : int
    periodic : bool
        Points are spread over a circle, the first of both at the same place; otherwise over a
        line, and the first and the last of both are at the same places.

    Returns
    -------
    Tensor, shape (out, count)
        Not negative, and each row sums to one exactly.
    """
    weights = torch.zeros(out, count)
    top, bottom = (count, out) if periodic else (count - 1, max(1, out - 1))
    for n in range(out):
        below, rest = divmod(n * top, bottom)
        share = round(rest / bottom / _UNIT) * _UNIT
        weights[n, below] += 1 - share
        weights[n, (below + 1) % count] += share
    return weights


def fit(kind: str, grid: tuple[int, int], stride: int, *, periodic: bool) -> Fit:
    """Return what takes a grid to the next larger map whose sides `stride` divides.

    Parameters
    ----------
    kind : {"pad", "resample"}
    grid : (int, int)
        Rows and columns.
    stride : int
    periodic : bool
        Whether the last column neighbours the first.

    Raises
    ------
    ValueError
        For padding between the last and the first meridian of a globe.
    """
    rows, columns = (-(-n // stride) * stride for n in grid)
    if kind == "resample":
        return Resample(grid, (rows, columns), periodic=periodic)
    if periodic and columns != grid[1]:
        raise ValueError(
            f"{grid[1]} columns round the globe do not divide by {stride} = patch x 2 for each "
            "level after the first, and nothing can be padded between the last and the first: use "
            "fit='resample', a smaller patch, or fewer levels"
        )
    return Pad(grid, (rows, columns))
