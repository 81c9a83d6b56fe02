"""Time the kernels against what they replace and print one table.

``python kernels/benchmarks/run.py [--repeats 30]``. One thread, CPU time of this process, the
competitors by turns in one process, the median of the repeats after a warm-up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from xwx_kernels import multi_convs

#: Batch, rows, columns, channels: the bundled model's map, the valley of the 1.4 degree preset,
#: and an odd map between them.
MAPS = {
    "37 x 72, 192 channels": (4, 37, 72, 192),
    "16 x 32, 2304 channels": (1, 16, 32, 2304),
    "45 x 90, 384 channels": (1, 45, 90, 384),
}
SIZES = (1, 3, 5)


def competitors(
    batch: int, rows: int, columns: int, channels: int
) -> dict[str, Callable[[], None]]:
    """Return one forward and backward pass of each way to write the same operation."""
    torch.manual_seed(0)
    tokens = torch.randn(batch, rows * columns, channels, requires_grad=True)
    image = torch.randn(batch, channels, rows, columns, requires_grad=True)
    kernels = [torch.randn(channels, 1, k, k, requires_grad=True) for k in SIZES]
    gradient = torch.randn(batch, rows * columns, channels)
    gradient_image = torch.randn(batch, channels, rows, columns)

    def clear() -> None:
        for tensor in (tokens, image, *kernels):
            tensor.grad = None

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        r = kernel.shape[-1] // 2
        x = F.pad(x, (r, r, 0, 0), mode="circular") if r else x
        return F.conv2d(x, kernel, padding=(r, 0), groups=channels)

    def fused() -> None:
        clear()
        multi_convs(tokens, *kernels, size=(rows, columns)).backward(gradient)

    def branches() -> None:
        clear()
        x = tokens.view(batch, rows, columns, channels).permute(0, 3, 1, 2)
        y = convolve(x, kernels[0]) + convolve(x, kernels[1]) + convolve(x, kernels[2])
        y.permute(0, 2, 3, 1).reshape(tokens.shape).backward(gradient)

    def branches_image() -> None:
        clear()
        y = convolve(image, kernels[0]) + convolve(image, kernels[1]) + convolve(image, kernels[2])
        y.backward(gradient_image)

    def single_image() -> None:
        clear()
        convolve(image, kernels[2]).backward(gradient_image)

    return {
        "multi_convs": fused,
        "three branches, tokens": branches,
        "three branches, NCHW": branches_image,
        "one 5 x 5, NCHW": single_image,
    }


def measure(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of each run; the runs take turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for n in range(repeats + 2):
        for name, run in runs.items():
            began = time.process_time()
            run()
            if n >= 2:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"multi-convs, kernels {SIZES}, forward and backward, torch {torch.__version__}")
    print(f"{'map':<26}{'way':<26}{'ms':>9}{'over multi_convs':>19}")
    for label, shape in MAPS.items():
        seconds = measure(competitors(*shape), repeats)
        for name, value in seconds.items():
            ratio = value / seconds["multi_convs"]
            print(f"{label:<26}{name:<26}{1e3 * value:>9.2f}{ratio:>19.2f}")
            label = ""


if __name__ == "__main__":
    main()
