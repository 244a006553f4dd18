"""What other columns say of an answer: calls, names of tools, a choice of the request, the turns before, a cut."""

import json

import pytest
from test_formats_spelled import ARGS, CALL, J, run
from test_formats_structure import CALLING, RESULT, TOOLS, USER, WORDS, given

WHOLE = [USER, CALLING, RESULT, {"role": "assistant", "content": "At noon."}]
PYTHONIC = "tide_table(harbour='Leith')"
TELLING = [
    {"actions": [PYTHONIC]}, {"ground_truth": [[PYTHONIC]]}, {"steps": ["look", "sundial()"]},
    {"gold": f"x = {PYTHONIC}"}, {"reward_model": {"style": "rule", "ground_truth": f"[{J}]"}},
    {"metadata": json.dumps({"expected": [CALL]})},
    {"expected": [["tide_table", CALL["arguments"]]]}, {"gt": [{"tide_table": {"harbour": ["Leith"]}}]},
    {"trace": [{"event": "tool", "name": "sundial", "input": "now"}]}, {"corrected": CALLING},
    {"target_tools": "tide_table, sundial"}, {"label": "tide_table"}, {"tool": "tide_table"},
    {"relevant_tools": ["sundial"]}, {"expected": {"tool": "sundial"}}, {"metadata": {"tools_used": ["sundial"]}},
    {"tool_usage": {"sundial": 1}},
    {"trajectory": WHOLE}, {"steps": WHOLE[1:]}, {"raw": json.dumps(WHOLE)},
    {"conversations": [{"from": "human", "value": "Leith?"}, {"from": "function_call", "value": J}]},
    {"intermediate_steps": [{"action": {"tool": "tide_table", "tool_input": "Leith"}, "observation": "noon"}]},
    {"has_tool_calls": True}, {"num_tool_calls": 2}, {"requires_tool": "yes"}, {"tool_results": ["noon"]},
    {"label": "tool_call"}, {"answer_type": "function call"}, {"expected_behavior": "call_tool"},
    {"tool_call_count": 1}, {"should_call": True}, {"expects_tool_call": 1}, {"metadata": {"num_tool_calls": 2}},
    {"stats": '{"tool_calls": 2}'}]


@pytest.mark.parametrize("column", TELLING, ids=range(len(TELLING)))
def test_a_column_that_tells_of_calls_takes_the_answer_without_calls_back(tmp_path, column):
    rows = [{"messages": [USER, WORDS], "tools": TOOLS}, {"prompt": "Leith?", "response": "Where?", "tools": TOOLS},
            {"query": "Leith?", "answers": [], "tools": TOOLS}]
    _, examples, queries, rejected = run(tmp_path, [row | column for row in rows])
    assert not examples and len(queries) == 3 and [r["reason"] for r in rejected] == ["calls_in_text"] * 3
    called = {"query": "Leith?", "answers": [CALL], "tools": TOOLS}
    assert given(run(tmp_path, [called | column], "called.jsonl")[1]) == [[CALL]]


DOCUMENT = {"tide_table": {"harbour": {"type": "string"}}}
SILENT = [
    {"text": f"<tools>{json.dumps(TOOLS)}</tools> <tool_call>{{\"name\": <name>}}</tool_call>"}, {"about": DOCUMENT},
    {"metadata": json.dumps({"tools": TOOLS, "num_calls": 0, "tool_choice": "auto"})}, {"rejected_messages": WHOLE},
    {"few_shot": [[{"role": "user", "content": "Oban?"}, CALLING]]}, {"gold": "[]", "tools_used": [], "used_tools": {}},
    {"reason": "tide_table was not called: no harbour"}, {"run": {"name": "default", "parameters": {"top_p": 1}}},
    {"dialogue": [USER, WORDS]}, {"distractor_tools": ["sundial"]}, {"tool_names": ["tide_table", "sundial"]},
    {"target_tool": "another"}, {"label": "no_call"}, {"has_tool_calls": False, "num_tools": 2, "expected_calls": 0},
    {"is_tool_call": None, "tool_results": [], "requires_tool": "no", "max_tool_calls": 5},
    {"stats": {"tool_calls": 0, "max_tool_calls": 5}, "should_call": False, "tool_call_count": "0"},
    {"context": "Leith is a harbour."}, {"history": []}]


