"""The command line: what it reads and writes, what it says, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import eccodes
import numpy as np
import pytest
import xarray as xr
from zarr.storage import ZipStore

from xwx.cli import main
from xwx.errors import MismatchError, Problem
from xwx.files import open_data
from xwx.models import card as catalogue
from xwx.models import registry
from xwx.models.card import Card
from xwx.models.checkpoint import save_checkpoint
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec
from xwx.version import __version__

GRID = Grid.regular(8, 16, poles=False)
SPEC = Spec((Channel("msl"),), GRID)
RUN = [sys.executable, "-c", "import sys; from xwx.cli import main; sys.exit(main())"]


def states(times: int = 3) -> xr.Dataset:
    """Mean sea level pressure on the grid of the toy model."""
    time = np.datetime64("2026-01-25T00", "ns") + np.arange(times) * np.timedelta64(6, "h")
    rng = np.random.default_rng(0)
    msl = 101325 + 500 * rng.standard_normal((times, *GRID.shape)).astype("float32")
    ds = xr.Dataset(
        {"msl": (("time", "latitude", "longitude"), msl)},
        {"time": time, "latitude": GRID.rows, "longitude": GRID.columns},
    )
    ds["msl"].attrs = {"units": "Pa", "standard_name": "air_pressure_at_mean_sea_level"}
    ds["latitude"].attrs = {"units": "degrees_north", "standard_name": "latitude"}
    ds["longitude"].attrs = {"units": "degrees_east", "standard_name": "longitude"}
    return ds


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.nc"
    states().to_netcdf(path)
    return path


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A bundled model with random weights, the only one."""
    config = EMFormerConfig.preset("emformer_tiny", dim=8, heads=2, depth=1, levels=0)
    card = Card("toy", "MIT", "noise", "a toy", "0.1")
    directory = save_checkpoint(tmp_path / "bundled" / "toy", EMFormer(config, SPEC), SPEC, card)
    monkeypatch.setattr(catalogue, "BUNDLED", directory.parent)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [])
    registry._load_bundled.cache_clear()
    yield directory
    registry._load_bundled.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """Replace the tasks: record the calls, return or raise what a test asks for."""
    record = SimpleNamespace(args=None, kwargs=None, error=None, seen=None)

    def forecast(ds, *args, store=None, **kwargs):
        record.args, record.kwargs, record.seen = args, kwargs | {"store": store}, ds.load()
        if record.error is not None:
            raise record.error
        if store is not None:
            with warnings.catch_warnings(action="ignore"):
                ds.to_zarr(store)
        return ds

    def train(config, **kwargs):
        record.args, record.kwargs = (config,), kwargs
        if record.error is not None:
            raise record.error
        return config.parent / "run"

    for name, task in (("forecast", forecast), ("train", train)):
        module = SimpleNamespace(**{name: task})
        monkeypatch.setitem(sys.modules, f"xwx.tasks.{name}", module)
    return record


def problem() -> MismatchError:
    return MismatchError([Problem("missing-variable", "vo", "is not there", "add it")])


