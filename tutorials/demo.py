"""The main job: forecast a week of ERA5 that the bundled model has not seen, and score it.

Prints RMSE against persistence, averaged over all starts of 25 to 29 January 2026, and leaves
``forecast.zarr`` (seven days from one start) and ``forecast.png`` behind.
"""

import shutil

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xwx

LEADS = np.array([6, 12, 24, 48], "timedelta64[h]")


def scores(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """Score forecasts and persistence at the leads, with starts that have the truth for all."""
    starts = ds.valid_time.sel(valid_time=slice("2026-01-25", "2026-01-29")).values
    fc = ds.wx.forecast("emformer-era5-mini", steps=8, start=starts).sel(lead_time=LEADS)
    rivals = {"forecast": fc, "persistence": xwx.metrics.persistence(ds, fc)}
    return {name: rival.wx.verify(ds, "rmse").squeeze() for name, rival in rivals.items()}


def show(found: dict[str, xr.Dataset]) -> None:
    """Print the table."""
    print(f"{'variable':10}{'lead':>6}{'forecast':>14}{'persistence':>14}{'ratio':>8}")
    for name, unit, form in (("msl", "Pa", ".1f"), ("vo", "s-1", ".3e")):
        for lead in LEADS:
            model, persistence = (float(s[name].sel(lead_time=lead)) for s in found.values())
            print(
                f"{f'{name} [{unit}]':10}{f'{lead.astype(int)} h':>6}{model:>14{form}}"
                f"{persistence:>14{form}}{model / persistence:>8.2f}"
            )


def draw(fc: xr.Dataset, truth: xr.Dataset, lead: str, path: str) -> None:
    """Draw forecast, analysis and their difference: pressure contours over vorticity."""
    hours = int(np.timedelta64(fc.lead_time.sel(valid_time=lead).values, "h").astype(int))
    a, b = (d.sel(valid_time=lead).squeeze(drop=True) for d in (fc, truth))
    figure, axes = plt.subplots(3, 1, figsize=(9, 12), layout="constrained")
    for axis, field, title in zip(axes[:2], (a, b), ("forecast", "ERA5 analysis"), strict=True):
        shade = axis.pcolormesh(
            field.longitude, field.latitude, field.vo * 1e5, cmap="PuOr_r", vmin=-12, vmax=12
        )
        lines = axis.contour(
            field.longitude, field.latitude, field.msl / 100, np.arange(940, 1060, 8),
            colors="k", linewidths=0.7,
        )  # fmt: skip
        axis.clabel(lines, fontsize=7)
        axis.set_title(f"{title}, {str(lead)[:13]} UTC (+{hours} h)", loc="left")
        figure.colorbar(shade, ax=axis, label="850 hPa relative vorticity [1e-5 s-1]", shrink=0.9)
    error = axes[2].pcolormesh(
        a.longitude, a.latitude, (a.msl - b.msl) / 100, cmap="RdBu_r", vmin=-20, vmax=20
    )
    axes[2].set_title("mean sea level pressure, forecast minus analysis", loc="left")
    figure.colorbar(error, ax=axes[2], label="difference [hPa]", shrink=0.9)
    for axis in axes:
        axis.set(xlabel="longitude [degrees east]", ylabel="latitude [degrees north]")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Forecast, score, draw."""
    ds = xwx.tutorial.open_dataset("era5-winter").load()
    shutil.rmtree("forecast.zarr", ignore_errors=True)
    fc = ds.wx.forecast(
        "emformer-era5-mini", steps=27, start="2026-01-25T00", store="forecast.zarr"
    )
    draw(fc, ds, "2026-01-26T00", "forecast.png")
    print("RMSE over the globe and 20 starts, 25 to 29 January 2026")
    show(scores(ds))
    print("written: forecast.zarr (27 steps from 25 January), forecast.png (its map at +24 h)")


if __name__ == "__main__":
    main()
