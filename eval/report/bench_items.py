"""The entries of the benchmarks for the report's explorer: what was asked, and the answer after each step.

Verdicts and answers are read from the folders that `eval` wrote. The questions and the right answers are read again
from the benchmark's data, and left out where these are gone or are others by now. An entry is (row, detail) as in
records.py; a row is [id, question, benchmark, category, error types by step as strictly read, as leniently read].
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import sha256_path
from data.prompts import pieces_text
from data.schema import read_json, read_jsonl
from eval import benches
from eval.answers import Answer
from eval.benches import Benchmark
from eval.lenient import LENIENT, STRICT
from eval.report.measured import BENCHMARKS
from eval.report.records import SHORT, Entry, cut
from eval.score import VERDICTS, main_score

ASKED = 8_000                   # characters of one message of a prompt
NOT_ASKED = "not_asked"
Key = tuple[str, str]           # (task, id) of an entry
Lines = Mapping[Key, Mapping[str, Any]]


def bench_entries(folders: Mapping[str, Sequence[Path]], notes: list[str]) -> Iterator[Entry]:
    """The entries of every benchmark, in the order of its answers; `notes` gets what could not be shown.

    Args:
        folders: folders of `eval` by the step's title, in the order of the steps.
    """
    by_bench: dict[str, dict[str, Path]] = {}
    for label, found in folders.items():
        for folder in found:
            by_bench.setdefault(read_json(folder / "summary.json")["benchmark"], {})[label] = folder
    for name, places in by_bench.items():
        board = questions(name, next(iter(places.values())))
        if isinstance(board, str):
            notes.append(f"The questions of {BENCHMARKS.get(name, name)} are not here: {board}.")
        yield from entries_of(name, places, list(folders), None if isinstance(board, str) else board)


def questions(name: str, folder: Path) -> Benchmark | str:
    """The benchmark as it was asked, or why its questions cannot be shown."""
    if not all((folder / file).is_file() for file in ("eval.json", "manifest.json")):
        return f"{folder.name} has no eval.json and manifest.json"
    settings = read_json(folder / "eval.json")["settings"]
    data = Path(settings["data"])
    if not data.exists():
        return f"{data} is not there"
    if {"file": "data", "sha256": sha256_path(data, folder)} not in read_json(folder / "manifest.json")["inputs"]:
        return f"{data} holds other files by now"
    return benches.load(name, data, argparse.Namespace(**settings))


def entries_of(name: str, places: Mapping[str, Path], labels: Sequence[str], board: Benchmark | None
               ) -> Iterator[Entry]:
    """The entries of one benchmark."""
    strict, lenient = ({label: lines_of(folder / VERDICTS[reading]) for label, folder in places.items()}
                       for reading in (STRICT, LENIENT))
    answers = {label: lines_of(folder / "answers.jsonl") for label, folder in places.items()}
    for key in dict.fromkeys(key for lines in strict.values() for key in lines):
        given = {label: lines[key] for label, lines in answers.items() if key in lines}
        line = next(lines[key] for lines in strict.values() if key in lines)
        entry = board.find(Answer(dict(next(iter(given.values()), line)))) if board else None
        asked, expected = ([], "") if entry is None else asked_of(board, entry)
        kinds = [[kind_of(by_label.get(label, {}).get(key)) for label in labels] for by_label in (strict, lenient)]
        query = next((text for role, text in reversed(asked) if role == "user"), "")
        group = entry.group if entry else str(line.get("category") or line.get("task") or line.get("level") or "")
        yield ([key[1], query[:SHORT], BENCHMARKS.get(name, name), group, *kinds],
               {"asked": [[role, cut(text, ASKED)] for role, text in asked], "expected": cut(expected),
                "answers": [text_of(given.get(label)) for label in labels]})


def lines_of(path: Path) -> dict[Key, dict[str, Any]]:
    """The first line to each entry; none where the file is not kept."""
    found: dict[Key, dict[str, Any]] = {}
    for _, line in read_jsonl(path) if path.is_file() else ():
        found.setdefault((str(line.get("task", "")), str(line.get("id"))), line)
    return found


def asked_of(board: Benchmark, entry: Any) -> tuple[list[tuple[str, str]], str]:
    """(role and text of each message, the right answer)."""
    asked = [(message["role"], pieces_text(message["content"])) for message in board.messages(entry)]
    return asked, board.expected(entry)


def kind_of(verdict: Mapping[str, Any] | None) -> str:
    """"right", or the error's type in the benchmark's own word."""
    if verdict is None:
        return NOT_ASKED
    if main_score(verdict) >= 0.9999:
        return "right"
    return str(verdict.get("reason") or verdict.get("error_type") or verdict.get("outcome") or "wrong")


def text_of(answer: Mapping[str, Any] | None) -> Any:
    """What the model wrote; None where it is not kept."""
    if answer is None:
        return None
    text = answer.get("text", answer.get("reply"))
    return cut(text if isinstance(text, str) else "") if text is not None else None
