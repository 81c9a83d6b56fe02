"""What all parts share: the weeks, the scores, the tables, and the results of a model.

The states until 17 January 2026 are learned from, the week after them chooses what is left to be
chosen, and the last week is reported.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import xwx
from xwx.metrics import gaussian_crps
from xwx.models.checkpoint import Model
from xwx.spec import Grid

HERE = Path(__file__).parent
#: Where samples of a model are kept between runs: they take longest.
KEPT = Path("runs/evidence-wind")
TIME = "valid_time"
FINE = Grid.regular(73, 144, poles=True)
STATES_A_DAY = 4
#: How guided tasks are sampled: as by default, and with what came out better in the week that
#: chooses.
WAYS: dict[str, dict[str, Any]] = {
    "WIND": {},
    "WIND, by its background, eta 1": {"guidance": "background", "eta": 1.0},
}

Floats = NDArray[np.float64]
Row = dict[str, str]


@dataclass(frozen=True)
class Weeks:
    """The bundled Dataset, cut into three.

    Attributes
    ----------
    everything, learn, choose, report : Dataset
        All states; those until 17 January; of 18 to 24 January; of 25 to 31 January.
    """

    everything: xr.Dataset

    @classmethod
    def open(cls) -> Weeks:
        """Read the bundled Dataset."""
        return cls(xwx.tutorial.open_dataset("era5-winter").load())

    @cached_property
    def learn(self) -> xr.Dataset:
        """The states that are learned from."""
        return self.everything.sel({TIME: slice(None, "2026-01-17")})

    @cached_property
    def choose(self) -> xr.Dataset:
        """The week that chooses."""
        return self.everything.sel({TIME: slice("2026-01-18", "2026-01-24")})

    @cached_property
    def report(self) -> xr.Dataset:
        """The week that is reported."""
        return self.everything.sel({TIME: slice("2026-01-25", "2026-01-31")})

    @cached_property
    def hourly_means(self) -> xr.Dataset:
        """The learned mean of each hour of the day: the climatology, with the tides."""
        return self.learn.groupby(f"{TIME}.hour").mean()

    def climatology(self, like: xr.Dataset) -> xr.Dataset:
        """Return the learned means at the times of another Dataset."""
        return self.hourly_means.sel(hour=like[TIME].dt.hour).drop_vars("hour")


def area_mean(field: xr.DataArray) -> xr.DataArray:
    """Return the mean over the globe, weighted with exact areas."""
    weights = field.to_dataset(name="field").wx.area_weights
    return field.weighted(weights).mean(["latitude", "longitude"])


def rmse(estimate: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """Return the root mean square error over all times and the globe."""
    scores: xr.Dataset = estimate.wx.verify(truth[list(estimate.data_vars)], "rmse")
    return scores.squeeze()


def dressed_crps(
    estimate: xr.DataArray, truth: xr.DataArray, past: xr.DataArray, past_truth: xr.DataArray
) -> float:
    """Return the mean CRPS of a normal distribution about an estimate.

    Its width, at every latitude, is the root mean square error of the same estimate in the week
    that chooses: what a careful user would put round a field that comes without any spread.
    """
    square = ((past - past_truth) ** 2).mean([TIME, "longitude"])
    width = np.sqrt(square).broadcast_like(truth).transpose(*truth.dims)
    scores = gaussian_crps(estimate.transpose(*truth.dims), width, truth)
    return float(area_mean(truth.copy(data=scores)).mean())


def baseline_row(
    name: str, estimate: xr.Dataset, past: xr.Dataset, weeks: Weeks, vorticity: bool = True
) -> Row:
    """Return the line of a table for estimates of the reported week and of the one before."""
    errors = rmse(estimate, weeks.report)
    crps = dressed_crps(estimate["msl"], weeks.report["msl"], past["msl"], weeks.choose["msl"])
    row = {"": name, "RMSE msl [Pa]": f"{float(errors['msl']):.0f}", "of one member": ""}
    row["CRPS msl [Pa]"] = f"{crps:.1f}"
    if vorticity:
        found = f"{float(errors['vo']) * 1e6:.2f}" if "vo" in errors else ""
        row["RMSE vo [1e-6 s-1]"] = found
    return row


def model_row(name: str, sample: xr.Dataset, weeks: Weeks, vorticity: bool = True) -> Row:
    """Return the line of a table for an ensemble of the reported week."""
    sample = sample.sel({TIME: weeks.report[TIME]})[["msl", "vo"]]
    mean = rmse(sample.mean("member", keep_attrs=True), weeks.report)
    one = rmse(sample.isel(member=0, drop=True), weeks.report)
    row = {"": name, "RMSE msl [Pa]": f"{float(mean['msl']):.0f}"}
    row["of one member"] = f"{float(one['msl']):.0f}"
    crps = sample[["msl"]].wx.verify(weeks.report[["msl"]], "crps")
    row["CRPS msl [Pa]"] = f"{float(crps['msl'].squeeze()):.1f}"
    if vorticity:
        row["RMSE vo [1e-6 s-1]"] = f"{float(mean['vo']) * 1e6:.2f}"
    return row


def as_markdown(rows: list[Row]) -> str:
    """Return rows as a Markdown table; a column that no row fills is left out."""
    columns = [key for key in rows[0] if any(row.get(key) for row in rows)]
    lines = [columns, ["---"] * len(columns)]
    lines += [[row.get(key, "") for key in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def publish(name: str, parts: dict[str, list[Row]], words: str = "") -> None:
    """Print titled tables, and write them where the page includes them."""
    text = "\n".join(f"{title}:\n\n{as_markdown(rows)}" for title, rows in parts.items())
    text += f"\n{words}\n" if words else ""
    (HERE / "tables").mkdir(exist_ok=True)
    (HERE / "tables" / f"{name}.md").write_text(text, encoding="utf-8")
    print(text, flush=True)


@dataclass(frozen=True)
class Prior:
    """The model that is compared, and how it is sampled.

    Attributes
    ----------
    model : str, or None
        A name or a directory; None for the baselines alone.
    members : int
    steps : int
        Calls of the network for each window of states.
    """

    model: str | None
    members: int = 10
    steps: int = 15

    def sampled(
        self, name: str, make: Callable[..., xr.Dataset], way: str = "WIND"
    ) -> xr.Dataset | None:
        """Return what the model makes, from disk where the same weights have made it.

        Parameters
        ----------
        name : str
            Of the task and its observations.
        make : callable
            The task; it is given model, members, seed and sampling by their names.
        way : str
            Of :data:`WAYS`.
        """
        if self.model is None:
            return None
        model = xwx.load(self.model)
        how = "-".join([str(self.steps), *map(str, WAYS[way].values())])
        path = KEPT / f"{name}-{self.members}-{how}-{_digest(model)}.nc"
        if not path.exists():
            KEPT.mkdir(parents=True, exist_ok=True)
            began = time.perf_counter()
            sampling = xwx.Sampling(steps=self.steps, **WAYS[way])
            made = make(model=model, members=self.members, seed=0, sampling=sampling)
            seconds = round(time.perf_counter() - began)
            made.assign_attrs(seconds=seconds).to_netcdf(path)
            print(f"{name}, {way}: sampled in {seconds} s", flush=True)
        with xr.open_dataset(path) as ds:
            return ds.load()


def _digest(model: Model) -> str:
    found = hashlib.sha256()
    for key, value in sorted(model.network.state_dict().items()):
        found.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]
