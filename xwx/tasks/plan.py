"""Plan: what a forecast will take of the machine, before it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import xarray as xr

from xwx.errors import Problem
from xwx.fields import Frame, dequantify, frame_of, narrowed, unpack
from xwx.models.checkpoint import Model
from xwx.models.footprint import Footprint, footprint, weights_of
from xwx.models.registry import resolve_device
from xwx.options import get_options
from xwx.spec import Spec
from xwx.stores import StepStore
from xwx.tasks.arguments import is_lazy, listed, refuse_other, whole_number
from xwx.tasks.choose import choose_model
from xwx.tasks.machine import free_disk, free_on_device, free_ram, speed_of
from xwx.tasks.planned import Plan, human_size
from xwx.tasks.run import remembered
from xwx.tasks.starts import Starts, find_starts

__all__ = ["Plan", "plan"]

#: Seconds that an operation costs however small it is, with the views and the Python between two:
#: what is left of the steps of small networks on one core.
_CALL = 4e-5


def plan(
    ds: xr.Dataset,
    model: str | os.PathLike[str] | Model | None = None,
    steps: int = 40,
    *,
    start: Any = None,
    cache: int | None = None,
    variables: str | Sequence[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    device: str | None = None,
) -> Plan:
    """Predict what :func:`~xwx.tasks.forecast.forecast` takes when it is called like this.

    No step is computed and no field is read. The network runs on tensors without numbers, and
    what torch would allocate is counted; it is loaded on the CPU for that. Only how fast the
    device is gets measured, in a fraction of a second.

    Parameters
    ----------
    ds, model, steps, start, cache, variables, store, device
        As for the forecast. A `store` is not made.

    Returns
    -------
    Plan
        Bytes of memory and disk, seconds, and in words what does not fit, with its remedy.

    Raises
    ------
    MismatchError, ModelNotFoundError, StoreError, TypeError, ValueError
        What the forecast raises for these arguments before its first step.

    Notes
    -----
    Device memory is the peak of what torch allocates; on a GPU the CUDA context and what its
    allocator keeps in reserve come on top, on a CPU what the C library does not give back. The time
    is that of the arithmetic at the speed of a large matrix product, plus that of the memory
    traffic at the speed of a large copy, plus 40 microseconds for each operation: good for the
    order of magnitude.

    Examples
    --------
    >>> import xwx
    >>> ds = xwx.tutorial.open_dataset("era5-winter")
    >>> ds.wx.plan(steps=400).fits  # doctest: +SKIP
    True
    """
    steps = whole_number("steps", steps, 1, 40)
    cache = None if cache is None else whole_number("cache", cache, 0, 5)
    refuse_other(ds, "plan")
    if store is not None:
        StepStore(store)  # which refuses what it could not begin
    starts = find_starts(ds, start)
    # A model by name is loaded on the CPU: it may be the device that it does not fit on.
    given = isinstance(model, Model)
    chosen = choose_model(ds, model, starts.positions, None if given else "cpu")
    where = chosen.device if given and device is None else resolve_device(device)
    case = _Case(chosen, where, steps, starts, remembered(chosen, cache))
    lazy = store is None and starts.several and is_lazy(ds)
    result = _result(ds, case, listed(variables), lazy=lazy)
    draft = case.draft(result, None if store is None else os.fspath(store), lazy=lazy)
    problems = (*case.device_problems(draft), *_ram_problems(draft), *_disk_problems(draft))
    return replace(draft, problems=problems)


@dataclass(frozen=True)
class _Result:
    """Bytes of a result, and the shapes of its chunks in a store."""

    in_memory: int
    with_store: int
    disk: int
    chunks: dict[str, tuple[int, ...]]


def _result(ds: xr.Dataset, case: _Case, variables: list[str] | None, *, lazy: bool) -> _Result:
    """Measure a result by one step of it whose numbers all share one place in memory."""
    spec, last = case.model.spec, case.starts.positions[-1]
    whole = frame_of(ds, spec, times=slice(last + 1 - spec.history, last + 1))
    frame, channels = narrowed(whole, variables)
    nothing = np.zeros((), dtype=np.float32)
    state = np.broadcast_to(nothing, (1, len(channels), *spec.grid.shape))
    step = dequantify(unpack(state, frame, time=frame.times[-1:]))
    fields = {str(name): v for name, v in step.data_vars.items() if frame.time_dim in v.dims}
    fixed = sum(v.nbytes for name, v in step.data_vars.items() if name not in fields)
    size = sum(v.nbytes for v in fields.values())
    # Variables in other units, types or orders of levels are copies of the array of states.
    copies = sum(v.nbytes for v in fields.values() if not np.shares_memory(v.values, nothing))
    count = case.steps * len(case.starts.positions)
    in_memory = count * (state.nbytes + copies + _converting(frame))
    if lazy:  # the states of one start as a list, then as an array
        in_memory = 2 * case.steps * case.state
    # On a CPU the network sees the packed states themselves, and its states are the result's.
    outside = 0 if case.device.type == "cpu" else (spec.history + 1) * case.state
    steps = (1, 1) if case.starts.several else (1,)
    chunks = {
        name: tuple(n for d in v.dims for n in (steps if d == frame.time_dim else (v.sizes[d],)))
        for name, v in fields.items()
    }
    return _Result(in_memory + outside, 2 * size + outside, count * size + fixed, chunks)


def _converting(frame: Frame) -> int:
    """Return the bytes of one step of the largest variable on its way to other units."""
    sizes = [len(f.channels) for f in frame.fields if f.conversion is not None]
    # In float64, once: numpy computes in place what nobody else refers to.
    return np.dtype(np.float64).itemsize * max(sizes, default=0) * _points(frame.spec)


def _points(spec: Spec) -> int:
    rows, columns = spec.grid.shape
    return rows * columns


@dataclass(frozen=True)
class _Case:
    """A forecast that was asked for."""

    model: Model
    device: torch.device
    steps: int
    starts: Starts
    cache: int

    @property
    def state(self) -> int:
        """Bytes of one state."""
        return 4 * len(self.model.spec.channels) * _points(self.model.spec)

    def footprint(self, precision: str, cache: int) -> Footprint:
        """Return what the network takes, once its memory is full or the forecast is over."""
        return footprint(
            self.model.network,
            self.model.spec,
            device=self.device,
            autocast=torch.bfloat16 if precision == "bfloat16" else None,
            steps=min(self.steps, cache + 2),
            remember=(lambda light: cast(Any, light).remember(cache)) if cache else None,
        )

    def draft(self, result: _Result, store: str | None, *, lazy: bool) -> Plan:
        """Put the numbers together, without judging them."""
        precision, weights = get_options()["precision"], weights_of(self.model.network)
        notes = ["note: starts that dask computes at a time need memory each"] if lazy else []
        taken: Footprint | None = None
        try:
            taken = self.footprint(precision, self.cache)
        except Exception as error:  # a network of any package may fail in any way
            notes.append(
                f"note: {type(self.model.network).__name__} cannot run without numbers "
                f"({type(error).__name__}), so that its activations and its time are unknown"
            )
        there = weights if self.model.device == self.device else 0
        free, ram = free_on_device(self.device), free_ram()
        return Plan(
            model=self.model.name,
            device=str(self.device),
            precision=precision,
            steps=self.steps,
            starts=len(self.starts.positions),
            cache=self.cache,
            parameters=self.model.parameters,
            weights=weights,
            states=taken.states if taken else (2 * self.model.spec.history + 1) * self.state,
            memory=taken.memory if taken else 0,
            activations=taken.activations if taken else None,
            device_free=None if free is None else free + there,
            in_memory=result.in_memory,
            with_store=result.with_store,
            lazy=lazy,
            ram_free=None if ram is None else ram + (there if self.device.type == "cpu" else 0),
            store=store,
            disk=result.disk,
            disk_free=None if store is None else free_disk(store),
            chunks=result.chunks,
            seconds_per_step=None if taken is None else self._seconds(taken, precision),
            notes=tuple(notes),
        )

    def _seconds(self, taken: Footprint, precision: str) -> float:
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        speed = speed_of(self.device, dtype, torch.get_num_threads())
        work = taken.operations / speed.operations + taken.traffic / speed.traffic
        return work + taken.calls * _CALL

    def device_problems(self, plan: Plan) -> Iterator[Problem]:
        """Say whether the network is too large, and which changes would mend that."""
        need, free = plan.device_memory, plan.device_free
        if free is None or need <= free:
            return
        yield Problem(
            kind="device-memory",
            where=f"device {plan.device}",
            message=f"the network needs {human_size(need)}, and {human_size(free)} are free",
            remedy=" or ".join(self._smaller(plan, free)),
        )

    def _smaller(self, plan: Plan, free: int) -> Iterator[str]:
        """Yield ways to run that fit, or else where to go."""
        tries = {
            'xwx.set_options(precision="bfloat16")': ("bfloat16", plan.cache),
            "cache=0": (plan.precision, 0),
        }
        fits = 0
        for words, (precision, cache) in tries.items():
            if plan.activations is None or (precision, cache) == (plan.precision, plan.cache):
                continue
            need = self.footprint(precision, cache).peak
            if need <= free:
                fits += 1
                yield f"{words}, which needs {human_size(need)}"
        if self.device.type != "cpu":
            yield 'device="cpu"'
        elif not fits:
            yield "a machine with more memory, or a smaller model"


def _ram_problems(plan: Plan) -> Iterator[Problem]:
    """Weigh the result against the main memory that the network leaves."""
    beside = plan.device_memory if plan.device == "cpu" else 0
    left = None if plan.ram_free is None else plan.ram_free - beside
    # Where less than nothing is left, the device says so.
    if left is None or left < 0 or plan.host_memory <= left:
        return
    remedies = []
    if plan.store is None and plan.with_store <= left:
        remedies.append(f'store="forecast.zarr", which needs {human_size(plan.with_store)}')
    if plan.starts > 1 and plan.store is None and not plan.lazy:
        remedies.append("ds.chunk(), to compute start by start")
    remedies.append("fewer variables=")
    yield Problem(
        kind="main-memory",
        where="result",
        message=(
            f"{human_size(plan.host_memory)}, and {human_size(left)} of main memory are free"
            + (" beside the network" if beside else "")
        ),
        remedy=", or ".join(remedies),
    )


def _disk_problems(plan: Plan) -> Iterator[Problem]:
    if plan.disk_free is None or plan.disk <= plan.disk_free:
        return
    need, free = human_size(plan.disk), human_size(plan.disk_free)
    yield Problem(
        kind="disk",
        where=f"store {plan.store!r}",
        message=f"up to {need}, less what compression saves, and {free} are free there",
        remedy="fewer variables= or steps=, or a store on another disk",
    )
