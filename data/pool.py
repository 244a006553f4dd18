"""A pool of tools on disk: JSON Lines of which only the tools that are found are read, and its index kept in a folder.

A kept index is mapped into memory, so a search of a large pool begins at once. Its index.json, written last, holds the
hash of the pool that it was made of, and of every file beside it: of another pool, or damaged, it is made anew.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.binary import not_text
from data.files import aside, sha256_file, visible, write_json, write_text
from data.retrieval import Postings, ToolIndex
from data.schema import Tool, read_json, strict_json_loads

VERSION = 2                         # of the words and weights: an index of another version is made anew
ARRAYS = ("starts", "documents", "counts", "lengths")
FILES = tuple(f"{name}.npy" for name in (*ARRAYS, "names", "lines")) + ("terms.txt",)


class Pool(Sequence[Tool]):
    """The tools of a JSON Lines file, read from it whenever one is asked for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no tool in it, or (when it is read) "PATH, line N: ..." for a line that is no tool.
    """

    def __init__(self, path: str | Path, lines: np.ndarray | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            found = "not a plain file" if self.path.exists() else "no such file"
            raise FileNotFoundError(f"{path}: {found}; expected JSON Lines, one tool per line")
        with self.path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        if (found := not_text(self.path)) is not None or packed:
            raise ValueError(f"{path}: {found or 'packed with gzip; unpack it first: gunzip -k FILE'}")
        self.lines = self._lines() if lines is None else lines          # (N, 2) int64: first byte, line number
        if not len(self.lines):
            raise ValueError(f"{path}: no tools in it; expected JSON Lines, one tool per line")

    def _lines(self) -> np.ndarray:
        found, start = [], 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.removeprefix(BOM_UTF8).strip():
                    found.append((start, number))
                start += len(line)
        return np.array(found, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, position: int) -> Tool:
        start, number = self.lines[position].tolist()
        with self.path.open("rb") as file:
            file.seek(start)
            return self._tool(file.readline(), number)

    def __iter__(self) -> Iterator[Tool]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.removeprefix(BOM_UTF8).strip():
                    yield self._tool(line, number)

    def _tool(self, line: bytes, number: int) -> Tool:
        try:
            record = strict_json_loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            tool = Tool.from_dict(record)
            if not isinstance(record.get("group"), str | None):
                raise ValueError(f"tool {tool.name!r}: `group` must be a string, found "
                                 f"{type(record['group']).__name__}")
            return tool
        except ValueError as error:
            raise ValueError(f"{self.path}, line {number}: {error}; expected one tool, mend or remove the line"
                             ) from None


def open_pool(path: str | Path, folder: str | Path | None = None) -> tuple[ToolIndex, str]:
    """The index of a pool, and how it came about: "made", "made and kept", "made anew", "damaged, made anew" or "kept".

    Args:
        folder: where the index is kept and looked for; None: it is made for this time only.

    Raises:
        FileNotFoundError, ValueError: as `Pool`; or the folder holds something else.
    """
    if folder is None:
        return ToolIndex(Pool(path)), "made"
    folder = Path(folder)
    made = {"version": VERSION, "pool_sha256": sha256_file(Pool(path).path)}
    kept, there = _kept(folder), set(visible(folder))
    ours = there - {"index.json"} == {*FILES} or there <= {*FILES} - {"terms.txt"}      # the latter: broken off
    if (folder.exists() and not folder.is_dir()) or ("pool_sha256" not in kept and not ours):
        raise ValueError(f"{folder}: {'a folder with other files' if there else 'no folder'}; give --index a new one")
    how = "made and kept" if not there else "made anew" if kept else "damaged, made anew"
    if made.items() <= kept.items():
        try:
            if kept.get("files") == _hashes(folder):
                return _load(path, folder), "kept"
        except (OSError, ValueError, EOFError):
            pass                                            # told below, and made anew
        how = "damaged, made anew"
    pool = Pool(path)
    _save(ToolIndex(pool), pool, folder, made)
    return _load(path, folder), how


def _kept(folder: Path) -> dict:
    """What index.json says; {} where there is none, or none that can be read."""
    try:
        record = read_json(folder / "index.json")
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name in FILES}


def _save(index: ToolIndex, pool: Pool, folder: Path, made: dict) -> None:
    """Write the arrays and the terms; index.json, which vouches for them, last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    arrays = {name: getattr(index.postings, name) for name in ARRAYS} | {"names": index.names, "lines": pool.lines}
    for name, array in arrays.items():
        with aside(folder / f"{name}.npy") as file:         # another process may have the old one mapped
            np.save(file, array)
    write_text(folder / "terms.txt", "\n".join(index.postings.vocabulary))
    write_json(folder / "index.json", made | {"files": _hashes(folder)})


def _load(path: str | Path, folder: Path) -> ToolIndex:
    """Map an index whose files are as they were written."""
    text = (folder / "terms.txt").read_text(encoding="utf-8")
    arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in (*ARRAYS, "names", "lines")}
    lines, names = arrays.pop("lines"), arrays.pop("names")
    vocabulary = {term: at for at, term in enumerate(text.split("\n") if text else ())}
    return ToolIndex(Pool(path, lines), Postings(vocabulary, **arrays), names)
