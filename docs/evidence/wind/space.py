"""Space: fields on the model's grid from area means over cells of 10 and of 7.5 degrees."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from common import WAYS, Prior, Row, Weeks, baseline_row, model_row, publish
from covariances import Interpolation, Observed
from interpolate import bicubic, bilinear, conservative, consistent, to_cells

from xwx.spec import Grid

CELLS = {"10": Grid.regular(18, 36, poles=False), "7.5": Grid.regular(24, 48, poles=False)}
#: How often the misfit is interpolated again; more changes the error by less than half a pascal.
AGAIN = 3


def run(weeks: Weeks, prior: Prior) -> None:
    """Write the table of errors."""
    parts = {}
    for degrees, cells in CELLS.items():
        rows = baselines(weeks, cells)
        for way in WAYS:
            sample = model_sample(weeks, prior, degrees, way)
            if sample is not None:
                rows.append(model_row(way, sample, weeks))
        parts[f"From cells of {degrees} degrees"] = rows
    publish("space", parts)


def baselines(weeks: Weeks, cells: Grid) -> list[Row]:
    """Return the lines of interpolations, and of optimal interpolation from the same means."""
    ways: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
        "conservative": conservative,
        "bilinear": bilinear,
        "bicubic": bicubic,
        "bicubic, consistent": lambda coarse: consistent(coarse, cells, AGAIN),
    }
    coarse, past = to_cells(weeks.report, cells), to_cells(weeks.choose, cells)
    rows = [baseline_row(name, way(coarse), way(past), weeks) for name, way in ways.items()]
    known = Interpolation(weeks, "msl", Observed.cells(cells))
    for name, empirical in (("isotropic", False), ("isotropic and EOFs", True)):
        setting = known.chosen(empirical=empirical)
        print(f"optimal interpolation, {name}: {setting}", flush=True)
        found, before = (known.estimate(w, setting) for w in (weeks.report, weeks.choose))
        rows.append(baseline_row(f"optimal interpolation, {name}", found, before, weeks))
    return rows


def model_sample(weeks: Weeks, prior: Prior, degrees: str, way: str) -> xr.Dataset | None:
    """Return the model's ensemble for the reported week; None without a model."""
    coarse = to_cells(weeks.report, CELLS[degrees])
    return prior.sampled(f"space-{degrees}", lambda **how: coarse.wx.downscale(**how), way)
