"""What every task says of values of another unit, and what it says of its noise."""

from __future__ import annotations

import json
import warnings

import dask
import numpy as np
import pytest
import torch
import xarray as xr

import xwx
from xwx.constraints import Custom, Observe
from xwx.errors import MismatchError
from xwx.models import card as catalogue
from xwx.models import registry
from xwx.models.card import Card
from xwx.models.checkpoint import Model, save_checkpoint
from xwx.models.wind import Wind, WindConfig

ONCE = xwx.Sampling(steps=1)


@pytest.fixture(scope="module")
def wind(worlds):
    """A prior with random weights, which knows the small world's statistics."""
    network = Wind(WindConfig.preset("wind_tiny", frames=3), worlds.spec()).eval()
    array = torch.from_numpy(worlds.states(8))
    spread = array.std((0, 2, 3))
    network.set_statistics(array.mean((0, 2, 3)), spread, spread)
    return Model(network, worlds.spec(), Card("tiny-wind", licence="CC0-1.0"))


@pytest.fixture
def ds(worlds):
    return worlds.dataset(4)


def mislabelled(ds):
    """Pressure in hPa that is said to be in Pa."""
    return ds.assign(msl=(ds.msl / 100).assign_attrs(ds.msl.attrs))


def said(call):
    """Return what a call warns of that has to do with units, and its result."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = call()
    return [str(w.message) for w in found if "is its unit" in str(w.message)], result


def blocks(ds):
    out = ds.coarsen(latitude=4, longitude=4).mean(keep_attrs=True)
    for name in ("latitude", "longitude"):
        out[name].attrs = dict(ds[name].attrs)
    return out


TASKS = {
    "forecast": lambda ds, m: ds.wx.forecast(m, steps=2, sampling=ONCE),
    "starts": lambda ds, m: ds.wx.forecast(m, steps=2, start=ds.time[1:3], sampling=ONCE),
    "rollout": lambda ds, m: ds.wx.forecast(m, steps=2),
    "downscale": lambda ds, m: blocks(ds).wx.downscale(m, sampling=ONCE),
    "daily": lambda ds, m: (
        ds.resample(time="12h").mean(keep_attrs=True).wx.downscale(m, freq="6h", sampling=ONCE)
    ),
    "reconstruct": lambda ds, m: ds.wx.reconstruct(ds.latitude > 0, m, sampling=ONCE),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("label", ["Pa", "hPa"])
def test_each_task_gives_one_warning_and_none_for_what_is_right(wind, worlds, ds, task, label):
    model = worlds.emformer() if task == "rollout" else wind
    good = ds if label == "Pa" else ds.assign(msl=mislabelled(ds).msl.assign_attrs(units="hPa"))
    assert said(lambda: TASKS[task](good, model))[0] == []
    wrong = good.assign(msl=good.msl.assign_attrs(units={"Pa": "hPa", "hPa": "Pa"}[label]))
    (text,) = said(lambda: TASKS[task](wrong, model))[0]
    assert text.startswith("`msl` is ")
    assert f"is its unit `{label}`?" in text
    assert f'ds["msl"].attrs["units"] = "{label}"' in text


def test_a_store_is_filled_with_the_same_warning(wind, ds, tmp_path):
    wrong, path = mislabelled(ds), tmp_path / "fc.zarr"
    call = {"steps": 2, "sampling": ONCE, "seed": 0}
    texts, _ = said(lambda: wrong.wx.forecast(wind, store=path, **call))
    assert texts == said(lambda: wrong.wx.forecast(wind, **call))[0]
    assert len(texts) == 1


def counted(ds):
    """Return a Dataset of one chunk a time, and the list of chunks that were computed."""
    seen = []

    def look(block):
        if block.size:
            seen.append(block.shape)
        return block

    lazy = ds.chunk(time=1)
    return lazy.map(
        lambda v: v.copy(data=v.data.map_blocks(look, meta=np.array((), v.dtype)))
    ), seen


def test_nothing_is_computed_twice_or_that_is_not_needed(wind, ds):
    lazy, seen = counted(mislabelled(ds))
    with dask.config.set(scheduler="synchronous"):
        texts, _ = said(lambda: lazy.wx.forecast(wind, steps=2, sampling=ONCE))
        assert len(texts) == 1
        assert len(seen) == len(ds.data_vars)  # the last time of each
        seen.clear()
        said(lambda: lazy.wx.forecast(wind, steps=2, start=ds.time[1:3], sampling=ONCE))
        assert seen == []


def test_a_check_knows_what_named_and_loaded_models_have_seen(wind, ds, tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "stored", wind.network, wind.spec, wind.card)
    monkeypatch.setattr(catalogue, "BUNDLED", tmp_path)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [])
    registry._load_bundled.cache_clear()
    wrong = mislabelled(ds)
    for model in (wind, "stored", tmp_path / "stored", None):
        assert ds.wx.check(model).ok
        (problem,) = wrong.wx.check(model).problems
        assert problem.kind == "implausible-values"
        assert problem.where.endswith("msl")
        exec(problem.remedy, {"ds": (mended := wrong.copy())})
        assert mended.wx.check(model).ok
    (tmp_path / "stored" / "model.safetensors").write_bytes(b"damaged")
    assert wrong.wx.check("stored").ok  # what is wrong with that is said when it is loaded


def test_the_noise_of_each_constraint_is_recorded_in_a_forecast(wind, ds, tmp_path):
    later = ds.isel(time=[2, 3])[["t2m", "msl"]]
    later["t2m"] = (later.t2m - 273.15).assign_attrs(ds.t2m.attrs, units="degC")
    asked = [
        Observe(later, noise={"t2m": "2 K"}),
        Custom(lambda x, _: x[:, -1, 0].mean((-2, -1))[:, None] / 1e2, [2.6], 0.5),
        Observe(later[["msl"]], noise="0.5 hPa"),
    ]
    call = {"steps": 2, "constraints": asked, "sampling": ONCE, "seed": 0}
    start = ds.isel(time=slice(0, 2))
    _, out = said(lambda: start.wx.forecast(wind, **call))
    _, stored = said(lambda: start.wx.forecast(wind, store=tmp_path / "fc.zarr", **call))
    noise = json.loads(out.attrs["xwx_noise"])
    assert stored.attrs["xwx_noise"] == out.attrs["xwx_noise"]
    assert list(noise) == list(out.constraint.values) == ["observed", "custom", "observed_2"]
    number = [str(c) for c in wind.spec.channels].index("msl")
    usual, unit = noise["observed"]["msl"].split(" ")
    assert noise["observed"]["t2m"] == "2 degC"
    assert float(usual) == pytest.approx(0.01 * float(wind.network.std[number]), rel=1e-5)
    assert unit == "Pa"
    assert noise["custom"] == "0.5"
    assert noise["observed_2"] == {"msl": "50 Pa"}
    _, free = said(lambda: start.wx.forecast(wind, steps=2, sampling=ONCE))
    assert "xwx_noise" not in free.attrs


def test_a_single_cell_needs_bounds_and_is_downscaled_with_them(wind, ds):
    cell = blocks(ds)[["msl"]].isel(time=[0], latitude=[1], longitude=[7])
    with pytest.raises(MismatchError, match="has no size") as error:
        cell.wx.downscale(wind, sampling=ONCE)
    found = error.value.problems
    assert [(p.kind, p.where) for p in found] == [
        ("missing-bounds", "latitude"),
        ("missing-bounds", "longitude"),
    ]
    made = {"ds": cell}
    edges = {"latitude": (45.0, 0.0), "longitude": (309.375, 354.375)}
    for problem in found:
        low, high = sorted(edges[problem.where])
        code = problem.remedy.partition("  #")[0]
        exec(code.replace("LOW", str(low)).replace("HIGH", str(high)), made)
    _, out = said(lambda: made["ds"].wx.downscale(wind, seed=0, sampling=ONCE))
    np.testing.assert_allclose(out.latitude, ds.latitude[4:8])
    np.testing.assert_allclose(out.longitude, ds.longitude[28:32])
    west = {"longitude": ("longitude", [-28.125], cell.longitude.attrs)}
    bounds = {"longitude_bnds": (("longitude", "bnds"), [[-50.625, -5.625]])}
    other = made["ds"].drop_vars("longitude_bnds").assign_coords(west | bounds)
    other["longitude"].attrs["bounds"] = "longitude_bnds"
    _, turned = said(lambda: other.wx.downscale(wind, seed=0, sampling=ONCE))
    np.testing.assert_allclose(turned.longitude, ds.longitude[28:32] - 360.0)
    np.testing.assert_array_equal(turned.msl, out.msl)
    for edges in ([-5.625, -50.625], [309.375, -5.625], [354.375, 309.375]):
        other["longitude_bnds"] = (("longitude", "bnds"), [edges])
        _, again = said(lambda: other.wx.downscale(wind, seed=0, sampling=ONCE))
        xr.testing.assert_equal(again, turned.assign_coords(again.coords))
        np.testing.assert_array_equal(again.longitude, turned.longitude)
    other["longitude_bnds"] = (("longitude", "bnds"), [[0.0, 360.0]])
    _, zonal = said(lambda: other.wx.downscale(wind, seed=0, sampling=ONCE))
    assert zonal.sizes["longitude"] == ds.sizes["longitude"]


def test_freq_in_other_words(wind, ds):
    half = ds.resample(time="12h").mean(keep_attrs=True)
    wanted = half.wx.downscale(wind, freq="6h", seed=0, sampling=ONCE)
    for freq in ("6H", np.timedelta64(6, "h")):
        out = half.wx.downscale(wind, freq=freq, seed=0, sampling=ONCE)
        xr.testing.assert_equal(out, wanted)
    for freq in (6, "6"):
        with pytest.raises(ValueError, match=r'freq=.*6.* has no unit.*such as freq="6h"'):
            half.wx.downscale(wind, freq=freq)


def test_two_means_that_are_too_long_are_one_error(wind, worlds):
    means = worlds.dataset(6).resample(time="18h", origin="start").mean(keep_attrs=True)
    with pytest.raises(MismatchError, match="give means over 12 h or less"):
        means.wx.downscale(wind, freq="6h")  # its windows are of three states
    with pytest.raises(ValueError, match='downscale needs a generative model: model="wind'):
        means.wx.downscale(worlds.emformer(), freq="6h")
