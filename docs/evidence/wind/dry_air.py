"""Does a long forecast keep its dry air? Free, constrained, and constrained to rounding.

    python docs/evidence/wind/dry_air.py              # 400 steps, half an hour of a core
    python docs/evidence/wind/dry_air.py --steps 40

No trained prior has the channels, so a network of random weights stands in: seventy channels of the
bundled simulated fortnight at 5.6 degrees, normalised with its statistics. Its weather means
nothing, and wanders; the mass has to stay.
"""

from __future__ import annotations

import argparse
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import xwx
from xwx.constraints import DryAirMass
from xwx.fields import grid_of, latitude_weights, pack
from xwx.models.card import Card
from xwx.models.wind import Wind, WindConfig
from xwx.training.data import Archive, statistics

LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
SURFACE = ("t2m", "u10", "v10", "msl", "sp")
TABLE = Path(__file__).parent / "tables" / "dry_air.md"


def prior(ds: xr.Dataset) -> xwx.Model:
    """Return a prior of random weights for the seventy channels of the Dataset."""
    columns = [xwx.Channel(name, 100.0 * level) for name in "zqutv" for level in LEVELS]
    channels = (*columns, *(xwx.Channel(name) for name in SURFACE))
    spec = xwx.Spec(channels, grid_of(ds), timedelta(hours=6))
    states, frame = pack(ds, spec, times=slice(None))
    torch.manual_seed(0)
    config = WindConfig.preset("wind_tiny", known_t=True, predict="scaled")
    network = Wind(config, spec).eval()
    weights = latitude_weights(spec.grid.rows)
    network.set_statistics(*statistics(Archive(states, None, frame.times, spec), weights))
    with torch.no_grad():  # what is zero before training would make no weather at all
        network.backbone.head.weight.normal_(std=0.1)
    return xwx.Model(network, spec, Card("random weights"))


def drift(fc: xr.Dataset, start: float) -> np.ndarray:
    """Return by how much the mean pressure of dry air is off [Pa], at each step."""
    return fc.wx.dry_air_mass()["dry_air_pressure"].values - start


def main() -> None:
    """Forecast three times and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    ds = xwx.tutorial.open_dataset("simulated-fortnight").load()
    model = prior(ds)
    start = float(ds.wx.dry_air_mass()["dry_air_pressure"].values[-1])
    lines = [
        f"| {chosen.steps} steps | greatest drift [Pa] | at the end [Pa] | seconds of a core |",
        "| --- | --- | --- | --- |",
    ]
    for name, constraints in (
        ("free", []),
        ("`DryAirMass()`", [DryAirMass()]),
        ("`DryAirMass(strict=True)`", [DryAirMass(strict=True)]),
    ):
        began = time.process_time()
        fc = ds.wx.forecast(
            model, steps=chosen.steps, seed=0, constraints=constraints, progress=False
        )
        off = drift(fc, start)
        seconds = time.process_time() - began
        lines.append(
            f"| {name} | {np.abs(off).max():.3g} | {np.abs(off[-1]):.3g} | {seconds:.0f} |"
        )
        print(lines[-1], flush=True)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
