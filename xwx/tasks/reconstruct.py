"""Reconstruct: the states of which a part was observed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.constraints import Constraint, Noise, Observe
from xwx.diffusion.settings import Sampling
from xwx.errors import MismatchError, Problem
from xwx.fields.horizontal import horizontal_of
from xwx.fields.reports import along_stations
from xwx.models.checkpoint import Model
from xwx.spec import Spec
from xwx.tasks.arguments import listed, refuse_other, seed_number, whole_number
from xwx.tasks.masks import on_the_meridians, reworded
from xwx.tasks.priors import named_prior
from xwx.tasks.sampling.held import held_alone, held_channels
from xwx.tasks.sampling.observed import Mask, Observed, embedded, observed
from xwx.tasks.sampling.onto import Layout, on_the_grid, on_the_models_own, same_cells
from xwx.tasks.sampling.sampled import Samples, choose_prior, gathered, settled
from xwx.tasks.sampling.series import series_of, time_of

__all__ = ["reconstruct"]

#: The dimension of times where reports of stations have none of their own.
_TIME = "time"


def reconstruct(
    ds: xr.Dataset,
    mask: Mask | str | os.PathLike[str] | Model = None,
    model: str | os.PathLike[str] | Model | None = None,
    *,
    stations: xr.Dataset | None = None,
    members: int = 1,
    noise: Noise = None,
    tolerance: str | None = None,
    constraints: Sequence[Constraint] = (),
    variables: str | Sequence[str] | None = None,
    seed: int | None = None,
    sampling: Sampling | None = None,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Sample the states of which a part was observed.

    Parameters
    ----------
    ds : Dataset
        Either states on the model's grid, or a part of it, in any layout, NaN where nothing was
        observed; one step of the model apart. Or reports of stations along one dimension, with
        their ``lat`` and ``lon``.
    mask : DataArray, Dataset or bool, optional
        Of bool, True where a value was observed: one for all variables, which may lack dimensions
        that they have, or a Dataset with one for each; its coordinates are those of `ds`. False
        observes nothing of `ds`, of which the layout and the times alone are taken. What is NaN
        in `ds` is unobserved whatever the mask says. In its place a model may be given.
    model : str, path-like or Model, optional
        Generative. By default the first installed one that the Dataset fits.
    stations : Dataset, optional
        Reports along one dimension of stations that are observed as well, in their own units;
        see :class:`~xwx.constraints.Observe`.
    members : int
        How many samples. More than one have the dimension ``member``.
    noise : str, quantity or mapping, optional
        Standard deviation of the errors of all observed values, such as ``"0.5 hPa"``, or one for
        each variable. By default a hundredth of the channel's standard deviation. For stations
        with a noise of their own give ``constraints=[Observe(stations, noise=...)]`` instead.
    tolerance : str, optional
        Such as ``"30 min"``: reports of stations within it count as those of the nearest state.
    constraints : sequence of Constraint
        What is demanded besides; of :mod:`xwx.constraints`.
    variables : str or sequence of str, optional
        What is returned: the variables of `ds` by their names, others of the model by the
        model's. By default those of `ds`.
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
        In the layout of `ds`; for reports of stations on the model's grid, under the names of the
        table of variables and in the units of the reports. Observed values are not copied into
        it: they are met as well as the noise allows. ``residual`` is how well, for each constraint
        and time, in standard deviations of the noise.

    Raises
    ------
    MismatchError
        When the Dataset does not fit, all of it was observed or nothing, or a state between its
        times is missing; when the mask or a constraint does not fit. Lists every problem.
    ModelNotFoundError
        When there is no such model, or none fits.
    TypeError, ValueError
        For arguments that are not understood, or a model that cannot be sampled.

    Examples
    --------
    >>> import xwx
    >>> ds = xwx.tutorial.open_dataset("era5-winter").isel(valid_time=[-1])
    >>> seen = ds["latitude"] > 0
    >>> whole = ds.wx.reconstruct(seen, members=10)  # doctest: +SKIP
    """
    refuse_other(ds, "reconstruct")
    mask, model = _in_order(mask, model)
    if stations is not None and not isinstance(stations, xr.Dataset):
        raise TypeError(
            f"stations is a {type(stations).__name__}: give a Dataset along one dimension of "
            "stations"
        )
    members = whole_number("members", members, 1, 10, "samples")
    seed = secrets.randbits(31) if seed is None else seed_number(seed)
    demanded, how = settled(constraints, sampling)
    reports = [] if stations is None else [Observe(stations, noise, tolerance)]
    prepare = partial(
        _of_stations if along_stations(ds) else _of_states,
        ds,
        mask=on_the_meridians(mask, ds),
        own=Observe(ds, noise, tolerance),
        constraints=(*reports, *demanded),
        variables=listed(variables),
    )
    named = named_prior(model, device, "reconstruct")
    prior, samples = choose_prior(named, device, prepare)
    return samples.draw(prior, members=members, seed=seed, sampling=how, progress=progress)


