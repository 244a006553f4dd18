"""Seal-Tools (Wu et al. 2024, arXiv 2405.08355) as a benchmark that `eval` and `score` drive.

A query names no candidates: they are found in the pool of all tools (`--retrieve K`), or given. Calls are judged as its
own evaluation does: by the tools called, and by their arguments, whose values are compared as text; a call is held
against the first right call of the same tool.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.formats.items import Context
from data.formats.sealtools import read
from data.formats.spelled import offered
from data.formats.tooldocs import read_tool
from data.parse import Reason, parse_calls
from data.prompts import Message, invocation_messages
from data.retrieval import ToolIndex
from data.schema import JsonError, Tool, ToolCall, dump_json, json_fault, read_jsonl, strict_json_loads
from eval.answers import Answer, NotCalls, literal, printable, saved_answer, wrote_tools
from eval.lenient import STRICT, lenient_calls
from eval.uncertainty import percent, proportion

SIZES = {"dev": 700, "test_in_domain": 700, "test_out_domain": 654}
FIELDS = ("text", "result")
COUNTS = ("tools_right", "tools_called", "tools_needed", "arguments_right", "arguments_given", "arguments_needed")
DRAWS = 2000                        # of the bootstrap over entries
ANSWERS = """\
"id"; with one of these
  text: what a model wrote, with <tool_call> blocks
    {"id": "dev-easy-3", "text": "<tool_call>\\n{\\"name\\": \\"getTide\\", \\"arguments\\": {}}\\n</tool_call>"}
     or Seal-Tools' own list of calls, as JSON or as Python writes it
    {"id": "dev-easy-3", "text": "[{'api': 'getTide', 'parameters': {'place': 'Ulm'}}]"}
  result: text, that list, or calls as a service returned them
    {"id": "dev-easy-3", "result": [{"name": "getTide", "arguments": {"place": "Ulm"}}]}
