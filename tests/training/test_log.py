"""The log of a run: cut where a run is resumed, and never lost."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from xwx.training.log import Log

WRITTEN = "update,loss\r\n2,0.5\r\n4,0.25\r\n6,0.125\r\n8,0."


def test_rows_after_an_update_and_half_rows_go(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(WRITTEN, newline="")
    Log(path).trim(4)
    assert path.read_bytes() == b"update,loss\r\n2,0.5\r\n4,0.25\r\n"
    Log(path).append({"update": 6, "loss": 0.1})
    assert path.read_bytes().endswith(b"\r\n4,0.25\r\n6,0.1\r\n")
    path.write_text("update,loss\r\n2,0.5\r\n4", newline="")
    Log(path).trim(4)
    assert path.read_bytes() == b"update,loss\r\n2,0.5\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_survives_when_cutting_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(WRITTEN, newline="")

    class Full:
        """A writer to a disk that is full after the header."""

        def __init__(self, file):
            self.file = file

        def writerows(self, rows):
            self.file.write(",".join(rows[0]))
            self.file.flush()
            raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv, "writer", Full)
        with pytest.raises(OSError, match="No space left"):
            Log(path).trim(4)
    assert path.read_bytes() == WRITTEN.encode()
    Log(path).trim(4)
    assert path.read_bytes() == b"update,loss\r\n2,0.5\r\n4,0.25\r\n"
    assert list(tmp_path.iterdir()) == [path]
