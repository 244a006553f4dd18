"""The leaderboard's data, single-turn AST categories: entries with their documentation and expected calls.

Reads the data of 2024-09-20 (`BFCL_v3_*.json`) and the later layout of the `bfcl-eval` package (`BFCL_v4_*.json`),
whose questions and answers differ: scores on one are not comparable with the other. The executable and multi-turn
categories are left out, as in the paper.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

SIMPLE = ("simple", "java", "javascript")
NON_LIVE = (*SIMPLE, "multiple", "parallel", "parallel_multiple")
LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
CATEGORIES = (*NON_LIVE, *LIVE)
IRRELEVANCE = ("irrelevance", "live_irrelevance")
SIZES_2024 = dict(zip(CATEGORIES, (400, 100, 50, 200, 200, 200, 258, 1037, 16, 24)))
FILE = re.compile(r"BFCL_(v\d+)_(.+)\.json$")
LATER_NAMES = {"simple_python": "simple", "simple_java": "java", "simple_javascript": "javascript"}
PLACES = ("", "bfcl", "data", "bfcl_eval/data", "berkeley-function-call-leaderboard/data",
          "berkeley-function-call-leaderboard/bfcl_eval/data")


@dataclass(frozen=True)
class Entry:
    """One question with its function documentation and its expected calls."""

    id: str
    category: str
    messages: tuple[dict, ...]
    functions: tuple[dict, ...]
    expected: tuple[dict, ...]

    @property
    def key(self) -> str:
        return self.id

    @property
    def group(self) -> str:
        return self.category

    @property
    def language(self) -> str:
        return self.category if self.category in ("java", "javascript") else "python"

    @property
    def rule(self) -> str:
        return "parallel" if "parallel" in self.category else "multiple" if "multiple" in self.category else "simple"


def canonical_id(entry_id: str) -> str:
    """`simple_python_3` -> `simple_3`, `simple_java_3` -> `java_3`; every other id as it is."""
    match = re.match(r"(simple_(?:python|java|javascript))_(\d+)$", entry_id)
    return f"{LATER_NAMES[match[1]]}_{match[2]}" if match else entry_id


def load_entries(data: str | Path) -> tuple[str, Path, dict[str, Entry]]:
    """(version such as v3, folder, entries by id as `canonical_id` spells it) of the files found in a folder.

    Raises:
        FileNotFoundError: the folder holds no `BFCL_v*_*.json`.
        ValueError: it holds two editions, or a question file and its answers do not fit together.
    """
    folder = _find_folder(Path(data))
    files = {(m[1], m[2]): path for path in sorted(folder.glob("BFCL_v*.json"))
             if (m := FILE.match(path.name))}
    editions = sorted({version for version, _ in files})
    if len(editions) > 1:
        raise ValueError(f"{folder}: holds the editions {editions}; keep one edition in a folder")
    entries: dict[str, Entry] = {}
    for (_, name), path in files.items():
        category = LATER_NAMES.get(name, name)
        if category in CATEGORIES or category in IRRELEVANCE:
            entries.update(_load_category(path, category))
    if not entries:
        raise FileNotFoundError(f"{folder}: no single-turn category among {sorted(name for _, name in files)}; "
                                f"expected files such as BFCL_v3_simple.json")
    return editions[0], folder, entries


def _find_folder(data: Path) -> Path:
    for place in PLACES:
        if any((data / place).glob("BFCL_v*_*.json")):
            return data / place
    raise FileNotFoundError(f"{data}: no BFCL_v*_*.json files here; fetch them with: tooldev.py data bfcl --out {data}")


def _load_category(path: Path, category: str) -> dict[str, Entry]:
    answers = path.parent / "possible_answer" / path.name
    expected = {}
    if answers.is_file():
        expected = {record["id"]: record["ground_truth"] for record in _json_lines(answers)}
    elif category not in IRRELEVANCE:
        raise ValueError(f"{answers}: missing, but {path.name} is there; the answers belong beside the questions")
    entries = {}
    for record in _json_lines(path):
        if category not in IRRELEVANCE and record["id"] not in expected:
            raise ValueError(f"{answers}: no answer for {record['id']!r}; take both files from one release")
        question = record["question"]
        turn = question[0] if question and isinstance(question[0], list) else question
        entries[canonical_id(record["id"])] = Entry(record["id"], category, tuple(turn), tuple(record["function"]),
                                                    tuple(expected.get(record["id"], ())))
    return entries


def _json_lines(path: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected one JSON object per line, as published") from None
