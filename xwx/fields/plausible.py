"""Whether values are what a model has seen: a unit that is labelled wrong shows in them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xwx.errors import Problem, XwxWarning
from xwx.fields.frame import Field
from xwx.fields.units import Affine, affine
from xwx.fields.variables import Variable, table
from xwx.spec import Channel

__all__ = ["Learned", "Sample", "implausible", "units_of", "warn_if_implausible"]

Floats = NDArray[np.float64]
# The bounds are in standard deviations over the globe and the year, so that a season, a mountain
# or a desert lies within five. A mean is further off only where a list is of few stations: 870 hPa,
# the lowest pressure ever measured at sea level, is twelve off. What no unit explains has to be
# further off than that; what a usual unit explains, less: 15 labelled K are thirteen off, 14 km of
# geopotential labelled m2 s-2 nine, and no value of the atmosphere beyond eight is one that another
# unit makes plausible again.
_UNEXPLAINED, _EXPLAINED, _USUAL = 15.0, 8.0, 5.0
# Values whose mean was removed, and constants that no unit explains, were made so on purpose: what
# their unit is does not show.
_REMOVED = 0.1
# Where zero is a usual value (winds, vorticity, rain) a wrong unit does not move the mean, but
# makes all values larger: by a hundred, or a thousand. Rain of 75 mm in six hours is fifty off, so
# that one station in a storm says nothing, and ten such stations are no region's mean.
# Values that are too small are no sign: departures, and fields that are constant, are small too.
_SPREAD, _FEWEST = 50.0, 10
#: Labels that are mistaken for each other; of them those that convert are tried.
_LABELS = (
    *("Pa", "hPa", "kPa", "K", "degC", "m2 s-2", "m", "mm", "kg kg-1", "g kg-1", "1", "%"),
    *("m s-1", "km h-1", "knot", "cm s-1", "Pa s-1", "hPa s-1", "s-1"),
)
_FACTORS = (0.01, 100.0, 0.001, 1000.0, 1e-5, 9.80665)


@dataclass(frozen=True, eq=False)
class Learned:
    """What a model has seen of each channel, in canonical units.

    Attributes
    ----------
    mean, std : array, shape (C,)
        Over the globe and all times that it was trained on.
    """

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, mean: Any, std: Any) -> Learned | None:
        """Return the statistics of a normalisation; None for one that was never set."""
        pair = [np.asarray(values, dtype=np.float64).ravel() for values in (mean, std)]
        untrained = bool((pair[0] == 0.0).all() and (pair[1] == 1.0).all())
        return None if untrained else cls(*pair)


@dataclass(frozen=True)
class Sample:
    """What the values of a channel are like, in the unit that their variable is labelled with.

    Attributes
    ----------
    number : int
        Of the channel.
    name, units : str
        Of the variable; the unit is the one that it is labelled with.
    count : int
        How many values are finite.
    mean, spread : float
        Of these, and their standard deviation.
    """

    number: int
    name: str
    units: str
    count: int
    mean: float
    spread: float

    @classmethod
    def of(cls, number: int, name: str, units: str, values: NDArray[Any]) -> Sample:
        """Look over values in the unit that they are labelled with."""
        known = values[np.isfinite(values)]
        if not known.size:
            return cls(number, name, units, 0, np.nan, np.nan)
        mean, spread = (float(f(known, dtype=np.float64)) for f in (np.mean, np.std))
        return cls(number, name, units, known.size, mean, spread)

    @classmethod
    def converted(cls, number: int, field: Field, values: NDArray[Any]) -> Sample:
        """Look over values of a variable that are in its canonical unit already."""
        step, found = field.conversion, cls.of(number, field.name, units_of(field), values)
        if step is None:
            return found
        mean = (found.mean - step.offset) / step.scale
        return replace(found, mean=mean, spread=found.spread / abs(step.scale))


def units_of(field: Field) -> str:
    """Return the label of a variable's unit."""
    return str(field.attrs.get("units", "1") if field.unit is None else field.unit)


def implausible(
    found: Iterable[Sample], channels: Sequence[Channel], learned: Learned | None
) -> list[Problem]:
    """Return the problems of values that are not of the unit that they are labelled with.

    Parameters
    ----------
    found : iterable of Sample
        Of one state, or of few.
    channels : sequence of Channel
        Of the model.
    learned : Learned or None
        Of the model; without it nothing is looked at.

    Returns
    -------
    list of Problem
        One for each variable: of the level that is furthest off.
    """
    if learned is None:
        return []
    worst: dict[str, tuple[float, Problem]] = {}
    for sample in found:
        mean, std = float(learned.mean[sample.number]), float(learned.std[sample.number])
        if not sample.count or not 0.0 < std < np.inf or not np.isfinite(mean):
            continue
        judged = _Judged(sample, channels[sample.number], mean, std)
        if judged.wrong and judged.away > worst.get(sample.name, (0.0,))[0]:
            worst[sample.name] = judged.away, judged.problem()
    return [problem for _, problem in worst.values()]


