"""Values of another unit than their label are noticed, and those of real weather never are."""

import numpy as np
import pytest

from xwx.fields.plausible import Learned, Sample, implausible
from xwx.spec import Channel

#: Means and standard deviations over the globe and the year, as models of ERA5 have them.
USUAL = {
    Channel("msl"): (101150.0, 1300.0),
    Channel("sp"): (96700.0, 9500.0),
    Channel("t2m"): (278.5, 21.2),
    Channel("t", 85000.0): (274.6, 15.6),
    Channel("z", 50000.0): (54110.0, 3350.0),
    Channel("z", 85000.0): (13750.0, 1470.0),
    Channel("q", 85000.0): (4.6e-3, 4.1e-3),
    Channel("u10"): (-0.05, 5.5),
    Channel("vo", 85000.0): (-6e-8, 4.4e-5),
    Channel("tp"): (6e-4, 1.6e-3),
}
CHANNELS = list(USUAL)
LEARNED = Learned(*(np.array(v) for v in zip(*USUAL.values(), strict=True)))


def judged(channel, values, units, learned=LEARNED):
    sample = Sample.of(CHANNELS.index(channel), "x", units, np.asarray(values, dtype=np.float64))
    return implausible([sample], CHANNELS, learned)


def state(channel, seed=0):
    """Values over a globe in the canonical unit."""
    mean, std = USUAL[channel]
    noise = np.random.default_rng(seed).standard_normal((12, 24))
    return mean + std * noise


@pytest.mark.parametrize(
    ("channel", "change", "label", "unit"),
    [
        (Channel("msl"), lambda x: x / 100, "Pa", "hPa"),
        (Channel("msl"), lambda x: x, "hPa", "Pa"),
        (Channel("sp"), lambda x: x / 100, "Pa", "hPa"),
        (Channel("sp"), lambda x: x / 1000, "Pa", "kPa"),
        (Channel("t2m"), lambda x: x - 273.15, "K", "degC"),
        (Channel("t", 85000.0), lambda x: x, "degC", "K"),
        (Channel("z", 50000.0), lambda x: x / 9.80665, "m2 s-2", "m"),
        (Channel("z", 85000.0), lambda x: x, "m", "m2 s-2"),
        (Channel("q", 85000.0), lambda x: x * 1000, "kg kg-1", "g kg-1"),
        (Channel("u10"), lambda x: x * 100, "m s-1", "cm s-1"),
        (Channel("tp"), lambda x: x * 1000, "m", "mm"),
    ],
)
def test_the_unit_by_which_values_would_fit_is_named(channel, change, label, unit):
    (problem,) = judged(channel, change(state(channel)), label)
    assert problem.kind == "implausible-values"
    assert f"is its unit `{unit}`?" in problem.message
    assert problem.remedy.startswith(f'ds["x"].attrs["units"] = "{unit}"')
    assert judged(channel, change(state(channel)), unit) == []


def test_a_factor_is_named_where_no_unit_is():
    vorticity = Channel("vo", 85000.0)
    (problem,) = judged(vorticity, state(vorticity) * 1e5, "s-1")
    assert problem.message.endswith("is it to be multiplied by 1e-05?")
    assert "in the root mean square at 850 hPa" in problem.message
    (neither,) = judged(vorticity, state(vorticity) * 1e9, "s-1")
    assert neither.message.endswith("what is it, and its unit?")


def test_the_message_has_the_numbers_in_the_unit_of_the_label():
    (problem,) = judged(Channel("msl"), np.full((3, 4), 1013.2), "Pa")
    assert problem.message == (
        "is 1013.2 Pa on average, 77 standard deviations from what the model learned "
        "(101150 Pa, 1300 Pa): is its unit `hPa`?"
    )
    (other,) = judged(Channel("msl"), np.full((3, 4), 101320.0), "hPa")
    assert "is 101320 hPa on average" in other.message
    assert "(1011.5 hPa, 13 hPa)" in other.message


@pytest.mark.parametrize(
    ("channel", "values"),
    [
        (Channel("msl"), [87000.0]),  # typhoon Tip, the deepest of all, by one station
        (Channel("msl"), [87000.0, 87300.0]),  # or two
        (Channel("msl"), [108500.0] * 3),  # and the highest
        (Channel("sp"), [50000.0] * 20),  # the highest plateaus
        (Channel("t2m"), [184.0]),  # Vostok
        (Channel("t2m"), [330.0] * 10),  # a desert
        (Channel("z", 50000.0), [46500.0] * 10),  # a polar vortex
        (Channel("q", 85000.0), [0.02] * 10),  # the tropics
        (Channel("q", 85000.0), [0.0] * 10),
        (Channel("u10"), [60.0] * 10),  # a hurricane
        (Channel("vo", 85000.0), [1e-3] * 10),  # its centre
        (Channel("tp"), [0.3] * 3),  # rain in a storm, by few stations
        (Channel("tp"), [0.0] * 100),
        (Channel("vo", 85000.0), np.zeros(100)),  # constant, or its mean removed
        (Channel("msl"), np.full(100, 101325.0)),
    ],
)
def test_weather_is_never_implausible(channel, values):
    canonical = {"msl": "Pa", "sp": "Pa", "t2m": "K", "z": "m2 s-2", "q": "kg kg-1", "u10": "m s-1"}
    units = canonical.get(channel.name, {"vo": "s-1", "tp": "m"}.get(channel.name))
    assert judged(channel, values, units) == []


def test_departures_and_constants_say_nothing_of_their_unit():
    noise = np.random.default_rng(0).standard_normal(1000)
    for channel, size, units in ((Channel("msl"), 1300.0, "Pa"), (Channel("t2m"), 3.0, "K")):
        assert judged(channel, size * (noise - noise.mean()), units) == []
        assert judged(channel, np.zeros(100), units) == []
    assert judged(Channel("msl"), np.ones(100), "Pa") == []
    (problem,) = judged(Channel("msl"), 5.0 + noise, "Pa")  # neither, and of no known unit
    assert problem.message.endswith("what is it, and its unit?")


def test_gaps_and_models_without_statistics():
    values = np.where(np.arange(288) % 2 == 0, np.nan, 1013.0)
    assert len(judged(Channel("msl"), values, "Pa")) == 1
    assert judged(Channel("msl"), np.full(10, np.nan), "Pa") == []
    assert judged(Channel("msl"), values, "Pa", None) == []
    assert Learned.of(np.zeros((10, 1, 1)), np.ones((10, 1, 1))) is None  # never set
    assert Learned.of(np.zeros(3), np.array([1.0, 1.0, 2.0])) is not None
    still = Learned(LEARNED.mean, np.zeros(len(CHANNELS)))  # a channel that never changes
    assert judged(Channel("msl"), values, "Pa", still) == []


def test_one_problem_a_variable_of_the_level_that_is_furthest_off():
    high, low = Channel("z", 50000.0), Channel("z", 85000.0)
    found = [Sample.of(CHANNELS.index(c), "z", "m2 s-2", state(c) / 9.80665) for c in (low, high)]
    (problem,) = implausible(found, CHANNELS, LEARNED)
    assert "at 500 hPa" in problem.message