def test_start_up_is_light():
    code = "import sys, xwx.cli; sys.exit(bool({'torch', 'zarr', 'pint'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["--version"], 0, __version__, ""),
        (["--help"], 0, "forecast", ""),
        (["no-such-command"], 2, "", "no-such-command"),
        (["check", "nowhere.nc"], 1, "", "nowhere.nc does not exist"),
        (["forecast", "in.nc", "--out", "out.png"], 2, "", "ends in .zarr or .nc"),
    ],
)
def test_exit_codes_of_the_process(arguments, code, out, err, tmp_path):
    done = subprocess.run(
        [*RUN, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == code, done.stderr
    assert out in done.stdout
    assert err in done.stderr
    assert bool(done.stdout) == (code == 0)
    assert bool(done.stderr) == (code != 0)
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_quiet():
    process = subprocess.Popen(
        [*RUN, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=120), error) == (141, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["forecast", "in.nc"],
        ["forecast", "--out", "out.nc"],
        ["forecast", "in.nc", "--out", "out.nc", "--steps", "0"],
        ["forecast", "in.nc", "--out", "out.nc", "--steps", "-3"],
        ["forecast", "in.nc", "--out", "out.nc", "--steps", "2.5"],
        ["forecast", "in.nc", "--out", "out.nc", "--members", "0"],
        ["forecast", "in.nc", "--out", "out.nc", "--members", "2.5"],
        ["forecast", "in.nc", "--out", "out.nc", "--cache", "-1"],
        ["forecast", "in.nc", "--out", "out.nc", "--cache", "2.5"],
        ["forecast", "in.nc", "--out", "out.nc", "--start", "tomorrow"],
        ["forecast", "in.nc", "--out", "out.nc", "--nonsense"],
        ["forecast", "in.nc", "--out", "no/such/directory/out.nc"],
        ["forecast", "in.nc", "--out", "out.grib"],
        ["train"],
        ["check"],
    ],
)
@pytest.mark.usefixtures("calls")
def test_wrong_usage(arguments, capsys, source, monkeypatch):
    monkeypatch.chdir(source.parent)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("xwx: ")
    assert captured.err.endswith("Try: xwx --help\n")
    assert not (source.parent / "out.nc").exists()


def test_forecast_passes_every_option_on(calls, source, tmp_path, capsys):
    out = tmp_path / "out.zarr"
    words = "--model toy --steps 7 --start 2026-01-25 --start 2026-01-25T06 --variables msl vo "
    words += "--members 10 --cache 0 --seed 5 --device cpu --no-progress"
    assert main(["forecast", str(source), "--out", str(out), *words.split()]) == 0
    assert calls.args == ("toy", 7)
    assert calls.kwargs == {
        "start": ["2026-01-25", "2026-01-25T06"],
        "members": 10,
        "cache": 0,
        "variables": ["msl", "vo"],
        "seed": 5,
        "device": "cpu",
        "progress": False,
        "store": str(out),
    }
    xr.testing.assert_identical(calls.seen, states())
    assert capsys.readouterr().out == f"{out}\n"


def test_forecast_defaults(calls, source, tmp_path):
    assert main(["forecast", str(source), "--out", str(tmp_path / "out.nc")]) == 0
    assert calls.args == (None, 40)
    assert set(calls.kwargs.values()) == {None}
    main(["forecast", str(source), "--out", str(tmp_path / "b.nc"), "--start", "2026-01-25"])
    assert calls.kwargs["start"] == "2026-01-25"


def write(ds: xr.Dataset, path) -> None:
    with warnings.catch_warnings(action="ignore"):
        if path.suffix == ".nc":
            ds.to_netcdf(path)
        elif path.suffix == ".zip":
            with ZipStore(path, mode="w") as store:
                ds.to_zarr(store, consolidated=False)
        else:
            ds.to_zarr(path)


@pytest.mark.parametrize("name", ["a.nc", "a.zarr", "a.zarr.zip", "a_zarr_directory"])
@pytest.mark.parametrize("out", ["out.nc", "out.zarr"])
def test_formats(calls, tmp_path, name, out):
    write(states(), tmp_path / name)
    assert main(["forecast", str(tmp_path / name), "--out", str(tmp_path / out)]) == 0
    xr.testing.assert_identical(calls.seen, states())
    with xr.open_dataset(tmp_path / out) as written:
        xr.testing.assert_identical(written.load(), states())
    assert {p.name for p in tmp_path.iterdir()} == {name, out}


def write_grib(path) -> None:
    """Write the states with ecCodes itself."""
    with path.open("wb") as file:
        for n, field in enumerate(states()["msl"].values):
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            keys = {
                "Ni": 16, "Nj": 8, "latitudeOfFirstGridPointInDegrees": GRID.latitude[0],
                "latitudeOfLastGridPointInDegrees": GRID.latitude[-1],
                "longitudeOfFirstGridPointInDegrees": 0.0,
                "longitudeOfLastGridPointInDegrees": GRID.longitude[-1],
                "iDirectionIncrementInDegrees": 22.5, "jDirectionIncrementInDegrees": 22.5,
                "dataDate": 20260125, "dataTime": 600 * n, "shortName": "msl",
                "bitsPerValue": 24,
            }  # fmt: skip
            for key, value in keys.items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set_values(message, field.ravel().astype(float))
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)


def test_grib(calls, tmp_path):
    write_grib(tmp_path / "a.grib")
    assert main(["forecast", str(tmp_path / "a.grib"), "--out", str(tmp_path / "out.nc")]) == 0
    np.testing.assert_allclose(calls.seen["msl"], states()["msl"], rtol=1e-6)
    np.testing.assert_array_equal(calls.seen["time"], states()["time"])
    assert {p.name for p in tmp_path.iterdir()} == {"a.grib", "out.nc"}  # no index is left


