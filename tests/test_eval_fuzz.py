"""Mutated answers: never an exception, never slow, always a verdict that strict JSON and UTF-8 can hold."""

import json
import random
import time
from dataclasses import replace

import pytest
from bfcl_gold import bfcl_calls
from eval_fixtures import PLAN, apibank_folder, bfcl_folder, call_text, teval_folder

from eval.answers import Answer, read_answer
from eval.apibank import benchmark as apibank
from eval.apibank import reading, searches
from eval.apibank import services as apibank_services
from eval.bfcl import benchmark as bfcl
from eval.score import score_answers
from eval.teval import benchmark as teval
from eval.teval import scoring

TOKENS = [
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    '"',
    "'",
    ",",
    ":",
    "\\",
    "1e400",
    "NaN",
    "-Infinity",
    "null",
    "true",
    "\x00",
    "\x01",
    "\ud800",
    "\\ud800",
    "<tool_call>",
    "</tool_call>",
    "<tools>",
    "new ",
    "HashMap<",
    "**9",
    "9" * 40,
    "f(",
    "=",
    " ",
    "\n",
    "0x",
    "1_0",
    "lambda:",
    "f'{",
    "ArrayList<>(Arrays.asList(",
    "{{",
    "}}",
    'put("',
    '",',
    "new Array([",
    "[[",
    "$",
    "%s",
    "*" * 3,
    "--",
    "/",
    "é",
    "١",
    "not ",
    "FinishAction",
    "id",
    "```json",
    "\nuser",
    "[F(",
    ")]",
]
OUTCOMES = {
    "right",
    "wrong",
    "undecodable",
    "unknown",
    "unknown_entry",
    "correct",
    "no_call",
    "name_mismatch",
    "invalid_parameter",
    "missing_argument",
    "assertion",
    "api_exception",
    "mismatch",
    "key_error",
}


def mutate(text: str, rng: random.Random) -> str:
    """A few random cuts, insertions and repetitions."""
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, length = rng.randrange(len(text) + 1), rng.randrange(1, 30)
        kind = rng.random()
        if kind < 0.4:
            text = text[:at] + rng.choice(TOKENS) * rng.choice((1, 1, 1, 2, 40)) + text[at:]
        elif kind < 0.6:
            text = text[:at] + text[at + length :]
        elif kind < 0.8:
            text = text[:at] + text[at : at + length] * rng.choice((2, 30)) + text[at + length :]
        else:
            text = text[:at] + chr(rng.randrange(1, 0x3000)) + text[at + 1 :]
    return text


def mutate_value(value, rng: random.Random):
    """The same shape with some leaves replaced."""
    if isinstance(value, dict):
        return {mutate(k, rng) if rng.random() < 0.05 else k: mutate_value(v, rng) for k, v in value.items()}
    if isinstance(value, list):
        return [mutate_value(v, rng) for v in value] * rng.choice((1, 1, 1, 2))
    if rng.random() < 0.5:
        return value
    if isinstance(value, str) and rng.random() < 0.5:
        return mutate(value, rng)
    return rng.choice(
        (
            None,
            True,
            0,
            -1,
            1.0,
            1e300,
            10**200,
            "",
            [],
            {},
            [[]],
            [{}],
            {"a": 1},
            [None],
            [1, "a"],
            str(value),
            "{a:1}",
            "[1,[2]]",
        )
    )


