"""Size and shape of a WIND prior, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

__all__ = ["PRESETS", "WindConfig"]

_CHOICES = {
    "fit": ("pad", "resample"),
    "coordinates": ("full", "latitude", "none"),
    "predict": ("clean", "gate", "scaled"),
}
_LEAST = {"frames": 1, "patch": 1, "width": 1, "heads": 1, "groups": 1, "condition": 2}


@dataclass(frozen=True)
class WindConfig:
    """Size and shape of a WIND prior; the defaults are those of the paper.

    Parameters
    ----------
    frames : int
        States of a window, T.
    patch : int
        Side of a patch in grid cells.
    width : int
        Channels of the first level.
    multipliers : tuple of int
        Channels of each level over `width`. Each level has half the rows and columns of the one
        before.
    depths : tuple of int
        Blocks of each level, on the way down and again on the way up; of the last one, once.
    attend : tuple of int
        The levels, from 0, whose blocks attend over time and space; those of the others convolve
        every frame by itself. Only where they attend do frames hear of each other, but for `mix`.
    mix : bool
        Whether, between the convolutions of the other levels too, frames hear of each other, cell
        by cell: what has to move by a fraction of a token is not seen where they attend.
    heads : int
        Attention heads, at every level.
    ratio : float
        Width of the MLPs over the channels of their level.
    groups : int
        Groups of channels that are normalised together, between convolutions.
    condition : int
        Length of the vector that modulates every block.
    dropout : float
    stencil : int
        Side, in grid cells, of a linear filter of every channel whose result is added to what the
        levels give, with `predict` "scaled"; odd, and 0 for none, as in the paper. It begins as
        the best linear estimate, which a small network takes long to learn.
    departures : bool
        Whether the levels work on departures from the mean state of the training period, which a
        network that is to be the same at all longitudes cannot know; needs `known_t`.
    background : bool
        Whether spectrum and memory of the waves of the training period are kept with the weights,
        for ``Sampling(guidance="background")``.
    known_t : bool
        Whether the network is told the noise time of every frame. The paper's is not.
    fit : {"pad", "resample"}
        How a grid is taken to a map that the levels divide: copies of the outermost rows, which
        leave every row of the grid as it is, or linear interpolation, as in the paper, which
        blurs what the network gives.
    coordinates : {"full", "latitude", "none"}
        What the network is told of where a cell lies: the sine of latitude and the two other
        coordinates of its place on the unit sphere, the first of these alone, or nothing.
    static : tuple of str
        Names of further fields that do not change, such as the orography.
    predict : {"clean", "gate", "scaled"}
        Whether the network gives the clean frames x, as in the paper; or (y, g) of which
        ``x = y + g z``: the share of the noisy state that is kept, point by point, is learned; or
        y of which ``x = (alpha z + sigma s y) / s^2`` with ``s^2 = alpha^2 + sigma^2``, so that
        it cannot err by more than the noise there is (Karras et al. 2022,
        https://arxiv.org/abs/2206.00364), for which it has to know the time.

    Raises
    ------
    ValueError
        For settings that make no sense, alone or together.
    """

    frames: int = 5
    patch: int = 2
    width: int = 256
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    depths: tuple[int, ...] = (4, 4, 4, 4)
    attend: tuple[int, ...] = (2, 3)
    heads: int = 4
    ratio: float = 4.0
    groups: int = 32
    condition: int = 64
    dropout: float = 0.0
    mix: bool = False
    stencil: int = 0
    departures: bool = False
    background: bool = False
    known_t: bool = False
    fit: str = "pad"
    coordinates: str = "full"
    static: tuple[str, ...] = ()
    predict: str = "clean"

    def __post_init__(self) -> None:
        for name in ("multipliers", "depths", "attend", "static"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise ValueError(f"WIND {name}={value!r}: choose from {', '.join(allowed)}")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"WIND {name}={getattr(self, name)!r}: at least {least}")
        if self.stencil and not (self.stencil > 0 and self.stencil % 2):
            raise ValueError(f"WIND stencil={self.stencil!r}: give an odd number, or 0 for none")
        if self.stencil and self.predict != "scaled":
            raise ValueError(
                f"WIND stencil={self.stencil!r} with predict={self.predict!r}: a stencil is for "
                "predict = 'scaled'; set that, or stencil = 0"
            )
        for name, value in (("predict", "scaled"), ("departures", True)):
            if getattr(self, name) == value and not self.known_t:
                raise ValueError(
                    f"WIND {name}={value!r} with known_t=False: it takes the noise time to know "
                    f"how much of a state is noise; set known_t = true, or leave {name} out"
                )
        if self.condition % 2:
            raise ValueError(f"WIND condition={self.condition}: give an even number")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"WIND dropout={self.dropout!r}: give a share from 0 to below 1")
        if len(set(self.static)) != len(self.static):
            raise ValueError(f"WIND static={self.static!r}: every name once")
        self._check_levels()
        self._check_channels()

    def _check_levels(self) -> None:
        if not self.multipliers or len(self.depths) != len(self.multipliers):
            raise ValueError(
                f"WIND multipliers={self.multipliers!r} and depths={self.depths!r}: give one of "
                "each a level, and at least one level"
            )
        if min(self.multipliers) < 1 or min(self.depths) < 0:
            raise ValueError(
                f"WIND multipliers={self.multipliers!r} and depths={self.depths!r}: multipliers "
                "are at least 1, depths at least 0"
            )
        if unknown := [n for n in self.attend if n not in range(self.levels)]:
            raise ValueError(
                f"WIND attend={self.attend!r}: no level {unknown[0]} of 0 to {self.levels - 1}"
            )

    def _check_channels(self) -> None:
        channels = self.channels
        for above, below in pairwise(channels):
            if 4 * above % below:
                raise ValueError(
                    f"WIND channels {above} above {below}: 4 x {above} does not divide by {below}, "
                    "which the averages between two levels need; give multipliers such as (1, 2, 4)"
                )
        for level, count in enumerate(channels):
            if level in self.attend and (count % (2 * self.heads) or count < 6 * self.heads):
                raise ValueError(
                    f"WIND level {level} with {count} channels and heads={self.heads}: every head "
                    "needs an even number of channels, at least 6"
                )
            if (level not in self.attend or level == 0) and count % self.groups:
                raise ValueError(
                    f"WIND level {level} with {count} channels does not divide by "
                    f"groups={self.groups}"
                )

    @property
    def levels(self) -> int:
        """The number of levels."""
        return len(self.multipliers)

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of each level."""
        return tuple(self.width * m for m in self.multipliers)

    @property
    def stride(self) -> int:
        """Grid cells on the side of a token of the last level."""
        return int(self.patch * 2 ** (self.levels - 1))

    @classmethod
    def preset(cls, name: str, **changes: Any) -> WindConfig:
        """Return a named configuration from :data:`PRESETS`, with changes."""
        if name not in PRESETS:
            raise ValueError(f"no WIND preset {name!r}: choose from {', '.join(PRESETS)}")
        return replace(PRESETS[name], **changes)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> WindConfig:
        """Build from a mapping as read from JSON or TOML; unknown keys are refused."""
        values = dict(values)
        base = cls.preset(values.pop("preset")) if "preset" in values else cls()
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(
                f"unknown WIND settings {', '.join(unknown)}: choose from "
                f"{', '.join(sorted(known))}"
            )
        return replace(base, **values)


#: `wind_paper` follows the paper, `wind_mini` is trained on a CPU at 2.5 degrees, `wind_tiny` is
#: for tests.
PRESETS: dict[str, WindConfig] = {
    "wind_paper": WindConfig(fit="resample"),
    "wind_mini": WindConfig(
        width=48,
        multipliers=(1, 2, 4),
        depths=(1, 2, 2),
        attend=(2,),
        groups=8,
        stencil=11,
        departures=True,
        background=True,
        known_t=True,
        predict="scaled",
    ),
    "wind_tiny": WindConfig(
        patch=2,
        width=16,
        multipliers=(1, 2, 2),
        depths=(1, 1, 1),
        attend=(1, 2),
        heads=2,
        ratio=2.0,
        groups=4,
        condition=8,
    ),
}
