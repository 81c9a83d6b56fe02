"""Pack two months of ERA5 into the Zarr store behind ``xwx.tutorial.open_dataset("era5-winter")``.

The input is ``era5_msl_vo850_2.5deg_2025-12_2026-01.nc`` of the public repository
mwyau/PyStormTracker-Data (CC-BY-4.0)::

    python tutorials/make_era5_winter.py era5_msl_vo850_2.5deg_2025-12_2026-01.nc

Each field is rounded to a multiple of a power of two, which float32 holds exactly: the trailing
bits become zero, so the shuffled bytes compress, and every reader gets float32 without a scale
factor or an offset in between. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import xarray as xr
from zarr.codecs import BloscCodec

#: Variable -> the step to whose multiples it is rounded, in its own unit.
STEPS = {"msl": 1.0, "vo": 2.0**-25}
#: Times in one chunk: just over a week.
CHUNK = 31
OUTPUT = Path(__file__).parents[1] / "xwx" / "data" / "era5-winter.zarr.zip"

ATTRIBUTION = (
    "Contains modified Copernicus Climate Change Service information 2025-2026. Neither the "
    "European Commission nor ECMWF is responsible for any use that may be made of the Copernicus "
    "information or data it contains. Data: Hersbach et al., ERA5, doi:10.24381/cds.adbb2d47, "
    "doi:10.24381/cds.bd0915c6; taken from github.com/mwyau/PyStormTracker-Data (CC-BY-4.0)."
)


def rounded(field: xr.DataArray, step: float) -> xr.DataArray:
    """Round to multiples of ``step``, and say so in the attributes."""
    exact = np.round(field.astype(np.float64) / step) * step
    result = exact.astype(np.float32).assign_attrs(field.attrs)
    worst = float(np.abs(result.astype(np.float64) - field.astype(np.float64)).max())
    if worst > step / 2:
        raise ValueError(f"{field.name}: float32 does not hold multiples of {step}")
    return result.assign_attrs(
        precision=(
            f"rounded to the nearest multiple of {step:.6g} {field.attrs['units']}: "
            f"within {step / 2:.3g} {field.attrs['units']} of the original"
        )
    )


def packed(ds: xr.Dataset) -> xr.Dataset:
    """Return the Dataset as it is stored: rounded, attributed, encoded."""
    ds = ds.load().assign({name: rounded(ds[name], step) for name, step in STEPS.items()})
    ds = ds.drop_encoding().assign_attrs(attribution=ATTRIBUTION)
    for variable in ds.variables.values():
        variable.encoding["_FillValue"] = None
    ds["valid_time"].encoding = {
        "units": "hours since 2025-12-01 00:00:00",
        "calendar": "proleptic_gregorian",
        "dtype": "int32",
    }
    for name in STEPS:
        ds[name].encoding |= {
            "chunks": (CHUNK, *ds[name].shape[1:]),
            "compressors": BloscCodec(cname="zstd", clevel=9, shuffle="shuffle", typesize=4),
        }
    return ds


def write(ds: xr.Dataset, path: Path) -> None:
    """Write a Zarr v3 store into one zip file, in a fixed order and without clock times."""
    with tempfile.TemporaryDirectory() as folder:
        ds.to_zarr(folder, zarr_format=3, consolidated=False)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
                name = file.relative_to(folder).as_posix()
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes())


def main() -> None:
    """Read the path of the NetCDF file from the command line and write the store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="the NetCDF file")
    parser.add_argument("output", type=Path, nargs="?", default=OUTPUT)
    arguments = parser.parse_args()
    with xr.open_dataset(arguments.input) as ds:
        write(packed(ds), arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
