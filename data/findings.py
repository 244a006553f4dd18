"""What a rule is and what it finds: a code per offence, a detail, and two examples beside the check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from data.schema import dump_json

MAX_FINDINGS = 20               # reported for one tool or one answer; more say nothing new

Finding = tuple[str, str]       # (reason code, detail)


@dataclass(frozen=True)
class Rule:
    """One rule: `check` yields a detail per offence; `trips` and `passes` are its two examples."""

    code: str
    check: Callable[..., Iterator[str]]
    trips: Any
    passes: Any


def rule(table: list[Rule], code: str, trips: Any, passes: Any) -> Callable:
    """Decorator: enter a check into a table of rules."""
    def register(check: Callable) -> Callable:
        table.append(Rule(code, check, trips, passes))
        return check
    return register


def show(value: Any) -> str:
    """The beginning of a value as JSON, at a cost that does not grow with the value."""
    text = dump_json(_short(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _short(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value[:80]
    if isinstance(value, list):
        return [_short(item, depth + 1) for item in value[:8]] if depth < 2 else "..."
    if isinstance(value, dict):
        return {key[:80]: _short(item, depth + 1) for key, item in islice(value.items(), 8)} if depth < 2 else "..."
    return value
