"""The leaderboard's numbers: counts and accuracies by category, and the paper's aggregates (Table 1).

The irrelevance files, where present, are scored apart: there the right answer is no call.
"""

from collections import Counter
from collections.abc import Collection, Mapping

from eval.bfcl.entries import CATEGORIES, IRRELEVANCE, LIVE, NON_LIVE, SIMPLE
from eval.uncertainty import percent, proportion, weighted_interval


def summarise(sizes: Mapping[str, int], verdicts: Collection[Mapping]) -> dict:
    """Counts, accuracies (percent, 95 % intervals), the paper's aggregates; entries without an answer count as wrong.

    Args:
        sizes: category -> number of its entries, in file order.
        verdicts: the first of each entry.
    """
    counts = {category: Counter() for category in sizes}
    for verdict in verdicts:
        counts[verdict["category"]][verdict["outcome"]] += 1
    table = {name: _category_line(sizes[name], counts[name]) for name in (*CATEGORIES, *IRRELEVANCE) if name in sizes}
    right = {name: counts[name]["right"] for name in sizes}
    judged = [v for v in verdicts if v["category"] in CATEGORIES]
    return {
        "complete": all(sizes.get(name) for name in CATEGORIES),
        "counts": {outcome: sum(counts[c][outcome] for c in sizes if c in CATEGORIES)
                   for outcome in ("right", "wrong", "undecodable")}
        | {"missing": sum(table[c]["missing"] for c in table if c in CATEGORIES)},
        "scores": {name: percent(weighted_interval([(w, proportion(right[c], sizes[c])) for c, w in weights.items()]))
                   for name, weights in aggregate_weights(sizes).items()},
        "categories": table,
        "irrelevance": _irrelevance(sizes, counts),
        "wrote_tools_instead": sum(v.get("reason") == "wrote_tools_instead" for v in verdicts),
        "error_types": dict(sorted(Counter(v["error_type"] for v in judged if v["error_type"]).items())),
        "undecodable_reasons": dict(sorted(Counter(v["reason"] for v in judged if "reason" in v).items())),
    }


def aggregate_weights(sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """For every aggregate whose categories are all there: the weight of each category's accuracy in it."""
    lines = {"non_live_simple": {c: 1 / 3 for c in SIMPLE}}
    for name in NON_LIVE[3:]:
        lines[f"non_live_{name}"] = {name: 1.0}
    lines["non_live"] = {c: (1 / 12 if c in SIMPLE else 1 / 4) for c in NON_LIVE}
    lines |= {name: {name: 1.0} for name in LIVE}
    live_total = sum(sizes.get(c, 0) for c in LIVE)
    lines["live"] = {c: sizes.get(c, 0) / live_total for c in LIVE} if live_total else dict.fromkeys(LIVE, 0.0)
    lines["overall"] = {c: w / 2 for part in ("non_live", "live") for c, w in lines[part].items()}
    return {name: weights for name, weights in lines.items() if all(sizes.get(c) for c in weights)}


def _category_line(size: int, counts: Counter) -> dict:
    answered = counts["right"] + counts["wrong"] + counts["undecodable"]
    return {"n": size, "right": counts["right"], "wrong": counts["wrong"], "undecodable": counts["undecodable"],
            "missing": size - answered, "accuracy": percent(proportion(counts["right"], size)),
            "accuracy_of_answered": percent(proportion(counts["right"], answered))}


def _irrelevance(sizes: Mapping[str, int], counts: Mapping[str, Counter]) -> dict | None:
    """Share of calls made where no function fits; None without such data."""
    names = [name for name in IRRELEVANCE if name in sizes]
    answered = sum(counts[name]["right"] + counts[name]["wrong"] for name in names)
    called = sum(counts[name]["wrong"] for name in names)
    return {"n": answered, "called": called, "call_rate": percent(proportion(called, answered))} if names else None
