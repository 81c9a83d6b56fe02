"""What a network is told of its data before it learns: statistics, and fields of the ground."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from xwx.errors import ConfigError
from xwx.fields import latitude_weights
from xwx.fields.foreign import static_field
from xwx.fields.variables import table
from xwx.training.data import Archive, statistics
from xwx.training.distributed import Processes
from xwx.training.mean_state import mean_state
from xwx.training.waves import neighbours, waves

__all__ = ["set_static", "set_statistics"]


def set_statistics(network: Any, archive: Archive, group: Processes) -> None:
    """Give a network what is known of the training period, found by the first process.

    Mean, standard deviation and that of one step's change; of a prior that asks for it also
    the mean state, and how alike neighbours are.
    """
    weights = latitude_weights(archive.spec.grid.rows)

    def shared(*shape: int, find: Callable[[], Tensor]) -> Tensor:
        value = find().float().contiguous() if group.first else torch.zeros(shape)
        group.share_(value)
        return value

    channels = len(archive.spec.channels)
    found = shared(3, channels, find=lambda: torch.stack(statistics(archive, weights)))
    network.set_statistics(*found)
    mean, std = found[:2, :, None, None]
    if getattr(network, "mean_state", torch.empty(0)).numel():
        shape = (channels, *archive.spec.grid.shape)
        state = shared(*shape, find=lambda: mean_state(archive, weights, mean, std))
        network.set_mean_state(state)
        mean = mean + std * state
    stencil = getattr(network, "stencil", None)
    if stencil is None and not getattr(network, "spectrum", torch.empty(0)).numel():
        return
    found_waves = waves(archive, weights, mean, std)  # small: each process finds the same
    if stencil is not None:
        network.set_neighbours(neighbours(found_waves, reach=2 * stencil.radius))
    network.set_waves(found_waves.spectrum, found_waves.memory)


def set_static(network: Any, ds: xr.Dataset) -> None:
    """Give a prior the fields that do not change which its configuration names.

    Raises
    ------
    ConfigError
        When a name is none of a field that does not change, or the dataset has no such field on
        the grid of the model; says which there are.
    """
    names = getattr(network.config, "static", ())
    if not names:
        return
    fields = []
    for name in names:
        if name not in table() or not table()[name].static:
            known = ", ".join(key for key, row in table().items() if row.static)
            raise ConfigError(f"[network] static names {name!r}: choose from {known}")
        values, problems = static_field(ds, name, network.spec.grid)
        if values is None:
            why = (
                "; ".join(f"{p.message} ({p.remedy})" for p in problems)
                or "it has none under a name that is known"
            )
            raise ConfigError(
                f"[network] static names {name!r}, which the dataset does not give: {why}. Add it "
                f"to the dataset (standard_name {table()[name].standard_names[0]!r}, units "
                f"{table()[name].units!r}), or leave it out of static"
            )
        fields.append(torch.from_numpy(np.ascontiguousarray(values)))
    network.set_static(names, torch.stack(fields))
