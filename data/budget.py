"""Work on what a model wrote, counted in steps: past the budget it stops, whatever the schema asks for.

A step is one keyword of a schema looked at, about 7 microseconds on a CPU of 2023. The budget is that of one tool, one
list of candidate tools or one answer; a budget opened inside another one joins it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

MAX_STEPS = 3_000           # real calls of public corpora take up to 195, so that a hostile one costs some 20 ms


class OverBudget(Exception):
    """More than MAX_STEPS steps of work."""


class Budget:
    """The steps that are left, and what was found out about schemas (by id; `kept` keeps those schemas alive)."""

    def __init__(self) -> None:
        self.left = MAX_STEPS
        self.kept: list[Any] = []
        self.enums: dict[int, set[str]] = {}
        self.shapes: dict[int, Any] = {}


_BUDGET: ContextVar[Budget] = ContextVar("budget")


@contextmanager
def counted() -> Iterator[None]:
    """Open a budget for the work inside, or join the one that is open."""
    if _BUDGET.get(None) is not None:
        yield
        return
    token = _BUDGET.set(Budget())
    try:
        yield
    finally:
        _BUDGET.reset(token)


def budget() -> Budget:
    """The open budget."""
    return _BUDGET.get()


def spend(steps: int) -> None:
    """Count steps. Raises OverBudget where none are left."""
    open_budget = _BUDGET.get()
    open_budget.left -= steps
    if open_budget.left < 0:
        raise OverBudget
