"""Strict values, after states have been rounded to the numbers that are returned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xwx.diffusion.protocols import Observation

__all__ = ["settle"]


@torch.no_grad()
def settle(observation: Observation, x: Tensor, frames: Sequence[int]) -> Tensor:
    """Return states with last bits changed such that strict values are met far below one of them.

    A mean over thousands of rounded numbers is off by more than rounding it would be. An entry
    whose last bit changes moves a value by its derivative times that bit, and these steps are of
    very different sizes: the largest are taken that do not overshoot, then smaller ones.

    Parameters
    ----------
    observation : Observation
        Of physical states.
    x : Tensor, shape (B, T, ...)
        Physical states, in the dtype in which they are returned.
    frames : sequence of int
        Those that may change; values that others have a part in are left as they are.

    Returns
    -------
    Tensor, shape (B, T, ...)
    """
    fixed = [n for n in range(x.shape[1]) if n not in frames]
    x = x.clone()
    for row in observation.demanded.nonzero()[:, 0].tolist():
        exact = x.double()
        with torch.enable_grad():
            seen = observation.operator(exact.requires_grad_())[:, row]
            (slope,) = torch.autograd.grad(seen.sum(), exact)
        if bool((slope[:, fixed] != 0).any()):
            continue
        value = observation.value.expand(len(x), -1)[:, row].to(seen)
        bits = torch.nextafter(x, torch.full_like(x, torch.inf)).double() - exact.detach()
        for member, missing in enumerate((value - seen.detach()).tolist()):
            _nudge(x[member], (slope * bits)[member].flatten(), missing)
    return x


def _nudge(state: Tensor, steps: Tensor, missing: float) -> None:
    """Change last bits of a state, in place, by steps that sum up to what is missing."""
    sizes, order = steps.abs().sort(descending=True)
    sizes = sizes[sizes > 0]
    entries = state.view(-1)
    sign = 1.0 if missing > 0 else -1.0
    left, at = abs(missing), 0
    while True:
        # the next that is no larger than what is left, and as many after it as fit
        at += int(torch.searchsorted(-sizes[at:], torch.tensor(-left, dtype=sizes.dtype)))
        if at >= len(sizes):
            return
        sums = sizes[at:].cumsum(0)
        count = max(1, int((sums <= left).sum()))
        chosen = order[at : at + count]
        way = torch.sign(steps[chosen]).to(state.dtype) * sign * torch.inf
        entries[chosen] = torch.nextafter(entries[chosen], way)
        left = max(0.0, left - float(sums[count - 1]))
        at += count
