"""Strict values, after states have been rounded to the numbers that are returned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xwx.diffusion.protocols import Observation

__all__ = ["settle"]

#: Of values that share entries. Two settle those that have entries of their own, a third sees it.
_ROUNDS = 3


@torch.no_grad()
def settle(observation: Observation, x: Tensor, frames: Sequence[int]) -> Tensor:
    """Return states with last bits changed such that strict values are met far below one of them.

    A mean over thousands of rounded numbers is off by more than rounding it would be. An entry
    whose last bit changes moves a value by its derivative times that bit, and these steps are of
    very different sizes: the largest are taken that do not overshoot, then smaller ones.

    Where values share entries, each is met by those that no other has a part in. One that has too
    few of its own takes what it shares, and the others are met again; values that share all their
    entries are so met one by one, and together only as near as a few rounds bring them.

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
        Contiguous.
    """
    fixed = [n for n in range(x.shape[1]) if n not in frames]
    x = x.clone(memory_format=torch.contiguous_format)  # it is changed entry by entry
    rows = observation.demanded.nonzero()[:, 0].tolist()
    shared = _shared(observation, x, rows)
    again = bool(shared.any())
    for _ in range(_ROUNDS if again else 1):
        changed = False
        for row in rows:
            seen, slope = _linearised(observation, x, row)
            if bool((slope[:, fixed] != 0).any()):
                continue
            value = observation.value.expand(len(x), -1)[:, row].to(seen)
            bits = torch.nextafter(x, torch.full_like(x, torch.inf)).double() - x.double()
            steps = slope * bits
            own = torch.where(shared, 0.0, steps)
            for member, missing in enumerate((value - seen).tolist()):
                enough = float(own[member].abs().sum()) >= abs(missing)
                chosen = own[member] if enough else steps[member]
                changed |= _nudge(x[member], chosen.flatten(), missing)
        if not changed:
            break
    return x


def _linearised(observation: Observation, x: Tensor, row: int) -> tuple[Tensor, Tensor]:
    """Return what a row sees of each member (B,), and its derivative (B, T, ...), in float64."""
    with torch.enable_grad():
        exact = x.double().requires_grad_()
        seen = observation.operator(exact)[:, row]
        (slope,) = torch.autograd.grad(seen.sum(), exact)
    return seen.detach(), slope


def _shared(observation: Observation, x: Tensor, rows: Sequence[int]) -> Tensor:
    """Return which entries (T, ...) several of the rows have a part in."""
    once = torch.zeros(x.shape[1:], dtype=torch.bool, device=x.device)
    twice = once.clone()
    for row in rows if len(rows) > 1 else ():
        part = (_linearised(observation, x, row)[1] != 0).any(0)
        twice |= once & part
        once |= part
    return twice


def _nudge(state: Tensor, steps: Tensor, missing: float) -> bool:
    """Change last bits of a state, in place, by steps that sum up to what is missing.

    Returns whether there was anything to change.
    """
    sizes, order = steps.abs().sort(descending=True)
    sizes = sizes[sizes > 0]
    entries = state.view(-1)
    sign = 1.0 if missing > 0 else -1.0
    left, at = abs(missing), 0
    changed = False
    while True:
        # the next that is no larger than what is left, and as many after it as fit
        at += int(torch.searchsorted(-sizes[at:], torch.tensor(-left, dtype=sizes.dtype)))
        if at >= len(sizes):
            return changed
        sums = sizes[at:].cumsum(0)
        count = max(1, int((sums <= left).sum()))
        chosen = order[at : at + count]
        way = torch.sign(steps[chosen]).to(state.dtype) * sign * torch.inf
        entries[chosen] = torch.nextafter(entries[chosen], way)
        left = max(0.0, left - float(sums[count - 1]))
        at += count
        changed = True
