"""API-Bank's data: the next calls to predict, the documentation of the APIs and the state of the services."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from data.schema import read_json
from eval.apibank.services import Databases

LEVELS = {1: ("level-1-api.json", "level-1-given-desc"), 2: ("level-2-api.json", "level-2-toolsearcher")}


@dataclass(frozen=True)
class Row:
    """One next call to predict: the prompt, the expected call as text, and the recorded call with its result."""

    level: int
    file: str
    sample_id: int
    instruction: str
    input: str
    expected: str
    api: str
    recorded: Mapping[str, Any]

    @property
    def key(self) -> str:
        return f"L{self.level}/{self.file}#{self.sample_id}"

    @property
    def group(self) -> str:
        return str(self.level)


@dataclass(frozen=True)
class Data:
    """Rows of both levels, the documentation of every API and the state of the services."""

    folder: str
    rows: dict[str, Row]
    documents: dict[str, dict]
    databases: Databases
    unattainable: dict[str, str]

    @cached_property
    def search_texts(self) -> dict[str, str]:
        """For the tool search: name split at capitals, lower-cased, followed by the description."""
        return {name: re.sub(r"([A-Z])", r" \1", name).strip().lower() + " " + document["description"]
                for name, document in self.documents.items() if name != "ToolSearcher"}


def load_data(data: str | Path) -> Data:
    """Load the folder that holds test-data/, lv1-lv2-samples/, init_database/ and api_docs.json.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a row has no recorded call.
    """
    folder = Path(data)
    if not (folder / "test-data").is_dir() and (folder / "apibank").is_dir():
        folder = folder / "apibank"
    rows: dict[str, Row] = {}
    for level, (name, dialogues) in LEVELS.items():
        samples: dict[str, list[dict]] = {}
        for record in read_json(folder / "test-data" / name):
            file, number = record["file"], record["id"]
            if file not in samples:
                samples[file] = _samples(folder / "lv1-lv2-samples" / dialogues / file)
            turn = samples[file][number] if number < len(samples[file]) else {}
            if turn.get("role") != "API":
                raise ValueError(f"{folder}: row {file}#{number} of {name} has no recorded call; "
                                 "take both from one release")
            row = Row(level, file, number, record["instruction"], record["input"], record["expected_output"],
                      turn["api_name"], turn["result"])
            rows[row.key] = row
    documents = {document["name"]: document for document in read_json(folder / "api_docs.json")
                 if document.get("suite", "level-1/2") == "level-1/2"}
    blocked = folder / "unattainable.json"
    unattainable = {u["id"]: u["kind"] for u in read_json(blocked)} if blocked.is_file() else {}
    return Data(str(folder), rows, documents, Databases(folder / "init_database"), unattainable)


def _samples(path: Path) -> list[dict]:
    """The released sample builder: for every API turn that turn and the next one, so adjacent calls come twice."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such dialogue; expected the released samples beside test-data")
    turns = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    return [turn for pair in pairwise([*turns, {}]) if pair[0].get("role") == "API" for turn in pair]
