"""A written forecast, looked over by the IOOS compliance checker."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import xwx

#: What the checker holds against the files that is not an error; `Conventions` is the input's own.
KNOWN = (
    "Conventions global attribute does not contain",
    "not in the recommended order T, Z, Y, X",
    "it is recommended that the units_metadata attribute is present",
)

CHECK = """
import sys, warnings
warnings.simplefilter("ignore")
from compliance_checker.runner import CheckSuite, ComplianceChecker
CheckSuite.load_all_available_checkers()
versions, out, paths = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
for path in paths:
    name = f"{out}/{path.rsplit('/', 1)[1]}.json"
    ComplianceChecker.run_checker(path, versions, 0, "strict", output_filename=name,
                                  output_format="json")
"""
VERSIONS = ("cf:1.7", "cf:1.8", "cf:1.10", "cf:1.11")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Check all files in one process: loading the checker takes most of the time."""
    folder = tmp_path_factory.mktemp("cf")
    ds = xwx.tutorial.open_dataset("era5-winter")
    model = xwx.load("emformer-era5-mini", device="cpu")
    several = list(ds.valid_time.values[-2:])
    ds.wx.forecast(model, steps=2).to_netcdf(folder / "one.nc")
    ds.wx.forecast(model, steps=2, start=several).to_netcdf(folder / "several.nc")
    stored = ds.wx.forecast(model, steps=2, store=folder / "one.zarr")
    stored.load().to_netcdf(folder / "stored.nc")
    stored = ds.wx.forecast(model, steps=2, start=several, store=folder / "several.zarr")
    stored.load().to_netcdf(folder / "stored-several.nc")
    files = sorted(map(str, folder.glob("*.nc")))
    assert len(files) == 4
    subprocess.run(
        [sys.executable, "-c", CHECK, ",".join(VERSIONS), str(folder), *files],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", ["one", "several", "stored", "stored-several"])
def test_no_errors(reports, file, version):
    report = reports[f"{file}.nc.json"][version]
    assert report["possible_points"] > 20, "the checks were not run"

    def failed(level):
        return [
            text
            for check in report[level]
            if check["value"][0] < check["value"][1]
            for text in check["msgs"]
        ]

    assert failed("high_priorities") == []
    rest = failed("medium_priorities") + failed("low_priorities")
    assert [text for text in rest if not any(known in text for known in KNOWN)] == []


def test_no_attribute_points_to_bounds_that_are_gone():
    ds = xwx.tutorial.open_dataset("era5-winter").isel(valid_time=slice(-4, None))
    edges = np.stack([ds.latitude + 1.25, ds.latitude - 1.25], 1).clip(-90, 90)
    ds = ds.assign(lat_bnds=(("latitude", "edge"), edges))
    ds["latitude"].attrs["bounds"] = "lat_bnds"
    fc = ds.wx.forecast(steps=1)
    assert "lat_bnds" not in fc
    assert "bounds" not in fc.latitude.attrs
    assert ds.latitude.attrs["bounds"] == "lat_bnds"