def seeds(folder) -> list[dict]:
    """Right answers of every form to the three little benchmarks."""
    board = bfcl.load(bfcl_folder(folder / "b", irrelevance=1))
    rows = [{"bench": "bfcl", "id": e.id, "output": bfcl_calls(e)} for e in board.entries.values() if e.expected]
    for row in list(rows):
        calls = [(name, arguments) for call in row["output"] for name, arguments in call.items()]
        rows.append({"bench": "bfcl", "id": row["id"], "text": "\n".join(call_text(*call) for call in calls)})
        shown = ", ".join(
            f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})" for name, arguments in calls
        )
        rows.append({"bench": "bfcl", "id": row["id"], "text": f"[{shown}]"})
        result = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in calls]
        rows.append({"bench": "bfcl", "id": row["id"], "result": result})
    bank = apibank.load(apibank_folder(folder / "a"))
    rows += [{"bench": "apibank", "id": row.key, "reply": row.expected} for row in bank.entries.values()]
    rows += [{"bench": "apibank", "id": row.key, "result": [{row.api: {"a": 1}}]} for row in bank.entries.values()]
    call = {"name": "Map.find", "args": {"place": "Ulm", "size": 3}}
    for task, reply in (
        ("plan_json", json.dumps(PLAN)),
        ("plan_str", "Use Map.find to look.\nUse Mail.send."),
        ("rru_json", json.dumps(call)),
        ("rru_json", str(call)),
        ("retrieve_str", "Map.find"),
        ("understand_str", "'Ulm'"),
    ):
        rows.append({"bench": "teval", "id": "q1", "task": task, "reply": reply})
    return rows


def run_fuzz(folder, count: int, seed: int) -> None:
    rng, rows = random.Random(seed), seeds(folder)
    board, bank = bfcl.load(folder / "b"), apibank.load(folder / "a")
    tasks = teval.load(teval_folder(folder / "t"))
    seen = set()
    for _ in range(count):
        row = dict(rng.choice(rows))
        bench = row.pop("bench")
        if rng.random() < 0.3:
            answer = read_answer(mutate(json.dumps(row), rng).encode("utf-8", "surrogatepass"))
        else:
            key = next(k for k in ("text", "reply", "output", "result") if k in row)
            row[key] = mutate(row[key], rng) if isinstance(row[key], str) else mutate_value(row[key], rng)
            answer = Answer(row)
        start = time.process_time()
        if bench == "bfcl":
            settings = bfcl.Settings(
                rules=rng.choice(("2024", "2026")), decoder=rng.choice(("auto", "leaderboard", "tooldev"))
            )
            verdicts, summary = score_answers(replace(board, settings=settings), [answer])
        elif bench == "apibank":
            verdicts, summary = score_answers(bank, [answer])
        else:
            settings = teval.Settings(rng.choice(("exact", "bow", "names")), rng.choice(("v1", "v2")))
            verdicts, summary = score_answers(replace(tasks, settings=settings), [answer])
        assert time.process_time() - start < 5, answer
        json.dumps([verdicts, summary], allow_nan=False, ensure_ascii=False).encode("utf-8")
        seen.add(verdicts[0]["outcome"])
    assert seen <= OUTCOMES and {"right", "wrong", "undecodable"} <= seen


def test_mutated_answers_never_raise(tmp_path):
    run_fuzz(tmp_path, 1_500, seed=0)


@pytest.mark.slow
def test_two_hundred_thousand_mutated_answers_never_raise(tmp_path):
    run_fuzz(tmp_path, 200_000, seed=1)


def test_a_reply_of_ten_megabytes_is_undecodable(tmp_path):
    bank = apibank.load(apibank_folder(tmp_path))
    row = next(iter(bank.entries.values()))
    verdicts, _ = score_answers(bank, [Answer({"id": row.key, "reply": f"[{row.api}({'=' * 10_000_000})]"})])
    assert (verdicts[0]["outcome"], verdicts[0]["reason"], verdicts[0]["score"]) == (
        "undecodable",
        "answer_too_long",
        0,
    )


def _search_engine(reply: str) -> None:
    searches.bm25_top(reply, [["best", "inn"], ["river", "boat"]], 1)


@pytest.mark.parametrize(
    ("read", "unit"),
    [
        (reading.read_arguments, "a='x'"),
        (reading.read_arguments, "a='"),
        (reading.find_call, "[a(\n"),
        (_search_engine, "best "),
        (apibank_services.EMAIL.match, "a"),
        (lambda reply: scoring._named("a.b " + reply, "a.b"), "a"),
    ],
)
def test_long_replies_are_read_in_linear_time(read, unit):
    """Each of these once took seconds to hours for a reply of a megabyte."""
    start = time.process_time()
    read(unit * (1_000_000 // len(unit)))
    assert time.process_time() - start < 5
