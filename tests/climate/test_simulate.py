"""The store that a simulation leaves, with a small circulation in the place of the real one."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xwx.cli import main
from xwx.climate.settings import LEVELS, Settings
from xwx.climate.states import SigmaStates
from xwx.errors import ConfigError, StoreError, XwxError
from xwx.fields import check, grid_of
from xwx.spec import Channel, Spec
from xwx.tasks.simulate import simulate

SHORT = {"years": 3 / 365, "spinup_days": 2.0, "chunk_days": 1.0, "grid": "8x4"}
UPPER = ("z", "q", "u", "v", "t")


class Toy:
    """Two numbers that follow from those before, spread over a grid of 6 x 5 x 10."""

    sigma = np.linspace(0.05, 0.95, 6)
    source = "a toy"

    def __init__(self, settings):
        sines, weights = np.polynomial.legendre.leggauss(5)
        self.latitude = np.rad2deg(np.arcsin(sines))
        self.longitude = 36.0 * np.arange(10)
        self.areas = weights / 2
        self.phis = 3000.0 * np.random.default_rng(0).random((5, 10))
        self.land = np.random.default_rng(1).random((5, 10))
        self.drift = 0.0
        self.start = np.datetime64(settings.start, "ms")
        self.states, self.number = 0, 0.1 + 0.01 * settings.seed
        self.fails_at = None

    @property
    def days(self):
        return self.states / 4

    def advance(self, days):
        made = []
        for _ in range(round(days * 4)):
            self.states += 1
            self.number = 3.9 * self.number * (1 - self.number)  # chaos: no two states alike
            made.append(self.number)
        if self.states == self.fails_at:
            made[-1] = np.nan
        x = np.array(made, np.float32)
        column = x[:, None, None, None] * np.linspace(0.5, 1, 6, dtype="f4")[:, None, None]
        column = column + np.random.default_rng(2).random((5, 10), dtype="f4")
        plane = column[:, -1]
        hours = np.arange(self.states - len(x) + 1, self.states + 1) * np.timedelta64(6, "h")
        return SigmaStates(
            times=self.start + hours, t=250 + 9 * column, q=0.01 * column - 0.005, u=column,
            v=-column, z=5e4 * column, ps=1e5 + 50 * plane, t2m=270 + plane, skt=271 + plane,
            tp=plane - 0.9, tisr=300 * plane,
        )  # fmt: skip

    def save(self, path):
        path.write_text(json.dumps([self.states, self.number]))

    def load(self, path):
        self.states, self.number = json.loads(path.read_text())


def run(path, make=Toy, overwrite=False, **changes):
    return simulate(
        path, Settings(**{**SHORT, **changes}), make, overwrite=overwrite, progress=False
    )


def opened(path):
    return xr.open_dataset(path, engine="zarr", consolidated=False).load()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of three days that was made in one go."""
    path = run(tmp_path_factory.mktemp("whole") / "climate.zarr")
    return opened(path)


def test_times_follow_the_spin_up_six_hours_apart(whole):
    first = np.datetime64("2000-01-03T06", "ns")
    expected = first + np.arange(12) * np.timedelta64(6, "h")
    assert np.array_equal(whole.time.values, expected)


def test_the_store_fits_a_model_of_seventy_channels(whole):
    channels = tuple(Channel(k, 100.0 * p) for k in UPPER for p in LEVELS)
    channels += tuple(Channel(k) for k in ("t2m", "u10", "v10", "msl", "sp"))
    report = check(whole, Spec(channels, grid_of(whole)))
    assert len(channels) == 70
    assert report.ok, report
    extra = tuple(Channel(k) for k in ("skt", "tp", "z_sfc", "lsm"))
    assert check(whole, Spec(extra, grid_of(whole))).ok


def test_every_variable_says_what_it_is(whole):
    for name, variable in whole.variables.items():
        assert variable.attrs["standard_name"], name
        if name != "time":
            assert variable.attrs["units"], name
        assert variable.dtype == np.float32 or name in whole.coords, name
    assert whole.attrs["license"] == "CC0-1.0"
    assert "seed 0" in whole.attrs["comment"]
    assert whole.tp.attrs["cell_methods"] == "time: sum (interval: 6 hours)"


