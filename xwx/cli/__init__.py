"""The command line: ``xwx forecast``, ``plan``, ``check``, ``train``, ``info`` and others.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the data, the model or the
machine does not do, 2 wrong usage, 130 interrupted. ``XWX_DEBUG=1`` shows tracebacks.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import CycloptsError

from xwx.cli import forecasting, looking, making
from xwx.cli.app import UsageError, app
from xwx.errors import XwxError

__all__ = ["app", "forecasting", "looking", "main", "making"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _guard(lambda: _run(tokens))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(tokens: list[str]) -> int:
    command, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    code = command(*bound.args, **bound.kwargs)
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _guard(job: Callable[[], int]) -> int:
    """Turn exceptions into a message and an exit code."""
    try:
        return job()
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (CycloptsError, UsageError) as error:
        return _fail(f"{error}\nTry: xwx --help", 2)
    except BrokenPipeError:
        raise
    except (XwxError, OSError) as error:
        return _fail(str(error), 1)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return _fail(f"{message}\nXWX_DEBUG=1 shows where this comes from", 1)


def _fail(message: str, code: int) -> int:
    if os.environ.get("XWX_DEBUG", "") not in ("", "0"):
        traceback.print_exc()
    print(f"xwx: {message}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"xwx: warning: {message}", file=sys.stderr)
