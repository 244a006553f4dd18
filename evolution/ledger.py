"""What a round is measured by: the funnel, the votes, instruments that see a collapse coming, and the rule that stops.

`count_data` puts together what is counted in the round's data, `Evolved`; `summary` says the main numbers. All are pure
functions over records; no torch.
"""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.contamination import folded, ngrams, tool_signature
from data.files import write_jsonl
from data.schema import Example
from data.tasks import made_tools
from evolution.config import leaves_out

Judge = Callable[[Example], dict[str, int] | None]
STAGES = ("query", "tools", "vote", "calls")        # in this order a query passes them
DIVERSITY_FLOOR = 0.5                               # of the first round's distinct tool names per tool
NO_CALL_CEILING = 0.5                               # of the accepted answers


@dataclass(frozen=True)
class Evolved:
    """What became of a round's queries: the lines of its files."""

    tools: list[dict[str, Any]] = field(default_factory=list)           # every try, with the rule checker's verdict
    calls: list[dict[str, Any]] = field(default_factory=list)           # every sample, with the vote
    accepted: list[Example] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    overlaps: list[dict[str, str]] = field(default_factory=list)        # what repeats the benchmark

    def write(self, folder: Path) -> None:
        """tools.jsonl, calls.jsonl, accepted.jsonl, rejected.jsonl and overlaps.jsonl."""
        for spec in dataclasses.fields(self):
            write_jsonl(folder / f"{spec.name}.jsonl", getattr(self, spec.name))


def count_data(data: Evolved, asked: int, samples: int, earlier: Sequence[Example],
               judge: Judge | None) -> dict[str, Any]:
    """Everything counted in what the model wrote: the same for every restart and order of the queries.

    Args:
        asked: queries of the round; each ended accepted or rejected.
        samples: samples of the calls that a query was to get.
        earlier: what the rounds before accepted.
        judge: see evolve.run_round.
    """
    accepted, rejected = data.accepted, data.rejected
    codes = [sample["reason"] for line in data.calls for sample in line["samples"] if sample["reason"]]
    ids = {example.id for example in accepted}
    num_queries = len(accepted) + len(rejected)
    assert num_queries == asked, f"{num_queries} settled, {asked} asked"
    verdicts = [(e.provenance["votes"], judge(e)) for e in accepted] if judge else []
    return {
        "queries": {"in": num_queries, "accepted": len(accepted), "rejected": len(rejected)},
        "stages": funnel(num_queries, rejected),
        "attempts": _attempts(data.tools),
        "votes": vote_table(data.calls, ids, "votes"),
        "margins": vote_table(data.calls, ids, "margin"),
        "ties": counts(line["tie"] for line in data.calls),
        "samples": {"asked": samples * len(data.calls),
                    "drawn": sum(len(line["samples"]) for line in data.calls), "unparsed": counts(codes),
                    "decided_early": sum(line["decided_early"] for line in data.calls)},
        "wrote_tools_instead": codes.count("wrote_tools_instead"),
        "tokens_written": sum(line["tokens"] for line in data.tools)
        + sum(sample["tokens"] for line in data.calls for sample in line["samples"]),
        "diversity": diversity(accepted),
        "similarity": similarity(accepted, earlier),
        "contamination": counts(f"{row['in']}: {row['reason']}" for row in data.overlaps),
        "judged": judged_by_votes([(votes, found) for votes, found in verdicts if found is not None]),
    }


