"""What a simulation is to be: checked before anything runs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["LEVELS", "Settings"]

#: The pressure levels [hPa] of WeatherBench.
LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
NATIVE = (48, 96)
STATES_A_DAY = 4
#: z, q, u, v and t on the levels, and eight fields at the surface and the top.
FIELDS = 5 * len(LEVELS) + 8


@dataclass(frozen=True)
class Settings:
    """A simulation.

    Parameters
    ----------
    years : float
        Years of 365 days that are kept.
    spinup_days : float
        Days before them that are not.
    chunk_days : float
        Days simulated and written at a time; years and spin-up are rounded to whole chunks.
    grid : str
        ``"64x32"`` (columns x rows, equiangular, area-conserving) or ``"native"``, the Gaussian
        grid of 96 x 48.
    seed : int
        Of the noise in the first state.
    start : str
        First day of the spin-up, as ISO date.
    step_minutes : float
        Time step of the model.

    Raises
    ------
    ValueError
        For a setting that cannot be; names it.
    """

    years: float = 5.0
    spinup_days: float = 365.0
    chunk_days: float = 5.0
    grid: str = "64x32"
    seed: int = 0
    start: str = "2000-01-01"
    step_minutes: float = 40.0

    def __post_init__(self) -> None:
        if not (self.years > 0 and np.isfinite(self.years)):
            raise ValueError(f"years={self.years!r}: must be positive")
        if not (self.spinup_days >= 0 and np.isfinite(self.spinup_days)):
            raise ValueError(f"spinup_days={self.spinup_days!r}: must not be negative")
        quarters = self.chunk_days * STATES_A_DAY
        if not (quarters >= 1 and quarters == round(quarters)):
            raise ValueError(f"chunk_days={self.chunk_days!r}: must be a multiple of 0.25 days")
        steps = 360.0 / self.step_minutes if self.step_minutes > 0 else 0.0
        if not (steps >= 1 and abs(steps - round(steps)) < 1e-9 and self._whole_seconds()):
            raise ValueError(
                f"step_minutes={self.step_minutes!r}: must be whole seconds and divide 6 hours, "
                "such as 40 or 30"
            )
        if self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: must not be negative")
        self._check_start()
        height, width = self.shape
        if min(height, width) < 2 or height > 720 or width > 1440:
            raise ValueError(f"grid={self.grid!r}: from 2x2 to 1440x720")

    def _whole_seconds(self) -> bool:
        return abs(self.step_minutes * 60 - round(self.step_minutes * 60)) < 1e-9

    def _check_start(self) -> None:
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", self.start):
                np.datetime64(self.start)
                return
        except ValueError:
            pass
        raise ValueError(f"start={self.start!r}: must be a date such as 2000-01-01")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        if self.grid == "native":
            return NATIVE
        found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", self.grid)
        if found is None:
            raise ValueError(f'grid={self.grid!r}: give columns x rows as "64x32", or "native"')
        return int(found[2]), int(found[1])

    @property
    def spinup_chunks(self) -> int:
        """Chunks that are not kept."""
        return round(self.spinup_days / self.chunk_days)

    @property
    def chunks(self) -> int:
        """Chunks that are kept, at least one."""
        return max(1, round(self.years * 365 / self.chunk_days))

    @property
    def chunk_states(self) -> int:
        """States of a chunk."""
        return round(self.chunk_days * STATES_A_DAY)

    @property
    def nbytes(self) -> int:
        """Bytes of the kept states before compression."""
        height, width = self.shape
        return self.chunks * self.chunk_states * FIELDS * height * width * 4

    def identity(self) -> dict[str, Any]:
        """Return what must stay for a run to go on: all but how long it lasts."""
        return {key: value for key, value in asdict(self).items() if key != "years"}
