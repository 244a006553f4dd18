"""Records out of files: JSON lines, JSON arrays, whole JSON documents, CSV and plain text, each also gzipped.

Everything streams: memory is bounded by the longest record that is accepted (`max_record_bytes`), never by the file.
A record that cannot be read is yielded as a `Broken` with its line, so the caller can list it; a file that as a whole
is not what it should be raises ValueError. What this module leaves out: any idea of what a record means.
"""

import codecs
import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from data.formats.strict import strict_loads
from data.schema import JsonError

MAX_RECORD_BYTES = 64 * 2**20
QUERY_COLUMNS = ("query", "user_request", "question", "instruction", "text", "utterance", "prompt")   # in any case
CHUNK = 1 << 20
SNIFF = 1 << 16
HOPELESS = 20  # so many unreadable lines before the first readable one mean: this is no JSON lines file


@dataclass(frozen=True)
class Record:
    """One readable record and the line it starts on (1-based)."""

    line: int
    value: Any
    text: str = ""


@dataclass(frozen=True)
class Broken:
    """One unreadable record: why, and the head of its text. `fatal` means that nothing after it could be read."""

    line: int
    reason: str
    detail: str
    text: str = ""
    fatal: bool = False


_LOOSE = json.JSONDecoder()
_CUT_SHORT = (EOFError, zlib.error, gzip.BadGzipFile)
_JSON_START = re.compile(r'\{\s*(?:"|\})|\[\s*\{\s*"')


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip where its first bytes say so (the name is not trusted)."""
    with open(path, "rb") as file:
        magic = file.read(2)
    return gzip.open(path, "rb") if magic == b"\x1f\x8b" else open(path, "rb")  # type: ignore[return-value]


def records(path: str | Path, *, kind: str | None = None, plain: bool = False,
            max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Record | Broken]:
    """Yield the records of a file, in order.

    Args:
        path: a .jsonl, .json, .csv, .tsv or .txt file, gzipped or not.
        kind: "lines", "array", "document", "csv" or "text"; found from the content (and the name) if None.
        plain: take a file that looks like nothing else for plain text, one query per line, whatever its name.
        max_record_bytes: longer records are yielded as `Broken`, without being held in memory.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an empty file, UTF-16 or -32, or not one JSON line among the first ones.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; --in takes files that exist")
    kind = kind or sniff(path, plain=plain)
    reader = {"lines": _lines, "array": _array, "document": _document, "csv": _csv, "text": _text}[kind]
    with open_binary(path) as stream:
        line = 0
        try:
            for item in reader(path, stream, max_record_bytes):
                line = item.line
                yield item
        except _CUT_SHORT as error:
            yield Broken(line + 1, "file_ends_early",
                         f"{path.name}: the gzip data break off after line {line}: {error}", fatal=True)


def _read(stream: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes. Gzip data that break off give what stood before, and the error when asked again."""
    pieces: list[bytes] = []
    while size > 0:
        try:
            piece = stream.read1(size)  # type: ignore[attr-defined]
        except _CUT_SHORT:
            if pieces:
                break
            raise
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def sniff(path: Path, *, plain: bool = False) -> str:
    """Say which kind of file this is, from its first 64 KiB and its name. Raises ValueError as `records` does."""
    try:
        with open_binary(path) as stream:
            head = _read(stream, SNIFF)
    except _CUT_SHORT as error:
        raise ValueError(f"{path}: broken gzip data at the very start ({error}); get the file again") from None
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path}: UTF-16 text, expected UTF-8; convert it first, e.g. iconv -f UTF-16 -t UTF-8")
    text = head.decode("utf-8-sig", "replace").lstrip()
    if not text:
        raise ValueError(f"{path}: the file is empty, expected records; nothing was converted")
    name = path.name.removesuffix(".gz").lower()
    first = text.partition("\n")[0]
    if name.endswith((".csv", ".tsv", ".txt")) and not (_JSON_START.match(text)
                                                        and (_parses(first) or len(first) < 3 or len(head) == SNIFF)):
        return "text" if name.endswith(".txt") else "csv"
    if text[0] == "[":
        return "array"
    if text[0] != "{":
        if _has_query_column(first):
            return "csv"
        return "text" if plain and not _parses(first) else "lines"
    return "lines" if _starts_with_lines(text, len(head) < SNIFF) else "document"


def _has_query_column(header: str) -> bool:
    """Does a line name columns, a query's among them? A sentence with the word and a comma does not."""
    columns = [column.strip().strip("\"'").lower() for column in re.split("[,\t;]", header)]
    return (len(columns) > 1 and any(column in QUERY_COLUMNS for column in columns)
            and all(len(column.split()) <= 3 for column in columns))


def _starts_with_lines(text: str, whole: bool) -> bool:
    """Does text that opens with a brace hold one object per line, rather than one object over many lines?"""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) == 1:
        return not whole or _parses(lines[0])
    return _parses(lines[0]) or lines[1].startswith("{")


