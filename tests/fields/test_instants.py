"""Which states of a series times are."""

from datetime import timedelta

import numpy as np
import pytest

from xwx.fields.instants import Clock

SERIES = np.datetime64("2026-02-27T18", "ns") + np.arange(6) * np.timedelta64(6, "h")
CLOCK = Clock(SERIES, timedelta(hours=6))


def test_states_are_found_in_any_order_and_precision():
    when = SERIES[[4, 0, 2]].astype("datetime64[s]")
    found = CLOCK.find(when, "time", "time")
    assert found.states.tolist() == [4, 0, 2]
    assert found.near.all()
    assert not found.problems


def test_rounding_of_a_second_is_forgiven_and_no_more():
    one = SERIES[[1]] + np.timedelta64(900, "ms")
    assert not CLOCK.find(one, "time", "time").problems
    two = SERIES[[1]] + np.timedelta64(1100, "ms")
    assert [p.kind for p in CLOCK.find(two, "time", "time").problems] == ["time-between"]


@pytest.mark.parametrize("steps", [-1, 6])
def test_the_series_has_two_ends(steps):
    outside = SERIES[[0]] + steps * np.timedelta64(6, "h")
    assert [p.kind for p in CLOCK.find(outside, "time", None).problems] == ["time-outside"]


def test_a_tolerance_divides_near_from_far():
    shifts = np.array([30, 31, -30, -31], "timedelta64[m]")
    found = CLOCK.find(SERIES[1:5] + shifts, "time", "time", timedelta(minutes=30))
    assert found.near.tolist() == [True, False, True, False]
    assert found.states.tolist() == [1, 2, 3, 4]
    assert not found.problems
