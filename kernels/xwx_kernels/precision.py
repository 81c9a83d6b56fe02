"""The precision in which operations compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["as_given", "has_type"]


def as_given(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which ``torch.autocast`` casts nothing on a device.

    Not every device knows autocast: tensors without data ("meta") do not.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def has_type(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether a device computes in a type: NVIDIA's before Ampere know no bfloat16."""
    if device.type != "cuda" or dtype != torch.bfloat16 or torch.version.hip is not None:
        return True
    return torch.cuda.get_device_properties(device).major >= 8
