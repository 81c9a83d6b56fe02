"""Numbers with a unit in the unit of a variable."""

import re

import pytest

from xwx.fields import conversion


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("300 K", "K", 300.0),
        ("10 degC", "K", 283.15),
        ("300 K", "degC", 26.85),
        ("-3.5e2 hPa", "Pa", -35000.0),
        ("+.5 m", "cm", 50.0),
        ("36 km/h", "m s-1", 10.0),
        ("5", "1", 5.0),
        ("0.1 mm", "kg m-2", 0.1),
        ("0.1 mm", "m", 1e-4),
        ("1mm", "mm", 1.0),
    ],
)
def test_conversions(text, units, value):
    assert conversion(text, units, "x") == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    "text", ["warm", "", "K 300", "300 300", "3 florins", None, 300.0, "nan K"]
)
def test_what_is_no_number_with_a_unit(text):
    answer = f"{text!r}, for 't2m', is no number with a unit, such as \"300 K\""
    with pytest.raises(ValueError, match=re.escape(answer)):
        conversion(text, "K", "t2m")


@pytest.mark.parametrize("text", ["300 m", "300", "3 mm"])
def test_other_units(text):
    answer = f"{text!r} does not convert to 'K', the units of 't2m': give a number in those"
    with pytest.raises(ValueError, match=re.escape(answer)):
        conversion(text, "K", "t2m")
