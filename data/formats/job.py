"""The conversion of one file: rows in, lines out, and what is counted on the way.

`convert` makes one `FileJob` per input.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.binary import not_text
from data.formats.items import Ask, Context, Document, Format, Item, LeftOut, Refused, RowError, Sample, read_call
from data.formats.nulls import without_nulls
from data.formats.output import Outputs, Seen
from data.formats.registry import FORMATS, guess, not_served
from data.formats.source import MAX_RECORD_BYTES, Broken, Record, records
from data.formats.tooldocs import ToolDoc, read_tool
from data.formats.turnmarks import rendered
from data.rules import check_calls, check_tools
from data.schema import Tool, ToolCall, dump_json, json_fault

NOT_SERVED_ROWS = 20  # so many rows at the start of a file that no reader serves mean: no reader serves the file
COLUMNS_COUNTED = 500  # of the columns not read by name; the rest together
TEXT_KEPT = 4000   # characters of a rejected row's text in rejected.jsonl
SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".txt")
_IDS = ("id", "query_id", "test_id", "serial_num", "dialog_num", "function_num")


@dataclass(frozen=True)
class Options:
    """What a conversion depends on besides its input; stored in the manifest."""

    format: str = "auto"
    turns: str = "first"
    answers: str | None = None
    tools: str | None = None
    check: bool = False
    source: str | None = None
    license: str | None = None
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        if self.format != "auto" and self.format not in FORMATS:
            raise ValueError(f"--from {self.format}: no such format; known are auto, {', '.join(FORMATS)}")
        if self.turns not in ("first", "all"):
            raise ValueError(f"--turns {self.turns}: expected first or all")


@dataclass
class Tally:
    """Counts of one input file."""

    rows: int = 0
    converted: int = 0
    unreadable: int = 0
    tools: int = 0
    repeated_tools: int = 0
    examples: int = 0
    queries: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    not_read: Counter[str] = field(default_factory=Counter)
    broken_off: str | None = None

    def report(self) -> dict[str, Any]:
        out = {"rows": self.rows, "rows_converted": self.converted, "rows_unreadable": self.unreadable,
               "tools": self.tools,
               "repeated_tools": self.repeated_tools, "examples": self.examples, "queries": self.queries,
               "rejected": dict(sorted(self.rejected.items())), "left_out": dict(sorted(self.left_out.items())),
               "notes": dict(sorted(self.notes.items())), "tools_changed": dict(sorted(self.changes.items())),
               "columns_not_read": dict(sorted(self.not_read.items()))}
        return out if self.broken_off is None else {**out, "broken_off": self.broken_off}


def has_suffix(path: Path) -> bool:
    """Whether a file of a folder is called like data."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def name_in_reports(path: Path, stem: str) -> str:
    """What the manifest and the provenance call a file whose rows' ids begin with `stem`."""
    return str(Path(stem).parent / path.name)


def not_read(path: Path, *, explicit: bool) -> str | None:
    """Why a file is passed over, None where it is read. ValueError if it was named by itself and is no text."""
    if explicit:
        if (found := not_text(path)) is not None:
            raise ValueError(f"{path}: {found}")
        return None
    if not path.stat().st_size:
        return "an empty file"
    return not_text(path) or (None if has_suffix(path) else
                              f"its name ends in none of {', '.join(SUFFIXES)} (gzipped or not)")


class _Row(dict):  # type: ignore[type-arg]
    """A row that remembers which of its columns a reader has asked for."""

    def __init__(self, value: dict[str, Any]) -> None:
        super().__init__(value)
        self.asked: set[Any] = set()

    def get(self, key: Any, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: Any) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)


