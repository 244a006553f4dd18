"""Files that survive a kill and folders that lose nothing: every write of the project to the disk goes by these rules.

A file is written aside, flushed to the disk and renamed: a reader sees the old one or the whole new one. A record is
appended as one line, and a line that a kill tore is cut off before the next. A folder is complete when its marker is
there, with the hash of what it vouches for.

An output folder (`claim`) is written to only if it is empty or if its manifest says that the same command made it with
the same settings from the same inputs, and the files are as it left them. All else is refused before anything is
opened for writing, unless the user says `--overwrite`. Left out: what the files mean.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Self, TextIO

MANIFEST, BEGUN, DONE = "manifest.json", ".begun.json", "DONE.json"
OVERWRITE = ", or say --overwrite to replace what gets the same name, the input too"
SHOWN = 4           # so many names or differences are told, the rest counted


# ------------------------------------------------------------------------------------------------------ one at a time

@contextmanager
def held(folder: Path, work: str, dist_rank: int = 0) -> Iterator[None]:
    """Hold a folder for this process and this work in it; the system lets go on any exit, a kill too.

    Raises:
        ValueError: another process does the same work in it. Two that append to one file would mix their lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{work}.lock-{dist_rank:03d}"
    with path.open("a") as file:
        _lock(file.fileno(), folder, work)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)                # while it is held: nobody else can have taken it
            return
    with held(folder, work, dist_rank):                     # the one before took its file away as we opened it
        yield


