"""API-Bank, "Call" (level 1) and "Retrieve+Call" (level 2), as a benchmark that `eval` and `score` drive."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.prompts import Message
from data.schema import Tool
from eval.answers import Answer, converted, printable, reply_of, wrote_tools
from eval.apibank import prompts
from eval.apibank.reading import find_call
from eval.apibank.rows import Data, Row, load_data
from eval.apibank.verdicts import DRIFT, judge
from eval.lenient import STRICT, lenient_calls
from eval.uncertainty import percent, proportion, weighted_interval

SIZES = {1: 399, 2: 135}
MAX_CHARS = 1_000_000               # of a reply; a complete one is some hundred characters
FALL_BACKS = {
    "lexical_search": "tool searches with other keywords than recorded: a lexical search over the same texts, "
                      "tool names compared",
    "recorded_translation": "right only with the recorded arguments",
    "recorded_entry": "dictionary: right only with the recorded keyword",
    "bm25": "search engine: BM25 with a simple tokenizer",
}
FIELDS = ("reply", "result")
ANSWERS = """\
"id" (L1/FILE#NUMBER), or "level", "file" and "sample_id"; with one of these
  reply: what is scored, as it stands; its first bracketed call counts
    {"level": 1, "file": "GetToday-level-1-3.jsonl", "sample_id": 0, "reply": "API-Request: [GetToday()]"}
  result: text, or calls of a service, which are written in that form; <tool_call> blocks are, too
    {"id": "L1/GetToday-level-1-3.jsonl#0", "result": [{"name": "GetToday", "arguments": "{}"}]}"""


@dataclass(frozen=True)
class Settings:
    """How a row is shown, and how answers are read."""

    released_prompt: bool = False
    reading: str = STRICT


def add_arguments(parser: Any, *, prompts: bool) -> None:
    if prompts:
        parser.add_argument("--released-prompt", action="store_true", help="the released prompt instead of the paper's")


@dataclass(frozen=True)
class Benchmark:
    """The rows of both levels with what judges them."""

    data: Data
    settings: Settings = Settings()

    @property
    def folder(self) -> str:
        return self.data.folder

    @property
    def entries(self) -> dict[str, Row]:
        return self.data.rows

    def only(self, keys: Sequence[str]) -> "Benchmark":
        return replace(self, data=replace(self.data, rows={key: self.data.rows[key] for key in keys}))

    def messages(self, row: Row) -> list[Message]:
        return prompts.messages(row, self.data.documents, released=self.settings.released_prompt)

    def native(self, row: Row) -> tuple[list[Message], list[Tool]]:
        query, tools = prompts.request(row, self.data.documents)
        return [{"role": "user", "content": query}], tools

    def expected(self, row: Row) -> str:
        return row.expected

    def answer_line(self, row: Row, text: str) -> dict[str, Any]:
        return {"id": row.key, "level": row.level, "file": row.file, "sample_id": row.sample_id,
                **converted(text, prompts.reply)}

    def find(self, answer: Answer) -> Row | None:
        """By the id `L1/file#number`, or by level, file and sample_id."""
        record = answer.record
        key = record.get("id")
        if not (isinstance(key, str) and key in self.entries):
            key = f"L{record.get('level')}/{record.get('file')}#{record.get('sample_id', key)}"
        return self.entries.get(key)

    def judge(self, row: Row, answer: Answer) -> dict[str, Any]:
        """Verdict line: score (official-like), outcome, call_match, and how a search or network row was decided."""
        reply, reason = reply_of(answer, prompts.reply)
        if isinstance(reply, str) and len(reply) <= MAX_CHARS:
            return judge(self.data, row, self._meant(row, reply))
        reason = reason or ("answer_too_long" if isinstance(reply, str) else "no_reply")
        return judge(self.data, row, "") | {"outcome": "undecodable", "reason": reason}

    def _meant(self, row: Row, reply: str) -> str:
        """A reply as it is scored: where it has no bracketed call, by the lenient reading if that is asked for."""
        if self.settings.reading == STRICT or find_call(reply):
            return reply
        shown = prompts.shown_documents(row, self.data.documents)
        calls = lenient_calls(reply, {document["name"]: list(document["input_parameters"]) for document in shown})
        return prompts.reply(calls) if calls else reply

    def unknown(self, answer: Answer) -> dict[str, Any]:
        return {"id": printable(answer.record.get("id")), "score": 0, "outcome": "unknown_entry"}

    def summarise(self, first: Mapping[str, tuple[Answer, dict]]) -> dict[str, Any]:
        """Both scores of both levels and their mean in percent, with 95 % intervals and bounds for the searches."""
        sizes = Counter(row.level for row in self.entries.values())
        found = {level: [line for _, line in first.values() if line["level"] == level] for level in (1, 2)}
        levels = {name: self._level(found[level], sizes[level]) for level, name in ((1, "call"), (2, "retrieve_call"))}

        def mean(key: str) -> dict:
            return percent(weighted_interval([(0.5, proportion(sum(line[key] for line in lines), sizes[level]))
                                              for level, lines in found.items()]))
        return {"benchmark": "apibank", "complete": dict(sizes) == SIZES,
                "scores": {name: level["official_like"] for name, level in levels.items()}
                | {"overall": mean("score"), "overall_call_match": mean("call_match")},
                "levels": levels, "fall_backs": FALL_BACKS,
                "wrote_tools_instead": sum(wrote_tools(answer) for answer, _ in first.values())}

    def _level(self, lines: Sequence[Mapping], size: int) -> dict[str, Any]:
        searches = [line for line in lines if line.get("decided_by") == "lexical_search"]
        right, edited = (sum(line["score"] for line in some) for some in (
            lines, [line for line in lines if self.data.unattainable.get(line["id"]) != DRIFT]))
        sure = right - sum(line["score"] for line in searches)
        return {
            "n": size, "answered": len(lines), "right": right,
            "undecodable": sum(line["outcome"] in ("no_call", "undecodable") for line in lines),
            "official_like": percent(proportion(right, size)),
            "call_match": percent(proportion(sum(line["call_match"] for line in lines), size)),
            "decided_by_lexical_search": len(searches),
            "bounds": [round(100 * (sure + extra) / max(1, size), 2) for extra in (0, len(searches))],
            "with_edited_descriptions": percent(proportion(edited, size)),
            "outcomes": dict(sorted(Counter(line["outcome"] for line in lines).items())),
        }


def load(data: str | Path, settings: Settings = Settings()) -> Benchmark:
    """The benchmark in a folder; FileNotFoundError or ValueError where a part is missing or does not fit."""
    return Benchmark(load_data(data), settings)
