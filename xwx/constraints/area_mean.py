"""Means over the cells of a coarser grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr
from torch import Tensor

from xwx.constraints.coarse import coarse_cells, picked
from xwx.constraints.noise import Noise, deviations_of, refuse_noise
from xwx.constraints.scene import Bound, Scene
from xwx.constraints.series import Timed, clock_of, given_alone, held, refuse, require_values
from xwx.diffusion import operators
from xwx.diffusion.cells import Cells
from xwx.diffusion.protocols import Observation
from xwx.fields.foreign import foreign

__all__ = ["AreaMean"]


@dataclass(frozen=True, eq=False)
class AreaMean:
    """Means over the cells of a coarser grid, such as that of an analysis or a climate model.

    Parameters
    ----------
    values : Dataset
        In any presentation, of some of the model's variables and levels, at times of the series.
        On any latitude-longitude grid whose cells are not smaller than the model's and lie inside
        its grid, regional or global: a cell reaches to its CF bounds, or midway to the next. The
        means are exact: weighted with the areas of overlap on the sphere. NaN cells are left out.
    noise : str, quantity or mapping, optional
        Standard deviation of the errors, see :class:`Observe`.

    Examples
    --------
    >>> from xwx.constraints import AreaMean
    >>> ds.wx.forecast(wind, constraints=[AreaMean(seasonal, noise="0.3 K")])  # doctest: +SKIP
    """

    values: xr.Dataset
    noise: Noise = None

    def __post_init__(self) -> None:
        refuse_noise(self.noise)

    def bind(self, scene: Scene) -> Bound:
        """Return the constraint on a series of states, named "area_mean".

        Raises
        ------
        MismatchError
            With every problem of `values`: names, units, levels, times that are no state's, cells
            finer than the model's or beyond its grid, nothing but NaN.
        ValueError
            For a noise that cannot be read, or does not fit a variable.
        """
        seen, problems = foreign(self.values, scene.spec, on="own")
        refuse(problems, "AreaMean")
        assert seen is not None  # refuse() raised otherwise
        cells, problems = coarse_cells(seen, scene)
        found = clock_of(scene).find(seen.when, seen.time_name, seen.time_dim)
        refuse([*problems, *found.problems] or given_alone(found.states, scene), "AreaMean")
        assert cells is not None
        sigma = deviations_of(self.noise, scene, seen.channels, seen.names)
        positions = np.arange(seen.when.size)
        require_values(seen, positions, "AreaMean", "values", scene)
        timed = Timed(seen, found.states, positions)
        return Bound("area_mean", partial(_means, timed, cells, sigma, scene))


def _means(
    timed: Timed, cells: Cells, sigma: Tensor, scene: Scene, window: range
) -> Observation | None:
    """Return the means of the states of a window."""
    states, values = timed.of(held(window, scene))
    if not states:
        return None
    frames = [state - window.start for state in states]
    return picked(operators.AreaMean(cells, timed.seen.channels, frames), values, sigma)
