"""The states of a general circulation model on its own levels and grid."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "SigmaStates"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SigmaStates:
    """Consecutive states: T times, K levels from the top down, Y rows from the south, X columns.

    Attributes
    ----------
    times : datetime64 array, shape (T,)
        Valid times.
    t, q, u, v, z : array, shape (T, K, Y, X)
        Temperature [K], specific humidity [kg kg-1], wind [m s-1], geopotential [m2 s-2].
    ps : array, shape (T, Y, X)
        Surface pressure [Pa].
    t2m, skt : array, shape (T, Y, X)
        Temperature of the air near the surface and of the surface itself [K].
    tp : array, shape (T, Y, X)
        Precipitation since the state before [kg m-2].
    tisr : array, shape (T, Y, X)
        Mean insolation at the top of the atmosphere [W m-2].
    """

    times: NDArray[np.datetime64]
    t: NDArray[np.float32]
    q: NDArray[np.float32]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    z: NDArray[np.float32]
    ps: NDArray[np.float32]
    t2m: NDArray[np.float32]
    skt: NDArray[np.float32]
    tp: NDArray[np.float32]
    tisr: NDArray[np.float32]

    def not_finite(self) -> list[str]:
        """Return the names of the fields that hold NaN or infinity."""
        names = [field.name for field in fields(self) if field.name != "times"]
        return [name for name in names if not np.isfinite(getattr(self, name)).all()]
