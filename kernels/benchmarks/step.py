"""Profile one step of an EMFormer: what it spends its time on, forward and forward with backward.

``python kernels/benchmarks/step.py [--preset emformer_budget] [--device cuda] [--kernels auto]``

70 channels on 128 x 256 cells (1.4 degrees), batch 1. On a GPU, in bfloat16, also the time of a
step in a rollout that is captured as a CUDA graph: no launch is paid for, only the device's work.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from measuring import describe
from torch.profiler import ProfilerActivity, profile

import xwx
from xwx.models.emformer import PRESETS, EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec
from xwx.training.loss import HybridLoss

CHANNELS = tuple(Channel("t", 1000.0 * (n + 1)) for n in range(70))
GRID = Grid.regular(128, 256, poles=False)
STEPS = 40


def main() -> None:
    """Print the figures and the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--preset", choices=PRESETS, default="emformer_budget")
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--rows", type=int, default=12, help="rows of each table")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    xwx.set_options(kernels=arguments.kernels)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = EMFormer(EMFormerConfig.preset(arguments.preset), Spec(CHANNELS, GRID)).to(device)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{describe(device)}; {datetime.date.today()}")
    print(f"{arguments.preset}, {parameters / 1e6:.1f} M parameters, kernels={arguments.kernels}")
    x = torch.randn(1, 1, len(CHANNELS), *GRID.shape, device=device)
    target = torch.randn(1, len(CHANNELS), *GRID.shape, device=device)
    loss = HybridLoss(torch.ones(GRID.shape[0]), len(CHANNELS)).to(device)
    precision = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    def forward() -> None:
        with torch.inference_mode(), precision:
            network(x)

    def training() -> None:
        with precision:
            prediction = network(x)[0]
        loss(prediction, target).backward()
        network.zero_grad(set_to_none=True)

    def loss_alone() -> None:
        loss(target.detach().requires_grad_(), x[:, 0]).backward()

    for name, run in (("forward", forward), ("forward and backward", training)):
        print(f"\n{name}: {1e3 * elapsed(run, device):.1f} ms")
        table(run, device, arguments.rows)
    print(f"\nthe loss and its gradient alone: {1e3 * elapsed(loss_alone, device):.2f} ms")
    if device.type == "cuda":
        print(f"\na step of {STEPS}, captured: {1e3 * captured(network, x):.2f} ms")


def elapsed(run: Callable[[], None], device: torch.device) -> float:
    """Return the median seconds of a few runs, processor time on a CPU."""
    times = []
    for n in range(13 if device.type == "cuda" else 4):
        if device.type == "cuda":
            torch.cuda.synchronize()
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        began = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if n:
            times.append(clock() - began)
    return statistics.median(times)


def table(run: Callable[[], None], device: torch.device, rows: int) -> None:
    """Print the operations that take most of one run's time, without what they call."""
    kinds = [ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with profile(activities=kinds) as seen:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()

    def own(event: Any) -> float:
        if device.type != "cuda":
            return float(event.self_cpu_time_total)
        # An operation repeats the time of the kernels it launched: count these alone.
        on_device = event.device_type == torch.autograd.DeviceType.CUDA
        return float(event.self_device_time_total) if on_device else 0.0

    events = sorted(seen.key_averages(), key=own, reverse=True)
    total = sum(map(own, events))
    for event in events[:rows]:
        share, milliseconds = own(event) / total, own(event) / 1e3
        print(f"  {share:6.1%} {milliseconds:10.2f} ms {event.count:6d} x  {event.key}")


def captured(network: EMFormer, x: torch.Tensor) -> float:
    """Return the seconds of one step of a rollout whose step is one CUDA graph.

    The graph casts the weights at every step: none is cached from outside of it.
    """
    state = x.clone()
    precision = torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), precision:
        with torch.cuda.stream(side):
            for _ in range(3):
                network(state)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            state.copy_(network(state)[0][:, None])
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times = []
        for _ in range(5):
            state.copy_(x)
            begin.record()
            for _ in range(STEPS):
                graph.replay()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) * 1e-3 / STEPS)
    return statistics.median(times)


if __name__ == "__main__":
    main()
