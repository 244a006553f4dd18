"""Files that stand beside a corpus: the answers to its questions by id, the documents of its tools by name.

What cannot be read in one, or says two things of one id or name, is left out of it and told: a question without its
answer stays a query.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.formats.items import Context
from data.formats.source import Broken, records

FAULTS_SHOWN = 20               # of one companion file; the rest as a count


def context_of(path: Path, name: str, turns: str, answers: str | None, tools: str | None) -> Context:
    """What a reader of `path` in the format `name` may know: companions as named, or where the corpora put them.

    Raises:
        ValueError: a companion has no row with an id or a name.
    """
    folder, file = path.parent, path.name
    if answers is None and name == "bfcl" and (folder / "possible_answer" / file).is_file():
        answers = str(folder / "possible_answer" / file)
    specification = folder / file.replace("-data", "-spec")
    if tools is None and name == "nestful" and "-data" in file and specification.is_file():
        tools = str(specification)
    if tools is None and name == "sealtools" and (folder / "tool.jsonl").is_file():
        tools = str(folder / "tool.jsonl")
    faults: list[str] = []
    return Context(turns, index(answers, ("id",), "ground_truth", faults),
                   index(tools, ("name", "api_name"), None, faults), tuple(faults))


def index(path: str | None, keys: Sequence[str], value: str | None, faults: list[str]) -> dict[str, Any] | None:
    """A companion file as a dictionary, None without a file; what it holds in vain is added to `faults`, in words."""
    if path is None:
        return None
    found: dict[str, Any] = {}
    several: set[str] = set()
    told: list[str] = []
    for record in records(path):
        if isinstance(record, Broken):
            told.append(f"line {record.line}: {record.detail} ({record.reason})")
            continue
        row = record.value
        key = next((row[word] for word in keys if word in row), None) if isinstance(row, dict) else None
        if key is None:
            told.append(f"line {record.line}: has no {' or '.join(keys)}")
            continue
        held = row if value is None else row.get(value)
        if found.setdefault(str(key), held) != held and str(key) not in several:
            several.add(str(key))
            told.append(f"line {record.line}: says something else of {key!r:.60} than a line before; neither is taken")
    if not found:
        raise ValueError(f"{path}: no row has {' or '.join(keys)}; expected the companion file of the corpus")
    more = [f"{len(told) - FAULTS_SHOWN} further lines"] if len(told) > FAULTS_SHOWN else []
    faults += [f"{Path(path).name}: {fault}" for fault in (*told[:FAULTS_SHOWN], *more)]
    return {key: held for key, held in found.items() if key not in several}
