"""The shared words: channels, grids, Specs, errors and options."""

from __future__ import annotations

import dataclasses
import json
import pickle
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xwx.errors import CheckpointError, MismatchError, Problem, XwxError
from xwx.options import get_options, set_options
from xwx.spec import FORCINGS, Channel, Grid, Spec

GRID = Grid.regular(4, 8, poles=False)


# ---- channels


def test_channels_print_in_hectopascals():
    assert str(Channel("z", 50000.0)) == "z[500 hPa]"
    assert str(Channel("z", 50.0)) == "z[0.5 hPa]"
    assert str(Channel("t2m")) == "t2m"


@pytest.mark.parametrize("level", [0, -5.0, float("nan")])
def test_levels_are_positive(level):
    with pytest.raises(ValueError, match=r"channel 'z': level .* must be positive"):
        Channel("z", level)


# ---- grids


@pytest.mark.parametrize(
    ("rows", "columns", "poles", "first", "last"),
    [(721, 1440, True, 90, -90), (64, 128, False, 88.59375, -88.59375), (73, 144, True, 90, -90)],
)
def test_regular_grids(rows, columns, poles, first, last):
    grid = Grid.regular(rows, columns, poles=poles)
    assert grid.shape == (rows, columns)
    assert grid.periodic
    assert grid.latitude[0] == first
    assert grid.latitude[-1] == last
    np.testing.assert_allclose(grid.rows, -grid.rows[::-1], atol=1e-12)
    np.testing.assert_allclose(np.diff(grid.columns), 360 / columns, rtol=1e-12)
    assert grid.longitude[0] == 0


@pytest.mark.parametrize(
    ("longitude", "periodic"),
    [
        (np.arange(0, 360, 2.5), True),
        (np.arange(1.25, 360, 2.5), True),
        (np.arange(0, 357.5, 2.5), False),  # one column is missing
        (np.arange(10, 70, 2.0), False),
        (np.arange(0, 180, 2.5), False),
        ([0.0, 180.0], True),
        ([0.0, 90.0], False),
        ([0.0], False),
        ([0.0, 90.0, 180.0, 300.0], False),  # not uniform
        (np.arange(0, 360, 2.5).astype(np.float32) + np.float32(1e-4), True),
        (np.round(np.arange(96) * 3.75, 1), False),
        (np.round(np.arange(512) * 360 / 512, 5), True),
        (30 + np.arange(180) * 2.0 - 20, True),  # begins anywhere, crosses 360
    ],
)
def test_the_globe_closes_or_it_does_not(longitude, periodic):
    assert Grid((45.0, -45.0), tuple(longitude)).periodic is periodic


@given(
    n=st.integers(2, 400),
    start=st.floats(0, 359.5),
    missing=st.integers(0, 3),
)
def test_a_globe_of_any_number_of_columns(n, start, missing):
    kept = n - missing
    if kept < 2:
        return
    longitude = start + 360 / n * np.arange(kept)
    # two columns are read as a spacing of their own; only the whole circle closes
    assert Grid((0.0,), tuple(longitude)).periodic is (missing == 0)


@pytest.mark.parametrize(
    ("latitude", "longitude", "message"),
    [
        ((), (0,), "needs rows and columns, got 0 x 1"),
        ((0,), (), "needs rows and columns, got 1 x 0"),
        ((-10, 10), (0, 1), "latitude must decrease strictly"),
        ((10, 10), (0, 1), "latitude must decrease strictly"),
        ((91, 10), (0, 1), "within"),
        ((10, -91), (0, 1), "within"),
        ((float("nan"), 10), (0, 1), "latitude"),
        ((10, float("nan")), (0, 1), "latitude"),
        ((float("nan"),), (0, 1), "latitude"),
        ((10, 0), (0, 0), "longitude must increase strictly"),
        ((10, 0), (5, 0), "longitude must increase strictly"),
        ((10, 0), (-1, 0), "longitude"),
        ((10, 0), (360, 361), "longitude"),
        ((10, 0), (0, 360), "less than 360"),
        ((10, 0), (0, float("nan")), "longitude"),
        ((10, 0), (0, float("nan"), 2), "longitude"),
    ],
)
def test_grids_that_are_none(latitude, longitude, message):
    with pytest.raises(ValueError, match=message):
        Grid(latitude, longitude)


def test_no_regular_grid_of_one_row_from_pole_to_pole():
    with pytest.raises(ValueError, match="no spacing"):
        Grid.regular(1, 8, poles=True)
    assert Grid.regular(1, 2, poles=False).latitude == (0.0,)


def test_grids_print_and_compare():
    grid = Grid.regular(73, 144, poles=True)
    assert str(grid) == "73 x 144 (latitude 90 to -90, longitude 0 to 357.5)"
    assert grid == Grid(list(grid.rows), list(grid.columns))
    assert hash(grid) == hash(Grid(list(grid.rows), list(grid.columns)))
    assert grid != Grid.regular(73, 143, poles=True)


# ---- Specs

specs = st.builds(
    Spec,
    channels=st.lists(
        st.builds(
            Channel,
            st.sampled_from(["z", "t", "u", "msl", "päärynä"]),
            st.none() | st.floats(1e-3, 2e5),
        ),
        min_size=1,
        max_size=5,
        unique=True,
    ).map(tuple),
    grid=st.builds(Grid.regular, st.integers(2, 9), st.integers(1, 9), poles=st.booleans()),
    step=st.timedeltas(timedelta(seconds=1), timedelta(days=40)),
    history=st.integers(1, 4),
    forcings=st.lists(st.sampled_from(FORCINGS), max_size=4).map(tuple),
)


