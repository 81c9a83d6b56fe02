"""What makes the states that follow a start: a rollout, or samples of a generative model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.constraints.scene import Constraint, Scene
from xwx.diffusion.settings import Sampling
from xwx.models.checkpoint import Model
from xwx.tasks.arguments import whole_number
from xwx.tasks.run import remembered, run, valid_times
from xwx.tasks.sampling.guiding import bind_all, numbered
from xwx.tasks.sampling.posterior import Drawn, demands, generative, posterior, scene_of

__all__ = ["Engine", "Rolled", "Sampled", "engine"]


@dataclass(frozen=True)
class Rolled:
    """One forecast of each start, a step at a time."""

    model: Model
    steps: int
    seed: int
    cache: int
    members = None
    constraints = ()

    @property
    def attrs(self) -> dict[str, Any]:
        """What the attributes of the result say of this."""
        return {"xwx_cache": self.cache}

    def names(
        self, states: NDArray[np.float32], times: NDArray[Any], given: xr.Dataset
    ) -> list[str]:
        """Return the names of the constraints."""
        return []

    def __call__(
        self, states: NDArray[np.float32], times: NDArray[Any], given: xr.Dataset, bar: Any = None
    ) -> Iterator[Drawn]:
        """Iterate over the states after the last of (history, C, H, W), which has the number 0."""
        ahead = run(self.model, states, times, self.steps, self.seed, self.cache)
        for step, state in enumerate(ahead):
            yield Drawn(step + 1, state[None, None], {})
            if bar is not None:
                bar.update()


@dataclass(frozen=True)
class Sampled:
    """Members of each start, a window at a time."""

    model: Model
    steps: int
    seed: int
    members: int | None
    constraints: Sequence[Constraint]
    sampling: Sampling

    @property
    def attrs(self) -> dict[str, Any]:
        """What the attributes of the result say of this."""
        return demands(self.sampling, self.constraints)

    def names(
        self, states: NDArray[np.float32], times: NDArray[Any], given: xr.Dataset
    ) -> list[str]:
        """Return the names of the constraints, which are bound for that."""
        bounds = bind_all(self.constraints, self._scene(states, times, given))
        return list(numbered([bound.name for bound in bounds]))

    def __call__(
        self, states: NDArray[np.float32], times: NDArray[Any], given: xr.Dataset, bar: Any = None
    ) -> Iterator[Drawn]:
        """Iterate over the states after the last of (history, C, H, W), which has the number 0."""
        return posterior(
            self.model,
            self._scene(states, times, given),
            self.constraints,
            members=self.members or 1,
            seed=self.seed,
            sampling=self.sampling,
            bar=bar,
        )

    def _scene(self, states: NDArray[np.float32], times: NDArray[Any], given: xr.Dataset) -> Scene:
        ahead = valid_times(times[-1], self.model.spec.step, self.steps)
        return scene_of(self.model, np.concatenate([times[-1:], ahead]), given, states[-1])


Engine: TypeAlias = Rolled | Sampled


def engine(
    model: Model,
    steps: int,
    seed: int,
    *,
    cache: int | None,
    members: int | None,
    constraints: Sequence[Constraint],
    sampling: Sampling | None,
) -> Engine:
    """Return what makes the states of a model.

    Raises
    ------
    TypeError, ValueError
        For arguments that this kind of model does not take.
    """
    kept = remembered(model, cache)
    members = None if members is None else whole_number("members", members, 1, 10, "members")
    if sampling is not None and not isinstance(sampling, Sampling):
        raise TypeError(f"sampling={sampling!r}: give xwx.Sampling(...)")
    if generative(model):
        return Sampled(model, steps, seed, members, constraints, sampling or Sampling())
    asked = {
        f"members={members}": members is not None,
        "constraints": len(constraints) > 0,
        "sampling": sampling is not None,
    }
    if wrong := ", ".join(name for name, there in asked.items() if there):
        raise ValueError(
            f"{wrong}: {model.name} ({type(model.network).__name__}) is deterministic, one start "
            "has one forecast: leave this out, or take a generative model; members of a "
            "deterministic one are forecasts of perturbed Datasets, joined along member"
        )
    return Rolled(model, steps, seed, kept)
