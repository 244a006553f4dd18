"""What several models scored on the benchmarks, read from folders that `eval` wrote, as plain values.

A folder holds one benchmark's answers of one model. Its label is the step of a run, or any name. Both readings of the
answers are kept beside one another, and the steps are compared on the same entries.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.prompts import NATIVE_PROMPT
from data.schema import read_json, read_jsonl
from eval.bfcl.entries import IRRELEVANCE
from eval.lenient import LENIENT, STRICT
from eval.report.gather import is_round, round_names, start_of
from eval.score import VERDICTS, compare, scores_of
from tooldev import STEPS

BENCHMARKS = {"bfcl": "BFCL", "apibank": "API-Bank", "sealtools": "Seal-Tools", "teval": "T-Eval"}
NATIVE = f"-{NATIVE_PROMPT}"             # ends the label of a model that was asked by its own tool template
SETTINGS = ("max_new_tokens", "temperature", "precision", "categories")


def read_benchmarks(folders: Mapping[str, Iterable[Path]]) -> dict[str, Any]:
    """{"steps": label -> benchmark -> its cell, "comparisons": [...]} of folders by label.

    Raises:
        FileNotFoundError: a folder has no summary.json.
        ValueError: two folders of a label are of one benchmark, or one was scored before there were two readings.
    """
    places: dict[str, dict[str, Path]] = {}
    steps: dict[str, dict[str, Any]] = {}
    for label, found in folders.items():
        for folder in found:
            bench, cell = read_cell(folder)
            if bench in steps.setdefault(label, {}):
                raise ValueError(f"{folder} and {places[label][bench]}: both are {bench} of {label}; give one")
            steps[label][bench] = cell
            places.setdefault(label, {})[bench] = folder
    return {"steps": steps, "comparisons": comparisons(places)}


def folders_of(run: Path) -> dict[str, list[Path]]:
    """The benchmark folders of a run's steps, in the order of the steps."""
    found: dict[str, list[Path]] = {}
    for name in (*STEPS, *round_names(run)):
        for summary in sorted(run.glob(f"{name}/bench/*/summary.json")):
            label = name + NATIVE if summary.parent.name.endswith(NATIVE) else name
            found.setdefault(label, []).append(summary.parent)
    return found


def read_cell(folder: Path) -> tuple[str, dict[str, Any]]:
    """(benchmark, what one folder of `eval` says)."""
    if not (folder / "summary.json").is_file():
        raise FileNotFoundError(f"{folder}: no summary.json; expected a folder that `tooldev.py eval` has finished")
    summary = read_json(folder / "summary.json")
    if LENIENT not in summary:
        raise ValueError(f"{folder}: scored before answers were read in two ways; type its eval command again, which "
                         "keeps the answers and scores them both ways")
    by_reading = {STRICT: summary, LENIENT: summary[LENIENT]}
    given = read_json(folder / "eval.json")["settings"] if (folder / "eval.json").is_file() else {}
    return summary["benchmark"], {
        "scores": {reading: part["scores"] for reading, part in by_reading.items()},
        "irrelevance": {reading: {name: part["categories"][name]["accuracy"] for name in IRRELEVANCE
                                  if name in part.get("categories", {})} for reading, part in by_reading.items()},
        "no_tool_fits": called_of(summary.get("irrelevance")),
        "outcomes": {reading: outcomes(folder / file) for reading, file in VERDICTS.items()},
        "written": summary["written"], "cut_off": cut_off(folder / "answers.jsonl"),
        "answers_sha256": summary["answers"]["sha256"],
        **{key: summary.get(key) for key in ("edition", "prompt", "subset", "limited_to", "similarity", "version")},
        "settings": {key: given.get(key) for key in SETTINGS}
        | {key: Path(given[key]).name if given.get(key) else None for key in ("model", "adapter")},
    }


