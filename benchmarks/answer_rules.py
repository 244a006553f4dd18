"""Which answers of a round would be accepted under other rules, and how right they are, where the truth is known.

    python tooldev.py demo --out runs/demo
    python benchmarks/answer_rules.py runs/demo [--labelled examples.jsonl]

Nothing is sampled again: the five answers to each query are those that the round kept in calls.jsonl. Each rule settles
them anew (`evolution.decide.settle`), and the values of what it accepts are held against what the query asks for. A
second table says of how many queries a right answer was drawn at all, by the number of values that they ask for. With
labelled examples, whose answers are right, it also counts which of them `--grounded` would throw out, and why.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.machine import describe
from data.parse import Reason, parse_tools
from data.schema import Example, Query, Tool, load_examples, read_jsonl
from data.world import value_match, wholly_right
from eval.uncertainty import wilson_interval
from evolution.config import Voting
from evolution.decide import read_answer, settle
from evolution.grounding import ungrounded


@dataclass(frozen=True)
class Rule:
    """A way to choose among answers: what the vote needs, and what else of an accepted one."""

    name: str
    voting: Voting
    also: Callable[[Example], bool] = lambda example: True


@dataclass(frozen=True)
class Voted:
    """One query of a round as it came to the vote, and the calls that it asks for."""

    query: Query
    candidates: tuple[Tool, ...]
    distractors: tuple[str, ...]
    record: dict[str, Any]
    truth: list[dict]


def votes(least: int, *, rules: bool = True, grounded: bool = False) -> Voting:
    """What an answer needs: so many of five votes, the rule checker, its values held against the query."""
    return Voting(least, True, rules, grounded)


def margin(least: int) -> Callable[[Example], bool]:
    """Whether the winner is so many votes before the next answer."""
    return lambda example: example.provenance["margin"] >= least


BY_VALUES = votes(3, grounded=True)                         # the rule of the second table
MOST_VALUES = 5                                             # its last row: so many and more
RULES = (
    Rule("most votes, no rule checker", votes(1, rules=False)),
    Rule("most votes (the paper's)", votes(1)),
    *(Rule(f"{least} votes", votes(least)) for least in (2, 3, 4, 5)),
    Rule("3 votes, 3 more than the next answer", votes(3), margin(3)),
    Rule("most votes, values of the query", votes(1, grounded=True)),
    *(Rule(f"{least} votes, values of the query", votes(least, grounded=True)) for least in (2, 3, 4, 5)),
)


def rounds_of(run: Path) -> Iterator[Voted]:
    """Every query of a run's rounds that came to a vote."""
    truth = {row["id"]: row["calls"] for _, row in read_jsonl(run / "data" / "truth.jsonl")}
    for file in sorted(run.glob("round-*/calls.jsonl")):
        own = own_tools(file.parent / "tools.jsonl")
        for _, line in read_jsonl(file):
            candidates = tuple(Tool.from_dict(tool) for tool in line["candidates"])
            others = tuple(tool.name for tool in candidates if tool.name not in own[line["id"]])
            yield Voted(Query(line["id"], line["query"]), candidates, others, line, truth[line["id"]])


def own_tools(path: Path) -> dict[str, set[str]]:
    """The names of the tools made for each query, of the try that passed the rule checker."""
    names = {}
    for _, line in read_jsonl(path):
        found = None if line["reason"] else parse_tools(line["text"])
        if found is not None and not isinstance(found, Reason):
            names[line["id"]] = {tool["name"] for tool in found}
    return names


def row(rule: Rule, voted: Sequence[Voted]) -> list[str]:
    """The cells of one rule: accepted, values right and said, answers that are wholly right."""
    sums: Counter = Counter()
    for one in voted:
        example = settle(one.query, one.candidates, one.record, rule.voting, one.distractors).example
        if example is None or not rule.also(example):
            continue
        right, made, said = value_match(example.calls, one.truth)
        sums.update(accepted=1, right=right, made=made, said=said, whole=wholly_right(example.calls, one.truth))
    low, high = wilson_interval(sums["whole"], sums["accepted"])
    return [rule.name, str(sums["accepted"]), part(sums["right"], sums["made"]), part(sums["right"], sums["said"]),
            f"{part(sums['whole'], sums['accepted'])} [{100 * low:.1f}, {100 * high:.1f}]", str(sums["whole"])]


def reach(voted: Sequence[Voted]) -> list[str]:
    """Lines of a table: queries by the values that they ask for; how many drew a right answer, and were accepted."""
    counts: dict[int, Counter] = {}
    for one in voted:
        asked = min(MOST_VALUES, value_match((), one.truth)[2])
        drawn = [read_answer(sample["text"], sample["finish_reason"]) for sample in one.record["samples"]]
        example = settle(one.query, one.candidates, one.record, BY_VALUES, one.distractors).example
        counts.setdefault(asked, Counter()).update(
            queries=1, drawn=any(not isinstance(calls, Reason) and wholly_right(calls, one.truth) for calls in drawn),
            accepted=example is not None, right=example is not None and wholly_right(example.calls, one.truth))
    lines = ["| values asked for | queries | a right answer among the samples | accepted | of these wholly right |",
             "|---|---|---|---|---|"]
    for asked in sorted(counts):
        found = counts[asked]
        name = f"{asked} or more" if asked == MOST_VALUES else str(asked)
        lines.append(f"| {name} | {found['queries']} | {found['drawn']} ({part(found['drawn'], found['queries'])}%) | "
                     f"{found['accepted']} | {found['right']} |")
    return lines


def thrown_out(examples: Sequence[Example]) -> str:
    """Which right answers `--grounded` would throw out, in a sentence."""
    calling = [example for example in examples if example.calls]
    found = [ungrounded(example.query, example.calls, example.tools) for example in calling]
    reasons = Counter(reason.code for reason in found if reason)
    counted = ", ".join(f"{code} {count}" for code, count in reasons.most_common())
    passed = len(calling) - reasons.total()
    return (f"Of {len(calling)} labelled answers that call, {passed} ({part(passed, len(calling))}%) pass "
            f"`--grounded`; the others: {counted or 'none'}.")


def part(count: int, total: int) -> str:
    """A share in %."""
    return f"{100 * count / total:.1f}" if total else "-"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="runs on the generated world, such as the demo's folder")
    parser.add_argument("--labelled", type=Path, help="labelled examples, whose answers are right")
    args = parser.parse_args()
    voted = [one for run in args.runs for one in rounds_of(run)]
    print(describe())
    print(f"{len(voted)} queries that came to a vote. Values right: of those in accepted answers. Values said: of\n"
          "those that the queries ask for. Wholly right: every value of the query and no other, with 95% intervals\n"
          "over answers.\n")
    print("| rule | accepted | values right, % | values said, % | wholly right, % of accepted | wholly right |")
    print("|---|---|---|---|---|---|")
    for rule in RULES:
        print("| " + " | ".join(row(rule, voted)) + " |")
    print("\nThree votes, values of the query:\n")
    print("\n".join(reach(voted)))
    if args.labelled:
        print("\n" + thrown_out(load_examples(args.labelled)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
