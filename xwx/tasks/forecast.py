"""Forecast: a Dataset goes in, its continuation in the same layout comes out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from xwx.fields import Frame, check, dequantify, frame_of, narrowed, pack, retimed, unpack
from xwx.models.checkpoint import Model
from xwx.options import get_options
from xwx.stores import StepStore
from xwx.tasks.arguments import is_lazy, listed, refuse_other, seed_number, whole_number
from xwx.tasks.choose import choose_model
from xwx.tasks.layout import drop_packing, lay_out
from xwx.tasks.lazy import lazy_states
from xwx.tasks.run import remembered, run, valid_times
from xwx.tasks.starts import Starts, find_starts
from xwx.version import __version__

__all__ = ["forecast"]


def forecast(
    ds: xr.Dataset,
    model: str | os.PathLike[str] | Model | None = None,
    steps: int = 40,
    *,
    start: Any = None,
    cache: int | None = None,
    variables: str | Sequence[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Continue a Dataset with a model's forecast, in the layout the Dataset came in.

    Parameters
    ----------
    ds : Dataset
        Holds the model's variables on its grid, under any names, in any units and orientation
        that CF metadata tell: see ``ds.wx.check(model)``.
    model : str, path-like or Model, optional
        A name from :func:`xwx.list_models`, a checkpoint directory, or a loaded Model. By
        default the first installed model that the Dataset fits.
    steps : int
        How many steps of the model to make (6 hours each for the bundled one).
    start : time, slice or sequence of times, optional
        Where to start; by default at the last time. A string is one exact time:
        ``"2026-01-25"`` is midnight.
    cache : int, optional
        How many of its own steps the network's attention remembers, from each start afresh; 0 for
        none. By default what the network was fine-tuned with, which is what it does best with.
    variables : str or sequence of str, optional
        Which of the model's variables to return, by the Dataset's names; by default all.
    store : str or path-like, optional
        A new ``.zarr`` directory. Each step is written as it is made, so that memory does not
        grow with `steps`; what is returned is read from there when it is used.
    seed : int, optional
        For models that draw random numbers: each start draws the same. By default a fresh one;
        the attributes keep it either way.
    device : str, optional
        By default as in ``xwx.set_options(device=...)``.
    progress : bool, optional
        A progress bar: always, never, or (by default) when it takes over two seconds.

    Returns
    -------
    Dataset
        From one start: valid times along the Dataset's own time dimension, with the coordinates
        ``lead_time`` along it and a scalar ``init_time``. From several: dimensions ``init_time``
        and ``lead_time`` in its place, and the valid times as a two-dimensional coordinate. With
        several starts from a dask-backed Dataset it is dask-backed, one task a start.

    Raises
    ------
    MismatchError
        When the Dataset does not fit the model; lists every problem with its remedy.
    ModelNotFoundError
        When there is no such model, or none fits.
    StoreError
        When the store exists already or cannot be written.
    TypeError, ValueError
        When `steps` is not a positive whole number, `seed` or `cache` not a whole number from 0,
        or the network cannot remember so many steps.

    Examples
    --------
    >>> import xwx
    >>> ds = xwx.tutorial.open_dataset("era5-winter")
    >>> fc = ds.wx.forecast(steps=4)  # doctest: +SKIP
    """
    steps = whole_number("steps", steps, 1, 40)
    cache = None if cache is None else whole_number("cache", cache, 0, 5)
    seed = secrets.randbits(31) if seed is None else seed_number(seed)
    refuse_other(ds, "forecast")
    starts = find_starts(ds, start)
    chosen = choose_model(ds, model, starts.positions, device)
    ds = ds.drop_vars(["lead_time", "init_time"], errors="ignore")
    frames = remembered(chosen, cache)
    job = _Job(ds, chosen, steps, starts, listed(variables), seed, progress, frames)
    if store is None and starts.several and is_lazy(ds):
        return job.lazily()
    if starts.several:  # rather than when the forecasts before the bad one are made
        check(ds, chosen.spec, positions=starts.positions, what=chosen.name).raise_if_bad()
    return job.in_memory() if store is None else job.to_store(StepStore(store))


