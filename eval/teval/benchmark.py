"""T-Eval: planning, retrieval and understanding (Chen et al. 2024, arXiv 2312.14033; Table 2 of the paper).

Follows the released evaluator, version 2 rules by default (since February 2024), version 1 on request: the published
table, and with it the paper's GPT-4 row, is version 1. Only planning (and version 1's understanding) needs a sentence
encoder; the fall-backs that stand in for it are named in every score and are not comparable with published ones.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.answers import Answer, main_score, printable
from eval.bfcl.benchmark import percent, wrote_tools
from eval.python_text import FAILURES, literal
from eval.stats import mean_interval, weighted_means
from eval.teval.plan import (
    MAX_CHARS,
    SIMILARITIES,
    THRESHOLDS,
    ZERO,
    Similarity,
    plan_score,
    read_lines,
    read_steps,
)

PLANS = ("plan_str", "plan_json")
TASKS = (*PLANS, "retrieve_str", "understand_str", "rru_json")
MAIN_KEY = {"plan_str": "f1_score", "plan_json": "f1_score", "retrieve_str": "name", "understand_str": "args"}
ABILITIES = {"plan": (("plan_str", "f1_score"), ("plan_json", "f1_score")),
             "retrieve": (("retrieve_str", "name"), ("rru_json", "name")),
             "understand": (("understand_str", "args"), ("rru_json", "args"))}
FILE_NAMES = {"plan_str": "plan_str", "plan_json": "plan_json", "retrieve_str": "retrieve_str",
              "understand_str": "understand_str", "reason_retrieve_understand_json": "rru_json"}
CUTS = ("<eoa>", "<TOKENS_UNUSED_1>", "<|im_end|>", "\nuser", "\nassistant", "\nUSER", "[INST]", "<|user|>")
DOTTED = re.compile(r"(?<!\w)\w+\.\w+")            # from the start of a run of word characters only: linear time
FINISH = "FinishAction"


@dataclass(frozen=True)
class Item:
    """One item of one task: the prompt as chat turns, the truth, and for text plans the listed functions."""

    id: str
    task: str
    truth: Any
    messages: tuple[dict, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """The items found, by task and id; `files` names what they came from."""

    folder: str
    items: dict[tuple[str, str], Item]
    files: dict[str, str]


def load_benchmark(data: str | Path) -> Benchmark:
    """Load every T-Eval file of a folder (`plan_json_v1.json`, `retrieve_str_v2.json`, ...).

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: a file is not what its name says, or two versions of one file are there.
    """
    root = Path(data)
    folder = next((f for f in (root, root / "data", root / "teval") if any(f.glob("plan_*.json"))
                   or any(f.glob("*_str*.json"))), root)
    items: dict[tuple[str, str], Item] = {}
    files: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        task = FILE_NAMES.get(re.sub(r"_v\d+$", "", path.stem))
        if task is None:
            continue
        if task in files:
            raise ValueError(f"{folder}: {files[task]} and {path.name} are both {task}; keep one version in a folder")
        files[task] = path.name
        for key, record in _load(path).items():
            items[task, key] = Item(key, task, record["ground_truth"], tuple(record.get("origin_prompt", ())),
                                    tuple(record.get("meta", {}).get("API_list", ())))
    if not files:
        raise FileNotFoundError(f"{folder}: no T-Eval file; expected names such as plan_json_v1.json or retrieve_str_v2.json")
    return Benchmark(str(folder), items, files)


def _load(path: Path) -> dict:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected one JSON object of items, as published") from None
    if not isinstance(records, dict) or not all(isinstance(r, dict) and "ground_truth" in r for r in records.values()):
        raise ValueError(f"{path}: expected an object of items with a ground_truth, as published")
    return records


# -------------------------------------------------------------------------------------------------------- reading a reply

def clean_reply(reply: str) -> str:
    """The released cleaning: cut at turn markers, drop a leading code fence and backticks."""
    for mark in CUTS:
        reply = reply.split(mark, 1)[0]
    return reply.strip().removeprefix("```json").strip("`").strip()


def load_structure(value: Any, opening: str, closing: str) -> Any:
    """The lenient loader: slice between the outermost brackets, then Python literal, JSON, JSON with ' made \".

    Raises:
        ValueError: nothing fits.
    """
    if not isinstance(value, str):
        return value
    if "```json" in value:
        value = value[value.find("```json") + len("```json"):].strip("`")
    value = value[value.find(opening):]
    value = value[:value.rfind(closing) + 1]
    for read in (literal, json.loads, lambda text: json.loads(text.replace("'", '"'))):
        try:
            return read(value)
        except FAILURES:
            continue
    raise ValueError("neither a Python literal nor JSON")


def _load_call(value: Any) -> dict[str, Any] | None:
    """{name, args} of a JSON answer, None if it is not an object."""
    try:
        value = load_structure(value, "{", "}")
        if type(value) is not dict:
            return None
        return {"name": str(value.get("name", "")), "args": value["args"] if isinstance(value.get("args"), dict) else {}}
    except FAILURES:
        return None


# ------------------------------------------------------------------------------------------------------------------ scores

def score_reply(item: Item, reply: Any, *, similarity: str = "exact", version: str = "v2",
                own_similarity: Similarity | None = None) -> dict[str, float]:
    """The score of one reply: for plans precision, recall, f1_score and parse_rate, else name and/or args and parse_rate.

    Args:
        similarity: exact, bow, or names (plans: equal names link whatever the arguments).
        version: v1 or v2 rules.
        own_similarity: a function of two texts, for instance the released sentence encoder, instead of `similarity`.
    """
    if isinstance(reply, str):
        reply = clean_reply(reply) if len(reply) <= MAX_CHARS else None
    compare = own_similarity or SIMILARITIES.get(similarity)
    if item.task in PLANS:
        return _score_plan(item, reply, compare, THRESHOLDS[version])
    if item.task == "rru_json":
        return _score_call(item, reply, compare or SIMILARITIES["exact"], version)
    truth = _load_call(item.truth) or {"name": "", "args": {}}
    if not isinstance(reply, str):
        return {MAIN_KEY[item.task]: 0.0, "parse_rate": 1.0}
    if item.task == "retrieve_str":
        return {"name": _named(reply, truth["name"]), "parse_rate": 1.0}
    wanted = _args_text(item.truth)
    if version == "v1":
        return {"args": max(0.0, (compare or SIMILARITIES["exact"])(reply, wanted)), "parse_rate": 1.0}
    return {"args": float(reply.strip("'").strip('"') == wanted), "parse_rate": 1.0}


def _args_text(truth: Any) -> str:
    """The expected argument value as text."""
    try:
        value = load_structure(truth, "{", "}")
        return str(value["args"])
    except FAILURES:
        return ""


def _named(text: str, name: str) -> float:
    """1 if the expected name occurs and no other `word.word` or FinishAction does."""
    if name not in text:
        return 0.0
    found = DOTTED.findall(text) + [FINISH] * text.count(FINISH)
    return float(all(other == name for other in found))


def _score_call(item: Item, reply: Any, compare: Similarity, version: str) -> dict[str, float]:
    given, truth = _load_call(reply), _load_call(item.truth)
    if given is None or truth is None:
        return {"name": 0.0, "args": 0.0, "parse_rate": 0.0}
    score = {"name": float(given["name"] == truth["name"]), "args": 0.0, "parse_rate": 1.0}
    try:
        if version == "v1":
            score["args"] = max(0.0, compare(str(given["args"]), str(truth["args"])))
        elif truth["args"]:
            hits = sum(key in given["args"] and str(given["args"][key]) == str(wanted)
                       for key, wanted in truth["args"].items())
            score["args"] = hits / (len(truth["args"]) + 1e-5)
        else:
            score["args"] = float(not given["args"])
    except FAILURES:
        return score                                      # an argument too deep or too long to be written as text
    return score


def _score_plan(item: Item, reply: Any, compare: Similarity | None, threshold: float) -> dict[str, float]:
    truth = read_steps(item.truth if isinstance(item.truth, list) else _structure_or_none(item.truth))
    if item.task == "plan_str":
        steps = read_lines(reply, item.functions) if isinstance(reply, str) else []
    else:
        steps = read_steps(_structure_or_none(reply))
    if not steps or not truth:
        return dict(ZERO) | {"parse_rate": 0.0}
    return plan_score(steps, truth, similarity=compare, threshold=threshold) | {"parse_rate": 1.0}


def _structure_or_none(value: Any) -> Any:
    try:
        return load_structure(value, "[", "]")
    except FAILURES:
        return None


def score_answers(benchmark: Benchmark, answers: Iterable[Answer], *, similarity: str = "exact", version: str = "v2",
                  own_similarity: Similarity | None = None) -> tuple[list[dict], dict]:
    """(verdict lines in the order of the answers, summary). An answer may bring its own ground_truth."""
    verdicts: list[dict] = []
    first: dict[tuple[str, str], dict] = {}
    bands: dict[tuple[str, str], float] = {}
    tools_written = 0
    for answer in answers:
        item = _item_of(benchmark, answer)
        line = {"id": printable(answer.record.get("id")), "task": printable(answer.record.get("task"))}
        if item is None:
            verdicts.append(line | {"score": 0.0, "outcome": "unknown_entry"})
            continue
        reply = None if answer.fault else answer.record.get("reply")
        line["score"] = {key: round(value, 6) for key, value in score_reply(
            item, reply, similarity=similarity, version=version, own_similarity=own_similarity).items()}
        undecodable = bool(answer.fault) or reply is None or not line["score"]["parse_rate"]
        line["outcome"] = "undecodable" if undecodable else "right" if main_score(line) >= 0.9999 else "wrong"
        if answer.fault:
            line["reason"] = answer.fault
        elif item.task in PLANS and line["score"]["parse_rate"] and not line["score"]["f1_score"]:
            line["reason"] = "only_finish_action"             # the released code stops here; scored 0
        tools_written += wrote_tools(answer)
        verdicts.append(line)
        if first.setdefault((item.task, item.id), line) is line and item.task == "plan_json":
            bands[item.task, item.id] = score_reply(item, reply, similarity="names", version=version)["f1_score"]
    summary = summarise(benchmark, first, bands, similarity if own_similarity is None else "own", version)
    return verdicts, summary | {"wrote_tools_instead": tools_written, "answers": {
        "lines": len(verdicts), "unknown": sum(v["outcome"] == "unknown_entry" for v in verdicts),
        "repeated": sum(v["outcome"] != "unknown_entry" for v in verdicts) - len(first)}}


def _item_of(benchmark: Benchmark, answer: Answer) -> Item | None:
    task, key = answer.record.get("task"), answer.record.get("id")
    if task not in TASKS or not isinstance(key, str):
        return None
    if (task, key) in benchmark.items:
        return benchmark.items[task, key]
    return Item(key, task, answer.record["ground_truth"]) if "ground_truth" in answer.record else None


def summarise(benchmark: Benchmark, verdicts: Mapping[tuple[str, str], Mapping], bands: Mapping[tuple[str, str], float],
              similarity: str, version: str) -> dict:
    """File scores, abilities (mean of two files) and the paper's figure (mean of three abilities), in percent."""
    values: dict[tuple[str, str], list[float]] = {}
    files = {}
    for task in TASKS:
        answered = {key: v for (t, key), v in verdicts.items() if t == task}
        keys = [key for t, key in benchmark.items if t == task] or list(answered)
        if not answered:
            continue
        for name in sorted({name for v in answered.values() for name in v["score"]}):
            values[task, name] = [answered[key]["score"].get(name, 0.0) if key in answered else 0.0 for key in keys]
        files[task] = {"file": benchmark.files.get(task, "brought by the answers"), "n": len(keys),
                       "answered": len(answered), "undecodable": sum(v["outcome"] == "undecodable" for v in answered.values()),
                       "scores": {name: percent(mean_interval(values[task, name]))
                                  for t, name in values if t == task}}
    if bands:
        keys = [key for t, key in benchmark.items if t == "plan_json"]
        files["plan_json"]["f1_score_names_only"] = percent(mean_interval([bands.get(("plan_json", k), 0.0) for k in keys]))
    scores = {ability: percent(weighted_means([(0.5, values[part]) for part in parts]))
              for ability, parts in ABILITIES.items() if all(part in values for part in parts)}
    if len(scores) == len(ABILITIES):
        parts = [part for ability in ABILITIES.values() for part in ability]
        scores["overall"] = percent(weighted_means([(1 / 6, values[part]) for part in parts]))
    return {"benchmark": "teval", "version": version, "similarity": similarity, "complete": len(files) == len(TASKS),
            "scores": scores, "files": files,
            "comparable": {"plan": similarity == "own", "retrieve": True,
                           "understand": version == "v2" or similarity == "own"},
            "note": "plan scores made without the released sentence encoder are not comparable with published ones"
                    if similarity != "own" else ""}
