"""One record for every query of every round and every test item: the index and the details of the report's explorer.

An entry is (row, detail). The row is short and stands in the page's index, the detail is what opening it shows. Long
texts are cut as they are read, so that a round of megabytes is never held at once; a cut one is [beginning, length].
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data.canonical import canonical_answer
from data.parse import Reason, parse_calls
from data.schema import Example, Tool, ToolCall, dump_json, load_examples, read_jsonl
from eval.exact import verdicts_of

Text = str | list               # whole, or [its beginning, how many characters it has]
Entry = tuple[list, dict[str, Any]]
LONG = 4_000                    # characters of one text in a detail
SHORT = 240                     # of a query in the index
ROUND_FILES = ("tools.jsonl", "calls.jsonl", "accepted.jsonl", "rejected.jsonl")
MOST_SOURCES = 30               # kinds of id beyond which they are no sources


def cut(text: str, most: int = LONG) -> Text:
    return text if len(text) <= most else [text[:most], len(text)]


def source_of(name: str) -> str:
    """An id without its number, as "query-0" of "query-0-00017": where the query comes from."""
    return name.rstrip("0123456789").rstrip("-_./:# ") or "numbered"


# -------------------------------------------------------------------------------------------- the queries of the rounds

def query_entries(folder: Path, number: int) -> Iterator[Entry]:
    """The queries of one complete round by id; rows are [round, id, query, stage, reason, votes, source].

    Stage and reason are "" for an accepted one; votes are -1 where none were cast.
    """
    tries, calls = read_tries(folder / "tools.jsonl"), read_calls(folder / "calls.jsonl")
    accepted = {row["id"]: {"calls": cut(dump_json(row["calls"])), "provenance": row.get("provenance") or {}}
                for _, row in read_jsonl(folder / "accepted.jsonl")}
    losses, truth = read_losses(folder / "losses.jsonl"), read_truth(folder.parent / "data" / "truth.jsonl")
    ends = [(name, "", "", accepted[name]) for name in accepted]
    ends += [(row["id"], row["stage"], row["reason"], {"detail": cut(row["detail"]), "text": cut(row["text"])})
             for _, row in read_jsonl(folder / "rejected.jsonl")]
    sources = {source_of(name) for name, *_ in ends}
    for name, stage, reason, end in sorted(ends, key=lambda end: (end[0], end[2])):
        early = stage == "query"                        # no model saw it; another query may have its id
        query, record = ("", None) if early else (tries.get(name, [("", None)])[0][0], calls.get(name))
        votes = record["vote"]["votes"] if record else -1
        source = source_of(name) if len(sources) <= MOST_SOURCES else ""
        detail = {"tries": [one for _, one in tries.get(name, ())] if not early else [], "calls": record, "end": end,
                  "losses": losses.get(name, {}) if not stage else {}, "asked": None if early else truth.get(name)}
        query = query or end.get("text", "")
        shown = query if isinstance(query, str) else query[0]
        yield [number, name, shown[:SHORT], stage, reason, votes, source], {"query": query, **detail}


def read_tries(path: Path) -> dict[str, list[tuple[Text, dict]]]:
    """Query and every try at its tools, by id."""
    found: dict[str, list[tuple[Text, dict]]] = {}
    for _, row in read_jsonl(path):
        kept = {key: row.get(key) for key in ("tokens", "logprob", "reason")}
        texts = {"text": cut(row["text"]), "detail": cut(row.get("detail") or "")}
        found.setdefault(row["id"], []).append((cut(row["query"]), kept | texts))
    return found


def read_calls(path: Path) -> dict[str, dict[str, Any]]:
    """The candidate tools, the samples grouped by answer, and the vote, by id."""
    found = {}
    for _, row in read_jsonl(path):
        tools = [Tool.from_dict(tool) for tool in row["candidates"]]
        vote = {key: row.get(key) for key in ("index", "votes", "num_samples", "margin", "tie", "decided_early")}
        found[row["id"]] = {"tools": [cut(dump_json(tool.to_dict())) for tool in tools], "vote": vote,
                            "answers": answers_of(row["samples"], tools)}
    return found


def answers_of(samples: Sequence[dict], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The different answers, most votes first: text, its samples, their log-probabilities, why they do not vote."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for index, sample in enumerate(samples):
        calls = parse_calls(sample["text"]) if not sample["reason"] else None
        same = canonical_answer(calls, tools) if isinstance(calls, list) else sample["text"]
        group = groups.setdefault((sample["reason"] or "", same), {
            "text": cut(sample["text"]), "samples": [], "logprobs": [], "reason": sample["reason"] or ""})
        group["samples"].append(index)
        group["logprobs"].append(sample["logprob"])
    return sorted(groups.values(), key=lambda group: (group["reason"] != "", -len(group["samples"])))


def read_losses(path: Path) -> dict[str, dict[str, list]]:
    """id -> objective -> [loss before the round, after it, supervised tokens], as far as they were measured."""
    found: dict[str, dict[str, list]] = {}
    for _, row in read_jsonl(path) if path.is_file() else ():
        found.setdefault(row["id"], {})[row["objective"]] = [row["before"], row["after"], row["supervised"]]
    return found


def read_truth(path: Path) -> dict[str, Text]:
    """What each query really asks for, where the world that made it says so."""
    return {row["id"]: cut(dump_json(row["calls"])) for _, row in read_jsonl(path)} if path.is_file() else {}


# ------------------------------------------------------------------------------------------------------- the test items

def test_entries(run: Path, steps: Sequence[str]) -> Iterator[Entry]:
    """The test items in order; rows are [id, query, part, category, [error type after each step]]."""
    path = run / "data" / "test.jsonl"
    if not (steps and path.is_file()):
        return
    verdicts = {step: {row["id"]: row for row in verdicts_of(run / step / "eval")} for step in steps}
    answers = {step: {row["id"]: row for _, row in read_jsonl(run / step / "eval" / "answers.jsonl")} for step in steps}
    for item in load_examples(path):
        if not all(item.id in verdicts[step] and item.id in answers[step] for step in steps):
            continue
        texts = [answers[step][item.id]["text"] for step in steps]
        first = verdicts[steps[0]][item.id]
        kinds = [error_type(item, verdicts[step][item.id], text) for step, text in zip(steps, texts, strict=True)]
        yield ([item.id, item.query[:SHORT], first["set"], first["category"], kinds],
               {"query": cut(item.query), "tools": [cut(dump_json(tool.to_dict())) for tool in item.tools],
                "expected": cut(dump_json([call.to_dict() for call in item.calls])),
                "answers": [[cut(text), answers[step][item.id].get("logprob")]
                            for step, text in zip(steps, texts, strict=True)]})


def error_type(item: Example, verdict: dict, text: str) -> str:
    """"right", why nothing could be read, or in what the calls differ from the right ones."""
    if verdict["outcome"] != "wrong":
        return verdict["reason"] or verdict["outcome"]
    calls = parse_calls(text)
    return "wrong" if isinstance(calls, Reason) else difference(item.calls, calls)


def difference(right: Sequence[ToolCall], calls: Sequence[ToolCall]) -> str:
    """The first thing, from coarse to fine, in which calls that are not right differ from the right ones."""
    if not (right and calls):
        return "no_call" if right else "called_where_no_tool_fits"
    if len(right) != len(calls):
        return "wrong_number_of_calls"
    if Counter(call.name for call in right) != Counter(call.name for call in calls):
        return "wrong_tool"
    wanted, given = (Counter((call.name, name) for call in side for name in call.arguments) for side in (right, calls))
    if wanted - given:
        return "missing_argument"
    return "argument_too_many" if given - wanted else "wrong_value"
