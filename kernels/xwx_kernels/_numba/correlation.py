"""The compiled part of the multi-convs: correlations of packed rows, channels innermost.

One task is one batch entry and one block of channels. Its source rows are packed, with what lies
beyond the edges, into a ring of contiguous rows of ``(columns, BLOCK)``. All that follows reads
the ring: it knows of no padding and has no test in its loops. Indices there are unsigned, since
for signed ones numba allows for counting from the end, which keeps loops from being vectorised.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xwx_kernels._numba.compiling import compiled, inlined

__all__ = ["BLOCK", "GROUP", "sweep"]

#: Channels in a block: what five rows, five taps and four columns touch fits an L1 of 32 KiB.
BLOCK = 64
#: Columns that are computed together, so that they share what is loaded.
GROUP = 4

_ALL = np.uintp(BLOCK)
_1, _2, _3, _4, _5, _6, _7 = (np.uintp(n * BLOCK) for n in range(1, 8))


@inlined
def _sum_4x5(sums: Any, rows: Any, at: Any, weights: Any, tap: Any) -> None:
    """Add five taps of a kernel's row to the sums of four columns."""
    for c in range(_ALL):
        i, k = at + c, tap + c
        w0, w1, w2 = weights[k], weights[k + _1], weights[k + _2]
        w3, w4 = weights[k + _3], weights[k + _4]
        r0, r1, r2, r3 = rows[i], rows[i + _1], rows[i + _2], rows[i + _3]
        r4, r5, r6, r7 = rows[i + _4], rows[i + _5], rows[i + _6], rows[i + _7]
        s0 = sums[c] + w0 * r0 + w1 * r1 + w2 * r2 + w3 * r3 + w4 * r4
        s1 = sums[c + _1] + w0 * r1 + w1 * r2 + w2 * r3 + w3 * r4 + w4 * r5
        s2 = sums[c + _2] + w0 * r2 + w1 * r3 + w2 * r4 + w3 * r5 + w4 * r6
        s3 = sums[c + _3] + w0 * r3 + w1 * r4 + w2 * r5 + w3 * r6 + w4 * r7
        sums[c], sums[c + _1], sums[c + _2], sums[c + _3] = s0, s1, s2, s3


@inlined
def _sum_4x1(sums: Any, rows: Any, at: Any, weights: Any, tap: Any) -> None:
    """Add one tap to the sums of four columns."""
    for c in range(_ALL):
        i = at + c
        w = weights[tap + c]
        s0 = sums[c] + w * rows[i]
        s1 = sums[c + _1] + w * rows[i + _1]
        s2 = sums[c + _2] + w * rows[i + _2]
        s3 = sums[c + _3] + w * rows[i + _3]
        sums[c], sums[c + _1], sums[c + _2], sums[c + _3] = s0, s1, s2, s3


@inlined
def _correlate_4x5(taps: Any, tap: Any, rows: Any, at: Any, other: Any) -> None:
    """Add what four columns of the other map give to five taps of a kernel's row."""
    for c in range(_ALL):
        i, k = at + c, tap + c
        x0, x1, x2, x3 = other[c], other[c + _1], other[c + _2], other[c + _3]
        r0, r1, r2, r3 = rows[i], rows[i + _1], rows[i + _2], rows[i + _3]
        r4, r5, r6, r7 = rows[i + _4], rows[i + _5], rows[i + _6], rows[i + _7]
        t0 = taps[k] + x0 * r0 + x1 * r1 + x2 * r2 + x3 * r3
        t1 = taps[k + _1] + x0 * r1 + x1 * r2 + x2 * r3 + x3 * r4
        t2 = taps[k + _2] + x0 * r2 + x1 * r3 + x2 * r4 + x3 * r5
        t3 = taps[k + _3] + x0 * r3 + x1 * r4 + x2 * r5 + x3 * r6
        t4 = taps[k + _4] + x0 * r4 + x1 * r5 + x2 * r6 + x3 * r7
        taps[k], taps[k + _1], taps[k + _2], taps[k + _3], taps[k + _4] = t0, t1, t2, t3, t4


@inlined
def _correlate_4x1(taps: Any, tap: Any, rows: Any, at: Any, other: Any) -> None:
    """Add what four columns of the other map give to one tap."""
    for c in range(_ALL):
        i = at + c
        taps[tap + c] = (
            taps[tap + c]
            + other[c] * rows[i]
            + other[c + _1] * rows[i + _1]
            + other[c + _2] * rows[i + _2]
            + other[c + _3] * rows[i + _3]
        )


@inlined
def _correlate_1x1(taps: Any, tap: Any, rows: Any, at: Any, other: Any, start: Any) -> None:
    """Add what one column of the other map gives to one tap."""
    for c in range(_ALL):
        taps[tap + c] += other[start + c] * rows[at + c]


@compiled
def _pack_row(ring: Any, slot: int, columns: Any, source: Any, start: int, layout: Any) -> None:
    """Copy a row of the source, with what lies beyond its ends, into a row of the ring."""
    channels, wanted = layout
    pitch = columns.size
    for j in range(pitch):
        to, valid = np.uintp((slot * pitch + j) * BLOCK), np.uintp(0)
        if columns[j] >= 0:
            at, valid = np.uintp(start + columns[j] * channels), np.uintp(wanted)
            for c in range(valid):
                ring[to + c] = source[at + c]
        for c in range(valid, _ALL):
            ring[to + c] = 0


