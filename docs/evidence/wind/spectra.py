"""Spectra: whether what is made of cells of 10 degrees has the variance of the small scales."""

from __future__ import annotations

import matplotlib
import xarray as xr
from common import HERE, TIME, Prior, Row, Weeks, publish
from covariances import Interpolation, Observed
from interpolate import bicubic, consistent, to_cells
from space import AGAIN, CELLS, model_sample

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: Zonal wavenumbers whose power is compared; cells of 10 degrees resolve up to 18.
BANDS = ((1, 10), (10, 20), (20, 60))


def run(weeks: Weeks, prior: Prior) -> None:
    """Write the table of ratios, and draw the spectra."""
    cells = CELLS["10"]
    coarse = to_cells(weeks.report, cells)
    known = Interpolation(weeks, "msl", Observed.cells(cells))
    fields = {
        "truth": weeks.report,
        "bicubic": bicubic(coarse),
        "bicubic, consistent": consistent(coarse, cells, AGAIN),
        "optimal interpolation, isotropic and EOFs": known.estimate(
            weeks.report, known.chosen(empirical=True)
        ),
    }
    sample = model_sample(weeks, prior, "10", "WIND")
    if sample is not None:
        sample = sample[["msl", "vo"]]
        fields["WIND, mean of the members"] = sample.mean("member", keep_attrs=True)
        fields["WIND, one member"] = sample.isel(member=0, drop=True)
    spectra = {name: ds.wx.spectrum().mean(TIME).squeeze() for name, ds in fields.items()}
    parts = {
        f"Power of {name} at 30 to 60 degrees, over that of the truth": [
            _line(title, found[name], spectra["truth"][name])
            for title, found in spectra.items()
            if name in found and title != "truth"
        ]
        for name in ("msl", "vo")
    }
    publish("spectra", parts)
    draw(spectra)


def draw(spectra: dict[str, xr.Dataset]) -> None:
    """Draw the spectra of both variables."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, (name, unit) in zip(axes, (("msl", "Pa2"), ("vo", "s-2")), strict=True):
        for title, found in spectra.items():
            if name in found:
                power = found[name].sel(wavenumber=slice(1, None))
                style = {"color": "k", "linewidth": 2} if title == "truth" else {}
                axis.loglog(power["wavenumber"], power.values, label=title, **style)
        axis.set(xlabel="zonal wavenumber", ylabel=unit, title=f"Power of {name}, 30 to 60 degrees")
        axis.axvline(18, color="grey", linewidth=0.8)
    axes[0].legend(fontsize=8)
    figure.savefig(HERE / "spectra.png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def _line(title: str, found: xr.DataArray, truth: xr.DataArray) -> Row:
    row = {"": title}
    for low, high in BANDS:
        band = {"wavenumber": slice(low, high)}
        row[f"{low} to {high}"] = f"{float(found.sel(band).sum() / truth.sel(band).sum()):.2f}"
    return row
