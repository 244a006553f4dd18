"""Berkeley Function-Calling Leaderboard, single-turn AST categories: data, verdicts and aggregates (Table 1).

Reads the data of 2024-09-20 (`BFCL_v3_*.json`) and the later layout of the `bfcl-eval` package (`BFCL_v4_*.json`), whose
questions and answers differ: scores on one are not comparable with the other. The executable and multi-turn categories
are left out, as in the paper. The irrelevance files, where present, are scored apart: there the right answer is no call.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.parse import Reason, parse_calls
from eval.answers import Answer, printable
from eval.bfcl.checker import Verdict, ast_check
from eval.bfcl.decode import FAILED, Undecodable, check_shape, decode_text
from eval.stats import Interval, proportion, weighted_interval

SIMPLE = ("simple", "java", "javascript")
NON_LIVE = (*SIMPLE, "multiple", "parallel", "parallel_multiple")
LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
CATEGORIES = (*NON_LIVE, *LIVE)
IRRELEVANCE = ("irrelevance", "live_irrelevance")
SIZES_2024 = dict(zip(CATEGORIES, (400, 100, 50, 200, 200, 200, 258, 1037, 16, 24)))
LATER_NAMES = {"simple_python": "simple", "simple_java": "java", "simple_javascript": "javascript"}
PLACES = ("", "bfcl", "data", "bfcl_eval/data", "berkeley-function-call-leaderboard/data",
          "berkeley-function-call-leaderboard/bfcl_eval/data")
CALLED = "irrelevance_error:decoder_success"
UNKNOWN = "unknown_entry"
REFUSED = "refused"                     # finish_reason of a prompt that the model had no room for: it answered nothing


@dataclass(frozen=True)
class Entry:
    """One question with its function documentation and its expected calls."""

    id: str
    category: str
    messages: tuple[dict, ...]
    functions: tuple[dict, ...]
    expected: tuple[dict, ...]

    @property
    def language(self) -> str:
        return self.category if self.category in ("java", "javascript") else "python"

    @property
    def rule(self) -> str:
        return "parallel" if "parallel" in self.category else "multiple" if "multiple" in self.category else "simple"


@dataclass(frozen=True)
class Benchmark:
    """The entries of one edition, in file order; `rules` are those that edition is judged by."""

    edition: str
    rules: str
    folder: str
    entries: dict[str, Entry]

    def find(self, entry_id: Any) -> Entry | None:
        """The entry of that id; ids of either edition's spelling are understood."""
        return self.entries.get(canonical_id(entry_id)) if isinstance(entry_id, str) else None


def canonical_id(entry_id: str) -> str:
    """`simple_python_3` -> `simple_3`, `simple_java_3` -> `java_3`; every other id as it is."""
    match = re.match(r"(simple_(?:python|java|javascript))_(\d+)$", entry_id)
    return f"{LATER_NAMES[match[1]]}_{match[2]}" if match else entry_id


def load_benchmark(data: str | Path) -> Benchmark:
    """Load the question and answer files found in a folder.

    Raises:
        FileNotFoundError: the folder holds no `BFCL_v*_*.json`.
        ValueError: it holds two editions, or a question file and its answers do not fit together.
    """
    folder = _find_folder(Path(data))
    files = {(m[1], m[2]): path for path in sorted(folder.glob("BFCL_v*.json"))
             if (m := re.match(r"BFCL_(v\d+)_(.+)\.json$", path.name))}
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
    later = editions[0] != "v3"
    return Benchmark(f"{editions[0]} ({'bfcl-eval' if later else '2024-09-20'})", "2026" if later else "2024",
                     str(folder), entries)


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


# ------------------------------------------------------------------------------------------------------------- verdicts

