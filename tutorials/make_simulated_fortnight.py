"""Pack a fortnight of a simulated climate, the tutorial data "simulated-fortnight".

The input is a store of ``xwx simulate-climate``, eight years long; the fortnight is of the last::

    xwx simulate-climate climate.zarr --years 8
    python tutorials/make_simulated_fortnight.py climate.zarr

Each field is rounded to a multiple of a power of two, which float32 holds exactly: the trailing
bits become zero, so the shuffled bytes compress. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import xarray as xr
from make_era5_winter import rounded, write
from zarr.codecs import BloscCodec

#: Variable -> the step to whose multiples it is rounded, in its own unit.
STEPS = {
    "z": 8.0, "q": 2.0**-17, "u": 2.0**-3, "v": 2.0**-3, "t": 2.0**-4,
    "t2m": 2.0**-5, "u10": 2.0**-5, "v10": 2.0**-5, "msl": 4.0, "sp": 4.0,
    "z_sfc": 4.0, "lsm": 2.0**-8,
}  # fmt: skip
#: Times in one chunk: two days.
CHUNK = 8
PERIOD = slice("2008-01-01T00", "2008-01-14T18")
OUTPUT = Path(__file__).parents[1] / "xwx" / "data" / "simulated-fortnight.zarr.zip"


def packed(ds: xr.Dataset) -> xr.Dataset:
    """Return the Dataset as it is stored: rounded, encoded."""
    ds = ds[list(STEPS)].sel(time=PERIOD).load().drop_encoding()
    ds = ds.assign({name: rounded(ds[name], step) for name, step in STEPS.items()})
    for variable in ds.variables.values():
        variable.encoding["_FillValue"] = None
    ds["time"].encoding = {
        "units": "hours since 2008-01-01 00:00:00",
        "calendar": "proleptic_gregorian",
        "dtype": "int32",
    }
    for name in STEPS:
        ds[name].encoding |= {
            "chunks": (CHUNK, *ds[name].shape[1:]) if "time" in ds[name].dims else ds[name].shape,
            "compressors": BloscCodec(cname="zstd", clevel=9, shuffle="shuffle", typesize=4),
        }
    return ds


def main() -> None:
    """Read the path of the store from the command line and write the fortnight."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="a store of xwx simulate-climate")
    parser.add_argument("output", type=Path, nargs="?", default=OUTPUT)
    arguments = parser.parse_args()
    with xr.open_zarr(arguments.input, consolidated=False, chunks=None) as ds:
        write(packed(ds), arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
