"""Report: what a trained model scores on a period that took no part in its training."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from torch import Tensor

from xwx.fields import latitude_weights
from xwx.models.checkpoint import Model
from xwx.spec import Spec
from xwx.training.config import TrainConfig
from xwx.training.data import Archive
from xwx.training.distributed import ALONE, Processes
from xwx.training.evaluate import measure
from xwx.training.memory import empty_memory

__all__ = ["report"]

#: Of a model of many channels, those that are reported unless others are asked for.
HEADLINES = (
    *("z[500 hPa]", "t[850 hPa]", "q[700 hPa]", "u[850 hPa]", "v[850 hPa]"),
    *("t2m", "msl", "u10", "v10", "tp"),
)
MOST = 10


def report(
    model: Model,
    archive: Archive,
    config: TrainConfig,
    device: torch.device,
    processes: Processes = ALONE,
) -> Model:
    """Return the model with its scores on its card, channel by channel and lead by lead.

    Root-mean-square errors are in canonical units, area-weighted, with the root after the mean
    over starts.

    Parameters
    ----------
    model : Model
    archive : Archive
        The reported period.
    config : TrainConfig
        Its last stage says at which leads, from how many starts, and with which memory.
    device : torch.device
    processes : Processes
    """
    stage = list(config.stages.values())[-1]
    weights = torch.from_numpy(latitude_weights(model.spec.grid.rows)).float().to(device)
    network = model.network.to(device)
    errors = measure(
        network,
        archive,
        weights,
        stage.leads,
        device,
        memory=partial(empty_memory, network, stage),
        most_starts=stage.validation_starts,
        processes=processes,
    )
    chosen = config.data.report or default_channels(model.spec)
    facts: dict[str, Any] = {**model.card.facts}
    if stage.cache:
        facts |= {"cache": stage.cache, "alpha": stage.alpha}
    facts["starts"] = errors.starts
    facts["rmse"] = _by_lead(errors.rmse, model.spec, stage.leads, chosen, "{:.5g}")
    facts["rmse_over_persistence"] = _by_lead(
        errors.ratios, model.spec, stage.leads, chosen, "{:.4f}"
    )
    return dataclasses.replace(model, card=dataclasses.replace(model.card, facts=facts))


def default_channels(spec: Spec) -> tuple[str, ...]:
    """Return all channels if they are few, the usual ones if they are there, or the first ones."""
    names = tuple(map(str, spec.channels))
    if len(names) <= MOST:
        return names
    return tuple(name for name in names if name in HEADLINES) or names[:MOST]


def _by_lead(
    values: Tensor, spec: Spec, leads: tuple[int, ...], chosen: tuple[str, ...], style: str
) -> dict[str, dict[str, float]]:
    """Return values (leads, C) by lead time and channel."""
    hours = spec.step.total_seconds() / 3600
    return {
        f"{lead * hours:g} h": {
            str(channel): float(style.format(value))
            for channel, value in zip(spec.channels, line, strict=True)
            if str(channel) in chosen
        }
        for lead, line in zip(leads, values.tolist(), strict=True)
    }