class _Job:
    """One call of :func:`forecast`, checked and ready to run."""

    def __init__(
        self,
        ds: xr.Dataset,
        model: Model,
        steps: int,
        starts: Starts,
        variables: list[str] | None,
        seed: int,
        progress: bool | None,
        cache: int,
    ) -> None:
        self.ds, self.model, self.steps, self.starts = ds, model, steps, starts
        self.variables, self.seed, self.progress, self.cache = variables, seed, progress, cache

    def window(self, position: int) -> slice:
        """Return the positions of the states that a start at `position` needs."""
        return slice(position + 1 - self.model.spec.history, position + 1)

    def in_memory(self) -> xr.Dataset:
        """Return the forecast as arrays."""
        count = len(self.starts.positions) * self.steps
        states: Any = None
        inits: list[Any] = []
        with self._bar() as bar:
            for packed, whole in self._packed():
                frame, channels = narrowed(whole, self.variables)
                if states is None:
                    shape = count, len(channels), *self.model.spec.grid.shape
                    states = np.empty(shape, dtype=np.float32)
                first = len(inits) * self.steps
                inits.append(frame.times[-1])
                ahead = self._run(packed, frame)
                for step, state in enumerate(ahead):
                    chosen = state if len(channels) == len(state) else state[channels]
                    frame.place(chosen, states[first + step])
                    bar.update()
        return self._result(states, frame.placed, np.array(inits))

    def lazily(self) -> xr.Dataset:
        """Return the forecast as dask arrays, one task a start."""
        frame = frame_of(self.ds, self.model.spec, times=self.window(self.starts.positions[0]))
        needed = self.ds[list(frame.variables)]
        windows = [
            needed.isel({frame.time_dim: self.window(position)}, missing_dims="ignore")
            for position in self.starts.positions
        ]
        states = lazy_states(windows, self.model, self.steps, self.seed, self.cache)
        return self._result(states, frame, self._inits(frame))

    def to_store(self, store: StepStore) -> xr.Dataset:
        """Write the forecast one step at a time and return it as read from the store."""
        several = self.starts.several
        with self._bar() as bar:
            for start, (packed, frame) in enumerate(self._packed()):
                times = self._times(frame.times[-1:])
                ahead = self._run(packed, frame)
                for step, state in enumerate(ahead):
                    fc = unpack(
                        state[None], frame, time=times[step : step + 1], variables=self.variables
                    )
                    fc = dequantify(fc).drop_encoding()
                    fc = self._laid_out(fc, frame, frame.times[-1:], self._leads()[:1])
                    if not store.begun:
                        store.begin(self._sign(fc, frame.times[-1:]), self._coords(frame))
                    place = {"init_time": start, "lead_time": step}
                    store.write(fc, place if several else {frame.time_dim: step})
                    bar.update()
        store.finish()
        return store.open(chunked=is_lazy(self.ds))

    def _run(self, packed: NDArray[np.float32], frame: Frame) -> Iterator[NDArray[np.float32]]:
        return run(self.model, packed, frame.times, self.steps, self.seed, self.cache)

    def _packed(self) -> Iterator[tuple[NDArray[np.float32], Frame]]:
        for position in self.starts.positions:
            states, frame = pack(self.ds, self.model.spec, times=self.window(position))
            narrowed(frame, self.variables)  # a wrong name is said before the network runs
            yield states, frame

    def _result(self, states: Any, frame: Frame, inits: NDArray[Any]) -> xr.Dataset:
        fc = unpack(states, frame, time=self._times(inits), variables=self.variables)
        fc = self._laid_out(fc, frame, inits, self._leads())
        return self._sign(drop_packing(fc), inits)

    def _coords(self, frame: Frame) -> xr.Dataset:
        """Return the coordinates of the whole result along starts and leads."""
        inits = self._inits(frame)
        clock = self._laid_out(retimed(frame, self._times(inits)), frame, inits, self._leads())
        steps = {"init_time", "lead_time"} if self.starts.several else {frame.time_dim}
        return clock.drop_vars([n for n, c in clock.coords.items() if not steps & set(c.dims)])

    def _inits(self, frame: Frame) -> NDArray[Any]:
        times: NDArray[Any] = np.atleast_1d(self.ds[frame.time_name].values)
        return times[list(self.starts.positions)]

    def _times(self, inits: NDArray[Any]) -> NDArray[Any]:
        """Return the valid times of all steps, start after start."""
        return np.concatenate([valid_times(i, self.model.spec.step, self.steps) for i in inits])

    def _laid_out(
        self, fc: xr.Dataset, frame: Frame, inits: NDArray[Any], leads: NDArray[np.timedelta64]
    ) -> xr.Dataset:
        names = frame.time_dim, frame.time_name
        return lay_out(fc, names, inits, leads, several=self.starts.several)

    def _sign(self, fc: xr.Dataset, inits: NDArray[Any]) -> xr.Dataset:
        """Say in the attributes what made the forecast."""
        card = self.model.card
        first = inits[0] if len(inits) == 1 else f"{len(inits)} times from {inits[0]}"
        line = (
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} xwx {__version__}: forecast of {self.steps} "
            f"steps of {self.model.spec.step} by {card.name}, started at {first}"
        )
        before = fc.attrs.get("history")
        return fc.assign_attrs(
            history=f"{before}\n{line}" if before else line,
            xwx_version=__version__,
            xwx_model=card.name,
            xwx_model_licence=card.licence,
            xwx_model_sha256=card.sha256,
            xwx_seed=self.seed,
            xwx_cache=self.cache,
        )

    def _leads(self) -> NDArray[np.timedelta64]:
        step = np.timedelta64(self.model.spec.step).astype("timedelta64[ns]")
        leads: NDArray[np.timedelta64] = np.arange(1, self.steps + 1) * step
        return leads

    def _bar(self) -> Any:
        wanted = get_options()["progress"] if self.progress is None else self.progress
        return tqdm(
            total=self.steps * len(self.starts.positions),
            desc=f"forecast {self.model.name}",
            unit="step",
            disable=wanted is False,
            delay=2 if wanted is None else 0,
        )
