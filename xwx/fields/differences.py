"""Units of scores: of a difference of two values, and of its powers."""

from __future__ import annotations

import re

import xarray as xr

from xwx.fields.units import affine, parse, registry

__all__ = ["difference_units", "power_units", "requantify"]

#: One factor of a unit in the spelling of UDUNITS: a name, and perhaps an exponent.
_FACTOR = re.compile(r"(?P<name>[^\W\d]+)(?P<exponent>[-+]?\d+)?")


def difference_units(text: str) -> tuple[str, float]:
    """Return the units of a difference of two values, and the factor that brings it to them.

    A difference of temperatures on a scale whose zero is not absolute is one of kelvins: 3 degC
    less 1 degC is 2 K, not 2 degC = 275.15 K.

    Parameters
    ----------
    text : str
        Units of the values.

    Returns
    -------
    units : str
        "K" for such a scale (degC, degF, ... in any spelling), otherwise `text`.
    factor : float
        ``difference [units] = factor * (a - b) [text]``.

    Examples
    --------
    >>> difference_units("degC")
    ('K', 1.0)
    >>> difference_units("m s-1")
    ('m s-1', 1.0)
    """
    kelvin = affine(text, "K")
    return (text, 1.0) if kelvin is None or not kelvin.offset else ("K", kelvin.scale)


def power_units(text: str, n: int) -> str:
    """Return the units of the `n`-th power of a value, in the spelling of CF where there is one.

    Parameters
    ----------
    text : str
        Units, not of a scale with a zero of its own: see :func:`difference_units`.
    n : int

    Raises
    ------
    ValueError
        For the units of such a scale, such as "degC".

    Examples
    --------
    >>> power_units("m2 s-2", 2)
    'm4 s-4'
    """
    if difference_units(text)[0] != text:
        raise ValueError(
            f"the power of a value in {text!r} depends on where the scale has its zero; "
            "take difference_units(text) first"
        )
    if n == 1:
        return text
    spelt, unit = _spelt(text.replace("%", "percent"), n), parse(text)
    if unit is None:
        return spelt or f"({text}){n}"
    exact = unit**n
    if spelt is not None and affine(spelt, str(exact)) == affine("1", "1"):
        return spelt
    return f"{exact:cf}"


def _spelt(text: str, n: int) -> str | None:
    """Multiply the exponents of a product of units; None where the text is not one."""
    factors = [_FACTOR.fullmatch(word) for word in text.split()]
    words = [f"{f['name']}{_exponent(int(f['exponent'] or 1) * n)}" for f in factors if f]
    return " ".join(words) if words and len(words) == len(factors) else None


def _exponent(value: int) -> str:
    return "" if value == 1 else str(value)


def requantify(da: xr.DataArray, text: str) -> xr.DataArray:
    """Put the values of a DataArray into a pint Quantity; a dask array stays lazy.

    Parameters
    ----------
    da : DataArray
        Plain values in units of `text`.
    text : str
        Units; a ``units`` attribute of `da` gives way to them.

    Raises
    ------
    ValueError
        If `text` is no unit.
    """
    unit = parse(text)
    if unit is None:
        raise ValueError(f"{text!r} cannot be read as a unit, so {da.name!r} cannot be quantified")
    out = da.copy(data=registry.Quantity(da.data, unit))
    out.attrs.pop("units", None)
    return out