class FileJob:
    """The conversion of one file: rows in, lines out."""

    def __init__(self, path: Path, stem: str, options: Options, outputs: Outputs, seen: Seen, *, explicit: bool,
                 sha256: str = "") -> None:
        self.path, self.stem, self.options, self.outputs, self.seen = path, stem, options, outputs, seen
        self.name = name_in_reports(path, stem)
        self.explicit, self.sha256 = explicit, sha256
        self.tally = Tally()
        self.licence = {"license": options.license} if options.license else {}
        self.format: Format | None = None
        self.context = Context()
        self.where: dict[str, Any] = {}     # of the row at hand: place, id, text or value, lines written for it
        self.identity = self.text = ""
        self.value: Any = None
        self.written = 0
        self.contexts: dict[str, Context] = {}
        self.first_fault = ""
        self._use(None if options.format == "auto" else FORMATS[options.format])

    def run(self) -> dict[str, Any]:
        """Read the file to its end and return its report."""
        found = not_read(self.path, explicit=self.explicit)
        if found is not None:
            return {"file": self.name, "not_served": found}
        report: dict[str, Any] = {"file": self.name, "bytes": self.path.stat().st_size, "sha256": self.sha256}
        why, waiting = None, []     # rows at the start that no reader serves; a later one may make them exceptions
        for row in self._rows():
            why = not_served(row[1]) if self.format is None and not self.tally.rows else None
            if why is not None:
                waiting.append(row)
                if len(waiting) == NOT_SERVED_ROWS:
                    break
                continue
            for each in (*waiting, row):
                self._take(*each)
            waiting = []
        if waiting and self.explicit:
            raise ValueError(f"{self.path}: {not_served(waiting[0][1])}; nothing in it to convert")
        if waiting:
            return {**report, "not_served": not_served(waiting[0][1])}
        if self.tally.unreadable == self.tally.rows and self.explicit and self.options.format == "auto":
            raise ValueError(f"{self.path}: not one row could be read; the first: {self.first_fault}")
        if self.format is None and self.explicit and not self.tally.converted:
            raise ValueError(f"{self.path}: no format recognises its rows; name one with --from ({', '.join(FORMATS)})")
        formats = [name for name, _ in self.tally.formats.most_common()] or [self.format.name if self.format else None]
        several = {"formats": dict(self.tally.formats)} if len(formats) > 1 else {}
        return {**report, "format": formats[0], **several, **self.tally.report()}

    def _take(self, line: int, value: Any, text: str) -> None:
        self.tally.rows += 1
        if isinstance(value, Broken):
            self._unreadable(value)
        else:
            self._row(line, value, text)

    # ---------------------------------------------------------------------------------------------------- rows in

    def _rows(self) -> Iterator[tuple[int, Any, str]]:
        """(line, value, text) for every row; documents are split, raw dialogues joined, broken records passed on."""
        lines: list[Any] = []
        auto = self.options.format == "auto"
        for record in records(self.path, plain=self.options.format == "queries",
                              max_record_bytes=self.options.max_record_bytes):
            if isinstance(record, Broken):
                yield record.line, record, record.text
                continue
            if auto and not (isinstance(record.value, dict) and len(lines)):
                self._use(guess(record.value) or self.format)
            fmt = self.format
            if fmt is not None and fmt.is_line(record.value):
                lines.append(record.value)
                continue
            rows = fmt.rows(record.value) if fmt is not None else None
            if rows is None:
                yield record.line, record.value, record.text
            else:
                for row in rows:
                    yield record.line, row, ""
        if lines:
            yield 1, {"dialogue": lines}, ""

    def _use(self, fmt: Format | None) -> None:
        """Settle the format and find its companion files: that of the row at hand, or of the last recognised one."""
        if fmt is self.format:
            return
        self.format = fmt
        if fmt is not None:
            if fmt.name not in self.contexts:
                self.contexts[fmt.name] = Context(self.options.turns, *self._companions(fmt.name))
            self.context = self.contexts[fmt.name]

    def _companions(self, name: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Answers by id and tools by name, from the options or from where the corpora put them."""
        answers, tools = self.options.answers, self.options.tools
        folder, file = self.path.parent, self.path.name
        if answers is None and name == "bfcl" and (folder / "possible_answer" / file).is_file():
            answers = str(folder / "possible_answer" / file)
        specification = folder / file.replace("-data", "-spec")
        if tools is None and name == "nestful" and "-data" in file and specification.is_file():
            tools = str(specification)
        if tools is None and name == "sealtools" and (folder / "tool.jsonl").is_file():
            tools = str(folder / "tool.jsonl")
        return _index(answers, ("id",), "ground_truth"), _index(tools, ("name", "api_name"), None)

    def _unreadable(self, broken: Broken) -> None:
        self.tally.unreadable += 1
        self.first_fault = self.first_fault or f"line {broken.line}: {broken.detail} ({broken.reason})"
        self._start(broken.line, None, broken.text)
        self._reject(RowError(broken.reason, f"line {broken.line}: {broken.detail}"), "")
        if broken.fatal:
            self.tally.broken_off = f"line {broken.line}: {broken.reason}"

    def _start(self, line: int, value: Any, text: str) -> None:
        row = self.tally.rows
        self.where = {"file": self.name, "line": line, "row": row}
        fields = value if isinstance(value, dict) else {}
        own = next((fields[key] for key in _IDS if isinstance(fields.get(key), (str, int))), None)
        if own is not None:
            self.where["row_id"] = own
        if self.format is not None:
            self.where["format"] = self.format.name
        self.identity, self.text, self.value, self.written = f"{self.stem}:{row}", text, value, 0

    def _row(self, line: int, value: Any, text: str) -> None:
        self._start(line, value, text)
        before = self.outputs.lines["rejected.jsonl"]
        row, whole = _Row(value) if isinstance(value, dict) else value, False
        try:
            if self.format is None:
                raise RowError("unknown_format", "no format recognises the row; name one with --from")
            self.tally.formats[self.format.name] += 1
            for item in self._items(row):
                # a row that is a tool names by itself what is not read of it
                whole = whole or (isinstance(item, Document) and item.tool is row
                                  and not isinstance(row.get("function"), dict))
                self._item(item)
        except RowError as error:
            self._reject(error, "")
        if isinstance(row, _Row) and self.written and not whole:
            for key in row.keys() - row.asked - set(_IDS):
                known = key in self.tally.not_read or len(self.tally.not_read) < COLUMNS_COUNTED
                self.tally.not_read[key[:80] if known else "(others)"] += 1
        if not self.written and self.outputs.lines["rejected.jsonl"] == before:
            self._reject(RowError("nothing_found", "the reader found neither a tool nor a query in the row"), "")
        self.tally.converted += self.written > 0

    def _items(self, value: Any) -> Iterator[Item]:
        """The reader's items; a row of another shape than the reader expects becomes a RowError."""
        assert self.format is not None
        try:
            yield from self.format.read(value, self.context)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            found = f"{type(error).__name__} {error}"
            raise RowError("wrong_shape", f"not a {self.format.name} row: {found}"[:300]) from None
        except RecursionError:
            raise RowError("too_deep", "nested too deeply") from None

    # --------------------------------------------------------------------------------------------------- lines out

    def _item(self, item: Item) -> None:
        if isinstance(item, LeftOut):
            if item.count:
                self.tally.left_out[item.what] += item.count
            return
        try:
            if isinstance(item, Refused):
                raise item.error
            if isinstance(item, (Sample, Ask)) and isinstance(item.query, str) and rendered(item.query):
                raise RowError("calls_in_text", "the query is a conversation with its turn marks, written by a chat "
                               "template", stage="query")
            if isinstance(item, Sample):
                self._sample(item)
            elif isinstance(item, Ask):
                self._ask(item)
            else:
                self._document(item)
        except RowError as error:
            self._reject(error, item.part)

    def _sample(self, item: Sample) -> None:
        if item.calls and not item.tools:
            self.tally.left_out["calls_without_tools"] += 1
            self._ask(Ask(item.query, [], item.part, ("no_candidate_tools",)))
            return
        try:
            documents = [read_tool(tool) for tool in item.tools]
            given = [read_call(call) for call in item.calls]
            calls = without_nulls(given, [(doc.record, doc.changes.get("nulls", ())) for doc in documents])
            notes = (*item.notes, *(("nulls_of_a_table",) if calls != given else ()))
            self._check(documents, calls)
            identity = self._identity(item.part)
            changes = {doc.record["name"]: doc.changes for doc in documents if doc.changes}
            provenance = {**self.where, **({"part": item.part} if item.part else {}),
                          **({"notes": list(notes)} if notes else {}),
                          **({"changes": changes} if changes else {})}
            texts = [_line(doc.record) for doc in documents]
            line = self._example_line(identity, item.query, texts, calls, provenance)
        except RowError as error:
            self._reject(error, item.part)
            self._ask(Ask(item.query, item.tools if error.stage == "calls" else [], item.part, ("answer_rejected",)))
            return
        self._put("examples.jsonl", line)
        self.tally.examples += 1
        self.tally.notes.update(notes)
        self._put_query(item.query, item.part, answered=True)
        self._put_tools(documents, texts, item.part)

    def _example_line(self, identity: str, query: str, tools: list[str], calls: list[dict[str, Any]],
                      provenance: dict[str, Any]) -> str:
        """The example as JSON, put together from the texts of its tools, which are needed by themselves too."""
        if not query.strip():
            raise RowError("no_query", "the query is empty", stage="query")
        head = _line({"id": identity, "query": query})
        tail = {"calls": calls, "source": self.options.source or self.stem,
                **self.licence, "provenance": provenance}
        return f'{head[:-1]}, "tools": [{", ".join(tools)}], {_line(tail)[1:]}'

    def _ask(self, item: Ask) -> None:
        self._put_query(item.query, item.part, answered=False, notes=item.notes)
        documents = []
        for tool in item.tools:
            try:
                document = read_tool(tool)
                self._check([document], None)
                documents.append(document)
            except RowError as error:
                self._reject(error, item.part)
        self._put_tools(documents, [_line(doc.record) for doc in documents], item.part)

    def _document(self, item: Document) -> None:
        doc = read_tool(item.tool)
        self._check([doc], None)
        self._put_tool(doc, _line(doc.record), item.part, item.about)

    def _put_query(self, query: str, part: str, *, answered: bool, notes: tuple[str, ...] = ()) -> None:
        if not isinstance(query, str) or not query.strip():
            raise RowError("no_query", f"the query is {query!r:.60}, expected a text", stage="query")
        provenance = {**self.where, **self.licence, "answered": answered, **({"notes": list(notes)} if notes else {})}
        self._put("queries.jsonl", _line({"id": self._identity(part), "query": query, "provenance": provenance}))
        self.tally.queries += 1

    def _put_tools(self, documents: list[ToolDoc], texts: list[str], part: str) -> None:
        """Tools that stand beside a query: each is written the first time it is seen."""
        for doc, text in zip(documents, texts):
            if self.seen.add(text.encode("utf-8", "surrogatepass")):
                self._put_tool(doc, text, part, {})
            else:
                self.tally.repeated_tools += 1

    def _put_tool(self, doc: ToolDoc, text: str, part: str, about: dict[str, Any]) -> None:
        provenance = {**self.where, **({"part": part} if part else {}), **self.licence, **about, **doc.changes}
        self._put("tools.jsonl", f'{text[:-1]}, "provenance": {_line(provenance)}}}')
        self.tally.tools += 1
        self.tally.changes.update(doc.changes.keys())

    def _put(self, name: str, line: str) -> None:
        try:
            data = (line + "\n").encode("utf-8")
        except UnicodeEncodeError:
            raise RowError("bad_unicode", "a lone surrogate, which UTF-8 cannot hold") from None
        self.outputs.write(name, data)
        self.written += 1

    def _identity(self, part: str) -> str:
        return f"{self.identity}.{part}" if part else self.identity

    def _check(self, documents: list[ToolDoc], calls: list[dict[str, Any]] | None) -> None:
        """With --check, have the rule checker judge; the first reason rejects. Raises RowError."""
        if not self.options.check:
            return
        faults = check_tools([doc.record for doc in documents])
        if faults:
            raise RowError(faults[0][0], faults[0][1], stage="tools")
        if calls is not None:
            faults = check_calls([ToolCall.from_dict(call) for call in calls],
                                 [Tool.from_dict(doc.record) for doc in documents])
        if faults:
            raise RowError(faults[0][0], faults[0][1], stage="calls")

    def _reject(self, error: RowError, part: str) -> None:
        text = self.text or json.dumps(self.value, ensure_ascii=False, default=str)
        row = {"id": self._identity(part), "stage": error.stage, "reason": error.reason, "detail": error.detail,
               "text": text[:TEXT_KEPT], "provenance": self.where}
        data = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        self.outputs.write("rejected.jsonl", data)
        self.tally.rejected[error.reason] += 1


def _line(record: dict[str, Any]) -> str:
    """A record as JSON that data/schema.py will read back. Raises RowError for what strict JSON cannot hold."""
    try:
        return dump_json(record)
    except (ValueError, TypeError, RecursionError) as error:
        fault = json_fault(record)
        raise RowError(*(fault or ("value_not_json", str(error)[:200]))) from None


def _index(path: str | None, keys: tuple[str, ...], value: str | None) -> dict[str, Any] | None:
    """A companion file as a dictionary; None without a file. Raises ValueError for a file without such rows."""
    if path is None:
        return None
    out: dict[str, Any] = {}
    for record in records(path):
        if isinstance(record, Record) and isinstance(record.value, dict):
            key = next((record.value[k] for k in keys if k in record.value), None)
            if key is not None:
                out.setdefault(str(key), record.value if value is None else record.value.get(value))
    if not out:
        raise ValueError(f"{path}: no row has {' or '.join(keys)}; expected the companion file of the corpus")
    return out
