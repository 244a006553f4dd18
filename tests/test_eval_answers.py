"""Files of answers: the shapes that are read, and what is refused instead of scored 0."""

import argparse
import gzip
import json
import re
import sys
from pathlib import Path

import pytest
from bfcl_gold import bfcl_calls
from eval_fixtures import apibank_folder, bfcl_folder, call_text, records, teval_folder

import eval.score
from eval import benches
from eval.answers import read_answers
from eval.bfcl.benchmark import load
from eval.score import run_module
from pipeline import evaluate

ROOT = Path(__file__).resolve().parent.parent
MAKE = {"apibank": apibank_folder, "bfcl": bfcl_folder, "teval": teval_folder}
HALL = {"room": "hall", "level": 40}
TEXT = json.dumps(HALL)
FUNCTION = {"name": "lamp.set", "arguments": TEXT}
STOCK = "[QueryStock(stock_code='ABC', date='2023-01-02')]"
RIGHT = {
    "bfcl": {"id": "simple_0", "text": "[lamp.set(room='hall', level=40)]"},
    "apibank": {"id": "L1/one.jsonl#4", "reply": STOCK},
    "teval": {"id": "q1", "task": "retrieve_str", "reply": "Map.find"},
}


def score(folder, bench, content, *flags):
    """(exit code, verdicts) of `score` on a file of that content."""
    data = MAKE[bench](folder / bench)
    answers = folder / "answers"
    answers.write_bytes(content if isinstance(content, bytes) else content.encode())
    code = run_module(
        eval.score,
        ["--bench", bench, "--data", str(data), "--answers", str(answers), "--out", str(folder / "out"), *flags],
    )
    return code, records(folder / "out" / "verdicts.jsonl") if code == 0 else []


@pytest.mark.parametrize(
    "result",
    [
        "[lamp.set(room='hall', level=40)]",
        ["[lamp.set(room='hall', level=40)]"],
        call_text("lamp.set", HALL),
        [{"lamp.set": HALL}],
        [{"lamp.set": TEXT}],
        {"lamp.set": TEXT},
        [[{"lamp.set": TEXT}]],
        [{"name": "lamp.set", "arguments": HALL}],
        [{"name": "lamp.set", "arguments": TEXT}],
        {"name": "lamp.set", "arguments": TEXT},
        [{"name": "lamp.set", "parameters": HALL}],
        [{"id": "c1", "type": "function", "function": {"name": "lamp.set", "arguments": TEXT}}],
        [["lamp.set", TEXT]],
        ["lamp.set", HALL],
        [{"type": "tool_use", "name": "lamp.set", "input": HALL}],
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "lamp.set", "arguments": TEXT}}]},
        {"role": "assistant", "content": "[lamp.set(room='hall', level=40)]", "tool_calls": None},
        {"role": "assistant", "content": None, "function_call": {"name": "lamp.set", "arguments": TEXT}},
        {"role": "assistant", "content": [{"type": "text", "text": "[lamp.set(room='hall', level=40)]"}]},
        {"content": [{"type": "text", "text": "I do"}, {"type": "tool_use", "name": "lamp.set", "input": HALL}]},
        [{"type": "thinking", "thinking": "?"}, {"type": "tool_use", "name": "lamp.set", "input": HALL}],
        [{"functionCall": {"name": "lamp.set", "args": HALL}}],
        {"role": "model", "parts": [{"functionCall": {"name": "lamp.set", "args": HALL}}]},
        {"choices": [{"message": {"role": "assistant", "tool_calls": [{"function": FUNCTION}]}}]},
        {"message": {"role": "assistant", "content": None, "tool_calls": [{"function": FUNCTION}]}},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "lamp.set", "args": HALL}}]}}]},
        {"role": "assistant", "content": [{"text": "I do"}, {"toolUse": {"name": "lamp.set", "input": HALL}}]},
        [{"toolUse": {"toolUseId": "x", "name": "lamp.set", "input": HALL}}],
        [{"type": "reasoning", "summary": []}, {"type": "function_call", **FUNCTION}],
        {"output": [{"type": "function_call", **FUNCTION}]},
        {"output": {"message": {"role": "assistant", "content": [{"toolUse": {"name": "lamp.set", "input": HALL}}]}},
         "stopReason": "tool_use"},
        [{"type": "message", "content": [{"type": "output_text", "text": "[lamp.set(room='hall', level=40)]"}]}],
        {"text": "[lamp.set(room='hall', level=40)]"},
        {"content": "", "additional_kwargs": {"tool_calls": [{"function": FUNCTION}]}},
        {"tool": "lamp.set", "args": HALL},
        {"action": "lamp.set", "action_input": HALL},
        [{"name": "lamp.set", "kwargs": HALL}],
    ],
)
def test_every_shape_under_result_is_read(tmp_path, result):
    code, (verdict,) = score(tmp_path, "bfcl", json.dumps({"id": "simple_0", "result": result}))
    assert code == 0 and verdict == {
        "id": "simple_0",
        "category": "simple",
        "valid": True,
        "error_type": None,
        "outcome": "right",
    }


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "no_output"),
        (5, "result_not_calls"),
        ([5], "result_not_calls"),
        ([{}], "result_not_calls"),
        ([{"lamp.set": "{'room': 1}"}], "arguments:not_json"),
        ([{"lamp.set": '{"a": 1, "a": 2}'}], "arguments:duplicate_key"),
        ([{"name": "lamp.set", "arguments": "[1]"}], "arguments_not_object"),
        ([["a", "b"], ["c", 1]], "arguments:not_json"),
        ("sorry", "not_calls (NotCalls)"),
    ],
)
def test_a_result_that_is_no_answer_is_undecodable_with_its_reason(tmp_path, result, reason):
    code, (verdict,) = score(tmp_path, "bfcl", json.dumps({"id": "simple_0", "result": result}))
    assert code == 0 and (verdict["outcome"], verdict["reason"]) == ("undecodable", reason)


