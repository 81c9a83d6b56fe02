"""Variables of a Dataset as channels of a model, on the model's grid or one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields.align import Axes, axes_of
from xwx.fields.cells import Cells, cells_of
from xwx.fields.frame import Field
from xwx.fields.load import blocks
from xwx.fields.offered import offered
from xwx.fields.orient import Turn, turn_columns, turn_rows
from xwx.fields.survey import Survey, survey
from xwx.spec import Channel, Grid, Spec

__all__ = ["Foreign", "foreign", "static_field"]

Floats = NDArray[np.float64]
#: Kinds of problems of a static field that does not matter to it.
_TIMELESS = frozenset({"missing-time", "undecoded-time", "nat"})


@dataclass(frozen=True, eq=False)
class Foreign:
    """What a Dataset gives of a model's states.

    Attributes
    ----------
    channels : tuple of int
        Of the model, ascending.
    names : tuple of str
        The variable of each in the Dataset.
    cells : Cells or None
        Of its grid, from north to south and eastwards; None where that is the model's.
    when : array, shape (n,)
        Its valid times; empty where they are not known.
    time_name, time_dim : str or None
    """

    channels: tuple[int, ...]
    names: tuple[str, ...]
    cells: Cells | None
    when: NDArray[Any]
    time_name: str
    time_dim: str | None
    _ds: xr.Dataset
    _seen: Survey

    @property
    def fields(self) -> tuple[Field, ...]:
        """The variable of each channel."""
        by_channel = {n: field for field in self._seen.fields for n in field.channels}
        return tuple(by_channel[n] for n in range(len(self.channels)))

    def read(self, positions: Sequence[int]) -> Floats:
        """Read the values at some times, in canonical units; NaN where there is none.

        Parameters
        ----------
        positions : sequence of int
            Of `when`.

        Returns
        -------
        array of float64, shape (positions, channels, rows, columns)
            From north to south and eastwards.

        Raises
        ------
        MismatchError
            If a value is infinite.
        """
        seen = self._seen
        assert seen.rows is not None
        assert seen.columns is not None
        order = [
            self._ds[str(name)].dims[0] for name in (seen.names.latitude, seen.names.longitude)
        ]
        shape = tuple(int(self._ds.sizes[dim]) for dim in order)
        out = np.empty((len(positions), len(self.channels), *shape))
        for block in blocks(self._ds, seen, positions):
            step = block.field.conversion
            for number, channel, slab in block.slabs():
                exact = slab.astype(np.float64)
                if step is not None:
                    exact = exact * step.scale + step.offset
                out[number, channel] = turned(turned(exact, seen.rows).T, seen.columns).T
        if (wrong := np.isinf(out)).any():
            raise MismatchError([_infinite(self.names, wrong)], what="the model's states")
        return out


def turned(values: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """Return an array turned along its first axis."""
    out = np.empty_like(values)
    for to, source in turn.pieces(values.shape[0]):
        out[to] = values[source]
    return out


def _infinite(names: Sequence[str], wrong: NDArray[np.bool_]) -> Problem:
    count = int(wrong.sum())
    flawed = [name for n, name in enumerate(names) if wrong[:, n].any()]
    return Problem(
        kind="infinite",
        where=", ".join(dict.fromkeys(flawed)),
        message=f"{count} values are infinite; NaN is where nothing is known",
        remedy="ds = ds.where(np.isfinite(ds))",
    )


def foreign(
    ds: xr.Dataset, spec: Spec, *, on: Literal["model", "own", "either"]
) -> tuple[Foreign | None, list[Problem]]:
    """Look over a Dataset that gives some of a model's channels.

    Parameters
    ----------
    ds : Dataset
        In any presentation.
    spec : Spec
        Of the model.
    on : {"model", "own", "either"}
        Whether its grid has to be the model's, is one of its own, or is whichever it is.

    Returns
    -------
    foreign : Foreign or None
        None if there are problems.
    problems : list of Problem
        All of them, but for those of the values and of which times they are.

    Raises
    ------
    TypeError
        If `ds` is no Dataset.
    """
    if not isinstance(ds, xr.Dataset):
        hint = ": use .to_dataset()" if isinstance(ds, xr.DataArray) else ""
        raise TypeError(f"an xarray.Dataset is needed, got {type(ds).__name__}{hint}")
    places, problems = offered(ds, spec)
    axes = _axes(ds)
    own = on == "own" or (on == "either" and not _same(axes, spec.grid))
    grid = _grid(axes) if own and isinstance(axes, Axes) else spec.grid
    part = replace(spec, channels=tuple(spec.channels[n] for n in places) or spec.channels[:1])
    seen = survey(ds, replace(part, grid=grid))
    more = [p for p in seen.problems if places or p.kind != "missing-variable"]
    if isinstance(axes, list):
        more += axes
    if own:
        more = [p for p in more if p.kind not in ("wrong-grid", "regional-grid")]
    cells: Cells | None = None
    if own and isinstance(axes, Axes) and seen.rows is not None and seen.columns is not None:
        found = cells_of(ds, axes, (seen.rows, seen.columns))
        cells, faults = (found, []) if isinstance(found, Cells) else (None, found)
        more += faults
    problems = list(dict.fromkeys([*problems, *more]))
    if problems:
        return None, problems
    name = str(seen.names.time)
    names = tuple(place.profile.name for place in places.values())
    when = np.atleast_1d(ds[name].values)
    return Foreign(tuple(places), names, cells, when, name, seen.time_dim, ds, seen), []


def _axes(ds: xr.Dataset) -> Axes | list[Problem]:
    axes = axes_of(ds)
    if not isinstance(axes, Axes) or np.abs(axes.rows).max() <= 90.0:
        return axes
    far = float(axes.rows[np.abs(axes.rows).argmax()])
    message = f"a latitude of {far:g} degrees is on no globe"
    remedy = "look at how it was made: it is in degrees north, from -90 to 90"
    return [Problem("wrong-latitude", axes.names[0], message, remedy)]


def _same(axes: Axes | list[Problem], grid: Grid) -> bool:
    if not isinstance(axes, Axes):
        return False
    rows = turn_rows(axes.rows, axes.names[0], grid)
    return isinstance(rows, Turn) and isinstance(
        turn_columns(axes.columns, axes.names[1], grid), Turn
    )


def _grid(axes: Axes) -> Grid:
    """Return the Dataset's grid: north first, eastwards from the first meridian past 0."""
    east = np.mod(axes.columns, 360.0)
    east[east >= 360.0] = 0.0  # the remainder of a tiny negative number
    return Grid(tuple(np.sort(axes.rows)[::-1].tolist()), tuple(np.sort(east).tolist()))


def static_field(ds: xr.Dataset, key: str, grid: Grid) -> tuple[Floats | None, list[Problem]]:
    """Read a field that does not change with time, such as the orography.

    Parameters
    ----------
    ds : Dataset
        Which may hold it among its coordinates, and other variables too.
    key : str
        Its entry in the table of variables.
    grid : Grid
        Of the model, on which it has to be.

    Returns
    -------
    values : array of float64, shape (rows, columns), or None
        In its canonical unit; the first ones, where it runs along time.
    problems : list of Problem
        Why there is none: empty if the Dataset has no such variable.
    """
    wide = [name for name, c in ds.coords.items() if c.ndim >= 2]
    ds = ds.reset_coords(wide)
    part = Spec((Channel(key),), grid)
    places, faults = offered(ds, part)
    if not places:
        return None, [p for p in faults if not p.kind.startswith("unknown-")]
    ds = ds[[place.profile.name for place in places.values()]]
    seen = survey(ds, part)
    if problems := [p for p in seen.problems if p.kind not in _TIMELESS]:
        return None, problems
    name = places[0].profile.name
    held = Foreign((0,), (name,), None, np.empty(0), "", seen.time_dim, ds, seen)
    return held.read([0])[0, 0], []
