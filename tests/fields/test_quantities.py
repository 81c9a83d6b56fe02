"""Amounts with a unit: differences have no zero, spans of time are positive."""

from datetime import timedelta

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