def _lock(opened: int, folder: Path, work: str, *, wait: bool = False) -> None:
    """Lock an open file, or the folder itself, against other processes; a second one is refused, or waits."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise ValueError(f"{folder}: another process is at work in it ({work}); wait for it or stop it") from None
        print(f"{folder}: another command is writing there; waiting for its end", file=sys.stderr)
        fcntl.flock(opened, fcntl.LOCK_EX)
    except OSError as error:
        print(f"note: {folder}: its file system has no locks ({error.strerror}), so nothing keeps a second process "
              "out", file=sys.stderr)


# --------------------------------------------------------------------------------------------------------- whole files

@contextmanager
def aside(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write `path` into: flushed and renamed at the end of the block, removed where an error ends it.

    Raises:
        ValueError: `path` is a folder or a device, which a rename would take away.
        OSError: naming `path`, also where the system names no file (a full disk).
    """
    path = Path(path)
    refuse_no_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path), place.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(place, path)
    except BaseException:
        place.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Around a write: what the system refuses (a full disk) is an OSError with its number that names `path`.

    An open file's own error names no file, and safetensors raises one of its kind, with the number in its text.
    """
    try:
        yield
    except Exception as error:
        found = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
        number = int(found[1]) if found else error.errno if isinstance(error, OSError) and not error.filename else None
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a whole file: readers see the old one or the new one."""
    with aside(path) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a whole text file in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, obj: Any) -> None:
    """Write one indented, strict JSON document."""
    write_text(path, json.dumps(obj, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> None:
    """Write one strict JSON object per line: dictionaries, or records that have `to_dict`."""
    with aside(path) as file:
        for row in rows:
            file.write(_line(row if isinstance(row, dict) else row.to_dict()).encode("utf-8"))


def flush(path: Path) -> None:
    """Make a file durable, or the renames inside a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


# -------------------------------------------------------------------------------------------------------------- hashes

def sha256_text(text: str) -> str:
    """Hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_path(path: str | Path, without: Path | None = None) -> str:
    """Hex SHA-256 of a file, or of the names and hashes of all files below a folder, less hidden ones.

    `without`: a folder whose files do not count where it lies below that one.
    """
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    own = without.resolve() if without and path.resolve() in without.resolve().parents else None
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file() and not _hidden(p, path)
                   and own not in p.resolve().parents)
    return sha256_text("\n".join(f"{name} {sha256_file(path / name)}" for name in names))


def _hidden(path: Path, above: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(above).parts)


# --------------------------------------------------------------------------------------- records appended, line by line

def append_to(path: Path) -> TextIO:
    """Open a JSON Lines file for `append_record`; what a kill left of its last line is cut off."""
    if path.exists():
        cut_to(path, None)
    return path.open("a", encoding="utf-8", newline="\n")


def append_record(file: TextIO, record: dict[str, Any]) -> None:
    """Add one record; after this call a kill does not lose it."""
    with naming(file.name):
        file.write(_line(record))
        file.flush()


def cut_to(path: Path, lines: int | None) -> None:
    """Cut a JSON Lines file to its first `lines` whole lines (None: to all whole ones)."""
    whole = path.read_bytes().split(b"\n")[:-1][:lines]
    size = sum(len(line) + 1 for line in whole)
    if size < path.stat().st_size:
        os.truncate(path, size)


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that may still be written to, without one that is not whole yet."""
    return path.read_bytes().split(b"\n")[:-1]


# --------------------------------------------------------------------------------------------- markers of whole folders

def mark_done(folder: Path, files: Iterable[str], **facts: Any) -> None:
    """Write DONE.json, last: the facts, and the hash of each file that it vouches for."""
    files = list(files)
    for name in files:
        flush(folder / name)
    write_json(folder / DONE, {**facts, "sha256": {name: sha256_file(folder / name) for name in files}})
    flush(folder)


def fault(folder: Path) -> str | None:
    """Why a marked folder cannot be trusted; None if it can."""
    try:
        marker = json.loads((folder / DONE).read_text(encoding="utf-8"))
        for name, digest in marker["sha256"].items():
            if sha256_file(folder / name) != digest:
                return f"{name} does not match its sha256"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        return f"{DONE} does not parse"
    return None


def refuse_changed_records(folder: Path) -> None:
    """ValueError if a record (JSON, JSON Lines) that the folder's marker vouches for holds something else by now."""
    vouched = (read_record(folder / DONE) or {}).get("sha256")
    records = [(folder / name, digest) for name, digest in (vouched.items() if isinstance(vouched, dict) else ())
               if name.endswith((".json", ".jsonl"))]
    changed = [path.name for path, digest in records if path.is_file() and sha256_file(path) != digest]
    if changed:
        raise ValueError(f"{folder}: {some(changed)} changed after the step was done; put the record back")


# --------------------------------------------------------------------------------- a folder begun with something else

def refuse_changes(where: str | Path, begun: Mapping[str, Any], now: Mapping[str, Any], *, advice: str = "",
                   spell: Callable[[str], str] = str) -> None:
    """ValueError naming every setting that differs between what `where` was begun with and what is wanted now."""
    changed = [f"{spell(name)} was {_short(begun.get(name))}, now {_short(now.get(name))}"
               for name in sorted(begun.keys() | now.keys()) if begun.get(name) != now.get(name)]
    if changed:
        advice = advice or "use the same settings to go on, or another folder"
        raise ValueError(f"{where} was begun with other settings: {some(changed, '; ')}; {advice}")


def some(items: Sequence[str], between: str = ", ") -> str:
    """The first few items, and how many more there are."""
    more = [f"{len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return between.join([*items[:SHOWN], *more])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# ------------------------------------------------------------------------------------------------------ output folders

@dataclass(frozen=True)
class Claim:
    """One command's right to write into a folder; made by `claim`, ended by `finish`."""

    out: Path
    made_by: str
    settings: dict[str, Any]
    inputs: list[dict[str, Any]]
    former: frozenset[str] = frozenset()        # files of an earlier manifest that --overwrite makes void
    writes: tuple[str, ...] = ()
    overwrite: bool = False
    locks: list[weakref.finalize] = field(default_factory=list, compare=False)

    def __enter__(self) -> Self:
        """Say in the folder what was begun, so that the same command may go on after a kill; others wait meanwhile."""
        self.out.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.out, os.O_RDONLY)
        self.locks.append(weakref.finalize(self, os.close, folder))     # which lets go
        _lock(folder, self.out, self.made_by, wait=True)
        try:
            if not self.overwrite:
                _refuse_others(self, self.writes)           # one that worked here since this claim was made
            write_json(self.out / BEGUN, {"made_by": self.made_by, "settings": self.settings, "inputs": self.inputs})
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not visible(self.out):
            (self.out / BEGUN).unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        for lock in self.locks:
            lock()

    def finish(self, outputs: Mapping[str, Mapping[str, Any]], inputs: list[dict[str, Any]] | None = None,
               **facts: Any) -> dict[str, Any]:
        """Write the manifest, last -> the manifest.

        Files that an overwritten manifest named, but this one does not, are removed.

        Args:
            outputs: file (".jsonl" may be left out) -> what is known of it, "sha256" at least.
            inputs: the inputs with what the command found in them.
        """
        for name in self.former - {_file_name(name) for name in outputs}:
            (self.out / name).unlink(missing_ok=True)
        manifest = {"made_by": self.made_by, "settings": self.settings, "inputs": inputs or self.inputs,
                    "outputs": dict(outputs), **facts}
        write_json(self.out / MANIFEST, manifest)
        return manifest


def claim(out: str | Path, made_by: str, *, inputs: Iterable[tuple[str, str | Path]], writes: Iterable[str],
          settings: Mapping[str, Any] | None = None, reads: Iterable[str | Path] = (), overwrite: bool = False,
          begun: bool = False) -> Claim:
    """The right to write into `out`. Only looks: nothing is made or opened for writing.

    Args:
        made_by: the command, as "tooldev.py convert".
        inputs: (name, file or folder) that the outputs are made from; the manifest keeps their hashes.
        writes: the names of the files that are to be written.
        settings: what else the outputs depend on.
        reads: further paths that are read and must not lie in `out`.
        overwrite: the user said so: what is there may be replaced.
        begun: something else in the folder, which the caller compares, says that this command began it.

    Raises:
        ValueError: `out` is no folder, holds an input, or holds files that this command did not make with these
            inputs and settings, or that were changed since.
    """
    out, inputs, writes = Path(out), list(inputs), list(writes)
    refuse_no_folder(out)
    for name in writes:
        refuse_no_file(out / name)
    if not overwrite:
        refuse_inputs_inside(out, (*(path for _, path in inputs), *reads))
    known = [{"file": name, "sha256": sha256_path(path, out)} for name, path in inputs]
    mine = Claim(out, made_by, json.loads(json.dumps(settings or {})), known, writes=tuple(writes), overwrite=overwrite)
    if overwrite:
        return replace(mine, former=_made_void(mine, [path for _, path in inputs]))
    found = visible(out)                    # looked at before the markers: another process may be at work here
    if found and not _refuse_others(mine, writes) and not begun:
        raise ValueError(f"--out {out}: holds files that this command did not make ({some(found)}); choose another "
                         "folder, or say --overwrite to replace those that get the same name")
    return mine


def _refuse_others(mine: Claim, writes: Iterable[str]) -> bool:
    """ValueError where a marker or a manifest says that the folder is another claim's; whether there is one of ours."""
    out, manifest = mine.out, read_record(mine.out / MANIFEST)
    record = read_record(out / BEGUN) if visible(out) else None         # of a command killed before it wrote: void
    told = manifest if record is None else record
    if told is not None:
        _refuse_other_claim(mine, told)
    if manifest is not None and (record is None or _same_claim(mine, manifest)):    # a finished run, perhaps begun anew
        _refuse_changed_files(out, manifest, writes)
    return told is not None


def made(out: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Those of the named files that are there, with their hashes: outputs for `Claim.finish`."""
    return {name: {"sha256": sha256_file(out / name)} for name in names if (out / name).is_file()}


def claimed_settings(out: Path) -> dict[str, Any]:
    """The settings of the command that wrote, or began to write, into a folder; empty where none says so."""
    record = out.is_dir() and (read_record(out / BEGUN) or read_record(out / MANIFEST)) or {}
    return record["settings"] if isinstance(record.get("settings"), dict) else {}


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """The flag of every command that claims a folder."""
    parser.add_argument("--overwrite", action="store_true",
                        help="write into --out whatever is there, and replace files of the same name")


def refuse_foreign(out: str | Path, *markers: str, allowed: Sequence[str] = ()) -> None:
    """ValueError if a folder that is to be gone on with holds something, but none of the files that mark it as ours.

    Args:
        markers: patterns of files that a run of this kind leaves first; their content is the caller's to compare.
        allowed: names that may stand there before those.
    """
    out = Path(out)
    refuse_no_folder(out)
    if any(True for marker in markers for _ in out.glob(marker)):
        return
    found = [name for name in visible(out) if name not in allowed]
    if found:
        raise ValueError(f"--out {out}: not empty, and nothing of ours ({some(found)}, but no {' or '.join(markers)}); "
                         "choose another folder")


def begun_marker(out: Path, made_by: str) -> list[str]:
    """The marker's name where it says that this command began the folder."""
    record = read_record(out / BEGUN) if out.is_dir() else None
    return [BEGUN] if record and record.get("made_by") == made_by else []


def refuse_no_folder(out: Path) -> None:
    """ValueError unless the folder, or the nearest one above it that exists, is one to write in. Asks only."""
    nearest = next(place for place in (out.absolute(), *out.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        found = "no folder" if not nearest.is_dir() else "not writable"
        raise ValueError(f"--out {out}: cannot write there ({nearest} is {found}); choose another folder or change its "
                         "rights")


def writable(out: Path) -> None:
    """Make the folder and try to write in it, before any work is done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".write-test-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror}); choose another folder or change its "
                         "rights") from None


def refuse_no_file(path: Path) -> None:
    """ValueError if something that is no file (a folder, a device such as /dev/null, a pipe) has this name."""
    if path.exists() and not path.is_file():
        found = "a folder" if path.is_dir() else "a device or a pipe"
        raise ValueError(f"{path}: is {found}, and a file is to be written under this name; choose another path")


def refuse_inputs_inside(out: Path, inputs: Iterable[str | Path], advice: str = OVERWRITE) -> None:
    """ValueError if a file or folder that is read lies in the folder that is written to, or is that folder."""
    if not out.is_dir():
        return
    for path in map(Path, inputs):
        places = {path.absolute(), path.resolve()}
        above = {place for one in places for place in (one, *one.parents) if place.exists()}
        if any(os.path.samefile(place, out) for place in above):
            raise ValueError(f"--out {out}: the input {path} lies there; choose another folder{advice}")


def refuse_replacing(path: str | Path, text: str, *, inputs: Iterable[str | Path] = (),
                     overwrite: bool = False) -> None:
    """ValueError if writing `text` to a single file would replace an input, no file, or a file of other text."""
    path = Path(path)
    refuse_no_file(path)
    if any(path.exists() and Path(other).exists() and os.path.samefile(path, other) for other in inputs):
        raise ValueError(f"{path}: is the input; choose another file to write")
    if path.exists() and not overwrite and path.read_bytes() != text.encode("utf-8"):
        raise ValueError(f"{path}: is there already and holds something else; choose another file, or say --overwrite")


def visible(folder: Path) -> list[str]:
    """The names in a folder, hidden ones (ours while we write, the system's own) left out; none where there is none."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []


def read_record(path: Path) -> dict[str, Any] | None:
    """A manifest or marker, {} where it cannot be read as one; None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_other_claim(mine: Claim, record: dict[str, Any]) -> None:
    advice = "choose another folder, or say --overwrite"
    if record.get("made_by") != mine.made_by:
        maker = record.get("made_by") or "something else"
        raise ValueError(f"--out {mine.out}: was made by {maker}, not by {mine.made_by}; {advice}")
    if isinstance(settings := record.get("settings"), dict):
        refuse_changes(f"--out {mine.out}", settings, mine.settings, advice=advice)
    before, now = (_hashes(entries) for entries in (record.get("inputs"), mine.inputs))
    if before != now:
        names = sorted({name for name, _ in set(before) ^ set(now)}) or ["the same files in another number"]
        raise ValueError(f"--out {mine.out}: was made from other inputs ({some(names)}); {advice}")


def _same_claim(mine: Claim, record: dict[str, Any]) -> bool:
    return (record.get("made_by"), record.get("settings"), _hashes(record.get("inputs"))) == (
        mine.made_by, mine.settings, _hashes(mine.inputs))


def _hashes(inputs: Any) -> list[tuple[str, str]]:
    """(name, hash) of every input that has a hash, sorted."""
    entries = inputs if isinstance(inputs, list) else []
    return sorted((str(entry.get("file")), entry["sha256"]) for entry in entries
                  if isinstance(entry, dict) and isinstance(entry.get("sha256"), str))


def _outputs(record: dict[str, Any]) -> dict[str, str]:
    outputs = record.get("outputs")
    return {_file_name(name): entry["sha256"] for name, entry in (outputs.items() if isinstance(outputs, dict) else ())
            if isinstance(entry, dict) and isinstance(entry.get("sha256"), str)}


def _file_name(name: str) -> str:
    return name if Path(name).suffix else f"{name}.jsonl"


def _refuse_changed_files(out: Path, record: dict[str, Any], writes: Iterable[str]) -> None:
    made = _outputs(record)
    changed = [name for name in sorted({*made, *writes}) if (out / name).is_file() and name != MANIFEST
               and sha256_file(out / name) != made.get(name)]
    if changed:
        raise ValueError(f"--out {out}: {some(changed)} changed after this command wrote it, or is another's; choose "
                         "another folder, or say --overwrite to replace it")


def _made_void(mine: Claim, inputs: Sequence[str | Path]) -> frozenset[str]:
    """Files that stand as an earlier manifest of this command left them, but for inputs."""
    record = read_record(mine.out / MANIFEST) or {}
    made = _outputs(record) if record.get("made_by") == mine.made_by else {}
    read = {Path(path).resolve() for path in inputs}
    return frozenset(name for name, digest in made.items() if Path(name).name == name
                     and (mine.out / name).is_file() and (mine.out / name).resolve() not in read
                     and sha256_file(mine.out / name) == digest)
