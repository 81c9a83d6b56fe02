"""The gate: the only room that knows names and units.

A Dataset in any layout goes in, a float32 array in a model's own order comes out, and the same
way back.
"""

from xwx.fields.check import Report, check
from xwx.fields.clock import calendar_of, no_time, show
from xwx.fields.conform import conform
from xwx.fields.coordinates import Coordinates, find_coordinates
from xwx.fields.differences import difference_units, power_units, requantify
from xwx.fields.faults import type_problems
from xwx.fields.forcings import forcings
from xwx.fields.frame import Frame
from xwx.fields.grid import area_weights, cell_areas, grid_of, latitude_weights
from xwx.fields.horizontal import Horizontal, horizontal_of
from xwx.fields.leads import lead_times
from xwx.fields.members import member_dim
from xwx.fields.pack import frame_of, pack
from xwx.fields.regrid import regrid
from xwx.fields.thresholds import conversion
from xwx.fields.units import dequantify, is_quantified
from xwx.fields.unpack import narrowed, retimed, unpack
from xwx.fields.variables import stated_name, table, variable

__all__ = [
    "Coordinates",
    "Frame",
    "Horizontal",
    "Report",
    "area_weights",
    "calendar_of",
    "cell_areas",
    "check",
    "conform",
    "conversion",
    "dequantify",
    "difference_units",
    "find_coordinates",
    "forcings",
    "frame_of",
    "grid_of",
    "horizontal_of",
    "is_quantified",
    "latitude_weights",
    "lead_times",
    "member_dim",
    "narrowed",
    "no_time",
    "pack",
    "power_units",
    "regrid",
    "requantify",
    "retimed",
    "show",
    "stated_name",
    "table",
    "type_problems",
    "unpack",
    "variable",
]
