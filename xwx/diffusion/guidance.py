"""Guidance of a sampler by observations: the posterior mean of the frames, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from xwx.diffusion.background import Background
from xwx.diffusion.linearise import Gaussian, Sight, Tweedie, isotropic
from xwx.diffusion.protocols import Denoiser, Observation, Schedule
from xwx.diffusion.schedule import per_frame
from xwx.diffusion.solvers import cg, gmres
from xwx.diffusion.strict import correct

__all__ = ["Guidance", "Guided"]

Mode = Literal["mmps", "background", "pigdm", "tmpd", "dps"]
Solver = Literal["gmres", "cg"]
_SOLVERS = {"gmres": gmres, "cg": cg}
#: Of the systems that hold no denoiser: they cost calls of the operator only.
_CHEAP_ITERATIONS = 20
#: A background's systems are worse conditioned, and as cheap. They are solved until what is left is
#: a hundredth of the errors of observation; not a share of the misfit, by which one very precise
#: value would let all others be forgotten.
_BACKGROUND_ITERATIONS = 100
_ENOUGH = {"absolute": 1e-2}
#: Each strict value is a pass backward through the denoiser at the last step.
_STRICT_LIMIT = 32


class Guided(NamedTuple):
    """A guided mean, and how it came about.

    Attributes
    ----------
    mean : Tensor, shape (B, T, ...)
        E[x | z, y].
    fallen_back : Tensor, shape (B,), bool
        The members that took the safeguard's isotropic step.
    """

    mean: Tensor
    fallen_back: Tensor


@dataclass(frozen=True)
class Guidance:
    """Moves the mean of the clean frames towards what was observed, by moment matching.

    For ``y = A(x) + N(0, R)``, and with mean and covariance V of :class:`Tweedie`, the operator
    linearised at the mean (H) and the rows scaled by the errors,

    ``x_y = mean + V H' u``, where ``(I + H V H') u = R^(-1/2) (y - A(mean))``.

    Each member has its own system. One call costs one pass forward through the denoiser, and as
    many backward as the solver has iterations: since ``V H' u`` is a sum of what the iterations
    saw, it needs none of its own. The safeguard needs none either, and each strict value one at
    the last step. Passes backward are with respect to z only; freeze the network's parameters
    with ``requires_grad_(False)``, or their share of the graph is kept for nothing. A network
    that recomputes its blocks (``torch.utils.checkpoint``, ``use_reentrant=False``) is served.

    Attributes
    ----------
    observation : Observation
        Of the *normalised* frames of a window.
    mode : {"mmps", "background", "pigdm", "tmpd", "dps"}
        What stands for ``H V H'`` in the system:

        - ``"mmps"``: itself, by the solver's iterations.
        - ``"background"``: that of the V of `background`, which also takes the place of the
          denoiser's in ``V H' u``; no pass backward.
        - ``"pigdm"``: that of V = sigma^2 / (alpha^2 + sigma^2) I; one pass backward.
        - ``"tmpd"``: the diagonal of its row sums ``H V H' 1``, which are its diagonal where V
          is diagonal and H selects; negative ones count as 0; two passes backward.
        - ``"dps"``: nothing, so ``u = zeta R^(-1/2) (y - A(mean))``; one pass backward.
    solver : {"gmres", "cg"}
        The Jacobian of a network is neither symmetric nor positive, above all if the network is
        not told the time; GMRES needs neither. CG stops a member where it meets no positive
        curvature.
    iterations : int
        Of the solver, at each step, at most.
    safeguard : bool
        Whether a member whose step does not bring it nearer to the observations, or is not
        finite, takes the step of the isotropic V instead, which asks nothing of the Jacobian:
        ``x_y = mean + V H' (I + H V H')^-1 R^(-1/2) (y - A(mean))``. Which members did is in
        the result of :meth:`guide`.
    zeta : float
        The strength of ``"dps"``.
    background : Background or None
        Of ``"background"``, which needs one.
    dtype : torch.dtype or None
        Of the vectors (B, M) of the solver; None for that of the frames, on a device that has
        no float64.
    report : callable or None
        Told what the systems of ``"background"`` leave unsolved, each member's root mean square
        (B,) in standard deviations of the errors: at the last step, and at all at which frames
        hold no more noise than state. What is left before is made up for by the steps after.

    Raises
    ------
    ValueError
        If an argument is out of range, or more than 32 values are strict.

    References
    ----------
    mmps: Rozet et al. (2024), https://arxiv.org/abs/2405.13712; pigdm: Song et al. (2023),
    https://openreview.net/forum?id=9_gsMA8MRKQ; tmpd: Boys et al. (2023),
    https://arxiv.org/abs/2310.06721; dps: Chung et al. (2023), https://arxiv.org/abs/2209.14687.
    """

    observation: Observation
    mode: Mode = "mmps"
    solver: Solver = "gmres"
    iterations: int = 3
    safeguard: bool = True
    zeta: float = 1.0
    dtype: torch.dtype | None = torch.float64
    background: Background | None = None
    report: Callable[[Tensor], None] | None = None

    def __post_init__(self) -> None:
        for name, known in (("mode", get_args(Mode)), ("solver", get_args(Solver))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give one of {known}")
        if self.mode == "background" and self.background is None:
            raise ValueError("mode is 'background': give the background that it is of")
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}: give at least 1")
        if not self.zeta > 0:
            raise ValueError(f"zeta is {self.zeta}: give a positive number")
        strict = int(self.observation.demanded.sum())
        if strict > _STRICT_LIMIT:
            raise ValueError(
                f"{strict} values are strict, and each costs a pass of the network: mark at most "
                f"{_STRICT_LIMIT}, and give the others a small variance"
            )

    def __call__(
        self,
        denoise: Denoiser,
        z: Tensor,
        t: Tensor,
        schedule: Schedule,
        free: Tensor,
        *,
        last: bool = False,
    ) -> Tensor:
        """Return the guided mean only; the arguments are those of :meth:`guide`."""
        return self.guide(denoise, z, t, schedule, free, last=last).mean

    def guide(
        self,
        denoise: Denoiser,
        z: Tensor,
        t: Tensor,
        schedule: Schedule,
        free: Tensor,
        *,
        last: bool = False,
    ) -> Guided:
        """Return the guided mean of the clean frames.

        Parameters
        ----------
        denoise : Denoiser
            Differentiable in z, each member by itself.
        z : Tensor, shape (B, T, ...)
            The noised frames; the clean ones where `free` is False.
        t : Tensor, shape (B, T)
            The time of each frame.
        schedule : Schedule
        free : Tensor, shape (B, T), bool
            False for clean frames, which stay as they are.
        last : bool
            Whether the mean is returned to the user, and so has to meet the strict values.

        Returns
        -------
        Guided

        Raises
        ------
        ValueError
            If the denoiser has no gradient or the operator's result not the size it promises.
        """
        with torch.inference_mode(False), torch.no_grad():
            z, t, free = (u.clone() if u.is_inference() else u for u in (z, t, free))
            return self._guide(denoise, z, t, schedule, free, last)

    def _guide(
        self, denoise: Denoiser, z: Tensor, t: Tensor, schedule: Schedule, free: Tensor, last: bool
    ) -> Guided:
        """Linearise, solve, take the safeguard where it is needed, and correct."""
        if self.observation.operator.size == 0:
            plain = torch.where(per_frame(free, z), denoise(z, t), z)
            return Guided(plain, torch.zeros(len(z), dtype=torch.bool, device=z.device))
        tweedie: Tweedie | Gaussian
        if self.mode == "background":
            assert self.background is not None
            tweedie = Gaussian(denoise, z, t, free, self.background.spread(t, free, schedule))
        else:
            tweedie = Tweedie(denoise, z, t, schedule, free)
        sight = Sight(self.observation, tweedie.mean, self.dtype or z.dtype)
        variance = isotropic(z, t, schedule, free)
        counts = last or float(variance.max()) <= 0.5
        mean = tweedie.mean + self._move(tweedie, sight, variance, self.report if counts else None)
        fallen = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        if self.safeguard:
            mean, fallen = self._safe(mean, tweedie, sight, variance)
        if last and bool(self.observation.demanded.any()):
            mean = correct(self.observation, mean, tweedie, variance, self.dtype or z.dtype)
        return Guided(mean, fallen)

    def of(self, members: slice) -> Guidance:
        """Return what guides these members of the batch."""
        return replace(self, observation=self.observation.of(members))

    def residual(self, x: Tensor) -> Tensor:
        """Return how far the states are from what was observed, in standard deviations (B, M).

        ``(A(x) - y) / sqrt(R)``.
        """
        return self.observation.whitened_residual(x)

    def _move(
        self,
        tweedie: Tweedie | Gaussian,
        sight: Sight,
        variance: Tensor,
        report: Callable[[Tensor], None] | None,
    ) -> Tensor:
        """Return V H' u, with the u of the mode."""
        b = sight.residual
        if self.mode == "mmps":
            kept: list[Tensor] = []

            def matvec(w: Tensor) -> Tensor:
                kept.append(tweedie.spread(sight.back(w)))
                return w + sight.see(kept[-1])

            weights = _SOLVERS[self.solver](matvec, b, self.iterations).weights
            return _weighted(weights, kept, tweedie.mean)
        if self.mode == "background":

            def whole(w: Tensor) -> Tensor:
                return w + sight.see(tweedie.spread(sight.back(w)))

            u = cg(whole, b, _BACKGROUND_ITERATIONS, **_ENOUGH).x
            if report is not None:
                report((b - whole(u)).square().mean(-1).sqrt())
        elif self.mode == "pigdm":
            u = _isotropic_solution(sight, variance)
        elif self.mode == "tmpd":
            sums = sight.see(tweedie.spread(sight.back(torch.ones_like(b))))
            u = b / (1 + sums.clamp(min=0))
        else:
            u = self.zeta * b
        return tweedie.spread(sight.back(u))

    def _safe(
        self, mean: Tensor, tweedie: Tweedie | Gaussian, sight: Sight, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mean with the isotropic step where it came no nearer, and where that is."""
        after = Sight(self.observation, mean, self.dtype or mean.dtype).residual
        nearer = after.norm(dim=-1) < sight.residual.norm(dim=-1)
        if bool(nearer.all()):
            return mean, ~nearer
        step = variance * sight.back(_isotropic_solution(sight, variance))
        keep = nearer.reshape(-1, *([1] * (mean.ndim - 1)))
        return torch.where(keep, mean, tweedie.mean + step), ~nearer


def _isotropic_solution(sight: Sight, variance: Tensor) -> Tensor:
    """Return u of ``(I + H V H') u = b`` for a diagonal V; no pass of the denoiser."""

    def matvec(w: Tensor) -> Tensor:
        return w + sight.see(variance * sight.back(w))

    return cg(matvec, sight.residual, _CHEAP_ITERATIONS).x


def _weighted(weights: Tensor, parts: list[Tensor], like: Tensor) -> Tensor:
    """Return the sum of states times their weights (B, n)."""
    out = torch.zeros_like(like)
    for j, part in enumerate(parts):
        factor = weights[:, j].to(part.dtype)
        out = out + factor.reshape(-1, *([1] * (part.ndim - 1))) * part
    return out
