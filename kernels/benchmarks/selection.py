"""Where numba's multi-convs are faster than torch's convolution, and what "auto" makes of it.

``python kernels/benchmarks/selection.py`` prints, for maps, kernels and channels, the CPU time of
``backend="torch"`` over that of ``backend="numba"``, forward alone and with gradients: above 1
numba is the faster one. In brackets what ``backend="auto"`` takes. One thread, medians, by turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from measuring import by_turns, describe
from torch import Tensor
from xwx_kernels import multi_convs

MAPS = ((1, 181, 360), (1, 64, 128), (8, 32, 64), (2, 16, 32), (8, 8, 16), (64, 4, 4))
KERNELS = ((1,), (3,), (1, 3, 5), (7,))
CHANNELS = (3, 8, 16, 32, 64, 128, 192, 384)
LARGEST = 1_600_000  # tokens times channels


def ratio(x: Tensor, kernels: list[Tensor], size: tuple[int, int], gradients: bool) -> str:
    """Return torch's time over numba's, and what auto takes."""
    leaves = [t.requires_grad_(gradients) for t in (x, *kernels)]

    def run(backend: str) -> None:
        y = multi_convs(*leaves, size=size, backend=backend)
        if gradients:
            torch.autograd.grad(y, leaves, x.detach())

    ways: dict[str, Callable[[], object]] = {b: partial(run, b) for b in ("torch", "numba")}
    seconds = by_turns(ways, 7)
    pays = import_module("xwx_kernels.multi_convs")._pays
    chosen = "numba" if pays("numba", x, kernels, size[1]) else "torch"
    return f"{seconds['torch'] / seconds['numba']:.2f} ({chosen})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    dtype = getattr(torch, parser.parse_args().dtype)
    torch.set_num_threads(1)
    print(describe(torch.device("cpu")))
    print("map, kernels, channels: forward, forward and backward")
    for batch, height, width in MAPS:
        for sizes in KERNELS:
            for channels in CHANNELS:
                if batch * height * width * channels > LARGEST:
                    continue
                x = torch.randn(batch, height * width, channels, dtype=dtype)
                kernels = [torch.randn(channels, 1, k, k, dtype=dtype) for k in sizes]
                found = [ratio(x, kernels, (height, width), needed) for needed in (False, True)]
                print(f"{batch} x {height} x {width}, {sizes}, {channels}:", *found, flush=True)


if __name__ == "__main__":
    main()