@pytest.mark.usefixtures("calls")
def test_grib_of_several_kinds(tmp_path, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("try filter_by_keys={'typeOfLevel': 'surface'}")

    write_grib(path := tmp_path / "a.grib")
    monkeypatch.setattr(xr, "open_dataset", refuse)
    assert main(["forecast", str(path), "--out", str(tmp_path / "out.nc")]) == 1
    shown = capsys.readouterr().err
    assert f'xr.open_dataset("{path}", engine="cfgrib", backend_kwargs=' in shown
    assert "ds.wx.forecast(...)" in shown


@pytest.mark.parametrize("name", ["a.nc", "a.zarr.zip", "a.grib", "a.zarr"])
@pytest.mark.usefixtures("calls")
def test_damaged_files(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    assert main(["forecast", str(tmp_path / name), "--out", str(tmp_path / "out.nc")]) == 1
    assert f"{name} cannot be read as " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.nc", "a.zarr", "a.grib"])
@pytest.mark.usefixtures("calls")
def test_missing_engines(tmp_path, capsys, monkeypatch, name):
    (tmp_path / name).touch()
    monkeypatch.setattr(xr.backends, "list_engines", dict)
    assert main(["forecast", str(tmp_path / name), "--out", str(tmp_path / "out.nc")]) == 1
    assert "pip install 'xarray-wx[io]'" in capsys.readouterr().err


@pytest.mark.usefixtures("calls")
def test_unknown_format(tmp_path, capsys):
    (tmp_path / "a.csv").touch()
    assert main(["forecast", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out.nc")]) == 1
    assert "unknown format; xwx reads .zarr, .zarr.zip, .nc" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["out.nc", "out.zarr"])
@pytest.mark.usefixtures("calls")
def test_existing_output(source, tmp_path, capsys, out):
    target = tmp_path / out
    write(states(1), target)
    arguments = ["forecast", str(source), "--out", str(target)]
    assert main(arguments) == 2
    assert "give --overwrite" in capsys.readouterr().err
    with xr.open_dataset(target) as old:
        assert old.sizes["time"] == 1
    assert main([*arguments, "--overwrite"]) == 0
    with xr.open_dataset(target) as new:
        assert new.sizes["time"] == 3
    assert {p.name for p in tmp_path.iterdir()} == {"in.nc", out}


@pytest.mark.parametrize("out", ["out.nc", "out.zarr"])
def test_a_failure_keeps_the_old_output(calls, source, tmp_path, out):
    write(states(1), tmp_path / out)
    for error, code in ((problem(), 1), (KeyboardInterrupt(), 130)):
        calls.error = error
        assert main(["forecast", str(source), "--out", str(tmp_path / out), "--overwrite"]) == code
        with xr.open_dataset(tmp_path / out) as old:
            assert old.sizes["time"] == 1
    assert {p.name for p in tmp_path.iterdir()} == {"in.nc", out}


@pytest.mark.usefixtures("calls")
def test_outputs_that_would_destroy_something(source, tmp_path, capsys):
    assert main(["forecast", str(source), "--out", str(source), "--overwrite"]) == 2
    assert "is the input" in capsys.readouterr().err
    (tmp_path / "thesis.zarr").mkdir()
    (tmp_path / "thesis.zarr" / "thesis.tex").touch()
    arguments = ["forecast", str(source), "--out", str(tmp_path / "thesis.zarr"), "--overwrite"]
    assert main(arguments) == 2
    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "thesis.zarr" / "thesis.tex").exists()


@pytest.mark.usefixtures("calls")
def test_a_link_stays_a_link(source, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out.nc").symlink_to(tmp_path / "disk" / "real.nc")
    assert main(["forecast", str(source), "--out", str(tmp_path / "out.nc"), "--overwrite"]) == 0
    assert (tmp_path / "out.nc").is_symlink()
    with xr.open_dataset(tmp_path / "disk" / "real.nc") as new:
        assert new.sizes["time"] == 3


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (problem(), 1, "xwx: the Dataset does not fit the model: 1 problem\n  1. vo: is not"),
        (KeyboardInterrupt(), 130, "xwx: interrupted\n"),
        (ZeroDivisionError("oh"), 1, "xwx: ZeroDivisionError: oh\nXWX_DEBUG=1 shows"),
        (PermissionError(13, "no"), 1, "xwx: [Errno 13] no\n"),
    ],
)
def test_failures(calls, source, tmp_path, capsys, monkeypatch, error, code, message):
    calls.error = error
    arguments = ["forecast", str(source), "--out", str(tmp_path / "out.nc")]
    monkeypatch.delenv("XWX_DEBUG", raising=False)
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert (captured.out, "Traceback" in captured.err) == ("", False)
    monkeypatch.setenv("XWX_DEBUG", "1")
    assert main(arguments) == code
    assert "Traceback" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]


def test_warnings_are_one_line(monkeypatch, source, tmp_path, capsys):
    def forecast(ds, *args, **kwargs):
        warnings.simplefilter("always")
        warnings.warn("mind the step", stacklevel=1)
        return ds

    module = SimpleNamespace(forecast=forecast)
    monkeypatch.setitem(sys.modules, "xwx.tasks.forecast", module)
    assert main(["forecast", str(source), "--out", str(tmp_path / "out.nc")]) == 0
    assert capsys.readouterr().err == "xwx: warning: mind the step\n"


