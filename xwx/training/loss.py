"""The hybrid loss that moves from latitude weighting to variable weighting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LOSSES", "HybridLoss", "LossConfig"]

FLOOR = 1e-3


@dataclass(frozen=True)
class LossConfig:
    """Settings of :class:`HybridLoss`.

    Parameters
    ----------
    kind : {"hybrid", "sum", "l2"}
        The mix by theta, the plain sum of both terms, or the mean squared error without weights.
        The other settings are for the first.
    mode : {"learnable", "schedule", "fixed"}
        How theta moves: by gradient, as pi/2 times the progress of training, or not at all.
    theta : float
        The initial (or fixed) angle.
    floor : float
        Smallest theta; below it the loss can lock itself into the latitude term, because the
        gradients of theta and of the variable weights both vanish at 0.
    decouple : bool
        Let the variable weights learn at full rate whatever theta is.
    variant : {"paper", "released"}
        The paper's cos^2 / sin^2 mix of squared errors, or the (1 + sin) / 2 mix with the
        latitude-weighted RMSE of the authors' code.
    carry : bool
        Whether a stage that starts from a model begins with the s, and the learned theta, that its
        training ended with, where the card of the model has them.
    """

    kind: str = "hybrid"
    mode: str = "learnable"
    theta: float = FLOOR
    floor: float = FLOOR
    decouple: bool = False
    variant: str = "paper"
    carry: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (
            ("kind", ("hybrid", "sum", "l2")),
            ("mode", ("learnable", "schedule", "fixed")),
            ("variant", ("paper", "released")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"loss {name}={getattr(self, name)!r}: choose from {', '.join(allowed)}"
                )
        if self.kind != "hybrid":
            for name in ("mode", "theta", "floor", "decouple", "variant"):
                default = type(self).__dataclass_fields__[name].default
                if (value := getattr(self, name)) != default:
                    raise ValueError(
                        f"loss {name}={value!r} with kind={self.kind!r}, which has no theta: leave "
                        f"{name} out, or set kind = 'hybrid'"
                    )


#: The variants of the paper's comparison, and that of the authors' code, by name.
LOSSES: dict[str, LossConfig] = {
    "l2": LossConfig(kind="l2"),
    "latitude": LossConfig(mode="fixed", theta=0.0),
    "variable": LossConfig(mode="fixed", theta=math.pi / 2),
    "sum": LossConfig(kind="sum"),
    "equal": LossConfig(mode="fixed", theta=math.pi / 4),
    "schedule": LossConfig(mode="schedule"),
    "learnable": LossConfig(),
    "released": LossConfig(theta=-1.5708, variant="released"),
}


class HybridLoss(nn.Module):
    """``cos^2(theta) L_lat + sin^2(theta) L_var`` (EMFormer, section 3.3).

    With the squared error e in normalised units, area weights w of mean one and a learned
    log-variance s for each channel,

    ``L_lat = mean(w e)`` and ``L_var = mean(exp(-s) e + s)``.

    Parameters
    ----------
    weights : Tensor, shape (H,)
        Area weights of the rows, mean one.
    channels : int
    config : LossConfig

    Notes
    -----
    ``dL/dtheta = sin(2 theta) (L_var - L_lat)``: theta rises only while the variable term is the
    smaller one. The paper's theorem that it always does is not unconditional: where errors peak
    at high latitude, the weighted error is below the unweighted one and theta is pushed to zero.
    Call :meth:`clamp_` after every optimiser step, and leave the two parameters out of weight
    decay.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, channels: int, config: LossConfig | None = None) -> None:
        super().__init__()
        self.config = config or LossConfig()
        self.register_buffer("weights", weights.reshape(-1, 1).clone())
        self.theta = nn.Parameter(
            torch.tensor(self.config.theta, dtype=weights.dtype),
            requires_grad=self.config.kind == "hybrid" and self.config.mode == "learnable",
        )
        self.s = nn.Parameter(
            torch.zeros(channels, dtype=weights.dtype), requires_grad=self.config.kind != "l2"
        )

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of normalised fields (B, C, H, W)."""
        e = (prediction - target).square()
        if self.config.kind == "l2":
            return e.mean()
        latitude, variable = self.terms(e)
        if self.config.kind == "sum":
            return latitude + variable
        if self.config.variant == "released":
            share = (1 + torch.sin(self.theta)) / 2
            return share * variable + (1 - share) * latitude
        share = torch.sin(self.theta).square()
        if not self.config.decouple:
            return (1 - share) * latitude + share * variable
        # The variable term enters with theta's share in value, and s learns from all of it.
        frozen = self._variable_term(e, self.s.detach())
        own = self._variable_term(e.detach(), self.s)
        return (1 - share) * latitude + share * frozen + (own - own.detach())

    def terms(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latitude term and the variable term of squared errors (B, C, H, W)."""
        weighted = self.weights * e
        if self.config.variant == "released":
            latitude = weighted.mean((-2, -1)).sqrt().mean()
        else:
            latitude = weighted.mean()
        return latitude, self._variable_term(e, self.s)

    @staticmethod
    def _variable_term(e: Tensor, s: Tensor) -> Tensor:
        s = s[:, None, None]
        return (torch.exp(-s) * e + s).mean()

    def balance(self) -> dict[str, Any]:
        """Return theta and s, JSON-ready."""
        return {
            "theta": round(float(self.theta.detach()), 6),
            "s": [round(value, 6) for value in self.s.detach().tolist()],
        }

    @torch.no_grad()
    def begin_(self, balance: Mapping[str, Any]) -> None:
        """Begin with the :meth:`balance` of another training, as the configuration lets it."""
        if not self.config.carry:
            return
        self.s.copy_(torch.as_tensor(balance["s"]))
        if self.theta.requires_grad:
            self.theta.fill_(balance["theta"])
            self.clamp_()

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep theta inside [floor, pi/2]; the released variant is left alone."""
        if self.theta.requires_grad and self.config.variant == "paper":
            self.theta.clamp_(self.config.floor, math.pi / 2)

    @torch.no_grad()
    def advance_(self, progress: float) -> None:
        """Move a scheduled theta to pi/2 times `progress` in [0, 1]."""
        if self.config.mode == "schedule":
            self.theta.fill_(math.pi / 2 * min(max(progress, 0.0), 1.0))