def judge(entry: Entry, answer: Answer, *, decoder: str = "auto", rules: str = "2024",
          underscore_names: bool = False) -> dict[str, Any]:
    """Verdict line of one answer: id, category, valid, error_type, outcome (right, wrong, undecodable), reason."""
    calls = decode(entry, answer, decoder=decoder, rules=rules)
    failure = calls if isinstance(calls, Undecodable) else check_shape(calls, rules)
    underscore_names = bool(answer.record.get("underscore_names", underscore_names))
    if entry.category in IRRELEVANCE and not (failure and failure.reason == REFUSED):
        verdict = Verdict(True) if failure or not any(calls) else Verdict(False, CALLED)
    elif failure:
        verdict = Verdict(False, failure.error_type)
    else:
        verdict = ast_check(calls, entry.expected, entry.functions, entry.language, rule=entry.rule,
                            underscore_names=underscore_names)
    line = {"id": printable(answer.record.get("id")), "category": entry.category, "valid": verdict.valid,
            "error_type": verdict.error_type,
            "outcome": "right" if verdict.valid else "undecodable" if failure else "wrong"}
    if failure:
        line["reason"] = "wrote_tools_instead" if wrote_tools(answer) else failure.reason
    return line


def decode(entry: Entry, answer: Answer, *, decoder: str = "auto", rules: str = "2024") -> Any:
    """The calls of an answer, native (`output`) or text, or Undecodable."""
    if answer.fault:
        return Undecodable(FAILED, f"json:{answer.fault}")
    if answer.record.get("finish_reason") == REFUSED:
        return Undecodable(FAILED, REFUSED)
    if "text" in answer.record and answer.record.get("output") is None:
        return decode_text(answer.record["text"], entry.language, decoder=decoder, rules=rules)
    return answer.record.get("output")


def wrote_tools(answer: Answer) -> bool:
    """Whether a reply writes tool definitions instead of calls (section 4.5 of the paper)."""
    parsed = parse_calls(answer.text("text") or answer.text("reply") or "")
    return isinstance(parsed, Reason) and parsed.code == "wrote_tools_instead"


def score_answers(benchmark: Benchmark, answers: Iterable[Answer], *, decoder: str = "auto", rules: str | None = None,
                  underscore_names: bool = False) -> tuple[list[dict], dict]:
    """(verdict lines in the order of the answers, summary). Aggregates take the first answer to each entry."""
    rules = rules or benchmark.rules
    verdicts, first = [], {}
    for answer in answers:
        entry = benchmark.find(answer.record.get("id"))
        if entry is None:
            verdicts.append({"id": printable(answer.record.get("id")), "category": printable(answer.record.get("category")),
                             "valid": False, "error_type": UNKNOWN, "outcome": "unknown"})
            continue
        verdicts.append(judge(entry, answer, decoder=decoder, rules=rules, underscore_names=underscore_names))
        first.setdefault(canonical_id(entry.id), verdicts[-1])
    summary = {"benchmark": "bfcl", "edition": benchmark.edition, "rules": rules, "decoder": decoder,
               **summarise(benchmark, first)}
    summary["answers"] = {"lines": len(verdicts), "unknown": sum(v["outcome"] == "unknown" for v in verdicts),
                          "repeated": sum(v["outcome"] != "unknown" for v in verdicts) - len(first)}
    return verdicts, summary


# ------------------------------------------------------------------------------------------------------------ aggregates