def test_train(calls, tmp_path, capsys):
    config = tmp_path / "config.toml"
    assert main(["train", str(config)]) == 1
    assert "config.toml does not exist" in capsys.readouterr().err
    assert main(["train", str(tmp_path)]) == 1
    assert f"{tmp_path} is a directory: give the TOML file" in capsys.readouterr().err
    config.touch()
    assert main(["train", str(config)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'run'}\n"
    assert calls.kwargs == {"out": None, "resume": True, "progress": None}
    assert main(["train", str(config), "--fresh", "--out", str(tmp_path), "--progress"]) == 0
    assert calls.kwargs == {"out": tmp_path, "resume": False, "progress": True}


@pytest.mark.usefixtures("toy")
def test_models(capsys):
    assert main(["models"]) == 0
    assert capsys.readouterr().out == (
        "name  version  licence  description\ntoy   0.1      MIT      a toy\n"
    )
    assert main(["models", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert cards["toy"]["training_data"] == "noise"
    assert len(cards["toy"]["sha256"]) == 64


def test_info(toy, source, capsys):
    assert main(["info"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"xwx", "python", "torch", "triton", "xarray", "device"} <= set(lines)
    assert lines["xarray"] == xr.__version__
    for target in ("toy", str(toy)):
        assert main(["info", target]) == 0
        shown = capsys.readouterr().out
        assert "training data:  noise" in shown
        assert "channels:       msl" in shown
        assert "grid:           8 x 16" in shown
    assert main(["info", str(source)]) == 0
    assert "air_pressure" not in (shown := capsys.readouterr().out)
    assert "Dimensions:" in shown
    toy.rename(toy.with_name("model"))
    assert main(["info", str(toy.parent)]) == 1
    assert f"did you mean {toy.with_name('model')}?" in capsys.readouterr().err
    assert main(["info", "nowhere"]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_facts_of_a_card_are_rows():
    scores = {"6 h": {"msl": 0.4, "vo": 0.8}, "12 h": {"msl": 0.5, "vo": 0.7}}
    card = Card("toy", facts={"validation_score": 0.66, "rmse_over_persistence": scores})
    assert str(card).splitlines() == [
        "name:                   toy",
        "validation score:       0.66",
        "rmse over persistence:",
        "  6 h:                  msl 0.4, vo 0.8",
        "  12 h:                 msl 0.5, vo 0.7",
    ]


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("model", [[], ["--model", "toy"]])
def test_check(source, tmp_path, capsys, model):
    assert main(["check", str(source), *model]) == 0
    assert capsys.readouterr().out == "the Dataset fits toy\n"
    bad = states().rename(msl="pressure")
    bad["pressure"].attrs = {}
    bad.to_netcdf(tmp_path / "bad.nc")
    assert main(["check", str(tmp_path / "bad.nc"), *model]) == 1
    shown = capsys.readouterr().out
    what = "toy" if model else "any installed model"
    assert shown.startswith(f"the Dataset does not fit {what}: 1 problem\n")
    assert "msl" in shown


@pytest.mark.usefixtures("toy", "source")
def test_check_of_an_unknown_model(source, capsys):
    assert main(["check", str(source), "--model", "toi"]) == 1
    assert "did you mean 'toy'?" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("out", ["out.nc", "out.zarr"])
def test_a_real_forecast(source, tmp_path, out):
    arguments = ["forecast", str(source), "--out", str(tmp_path / out), "--steps", "2"]
    assert main([*arguments, "--device", "cpu", "--no-progress"]) == 0
    with open_data(tmp_path / out) as fc:
        assert fc["msl"].sizes == {"time": 2, "latitude": 8, "longitude": 16}
        expected = np.datetime64("2026-01-25T18", "ns") + np.arange(2) * np.timedelta64(6, "h")
        np.testing.assert_array_equal(fc["time"], expected)
        assert np.isfinite(fc["msl"]).all()
    assert os.listdir(tmp_path / "bundled") == ["toy"]


def test_members_are_those_of_a_generative_model_and_are_planned(toy, source, tmp_path, capsys):
    out = tmp_path / "out.nc"
    assert main(["forecast", str(source), "--out", str(out), "--members", "3"]) == 1
    said = capsys.readouterr().err
    assert "members=3: toy (EMFormer) is deterministic" in said
    assert main(["plan", str(source), "--members", "3"]) == 1
    assert "members=3" in capsys.readouterr().err
    for command in ("forecast", "plan"):
        assert main([command, "--help"]) == 0
        assert "forecasts of each start, of a generative model" in " ".join(
            capsys.readouterr().out.replace("│", " ").split()
        )