def test_several_calls_and_calls_without_arguments_are_read(tmp_path):
    two = [{"oven_heat": '{"degrees": 1.0}'}, {"name": "oven_heat", "arguments": {"degrees": 2.0}}]
    rows = [
        {"id": "live_parallel_0", "result": two},
        {"id": "live_parallel_0", "result": [[call] for call in two]},
        {"id": "simple_0", "result": [{"name": "lamp.set", "arguments": ""}]},
        {"id": "simple_0", "result": []},
    ]
    _, verdicts = score(tmp_path, "bfcl", "\n".join(map(json.dumps, rows)))
    assert [v["valid"] for v in verdicts] == [True, True, False, False]
    assert [v["error_type"] for v in verdicts[2:]] == [
        "simple_function_checker:missing_required",
        "simple_function_checker:wrong_count",
    ]


@pytest.mark.parametrize("output", [[{"lamp.set": TEXT}], [{"name": "lamp.set", "arguments": HALL}]])
def test_output_holds_native_calls_exactly_and_comes_before_result(tmp_path, output):
    rows = [
        {"id": "simple_0", "output": output},
        {"id": "simple_0", "output": output, "result": [{"lamp.set": HALL}]},
        {"id": "simple_0", "output": [{"lamp.set": HALL}], "result": "sorry"},
    ]
    _, verdicts = score(tmp_path, "bfcl", "\n".join(map(json.dumps, rows)))
    assert [v["valid"] for v in verdicts] == [False, False, True]


