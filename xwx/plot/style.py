"""How a variable is drawn: its colours, and the range they span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xwx.fields import table
from xwx.fields.variables import glued_level, stated_name

__all__ = ["DIFFERENCE", "Style", "extend", "limits", "signed", "style_of"]


@dataclass(frozen=True)
class Style:
    """Colours of a quantity.

    Attributes
    ----------
    cmap : str
        A colour map of matplotlib.
    signed : bool
        Whether zero is special: the range is symmetric around it.
    positive : bool
        Whether the colours start at zero.
    share : float
        Per cent of the values that the range holds: few extremes shall not pale all others.
    """

    cmap: str
    signed: bool = False
    positive: bool = False
    share: float = 100.0


DIFFERENCE = Style("RdBu_r", signed=True, share=99.5)
#: Of scores: light where they are small, so that coastlines show.
_SCORE = Style("YlOrRd", share=99.5)
#: Metrics of which zero is special.
_SIGNED = frozenset({"bias", "acc", "acc_centred"})
_OTHER = Style("viridis")
_TEMPERATURE = Style("inferno")
_WATER = Style("YlGnBu", positive=True)
_FLOW = Style("PuOr_r", signed=True, share=99.5)
_FRACTION = Style("bone", positive=True)

#: Channel of the table of variables -> style.
_STYLES = {
    **dict.fromkeys(("t", "t2m", "d2m", "skt", "sst"), _TEMPERATURE),
    **dict.fromkeys(("u", "v", "w", "vo", "d", "u10", "v10", "u100", "v100"), _FLOW),
    **dict.fromkeys(("q", "q2m", "r", "tcwv", "clwc", "ciwc"), _WATER),
    **dict.fromkeys(("tp", "tp6h"), Style("Blues", positive=True, share=99.5)),
    **dict.fromkeys(("tcc", "siconc", "lsm"), _FRACTION),
    "si10": Style("BuPu", positive=True),
    "z_sfc": Style("cividis"),
    **dict.fromkeys(("z", "msl", "sp"), _OTHER),
}


def style_of(name: str, attrs: Any, metric: str | None = None) -> Style:
    """Return the style of a variable, by its standard_name or else its name; or of its scores."""
    if metric in _SIGNED or name.endswith("_difference"):
        return DIFFERENCE
    if metric is not None:
        return _SCORE
    stated = stated_name(attrs)
    if stated in ("wind_speed", "wind_speed_of_gust"):
        return _STYLES["si10"]
    glued = glued_level(name)
    for key, entry in table().items():
        if stated in entry.all_standard_names or (
            stated is None and (name in entry.names or (glued is not None and key in glued[0]))
        ):
            return _STYLES.get(key, _OTHER)
    return _OTHER


def signed(values: NDArray[Any], share: float = 100.0) -> tuple[float, float]:
    """Return a range that is symmetric around zero and holds a `share` [per cent] of values."""
    size = np.abs(values[np.isfinite(values)])
    most = float(np.percentile(size, share)) if size.size else 0.0
    # A field that is zero nearly everywhere would get no range at all.
    most = most or float(size.max(initial=0.0)) or 1.0
    return -most, most


def limits(
    values: NDArray[Any], style: Style, vmin: float | None = None, vmax: float | None = None
) -> tuple[float, float]:
    """Return the range of the colours for values: what is given counts, the rest follows."""
    finite = values[np.isfinite(values)]
    if style.signed:
        if vmin is None and vmax is None:
            return signed(finite, style.share)
        vmin = -float(vmax or 0.0) if vmin is None else float(vmin)
        vmax = -vmin if vmax is None else float(vmax)
    low = 0.0 if style.positive else float(finite.min(initial=np.inf))
    high = float(np.percentile(finite, style.share)) if finite.size else 1.0
    high = high if high > low else float(finite.max(initial=low))
    low = low if np.isfinite(low) else 0.0
    low, high = (low if vmin is None else float(vmin)), (high if vmax is None else float(vmax))
    return (low, high) if high > low else (low, low + (abs(low) * 1e-3 or 1.0))


def extend(values: NDArray[Any], low: float, high: float) -> str:
    """Return at which ends values lie beyond the colours, as a colour bar wants it."""
    finite = values[np.isfinite(values)]
    below, above = bool((finite < low).any()), bool((finite > high).any())
    return ("neither", "max", "min", "both")[2 * below + above]
