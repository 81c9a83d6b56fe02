"""Training data from any layout: the same physics gives the same packed states."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import namedtuple
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xwx.errors import ConfigError, MismatchError, StoreError
from xwx.fields import forcings
from xwx.spec import Channel, Grid
from xwx.tasks import archive as module
from xwx.tasks.archive import make_archive, make_spec, open_training_data
from xwx.training.config import DataConfig, read_config

GRID = Grid.regular(6, 12, poles=False)
LEVELS = [50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000]
ERA5_LEVELS = [1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350]
ERA5_LEVELS += [400, 450, 500, 550, 600, 650, 700, 750, 775, 800, 825, 850, 875, 900, 925, 950]
ERA5_LEVELS += [975, 1000]
HOURS = 73
#: channel -> its name in ARCO-ERA5 and WeatherBench 2, that in CDS files, units as ERA5 writes them
UPPER = {
    "z": ("geopotential", "z", "m**2 s**-2"),
    "t": ("temperature", "t", "K"),
    "q": ("specific_humidity", "q", "kg kg**-1"),
    "u": ("u_component_of_wind", "u", "m s**-1"),
    "v": ("v_component_of_wind", "v", "m s**-1"),
}
SURFACE = {
    "t2m": ("2m_temperature", "t2m", "K"),
    "u10": ("10m_u_component_of_wind", "u10", "m s**-1"),
    "v10": ("10m_v_component_of_wind", "v10", "m s**-1"),
    "msl": ("mean_sea_level_pressure", "msl", "Pa"),
    "sp": ("surface_pressure", "sp", "Pa"),
}
CHANNELS = [(key, level) for key in UPPER for level in LEVELS] + [(key, None) for key in SURFACE]
CONFIG = """
name = "layouts"
[data]
dataset = "{dataset}"
channels = [{channels}]
train = ["2020-01-01T00", "2020-01-02T12"]
valid = ["2020-01-02T18", "2020-01-03T06"]
test = ["2020-01-03T12", "2020-01-04T00"]
step_hours = 6
history = 2
forcings = ["cos_local_time", "sin_year"]
[network]
architecture = "emformer"
[training]
updates = 1
rollout = [[0.0, 1]]
"""
BASE = {"z": 5e4, "t": 250.0, "q": 5e-3, "u": 5.0, "v": 0.0}
BASE |= {"t2m": 280.0, "u10": 3.0, "v10": -1.0, "msl": 101000.0, "sp": 98000.0}


def times(hours=HOURS):
    return np.datetime64("2020-01-01T00", "ns") + np.arange(hours) * np.timedelta64(1, "h")


def truth(key, level=None, hours=HOURS):
    """Return a field by formula, (hour, lat from the north, lon): float32, canonical units."""
    n = [*UPPER, *SURFACE].index(key) + (0 if level is None else 0.01 * level)
    hour, row, column = np.ogrid[:hours, : GRID.shape[0], : GRID.shape[1]]
    wave = np.sin(0.05 * hour + 1.1 * row + n) + 0.5 * np.cos(0.5 * column - 0.11 * hour * n)
    return (BASE[key] * (1 + 0.01 * wave) + 0.1 * BASE[key] * 0.01 * n + wave * 1e-4).astype("f4")


def expected(positions):
    """Return the packed states at some hours."""
    fields = [truth(key, level)[positions] for key, level in CHANNELS]
    return np.stack(fields, axis=1)


def arco():
    """Hourly, 37 levels, latitude descending, many variables more than needed, no CF names."""
    dims = ("time", "level", "latitude", "longitude")
    data = {
        long: (dims, np.stack([truth(key, p) for p in ERA5_LEVELS], axis=1), {"units": units})
        for key, (long, _, units) in UPPER.items()
    }
    data |= {
        long: (("time", *dims[2:]), truth(key), {"units": units})
        for key, (long, _, units) in SURFACE.items()
    }
    plane = np.zeros((HOURS, *GRID.shape), "f4")
    more = {"100m_u_component_of_wind": "m s**-1", "sea_surface_temperature": "K"}
    more |= {"total_precipitation": "m", "soil_type": "~", "total_cloud_cover": "(0 - 1)"}
    data |= {name: (("time", *dims[2:]), plane * np.nan, {"units": u}) for name, u in more.items()}
    data["geopotential_at_surface"] = (dims[2:], plane[0], {"units": "m**2 s**-2"})
    coords = {"time": times(), "latitude": GRID.rows.astype("f4")}
    coords["longitude"] = GRID.columns.astype("f4")
    coords["level"] = ("level", np.array(ERA5_LEVELS), {"units": "Hectopascal(hPa)"})
    ds = xr.Dataset(data, coords, {"valid_time_start": "1940-01-01"})
    return ds, {
        name: {"chunks": (1, *ds[name].shape[1:])} for name in data if "time" in ds[name].dims
    }


def weatherbench():
    """6-hourly, longitude before latitude, latitude ascending, a level axis without units."""
    ds = arco()[0].isel(time=slice(None, None, 6), latitude=slice(None, None, -1))
    ds = ds.sel(level=LEVELS).transpose("time", "level", "longitude", "latitude")
    ds["level"].attrs = {}
    return ds, {
        name: {"chunks": (5, *ds[name].shape[1:])} for name in ds if "time" in ds[name].dims
    }


def cds():
    """6-hourly, short names, levels from the ground up, longitude from -180, other units."""
    ds = arco()[0].isel(time=slice(None, None, 6))
    ds = ds.rename({long: short for long, short, _ in (UPPER | SURFACE).values()})
    ds = ds[[short for _, short, _ in (UPPER | SURFACE).values()]].sel(level=LEVELS[::-1])
    ds = ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180).sortby("longitude")
    ds = ds.rename(level="pressure_level", time="valid_time")
    ds["pressure_level"].attrs["units"] = "hPa"
    return ds, {}


def write(layout, path):
    ds, encoding = layout()
    ds.to_zarr(path, encoding=encoding, consolidated=False)
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {f.__name__: write(f, folder / f"{f.__name__}.zarr") for f in (arco, weatherbench, cds)}


def config(folder, dataset) -> DataConfig:
    """Return the [data] of the configuration file, in which the dataset alone differs."""
    lines = [
        f'{{ name = "{key}" }}' if p is None else f'{{ name = "{key}", level_hPa = {p} }}'
        for key, p in CHANNELS
    ]
    path = folder / "train.toml"
    path.write_text(CONFIG.format(dataset=dataset, channels=", ".join(lines)))
    return read_config(path).data


def packed(data, period="train", folder=None, **options):
    ds = open_training_data(data)
    return make_archive(ds, make_spec(ds, data), getattr(data, period), folder, **options)


# ---- layouts


@pytest.mark.parametrize("folder", [None, "cache"])
@pytest.mark.parametrize("layout", ["arco", "weatherbench", "cds"])
def test_one_physics_in_three_layouts_is_the_same_bit_for_bit(stores, layout, folder, tmp_path):
    data = config(tmp_path, stores[layout])
    where = None if folder is None else tmp_path / folder
    archive = packed(data, folder=where)
    assert len(archive.spec.channels) == 70
    assert np.array_equal(archive.times, times()[:37:6])
    assert archive.states.dtype == np.float32
    assert np.array_equal(archive.states, expected(slice(0, 37, 6)))
    assert archive.starts(3).tolist() == [0, 1, 2, 3, 4]
    batch = archive.batch([2], 3)
    forced = forcings(times()[12:25:6], archive.spec.grid, archive.spec.forcings)
    assert np.array_equal(batch.forcings[0].numpy(), forced)


def test_other_units_are_converted_and_rounded_once(tmp_path, stores):
    ds = cds()[0].load()
    ds["msl"] = (ds.msl.astype("f8") / 100).assign_attrs(units="hPa")
    ds["t"] = (ds.t.astype("f8") - 273.15).assign_attrs(units="degC")
    ds["z"] = (ds.z.astype("f8") / 9.80665).assign_attrs(
        units="m", standard_name="geopotential_height"
    )
    ds.to_zarr(tmp_path / "units.zarr", consolidated=False)
    archive = packed(config(tmp_path, tmp_path / "units.zarr"))
    np.testing.assert_allclose(archive.states, expected(slice(0, 37, 6)), rtol=2e-7)


def test_the_step_of_the_configuration_chooses_whole_steps_after_midnight(stores, tmp_path):
    data = config(tmp_path, stores["arco"])
    for hours in (1, 3, 12, 24):
        archive = packed(replace(data, step_hours=hours, train=("2020-01-01T05", "2020-01-04")))
        wanted = [h for h in range(5, HOURS) if h % hours == 0]
        assert np.array_equal(archive.times, times()[wanted])
        assert np.array_equal(archive.states, expected(wanted))


def test_a_record_that_is_late_by_the_same_keeps_its_times(tmp_path):
    ds = arco()[0].isel(time=slice(3, None, 6))
    ds.to_zarr(tmp_path / "late.zarr", consolidated=False)
    archive = packed(config(tmp_path, tmp_path / "late.zarr"))
    assert np.array_equal(archive.times, times()[3:37:6])


def test_the_lead_in_is_the_history_before_the_first_start(stores, tmp_path):
    data = replace(config(tmp_path, stores["arco"]), history=3)
    archive = packed(data, "valid", tmp_path / "cache", lead_in=True)
    assert np.array_equal(archive.times, times()[30:55:6])
    assert np.array_equal(archive.states, expected(slice(30, 55, 6)))
    first = packed(data, "train", lead_in=True)  # nothing is there before
    assert first.times[0] == times()[0]


def test_the_unit_of_a_level_is_said_only_where_there_is_no_doubt(tmp_path):
    ds = weatherbench()[0]
    for n, strange in enumerate(
        (
            ds.assign_coords(level=np.array(LEVELS) + 0.5),
            ds.rename(geopotential="z"),
            ds.assign_coords(level=ds.level.assign_attrs(units="layer")),
        )
    ):
        strange.to_zarr(tmp_path / f"{n}.zarr", consolidated=False)
        data = config(tmp_path, tmp_path / f"{n}.zarr")
        ds = open_training_data(data)
        assert ds.level.attrs.get("units") == strange.level.attrs.get("units")
        with pytest.raises(MismatchError, match="level"):
            make_spec(ds, data)


# ---- gaps and holes


def test_gaps_in_time_are_kept_out_of_the_windows(tmp_path):
    ds = arco()[0].isel(time=slice(None, None, 6)).isel(time=[0, 1, 2, 4, 5, 6])
    ds.to_zarr(tmp_path / "gaps.zarr", consolidated=False)
    archive = packed(config(tmp_path, tmp_path / "gaps.zarr"))
    assert archive.starts(3).tolist() == [0, 3]
    assert np.array_equal(archive.states, expected([0, 6, 12, 24, 30, 36]))


def test_a_record_without_two_states_a_step_apart_is_refused(tmp_path):
    ds = arco()[0].isel(time=slice(None, None, 12))
    ds.to_zarr(tmp_path / "coarse.zarr", consolidated=False)
    data = config(tmp_path, tmp_path / "coarse.zarr")
    with pytest.raises(MismatchError, match=r"steps 6 h.*12 h"):
        make_spec(open_training_data(data), data)


def test_missing_values_are_named_and_leave_no_file(tmp_path):
    ds = weatherbench()[0].load()
    ds["temperature"][{"time": 3, "level": 4, "longitude": 2}] = np.nan
    ds.to_zarr(tmp_path / "holes.zarr", consolidated=False)
    data = config(tmp_path, tmp_path / "holes.zarr")
    for folder in (None, tmp_path / "cache"):
        with pytest.raises(MismatchError, match=r"temperature at 250 hPa: 6 NaN.*2020-01-01T18:00"):
            packed(data, folder=folder)
    assert not (tmp_path / "cache").exists() or files(tmp_path / "cache") == []


def test_an_empty_period_is_named(stores, tmp_path):
    data = replace(config(tmp_path, stores["cds"]), train=("1999-01-01", "1999-02-01"))
    with pytest.raises(ConfigError, match="no state between 1999-01-01 and 1999-02-01"):
        packed(data)


# ---- pieces


@pytest.mark.parametrize("states", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("layout", ["arco", "weatherbench"])
def test_pieces_of_any_size_make_the_same_whole(stores, layout, states, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE", states * 70 * 6 * 12 * 4)
    data = replace(config(tmp_path, stores[layout]), train=("2020-01-01", "2020-01-04"))
    pieces, pack = [], module.pack

    def seen(ds, spec, *, times):
        pieces.append(times)
        return pack(ds, spec, times=times)

    monkeypatch.setattr(module, "pack", seen)
    archive = packed(data)
    assert np.array_equal(archive.states, expected(slice(None, None, 6)))
    assert max(map(len, pieces)) <= states
    if layout == "weatherbench" and states == 4:  # chunks of five times are cut, the rest joined
        assert pieces == [[0, 1, 2, 3], [4], [5, 6, 7, 8], [9, 10, 11, 12]]
    if layout == "weatherbench" and states == 100:
        assert len(pieces) == 1


# ---- files


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_run_reads_what_the_first_packed(stores, tmp_path, monkeypatch):
    data = config(tmp_path, stores["weatherbench"])
    first = packed(data, folder=tmp_path / "cache")
    assert isinstance(first.states, np.memmap)
    assert first.forcings is None
    names = files(tmp_path / "cache")
    assert [name.rsplit(".", 1)[1] for name in names] == ["json", "npy"]
    assert all(name.startswith("2020-01-01T0000_2020-01-02T1200_") for name in names)
    monkeypatch.setattr(module, "_fill", None)  # would be called to pack
    again = packed(data, folder=tmp_path / "cache")
    assert np.array_equal(again.states, expected(slice(0, 37, 6)))
    ds = open_training_data(data)
    turned = ds[list(ds.data_vars)[::-1]]  # a store lists its arrays in any order
    turned.encoding = ds.encoding
    spec = make_spec(turned, data)
    same = make_archive(turned, spec, data.train, tmp_path / "cache")
    assert np.array_equal(same.states, again.states)
    longer = replace(data, history=5, forcings=())  # the states are the same
    assert np.array_equal(packed(longer, folder=tmp_path / "cache").states, again.states)
    with pytest.raises(ValueError, match="read-only"):
        again.states[0] = 0


def change_channels(data, store):
    return replace(data, channels=data.channels[::-1])


def change_grid(data, store):
    ds = weatherbench()[0]
    shutil.rmtree(store)
    ds.assign_coords(longitude=(ds.longitude + 30) % 360).to_zarr(store, consolidated=False)
    return data


def change_values(data, store):
    """Two states in the middle, which the digest does not look at."""
    ds = weatherbench()[0].load()
    ds["temperature"][{"time": [1, 2]}] += 1
    shutil.rmtree(store)
    ds.to_zarr(store, consolidated=False)
    return data


def change_units(data, store):
    ds = weatherbench()[0].load()
    ds["mean_sea_level_pressure"].attrs["units"] = "hPa"
    shutil.rmtree(store)
    ds.to_zarr(store, consolidated=False)
    return data


@pytest.mark.parametrize("change", [change_channels, change_grid, change_values, change_units])
def test_what_changed_is_packed_again(change, tmp_path):
    store = write(weatherbench, tmp_path / "w.zarr")
    data = config(tmp_path, store)
    before = np.array(packed(data, folder=tmp_path / "cache").states)
    other = change(data, store)
    found = packed(other, folder=tmp_path / "cache").states
    assert not np.array_equal(found, before)
    assert np.array_equal(found, packed(other).states)
    assert len(files(tmp_path / "cache")) == 4


def test_runs_with_other_data_share_a_folder_at_the_same_time(tmp_path, monkeypatch):
    """One packs between the moment in which the other's states are complete and its reading."""
    store = write(weatherbench, tmp_path / "w.zarr")
    data = config(tmp_path, store)
    other = change_channels(data, store)
    replace_file, between = module.os.replace, []

    def meanwhile(*paths):
        replace_file(*paths)
        if not between:
            between.append(1)
            packed(other, folder=tmp_path / "cache")

    monkeypatch.setattr(module.os, "replace", meanwhile)
    mine = packed(data, folder=tmp_path / "cache").states
    assert between
    for one, states in ((data, mine), (data, None), (other, None)):
        found = packed(one, folder=tmp_path / "cache").states if states is None else states
        assert np.array_equal(found, packed(one).states)


