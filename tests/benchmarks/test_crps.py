"""The CRPS costs no more than sorting the members would.

Ratios within one run: a machine's own speed does not enter.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import xarray as xr

from xwx.metrics.arrays.ensemble import summarise

STEPS, MEMBERS, POINTS = 40, 50, 121 * 240


@pytest.fixture(scope="module")
def case():
    """Return members as a forecast holds them, one step after the other, and the truth: 232 MB."""
    draw = np.random.default_rng(0)
    members = draw.standard_normal((STEPS, MEMBERS, POINTS), dtype=np.float32)
    return members, draw.standard_normal((STEPS, POINTS), dtype=np.float32)


def fair_crps(members, truth):
    """Return the score of each step; members are (step, member, point), of any strides."""
    out = np.empty(truth.shape)
    for step, (x, y) in enumerate(zip(members, truth, strict=True)):
        parts = summarise(x, y, ("absolute", "difference"))
        out[step] = parts["absolute"] - parts["difference"] / 2
    return out


def by_turns(*ways, repeats=7):
    """Return the least CPU seconds of each way: what else a machine does only adds to them."""
    times = [[] for _ in ways]
    for _ in range(repeats):
        for way, seconds in zip(ways, times, strict=True):
            began = time.process_time()
            way()
            seconds.append(time.process_time() - began)
    return [min(seconds) for seconds in times]


@pytest.mark.parametrize("layout", ["step first", "member first", "member last"])
def test_time_against_sorting(case, layout, benchmark):
    """At most 1.2 times numpy.sort along the members of the same array."""
    members, truth = case
    if layout == "member first":
        members = np.ascontiguousarray(members.swapaxes(0, 1)).swapaxes(0, 1)
    elif layout == "member last":
        members = np.ascontiguousarray(members.swapaxes(1, 2)).swapaxes(1, 2)
    fair_crps(members[:1], truth[:1])  # and everything is compiled
    ours, sorting = by_turns(lambda: fair_crps(members, truth), lambda: np.sort(members, axis=1))
    ratio = ours / sorting
    benchmark.extra_info["ratio to numpy.sort"] = round(ratio, 3)
    benchmark.pedantic(fair_crps, args=(members, truth), rounds=1)
    print(f"fair CRPS, {layout}: {ours:.3f} s; / numpy.sort = {ratio:.2f}")
    assert ratio <= 1.2


def test_time_against_scores(case):
    """At least twice as fast as the sum over all pairs, in the same numbers."""
    scores = pytest.importorskip("scores.probability")
    members, truth = (values[:2] for values in case)
    labelled = xr.DataArray(members, dims=("step", "member", "point"))
    known = xr.DataArray(truth, dims=("step", "point"))

    def theirs():
        return scores.crps_for_ensemble(
            labelled, known, "member", method="fair", preserve_dims=["step", "point"]
        )

    np.testing.assert_allclose(fair_crps(members, truth), theirs(), atol=1e-5)
    ours, other = by_turns(lambda: fair_crps(members, truth), theirs, repeats=3)
    print(f"scores / fair CRPS = {other / ours:.1f}")
    assert other / ours >= 2
