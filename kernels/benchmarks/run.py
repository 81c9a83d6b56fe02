"""Time the kernels against what they replace and print one table.

``python kernels/benchmarks/run.py [--device cuda] [--only multi_convs] [--quick] [--minutes 8]``

Every line gives the time, the ratio to our version, and how far from the floor of the device it
is: the larger of the bytes that must move over the measured copy bandwidth, and the operations
that must be done over the measured rate of the unit that does them.
"""

from __future__ import annotations

import argparse
import datetime
import time

import memory_attention
import multi_convs
import torch
import window_attention
from measuring import Case, Ceilings, ceilings, describe, measure

KERNELS = {
    module.__name__: module.cases for module in (memory_attention, window_attention, multi_convs)
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=KERNELS, help="one kernel; by default all")
    parser.add_argument("--repeats", type=int, help="default: 50 on a GPU, 15 on a CPU")
    parser.add_argument("--quick", action="store_true", help="one size of each, nothing compiled")
    parser.add_argument("--minutes", type=float, default=8.0, help="no case begins after these")
    arguments = parser.parse_args()
    began = time.monotonic()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    best = ceilings(device)
    print(f"{describe(device)}; {datetime.date.today()}")
    rates = ", ".join(
        f"{unit} {str(dtype).removeprefix('torch.')} {rate / 1e12:.3g}"
        for (unit, dtype), rate in best.rates.items()
    )
    print(f"measured: copy {best.copy / 1e9:.4g} GB/s; TFLOP/s: {rates}")
    repeats = arguments.repeats or (50 if device.type == "cuda" else 15)
    for name in [arguments.only] if arguments.only else KERNELS:
        for case in KERNELS[name](device, quick=arguments.quick):
            if time.monotonic() - began > 60 * arguments.minutes:
                print(f"\nleft out: {case.operation}, {case.size}, {case.dtype}, {case.passes}")
                continue
            report(case, best, measure(case, device, repeats))


def report(case: Case, best: Ceilings, seconds: dict[str, float]) -> None:
    """Print the lines of one case."""
    dtype = str(case.dtype).removeprefix("torch.")
    floor = best.floor(case)
    print(
        f"\n{case.operation}, {case.size}, {dtype}, {case.passes}: "
        f"{case.moved / 1e6:.1f} MB, {case.done / 1e9:.2f} GFLOP, floor {1e3 * floor:.4g} ms"
    )
    ours = next(iter(seconds.values()))
    print(f"  {'way':<44}{'ms':>10}{'over ours':>11}{'over floor':>12}{'GB/s':>9}{'GFLOP/s':>10}")
    for way, value in seconds.items():
        print(
            f"  {way:<44}{1e3 * value:>10.4g}{value / ours:>11.2f}{value / floor:>12.2f}"
            f"{case.moved / value / 1e9:>9.4g}{case.done / value / 1e9:>10.4g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