def test_a_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store = write(weatherbench, tmp_path / "w.zarr")
    data = replace(config(tmp_path, store), dataset="~/w.zarr")
    before = np.array(packed(data, folder=tmp_path / "cache").states)
    change_values(data, store)
    assert not np.array_equal(packed(data, folder=tmp_path / "cache").states, before)
    pattern = replace(data, dataset="~/*.zarr")
    assert packed(pattern, folder=tmp_path / "cache").states.shape == before.shape


def test_a_dataset_without_a_source_is_packed_each_time(tmp_path):
    ds = cds()[0].load()
    data = config(tmp_path, "nowhere")
    spec = make_spec(ds, data)
    first = np.array(make_archive(ds, spec, data.train, tmp_path / "cache").states)
    ds["t2m"][{"valid_time": 2}] += 1
    assert not np.array_equal(make_archive(ds, spec, data.train, tmp_path / "cache").states, first)


@pytest.mark.parametrize("damage", ["cut", "no facts", "no json", "another type"])
def test_damaged_files_are_packed_again(damage, stores, tmp_path):
    data, cache = config(tmp_path, stores["cds"]), tmp_path / "cache"
    packed(data, folder=cache)
    states, facts = cache / files(cache)[1], cache / files(cache)[0]
    if damage == "cut":
        states.write_bytes(states.read_bytes()[:-4])
    elif damage == "no facts":
        facts.unlink()
    elif damage == "no json":
        facts.write_text("{")
    else:
        np.save(states, np.load(states).astype("f8"))
    assert np.array_equal(packed(data, folder=cache).states, expected(slice(0, 37, 6)))
    assert json.loads(facts.read_text())["digest"]


