"""The door: ``ds.wx``. Each method calls one plain function of :mod:`xwx.tasks`."""

from __future__ import annotations

import keyword
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from xwx.errors import XwxWarning

if TYPE_CHECKING:
    from xwx.constraints import Constraint
    from xwx.diffusion.settings import Sampling
    from xwx.fields import Report
    from xwx.metrics.metric import Metric
    from xwx.models.checkpoint import Model
    from xwx.plot import PlotAccessor
    from xwx.spec import Grid
    from xwx.tasks.plan import Plan

__all__ = ["WeatherAccessor", "register_accessor"]


class WeatherAccessor:
    """Weather models as methods of a Dataset.

    Names, units, levels and orientation are read from CF metadata; what comes back has the layout
    of the Dataset that went in.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def check(self, model: str | os.PathLike[str] | Model | None = None) -> Report:
        """Report every mismatch between the Dataset and a model, each with its remedy.

        Parameters
        ----------
        model : str, path-like or Model, optional
            As for :func:`xwx.load`; by default any installed model will do.

        Returns
        -------
        Report
            ``.ok``, ``.problems``; prints as a list. A bad Dataset never raises.

        Raises
        ------
        ModelNotFoundError, CheckpointError
            When there is no such model.
        """
        from xwx.tasks.check import check

        return check(self._ds, model)

    def forecast(
        self,
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
        """Continue the Dataset with a model's forecast, in the Dataset's own layout.

        See :func:`xwx.tasks.forecast.forecast` for every parameter.

        Parameters
        ----------
        model : str, path-like or Model, optional
            By default the first installed model that the Dataset fits.
        steps : int
            How many steps of the model to make.
        start : time, slice or sequence of times, optional
            By default the last time. Several starts give the dimensions ``init_time`` and
            ``lead_time``.
        members : int, optional
            For generative models: how many forecasts to draw from each start.
        constraints : sequence, optional
            For generative models: what the forecast has to obey, see :mod:`xwx.constraints`.
        sampling : xwx.Sampling, optional
            For generative models: steps, noise and guidance of the sampler.
        cache : int, optional
            How many of its own steps the network's attention remembers; by default what it was
            fine-tuned with, and 0 for none.
        variables : str or sequence of str, optional
            Which of the model's variables to return, by the Dataset's names.
        store : str or path-like, optional
            A new ``.zarr`` directory, written step by step so that memory does not grow.
        seed : int, optional
            For models that draw random numbers.
        device : str, optional
            Where the network runs.
        progress : bool, optional
            A progress bar: always, never, or by default when it takes over two seconds.

        Returns
        -------
        Dataset

        Raises
        ------
        MismatchError
            When the Dataset does not fit; lists every problem with its remedy.
        ModelNotFoundError
            When there is no such model, or none fits.
        StoreError
            When the store exists already or cannot be written.
        TypeError, ValueError
            For arguments that are not understood, or that this kind of model does not take.
        """
        from xwx.tasks.forecast import forecast

        return forecast(
            self._ds,
            model,
            steps,
            start=start,
            members=members,
            constraints=constraints,
            sampling=sampling,
            cache=cache,
            variables=variables,
            store=store,
            seed=seed,
            device=device,
            progress=progress,
        )

    def plan(
        self,
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
        device: str | None = None,
    ) -> Plan:
        """Predict memory, disk and time of the same call of :meth:`forecast`, before it runs.

        See :func:`xwx.tasks.plan.plan` for how.

        Parameters
        ----------
        model, steps, start, members, constraints, sampling, cache, variables, store, device
            As for :meth:`forecast`.

        Returns
        -------
        Plan
            ``.fits``, ``.problems``, numbers in bytes and seconds; prints as a table.

        Raises
        ------
        MismatchError, ModelNotFoundError, StoreError, TypeError, ValueError
            What the forecast raises for these arguments before its first step.
        """
        from xwx.tasks.plan import plan

        return plan(
            self._ds,
            model,
            steps=steps,
            start=start,
            members=members,
            constraints=constraints,
            sampling=sampling,
            cache=cache,
            variables=variables,
            store=store,
            device=device,
        )

    def downscale(
        self,
        model: str | os.PathLike[str] | Model | None = None,
        *,
        freq: str | None = None,
        members: int = 1,
        noise: Any = None,
        constraints: Sequence[Constraint] = (),
        variables: str | Sequence[str] | None = None,
        seed: int | None = None,
        sampling: Sampling | None = None,
        device: str | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Sample the states of which the Dataset holds means over cells, over periods, or both.

        See :func:`xwx.tasks.downscale.downscale` for every parameter.

        Parameters
        ----------
        model : str, path-like or Model, optional
            Generative; by default the first installed one that has the variables.
        freq : str, optional
            The model's step, such as ``"6h"``, where the values are means over periods of time.
        members : int
            How many samples; more than one have the dimension ``member``.
        noise : str, quantity or mapping, optional
            Standard deviation of the errors of the means, with a unit.
        constraints : sequence of Constraint
            What is demanded besides; of :mod:`xwx.constraints`.
        variables : str or sequence of str, optional
            What to return; by default the Dataset's variables that the model has.
        seed : int, optional
            Of the random numbers; the attributes keep it.
        sampling : Sampling, optional
            How is sampled: see :class:`xwx.Sampling`.
        device : str, optional
            Where the network runs.
        progress : bool, optional
            A progress bar: always, never, or by default when it takes over two seconds.

        Returns
        -------
        Dataset
            In the layout of the Dataset, on the model's cells in its region.

        Raises
        ------
        MismatchError
            When the Dataset or a constraint does not fit; lists every problem with its remedy.
        ModelNotFoundError
            When there is no such model, or none fits.
        TypeError, ValueError
            For arguments that are not understood, and models that cannot be sampled.
        """
        from xwx.tasks.downscale import downscale

        return downscale(
            self._ds,
            model,
            freq=freq,
            members=members,
            noise=noise,
            constraints=constraints,
            variables=variables,
            seed=seed,
            sampling=sampling,
            device=device,
            progress=progress,
        )

    def reconstruct(
        self,
        mask: xr.DataArray | xr.Dataset | bool | str | os.PathLike[str] | Model | None = None,
        model: str | os.PathLike[str] | Model | None = None,
        *,
        stations: xr.Dataset | None = None,
        members: int = 1,
        noise: Any = None,
        tolerance: str | None = None,
        constraints: Sequence[Constraint] = (),
        variables: str | Sequence[str] | None = None,
        seed: int | None = None,
        sampling: Sampling | None = None,
        device: str | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Sample the states of which a part was observed.

        See :func:`xwx.tasks.reconstruct.reconstruct` for every parameter.

        Parameters
        ----------
        mask : DataArray, Dataset or bool, optional
            Of bool, True where a value was observed; NaN never was. False observes nothing of the
            Dataset. A model may be given in its place.
        model : str, path-like or Model, optional
            Generative; by default the first installed one that has the variables.
        stations : Dataset, optional
            Reports along one dimension of stations, observed as well.
        members : int
            How many samples; more than one have the dimension ``member``.
        noise : str, quantity or mapping, optional
            Standard deviation of the errors of what was observed, with a unit.
        tolerance : str, optional
            Such as ``"30 min"``: reports of stations within it are those of the nearest state.
        constraints : sequence of Constraint
            What is demanded besides; of :mod:`xwx.constraints`.
        variables : str or sequence of str, optional
            What to return; by default the Dataset's variables that the model has.
        seed : int, optional
            Of the random numbers; the attributes keep it.
        sampling : Sampling, optional
            How is sampled: see :class:`xwx.Sampling`.
        device : str, optional
            Where the network runs.
        progress : bool, optional
            A progress bar: always, never, or by default when it takes over two seconds.

        Returns
        -------
        Dataset
            In the layout of the Dataset; on the model's grid where it is of stations.

        Raises
        ------
        MismatchError
            When the Dataset, the mask or a constraint does not fit, or all or nothing was
            observed; lists every problem with its remedy.
        ModelNotFoundError
            When there is no such model, or none fits.
        TypeError, ValueError
            For arguments that are not understood, and models that cannot be sampled.
        """
        from xwx.tasks.reconstruct import reconstruct

        return reconstruct(
            self._ds,
            mask,
            model,
            stations=stations,
            members=members,
            noise=noise,
            tolerance=tolerance,
            constraints=constraints,
            variables=variables,
            seed=seed,
            sampling=sampling,
            device=device,
            progress=progress,
        )

    def warm(
        self,
        delta: Any = "2 K",
        *,
        humidity: Literal["compound", "linear", "relative"] = "compound",
    ) -> xr.Dataset:
        """Warm the atmosphere, with the humidity that goes along, and leave the rest as it is.

        See :func:`xwx.tasks.warm.warm` for the formulas.

        Parameters
        ----------
        delta : str or quantity
            A difference of temperature with its unit.
        humidity : {"compound", "linear", "relative"}
            How specific humidity follows: 7 % a kelvin that compound or do not, or at constant
            relative humidity.

        Returns
        -------
        Dataset
            In the layout of the Dataset.

        Raises
        ------
        MismatchError
            When there is no temperature, or it cannot be read.
        ValueError
            For a `delta` without a unit of temperature, and another `humidity`.
        """
        from xwx.tasks.warm import warm

        return warm(self._ds, delta, humidity=humidity)

    def regrid(
        self,
        target: str | os.PathLike[str] | Model | Grid,
        method: Literal["conservative", "linear"] = "conservative",
    ) -> xr.Dataset:
        """Bring the Dataset onto another latitude-longitude grid.

        Parameters
        ----------
        target : str, path-like, Model or Grid
            A model whose grid is wanted, or a grid.
        method : {"conservative", "linear"}
            Area means over exact spherical cell overlaps, or bilinear interpolation.

        Returns
        -------
        Dataset

        Raises
        ------
        MismatchError
            When the target reaches beyond the Dataset's grid.
        """
        from xwx.tasks.regrid import regrid

        return regrid(self._ds, target, method)

    def verify(
        self,
        truth: xr.Dataset,
        metrics: str | Metric | Sequence[str | Metric] = ("rmse", "bias"),
        *,
        climatology: xr.Dataset | None = None,
        weights: Literal["area", "cos"] = "area",
        regions: Any = None,
        by: Literal["season", "month", "year", "hour"] | None = None,
        dim: str | Sequence[str] | None = None,
        grid: Literal["forecast", "truth"] | Grid | None = None,
        reference: xr.Dataset | None = None,
        confidence: float | None = None,
        block: int | None = None,
        resamples: int = 1000,
        seed: int = 0,
        convention: Literal["wb2", "wb1"] = "wb2",
        skipna: bool = False,
        climatology_overlap: bool = False,
        statistics: bool = False,
    ) -> xr.Dataset:
        """Score the forecast that the Dataset is against the truth.

        See :func:`xwx.tasks.verify.verify` for every parameter.

        Parameters
        ----------
        truth : Dataset
            Analyses along time, in any presentation.
        metrics : str, Metric, or sequence of them
            Names, see :func:`xwx.metrics.names`, or scores with parameters.
        climatology : Dataset, optional
            For anomalies: see :func:`xwx.metrics.climatology`.
        weights : {"area", "cos"}
            Exact areas of cells, or the cosine of latitude.
        regions : str, sequence or mapping, optional
            Names, boxes or masks.
        by : {"season", "month", "year", "hour"}, optional
            Groups by valid time.
        dim : str or sequence of str, optional
            What is averaged over; by default starts, latitude and longitude.
        grid : {"forecast", "truth"} or Grid, optional
            Bring both sides to one grid by area means.
        reference : Dataset, optional
            Another forecast, for the difference of the scores.
        confidence : float, optional
            Gives intervals, by resampling blocks of starts.
        block, resamples, seed : int, optional
            Of the resampling.
        convention : {"wb2", "wb1"}
            Scores of means over all starts, or means of the scores of each.
        skipna : bool
            Leave out points that are NaN.
        climatology_overlap : bool
            Accept a climatology made of the scored times.
        statistics : bool
            Return sums, for :func:`xwx.metrics.combine`.

        Returns
        -------
        Dataset
            The variables with the dimension ``metric``.

        Raises
        ------
        MismatchError
            When the two sides do not fit; lists every problem with its remedy.
        ValueError, TypeError
            For arguments that are not understood.
        """
        from xwx.tasks.verify import verify

        return verify(
            self._ds,
            truth,
            metrics,
            climatology=climatology,
            weights=weights,
            regions=regions,
            by=by,
            dim=dim,
            grid=grid,
            reference=reference,
            confidence=confidence,
            block=block,
            resamples=resamples,
            seed=seed,
            convention=convention,
            skipna=skipna,
            climatology_overlap=climatology_overlap,
            statistics=statistics,
        )

    def spectrum(
        self,
        kind: Literal["zonal", "spherical"] = "zonal",
        *,
        latitudes: tuple[float, float] | None = (30.0, 60.0),
        hemisphere: Literal["both", "north", "south"] = "both",
    ) -> xr.Dataset:
        """Return the power of each wavenumber of the fields.

        See :func:`xwx.tasks.spectrum.spectrum` for the definitions.

        Parameters
        ----------
        kind : {"zonal", "spherical"}
            Along rows of latitude, or in spherical harmonics.
        latitudes : tuple of float, optional
            Least and greatest absolute latitude of the rows of a zonal spectrum; all with None.
        hemisphere : {"both", "north", "south"}
            Which of these rows.

        Returns
        -------
        Dataset
            The variables, squared units, along ``wavenumber``.

        Raises
        ------
        MismatchError
            When the grid does not go round the globe, or its rows belong to no quadrature.
        """
        from xwx.tasks.spectrum import spectrum

        return spectrum(self._ds, kind, latitudes=latitudes, hemisphere=hemisphere)

    def dry_air_mass(self) -> xr.Dataset:
        """Return the mass of the dry air of the atmosphere, and the mean pressure it exerts.

        See :func:`xwx.tasks.dry_air.dry_air_mass` for what it needs.

        Returns
        -------
        Dataset
            ``dry_air_mass`` [kg] and ``dry_air_pressure`` [Pa], along time.

        Raises
        ------
        MismatchError
            When something is missing, or the grid is not global.
        """
        from xwx.tasks.dry_air import dry_air_mass

        return dry_air_mass(self._ds)

    @property
    def plot(self) -> PlotAccessor:
        """Pictures: maps, scores, ensembles, animations. Needs the extra ``plot``."""
        from xwx.plot import PlotAccessor

        return PlotAccessor(self._ds)

    @property
    def area_weights(self) -> xr.DataArray:
        """Cell-area weights along latitude, of mean one, from bounds or midpoints between rows."""
        from xwx.fields import area_weights

        return area_weights(self._ds)


def register_accessor(name: str, *, optional: bool = False) -> None:
    """Register the accessor under a name of your own, as ``ds.<name>``.

    Parameters
    ----------
    name : str
        A Python identifier.
    optional : bool
        Whether to give way, with a warning, when another package has the name already.

    Raises
    ------
    ValueError
        When the name is no identifier, or Dataset has an attribute of that name.
    """
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"accessor name {name!r} is no Python identifier")
    taken = xr.Dataset.__dict__.get(name) or getattr(xr.Dataset, name, None)
    if taken is None:
        xr.register_dataset_accessor(name)(WeatherAccessor)  # type: ignore[no-untyped-call]
        return
    owner = getattr(taken, "_accessor", taken)
    if owner is WeatherAccessor:
        return
    who = f"{getattr(owner, '__module__', '?')}.{getattr(owner, '__qualname__', owner)}"
    message = (
        f"Dataset.{name} belongs to {who} already, so that {__name__}.WeatherAccessor is not "
        f'registered there: call xwx.register_accessor("another_name")'
    )
    if not optional:
        raise ValueError(message)
    warnings.warn(message, XwxWarning, stacklevel=3)
