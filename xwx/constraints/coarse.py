"""Cells of a coarser grid, and the values on it that are numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from xwx.constraints.scene import Scene
from xwx.diffusion.cells import RowsColumns
from xwx.diffusion.operators import Selected
from xwx.diffusion.protocols import Observation, Operator
from xwx.errors import Problem
from xwx.fields.cells import Overlap, overlap
from xwx.fields.foreign import Foreign

__all__ = ["coarse_cells", "picked"]


def coarse_cells(seen: Foreign, scene: Scene) -> tuple[RowsColumns | None, list[Problem]]:
    """Return the means over the cells of a Dataset's grid, or what is wrong with them."""
    assert seen.cells is not None
    found = overlap(seen.cells, scene.spec.grid)
    if not isinstance(found, Overlap):
        return None, found
    return RowsColumns(torch.from_numpy(found.rows), torch.from_numpy(found.columns)), []


def picked(operator: Operator, values: Tensor, sigma: Tensor) -> Observation | None:
    """Return the observation of the values (n, channels, rows, columns) that are numbers."""
    here = torch.isfinite(values)
    if not bool(here.any()):
        return None
    variance = (sigma**2)[:, None, None].expand(values.shape)[here]
    if not bool(here.all()):
        operator = Selected(operator, torch.nonzero(here.flatten()).flatten())
    return Observation(operator, values[here], variance)
