"""The precision in which operations compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["as_given"]


def as_given(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which ``torch.autocast`` casts nothing on a device.

    Not every device knows autocast: tensors without data ("meta") do not.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
