"""T-Eval's data: the items of its tasks, with prompt and truth."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLANS = ("plan_str", "plan_json")
TASKS = (*PLANS, "retrieve_str", "understand_str", "rru_json")
FILE_NAMES = {"plan_str": "plan_str", "plan_json": "plan_json", "retrieve_str": "retrieve_str",
              "understand_str": "understand_str", "reason_retrieve_understand_json": "rru_json"}


@dataclass(frozen=True)
class Item:
    """One item of one task: the prompt as chat turns, the truth, and for text plans the listed functions."""

    id: str
    task: str
    truth: Any
    messages: tuple[dict, ...] = ()
    functions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """With the task, because the tasks share ids."""
        return f"{self.task}/{self.id}"

    @property
    def group(self) -> str:
        return self.task


def load_items(data: str | Path) -> tuple[Path, dict[str, Item], dict[str, str]]:
    """(folder, items by key, file name by task) of every T-Eval file (`plan_json_v1.json`, `plan_str_v1.json`, ...).

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: a file is not what its name says, or two versions of one file are there.
    """
    root = Path(data)
    folder = next((f for f in (root, root / "data", root / "teval") if any(f.glob("plan_*.json"))
                   or any(f.glob("*_str*.json"))), root)
    items: dict[str, Item] = {}
    files: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        task = FILE_NAMES.get(re.sub(r"_v\d+$", "", path.stem))
        if task is None:
            continue
        if task in files:
            raise ValueError(f"{folder}: {files[task]} and {path.name} are both {task}; keep one version in a folder")
        files[task] = path.name
        for key, record in _load(path).items():
            item = Item(key, task, record["ground_truth"], tuple(record.get("origin_prompt", ())),
                        tuple(record.get("meta", {}).get("API_list", ())))
            items[item.key] = item
    if not files:
        raise FileNotFoundError(f"{folder}: no T-Eval file; expected names such as plan_json_v1.json or "
                                "retrieve_str_v2.json")
    return folder, items, files


def _load(path: Path) -> dict:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected one JSON object of items, as published") from None
    if not isinstance(records, dict) or not all(isinstance(r, dict) and "ground_truth" in r for r in records.values()):
        raise ValueError(f"{path}: expected an object of items with a ground_truth, as published")
    return records
