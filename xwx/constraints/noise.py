"""The standard deviation of observation errors, in the canonical unit of each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xwx.constraints.scene import Scene
from xwx.fields.quantities import deviations

__all__ = ["Noise", "deviations_of"]

#: None, a number with a unit ("0.5 hPa", a pint Quantity), or one such for each variable.
Noise = str | Mapping[str, Any] | Any | None

#: Of a channel's standard deviation, where nothing was said.
_DEFAULT = 0.01


def deviations_of(
    noise: Noise, scene: Scene, channels: Sequence[int], names: Sequence[str]
) -> Tensor:
    """Return the standard deviation of the errors of each channel: (channels,), float64.

    Raises
    ------
    ValueError
        See :func:`~xwx.fields.quantities.deviations`.
    """
    given = deviations(noise, [scene.spec.channels[n] for n in channels], names)
    std = scene.std.detach().flatten().double().cpu()
    chosen = [
        _DEFAULT * float(std[n]) if one is None else one
        for n, one in zip(channels, given, strict=True)
    ]
    return torch.tensor(chosen, dtype=torch.float64)