@given(specs)
def test_json_keeps_everything(spec):
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_the_form_on_disk():
    spec = Spec((Channel("z", 50000.0), Channel("msl")), GRID, history=2, forcings=("sin_year",))
    assert spec.to_json() == {
        "channels": [{"name": "z", "level": 50000.0}, {"name": "msl", "level": None}],
        "latitude": [67.5, 22.5, -22.5, -67.5],
        "longitude": [0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0],
        "step_seconds": 21600.0,
        "history": 2,
        "forcings": ["sin_year"],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ()}, "at least one channel"),
        ({"channels": (Channel("z", 5e4), Channel("z", 50000))}, r"twice: z\[500 hPa\]"),
        ({"history": 0}, "history=0"),
        ({"step": timedelta(0)}, "step"),
        ({"step": timedelta(hours=-6)}, "step"),
        ({"forcings": ("moon",)}, "unknown forcings.*moon.*sin_latitude"),
    ],
)
def test_specs_that_are_none(changes, message):
    with pytest.raises(ValueError, match=message):
        Spec(**{"channels": (Channel("msl"),), "grid": GRID, **changes})


def test_specs_are_frozen():
    spec = Spec([Channel("msl")], GRID)
    assert spec.channels == (Channel("msl"),)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.history = 2


def test_only_the_season_needs_a_calendar():
    needs = {f for f in FORCINGS if Spec((Channel("msl"),), GRID, forcings=(f,)).needs_calendar}
    assert needs == {"sin_year", "cos_year"}


# ---- errors

PROBLEMS = [
    Problem("missing-level", "z", "no level 500 hPa", "ds.sel(level=500)"),
    Problem("no-unit", "msl", "no units attribute", 'ds.msl.attrs["units"] = "Pa"'),
]


def test_a_mismatch_is_caught_as_value_and_as_key_error():
    for kind in (MismatchError, ValueError, KeyError, XwxError):
        with pytest.raises(kind):
            raise MismatchError(PROBLEMS)


def test_a_mismatch_reads_as_text_not_as_a_repr():
    assert str(MismatchError(PROBLEMS, "the model 'mini'")) == (
        "the Dataset does not fit the model 'mini': 2 problems\n"
        "  1. z: no level 500 hPa\n"
        "    -> ds.sel(level=500)\n"
        "  2. msl: no units attribute\n"
        '    -> ds.msl.attrs["units"] = "Pa"'
    )
    assert str(MismatchError(PROBLEMS[:1])).startswith(
        "the Dataset does not fit the model: 1 problem\n"
    )


def test_a_mismatch_survives_another_process():
    error = pickle.loads(pickle.dumps(MismatchError(PROBLEMS, "this")))
    assert error.problems == tuple(PROBLEMS)
    assert str(error) == str(MismatchError(PROBLEMS, "this"))


def test_checkpoint_errors_are_value_errors():
    assert issubclass(CheckpointError, ValueError)


# ---- options


@pytest.fixture(autouse=True)
def _options_as_they_were():
    before = get_options()
    yield
    set_options(**before)


def test_defaults():
    assert get_options() == {
        "device": "auto",
        "kernels": "auto",
        "precision": "float32",
        "progress": None,
    }


def test_options_are_nested():
    with set_options(progress=False, device="cpu"):
        with set_options(progress=True):
            assert get_options()["progress"] is True
            assert get_options()["device"] == "cpu"
        assert get_options()["progress"] is False
    assert get_options()["progress"] is None
    assert get_options()["device"] == "auto"


def test_an_exception_leaves_the_block_tidy():
    with pytest.raises(KeyError), set_options(precision="bfloat16"):
        raise KeyError
    assert get_options()["precision"] == "float32"


def test_options_for_good_and_a_copy_of_them():
    set_options(precision="bfloat16")
    options = get_options()
    assert options["precision"] == "bfloat16"
    options["precision"] = "float32"
    assert get_options()["precision"] == "bfloat16"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11", "mps"])
def test_devices(device):
    with set_options(device=device):
        assert get_options()["device"] == device


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "red"}, "unknown option 'colour': the options are device, kernels"),
        ({"device": "tpu"}, "option device='tpu'"),
        ({"device": "cuda:x"}, "option device='cuda:x'"),
        ({"device": "cuda:"}, "option device='cuda:'"),
        ({"device": "cpu:banana"}, "option device"),
        ({"device": 0}, "option device=0"),
        ({"kernels": "cuda"}, 'option kernels=.cuda.: give "auto", "triton", "numba" or "torch"'),
        ({"precision": "float16"}, 'give "float32" or "bfloat16"'),
        ({"precision": None}, "option precision=None"),
        ({"progress": "yes"}, "option progress='yes'"),
        ({"progress": 1}, "option progress=1"),
    ],
)
def test_options_that_are_none(options, message):
    before = get_options()
    with pytest.raises(ValueError, match=message):
        set_options(**options)
    assert get_options() == before


def test_one_bad_option_changes_none():
    with pytest.raises(ValueError):
        set_options(device="cpu", precision="half")
    assert get_options()["device"] == "auto"