@pytest.mark.parametrize(
    ("bench", "row"),
    [
        ("apibank", {"id": "L1/one.jsonl#4", "result": STOCK}),
        ("apibank", {"level": 1, "file": "one.jsonl", "id": 4, "reply": STOCK}),
        (
            "apibank",
            {
                "id": "L1/one.jsonl#4",
                "result": [{"name": "QueryStock", "arguments": '{"stock_code": "ABC", "date": "2023-01-02"}'}],
            },
        ),
        (
            "apibank",
            {"id": "L1/one.jsonl#4", "result": call_text("QueryStock", {"stock_code": "ABC", "date": "2023-01-02"})},
        ),
        ("teval", {"id": "q1", "task": "retrieve_str", "result": "Map.find"}),
        ("teval", {"id": "q1", "task": "retrieve_str", "result": [{"Map.find": "{}"}]}),
        (
            "teval",
            {
                "id": "q1",
                "task": "rru_json",
                "result": [{"name": "Map.find", "arguments": {"place": "Ulm", "size": 3}}],
            },
        ),
    ],
)
def test_result_is_read_for_the_other_benchmarks_too(tmp_path, bench, row):
    code, (verdict,) = score(tmp_path, bench, json.dumps(row))
    assert code == 0 and eval.score.main_score(verdict) == 1.0


@pytest.mark.parametrize("bench", MAKE)
@pytest.mark.parametrize(
    "write",
    [
        lambda rows: json.dumps(rows),
        lambda rows: json.dumps(rows, indent=1),
        lambda rows: "\ufeff\n " + json.dumps(rows),
        lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
        lambda rows: "\r\n".join(map(json.dumps, rows)),
        lambda rows: gzip.compress("\n".join(map(json.dumps, rows)).encode()),
        lambda rows: gzip.compress(json.dumps(rows).encode()),
    ],
    ids=lambda _: "",
)
def test_lines_arrays_and_gzip_give_the_same_verdicts(tmp_path, bench, write):
    rows = [RIGHT[bench], {**RIGHT[bench], "id": "nobody"}]
    plain = score(tmp_path / "a", bench, "\n".join(map(json.dumps, rows)))
    assert score(tmp_path / "b", bench, write(rows)) == plain and plain[0] == 0
    assert eval.score.main_score(plain[1][0]) == 1.0 and plain[1][1]["outcome"].startswith("unknown")


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()


def test_a_broken_element_of_an_array_costs_that_answer_alone(tmp_path):
    good = json.dumps(RIGHT["bfcl"])
    code, verdicts = score(
        tmp_path, "bfcl", f'[{good}, {{"id": "simple_1", "output": [{{"oven_heat": NaN}}]}}, 5, {good}]'
    )
    assert code == 0 and [v["outcome"] for v in verdicts] == ["right", "undecodable", "unknown", "right"]
    assert verdicts[1]["id"] == "simple_1" and verdicts[1]["reason"] == "json:value_not_json"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"[]", "the file is empty"),
        (b'{"id": "simple_0", "prediction": "[f()]"}\n', "none of the 1 lines has output or text or result"),
        (b'{"id": "L1/one.jsonl#4", "reply": "[F()]"}\n', "names an entry of"),
        (b"hello\n", "names an entry of"),
        (b'{"id": "simple_0", "latency": NaN, "result": "[f()]"}\n', "no strict JSON: value_not_json"),
        (b'{"id": "simple_0", "output": []},\n{"id": "simple_1", "output": []},\n', "2 that are no strict JSON"),
        (b'{"simple_0": [{"f": {}}]}', "names an entry of"),
        (b'[{"id": "simple_0", "output": []}, {"id"', "get the whole file"),
        (b'[{"id": "simple_0", "output": []}', "not closed"),
        (gzip.compress(b'{"id": "simple_0"}' * 99)[:-9], "break off"),
    ],
    ids=lambda _: "",
)
def test_a_file_without_an_answer_is_refused_and_nothing_is_written(tmp_path, content, said, capsys):
    assert score(tmp_path, "bfcl", content) == (2, []) and not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert said in error and str(tmp_path / "answers") in error and error.count("\n") == 1


