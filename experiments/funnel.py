"""Sums over the ledgers of rounds: queries in, accepted, why not, and how right the accepted answers are."""

from collections import Counter
from collections.abc import Sequence
from typing import Any


def totals(ledgers: Sequence[dict]) -> dict[str, Any]:
    """Sums over rounds and seeds: queries, accepted, optimizer steps, precision and recall of values, reasons."""
    sums: Counter = Counter(queries=0, accepted=0, steps=0, right=0, made=0, said=0)
    reasons: Counter = Counter()
    for ledger in ledgers:
        sums.update(queries=ledger["queries"]["in"], accepted=ledger["queries"]["accepted"],
                    steps=ledger["training"]["steps"])
        for cell in ledger["judged"].values():
            sums.update({key: cell[key] for key in ("right", "made", "said")})
        for stage in ledger["stages"].values():
            reasons.update(stage["rejected"])
    return {**with_fractions(sums), "reasons": dict(reasons.most_common())}


def by_votes(ledgers: Sequence[dict]) -> dict[str, dict[str, Any]]:
    """Precision and recall of the values of accepted answers, by the votes of the winner."""
    sums: dict[str, Counter] = {}
    for ledger in ledgers:
        for votes, cell in ledger["judged"].items():
            sums.setdefault(votes, Counter()).update({key: cell[key] for key in ("examples", "right", "made", "said")})
    return {votes: with_fractions(cell) for votes, cell in sorted(sums.items())}


def votes_table(cells: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown: one row for each number of votes."""
    return ["| votes of the winner | examples | precision of values | recall |", "|---|---|---|---|",
            *(f"| {votes} | {cell['examples']} | {percent(cell['precision'])} | {percent(cell['recall'])} |"
              for votes, cell in cells.items())]


def percent(fraction: float | None) -> str:
    """A fraction in %, empty where there is none."""
    return "" if fraction is None else f"{100 * fraction:.1f}"


def with_fractions(sums: Counter) -> dict[str, Any]:
    """The sums, and precision and recall of the values in them."""
    return {**sums, **{name: sums["right"] / sums[whole] if sums[whole] else None
                       for name, whole in (("precision", "made"), ("recall", "said"))}}
