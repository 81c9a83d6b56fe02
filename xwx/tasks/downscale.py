"""Downscale: means over large cells and long periods go in, states of the model come out."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import xarray as xr

from xwx.constraints import AreaMean, Constraint, Noise, TimeMean
from xwx.diffusion.settings import Sampling
from xwx.errors import MismatchError, Problem
from xwx.fields.cells import single_cells
from xwx.fields.clock import order_problems
from xwx.fields.instants import ROUNDING, Clock
from xwx.fields.periods import broken_period, periods_of
from xwx.fields.quantities import span
from xwx.models.checkpoint import Model
from xwx.spec import Spec
from xwx.tasks.arguments import listed, refuse_other, seed_number, whole_number
from xwx.tasks.priors import named_prior
from xwx.tasks.sampling.held import held_alone, held_channels
from xwx.tasks.sampling.onto import Layout, on_the_grid, same_cells
from xwx.tasks.sampling.sampled import Samples, choose_prior, gathered, settled
from xwx.tasks.sampling.series import Series, between, hours, series_of, time_of

__all__ = ["downscale"]

#: What CF says of how the values of a variable are made along time.
_METHOD = r"\b(?:{}): (?:\w+: )*(?P<method>\w+)(?: \([^)]*\))?"


def downscale(
    coarse: xr.Dataset,
    model: str | os.PathLike[str] | Model | None = None,
    *,
    freq: str | None = None,
    members: int = 1,
    noise: Noise = None,
    constraints: Sequence[Constraint] = (),
    variables: str | Sequence[str] | None = None,
    seed: int | None = None,
    sampling: Sampling | None = None,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Sample the states of which a Dataset holds means over cells, over periods, or both.

    Parameters
    ----------
    coarse : Dataset
        On any latitude-longitude grid whose cells are not smaller than the model's, global or
        regional, in any layout; some of the model's variables and levels are enough. A cell
        reaches to its CF bounds, or midway to the next. NaN cells are left out.
    model : str, path-like or Model, optional
        Generative. By default the first installed one that has the variables.
    freq : str, optional
        The step of the model, such as ``"6h"``: the values are means over periods of time, and
        states at every step of these are wanted. The periods are those of the CF bounds of time,
        or else from each time to the next. By default the values are those of a moment.
    members : int
        How many samples. More than one have the dimension ``member``.
    noise : str, quantity or mapping, optional
        Standard deviation of the errors of the means, such as ``"0.1 K"``, or one for each
        variable. By default a hundredth of the channel's standard deviation.
    constraints : sequence of Constraint
        What is demanded besides; of :mod:`xwx.constraints`.
    variables : str or sequence of str, optional
        What is returned: the variables of `coarse` by their names, others of the model by the
        model's, which are then inferred. By default those of `coarse` that the model has.
    seed : int, optional
        By default a fresh one; the attributes keep it either way.
    sampling : Sampling, optional
        How is sampled: see :class:`xwx.Sampling`.
    device : str, optional
        By default as in ``xwx.set_options(device=...)``.
    progress : bool, optional
        A progress bar: always, never, or (by default) when it takes over two seconds.

    Returns
    -------
    Dataset
        In the layout of `coarse`, on the cells of the model in its region: the sampling is global.
        At the times of `coarse`, or with `freq` at all states of its periods. ``residual`` is how
        well the means are met, for each constraint and time, in standard deviations of the noise.

    Raises
    ------
    MismatchError
        When the Dataset does not fit the model, or is on its grid and at its step already; when a
        constraint does not fit. Lists every problem.
    ModelNotFoundError
        When there is no such model, or none fits.
    TypeError, ValueError
        For arguments that are not understood, a `freq` that is not the model's step, or a model
        that cannot be sampled.

    Notes
    -----
    States follow each other in time. Between snapshots that are further apart than the step of
    the model all states are sampled, and those of the snapshots are returned.

    Examples
    --------
    >>> import xwx
    >>> ds = xwx.tutorial.open_dataset("era5-winter")
    >>> daily = ds.resample(valid_time="1D").mean(keep_attrs=True)
    >>> states = daily.wx.downscale(freq="6h")  # doctest: +SKIP
    """
    refuse_other(coarse, "downscale")
    if sizeless := single_cells(coarse):
        raise MismatchError(sizeless, "downscaling")
    members = whole_number("members", members, 1, 10, "samples")
    seed = secrets.randbits(31) if seed is None else seed_number(seed)
    demanded, how = settled(constraints, sampling)
    if freq is not None:
        span(freq, "freq", '"6h"')
    prepare = partial(
        _prepared,
        coarse,
        freq=freq,
        noise=noise,
        constraints=demanded,
        variables=listed(variables),
    )
    named = named_prior(model, device, "downscale")
    prior, samples = choose_prior(named, device, prepare)
    return samples.draw(prior, members=members, seed=seed, sampling=how, progress=progress)


