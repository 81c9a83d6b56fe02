"""Amounts with a unit: differences have no zero, spans of time are positive."""

from datetime import timedelta

import numpy as np
import pytest

from xwx.fields.quantities import amount, deviations, difference, span
from xwx.spec import Channel


@pytest.mark.parametrize(
    ("given", "units", "value"),
    [("2 K", "K", 2.0), ("2 degC", "K", 2.0), ("1.8 degF", "K", 1.0), ("-3e-1 hPa", "Pa", -30.0)],
)
def test_a_difference_has_no_zero(given, units, value):
    assert difference(given, units, "delta") == pytest.approx(value, rel=1e-12)


def test_an_amount_has_one():
    assert amount("2 degC", "K", "target") == 275.15
    assert amount("983.05 hPa", "Pa", "target") == pytest.approx(98305.0)


def test_quantities_of_any_registry():
    import pint

    assert difference(pint.UnitRegistry().Quantity(2.0, "hPa"), "Pa", "noise") == 200.0
    delta = pint.UnitRegistry().Quantity(2.0, "delta_degC")
    assert difference(delta, "K", "delta") == 2.0


@pytest.mark.parametrize("given", [2, 2.0, None, "2", "two K", "2 Pa", "2 K K2 ?"])
def test_what_is_no_amount_of_that_unit(given):
    with pytest.raises(ValueError, match="delta="):
        difference(given, "K", "delta")


@pytest.mark.parametrize(
    ("given", "hours"),
    [("30 min", 0.5), ("6h", 6), ("1D", 24), ("D", 24), ("h", 1), (".5 h", 0.5), ("90 s", 0.025)],
)
def test_spans_of_time(given, hours):
    assert span(given, "freq") == timedelta(hours=hours)


def test_a_timedelta_is_a_span():
    assert span(timedelta(minutes=90), "freq") == timedelta(minutes=90)


@pytest.mark.parametrize("given", ["0 h", "-1 h", "6", "1 km", "", "often"])
def test_what_is_no_span_of_time(given):
    with pytest.raises(ValueError, match="freq="):
        span(given, "freq")


def test_one_deviation_for_all_has_to_fit_all():
    heights = [Channel("z", 5e4), Channel("z", 8.5e4)]
    assert deviations("10 m", heights, ["zg", "zg"]) == pytest.approx([98.0665] * 2)
    with pytest.raises(ValueError, match="one each"):
        deviations("10 m", [*heights, Channel("t2m")], ["zg", "zg", "tas"])


def test_a_mapping_knows_both_names():
    channels = [Channel("t2m"), Channel("msl"), Channel("q", 5e4)]
    names = ["tas", "psl", "hus"]
    got = deviations({"tas": "1 K", "msl": "1 hPa"}, channels, names)
    assert got == [1.0, 100.0, None]
    with pytest.raises(ValueError, match=r"'sst'.*'tas', 'psl', 'hus'"):
        deviations({"sst": "1 K"}, channels, names)


@pytest.mark.parametrize(("given", "hours"), [("6H", 6), ("H", 1), (" 12 H", 12)])
def test_hours_as_older_versions_of_pandas_wrote_them(given, hours):
    assert span(given, "freq") == timedelta(hours=hours)
    assert span(np.timedelta64(hours, "h"), "freq") == timedelta(hours=hours)


def test_messages_say_what_was_given_and_what_works():
    with pytest.raises(ValueError, match=r"^freq=6 has no unit.* such as freq=\"6h\"$"):
        span(6, "freq", '"6h"')
    with pytest.raises(ValueError, match=r"^tolerance='30' has no unit.* tolerance=\"30 min\"$"):
        span("30", "tolerance")
    with pytest.raises(ValueError, match=r"^delta='2' has no unit.* delta=\"2 K\"$"):
        difference("2", "K", "delta", '"2 K"')
    with pytest.raises(ValueError, match=r"^delta='2 hPa' does not convert to \"K\".*\"1 K\"$"):
        difference("2 hPa", "K", "delta")
    with pytest.raises(ValueError, match=r"^noise='1' has no unit.*'msl', such as noise=\"1 Pa\"$"):
        deviations("1", [Channel("msl")], ["msl"])
    with pytest.raises(ValueError, match="target=<list> has no unit"):
        amount(list(range(100)), "Pa", "target")
    with pytest.raises(ValueError, match="not finite"):
        amount("1e999 Pa", "Pa", "target")
    assert deviations("0.1", [Channel("siconc")], ["ci"]) == [0.1]  # whose unit is one
