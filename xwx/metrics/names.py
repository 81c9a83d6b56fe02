"""Scores by name, and scores as attributes of a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from xwx.metrics.ensembles import CRPS, EECRPS, SSR, EnergyScore, RankHistogram
from xwx.metrics.events import SEEPS, Brier, ThresholdCRPS
from xwx.metrics.metric import Metric
from xwx.metrics.single import ACC, NRMSE, Simple

__all__ = ["from_text", "names", "parse_metrics", "to_text"]

#: The mean over all variables and levels of their normalised RMSE: a score of no one variable.
MNRMSE = "mnrmse"

_NAMED: Mapping[str, Metric] = {
    **{label: Simple(label) for label in ("rmse", "mae", "bias", "mse", "spread", "skill")},
    **{m.label: m for m in (ACC(), ACC(centred=True), NRMSE(), CRPS(), CRPS(fair=False))},
    **{
        m.label: m for m in (SSR(), SSR("raw"), SSR("unbiased"), RankHistogram(), SEEPS(), EECRPS())
    },
    **{m.label: m for m in (EnergyScore(), EnergyScore(fair=False))},
}
_CLASSES = (
    Simple, ACC, CRPS, SSR, NRMSE, Brier, ThresholdCRPS, EnergyScore, RankHistogram, SEEPS, EECRPS,
)  # fmt: skip
#: What has a name elsewhere, and how it is asked for here.
_ELSEWHERE = {
    "brier": 'xwx.metrics.Brier("300 K")',
    "twcrps": 'xwx.metrics.ThresholdCRPS("300 K")',
    "crps_fair": '"crps", which is fair',
    "spectrum": "ds.wx.spectrum(), for forecast and truth",
    "zonal_spectrum": 'ds.wx.spectrum("zonal"), for forecast and truth',
    "spherical_spectrum": 'ds.wx.spectrum("spherical"), for forecast and truth',
    "mass_drift": "xwx.metrics.mass_drift(ds.wx.dry_air_mass().dry_air_pressure, threshold=...)",
    "mean_distance_error": "xwx.metrics.mean_distance_error(lat, lon, lat_truth, lon_truth)",
    "mde": "xwx.metrics.mean_distance_error(lat, lon, lat_truth, lon_truth)",
}


def names() -> list[str]:
    """Return the names of the scores that need no parameter."""
    return [*_NAMED, MNRMSE]


def parse_metrics(metrics: Any) -> tuple[Metric | str, ...]:
    """Return the scores that a user asked for, each once.

    Parameters
    ----------
    metrics : str, Metric, or sequence of them

    Raises
    ------
    ValueError
        For an unknown name, for none, and where a score with a dimension of its own is asked
        for beside others.
    TypeError
        For what is neither name nor score.
    """
    if isinstance(metrics, str | Metric):
        metrics = [metrics]
    if not isinstance(metrics, Iterable):
        raise TypeError(f'metrics={metrics!r}: give names, such as ["rmse", "acc"]')
    chosen = tuple(dict.fromkeys(_one(m) for m in metrics))
    if not chosen:
        raise ValueError(f"metrics is empty: give at least one of {', '.join(names())}")
    wide = [m for m in chosen if isinstance(m, Metric) and m.dimension is not None]
    if wide and len(chosen) > 1:
        raise ValueError(
            f"metrics: {wide[0].label!r} has a dimension of its own ({wide[0].dimension}); ask for "
            "it in a call of its own"
        )
    labels = [m if isinstance(m, str) else m.label for m in chosen]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"metrics: {', '.join(twice)} is asked for twice, in two ways; choose one")
    return chosen


def _one(metric: Any) -> Metric | str:
    if isinstance(metric, Metric) or metric == MNRMSE:
        return metric  # type: ignore[no-any-return]
    if isinstance(metric, type) and issubclass(metric, Metric):
        raise TypeError(f"metrics: {metric.__name__} is a class: give {metric.__name__}(...)")
    if not isinstance(metric, str):
        raise TypeError(f"metrics: {metric!r} is neither a name nor a score of xwx.metrics")
    if metric in _NAMED:
        return _NAMED[metric]
    if metric in _ELSEWHERE:
        raise ValueError(f"metric {metric!r}: use {_ELSEWHERE[metric]}")
    near = get_close_matches(metric.lower(), names(), 1)
    hint = f": did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"unknown metric {metric!r}{hint} The names are {', '.join(names())}")


def to_text(metrics: Iterable[Metric | str]) -> str:
    """Write scores as text, for the attributes of a file."""
    return json.dumps([m if isinstance(m, str) else m.to_json() for m in metrics])


def from_text(text: str) -> tuple[Metric | str, ...]:
    """Read scores that :func:`to_text` wrote."""
    return tuple(item if isinstance(item, str) else _made(dict(item)) for item in json.loads(text))


def _made(item: dict[str, Any]) -> Metric:
    kinds = {kind.__name__: kind for kind in _CLASSES}
    made: Metric = kinds[item.pop("metric")](**item)
    return made