def summarise(benchmark: Benchmark, verdicts: Mapping[str, Mapping]) -> dict:
    """Counts, accuracies (percent, 95 % intervals) and the paper's aggregates; entries without an answer count as wrong."""
    sizes = Counter(entry.category for entry in benchmark.entries.values())
    counts = {category: Counter() for category in sizes}
    for key, verdict in verdicts.items():
        counts[benchmark.entries[key].category][verdict["outcome"]] += 1
    table = {name: _category_line(sizes[name], counts[name]) for name in (*CATEGORIES, *IRRELEVANCE) if name in sizes}
    right = {name: counts[name]["right"] for name in sizes}
    judged = [v for v in verdicts.values() if v["category"] in CATEGORIES]
    return {
        "complete": all(sizes.get(name) for name in CATEGORIES),
        "counts": {outcome: sum(counts[c][outcome] for c in sizes if c in CATEGORIES)
                   for outcome in ("right", "wrong", "undecodable")}
        | {"missing": sum(table[c]["missing"] for c in table if c in CATEGORIES)},
        "scores": {name: percent(weighted_interval([(w, right[c], sizes[c]) for c, w in weights.items()]))
                   for name, weights in aggregate_weights(sizes).items()},
        "categories": table,
        "irrelevance": _irrelevance(sizes, counts),
        "wrote_tools_instead": sum(v.get("reason") == "wrote_tools_instead" for v in verdicts.values()),
        "error_types": dict(sorted(Counter(v["error_type"] for v in judged if v["error_type"]).items())),
        "undecodable_reasons": dict(sorted(Counter(v["reason"] for v in judged if "reason" in v).items())),
    }


def aggregate_weights(sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """For every aggregate whose categories are all there: the weight of each category's accuracy in it."""
    lines = {"non_live_simple": {c: 1 / 3 for c in SIMPLE}}
    for name in NON_LIVE[3:]:
        lines[f"non_live_{name}"] = {name: 1.0}
    lines["non_live"] = {c: (1 / 12 if c in SIMPLE else 1 / 4) for c in NON_LIVE}
    lines |= {name: {name: 1.0} for name in LIVE}
    live_total = sum(sizes.get(c, 0) for c in LIVE)
    lines["live"] = {c: sizes.get(c, 0) / live_total for c in LIVE} if live_total else dict.fromkeys(LIVE, 0.0)
    lines["overall"] = {c: w / 2 for part in ("non_live", "live") for c, w in lines[part].items()}
    return {name: weights for name, weights in lines.items() if all(sizes.get(c) for c in weights)}


def percent(interval: Interval) -> dict:
    """An interval on the scale 0..100, two digits, as the tables print it."""
    return {key: round(100 * value, 2) for key, value in
            (("value", interval.value), ("low", interval.low), ("high", interval.high))}


def _category_line(size: int, counts: Counter) -> dict:
    answered = counts["right"] + counts["wrong"] + counts["undecodable"]
    return {"n": size, "right": counts["right"], "wrong": counts["wrong"], "undecodable": counts["undecodable"],
            "missing": size - answered, "accuracy": percent(proportion(counts["right"], size)),
            "accuracy_of_answered": percent(proportion(counts["right"], answered))}


def _irrelevance(sizes: Mapping[str, int], counts: Mapping[str, Counter]) -> dict | None:
    """Share of calls made where no function fits; None without such data."""
    names = [name for name in IRRELEVANCE if name in sizes]
    answered = sum(counts[name]["right"] + counts[name]["wrong"] for name in names)
    called = sum(counts[name]["wrong"] for name in names)
    return {"n": answered, "called": called, "call_rate": percent(proportion(called, answered))} if names else None


def entry_weights(benchmark: Benchmark, aggregate: str = "overall") -> dict[str, float]:
    """Category weights of an aggregate, for a paired comparison by category; {} where categories are missing."""
    sizes = Counter(entry.category for entry in benchmark.entries.values())
    return aggregate_weights(sizes).get(aggregate, {})


def ordered(benchmark: Benchmark, categories: Sequence[str] | None = None) -> list[Entry]:
    """Entries in file order, of the given categories (default: all)."""
    unknown = set(categories or ()) - {entry.category for entry in benchmark.entries.values()}
    if unknown:
        raise ValueError(f"{benchmark.folder}: no category {sorted(unknown)}; it has "
                         f"{sorted({entry.category for entry in benchmark.entries.values()})}")
    return [entry for entry in benchmark.entries.values() if not categories or entry.category in categories]
