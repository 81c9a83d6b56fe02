"""Simulate a climate to train on, into a Zarr store that grows chunk by chunk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr
from tqdm import tqdm

from xwx.climate.attributes import COORDINATES, FIELDS, MAPS
from xwx.climate.levels import Ground, sea_level_pressure, to_pressure, to_ten_metres
from xwx.climate.remap import Remap
from xwx.climate.settings import LEVELS, Settings
from xwx.climate.states import Floats, SigmaStates
from xwx.errors import ConfigError, StoreError, XwxError
from xwx.files import is_zarr
from xwx.options import get_options

__all__ = ["Circulation", "simulate"]

#: Chunks of the time coordinate, which is read whole: few, so that opening a store is quick.
_TIME_CHUNK = 1 << 14
_PLANE = ("latitude", "longitude")


class Circulation(Protocol):
    """A general circulation model, as :class:`xwx.climate.gcm.Speedy` is one.

    Attributes
    ----------
    sigma : array, shape (K,)
        Pressure of its levels over that of the surface, increasing.
    latitude, longitude : array, shape (Y,), (X,)
        Its grid, from the south [degrees].
    areas : array, shape (Y,)
        Of the rows; they sum to one.
    phis, land : array, shape (Y, X)
        Geopotential of the surface [m2 s-2], fraction of land.
    drift : float
        What was last taken off the mean surface pressure [Pa].
    """

    sigma: Floats
    latitude: Floats
    longitude: Floats
    areas: Floats
    phis: Floats
    land: Floats
    drift: float

    @property
    def source(self) -> str:
        """The model and its versions, in words."""

    @property
    def days(self) -> float:
        """Days since the first state."""

    def advance(self, days: float) -> SigmaStates:
        """Go on, and return the states on the way."""

    def save(self, path: Path) -> None:
        """Write all that the next state follows from, at once or not at all."""

    def load(self, path: Path) -> None:
        """Go back to what was saved."""


def simulate(
    out: str | os.PathLike[str],
    settings: Settings,
    make: Callable[[Settings], Circulation],
    *,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Path:
    """Simulate a climate and write its 6-hourly states in the layout of ERA5.

    An interrupted run that is started again with the same settings goes on with the same numbers,
    and a complete one with more years.

    Parameters
    ----------
    out : path-like
        A Zarr store, named ``....zarr``. The state of the model is kept beside it, in the folder
        ``....zarr.state``, which is needed only to go on.
    settings : Settings
    make : callable
        Makes the model, at its first state.
    overwrite : bool
        Start afresh, and replace what is there.
    progress : bool, optional
        Show a progress bar on stderr, by default as :func:`xwx.set_options` says.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    StoreError
        When the store is complete, holds something else or does not fit on the disk.
    ConfigError
        When it was begun with other settings; names them.
    XwxError
        When the simulation breaks off with numbers that are not finite.
    """
    run = _Run(Path(out), settings)
    done = run.prepare(overwrite=overwrite)
    gcm = make(settings)
    if done:
        gcm.load(run.state)
    grid = _grid(gcm, settings)
    total = settings.spinup_chunks + settings.chunks
    shown = get_options()["progress"] if progress is None else progress
    bar = tqdm(total=total, initial=done, unit="chunk", disable=shown is False)
    with bar:
        for chunk in range(done, total):
            states = gcm.advance(settings.chunk_days)
            if broken := states.not_finite():
                raise XwxError(
                    f"{', '.join(broken)} of the simulation are not finite by {states.times[-1]}: "
                    f"take a shorter --step-minutes than {settings.step_minutes:g}, or another "
                    "--seed"
                )
            kept = chunk - settings.spinup_chunks
            if kept >= 0:
                run.append(_dataset(states, gcm, grid, settings), first=kept == 0)
            run.keep(gcm, chunk + 1)
            bar.update()
            bar.set_postfix_str(f"{str(states.times[-1])[:10]}, drift {gcm.drift:+.2f} Pa")
    return run.out


class _Run:
    """What lies on disk: the store, the state of the model, and the settings of both."""

    def __init__(self, out: Path, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self.folder = out.with_name(out.name + ".state")
        self.facts = self.folder / "run.json"
        self.state = self.folder / "unknown"

    def prepare(self, *, overwrite: bool) -> int:
        """Return how many chunks are done; the store then holds those and no more."""
        if self.out.suffix != ".zarr":
            raise StoreError(f"{self.out}: the store's name must end in .zarr")
        if not self.out.parent.is_dir():
            raise StoreError(f"{self.out}: the directory {self.out.parent} does not exist")
        if self.out.exists() and not is_zarr(self.out):
            raise StoreError(f"{self.out} holds something else: give another name")
        if overwrite:
            for old in (self.folder, self.out):
                shutil.rmtree(old, ignore_errors=True)
        done = self._done()
        if self.out.exists() and not self.facts.exists():
            raise StoreError(
                f"{self.out} exists, and {self.folder} with the state to go on from does not: give "
                "--overwrite to start afresh, or another name"
            )
        kept = max(0, done - self.settings.spinup_chunks)
        if kept >= self.settings.chunks:
            raise StoreError(
                f"{self.out} is complete with {kept * self.settings.chunk_states} states: give "
                "more --years to go on, --overwrite to start afresh, or another name"
            )
        self._check_disk(kept)
        self._truncate(kept)
        self.folder.mkdir(exist_ok=True)
        return done

    def _done(self) -> int:
        """Return the chunks of which the state is known, after comparing the settings."""
        if not self.facts.exists():
            return 0
        facts = json.loads(self.facts.read_text(encoding="utf-8"))
        mine = self.settings.identity()
        differ = [
            f"{name} {facts['settings'].get(name)} -> {value}"
            for name, value in mine.items()
            if facts["settings"].get(name) != value
        ]
        if differ:
            raise ConfigError(
                f"{self.out} was begun with other settings: {', '.join(differ)}. Set them back to "
                "go on, give --overwrite to start afresh, or another name"
            )
        self.state = self.folder / facts["state"]
        return int(facts["chunks"])

    def _check_disk(self, kept: int) -> None:
        need = self.settings.nbytes * (1 - kept / self.settings.chunks)
        free = shutil.disk_usage(self.out.parent).free
        if need > free:
            raise StoreError(
                f"{self.out} needs up to {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
                "make room, or take fewer --years"
            )

    def _truncate(self, kept: int) -> None:
        """Cut off what was written after the state was last kept."""
        if kept == 0:
            shutil.rmtree(self.out, ignore_errors=True)
            return
        wanted = kept * self.settings.chunk_states
        group: Any = zarr.open_group(self.out, mode="r+")
        for name, array in group.arrays():
            if name in FIELDS or name == "time":
                if array.shape[0] < wanted:
                    raise StoreError(
                        f"{self.out} holds {array.shape[0]} of the {wanted} states of {name} that "
                        f"{self.folder} says were written: give --overwrite to start afresh"
                    )
                array.resize((wanted, *array.shape[1:]))

    def append(self, ds: xr.Dataset, *, first: bool) -> None:
        """Write a chunk at the end of the store."""
        try:
            if first:
                ds.to_zarr(self.out, mode="w-", encoding=_encoding(ds), consolidated=False)
            else:
                ds[[*FIELDS]].to_zarr(self.out, append_dim="time", consolidated=False)
        except OSError as error:
            raise StoreError(f"{self.out} cannot be written: {error}") from error

    def keep(self, gcm: Circulation, chunks: int) -> None:
        """Remember the state after so many chunks; what was remembered before lasts until then."""
        new = self.folder / f"after-{chunks}.state"
        try:
            gcm.save(new)
            facts = {"settings": self.settings.identity(), "chunks": chunks, "state": new.name}
            scratch = self.facts.with_suffix(".tmp")
            scratch.write_text(json.dumps(facts, indent=1), encoding="utf-8")
            os.replace(scratch, self.facts)
        except OSError as error:
            raise StoreError(f"{new} cannot be written: {error}") from error
        for old in self.folder.glob("after-*.state"):
            if old != new:
                old.unlink()


def _grid(gcm: Circulation, settings: Settings) -> Remap:
    if settings.grid == "native":
        return Remap.native(gcm.latitude, gcm.longitude)
    return Remap.equiangular(gcm.areas, gcm.longitude, settings.shape)


def _dataset(states: SigmaStates, gcm: Circulation, grid: Remap, settings: Settings) -> xr.Dataset:
    """Return states on pressure levels and on the grid, with CF attributes."""
    upper = to_pressure(states, gcm.sigma, gcm.phis, [100.0 * level for level in LEVELS])
    values = {name: grid(field) for name, field in upper.items()} | {
        name: grid(field) for name, field in _surface(states, gcm).items()
    }
    values["q"] = np.maximum(values["q"], 0)
    ds = xr.Dataset(
        {
            name: (("time", *(["level"] if name in upper else []), *_PLANE), values[name], attrs)
            for name, attrs in FIELDS.items()
        }
        | {
            name: (_PLANE, grid(field), MAPS[name])
            for name, field in (("z_sfc", gcm.phis), ("lsm", gcm.land))
        },
        {
            "time": states.times.astype("datetime64[ns]"),
            "level": np.array(LEVELS, np.int32),
            "latitude": grid.latitude,
            "longitude": grid.longitude,
        },
        {
            "Conventions": "CF-1.11",
            "title": "Simulated climate with the variables of ERA5",
            "source": gcm.source,
            "comment": (
                f"time step {settings.step_minutes:g} min, seed {settings.seed}, isothermal start "
                f"on {settings.start}, {settings.spinup_chunks * settings.chunk_days:g} days of "
                "spin-up left out"
            ),
            "license": "CC0-1.0",
            "frequency": "6hr",
        },
    )
    for name, attrs in COORDINATES.items():
        ds[name].attrs = dict(attrs)
    return ds


def _surface(states: SigmaStates, gcm: Circulation) -> dict[str, Any]:
    """Return the fields (T, Y, X) at the surface, at sea level and at the top."""
    ground = Ground.below(states.t[:, -1], float(gcm.sigma[-1]), gcm.phis)
    factor = to_ten_metres(states.z[:, -1], gcm.phis, gcm.land)
    return {
        "t2m": states.t2m,
        "u10": states.u[:, -1] * factor,
        "v10": states.v[:, -1] * factor,
        "msl": sea_level_pressure(states.ps, gcm.phis, ground),
        "sp": states.ps,
        "skt": states.skt,
        "tp": np.maximum(states.tp, 0) * 1e-3,  # kg m-2 of water are millimetres
        "tisr": states.tisr,
    }


def _encoding(ds: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Return how the store is laid out: a chunk of time in one piece, times as whole hours."""
    encoding: dict[str, dict[str, Any]] = {
        name: {"chunks": ds[name].shape} for name in [*FIELDS, *MAPS]
    }
    encoding["time"] = {
        "units": "hours since 1970-01-01",
        "calendar": "proleptic_gregorian",
        "dtype": "int64",
        "chunks": (_TIME_CHUNK,),
    }
    return encoding