def test_units_and_signs_on_the_way_to_the_store(whole):
    """Precipitation in metres and humidity are not negative; rows run from the north."""
    assert float(whole.tp.min()) == 0
    assert 0 < float(whole.tp.max()) < 2e-3
    assert float(whole.q.min()) == 0
    assert np.all(np.diff(whole.latitude) < 0)
    gcm = Toy(Settings(**SHORT))
    weights = np.diff(np.sin(np.deg2rad(np.linspace(-90, 90, 5)))) / 2
    assert float((whole.z_sfc.mean("longitude") * weights).sum()) == pytest.approx(
        float(gcm.phis.mean(1) @ gcm.areas), rel=1e-6
    )
    assert np.all(whole.t2m < whole.skt)
    assert float(abs(whole.u + whole.v).max()) < 1e-6


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("when", ["before", "while writing", "after writing"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_an_interrupted_run_goes_on_with_the_same_numbers(
    when, chunk, whole, tmp_path, monkeypatch
):
    path = tmp_path / "climate.zarr"

    class Fails(Toy):
        def advance(self, days):
            if when == "before" and self.states == 4 * chunk:
                raise Interrupted
            return super().advance(days)

        def save(self, target):
            if when == "after writing" and self.states == 4 * (chunk + 1):
                target.write_text("half of it")
                raise Interrupted
            super().save(target)

    if when == "while writing":
        to_zarr, calls = xr.Dataset.to_zarr, []

        def stops(self, *args, **options):
            to_zarr(
                self[["z", "msl"]], *args, **{k: v for k, v in options.items() if k != "encoding"}
            )
            raise Interrupted

        def writes(self, *args, **options):
            calls.append(1)
            return (stops if len(calls) == chunk else to_zarr)(self, *args, **options)

        monkeypatch.setattr(xr.Dataset, "to_zarr", writes)
    with pytest.raises(Interrupted):
        run(path, Fails)
    monkeypatch.undo()
    run(path)
    xr.testing.assert_identical(opened(path), whole)
    assert len(list((tmp_path / "climate.zarr.state").iterdir())) == 2


def test_more_years_go_on_where_it_ended(whole, tmp_path):
    path = tmp_path / "climate.zarr"
    run(path, years=1 / 365)
    assert opened(path).sizes["time"] == 4
    run(path)
    xr.testing.assert_identical(opened(path), whole)


def test_another_seed_is_another_climate(whole, tmp_path):
    other = opened(run(tmp_path / "climate.zarr", seed=1, years=1 / 365))
    assert not np.array_equal(other.msl, whole.msl[:4])


def test_a_complete_store_is_left_alone_unless_asked(tmp_path, whole):
    path = tmp_path / "climate.zarr"
    run(path)
    before = sorted((f, f.stat().st_mtime_ns) for f in path.rglob("*"))
    assert len(before) > 50
    with pytest.raises(StoreError, match=r"complete with 12 states.*--years.*--overwrite"):
        run(path)
    assert sorted((f, f.stat().st_mtime_ns) for f in path.rglob("*")) == before
    run(path, overwrite=True, seed=1, years=1 / 365)
    assert not np.array_equal(opened(path).msl, whole.msl[:4])


def test_other_settings_are_named(tmp_path):
    path = tmp_path / "climate.zarr"
    run(path, years=1 / 365)
    with pytest.raises(ConfigError, match=r"seed 0 -> 3, step_minutes 40.0 -> 30.0"):
        run(path, seed=3, step_minutes=30.0)


def test_a_store_of_another_origin_is_left_alone(tmp_path):
    path = run(tmp_path / "climate.zarr", years=1 / 365)
    shutil.rmtree(tmp_path / "climate.zarr.state")
    with pytest.raises(StoreError, match=r"climate.zarr.state.*--overwrite"):
        run(path)
    assert opened(path).sizes["time"] == 4
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "diary.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="holds something else"):
            run(tmp_path / "notes.zarr", overwrite=overwrite)
    assert (tmp_path / "notes.zarr" / "diary.txt").read_text() == "mine"
    with pytest.raises(StoreError, match=r"must end in \.zarr"):
        run(tmp_path / "climate.nc")
    with pytest.raises(StoreError, match="nowhere does not exist"):
        run(tmp_path / "nowhere" / "climate.zarr")


def test_a_store_cut_short_is_noticed(tmp_path):
    path = tmp_path / "climate.zarr"
    run(path, years=2 / 365)
    import zarr

    zarr.open_group(path, mode="r+")["msl"].resize((5, 4, 8))
    with pytest.raises(StoreError, match=r"holds 5 of the 8 states of msl"):
        run(path)


def test_a_full_disk_is_noticed_before_anything_runs(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9e9, 9e9, 2e4))

    def never(settings):
        raise AssertionError("was made")

    with pytest.raises(StoreError, match=r"needs up to 0\.0 GB.*fewer --years"):
        run(tmp_path / "climate.zarr", never)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_end_it(tmp_path):
    def make(settings):
        toy = Toy(settings)
        toy.fails_at = 16
        return toy

    with pytest.raises(XwxError, match=r"t, q, u.* not finite by 2000-01-05T00.*--step-minutes"):
        run(tmp_path / "climate.zarr", make)
    assert opened(tmp_path / "climate.zarr").sizes["time"] == 4


# ---- settings and the command


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("years", 0.0, "positive"),
        ("years", float("nan"), "positive"),
        ("spinup_days", -1.0, "not be negative"),
        ("chunk_days", 0.3, "multiple of 0.25"),
        ("chunk_days", 0.0, "multiple of 0.25"),
        ("grid", "64", "columns x rows"),
        ("grid", "1x32", "from 2x2"),
        ("seed", -1, "not be negative"),
        ("start", "2000-13-01", "date"),
        ("start", "1 May 2000", "date"),
        ("step_minutes", 50.0, "divide 6 hours"),
        ("step_minutes", 0.0, "divide 6 hours"),
    ],
)
def test_settings_that_cannot_be(name, value, words):
    with pytest.raises(ValueError, match=f"{name}=.*{words}"):
        Settings(**{name: value})


def test_the_disk_need_is_that_of_the_fields(whole):
    settings = Settings(**SHORT)
    varying = [v for v in whole.data_vars.values() if "time" in v.dims]
    assert settings.nbytes == sum(v.nbytes for v in varying)
    assert Settings().nbytes == 7300 * 73 * 64 * 32 * 4


def test_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    from importlib import metadata

    from xwx.climate import requirements

    def gone(name):
        raise metadata.PackageNotFoundError(name)

    out = str(tmp_path / "climate.zarr")
    monkeypatch.setattr(requirements, "version", gone)
    assert main(["simulate-climate", out]) == 1
    assert "pip install 'xarray-wx[climate]'" in capsys.readouterr().err
    monkeypatch.setattr(requirements, "version", lambda name: "3.1.0")
    assert main(["simulate-climate", out]) == 1
    assert "needs jcm 3.0.0" in capsys.readouterr().err
    assert main(["simulate-climate", out, "--grid", "big"]) == 2
    assert "grid='big'" in capsys.readouterr().err
    assert not Path(out).exists()
