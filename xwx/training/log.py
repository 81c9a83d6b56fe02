"""The log of a training run: one CSV row a validation."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

__all__ = ["Log"]


class Log:
    """A CSV file whose first column is the number of updates made.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def clear(self) -> None:
        """Start afresh."""
        self.path.unlink(missing_ok=True)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row, after a header where there is none."""
        fresh = self._empty()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def trim(self, update: int) -> None:
        """Drop the rows after `update`, and a row that was not written to its end."""
        if self._empty():
            return
        with self.path.open(newline="") as file:
            head, *rows = csv.reader(file)
        whole = [row for row in rows if len(row) == len(head) and int(row[0]) <= update]
        with self.path.open("w", newline="") as file:
            csv.writer(file).writerows([head, *whole])

    def _empty(self) -> bool:
        return not self.path.exists() or not self.path.stat().st_size