def warn_if_implausible(
    found: Iterable[Sample], channels: Sequence[Channel], learned: Learned | None
) -> None:
    """Warn once of all variables whose values are not of their unit; see :func:`implausible`.

    Warns
    -----
    XwxWarning
    """
    if problems := implausible(found, channels, learned):
        text = "; ".join(f"`{p.where}` {p.message}" for p in problems)
        warnings.warn(f"{text} ({problems[0].remedy})", XwxWarning, stacklevel=3)


@dataclass(frozen=True)
class _Judged:
    """Values of one channel beside what a model has seen of it."""

    sample: Sample
    channel: Channel
    mean: float
    std: float

    @property
    def far_from_zero(self) -> bool:
        """Whether the mean alone shows a wrong unit."""
        return abs(self.mean) > _USUAL * self.std

    @property
    def own(self) -> Affine:
        """From the labelled unit to the canonical one."""
        return _step(self.sample.units, table()[self.channel.name]) or Affine(1.0, 0.0)

    @property
    def away(self) -> float:
        """How many standard deviations off the values are."""
        return self._away(self.own)

    @property
    def wrong(self) -> bool:
        """Whether that is too far."""
        if not self.far_from_zero:
            return self.away > _SPREAD and self.sample.count >= _FEWEST
        if abs(self.sample.mean) <= _REMOVED * self.sample.spread or self.away <= _EXPLAINED:
            return False
        constant = self.sample.spread <= 1e-6 * abs(self.sample.mean)
        return self._unit() is not None or (self.away > _UNEXPLAINED and not constant)

    def problem(self) -> Problem:
        """Say how far off the values are, and what would explain that."""
        sample, own = self.sample, self.own
        value, how = sample.mean, "on average"
        if not self.far_from_zero:
            value, how = float(np.hypot(sample.mean, sample.spread)), "in the root mean square"
        level = "" if self.channel.level is None else f" at {self.channel.level / 100:g} hPa"
        mean = _number((self.mean - own.offset) / own.scale)
        std = _number(self.std / abs(own.scale))
        question, remedy = self._question()
        return Problem(
            kind="implausible-values",
            where=sample.name,
            message=(
                f"is {_number(value)} {sample.units} {how}{level}, {self.away:.0f} standard "
                f"deviations from what the model learned ({mean} {sample.units}, "
                f"{std} {sample.units}): {question}"
            ),
            remedy=remedy,
        )

    def _question(self) -> tuple[str, str]:
        """Ask what would explain the values, and say what mends it."""
        sample = self.sample
        label = f'ds["{sample.name}"].attrs["units"] = '
        if (unit := self._unit()) is not None:
            return f"is its unit `{unit}`?", f'{label}"{unit}"  # if that is what it holds'
        for factor in _FACTORS:
            if self._away(Affine(self.own.scale * factor, self.own.offset)) < _USUAL:
                return f"is it to be multiplied by {factor:g}?", f"{label}...  # what it holds"
        return "what is it, and its unit?", f"{label}...  # what it holds"

    def _unit(self) -> str | None:
        """Return a label by which the values would be usual ones."""
        for label in _LABELS:
            step = _step(label, table()[self.channel.name])
            if step is not None and step != self.own and self._away(step) < _USUAL:
                return label
        return None

    def _away(self, step: Affine) -> float:
        """How far off the values are if their unit converts like this."""
        off = self.sample.mean * step.scale + step.offset - self.mean
        if self.far_from_zero:
            return abs(off) / self.std
        return float(np.hypot(off, self.sample.spread * step.scale)) / self.std


def _step(label: str, entry: Variable) -> Affine | None:
    """Return the conversion from a unit to the canonical one of a variable, in either measure."""
    for units, factor, _ in entry.measures(None):
        if (step := affine(label, units)) is not None:
            return Affine(step.scale * factor, step.offset * factor)
    return None


def _number(value: float) -> str:
    """Write a number as people do: 101150, 1077.2, 0.0044, 4.4e-05."""
    short = float(f"{value:.5g}")
    return f"{short:.0f}" if 1e4 <= abs(short) < 1e8 else f"{short:g}"
