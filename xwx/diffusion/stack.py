"""Observations together: they stack, they leave values out, they lose their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xwx.diffusion.measurements import Measurement, Standard, standard
from xwx.diffusion.protocols import Observation, Operator

__all__ = ["Selected", "Stack", "stack", "standardised"]


@dataclass(frozen=True, eq=False)
class Selected(Measurement):
    """Some of the values of an operator, such as the coarse cells that hold a number.

    Parameters
    ----------
    operator : Operator
    index : Tensor of int, shape (M,)
        Which of its values.
    """

    operator: Operator
    index: Tensor

    def __post_init__(self) -> None:
        size = self.operator.size
        if (
            self.index.numel() == 0
            or not 0 <= int(self.index.min()) <= int(self.index.max()) < size
        ):
            raise ValueError(
                f"index={self.index.tolist()[:5]}...: the operator sees {size} values, so give "
                f"one index or more from 0 to {size - 1}"
            )

    @property
    def size(self) -> int:
        """The number of values seen, M."""
        return self.index.shape[0]

    @property
    def linear(self) -> bool:
        """Whether the operator is linear, or affine, in the state."""
        return self.operator.linear

    def __call__(self, x: Tensor) -> Tensor:
        """Return the chosen values (B, M) of the states (B, T, C, H, W)."""
        return self.operator(x).index_select(1, self.index)

    def standard(self, mean: Tensor, std: Tensor) -> Standard:
        """Return the same choice of the standardised operator."""
        inner = standard(self.operator, mean, std)
        index = self.index.to(mean.device)
        return Standard(
            replace(self, operator=inner.operator), inner.offset[index], inner.unit[index]
        )


@dataclass(frozen=True, eq=False)
class Stack(Measurement):
    """The values of several operators, one after the other.

    Parameters
    ----------
    operators : tuple of Operator
    """

    operators: tuple[Operator, ...]

    def __post_init__(self) -> None:
        if not self.operators:
            raise ValueError("operators=(): give one operator or more")

    @property
    def size(self) -> int:
        """The number of values seen, M."""
        return sum(operator.size for operator in self.operators)

    @property
    def linear(self) -> bool:
        """Whether all the operators are linear, or affine, in the state."""
        return all(operator.linear for operator in self.operators)

    def __call__(self, x: Tensor) -> Tensor:
        """Return what is seen (B, M) of the states (B, T, C, H, W)."""
        return torch.cat([operator(x) for operator in self.operators], dim=1)

    def standard(self, mean: Tensor, std: Tensor) -> Standard:
        """Return the stack of the standardised operators."""
        parts = [standard(operator, mean, std) for operator in self.operators]
        return Standard(
            Stack(tuple(part.operator for part in parts)),
            torch.cat([part.offset for part in parts]),
            torch.cat([part.unit for part in parts]),
        )


def stack(observations: Sequence[Observation]) -> Observation:
    """Return several observations as one, with independent errors.

    Parameters
    ----------
    observations : sequence of Observation
        Each with values for all members, or one row for each of the same number of members.

    Returns
    -------
    Observation
        Values, variances and demands one after the other.

    Raises
    ------
    ValueError
        If there is none, or their numbers of members differ.
    """
    if not observations:
        raise ValueError("observations=[]: give one observation or more")
    members = {o.value.shape[0] for o in observations if o.value.ndim == 2}
    if len(members) > 1:
        raise ValueError(
            f"the observations are of {sorted(members)} members: give the same number in each, or "
            "values (M,) that hold for all"
        )
    rows = members.pop() if members else None
    values = [
        o.value if rows is None or o.value.ndim == 2 else o.value.expand(rows, -1)
        for o in observations
    ]
    return Observation(
        Stack(tuple(o.operator for o in observations)),
        torch.cat(values, dim=-1),
        torch.cat([o.variances for o in observations]),
        torch.cat([o.demanded for o in observations]),
    )


def standardised(observation: Observation, mean: Tensor, std: Tensor) -> Observation:
    r"""Return the observation of *normalised* states, without units.

    .. math:: A'(z) = (A(\mu + \sigma z) - a) / u, \quad y' = (y - a) / u, \quad R' = R / u^2

    where u is the standard deviation of the channel that a value is of and a the mean of what is
    seen; a mass of dry air is seen in units of 1 hPa, from 1000 hPa; other functions as they are.

    Parameters
    ----------
    observation : Observation
        Of physical states (B, T, C, H, W).
    mean, std : Tensor, shape (C, 1, 1)
        Of each channel, in its canonical unit.

    Raises
    ------
    ValueError
        If the two have other shapes, or a standard deviation is not positive.
    """
    if mean.shape != std.shape or tuple(mean.shape) != (mean.shape[0], 1, 1):
        raise ValueError(
            f"mean and std have the shapes {tuple(mean.shape)} and {tuple(std.shape)}: give "
            "(channels, 1, 1)"
        )
    if not bool((std > 0).all()):
        raise ValueError(f"std reaches down to {float(std.min())}: give positive numbers")
    value = observation.value
    inner = standard(observation.operator, mean, std)
    offset, unit = inner.offset.to(value), inner.unit.to(value)
    return replace(
        observation,
        operator=inner.operator,
        value=(value - offset) / unit,
        variance=observation.variances / unit**2,
    )