def test_an_interrupted_packing_leaves_nothing_that_counts(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 2 * 70 * 6 * 12 * 4)
    data, pack, calls = config(tmp_path, stores["cds"]), module.pack, []

    def stops(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return pack(*args, **options)

    monkeypatch.setattr(module, "pack", stops)
    with pytest.raises(KeyboardInterrupt):
        packed(data, folder=tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_a_full_disk_is_said_before_packing(stores, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9e9, 9e9, 1e5))
    with pytest.raises(StoreError, match=r"needs 0\.00 GB.*shorter period"):
        packed(config(tmp_path, stores["cds"]), folder=tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_is_named(stores, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*cannot be written"):
        packed(config(tmp_path, stores["cds"]), folder=tmp_path / "file" / "cache")


# ---- sources


def test_several_stores_join_along_time(tmp_path):
    ds = weatherbench()[0]
    paths = [str(tmp_path / f"era5-{n}.zarr") for n in range(3)]
    for n, part in enumerate((slice(0, 3), slice(3, 8), slice(8, None))):
        ds.isel(time=part).to_zarr(paths[n], consolidated=False)
    data = replace(config(tmp_path, "x"), train=("2020-01-01", "2020-01-04"))
    every = expected(slice(None, None, 6))
    for dataset in (tuple(paths), str(tmp_path / "era5-*.zarr")):
        archive = packed(replace(data, dataset=dataset), folder=tmp_path / "cache")
        assert np.array_equal(archive.states, every)
    with pytest.raises(ConfigError, match=r"era5-1.zarr' begins at 2020-01-01T18:00, before"):
        open_training_data(replace(data, dataset=tuple(paths[::-1])))
    with pytest.raises(ConfigError, match="no time twice"):
        open_training_data(replace(data, dataset=(paths[0], paths[0])))
    ds.isel(time=slice(2, 5)).to_zarr(tmp_path / "again.zarr", consolidated=False)
    with pytest.raises(ConfigError, match=r"again.zarr' begins at 2020-01-01T12:00"):
        open_training_data(replace(data, dataset=(paths[0], str(tmp_path / "again.zarr"))))
    with pytest.raises(ConfigError, match="no path is of this pattern"):
        open_training_data(replace(data, dataset=str(tmp_path / "gfs-*.zarr")))
    with pytest.raises(ConfigError, match="one source at least"):
        open_training_data(replace(data, dataset=()))


def test_stores_of_two_grids_do_not_join(tmp_path):
    ds = weatherbench()[0]
    ds.isel(time=slice(0, 4)).to_zarr(tmp_path / "1.zarr", consolidated=False)
    other = ds.isel(time=slice(4, 8)).assign_coords(latitude=ds.latitude + 1)
    other.to_zarr(tmp_path / "2.zarr", consolidated=False)
    data = replace(config(tmp_path, "x"), dataset=str(tmp_path / "*.zarr"))
    with pytest.raises(ConfigError, match="do not join"):
        open_training_data(data)


def test_joining_without_dask_says_what_to_install(tmp_path, monkeypatch):
    for name in "12":
        (tmp_path / f"{name}.zarr").mkdir()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "dask" else found(n))
    data = replace(config(tmp_path, "x"), dataset=str(tmp_path / "*.zarr"))
    with pytest.raises(ConfigError, match=r"xarray-wx\[dask\]"):
        open_training_data(data)


def test_an_address_is_opened_through_fsspec(stores, tmp_path):
    data = config(tmp_path, f"file://{stores['arco']}")
    archive = packed(data, folder=tmp_path / "cache")
    assert np.array_equal(archive.states, expected(slice(0, 37, 6)))
    facts = json.loads((tmp_path / "cache" / files(tmp_path / "cache")[0]).read_text())
    assert facts["source"] == f"file://{stores['arco']}"


@pytest.mark.parametrize(
    ("address", "package"),
    [
        ("gs://gcp-public-data-arco-era5/ar/full_37-1h-0p25deg-chunk-1.zarr-v3", "gcsfs"),
        ("s3://bucket/era5.zarr", "s3fs"),
        ("https://example.org/era5.zarr", "aiohttp"),
    ],
)
def test_an_address_without_its_package_says_what_to_install(
    address, package, tmp_path, monkeypatch
):
    gone = {"fsspec", package}
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in gone else found(n))
    with pytest.raises(ConfigError, match=f"{address}.*pip install fsspec {package}"):
        open_training_data(config(tmp_path, address))


def test_opening_reads_no_values(stores, tmp_path):
    """The values of a store are gone, and opening it and looking it over does not notice."""
    copy = tmp_path / "copy.zarr"
    shutil.copytree(stores["arco"], copy)
    for name in [long for long, _, _ in (UPPER | SURFACE).values()]:
        shutil.rmtree(copy / name / "c")
        (copy / name / "c").write_text("no chunks here")
    data = config(tmp_path, copy)
    ds = open_training_data(data)
    assert len(make_spec(ds, data).channels) == 70
    assert not any(v.variable._in_memory for v in ds.data_vars.values())


def test_the_bundled_data_are_opened_by_name(tmp_path):
    data = replace(
        config(tmp_path, "era5-winter"),
        channels=(Channel("msl"),), train=("2025-12-01", "2025-12-02"),
    )  # fmt: skip
    plain, kept = packed(data), packed(data, folder=tmp_path / "cache")
    assert np.array_equal(plain.states, kept.states)
    assert plain.spec.step == timedelta(hours=6)
    assert Path(kept.states.filename).parent == tmp_path / "cache"
