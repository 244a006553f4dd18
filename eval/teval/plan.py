"""T-Eval's plan score: link similar steps, match them, and count the longest run in the right order.

The released evaluator compares texts with a sentence encoder that is not among our requirements; similarity is a
function here (`SIMILARITIES`, or your own), and every score says which one made it.
"""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

Similarity = Callable[[str, str], float]
NAME_WEIGHT, ARGS_WEIGHT = 0.75, 0.25
THRESHOLDS = {"v1": 0.7, "v2": 0.8}
MAX_CHARS = 1_000_000
MAX_STEPS = 5_000
FINISH = "FinishAction"
_WORD = re.compile(r"[a-z0-9]+")
ZERO = {"precision": 0.0, "recall": 0.0, "f1_score": 0.0}


def exact(a: str, b: str) -> float:
    """1 for identical texts, else 0: fall-back (a), practically a lower bound."""
    return float(a == b)


def words(text: str) -> Counter:
    """Counts of lower-cased runs of ASCII letters and digits."""
    return Counter(_WORD.findall(text.lower()))


def cosine(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Cosine of two sparse vectors; 0 if one is empty."""
    if not a or not b:
        return 0.0
    if len(b) < len(a):
        a, b = b, a
    dot = sum(value * b.get(key, 0) for key, value in a.items())
    return dot / math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))


@lru_cache(maxsize=100_000)
def bag_of_words(a: str, b: str) -> float:
    """1 for identical texts, else the cosine of the counts of lower-cased words."""
    return 1.0 if a == b else cosine(words(a), words(b))


SIMILARITIES: dict[str, Similarity] = {"exact": exact, "bow": bag_of_words}


def read_steps(value: Any) -> list[dict]:
    """Steps of a JSON plan: name and args as text, id as integer; one bad item voids the whole plan."""
    steps = []
    if type(value) is not list or len(value) > MAX_STEPS:
        return []
    for item in value:
        try:
            steps.append({"name": str(item["name"]), "id": int(item["id"]), "args": str(item["args"])})
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError):
            return []
    return steps


def read_lines(text: str, names: Sequence[str]) -> list[dict]:
    """Steps of a text plan: in each line the function that occurs first, with the whole line as its arguments."""
    steps: list[dict] = []
    for line in text.replace(". ", "\n").split("\n"):
        places = [(position, i) for i, name in enumerate(names) if (position := line.find(name)) >= 0]
        if places:
            steps.append({"name": names[min(places)[1]], "id": len(steps), "args": line})
            if len(steps) > MAX_STEPS:
                return []
    return steps


def plan_score(reply: Sequence[Mapping], truth: Sequence[Mapping], *, similarity: Similarity | None = exact,
               threshold: float = 0.8) -> dict[str, float]:
    """Precision, recall and F1 of one plan.

    Args:
        reply, truth: steps {name, id, args}, args as text.
        similarity: of two texts, 0..1; None links steps of equal name whatever their arguments (fall-back b).
        threshold: a link needs a similarity strictly above it.
    """
    reply, truth = _ordered(reply), _ordered(truth)
    if not reply or not truth:
        return dict(ZERO)
    matched = _match([[_link(step, other, similarity, threshold) for other in truth] for step in reply])
    count = max(1, _longest_increasing([j for j in matched if j is not None]))
    precision, recall = count / len(reply), count / len(truth)
    return {"precision": precision, "recall": recall, "f1_score": 2 * precision * recall / (precision + recall)}


def _ordered(steps: Sequence[Mapping]) -> list[Mapping]:
    steps = sorted(steps, key=lambda step: step["id"])
    return steps[:-1] if steps and steps[-1]["name"] == FINISH else steps


def _link(step: Mapping, other: Mapping, similarity: Similarity | None, threshold: float) -> float:
    """Weight of the link between two steps, 0 for none."""
    if similarity is None:
        return float(step["name"] == other["name"])
    value = (NAME_WEIGHT * max(0.0, similarity(step["name"], other["name"]))
             + ARGS_WEIGHT * max(0.0, similarity(step["args"], other["args"])))
    return value if value > threshold else 0.0


def _match(weights: Sequence[Sequence[float]]) -> list[int | None]:
    """Maximum-weight matching: for each row its column, None for unmatched; a weight of 0 is no link.

    Hungarian method by shortest augmenting paths (Kuhn 1955), columns assigned one after the other, each with a spare
    row of weight 0 so that staying unmatched is possible.
    """
    rows, columns = len(weights), len(weights[0])
    infinite = float("inf")
    potential_c, potential_r = [0.0] * (columns + 1), [0.0] * (rows + columns + 1)
    column_of = [0] * (rows + columns + 1)                # 1-based; 0 is free
    for c in range(1, columns + 1):
        column_of[0], row = c, 0
        size = rows + columns + 1
        slack, came_from, done = [infinite] * size, [0] * size, [False] * size
        while True:
            done[row] = True
            current, delta, following = column_of[row], infinite, 0
            for r in range(1, rows + columns + 1):
                if done[r]:
                    continue
                cost = (-weights[r - 1][current - 1] if r <= rows else 0.0) - potential_c[current] - potential_r[r]
                if cost < slack[r]:
                    slack[r], came_from[r] = cost, row
                if slack[r] < delta:
                    delta, following = slack[r], r
            for r in range(rows + columns + 1):
                if done[r]:
                    potential_c[column_of[r]] += delta
                    potential_r[r] -= delta
                else:
                    slack[r] -= delta
            row = following
            if column_of[row] == 0:
                break
        while row:
            column_of[row], row = column_of[came_from[row]], came_from[row]
    return [column_of[r] - 1 if column_of[r] and weights[r - 1][column_of[r] - 1] > 0 else None
            for r in range(1, rows + 1)]


def _longest_increasing(values: Sequence[int]) -> int:
    """Length of the longest strictly increasing subsequence (patience sorting)."""
    tails: list[int] = []
    for value in values:
        place = bisect_left(tails, value)
        tails[place:place + 1] = [value]
    return len(tails)
