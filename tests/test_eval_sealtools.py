"""Seal-Tools: what is offered, and scores against cases counted by hand."""

import json

import pytest
from report_run import make_run

from data.schema import ToolCall
from eval import score
from eval.answers import Answer
from eval.report import write_report
from eval.score import run_module, score_answers
from eval.sealtools.benchmark import COUNTS, Settings, count_calls, load, same_calls


def tool(name: str, description: str) -> dict:
    return {"api_name": name, "api_description": description, "field": "x", "required": ["a"],
            "parameters": {"a": {"type": "str", "description": "a thing"}}, "responses": {}}


@pytest.fixture
def folder(tmp_path):
    tools = [tool("getTide", "The tide of a harbour"), tool("getRain", "How much rain falls"),
             tool("bookFerry", "Book a ferry"), tool("sumUp", "Add numbers")]
    rows = [{"id": "dev-1", "query": "When is the tide? Book a ferry.", "calling": [
        {"api": "getTide", "parameters": {"a": "Bergen"}, "responses": ["API_call_0"]},
        {"api": "bookFerry", "parameters": {"a": 2}, "responses": []}]},
        {"id": "dev-2", "query": "Will it rain?", "calling": [{"api": "getRain", "parameters": {"a": "x"}}]}]
    for name, lines in (("tool", tools), ("dev", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


@pytest.mark.parametrize(("made", "counts", "valid"), [
    ([], (0, 0, 2, 0, 0, 2), False),
    ([("getTide", {"a": "Bergen"}), ("bookFerry", {"a": "2"})], (2, 2, 2, 2, 2, 2), True),      # 2 and "2": as text
    ([("bookFerry", {"a": 2}), ("getTide", {"a": "Bergen"})], (2, 2, 2, 2, 2, 2), True),        # in any order
    ([("getTide", {"a": "bergen", "b": "c"})], (1, 1, 2, 0, 2, 2), False),
    ([("getTide", {"a": "Bergen"})] * 2, (2, 2, 2, 2, 2, 2), False),        # a repeated call counts again, as published
    ([("sumUp", {"a": "Bergen"})], (0, 1, 2, 0, 1, 2), False),
])
def test_calls_counted_by_hand(made, counts, valid):
    right = [ToolCall("getTide", {"a": "Bergen"}), ToolCall("bookFerry", {"a": 2})]
    calls = [ToolCall(*one) for one in made]
    assert tuple(count_calls(calls, right)[name] for name in COUNTS) == counts and same_calls(calls, right) == valid


def test_what_is_offered(folder):
    def names(how, key="dev-1"):
        benchmark = load(folder, Settings(retrieve=how))
        return [one.name for one in benchmark.offered(benchmark.entries[key])]

    assert set(names("gold")) == {"getTide", "bookFerry"} and names("1", "dev-2") == ["getRain"]
    assert set(names("2")) == {"getTide", "bookFerry"}
    assert len(names("gold+3")) == 3 and set(names("gold+3")) > {"getTide", "bookFerry"}
    assert names("gold+3") == names("gold+3") and len(names("gold+99")) == 4
    for wrong in ("0", "-1", "silver", "gold+", "gold+x", "²"):
        with pytest.raises(ValueError, match="expected a number of tools, gold, or gold"):
            Settings(retrieve=wrong)


def test_scores_of_two_answers(folder):
    benchmark = load(folder, Settings(retrieve="2"))
    text = '<tool_call>\n{"name": "getTide", "arguments": {"a": "Bergen"}}\n</tool_call>'
    line = benchmark.answer_line(benchmark.entries["dev-1"], text)
    verdicts, summary = score_answers(benchmark, [Answer(line), Answer({"id": "dev-2", "text": "It will."})])
    assert [(row["valid"], row["decoded"]) for row in verdicts] == [(False, True), (False, False)]
    assert verdicts[0]["all_offered"] and "all_offered" not in verdicts[1]
    split = summary["splits"]["dev"]
    assert split["tools_precision"]["value"] == 100 and split["tools_recall"]["value"] == 33.33
    assert split["tools_f1"]["value"] == 50 and split["arguments_f1"]["value"] == 50
    assert split["format"]["value"] == 50 and summary["scores"]["dev_calls_right"]["value"] == 0


def test_a_query_whose_tool_is_lacking_is_named(folder):
    (folder / "tool.jsonl").write_text(json.dumps(tool("getTide", "x")) + "\n")
    with pytest.raises(ValueError, match=r"dev.jsonl, line 1: needs \['bookFerry'\], which tool.jsonl lacks"):
        load(folder)
    (folder / "dev.jsonl").write_text('{"id": "dev-1"}\n')
    with pytest.raises(ValueError, match="dev.jsonl, line 1: no query of Seal-Tools"):
        load(folder)
    (folder / "dev.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="expected the Seal-Tools dataset"):
        load(folder)


CALL = {"api": "getTide", "parameters": {"a": "Bergen"}, "responses": ["API_call_0"]}


@pytest.mark.parametrize("said", [
    {"text": repr([CALL])}, {"text": json.dumps([CALL])}, {"result": [CALL]}, {"result": CALL},
    {"result": json.dumps([CALL])}, {"result": [{"name": "getTide", "arguments": {"a": "Bergen"}}]},
])
def test_the_benchmarks_own_spelling_is_read(folder, said):
    benchmark = load(folder)
    (row,), _ = score_answers(benchmark, [Answer({"id": "dev-1", **said})])
    assert [row[name] for name in COUNTS] == [1, 1, 2, 1, 1, 2] and row["decoded"]


@pytest.mark.parametrize("said", [
    {"result": [{"api": "getTide"}, {"api": "bookFerry", "parameters": None}]}, {"text": "[{'api': 'getTide'}]"},
    {"result": [{"name": "getTide"}]}])
def test_a_call_without_parameters_is_a_call_of_its_tool(folder, said):
    (row,), _ = score_answers(load(folder), [Answer({"id": "dev-1", **said})])
    assert row["decoded"] and row["tools_right"] == len(said.get("result", "1"))
    assert row["arguments_given"] == 0


@pytest.mark.parametrize("said", ["[1, 2]", "[{'name': 'x'}]", "[{'api': 5}]", "[{'api': 'x', 'parameters': {1, 2}}]",
                                  "[{", "[[{'api': 'x'}]]", "a [list]"])
def test_what_is_no_list_of_calls_is_undecodable(folder, said):
    (row,), _ = score_answers(load(folder), [Answer({"id": "dev-1", "text": said})])
    assert not row["decoded"]


def test_a_score_does_not_say_what_was_offered(folder, tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps({"id": "dev-1", "text": "[]", "offered": ["getTide"]}) + "\n")
    assert run_module(score, ["--bench", "sealtools", "--data", str(folder), "--answers", str(file), "--out",
                              str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "retrieve" not in summary and summary["splits"]["dev"]["all_offered"]["value"] == 0


@pytest.mark.parametrize(("file", "row", "said"), [
    ("tool", {"api_name": 5, "api_description": ""}, "tool.jsonl, line 5: no tool of Seal-Tools"),
    ("tool", {}, "tool.jsonl, line 5: no tool of Seal-Tools"),
    ("tool", {"conversations": 3}, "tool.jsonl, line 5: no tool of Seal-Tools"),
    ("tool", {"query": "x", "calling": []}, "tool.jsonl, line 5: no tool of Seal-Tools"),
    ("dev", {"id": "x", "query": "y", "calling": [{"api": ["A"], "parameters": {}}]}, "dev.jsonl, line 3: no query of"),
    ("dev", {"id": "x", "query": "y", "calling": [{"api": "sumUp", "parameters": [["a", 1]]}]}, "line 3: no query of"),
    ("dev", {"id": "x", "query": ["y"], "calling": []}, r"dev.jsonl, line 3: no query.*query is list"),
    ("dev", {"id": 3, "query": "y", "calling": []}, r"dev.jsonl, line 3: no query.*id is int"),
    ("dev", {"id": "dev-1", "query": "y", "calling": []}, "dev.jsonl, line 3: the id 'dev-1' is there already"),
])
def test_a_bad_row_is_refused_by_file_and_line(folder, file, row, said):
    with (folder / f"{file}.jsonl").open("a") as opened:
        opened.write(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=said):
        load(folder)


def test_a_report_shows_seal_tools_beside_the_other_benchmarks(folder, tmp_path):
    run = make_run(tmp_path / "run", steps=("raw", "joint"))
    right = '<tool_call>{"name": "getRain", "arguments": {"a": "x"}}</tool_call>'
    for step, text in (("raw", "Rain."), ("joint", right)):
        file = tmp_path / "answers.jsonl"
        file.write_text(json.dumps({"id": "dev-2", "text": text}) + "\n")
        out = run / step / "bench" / "sealtools"
        assert run_module(score, ["--bench", "sealtools", "--data", str(folder), "--answers", str(file), "--out",
                                  str(out)]) == 0
    write_report(run)
    text = (run / "report.md").read_text()
    assert "Seal-Tools, % [95% interval]" in text and "Seal-Tools: joint training against raw" in text
    assert "dev-calls-right strict" in text and "50.0 [9.4, 90.5]" in text
