"""Which noise each constraint was given, in words for the attributes of a result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from xwx.constraints.area_mean import AreaMean
from xwx.constraints.custom import Custom
from xwx.constraints.dry_air import DryAirMass
from xwx.constraints.noise import deviations_for
from xwx.constraints.observe import Observe
from xwx.constraints.scene import Constraint
from xwx.constraints.time_mean import TimeMean
from xwx.constraints.warming import Warming
from xwx.fields.offered import offered
from xwx.fields.units import affine
from xwx.spec import Spec

__all__ = ["noise_attrs"]


def noise_attrs(
    names: Sequence[str], constraints: Sequence[Constraint], spec: Spec, std: Tensor
) -> dict[str, str]:
    """Return the attribute ``xwx_noise``: the standard deviation of the errors of each constraint.

    Parameters
    ----------
    names : sequence of str
        What the residuals of the constraints are called by.
    constraints : sequence of Constraint
        In the same order; one that is not of this room is left out.
    spec : Spec
        Of the model.
    std : Tensor, shape (C, 1, 1)
        Its standard deviation of each channel, of which the default is a part.

    Returns
    -------
    dict
        JSON: by constraint, and by variable (and level, where there are several) in its own unit,
        ``{"area_mean": {"msl": "10.8 Pa"}}``; empty without such constraints.
    """
    pairs = zip(names, constraints, strict=True)
    found = {name: said for name, c in pairs if (said := _said(c, spec, std)) is not None}
    return {"xwx_noise": json.dumps(found)} if found else {}


def _said(constraint: Constraint, spec: Spec, std: Tensor) -> Any:
    if isinstance(constraint, Observe | AreaMean | TimeMean):
        return _of_channels(constraint, spec, std)
    if isinstance(constraint, DryAirMass):
        return str(constraint.noise)
    if isinstance(constraint, Warming):
        given = constraint.noise
        return "a hundredth of each shift" if given is None else _text(given)
    if isinstance(constraint, Custom):
        noise = np.asarray(constraint.noise, dtype=np.float64)
        return f"{float(noise):g}" if noise.ndim == 0 else [f"{float(one):g}" for one in noise]
    return None


def _of_channels(
    constraint: Observe | AreaMean | TimeMean, spec: Spec, std: Tensor
) -> dict[str, str]:
    """Return the noise of each variable in its own unit."""
    places, _ = offered(constraint.values, spec)
    names = [place.profile.name for place in places.values()]
    sigma = deviations_for(constraint.noise, spec, std, list(places), names).tolist()
    out = {}
    for (n, place), name, one in zip(places.items(), names, sigma, strict=True):
        step = affine(str(place.profile.units), place.units)
        assert step is not None  # locate() made sure
        level = spec.channels[n].level
        where = "" if level is None or names.count(name) == 1 else f" at {level / 100:g} hPa"
        own = one / abs(step.scale * place.factor)
        out[f"{name}{where}"] = f"{own:.6g} {place.profile.units}"
    return out


def _text(noise: Any) -> Any:
    """Return a noise as it was given."""
    return {str(k): str(v) for k, v in noise.items()} if hasattr(noise, "items") else str(noise)
