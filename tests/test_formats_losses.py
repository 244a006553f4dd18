"""What a conversion could lose or change without saying so: each case gave a wrong or a missing row once."""

import gzip
import json
import tracemalloc

import pytest
from formats_shapes import CASES, SPELL, TIDES, json_schema, wrapped

from data.formats.convert import Options, convert
from data.formats.dialogue import ROLES
from data.formats.source import Broken, records, sniff
from data.formats.tooldocs import read_tool
from data.formats.typewords import read_type
from data.schema import load_examples, load_queries, load_tools, read_jsonl
from data.splits import SplitConfig, split

XLAM = SPELL["xlam"](CASES[0])
CALL = {"name": "tide_table", "arguments": {"harbour": "Leith"}}


def run(tmp_path, data, name="rows.jsonl", **options):
    """Convert -> (report of the file, examples, queries, tools, rejected)."""
    out = tmp_path / f"out-{name}"
    source = tmp_path / name
    text = data if isinstance(data, str) else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data)
    source.write_text(text)
    (report,) = convert([source], out, Options(**options), overwrite=True)["inputs"]
    rejected = [row for _, row in read_jsonl(out / "rejected.jsonl")]
    return (
        report,
        load_examples(out / "examples.jsonl"),
        load_queries(out / "queries.jsonl"),
        load_tools(out / "tools.jsonl"),
        rejected,
    )


# --------------------------------------------------------------------------------------------------------- containers

def test_arrays_one_after_another_are_all_read_and_text_after_an_array_is_reported(tmp_path):
    assert len(run(tmp_path, json.dumps([XLAM, XLAM]) + "\n" + json.dumps([XLAM]) + "\n", "two.json")[1]) == 3
    report, examples, *_, rejected = run(tmp_path, json.dumps([XLAM]) + "\nand more", "more.json")
    assert len(examples) == 1 and report["broken_off"] == "line 2: not_json" and rejected[0]["provenance"]["line"] == 2


def test_json_lines_under_the_name_of_a_text_or_a_table_are_json_lines(tmp_path):
    for name in ("a.txt", "a.csv"):
        report, examples, *_ = run(tmp_path, [XLAM, XLAM], name)
        assert (report["format"], len(examples)) == ("xlam", 2)
    assert [q.query for q in run(tmp_path, "{how} deep?\n[sic] why?\n", "b.txt")[2]] == ["{how} deep?", "[sic] why?"]


@pytest.mark.parametrize("name", ["queries", "queries.lst"])
def test_plain_text_of_any_name_is_read_where_queries_are_asked_for(tmp_path, name):
    lines = [f"how deep is water {n}?" for n in range(30)]
    assert [q.query for q in run(tmp_path, "\n".join(lines), name, format="queries")[2]] == lines
    assert sniff(tmp_path / name) == "lines"


def test_a_quote_that_is_never_closed_is_reported_with_its_line(tmp_path):
    report, _, queries, _, rejected = run(tmp_path, 'query,tool\nfirst,a\n"second,b\nthird,c\nfourth,d\n', "a.csv")
    assert [q.query for q in queries] == ["first"]
    assert report["broken_off"] == "line 3: bad_csv" and rejected[0]["provenance"]["line"] == 3


def test_a_field_with_text_after_its_quotes_costs_its_line(tmp_path):
    _, _, queries, _, rejected = run(tmp_path, 'query,tool\n"so "called" deep",a\nhow 5" deep,b\n', "a.csv")
    assert [q.query for q in queries] == ['how 5" deep'] and [(r["reason"], r["provenance"]["line"])
                                                              for r in rejected] == [("bad_csv", 2)]


def test_semicolons_and_tabs_part_columns_and_a_repeated_column_is_refused(tmp_path):
    assert [q.query for q in run(tmp_path, "query;tool\nhow deep, then;a\n", "a.csv")[2]] == ["how deep, then"]
    assert [q.query for q in run(tmp_path, "query\ttool\nhow deep, then\ta\n", "b.csv")[2]] == ["how deep, then"]
    with pytest.raises(ValueError, match="names a column twice"):
        run(tmp_path, "query,query\na,b\n", "c.csv")