def _in_order(
    mask: Mask | str | os.PathLike[str] | Model, model: str | os.PathLike[str] | Model | None
) -> tuple[Mask, str | os.PathLike[str] | Model | None]:
    """Return mask and model, each in its place: a model alone may be given first."""
    refused = (xr.DataArray, xr.Dataset, np.ndarray, bool)
    if isinstance(model, refused):
        kind = type(model).__name__
        raise TypeError(
            f"model is a {kind}, which looks like the mask: the mask comes first, "
            "ds.wx.reconstruct(mask, model)"
        )
    if not isinstance(mask, str | os.PathLike | Model):
        return mask, model
    if model is not None:
        one, other = (v.name if isinstance(v, Model) else repr(v) for v in (mask, model))
        raise TypeError(
            f"two models are given, {one} in the place of the mask and {other}: give one, "
            "ds.wx.reconstruct(mask, model)"
        )
    return None, mask


def _of_states(
    ds: xr.Dataset,
    spec: Spec,
    what: str,
    *,
    mask: Mask,
    own: Observe,
    constraints: Sequence[Constraint],
    variables: list[str] | None,
) -> Samples:
    """Return what is sampled where the Dataset has rows and columns, and how it is returned."""
    layout, everything, series = gathered(
        what,
        partial(on_the_grid, ds, spec, variables, what),
        partial(on_the_grid, ds, spec, None, what),
        partial(series_of, ds, spec, what, whole=True),
    )
    if mask is not False:
        seen = _observed(ds, mask, spec, everything, what)
        inferred = set(layout.channels) - set(everything.channels)
        if not seen.unknown and not inferred:
            raise MismatchError([_all_observed()], what)
        if seen.known:  # a Dataset of NaN alone lends its layout
            constraints = (replace(own, values=seen.values, tolerance=None), *constraints)
    return _samples(layout, series.times, constraints, ds, what)


def _observed(ds: xr.Dataset, mask: Mask, spec: Spec, layout: Layout, what: str) -> Observed:
    """Return the observed values of a Dataset, on the whole grid of the model."""
    assert layout.cover is not None
    if not same_cells(ds, layout.cover.grid):
        raise MismatchError([_other_grid(ds, spec, what)], what)
    try:
        seen = observed(ds, mask, layout.frame, what)
    except MismatchError as error:
        raise MismatchError(reworded(error.problems, mask, ds), what) from None
    places, _ = held_channels(seen.values, spec)
    return replace(seen, values=embedded(held_alone(seen.values, places), layout.cover, spec.grid))


def _of_stations(
    ds: xr.Dataset,
    spec: Spec,
    what: str,
    *,
    mask: Mask,
    own: Observe,
    constraints: Sequence[Constraint],
    variables: list[str] | None,
) -> Samples:
    """Return what is sampled where the Dataset is of stations: on the model's own grid."""
    if isinstance(mask, xr.DataArray | xr.Dataset):
        raise TypeError(
            "reports of stations take no mask: make those NaN that are not to be observed, "
            "ds.where(mask)"
        )
    name, times = time_of(ds, spec, what)
    when = _states_of_reports(times, name, spec, what, rounded=own.tolerance is not None)
    encoding = {k: v for k, v in ds[name].encoding.items() if k in ("units", "calendar", "dtype")}
    time = xr.Variable((_TIME,), when, ds[name].attrs, encoding)
    layout = on_the_models_own(ds, spec, time, variables, what)
    if mask is not False:
        places, _ = held_channels(ds, spec)
        constraints = (replace(own, values=held_alone(ds, places)), *constraints)
    return _samples(layout, when, constraints, ds, what)


def _samples(
    layout: Layout,
    times: NDArray[Any],
    constraints: Sequence[Constraint],
    ds: xr.Dataset,
    what: str,
) -> Samples:
    if not constraints:
        raise MismatchError([_nothing_observed()], what)
    return Samples(
        layout=layout,
        times=times,
        positions=range(len(times)),
        constraints=constraints,
        given=ds,
        task="reconstructed",
        scalar=layout.scalar,
    )


def _states_of_reports(
    times: NDArray[Any], name: str, spec: Spec, what: str, *, rounded: bool
) -> NDArray[Any]:
    """Return the times of the states from the first report to the last.

    With a tolerance they lie at whole steps from midnight, as those of analyses do.
    """
    if rounded:
        step = f"{spec.step.total_seconds():g}s"
        times = xr.DataArray(times, dims=_TIME).dt.round(step).values
    dates = xr.Dataset(coords={name: (name, np.unique(times))})
    try:
        return series_of(dates, spec, what, whole=False).times
    except MismatchError as error:
        remedy = 'tolerance="30 min"  # reports within it count as those of the nearest state'
        raise MismatchError([replace(p, remedy=remedy) for p in error.problems], what) from None


def _all_observed() -> Problem:
    return Problem(
        kind="all-observed",
        where="mask",
        message="every value of the Dataset counts as observed, and nothing is left to infer",
        remedy=(
            "mask=False  # observes nothing of it, but stations or constraints; otherwise say what "
            "was observed with mask, or what else is wanted with variables"
        ),
    )


def _nothing_observed() -> Problem:
    return Problem(
        kind="nothing-observed",
        where="mask",
        message="nothing of the Dataset was observed, and nothing else is demanded",
        remedy="stations=reports, or constraints=[...]; look at ds.notnull().sum()",
    )


def _other_grid(ds: xr.Dataset, spec: Spec, what: str) -> Problem:
    return Problem(
        kind="wrong-grid",
        where="latitude, longitude",
        message=f"its grid, {horizontal_of(ds, what)}, is not the model's, {spec.grid}",
        remedy="ds.wx.downscale(model)  # if its cells are larger; else ds = ds.wx.regrid(model)",
    )
