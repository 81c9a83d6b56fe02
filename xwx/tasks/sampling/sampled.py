"""From what is demanded of states to a Dataset of samples, in the layout that was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from xwx.constraints import Constraint
from xwx.constraints.record import noise_attrs
from xwx.diffusion.settings import Sampling
from xwx.errors import MismatchError, ModelNotFoundError, Problem, XwxError
from xwx.fields import unpack
from xwx.models.checkpoint import Model
from xwx.models.registry import find_spec, list_models, load
from xwx.options import get_options
from xwx.spec import Spec
from xwx.tasks.layout import by_member, drop_packing, with_residuals
from xwx.tasks.sampling.onto import Layout
from xwx.tasks.sampling.posterior import demands, generative, posterior, scene_of
from xwx.version import __version__

__all__ = ["Samples", "choose_prior", "gathered", "settled"]

_T = TypeVar("_T")


def choose_prior(
    model: str | os.PathLike[str] | Model | None,
    device: str | None,
    prepare: Callable[[Spec, str], _T],
) -> tuple[Model, _T]:
    """Load a generative model that a Dataset fits, and prepare what is to be done with it.

    Parameters
    ----------
    model : str, path-like, Model or None
        None takes the first generative one of :func:`xwx.list_models` that `prepare` accepts.
    device : str, optional
    prepare : callable
        From what a model takes and its name to anything; raises MismatchError where the Dataset
        does not fit.

    Raises
    ------
    ModelNotFoundError
        When none was named and none fits, with the reasons of each.
    MismatchError
        When one was named and the Dataset does not fit it.
    ValueError
        When the one that was named makes a single forecast and cannot be sampled.
    """
    if model is not None:
        named = load(model, device=device)
        if not generative(named):
            raise ValueError(
                f"{named.name} cannot be sampled: its network ({type(named.network).__name__}) is "
                "deterministic, and this needs a generative model, such as one of the "
                "architecture wind"
            )
        return named, prepare(named.spec, named.name)
    reasons = []
    for name in list_models():
        try:
            ready = prepare(find_spec(name), name)
            found = load(name, device=device)
        except MismatchError as error:
            reasons.append("\n".join([f"{name}:", *(f"  {p}" for p in error.problems)]))
        except XwxError as error:
            reasons.append(f"{name}:\n  {error}")
        else:
            if generative(found):
                return found, ready
            reasons.append(f"{name}:\n  it is deterministic, and cannot be sampled")
    raise ModelNotFoundError(
        "no installed generative model fits the Dataset, and none was named:\n"
        + "\n".join(reasons or ["  none is installed"])
    )


def settled(
    constraints: Sequence[Constraint], sampling: Sampling | None
) -> tuple[tuple[Constraint, ...], Sampling]:
    """Return constraints and settings as they are used, or say what is wrong with them."""
    if isinstance(constraints, Constraint) or not isinstance(constraints, Sequence):
        raise TypeError(
            f"constraints is a {type(constraints).__name__}: give a list, such as "
            "constraints=[DryAirMass()]"
        )
    if sampling is not None and not isinstance(sampling, Sampling):
        raise TypeError(f"sampling={sampling!r}: give xwx.Sampling(...)")
    return tuple(constraints), sampling or Sampling()


def gathered(what: str, *parts: Callable[[], Any]) -> tuple[Any, ...]:
    """Call functions, and raise the problems of all of them at once.

    Raises
    ------
    MismatchError
        When one of them does.
    """
    done: list[Any] = []
    problems: list[Problem] = []
    for part in parts:
        try:
            done.append(part())
        except MismatchError as error:
            problems += error.problems
    if problems:
        raise MismatchError(list(dict.fromkeys(problems)), what)
    return tuple(done)


@dataclass(frozen=True, eq=False)
class Samples:
    """A series of states that is to be sampled, and what of it is returned.

    Attributes
    ----------
    layout : Layout
        How it is returned.
    times : array, shape (N,)
        Of all states that are sampled.
    positions : sequence of int
        Those that are returned; their times are those of the layout where `retimed` is not set.
    constraints : sequence of Constraint
    given : Dataset
        The user's, for the constraints.
    task : str
        What is done, for the history: "downscaled", "reconstructed".
    retimed : bool
        Whether the times that are returned are not those of the layout.
    scalar : bool
        Whether the one state that is returned has no dimension of time.
    """

    layout: Layout
    times: NDArray[Any]
    positions: Sequence[int]
    constraints: Sequence[Constraint]
    given: xr.Dataset
    task: str
    retimed: bool = False
    scalar: bool = False

    def draw(
        self,
        model: Model,
        *,
        members: int,
        seed: int,
        sampling: Sampling,
        progress: bool | None,
    ) -> xr.Dataset:
        """Sample, and lay out.

        Parameters
        ----------
        model : Model
            Generative.
        members : int
            How many samples; a single one has no dimension of members.
        seed : int
        sampling : Sampling
        progress : bool, optional
        """
        several = None if members == 1 else members
        states, residuals = self._drawn(model, members, seed, sampling, progress)
        out = drop_packing(self._laid_out(states, several))
        dim = self.layout.frame.time_dim
        values = np.array(list(residuals.values()))
        out = with_residuals(out, dim, list(residuals), values, several)
        if self.scalar:
            out = out.isel({dim: 0})
        return self._signed(out, model, members, seed, sampling)

    def _drawn(
        self,
        model: Model,
        members: int,
        seed: int,
        sampling: Sampling,
        progress: bool | None,
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float64]]]:
        """Return states (members, times, C, H, W) as laid out, and residuals (members, times)."""
        place = {number: at for at, number in enumerate(self.positions)}
        states = np.empty((members, len(place), *self.layout.shape), dtype=np.float32)
        residuals: dict[str, NDArray[np.float64]] = {}
        scene = scene_of(model, self.times, self.given)
        with self._bar(model, progress) as bar:
            pieces = posterior(
                model,
                scene,
                self.constraints,
                members=members,
                seed=seed,
                sampling=sampling,
                bar=bar,
            )
            for piece in pieces:
                for n in range(piece.states.shape[1]):
                    at = place.get(piece.first + n)
                    if at is None:
                        continue
                    wanted = self.layout.cut(piece.states[:, n])
                    self.layout.frame.place(wanted, states[:, at])
                    for name, values in piece.residuals.items():
                        whole = residuals.setdefault(name, np.empty((members, len(place))))
                        whole[:, at] = values
        return states, residuals

    def _laid_out(self, states: NDArray[np.float32], members: int | None) -> xr.Dataset:
        frame = self.layout.frame.placed
        times = self.times[list(self.positions)]
        first = unpack(states[0], frame, time=times if self.retimed else None)
        if members is None:
            return first
        flat = unpack(states.reshape(-1, *states.shape[2:]), frame, time=np.tile(times, members))
        split = by_member(flat, frame.time_dim, members)
        # other coordinates along time are those of the first
        return first.assign(split.data_vars).assign_coords(member=split["member"])

    def _signed(
        self, out: xr.Dataset, model: Model, members: int, seed: int, sampling: Sampling
    ) -> xr.Dataset:
        """Say in the attributes what made the samples."""
        card = model.card
        count = "a sample" if members == 1 else f"{members} samples"
        line = (
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} xwx {__version__}: {self.task} by {card.name},"
            f" {count} of {len(self.times)} states from {self.times[0]}"
        )
        before = out.attrs.get("history")
        return out.assign_attrs(
            history=f"{before}\n{line}" if before else line,
            xwx_version=__version__,
            xwx_model=card.name,
            xwx_model_licence=card.licence,
            xwx_model_sha256=card.sha256,
            xwx_seed=seed,
            **demands(sampling, self.constraints),
            **noise_attrs(
                out["constraint"].values.tolist(),
                self.constraints,
                model.spec,
                cast(Any, model.network).std,
            ),
        )

    def _bar(self, model: Model, progress: bool | None) -> Any:
        wanted = get_options()["progress"] if progress is None else progress
        return tqdm(
            total=len(self.times),
            desc=f"{self.task} {model.name}",
            unit="state",
            unit_scale=True,
            disable=wanted is False,
            delay=2 if wanted is None else 0,
        )
