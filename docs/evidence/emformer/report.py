"""Tables and pictures of the results of study.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from variants import STUDIES

HERE = Path(__file__).parent
SCORES = {
    "nrmse": "mean NRMSE",
    "acc": "mean ACC",
    "z500": "RMSE of z500 [m2 s-2]",
}


def report(results: Path) -> None:
    """Write a file of tables and a picture for each study."""
    (HERE / "tables").mkdir(exist_ok=True)
    for study, chosen in with_base(pd.read_csv(results)).groupby("study", sort=False):
        parts = []
        for score, title in SCORES.items():
            parts += [f"{title}, mean and standard deviation over seeds:\n", table(chosen, score)]
        parts += ["Processor seconds of training a run:\n", seconds(chosen)]
        (HERE / "tables" / f"{study}.md").write_text("\n".join(parts))
        draw(str(study), chosen)


def with_base(rows: pd.DataFrame) -> pd.DataFrame:
    """Give the studies the runs that they share with the one of fine-tuning."""
    parts = []
    for study, variants in STUDIES.items():
        own = rows[rows["study"] == study]
        for v in variants:
            known = own[own["variant"] == v.name]
            parts.append(known if v.changes else renamed(rows, "none", study, v.name))
        if study == "cache":
            parts.append(renamed(rows, "accumulative", study, "length_5, alpha_0.9"))
    return pd.concat(parts)


def renamed(rows: pd.DataFrame, name: str, study: str, variant: str) -> pd.DataFrame:
    """Return the rows of a variant of the study of fine-tuning under other names."""
    chosen = (rows["study"] == "finetuning") & (rows["variant"] == name)
    return rows[chosen].assign(study=study, variant=variant)


def table(rows: pd.DataFrame, score: str) -> str:
    """Return a Markdown table of a score: variants down, leads across."""
    grouped = rows.groupby(["variant", "lead_hours"], sort=False)[score]
    digits = 1 if rows[score].mean() > 10 else 4
    text = grouped.agg(lambda v: f"{v.mean():.{digits}f} ± {v.std():.{digits}f}").unstack()
    head = "| variant | " + " | ".join(f"{hours} h" for hours in text.columns) + " | seeds |"
    lines = [head, "|" + " --- |" * (len(text.columns) + 2)]
    for variant, cells in text.iterrows():
        count = rows[rows["variant"] == variant]["seed"].nunique()
        lines.append(f"| {variant} | {' | '.join(cells)} | {count} |")
    return "\n".join(lines) + "\n"


def seconds(rows: pd.DataFrame) -> str:
    """Return a Markdown table of training times."""
    mean = rows.groupby("variant", sort=False)["seconds"].mean()
    lines = ["| variant | seconds |", "| --- | --- |"]
    return (
        "\n".join([*lines, *(f"| {name} | {value:.0f} |" for name, value in mean.items())]) + "\n"
    )


def draw(study: str, rows: pd.DataFrame) -> None:
    """Draw each variant's error over that of the first, seed by seed, against lead time."""
    first = rows["variant"].iloc[0]
    base = rows[rows["variant"] == first].set_index(["seed", "lead_hours"])
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, score in zip(axes, ("nrmse", "z500"), strict=True):
        for n, (variant, part) in enumerate(rows.groupby("variant", sort=False)):
            ratio = part.set_index(["seed", "lead_hours"])[score] / base[score]
            wide = ratio.dropna().unstack("lead_hours")
            days = wide.columns / 24
            axis.plot(days, wide.mean(), "o-", color=f"C{n}", markersize=4, label=str(variant))
            axis.fill_between(days, wide.min(), wide.max(), color=f"C{n}", alpha=0.15, linewidth=0)
        axis.axhline(1, color="0.5", linewidth=0.8)
        axis.set(
            xlabel="lead time [days]", ylabel=f"over {first}", title=SCORES[score].split(" [")[0]
        )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(HERE / f"{study}.png", dpi=100)
    plt.close(figure)
