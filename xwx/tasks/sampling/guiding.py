"""Constraints bound to a series of states, and what they make of each of its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xwx.constraints.scene import Bound, Constraint, Scene
from xwx.diffusion.background import Background
from xwx.diffusion.cells import Movable
from xwx.diffusion.guidance import Guidance
from xwx.diffusion.protocols import Observation
from xwx.diffusion.settings import Sampling
from xwx.diffusion.stack import stack, standardised
from xwx.errors import MismatchError, Problem

__all__ = ["Demands", "bind_all", "deviations", "numbered"]


def bind_all(constraints: Sequence[Constraint], scene: Scene) -> tuple[Bound, ...]:
    """Bind constraints to a series of states.

    Raises
    ------
    TypeError
        For something that is no constraint.
    MismatchError
        With the problems of all constraints.
    """
    if isinstance(constraints, Constraint) or not isinstance(constraints, Sequence):
        raise TypeError(
            f"constraints is a {type(constraints).__name__}: give a list, such as "
            "constraints=[DryAirMass()]"
        )
    bounds: list[Bound] = []
    problems: list[Problem] = []
    for constraint in constraints:
        if not isinstance(constraint, Constraint):
            raise TypeError(
                f"constraints holds a {type(constraint).__name__}: give those of xwx.constraints"
            )
        try:
            bounds.append(constraint.bind(scene))
        except MismatchError as error:
            name = type(constraint).__name__
            problems += [replace(p, where=f"{name}: {p.where}") for p in error.problems]
    if problems:
        raise MismatchError(list(dict.fromkeys(problems)), what="the constraints")
    return tuple(bounds)


class Demands:
    """What bound constraints demand, window by window.

    Parameters
    ----------
    bounds : sequence of Bound
    scene : Scene
    sampling : Sampling
    device : torch.device
        Where the states are sampled.
    background : Background, optional

    Attributes
    ----------
    names : tuple of str
        Of the constraints, each once: the second of a name gets a number.
    groups : tuple of range
        States that no two windows may share out.
    unsolved : float
        What the systems of ``guidance="background"`` left unsolved in the present window at worst,
        of the steps that count: a root mean square in standard deviations of the errors.
    """

    def __init__(
        self,
        bounds: Sequence[Bound],
        scene: Scene,
        sampling: Sampling,
        device: torch.device,
        background: Background | None = None,
    ) -> None:
        self._background = background
        self._bounds, self._sampling, self._device = bounds, sampling, device
        # Apple's GPUs have no float64.
        self._exact = torch.float32 if device.type == "mps" else torch.float64
        self._mean, self._std = scene.mean.cpu().double(), scene.std.cpu().double()
        self.names = numbered([bound.name for bound in bounds])
        self.groups = tuple(group for bound in bounds for group in bound.groups)
        self.unsolved = 0.0

    def guide(self, covered: range) -> tuple[Guidance | None, dict[str, slice], Observation | None]:
        """Return what guides a window, which of its values are whose, and what is strict.

        The last is of physical states, on the CPU.
        """
        self.unsolved = 0.0
        observed: list[Observation] = []
        places: dict[str, slice] = {}
        count = 0
        for name, bound in zip(self.names, self._bounds, strict=True):
            observation = bound.observe(covered)
            if observation is None or observation.operator.size == 0:
                continue
            observed.append(replace(observation, value=observation.value.cpu().double()))
            places[name] = slice(count, count := count + observation.operator.size)
        if not observed:
            return None, {}, None
        sampling = self._sampling
        guidance = Guidance(
            self._moved(standardised(stack(observed), self._mean, self._std)),
            mode=sampling.guidance,
            solver=sampling.solver,
            iterations=sampling.iterations,
            dtype=self._exact,
            background=self._background,
            report=self._note,
        )
        strict = [o for o in observed if bool(o.demanded.any())]
        return guidance, places, stack(strict) if strict else None

    def _note(self, left: Tensor) -> None:
        """Remember what the systems of some members left at a step."""
        worst = float(left.nan_to_num(nan=torch.inf).max())
        self.unsolved = max(self.unsolved, worst)

    def _moved(self, observation: Observation) -> Observation:
        operator = observation.operator
        return Observation(
            operator.to(self._device) if isinstance(operator, Movable) else operator,
            observation.value.to(self._device, self._exact),
            observation.variances.to(self._device, self._exact),
            observation.demanded.to(self._device),
        )


def deviations(residual: Tensor, places: dict[str, slice]) -> dict[str, NDArray[np.float64]]:
    """Return the root mean square (B,) of each constraint's part of the residual (B, M)."""
    squares = residual.double().square()
    return {name: squares[:, own].mean(1).sqrt().cpu().numpy() for name, own in places.items()}


def numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that are all different: ``observe``, ``observe_2``."""
    out: list[str] = []
    for name in names:
        number, new = 1, name
        while new in out:
            number += 1
            new = f"{name}_{number}"
        out.append(new)
    return tuple(out)
