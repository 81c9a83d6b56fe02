"""How many members, or steps, of a forecast would fit where those that were asked for do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xwx.errors import Problem
from xwx.tasks.planned import Plan
from xwx.tasks.result import Result

__all__ = ["largest", "with_smaller"]


def with_smaller(problem: Problem, plan: Plan, size: Callable[[int, int], Result]) -> Problem:
    """Add the numbers that fit to the remedy of a result that is too large.

    Parameters
    ----------
    problem : Problem
        Of the main memory or the disk; others are returned as they are.
    plan : Plan
    size : callable
        From a number of steps and of members to the result of such a forecast.
    """
    free = _free(problem, plan)
    if free is None:
        return problem
    members = plan.members or 1

    def fits(steps: int, count: int) -> bool:
        result = size(steps, count)
        if problem.kind == "disk":
            return result.disk <= free
        return (result.in_memory if plan.store is None else result.with_store) <= free

    fewer = largest(members - 1, lambda n: fits(plan.steps, n))
    shorter = largest(plan.steps - 1, lambda n: fits(n, members))
    found = [f"members={fewer}"] if fewer else []
    found += [f"steps={shorter}"] if shorter else []
    if not found and members > 1 and (both := largest(plan.steps - 1, lambda n: fits(n, 1))):
        found = [f"members=1 with steps={both}"]
    return replace(problem, remedy=", or ".join([problem.remedy, *found]))


def largest(most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number up to `most` that fits, where all smaller ones do; 0 for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _free(problem: Problem, plan: Plan) -> int | None:
    """Return the bytes that there are for the result."""
    if problem.kind == "disk":
        return plan.disk_free
    if problem.kind != "main-memory" or plan.ram_free is None:
        return None
    return plan.ram_free - (plan.device_memory if plan.device == "cpu" else 0)
