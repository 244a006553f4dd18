"""The conversion of one file: its rows, the reader that serves them, and its report.

`convert` makes one `FileJob` per input; lines.py writes what the reader finds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.binary import not_text
from data.formats.beside import judged
from data.formats.companions import context_of
from data.formats.items import Context, Document, Format, Item, RowError
from data.formats.lines import IDS, Lines
from data.formats.output import Outputs, Seen
from data.formats.registry import FORMATS, guess, not_served, seen_in
from data.formats.source import MAX_RECORD_BYTES, Broken, records

NOT_SERVED_ROWS = 20  # so many rows at the start of a file that no reader serves mean: no reader serves the file
COLUMNS_COUNTED = 500  # of the columns not read by name; the rest together
SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".txt")


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
        self.path, self.options, self.outputs = path, options, outputs
        self.name = name_in_reports(path, stem)
        self.explicit, self.sha256 = explicit, sha256
        self.lines = Lines(self.name, stem, outputs, seen, check=options.check, source=options.source,
                           license=options.license)
        self.format: Format | None = None
        self.context = Context()
        self.contexts: dict[str, Context] = {}
        self.first_fault = self.first_unknown = ""
        self._use(None if options.format == "auto" else FORMATS[options.format])

    def run(self) -> dict[str, Any]:
        """Read the file to its end and return its report."""
        found = not_read(self.path, explicit=self.explicit)
        if found is not None:
            return {"file": self.name, "not_served": found}
        tally = self.lines.tally
        report: dict[str, Any] = {"file": self.name, "bytes": self.path.stat().st_size, "sha256": self.sha256}
        why, waiting = None, []     # rows at the start that no reader serves; a later one may make them exceptions
        for row in self._rows():
            why = not_served(row[1]) if self.format is None and not tally.rows else None
            if why is not None:
                waiting.append(row)
                if len(waiting) == NOT_SERVED_ROWS:
                    break
                continue
            for each in (*waiting, row):
                self._row(*each)
            waiting = []
        if waiting and self.explicit:
            raise ValueError(f"{self.path}: {not_served(waiting[0][1])}; nothing in it to convert")
        if waiting:
            return {**report, "not_served": not_served(waiting[0][1])}
        if tally.unreadable == tally.rows and self.explicit and self.options.format == "auto":
            raise ValueError(f"{self.path}: not one row could be read; the first: {self.first_fault}")
        if self.format is None and self.explicit and not tally.converted:
            raise ValueError(f"{self.path}: no format recognises its rows; {self.first_unknown}; name a format with "
                             f"--from ({', '.join(FORMATS)})")
        formats = [name for name, _ in tally.formats.most_common()] or [self.format.name if self.format else None]
        several = {"formats": dict(tally.formats)} if len(formats) > 1 else {}
        faults = [fault for context in self.contexts.values() for fault in context.faults]
        beside = {"companion_faults": faults} if faults else {}
        return {**report, "format": formats[0], **several, **beside, **tally.report()}

    def _rows(self) -> Iterator[tuple[int, Any, str]]:
        """(line, value, text) for every row; documents are split, raw dialogues joined, broken records passed on."""
        lines: list[Any] = []
        gap = after_gap = 0             # what was said in a line that cannot be read; lines behind it depend on it
        auto = self.options.format == "auto"
        for record in records(self.path, plain=self.options.format == "queries",
                              max_record_bytes=self.options.max_record_bytes):
            if isinstance(record, Broken):
                gap = gap or record.line
                yield record.line, record, record.text
                continue
            if auto and not (isinstance(record.value, dict) and len(lines)):
                self._use(guess(record.value) or self.format)
            fmt = self.format
            if fmt is not None and fmt.is_line(record.value):
                after_gap += gap > 0
                lines += [] if gap else [record.value]
                continue
            rows = fmt.rows(record.value) if fmt is not None else None
            if rows is None:
                yield record.line, record.value, record.text
            else:
                for row in rows:
                    yield record.line, row, ""
        if lines or after_gap:
            yield 1, {"dialogue": lines, **({"lines_behind_a_gap": after_gap} if after_gap else {})}, ""

    def _use(self, fmt: Format | None) -> None:
        """Settle the format and find its companion files: that of the row at hand, or of the last recognised one."""
        if fmt is self.format:
            return
        self.format = fmt
        if fmt is not None:
            if fmt.name not in self.contexts:
                self.contexts[fmt.name] = context_of(self.path, fmt.name, self.options.turns, self.options.answers,
                                                     self.options.tools)
            self.context = self.contexts[fmt.name]

    def _unreadable(self, broken: Broken) -> None:
        self.lines.tally.unreadable += 1
        self.first_fault = self.first_fault or f"line {broken.line}: {broken.detail} ({broken.reason})"
        self.lines.reject(RowError(broken.reason, f"line {broken.line}: {broken.detail}"))
        if broken.fatal:
            self.lines.tally.broken_off = f"line {broken.line}: {broken.reason}"

    def _row(self, line: int, value: Any, text: str) -> None:
        broken = value if isinstance(value, Broken) else None
        self.lines.tally.rows += 1
        self.lines.start(line, None if broken else value, text, self.format.name if self.format is not None else None)
        if broken:
            self._unreadable(broken)
            return
        before = self.outputs.lines["rejected.jsonl"]
        row, whole = _Row(value) if isinstance(value, dict) else value, False
        try:
            if self.format is None:
                self.first_unknown = self.first_unknown or seen_in(value)
                raise RowError("unknown_format", "no format recognises the row; name one with --from")
            self.lines.tally.formats[self.format.name] += 1
            for item in self._items(row):
                # a row that is a tool names by itself what is not read of it
                whole = whole or (isinstance(item, Document) and item.tool is row
                                  and not isinstance(row.get("function"), dict))
                self.lines.put(item)
        except RowError as error:
            self.lines.reject(error)
        if isinstance(row, _Row) and self.lines.written and not whole:
            for key in row.keys() - row.asked - set(IDS):
                counts = self.lines.tally.not_read
                known = key in counts or len(counts) < COLUMNS_COUNTED
                counts[key[:80] if known else "(others)"] += 1
        if not self.lines.written and self.outputs.lines["rejected.jsonl"] == before:
            self.lines.reject(RowError("nothing_found", "the reader found neither a tool nor a query in the row"))
        self.lines.tally.converted += self.lines.written > 0

    def _items(self, value: Any) -> Iterator[Item]:
        """The reader's items; a row of another shape than the reader expects becomes a RowError."""
        assert self.format is not None
        try:
            for item in self.format.read(value, self.context):
                yield from judged(value, item) if isinstance(value, dict) else (item,)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            found = f"{type(error).__name__} {error}"
            raise RowError("wrong_shape", f"not a {self.format.name} row: {found}"[:300]) from None
        except RecursionError:
            raise RowError("too_deep", "nested too deeply") from None
