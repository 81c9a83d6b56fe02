"""What the fused multi-convs save in a training step, against three convolutions and two additions.

    python docs/evidence/emformer/branches.py [--large]

One process and one thread; a forward and backward pass with both forms by turns, medians of the
processor's time. Memory is what autograd keeps from the forward pass for the backward pass.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable

import torch
from study import three_branches

from xwx import Channel, Grid, Spec
from xwx.models.emformer import EMFormer, EMFormerConfig

LEVELS = (1000, 925, 850, 700, 600, 500, 400, 300, 250, 200, 150, 100, 50)
CHANNELS = (
    *(Channel(name, 100.0 * level) for name in "zquvt" for level in LEVELS),
    *(Channel(name) for name in ("t2m", "u10", "v10", "msl", "sp")),
)
SMALL = {
    "5.6 degrees, dim 96, patch 4": (
        EMFormerConfig(patch=4, dim=96, heads=4, depth=4, levels=0, outer=0, cross=False),
        (32, 64),
        8,
    ),
    "5.6 degrees, dim 256, patch 2": (
        EMFormerConfig(dim=256, depth=8, ratio=3.0, levels=1, outer=0, cross=False),
        (32, 64),
        8,
    ),
}
LARGE = {"1.4 degrees, 160 M parameters": (EMFormerConfig.preset("emformer_budget"), (128, 256), 1)}


def kept(step: Callable[[], torch.Tensor]) -> int:
    """Return the bytes of the tensors that a forward pass keeps, each storage once."""
    found: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(found.values())


def compare(config: EMFormerConfig, shape: tuple[int, int], batch: int, repeats: int) -> None:
    """Print both forms' time and memory, and their ratio."""
    network = EMFormer(config, Spec(CHANNELS, Grid.regular(*shape, poles=False)))
    x = torch.randn(batch, 1, len(CHANNELS), *shape)

    def forward() -> torch.Tensor:
        return network(x)[0].square().mean()

    forms = {"three branches": three_branches, "fused": contextlib.nullcontext}
    times: dict[str, list[float]] = {name: [] for name in forms}
    memory = {}
    for turn in range(repeats + 1):
        for name, form in forms.items():
            with form():
                if not turn:
                    memory[name] = kept(forward)
                began = time.process_time()
                forward().backward()
                if turn:
                    times[name].append(time.process_time() - began)
    for name in forms:
        print(f"  {name:15} {statistics.median(times[name]):8.3f} s {memory[name] / 1e6:10.1f} MB")
    pairs = zip(times["three branches"], times["fused"], strict=True)
    ratio = statistics.median(three / fused for three, fused in pairs)
    less = 1 - memory["fused"] / memory["three branches"]
    print(f"  fused takes {1 - 1 / ratio:.0%} less time and keeps {less:.0%} less memory")


def main() -> None:
    """Compare on the sizes that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="also the published size: minutes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name, (config, shape, batch) in (SMALL | (LARGE if chosen.large else {})).items():
        print(f"{name}, batch {batch}")
        compare(config, shape, batch, 3 if name in LARGE else 9)


if __name__ == "__main__":
    main()
