"""Windows joined to any length: the last frames of one are the clean context of the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from xwx.diffusion.noise import initial_noise
from xwx.diffusion.protocols import Denoiser, Guide, Schedule
from xwx.diffusion.sample import sample

__all__ = ["Piece", "Window", "chain", "plan_windows", "window_count"]

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


class Window(NamedTuple):
    """Which frames a window samples, and which of them are kept.

    Attributes
    ----------
    start : int
        The number of its first frame.
    context : int
        How many frames, from the first, it takes over from the window before; 0 for the first
        window.
    keep : int
        How many frames are kept of it, from the first; the next window samples the others anew.
    """

    start: int
    context: int
    keep: int


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
    _check(frames, window, overlap)
    return 1 if frames <= window else -(-(frames - overlap) // (window - overlap))


def plan_windows(
    frames: int, window: int, groups: Sequence[range] = (), overlap: int = 1
) -> tuple[Window, ...]:
    """Return windows that make so many frames and cut no group of them.

    A group is made of frames that are observed together, such as those of a daily mean: all that
    are not clean before have to be sampled in one window. So a window keeps the frames up to the
    last place where no group would be cut, and the next one begins with the last kept ones. The
    last window may hang over the end.

    Parameters
    ----------
    frames : int
        With those that are given; at least 1.
    window : int
        Frames in a window.
    groups : sequence of range
        Consecutive frames each; may overlap. Without any, every window keeps all its frames.
    overlap : int
        Frames that a window takes over from the one before, from 1 to ``window - 1``.

    Returns
    -------
    tuple of Window

    Raises
    ------
    ValueError
        If a number is out of range, a group reaches beyond the frames, or a group, with those
        that overlap it, has more frames than a window can sample.
    """
    _check(frames, window, overlap)
    spans = _merged(groups, frames)
    out: list[Window] = []
    done = 0
    while done < frames:
        start, context = (done - overlap, overlap) if out else (0, 0)
        end = min(start + window, frames)
        for span in reversed(spans):
            if span.start < end < span.stop:
                end = span.start
                break
        if end <= done:
            raise _too_long(next(s for s in spans if s.start == end), groups, window, overlap)
        out.append(Window(start, context, end - start))
        done = end
    return tuple(out)


def _check(frames: int, window: int, overlap: int) -> None:
    """Refuse numbers that are out of range."""
    if frames < 1:
        raise ValueError(f"frames is {frames}: ask for at least 1")
    if not 1 <= overlap < window:
        raise ValueError(
            f"overlap is {overlap} and a window has {window} frames: give at least 1 and at most "
            f"{window - 1}"
        )


def _merged(groups: Sequence[range], frames: int) -> list[range]:
    """Return the groups in order, as one where they share a frame."""
    out: list[range] = []
    for group in sorted((g for g in groups if g), key=lambda g: (g.start, g.stop)):
        if group.step != 1 or group.start < 0 or group.stop > frames:
            raise ValueError(
                f"{group} is no group of consecutive frames from 0 to {frames - 1}: leave it out"
            )
        if out and group.start < out[-1].stop:
            out[-1] = range(out[-1].start, max(out[-1].stop, group.stop))
        else:
            out.append(group)
    return out


def _too_long(span: range, groups: Sequence[range], window: int, overlap: int) -> ValueError:
    """Return the error of a group that no window holds."""
    together = sum(span.start <= g.start and g.stop <= span.stop for g in groups)
    what = f"{together} groups that overlap are" if together > 1 else "a group is"
    remedy = "leave some out, or take" if together > 1 else "take"
    return ValueError(
        f"{what} {len(span)} frames long ({span.start} to {span.stop - 1}), and a window of "
        f"{window} frames samples {window - overlap} beside the {overlap} it begins with: "
        f"{remedy} a model with windows of at least {len(span) + overlap} frames"
    )


def chain(
    denoisers: Denoisers,
    frames: int,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    generators: Sequence[torch.Generator],
    context: Tensor | None = None,
    groups: Sequence[range] = (),
    overlap: int = 1,
    steps: int = 15,
    eta: float = 0.0,
    guidance: Guides | None = None,
    batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Iterator[Piece]:
    """Iterate over the frames that the prior makes, a window at a time.

    The first window adds its frames from those of `context` on, every further one those after
    its `overlap`; see :func:`plan_windows` for where they end. `frames` come out in all, none of
    them twice. Only `overlap` frames are kept from one window to the next.

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
    groups : sequence of range
        Frames that no two windows share out among them; see :func:`plan_windows`.
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
    windows = plan_windows(frames, shape[0], groups, overlap)
    if context is not None:
        dtype, device = context.dtype, context.device
        if context.shape[0] != len(generators):
            raise ValueError(
                f"context has {context.shape[0]} members and there are {len(generators)} "
                "generators: give one a member"
            )
        if len(windows) > 1 and windows[0].keep < context.shape[1]:
            raise ValueError(
                f"context has {context.shape[1]} frames, and the groups let the first window keep "
                f"{windows[0].keep}: give at most as many"
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

    return _Pieces(run, windows, context)


class _Pieces(Iterator[Piece]):
    """Runs the windows; a generator's frame would keep each piece until the next is asked for."""

    def __init__(
        self,
        run: Callable[[int, int, Tensor | None], tuple[Tensor, Tensor | None]],
        windows: tuple[Window, ...],
        context: Tensor | None,
    ) -> None:
        self._run, self._windows, self._context = run, windows, context
        self._number = 0

    def __next__(self) -> Piece:
        """Run one window and return the frames that it adds."""
        if self._number >= len(self._windows):
            raise StopIteration
        window = self._windows[self._number]
        made, residual = self._run(self._number, window.start, self._context)
        self._number += 1
        if self._number < len(self._windows):
            overlap = self._windows[self._number].context
            last = made[:, window.keep - overlap : window.keep]
            self._context = last.clone()  # a view would keep the whole window
        kept = made[:, window.context : window.keep]
        return Piece(window.start + window.context, kept, residual)
