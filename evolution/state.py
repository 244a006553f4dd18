"""What a round keeps on disk while it runs: append-only progress per process, the round's identity, the marker.

A record is on disk as soon as its item is done, so a killed round goes on with the items that are missing. Draws depend
on the item and not on its neighbours, hence the same records in the end, whoever made them and in whatever order.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import (
    append_record,
    append_to,
    refuse_changes,
    refuse_foreign,
    sha256_file,
    sha256_text,
    whole_lines,
    write_json,
)
from data.schema import Example, Query, dump_json, load_examples, read_json, strict_json_loads

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Place:
    """Where a process works on a round: the round's folder, and which process of how many it is."""

    folder: Path
    dist_rank: int = 0
    world_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the round's files."""
        return self.dist_rank == 0

    @property
    def progress(self) -> Path:
        """The folder of what is kept while the round runs."""
        return self.folder / "progress"

    def dealt(self, queries: Sequence[Query]) -> list[Query]:
        """This process's queries: by index, none twice, none padded."""
        return list(queries[self.dist_rank::self.world_size])

    def claim(self, identity: dict[str, Any]) -> None:
        """Write the round's identity, or check that what is there is the same round.

        Raises:
            ValueError: the folder holds a round that was begun with something else; every difference is named.
        """
        path = self.folder / "round.json"
        identity = json.loads(json.dumps(identity))                 # tuples as lists, as they will be read
        if self.first and not path.exists():
            refuse_foreign(self.folder, "round.json", allowed=("progress",))
            write_json(path, identity)
        wait_until(path.exists)
        refuse_changes(self.folder, read_json(path), identity,
                       advice="use the old settings, or remove the folder to begin this round anew")

    def leave_progress(self) -> None:
        """This process reads nothing more of the progress folder; the first one clears it when all have said so."""
        own = self.progress / f"left-{self.dist_rank:03d}-of-{self.world_size:03d}"
        own.parent.mkdir(parents=True, exist_ok=True)
        own.touch()
        if self.first:
            wait_until(lambda: len(list(own.parent.glob(f"left-*-of-{self.world_size:03d}"))) == self.world_size)

    def clear_progress(self) -> None:
        shutil.rmtree(self.progress, ignore_errors=True)

    def mark_round(self, files: Iterable[str], **facts: Any) -> None:
        """Write DONE.json, last: the facts, those that training marked, and the sha256 of every file vouched for."""
        path = self.folder / "DONE.json"
        marker = read_json(path) if path.is_file() else {}
        hashes = marker.get("sha256", {}) | {name: sha256_file(self.folder / name) for name in sorted(files)}
        write_json(path, {**marker, **facts, "sha256": hashes})


class Progress:
    """The records of one phase ("tools" or "calls"), one file per process, in the folder `progress`."""

    def __init__(self, place: Place, phase: str, key: Callable[[dict], Any]) -> None:
        self.folder, self.phase, self.key, self.world_size = place.progress, phase, key, place.world_size
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{phase}-{place.dist_rank:03d}-of-{place.world_size:03d}.jsonl"
        self.marker = self.path.with_suffix(".done")
        self.file = append_to(self.path)

    def append(self, record: dict[str, Any]) -> None:
        """Add one record; after this line a kill does not lose it."""
        append_record(self.file, record)

    def records(self) -> dict[Any, dict[str, Any]]:
        """All records of the phase, of every process and of earlier starts; the first of equal keys."""
        found: dict[Any, dict[str, Any]] = {}
        for path in sorted(self.folder.glob(f"{self.phase}-*.jsonl")):
            for line in whole_lines(path):
                record = strict_json_loads(line.decode("utf-8"))
                found.setdefault(self.key(record), record)
        return found

    def finish(self) -> None:
        """This process has done its part; wait until all have. No collective, so no time-out of one."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self.marker.touch()
        wait_until(lambda: len(list(self.folder.glob(f"{self.phase}-*-of-{self.world_size:03d}.done")))
                   == self.world_size)


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll; torchrun ends this process if another one dies."""
    while not condition():
        time.sleep(POLL_SECONDS)


# ------------------------------------------------------------------------------------------------------------- identity

def model_sha(model: str | Path, adapter: str | Path | None = None) -> str:
    """One hash over the weights, the config and the tokenizer of a base and its adapter."""
    wanted = ("*.safetensors", "config.json", "tokenizer.json", "tokenizer.model")
    files = sorted({path for pattern in wanted for path in Path(model).glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in files):
        raise FileNotFoundError(f"{model}: no *.safetensors; expected the folder of a base model")
    if adapter is not None:
        files.append(Path(adapter) / "adapter_model.safetensors")
    return sha256_text("\n".join(f"{path.name} {sha256_file(path)}" for path in files))


def content_sha(rows: Iterable[dict[str, Any]]) -> str:
    """One hash over records, whatever their order."""
    return sha256_text("\n".join(sorted(dump_json(row) for row in rows)))


# --------------------------------------------------------------------------------------------------------------- marker

def round_is_done(folder: str | Path) -> bool:
    """True if the marker is there and is the round's (training writes one too, before the ledger exists)."""
    path = Path(folder) / "DONE.json"
    return path.is_file() and "ledger.json" in read_json(path).get("sha256", {})


def require_start(run: Path, number: int) -> Path:
    """The adapter folder that round `number` starts from; ValueError if the step before it is not complete."""
    before = run / ("joint" if number == 1 else f"round-{number - 1}")
    complete = (before / "DONE.json").is_file() if number == 1 else round_is_done(before)
    if not complete:
        raise ValueError(f"{before}/DONE.json: the marker of the step before round {number} is missing; finish "
                         f"{'the joint stage' if number == 1 else f'round {number - 1}'} first")
    return before / "adapter"


def refuse_stopped(run: Path, number: int) -> None:
    """ValueError if the round before `number` says that no further one should follow."""
    ledger = run / f"round-{number - 1}" / "ledger.json"
    reason = read_json(ledger)["stop"] if ledger.is_file() else None
    if reason:
        raise ValueError(f"round {number} does not start: {reason} ({ledger}); without --stop-when it does")


def earlier_examples(run: Path, number: int) -> list[Example]:
    """The accepted examples of the rounds before this one."""
    return [e for n in range(1, number) for e in load_examples(run / f"round-{n}" / "accepted.jsonl")]
