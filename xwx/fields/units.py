"""Units: one registry (cf_xarray's), affine conversions, values out of their wrappers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pint
import pint_xarray  # noqa: F401 - registers ds.pint
import xarray as xr
from numpy.typing import NDArray

with warnings.catch_warnings():
    # cf_xarray sets up plotting with units as it is imported, and warns where it cannot.
    warnings.filterwarnings("ignore", "Import.s. unavailable to set up matplotlib", UserWarning)
    from cf_xarray.units import units as registry

__all__ = [
    "Affine",
    "affine",
    "dequantify",
    "held_unit",
    "is_quantified",
    "magnitudes",
    "parse",
    "quantity",
    "registry",
    "strip",
    "unit_text",
]

#: Spellings that UDUNITS, ECMWF and NCEP use and pint reads otherwise or not at all.
_SPELLINGS = {
    "mb": "millibar",
    "(0 - 1)": "1",
    "(0-1)": "1",
    "0 - 1": "1",
    "0-1": "1",
    "fraction": "1",
    "proportion": "1",
    "degrees_celsius": "degC",
    "degree_celsius": "degC",
    "deg C": "degC",
    "deg K": "K",
    "degrees_kelvin": "K",
    "gpdam": "decameter",
    "m of water equivalent": "m",
    "m of water": "m",
}
#: A power of two: to multiply and divide by it is exact.
_FAR = 2.0**20


@dataclass(frozen=True)
class Affine:
    """``target = scale * source + offset``, to be evaluated in float64."""

    scale: float
    offset: float


@cache
def parse(text: str) -> pint.Unit | None:
    """Read a units string; None where it is no unit."""
    text = _SPELLINGS.get(text.strip(), text.strip())
    try:
        return registry.Unit(text)
    except Exception:
        # pint raises whatever its tokenizer met (AssertionError, ValueError, TokenError, ...);
        # the meaning is always the same: these characters are not a unit.
        return None


def _snap(value: float) -> float:
    """Undo the last-digit error of chained conversions: 100.00000000000001 -> 100."""
    short = float(f"{value:.13g}")
    return short if abs(short - value) <= 4 * np.finfo(np.float64).eps * abs(value) else value


@cache
def affine(source: str, target: str) -> Affine | None:
    """Return the conversion between two units strings; None where there is none.

    Examples
    --------
    >>> affine("degC", "K")
    Affine(scale=1.0, offset=273.15)
    """
    old, new = parse(source), parse(target)
    if old is None or new is None or not old.is_compatible_with(new):
        return None
    if _angle(old) != _angle(new):  # pint holds degrees to be dimensionless
        return None
    if old == new:
        return Affine(1.0, 0.0)
    # far from zero, so that an offset does not take digits off the scale
    points = registry.Quantity(np.array([0.0, _FAR]), old)
    zero, far = (float(v) for v in points.to(new).magnitude)
    return Affine(_snap((far - zero) / _FAR), _snap(zero))


def _angle(unit: pint.Unit) -> bool:
    return bool(unit.dimensionless) and "rad" in str(registry.Quantity(1.0, unit).to_base_units())


def _held(variable: xr.Variable) -> Any:
    """Return the array inside a variable without reading values from disk."""
    empty = variable.isel({variable.dims[0]: slice(0, 0)}) if variable.dims else variable
    return empty.data


def held_unit(variable: xr.Variable) -> Any:
    """Return the unit of a pint-quantified variable (of any registry); None for a plain one."""
    data = _held(variable)
    return data.units if isinstance(data, pint.Quantity) else None


def unit_text(variable: xr.Variable) -> str | None:
    """Return the units of a variable as text, of its Quantity or its attribute; None if absent."""
    held = held_unit(variable)
    if held is not None:
        return str(held)
    text = variable.attrs.get("units")
    return None if text is None else str(text)


def strip(data: Any) -> Any:
    """Take a duck array out of its Quantity, if it is in one."""
    return data.magnitude if isinstance(data, pint.Quantity) else data


def magnitudes(variable: xr.Variable) -> NDArray[Any]:
    """Return the values of a (small) variable as numpy, whether quantified or not."""
    return np.asarray(strip(variable.data))


def quantity(data: Any, unit: Any) -> Any:
    """Quantify an array in the registry that `unit` came from."""
    return unit._REGISTRY.Quantity(data, unit)


def is_quantified(ds: xr.Dataset) -> bool:
    """Whether any data variable carries pint units."""
    return any(held_unit(ds.variables[name]) is not None for name in ds.data_vars)


def dequantify(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with plain arrays, coordinates too, and their units as CF attributes."""
    out: xr.Dataset = ds.pint.dequantify(format="cf")
    return out
