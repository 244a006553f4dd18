"""The lenient reading: what it reads and what not, and that it never takes a right answer away."""

import json
import random
import time

import pytest
from bfcl_gold import bfcl_calls
from eval_fixtures import apibank_folder, bfcl_folder, records, teval_folder
from test_eval_fuzz import mutate, seeds

import eval.score
from eval.answers import Answer
from eval.apibank import benchmark as apibank
from eval.benches import read_as
from eval.bfcl import benchmark as bfcl
from eval.lenient import LENIENT, STRICT, lenient_calls
from eval.score import main_score, run_module, score_readings
from eval.teval import benchmark as teval

NAMES = {"lamp.set": ["room", "level"], "now": []}
ARGUMENTS = {"room": "hall", "level": 40}
CALL = {"name": "lamp.set", "arguments": ARGUMENTS}
JSON, PYTHONIC = json.dumps(CALL), "lamp.set(room='hall', level=40)"
READ = {
    "bare": JSON,
    "fenced, with words around": f"Sure! Here it is:\n```json\n{json.dumps(CALL, indent=2)}\n```\nAnything else?",
    "a list": f"[{JSON}]",
    "its keys named otherwise": 'I call {"function": "lamp.set", "parameters": {"room": "hall", "level": 40}} now.',
    "wrapped": json.dumps({"tool_calls": [{"function": {**CALL, "arguments": json.dumps(ARGUMENTS)}, "id": "a"}]}),
    "the name as a key": json.dumps({"lamp.set": ARGUMENTS}),
    "Python's quotes": str(CALL),
    "tags with another key": f"<tool_call>{json.dumps({**CALL, 'id': 1})}</tool_call>",
    "no closing tag": f"<tool_call>\n{JSON}",
    "pythonic": f"`{PYTHONIC}` does it.",
    "pythonic in code": f"```python\nlights = {PYTHONIC}\nprint(lights)\n```",
    "pythonic without names": "I use lamp.set('hall', 40).",
    "a marked function": '<function=lamp.set>{"room": "hall", "level": 40}</function>',
    "ReAct": 'Thought: dark.\nAction: lamp.set\nAction Input: {"room": "hall", "level": 40}',
    "after a thought": f'<think>{{"name": "now", "arguments": {{}}}}?</think>{JSON}',
    "braces in words": f"Use {{room}} and [level]: {JSON}",
    "beside other JSON": f'{{"mood": "dark"}} {JSON} {{"done": true}}',
}
NOT_READ = {
    "words": "The lamp.set function takes a room (text) and a level.",
    "a call without arguments among words": "You may call now() first.",
    "cut off": JSON[:-2],
    "a bracket too few": f"[{JSON}",
    "a whole call before a broken one": f"{JSON}\n{JSON[:-5]}",
    "a broken wrapper": f'{{"tool_calls": [{JSON}]',
    "a comma too many": JSON.replace("40}", "40,,}"),
    "a definition": json.dumps({"name": "lamp.set", "description": "Sets.", "arguments": {"room": {"type": "string"}}}),
    "the form of the prompt": '{"name": <function-name>, "arguments": <args-json-object>}',
    "arguments alone": json.dumps(ARGUMENTS),
    "code that computes an argument": "lamp.set(room=place, level=40)",
    "a function of that name": "def now():\n    return 1",
    "NaN": '{"name": "lamp.set", "arguments": {"level": NaN}}',
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_calls_are_read_in_any_form(text):
    assert [call.to_dict() for call in lenient_calls(text, NAMES)] == [CALL]


@pytest.mark.parametrize("text", NOT_READ.values(), ids=NOT_READ)
def test_nothing_is_mended_or_guessed(text):
    assert lenient_calls(text, NAMES) is None


def test_several_calls_keep_their_order_and_unknown_names():
    text = f'First {JSON}, then ```json\n[{{"name": "other", "arguments": {{}}}}, {JSON}]\n```'
    assert [call.name for call in lenient_calls(text, NAMES)] == ["lamp.set", "other", "lamp.set"]
    assert [call.name for call in lenient_calls(f"[now(), {PYTHONIC}]\n", NAMES)] == ["now", "lamp.set"]


def respelled(text: str, rng: random.Random) -> str:
    """A right answer as another model might write it, perhaps broken."""
    bare = text.replace("<tool_call>", "").replace("</tool_call>", "")
    text = rng.choice((text, bare, f"Here:\n```json\n{text}\n```"))
    return mutate(text, rng) if rng.random() < 0.7 else text


def compare_readings(folder, count: int, seed: int) -> int:
    """How many answers the lenient reading makes better; it must make none worse whose entry wants a call."""
    rng, rows, better = random.Random(seed), seeds(folder), 0
    boards = {"bfcl": bfcl.load(folder / "b"), "apibank": apibank.load(folder / "a"),
              "teval": teval.load(teval_folder(folder / "t"))}
    for _ in range(count):
        row = dict(rng.choice([row for row in rows if "text" in row or "reply" in row]))
        board, key = boards[row.pop("bench")], "text" if "text" in row else "reply"
        row[key] = respelled(row[key], rng)
        answer, began = Answer(row), time.process_time()
        entry = board.find(answer)
        strict, lenient = (read_as(board, reading).judge(entry, answer) for reading in (STRICT, LENIENT))
        assert time.process_time() - began < 5, row
        assert main_score(lenient) >= main_score(strict), row
        if strict["outcome"] not in ("undecodable", "no_call") and getattr(entry, "language", "python") == "python":
            assert lenient == strict, row
        better += main_score(lenient) > main_score(strict)
    return better


def test_the_lenient_reading_never_makes_a_right_answer_worse(tmp_path):
    assert compare_readings(tmp_path, 1_500, seed=0) > 100


@pytest.mark.slow
def test_nor_of_a_hundred_thousand(tmp_path):
    assert compare_readings(tmp_path, 100_000, seed=1) > 5_000


def test_a_call_where_none_fits_is_told_by_the_lenient_reading_alone(tmp_path):
    board = bfcl.load(bfcl_folder(tmp_path, irrelevance=2))
    answers = [Answer({"id": "irrelevance_0", "text": JSON}), Answer({"id": "irrelevance_1", "text": "No tool sings."})]
    verdicts, summary = score_readings(board, answers)
    assert [line["valid"] for line in verdicts[STRICT]] == [True, True]
    assert [line["valid"] for line in verdicts[LENIENT]] == [False, True]
    assert summary["irrelevance"]["called"] == 0 and summary["lenient"]["irrelevance"]["called"] == 1
    assert summary["written"] == {"no_call_text": 2}


def test_json_is_read_where_javas_reader_takes_it_for_something_else(tmp_path):
    board = bfcl.load(bfcl_folder(tmp_path))
    for entry, outcome in ((board.entries["java_0"], "undecodable"), (board.entries["javascript_0"], "wrong")):
        calls = [{"name": name, "arguments": given} for call in bfcl_calls(entry) for name, given in call.items()]
        verdicts, _ = score_readings(board, [Answer({"id": entry.id, "text": f"```json\n{json.dumps(calls)}\n```"})])
        assert [verdicts[reading][0]["outcome"] for reading in (STRICT, LENIENT)] == [outcome, "right"]


def test_both_readings_of_other_benchmarks(tmp_path):
    bank = apibank.load(apibank_folder(tmp_path / "a"))
    row = next(row for row in bank.entries.values() if row.api == "AddReminder")
    arguments = dict(part.strip().split("=") for part in row.expected.partition("(")[2].rstrip(")]").split(", "))
    said = json.dumps({"name": row.api, "arguments": {key: value.strip("'") for key, value in arguments.items()}})
    verdicts, _ = score_readings(bank, [Answer({"id": row.key, "reply": f"I will.\n```json\n{said}\n```"})])
    assert [verdicts[reading][0]["outcome"] for reading in (STRICT, LENIENT)] == ["no_call", "correct"]


def test_both_readings_are_written_printed_and_compared(tmp_path, capsys):
    data, answers = bfcl_folder(tmp_path / "data"), tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"id": "simple_0", "text": f"```json\n{JSON}\n```"}) + "\n")
    command = ["--bench", "bfcl", "--data", str(data), "--answers", str(answers), "--out"]
    assert run_module(eval.score, [*command, str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["strict", "lenient"] and printed[1].count("[") == 2
    for file, valid in (("verdicts.jsonl", False), ("verdicts_lenient.jsonl", True)):
        assert [line["valid"] for line in records(tmp_path / "one" / file)] == [valid]
    assert run_module(eval.score, [*command, str(tmp_path / "two"), "--against", str(tmp_path / "one")]) == 0
    record = json.loads((tmp_path / "two" / "comparison.json").read_text())
    assert record["n"] == record["lenient"]["n"] == 1 and record["lenient"]["difference"] == 0
