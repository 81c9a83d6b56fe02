"""Draw the log of a training run: python tutorials/plot_training.py log.csv curve.png"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd


def main(log: str, picture: str) -> None:
    """Draw the training loss's angle and the validation ratios over the updates."""
    rows = pd.read_csv(log)
    ratios = [name for name in rows if name.startswith("ratio")]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for variable, style in (("msl", "-"), ("vo", "--")):
        names = [name for name in ratios if name.startswith(f"ratio {variable}")]
        for n, name in enumerate(names):
            label = name.removeprefix("ratio ")
            left.plot(rows["update"], rows[name], style, color=f"C{n}", label=label)
    left.set(xlabel="update", ylabel="RMSE / RMSE of persistence", title="validation week")
    left.legend(fontsize=7, ncols=2)
    right.plot(rows["update"], rows["theta"], color="k")
    right.set(xlabel="update", ylabel="theta [rad]", title="angle of the hybrid loss")
    for steps in sorted(set(rows["steps"]) - {1}):
        start = rows["update"][rows["steps"] >= steps].min()
        for axis in (left, right):
            axis.axvline(start, color="0.7", linewidth=0.8)
        right.annotate(f"{steps} steps", (start, right.get_ylim()[0]), fontsize=8)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