and with "offered", the names of the tools that were offered, where the summary is to say whether all were there"""


@dataclass(frozen=True)
class Settings:
    """Which tools a query is offered: the K best of the pool, those needed (gold), or those among K (gold+K); None
    where answers are scored that others made: not known."""

    retrieve: str | None = None
    reading: str = STRICT

    def __post_init__(self) -> None:
        count = (self.retrieve or "gold").removeprefix("gold+")
        if count != "gold" and not (count.isascii() and count.isdigit() and 0 < int(count) < 10_000):
            raise ValueError(f"--retrieve {self.retrieve}: expected a number of tools, gold, or gold+ a number")


def add_arguments(parser: Any, *, prompts: bool) -> None:
    if prompts:
        parser.add_argument("--retrieve", default="gold", metavar="K|gold|gold+K",
                            help="offer the K tools of the pool that fit the query best; gold: those that it needs; "
                                 "gold+K: those, with random others up to K")


@dataclass(frozen=True)
class Entry:
    """A query and its right calls."""

    key: str
    group: str
    query: str
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class Benchmark:
    """The queries of all splits, and the pool."""

    folder: str
    entries: dict[str, Entry]
    tools: tuple[Tool, ...]
    settings: Settings = Settings()

    def only(self, keys: Sequence[str]) -> "Benchmark":
        return replace(self, entries={key: self.entries[key] for key in keys})

    @cached_property
    def index(self) -> ToolIndex:
        return ToolIndex(self.tools)

    def offered(self, entry: Entry) -> list[Tool]:
        """The candidate tools, best first; where they hold the needed ones by choice, shuffled by the entry's id."""
        how = self.settings.retrieve or "gold"
        if how.isdigit():
            return [found.tool for found in self.index.search(entry.query, int(how))]
        needed = {call.name for call in entry.calls}
        tools = [tool for tool in self.tools if tool.name in needed]
        rng = random.Random(entry.key)
        if how != "gold":
            others = [tool for tool in self.tools if tool.name not in needed]
            tools += rng.sample(others, max(0, min(len(others), int(how.removeprefix("gold+")) - len(tools))))
        rng.shuffle(tools)
        return tools

    def messages(self, entry: Entry) -> list[Message]:
        return invocation_messages(entry.query, self.offered(entry))

    def native(self, entry: Entry) -> tuple[list[Message], list[Tool]]:
        return [{"role": "user", "content": entry.query}], self.offered(entry)

    def expected(self, entry: Entry) -> str:
        return "\n".join(dump_json(call.to_dict()) for call in entry.calls)

    def answer_line(self, entry: Entry, text: str) -> dict[str, Any]:
        return {"id": entry.key, "text": text, "offered": [tool.name for tool in self.offered(entry)]}

    def find(self, answer: Answer) -> Entry | None:
        key = answer.record.get("id")
        return self.entries.get(key) if isinstance(key, str) else None

    def judge(self, entry: Entry, answer: Answer) -> dict[str, Any]:
        """Verdict line: valid (just the right calls), decoded (format), outcome (right, wrong, undecodable), the
        counts, and whether all were offered."""
        calls, reason = self._calls(answer)
        counts = count_calls(calls or [], entry.calls)
        valid = calls is not None and same_calls(calls, entry.calls)
        line = {"id": entry.key, "group": entry.group, "valid": valid, "decoded": calls is not None,
                "outcome": "right" if valid else "undecodable" if calls is None else "wrong", **counts}
        offered_names = answer.record.get("offered")
        if isinstance(offered_names, list):
            line["all_offered"] = {call.name for call in entry.calls} <= {str(name) for name in offered_names}
        return line | ({"reason": reason} if reason else {})

    def _calls(self, answer: Answer) -> tuple[list[ToolCall] | None, str | None]:
        """The calls of an answer, or None and why there are none to be read."""
        if answer.fault:
            return None, answer.fault
        value = answer.record.get("text")
        try:
            value = saved_calls(answer.record.get("result")) if value is None else value
        except NotCalls as error:
            return None, error.code
        if isinstance(value, list):
            return value, None
        if not isinstance(value, str):
            return None, "no_answer"
        found = parse_calls(value)
        if isinstance(found, Reason) and (own := own_calls(value)) is not None:
            return own, None
        if isinstance(found, Reason) and self.settings.reading != STRICT:
            found = lenient_calls(value, offered(self._of(answer))) or found
        return (None, found.code) if isinstance(found, Reason) else (found, None)

    def _of(self, answer: Answer) -> list[dict[str, Any]]:
        names = answer.record.get("offered")
        return [tool.to_dict() for tool in self.tools if isinstance(names, list) and tool.name in names]

    def unknown(self, answer: Answer) -> dict[str, Any]:
        return {"id": printable(answer.record.get("id")), "valid": False, "outcome": "unknown",
                "reason": "unknown_entry"}

    def summarise(self, first: Mapping[str, tuple[Answer, dict]]) -> dict[str, Any]:
        """Each split's scores in percent with 95% intervals; an entry without an answer called nothing."""
        sizes = Counter(entry.group for entry in self.entries.values())
        empty = {"valid": False, "decoded": False}
        lines: dict[str, list[dict[str, Any]]] = {group: [] for group in sizes}
        for entry in self.entries.values():
            judged = first[entry.key][1] if entry.key in first else {**empty, **count_calls([], entry.calls)}
            lines[entry.group].append(judged)
        groups = {group: split_scores(rows) for group, rows in lines.items()}
        how = {"retrieve": self.settings.retrieve} if self.settings.retrieve else {}
        return {"benchmark": "sealtools", "complete": dict(sizes) == SIZES, **how,
                "scores": {f"{group}_{name}": groups[group][name] for group in groups
                           for name in ("calls_right", "tools_f1", "arguments_f1")},
                "splits": groups, "wrote_tools_instead": sum(wrote_tools(answer) for answer, _ in first.values())}


def saved_calls(value: Any) -> str | list[ToolCall] | None:
    """The text or the calls under `result`, Seal-Tools' own list among them. Raises NotCalls."""
    own = own_calls(value)
    return saved_answer(value) if own is None else own


def own_calls(value: Any) -> list[ToolCall] | None:
    """Calls in Seal-Tools' own spelling, a list of {"api", "parameters"} or its text; None for anything else.

    As in its own evaluation, a call without parameters still counts as one of its tool.
    """
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return None
        try:
            value = strict_json_loads(value)
        except JsonError:
            try:
                value = literal(value.strip())
            except ValueError:
                return None
    calls = [value] if isinstance(value, dict) else value
    if json_fault(value) or not isinstance(calls, list):
        return None
    if not all(isinstance(call, dict) and isinstance(call.get("api"), str) for call in calls):
        return None
    given = [(call["api"], call.get("parameters")) for call in calls]
    return [ToolCall(name, arguments if isinstance(arguments, dict) else {}) for name, arguments in given]


def count_calls(calls: Sequence[ToolCall], right: Sequence[ToolCall]) -> dict[str, int]:
    """What Seal-Tools' own evaluation counts: tools and arguments, right, written and needed.

    A call of a tool that is called at all is right; its arguments are held against the first right call of that tool,
    values compared as text.
    """
    first: dict[str, ToolCall] = {}
    for call in right:
        first.setdefault(call.name, call)
    hits = [(call, first[call.name].arguments) for call in calls if call.name in first]
    return dict(zip(COUNTS, (
        len(hits), len(calls), len(right),
        sum(name in wanted and str(value) == str(wanted[name]) for call, wanted in hits
            for name, value in call.arguments.items()),
        sum(len(call.arguments) for call in calls), sum(len(call.arguments) for call in right)), strict=True))


