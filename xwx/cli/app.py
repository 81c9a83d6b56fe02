"""The application that the commands belong to, and what they check alike."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, Token

from xwx.errors import XwxError
from xwx.version import __version__

__all__ = ["UsageError", "app", "check_date", "check_output", "from_zero", "positive"]

DATE = re.compile(r"\d{4,}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?Z?)?")
OUTPUTS = (".zarr", ".nc")

app = App(
    name="xwx",
    help="Weather models on the command line: forecast a NetCDF, Zarr or GRIB file.",
    version=__version__,
)


class UsageError(XwxError):
    """Options that contradict each other or the file system: exit code 2."""


def check_date(kind: Any, value: Any) -> None:
    for date in [value] if isinstance(value, str) else value or []:
        if not DATE.fullmatch(date):
            raise ValueError(f"{date!r} is not an ISO date such as 2026-01-25T00")


def positive(kind: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; 2.5 is not rounded."""
    text = tokens[0].value
    if not re.fullmatch(r"0*[1-9][0-9]*", text):
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def from_zero(kind: Any, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def check_output(source: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse an output of an unknown format, or one that would destroy something."""
    if out.suffix not in OUTPUTS:
        raise UsageError(f"--out {out}: give a name that ends in {' or '.join(OUTPUTS)}")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the directory {out.parent} does not exist")
    if not os.path.lexists(out):
        return
    if source.exists() and out.exists() and out.samefile(source):
        raise UsageError(f"--out {out} is the input: give another name")
    if not overwrite:
        raise UsageError(f"--out {out} exists: give --overwrite to replace it, or another name")
    from xwx.files import is_zarr

    if out.is_dir() and not (out.suffix == ".zarr" and is_zarr(out)):
        raise UsageError(f"--out {out} is a directory that holds something else: move it away")
