"""What every operation asks of its arguments, and what it says to those that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

__all__ = ["check_count", "check_pair", "check_tensors"]


def check_tensors(operation: str, tensors: dict[str, Tensor]) -> None:
    """Refuse what is not a tensor of real floating point on the device of the first.

    Parameters
    ----------
    operation : str
        Its name, for messages.
    tensors : dict
        By their names.

    Raises
    ------
    TypeError
        For what is not a tensor, and for integers, bools and complex numbers: a cast would lose
        digits, or an imaginary part, without a word.
    ValueError
        For tensors on different devices.
    """
    first = next(iter(tensors))
    device = None
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            kind = f"{type(tensor).__module__}.{type(tensor).__qualname__}"
            remedy = "pass a torch.Tensor"
            if isinstance(tensor, Sequence):
                remedy = "pass its tensors one by one, with a * before it"
            kind = kind.removeprefix("builtins.")
            raise TypeError(f"{operation}: {name} is a {kind}: {remedy}")
        if not tensor.is_floating_point():
            remedy = f"pass floating point, as in {name}.float()"
            if tensor.is_complex():
                remedy = f"pass {name}.real and {name}.imag in calls of their own"
            raise TypeError(f"{operation}: {name} has type {tensor.dtype}: {remedy}")
        device = device or tensor.device
        if tensor.device != device:
            raise ValueError(
                f"{operation}: {name} is on {tensor.device}, {first} is on {device}: move it with "
                f"{name}.to({first}.device)"
            )


def check_pair(operation: str, name: str, pair: tuple[int, int]) -> None:
    """Refuse what is not a number of rows and one of columns, at least 1 each.

    Raises
    ------
    TypeError
        For anything but two whole numbers.
    ValueError
        For a number below 1.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_whole, pair)):
        raise TypeError(
            f"{operation}: {name}={pair!r}: pass two whole numbers, rows and columns, as in "
            f"{name}=(4, 8)"
        )
    if pair[0] < 1 or pair[1] < 1:
        raise ValueError(f"{operation}: {name}={pair}: pass at least one row and one column")


def check_count(operation: str, name: str, number: int) -> None:
    """Refuse what is not a whole number.

    Raises
    ------
    TypeError
    """
    if not _whole(number):
        raise TypeError(f"{operation}: {name}={number!r}: pass a whole number")


def _whole(number: object) -> bool:
    # A tracer of dynamic shapes stands for a number, too.
    return isinstance(number, Integral | torch.SymInt)
