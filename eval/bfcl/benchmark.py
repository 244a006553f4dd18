"""The leaderboard as a benchmark that `eval` and `score` drive: flags, prompts, verdicts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.formats.spelled import offered
from data.prompts import Message
from data.schema import Tool, dump_json
from eval.answers import Answer, NotCalls, printable, saved_answer, wrote_tools
from eval.bfcl.aggregates import summarise
from eval.bfcl.checker import Verdict, ast_check
from eval.bfcl.decode import DECODERS, FAILED, RULES, Undecodable, check_shape, decode_text
from eval.bfcl.entries import IRRELEVANCE, Entry, canonical_id, load_entries
from eval.bfcl.prompts import messages, tools_of
from eval.lenient import STRICT, lenient_calls

CALLED = "irrelevance_error:decoder_success"
UNKNOWN = "unknown_entry"
REFUSED = "refused"                     # finish_reason of a prompt that the model had no room for: it answered nothing
FIELDS = ("output", "text", "result")
ANSWERS = """\
"id" with one of these; "underscore_names": true where the model was shown names with every . replaced by _
  output: native calls, exactly {name: {argument: value}}; Java and JavaScript values are text; null is no answer
    {"id": "simple_0", "output": [{"calculate_triangle_area": {"base": 10, "height": 5}}]}
  text: what the model wrote, the leaderboard's syntax or <tool_call> blocks
    {"id": "simple_0", "text": "[calculate_triangle_area(base=10, height=5)]"}
  result: as the leaderboard saves it, text or calls of a service
    {"id": "simple_0", "result": [{"calculate_triangle_area": "{\\"base\\": 10, \\"height\\": 5}"}]}
    {"id": "simple_0", "result": [{"name": "calculate_triangle_area", "arguments": {"base": 10, "height": 5}}]}"""


@dataclass(frozen=True)
class Settings:
    """How answers are read and judged, and how functions are shown."""

    decoder: str = "auto"
    rules: str | None = None            # None: those of the data's edition
    underscore_names: bool = False
    no_language_note: bool = False
    published_types: bool = False
    reading: str = STRICT


def add_arguments(parser: Any, *, prompts: bool) -> None:
    parser.add_argument("--decoder", choices=DECODERS, default=Settings.decoder,
                        help="how text answers are read (auto: <tool_call> blocks, else the leaderboard's syntax)")
    parser.add_argument("--rules", choices=RULES, help="which evaluator's rules (default: those of the data's edition)")
    parser.add_argument("--underscore-names", action="store_true",
                        help="the model was shown names with every . replaced by _")
    if prompts:
        parser.add_argument("--no-language-note", action="store_true",
                            help="do not say which language's syntax is wanted")
        parser.add_argument("--published-types", action="store_true",
                            help="show type words as published (float, tuple)")


@dataclass(frozen=True)
class Benchmark:
    """The entries of one edition, in file order, by id as `canonical_id` spells it."""

    edition: str
    folder: str
    entries: dict[str, Entry]
    settings: Settings = Settings()

    @property
    def rules(self) -> str:
        """The rules asked for, else those that this edition is judged by."""
        return self.settings.rules or ("2024" if self.edition.startswith("v3") else "2026")

    def only(self, keys: Sequence[str]) -> "Benchmark":
        return replace(self, entries={key: self.entries[key] for key in keys})

    def messages(self, entry: Entry) -> list[Message]:
        return messages(entry, self._shown(entry))

    def native(self, entry: Entry) -> tuple[list[Message], list[Tool]]:
        return [dict(message) for message in entry.messages], self._shown(entry)

    def expected(self, entry: Entry) -> str:
        return "\n".join(map(dump_json, entry.expected))

    def _shown(self, entry: Entry) -> list[Tool]:
        shown = self.settings
        return tools_of(entry, language_note=not shown.no_language_note, published_types=shown.published_types,
                        underscore_names=shown.underscore_names)

    def answer_line(self, entry: Entry, text: str) -> dict[str, Any]:
        return {"id": entry.id, "text": text} | ({"underscore_names": True} if self.settings.underscore_names else {})

    def find(self, answer: Answer) -> Entry | None:
        """By id; ids of either edition's spelling are understood."""
        entry_id = answer.record.get("id")
        return self.entries.get(canonical_id(entry_id)) if isinstance(entry_id, str) else None

    def judge(self, entry: Entry, answer: Answer) -> dict[str, Any]:
        """Verdict line: id, category, valid, error_type, outcome (right, wrong, undecodable), reason."""
        calls = self.decode(entry, answer)
        failure = calls if isinstance(calls, Undecodable) else check_shape(calls, self.rules)
        underscore_names = bool(answer.record.get("underscore_names", self.settings.underscore_names))
        verdict = self._verdict(entry, calls, failure, underscore_names)
        # The readers of Java and JavaScript find a call in nearly any text, in fenced JSON, too.
        unread = failure or (entry.language != "python" and not verdict.valid)
        meant = self._meant(entry, answer, underscore_names) if unread else None
        if meant:
            failure, verdict = None, self._verdict(entry, meant, None, underscore_names)
        line = {"id": printable(answer.record.get("id")), "category": entry.category, "valid": verdict.valid,
                "error_type": verdict.error_type,
                "outcome": "right" if verdict.valid else "undecodable" if failure else "wrong"}
        if failure:
            line["reason"] = "wrote_tools_instead" if wrote_tools(answer) else failure.reason
        return line

    @staticmethod
    def _verdict(entry: Entry, calls: Any, failure: Undecodable | None, underscore_names: bool) -> Verdict:
        if entry.category in IRRELEVANCE and not (failure and failure.reason == REFUSED):
            return Verdict(True) if failure or not any(calls) else Verdict(False, CALLED)
        if failure:
            return Verdict(False, failure.error_type)
        return ast_check(calls, entry.expected, entry.functions, entry.language, rule=entry.rule,
                         underscore_names=underscore_names)

    def decode(self, entry: Entry, answer: Answer) -> Any:
        """The calls of an answer, or Undecodable: `output` as it stands, else `text`, else `result`."""
        record = answer.record
        if answer.fault:
            return Undecodable(FAILED, f"json:{answer.fault}")
        if record.get("finish_reason") == REFUSED:
            return Undecodable(FAILED, REFUSED)
        found = record.get("output")
        if found is not None:
            return found
        text = record.get("text")
        if text is not None or ("text" in record and record.get("result") is None):
            text = text[0] if isinstance(text, list) and len(text) == 1 else text
            return decode_text(text, entry.language, decoder=self.settings.decoder, rules=self.rules)
        try:
            found = saved_answer(record.get("result"))
        except NotCalls as error:
            return Undecodable(FAILED, error.code)
        if isinstance(found, str):
            return decode_text(found, entry.language, decoder=self.settings.decoder, rules=self.rules)
        return None if found is None else [{call.name: call.arguments} for call in found]

    def _meant(self, entry: Entry, answer: Answer, underscore_names: bool) -> list[dict] | None:
        """The calls of an answer by the lenient reading; None where it finds none, or is not asked for."""
        text = next((found for key in ("text", "result") if (found := answer.text(key)) is not None), "")
        if self.settings.reading == STRICT or answer.record.get("finish_reason") == REFUSED:
            return None
        names = {name.replace(".", "_") if underscore_names else name: order
                 for name, order in offered(entry.functions).items()}
        return [{call.name: call.arguments} for call in lenient_calls(text, names) or ()] or None

    def unknown(self, answer: Answer) -> dict[str, Any]:
        return {"id": printable(answer.record.get("id")), "category": printable(answer.record.get("category")),
                "valid": False, "error_type": UNKNOWN, "outcome": "unknown"}

    def summarise(self, first: Mapping[str, tuple[Answer, dict]]) -> dict[str, Any]:
        sizes = Counter(entry.category for entry in self.entries.values())
        return {"benchmark": "bfcl", "edition": self.edition, "rules": self.rules, "decoder": self.settings.decoder,
                **summarise(sizes, [line for _, line in first.values()])}


def load(data: str | Path, settings: Settings = Settings()) -> Benchmark:
    """The questions and answers in a folder; FileNotFoundError or ValueError where there are none, or not fitting."""
    version, folder, entries = load_entries(data)
    return Benchmark(f"{version} ({'2024-09-20' if version == 'v3' else 'bfcl-eval'})", str(folder), entries, settings)