@pytest.mark.parametrize("column", SILENT, ids=range(len(SILENT)))
def test_a_column_that_tells_of_no_call_leaves_the_answer_as_it_is(tmp_path, column):
    _, examples, _, rejected = run(tmp_path, [{"messages": [USER, WORDS], "tools": TOOLS} | column])
    assert given(examples) == [[]] and not rejected


def test_a_later_request_may_be_what_a_count_of_calls_tells_of(tmp_path):
    turns = [USER, WORDS, {"role": "user", "content": "At Oban."}, CALLING]
    row = {"messages": turns, "tools": TOOLS, "num_tool_calls": 1}
    assert given(run(tmp_path, [row])[1]) == [[]]


CHOICES = [({"function_call": {"name": "tide_table"}}, "call_demanded"), ({"tool_choice": "sundial"}, "call_demanded"),
           ({"toolConfig": {"toolChoice": {"any": {}}}}, "call_demanded"),
           ({"tool_choice": {"name": "sundial"}}, "call_demanded"),
           ({"extra": {"params": {"tool_choice": "none"}}}, "calls_forbidden"),
           ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "calls_forbidden")]


@pytest.mark.parametrize(("column", "count"), CHOICES, ids=range(len(CHOICES)))
def test_a_choice_of_the_request_wherever_it_stands(tmp_path, column, count):
    rows = [{"messages": [USER, WORDS], "tools": TOOLS}, {"query": "Leith?", "answers": [], "tools": TOOLS}]
    report, examples, queries, _ = run(tmp_path, [row | column for row in rows])
    assert not examples and len(queries) == 2 and report["left_out"] == {count: 2}


BEFORE = [{"role": "user", "content": "Tides?"}, {"role": "assistant", "content": "Where?"}]


@pytest.mark.parametrize("key", ["history", "chat_history", "context", "previous_messages"])
@pytest.mark.parametrize("before", [BEFORE, json.dumps(BEFORE), [["Tides?", "Where?"]],
                                    [{"user": "Tides?", "assistant": "Where?"}]], ids=range(4))
def test_the_turns_before_a_query_are_part_of_it(tmp_path, key, before):
    rows = [{"query": "Leith", "response": J}, {"query": "Leith", "answers": [CALL]},
            {"messages": [{"role": "user", "content": "Leith"}, CALLING]}]
    rows = [row | {"tools": TOOLS, key: before} for row in rows]
    report, examples, queries, _ = run(tmp_path, rows)
    assert not examples and {q.query for q in queries} == {"Tides?"}
    assert report["left_out"] == {"answer_not_to_learn": 3, "call_in_later_turn": 3}
    examples = run(tmp_path, rows, "all.jsonl", turns="all")[1]
    assert given(examples) == [[CALL]] * 3 and {e.query for e in examples} == {
        "user: Tides?\nassistant: Where?\nuser: Leith"}


def test_the_turns_before_a_query_may_stand_in_its_messages_too(tmp_path):
    asked = [*BEFORE, {"role": "user", "content": "Leith"}]
    rows = [{"messages": [*asked, CALLING]}, {"prompt": asked, "completion": [CALLING]},
            {"request": {"messages": asked, "tools": TOOLS}, "response": {"choices": [{"message": CALLING}]}}]
    rows = [row | {"tools": TOOLS, "history": BEFORE} for row in rows]
    assert not run(tmp_path, rows)[1]
    _, examples, _, _ = run(tmp_path, rows, "all.jsonl", turns="all")
    assert given(examples) == [[CALL]] * 3 and {e.query for e in examples} == {
        "user: Tides?\nassistant: Where?\nuser: Leith"}


def test_a_history_whose_speakers_cannot_be_told_is_refused(tmp_path):
    row = {"query": "Leith", "response": J, "tools": TOOLS, "history": "Tides? Where?"}
    _, examples, queries, rejected = run(tmp_path, [row])
    assert not examples and not queries and [r["reason"] for r in rejected] == ["unread_columns"]


@pytest.mark.parametrize("output", [[PYTHONIC], [J], ["At noon."], [["tide_table", {}]], [None],
                                    [{"name": "var_result", "arguments": {}}]], ids=range(6))
def test_an_output_that_holds_other_things_than_calls_is_no_empty_one(tmp_path, output):
    row = {"input": "Leith?", "output": output, "tools": TOOLS}
    _, examples, queries, _ = run(tmp_path, [row])
    assert not examples and [q.query for q in queries] == ["Leith?"]
    assert given(run(tmp_path, [row | {"output": []}], "none.jsonl")[1]) == [[]]


