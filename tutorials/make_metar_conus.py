"""Pack a list of METARs into the Zarr store behind ``xwx.tutorial.open_dataset("metar-conus")``.

The input is ``staticdata/station_data.txt`` of the public repository Unidata/MetPy
(BSD-3-Clause)::

    python tutorials/make_metar_conus.py station_data.txt

Numbers stay as they were reported, in their units, errors of the reports included; only what
stands for a missing value becomes NaN. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from make_era5_winter import write
from zarr.codecs import BloscCodec

#: Column of the input, without its unit -> name and attributes in the store.
COLUMNS = {
    "latitude": ("latitude", {"standard_name": "latitude", "units": "degrees_north"}),
    "longitude": ("longitude", {"standard_name": "longitude", "units": "degrees_east"}),
    "air_pressure_at_sea_level": (
        "slp",
        {
            "standard_name": "air_pressure_at_mean_sea_level",
            "long_name": "sea level pressure, as reduced by the station",
            "units": "hPa",
        },
    ),
    "air_temperature": (
        "t2m",
        {
            "standard_name": "air_temperature",
            "long_name": "temperature of the screen, about 2 m above ground",
            "units": "degC",
        },
    ),
    "dew_point_temperature": (
        "d2m",
        {
            "standard_name": "dew_point_temperature",
            "long_name": "dew point of the screen, about 2 m above ground",
            "units": "degC",
        },
    ),
    "wind_speed": (
        "wind_speed",
        {
            "standard_name": "wind_speed",
            "long_name": "wind speed, about 10 m above ground",
            "units": "m s-1",
        },
    ),
    "wind_from_direction": (
        "wind_from_direction",
        {
            "standard_name": "wind_from_direction",
            "long_name": "where the wind comes from; 0 with no speed is calm, 360 is north",
            "units": "degree",
        },
    ),
}
#: What the input writes for a missing whole number.
MISSING = -99999
OUTPUT = Path(__file__).parents[1] / "xwx" / "data" / "metar-conus.zarr.zip"

ATTRIBUTES = {
    "Conventions": "CF-1.7",
    "featureType": "point",
    "title": "METAR reports of North America, 2016-01-16 00 UTC",
    "license": "BSD-3-Clause, copyright 2008-2017 MetPy Developers",
    "source": (
        "surface observations; staticdata/station_data.txt of the public repository Unidata/MetPy"
    ),
    "comment": (
        "one entry for each report: some stations have several; without any quality control"
    ),
}


def opened(path: Path) -> xr.Dataset:
    """Read the list of reports: NaN where there is no value, along the dimension ``station``."""
    table = pd.read_csv(path, na_values=["NaN"], keep_default_na=False)
    table.columns = table.columns.str.replace(r"\[.*", "", regex=True)
    ds = xr.Dataset(attrs=ATTRIBUTES)
    for column, (name, attrs) in COLUMNS.items():
        values = table[column].to_numpy(np.float64)
        values = np.where(values == MISSING, np.nan, values).astype(np.float32)
        ds[name] = ("station", values, attrs)
    when = pd.to_datetime(table["time"], utc=True).dt.tz_localize(None)
    ds["time"] = ("station", when.to_numpy("datetime64[ns]"), {"standard_name": "time"})
    names = {"standard_name": "platform_id", "long_name": "identifier of the station"}
    ds["station"] = ("station", table["station"].to_numpy(object), names)
    return ds.set_coords(["latitude", "longitude", "time"])


def encoded(ds: xr.Dataset) -> xr.Dataset:
    """Return the Dataset as it is stored."""
    for variable in ds.variables.values():
        size = 1 if variable.dtype.kind == "O" else 4
        codec = BloscCodec(cname="zstd", clevel=9, shuffle="shuffle", typesize=size)
        variable.encoding = {"compressors": codec, "_FillValue": None, "chunks": variable.shape}
    ds["time"].encoding |= {
        "units": "minutes since 2016-01-16 00:00:00",
        "calendar": "proleptic_gregorian",
        "dtype": "int32",
    }
    return ds


def main() -> None:
    """Read the path of the list of reports from the command line and write the store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="the list of reports")
    parser.add_argument("output", type=Path, nargs="?", default=OUTPUT)
    arguments = parser.parse_args()
    write(encoded(opened(arguments.input)), arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
