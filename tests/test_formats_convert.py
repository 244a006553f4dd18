"""The convert command: nothing lost, quirks of real corpora on original rows, settings kept, files written whole."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from formats_shapes import CASES, READER, SPELL, TIDES, json_schema, wrapped

from data.formats.convert import Options, convert
from data.schema import load_examples, load_queries, load_tools, read_jsonl

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ("tools", "examples", "queries", "rejected")


def run(tmp_path, rows, name="rows.jsonl", overwrite=True, **options):
    """Convert rows -> (manifest, examples, queries, tools, rejected)."""
    source, out = tmp_path / name, tmp_path / "out"
    source.write_text(rows if isinstance(rows, str)
                      else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    manifest = convert([source], out, Options(**options), overwrite=overwrite)
    rejected = [row for _, row in read_jsonl(out / "rejected.jsonl")]
    return (
        manifest,
        load_examples(out / "examples.jsonl"),
        load_queries(out / "queries.jsonl"),
        load_tools(out / "tools.jsonl"),
        rejected,
    )


def rows_accounted_for(out):
    """(file, row) of every line of every output."""
    return {(row["provenance"]["file"], row["provenance"]["row"]) for name in OUTPUTS
            for _, row in read_jsonl(out / f"{name}.jsonl")}


DAMAGE = [lambda row: row.pop(next(iter(row))), lambda row: row.update({key: 7 for key in row}),
          lambda row: row.update({list(row)[-1]: None}),
          lambda row: row.update({list(row)[-1]: "[{"}), lambda row: row.update({list(row)[0]: [[{"a": 1}]]}),
          lambda row: row.clear(),
          lambda row: row.update({key: {} for key in row}), lambda row: row.update({list(row)[-1]: [1, "x", None]})]


@pytest.mark.parametrize("name", SPELL)
def test_every_row_stands_in_an_output_or_in_rejected(name, tmp_path):
    rows = [json.loads(json.dumps(SPELL[name](case))) for case in CASES]
    for number, damage in enumerate(DAMAGE):
        damage(rows[2 * number])
    rows[20:20] = [7, "text", None, [], [1]]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"broken": \n'
    manifest, *_ = run(tmp_path, text, format=READER.get(name, name),
                       tools=spec(tmp_path) if name == "nestful" else None)
    assert manifest["rows"] == len(rows) + 1
    assert rows_accounted_for(tmp_path / "out") == {("rows.jsonl", number) for number in range(1, len(rows) + 2)}
    assert 17 <= manifest["rows_converted"] <= 26


def spec(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps([json_schema(t) for t in {t["name"]: t for c in CASES for t in c["tools"]}.values()]))
    return str(path)


def turns(*pairs):
    return [{"from": role, "value": value} for role, value in pairs]


CALL = '{"name": "tide_table", "arguments": {"harbour": "Leith"}}'


def test_conversations_give_their_first_request_and_count_the_rest(tmp_path):
    row = {"tools": json.dumps([json_schema(TIDES)]), "conversations": turns(
        ("human", "Leith?"), ("function_call", CALL), ("observation", "{}"), ("function_call", CALL),
        ("observation", "{}"), ("gpt", "Noon."),
        ("human", "And tomorrow?"), ("gpt", "Let me see."), ("function_call", CALL), ("function_call", CALL),
        ("observation", "{}"), ("gpt", "One."))}
    manifest, examples, *_ = run(tmp_path, [row])
    assert [(e.query, len(e.calls)) for e in examples] == [("Leith?", 1)]
    assert manifest["inputs"][0]["left_out"] == {"call_after_result": 1, "call_in_later_turn": 1}


def test_all_turns_give_transcripts(tmp_path):
    row = {"tools": json.dumps([json_schema(TIDES)]), "conversations": turns(
        ("human", "Tides?"), ("gpt", "Where?"), ("human", "Leith"), ("function_call", CALL), ("observation", "{}"),
        ("human", "Thanks"), ("gpt", "Bye"))}
    _, examples, *_ = run(tmp_path, [row], turns="all")
    assert [(e.id, e.query, len(e.calls)) for e in examples] == [
        ("rows:1", "Tides?", 0), ("rows:1.turn3", "user: Tides?\nassistant: Where?\nuser: Leith", 1)]
    assert examples[0].provenance["notes"] == ["answer_in_words"]


def test_parallel_calls_in_neighbouring_turns_are_one_answer(tmp_path):
    row = {"tools": json.dumps([wrapped(TIDES)]),
           "messages": [{"role": "user", "content": "Leith, twice"}, {"role": "tool_call", "content": CALL},
                                                               {"role": "tool_call", "content": CALL},
                                                               {"role": "tool_response", "content": "{}"}]}
    assert [len(e.calls) for e in run(tmp_path, [row])[1]] == [2]


def test_without_tools_a_conversation_is_a_query(tmp_path):
    rows = [{"tools": tools, "conversations": turns(("human", "Tell me a joke"), ("gpt", "No."))}
            for tools in ("", "[]", None)]
    _, examples, queries, *_ = run(tmp_path, rows)
    assert (len(examples), [q.query for q in queries]) == (0, ["Tell me a joke"] * 3)


def test_toolace_in_sharegpt_takes_the_tools_from_the_system_text(tmp_path):
    system = f"Functions you can invoke:\n{json.dumps([json_schema(TIDES)])}. \nShould you decide [func1(x=y)]"
    row = {"system": system, "tools": "[]", "conversations": turns(("human", "Leith?"), ("function_call", CALL))}
    _, (example,), *_ = run(tmp_path, [row])
    assert [t.to_dict() for t in example.tools] == [TIDES]


def test_toolace_replies_in_words_are_no_calls(tmp_path):
    row = SPELL["toolace"](CASES[0])
    row["conversations"][1]["value"] = "Which [harbour](at the sea) do you mean?"
    _, (example,), *_ = run(tmp_path, [row])
    assert example.calls == () and example.provenance["notes"] == ["answer_in_words"]
    row["conversations"][1]["value"] = "[tide_table(harbour=Leith)]"
    manifest, examples, queries, *_ = run(tmp_path / "b" if (tmp_path / "b").mkdir() is None else tmp_path, [row])
    assert manifest["rejected"] == {"bad_calls": 1} and len(queries) == 1 and not examples


def test_hermes_reads_python_literals_and_tags_inside_strings(tmp_path):
    row = SPELL["hermes"](CASES[0])
    row["conversations"][2]["value"] = ("<think>maybe <tool_call>{}</tool_call></think>\n<tool_call>\n{'name': "
                                        "'tide_table', 'arguments': {'harbour': "
                                        "'</tool_call>'}}\n</tool_call>\n<tool_call>\n{\"name\": \"tide_table\", "
                                        "\"arguments\": {\"harbour\": \"<tool_call>\"}}\n</tool_call>")
    _, (example,), *_ = run(tmp_path, [row])
    assert [c.arguments["harbour"] for c in example.calls] == ["</tool_call>", "<tool_call>"]


@pytest.mark.parametrize("arguments", ["'{\"harbour\": \"O'Brien\"}'", "'{\"harbour\": \"O\\'Brien\"}'",
                                       "{\"harbour\": \"O'Brien\"}"])
def test_glaive_calls_with_quotes_escaped_or_not(tmp_path, arguments):
    row = SPELL["glaive"](CASES[0])
    row["chat"] = (f'USER: Tides?\n\n\nASSISTANT: <functioncall> {{"name": "tide_table", "arguments": {arguments}}} '
                   '<|endoftext|>\n\n\nFUNCTION RESPONSE: {}')
    _, (example,), *_ = run(tmp_path, [row])
    assert example.calls[0].arguments == {"harbour": "O'Brien"}


def test_toolalpaca_s_runs_give_their_first_action(tmp_path):
    row = {key: value for key, value in SPELL["toolalpaca"](CASES[0]).items() if key != "Golden_Answers"}
    query, step = row["Instructions"][0], [["tide_table", '{"harbour": "Whitby"}', "I look."], "noon"]
    failed = [step[0], '{"error": "no such harbour"}']
    refused, fine = [step[0], "Status Code: 404. Response: Not found"], [step[0], "Status Code: 200. Response: {}"]
    runs = [[fine, step], [failed, step], [refused, step], [failed], [],
            [[["tide_table", "{'a"], ""]], [["tide_table"]], None]
    row |= {"Instructions": [query] * len(runs) + ["Another?"], "Instances": [
        {"input": query, "intermediate_steps": steps, "output": "x"} for steps in runs] + [{"input": "Which?"}]}
    source, out = tmp_path / "train.json", tmp_path / "out"
    source.write_text(json.dumps([row]))
    (report,) = convert([source], out, Options())["inputs"]
    assert [[call.arguments for call in example.calls] for example in load_examples(out / "examples.jsonl")] == [
        [{"harbour": "Whitby"}]] * 2
    assert report["left_out"] == {"call_after_result": 1, "answer_not_to_learn": 2, "no_answer": 3}
    assert report["rejected"] == {"bad_json_string": 1, "bad_call": 1}


def test_toolalpaca_holes_become_text_and_broken_actions_are_refused_alone(tmp_path):
    row = SPELL["toolalpaca"](CASES[0])
    row["Instructions"] += ["Then?", "And?", "No answer"]
    row["Golden_Answers"] += [[{"Action": "tide_table", "Action_Input": '{"harbour": ${name from find}, "days": 2}'}],
                              [{"Action": "tide_table", "Action_Input": '{"harbour":'}]]
    manifest, examples, queries, _, rejected = run(tmp_path, [row])
    assert examples[1].calls[0].arguments == {"harbour": "${name from find}", "days": 2}
    assert examples[1].provenance["notes"] == ["nested_reference"]
    assert [r["id"] for r in rejected] == ["rows:1.2"] and len(queries) == 4 and manifest["rows_converted"] == 1


def test_toolbench_types_of_a_web_form_and_defaults_are_re_typed_with_the_original_kept(tmp_path):
    api = {"name": "Quay / list", "description": "Lists quays.", "method": "GET",
           "template_response": {"quays": [{"name": "str", "_list_length": 2}], "total": "int"},
           "required_parameters": [{"name": "page", "type": "NUMBER", "description": "Page.", "default": "2"}],
           "optional_parameters": [{"name": "day", "type": "DATE (YYYY-MM-DD)", "description": "Day.", "default": ""},
                                   {"name": "deep", "type": "BOOLEAN", "description": "Deep?", "default": "maybe"},
                                   {"name": "page", "type": "STRING", "description": "Again."},
                                   {"name": "kind", "type": "ENUM", "description": "Kind.", "enum": ["a", "b"]}]}
    _, _, _, (found,), _ = run(tmp_path, [{"tool_name": "Quays", "category": "Sea", "api_list": [api]}])
    assert found.parameters == {"type": "dict", "properties": {
        "page": {"type": "number", "description": "Page.", "default": 2},
        "day": {"type": "string", "description": "Day.", "default": ""},
        "deep": {"type": "boolean", "description": "Deep?"},
        "kind": {"type": "string", "description": "Kind.", "enum": ["a", "b"]}}, "required": ["page"]}
    assert found.results["properties"]["total"]["type"] == "integer"
    (_, row), = read_jsonl(tmp_path / "out" / "tools.jsonl")
    assert row["provenance"]["values"] == {
        "page.default": "2", "deep.default": "maybe",
        "page.repeated": {"name": "page", "type": "STRING", "description": "Again."}}
    assert row["provenance"]["types"]["day"] == "DATE (YYYY-MM-DD)" and row["provenance"]["tool_name"] == "Quays"


def test_mcp_unions_references_and_missing_types(tmp_path):
    schema = {"type": "object", "$schema": "http://x", "additionalProperties": False, "$defs": {
        "P": {"type": "object", "properties": {"x": {"type": "number"}, "next": {"$ref": "#/$defs/P"}},
              "required": ["x"]}}, "properties": {
        "a": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "A.", "default": None},
        "b": {"type": ["integer", "null"], "description": "B."},
        "c": {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "d": {"$ref": "#/$defs/P"},
        "e": {"description": "E.", "enum": ["x"]}, "f": {},
        "g": {"type": "array", "items": {"type": "object",
                                         "properties": {"h": {"type": "string", "pattern": "(a+)+"}}}},
                                         "h": {"$ref": "http://x/y"}}}
    _, _, _, (found,), _ = run(tmp_path, [{"tools": [{"name": "t", "description": None, "inputSchema": schema}],
                                           "server_name": "s"}])
    kinds = {name: spec["type"] for name, spec in found.parameters["properties"].items()}
    assert kinds == {"a": ["string", "null"], "b": ["integer", "null"], "c": "any", "d": "dict", "e": "string",
                     "f": "any", "g": "array", "h": "any"}
    assert found.parameters["properties"]["d"]["required"] == ["x"]
    assert found.parameters["properties"]["g"]["items"]["properties"]["h"] == {"type": "string", "description": ""}
    (_, row), = read_jsonl(tmp_path / "out" / "tools.jsonl")
    assert (
        row["provenance"]["types"]["c"] == {"anyOf": [{"type": "string"}, {"type": "integer"}]}
        and row["provenance"]["types"]["f"] is None
    )
    assert {"pattern", "$schema", "additionalProperties"} <= set(row["provenance"]["dropped"])


def test_query_lists(tmp_path):
    snips = {"BookBoat": [{"data": [{"text": "a boat to "}, {"text": "Hvar", "entity": "place"}]},
                          {"data": [{"text": "row me "}]}]}
    manifest, _, queries, *_ = run(tmp_path, json.dumps(snips), name="boats.json")
    assert (
        [q.query for q in queries] == ["a boat to Hvar", "row me"]
        and manifest["rows"] == 2
        and manifest["inputs"][0]["left_out"] == {"slot": 1}
    )
    (tmp_path / "q.csv").write_text("Query,Tool\nhow deep?,Sonar\n,Sonar\n")
    (tmp_path / "q.txt").write_text("wie tief?\n")
    manifest = convert([tmp_path / "q.csv", tmp_path / "q.txt"], tmp_path / "two", Options())
    assert [q.query for q in load_queries(tmp_path / "two" / "queries.jsonl")] == [
        "how deep?",
        "wie tief?",
    ] and manifest["rejected"] == {"no_query": 1}


def test_apibank_raw_dialogues_are_one_row_per_file(tmp_path):
    lines = [{"role": "User", "text": "Tides?"}, {"role": "AI", "text": "Where?"}, {"role": "User", "text": "Leith"},
             {"role": "API", "api_name": "tide_table", "param_dict": {"harbour": "Leith"},
              "result": {"output": "noon"}}, {"role": "AI", "text": "Noon."}]
    (tmp_path / "docs.json").write_text(json.dumps([{"name": "tide_table", "description": "T.",
                                                     "input_parameters": {"harbour": {"type": "str",
                                                                                      "description": "H."}}}]))
    manifest, (example,), *_ = run(tmp_path, lines, tools=str(tmp_path / "docs.json"))
    assert (
        manifest["rows"] == 1
        and example.query == "user: Tides?\nassistant: Where?\nuser: Leith"
        and example.calls[0].arguments == {"harbour": "Leith"}
    )


def test_apibank_requests_with_quotes_inside_values(tmp_path):
    row = SPELL["apibank_prompt"](CASES[0]) | {"expected_output": "API-Request: [tide_table(harbour='['Leith', "
                                                                  "'Hvar']', days='it's 3')]"}
    _, (example,), *_ = run(tmp_path, [row])
    assert example.calls[0].arguments == {"harbour": "['Leith', 'Hvar']", "days": "it's 3"}


def test_bfcl_answers_lie_beside_the_questions(tmp_path):
    row = SPELL["bfcl"](CASES[1])
    truth = {"id": row["id"],
             "ground_truth": [{"tide_table": {"harbour": ["Brest"], "days": ["", 3], "unit": ["foot", ""]}}]}
    del row["ground_truth"]
    assert len(run(tmp_path, [row])[2]) == 1 and not run(tmp_path, [row])[1]
    (tmp_path / "possible_answer").mkdir()
    (tmp_path / "possible_answer" / "rows.jsonl").write_text(json.dumps(truth))
    assert run(tmp_path, [row])[1][0].calls[0].arguments == {"harbour": "Brest", "unit": "foot"}
    assert run(tmp_path, [row | {"id": "live_irrelevance_1-0-0"}])[1][0].calls == ()


def test_check_has_the_rule_checker_judge(tmp_path):
    good, bad = SPELL["xlam"](CASES[0]), SPELL["xlam"](CASES[0] | {"calls": [{"name": "nobody", "arguments": {}}]})
    manifest, examples, queries, *_ = run(tmp_path, [good, bad], check=True)
    assert len(examples) == 1 and len(queries) == 2 and manifest["rejected"] == {"unknown_tool": 1}
    assert len(run(tmp_path / "x" if (tmp_path / "x").mkdir() is None else tmp_path, [good, bad])[1]) == 2


def test_other_settings_on_the_same_folder_are_refused_and_the_same_give_the_same_bytes(tmp_path):
    rows = [SPELL["xlam"](case) for case in CASES]
    run(tmp_path, rows)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    run(tmp_path, rows, overwrite=False)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ValueError, match="turns was 'first', now 'all'"):
        run(tmp_path, rows, overwrite=False, turns="all")
    with pytest.raises(ValueError, match="made from other inputs .rows.jsonl."):
        run(tmp_path, rows[:1], overwrite=False)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_an_error_leaves_no_half_written_file(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(SPELL["xlam"](CASES[0])) + "\n")
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(ValueError, match="empty"):
        convert([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out", Options())
    assert list((tmp_path / "out").iterdir()) == []


def test_files_of_one_name_are_told_apart(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "q.txt").write_text(folder)
    convert([tmp_path / "one", tmp_path / "two"], tmp_path / "out", Options())
    (tmp_path / "two" / "q.json").write_text('["three"]')
    convert([tmp_path / "one", tmp_path / "two"], tmp_path / "more", Options())
    assert [q.id for q in load_queries(tmp_path / "out" / "queries.jsonl")] == ["one/q:1", "two/q:1"]
    assert [q.id for q in load_queries(tmp_path / "more" / "queries.jsonl")] == ["q:1", "q.json:1", "q.txt:1"]


def test_repeated_tools_are_written_once_and_counted(tmp_path):
    manifest, _, _, tools, _ = run(tmp_path, [SPELL["xlam"](CASES[0])] * 5)
    assert len(tools) == 1 and manifest["inputs"][0]["repeated_tools"] == 4


def command(*arguments):
    return subprocess.run([sys.executable, "tooldev.py", "convert", *map(str, arguments)], cwd=ROOT,
                          capture_output=True, text=True)


def test_the_command_line(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(SPELL["xlam"](CASES[0])) + "\n")
    done = command("--in", tmp_path / "a.jsonl", "--out", tmp_path / "out")
    assert done.returncode == 0 and "| a.jsonl | xlam | 1 | 1 | 1 | 1 | 1 | - | - |" in done.stdout
    done = command("--from", "xlamm", "--in", tmp_path / "a.jsonl", "--out", tmp_path / "out")
    assert (
        done.returncode == 2
        and done.stderr.startswith("error: --from xlamm: no such format; known are auto, ")
        and done.stderr.count("\n") == 1
    )
    (tmp_path / "odd.jsonl").write_text('{"x": 1}\n')
    done = command("--in", tmp_path / "odd.jsonl", "--out", tmp_path / "odd")
    assert done.returncode == 2 and "no format recognises its rows" in done.stderr


@pytest.mark.slow
def test_every_file_of_the_corpora_is_converted_as_the_committed_table_says(tmp_path):
    """Needs TOOLDEV_DATA; some 20 s. Every row is accounted for, 95% converted, and docs/corpora.md up to date."""
    if not os.environ.get("TOOLDEV_DATA"):
        pytest.skip("set TOOLDEV_DATA to a folder with corpora/")
    folder = Path(os.environ["TOOLDEV_DATA"]) / "corpora"
    manifest = convert([folder], tmp_path / "out", Options())
    from data.formats.convert import summary
    table = (ROOT / "docs" / "corpora.md").read_text()
    for line in summary(manifest).splitlines():
        assert line in table
    for name in ("examples", "queries"):
        ids = Counter(row["id"] for _, row in read_jsonl(tmp_path / "out" / f"{name}.jsonl"))
        assert max(ids.values()) == 1
    accounted = Counter(file for file, _ in rows_accounted_for(tmp_path / "out"))
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".md" and path.is_file()}
    assert len(manifest["inputs"]) == len(files)
    for report in manifest["inputs"]:
        if "not_served" not in report:
            assert accounted[report["file"]] == report["rows"], report["file"]
            refused = report["rejected"].get("no_parameters", 0)
            assert report["rows_converted"] >= 0.95 * (report["rows"] - refused), report["file"]
