"""The claims of the EMFormer paper, redone at small scale.

    python docs/evidence/emformer/study.py run                 # everything that is not done yet
    python docs/evidence/emformer/study.py run losses --seeds 0 1 2
    python docs/evidence/emformer/study.py report              # tables and pictures

Needs the simulated climate of eight years, ``xwx simulate-climate runs/climate.zarr --years 8``.
Every run is ``xwx train`` on base.toml with a few settings changed; its scores on the reported
year are appended to results.csv, and a run that is there already is not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from report import report
from torch import Tensor
from torch.nn import functional as F
from variants import STUDIES, Variant, merged

from xwx.models.checkpoint import load_checkpoint
from xwx.models.layers import convolutions
from xwx.tasks.archive import make_archive, make_spec, open_training_data
from xwx.tasks.train import train
from xwx.training.config import read_config

HERE = Path(__file__).parent
RUNS = Path("runs/study")
RESULTS = HERE / "results.csv"
LEADS = (1, 4, 16, 28, 40)
#: Starts of the reported forecasts: every `EVERY` states of the year.
EVERY = 10
COLUMNS = ("study", "variant", "seed", "lead_hours", "nrmse", "acc", "z500", "t850", "seconds")


def run(variant: Variant, seed: int) -> None:
    """Train a variant, score it, and add its rows to the results."""
    base = tomllib.loads((HERE / "base.toml").read_text())
    folder = RUNS / variant.study / f"{variant.name}-{seed}"
    assert variant.changes
    config = merged(base, variant.changes(RUNS, seed))
    for stage in {"training", "finetuning"} & set(config):
        config[stage]["seed"] = seed
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.toml"
    path.write_text(toml(config))
    began = time.process_time()
    with three_branches() if variant.name == "three_branches" else contextlib.nullcontext():
        train(path, out=folder, progress=False)
    seconds = time.process_time() - began
    rows = score(path, folder / "model")
    write([{"study": variant.study, "variant": variant.name, "seed": seed, **row,
            "seconds": round(seconds)} for row in rows])  # fmt: skip


@torch.no_grad()
def score(path: Path, model_path: Path) -> list[dict[str, float]]:
    """Return the scores of a model on the reported year, a row a lead.

    ``nrmse`` is the mean over channels of RMSE over the standard deviation of the channel, ``acc``
    the mean over channels and starts of the anomaly correlation, with anomalies from an annual
    cycle fitted to the training years; RMSE of z500 in m2 s-2 and of t850 in K. Means over the
    globe are weighted by area, roots are taken after the mean over starts.
    """
    config = read_config(path)
    data = config.data
    ds = open_training_data(data)
    spec = make_spec(ds, data)
    learn = make_archive(ds, spec, data.train, Path(str(data.packed)))
    archive = make_archive(ds, spec, ("2008-01-01T00", "2008-12-28T18"), Path(str(data.packed)))
    network = load_checkpoint(model_path).network
    weights = torch.from_numpy(row_weights(spec.grid.rows))
    std = network.get_buffer("std").double()
    climate = annual_cycle(learn, archive.times)
    starts = archive.starts(1 + max(LEADS))[::EVERY]
    square = torch.zeros(len(LEADS), len(spec.channels), dtype=torch.float64)
    correlation = torch.zeros_like(square)
    for first in range(0, len(starts), 16):
        at = starts[first : first + 16]
        x = archive.batch(at, 1).states
        memory = network.remember()
        for step in range(max(LEADS)):
            forcing = archive.batch(at + step, 1).forcing(0)
            x, memory = network(x, forcing, memory)
            if step + 1 in LEADS:
                truth = archive.batch(at + step + 1, 1).states[:, 0].double()
                mean = torch.from_numpy(climate[at + step + 1]).double()
                n = LEADS.index(step + 1)
                square[n] += area(weights, (x.double() - truth) ** 2).sum(0)
                correlation[n] += acc(weights, x.double() - mean, truth - mean).sum(0)
            x = x[:, None]
    rmse = (square / len(starts)).sqrt()
    names = list(map(str, spec.channels))
    return [
        {
            "lead_hours": 6 * lead,
            "nrmse": float((rmse[n] / std[:, 0, 0]).mean()),
            "acc": float((correlation[n] / len(starts)).mean()),
            "z500": float(rmse[n, names.index("z[500 hPa]")]),
            "t850": float(rmse[n, names.index("t[850 hPa]")]),
        }
        for n, lead in enumerate(LEADS)
    ]


def row_weights(latitude: np.ndarray) -> np.ndarray:
    """Return weights of equal-angle rows that do not touch the poles, mean one."""
    weights = np.cos(np.deg2rad(latitude))
    return weights / weights.mean()


def area(weights: Tensor, field: Tensor) -> Tensor:
    """Return the area mean over the last two axes."""
    return (field * weights[:, None]).mean((-2, -1))


def acc(weights: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the anomaly correlation of anomalies (B, C, H, W)."""
    return area(weights, a * b) / (area(weights, a * a) * area(weights, b * b)).sqrt()