def same_calls(calls: Sequence[ToolCall], right: Sequence[ToolCall]) -> bool:
    """Whether just the right calls were made, in any order; values compared as text."""
    def texts(some: Sequence[ToolCall]) -> list[tuple]:
        return sorted((call.name, sorted((name, str(value)) for name, value in call.arguments.items()))
                      for call in some)
    return texts(calls) == texts(right)


def split_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares of entries, and precision, recall and F1 over all calls of a split, in percent."""
    shares = {name: percent(proportion(sum(row[key] for row in rows), len(rows)))
              for name, key in (("calls_right", "valid"), ("format", "decoded"))}
    told = [row["all_offered"] for row in rows if "all_offered" in row]
    if told:
        shares["all_offered"] = percent(proportion(sum(told), len(told)))
    counts = np.array([[row[name] for name in COUNTS] for row in rows], float).reshape(-1, len(COUNTS))
    drawn = np.random.default_rng(0).multinomial(len(rows), [1 / len(rows)] * len(rows), size=DRAWS) @ counts
    for kind, at in (("tools", 0), ("arguments", 3)):
        value, draws = _ratios(counts.sum(0)[at:at + 3]), _ratios(drawn[:, at:at + 3].T)
        for name in ("precision", "recall", "f1"):
            low, high = np.quantile(draws[name], (0.025, 0.975))
            shares[f"{kind}_{name}"] = {key: round(100 * float(number), 2) for key, number in
                                        (("value", value[name]), ("low", low), ("high", high))}
    return {"entries": len(rows), **shares}


def _ratios(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 from right, written and needed; 0 where nothing was written."""
    right, written, needed = counts
    return {"precision": right / np.maximum(written, 1), "recall": right / np.maximum(needed, 1),
            "f1": 2 * right / np.maximum(written + needed, 1)}


def load(data: str | Path, settings: Settings = Settings()) -> Benchmark:
    """Load the folder that holds tool.jsonl, dev.jsonl, test_in_domain.jsonl and test_out_domain.jsonl.

    Raises:
        FileNotFoundError: tool.jsonl is missing, or every split is.
        ValueError: "PATH, line N: ..." for a broken line, an id that is there already, or a query that needs a
            tool which tool.jsonl lacks.
    """
    folder = Path(data)
    tools = load_pool(folder / "tool.jsonl")
    names, entries = {tool.name for tool in tools}, {}
    for group in SIZES:
        path = folder / f"{group}.jsonl"
        for number, row in read_jsonl(path) if path.is_file() else ():
            try:
                entry = read_entry(row, group)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: no query of Seal-Tools ({error!r}); expected id, query and "
                                 "calling") from None
            lost = sorted({call.name for call in entry.calls} - names)
            if lost:
                raise ValueError(f"{path}, line {number}: needs {lost}, which tool.jsonl lacks; take both from one "
                                 "release")
            if entry.key in entries:
                raise ValueError(f"{path}, line {number}: the id {entry.key!r} is there already; remove one of the "
                                 "two rows")
            entries[entry.key] = entry
    if not entries:
        raise FileNotFoundError(f"{folder}: no dev.jsonl, test_in_domain.jsonl or test_out_domain.jsonl; expected the "
                                "Seal-Tools dataset")
    return Benchmark(str(folder), entries, tools, settings)


def load_pool(path: Path) -> tuple[Tool, ...]:
    """The tools of tool.jsonl; ValueError "PATH, line N: ..." for a row that is none."""
    tools = []
    for number, row in read_jsonl(path):
        try:
            (item,) = read(row, Context())
            tools.append(Tool.from_dict(read_tool(item.tool).record))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: no tool of Seal-Tools ({error!r:.200}); expected api_name, "
                             "api_description and parameters") from None
    return tuple(tools)


def read_entry(row: Mapping[str, Any], group: str) -> Entry:
    """A row as an entry; KeyError, TypeError or ValueError where something lacks or is of another type."""
    for name, kind in (("id", str), ("query", str), ("calling", list)):
        if not isinstance(row[name], kind):
            raise TypeError(f"{name} is {type(row[name]).__name__}")
    for call in row["calling"]:
        if not isinstance(call["api"], str) or not isinstance(call["parameters"], dict):
            raise TypeError(f"a call of {call['api']!r:.60} with parameters {call['parameters']!r:.60}")
    return Entry(row["id"], group, row["query"], tuple(ToolCall(call["api"], call["parameters"])
                                                       for call in row["calling"]))
