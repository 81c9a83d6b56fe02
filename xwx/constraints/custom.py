"""Any differentiable function of states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from xwx.constraints.scene import Bound, Scene
from xwx.constraints.series import held
from xwx.diffusion import operators
from xwx.diffusion.protocols import Observation

__all__ = ["Custom"]


@dataclass(frozen=True, eq=False)
class Custom:
    """Any differentiable function of the states of a window.

    Parameters
    ----------
    function : callable
        From states (B, T, C, H, W) in canonical units and the range of their positions in the
        series to values (B, M), each member by itself, made of torch operations. Channels are in
        the order of ``model.spec.channels``, rows from north to south, columns eastwards. It is
        called for each window with the states of the series alone, so that the last T may be
        smaller.
    values : array_like, shape (M,)
        What the function should give, the same in every window.
    noise : float or array_like, shape (M,)
        Standard deviation of the errors, in the unit of `values`.
    name : str
        What the residual is called by in the result.

    Notes
    -----
    The solver of the guidance weighs the values alike: let them vary by about one.

    Examples
    --------
    >>> from xwx.constraints import Custom
    >>> def wet(states, positions):  # the mean humidity of the last state, in g kg-1
    ...     return 1e3 * states[:, -1, 3].mean((-2, -1))[:, None]
    >>> ds.wx.forecast(wind, constraints=[Custom(wet, [4.2], 0.1)])  # doctest: +SKIP
    """

    function: Callable[[Tensor, range], Tensor]
    values: ArrayLike
    noise: ArrayLike
    name: str = "custom"

    def bind(self, scene: Scene) -> Bound:
        """Return the constraint on a series of states.

        Raises
        ------
        ValueError
            For values or a noise that are not finite or do not fit each other, a noise that is
            not positive, and a function that gives another number of values.
        """
        values = np.array(self.values, dtype=np.float64)
        noise = np.array(self.noise, dtype=np.float64)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ValueError(
                f"values of shape {values.shape}: give one finite number or more, (M,), such as "
                "[4.2]"
            )
        if noise.shape not in ((), values.shape):
            raise ValueError(f"noise of shape {noise.shape}: give one number, or {values.shape}")
        if not (np.isfinite(noise) & (noise > 0)).all():
            raise ValueError(f"noise={self.noise!r}: a standard deviation is positive and finite")
        variance = torch.from_numpy(np.broadcast_to(noise**2, values.shape).copy())
        value = torch.from_numpy(values)
        return Bound(self.name, partial(_seen, self.function, value, variance, scene))


def _seen(
    function: Callable[[Tensor, range], Tensor],
    value: Tensor,
    variance: Tensor,
    scene: Scene,
    window: range,
) -> Observation | None:
    """Return the function of a window."""
    states = held(window, scene)
    if not states:
        return None
    operator = operators.Custom(lambda x: function(x[:, : len(states)], states), len(value))
    return Observation(operator, value, variance)
