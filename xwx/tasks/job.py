"""From starts to forecasts: in memory, lazily, or into a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from xwx.constraints.record import noise_attrs
from xwx.fields import Frame, dequantify, frame_of, narrowed, pack, retimed, unpack
from xwx.fields.plausible import Sample, warn_if_implausible
from xwx.options import get_options
from xwx.stores import StepStore
from xwx.tasks.ahead import Engine, Rolled, Sampled
from xwx.tasks.arguments import is_lazy
from xwx.tasks.check_values import learned_of
from xwx.tasks.layout import by_member, drop_packing, lay_out, with_residuals
from xwx.tasks.lazy import lazy_states
from xwx.tasks.run import valid_times
from xwx.tasks.starts import Starts
from xwx.version import __version__

__all__ = ["Job"]


class Job:
    """One call of :func:`~xwx.tasks.forecast.forecast`, checked and ready to run."""

    def __init__(
        self,
        ds: xr.Dataset,
        made_by: Engine,
        starts: Starts,
        variables: list[str] | None,
        progress: bool | None,
    ) -> None:
        self.ds, self.made_by, self.starts = ds, made_by, starts
        self.variables, self.progress = variables, progress
        self.model, self.steps = made_by.model, made_by.steps

    def window(self, position: int) -> slice:
        """Return the positions of the states that a start at `position` needs."""
        return slice(position + 1 - self.model.spec.history, position + 1)

    def in_memory(self) -> xr.Dataset:
        """Return the forecast as arrays."""
        size = self.made_by.members or 1, len(self.starts.positions), self.steps
        states: Any = None
        misses: dict[str, NDArray[np.float64]] = {}
        inits: list[Any] = []
        with self._bar() as bar:
            for packed, whole, given in self._packed():
                frame, channels = narrowed(whole, self.variables)
                if states is None:
                    shape = *size, len(channels), *self.model.spec.grid.shape
                    states = np.empty(shape, dtype=np.float32)
                every = len(channels) == len(self.model.spec.channels)
                start = len(inits)
                inits.append(frame.times[-1])
                ahead = self.made_by(packed, frame.times, given, bar)
                for first, made, residuals in ahead:
                    steps = slice(first - 1, first - 1 + made.shape[1])
                    chosen = made if every else made[:, :, channels]
                    frame.place(chosen, states[:, start, steps])
                    for name, value in residuals.items():
                        whole_of = misses.setdefault(name, np.empty(size))
                        whole_of[:, start, steps] = value[:, None]
        flat = states.reshape(-1, *states.shape[3:])
        rows = [value.reshape(size[0], -1) for value in misses.values()]
        return self._result(flat, frame.placed, np.array(inits), list(misses), np.array(rows))

    def lazily(self) -> xr.Dataset:
        """Return the forecast as dask arrays, one task a start."""
        frame = frame_of(self.ds, self.model.spec, times=self.window(self.starts.positions[0]))
        names: list[str] = []
        needed = self.ds[list(frame.variables)]
        if self.made_by.constraints:  # which may need more, and say what is missing at once
            packed, _, given = next(self._packed())
            names, needed = self.made_by.names(packed, frame.times, given), self.ds
        windows = [
            needed.isel({frame.time_dim: self.window(position)}, missing_dims="ignore")
            for position in self.starts.positions
        ]
        states, residuals = lazy_states(windows, self.made_by, names)
        return self._result(states, frame, self._inits(frame), names, residuals)

    def to_store(self, store: StepStore) -> xr.Dataset:
        """Write the forecast one step at a time and return it as read from the store."""
        several = self.starts.several
        with self._bar() as bar:
            for start, (packed, frame, given) in enumerate(self._packed()):
                for first, made, residuals in self.made_by(packed, frame.times, given, bar):
                    for step, states in enumerate(np.moveaxis(made, 1, 0), first - 1):
                        fc = self._step(states, frame, step, residuals)
                        if not store.begun:
                            store.begin(self._sign(fc, frame.times[-1:]), self._coords(frame))
                        place = {"init_time": start, "lead_time": step}
                        store.write(fc, place if several else {frame.time_dim: step})
        store.finish()
        return store.open(chunked=is_lazy(self.ds))

    def _step(
        self,
        states: NDArray[np.float32],
        frame: Frame,
        step: int,
        residuals: Mapping[str, NDArray[np.float64]],
    ) -> xr.Dataset:
        """Return one step (members, C, H, W) as it is stored."""
        members = self.made_by.members
        times = np.repeat(self._times(frame.times[-1:])[step : step + 1], len(states))
        fc = unpack(states, frame, time=times, variables=self.variables)
        fc = by_member(dequantify(fc).drop_encoding(), frame.time_dim, members)
        values = np.array([value[:, None] for value in residuals.values()])
        fc = with_residuals(fc, frame.time_dim, list(residuals), values, members)
        return self._laid_out(fc, frame, frame.times[-1:], self._leads()[:1])

    def _packed(self) -> Iterator[tuple[NDArray[np.float32], Frame, xr.Dataset]]:
        """Go through the starts: states, their layout, and the Dataset at the last of them."""
        for number, position in enumerate(self.starts.positions):
            states, frame = pack(self.ds, self.model.spec, times=self.window(position))
            narrowed(frame, self.variables)  # a wrong name is said before the network runs
            if number == 0:
                self._look_over(states[0], frame)
            given = self.ds.isel({frame.time_dim: [position]}, missing_dims="ignore")
            yield states, frame, given

    def _look_over(self, state: NDArray[np.float32], frame: Frame) -> None:
        """Warn of values of another unit than theirs."""
        samples = [
            Sample.converted(channel, field, state[channel])
            for field in frame.fields
            for channel in field.channels
        ]
        warn_if_implausible(samples, self.model.spec.channels, learned_of(self.model))

    def _result(
        self,
        states: Any,
        frame: Frame,
        inits: NDArray[Any],
        names: list[str],
        residuals: Any,
    ) -> xr.Dataset:
        """Label states (members * starts * steps, C, H, W) and residuals."""
        members = self.made_by.members
        times = np.tile(self._times(inits), members or 1)
        fc = unpack(states, frame, time=times, variables=self.variables)
        fc = by_member(fc, frame.time_dim, members)
        fc = with_residuals(fc, frame.time_dim, names, residuals, members)
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
        card, members = self.model.card, self.made_by.members
        first = inits[0] if len(inits) == 1 else f"{len(inits)} times from {inits[0]}"
        line = (
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} xwx {__version__}: forecast of {self.steps} "
            f"steps of {self.model.spec.step} by {card.name}, started at {first}"
            + (f", {members} members" if members else "")
        )
        before = fc.attrs.get("history")
        return fc.assign_attrs(
            history=f"{before}\n{line}" if before else line,
            xwx_version=__version__,
            xwx_model=card.name,
            xwx_model_licence=card.licence,
            xwx_model_sha256=card.sha256,
            xwx_seed=self.made_by.seed,
            **self.made_by.attrs,
            **self._noise(fc),
        )

    def _noise(self, fc: xr.Dataset) -> dict[str, str]:
        """Return the noise that each constraint was given."""
        if not isinstance(self.made_by, Sampled) or not self.made_by.constraints:
            return {}
        network: Any = self.model.network
        names = fc["constraint"].values.tolist()
        return noise_attrs(names, self.made_by.constraints, self.model.spec, network.std)

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
            unit_scale=not isinstance(self.made_by, Rolled),  # which moves on in fractions
            disable=wanted is False,
            delay=2 if wanted is None else 0,
        )
