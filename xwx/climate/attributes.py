"""CF attributes of the simulated fields."""

from __future__ import annotations

__all__ = ["COORDINATES", "FIELDS", "MAPS"]

_MEAN_WIND = "neutral log law from the lowest level"

#: Name -> attributes of the fields along time; the first five are on pressure levels.
FIELDS: dict[str, dict[str, str]] = {
    "z": {"standard_name": "geopotential", "units": "m2 s-2", "long_name": "Geopotential"},
    "q": {
        "standard_name": "specific_humidity",
        "units": "kg kg-1",
        "long_name": "Specific humidity",
    },
    "u": {"standard_name": "eastward_wind", "units": "m s-1", "long_name": "Eastward wind"},
    "v": {"standard_name": "northward_wind", "units": "m s-1", "long_name": "Northward wind"},
    "t": {"standard_name": "air_temperature", "units": "K", "long_name": "Temperature"},
    "t2m": {
        "standard_name": "air_temperature",
        "units": "K",
        "long_name": "Near-surface air temperature",
    },
    "u10": {
        "standard_name": "eastward_wind",
        "units": "m s-1",
        "long_name": f"10 m eastward wind ({_MEAN_WIND})",
    },
    "v10": {
        "standard_name": "northward_wind",
        "units": "m s-1",
        "long_name": f"10 m northward wind ({_MEAN_WIND})",
    },
    "msl": {
        "standard_name": "air_pressure_at_mean_sea_level",
        "units": "Pa",
        "long_name": "Mean sea level pressure",
    },
    "sp": {"standard_name": "surface_air_pressure", "units": "Pa", "long_name": "Surface pressure"},
    "skt": {
        "standard_name": "surface_temperature",
        "units": "K",
        "long_name": "Surface temperature (climatology of sea, ice and land)",
    },
    "tp": {
        "standard_name": "lwe_thickness_of_precipitation_amount",
        "units": "m",
        "long_name": "Total precipitation of the previous 6 hours",
        "cell_methods": "time: sum (interval: 6 hours)",
    },
    "tisr": {
        "standard_name": "toa_incoming_shortwave_flux",
        "units": "W m-2",
        "long_name": "Daily mean insolation at the top of the atmosphere",
        "cell_methods": "time: mean (interval: 1 day)",
    },
}

#: Fields without time.
MAPS: dict[str, dict[str, str]] = {
    "z_sfc": {
        "standard_name": "surface_geopotential",
        "units": "m2 s-2",
        "long_name": "Geopotential of the surface",
    },
    "lsm": {"standard_name": "land_area_fraction", "units": "1", "long_name": "Fraction of land"},
}

COORDINATES: dict[str, dict[str, str]] = {
    "time": {"standard_name": "time", "long_name": "Valid time", "axis": "T"},
    "level": {
        "standard_name": "air_pressure",
        "long_name": "Pressure level",
        "units": "hPa",
        "positive": "down",
        "axis": "Z",
    },
    "latitude": {
        "standard_name": "latitude",
        "long_name": "Latitude",
        "units": "degrees_north",
        "axis": "Y",
    },
    "longitude": {
        "standard_name": "longitude",
        "long_name": "Longitude",
        "units": "degrees_east",
        "axis": "X",
    },
}
