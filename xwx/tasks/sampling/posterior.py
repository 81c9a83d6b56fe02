"""States drawn from a generative model, given what is demanded of them: what every task calls."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from xwx.constraints.scene import Constraint, Scene
from xwx.diffusion.background import Background
from xwx.diffusion.chain import Piece, Window, chain, plan_windows
from xwx.diffusion.guidance import Guidance
from xwx.diffusion.noise import member_generators
from xwx.diffusion.protocols import Observation
from xwx.diffusion.rounding import settle
from xwx.diffusion.schedule import Rectified
from xwx.diffusion.settings import Sampling
from xwx.errors import XwxError, XwxWarning
from xwx.fields import forcings
from xwx.models.checkpoint import Model
from xwx.tasks.run import precision, valid_times
from xwx.tasks.sampling.guiding import Demands, bind_all, deviations
from xwx.tasks.sampling.room import frozen, members_at_once

__all__ = ["Drawn", "demands", "generative", "posterior", "scene_of"]

#: Root mean square residuals beyond this many standard deviations are no noise.
_FAR = 4.0
#: And beyond this many, no sampler is to blame.
_ABSURD = 100.0
#: As many standard deviations may a background's systems leave unsolved: samples are off by that
#: share of their spread.
_LEFT = 0.1


def generative(model: Model) -> bool:
    """Whether a model draws from a distribution of states, so that this room can sample it."""
    return hasattr(model.network, "denoise")


class Drawn(NamedTuple):
    """Consecutive states of all members.

    Attributes
    ----------
    first : int
        The number of the first of them in ``Scene.times``.
    states : float32 array, shape (members, k, C, H, W)
        In canonical units.
    residuals : dict of str -> float64 array, shape (members,)
        Of each constraint by its name, in the order of the constraints: the root mean square of
        ``(A(x) - y) / sigma`` over the values that guided the window which these states are of;
        NaN where it had none there. The same names in every piece; a name that comes twice is
        numbered: ``observe``, ``observe_2``.
    """

    first: int
    states: NDArray[np.float32]
    residuals: Mapping[str, NDArray[np.float64]]


def scene_of(
    model: Model, times: NDArray[Any], given: xr.Dataset, start: NDArray[np.float32] | None = None
) -> Scene:
    """Return the scene of a generative model.

    Parameters
    ----------
    model : Model
        Its network denoises windows of states.
    times : array, shape (N,)
        Valid times of all states, one step of the model apart, that of `start` included:
        datetime64, or cftime objects.
    given : Dataset
        The user's.
    start : float32 array, shape (C, H, W), optional
        The first state in canonical units, as :func:`~xwx.fields.pack` makes it.

    Returns
    -------
    Scene
        Its tensors are on the CPU.
    """
    network = cast(Any, model.network)
    return Scene(
        spec=model.spec,
        window=network.frames,
        times=times,
        mean=network.mean.detach().cpu(),
        std=network.std.detach().cpu(),
        given=given,
        start=None if start is None else torch.from_numpy(start),
    )


def demands(sampling: Sampling, constraints: Sequence[Constraint]) -> dict[str, str]:
    """Return the attributes that say how a result was sampled.

    ``xwx_sampling`` as JSON, and ``xwx_constraints`` as text where there are any.
    """
    out = {"xwx_sampling": sampling.to_json()}
    if constraints:
        out["xwx_constraints"] = ", ".join(map(_in_words, constraints))
    return out


def _in_words(constraint: Any) -> str:
    """Return a constraint as one would write it, Datasets by their variables."""
    given = []
    for field in dataclasses.fields(constraint) if dataclasses.is_dataclass(constraint) else ():
        value = getattr(constraint, field.name)
        if isinstance(value, xr.Dataset):
            given.append(f"{field.name}=<{', '.join(map(str, value.data_vars))}>")
        elif callable(value):
            given.append(f"{field.name}=<{getattr(value, '__name__', type(value).__name__)}>")
        elif value is not field.default:
            text = repr(value)
            given.append(f"{field.name}={text if len(text) <= 80 else f'<{type(value).__name__}>'}")
    return f"{type(constraint).__name__}({', '.join(given)})"


def posterior(
    model: Model,
    scene: Scene,
    constraints: Sequence[Constraint] = (),
    *,
    members: int,
    seed: int,
    sampling: Sampling | None = None,
    bar: Any = None,
) -> Iterator[Drawn]:
    """Iterate over the states that a generative model gives to a scene, a window at a time.

    Everything is checked and all constraints are bound at the call; nothing is sampled before the
    first piece is asked for. What a piece does not hold is forgotten but for the last state.

    Parameters
    ----------
    model : Model
        Its network has ``denoise``, ``frames``, ``mean`` and ``std``; it runs where it is, so
        choose the device with :func:`~xwx.tasks.choose.choose_model`.
    scene : Scene
        See :func:`scene_of`. A start is the same for all members, and is not among the pieces:
        with it they begin with state 1 of ``scene.times``, without it with state 0.
    constraints : sequence of Constraint
        Of :mod:`xwx.constraints`; none draws from the prior.
    members : int
        How many samples.
    seed : int
        Member m draws the same numbers whatever `members` and ``sampling.batch`` are.
    sampling : Sampling, optional
        By default ``Sampling()``.
    bar : tqdm, optional
        Whose total is the number of states in all pieces; moves on with every network evaluation
        by a fraction, so give it ``unit_scale=True``.

    Returns
    -------
    iterator of Drawn
        Without gaps, each state once.

    Raises
    ------
    MismatchError
        When constraints lack something; lists every problem of all of them.
    ValueError
        When the constraints need more states at a time than the model sees, or there is nothing
        to sample.
    XwxError
        While iterating: when the network gives a value that is not finite.

    Warns
    -----
    XwxWarning
        When a constraint is missed by more than four times its noise, or so much is known so
        precisely that ``guidance="background"`` ends before its systems are solved.
    """
    sampling = Sampling() if sampling is None else sampling
    given = 0 if scene.start is None else 1
    if len(scene.times) <= given:
        raise ValueError(f"{len(scene.times)} states, {given} of them given: nothing to sample")
    background = _background(model) if sampling.guidance == "background" else None
    asked = Demands(bind_all(constraints, scene), scene, sampling, model.device, background)
    size = sampling.batch or members_at_once(
        model, members, sampling, guided=len(constraints) > 0, device=model.device
    )
    shared = _Shared(model, scene, asked, sampling, members, bar)
    generators = member_generators(seed, range(members))
    batches = [slice(n, min(n + size, members)) for n in range(0, members, size)]
    return _Pieces(shared, [(some, shared.sampled(generators[some], some)) for some in batches])


def _background(model: Model) -> Background:
    """Return the background that a model came with.

    Raises
    ------
    ValueError
        When it has none.
    """
    background = Background.of(model.network, model.spec.grid)
    if background is None:
        raise ValueError(
            f"guidance='background': {model.name} was trained without one; take "
            "xwx.Sampling(guidance='mmps'), or train with background = true in [network]"
        )
    return background


class _Shared:
    """What all members share: the network, the windows, and what is known of the present one."""

    def __init__(
        self,
        model: Model,
        scene: Scene,
        asked: Demands,
        sampling: Sampling,
        members: int,
        bar: Any,
    ) -> None:
        self.model, self.scene, self.asked, self.sampling = model, scene, asked, sampling
        self.members, self.bar, self.device = members, bar, model.device
        self.windows = plan_windows(len(scene.times), scene.window, asked.groups)
        self.mean, self.std = (u.to(self.device, torch.float32) for u in (scene.mean, scene.std))
        self.places: dict[str, slice] = {}
        # Guidance goes backward; a copy takes as long as a small network's step.
        self._network: Any = frozen(model.network) if asked.names else model.network
        self._forcing: Tensor | None = None
        self._guide: Guidance | None = None
        self._strict: Observation | None = None
        self._warned: set[str] = set()
        self._ended = False
        self._added = self._calls = self._told = 0

    def enter(self, window: Window, added: int) -> None:
        """Make what the window needs, which adds so many states."""
        covered = range(window.start, window.start + self.scene.window)
        self._forcing = self._forcings(covered)
        self._guide, self.places, self._strict = self.asked.guide(covered)
        self._added, self._calls, self._told = added, 0, 0

    def sampled(self, generators: Sequence[torch.Generator], some: slice) -> Iterator[Piece]:
        """Return the windows of some members."""
        spec, start = self.model.spec, self.scene.start
        context = None
        if start is not None:
            normal = (start.to(self.device, torch.float32) - self.mean) / self.std
            context = normal.expand(len(generators), 1, *normal.shape)
        return chain(
            lambda number, covered: self._denoise,
            len(self.scene.times),
            (self.scene.window, len(spec.channels), *spec.grid.shape),
            schedule=Rectified(),
            generators=generators,
            context=context,
            groups=self.asked.groups,
            steps=self.sampling.steps,
            eta=self.sampling.eta,
            guidance=lambda number, covered: None if self._guide is None else self._guide.of(some),
            device=self.device,
        )

    def settled(self, states: Tensor, first: int) -> Tensor:
        """Meet strict values with the numbers that are returned, of states from `first` on."""
        if self._strict is None:
            return states
        own = range(first, first + states.shape[1])
        window = states[:, :1].expand(-1, self.scene.window, -1, -1, -1).clone()
        window[:, own.start : own.stop] = states
        return settle(self._strict, window, own)[:, own.start : own.stop]

    def judge(self, residuals: Mapping[str, NDArray[np.float64]], window: Window) -> None:
        """Warn, once for each constraint, where samples are far from what is demanded of them."""
        for name, values in residuals.items():
            worst = float(np.max(values))
            if worst > _FAR and name not in self._warned:  # NaN is where there is no demand
                self._warned.add(name)
                warnings.warn(
                    f"the constraint {name!r} is missed by {worst:.1f} times its noise in the "
                    f"window from {self.scene.times[window.start]}: {self._remedy(worst)}",
                    XwxWarning,
                    stacklevel=2,
                )

    def judge_solution(self, window: Window) -> None:
        """Warn, once, where the systems of the background were not solved."""
        left = self.asked.unsolved
        if self._ended or left <= _LEFT:
            return
        self._ended = True
        warnings.warn(
            f"guidance='background' ended before its systems were solved in the window from "
            f"{self.scene.times[window.start]}: {left:.2g} times the noise of the constraints is "
            f"left (root mean square), where {_LEFT:g} does no harm. So many values are too "
            "precise to be met together: give the constraints a larger noise, or fewer values",
            XwxWarning,
            stacklevel=2,
        )

    def _remedy(self, worst: float) -> str:
        """Say what brings samples nearer to a constraint that they miss."""
        if worst > _ABSURD:
            return (
                "so far off are values of another unit than theirs, fill values that are not NaN, "
                "or a noise that is far too small"
            )
        contradict = "where constraints contradict each other, or the model, a larger noise says so"
        if self.sampling.guidance != "mmps":
            return contradict
        more = 2 * self.sampling.iterations
        return (
            f"more iterations come nearer, sampling=xwx.Sampling(iterations={more}); {contradict}"
        )

    def finite(self, states: NDArray[np.float32], window: Window) -> None:
        """Refuse states (members, k, C, H, W) that are none."""
        if np.isfinite(states).all():
            return
        channels = zip(self.model.spec.channels, np.moveaxis(states, 2, 0), strict=True)
        bad = [str(channel) for channel, field in channels if not np.isfinite(field).all()]
        raise XwxError(
            f"{self.model.name} gave values that are not finite in the window from "
            f"{self.scene.times[window.start]} in {', '.join(bad)}: check the input for extremes, "
            "and the values and the noise of the constraints"
        )

    def _denoise(self, z: Tensor, t: Tensor) -> Tensor:
        with precision(self.device):
            x: Tensor = self._network.denoise(z, self._forcing, t)
        self._tell(len(z))
        return x

    def _tell(self, members: int) -> None:
        """Move the bar: in 1024ths, whose sums have no rounding, so that it ends at its total."""
        if self.bar is None:
            return
        self._calls += members
        told = 1024 * self._added * self._calls // (self.members * self.sampling.steps)
        self.bar.update((told - self._told) / 1024)
        self._told = told

    def _forcings(self, covered: range) -> Tensor | None:
        """Return the forcings (1, T, F, H, W) of a window, which may hang over the end."""
        spec, times = self.model.spec, self.scene.times
        if not spec.forcings:
            return None
        known = times[covered.start : covered.stop]
        after = valid_times(times[-1], spec.step, len(covered) - len(known))
        fields = forcings(np.concatenate([known, after]), spec.grid, spec.forcings)
        return torch.from_numpy(fields)[None].to(self.device)


class _Pieces(Iterator[Drawn]):
    """Goes through the windows; a generator's frame would keep each piece until the next."""

    def __init__(self, shared: _Shared, parts: Sequence[tuple[slice, Iterator[Piece]]]) -> None:
        self._shared, self._parts, self._number = shared, parts, 0

    def __next__(self) -> Drawn:
        """Sample a window of all members, some after others."""
        shared = self._shared
        if self._number >= len(shared.windows):
            raise StopIteration
        window = shared.windows[self._number]
        given = 1 if self._number == 0 and shared.scene.start is not None else 0
        first = window.context + given
        shared.enter(window, window.keep - first)
        shape = (len(shared.model.spec.channels), *shared.model.spec.grid.shape)
        states = np.empty((shared.members, window.keep - first, *shape), dtype=np.float32)
        residuals = {name: np.full(shared.members, np.nan) for name in shared.asked.names}
        for some, part in self._parts:
            piece = next(part)
            physical = torch.addcmul(shared.mean, piece.frames[:, given:], shared.std)
            states[some] = shared.settled(physical.cpu(), first).numpy()
            shared.finite(states[some], window)
            if piece.residual is not None:
                for name, value in deviations(piece.residual, shared.places).items():
                    residuals[name][some] = value
        shared.judge(residuals, window)
        shared.judge_solution(window)
        self._number += 1
        return Drawn(window.start + first, states, residuals)
