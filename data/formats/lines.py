"""What is written of the rows of one file: its lines in the four output files, and what is counted on the way."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from data.formats.items import Ask, Document, Item, LeftOut, Refused, RowError, Sample, read_call
from data.formats.nulls import without_nulls
from data.formats.output import Outputs, Seen
from data.formats.tooldocs import ToolDoc, read_tool
from data.formats.turnmarks import awaits_an_answer, declares_tools, rendered
from data.rules import check_calls, check_tools
from data.schema import Tool, ToolCall, dump_json, json_fault

TEXT_KEPT = 4000   # characters of a rejected row's text in rejected.jsonl
IDS = ("id", "query_id", "test_id", "serial_num", "dialog_num", "function_num")     # where a row names itself


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
               "tools": self.tools, "repeated_tools": self.repeated_tools, "examples": self.examples,
               "queries": self.queries,
               "rejected": dict(sorted(self.rejected.items())), "left_out": dict(sorted(self.left_out.items())),
               "notes": dict(sorted(self.notes.items())), "tools_changed": dict(sorted(self.changes.items())),
               "columns_not_read": dict(sorted(self.not_read.items()))}
        return out if self.broken_off is None else {**out, "broken_off": self.broken_off}


def _line(record: dict[str, Any]) -> str:
    """A record as JSON that data/schema.py will read back. Raises RowError for what strict JSON cannot hold."""
    try:
        return dump_json(record)
    except (ValueError, TypeError, RecursionError) as error:
        fault = json_fault(record)
        raise RowError(*(fault or ("value_not_json", str(error)[:200]))) from None


def _tool_line(text: str, item: Sample | Ask | Document, where: dict[str, Any], about: dict[str, Any]) -> str:
    """The text of a tool with its group and provenance behind it."""
    part, group = {"part": item.part} if item.part else {}, {"group": item.group} if item.group else {}
    return f"{text[:-1]}, {_line({**group, 'provenance': {**where, **part, **about}})[1:]}"


def _need_a_request(query: Any) -> None:
    """Raises RowError where a query is no text, or a whole prompt, which nobody asks: of a chat template, or with tools
    in it."""
    if not isinstance(query, str) or not query.strip():
        raise RowError("no_query", f"the query is {query!r:.60}, expected a text", stage="query")
    if rendered(query) or awaits_an_answer(query):
        raise RowError("calls_in_text", "the query is a whole prompt: a conversation with the turn marks of a chat "
                       "template", stage="query")
    if declares_tools(query):
        raise RowError("tools_in_query", "the query declares a tool, as a whole prompt does; is it offered, or spoken "
                       "of? It cannot be told", stage="query")


def _judge(documents: list[ToolDoc], calls: list[dict[str, Any]] | None) -> None:
    """Have the rule checker judge tools and calls: the first reason rejects. Raises RowError."""
    faults = check_tools([doc.record for doc in documents])
    if faults:
        raise RowError(faults[0][0], faults[0][1], stage="tools")
    if calls is not None:
        faults = check_calls([ToolCall.from_dict(call) for call in calls],
                             [Tool.from_dict(doc.record) for doc in documents])
    if faults:
        raise RowError(faults[0][0], faults[0][1], stage="calls")


class Lines:
    """The lines of one file, row by row: `start` a row, `put` what its reader found, `reject` what cannot be used.

    Args:
        name: of the file, as the provenance says it; the ids of its rows begin with `stem`.
        check: have the rule checker judge tools and calls.
        source, license: what examples say of where they come from.
    """

    def __init__(self, name: str, stem: str, outputs: Outputs, seen: Seen, *, check: bool = False,
                 source: str | None = None, license: str | None = None) -> None:
        self.name, self.stem, self.outputs, self.seen, self.check = name, stem, outputs, seen, check
        self.source, self.licence = source or stem, {"license": license} if license else {}
        self.tally = Tally()
        self.where: dict[str, Any] = {}     # of the row at hand: place, id, text or value, lines written for it
        self.identity = self.text = ""
        self.value: Any = None
        self.written = 0

    def start(self, line: int, value: Any, text: str, format_name: str | None) -> None:
        """What follows is of this row, which is the last that was counted."""
        row = self.tally.rows
        self.where = {"file": self.name, "line": line, "row": row}
        fields = value if isinstance(value, dict) else {}
        own = next((fields[key] for key in IDS if isinstance(fields.get(key), (str, int))), None)
        if own is not None:
            self.where["row_id"] = own
        if format_name is not None:
            self.where["format"] = format_name
        self.identity, self.text, self.value, self.written = f"{self.stem}:{row}", text, value, 0

    def put(self, item: Item) -> None:
        """Write what a reader found, or why not."""
        if isinstance(item, LeftOut):
            if item.count:
                self.tally.left_out[item.what] += item.count
            return
        try:
            if isinstance(item, Refused):
                raise item.error
            if isinstance(item, (Sample, Ask)):
                _need_a_request(item.query)
            if isinstance(item, Sample):
                self._sample(item)
            elif isinstance(item, Ask):
                self._ask(item)
            else:
                self._document(item)
        except RowError as error:
            self.reject(error, item.part)

    def _sample(self, item: Sample) -> None:
        if item.calls and not item.tools:
            self.tally.left_out["calls_without_tools"] += 1
            self._ask(Ask(item.query, [], item.part, ("no_candidate_tools",), item.group))
            return
        try:
            documents = [read_tool(tool) for tool in item.tools]
            given = [read_call(call) for call in item.calls]
            calls = without_nulls(given, [(doc.record, doc.changes.get("nulls", ())) for doc in documents])
            notes = (*item.notes, *(("nulls_of_a_table",) if calls != given else ()))
            if self.check:
                _judge(documents, calls)
            identity = self._identity(item.part)
            changes = {doc.record["name"]: doc.changes for doc in documents if doc.changes}
            provenance = {**self.where, **({"part": item.part} if item.part else {}),
                          **({"notes": list(notes)} if notes else {}),
                          **({"changes": changes} if changes else {})}
            texts = [_line(doc.record) for doc in documents]
            line = self._example_line(identity, item.query, texts, calls, provenance)
        except RowError as error:
            self.reject(error, item.part)
            tools = item.tools if error.stage == "calls" else []
            self._ask(Ask(item.query, tools, item.part, ("answer_rejected",), item.group))
            return
        self._put("examples.jsonl", line)
        self.tally.examples += 1
        self.tally.notes.update(notes)
        self._put_query(item.query, item.part, answered=True)
        self._put_tools(documents, texts, item)

    def _example_line(self, identity: str, query: str, tools: list[str], calls: list[dict[str, Any]],
                      provenance: dict[str, Any]) -> str:
        """The example as JSON, put together from the texts of its tools, which are needed by themselves too."""
        head = _line({"id": identity, "query": query})
        tail = {"calls": calls, "source": self.source, **self.licence, "provenance": provenance}
        return f'{head[:-1]}, "tools": [{", ".join(tools)}], {_line(tail)[1:]}'

    def _ask(self, item: Ask) -> None:
        self._put_query(item.query, item.part, answered=False, notes=item.notes)
        documents = []
        for tool in item.tools:
            try:
                document = read_tool(tool)
                if self.check:
                    _judge([document], None)
                documents.append(document)
            except RowError as error:
                self.reject(error, item.part)
        self._put_tools(documents, [_line(doc.record) for doc in documents], item)

    def _document(self, item: Document) -> None:
        doc = read_tool(item.tool)
        if self.check:
            _judge([doc], None)
        self._put_tool(doc, _line(doc.record), item, item.about)

    def _put_query(self, query: str, part: str, *, answered: bool, notes: tuple[str, ...] = ()) -> None:
        provenance = {**self.where, **self.licence, "answered": answered, **({"notes": list(notes)} if notes else {})}
        self._put("queries.jsonl", _line({"id": self._identity(part), "query": query, "provenance": provenance}))
        self.tally.queries += 1

    def _put_tools(self, documents: list[ToolDoc], texts: list[str], item: Sample | Ask) -> None:
        """Tools that stand beside a query: each is written the first time it is seen."""
        for doc, text in zip(documents, texts):
            if self.seen.add(text.encode("utf-8", "surrogatepass")):
                self._put_tool(doc, text, item, {})
            else:
                self.tally.repeated_tools += 1

    def _put_tool(self, doc: ToolDoc, text: str, item: Sample | Ask | Document, about: dict[str, Any]) -> None:
        self._put("tools.jsonl", _tool_line(text, item, self.where, {**self.licence, **about, **doc.changes}))
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

    def reject(self, error: RowError, part: str = "") -> None:
        """Say why a row, or a part of it, gives nothing."""
        text = self.text or json.dumps(self.value, ensure_ascii=False, default=str)
        row = {"id": self._identity(part), "stage": error.stage, "reason": error.reason, "detail": error.detail,
               "text": text[:TEXT_KEPT], "provenance": self.where}
        data = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        self.outputs.write("rejected.jsonl", data)
        self.tally.rejected[error.reason] += 1
