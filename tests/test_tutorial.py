"""The bundled data: the values, the words that must travel with them, and how they open."""

from __future__ import annotations

import gc
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xwx import Channel, Grid, Spec, tutorial
from xwx.fields import check
from xwx.fields.reports import reports

# (time, row, column), pressure [Pa] and vorticity [s-1] of the original file.
ORIGINAL = [
    ((0, 0, 0), 101908.125, -6.97537325322628e-06),
    ((0, 36, 72), 101034.625, 1.1055031791329384e-05),
    ((100, 15, 10), 102620.75, -4.2471569031476974e-05),
    ((220, 56, 30), 101415.3125, -9.872019290924072e-06),
    ((247, 72, 143), 99634.75, 1.374189741909504e-05),
]

# Variable, index, and its value in the store that `xwx simulate-climate` wrote.
SIMULATED = [
    ("z", (0, 7, 8, 20), 53057.0078125),
    ("q", (55, 10, 16, 0), 0.012403607368469238),
    ("u", (13, 4, 3, 63), 7.563333988189697),
    ("v", (30, 0, 31, 7), 1.2664008140563965),
    ("t", (41, 12, 20, 33), 294.2123107910156),
    ("t2m", (5, 1, 2), 261.8611755371094),
    ("u10", (17, 30, 60), 0.15478485822677612),
    ("v10", (3, 14, 15), -2.3733949661254883),
    ("msl", (55, 0, 9), 101008.1015625),
    ("sp", (9, 26, 53), 99069.359375),
]

# Entry, and what its line of the original list says: station, minutes from 00 UTC, latitude,
# longitude, sea level pressure, temperature, dew point, wind speed and direction.
REPORTED = [
    (0, "04V", 14, 38.099, -106.169, None, -10.0, -14.0, 2.57222, 330),
    (1, "0CO", 17, 39.790, -105.760, None, -16.0, -22.0, None, None),
    (2, "0J4", -2, 31.040, -86.309, 1007.6, 13.3, 11.7, 0.0, 0),
    (18, "40B", 16, 46.619, -69.529, 1015.6, -15.4, -17.2, 1.543332, None),
]


@pytest.fixture
def winter() -> xr.Dataset:
    return tutorial.open_dataset("era5-winter")


def test_names_are_what_can_be_opened() -> None:
    assert tutorial.names() == ["era5-winter", "metar-conus", "simulated-fortnight"]


def test_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'era5-winter'\?.*names are: era5-winter"):
        tutorial.open_dataset("era5_winter")
    with pytest.raises(ValueError, match=r"no bundled Dataset 'xyz'\. The names are"):
        tutorial.open_dataset("xyz")


def test_coordinates_and_dimensions(winter: xr.Dataset) -> None:
    assert list(winter.data_vars) == ["msl", "vo"]
    assert list(winter.coords) == ["valid_time", "latitude", "longitude", "pressure_level"]
    assert winter["msl"].dims == ("valid_time", "latitude", "longitude")
    assert winter["vo"].dims == ("valid_time", "pressure_level", "latitude", "longitude")
    assert winter["vo"].shape == (248, 1, 73, 144)
    np.testing.assert_array_equal(winter["latitude"], np.linspace(90, -90, 73))
    np.testing.assert_array_equal(winter["longitude"], np.arange(144) * 2.5)
    np.testing.assert_array_equal(winter["pressure_level"], [850.0])
    start = np.datetime64("2025-12-01T00", "ns")
    np.testing.assert_array_equal(
        winter["valid_time"], start + np.arange(248) * np.timedelta64(6, "h")
    )
    assert {v.dtype.name for v in winter.data_vars.values()} == {"float32"}


