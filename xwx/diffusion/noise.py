"""Random numbers of ensemble members: each member has its own, whatever is drawn beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from xwx.diffusion.protocols import Schedule

__all__ = ["draw", "initial_noise", "member_generators"]

#: An odd number: multiples of it modulo a power of two are all different. The CPU's generator
#: uses the lower 32 bits of its seed, and no two members of an ensemble may share those.
_STRIDE = 0x9E3779B97F4A7C15


def member_generators(
    seed: int, members: Iterable[int], device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """Return a random generator for each ensemble member, a function of (seed, member) only.

    Member m of seed s is seeded with ``(SeedSequence(s) + m 0x9E3779B97F4A7C15) mod 2^64``, where
    `SeedSequence` is numpy's, for one 64-bit word. What a member draws thus depends neither on
    how many members there are nor on which of them are sampled together.

    Parameters
    ----------
    seed : int
        Not negative.
    members : iterable of int
        The numbers of the members, such as ``range(10)``; not negative.
    device : torch.device or str
        Where the numbers are drawn. The default gives the same numbers for sampling on any
        device.

    Returns
    -------
    list of torch.Generator

    Raises
    ------
    ValueError
        If `seed` or a member is negative.
    """
    numbers = list(members)
    if seed < 0 or any(number < 0 for number in numbers):
        raise ValueError(
            f"seed is {seed}, members are {numbers}: give numbers that are not negative"
        )
    start = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    return [
        torch.Generator(device).manual_seed((start + number * _STRIDE) % 2**64)
        for number in numbers
    ]


def draw(
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return standard normal numbers (B, *shape), those of each member from its own generator."""
    parts = [
        torch.randn(tuple(shape), generator=generator, dtype=dtype, device=generator.device)
        for generator in generators
    ]
    return torch.stack(parts).to(device)


def initial_noise(
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    schedule: Schedule,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return what sampling starts from: z ~ N(0, (alpha(1)^2 + sigma(1)^2) I).

    Parameters
    ----------
    shape : sequence of int
        (T, ...): a window of frames of one member.
    generators : sequence of torch.Generator
        One a member, each moved on by as many numbers as the window holds.
    schedule : Schedule
    dtype, device : optional
        Of the result. Another dtype has other numbers, not rounded ones.

    Returns
    -------
    Tensor, shape (B, T, ...)
    """
    one = torch.ones((), dtype=torch.float64)
    scale = float((schedule.alpha(one) ** 2 + schedule.sigma(one) ** 2).sqrt())
    return scale * draw(shape, generators, dtype=dtype, device=device)