def _prepared(
    coarse: xr.Dataset,
    spec: Spec,
    what: str,
    *,
    freq: str | None,
    noise: Noise,
    constraints: Sequence[Constraint],
    variables: list[str] | None,
) -> Samples:
    """Return what is sampled with a model, and how it is returned."""
    if freq is not None and span(freq, "freq", '"6h"') != spec.step:
        raise MismatchError([_wrong_freq(freq, spec)], what)
    find = _snapshots if freq is None else _periods
    layout, series = gathered(
        what,
        partial(on_the_grid, coarse, spec, variables, what),
        partial(find, coarse, spec, what),
    )
    places, _ = held_channels(coarse, spec)
    given = held_alone(coarse, places)
    if freq is None and same_cells(coarse, layout.cover.grid):
        raise MismatchError([_nothing(spec)], what)
    means = AreaMean(given, noise) if freq is None else TimeMean(given, noise)
    return Samples(
        layout=layout if freq is None else _of_moments(layout, layout.frame.time_name),
        times=series.times,
        positions=series.positions,
        constraints=(means, *constraints),
        given=coarse,
        task="downscaled",
        retimed=freq is not None,
        scalar=freq is None and layout.scalar,
    )


def _snapshots(coarse: xr.Dataset, spec: Spec, what: str) -> Series:
    """Return the states from the first time to the last."""
    name, _ = time_of(coarse, spec, what)
    places, _ = held_channels(coarse, spec)
    over = re.compile(_METHOD.format(f"time|{re.escape(name)}"))
    used = dict.fromkeys(place.profile.name for place in places.values())
    methods = {n: over.search(str(coarse[n].attrs.get("cell_methods", ""))) for n in used}
    found = {n: match["method"] for n, match in methods.items() if match is not None}
    if any(method != "point" for method in found.values()):
        raise MismatchError([_over_time(found, spec)], what)
    return series_of(coarse, spec, what, whole=False)


def _periods(coarse: xr.Dataset, spec: Spec, what: str) -> Series:
    """Return the states of all periods over which values are means."""
    name, times = time_of(coarse, spec, what)
    dim = str(coarse[name].dims[0]) if coarse[name].ndim else name
    if problems := order_problems(times, name, dim):
        raise MismatchError(problems, what)
    periods = periods_of(coarse, name, None, "left")
    if isinstance(periods, Problem):
        raise MismatchError([_reworded(periods, name)], what)
    first = (
        periods.starts.min().astype(times.dtype) if times.dtype.kind == "M" else min(periods.starts)
    )
    clock, slack = Clock(np.array([first]), spec.step), ROUNDING / spec.step
    edges = [clock.steps(edge) for edge in (periods.starts, periods.ends)]
    if (broken := broken_period(periods, clock, name)) is not None:
        raise MismatchError([broken], what)
    begins, ends = (np.ceil(edge - slack).astype(int) for edge in edges)
    covered = sorted({n for pair in zip(begins, ends, strict=True) for n in range(*pair)})
    last = max(covered, default=0)
    return Series(between(first, last + 1, spec.step), tuple(covered))


def _of_moments(layout: Layout, name: str) -> Layout:
    """Return a layout whose variables no longer say that they are means over time."""
    over = re.compile(_METHOD.format(f"time|{re.escape(name)}"))
    frame = layout.frame
    fields = []
    for field in frame.fields:
        attrs = dict(field.attrs)
        if "cell_methods" in attrs:
            attrs["cell_methods"] = over.sub("time: point", str(attrs["cell_methods"]))
        fields.append(replace(field, attrs=attrs))
    template = frame.template.copy()
    template[name].encoding = {k: v for k, v in template[name].encoding.items() if k != "bounds"}
    return replace(layout, frame=replace(frame, fields=tuple(fields), template=template))


def _wrong_freq(freq: str, spec: Spec) -> Problem:
    return Problem(
        kind="wrong-freq",
        where="freq",
        message=f"freq={freq!r} is not the step of the model, {hours(spec.step)}",
        remedy=f'freq="{hours(spec.step).replace(" ", "")}"',
    )


def _nothing(spec: Spec) -> Problem:
    return Problem(
        kind="nothing-to-do",
        where="coarse",
        message="it is on the model's grid, and there is nothing to downscale in space",
        remedy=(
            f'freq="{hours(spec.step).replace(" ", "")}"  # if its values are means over time; '
            "ds.wx.reconstruct(...) fills gaps"
        ),
    )


def _over_time(methods: Mapping[str, str], spec: Spec) -> Problem:
    said = ", ".join(f"{name!r} the {method}" for name, method in methods.items())
    return Problem(
        kind="cell-methods",
        where=", ".join(methods),
        message=f"its cell_methods say that it is over time ({said}), and not of a moment",
        remedy=f'freq="{hours(spec.step).replace(" ", "")}"  # if it is the mean',
    )


def _reworded(problem: Problem, name: str) -> Problem:
    """Name the remedy of a Dataset, where the one of a constraint was named."""
    if problem.kind != "unknown-period":
        return problem
    remedy = (
        f'coarse = coarse.assign_coords(time_bnds=(("{name}", "bnds"), [[START, END], ...])); '
        f'coarse["{name}"].attrs["bounds"] = "time_bnds"'
    )
    return replace(problem, remedy=remedy)
