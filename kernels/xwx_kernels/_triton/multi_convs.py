"""Multi-convs in Triton: what is launched, how often, on which buffers.

Results are bitwise reproducible: no atomics, every sum in an order that depends on the shapes and
the device only.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from xwx_kernels._triton.stencils import convolve, differentiate, gather

__all__ = ["backward", "forward", "share"]

#: Columns of a group, groups of a tile, channels of a tile, rows loaded ahead and their own.
#: Two channels a thread: the 25 taps, the window and the columns fit in its registers.
TILE = {"COLUMNS": 4, "GROUPS": 4, "CHANNELS": 64, "STAGES": 4}
#: A multiplication and an addition are one instruction, whatever the default is.
LAUNCH = {"num_warps": 4, "enable_fp_fusion": True}

#: Programs and channels of a tile of the last sum.
GATHER = {"PROGRAMS": 8, "CHANNELS": 64}

#: Programs that a multiprocessor holds at once; their registers decide
#: (``kernels/benchmarks/compile.py`` prints them).
RESIDENT = {"convolve": 3, "differentiate": 2, "differentiate kernels": 3}

#: A part of a column tile reads this many rows more than it writes.
HALO = 4

#: The pole's gradient is written over the rows beyond the map too, then folded back.
BORDER = 2


def forward(
    x: Tensor, kernels: list[Tensor], size: tuple[int, int], longitude: str, latitude: str
) -> Tensor:
    """Return the sum of the convolutions, in the type of `x`.

    Parameters
    ----------
    x : Tensor, shape (B, h*w, C), contiguous
    kernels : list of Tensor, each of shape (C, 1, k, k), k at most 5
    size, longitude, latitude
        As in :func:`xwx_kernels.multi_convs`.
    """
    y = torch.empty_like(x)
    _convolve(x, y, _merge(kernels), size, longitude, turned=False, pole=latitude == "pole")
    return y


def backward(
    gradient: Tensor,
    x: Tensor,
    kernels: list[Tensor],
    size: tuple[int, int],
    longitude: str,
    latitude: str,
    *,
    need_x: bool,
    need_kernels: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Return the gradients of the tokens and of every kernel, None where not needed.

    The arguments are those of :func:`forward`; `x` is read for the gradient of the kernels only.
    """
    merged = _merge(kernels)
    pole = latitude == "pole"
    extended = (gradient.shape[0], size[0] + 2 * BORDER * pole, size[1], gradient.shape[2])
    # What is folded afterwards is rounded afterwards.
    dx = gradient.new_empty(extended, dtype=torch.float32 if pole else gradient.dtype)
    none: list[Tensor | None] = [None] * len(kernels)
    if need_kernels:
        partial = _differentiate(gradient, x, dx, merged, size, longitude, pole, need_x)
        sums = _gather(partial, merged)
        single = len(merged) == len(kernels)
        # Branches of one size have equal gradients, but never the same memory.
        none = [sums[k.shape[-1]].to(k.dtype, copy=not single) for k in kernels]
    elif need_x:
        _convolve(gradient, dx, merged, size, longitude, turned=True, border=BORDER * pole)
    if not need_x:
        return None, none
    dx = _fold(dx, size[0]).to(gradient.dtype) if pole else dx
    return dx.view(gradient.shape), none