@pytest.mark.parametrize("bench", MAKE)
def test_answers_to_another_benchmark_are_refused(tmp_path, bench, capsys):
    others = [json.dumps(row) for name, row in RIGHT.items() if name != bench]
    assert score(tmp_path, bench, "\n".join(others))[0] == 2
    assert "answers to another benchmark" in capsys.readouterr().err


def test_some_unknown_lines_are_counted_and_told(tmp_path, capsys):
    rows = [RIGHT["bfcl"], {"id": "nobody_0", "output": []}, {"id": "simple_1", "answer": 1}]
    code, verdicts = score(tmp_path, "bfcl", "\n".join(map(json.dumps, rows)))
    assert code == 0 and [v["outcome"] for v in verdicts] == ["right", "unknown", "undecodable"]
    said = capsys.readouterr()
    assert "1 answers name no entry" in said.out and "1 lines have no output or text or result" in said.out


def test_against_the_own_folder_compares_with_what_stood_there_before(tmp_path):
    data = bfcl_folder(tmp_path / "bfcl")
    good = [{"id": e.id, "output": bfcl_calls(e)} for e in load(data).entries.values()]
    bad = [{**row, "output": []} for row in good]
    assert score(tmp_path, "bfcl", json.dumps(good))[0] == 0
    out = tmp_path / "out"
    assert score(tmp_path, "bfcl", json.dumps(good), "--against", str(out))[0] == 2
    for path in (out, out / "verdicts.jsonl"):
        rows = json.dumps(bad if path == out else good)
        assert score(tmp_path, "bfcl", rows, "--against", str(path), "--overwrite")[0] == 0
        comparison = json.loads((out / "comparison.json").read_text())
        assert comparison["difference"] == (-1.0 if path == out else 1.0)


def test_every_documented_line_is_an_answer(tmp_path):
    """Of `score --help` and of docs/benchmarks.md."""
    shown = {name: benches.module_of(name).ANSWERS for name in benches.names()}
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, text in shown.items():
        lines = re.findall(r"^ *(\{.*\})$", text, re.MULTILINE)
        fields = benches.module_of(name).FIELDS
        found = {field for line in lines for field in json.loads(line) if field in fields}
        assert found == set(fields), name
        assert all(line in page for line in lines), name
        (tmp_path / "lines").write_text("\n".join(lines))
        assert all(answer.fault is None for answer in read_answers(tmp_path / "lines"))


def test_a_benchmark_is_a_folder_and_no_dispatcher_names_one():
    assert benches.names() == ["apibank", "bfcl", "sealtools", "teval"]
    for name in ("pipeline/evaluate.py", "eval/score.py", "eval/benches.py", "eval/answers.py"):
        code = (ROOT / name).read_text(encoding="utf-8")
        assert "bench ==" not in code and not re.search(r"eval\.(apibank|bfcl|sealtools|teval)\b", code), name


TOY = """
from dataclasses import dataclass
from pathlib import Path

FIELDS, ANSWERS = ("said",), 'toy: {"id": "a", "said": "yes"}'


@dataclass(frozen=True)
class Settings:
    shout: bool = False


def add_arguments(parser, *, prompts):
    parser.add_argument("--shout", action="store_true")


@dataclass(frozen=True)
class Entry:
    key: str
    group: str
    right: str


@dataclass(frozen=True)
class Toy:
    folder: str
    entries: dict
    settings: Settings

    def find(self, answer):
        return self.entries.get(answer.record.get("id"))

    def judge(self, entry, answer):
        right = entry.right.upper() if self.settings.shout else entry.right
        return {"id": entry.key, "valid": answer.record.get("said") == right}

    def unknown(self, answer):
        return {"id": "", "valid": False}

    def summarise(self, first):
        value = 100 * sum(line["valid"] for _, line in first.values()) / len(self.entries)
        return {"scores": {"all": dict.fromkeys(("value", "low", "high"), value)}, "wrote_tools_instead": 0,
                "complete": True}


def load(data, settings=Settings()):
    pairs = [line.split() for line in (Path(data) / "toy.txt").read_text().splitlines()]
    return Toy(str(data), {key: Entry(key, key, right) for key, right in pairs}, settings)
"""


