"""The gate: the only room that knows names and units.

A Dataset in any layout goes in, a float32 array in a model's own order comes out, and the same
way back.
"""

from xwx.fields.check import Report, check
from xwx.fields.coordinates import Coordinates, find_coordinates
from xwx.fields.forcings import forcings
from xwx.fields.frame import Frame
from xwx.fields.grid import area_weights, cell_areas, grid_of, latitude_weights
from xwx.fields.pack import frame_of, pack
from xwx.fields.regrid import regrid
from xwx.fields.units import dequantify
from xwx.fields.unpack import narrowed, retimed, unpack
from xwx.fields.variables import table, variable

__all__ = [
    "Coordinates",
    "Frame",
    "Report",
    "area_weights",
    "cell_areas",
    "check",
    "dequantify",
    "find_coordinates",
    "forcings",
    "frame_of",
    "grid_of",
    "latitude_weights",
    "narrowed",
    "pack",
    "regrid",
    "retimed",
    "table",
    "unpack",
    "variable",
]