def test_metadata_are_those_of_the_original(winter: xr.Dataset) -> None:
    assert winter["msl"].attrs["standard_name"] == "air_pressure_at_mean_sea_level"
    assert winter["msl"].attrs["units"] == "Pa"
    assert winter["vo"].attrs["standard_name"] == "atmosphere_relative_vorticity"
    assert winter["vo"].attrs["units"] == "s**-1"
    assert winter["pressure_level"].attrs["units"] == "hPa"
    assert winter["latitude"].attrs["units"] == "degrees_north"
    assert winter["longitude"].attrs["units"] == "degrees_east"
    assert winter["valid_time"].attrs["standard_name"] == "time"
    assert winter.attrs["Conventions"] == "CF-1.7"


def test_licence_and_attribution_travel_with_the_data(winter: xr.Dataset) -> None:
    assert "CC-BY-4.0" in winter.attrs["license"]
    assert "mwyau/PyStormTracker-Data" in winter.attrs["source"]
    text = winter.attrs["attribution"]
    assert "Contains modified Copernicus Climate Change Service information" in text
    assert "Neither the European Commission nor ECMWF is responsible" in text


@pytest.mark.parametrize(("index", "pressure", "vorticity"), ORIGINAL)
def test_values_are_within_the_stated_precision(
    winter: xr.Dataset, index: tuple[int, int, int], pressure: float, vorticity: float
) -> None:
    time, row, column = index
    assert "within 0.5 Pa" in winter["msl"].attrs["precision"]
    assert "within 1.49e-08 s**-1" in winter["vo"].attrs["precision"]
    assert abs(float(winter["msl"][time, row, column]) - pressure) <= 0.5
    assert abs(float(winter["vo"][time, 0, row, column]) - vorticity) <= 2.0**-26


def test_values_are_multiples_of_the_stated_step(winter: xr.Dataset) -> None:
    msl = winter["msl"].values
    vo = winter["vo"].values.astype(np.float64) * 2.0**25
    np.testing.assert_array_equal(msl, np.round(msl))
    np.testing.assert_array_equal(vo, np.round(vo))
    assert (msl.min(), msl.max()) == (93502.0, 106178.0)


@pytest.mark.parametrize(("name", "index", "original"), SIMULATED)
def test_the_simulation_is_within_its_stated_precision(
    name: str, index: tuple[int, ...], original: float
) -> None:
    field = tutorial.open_dataset("simulated-fortnight")[name]
    step = float(field.attrs["precision"].split("multiple of ")[1].split()[0])
    value = float(field[index])
    assert abs(value - original) <= step / 2
    assert value / step == pytest.approx(round(value / step), rel=1e-5)


def test_the_simulation_is_a_fortnight_of_everything_a_large_model_needs() -> None:
    ds = tutorial.open_dataset("simulated-fortnight")
    start = np.datetime64("2008-01-01T00", "ns")
    np.testing.assert_array_equal(ds["time"], start + np.arange(56) * np.timedelta64(6, "h"))
    np.testing.assert_array_equal(ds["latitude"], 90 - 2.8125 - 5.625 * np.arange(32))
    np.testing.assert_array_equal(ds["longitude"], 5.625 * np.arange(64))
    levels = [50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000]
    np.testing.assert_array_equal(ds["level"], levels)
    assert "jcm 3.0.0" in ds.attrs["source"]
    assert "CC0-1.0" in ds.attrs["license"]
    channels = [Channel(name, 100.0 * level) for name in "zquvt" for level in levels]
    channels += [Channel(name) for name in ("t2m", "u10", "v10", "msl", "sp")]
    spec = Spec(tuple(channels), Grid.regular(32, 64, poles=False))
    assert check(ds, spec).ok


@pytest.mark.parametrize("line", REPORTED, ids=lambda line: line[1])
def test_reports_are_those_of_the_list(line: tuple[int, str, float]) -> None:
    entry, station, minutes, *numbers = line
    report = tutorial.open_dataset("metar-conus").isel(station=entry)
    names = ["latitude", "longitude", "slp", "t2m", "d2m", "wind_speed", "wind_from_direction"]
    for name, number in zip(names, numbers, strict=True):
        expected = np.nan if number is None else np.float32(number)
        np.testing.assert_array_equal(report[name], expected, err_msg=name)
    assert report["station"] == station
    assert report["time"] == np.datetime64("2016-01-16T00", "ns") + np.timedelta64(minutes, "m")