def test_a_fourth_benchmark_is_one_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "more" / "toy").mkdir(parents=True)
    (tmp_path / "more" / "toy" / "benchmark.py").write_text(TOY)
    package = sys.modules["eval"]
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "more")])
    data, answers = tmp_path / "data", tmp_path / "answers"
    data.mkdir()
    (data / "toy.txt").write_text("a yes\nb no\n")
    answers.write_text('{"id": "a", "said": "YES"}\n{"id": "c", "said": "no"}\n')
    command = ["--bench", "toy", "--data", str(data), "--answers", str(answers), "--out"]
    assert run_module(eval.score, [*command, str(tmp_path / "one")]) == 0
    assert run_module(eval.score, [*command, str(tmp_path / "two"), "--shout"]) == 0
    assert [records(tmp_path / out / "verdicts.jsonl")[0]["valid"] for out in ("one", "two")] == [False, True]
    assert "1 answers name no entry" in capsys.readouterr().out
    toy = benches.load("toy", data, argparse.Namespace())
    assert [entry.key for entry in benches.choose(toy, ["b"])] == ["b"] and len(benches.choose(toy, limit=1)) == 2
    with pytest.raises(ValueError, match="no category"):
        benches.choose(toy, ["z"])
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    assert "--shout" in parser.format_help() and 'toy: {"id": "a"' in eval.score.answers_help()


@pytest.mark.parametrize("content, words", [
    (json.dumps(RIGHT["bfcl"]).encode("utf-16"), "UTF-16 text"), (b"PAR1" + b"x" * 40, "a Parquet file"),
    (b"PK\x03\x04" + b"\0" * 40, "a zip archive")])
def test_a_file_of_answers_that_is_no_text_is_named(content, words, tmp_path):
    (tmp_path / "answers").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        list(read_answers(tmp_path / "answers"))


def test_an_empty_text_hides_no_result_and_a_list_of_one_text_is_that_text(tmp_path):
    text = RIGHT["bfcl"]["text"]
    for number, fields in enumerate(({"text": None, "result": text}, {"text": [text]})):
        folder = tmp_path / str(number)
        folder.mkdir()
        code, (verdict,) = score(folder, "bfcl", json.dumps({"id": "simple_0", **fields}))
        assert code == 0 and verdict["valid"]


@pytest.mark.parametrize("line", [RIGHT["bfcl"], {"id": "simple_0"}, {"valid": True}, {"id": "simple_0", "score": "1"},
                                  {"id": "simple_0", "valid": None}])
def test_against_what_is_no_verdict_is_refused_instead_of_counted_wrong(tmp_path, line, capsys):
    """A file of answers as --against gave +100 points: each of its lines counted as wrong."""
    (tmp_path / "theirs.jsonl").write_text(json.dumps(line) + "\n")
    code, _ = score(tmp_path, "bfcl", json.dumps(RIGHT["bfcl"]), "--against", str(tmp_path / "theirs.jsonl"))
    assert code == 2 and "line 1: is no verdict" in capsys.readouterr().err


def test_scores_below_the_folder_of_the_data_can_be_made_again(tmp_path):
    """Their own folder counted as a change of the data."""
    data = bfcl_folder(tmp_path / "bfcl")
    (tmp_path / "answers").write_text(json.dumps(RIGHT["bfcl"]))
    command = ["--bench", "bfcl", "--data", str(data), "--answers", str(tmp_path / "answers"), "--out",
               str(data / "scores")]
    assert [run_module(eval.score, command) for _ in range(2)] == [0, 0]
