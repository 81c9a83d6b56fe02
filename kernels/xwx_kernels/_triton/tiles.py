"""What the walks over a map of tokens are made of: columns, rows, windows and taps, in Triton.

A row of a tile is a tuple of tensors (groups, channels), one a column; a window of five rows is
the tuple of theirs, oldest row first. Everything is unrolled, nothing is indexed at run time.
"""

# Triton's compiler does not know unpacking within a tuple, and its functions have no types.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment, no-untyped-call, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "across",
    "advance",
    "between",
    "correlate",
    "fuse",
    "locate",
    "read",
    "roll",
    "see",
    "sum_groups",
    "write",
]


@triton.jit
def fuse(
    k1,
    k3,
    k5,
    channel,
    inside,
    ONE: tl.constexpr,
    THREE: tl.constexpr,
    FIVE: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Return the 25 taps of the sum of the kernels that there are, each (1, CHANNELS).

    A kernel is loaded as it lies in memory, taps fastest; halving the axis of taps five times
    turns that into one tensor a tap.
    """
    tap = tl.arange(0, 32)[None, :]
    i = tap // 5
    j = tap % 5
    channel = channel[:, None]
    inside = inside[:, None]
    K = tl.zeros([CHANNELS, 32], tl.float32)
    if FIVE:
        K += tl.load(k5 + channel * 25 + tap, mask=inside & (tap < 25), other=0).to(tl.float32)
    if THREE:
        ring = inside & (i > 0) & (i < 4) & (j > 0) & (j < 4)
        K += tl.load(k3 + channel * 9 + (3 * i + j - 4), mask=ring, other=0).to(tl.float32)
    if ONE:
        K += tl.load(k1 + channel + tap - 12, mask=inside & (tap == 12), other=0).to(tl.float32)
    halves = (tl.reshape(K, [CHANNELS, 2, 2, 2, 2, 2]),)
    for d in tl.static_range(5):
        # The last axis is the lowest bit of the tap that is left, so tap t ends at place t.
        low = ()
        high = ()
        for n in tl.static_range(2**d):
            zero, one = tl.split(halves[n])
            low = low + (zero,)
            high = high + (one,)
        halves = low + high
    taps = ()
    for t in tl.static_range(25):
        taps = taps + (halves[t][None, :],)
    return taps


@triton.jit
def locate(
    first,
    turn,
    width,
    channels,
    channel,
    inside,
    COUNT: tl.constexpr,
    CIRCULAR: tl.constexpr,
):
    """Return offsets and masks of COUNT neighbouring columns from `first` on, which may be -2."""
    offsets = ()
    masks = ()
    for n in tl.static_range(COUNT):
        column = first + n
        mask = inside
        if CIRCULAR:
            column = (column + width + turn) % width
        else:
            mask = mask & (column >= 0) & (column < width)
            column = tl.where(mask, column + turn, 0)
            column = tl.where(column >= width, column - width, column)
        offsets = offsets + (column * channels + channel,)
        masks = masks + (mask,)
    return offsets, masks


@triton.jit
def between(row, first, last):
    """Return whether a row is in a range, as a mask: scalars and masks do not mix in Triton 3.9."""
    row = tl.full([1, 1], row, tl.int32)
    return (row >= first) & (row < last)


@triton.jit
def read(row, offsets, masks, there, COUNT: tl.constexpr):
    """Return columns of a row in float32, zeros where it is not there."""
    values = ()
    for n in tl.static_range(COUNT):
        value = tl.load(row + offsets[n], mask=masks[n] & there, other=0)
        values = values + (value.to(tl.float32),)
    return values


@triton.jit
def write(row, values, offsets, masks, SLOT: tl.constexpr, COUNT: tl.constexpr):
    """Write the columns of one slot of a rolling window."""
    for n in tl.static_range(COUNT):
        value = values[SLOT * COUNT + n].to(row.dtype.element_ty)
        tl.store(row + offsets[n], value, mask=masks[n])


@triton.jit
def across(row, height, width):
    """Return the row and the turn in columns that a row beyond a pole is seen at."""
    row = (row + 2 * height) % (2 * height)
    beyond = row >= height
    return tl.where(beyond, 2 * height - 1 - row, row), tl.where(beyond, width // 2, 0)


@triton.jit
def roll(sums, row, K, TURNED: tl.constexpr, COLUMNS: tl.constexpr):
    """Move the window of five rows on by one and add what a source row gives to each."""
    rolled = ()
    for s in tl.static_range(5):
        for n in tl.static_range(COLUMNS):
            total = sums[(s + 1) * COLUMNS + n] if s < 4 else tl.zeros_like(sums[0])
            for j in tl.static_range(5):
                total += (K[5 * s + 4 - j] if TURNED else K[5 * (4 - s) + j]) * row[n + j]
            rolled = rolled + (total,)
    return rolled


@triton.jit
def advance(window, row, COLUMNS: tl.constexpr):
    """Move a window of five rows on by one and take in a row."""
    rows = ()
    for n in tl.static_range(4 * COLUMNS):
        # Adding zero keeps a value. Where a loop hands on a value untouched, the compiler does
        # not load ahead.
        rows = rows + (window[COLUMNS + n] + 0.0,)
    return rows + row


@triton.jit
def correlate(taps, window, row, COLUMNS: tl.constexpr):
    """Add the products of a row of the gradient and a window of the map to the 25 taps."""
    added = ()
    for i in tl.static_range(5):
        for j in tl.static_range(5):
            total = taps[5 * i + j]
            for n in tl.static_range(COLUMNS):
                total += row[n + 4 - j] * window[i * COLUMNS + n]
            added = added + (total,)
    return added


@triton.jit
def sum_groups(taps, GROUPS: tl.constexpr, CHANNELS: tl.constexpr):
    """Return the 25 taps, summed over the groups, as one tensor (CHANNELS, 32): one reduction."""
    halves = taps
    for _n in tl.static_range(7):
        halves = halves + (tl.zeros([GROUPS, CHANNELS], tl.float32),)
    for d in tl.static_range(5):
        joined = ()
        for n in tl.static_range(2 ** (4 - d)):
            joined = joined + (tl.join(halves[n], halves[n + 2 ** (4 - d)]),)
        halves = joined
    return tl.sum(tl.reshape(halves[0], [GROUPS, CHANNELS, 32]), axis=0)


@triton.jit
def see(
    base,
    row,
    first,
    last,
    column,
    height,
    width,
    channels,
    channel,
    inside,
    POLE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Return the centre columns of a row of the surrounded map, zeros outside [first, last)."""
    there = between(row, first, last)
    turn = 0
    if POLE:
        row, turn = across(row, height, width)
    offsets, masks = locate(column, turn, width, channels, channel, inside, COLUMNS, False)
    return read(base + tl.cast(row, tl.int64) * width * channels, offsets, masks, there, COLUMNS)
