"""The public names and signatures, frozen: a change here is a change for every user.

Add a line with a new name; change or remove one only together with a note in CHANGELOG.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import pytest
import xarray as xr
import xwx_kernels

import xwx
from xwx import errors, tutorial

PACKAGE = """
Channel(name, level=None)
Grid(latitude, longitude)
Sampling(steps=15, eta=0.0, guidance='mmps', solver='gmres', iterations=3, batch=None)
Spec(channels, grid, step=datetime.timedelta(seconds=21600), history=1, forcings=())
get_options()
list_models()
load(ref, *, device=None)
register_accessor(name, *, optional=False)
set_options(**options)
"""

TUTORIAL = """
names()
open_dataset(name, *, chunks=None)
"""

ACCESSOR = """
check(model=None)
dry_air_mass()
spectrum(kind='zonal', *, latitudes=(30.0, 60.0), hemisphere='both')
verify(truth, metrics=('rmse', 'bias'), *, climatology=None, weights='area', regions=None, by=None, dim=None, grid=None, reference=None, confidence=None, block=None, resamples=1000, seed=0, convention='wb2', skipna=False, climatology_overlap=False, statistics=False)
regrid(target, method='conservative')
forecast(model=None, steps=40, *, start=None, members=None, constraints=(), sampling=None, cache=None, variables=None, store=None, seed=None, device=None, progress=None)
plan(model=None, steps=40, *, start=None, members=None, constraints=(), sampling=None, cache=None, variables=None, store=None, device=None)
downscale(model=None, *, freq=None, members=1, noise=None, constraints=(), variables=None, seed=None, sampling=None, device=None, progress=None)
reconstruct(mask=None, model=None, *, stations=None, members=1, noise=None, tolerance=None, constraints=(), variables=None, seed=None, sampling=None, device=None, progress=None)
warm(delta='2 K', *, humidity='compound')
"""  # noqa: E501

ACCESSOR_PROPERTIES = {"area_weights", "plot"}

METRICS = """
ACC(centred=False)
Box(south=-90.0, north=90.0, west=0.0, east=360.0)
Brier(threshold)
CRPS(fair=True)
EECRPS()
EnergyScore(fair=True)
NRMSE(scale=None)
RankHistogram()
SEEPS(dry='0.1 mm')
SSR(estimator='adjusted')
ThresholdCRPS(threshold, tail='upper')
climatology(ds, *, period=None, statistics=('mean',), window=1, hours=None, quantiles=None, skipna=False, dry='0.1 mm')
combine(parts, *, regions=None, by=None, confidence=None, block=None, resamples=1000, seed=0, convention='wb2', statistics=False)
common_distance_error(latitude, longitude, latitude_truth, longitude_truth)
gaussian_crps(mean, deviation, truth)
mass_drift(series, *, threshold)
mean_distance_error(latitude, longitude, latitude_truth, longitude_truth)
names()
persistence(ds, forecast)
region_weights(regions, horizontal, kind='area')
seeps_climatology(precipitation, *, dry='0.1 mm', group='dayofyear', window=61, period=None, hours=None, skipna=False)
"""  # noqa: E501

KERNELS = """
MemoryAttention(out, mass, score)
memory_attention(q, k, v, cache_k=None, cache_v=None, cache_score=None, alpha=0.9, *, bias=None, backend='auto')
multi_convs(x, *kernels, size, longitude='circular', latitude='zero', backend='auto')
window_attention(qkv, *, size, window, heads, shift=0, longitude='circular', backend='auto')
"""  # noqa: E501

ERRORS = {
    "CheckpointError": (errors.XwxError, ValueError),
    "ConfigError": (errors.XwxError, ValueError),
    "MismatchError": (errors.XwxError, ValueError, KeyError),
    "ModelNotFoundError": (errors.XwxError, LookupError),
    "Problem": (object,),
    "StoreError": (errors.XwxError, OSError),
    "XwxError": (Exception,),
    "XwxWarning": (UserWarning,),
}

CONSTRAINTS = """
AreaMean(values, noise=None)
Bound(name, observe, groups=())
Custom(function, values, noise, name='custom')
DryAirMass(target=None, noise='0.1 Pa', strict=False, surface=None)
Observe(values, noise=None, tolerance=None)
Scene(spec, window, times, mean, std, given, start=None)
TimeMean(values, noise=None, period=None, label='left')
Warming(delta='2 K', reference=None, noise=None, humidity='compound', rate=0.07, cells=None)
"""

#: Modules and classes that `xwx` offers beside the callables of the table.
NAMESPACES = {"Model", "constraints", "errors", "metrics", "tutorial"}


def signature(name: str, member: Any) -> str:
    """Return ``name(parameters)`` with defaults, without annotations and without ``self``."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(member).parameters.values()
        if parameter.name != "self"
    ]
    return f"{name}{inspect.Signature(parameters)}"


def table(text: str) -> list[str]:
    """Return the lines of one of the tables above."""
    return [line for line in text.strip().splitlines() if line]


def names(text: str) -> set[str]:
    """Return the names in one of the tables above."""
    return {line.split("(")[0] for line in table(text)}


def check(owner: Any, text: str, public: Iterable[str]) -> None:
    """Compare an owner's public names and signatures with a table."""
    assert set(public) == names(text)
    found = [signature(name, getattr(owner, name)) for name in sorted(names(text))]
    assert found == sorted(table(text))


def test_package() -> None:
    assert list(xwx.__all__) == sorted(xwx.__all__)
    assert set(xwx.__all__) >= NAMESPACES
    check(xwx, PACKAGE, set(xwx.__all__) - NAMESPACES)


def test_dir_offers_what_is_public() -> None:
    assert set(dir(xwx)) >= set(xwx.__all__)


def test_constraints() -> None:
    check(xwx.constraints, CONSTRAINTS, set(xwx.constraints.__all__) - {"Constraint", "Noise"})


def test_tutorial() -> None:
    check(tutorial, TUTORIAL, tutorial.__all__)


def test_accessor() -> None:
    accessor = type(xr.Dataset().wx)
    public = {name for name in vars(accessor) if not name.startswith("_")}
    assert public >= ACCESSOR_PROPERTIES
    check(accessor, ACCESSOR, public - ACCESSOR_PROPERTIES)
    for name in ACCESSOR_PROPERTIES:
        assert isinstance(vars(accessor)[name], property)


def test_metrics() -> None:
    check(xwx.metrics, METRICS, set(xwx.metrics.__all__) - {"BOXES", "Metric"})


def test_kernels() -> None:
    check(xwx_kernels, KERNELS, xwx_kernels.__all__)


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_errors_can_be_caught_as_what_they_are(name: str) -> None:
    assert issubclass(getattr(errors, name), ERRORS[name])


def test_errors_are_these() -> None:
    assert set(errors.__all__) == set(ERRORS)


def test_everything_public_is_documented() -> None:
    accessor = type(xr.Dataset().wx)
    members = [getattr(xwx, name) for name in xwx.__all__]
    members += [getattr(accessor, name) for name in names(ACCESSOR) | ACCESSOR_PROPERTIES]
    members += [getattr(tutorial, name) for name in tutorial.__all__]
    assert not [member for member in members if not inspect.getdoc(member)]
