"""Windows joined to any length: the last frames of one are the clean context of the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from xwx.diffusion.noise import initial_noise
from xwx.diffusion.protocols import Denoiser, Guide, Schedule
from xwx.diffusion.sample import sample

__all__ = ["Piece", "chain", "window_count"]

#: From the number of a window and the frames it covers to its denoiser, or its guidance.
Denoisers: TypeAlias = Callable[[int, range], Denoiser]
Guides: TypeAlias = Callable[[int, range], Guide | None]


@dataclass(frozen=True)
class Piece:
    """The frames that a window adds.

    Attributes
    ----------
    first : int
        The number of the first of them, counted from the first frame of all.
    frames : Tensor, shape (B, k, ...)
    residual : Tensor, shape (B, M), or None
        How far the whole window is from what guided it, in standard deviations; None where
        nothing did.
    """

    first: int
    frames: Tensor
    residual: Tensor | None


def window_count(frames: int, window: int, overlap: int = 1) -> int:
    """Return how many windows make so many frames.

    1 if ``frames <= window``, else ``ceil((frames - overlap) / (window - overlap))``.

    Parameters
    ----------
    frames : int
        With those that are given; at least 1.
    window : int
        Frames in a window.
    overlap : int
        Frames that a window takes over from the one before, from 1 to ``window - 1``.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}: ask for at least 1")
    if not 1 <= overlap < window:
        raise ValueError(
            f"overlap is {overlap} and a window has {window} frames: give at least 1 and at most "
            f"{window - 1}"
        )
    return 1 if frames <= window else -(-(frames - overlap) // (window - overlap))


def chain(
    denoisers: Denoisers,
    frames: int,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    generators: Sequence[torch.Generator],
    context: Tensor | None = None,
    overlap: int = 1,
    steps: int = 15,
    eta: float = 0.0,
    guidance: Guides | None = None,
    batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Iterator[Piece]:
    """Iterate over the frames that the prior makes, a window at a time.

    The first window adds all its frames, those of `context` included, every further one those
    after its `overlap`; the last is cut so that `frames` come out in all, none of them twice.
    Only `overlap` frames are kept from one window to the next.

    Parameters
    ----------
    denoisers : callable
        From the number of a window and the range of its frames to its denoiser, which may
        depend on the time. The range is that of a whole window, and so may end after `frames`.
    frames : int
        With those of `context`.
    shape : sequence of int
        (T, ...): that of one member's window.
    schedule : Schedule
    generators : sequence of torch.Generator
        One a member, of :func:`~xwx.diffusion.noise.member_generators`; moved on window by
        window.
    context : Tensor, shape (B, K, ...), optional
        The clean, normalised frames to start with, K < T; without, the first window is free.
    overlap : int
        The clean frames that every further window starts with.
    steps, eta, batch : optional
        As in :func:`~xwx.diffusion.sample.sample`.
    guidance : callable, optional
        From the number of a window and the range of its frames to what guides it, or None.
        What it observes counts frames from the start of the window.
    dtype, device : optional
        Of the frames, where there is no `context` that tells.

    Returns
    -------
    iterator of Piece

    Raises
    ------
    ValueError
        If numbers or shapes do not fit each other; at the call, not later.
    """
    count = window_count(frames, shape[0], overlap)
    if context is not None:
        dtype, device = context.dtype, context.device
        if context.shape[0] != len(generators):
            raise ValueError(
                f"context has {context.shape[0]} members and there are {len(generators)} "
                "generators: give one a member"
            )

    def run(number: int, start: int, clean: Tensor | None) -> tuple[Tensor, Tensor | None]:
        covered = range(start, start + shape[0])
        guide = None if guidance is None else guidance(number, covered)
        made = sample(
            denoisers(number, covered),
            initial_noise(shape, generators, schedule, dtype=dtype, device=device),
            schedule=schedule,
            steps=steps,
            eta=eta,
            context=clean,
            guidance=guide,
            generators=generators,
            batch=batch,
        )
        return made, None if guide is None else guide.residual(made)

    return _Pieces(run, count, frames, shape[0] - overlap, overlap, context)


class _Pieces(Iterator[Piece]):
    """Runs the windows; a generator's frame would keep each piece until the next is asked for."""

    def __init__(
        self,
        run: Callable[[int, int, Tensor | None], tuple[Tensor, Tensor | None]],
        count: int,
        frames: int,
        stride: int,
        overlap: int,
        context: Tensor | None,
    ) -> None:
        self._run, self._count, self._frames = run, count, frames
        self._stride, self._overlap, self._context = stride, overlap, context
        self._number = 0

    def __next__(self) -> Piece:
        """Run one window and return the frames that it adds."""
        if self._number >= self._count:
            raise StopIteration
        start = self._number * self._stride
        made, residual = self._run(self._number, start, self._context)
        first = start + self._overlap if self._number else 0
        self._context = made[:, -self._overlap :].clone()  # a view would keep the whole window
        self._number += 1
        return Piece(first, made[:, first - start : self._frames - start], residual)
