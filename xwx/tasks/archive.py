"""Training data: opened, checked, and packed into an archive of states."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import ConfigError, MismatchError, StoreError
from xwx.fields import Frame, check, find_coordinates, forcings, frame_of, grid_of, pack
from xwx.spec import Spec
from xwx.tasks.sources import open_sources, stamp
from xwx.training.config import DataConfig, Period
from xwx.training.data import Archive

__all__ = ["make_archive", "make_spec", "open_training_data"]

#: Bytes of packed states that are in memory at a time.
PIECE = 32 << 20
#: Changes when packed files would come out differently for the same data.
_VERSION = 1

Positions = NDArray[np.intp]


def open_training_data(data: DataConfig) -> xr.Dataset:
    """Open the Dataset that a configuration names, lazily.

    Parameters
    ----------
    data : DataConfig
        Its `dataset` is a name from :func:`xwx.tutorial.names`, the path of a file or a Zarr
        store, a pattern of paths such as ``"era5-*.zarr"``, the address of a Zarr store
        (``gs://``, ``s3://``, ``https://``), or a list of those, which is joined along time.

    Returns
    -------
    Dataset
        With dask arrays if several were joined, otherwise with xarray's lazy ones.

    Raises
    ------
    ConfigError
        When one cannot be opened, a package for it is missing, or times do not increase from one
        to the next.
    """
    return open_sources(data.dataset)


def make_spec(ds: xr.Dataset, data: DataConfig) -> Spec:
    """Return what a model trained on `data` takes, and see that `ds` holds it.

    Raises
    ------
    MismatchError
        With everything that does not fit. Gaps in time do; a record without two states one step
        apart does not.
    """
    spec = Spec(
        data.channels,
        grid_of(ds),
        timedelta(hours=data.step_hours),
        data.history,
        data.forcings,
    )
    time = find_coordinates(ds).time
    chosen = ds
    if time is not None and ds[time].ndim == 1:
        chosen = ds.isel({str(ds[time].dims[0]): _on_the_step(ds[time].values, spec)})
    problems = check(chosen, spec, values=False).problems
    if time is not None and _steps_somewhere(chosen[time].values, spec):
        problems = tuple(p for p in problems if p.kind != "wrong-step")
    if problems:
        raise MismatchError(problems, "the training configuration")
    return spec


def _on_the_step(times: NDArray[Any], spec: Spec) -> Positions:
    """Return which times are whole steps after midnight, of a record finer than the step.

    All of them where every time is equally late after a whole step.
    """
    every = np.arange(times.size)
    if not np.issubdtype(times.dtype, np.datetime64) or np.isnat(times).any():
        return every  # of calendars without real dates, and of times that are reported elsewhere
    late = (times - np.datetime64(0, "s")) % np.timedelta64(spec.step)
    return every if np.unique(late).size < 2 else np.flatnonzero(late == np.timedelta64(0))


def _steps_somewhere(times: NDArray[Any], spec: Spec) -> bool:
    return bool(np.any(np.diff(times) == np.timedelta64(spec.step)))


def make_archive(
    ds: xr.Dataset,
    spec: Spec,
    period: Period,
    folder: Path | None = None,
    *,
    lead_in: bool = False,
) -> Archive:
    """Pack a period of a Dataset, piece by piece.

    Of a record finer than the step, such as an hourly one for a step of six hours, the times at
    whole steps after midnight are taken.

    Parameters
    ----------
    ds : Dataset
    spec : Spec
    period : (str, str)
        First and last time.
    folder : Path, optional
        Where the packed states go, as ``<first>_<last>_<digest>.npy`` of float32 (T, C, H, W), to
        be read from there as they are needed. The file is used again as long as the Dataset, the
        channels and the grid are the same, of which the digest is: runs with other data can share
        the folder. Without a folder the states are in memory.
    lead_in : bool
        Pack also the history that a start at the first time of the period needs.

    Returns
    -------
    Archive
        With forcings if `folder` is None; otherwise they are computed with each batch.

    Raises
    ------
    ConfigError
        When there is no state in the period.
    MismatchError
        When values are missing.
    StoreError
        When `folder` cannot be written, or the disk is too full.
    """
    positions = _positions(ds, spec, period, lead_in=lead_in)
    frame = frame_of(ds, spec, times=positions)
    if folder is None:
        states = np.empty((len(positions), len(spec.channels), *spec.grid.shape), np.float32)
        _fill(states, ds, frame, positions)
        forced = forcings(frame.times, spec.grid, spec.forcings) if spec.forcings else None
        return Archive(states, forced, frame.times, spec)
    return Archive(_packed(ds, frame, positions, Path(folder)), None, frame.times, spec)


def _positions(ds: xr.Dataset, spec: Spec, period: Period, *, lead_in: bool) -> list[int]:
    index = ds[str(find_coordinates(ds).time)].to_index()
    usable = _on_the_step(index.values, spec)
    times = index[usable]
    chosen = range(len(times))[times.slice_indexer(*period)]
    if not chosen:
        raise ConfigError(f"[data] no state between {period[0]} and {period[1]} in the Dataset")
    first = max(0, chosen[0] - (spec.history - 1) * lead_in)
    return [int(n) for n in usable[first : chosen[-1] + 1]]


def _fill(out: NDArray[np.float32], ds: xr.Dataset, frame: Frame, positions: Sequence[int]) -> None:
    """Pack into `out`, a piece at a time."""
    needed = ds[list(frame.variables)]  # a large Dataset is looked over for every piece
    most = max(1, PIECE // out[:1].nbytes)
    for piece in _pieces(positions, _chunk(ds, frame), most):
        part = [positions[n] for n in piece]
        out[piece.start : piece.stop] = pack(needed, frame.spec, times=part)[0]


def _chunk(ds: xr.Dataset, frame: Frame) -> int:
    """Return how many times lie together in the chunks of the Dataset."""
    sizes = [1]
    for name in frame.variables:
        variable = ds.variables[name]
        if variable.chunks is not None:
            sizes += [
                max(size) for dim, size in variable.chunksizes.items() if dim == frame.time_dim
            ]
        else:
            sizes.append(variable.encoding.get("preferred_chunks", {}).get(frame.time_dim, 1))
    return max(sizes)


def _pieces(positions: Sequence[int], chunk: int, most: int) -> Iterator[range]:
    """Cut into runs of at most `most`, where possible between chunks: each is then read once."""
    edges = np.flatnonzero(np.diff(np.asarray(positions) // chunk)) + 1
    begin, count = 0, len(positions)
    while begin < count:
        end = min(begin + most, count)
        whole = edges[(edges > begin) & (edges <= end)]
        if end < count and whole.size:
            end = int(whole[-1])
        yield range(begin, end)
        begin = end


def _packed(
    ds: xr.Dataset, frame: Frame, positions: Sequence[int], folder: Path
) -> NDArray[np.float32]:
    """Return the packed states as a memory map, packed now or by an earlier run."""
    spec = frame.spec
    shape = (len(positions), len(spec.channels), *spec.grid.shape)
    stem = "_".join(str(frame.times[n])[:16].replace(":", "") for n in (0, -1))
    facts = _facts(ds, frame, positions)
    if facts is not None:
        stem += f"_{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"
    path = folder / f"{stem}.npy"
    if facts is None or not _fits(path, facts, shape):
        try:
            _write(path, ds, frame, positions, shape)
            if facts is not None:
                path.with_suffix(".json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{path} cannot be written: {error}") from error
    return np.asanyarray(np.load(path, mmap_mode="r"))


def _fits(path: Path, facts: dict[str, str], shape: tuple[int, ...]) -> bool:
    """Whether a file of an earlier run is whole and of the same data."""
    try:
        known = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return False
    return bool(known == facts and found.shape == shape and found.dtype == np.float32)


def _write(
    path: Path, ds: xr.Dataset, frame: Frame, positions: Sequence[int], shape: tuple[int, ...]
) -> None:
    """Pack into a file of another name, which becomes `path` when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    need, free = 4 * int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(path.parent).free
    if need > free:
        raise StoreError(
            f"{path} needs {need / 1e9:.2f} GB and {free / 1e9:.2f} GB are free: make room, or "
            "choose a shorter period"
        )
    # Of its own name, because the processes of one training may pack at the same time.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as scratch:
        part = Path(scratch, path.name)
        states = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
        _fill(states, ds, frame, positions)
        states.flush()
        with contextlib.suppress(FileNotFoundError):  # it tells of the file before
            path.with_suffix(".json").unlink()
        os.replace(part, path)


def _facts(ds: xr.Dataset, frame: Frame, positions: Sequence[int]) -> dict[str, str] | None:
    """Return what the packed states follow from; None for values that have no name on disk."""
    if (source := stamp(ds)) is None:
        return None
    spec = frame.spec
    layout = {
        "version": _VERSION,
        "channels": [str(channel) for channel in spec.channels],
        "grid": [spec.grid.latitude, spec.grid.longitude],
        "fields": sorted(  # a Zarr store lists its arrays in any order
            [f.name, f.channels, f.levels, str(f.conversion), str(f.dtype), _sorted(f.attrs)]
            for f in frame.fields
        ),
        "attributes": _sorted(ds.attrs),
    }
    digest = hashlib.sha256(json.dumps(layout).encode())
    digest.update(np.ascontiguousarray(frame.times.astype("datetime64[ns]")).tobytes())
    few = sorted({positions[0], positions[len(positions) // 2], positions[-1]})
    digest.update(pack(ds, spec, times=few)[0].tobytes())
    return {"source": source, "digest": digest.hexdigest()}


def _sorted(attrs: Mapping[Any, Any]) -> str:
    return str(sorted((str(key), str(value)) for key, value in attrs.items()))