def test_a_gzipped_array_that_breaks_off_keeps_what_stood_before(tmp_path):
    data = gzip.compress(json.dumps([{"query": f"{n} {hash(str(n))}"} for n in range(3000)]).encode())
    (tmp_path / "a.json.gz").write_bytes(data[:len(data) // 2])
    *good, broken = records(tmp_path / "a.json.gz")
    assert len(good) > 1000 and broken.reason == "file_ends_early" and broken.fatal


def test_a_byte_order_mark_inside_a_file_is_no_part_of_a_row(tmp_path):
    assert len(run(tmp_path, ("\ufeff" + json.dumps(XLAM) + "\n") * 2)[1]) == 2


def test_a_long_element_of_an_array_is_not_held(tmp_path):
    (tmp_path / "a.json").write_text('[{"q": 1},\n{"q": "' + "x" * (12 * 2**20) + '"}, {"q": 2}]')
    tracemalloc.start()
    found = list(records(tmp_path / "a.json", max_record_bytes=2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found[1], Broken) and (found[1].reason,
                                             found[1].line) == ("record_too_long", 2) and peak < 10 * 2**20


def test_an_unreadable_file_says_what_is_wrong_with_its_first_row(tmp_path):
    with pytest.raises(ValueError, match="not one row could be read; the first: line 1: Extra data"):
        run(tmp_path, json.dumps(XLAM, indent=1) + "\n" + json.dumps(XLAM, indent=1), "a.json")


# -------------------------------------------------------------------------------------------------------------- guesses

def test_a_line_of_metadata_does_not_decide_about_the_file(tmp_path):
    report, examples, *_, rejected = run(tmp_path, [{"version": "1", "made": "today"}, XLAM])
    assert len(examples) == 1 and report["rows"] == 2 and [r["provenance"]["row"] for r in rejected] == [1]


def test_each_row_of_a_mixed_file_is_read_in_its_own_format(tmp_path):
    hermes = {"tools": [wrapped(TIDES)], "messages": [{"role": "user", "content": "Leith?"},
                                                      {"role": "assistant",
                                                       "content": f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"}]}
    plain = {"tools": [wrapped(TIDES)], "messages": [{"role": "user", "content": "hi"},
                                                     {"role": "assistant", "content": "hello"}]}
    report, examples, *_ = run(tmp_path, [plain, hermes, XLAM])
    assert report["formats"] == {"openai": 1, "hermes": 1,
                                 "xlam": 1} and [len(e.calls) for e in examples] == [0, 1, len(CASES[0]["calls"])]


def test_files_of_a_folder_that_are_not_read_are_listed_and_outputs_are_no_inputs(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(json.dumps(XLAM))
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1")
    for _ in range(2):
        manifest = convert([tmp_path / "in"], tmp_path / "in" / "out", Options())
    assert [(r["file"], "not_served" in r) for r in manifest["inputs"]] == [("a.jsonl", False), ("b.parquet", True)]


# -------------------------------------------------------------------------------------------------------- conversations

@pytest.mark.parametrize(("form", "text"), [
    ("sharegpt", "[tide_table(harbour='Leith')"), ("sharegpt", "<tool_call>tide_table</tool_call>"),
    ("openai", "<function_call> Leith"), ("openai", f"[TOOL_CALLS] and {json.dumps(CALL)}"),
    ("toolace", "Sure: [tide_table(harbour='Leith')]")])
def test_calls_in_text_that_the_reader_does_not_read_are_no_answer_in_words(tmp_path, form, text):
    row = {"system": "", "tools": json.dumps([json_schema(TIDES)]),
           "conversations": [{"from": "user", "value": "Leith?"}, {"from": "assistant", "value": text}]}
    if form == "openai":
        row = {"tools": [wrapped(TIDES)], "messages": [{"role": "user", "content": "Leith?"},
                                                       {"role": "assistant", "content": text}]}
    _, examples, queries, tools, rejected = run(tmp_path, [row], format=form)
    assert not examples and len(queries) == len(tools) == 1 and [r["reason"] for r in rejected] == ["calls_in_text"]


def test_toolace_reads_calls_without_brackets_and_calls_in_turns_of_their_own(tmp_path):
    for role, text in (("assistant", "tide_table(harbour='Leith')"), ("function_call", json.dumps(CALL)),
                       ("function_call", "[tide_table(harbour='Leith')]")):
        assert role in ROLES
        row = {"system": f"Return [] if none fits. {json.dumps([json_schema(TIDES)])}. \n",
               "conversations": [{"from": "user", "value": "Leith?"}, {"from": role, "value": text}]}
        (example,) = run(tmp_path, [row], format="toolace")[1]
        assert [c.to_dict() for c in example.calls] == [CALL] and len(example.tools) == 1


def dialogue(*replies):
    turns = []
    for reply in replies:
        turns += [{"from": "user", "value": "Leith?"}, {"from": "assistant", "value": reply},
                  {"from": "tool", "value": "{}"}]
    return {"system": f"Tools:\n{json.dumps([json_schema(TIDES)])}. ", "conversations": turns}


def test_an_answer_that_cannot_be_read_costs_itself_only(tmp_path):
    good, bad = "[tide_table(harbour='Leith')]", "[tide_table(harbour=Leith)]"
    assert [len(e.calls) for e in run(tmp_path, [dialogue(good, bad)])[1]] == [1]
    report, examples, queries, _, rejected = run(tmp_path, [dialogue(good, bad)], "all.jsonl", turns="all")
    assert (len(examples), len(queries), [r["id"] for r in rejected]) == (1, 2, ["all:1.turn4"])
    _, examples, queries, tools, rejected = run(tmp_path, [dialogue(bad, good)], "first.jsonl")
    assert (len(examples), len(queries), len(tools), [r["reason"] for r in rejected]) == (0, 1, 1, ["bad_calls"])
    _, examples, queries, tools, rejected = run(tmp_path, [XLAM | {"answers": "[{"}], "xlam.jsonl")
    assert (len(examples), len(queries), len(tools),
            [r["reason"] for r in rejected]) == (0, 1, len(CASES[0]["tools"]), ["bad_json_string"])


def test_words_beside_calls_and_thoughts_are_counted(tmp_path):
    row = {"tools": [wrapped(TIDES)], "messages": [{"role": "user", "content": "Leith?"},
                                                   {"role": "assistant", "content": "Let me look.",
                                                    "tool_calls": [{"function": CALL}]}]}
    assert run(tmp_path, [row])[0]["left_out"] == {"words_beside_calls": 1}
    row["messages"][1] = {"role": "assistant",
                          "content": f"<think>Leith.</think><tool_call>{json.dumps(CALL)}</tool_call> Done."}
    assert run(tmp_path, [row], "b.jsonl")[0]["left_out"] == {"reasoning": 1, "words_beside_calls": 1}


def test_parts_of_a_message_that_are_no_text_refuse_the_row(tmp_path):
    for part in ({"type": "image_url", "image_url": {"url": "x"}},
                 {"type": "tool_use", "name": "tide_table", "input": {}}):
        row = {"tools": [wrapped(TIDES)],
               "messages": [{"role": "user", "content": [{"type": "text", "text": "Leith?"}, part]},
                            {"role": "assistant", "content": "No."}]}
        assert [r["reason"] for r in run(tmp_path, [row])[-1]] == ["unread_part"]


def test_columns_that_no_reader_asks_for_are_counted(tmp_path):
    assert run(tmp_path, [XLAM | {"difficulty": "hard", "id": 3}])[0]["columns_not_read"] == {"difficulty": 1}
    many = [XLAM | {f"column {number}": number} for number in range(600)]
    assert run(tmp_path, many, "c.jsonl")[0]["columns_not_read"]["(others)"] == 100
    assert run(tmp_path, [{"instruction": "Translate", "input": "how deep"}],
               "b.jsonl")[0]["columns_not_read"] == {"input": 1}


# --------------------------------------------------------------------------------------------------------- tools, types

def test_nullable_enums_constants_and_null_defaults_are_carried_over_or_kept(tmp_path):
    doc = read_tool({"name": "t", "description": "", "annotations": {"readOnlyHint": True},
                     "parameters": {"type": "object", "properties": {
        "a": {"type": ["string", "null"], "enum": ["x", "y", None], "default": None}, "b": {"const": "z"},
        "c": {"enum": [1, None, "x"]}}}})
    found = doc.record["arguments"]["properties"]
    assert (found["a"]["enum"], found["b"]["enum"], found["c"]["enum"]) == (["x", "y", None], ["z"], [1, None, "x"])
    assert found["a"]["type"] == ["string", "null"]
    assert doc.changes["values"] == {"a.default": None} and doc.changes["dropped"] == ["annotations"]


def test_an_argument_with_a_null_default_is_not_required():
    assert read_tool({"name": "t", "parameters": {"a": {"type": "str", "default": None},
                                                  "b": {"type": "str"}}}).record["arguments"]["required"] == ["b"]


def test_references_and_unions_around_all_arguments():
    point = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    other = {"properties": {"r": {"type": "integer"}}, "required": ["r"]}
    for schema, names, required in (({"$ref": "#/$defs/A", "$defs": {"A": point}}, ["q"], ["q"]),
                                    ({"allOf": [point, other]}, ["q", "r"], ["q", "r"]),
                                    ({"anyOf": [point, other]}, ["q", "r"], []),
                                    ({"$schema": "http://x", "additionalProperties": False}, [], [])):
        found = read_tool({"name": "t", "inputSchema": schema}).record["arguments"]
        assert (list(found["properties"]), found["required"]) == (names, required)
    inner = read_tool(
        {"name": "t", "parameters": {"type": "object", "properties": {"p": {"allOf": [point, other]}}}}
    ).record["arguments"]["properties"]["p"]
    assert list(inner["properties"]) == ["q", "r"] and inner["required"] == ["q", "r"]


def test_arguments_in_the_path_of_a_url_are_arguments():
    for beside in ({}, {"query_parameters": {"day": {"type": "String", "description": "Day.", "required": False}}}):
        tool = {"name": "t", "description": "",
                "path_parameters": {"place": {"type": "String", "description": "Where.", "required": True}}, **beside}
        found = read_tool(tool).record["arguments"]
        assert list(found["properties"]) == ["place", *(["day"] if beside else [])] and found["required"] == ["place"]


@pytest.mark.parametrize(("word", "schema", "optional"), [
    ("list[str] | None", {"type": "array", "items": {"type": "string"}}, True),
    ("int or float", {"type": "number"}, False),
    ("Literal[1, 2]", {"type": "integer", "enum": [1, 2]}, False),
    ("Literal['a,b', None]", {"type": "string", "enum": ["a,b"]}, True),
    ("Literal[a, b]", {"type": "string", "enum": ["a", "b"]}, False), ("str, default='x'", {"type": "string"}, True),
    ("string, required", {"type": "string"}, False),
    ("Dict[str, int | None]", {"type": "dict"}, False), ("Union[str, NoneType]", {"type": "string"}, True),
    ("LinkedHashMap<String, Integer>", {"type": "dict"}, False)])
def test_more_type_words(word, schema, optional):
    assert read_type(word)[:2] == (schema, optional)


def test_check_judges_tools_beside_a_bare_query_too(tmp_path):
    api = {"api_name": "quays", "api_description": "Lists quays.", "required_parameters": [], "optional_parameters": []}
    bad = {"query": "Which quays?", "api_list": [api | {"api_description": ""}]}
    report, _, queries, tools, rejected = run(tmp_path, [bad], check=True)
    assert len(queries) == 1 and not tools and len(rejected) == 1


def test_a_large_held_out_set_is_drawn_in_time(tmp_path):
    lines = [{"id": str(n), "query": f"q {n}", "tools": [], "calls": []} for n in range(6000)]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    report = split(SplitConfig(examples=(tmp_path / "e.jsonl",), num_examples=3000, num_held_out=3000),
                   tmp_path / "out")["outputs"]
    assert (report["examples"]["rows"], report["held_out"]["rows"]) == (3000, 3000)


# ------------------------------------------------------------------------------------ thoughts, tools and calls in text

OTHER = {"name": "tide_table", "arguments": {"harbour": "Oban"}}
J, K = json.dumps(CALL), json.dumps(OTHER)
MARKS = {"think": ("<think>", "</think>"), "reasoning": ("<reasoning>", "</reasoning>"), "plan": ("<plan>", "</plan>"),
         "analysis": ("<analysis>", "</analysis>"), "Mistral": ("[THINK]", "[/THINK]"), "Kimi": ("◁think▷", "◁/think▷"),
         "Command A": ("<|START_THINKING|>", "<|END_THINKING|>"), "Sky": ("<|begin_of_thought|>", "<|end_of_thought|>"),
         "two names": ("<think>", "</thinking>")}


def tagged(text):
    return f"<tool_call>\n{text}\n</tool_call>"


def replying(reply, tools=None):
    return {"tools": [wrapped(TIDES)] if tools is None else tools,
            "messages": [{"role": "user", "content": "Leith?"}, {"role": "assistant", "content": reply}]}


def toolrl(output):
    parameters = json.dumps({"harbour": {"type": "string", "description": "A harbour."}})
    tools = f"**Available Tools**\n1. Name: tide_table\nDescription: Tides.\nParameters: {parameters}\n" \
            "**Steps for Each Turn**"
    return {"instruction": tools, "input": "<user>Leith?</user>", "output": output}


def labels(tmp_path, row):
    """The calls of each example, and the reasons of what was refused."""
    _, examples, _, _, rejected = run(tmp_path, [row])
    return [[call.to_dict() for call in example.calls] for example in examples], [line["reason"] for line in rejected]


@pytest.mark.parametrize("kind", MARKS)
@pytest.mark.parametrize("row", [replying, toolrl])
def test_calls_before_and_between_thoughts_are_calls(tmp_path, kind, row):
    opening, closing = MARKS[kind]
    thought = f"{opening}tides, or {tagged('{}')}?{closing}"
    for number, reply in enumerate((f"{thought}{tagged(J)}{thought}{tagged(K)}", f"{tagged(J)}\n{thought}\n{tagged(K)}",
                                    f"I look.\n{thought}{tagged(J)}{tagged(K)}\n{thought}Done.")):
        assert labels(tmp_path, row(reply)) == ([[CALL, OTHER]], []), (number, reply)
    assert labels(tmp_path, row(f"{tagged(J)}\n{opening}because{closing}\nDone, it is asked for.")) == ([[CALL]], [])


@pytest.mark.parametrize("kind", MARKS)
def test_calls_without_tags_between_thoughts_are_read_and_those_beside_words_refused(tmp_path, kind):
    thought = "because".join(MARKS[kind])
    for reply in (f"{thought}{J}{thought}{K}", f"{J}\n{thought}\n{K}", f"I look.\n{thought}\n{J}{K}{thought}"):
        assert labels(tmp_path, replying(reply)) == ([[CALL, OTHER]], []), reply
    for call in (J, "tide_table(harbour='Leith')", f"```json\n{J}\n```", f"<tide_table>{thought}</tide_table>"):
        assert labels(tmp_path, replying(f"{call}\n{thought}\nDone.")) == ([], ["calls_in_text"]), call
    assert labels(tmp_path, replying(f"At which harbour?\n{thought}")) == ([[]], [])


@pytest.mark.parametrize(("reply", "reason"), [
    (f"<think>a</think>{tagged(J)}</think>{tagged(K)}", "bad_calls"),
    (f"<think>a</think>{tagged(J)}</think>Done.", "bad_calls"),
    (f"a</think>{tagged(J)}</think>{tagged(K)}", "bad_calls"),
    (f"<think>a</think>{J}</think>{K}", "calls_in_text"), (f"<think>a</think>{J}</think>Done.", "calls_in_text"),
    ("<think>a</think>tide_table(harbour='Leith')</reasoning>Done.", "calls_in_text"),
    (f"{tagged(J)}\n<think>Or should I", "bad_calls"), (f"{tagged(J)}<plan>1. {tagged(K)}", "bad_calls"),
    (f"I look.\n<think>I should write {tagged(J)}", "bad_calls"), (f"{J}\n<think>Or should I", "calls_in_text")])
def test_what_may_only_be_thought_of_is_refused(tmp_path, reply, reason):
    assert labels(tmp_path, replying(reply)) == ([], [reason])
    followed = replying(reply)
    followed["messages"] += [{"role": "user", "content": "And?"}]
    assert labels(tmp_path, followed) == ([], [reason])


@pytest.mark.parametrize(("reply", "calls"), [
    (f"the tide</think>{J}", [CALL]), (f"the {tagged(K)} maybe</think>{tagged(J)}", [CALL]),
    (f"a</think>more of it</think>{J}", [CALL]), (f"<think>a</think>more of it</think>{tagged(J)}", [CALL]),
    (f"<think>a <think> b</think>{J}", [CALL]), (f"<think>a <plan>{K}</plan> b</think>{J}", [CALL]),
    (f"Cancelled for <reason>, as asked. {tagged(J)}", [CALL]), (f"{tagged(J)} Done for <reason> only.", [CALL]),
    (tagged(json.dumps(CALL | {"arguments": {"harbour": "<think>a</think>"}})),
     [CALL | {"arguments": {"harbour": "<think>a</think>"}}]),
    ("[tide_table(harbour='<plan>a</plan>b')]", [CALL | {"arguments": {"harbour": "<plan>a</plan>b"}}]),
    ("[tide_table('<plan>a</plan>b')]", [CALL | {"arguments": {"harbour": "<plan>a</plan>b"}}]),
    (tagged(str(CALL | {"arguments": {"harbour": "</think>"}})), [CALL | {"arguments": {"harbour": "</think>"}}])])
def test_marks_of_thoughts_that_are_none_and_thoughts_that_began_before_the_text(tmp_path, reply, calls):
    assert labels(tmp_path, replying(reply)) == ([calls], [])


@pytest.mark.parametrize("cut", ["<tool_call>\n", "<tool_call>", "<tool_call>\n```json\n", "<tool_call></tool_call>",
                                 "<tool_call", "<tool_", "<tool_call>{\"name\": \"tide_"])
def test_a_reply_that_breaks_off_in_its_second_call_is_no_label(tmp_path, cut):
    for row in (replying, toolrl):
        for gap in ("\n", "", "\nAnd the other:\n"):
            assert labels(tmp_path, row(f"{tagged(J)}{gap}{cut}")) == ([], ["bad_calls"]), (gap, row)
    assert labels(tmp_path, replying(f"<tool_call>{J}")) == ([[CALL]], [])             # the end is a stop sign for some


DATA = ['Customers: [{"id": 1, "name": "Bob"}]', 'Products: [{"name": "Lamp", "description": "A bright lamp."}]',
        'Say [{"name": "func", "arguments": {"x": 1}}]', 'Call as [{"name": "func", "arguments": {"x": "value"}}]',
        'Tools are called as [{"name": "now", "arguments": {}}]',
        'Tools are called as [{"function": {"name": "f", "arguments": "{\\"x\\": 1}"}, "type": "function"}]',
        'Use a tool as in [{"name": "f", "description": "F.", "arguments": {"x": 1}}]',
        'Functions have [{"name": "harbour", "type": "string", "description": "A harbour."}]']


def conversing(system, reply, form):
    if form == "trl":
        return {"prompt": [{"role": "system", "content": system}, {"role": "user", "content": "Leith?"}],
                "completion": [{"role": "assistant", "content": reply}]}
    if form == "glaive":
        return {"system": system, "chat": f"USER: Leith?\n\n\nASSISTANT: {reply} <|endoftext|>\n\n\n"}
    said = [{"from": "user", "value": "Leith?"}, {"from": "assistant", "value": reply}]
    return {"system": system, "conversations": said}


@pytest.mark.parametrize("text", DATA)
@pytest.mark.parametrize("form", ["trl", "toolace"])
def test_a_list_of_what_is_no_tool_in_the_system_text_offers_none(tmp_path, form, text):
    report, examples, queries, tools, rejected = run(tmp_path, [conversing(text, "A customer.", form)])
    assert (report["format"], len(queries), examples, tools, rejected) == (form, 1, [], [], [])
    for listed in ([json_schema(TIDES)], [wrapped(TIDES)], [json_schema(TIDES, "input_schema") | {"description": ""}]):
        for system in (f"{text}\nTools: {json.dumps(listed)}", f"{json.dumps(listed)}\n{text}. Else return []."):
            reply = "[tide_table(harbour='Leith')]"
            _, (example,), _, found, rejected = run(tmp_path, [conversing(system, reply, form)], "b.jsonl")
            assert [tool.name for tool in found] == ["tide_table"] and len(example.tools) == 1
            assert [call.to_dict() for call in example.calls] == [CALL] and not rejected


def test_lists_that_document_tools_in_other_ways_are_still_read(tmp_path):
    for tool in ({"name": "tide_table", "description": "Tides."},
                 {"name": "tide_table", "parameters": {"harbour": "str"}},
                 {"name": "tide_table", "description": "Tides.", "parameters": {}},
                 {"api_name": "tide_table", "api_description": "Tides.", "required_parameters": [
                     {"name": "harbour", "type": "STRING", "description": ""}], "optional_parameters": []},
                 {"name": "tide_table", "description": "Tides.", "parameters": '{"harbour": {"type": "str"}}'},
                 {"functionDeclarations": [json_schema(TIDES)]}):
        row = conversing(f"You have these tools: {json.dumps([tool])}", "At which harbour?", "toolace")
        _, examples, _, tools, _ = run(tmp_path, [row])
        assert [tool.name for tool in tools] == ["tide_table"] and len(examples) == 1, tool
    row = conversing(f"{json.dumps([json_schema(TIDES)])} or {json.dumps([wrapped(TIDES)])}", "[]", "toolace")
    assert [line["reason"] for line in run(tmp_path, [row])[-1]] == ["bad_tools"]


def test_an_object_that_is_no_tool_in_glaive_s_system_text_is_none(tmp_path):
    system = f'The user: {{"id": 1, "name": "Bob"}}. Functions: {json.dumps(json_schema(TIDES))}'
    _, (example,), _, tools, _ = run(tmp_path, [conversing(system, "At which harbour?", "glaive")])
    assert [tool.name for tool in tools] == ["tide_table"] and len(example.tools) == 1


IN_WORDS = [
    "I will call tide_table with harbour=Leith.", 'tide_table with harbour = "Leith"', "tide_table --harbour Leith",
    "tide-table --harbour Leith", "调用工具：tide_table，参数：harbour=Leith",
    "With harbour=Leith, I ask tide_table.", "Ich rufe tide_table mit harbour := 'Leith' auf.",
    "I call `tide_table` for you, with `harbour`=`Leith`.", "tideTable, harbour=Leith",
    "Now the tide table tool, and harbour=Leith, days=2.", "I will call tide_table with:\n- harbour = Leith",
    "Sure!\nI'll use **tide_table** (e.g. harbour=Leith).\nWait.",
    "I call tide_table, days is the default and harbour＝Leith", "$ ./tide-table --harbour=Leith --days 2"]


@pytest.mark.parametrize("reply", IN_WORDS)
def test_a_tool_and_a_value_for_its_parameter_in_one_sentence_are_a_call(tmp_path, reply):
    assert labels(tmp_path, replying(reply)) == ([], ["calls_in_text"])


@pytest.mark.parametrize("reply", [
    "I can use tide_table. Which harbour=town do you mean?", "tide_table gives tides.\nharbour == Leith is not enough.",
    "The tide_table tool needs a harbour: which one?", "Which harbour = which tide?", "The sundial says harbour=Leith.",
    "tide_table wants a harbour -- which one?", "tide_table--harbour by harbour--is what I have.",
    "tide_table needs more than x=3.", "A timetable with harbour=Leith?", "tide_table and a subharbour=Leith",
    "The tide is high -- name the harbour for tide_table, please."])
def test_prose_that_names_a_tool_or_a_parameter_is_an_answer_in_words(tmp_path, reply):
    tools = [wrapped(TIDES), json_schema({"name": "sundial", "description": "The hour.",
                                          "arguments": {"properties": {}, "required": []}})]
    assert labels(tmp_path, replying(reply, tools)) == ([[]], [])
