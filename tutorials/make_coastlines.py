"""Pack the coastlines of the world into the file behind the maps of ``ds.wx.plot``.

The input is the wheel of geopandas 0.14.4, the last minor version that carries the countries of
Natural Earth (1:110 million, public domain)::

    pip download --no-deps geopandas==0.14.4
    python tutorials/make_coastlines.py geopandas-0.14.4-py3-none-any.whl

The countries are joined, so that only shores are left of their outlines, and the edges that close
polygons along the date line and at the South Pole are taken out. The same input gives the same
numbers.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import shapefile
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

MEMBER = "geopandas/datasets/naturalearth_lowres/naturalearth_lowres.shp"
#: Coordinates are kept as whole hundredths of a degree: 1.1 km, and int16 holds 180 degrees.
SCALE = 100
OUTPUT = Path(__file__).parents[1] / "xwx" / "data" / "coastlines.npz"


def shores(wheel: Path) -> list[NDArray[np.float64]]:
    """Return the lines between land and water, each (n, 2): longitude, latitude [degrees]."""
    with zipfile.ZipFile(wheel) as archive:
        reader = shapefile.Reader(shp=io.BytesIO(archive.read(MEMBER)))
    land = shapely.unary_union([shape(country.__geo_interface__) for country in reader.shapes()])
    rings = [ring for part in land.geoms for ring in (part.exterior, *part.interiors)]
    lines = [line for ring in rings for line in _without_seams(np.array(ring.coords))]
    return [line for line in lines if len(line) > 1]


def _without_seams(ring: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Cut a closed ring where an edge lies on the date line or on the South Pole."""
    lon, lat = ring.T
    seam = (np.abs(lon) > 179.99) | (lat < -89.99)
    cuts = np.flatnonzero(seam[:-1] & seam[1:])
    if not cuts.size:
        return [ring]
    turned = np.concatenate([ring[cuts[0] + 1 : -1], ring[: cuts[0] + 1]])
    marks = np.flatnonzero(np.isin(np.arange(len(turned)), (cuts - cuts[0]) % len(turned)))
    return np.split(turned, marks[marks > 0])


def main() -> None:
    """Read the path of the wheel from the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="geopandas-0.14.4-py3-none-any.whl")
    parser.add_argument("output", type=Path, nargs="?", default=OUTPUT)
    arguments = parser.parse_args()
    lines = shores(arguments.wheel)
    points = np.round(np.concatenate(lines) * SCALE).astype(np.int16)
    lengths = np.array([len(line) for line in lines], dtype=np.int16)
    np.savez_compressed(arguments.output, points=points, lengths=lengths)
    size = arguments.output.stat().st_size / 1e3
    print(f"{arguments.output}: {len(lines)} lines, {len(points)} points, {size:.1f} kB")


if __name__ == "__main__":
    main()