def annual_cycle(learn: Any, times: np.ndarray) -> np.ndarray:
    """Return mean, annual and semi-annual harmonics of the training years at `times`."""

    def harmonics(t: np.ndarray) -> np.ndarray:
        year = t.astype("datetime64[Y]")
        day = (t - year) / ((year + 1).astype(t.dtype) - year)
        angle = 2 * np.pi * day.astype(float)
        waves = [f(k * angle) for k in (1, 2) for f in (np.sin, np.cos)]
        return np.stack([np.ones_like(angle), *waves], axis=1)

    every = slice(None, None, 5)
    basis = harmonics(learn.times[every])
    known = np.asarray(learn.states[every]).reshape(len(basis), -1)
    fit, *_ = np.linalg.lstsq(basis, known.astype(np.float64), rcond=None)
    return (harmonics(times) @ fit).reshape(-1, *learn.states.shape[1:]).astype(np.float32)


@contextlib.contextmanager
def three_branches() -> Iterator[None]:
    """Let multi-convs be three convolutions and two additions, as the paper's baseline is."""
    with mock.patch.object(convolutions, "multi_convs", branches):
        yield


def branches(
    x: Tensor, *kernels: Tensor, size: tuple[int, int], longitude: str, **_: Any
) -> Tensor:
    """Convolve tokens (B, h * w, C) by each kernel and add up."""
    image = x.mT.unflatten(-1, size)
    total = torch.zeros_like(image)
    for kernel in kernels:
        r = kernel.shape[-1] // 2
        around = F.pad(
            image, (r, r, 0, 0), mode="circular" if longitude == "circular" else "constant"
        )
        around = F.pad(around, (0, 0, r, r))
        total = total + F.conv2d(around, kernel, groups=image.shape[1])
    return total.flatten(2).mT


def toml(config: dict[str, Any]) -> str:
    """Write a configuration: plain values first, then tables."""
    lines: list[str] = []

    def table(name: str, values: dict[str, Any]) -> None:
        if name:
            lines.append(f"[{name}]")
        for key, value in values.items():
            if not isinstance(value, dict):
                lines.append(f"{key} = {literal(value)}")
        for key, value in values.items():
            if isinstance(value, dict):
                table(f"{name}.{key}".strip("."), value)

    table("", config)
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """Write a value as TOML does; JSON's way will do except for tables in lists."""
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {literal(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def done() -> set[tuple[str, str, int]]:
    """Return which runs the results hold."""
    if not RESULTS.exists():
        return set()
    with RESULTS.open(newline="") as file:
        return {(r["study"], r["variant"], int(r["seed"])) for r in csv.DictReader(file)}


def write(rows: list[dict[str, Any]]) -> None:
    """Append rows to the results."""
    fresh = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        for row in rows:
            plain = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(plain)
            print(*plain.values(), flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("studies", nargs="*", default=list(STUDIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    chosen = parser.parse_args()
    if chosen.action == "report":
        report(RESULTS)
        return
    for seed in chosen.seeds:
        for study in chosen.studies:
            for variant in STUDIES[study]:
                if variant.changes and (study, variant.name, seed) not in done():
                    run(variant, seed)


if __name__ == "__main__":
    main()
