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
from xwx.models.checkpoint import Model
from xwx.tasks.run import run

__all__ = ["lazy_states"]


def lazy_states(
    windows: Sequence[xr.Dataset], model: Model, steps: int, seed: int, cache: int
) -> Any:
    """Return the states of forecasts from several starts as one dask array.

    Parameters
    ----------
    windows : sequence of Dataset
        For each start the states that the model needs, dask-backed.
    model : Model
    steps : int
    seed : int
    cache : int
        How many steps the network's attention remembers.

    Returns
    -------
    dask array, shape (starts * steps, C, H, W), one chunk a start
    """
    # dask is optional, and here by now: the Dataset is made of its arrays.
    dask, arrays = importlib.import_module("dask"), importlib.import_module("dask.array")
    task = dask.delayed(_Start(model, steps, seed, cache), pure=False)
    call = f"forecast-{uuid.uuid4().hex}"
    shape = (steps, len(model.spec.channels), *model.spec.grid.shape)
    made = [task(window, dask_key_name=(call, n)) for n, window in enumerate(windows)]
    return arrays.concatenate([arrays.from_delayed(m, shape, dtype=np.float32) for m in made])


@dataclass(frozen=True)
class _Start:
    """One start: pack, roll out, gather."""

    model: Model
    steps: int
    seed: int
    cache: int

    def __call__(self, window: xr.Dataset) -> NDArray[np.float32]:
        states, frame = pack(window, self.model.spec)
        ahead = run(self.model, states, frame.times, self.steps, self.seed, self.cache)
        return np.stack(list(ahead))
