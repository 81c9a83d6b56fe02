"""What is written on pictures and in messages: times, durations, names with units."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xwx.fields.coordinates import is_reference, is_time

__all__ = [
    "METRICS",
    "duration",
    "level_text",
    "long_name",
    "metric_of",
    "metric_text",
    "remark",
    "several",
    "stamp",
    "when",
    "with_units",
]

#: ``s-1``, ``s**-1`` and ``s^-1`` are written with a raised number.
_EXPONENT = re.compile(r"(?<=[A-Za-z])(?:\*\*|\^)?(-?[0-9]+)")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

#: Coordinates that number fields, and those that say nothing of which field it is.
_NUMBERS = frozenset({"member", "number", "realization", "ensemble", "timestep"})
_UNREMARKABLE = frozenset({"cases", "crs", "metric", "spatial_ref"})

#: How the metrics are written; others as they are called.
METRICS: Mapping[str, str] = {
    "acc": "ACC",
    "crps": "CRPS",
    "crps_fair": "fair CRPS",
    "mae": "MAE",
    "mse": "MSE",
    "nrmse": "normalised RMSE",
    "rmse": "RMSE",
    "seeps": "SEEPS",
    "skill": "RMSE of the ensemble mean",
    "ssr": "spread / skill",
}


def stamp(time: Any) -> str:
    """Write a time to the minute: ``2026-01-25 06:00``."""
    if isinstance(time, np.datetime64):
        return str(time.astype("datetime64[m]")).replace("T", " ")
    return str(time.isoformat())[:16].replace("T", " ")


def duration(lead: np.timedelta64) -> str:
    """Write a duration in hours: ``6 h``."""
    return f"{lead / np.timedelta64(1, 'h'):g} h"


def several(items: Sequence[Any], most: int = 8) -> str:
    """List items, the middle ones left out where there are many."""
    texts = [str(item) for item in items]
    if len(texts) > most:
        texts = [*texts[: most - 2], f"... ({len(texts)} in all)", texts[-1]]
    return ", ".join(texts)


def when(array: xr.DataArray) -> str:
    """Return the valid time and lead time of what is drawn: ``2026-01-25 06:00, +6 h``."""
    parts = []
    for name, c in array.coords.items():
        reference = name == "init_time" or is_reference(c.variable)
        if c.size == 1 and not reference and is_time(c.variable):
            parts.append(stamp(c.values.reshape(-1)[0]))
            break
    lead = array.coords.get("lead_time")
    if lead is not None and lead.size == 1 and np.issubdtype(lead.dtype, np.timedelta64):
        parts.append(f"+{duration(lead.values.reshape(-1)[0])}")
    return ", ".join(parts)


def metric_of(array: xr.DataArray) -> str | None:
    """Return the metric that a field of scores is of; None for any other field."""
    metric = array.coords.get("metric")
    if metric is None or metric.size != 1:
        return None
    return str(metric.values.reshape(-1)[0])


def metric_text(metric: str) -> str:
    """Return how a metric is written."""
    return METRICS.get(metric, metric.replace("_", " "))


def remark(array: xr.DataArray, chosen: Collection[str] = ()) -> str:
    """Return what else tells a field from others: ``member = 2``, ``timestep = 3``, ``europe``.

    Parameters
    ----------
    array : DataArray
    chosen : collection of str
        Dimensions of which one value was chosen. Of other scalar coordinates, of which files
        have many, only those count that number the field.
    """
    timeless = not when(array)
    parts = []
    for key, c in array.coords.items():
        name = str(key)
        if c.size != 1 or c.dtype.kind not in "iufU" or name in _UNREMARKABLE:
            continue
        number = name in _NUMBERS or (timeless and c.dtype.kind in "iu")
        if name not in chosen and not number and name not in ("region", "season"):
            continue
        value = c.values.reshape(-1)[0]
        parts.append(str(value) if c.dtype.kind == "U" else f"{name} = {value:g}")
    return ", ".join(parts)


def level_text(array: xr.DataArray, name: str | None) -> str:
    """Return the level of what is drawn: ``850 hPa``; empty where it has none."""
    if name is None or name not in array.coords or array.coords[name].size != 1:
        return ""
    level = array.coords[name]
    return f"{level.values.item():g} {level.attrs.get('units', '')}".strip()


def long_name(array: xr.DataArray, level: str = "") -> str:
    """Return a variable's name for readers, with its level."""
    stated = str(array.attrs.get("standard_name", "")).replace("_", " ")
    name = array.attrs.get("long_name") or stated or str(array.name)
    return f"{name} at {level}" if level else str(name)


def with_units(name: str, units: Any) -> str:
    """Return ``name [units]``; nothing is added for a pure number or without units."""
    text = "" if units is None else str(units).strip()
    if text in ("", "1", "dimensionless"):
        return name
    return f"{name} [{_EXPONENT.sub(lambda found: found[1].translate(_RAISED), text)}]"
