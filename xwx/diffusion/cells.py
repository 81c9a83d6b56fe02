"""Parts of states and means over cells: what the operators are built of, without labels."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol, Self

import torch
from torch import Tensor

__all__ = ["Cells", "Movable", "Overlaps", "RowsColumns", "chosen", "take"]


class Movable:
    """A frozen dataclass of tensors that moves between devices and dtypes like one tensor."""

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Return a copy on another device, its floating-point tensors in another dtype."""
        new = copy.copy(self)
        for part in fields(self):  # type: ignore[arg-type]
            # not dataclasses.replace: checking again would wait for the device
            object.__setattr__(new, part.name, _moved(getattr(self, part.name), device, dtype))
        return new


def _moved(value: object, device: torch.device | str | None, dtype: torch.dtype | None) -> object:
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    if isinstance(value, Movable):
        return value.to(device, dtype)
    if isinstance(value, tuple):
        return tuple(_moved(item, device, dtype) for item in value)
    return value


def chosen(name: str, index: Iterable[int]) -> tuple[int, ...]:
    """Return indices of channels or frames as a tuple.

    Raises
    ------
    ValueError
        If there is none, or one is negative.
    """
    out = tuple(int(i) for i in index)
    if not out or min(out) < 0:
        raise ValueError(f"{name}={out}: give one index or more, counted from 0")
    return out


def take(x: Tensor, dim: int, index: Sequence[int], name: str) -> Tensor:
    """Return ``x[..., index, ...]`` along `dim`: a view where the indices follow each other.

    It keeps index tensors off the device, and its gradient is zero for what is not taken.

    Raises
    ------
    ValueError
        If the axis, called `name`, is shorter than that.
    """
    length = x.shape[dim]
    if max(index) >= length:
        raise ValueError(
            f"{name} {max(index)} is asked for: the state {tuple(x.shape)} has {length}, so the "
            f"last is {length - 1}"
        )
    if tuple(index) == tuple(range(length)):
        return x
    starts = [n for n in range(len(index)) if n == 0 or index[n] != index[n - 1] + 1]
    ends = [*starts[1:], len(index)]
    runs = [x.narrow(dim, index[a], b - a) for a, b in zip(starts, ends, strict=True)]
    return runs[0] if len(runs) == 1 else torch.cat(runs, dim)


class Cells(Protocol):
    """Means over the cells of a coarser grid."""

    @property
    def size(self) -> int:
        """The number of coarse cells, n."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the means (..., n) of fields (..., H, W)."""
        ...

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Return a copy on another device or in another dtype."""
        ...


def _normalised(weights: Tensor, name: str) -> Tensor:
    """Return non-negative weights whose rows sum to one."""
    sums = weights.sum(1, keepdim=True)
    if weights.ndim != 2 or bool((weights < 0).any()) or not bool((sums > 0).all()):
        bare = torch.nonzero(sums.flatten() <= 0).flatten().tolist()[:5]
        raise ValueError(
            f"{name} of shape {tuple(weights.shape)}: weights are (coarse, fine), not negative, "
            f"each coarse one overlapping something; without overlap: {bare}"
        )
    return weights / sums


def _expect(x: Tensor, shape: tuple[int, int]) -> None:
    if tuple(x.shape[-2:]) != shape:
        raise ValueError(
            f"the state {tuple(x.shape)} has the grid {tuple(x.shape[-2:])}: the weights are for "
            f"{shape}"
        )


@dataclass(frozen=True, eq=False)
class RowsColumns(Movable):
    r"""Means over the cells of a latitude-longitude grid: the weights are a product.

    .. math:: y_{IJ} = \sum_i \sum_j R_{Ii} C_{Jj} x_{ij}

    Two small matrix products: several times faster than to gather each overlap. Rows and columns
    that no coarse cell overlaps are not read.

    Parameters
    ----------
    rows : Tensor, shape (h, H)
        Overlap of each coarse row with each row, in sine of latitude. Rows are brought to sum one.
    columns : Tensor, shape (w, W)
        Overlap of each coarse column with each column, in longitude.

    Raises
    ------
    ValueError
        For negative weights, and a coarse row or column without overlap.
    """

    rows: Tensor
    columns: Tensor
    used_rows: tuple[int, ...] = field(init=False, repr=False)
    used_columns: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            weights = _normalised(getattr(self, name), name)
            used = torch.nonzero((weights != 0).any(0)).flatten().tolist()
            object.__setattr__(self, name, weights)
            object.__setattr__(self, f"used_{name}", tuple(used))

    @classmethod
    def sphere(cls, area: Tensor, columns: int) -> RowsColumns:
        """Return the one mean over all rows, of these cell areas (H,), and equal columns."""
        return cls(area[None, :], area.new_ones(1, columns))

    @property
    def size(self) -> int:
        """The number of coarse cells, h w: coarse rows first."""
        return self.rows.shape[0] * self.columns.shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the means (..., h w) of fields (..., H, W)."""
        _expect(x, (self.rows.shape[1], self.columns.shape[1]))
        part = take(take(x, -2, self.used_rows, "row"), -1, self.used_columns, "column")
        rows = take(self.rows, 1, self.used_rows, "row").to(x.dtype)
        columns = take(self.columns, 1, self.used_columns, "column").to(x.dtype)
        return (rows @ part @ columns.mT).flatten(-2)


@dataclass(frozen=True, eq=False)
class Overlaps(Movable):
    """Means over cells of any shape: the overlaps of each are gathered.

    A sparse product has no derivative in forward mode, a padded gather has all of them.

    Parameters
    ----------
    index : Tensor of int, shape (n, k)
        For each coarse cell its fine cells, of the flattened grid, padded with one of them.
    weight : Tensor, shape (n, k)
        Their weights, 0 where padded; they sum to one.
    shape : (int, int)
        Rows and columns of the fine grid.
    """

    index: Tensor
    weight: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, matrix: Tensor, shape: tuple[int, int]) -> Overlaps:
        """Build from the matrix (n, H W) of overlaps, sparse or dense.

        Raises
        ------
        ValueError
            For another width than H W, negative weights, a coarse cell without overlap.
        """
        if matrix.ndim != 2 or matrix.shape[1] != shape[0] * shape[1]:
            raise ValueError(
                f"the matrix of overlaps is {tuple(matrix.shape)}: give (coarse cells, "
                f"{shape[0] * shape[1]}) for the grid {shape}"
            )
        entries = matrix.to_sparse(layout=torch.sparse_coo).coalesce()
        (coarse, fine), values = entries.indices(), entries.values()
        coarse, fine, values = (part[values != 0] for part in (coarse, fine, values))
        counts = torch.bincount(coarse, minlength=matrix.shape[0])
        if bool((counts == 0).any()):
            bare = torch.nonzero(counts == 0).flatten().tolist()[:5]
            raise ValueError(f"coarse cells {bare} overlap nothing: leave them out of the matrix")
        first = counts.cumsum(0) - counts
        place = torch.arange(len(coarse), device=coarse.device) - first[coarse]
        index = fine[first][:, None].repeat(1, int(counts.max()))
        weight = values.new_zeros(index.shape)
        index[coarse, place] = fine
        weight[coarse, place] = values
        return cls(index, _normalised(weight, "weights"), shape)

    @property
    def size(self) -> int:
        """The number of coarse cells, n."""
        return self.index.shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the means (..., n) of fields (..., H, W)."""
        _expect(x, self.shape)
        parts = x.flatten(-2).index_select(-1, self.index.flatten())
        return (parts.view(*parts.shape[:-1], *self.index.shape) * self.weight.to(x.dtype)).sum(-1)
