"""T-Eval's score of one reply: reading it leniently, and comparing names, arguments and plans.

Follows the released evaluator, version 2 rules by default (since February 2024), version 1 on request: the published
table, and with it the paper's GPT-4 row, is version 1. Only planning (and version 1's understanding) needs a sentence
encoder; the fall-backs that stand in for it are named in every score and are not comparable with published ones.
"""

import json
import re
from contextlib import suppress
from typing import Any

from eval.answers import FAILURES, literal
from eval.teval.items import PLANS, Item
from eval.teval.plan import MAX_CHARS, SIMILARITIES, THRESHOLDS, ZERO, Similarity, plan_score, read_lines, read_steps

CUTS = ("<eoa>", "<TOKENS_UNUSED_1>", "<|im_end|>", "\nuser", "\nassistant", "\nUSER", "[INST]", "<|user|>")
DOTTED = re.compile(r"(?<!\w)\w+\.\w+")            # from the start of a run of word characters only: linear time
FINISH = "FinishAction"
# The one number of a reply that says whether it is right.
MAIN_KEY = {"plan_str": "f1_score", "plan_json": "f1_score", "retrieve_str": "name", "understand_str": "args",
            "rru_json": "name"}


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
        with suppress(*FAILURES):
            return read(value)
    raise ValueError("neither a Python literal nor JSON")


def _load_call(value: Any) -> dict[str, Any] | None:
    """{name, args} of a JSON answer, None if it is not an object."""
    with suppress(*FAILURES):
        value = load_structure(value, "{", "}")
        if type(value) is dict:
            arguments = value.get("args")
            return {"name": str(value.get("name", "")), "args": arguments if isinstance(arguments, dict) else {}}
    return None


# --------------------------------------------------------------------------------------------------------------- scores

def score_reply(item: Item, reply: Any, *, similarity: str = "exact", version: str = "v2") -> dict[str, float]:
    """The score of one reply: for plans precision, recall, f1_score and parse_rate, else name or args and parse_rate.

    Args:
        similarity: exact, bow, or names (plans: equal names link whatever the arguments).
        version: v1 or v2 rules.
    """
    if isinstance(reply, str):
        reply = clean_reply(reply) if len(reply) <= MAX_CHARS else None
    compare = SIMILARITIES.get(similarity)
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
    with suppress(*FAILURES):
        return str(load_structure(truth, "{", "}")["args"])
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
    with suppress(*FAILURES):                             # an argument too deep or too long to be written as text
        if version == "v1":
            score["args"] = max(0.0, compare(str(given["args"]), str(truth["args"])))
        elif truth["args"]:
            hits = sum(key in given["args"] and str(given["args"][key]) == str(wanted)
                       for key, wanted in truth["args"].items())
            score["args"] = hits / (len(truth["args"]) + 1e-5)
        else:
            score["args"] = float(not given["args"])
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
    with suppress(*FAILURES):
        return load_structure(value, "[", "]")
    return None