def _attempts(lines: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for line in lines:
        cell = table.setdefault(str(line["attempt"]), {"tried": 0, "passed": 0})
        cell["tried"] += 1
        cell["passed"] += line["reason"] is None
    return table


def counts(names: Iterable[str]) -> dict[str, int]:
    """How often each name comes, by name."""
    return dict(sorted(Counter(names).items()))


def funnel(num_queries: int, rejected: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per stage: how many queries came in, how many passed, and the others by reason."""
    stages, coming = {}, num_queries
    for stage in STAGES:
        reasons = Counter(line["reason"] for line in rejected if line["stage"] == stage)
        passed = coming - reasons.total()
        stages[stage] = {"in": coming, "passed": passed, "rejected": dict(sorted(reasons.items()))}
        coming = passed
    return stages


def vote_table(records: Sequence[dict[str, Any]], accepted_ids: set[str], key: str) -> dict[str, dict[str, int]]:
    """Voted and accepted queries by votes or by margin; a vote that was decided early has no margin."""
    table: dict[str, dict[str, int]] = {}
    for record in records:
        early = key == "margin" and record["decided_early"]
        cell = table.setdefault("early" if early else str(record[key]), {"voted": 0, "accepted": 0})
        cell["voted"] += 1
        cell["accepted"] += record["id"] in accepted_ids
    return dict(sorted(table.items()))


def entropy(counts: Iterable[int]) -> float:
    """Entropy in bits of a distribution given by counts."""
    counts = [count for count in counts if count]
    total = sum(counts)
    return max(0.0, -sum(count / total * math.log2(count / total) for count in counts)) if total else 0.0


def diversity(examples: Sequence[Example]) -> dict[str, Any]:
    """How various the accepted examples are: distinct names over all, entropies in bits, calls per answer."""
    tools = [tool for example in examples for tool in made_tools(example)]
    names = Counter(tool.name for tool in tools)
    arguments = Counter(name for tool in tools for name in tool.parameters.get("properties", {}))
    called = Counter(call.name for example in examples for call in example.calls)
    trigrams = Counter(gram for tool in tools for gram in ngrams(tool.description, 3))
    calls = [len(example.calls) for example in examples]
    return {
        "tools": len(tools), "tools_per_query": _part_of(len(tools), len(examples)),
        "arguments_per_tool": _part_of(arguments.total(), len(tools)),
        "distinct_tool_names": len(names), "distinct_tool_name_share": _part_of(len(names), len(tools)),
        "distinct_argument_names": len(arguments),
        "distinct_descriptions": len({tool.description for tool in tools}),
        "tool_name_entropy": round(entropy(names.values()), 4),
        "argument_name_entropy": round(entropy(arguments.values()), 4),
        "called_tool_entropy": round(entropy(called.values()), 4),
        "distinct_trigram_share": _part_of(len(trigrams), trigrams.total()),
        "calls_per_answer": _part_of(sum(calls), len(calls)),
        "calls_per_answer_counts": {str(n): count for n, count in sorted(Counter(calls).items())},
        "no_call_share": _part_of(calls.count(0), len(calls)),
    }


def similarity(examples: Sequence[Example], earlier: Sequence[Example]) -> dict[str, float | None]:
    """Share of this round's tools, by name and by signature, and of its queries that earlier rounds had."""
    if not earlier:
        return {"tool_names_seen": None, "tool_signatures_seen": None, "queries_seen": None}
    def seen(here: list[str], before: set[str]) -> float:
        return _part_of(sum(item in before for item in here), len(here))
    now, then = ([tool for example in part for tool in made_tools(example)] for part in (examples, earlier))
    return {"tool_names_seen": seen([tool.name for tool in now], {tool.name for tool in then}),
            "tool_signatures_seen": seen([tool_signature(tool) for tool in now], {tool_signature(t) for t in then}),
            "queries_seen": seen([folded(e.query) for e in examples], {folded(e.query) for e in earlier})}


def judged_by_votes(verdicts: Sequence[tuple[int, dict[str, int]]]) -> dict[str, dict[str, float | int]]:
    """Precision and recall of the values of accepted answers, by votes.

    Args:
        verdicts: (votes, {"made", "said", "right"}) per accepted example: values in the calls, values that the query
            really named, and values that are both.
    """
    sums: dict[str, Counter] = defaultdict(Counter)
    for votes, verdict in verdicts:
        sums[str(votes)].update(examples=1, **verdict)
    return {votes: {**cell, "precision": _part_of(cell["right"], cell["made"]),
                    "recall": _part_of(cell["right"], cell["said"])} for votes, cell in sorted(sums.items())}


def _part_of(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def stop_reason(ledgers: Sequence[dict[str, Any]]) -> str | None:
    """Why no further round should follow the ones of these ledgers (in order), or None.

    It stops when validation fell in the last two rounds (what round 1 started from counts, too), when the distinct
    tool names per tool are under DIVERSITY_FLOOR of the first round's, when answers of no call are more than
    NO_CALL_CEILING of the accepted ones, or when nothing was accepted.
    """
    if not ledgers:
        return None
    last, first = ledgers[-1], ledgers[0]
    if last["queries"]["accepted"] == 0 and not leaves_out(last.get("control", "none"), "data"):
        return f"round {last['round']} accepted nothing"
    scores = [first.get("validation_before"), *(ledger.get("validation") for ledger in ledgers)][-3:]
    if len(scores) == 3 and None not in scores and scores[0] > scores[1] > scores[2]:
        return f"validation fell twice: {scores[0]:.4f} -> {scores[1]:.4f} -> {scores[2]:.4f}"
    before, now = (ledger["diversity"]["distinct_tool_name_share"] for ledger in (first, last))
    if before and now < DIVERSITY_FLOOR * before:
        return (f"distinct tool names per tool fell from {before:.3f} to {now:.3f}, "
                f"under {DIVERSITY_FLOOR:.0%} of round 1")
    no_call = last["diversity"]["no_call_share"]
    if no_call > NO_CALL_CEILING:
        return f"{no_call:.0%} of round {last['round']}'s accepted answers call nothing (ceiling {NO_CALL_CEILING:.0%})"
    return None


def summary(ledger: dict[str, Any]) -> str:
    """One paragraph for the console."""
    queries, stages = ledger["queries"], ledger["stages"]
    lines = [f"round {ledger['round']}: {queries['in']} queries = {queries['accepted']} accepted + "
             f"{queries['rejected']} rejected"]
    for stage, cell in stages.items():
        most_first = sorted(cell["rejected"].items(), key=lambda item: -item[1])
        reasons = ", ".join(f"{code} {count}" for code, count in most_first)
        lines.append(f"  {stage:6} {cell['in']:6} in, {cell['passed']:6} passed" + (f" | {reasons}" if reasons else ""))
    samples = ledger["samples"]
    if samples["decided_early"]:
        lines.append(f"  {samples['decided_early']} votes were decided early: {samples['drawn']} samples of "
                     f"{samples['asked']} counted, {1 - samples['drawn'] / samples['asked']:.0%} saved")
    if ledger.get("stop"):
        lines.append(f"  stop: {ledger['stop']}")
    return "\n".join(lines)
