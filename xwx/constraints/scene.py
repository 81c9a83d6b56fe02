"""What a constraint is told of the series of states that is sampled, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from xwx.diffusion.protocols import Observation
from xwx.spec import Spec

__all__ = ["Bound", "Constraint", "Scene"]


@dataclass(frozen=True, eq=False)
class Scene:
    """The series of states that is to be sampled.

    Attributes
    ----------
    spec : Spec
        Channels in canonical units, grid and step of the model.
    window : int
        T, the states that the model sees at once.
    times : array, shape (N,)
        Valid times of all states, one step apart, the given first ones included: datetime64, or
        cftime objects.
    mean, std : Tensor, shape (C, 1, 1)
        The model's, of each channel in its canonical unit.
    given : Dataset
        The user's, for what constraints need beside the model's channels, such as the orography.
    start : Tensor, shape (C, H, W), or None
        The state that the series starts from, in canonical units; None where nothing is given.
    """

    spec: Spec
    window: int
    times: NDArray[Any]
    mean: Tensor
    std: Tensor
    given: xr.Dataset
    start: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Bound:
    """A constraint on one series of states.

    Attributes
    ----------
    name : str
        What the residual is called by in the result.
    observe : callable
        From the states of a window, ``range(first, first + T)`` in `Scene.times`, to what is
        observed of them: an operator on *physical* states (B, T, C, H, W) whose frames count from
        the start of the window; None where nothing is. The range may end after the series does.
    groups : tuple of range
        States that one window has to hold together, such as those of a daily mean.
    """

    name: str
    observe: Callable[[range], Observation | None]
    groups: tuple[range, ...] = ()


@runtime_checkable
class Constraint(Protocol):
    """What a user may demand of a sample."""

    def bind(self, scene: Scene) -> Bound:
        """Return the constraint on a series of states.

        Raises
        ------
        MismatchError
            When the model or the Dataset lacks what it needs; lists every problem.
        """
        ...