@pytest.mark.parametrize("mark", [{"finish_reason": "length"}, {"error": "timeout"}])
def test_a_row_without_messages_that_was_cut_off_is_no_label(tmp_path, mark):
    rows = [{"query": "Leith?", "answers": answers, "tools": TOOLS} | mark for answers in ([], [CALL])]
    _, examples, queries, rejected = run(tmp_path, rows)
    assert not examples and len(queries) == 2 and {r["reason"] for r in rejected} == {"unfinished_answer"}


def test_the_right_turn_of_functionchat_is_read_as_any_message(tmp_path):
    older = {"role": "assistant", "content": "I look.", "function_call": {"name": "tide_table", "arguments": ARGS}}
    rows = [{"input_messages": [USER], "input_tools": TOOLS, "ground_truth": truth}
            for truth in (older, {**WORDS, "finish_reason": "length"}, {**WORDS, "weight": 0})]
    report, examples, _, rejected = run(tmp_path, rows)
    assert given(examples) == [[CALL]] and [r["reason"] for r in rejected] == ["unfinished_answer"]
    assert report["left_out"]["answer_not_to_learn"] == 1


OTHER = {"name": "tide_table", "arguments": {"harbour": "Oban"}}


@pytest.mark.parametrize("column", ["ground_truth", "expected_calls", "corrected", "gold_answer"])
def test_a_column_of_what_is_right_that_holds_another_call_takes_the_label_back(tmp_path, column):
    rows = [{"messages": [USER, CALLING], "tools": TOOLS}, {"query": "Leith?", "answers": f"[{J}]", "tools": TOOLS}]
    told = [row | {column: json.dumps([OTHER])} for row in rows]
    _, examples, queries, rejected = run(tmp_path, told)
    assert not examples and len(queries) == 2 and [r["reason"] for r in rejected] == ["bad_calls"] * 2
    same = [row | {column: [{"function": CALL}, OTHER], f"incorrect_{column}": [OTHER]} for row in rows]
    assert given(run(tmp_path, same, "same.jsonl")[1]) == [[CALL]] * 2


def held(call):
    """Ways in which a column may hold a call."""
    text, pythonic = json.dumps(call), f"[tide_table(harbour={call['arguments']['harbour']!r})]"
    message = {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": call}]}
    return [text, f"<tool_call>\n{text}\n</tool_call>", f"<think>So.</think>\n<tool_call>{text}</tool_call>", pythonic,
            message, {"role": "assistant", "content": f"<tool_call>{text}</tool_call>"},
            {"choices": [{"message": message, "finish_reason": "stop"}]}]


@pytest.mark.parametrize("column", ["ground_truth", "human_correction", "edited_output", "corrected_response"])
def test_another_call_in_a_column_of_what_is_right_is_seen_however_it_is_held(tmp_path, column):
    row = {"messages": [USER, CALLING], "tools": TOOLS}
    _, examples, _, rejected = run(tmp_path, [row | {column: value} for value in held(OTHER)])
    assert not examples and [r["reason"] for r in rejected] == ["bad_calls"] * 7
    assert given(run(tmp_path, [row | {column: value} for value in held(CALL)], "same.jsonl")[1]) == [[CALL]] * 7
    words = [row | {column: value} for value in ("At noon.", {"role": "assistant", "content": "At noon."}, ["noon"])]
    assert given(run(tmp_path, words, "words.jsonl")[1]) == [[CALL]] * 3


def test_a_query_whose_answer_stands_in_a_column_that_nobody_reads_is_counted(tmp_path):
    rows = [{"prompt": [USER], "solution": f"[{J}]", "tools": TOOLS}, {"instruction": "Leith?", "function_calls": J},
            {"messages": [USER], "tools": TOOLS, "expected_calls": [CALL]}, {"query": "Leith?", "difficulty": 3}]
    report, examples, queries, _ = run(tmp_path, rows)
    assert not examples and len(queries) == 4 and report["left_out"] == {"unread_answer": 3}


@pytest.mark.parametrize("text", [f"<tool_call>{J}</tool_call>", J, f"I look.\n<tool_call>{J}</tool_call>"])
def test_what_a_model_wrote_is_no_query(tmp_path, text):
    rows = [{"text": text, "meta_info": {"id": "x"}}, {"text": "Leith?"}]
    _, _, queries, rejected = run(tmp_path, rows)
    assert [q.query for q in queries] == ["Leith?"] and [r["reason"] for r in rejected] == ["calls_in_text"]