def _parses(line: str) -> bool:
    with suppress(ValueError, RecursionError):
        json.loads(line)
        return True
    return False


def _raw_lines(stream: BinaryIO, limit: int) -> Iterator[tuple[int, bytes, int]]:
    """(number, the line, or of one that is longer than the limit its beginning, its length) of every line."""
    number = 0
    while raw := stream.readline(limit + 1):
        number, head, length = number + 1, raw, len(raw)
        while raw and length > limit and not raw.endswith(b"\n"):
            raw = stream.readline(CHUNK)
            length += len(raw)
        yield number, head, length


def _lines(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record | Broken]:
    unreadable, readable = 0, False
    for number, raw, length in _raw_lines(stream, limit):
        if length > limit:
            yield Broken(number, "record_too_long", f"the line has {length:,} bytes, the limit is {limit:,}")
            continue
        item = _line(number, raw)
        if item is None:
            continue
        readable = readable or isinstance(item, Record)
        unreadable += isinstance(item, Broken)
        if not readable and unreadable >= HOPELESS:
            raise ValueError(f"{path}: not one of the first {number} lines is JSON; the last begins {item.text[:60]!r};"
                             " expected one JSON object per line or a JSON array (for CSV or plain text: --from "
                             "queries)")
        yield item


def _line(number: int, raw: bytes) -> Record | Broken | None:
    try:
        text = raw.decode("utf-8").lstrip("\ufeff").strip()    # files put one after another have a mark inside
    except UnicodeDecodeError as error:
        return Broken(number, "not_utf8", f"byte {error.start} of the line is not UTF-8", raw[:200].decode("latin-1"))
    return _strict(number, text) if text else None


