"""The standard deviation of observation errors, in the canonical unit of each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xwx.constraints.scene import Scene
from xwx.fields.quantities import deviations, refuse_amount
from xwx.spec import Spec

__all__ = ["Noise", "deviations_for", "deviations_of", "refuse_noise"]

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
    return deviations_for(noise, scene.spec, scene.std, channels, names)


def deviations_for(
    noise: Noise, spec: Spec, std: Tensor, channels: Sequence[int], names: Sequence[str]
) -> Tensor:
    """Return what :func:`deviations_of` does, with the model's own (C, 1, 1)."""
    given = deviations(noise, [spec.channels[n] for n in channels], names)
    usual = std.detach().flatten().double().cpu()
    chosen = [
        _DEFAULT * float(usual[n]) if one is None else one
        for n, one in zip(channels, given, strict=True)
    ]
    return torch.tensor(chosen, dtype=torch.float64)


def refuse_noise(noise: Noise) -> None:
    """Refuse a noise that no variable can have: without a number, or one that is not positive.

    Raises
    ------
    ValueError
    """
    if noise is None:
        return
    each = noise.items() if isinstance(noise, Mapping) else [(None, noise)]
    for name, one in each:
        if one is None:
            continue
        argument = "noise" if name is None else f"noise[{name!r}]"
        refuse_amount(one, argument, '"0.5 hPa"', positive=True)