@compiled
def _sum_group(
    result: Any, sums: Any, ring: Any, weights: Any, terms: Any, here: Any, place: Any
) -> None:
    """Compute four columns of the result, or the few at its end: all taps of all rows."""
    to, count, channels, valid = here
    first, last, start, column, turn, size, pitch = place
    for c in range(GROUP * _ALL):
        sums[c] = 0
    for n in range(first, last):
        at = terms[n, 0] * pitch + column + terms[n, 2] * turn
        tap = start + terms[n, 1] * size
        done = 0
        while done + 5 <= size:
            i, k = np.uintp((at + done) * BLOCK), np.uintp((tap + done) * BLOCK)
            _sum_4x5(sums, ring, i, weights, k)
            done += 5
        for t in range(done, size):
            i, k = np.uintp((at + t) * BLOCK), np.uintp((tap + t) * BLOCK)
            _sum_4x1(sums, ring, i, weights, k)
    for j in range(count):
        i, k = np.uintp(to + j * channels), np.uintp(j * BLOCK)
        for c in range(valid):
            result[i + c] = sums[k + c]


@compiled
def _correlate_group(
    other: Any, taps: Any, ring: Any, mine: Any, terms: Any, columns: Any, here: Any, place: Any
) -> None:
    """Add to all taps what four columns of the other map give to them, or the few at its end.

    Where there are fewer, or a tap reaches beyond an edge, it is one column at a time and only
    those that exist: with zeros in place of the others, zero times Inf would be NaN.
    """
    of, count, channels, valid = here
    for j in range(count):
        i, k = np.uintp(of + j * channels), np.uintp(j * BLOCK)
        for c in range(valid):
            mine[k + c] = other[i + c]
        for c in range(valid, _ALL):
            mine[k + c] = 0
    first, last, _, column, turn, size, pitch = place
    for n in range(first, last):
        seen = column + terms[n, 2] * turn
        at = terms[n, 0] * pitch + seen
        tap = terms[n, 1] * size
        inside = columns[seen] >= 0 and columns[seen + size + GROUP - 2] >= 0
        whole = count == GROUP and inside
        done = 0
        while whole and done + 5 <= size:
            i, k = np.uintp((at + done) * BLOCK), np.uintp((tap + done) * BLOCK)
            _correlate_4x5(taps, k, ring, i, mine)
            done += 5
        for t in range(done, size):
            i, k = np.uintp((at + t) * BLOCK), np.uintp((tap + t) * BLOCK)
            if whole:
                _correlate_4x1(taps, k, ring, i, mine)
            else:
                for j in range(np.uintp(count)):
                    if columns[np.uintp(seen + t) + j] >= 0:
                        _correlate_1x1(taps, k, ring, i + j * _1, mine, j * _1)


@compiled
def _row(
    arrays: Any, scratch: Any, terms: Any, columns: Any, at: int, where: Any, shape: Any
) -> None:
    """Compute a row of the result, and add to the taps what the same row of `other` gives."""
    _, other, weights, result, _ = arrays
    ring, sums, mine, taps = scratch
    first, last, start, pieces, pitch, valid = where
    _, width, channels, size, need_result, need_taps = shape
    piece = width // pieces
    for p in range(pieces):
        # A row turned by half a circle reaches each half of the columns from the other half.
        turn = -piece if p else piece
        for column in range(p * piece, (p + 1) * piece, GROUP):
            count = min(GROUP, (p + 1) * piece - column)
            place = (first, last, start, column, turn, size, pitch)
            here = (at + column * channels, count, channels, valid)
            if need_result:
                _sum_group(result, sums, ring, weights, terms, here, place)
            if need_taps:
                _correlate_group(other, taps, ring, mine, terms, columns, here, place)


@compiled
def sweep(first: int, last: int, arrays: Any, scratch: Any, plan: Any, shape: Any) -> None:
    """Do the tasks from `first` to before `last`: a batch entry and a block of channels each.

    Parameters
    ----------
    first, last : int
    arrays : tuple
        source, other, weights, result, all flat and of one type, and totals, float64 of shape
        (tasks, taps * BLOCK). For every row of the result, ``result = sum_t weights_t source_t``
        and ``totals_t += source_t other``, where ``source_t`` is the source seen through tap t.
    scratch : tuple
        Flat: ring (slots, columns, BLOCK), sums and mine (GROUP, BLOCK), taps (taps, BLOCK).
    plan : tuple
        What `plans.Plan` holds, in its order.
    shape : tuple
        height, width, channels, size of the kernel, and whether result and totals are needed.
    """
    source, totals = arrays[0], arrays[4]
    ring, _, _, taps = scratch
    origins, until, starts, terms, pieces, columns = plan
    height, width, channels, size, _, need_taps = shape
    pitch = columns.shape[1]
    slots = ring.size // (pitch * BLOCK)
    blocks = (channels + BLOCK - 1) // BLOCK
    for task in range(first, last):
        block = task % blocks
        corner = task // blocks * height * width * channels + block * BLOCK
        valid = np.uintp(min(BLOCK, channels - block * BLOCK))
        packed = 0
        if need_taps:
            totals[task] = 0
        for row in range(height):
            while packed < until[row]:
                at = corner + origins[packed, 0] * width * channels
                kind = columns[origins[packed, 1]]
                _pack_row(ring, packed % slots, kind, source, at, (channels, valid))
                packed += 1
            taps[:] = 0
            here = (block * size * size, pieces[row], pitch, valid)
            where = (starts[row], starts[row + 1], *here)
            at = corner + row * width * channels
            _row(arrays, scratch, terms, columns[0], at, where, shape)
            if need_taps:
                totals[task] += taps
