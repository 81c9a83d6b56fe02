"""How to sample: one frozen group of settings for every task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import get_args

from xwx.diffusion.guidance import Mode, Solver

__all__ = ["Sampling"]

_WHOLE: Mapping[str, str] = {
    "steps": "denoiser calls for each window",
    "iterations": "iterations of the solver at each step",
    "batch": "members in one call of the network",
}


@dataclass(frozen=True)
class Sampling:
    """How states are drawn from a generative model.

    Attributes
    ----------
    steps : int
        Calls of the network for each window of states.
    eta : float
        From 0, where all that is random is what sampling starts from, to 1, where as much noise
        is added on the way as DDPM adds.
    guidance : {"mmps", "background", "pigdm", "tmpd", "dps"}
        How constraints guide; see :class:`xwx.diffusion.guidance.Guidance`. ``"mmps"`` takes the
        network's own word for what belongs together, ``"background"`` that of the waves of the
        training period, which is cheaper and better conditioned where much is observed;
        ``"pigdm"`` costs about half of mmps with the default of `iterations`.
    solver : {"gmres", "cg"}
        Of ``"mmps"``.
    iterations : int
        Of the solver at each step, for ``"mmps"``: as many passes backward through the network.
    batch : int, optional
        Members in one call of the network. By default one on a CPU, where every member has then
        the same bits in any ensemble, and as many as fit into the memory of a GPU, where other
        batches may round otherwise: ``batch=1`` gives the same bits there too.

    Raises
    ------
    TypeError, ValueError
        When a setting is of another type, or out of range.

    Examples
    --------
    >>> import xwx
    >>> quick = xwx.Sampling(steps=8, guidance="pigdm")
    """

    steps: int = 15
    eta: float = 0.0
    guidance: Mode = "mmps"
    solver: Solver = "gmres"
    iterations: int = 3
    batch: int | None = None

    def __post_init__(self) -> None:
        for name, what in _WHOLE.items():
            value = getattr(self, name)
            if name == "batch" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(
                    f"{name}={value!r} is a {type(value).__name__}: give a whole number of {what}"
                )
            if value < 1:
                raise ValueError(f"{name}={value}: give at least 1, the {what}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta!r}: give a number from 0 to 1")
        for name, known in (("guidance", get_args(Mode)), ("solver", get_args(Solver))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: give one of {known}")

    def to_json(self) -> str:
        """Return the settings as text, for the attributes of a result."""
        return json.dumps(asdict(self))
