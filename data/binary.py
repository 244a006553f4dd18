"""Files that are no text, told by their first bytes and by their name, with what to do about each.

Data are read as JSON Lines, JSON, CSV and text, gzipped or not. Left out: reading anything else.
"""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

HEAD = 512          # bytes that are looked at; tar's mark stands at 257
SPELLED = (b"PAR1", b"ARROW1", b"%PDF-", b"version https://git-lfs")    # marks that no line of data begins with


class Kind(NamedTuple):
    """A kind of file that is not read: its marks (offset, bytes), its names' ends, and what to do with it."""

    name: str
    marks: tuple[tuple[int, bytes], ...]
    suffixes: tuple[str, ...]
    advice: str


_LINES = "to_json('rows.jsonl', orient='records', lines=True)"
_TABLE = "export it as JSON Lines, for instance with pandas: pandas.{}(FILE)." + _LINES
_UNPACK = "unpack it and give the files that are in it"

KINDS = (
    Kind("a Parquet file", ((0, b"PAR1"), (0, b"PARE")), (".parquet", ".pq"), _TABLE.format("read_parquet")),
    Kind("an Arrow or Feather file", ((0, b"ARROW1"), (0, b"FEA1"), (0, b"\xff\xff\xff\xff")),
         (".arrow", ".feather", ".ipc"),
         "export it as JSON Lines, for instance with datasets: Dataset.from_file(FILE).to_json('rows.jsonl')"),
    Kind("an ORC file", ((0, b"ORC"),), (".orc",), _TABLE.format("read_orc")),
    Kind("an Avro file", ((0, b"Obj\x01"),), (".avro",), "export its records as JSON Lines"),
    Kind("an HDF5 file", ((0, b"\x89HDF\r\n"),), (".h5", ".hdf5"), "export its records as JSON Lines"),
    Kind("an SQLite database", ((0, b"SQLite format 3\x00"),), (".db", ".sqlite", ".sqlite3"),
         "export the table as JSON Lines: sqlite3 FILE -json 'SELECT * FROM table' gives a JSON array"),
    Kind("a DuckDB database", ((8, b"DUCK"),), (".duckdb",),
         "export the table: COPY table TO 'rows.jsonl' (FORMAT json)"),
    Kind("an old Excel or Office file", ((0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),), (".xls", ".doc"),
         "save the sheet as CSV in UTF-8"),
    Kind("an Excel workbook", (), (".xlsx", ".xlsm", ".xlsb", ".ods"), "save the sheet as CSV in UTF-8"),
    Kind("a NumPy file", ((0, b"\x93NUMPY"),), (".npy", ".npz"), "export its records as JSON Lines"),
    Kind("a zip archive", ((0, b"PK\x03\x04"), (0, b"PK\x05\x06")), (".zip", ".docx"), _UNPACK),
    Kind("a tar archive", ((257, b"ustar"),), (".tar", ".tgz"), _UNPACK),
    Kind("a Zstandard file", ((0, b"\x28\xb5\x2f\xfd"),), (".zst", ".zstd"), "unpack it first: zstd -d FILE"),
    Kind("an xz file", ((0, b"\xfd7zXZ\x00"),), (".xz", ".lzma"), "unpack it first: xz -dk FILE"),
    Kind("a bzip2 file", ((0, b"BZh1AY&SY"), *((0, b"BZh%d1AY&SY" % n) for n in range(1, 10))), (".bz2",),
         "unpack it first: bzip2 -dk FILE"),
    Kind("an LZ4 file", ((0, b"\x04\x22\x4d\x18"),), (".lz4",), "unpack it first: lz4 -d FILE"),
    Kind("a 7z archive", ((0, b"7z\xbc\xaf\x27\x1c"),), (".7z",), _UNPACK),
    Kind("a RAR archive", ((0, b"Rar!\x1a\x07"),), (".rar",), _UNPACK),
    Kind("a PDF document", ((0, b"%PDF-"),), (".pdf",), "give the data as JSON Lines, JSON, CSV or text"),
    Kind("a picture", ((0, b"\x89PNG\r\n"), (0, b"\xff\xd8\xff"), (0, b"GIF8")), (".png", ".jpg", ".jpeg", ".gif"),
         "give the data as JSON Lines, JSON, CSV or text"),
    Kind("a pickle", (), (".pkl", ".pickle", ".pt", ".pth", ".bin"),
         "because it could run code; export its records as JSON Lines"),
    Kind("a file of weights", (), (".safetensors", ".gguf"), "give the data as JSON Lines, JSON, CSV or text"),
    Kind("a Git LFS pointer", ((0, b"version https://git-lfs"),), (),
         "the data themselves are elsewhere: git lfs pull"),
)


def not_text(path: Path) -> str | None:
    """What a file is that no reader of text takes, and what to do; None where it may be text.

    The first bytes decide; the name counts only where they are no text, and to tell kinds of zip archives apart.
    """
    try:
        head, packed = _head(path)
    except OSError:
        return None
    bare = path.name.lower().removesuffix(".gz") if packed else path.name.lower()
    text = _is_text(head)
    named = None if text else next((kind for kind in KINDS if bare.endswith(kind.suffixes or ("/",))), None)
    marked = next((kind for kind in KINDS for at, mark in kind.marks
                   if head[at:at + len(mark)] == mark and (not text or mark in SPELLED)), None)
    kind = named if named is not None and (marked is None or marked.name == "a zip archive") else marked
    if kind is None:
        return None
    return f"{kind.name}{' in gzip' if packed else ''}, which is not read here; {kind.advice}"


def _head(path: Path) -> tuple[bytes, bool]:
    """(the first bytes, whether they came out of gzip)."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head[:2] != b"\x1f\x8b":
        return head, False
    try:
        with gzip.open(path, "rb") as file:
            return file.read(HEAD), True
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b"", True                    # a broken one is told by who reads it


def _is_text(head: bytes) -> bool:
    """Whether bytes could open a text in UTF-8; a character cut off at the end counts."""
    if b"\x00" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and error.reason == "unexpected end of data"
    return True
