"""The picture of a run: its stages behind each other, leads in one colour, means over channels."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from xwx.tasks.curves import draw_curves

HEAD = "update,seconds,learning_rate,theta,s z,s t,"
FIRST = f"""\
{HEAD}ratio z[500 hPa] 6 h,ratio t2m 6 h,ratio z[500 hPa] 24 h,ratio t2m 24 h
100,1.0,0.01,0.1,-0.1,-0.2,0.9,0.7,1.0,0.8
200,1.0,0.001,0.2,-0.3,-0.4,0.8,0.6,0.9,0.5
"""
SECOND = f"""\
{HEAD}ratio z[500 hPa] 24 h,ratio t2m 24 h,ratio z[500 hPa] 240 h,ratio t2m 240 h
30,1.0,0.0005,0.5,-0.5,-0.6,0.7,0.5,1.2,1.0
60,1.0,0.0
"""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args, **options) -> None:
        figures.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def lines(figure: Figure, panel: int) -> list[tuple[str, list[float], list[float]]]:
    return [
        (line.get_label(), list(line.get_xdata()), [round(y, 9) for y in line.get_ydata()])
        for line in figure.axes[panel].lines
    ]


def test_two_stages(tmp_path: Path, shown: list[Figure]) -> None:
    (tmp_path / "finetuning").mkdir()
    (tmp_path / "log.csv").write_text(FIRST)
    (tmp_path / "finetuning" / "log.csv").write_text(SECOND)  # its last row is being written
    assert draw_curves(tmp_path) == tmp_path / "training.png"
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = shown
    scores = lines(figure, 0)
    assert [line for line in scores if len(line[1]) == 2 and line[1][0] != 200] == [
        ("6 h", [100, 200], [0.8, 0.7]),
        ("24 h", [100, 200], [0.9, 0.7]),
    ]
    assert [line[1:] for line in scores if line[1] == [230]] == [([230], [0.6]), ([230], [1.1])]
    assert scores[2][0].startswith("_")  # the same lead time has one entry in the legend
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert colours[1] == colours[2] != colours[0]
    assert lines(figure, 1)[0][2] == [0.01, 0.001]
    assert lines(figure, 2)[1][1:] == ([230], [0.5])
    assert lines(figure, 3)[0] == ("z", [100, 200], [-0.1, -0.3])
    assert all(len(axes.lines) > 1 and axes.get_xlabel() == "update" for axes in figure.axes)


def test_one_stage(tmp_path: Path, shown: list[Figure]) -> None:
    (tmp_path / "finetuning").mkdir()
    (tmp_path / "finetuning" / "log.csv").write_text(SECOND)
    draw_curves(tmp_path, tmp_path / "other.png")
    assert lines(shown[0], 2) == [("_child0", [30], [0.5])]
    assert not (tmp_path / "training.png").exists()


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no log\.csv of a training run"):
        draw_curves(tmp_path)
