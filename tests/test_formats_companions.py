"""What stands beside a file or runs over its lines: answers by id, tools by name, dialogues a line at a time."""

import json

import pytest
from test_formats_losses import run

from data.formats.items import RowError
from data.formats.listed import tool_list
from data.formats.tooldocs import read_tool
from data.schema import Tool

QUESTION = {"id": "simple_0", "question": [[{"role": "user", "content": "Tides at Leith?"}]],
            "function": [{"name": "tide_table", "description": "Tides.", "parameters": {
                "type": "dict", "properties": {"harbour": {"type": "string", "description": "H."}},
                "required": ["harbour"]}}]}


def answer(harbour, name="simple_0"):
    return json.dumps({"id": name, "ground_truth": [{"tide_table": {"harbour": [harbour]}}]})


@pytest.mark.parametrize(("lines", "fault"), [
    ([answer("Hvar", "simple_1"), '{"id": "simple_0", "ground_truth": [{"tide_table": {"harbour": ["Leith"}}]}'],
     "answers.jsonl: line 2: "),
    ([answer("Hvar"), answer("Leith")], "answers.jsonl: line 2: says something else of 'simple_0' than a line before"),
    ([answer("Hvar", "simple_1"), '{"ground_truth": []}'], "answers.jsonl: line 2: has no id"),
    ([answer("Hvar", "simple_1"), "[7]"], "answers.jsonl: line 2: has no id"),
    ([answer("Hvar", "simple_1")], ""),
], ids=["broken", "two answers", "without an id", "no object", "none of this id"])
def test_a_question_whose_answer_cannot_be_told_stays_a_query_and_the_line_is_named(lines, fault, tmp_path):
    (tmp_path / "answers.jsonl").write_text("\n".join(lines) + "\n")
    report, examples, queries, _, rejected = run(tmp_path, [QUESTION], answers=str(tmp_path / "answers.jsonl"))
    assert not examples and not rejected and [query.query for query in queries] == ["Tides at Leith?"]
    assert report["left_out"] == {"no_answer": 1}
    faults = report.get("companion_faults", [])
    assert len(faults) == bool(fault) and all(found.startswith(fault) for found in faults)


def test_an_answer_that_is_there_twice_is_taken(tmp_path):
    (tmp_path / "answers.jsonl").write_text(answer("Leith") + "\n" + answer("Leith") + "\n")
    report, (example,), *_ = run(tmp_path, [QUESTION], answers=str(tmp_path / "answers.jsonl"))
    assert example.calls[0].arguments == {"harbour": "Leith"} and "companion_faults" not in report


def test_many_faults_of_a_companion_are_counted(tmp_path):
    (tmp_path / "answers.jsonl").write_text(answer("Leith") + "\n" + "{\n" * 30)
    report, examples, *_ = run(tmp_path, [QUESTION], answers=str(tmp_path / "answers.jsonl"))
    assert len(examples) == 1 and report["companion_faults"][-1] == "answers.jsonl: 10 further lines"


# --------------------------------------------------------------------------------------- API-Bank's dialogues, by lines

ASKED, THEN = {"role": "User", "text": "Tides at Leith?"}, {"role": "User", "text": "And at Hvar?"}
DOCS = [{"name": "tide_table", "description": "T.", "input_parameters": {"harbour": {"type": "str",
                                                                                     "description": "H."}}}]


def called(harbour, **result):
    return {"role": "API", "api_name": "tide_table", "param_dict": {"harbour": harbour}, "result": result}


def spoken(tmp_path, lines):
    (tmp_path / "docs.json").write_text(json.dumps(DOCS))
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    return run(tmp_path, text, tools=str(tmp_path / "docs.json"))


def test_lines_behind_one_that_cannot_be_read_are_no_part_of_its_dialogue(tmp_path):
    broken = '{"role": "API", "api_name": "tide_table", "param_dict": {"harbour": NaN}}'
    report, examples, queries, _, rejected = spoken(tmp_path, [ASKED, broken, THEN, called("Hvar")])
    assert not examples and [query.query for query in queries] == ["Tides at Leith?"] and len(rejected) == 1
    assert report["left_out"] == {"lines_behind_a_gap": 2}


def test_a_call_before_a_line_that_cannot_be_read_is_kept(tmp_path):
    report, (example,), *_ = spoken(tmp_path, [ASKED, called("Leith", output="noon"), "{", THEN, called("Hvar")])
    assert example.query == "Tides at Leith?" and example.calls[0].arguments == {"harbour": "Leith"}
    assert report["left_out"] == {"lines_behind_a_gap": 2}


def test_a_dialogue_whose_first_line_cannot_be_read_gives_nothing(tmp_path):
    _, examples, queries, _, rejected = spoken(tmp_path, ["{", THEN, called("Hvar", output="one")])
    assert not examples and not queries and [row["reason"] for row in rejected] == ["not_json", "no_user_message"]


@pytest.mark.parametrize("result", [{"output": None, "exception": "No such harbour"},
                                    {"output": "Error: no such harbour"}, {"error": "unknown"}])
def test_a_call_that_failed_is_not_learnt(result, tmp_path):
    lines = [ASKED, called("Leth", **result), called("Leith", output="noon", exception=None)]
    report, examples, queries, *_ = spoken(tmp_path, lines)
    assert not examples and len(queries) == 1
    assert report["left_out"] == {"answer_not_to_learn": 1, "call_after_result": 1}


