"""Plan: what a forecast will take of the machine, before it runs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import xarray as xr

from xwx.constraints.scene import Constraint
from xwx.diffusion.chain import window_count
from xwx.diffusion.settings import Sampling
from xwx.errors import Problem
from xwx.models.checkpoint import Model
from xwx.models.footprint import Footprint, footprint, weights_of
from xwx.models.registry import resolve_device
from xwx.options import get_options
from xwx.stores import StepStore
from xwx.tasks.ahead import Engine, Rolled, Sampled, engine
from xwx.tasks.arguments import is_lazy, listed, refuse_other, whole_number
from xwx.tasks.choose import choose_model
from xwx.tasks.machine import free_disk, free_on_device, free_ram, speed_of
from xwx.tasks.plan_smaller import largest, with_smaller
from xwx.tasks.planned import Plan, human_size
from xwx.tasks.result import Result, result_of
from xwx.tasks.sampling.room import members_at_once, sampling_footprint
from xwx.tasks.shortage import disk_problems, ram_problems
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
    members: int | None = None,
    constraints: Sequence[Constraint] = (),
    sampling: Sampling | None = None,
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
    ds, model, steps, start, members, constraints, sampling, cache, variables, store, device
        As for the forecast. A `store` is not made, and constraints are not bound: whether the
        Dataset has what they need is not looked at.

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

    A generative model is called ``sampling.steps`` times for each window of states of each member.
    With constraints it also goes backward, once for each iteration of the guidance, for which it
    keeps its activations. Windows that must not cut a mean over time are shorter, and so more.

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
    how: dict[str, Any] = {"cache": cache, "members": members, "sampling": sampling}
    made_by = engine(chosen, steps, 0, constraints=constraints, **how)
    case = _Case(made_by, where, starts, _batch(made_by, where))
    lazy = store is None and starts.several and is_lazy(ds)

    def size(steps: int, members: int) -> Result:
        more: dict[str, Any] = {} if made_by.members is None else {"members": members}
        other = replace(case, made_by=replace(made_by, steps=steps, **more))
        names = listed(variables)
        return result_of(ds, other.made_by, starts, names, outside=other.outside, lazy=lazy)

    result = size(steps, made_by.members or 1)
    draft = case.draft(result, None if store is None else os.fspath(store), lazy=lazy)
    problems = (*case.device_problems(draft), *ram_problems(draft), *disk_problems(draft))
    return replace(draft, problems=tuple(with_smaller(p, draft, size) for p in problems))


def _batch(made_by: Engine, device: torch.device) -> int:
    """Return how many members go through the network together."""
    if isinstance(made_by, Rolled):
        return 1
    members, sampling = made_by.members or 1, made_by.sampling
    if sampling.batch is not None:
        return min(members, sampling.batch)
    guided = len(made_by.constraints) > 0
    return members_at_once(made_by.model, members, sampling, guided=guided, device=device)


@dataclass(frozen=True)
class _Case:
    """A forecast that was asked for, and how many members go through the network together."""

    made_by: Engine
    device: torch.device
    starts: Starts
    batch: int = 1

    @property
    def model(self) -> Model:
        return self.made_by.model

    @property
    def steps(self) -> int:
        return self.made_by.steps

    @property
    def members(self) -> int:
        return self.made_by.members or 1

    @property
    def cache(self) -> int:
        return self.made_by.cache if isinstance(self.made_by, Rolled) else 0

    @property
    def state(self) -> int:
        """Bytes of one state."""
        spec = self.model.spec
        return 4 * len(spec.channels) * math.prod(spec.grid.shape)

    @property
    def outside(self) -> int:
        """Bytes of states in main memory that are neither the network's nor the result's."""
        there = self.device.type != "cpu"
        if isinstance(self.made_by, Rolled):
            # On a CPU the network sees the packed states themselves, and its states are the result.
            return (self.model.spec.history + 1) * self.state if there else 0
        frames: int = cast(Any, self.model.network).frames
        return (self.members * min(self.steps, frames - 1) + there * frames) * self.state

    @property
    def evaluations(self) -> int:
        """How often the network is called for all starts."""
        calls = self.steps
        if isinstance(self.made_by, Sampled):
            windows = window_count(1 + self.steps, cast(Any, self.model.network).frames)
            calls = windows * self.made_by.sampling.steps * math.ceil(self.members / self.batch)
        return calls * len(self.starts.positions)

    def footprint(self, precision: str) -> Footprint:
        """Return what the network takes, once its memory is full or the forecast is over."""
        made_by, cache = self.made_by, self.cache
        autocast = torch.bfloat16 if precision == "bfloat16" else None
        if isinstance(made_by, Sampled):
            return sampling_footprint(
                self.model,
                made_by.sampling,
                guided=len(made_by.constraints) > 0,
                device=self.device,
                members=self.batch,
                autocast=autocast,
            )
        return footprint(
            self.model.network,
            self.model.spec,
            device=self.device,
            autocast=autocast,
            steps=min(self.steps, cache + 2),
            remember=(lambda light: cast(Any, light).remember(cache)) if cache else None,
        )

    def draft(self, result: Result, store: str | None, *, lazy: bool) -> Plan:
        """Put the numbers together, without judging them."""
        precision, weights = get_options()["precision"], weights_of(self.model.network)
        notes = ["note: starts that dask computes at a time need memory each"] if lazy else []
        taken: Footprint | None = None
        try:
            taken = self.footprint(precision)
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
            members=self.made_by.members,
            cache=self.cache,
            evaluations=self.evaluations,
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
        calls = self.evaluations / (self.steps * len(self.starts.positions))
        return calls * (work + taken.calls * _CALL)

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
        fits = 0
        others = {} if plan.activations is None else self._others(plan.precision, free)
        for words, (precision, case) in others.items():
            need = case.footprint(precision).peak
            if need <= free:
                fits += 1
                yield f"{words}, which needs {human_size(need)}"
        if self.device.type != "cpu":
            yield 'device="cpu"'
        elif not fits:
            yield "a machine with more memory, or a smaller model"

    def _others(self, precision: str, free: int) -> dict[str, tuple[str, _Case]]:
        """Return other ways to run, in the words that choose them."""
        out, made_by = {}, self.made_by
        if precision != "bfloat16":
            out['xwx.set_options(precision="bfloat16")'] = "bfloat16", self
        if isinstance(made_by, Rolled) and made_by.cache:
            out["cache=0"] = precision, replace(self, made_by=replace(made_by, cache=0))
        if self.batch > 1:

            def fits(batch: int) -> bool:
                return replace(self, batch=batch).footprint(precision).peak <= free

            batch = max(1, largest(self.batch - 1, fits))
            out[f"sampling=xwx.Sampling(batch={batch})"] = precision, replace(self, batch=batch)
        return out
