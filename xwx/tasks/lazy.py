"""Forecasts from many starts of dask arrays: a graph with one task a start."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields import pack
from xwx.tasks.ahead import Engine

__all__ = ["lazy_states"]


def lazy_states(windows: Sequence[xr.Dataset], made_by: Engine, names: Sequence[str]) -> Any:
    """Return the states of forecasts from several starts as dask arrays.

    Parameters
    ----------
    windows : sequence of Dataset
        For each start the states that the model needs, dask-backed.
    made_by : Engine
    names : sequence of str
        Of the constraints.

    Returns
    -------
    states : dask array, shape (members * starts * steps, C, H, W)
        One chunk a member and start; one task a start.
    residuals : dask array, shape (constraints, members, starts * steps), or None
        None without constraints.
    """
    # dask is optional, and here by now: the Dataset is made of its arrays.
    dask, arrays = importlib.import_module("dask"), importlib.import_module("dask.array")
    task = dask.delayed(_Start(made_by), pure=False)
    call = f"forecast-{uuid.uuid4().hex}"
    made = [task(window, dask_key_name=(call, n)) for n, window in enumerate(windows)]
    spec, members, steps = made_by.model.spec, made_by.members or 1, made_by.steps
    shape = (steps, len(spec.channels), *spec.grid.shape)
    states = arrays.concatenate(
        [
            arrays.from_delayed(start[0][member], shape, dtype=np.float32)
            for member in range(members)
            for start in made
        ]
    )
    if not names:
        return states, None
    size = (len(names), members, steps)
    parts = [arrays.from_delayed(start[1], size, dtype=np.float64) for start in made]
    return states, arrays.concatenate(parts, axis=2)


@dataclass(frozen=True)
class _Start:
    """One start: pack, make the states ahead, gather."""

    made_by: Engine

    def __call__(self, window: xr.Dataset) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        states, frame = pack(window, self.made_by.model.spec)
        given = window.isel({frame.time_dim: [-1]}, missing_dims="ignore")
        pieces = list(self.made_by(states, frame.times, given))
        misses = [
            np.repeat(np.stack([*piece.residuals.values()])[..., None], piece.states.shape[1], -1)
            for piece in pieces
            if piece.residuals
        ]
        return (
            np.concatenate([piece.states for piece in pieces], axis=1),
            np.concatenate(misses, axis=-1) if misses else np.empty((0, 0, 0)),
        )