class _Window:
    """A sliding window of decoded text over a byte stream, with the line number at its start."""

    def __init__(self, stream: BinaryIO) -> None:
        # Bytes that are not UTF-8 become lone surrogates here, so that one bad string costs one record and not the
        # file.
        self.stream, self.decoder = stream, codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self.text, self.at, self.line, self.ended = "", 0, 1, False

    def more(self, most: int = CHUNK) -> bool:
        """Drop what was read, append as much as is left: retries stay linear in all; `most` bytes at most."""
        rest = self.text[self.at:]
        data = _read(self.stream, min(max(CHUNK, len(rest)), most))
        piece = self.decoder.decode(data, final=not data)
        self.text, self.at = rest + piece, 0
        self.ended = not data
        return bool(data or piece)

    def move(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def skip(self, letters: str) -> str:
        """Skip the given letters and return the next one without taking it; "" at the end of the file."""
        while True:
            end = self.at
            while end < len(self.text) and self.text[end] in letters:
                end += 1
            self.move(end)
            if end < len(self.text):
                return self.text[end]
            if not self.more():
                return ""


def _array(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record | Broken]:
    window = _Window(stream)
    window.skip(" \t\r\n")
    window.move(window.at + 1)  # the opening bracket, seen by `sniff`
    separators = " \t\r\n"
    while True:
        letter = window.skip(separators)
        if letter == "]":
            window.move(window.at + 1)
            letter = window.skip(" \t\r\n\ufeff")
            if letter and letter != "[":    # another array may follow, as in files put one after another
                yield Broken(window.line, "not_json", f"{path.name}: {letter!r} after the end of the array; nothing "
                                                      "after it was read", fatal=True)
            if letter != "[":
                return
            window.move(window.at + 1)
            continue
        if not letter:
            yield Broken(window.line, "file_ends_early", f"{path.name}: the array is not closed; the file is cut short",
                         fatal=True)
            return
        item = _element(window, limit)
        yield item
        if isinstance(item, Broken) and item.fatal:
            return
        after = window.skip(" \t\r\n")
        if after == ",":
            window.move(window.at + 1)
        elif after and after != "]":
            yield Broken(window.line, "not_json", f"{path.name}: expected a comma after an element of the array, found "
                                                  f"{after!r}; nothing after it was read", fatal=True)
            return


def _element(window: _Window, limit: int) -> Record | Broken:
    """Read one array element; the window grows only while what it holds is a true beginning of a value."""
    while True:
        line = window.line
        try:
            _, end = _LOOSE.raw_decode(window.text, window.at)
            if end < len(window.text) or window.ended:
                break
        except RecursionError:
            return Broken(line, "not_json", "nested too deeply; nothing after it was read", fatal=True)
        except ValueError as error:
            if not _cut_off(error, window.text) or window.ended:
                reason = "file_ends_early" if window.ended else "not_json"
                return Broken(line, reason, f"{str(error)[:200]}; nothing after it was read",
                              window.text[window.at:window.at + 2000], fatal=True)
        if len(window.text) - window.at > limit:
            return Broken(line, "record_too_long", f"an element has over {limit:,} characters; nothing after it was "
                                                   "read",
                          window.text[window.at:window.at + 200], fatal=True)
        window.more(max(limit + 1 - (len(window.text) - window.at), CHUNK))
    text = window.text[window.at:end]
    window.move(end)
    if len(text) > limit:
        return Broken(line, "record_too_long", f"the element has {len(text):,} characters, the limit is {limit:,}",
                      text[:200])
    return _strict(line, text)


def _strict(line: int, text: str) -> Record | Broken:
    if not text.isascii() and re.search("[\udc80-\udcff]", text):
        return Broken(line, "not_utf8", "the record holds bytes that are not UTF-8",
                      text.encode("utf-8", "replace").decode()[:2000])
    try:
        return Record(line, strict_loads(text), text)
    except JsonError as error:
        return Broken(line, error.code, error.detail, text)


def _cut_off(error: ValueError, text: str) -> bool:
    """Did parsing fail because the window ends, rather than because the text is wrong?"""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(text) - 16


def _document(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record | Broken]:
    data = stream.read(limit + 1)
    if len(data) > limit:
        yield Broken(1, "record_too_long", f"{path.name}: one JSON document of over {limit:,} bytes; write it as one "
                                           "object per line",
                     fatal=True)
        return
    try:
        yield _strict(1, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        yield Broken(1, "not_utf8", f"byte {error.start} of the file is not UTF-8", fatal=True)


def _decoded(stream: BinaryIO, limit: int) -> Iterator[tuple[int, str | None]]:
    """Yield (line number, text or None where it is not UTF-8 or too long) for every line."""
    for number, raw, length in _raw_lines(stream, limit):
        whole = length <= limit or raw.endswith(b"\n")
        try:
            yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8") if whole else None
        except UnicodeDecodeError:
            yield number, None


def _text(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record | Broken]:
    for number, text in _decoded(stream, limit):
        if text is None:
            yield Broken(number, "not_utf8", "the line is not UTF-8, or too long")
        elif text.strip():
            yield Record(number, {"query": text.strip()}, text.strip())


def _csv(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record | Broken]:
    """CSV with a header line; a quoted field may run over lines.

    The delimiter is a tab in .tsv, else the first of comma, tab and semicolon that the header line has. A quote that is
    never closed would swallow the rest of the file: what stands from its line on is given up, and said to be.
    """
    broken: list[int] = []

    def good_lines() -> Iterator[str]:
        for number, text in _decoded(stream, limit):
            if text is None:
                broken.append(number)
            yield "" if text is None else text

    tab = path.name.removesuffix(".gz").lower().endswith(".tsv")
    csv.field_size_limit(min(limit, 2**31 - 1))
    lines = good_lines()
    first = next(lines, "")
    delimiter = "\t" if tab else next((mark for mark in ",\t;" if mark in first), ",")
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line, row, ended = 1, [], False
    while not ended:
        fault = ""
        try:
            row = next(reader)
        except StopIteration:
            ended = True
        except csv.Error as error:
            fault = str(error)
            ended = "delimiter" not in fault and "expected after" not in fault
        while broken:
            yield Broken(broken.pop(0), "not_utf8", "the line is not UTF-8, or too long")
        start, line = line, reader.line_num + 1
        if fault:
            yield Broken(start, "bad_csv", f"{fault}; nothing after it was read" if ended else fault, fatal=ended)
        elif ended or not any(field.strip() for field in row):
            continue
        elif header is None:
            header = [field.strip() for field in row]
            if len(set(header)) < len(header):
                raise ValueError(f"{path}: the header names a column twice ({', '.join(header)[:200]}); rename one")
        elif len(row) != len(header):
            yield Broken(start, "wrong_columns", f"{len(row)} fields, the header has {len(header)}",
                         delimiter.join(row))
        else:
            yield Record(start, dict(zip(header, row, strict=True)), delimiter.join(row))
