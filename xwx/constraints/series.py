"""What the constraints have in common: their place in the series, and their words for a fault."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xwx.constraints.scene import Scene
from xwx.errors import MismatchError, Problem
from xwx.fields.clock import show
from xwx.fields.foreign import Foreign
from xwx.fields.instants import Clock
from xwx.fields.plausible import Learned, Sample, warn_if_implausible

__all__ = ["Timed", "clock_of", "given_alone", "held", "learned", "refuse", "require_values"]


def clock_of(scene: Scene) -> Clock:
    """Return the times of a series, to find others in."""
    return Clock(scene.times, scene.spec.step)


def held(window: range, scene: Scene, first: int = 0) -> range:
    """Return the states of a window that are of the series, from the `first` on."""
    return range(max(window.start, first), min(window.stop, len(scene.times)))


def refuse(problems: Sequence[Problem], what: str, argument: str = "values") -> None:
    """Raise the problems of the Dataset that was given as `argument`, if there are any."""
    if problems:
        named = [
            replace(p, remedy=re.sub(r"\bds\b", argument, p.remedy))
            for p in dict.fromkeys(problems)
        ]
        raise MismatchError(named, what=what)


def learned(scene: Scene) -> Learned | None:
    """Return what the model of a series has seen."""
    return Learned.of(scene.mean.detach().cpu(), scene.std.detach().cpu())


def given_alone(states: NDArray[np.intp], scene: Scene) -> list[Problem]:
    """Return the problem of values that are all of the state which is given, and not sampled."""
    if scene.start is None or (states > 0).any():
        return []
    when = show(scene.times[0])
    return [
        Problem(
            kind="given-state",
            where="values",
            message=(
                f"all are of {when}, the state that the forecast starts from: that is given, and "
                "nothing of what follows is demanded"
            ),
            remedy=(
                f"give values after {when}; to change the start itself, reconstruct or downscale "
                "it with them, and forecast what that returns"
            ),
        )
    ]


@dataclass(frozen=True, eq=False)
class Timed:
    """Values of a Dataset, each at a state of the series.

    Attributes
    ----------
    seen : Foreign
    states : array of int, shape (n,)
        The state of each of the `positions` in its time axis.
    positions : array of int, shape (n,)
    """

    seen: Foreign
    states: NDArray[np.intp]
    positions: NDArray[np.intp]

    def of(self, states: range) -> tuple[list[int], Tensor]:
        """Return which of these states have values, and the values (n, channels, rows, columns)."""
        here = (self.states >= states.start) & (self.states < states.stop)
        values = self.seen.read(self.positions[here].tolist())
        return self.states[here].tolist(), torch.from_numpy(values)


def require_values(
    seen: Foreign, positions: NDArray[Any], what: str, argument: str, scene: Scene
) -> None:
    """Refuse a Dataset that holds nothing but NaN at these positions in time.

    The first values are looked at: those of another unit than theirs give a warning.
    """
    for n in positions:
        values = seen.read([int(n)])[0]
        if np.isfinite(values).any():
            samples = map(Sample.converted, seen.channels, seen.fields, values)
            warn_if_implausible(samples, scene.spec.channels, learned(scene))
            return
    problem = Problem(
        kind="nothing-observed",
        where=", ".join(dict.fromkeys(seen.names)),
        message=f"all of its values at {positions.size} times are NaN: nothing is observed",
        remedy="look at what was opened or selected: ds.notnull().sum()",
    )
    refuse([problem], what, argument)
