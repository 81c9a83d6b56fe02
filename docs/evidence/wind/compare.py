"""The prior WIND against what one would do without it, on the bundled reanalysis.

    pip install gstools                                                    # for kriging alone
    python docs/evidence/wind/compare.py --baselines-only                  # all parts
    python docs/evidence/wind/compare.py space points --model wind-era5-mini

Tables go to tables/, pictures beside this file; what a model has sampled is kept in
runs/evidence-wind and not sampled again for the same weights.
"""

from __future__ import annotations

import argparse
import importlib

from common import Prior, Weeks

PARTS = ("space", "daily", "points", "forecasts", "spectra")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--model", default="wind-era5-mini", help="a name or a directory")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--steps", type=int, default=15, help="calls of the network for a window")
    parser.add_argument("--baselines-only", action="store_true", help="without any model")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"unknown {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    weeks = Weeks.open()
    model = None if chosen.baselines_only else chosen.model
    prior = Prior(model, chosen.members, chosen.steps)
    for part in chosen.parts or PARTS:
        importlib.import_module(part).run(weeks, prior)


if __name__ == "__main__":
    main()
