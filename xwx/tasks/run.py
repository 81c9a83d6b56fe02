"""One rollout in arrays: from packed states and their times to the states that follow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from xwx.errors import XwxError
from xwx.fields import forcings
from xwx.models.checkpoint import Model
from xwx.models.rollout import rollout
from xwx.options import get_options

__all__ = ["precision", "remembered", "run", "valid_times"]


def valid_times(last: Any, step: timedelta, steps: int) -> NDArray[Any]:
    """Return the times of `steps` forecast states after `last` (datetime64 or cftime)."""
    if isinstance(last, np.datetime64):
        return last + np.arange(1, steps + 1) * np.timedelta64(step)
    return np.array([last + n * step for n in range(1, steps + 1)])


def remembered(model: Model, cache: int | None) -> int:
    """Return how many steps a forecast remembers.

    Parameters
    ----------
    model : Model
    cache : int or None
        What was asked for; None for what the network was fine-tuned with.

    Raises
    ------
    ValueError
        When the network cannot remember so many steps.
    """
    if not hasattr(model.network, "remember"):
        if cache:
            raise ValueError(
                f"cache={cache}: the network of {model.name} ({type(model.network).__name__}) has "
                "no memory, leave cache out"
            )
        return 0
    memory = cast(Any, model.network).remember(cache)
    return max((m.length for m in memory or () if m is not None), default=0)


def run(
    model: Model,
    states: NDArray[np.float32],
    times: NDArray[Any],
    steps: int,
    seed: int,
    cache: int = 0,
) -> Iterator[NDArray[np.float32]]:
    """Yield forecast states (C, H, W) one by one.

    Parameters
    ----------
    model : Model
    states : float32 array, shape (history, C, H, W)
        The latest packed states, oldest first.
    times : array, shape (history,)
        Their valid times.
    steps : int
    seed : int
        For networks that draw random numbers.
    cache : int
        How many steps the network's attention remembers.

    Raises
    ------
    XwxError
        When the network gives a value that is not finite.
    """
    spec, device = model.spec, model.device
    future = np.concatenate([times[-1:], valid_times(times[-1], spec.step, steps)])

    def forcing(step: int) -> torch.Tensor | None:
        if not spec.forcings:
            return None
        fields = forcings(future[step : step + 1], spec.grid, spec.forcings)
        return torch.from_numpy(fields).to(device)

    x = torch.from_numpy(states)[None].to(device)
    memory = cast(Any, model.network).remember(cache) if cache else None
    ahead = rollout(model.network, x, steps, forcing, memory)
    del x, memory  # the rollout lets them go after its first step
    draws = _Draws(seed, device)
    for step in range(1, steps + 1):
        with torch.inference_mode(), draws, precision(device):
            y = next(ahead)[0].float().cpu().numpy()
        if not np.isfinite(y).all():
            fields = zip(spec.channels, y, strict=True)
            bad = [str(channel) for channel, field in fields if not np.isfinite(field).all()]
            raise XwxError(
                f"{model.name} gave values that are not finite at step {step} "
                f"({step * spec.step} after {times[-1]}) in {', '.join(bad)}: check the input "
                f"for extremes, or forecast fewer than {step} steps"
            )
        yield y


class _Draws:
    """A stream of random numbers of its own, so that the caller's is left as it was.

    Torch has one stream for all threads: networks that run in several take turns.
    """

    _turn = threading.RLock()

    def __init__(self, seed: int, device: torch.device) -> None:
        self.cuda = device if device.type == "cuda" else None
        with self._turn:
            before = self._states()
            torch.manual_seed(seed)
            self.own = self._states()
            self._set(before)
        self.before = before

    def _states(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        return states if self.cuda is None else [*states, torch.cuda.get_rng_state(self.cuda)]

    def _set(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.cuda is not None:
            torch.cuda.set_rng_state(states[1], self.cuda)

    def __enter__(self) -> None:
        self._turn.acquire()
        self.before = self._states()
        self._set(self.own)

    def __exit__(self, *exception: object) -> None:
        self.own = self._states()
        self._set(self.before)
        self._turn.release()


def precision(device: torch.device) -> Any:
    """Return the context in which a network runs in the precision of the options."""
    if get_options()["precision"] == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
