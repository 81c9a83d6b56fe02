"""The door: one name on every Dataset, and it gives way to others."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import xarray as xr

import xwx
from xwx.accessor import WeatherAccessor
from xwx.errors import XwxWarning


def run(code, *flags):
    """Run a script in a fresh interpreter, warnings as errors, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OTHER = """
    import warnings
    import xarray as xr

    @xr.register_dataset_accessor("wx")
    class TheirAccessor:
        def __init__(self, ds):
            self.ds = ds
        def forecast(self):
            return "theirs"

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import xwx
"""


def test_every_dataset_has_it():
    ds = xr.Dataset()
    assert isinstance(ds.wx, WeatherAccessor)
    assert ds.wx is ds.wx
    assert xr.Dataset().wx is not ds.wx
    assert not hasattr(xr.DataArray(), "wx")


def test_importing_again_is_silent():
    assert run("""
        import importlib, xarray, xwx
        before = xarray.Dataset.wx
        importlib.reload(xwx)
        assert xarray.Dataset.wx is before
        print("done")
    """) == "done"  # fmt: skip


def test_a_taken_name_warns_once_and_names_both():
    out = run(
        OTHER
        + """
    (warning,) = caught
    print(warning.category.__module__, warning.category.__name__, warning.message)
    assert xr.Dataset().wx.forecast() == "theirs"
    """
    )
    assert out.startswith("xwx.errors XwxWarning")
    assert "__main__.TheirAccessor" in out
    assert "xwx.accessor.WeatherAccessor" in out
    assert "xwx.register_accessor(" in out


def test_the_warning_points_at_the_import():
    out = run(
        OTHER
        + """
    print(caught[0].filename)
    """
    )
    assert "xwx" not in out.replace("\\\\", "/").split("/")[-2:-1]


def test_another_name_works_beside_it():
    out = run(
        OTHER
        + """
    xwx.register_accessor("weather")
    xwx.register_accessor("weather")  # again: nothing to do
    ds = xr.Dataset()
    assert ds.wx.forecast() == "theirs"
    print(type(ds.weather).__module__, type(ds.weather).__name__)
    """
    )
    assert out == "xwx.accessor WeatherAccessor"


def test_asking_for_a_taken_name_is_an_error():
    out = run(
        OTHER
        + """
    try:
        xwx.register_accessor("wx")
    except ValueError as error:
        print(error)
    assert xr.Dataset().wx.forecast() == "theirs"
    """
    )
    assert "TheirAccessor" in out
    assert 'xwx.register_accessor("another_name")' in out


@pytest.mark.parametrize("name", ["", "two words", "1st", "a-b", "wx.", "class"])
def test_names_that_are_no_identifier(name):
    with pytest.raises(ValueError, match="accessor name"):
        xwx.register_accessor(name)


@pytest.mark.parametrize("name", ["mean", "sel", "attrs", "data_vars", "_variables", "__init__"])
def test_names_that_every_dataset_has(name):
    before = getattr(xr.Dataset, name)
    with pytest.raises(ValueError, match=name):
        xwx.register_accessor(name)
    assert getattr(xr.Dataset, name) is before


def test_something_else_than_a_name():
    with pytest.raises((TypeError, ValueError), match="accessor name"):
        xwx.register_accessor(3)


def test_giving_way_is_a_warning():
    with pytest.warns(XwxWarning, match="Dataset.sel belongs to"):
        xwx.register_accessor("sel", optional=True)


def test_a_name_of_ones_own():
    try:
        xwx.register_accessor("my_weather")
        assert isinstance(xr.Dataset().my_weather, WeatherAccessor)
    finally:
        del xr.Dataset.my_weather


@pytest.mark.parametrize(
    ("verb", "given"),
    [
        ("check", {"model": "m"}),
        ("forecast", {"model": "m", "steps": 3, "start": "2000", "members": 2,
                      "constraints": ["c"], "cache": 5, "variables": ["a"], "store": "x.zarr",
                      "seed": 7, "sampling": "s", "device": "cpu", "progress": False}),
        ("plan", {"model": "m", "steps": 3, "start": "2000", "members": 2, "constraints": ["c"],
                  "cache": 5, "variables": ["a"], "store": "x.zarr", "sampling": "s",
                  "device": "cpu"}),
        ("downscale", {"model": "m", "freq": "6h", "members": 2, "noise": "1 K",
                       "constraints": ["c"], "variables": ["a"], "seed": 7, "sampling": "s",
                       "device": "cpu", "progress": False}),
        ("reconstruct", {"mask": True, "model": "m", "stations": "o", "members": 2, "noise": "1 K",
                         "tolerance": "1 h", "constraints": ["c"], "variables": ["a"], "seed": 7,
                         "sampling": "s", "device": "cpu", "progress": False}),
        ("warm", {"delta": "3 K", "humidity": "linear"}),
        ("regrid", {"target": "m", "method": "linear"}),
    ],
)  # fmt: skip
def test_a_method_is_one_call_of_its_task(monkeypatch, verb, given):
    """Every argument arrives, and nothing else is done."""
    import importlib

    module = importlib.import_module(f"xwx.tasks.{verb}")
    task = inspect.signature(getattr(module, verb))
    calls = []

    def record(*args, **kwargs):
        calls.append(task.bind(*args, **kwargs).arguments)
        return "the answer"

    monkeypatch.setattr(module, verb, record)
    ds = xr.Dataset()
    assert getattr(ds.wx, verb)(**given) == "the answer"
    (call,) = calls
    first = next(iter(task.parameters))
    assert call.pop(first) is ds
    assert call == given


@pytest.mark.parametrize(
    "verb", ["check", "downscale", "forecast", "plan", "reconstruct", "regrid", "warm"]
)
def test_a_method_has_the_signature_of_its_task(verb):
    import importlib

    task = inspect.signature(getattr(importlib.import_module(f"xwx.tasks.{verb}"), verb))
    method = inspect.signature(getattr(WeatherAccessor, verb))
    rest = list(task.parameters.values())[1:]
    own = list(method.parameters.values())[1:]
    assert [(p.name, p.kind, p.default) for p in own] == [(p.name, p.kind, p.default) for p in rest]


def test_area_weights(worlds):
    weights = worlds.dataset(2).wx.area_weights
    edges = np.sin(np.deg2rad(np.linspace(90, -90, 17)))
    np.testing.assert_allclose(weights.values, 16 * (edges[:-1] - edges[1:]) / 2, rtol=1e-13)
    assert weights.dims == ("latitude",)
