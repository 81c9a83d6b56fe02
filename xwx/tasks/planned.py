"""What a plan says, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from xwx.errors import Problem

__all__ = ["Plan", "human_size", "human_time"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan:
    """What a forecast will take, as :func:`xwx.tasks.plan.plan` predicts it.

    Sizes are in bytes, times in seconds.

    Attributes
    ----------
    model, device, precision : str
    steps, starts, cache : int
        Steps of each forecast, how many starts, and how many steps the network remembers.
    members : int or None
        Of each start; None where there is no ensemble.
    evaluations : int
        Calls of the network for all starts: one a step, or those of a sampler.
    parameters : int
        How many numbers of the network were trained.
    weights : int
        Of the parameters and buffers of the network.
    states : int
        Of the states on the device: the given ones, those that the network sees next, the newest.
    memory : int
        Of keys and values that the network remembers, when the memory is full.
    activations : int or None
        What a step needs beyond these at its worst moment; None where this cannot be predicted.
    device_free : int or None
        Free memory of the device, weights that are there already counted as free; None where the
        device does not tell.
    in_memory : int
        Main memory of the result without a store. If it is lazy, of one start.
    with_store : int
        Main memory of a step on its way to a store.
    lazy : bool
        Whether the result is dask-backed, computed start by start.
    ram_free : int or None
        As `device_free`, of the main memory.
    store : str or None
        The store asked for.
    disk : int
        Of the values in a store without compression, which is the most that they take.
    disk_free : int or None
        Free disk at the store, None without one.
    chunks : dict of str -> tuple of int
        Shape of the chunks of each variable in a store: one step of one start.
    seconds_per_step : float or None
        About how long a step takes; None where this cannot be predicted. See `seconds`.
    problems : tuple of Problem
        What does not fit, each with its remedy.
    notes : tuple of str
        What the numbers leave out.
    """

    model: str
    device: str
    precision: str
    steps: int
    starts: int
    members: int | None
    cache: int
    evaluations: int
    parameters: int
    weights: int
    states: int
    memory: int
    activations: int | None
    device_free: int | None
    in_memory: int
    with_store: int
    lazy: bool
    ram_free: int | None
    store: str | None
    disk: int
    disk_free: int | None
    chunks: Mapping[str, tuple[int, ...]]
    seconds_per_step: float | None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether nothing is known to be too large."""
        return not self.problems

    @property
    def device_memory(self) -> int:
        """Peak of what torch allocates on the device; without activations where unknown."""
        return self.weights + self.states + self.memory + (self.activations or 0)

    @property
    def host_memory(self) -> int:
        """Peak of the main memory beside that of the device, for the result as asked for."""
        return self.in_memory if self.store is None else self.with_store

    @property
    def seconds(self) -> float | None:
        """About how long all steps take: an order of magnitude, not an appointment."""
        if self.seconds_per_step is None:
            return None
        return self.seconds_per_step * self.steps * self.starts

    def _rows(self) -> list[tuple[str, str]]:
        unknown = self.activations is None
        least = "at least " if unknown else ""
        rows = [
            ("device memory", f"{least}{_of(self.device_memory, self.device_free)}"),
            ("    weights", f"{human_size(self.weights)}, {self.parameters:,} parameters"),
            ("    states", human_size(self.states)),
        ]
        if self.cache:
            rows.append(("    cache", f"{human_size(self.memory)}, {self.cache} steps remembered"))
        activations = "unknown" if self.activations is None else human_size(self.activations)
        rows.append(("    activations", activations))
        held, stored = human_size(self.in_memory), human_size(self.with_store)
        kind = " a start, computed start by start" if self.lazy else ""
        rows.append(("result in memory", f"{held}{kind}; {stored} with a store"))
        rows.append(("main memory", _of(self._main, self.ram_free)))
        disk = f"{_of(self.disk, self.disk_free)}, before compression"
        rows.append(("disk of a store", f"{disk}, in chunks of one step"))
        if self.seconds_per_step is None or self.seconds is None:
            rows.append(("time", "unknown"))
        else:
            step = human_time(self.seconds_per_step)
            rows.append(("time", f"about {human_time(self.seconds)}, {step} a step"))
        if self.evaluations != self.steps * self.starts:
            rows.append(("    network calls", f"{self.evaluations:,}"))
        return rows

    @property
    def _main(self) -> int:
        """Main memory: that of the result, and that of the device where it is the same."""
        return self.host_memory + (self.device_memory if self.device == "cpu" else 0)

    def _head(self) -> str:
        starts = f" from {self.starts} starts" if self.starts > 1 else ""
        members = f", {self.members} members," if self.members else ""
        where = f"on {self.device} in {self.precision}"
        return f"{self.steps} steps{starts} of {self.model}{members} {where}"

    def _verdict(self) -> list[str]:
        return [str(p) for p in self.problems] or ["nothing is known to be too large"]

    def __repr__(self) -> str:
        rows = [f"    {key:<18}{value}" for key, value in self._rows()]
        lines = [f"<xwx.Plan: {self._head()}>", *rows, *self._verdict(), *self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(key.strip())}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for key, value in self._rows()
        )
        lines = "".join(f"<div>{escape(line)}</div>" for line in (*self._verdict(), *self.notes))
        return f"<div><b>xwx.Plan</b> {escape(self._head())}<table>{rows}</table>{lines}</div>"


def _of(need: int, free: int | None) -> str:
    return human_size(need) + ("" if free is None else f" of {human_size(free)} free")


def human_size(count: int) -> str:
    """Return bytes in decimal units with three digits: ``1.23 GB``."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def human_time(seconds: float) -> str:
    """Return a time with two digits in the unit that suits it: ``2.4 s``, ``13 min``."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= 1.5 * size or (unit == "s" and seconds >= 0.995):
            return (
                f"{seconds / size:.2g} {unit}"
                if seconds / size < 99.5
                else f"{seconds / size:.0f} {unit}"
            )
    return f"{1e3 * seconds:.2g} ms" if seconds < 0.0995 else f"{1e3 * seconds:.0f} ms"
