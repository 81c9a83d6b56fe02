"""What of a plan does not fit beside the network, and what would mend that."""

from __future__ import annotations

from collections.abc import Iterator

from xwx.errors import Problem
from xwx.tasks.planned import Plan, human_size

__all__ = ["disk_problems", "ram_problems"]


def ram_problems(plan: Plan) -> Iterator[Problem]:
    """Weigh the result against the main memory that the network leaves."""
    beside = plan.device_memory if plan.device == "cpu" else 0
    left = None if plan.ram_free is None else plan.ram_free - beside
    # Where less than nothing is left, the device says so.
    if left is None or left < 0 or plan.host_memory <= left:
        return
    remedies = []
    if plan.store is None and plan.with_store <= left:
        remedies.append(f'store="forecast.zarr", which needs {human_size(plan.with_store)}')
    if plan.starts > 1 and plan.store is None and not plan.lazy:
        remedies.append("ds.chunk(), to compute start by start")
    remedies.append("fewer variables=")
    yield Problem(
        kind="main-memory",
        where="result",
        message=(
            f"{human_size(plan.host_memory)}, and {human_size(left)} of main memory are free"
            + (" beside the network" if beside else "")
        ),
        remedy=", or ".join(remedies),
    )


def disk_problems(plan: Plan) -> Iterator[Problem]:
    """Weigh the store against the disk."""
    if plan.disk_free is None or plan.disk <= plan.disk_free:
        return
    need, free = human_size(plan.disk), human_size(plan.disk_free)
    yield Problem(
        kind="disk",
        where=f"store {plan.store!r}",
        message=f"up to {need}, less what compression saves, and {free} are free there",
        remedy="fewer variables= or steps=, or a store on another disk",
    )
