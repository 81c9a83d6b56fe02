"""Forecast: a Dataset goes in, its continuation in the same layout comes out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import Any

import xarray as xr

from xwx.constraints.scene import Constraint
from xwx.diffusion.settings import Sampling
from xwx.fields import check
from xwx.models.checkpoint import Model
from xwx.stores import StepStore
from xwx.tasks.ahead import engine
from xwx.tasks.arguments import is_lazy, listed, refuse_other, seed_number, whole_number
from xwx.tasks.choose import choose_model
from xwx.tasks.job import Job
from xwx.tasks.starts import find_starts

__all__ = ["forecast"]


def forecast(
    ds: xr.Dataset,
    model: str | os.PathLike[str] | Model | None = None,
    steps: int = 40,
    *,
    start: Any = None,
    members: int | None = None,
    constraints: Sequence[Constraint] = (),
    sampling: Sampling | None = None,
    cache: int | None = None,
    variables: str | Sequence[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Continue a Dataset with a model's forecast, in the layout the Dataset came in.

    Parameters
    ----------
    ds : Dataset
        Holds the model's variables on its grid, under any names, in any units and orientation
        that CF metadata tell: see ``ds.wx.check(model)``.
    model : str, path-like or Model, optional
        A name from :func:`xwx.list_models`, a checkpoint directory, or a loaded Model. By
        default the first installed model that the Dataset fits.
    steps : int
        How many steps of the model to make (6 hours each for the bundled one).
    start : time, slice or sequence of times, optional
        Where to start; by default at the last time. A string is one exact time:
        ``"2026-01-25"`` is midnight.
    members : int, optional
        For generative models: how many forecasts to draw from each start, along the dimension
        ``member``. By default one, without that dimension. Member m of a seed is the same,
        however many there are.
    constraints : sequence, optional
        For generative models: what the forecast has to obey, of :mod:`xwx.constraints`, such as
        ``[DryAirMass()]``.
    sampling : xwx.Sampling, optional
        For generative models: steps, noise and guidance of the sampler.
    cache : int, optional
        How many of its own steps the network's attention remembers, from each start afresh; 0 for
        none. By default what the network was fine-tuned with, which is what it does best with.
    variables : str or sequence of str, optional
        Which of the model's variables to return, by the Dataset's names; by default all.
    store : str or path-like, optional
        A new ``.zarr`` directory. Each step is written as it is made, or each window of a
        generative model, so that memory does not grow with `steps`; what is returned is read from
        there when it is used.
    seed : int, optional
        For models that draw random numbers: each start draws the same. By default a fresh one;
        the attributes keep it either way.
    device : str, optional
        By default as in ``xwx.set_options(device=...)``.
    progress : bool, optional
        A progress bar: always, never, or (by default) when it takes over two seconds.

    Returns
    -------
    Dataset
        From one start: valid times along the Dataset's own time dimension, with the coordinates
        ``lead_time`` along it and a scalar ``init_time``. From several: dimensions ``init_time``
        and ``lead_time`` in its place, and the valid times as a two-dimensional coordinate. With
        several starts from a dask-backed Dataset it is dask-backed, one task a start. With
        constraints the variable ``residual`` tells, by ``constraint``, how far each window of
        states is from what was demanded: the root mean square of ``(A(x) - y) / sigma``.

    Raises
    ------
    MismatchError
        When the Dataset does not fit the model, or lacks what constraints need; lists every
        problem with its remedy.
    ModelNotFoundError
        When there is no such model, or none fits.
    StoreError
        When the store exists already or cannot be written.
    TypeError, ValueError
        When `steps` or `members` is not a positive whole number, `seed` or `cache` not a whole
        number from 0, the network cannot remember so many steps, or `members`, `constraints` or
        `sampling` are given for a deterministic model.

    Examples
    --------
    >>> import xwx
    >>> ds = xwx.tutorial.open_dataset("era5-winter")
    >>> fc = ds.wx.forecast(steps=4)  # doctest: +SKIP
    """
    steps = whole_number("steps", steps, 1, 40)
    cache = None if cache is None else whole_number("cache", cache, 0, 5)
    seed = secrets.randbits(31) if seed is None else seed_number(seed)
    refuse_other(ds, "forecast")
    starts = find_starts(ds, start)
    chosen = choose_model(ds, model, starts.positions, device)
    ds = ds.drop_vars(["lead_time", "init_time"], errors="ignore")
    made_by = engine(
        chosen,
        steps,
        seed,
        cache=cache,
        members=members,
        constraints=constraints,
        sampling=sampling,
    )
    job = Job(ds, made_by, starts, listed(variables), progress)
    if store is None and starts.several and is_lazy(ds):
        return job.lazily()
    if starts.several:  # rather than when the forecasts before the bad one are made
        check(ds, chosen.spec, positions=starts.positions, what=chosen.name).raise_if_bad()
    return job.in_memory() if store is None else job.to_store(StepStore(store))
