"""``python -m xwx``: the command line, as ``torchrun -m xwx`` starts it."""

from __future__ import annotations

import sys

from xwx.cli import main

if __name__ == "__main__":
    sys.exit(main())