def share(parts: int, rows: int, blocks: int, slots: int) -> int:
    """Return how many programs share the rows of one block of channels.

    Every program takes a contiguous range of the ``parts * rows`` rows of all column tiles, and
    reads HALO rows more. More programs than run at once come in waves; the number with the
    shortest waves times number of waves wins.

    Parameters
    ----------
    parts : int
        Column tiles of all samples.
    rows : int
        Rows to write in each.
    blocks : int
        Blocks of channels.
    slots : int
        Programs that the device runs at once.
    """
    total = parts * rows
    options = {}
    for waves in range(1, 5):
        programs = min(max(waves * slots // blocks, 1), total)
        rounds = math.ceil(programs * blocks / slots)
        options[programs] = rounds * (math.ceil(total / programs) + HALO)
    return min(options, key=lambda programs: (options[programs], programs))


def _convolve(
    x: Tensor,
    y: Tensor,
    merged: dict[int, Tensor],
    size: tuple[int, int],
    longitude: str,
    *,
    turned: bool,
    pole: bool = False,
    border: int = 0,
) -> None:
    """Write the convolution of `x`, or its transpose, to `y`."""
    if not y.numel():
        return
    grid, extents = _divide(x, size, border, "convolve")
    with _device(x):
        convolve[grid](
            x,
            y,
            *_pointers(merged, x),
            *extents,
            **_present(merged),
            TURNED=turned,
            CIRCULAR=longitude == "circular",
            POLE=pole,
            BORDER=border,
            **TILE,
            **LAUNCH,
        )


def _differentiate(
    gradient: Tensor,
    x: Tensor,
    dx: Tensor,
    merged: dict[int, Tensor],
    size: tuple[int, int],
    longitude: str,
    pole: bool,
    need_x: bool,
) -> Tensor:
    """Return the gradient of the fused kernel in parts (programs, 25, C); write `dx` if needed."""
    border = BORDER * pole
    if not gradient.numel():
        return gradient.new_zeros(1, 25, gradient.shape[-1], dtype=torch.float32)
    kernel = "differentiate" if need_x else "differentiate kernels"
    grid, extents = _divide(gradient, size, border, kernel)
    partial = gradient.new_empty(grid[0], 25, gradient.shape[-1], dtype=torch.float32)
    with _device(gradient):
        differentiate[grid](
            gradient,
            x,
            dx,
            partial,
            *_pointers(merged, gradient),
            *extents,
            **_present(merged),
            NEED_X=need_x,
            CIRCULAR=longitude == "circular",
            POLE=pole,
            BORDER=border,
            **TILE,
            **LAUNCH,
        )
    return partial


def _gather(partial: Tensor, merged: dict[int, Tensor]) -> dict[int, Tensor]:
    """Return the gradient of the kernel of each size."""
    sums = {k: torch.empty_like(kernel) for k, kernel in merged.items()}
    programs, taps, channels = partial.shape
    if channels:
        with _device(partial):
            gather[(math.ceil(channels / GATHER["CHANNELS"]), taps)](
                partial,
                *_pointers(sums, partial),
                channels,
                programs,
                **_present(sums),
                **GATHER,
                **LAUNCH,
            )
    return sums


def _fold(extended: Tensor, height: int) -> Tensor:
    """Add the gradient of each row beyond a pole to that of the row that is seen there."""
    inner = extended[:, BORDER : BORDER + height].contiguous()
    for beyond in (*range(-BORDER, 0), *range(height, height + BORDER)):
        row, seen = beyond % (2 * height), extended[:, BORDER + beyond]
        if row >= height:
            row, seen = 2 * height - 1 - row, seen.roll(seen.shape[1] // 2, 1)
        inner[:, row] += seen
    return inner


def _merge(kernels: list[Tensor]) -> dict[int, Tensor]:
    """Return one contiguous kernel of each size; those of one size are added in float32."""
    sizes = {k.shape[-1]: [o for o in kernels if o.shape[-1] == k.shape[-1]] for k in kernels}
    return {
        size: (
            same[0] if len(same) == 1 else torch.stack([k.float() for k in same]).sum(0)
        ).contiguous()
        for size, same in sizes.items()
    }


def _pointers(merged: dict[int, Tensor], other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the kernels of size 1, 3 and 5; what is not there is never read."""
    return merged.get(1, other), merged.get(3, other), merged.get(5, other)


def _present(merged: dict[int, Tensor]) -> dict[str, bool]:
    return {"ONE": 1 in merged, "THREE": 3 in merged, "FIVE": 5 in merged}


def _divide(
    x: Tensor, size: tuple[int, int], border: int, kernel: str
) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Return the grid and the extents: height, width, channels, rows, tiles, rows in total."""
    height, width = size
    batch, _, channels = x.shape
    rows = height + 2 * border
    tiles = math.ceil(width / (TILE["COLUMNS"] * TILE["GROUPS"]))
    blocks = math.ceil(channels / TILE["CHANNELS"])
    slots = _multiprocessors(x.device) * RESIDENT[kernel]
    programs = share(batch * tiles, rows, blocks, slots)
    return (programs, blocks), (height, width, channels, rows, tiles, batch * tiles * rows)


def _device(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of a tensor the current one, on which Triton launches."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@cache
def _multiprocessors(device: torch.device) -> int:
    """Return how many there are; Triton's interpreter has one."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