def called_of(irrelevance: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Entries whose tools do not serve the request, and how many were answered by a call, read strictly."""
    return {key: irrelevance[key] for key in ("n", "called")} if irrelevance and irrelevance["n"] else None


def outcomes(path: Path) -> dict[str, int]:
    """How many entries ended how; those where no function fits are counted apart (`irrelevance`)."""
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for _, line in read_jsonl(path):
        first.setdefault((str(line.get("task", "")), str(line["id"])), line)
    kept = [line for line in first.values() if line.get("category") not in IRRELEVANCE]
    return dict(sorted(Counter(line["outcome"] for line in kept).items()))


def cut_off(path: Path) -> int | None:
    """How many answers reached the length limit; None where the answers are not kept."""
    if not path.is_file():
        return None
    return sum(line.get("finish_reason") == "length" for _, line in read_jsonl(path))


def comparisons(places: Mapping[str, Mapping[str, Path]]) -> list[dict[str, Any]]:
    """Paired differences on the same entries: each label against where it started and against the first label, a round
    against joint training, and all against the first label asked by its own tool prompt, too.

    "silence" compares the entries that no function fits, {} where a benchmark has none.
    """
    labels, found = list(places), []
    for label in labels[1:]:
        joint = ["joint"] if is_round(label) and "joint" in labels else []
        native = [name for name in (labels[0] + NATIVE,) if name in labels]
        for before in dict.fromkeys((started(label, labels), *joint, labels[0], *native)):
            for bench in places[label]:
                if before != label and bench in places[before]:
                    folders = (places[before][bench], places[label][bench])
                    found.append({"before": before, "after": label, "benchmark": bench, **paired(*folders),
                                  "silence": paired(*folders, silence=True)})
    return found


def started(label: str, labels: Sequence[str]) -> str:
    """The label of the step that this one went on from, or the first one."""
    known = label in STEPS or is_round(label) and label.removeprefix("round-").isdigit()
    start = start_of(label) if known else ""
    return start if start in labels else labels[0]


def changes(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of every benchmark with an overall score by the strict reading: what the last step changed of the raw model's.

    A cell holds "benchmark", "step", "after" (its score) and what part of the benchmark was asked ("subset"). With the
    raw model's score, that stands in "before", and the paired difference over the same entries in "paired"; where the
    raw model was also asked by its own tool prompt, in "native" and "paired_native".
    """
    cells = []
    for bench in BENCHMARKS:
        asked = {label: of[bench] for label, of in found["steps"].items()
                 if bench in of and not label.endswith(NATIVE) and of[bench]["scores"][STRICT].get("overall")}
        if not asked:
            continue
        last = list(asked)[-1]
        cell = {"benchmark": BENCHMARKS[bench], "step": last, "after": asked[last]["scores"][STRICT]["overall"],
                **{key: asked[last][key] for key in ("subset", "limited_to")}}
        for label, score, test in (("raw", "before", "paired"), ("raw" + NATIVE, "native", "paired_native")):
            pair = next((pair for pair in found["comparisons"]
                         if (pair["before"], pair["after"], pair["benchmark"]) == (label, last, bench)), None)
            if pair:
                cell |= {score: found["steps"][label][bench]["scores"][STRICT]["overall"], test: pair[STRICT]}
        cells.append(cell)
    return cells


def paired(before: Path, after: Path, silence: bool = False) -> dict[str, Any]:
    """Of each reading: the comparison of two folders' verdicts, after minus before, on the entries that want a call.

    With `silence` on those that no function fits, where no call is right; {} where both have none.
    """
    found: dict[str, Any] = {}
    for reading, file in VERDICTS.items():
        theirs, ours = (scores_of(line for _, line in read_jsonl(folder / file)
                                  if (line.get("category") in IRRELEVANCE) == silence) for folder in (before, after))
        if silence and not (theirs and ours):
            return {}
        compared, overlap = compare(theirs, ours, str(before / file))
        found[reading] = compared.to_dict() | {"left_out": overlap["only_here"] + overlap["only_there"]}
    return found
