"""Real data that comes with the package, for tutorials, tests and first tries.

Every Dataset is a Zarr store in one zip file beside this module and is opened with the core
dependencies. Its attributes name the source and the licence.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import xarray as xr
from zarr.storage import ZipStore

__all__ = ["names", "open_dataset"]

_FOLDER = Path(__file__).parent / "data"
_SUFFIX = ".zarr.zip"


def names() -> list[str]:
    """Return the names of the bundled Datasets, sorted.

    Returns
    -------
    list of str
        Each is a name for :func:`open_dataset`.

    Examples
    --------
    >>> import xwx
    >>> xwx.tutorial.names()
    ['era5-winter', 'metar-conus', 'simulated-fortnight']
    """
    return sorted(path.name.removesuffix(_SUFFIX) for path in _FOLDER.glob(f"*{_SUFFIX}"))


def open_dataset(
    name: str, *, chunks: int | dict[Any, Any] | Literal["auto"] | None = None
) -> xr.Dataset:
    """Open a bundled Dataset, lazily: values are read when they are used.

    Parameters
    ----------
    name : str
        One of :func:`names`. ``"era5-winter"``: ERA5 mean sea level pressure [Pa] and 850 hPa
        relative vorticity [s-1], 6-hourly from 2025-12-01T00 to 2026-01-31T18 on a global
        2.5 degree grid of 73 x 144 points. ``"metar-conus"``: 1,532 METAR reports of North America
        around 2016-01-16T00 along the dimension ``station``, each with its place and time: sea
        level pressure [hPa], temperature and dew point [degC], wind speed [m s-1] and direction,
        as they were reported and NaN where they were not. ``"simulated-fortnight"``:
        2008-01-01T00 to 2008-01-14T18 of a simulated climate, 6-hourly on a global 5.6 degree
        grid of 32 x 64 points: geopotential, specific humidity, wind and temperature on 13
        levels, near-surface temperature and wind, sea level and surface pressure, with orography
        and land mask.
    chunks : int, dict or "auto", optional
        As in :func:`xarray.open_zarr`: None (the default) for plain lazy arrays, anything else
        for dask arrays.

    Returns
    -------
    xarray.Dataset
        With CF metadata, and the source and the licence in its attributes. It can be written to
        NetCDF or Zarr as it is.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.

    Examples
    --------
    >>> import xwx
    >>> ds = xwx.tutorial.open_dataset("era5-winter")
    >>> dict(ds.sizes)
    {'valid_time': 248, 'latitude': 73, 'longitude': 144, 'pressure_level': 1}
    """
    if name not in (known := names()):
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no bundled Dataset {name!r}.{hint} The names are: {', '.join(known)}")
    store = ZipStore(_FOLDER / f"{name}{_SUFFIX}", mode="r")
    ds = xr.open_zarr(store, consolidated=False, chunks=chunks)
    result = _writable(_ordered(ds))
    result.set_close(store.close)
    return result


def _ordered(ds: xr.Dataset) -> xr.Dataset:
    """Put the variables into one order: a zip file is listed in any."""
    fields = {name: ds.variables[name] for name in sorted(ds.data_vars, key=str)}
    dims = [str(dim) for field in fields.values() for dim in field.dims]
    coords = [*dims, *sorted(str(name) for name in ds.coords)]
    axes = {name: ds.variables[name] for name in dict.fromkeys(coords)}
    return xr.Dataset(fields, axes, ds.attrs)


def _writable(ds: xr.Dataset) -> xr.Dataset:
    """Forget how the values were packed on disk, so that any other format can take them."""
    for variable in ds.variables.values():
        kept = {k: v for k, v in variable.encoding.items() if k in ("units", "calendar")}
        packing = {"dtype": "int32"} if kept else {"_FillValue": None}
        variable.encoding = kept | packing
    return ds
