"""Depthwise 5 x 5 stencils over a map of tokens, walked row by row, in Triton.

A program owns some channels and a contiguous range of the rows of all column tiles. A tile is
COLUMNS neighbouring columns for each of GROUPS groups, times CHANNELS channels: a tensor holds
one column of every group, and the columns of a group are a tuple of tensors. So a thread keeps a
few columns of its two channels in registers, and a value that was loaded once meets all taps.

Walking down, each source row is loaded and converted once and added to the five rows that it
touches; the rows roll through a tuple of accumulators. Sums are float32.

``K`` is the fused kernel, 25 tensors. The gradient with respect to the map is the same walk with
``K`` turned by 180 degrees (TURNED).
"""

# Triton's compiler does not know unpacking within a tuple, and its functions have no types.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment, no-untyped-call, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from xwx_kernels._triton.tiles import (
    across,
    advance,
    between,
    correlate,
    fuse,
    locate,
    read,
    roll,
    see,
    sum_groups,
    write,
)

__all__ = ["convolve", "differentiate", "gather"]


@triton.jit
def convolve(
    x,
    y,
    k1,
    k3,
    k5,
    height,
    width,
    channels,
    rows,
    tiles,
    total,
    ONE: tl.constexpr,
    THREE: tl.constexpr,
    FIVE: tl.constexpr,
    TURNED: tl.constexpr,
    CIRCULAR: tl.constexpr,
    POLE: tl.constexpr,
    BORDER: tl.constexpr,
    GROUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Convolve; rows beyond the map are zeros or, with POLE, the rows across the pole.

    The result has ``rows = height + 2 BORDER`` rows, from row -BORDER of the map on.
    """
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    K = fuse(k1, k3, k5, channel, channel < channels, ONE, THREE, FIVE, CHANNELS)
    channel = channel[None, :]
    inside = channel < channels
    group = tl.arange(0, GROUPS)[:, None] * COLUMNS
    pitch = width * channels
    share = tl.cdiv(total, tl.num_programs(0))
    begin = tl.program_id(0) * share
    end = tl.minimum(begin + share, total)
    for part in range(begin // rows, tl.cdiv(end, rows)):
        sample = tl.cast(part // tiles, tl.int64)
        column = part % tiles * (GROUPS * COLUMNS) + group
        # Rows of the map that this part writes.
        first = tl.maximum(begin - part * rows, 0) - BORDER
        last = tl.minimum(end - part * rows, rows) - BORDER
        top = first - 2 if POLE else tl.maximum(first - 2, 0)
        bottom = last + 2 if POLE else tl.minimum(last + 2, height)
        source = x + sample * height * pitch
        target = y + (sample * rows + (top - 2 + BORDER)) * pitch
        offsets, masks = locate(
            column - 2, 0, width, channels, channel, inside, COLUMNS + 4, CIRCULAR
        )
        written, writable = locate(column, 0, width, channels, channel, inside, COLUMNS, False)
        if not POLE:
            source += tl.cast(top, tl.int64) * pitch
        sums = ()
        for _n in tl.static_range(5 * COLUMNS):
            sums = sums + (tl.zeros([GROUPS, CHANNELS], tl.float32),)
        for r in tl.range(top, bottom, num_stages=STAGES):
            if POLE:
                mirrored, turn = across(r, height, width)
                offsets, masks = locate(
                    column - 2, turn, width, channels, channel, inside, COLUMNS + 4, CIRCULAR
                )
                here = source + tl.cast(mirrored, tl.int64) * pitch
                row = read(here, offsets, masks, True, COLUMNS + 4)
            else:
                row = read(source, offsets, masks, True, COLUMNS + 4)
                source += pitch
            sums = roll(sums, row, K, TURNED, COLUMNS)
            if r >= first + 2:
                write(target, sums, written, writable, 0, COLUMNS)
            target += pitch
        # Rows that wait for source rows beyond the edge, which are zeros.
        for s in tl.static_range(2 + BORDER):
            if (bottom - 2 + s >= first) & (bottom - 2 + s < last):
                write(target, sums, written, writable, s + 1, COLUMNS)
            target += pitch


@triton.jit
def differentiate(
    gradient,
    x,
    dx,
    partial,
    k1,
    k3,
    k5,
    height,
    width,
    channels,
    rows,
    tiles,
    total,
    ONE: tl.constexpr,
    THREE: tl.constexpr,
    FIVE: tl.constexpr,
    NEED_X: tl.constexpr,
    CIRCULAR: tl.constexpr,
    POLE: tl.constexpr,
    BORDER: tl.constexpr,
    GROUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Sum the gradient of ``K`` over this program's part; with NEED_X that of the map as well.

    A row of `gradient` meets the five rows of the surrounded map round it: those of `dx` in which
    it is added, and those of `x` that it is multiplied with, which count in one part only.
    """
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    valid = channel < channels
    if NEED_X:
        K = fuse(k1, k3, k5, channel, valid, ONE, THREE, FIVE, CHANNELS)
    channel = channel[None, :]
    inside = channel < channels
    group = tl.arange(0, GROUPS)[:, None] * COLUMNS
    pitch = width * channels
    share = tl.cdiv(total, tl.num_programs(0))
    begin = tl.program_id(0) * share
    end = tl.minimum(begin + share, total)
    taps = ()
    for _t in tl.static_range(25):
        taps = taps + (tl.zeros([GROUPS, CHANNELS], tl.float32),)
    for part in range(begin // rows, tl.cdiv(end, rows)):
        sample = tl.cast(part // tiles, tl.int64)
        column = part % tiles * (GROUPS * COLUMNS) + group
        first = tl.maximum(begin - part * rows, 0) - BORDER
        last = tl.minimum(end - part * rows, rows) - BORDER
        top = tl.maximum(first - 2, 0)
        bottom = tl.minimum(last + 2, height)
        source = gradient + (sample * height + top) * pitch
        target = dx + (sample * rows + (top - 2 + BORDER)) * pitch
        base = x + sample * height * pitch
        offsets, masks = locate(
            column - 2, 0, width, channels, channel, inside, COLUMNS + 4, CIRCULAR
        )
        written, writable = locate(column, 0, width, channels, channel, inside, COLUMNS, False)
        sums = ()
        window = ()
        for _n in tl.static_range(5 * COLUMNS):
            sums = sums + (tl.zeros([GROUPS, CHANNELS], tl.float32),)
        for _n in tl.static_range(COLUMNS):
            window = window + (tl.zeros([GROUPS, CHANNELS], tl.float32),)
        for s in tl.static_range(4):
            window = window + see(
                base,
                top - 2 + s,
                first,
                last,
                column,
                height,
                width,
                channels,
                channel,
                inside,
                POLE,
                COLUMNS,
            )
        ahead = base + tl.cast(top + 2, tl.int64) * pitch
        for r in tl.range(top, bottom, num_stages=STAGES):
            row = read(source, offsets, masks, True, COLUMNS + 4)
            if POLE:
                seen = see(
                    base,
                    r + 2,
                    first,
                    last,
                    column,
                    height,
                    width,
                    channels,
                    channel,
                    inside,
                    POLE,
                    COLUMNS,
                )
            else:
                seen = read(ahead, written, writable, between(r + 2, first, last), COLUMNS)
            window = advance(window, seen, COLUMNS)
            taps = correlate(taps, window, row, COLUMNS)
            if NEED_X:
                sums = roll(sums, row, K, True, COLUMNS)
                if r >= first + 2:
                    write(target, sums, written, writable, 0, COLUMNS)
            source += pitch
            ahead += pitch
            target += pitch
        if NEED_X:
            for s in tl.static_range(2 + BORDER):
                if (bottom - 2 + s >= first) & (bottom - 2 + s < last):
                    write(target, sums, written, writable, s + 1, COLUMNS)
                target += pitch
    whole = sum_groups(taps, GROUPS, CHANNELS)
    tap = tl.arange(0, 32)[None, :]
    lane = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[:, None]
    at = partial + (tl.program_id(0) * 25 + tap) * channels + lane
    tl.store(at, whole, mask=(lane < channels) & (tap < 25))


@triton.jit
def gather(
    partial,
    d1,
    d3,
    d5,
    channels,
    programs,
    ONE: tl.constexpr,
    THREE: tl.constexpr,
    FIVE: tl.constexpr,
    PROGRAMS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Sum one tap of the partial gradients of ``K`` and hand it to every kernel that has it."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < channels
    tap = tl.full([CHANNELS], tl.program_id(1), tl.int32)
    i = tap // 5
    j = tap % 5
    program = tl.arange(0, PROGRAMS)[:, None]
    column = (tap * channels + channel)[None, :]
    total = tl.zeros([PROGRAMS, CHANNELS], tl.float32)
    for p in range(0, programs, PROGRAMS):
        at = partial + (p + program) * 25 * channels + column
        total += tl.load(at, mask=(p + program < programs) & inside[None, :], other=0)
    value = tl.sum(total, axis=0)
    if FIVE:
        tl.store(d5 + channel * 25 + tap, value.to(d5.dtype.element_ty), mask=inside)
    if THREE:
        ring = (i > 0) & (i < 4) & (j > 0) & (j < 4)
        at = d3 + channel * 9 + (3 * i + j - 4)
        tl.store(at, value.to(d3.dtype.element_ty), mask=inside & ring)
    if ONE:
        tl.store(d1 + channel, value.to(d1.dtype.element_ty), mask=inside & (tap == 12))
