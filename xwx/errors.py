"""The exceptions of xwx: few, each with a message that names the fault and its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "CheckpointError",
    "ConfigError",
    "MismatchError",
    "ModelNotFoundError",
    "Problem",
    "StoreError",
    "XwxError",
    "XwxWarning",
]


class XwxError(Exception):
    """Base of every exception that xwx raises on purpose."""


class XwxWarning(UserWarning):
    """Base of every warning that xwx issues on purpose."""


@dataclass(frozen=True)
class Problem:
    """One mismatch between a Dataset and what a model needs.

    Attributes
    ----------
    kind : str
        A short, stable, machine-readable word such as ``"missing-level"``.
    where : str
        The variable, coordinate or argument at fault.
    message : str
        What was found and what was needed, with the offending value.
    remedy : str
        The line of code (or the action) that mends it.
    """

    kind: str
    where: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}\n    -> {self.remedy}"


class MismatchError(XwxError, ValueError, KeyError):
    """A Dataset does not fit: carries every problem found, each with its remedy.

    It is a :class:`ValueError`, and a :class:`KeyError` too because something that was looked up
    may be missing.

    Parameters
    ----------
    problems : sequence of Problem
        At least one.
    what : str, optional
        What the Dataset was meant for, for the first line of the message.
    """

    def __init__(self, problems: Sequence[Problem], what: str = "the model") -> None:
        self.problems = tuple(problems)
        self.what = what
        super().__init__(self.problems, what)

    def __str__(self) -> str:  # KeyError would print the repr
        count = len(self.problems)
        head = f"the Dataset does not fit {self.what}: {count} problem{'s' * (count != 1)}"
        return "\n".join([head, *(f"  {n}. {p}" for n, p in enumerate(self.problems, 1))])


class ModelNotFoundError(XwxError, LookupError):
    """No model of that name, or none that fits the Dataset."""


class CheckpointError(XwxError, ValueError):
    """A checkpoint that is not the documented safetensors + JSON pair, or is damaged."""


class StoreError(XwxError, OSError):
    """An output store that cannot be written, or holds something else already."""


class ConfigError(XwxError, ValueError):
    """A configuration file with a key or a value that is not understood."""