def test_reports_say_what_a_model_needs_to_know_of_them() -> None:
    ds = tutorial.open_dataset("metar-conus")
    assert ds.sizes == {"station": 1532}
    assert list(ds.coords) == ["station", "latitude", "longitude", "time"]
    assert "BSD-3-Clause, copyright 2008-2017 MetPy Developers" in ds.attrs["license"]
    assert "Unidata/MetPy" in ds.attrs["source"]
    assert abs(ds["time"] - np.datetime64("2016-01-16T00", "ns")).max() == np.timedelta64(1, "h")
    counts = {"d2m": 1521, "slp": 424, "t2m": 1522, "wind_from_direction": 1492, "wind_speed": 1510}
    assert {name: int(field.count()) for name, field in ds.items()} == counts
    assert (ds.min()["slp"], ds.max()["slp"]) == (994.5, np.float32(1022.6))
    spec = Spec((Channel("t2m"), Channel("msl")), Grid.regular(73, 144, poles=True))
    found, problems = reports(ds[["slp", "t2m"]], spec)
    assert not problems
    assert found is not None
    assert found.names == ("t2m", "slp")
    assert found.each
    np.testing.assert_allclose(found.values[0, :, 2], [286.45, 100760.0], atol=2e-3)


def test_reports_can_be_written_again(tmp_path: Path) -> None:
    ds = tutorial.open_dataset("metar-conus").isel(station=slice(100, 200, 3))
    ds.to_netcdf(tmp_path / "reports.nc")
    ds.to_zarr(tmp_path / "reports.zarr", consolidated=False)
    with xr.open_dataset(tmp_path / "reports.nc") as back:
        xr.testing.assert_identical(back.load(), ds.load())
    with xr.open_zarr(tmp_path / "reports.zarr", consolidated=False) as back:
        xr.testing.assert_identical(back.load(), ds.load())


def test_opening_is_lazy_and_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = tutorial.open_dataset("era5-winter")
        assert not ds["msl"].variable._in_memory
        ds["msl"][0].load()
        del ds
        gc.collect()


def test_chunks_give_dask_arrays_of_whole_weeks() -> None:
    ds = tutorial.open_dataset("era5-winter", chunks={})
    assert ds["msl"].chunksizes["valid_time"] == (31,) * 8
    assert ds["vo"].chunksizes["latitude"] == (73,)


@pytest.mark.parametrize("chunks", [None, {}])
def test_a_pickled_dataset_reads_the_same_values(chunks: dict[str, int] | None) -> None:
    ds = tutorial.open_dataset("era5-winter", chunks=chunks).isel(valid_time=slice(2))
    copy = pickle.loads(pickle.dumps(ds))
    xr.testing.assert_identical(copy.load(), ds.load())


def test_closing_releases_the_file_twice_over() -> None:
    with tutorial.open_dataset("era5-winter") as ds:
        first = ds["msl"][0].values
    ds.close()
    np.testing.assert_array_equal(tutorial.open_dataset("era5-winter")["msl"][0], first)


def test_it_can_be_written_again(winter: xr.Dataset, tmp_path: Path) -> None:
    few = winter.isel(valid_time=slice(3, 10, 2))
    few.to_netcdf(tmp_path / "few.nc")
    few.to_zarr(tmp_path / "few.zarr", consolidated=False)
    few.chunk(valid_time=3).to_zarr(tmp_path / "chunked.zarr", consolidated=False)
    with xr.open_dataset(tmp_path / "few.nc") as back:
        xr.testing.assert_identical(back.load(), few.load())
        assert "_FillValue" not in back["latitude"].attrs
        assert back["valid_time"].encoding["dtype"] == np.int32
    for name in ("few", "chunked"):
        with xr.open_zarr(tmp_path / f"{name}.zarr", consolidated=False) as back:
            xr.testing.assert_identical(back.load(), few.load())