# ----------------------------------------------------------------------------------------- tools, displaced and not

SCHEMA = {"type": "object", "properties": {"harbour": {"type": "string"}}, "required": ["harbour"]}


@pytest.mark.parametrize("document", [
    {"type": "function", "function": {"name": "tides", "description": "T."}, "parameters": SCHEMA},
    {"type": "function", "function": {"name": "tides", "description": "T.", "parameters": None}, "parameters": SCHEMA},
    {"type": "function", "function": {"name": "tides"}, "description": "T.", "input_schema": SCHEMA},
    {"toolSpec": {"name": "tides", "description": "T."}, "inputSchema": {"json": SCHEMA}},
    {"name": "tides", "description": "T.", "parameters": {"jsonSchema": SCHEMA}},
    {"name": "tides", "description": "T.", "inputSchema": {"jsonSchema": SCHEMA}},
])
def test_parameters_beside_the_function_that_they_belong_to_are_read(document):
    record, changes = read_tool(document)
    assert list(record["arguments"]["properties"]) == record["arguments"]["required"] == ["harbour"]
    assert record["description"] == "T." and "dropped" not in changes


def test_a_function_keeps_its_own_parameters_and_description():
    own = {"name": "tides", "description": "T.", "parameters": SCHEMA}
    other = {"description": "Other.", "parameters": {"type": "object", "properties": {"port": {"type": "string"}}}}
    record, _ = read_tool({"type": "function", "function": own, **other})
    assert list(record["arguments"]["properties"]) == ["harbour"] and record["description"] == "T."


@pytest.mark.parametrize("arguments", [
    {"harbour": "New Haven"}, {"to": "bob", "urgent": True}, {"harbours": ["Leith", "Hvar"]},
    {"place": {"street": "1 Quay Road"}}, {"note": "Please be early."}])
def test_a_logged_call_is_no_tool(arguments, tmp_path):
    report, _, _, tools, rejected = run(tmp_path, [{"name": "tides", "arguments": arguments}], format="tools")
    assert not tools and [row["reason"] for row in rejected] == ["bad_tool"], report
    with pytest.raises(ValueError, match="no format recognises its rows"):
        run(tmp_path, [{"name": "tides", "arguments": arguments}])


@pytest.mark.parametrize(("document", "names"), [
    ({"name": "tides", "arguments": {"harbour": "str", "days": "int, optional"}}, ["harbour", "days"]),
    ({"name": "tides", "arguments": {"harbour": {"description": "H."}}}, ["harbour"]),
    ({"name": "tides", "description": "T.", "arguments": {"harbour": "Name of the harbour."}}, ["harbour"]),
    ({"name": "tides", "parameters": SCHEMA}, ["harbour"])])
def test_a_tool_without_a_description_needs_types_or_schemas(document, names, tmp_path):
    _, _, _, (tool,), rejected = run(tmp_path, [document])
    assert list(tool.to_dict()["arguments"]["properties"]) == names and not rejected


# ------------------------------------------------------------------------------------------ queries that are no text

@pytest.mark.parametrize("instruction", [None, 7, ["Tides?"], {"text": "Tides?"}, " "])
def test_a_query_that_is_no_text_costs_itself_alone(instruction, tmp_path):
    paths = {"/tides": {"get": {"operationId": "tides", "description": "T."}}}
    step = [{"Action": "tides", "Action_Input": "{}"}]
    row = {"Name": "Tides", "Documentation": json.dumps({"paths": paths}),
           "Instructions": [instruction, "Tides at Leith?"], "Golden_Answers": [step, step]}
    _, examples, _, _, rejected = run(tmp_path, [row])
    assert [example.query for example in examples] == ["Tides at Leith?"]
    assert [row["reason"] for row in rejected] == ["no_query"]


def test_a_tool_of_no_known_shape_is_refused_in_its_wrapper_too():
    with pytest.raises(RowError, match="expected an object with properties"):
        read_tool({"type": "function", "function": {"name": "tides", "description": "T."},
                   "parameters": {"type": "string"}})


# ------------------------------------------------------------------------------------------- lists of tools in a text

PLAIN, BARE = {"name": "now", "description": "The time.", "parameters": {}}, {"name": "moon"}
TIDES = {"name": "tides", "description": "T.", "parameters": SCHEMA}


@pytest.mark.parametrize(("said", "tools"), [
    ("Functions: ", [TIDES, BARE]), ("", [TIDES, {**BARE, "description": "", "type": "tool"}]), ("", [PLAIN]),
    ("You have these abilities: ", [PLAIN, {**PLAIN, "name": "then"}])])
def test_a_list_of_tools_is_not_lost_for_one_of_them(said, tools):
    assert tool_list(said + json.dumps(tools)) == tools


@pytest.mark.parametrize("entries", [[{"id": 1, "name": "Bob"}], [{"name": "f", "arguments": {"x": 1}}],
                                     [TIDES, {"name": "f", "arguments": {"x": 1}}]])
def test_a_list_of_other_things_is_none_of_tools(entries):
    assert tool_list("Tools and customers: " + json.dumps(entries)) is None


def test_keywords_that_hold_examples_are_no_arguments():
    for schema in ({"default": {"type": "x"}}, {"example": {"type": "x"}}, {"x-of": {"type": "x"}}):
        Tool.from_dict({"name": "tides", "description": "T.", "parameters": {"type": "object", **schema}})
