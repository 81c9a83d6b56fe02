"""A field that is selected, stacked and converted from others, at once or when it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from xwx.fields.units import Affine

__all__ = ["Plan", "Positions"]

Positions = NDArray[np.intp]
_SAME = Affine(1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Plan:
    """How a field is made: parts, positions in them, and the dimension they are stacked along.

    Attributes
    ----------
    parts : tuple of (Variable, Affine)
        Of the same dimensions, each with the conversion of its values.
    positions : dict of str -> array of int
        What is taken of the parts along some of their dimensions.
    stack : str or None
        A new dimension, of which each part is one value; None for a single part.
    dims : tuple of str
        Of the result.
    """

    parts: tuple[tuple[xr.Variable, Affine], ...]
    positions: Mapping[str, Positions]
    stack: str | None
    dims: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        sizes = {str(d): n for d, n in self.parts[0][0].sizes.items()}
        sizes |= {d: p.size for d, p in self.positions.items()}
        return tuple(len(self.parts) if d == self.stack else sizes[d] for d in self.dims)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result."""
        return np.result_type(*(variable.dtype for variable, _ in self.parts))

    def field(self) -> xr.Variable:
        """Make the field; dask stays dask, and what is still in a file stays there."""
        filed = [v for v, _ in self.parts if v.chunks is None and not _in_memory(v)]
        plain = self.stack is None and self.parts[0][1] == _SAME
        pieces = [_pieces(p) for p in self.positions.values()]
        if not filed or (plain and all(len(p) == 1 for p in pieces)):
            return self.make()
        return xr.Variable(self.dims, indexing.LazilyIndexedArray(_Deferred(self)))

    def make(self) -> xr.Variable:
        """Make the field from its parts."""
        done = [_converted(_taken(v, self.positions), step) for v, step in self.parts]
        if self.stack is None:
            return done[0]
        dims = [d for d in self.dims if d != self.stack]
        levels = [variable.transpose(*dims) for variable in done]
        return _joined(levels, self.stack).transpose(*self.dims)

    def narrowed(self, chosen: Mapping[str, Positions]) -> Plan:
        """Return the plan of a part of the result."""
        parts = self.parts
        if self.stack is not None:
            parts = tuple(parts[n] for n in chosen[self.stack])
        positions = {
            dim: self.positions[dim][at] if dim in self.positions else at
            for dim, at in chosen.items()
            if dim != self.stack
        }
        return replace(self, parts=parts, positions=positions)


class _Deferred(BackendArray):
    """The values of a plan, made when they are asked for: xarray's own way to add a file format."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.shape, self.dtype = plan, plan.shape, plan.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        chosen = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)]
        if not all(at.size for at in chosen):
            values: NDArray[Any] = np.empty([at.size for at in chosen], self.dtype)
        else:
            part = self.plan.narrowed(dict(zip(self.plan.dims, chosen, strict=True)))
            values = part.make().to_numpy()
        alone = [np.ndim(k) == 0 and not isinstance(k, slice) for k in key]
        return values[tuple(0 if one else slice(None) for one in alone)]


def _in_memory(variable: xr.Variable) -> bool:
    return bool(getattr(variable, "_in_memory", True))


def _pieces(positions: Positions) -> Sequence[slice]:
    """Return the evenly spaced runs of positions as slices: one, two if rolled, or more."""
    steps = np.diff(positions)
    usual = int(np.median(steps)) if steps.size else 1
    usual = usual or 1
    runs = np.split(positions, np.flatnonzero(steps != usual) + 1)
    return [_slice(run, usual) for run in runs]


def _slice(run: Positions, step: int) -> slice:
    if run.size == 1:
        return slice(int(run[0]), int(run[0]) + 1)
    stop = int(run[-1]) + (1 if step > 0 else -1)
    return slice(int(run[0]), None if stop < 0 else stop, step)


def _taken(variable: xr.Variable, positions: Mapping[str, Positions]) -> xr.Variable:
    """Select along several dimensions, by slices where two or fewer will do."""
    pieces = {dim: _pieces(at) for dim, at in positions.items()}
    whole = {dim: slice(0, variable.sizes[dim]) for dim in pieces}
    once = {d: p[0] for d, p in pieces.items() if len(p) == 1 and p[0] != whole[d]}
    out = variable.isel(once) if once else variable
    for dim, runs in pieces.items():
        if len(runs) == 2:
            out = _joined([out.isel({dim: run}) for run in runs], dim)
        elif len(runs) > 2:
            out = out.isel({dim: positions[dim]})
    return out


def _joined(variables: Sequence[xr.Variable], dim: str) -> xr.Variable:
    out: xr.Variable = xr.Variable.concat(variables, dim)  # type: ignore[no-untyped-call]
    return out


def _converted(variable: xr.Variable, step: Affine) -> xr.Variable:
    if step == _SAME:
        return variable
    how = {"scale": step.scale, "offset": step.offset}
    if variable.chunks is not None:
        data = variable.data.map_blocks(_changed, dtype=variable.dtype, **how)
    else:
        data = _changed(variable.data, **how)
    return variable.copy(data=data)


def _changed(values: NDArray[Any], scale: float, offset: float) -> NDArray[Any]:
    """Return ``scale * values + offset``, in float64 and rounded once."""
    exact = np.multiply(values, scale, dtype=np.float64)
    exact += offset
    return np.asarray(exact, dtype=values.dtype)
