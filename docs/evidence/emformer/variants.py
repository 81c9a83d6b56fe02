"""What is compared: for each study, what a variant changes in base.toml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Changes = Callable[[Path, int], dict[str, Any]]


@dataclass(frozen=True)
class Variant:
    """A named change of the base configuration.

    Parameters
    ----------
    study, name : str
    changes : callable or None
        From the folder of all runs and the seed to settings; None drops a table. Without it the
        variant is the base model, which is trained once, as ``finetuning none``.
    """

    study: str
    name: str
    changes: Changes | None


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` in its tables; None takes a key away."""
    whole = dict(base)
    for key, value in changes.items():
        if value is None:
            whole.pop(key, None)
        elif isinstance(value, dict):
            whole[key] = merged(whole.get(key, {}), value)
        else:
            whole[key] = value
    return whole


def pretrained(**changes: Any) -> Changes:
    """Train from scratch, without fine-tuning."""
    return lambda runs, seed: {"finetuning": None, **changes}


def finetuned(**settings: Any) -> Changes:
    """Fine-tune the base model of the same seed."""

    def changes(runs: Path, seed: int) -> dict[str, Any]:
        start = runs / "finetuning" / f"none-{seed}" / "model"
        drop = {"training": None, "network": None}
        return {"start": str(start), **drop, "finetuning": settings}

    return changes


def accumulative(**settings: Any) -> Changes:
    """Fine-tune by the accumulative loop."""
    return finetuned(**{"gradient": "detach", "cache": 5, "alpha": 0.9, **settings})


# Without multi-convs, 35 x 3 x 96 weights a block go to the MLP: equal parameters.
ATTENTION: dict[str, dict[str, Any]] = {
    # A window larger than the map is the map: attention everywhere, in every block.
    "self_attention": {"kernels": [], "windows": [[64, 64]], "ratio": 4.547},
    "self_and_window": {"kernels": [], "ratio": 4.547},
}

STUDIES: dict[str, list[Variant]] = {
    "finetuning": [
        Variant("finetuning", "none", pretrained()),
        Variant("finetuning", "ordinary", finetuned(gradient="through")),
        Variant("finetuning", "accumulative", accumulative()),
    ],
    "budget": [
        Variant("budget", "none", None),
        # As many steps of the network as 200 updates of 5, then 10: more training alone.
        Variant("budget", "one_step", finetuned(updates=1500, rollout=[[0.0, 1]])),
        Variant("budget", "rate_1e-4", accumulative(learning_rate=1e-4, learning_rate_min=1e-6)),
        Variant("budget", "per_step", accumulative(update="per_step")),
        Variant("budget", "updates_600", accumulative(updates=600)),
        Variant(
            "budget",
            "per_step_1e-4",
            accumulative(update="per_step", learning_rate=1e-4, learning_rate_min=1e-6),
        ),
        *(
            Variant(
                "budget",
                f"per_step_3e-5_{count}",
                accumulative(
                    update="per_step", learning_rate=3e-5, learning_rate_min=1e-6, updates=count
                ),
            )
            for count in (600, 2000)
        ),
    ],
    "cache": [
        *(Variant("cache", f"length_{n}", accumulative(cache=n)) for n in (0, 3, 4, 6)),
        *(Variant("cache", f"alpha_{a}", accumulative(alpha=a)) for a in (0.7, 0.8, 1.0)),
    ],
    "blocks": [
        *(Variant("blocks", n, pretrained(network=network)) for n, network in ATTENTION.items()),
        Variant("blocks", "emformer", None),
    ],
    "losses": [
        *(
            Variant("losses", name, pretrained(training={"loss": {"preset": name}}))
            for name in ("l2", "latitude", "variable", "sum", "equal", "schedule", "released")
        ),
        Variant("losses", "learnable", None),
    ],
    "branches": [
        Variant("branches", "three_branches", pretrained()),
        Variant("branches", "fused", None),
    ],
}
