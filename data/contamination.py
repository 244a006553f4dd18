"""Does training text repeat a benchmark? Queries by normalised word n-grams, tools by signature and by n-grams.

A text is compared with one benchmark text at a time, and only a large shared part counts: a single common n-gram, the
usual test, flags most of any corpus, because requests share their phrases. Very short texts must be equal.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.canonical import normal
from data.schema import Example, Tool, read_jsonl

NGRAM = 5               # words
THRESHOLD = 0.8         # share of the smaller text's n-grams that the other one holds
MIN_NGRAMS = 4          # texts with fewer must be equal: a short phrase inside a long text proves nothing
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"             # kana and Han, written without spaces: each character is a word
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """The words of a text: compatibility forms, case and punctuation folded, digits kept."""
    return _WORD.findall(normal(text, "NFKC").casefold().replace("_", " "))


def folded(query: str) -> str:
    """A query with spelling folded, to see that two are the same; as it is where it has no words."""
    return " ".join(words(query)) or query.strip()


def ngrams(text: str, n: int = NGRAM) -> set[tuple[str, ...]]:
    """The n-grams of a text; a shorter one gives all its words as its only n-gram."""
    found = words(text)
    return {tuple(found[i:i + n]) for i in range(max(1, len(found) - n + 1))} if found else set()


def tool_signature(tool: Tool) -> str:
    """A tool by its name and argument names, spelling folded: `get_weather(city)` equals `GetWeather(City)`."""
    names = sorted("".join(words(name)).replace(" ", "") for name in tool.parameters.get("properties", {}))
    return f"{''.join(words(tool.name))}({','.join(names)})"


def tool_text(tool: Tool) -> str:
    """The words that define a tool: its name, its description, and those of its arguments."""
    parts = [tool.name, tool.description]
    for name, schema in tool.parameters.get("properties", {}).items():
        parts += [name, str(schema.get("description", "")) if isinstance(schema, dict) else ""]
    return " ".join(parts)


@dataclass
class NgramIndex:
    """Which benchmark texts hold an n-gram."""

    n: int = NGRAM
    threshold: float = THRESHOLD
    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    holders: dict[tuple[str, ...], list[int]] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        grams = ngrams(text, self.n)
        for gram in grams:
            self.holders.setdefault(gram, []).append(len(self.names))
        self.names.append(name)
        self.sizes.append(len(grams))

    def match(self, text: str) -> str | None:
        """The name of a benchmark text that shares enough with `text`, and how much; None if there is none."""
        grams = ngrams(text, self.n)
        shared = Counter(holder for gram in grams for holder in self.holders.get(gram, ()))
        for holder, count in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
            smaller, larger = sorted((len(grams), self.sizes[holder]))
            if count >= self.threshold * smaller and (smaller >= MIN_NGRAMS or count == larger):
                return f"{self.names[holder]}: {count} of {smaller} {self.n}-grams"
        return None


@dataclass
class Guard:
    """The benchmark's queries and tools, indexed; empty until something is added."""

    queries: NgramIndex = field(default_factory=NgramIndex)
    tools: NgramIndex = field(default_factory=NgramIndex)
    signatures: dict[str, str] = field(default_factory=dict)

    def add_query(self, name: str, query: str) -> None:
        self.queries.add(name, query)

    def add_tool(self, name: str, tool: Tool) -> None:
        if self.signatures.setdefault(tool_signature(tool), name) == name:
            self.tools.add(name, tool_text(tool))

    def query_overlap(self, query: str) -> str | None:
        """Which benchmark query this one repeats, or None."""
        return self.queries.match(query)

    def tool_overlap(self, tool: Tool) -> str | None:
        """Which benchmark tool this one repeats, or None."""
        name = self.signatures.get(tool_signature(tool))
        return f"{name}: the signature {tool_signature(tool)}" if name else self.tools.match(tool_text(tool))

    def example_overlap(self, example: Example) -> tuple[str, str] | None:
        """(reason, what) for the first overlap of an example, or None."""
        found = self.query_overlap(example.query)
        if found:
            return "contaminated_query", found
        for tool in example.tools:
            found = self.tool_overlap(tool)
            if found:
                return "contaminated_tool", found
        return None

    def compare(self, where: str, examples: Sequence[Example]) -> tuple[list[Example], list[dict[str, str]]]:
        """The examples that do not repeat the benchmark, and a line of overlaps.jsonl for each that does."""
        found = [(example, self.example_overlap(example)) for example in examples]
        return ([example for example, what in found if not what],
                [{"id": e.id, "in": where, "reason": what[0], "detail": what[1]} for e, what in found if what])


def load_guard(paths: Sequence[str | Path]) -> Guard:
    """Index benchmark files: JSON Lines of examples, queries or tools, or BFCL's question files.

    Raises:
        ValueError: a line holds neither a query nor a tool.
    """
    guard = Guard()
    for path in paths:
        for number, record in read_jsonl(path):
            name = f"{Path(path).name}:{number}"
            texts, tools = list(_query_texts(record)), list(_tool_records(record))
            if not texts and not tools:
                raise ValueError(f"{path}, line {number}: neither a query nor a tool; the guard reads examples, "
                                 "queries, tools and BFCL question files")
            for text in texts:
                guard.add_query(name, text)
            for tool in tools:
                guard.add_tool(name, tool)
    return guard


def _query_texts(record: dict[str, Any]) -> Iterable[str]:
    if isinstance(record.get("query"), str):
        yield record["query"]
    turns = record.get("question")
    for turn in turns if isinstance(turns, list) else ():                  # BFCL: [[{"role", "content"}, ...], ...]
        for message in turn if isinstance(turn, list) else (turn,):
            if isinstance(message, dict) and message.get("role") == "user" and isinstance(message.get("content"), str):
                yield message["content"]


def _tool_records(record: dict[str, Any]) -> Iterable[Tool]:
    given = record.get("tools", record.get("function"))
    if given is None and "description" in record:
        given = [record]
    for tool in given if isinstance(given, list) else [given] if isinstance(given, dict) else ():
        try:
            yield Tool.from_dict(tool)
        except ValueError:
            continue                                                       # a benchmark's odd tool cannot be repeated
