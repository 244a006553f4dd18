"""How a run survives a kill: files written aside, flushed, renamed; a marker with hashes, last; safetensors and JSON only.

Leaves out: what is in a checkpoint (resume.snapshot).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from safetensors.torch import load_file, save_file
from torch import Tensor


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_unwritable(out: Path) -> None:
    """ValueError unless the folder, or the nearest one above it that exists, is one to write in.

    Asks only: a run that is refused later has made nothing.
    """
    nearest = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        found = "no folder" if not nearest.is_dir() else "not writable"
        raise ValueError(f"--out {out}: cannot write there ({nearest} is {found}); choose another folder or change its rights")


def write_json(path: Path, value: dict) -> None:
    """Strict JSON, aside then renamed."""
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def flush_dir(path: Path) -> None:
    """Make renames inside a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def mark_done(directory: Path, files: list[str], **facts) -> None:
    """Write DONE.json, last: the sha256 of each file that it vouches for."""
    for name in files:
        with open(directory / name, "rb") as file:
            os.fsync(file.fileno())
    write_json(directory / "DONE.json", {**facts, "sha256": {name: sha256(directory / name) for name in files}})
    flush_dir(directory)


def fault(directory: Path) -> str | None:
    """Why a marked directory cannot be trusted; None if it can."""
    try:
        marker = json.loads((directory / "DONE.json").read_text(encoding="utf-8"))
        for name, digest in marker["sha256"].items():
            if sha256(directory / name) != digest:
                return f"{name} does not match its sha256"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        return "DONE.json does not parse"
    return None


def append_from(path: Path, lines: int) -> TextIO:
    """Open a JSONL file to append to, cut back to its first `lines` whole lines (those a checkpoint vouches for)."""
    if path.exists():
        kept = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines] if line.endswith("\n")]
        aside = path.with_name(path.name + ".tmp")
        aside.write_text("".join(kept), encoding="utf-8")
        os.replace(aside, path)
    return open(path, "a", encoding="utf-8")


class Checkpoints:
    """The last `keep` checkpoints of a run: checkpoint/step-NNNNNN/{state.safetensors, state.json, DONE.json}."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory, self.keep = directory, keep

    def save(self, step: int, tensors: dict[str, Tensor], state: dict) -> None:
        """Write one checkpoint and drop the oldest, and any of a later step: damaged ones, since the run went on from before them.

        Call on one process: every process holds the same weights.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        final = self.directory / f"step-{step:06d}"
        aside = self.directory / f".step-{step:06d}.tmp"
        for stale in self.directory.glob(".step-*.tmp"):        # of a run that was killed while it wrote
            shutil.rmtree(stale, ignore_errors=True)
        aside.mkdir()
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                  aside / "state.safetensors")
        write_json(aside / "state.json", state)
        mark_done(aside, ["state.safetensors", "state.json"], step=step)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
        flush_dir(self.directory)
        steps = self.steps()
        own = steps.index(final)
        for old in (*steps[:max(0, own + 1 - self.keep)], *steps[own + 1:]):
            shutil.rmtree(old, ignore_errors=True)

    def steps(self) -> list[Path]:
        """Checkpoints, oldest first, damaged ones included."""
        return sorted(path for path in self.directory.glob("step-*") if path.is_dir())

    def newest(self, say: Callable[[str], None]) -> tuple[dict[str, Tensor], dict] | None:
        """The newest checkpoint that its hashes vouch for; a damaged one is named and passed over."""
        paths = self.steps()
        for path in reversed(paths):
            reason = fault(path)
            if reason is None:
                return (load_file(path / "state.safetensors"),
                        json.loads((path / "state.json").read_text(encoding="utf-8")))
            say(f"checkpoint {path} is damaged ({reason}); " + ("using the one before it" if path != paths[0] else "there is none before it: the run begins anew"))
        return None

    def clear(self) -> None:
        """The run is complete: drop every checkpoint."""
        shutil.rmtree(self.directory, ignore_errors=True)
