"""How large the result of a forecast will be, in memory and in a store."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from xwx.fields import Frame, dequantify, frame_of, narrowed, unpack
from xwx.tasks.ahead import Engine
from xwx.tasks.starts import Starts

__all__ = ["Result", "result_of"]


@dataclass(frozen=True)
class Result:
    """Bytes of a result, and the shapes of its chunks in a store."""

    in_memory: int
    with_store: int
    disk: int
    chunks: dict[str, tuple[int, ...]]


def result_of(
    ds: xr.Dataset,
    made_by: Engine,
    starts: Starts,
    variables: list[str] | None,
    *,
    outside: int,
    lazy: bool,
) -> Result:
    """Measure a result by one step of it whose numbers all share one place in memory.

    Parameters
    ----------
    ds : Dataset
    made_by : Engine
    starts : Starts
    variables : list of str or None
        Those that are returned.
    outside : int
        Bytes of states that are neither the network's nor the result's.
    lazy : bool
        Whether starts are computed one at a time.
    """
    spec, last = made_by.model.spec, starts.positions[-1]
    whole = frame_of(ds, spec, times=slice(last + 1 - spec.history, last + 1))
    frame, channels = narrowed(whole, variables)
    nothing = np.zeros((), dtype=np.float32)
    state = np.broadcast_to(nothing, (1, len(channels), *spec.grid.shape))
    step = dequantify(unpack(state, frame, time=frame.times[-1:]))
    fields = {str(name): v for name, v in step.data_vars.items() if frame.time_dim in v.dims}
    fixed = sum(v.nbytes for name, v in step.data_vars.items() if name not in fields)
    members = made_by.members or 1
    size = members * sum(v.nbytes for v in fields.values())
    # Variables in other units, types or orders of levels are copies of the array of states.
    copies = sum(v.nbytes for v in fields.values() if not np.shares_memory(v.values, nothing))
    count = made_by.steps * len(starts.positions)
    in_memory = members * count * (state.nbytes + copies + _converting(frame))
    if lazy:  # the states of one start as a list, then as an array
        every = 4 * len(spec.channels) * math.prod(spec.grid.shape)
        in_memory = 2 * members * made_by.steps * every
    steps = (1, 1) if starts.several else (1,)
    if made_by.members is not None:
        steps = (members, *steps)
    chunks = {
        name: tuple(n for d in v.dims for n in (steps if d == frame.time_dim else (v.sizes[d],)))
        for name, v in fields.items()
    }
    return Result(in_memory + outside, 2 * size + outside, count * size + fixed, chunks)


def _converting(frame: Frame) -> int:
    """Return the bytes of one step of the largest variable on its way to other units."""
    sizes = [len(f.channels) for f in frame.fields if f.conversion is not None]
    # In float64, once: numpy computes in place what nobody else refers to.
    return np.dtype(np.float64).itemsize * max(sizes, default=0) * math.prod(frame.spec.grid.shape)
