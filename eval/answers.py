"""Files of saved answers and of verdicts, shared by the three benchmarks.

An answers file is JSON Lines. A line that is not strict JSON (NaN, 1e400, a key twice, too deep, cut off, not UTF-8) is
an undecodable answer, not an error: whatever identifies the entry is recovered and the rest is dropped.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.schema import JsonError, read_jsonl, strict_json_loads
from eval.stats import Comparison, paired_bootstrap

IDENTITY = ("id", "category", "level", "file", "sample_id", "task", "underscore_names")
_FIELD = re.compile(r'"(id|category|level|file|sample_id|task)"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.){0,300}"|-?\d{1,9})')
_HEAD_CHARS = 4_096


@dataclass(frozen=True)
class Answer:
    """One line of an answers file; `fault` says why the line could not be read as strict JSON."""

    record: dict[str, Any]
    fault: str | None = None

    def text(self, key: str) -> str | None:
        """The field if it is text."""
        value = self.record.get(key)
        return value if isinstance(value, str) else None


def read_answers(path: str | Path) -> Iterator[Answer]:
    """Every non-empty line of an answers file, in order.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected saved answers, one JSON object per line")
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield read_answer(line)


def read_answer(line: bytes) -> Answer:
    """One line, whatever is in it."""
    try:
        record = strict_json_loads(line.decode("utf-8-sig"))
        if isinstance(record, dict):
            return Answer(record)
        return Answer({}, "not_an_object")
    except JsonError as error:
        return Answer(_identity(line), error.code)
    except UnicodeDecodeError:
        return Answer(_identity(line), "not_utf8")


def _identity(line: bytes) -> dict[str, Any]:
    """The fields that say which entry a broken line belongs to, as far as they can be read."""
    text = line.decode("utf-8", errors="replace")
    try:
        record = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        record = {}
        for name, value in _FIELD.findall(text[:_HEAD_CHARS]):
            try:
                record.setdefault(name, json.loads(value))
            except ValueError:
                continue
    if not isinstance(record, dict):
        return {}
    return {key: record[key] for key in IDENTITY if isinstance(record.get(key), (str, int))}


def printable(value: Any, limit: int = 200) -> str:
    """A name for an output file: text of bounded length that UTF-8 can hold."""
    text = value if isinstance(value, str) else "" if value is None else str(value)[:limit]
    return text[:limit].encode("utf-8", "backslashreplace").decode("utf-8")


def main_score(verdict: Mapping[str, Any]) -> float:
    """The one number per entry that runs are compared on, 0..1, from a line of verdicts.jsonl."""
    if "valid" in verdict:
        return float(bool(verdict["valid"]))
    score = verdict.get("score", 0.0)
    if isinstance(score, Mapping):
        score = next((score[key] for key in ("f1_score", "name", "args") if key in score), 0.0)
    return float(score)


def compare_verdicts(ours: Sequence[Mapping], other: str | Path, *, seed: int = 0) -> tuple[Comparison, dict[str, int]]:
    """Paired comparison (ours minus the other run) over the entries both runs answered, each id once.

    Raises:
        FileNotFoundError, ValueError: the other verdicts cannot be read, or no entry is in both.
    """
    theirs = _by_id(record for _, record in read_jsonl(_verdicts_file(other)))
    mine = _by_id(ours)
    shared = [key for key in mine if key in theirs]
    if not shared:
        raise ValueError(f"{other}: no entry is in both runs; compare runs of the same benchmark and data")
    comparison = paired_bootstrap([theirs[key] for key in shared], [mine[key] for key in shared], seed)
    return comparison, {"shared": len(shared), "only_here": len(mine) - len(shared), "only_there": len(theirs) - len(shared)}


def _verdicts_file(path: str | Path) -> Path:
    path = Path(path)
    return path / "verdicts.jsonl" if path.is_dir() else path


def _by_id(verdicts: Any) -> dict[tuple[str, str], float]:
    scores: dict[tuple[str, str], float] = {}
    for verdict in verdicts:
        scores.setdefault((str(verdict.get("task", "")), str(verdict.get("id"))), main_score(verdict))
    return scores
