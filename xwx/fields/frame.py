"""What is remembered of a Dataset's layout while its numbers are with a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields.orient import Turn
from xwx.fields.units import Affine
from xwx.spec import Spec

__all__ = ["Field", "Frame"]


@dataclass(frozen=True, eq=False)
class Field:
    """One variable of the Dataset, and the channels it gives.

    Attributes
    ----------
    name, key : str
        The user's name; the entry of the table of variables.
    dims, sizes : tuple
        Dimensions as in the Dataset, and their sizes there.
    vertical, level_dim : str or None
        Its pressure coordinate, and the dimension of that (None if it is a scalar).
    levels, channels : tuple of int
        Positions along `level_dim` (a single 0 without one), and the channel each of them gives.
    conversion : Affine or None
        From the user's units to canonical ones; None where nothing changes.
    dtype : numpy dtype
    attrs, encoding : dict
    unit : pint.Unit or None
        Where the variable is quantified.
    note : str
        A change of measure (geopotential height to geopotential) in words, or "".
    """

    name: str
    key: str
    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    vertical: str | None
    level_dim: str | None
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    conversion: Affine | None
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any]
    encoding: Mapping[str, Any]
    unit: Any
    note: str


@dataclass(frozen=True, eq=False)
class Frame:
    """The layout of a Dataset, as :func:`~xwx.fields.pack` saw it.

    Attributes
    ----------
    spec : Spec
        What the array was packed for.
    times : array, shape (time,)
        Valid times of the packed array: datetime64, or cftime objects.
    time_dim, time_name : str
        The time dimension, and the coordinate that holds the valid times (most often the same).
    latitude_dim, longitude_dim : str
        Dimensions of the horizontal coordinates.
    rows, columns : Turn
        How those axes were turned.
    fields : tuple of Field
        The Dataset's variables that give channels, in its order.
    template : Dataset
        The coordinates (at the packed times) and the attributes of the Dataset.
    shifts : dict of str -> timedelta64
        Further time coordinates that run along with `time_name`, at a constant distance.
    """

    spec: Spec
    times: NDArray[Any]
    time_dim: str
    time_name: str
    latitude_dim: str
    longitude_dim: str
    rows: Turn
    columns: Turn
    fields: tuple[Field, ...]
    template: xr.Dataset
    shifts: Mapping[str, Any]

    @property
    def variables(self) -> tuple[str, ...]:
        """The user's names of the variables, in the order of the Dataset."""
        return tuple(field.name for field in self.fields)

    def place(self, state: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Copy packed fields (..., lat, lon) to `out`, the axes turned as in the Dataset.

        To turn each field as it is made costs no more than to copy it; to turn a whole forecast
        afterwards costs one more pass through memory. See :attr:`placed`.
        """
        for row, own_row in self.rows.pieces(state.shape[-2]):
            for column, own_column in self.columns.pieces(state.shape[-1]):
                out[..., own_row, own_column] = state[..., row, column]

    @property
    def placed(self) -> Frame:
        """The frame of arrays that :meth:`place` filled: their axes are turned already."""
        return replace(self, rows=Turn(), columns=Turn())

    @property
    def notes(self) -> tuple[str, ...]:
        """The changes of measure made, one line each."""
        return tuple(f"{field.name}: {field.note}" for field in self.fields if field.note)

    @property
    def quantified(self) -> bool:
        """Whether any variable carried pint units."""
        return any(field.unit is not None for field in self.fields)
