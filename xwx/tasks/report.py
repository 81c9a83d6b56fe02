"""Report: what a trained model scores on a period that took no part in its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xwx.fields import latitude_weights
from xwx.models.checkpoint import Model
from xwx.spec import Spec
from xwx.training.config import TrainConfig
from xwx.training.data import Archive
from xwx.training.denoising import KINDS, measure_denoising
from xwx.training.distributed import ALONE, Processes
from xwx.training.evaluate import measure
from xwx.training.memory import empty_memory
from xwx.training.objective import denoises
from xwx.training.settings import StageConfig

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
    """Return the model with its scores on its card, channel by channel.

    A forecaster has them lead by lead, a prior by how much noise there was. Root-mean-square
    errors are area-weighted, with the root after the mean over starts.

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
    chosen = config.data.report or default_channels(model.spec)
    weights = torch.from_numpy(latitude_weights(model.spec.grid.rows)).float().to(device)
    score = _denoising if denoises(model.network) else _forecasts
    network = model.network.to(device)
    found = score(network, archive, weights, stage, chosen, device, processes)
    facts = {**model.card.facts, **found}
    return dataclasses.replace(model, card=dataclasses.replace(model.card, facts=facts))


def _forecasts(
    network: nn.Module,
    archive: Archive,
    weights: Tensor,
    stage: StageConfig,
    chosen: tuple[str, ...],
    device: torch.device,
    processes: Processes,
) -> dict[str, Any]:
    """Return the errors of forecasts, in canonical units and over those of persistence."""
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
    hours = archive.spec.step.total_seconds() / 3600
    leads = [f"{lead * hours:g} h" for lead in stage.leads]
    facts: dict[str, Any] = {}
    if stage.cache:
        facts |= {"cache": stage.cache, "alpha": stage.alpha}
    facts["starts"] = errors.starts
    facts["rmse"] = _table(errors.rmse, leads, archive.spec, chosen, "{:.5g}")
    facts["rmse_over_persistence"] = _table(errors.ratios, leads, archive.spec, chosen, "{:.4f}")
    return facts


def _denoising(
    network: nn.Module,
    archive: Archive,
    weights: Tensor,
    stage: StageConfig,
    chosen: tuple[str, ...],
    device: torch.device,
    processes: Processes,
) -> dict[str, Any]:
    """Return the errors of estimated clean frames, over those of the best estimate cell by cell."""
    levels = stage.noise.levels
    errors = measure_denoising(
        network,
        archive,
        weights,
        levels,
        device,
        most_starts=stage.validation_starts,
        processes=processes,
    )
    rows = [f"noise time {level:g}" for level in levels]
    tables = (_table(ratios, rows, archive.spec, chosen, "{:.4f}") for ratios in errors.ratios)
    return {
        "windows": errors.windows,
        "rmse_over_that_cell_by_cell": dict(zip(KINDS, tables, strict=False)),
    }


def default_channels(spec: Spec) -> tuple[str, ...]:
    """Return all channels if they are few, the usual ones if they are there, or the first ones."""
    names = tuple(map(str, spec.channels))
    if len(names) <= MOST:
        return names
    return tuple(name for name in names if name in HEADLINES) or names[:MOST]


def _table(
    values: Tensor, rows: Sequence[str], spec: Spec, chosen: tuple[str, ...], style: str
) -> dict[str, dict[str, float]]:
    """Return values (rows, C) by the name of the row and by channel."""
    return {
        row: {
            str(channel): float(style.format(value))
            for channel, value in zip(spec.channels, line, strict=True)
            if str(channel) in chosen
        }
        for row, line in zip(rows, values.tolist(), strict=True)
    }
