"""What the other keys of a row, a message or a call say of an answer: cut off, forbidden, of other arguments."""

import json
import time

import pytest
from test_formats_spelled import ARGS, CALL, J, run
from test_formats_structure import CALLING, TOOLS, USER, WORDS, given

from data.formats import beside, dialogue, marks, parts, spelled, turnmarks

FUNCTION = {"name": "tide_table", "arguments": CALL["arguments"]}


def says(content, **keys):
    return {"role": "assistant", "content": content, **keys}


def calls(**function):
    return says(None, tool_calls=[{"id": "c", "type": "function", "function": function}])


CALLED = {
    "harmony's recipient": says(ARGS, channel="commentary", recipient="functions.tide_table"),
    "a recipient, no arguments": says("{}", channel="commentary", recipient="functions.sundial"),
    "a recipient, other arguments": says('{"port": "Leith"}', recipient="tide_table"),
    "GLM's metadata": says("{}", metadata="sundial"),
    "LangChain's broken calls": says("I look.", invalid_tool_calls=[{"name": "tide_table", "args": "Leith"}]),
    "invocations": says("At noon.", toolInvocations=[{"toolName": "sundial", "state": "result"}]),
    "parts of a page": says("At noon.", parts=[{"type": "tool-sundial", "state": "done", "input": {}}]),
}


@pytest.mark.parametrize("case", CALLED)
def test_a_message_that_calls_under_a_key_of_its_own_is_no_answer_in_words(tmp_path, case):
    _, examples, queries, rejected = run(tmp_path, [{"messages": [USER, CALLED[case]], "tools": TOOLS}])
    assert not examples and [q.query for q in queries] == ["Leith?"]
    assert [r["reason"] for r in rejected] == ["calls_in_text"]


TOLD = [{"tools_used": ["sundial"]}, {"expected_tool": "tide_table"}, {"tools_called": [{"name": "sundial"}]}]


@pytest.mark.parametrize("column", TOLD, ids=range(len(TOLD)))
def test_words_beside_the_names_of_tools_that_were_called_are_no_label(tmp_path, column):
    rows = [{"messages": [USER, WORDS], "tools": TOOLS} | column, {"messages": [USER, WORDS | column], "tools": TOOLS},
            {"input": "Leith?", "output": "At noon.", "tools": TOOLS} | column]
    _, examples, queries, rejected = run(tmp_path, rows)
    assert not examples and len(queries) == 3 and [r["reason"] for r in rejected] == ["calls_in_text"] * 3
    nothing = {next(iter(column)): [], "expected_tools": None, "tools_offered": ["sundial"]}
    assert given(run(tmp_path, [rows[0] | nothing], "none.jsonl")[1]) == [[]]


def test_the_tools_of_a_row_of_calls_are_its_own(tmp_path):
    _, examples, _, rejected = run(tmp_path, [{"input": "Leith?", "output": [CALL], "tools": TOOLS}])
    assert given(examples) == [[CALL]] and not rejected


def test_keys_that_speak_of_no_call_refuse_nothing(tmp_path):
    keys = {"name": "harbour_agent", "recipient": "all", "channel": "final", "tool_call_id": None, "num_tool_calls": 0,
            "invalid_tool_calls": [], "finish_reason": "stop", "stop_reason": "end_turn", "status": "completed"}
    rows = [{"messages": [USER, {**WORDS, **keys}], "tools": TOOLS, "tool_choice": "auto", "finish_reason": "stop"},
            {"messages": [USER, {**CALLING, "finish_reason": "tool_calls"}], "tools": TOOLS, "tool_choice": "required"}]
    _, examples, _, rejected = run(tmp_path, rows)
    assert given(examples) == [[], [CALL]] and not rejected


def test_a_channel_of_thoughts_is_no_answer(tmp_path):
    thought = says("tide_table it is", channel="analysis")
    rows = [{"messages": [USER, thought], "tools": TOOLS}, {"messages": [USER, thought, WORDS], "tools": TOOLS}]
    report, examples, _, rejected = run(tmp_path, rows)
    assert given(examples) == [[]] and [r["reason"] for r in rejected] == ["empty_answer"]
    assert report["left_out"] == {"reasoning": 2}


@pytest.mark.parametrize(("key", "word"), [
    ("finish_reason", "length"), ("finish_reason", "tool_calls"), ("finish_reason", "content_filter"),
    ("stop_reason", "max_tokens"), ("stop_reason", "tool_use"), ("finishReason", "MAX_TOKENS"),
    ("finishReason", "MALFORMED_FUNCTION_CALL"), ("status", "incomplete"), ("stop_reason", "refusal"),
    ("stop_reason", "pause_turn"), ("stopReason", "guardrail_intervened"), ("finishReason", "PROHIBITED_CONTENT"),
    ("response_metadata", {"model": "m", "finish_reason": "length"}), ("prefix", True), ("partial", True),
    ("truncated", True), ("end_turn", False), ("done", False), ("error", {"code": 500}), ("error", "timeout"),
    ("incomplete_details", {"reason": "max_output_tokens"}), ("finish_details", {"type": "max_tokens"}),
    ("native_finish_reason", "MAX_TOKENS"), ("gen_ai.response.finish_reasons", ["length"]),
    ("stopping_reason", "length"),
    ("metadata", {"finish_details": {"type": "max_tokens"}}), ("response", {"finish_reason": "length"}),
    ("was_truncated", True), ("is_error", True), ("failed", True), ("exception", "Timeout"), ("status", "failed"),
    ("refusal", "I can't.")])
def test_a_reply_that_was_cut_off_is_no_answer_in_words(tmp_path, key, word):
    rows = [{"messages": [USER, {**WORDS, key: word}], "tools": TOOLS}]
    if key != "status":                 # of a row, it is anybody's
        rows.append({"messages": [USER, WORDS], "tools": TOOLS, key: word})
    _, examples, queries, rejected = run(tmp_path, rows)
    assert not examples and len(queries) == len(rows) == len(rejected)
    assert {r["reason"] for r in rejected} == {"unfinished_answer"}


def test_a_reply_that_ended_well_says_so_and_calls_do_not_end_a_turn(tmp_path):
    well = [{**WORDS, "end_turn": True, "error": None}, {**WORDS, "prefix": "", "done": True, "error": {"code": None}},
            {**CALLING, "end_turn": False, "error": "none"}]
    _, examples, _, rejected = run(tmp_path, [{"messages": [USER, reply], "tools": TOOLS} for reply in well])
    assert given(examples) == [[], [], [CALL]] and not rejected


def test_calls_that_were_cut_off_may_lack_one(tmp_path):
    _, examples, _, rejected = run(tmp_path, [{"messages": [USER, CALLING], "tools": TOOLS, "finish_reason": "length"}])
    assert not examples and [r["reason"] for r in rejected] == ["unfinished_answer"]


CHOICES = [{"tool_choice": "none"}, {"tool_choice": {"type": "none"}}, {"function_call": "none"},
           {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}},
           {"tool_choice": "required"}, {"tool_choice": {"type": "any"}},
           {"tool_choice": {"type": "function", "function": {"name": "tide_table"}}}]


@pytest.mark.parametrize("column", CHOICES, ids=range(len(CHOICES)))
def test_words_where_calls_are_forbidden_or_demanded_do_not_tell_that_no_tool_fits(tmp_path, column):
    report, examples, queries, _ = run(tmp_path, [{"messages": [USER, WORDS], "tools": TOOLS} | column])
    assert not examples and [q.query for q in queries] == ["Leith?"]
    assert report["left_out"] == {"calls_forbidden" if column in CHOICES[:4] else "call_demanded": 1}


@pytest.mark.parametrize("prompt", [{"question": "Leith?"}, {"prompt": [USER]}])
def test_a_solution_is_no_reply(tmp_path, prompt):
    report, examples, queries, _ = run(tmp_path, [prompt | {"answer": "12:30", "tools": TOOLS}])
    assert not examples and [q.query for q in queries] == ["Leith?"] and report["left_out"] == {"final_answer": 1}
    spoken = prompt | {"answer": [WORDS], "tools": TOOLS}
    assert given(run(tmp_path, [spoken, prompt | {"answer": J, "tools": TOOLS}], "b.jsonl")[1]) == [[], [CALL]]


@pytest.mark.parametrize("mark", [{"mask": 1}, {"masked": "true"}, {"loss_scale": 0.0}, {"train_on": False},
                                  {"step_loss_mask": 0}, {"lossMask": 0}, {"sample_weight": 0.0}])
def test_more_marks_of_what_is_not_to_be_learnt(tmp_path, mark):
    report, examples, *_ = run(tmp_path, [{"messages": [USER, {**WORDS, **mark}], "tools": TOOLS}])
    assert not examples and report["left_out"] == {"answer_not_to_learn": 1}


@pytest.mark.parametrize("verdict", [
    {"is_correct": False}, {"label": "rejected"}, {"label": "Bad"}, {"desirable": 0}, {"accepted": False},
    {"approved": "no"}, {"format_valid": False}, {"exec_success": 0}, {"verdict": "fail"}, {"outcome": "failure"},
    {"quality": "bad"}, {"metadata": {"is_valid": False}}, {"loss_mask": [1, 0]}, {"loss_mask": "[0, 0]"},
    {"turn_weights": [1.0, 0.0]}, {"train_mask": [False, False, False]},
    {"correctness": 0}, {"accuracy": 0.0}, {"score": 0}, {"rewards": [0.0, 0]}, {"is_chosen": False}, {"ok": False},
    {"preferred": False}, {"thumbs_up": False}, {"thumbs": "down"}, {"rating": "thumbs_down"},
    {"user_feedback": "negative"}, {"rating": "down"}, {"feedback": {"rating": "Thumbs down"}},
    {"human_label": "wrong"}, {"judgement": "bad"},
    {"exec_result": "fail"}, {"verdict": False}, {"validity": "invalid"}, {"format_check": "failed"}, {"grade": "fail"},
    {"passed_checks": False}, {"overall_score": 0}, {"decision": "reject"}, {"discarded": True}, {"kept": False},
    {"llm_judge_score": 0}, {"rejected": True}, {"is_wrong": True}, {"hallucinated": True},
    {"judge": {"verdict": "incorrect"}}, {"evaluation": '{"passed": false}'}, {"annotations": {"is_correct": False}},
    {"humanLabel": "wrong"}, {"verified": "failed"}, {"is_ok": False}, {"checks": {"passed": False}},
    {"reward_info": {"reward": 0.0}}, {"graders": [{"name": "exact", "passed": False}]}, {"filtered_out": True},
    {"keep_row_after_semantic_check": False}])
def test_an_answer_that_its_row_calls_bad_is_no_label(tmp_path, verdict):
    report, examples, *_ = run(tmp_path, [{"messages": [USER, CALLING], "tools": TOOLS} | verdict])
    assert not examples and report["left_out"] == {"answer_not_to_learn": 1}


def test_verdicts_and_masks_that_say_yes_change_nothing(tmp_path):
    marks = [{"accepted": True}, {"num_correct": 0}, {"metadata": {"is_valid": None}}, {"loss_mask": [0, 1]},
             {"loss_mask": [0] * 9 + [1]}, {"status": "completed"}, {"errors": [], "error": "N/A", "failed": 0},
             {"hallucinated": False, "intent_label": 0, "toxicity_score": 0.0}, {"score_chosen": 0, "rejected": "Yes"},
             {"scores": [0, 1], "evaluation": {"passed": True}, "label": "search"},
             {"checkout": "failed"}, {"evaluated_by": "bad"}, {"check": "down"}, {"token_ok": 0},
             {"check_in": "failed"}, {"checkout": {"success": False}}, {"mislabelled_as": "wrong"},
             {"rating": "positive"}, {"user_sentiment": "negative", "server": "down"}]
    _, examples, _, rejected = run(tmp_path, [{"messages": [USER, CALLING], "tools": TOOLS} | mark for mark in marks])
    assert given(examples) == [[CALL]] * len(marks) and not rejected


CALLED_BADLY = [({"weight": 0}, None), ({"is_correct": False}, None),
                ({"error": "no such harbour"}, "unfinished_answer"), ({"status": "failed"}, "unfinished_answer")]


@pytest.mark.parametrize(("mark", "reason"), CALLED_BADLY, ids=range(len(CALLED_BADLY)))
def test_a_mark_of_a_message_or_a_call_counts_like_one_of_its_row(tmp_path, mark, reason):
    marked = [{**CALLING, **mark}, says(None, tool_calls=[{"id": "c", "function": FUNCTION, **mark}])]
    report, examples, queries, rejected = run(tmp_path, [{"messages": [USER, m], "tools": TOOLS} for m in marked])
    assert not examples and len(queries) == 2 and [r["reason"] for r in rejected] == [reason] * 2 * bool(reason)
    assert report["left_out"] == ({} if reason else {"answer_not_to_learn": 2})


def test_a_call_whose_tool_reports_an_error_before_the_next_one_is_not_learnt(tmp_path):
    wrong = {"type": "tool_use", "id": "1", "name": "tide_table", "input": {"harbour": "Leth"}}
    failed = {"role": "user", "content": [{"type": "tool_result", "is_error": True, "content": "no such harbour"}]}
    last = [{"role": "tool", "content": "down", "is_error": True}, says("It is down.")]
    rows = [{"messages": [USER, says([wrong]), failed, CALLING], "tools": TOOLS},
            {"messages": [USER, CALLING, *last], "tools": TOOLS}]
    report, examples, *_ = run(tmp_path, rows)
    assert given(examples) == [[CALL]]          # what failed for good may have been asked rightly
    assert report["left_out"] == {"answer_not_to_learn": 1, "call_after_result": 1}


WENT_WRONG = [
    "Error: no such harbour", "ToolError: Leth", "Traceback (most recent call last):", '{"error": "no such harbour"}',
    '<tool_response>\n{"success": false}\n</tool_response>', {"error": {"code": 5}},
    [{"type": "text", "text": "Error: no"}], "An error occurred: Leth", "<tool_use_error>no</tool_use_error>",
    "MCP error -32602: no", "Invalid arguments: harbour", "Tool tide_table failed: Leth", "{'error': 'Leth'}",
    '{"Errors": ["no"]}', '{"detail": "no", "status_code": 404}',
    "Failed to fetch the tides: timeout", "<tool_response>\nFailed to connect", "<Error: no such harbour>",
    "KeyError: 0", "Error: none of the harbours", "Error:\nLeth", {"errors": {"harbour": 404}},
    '{"code": 400, "message": "Leth"}', {"status": 404}, {"statusCode": 500}, {"data": {"error": "no"}},
    "Input validation error: 'harbour' is required", "1 validation error for tide_table\nharbour",
    {"detail": [{"loc": ["body", "harbour"], "msg": "field required"}]}, "Observation: Error: no such harbour",
    "Status Code: 404. Response: Not found", "status code 503", "Status: 404 Not Found",
    "Request failed with status code 500",
    [{"type": "document", "document": {"data": '{"error": "no such harbour"}'}}]]
WELL = ['{"error": null, "tide": 3}', '{"success": true}', "Error margin: 3%", '{"status": "failed"}',
        "Error handling, a book", "error_rate: 3", '{"log": [{"error": "x"}]}', {"error": "none"},
        '{"error": false}', '{"error": 0}', {"error_message": "OK"}, {"error": "0"}, {"errors": "No errors"},
        {"errors": {"x": 0}}, {"error": {"code": 0, "message": "ok"}}, "Error: none", "<result>Error: None</result>",
        "API error: 0", "{'error': 'none'}", "failed to win the cup: 3 teams", {"code": 404, "harbour": "Leith"},
        {"status": 200}, {"data": [{"error": "x"}]}, {"detail": ["at noon"]}, "Observation: noon",
        "Validation errors in tide tables, a book", "Status Code: 200. Response: {}", "Status: 450 boxes",
        "The request failed to win: 3"]


@pytest.mark.parametrize("result", [*WENT_WRONG, *WELL], ids=range(len(WENT_WRONG) + len(WELL)))
def test_a_result_says_by_its_text_or_in_its_service_s_keys_that_the_call_went_wrong(tmp_path, result):
    bedrock = [{"toolResult": {"toolUseId": "t", "status": "error", "content": [{"text": "no"}]}}]
    gemini = [{"functionResponse": {"name": "tide_table", "response": {"error": "no"}}}]
    turns = [{"role": "tool", "content": result}]
    if result in WENT_WRONG:
        turns += [{"role": "user", "content": bedrock}, {"role": "user", "parts": gemini},
                  {"role": "tool", "content": "x", "success": False}]
    rows = [{"messages": [USER, CALLING, turn, CALLING], "tools": TOOLS} for turn in turns]
    report, examples, queries, _ = run(tmp_path, rows)
    assert given(examples) == ([] if result in WENT_WRONG else [[CALL]]) and len(queries) == len(rows)
    assert report["left_out"].get("answer_not_to_learn", 0) == len(rows) - len(examples)


def test_a_result_in_a_text_of_turns_counts_like_one_in_a_message_of_its_own(tmp_path):
    spelled = f"Thought: I look.\nAction: tide_table\nAction Input: {ARGS}"
    told = {"role": "user", "content": 'Observation: {"error": "no such harbour"}'}
    react = [USER, says(spelled), told, says(spelled)]
    call = f"ASSISTANT: <functioncall> {J} <|endoftext|>\n\n\n"
    chat = f"USER: Leith?\n\n\n{call}FUNCTION RESPONSE: {{\"error\": \"no such harbour\"}}\n\n\n{call}"
    system = "SYSTEM: You have access to these functions.\n" + json.dumps(TOOLS[0]["function"])
    rows = [{"messages": react, "tools": TOOLS}, {"system": system, "chat": chat}]
    report, examples, queries, _ = run(tmp_path, rows)
    assert not examples and len(queries) == 2 and report["left_out"]["answer_not_to_learn"] == 2
    well = [{**rows[0], "messages": [*react[:2], {"role": "user", "content": "Observation: noon"}, react[3]]},
            {**rows[1], "chat": chat.replace('"error": "no such harbour"', '"tide": "noon"')}]
    assert given(run(tmp_path, well, "well.jsonl")[1]) == [[CALL]] * 2


LONG = {repr(part): part * (50_000 // len(part)) for part in (" ", "\n", "<", "a ", "<!>", "<a> ", "a", "judge_", "_")}
LONG["a tag"] = "<a>" + " " * 100_000


@pytest.mark.parametrize("name", LONG)
def test_long_texts_and_keys_take_no_time(name):
    start = time.process_time()
    text = LONG[name] + "x#"
    assert not parts.failed(text) and not parts.failed({"error": 0, text: "no"})
    assert not turnmarks.rendered(text) and not turnmarks.declares_tools(text)
    assert parts.role_word(text)[:1] in text
    assert marks.row_is_learnt({text: "down"}) and marks.row_is_learnt({text: False})
    assert marks.is_bad({text: "bad"}) is (name == "'judge_'")
    assert not beside._RIGHT.fullmatch(text) and not marks._STATUS.fullmatch(text)
    assert not beside._CALLED.fullmatch(text) and not spelled._A_CALL.fullmatch(text)
    assert time.process_time() - start < 4          # where quadratic, 30 and more


def test_a_query_that_quotes_a_page_of_an_api_is_counted_by_a_name_of_its_own(tmp_path):
    quoted = 'Why is this wrong? {"get": {"parameters": [{"name": "id", "in": "path"}]}}'
    _, examples, queries, rejected = run(tmp_path, [{"query": quoted, "tools": TOOLS, "answers": [CALL]}])
    assert not examples and not queries and [r["reason"] for r in rejected] == ["tools_in_query"]


TWO_SETS = [{"tool_calls": [FUNCTION], "function_call": {"name": "sundial", "arguments": "{}"}},
            {"tool_calls": [FUNCTION], "invalid_tool_calls": [{"name": "sundial", "args": "{"}]},
            {"tool_calls": [FUNCTION], "content": [{"type": "tool_use", "name": "sundial", "input": {}}]}]


@pytest.mark.parametrize("keys", TWO_SETS, ids=range(len(TWO_SETS)))
def test_two_different_sets_of_calls_in_one_message_are_refused(tmp_path, keys):
    reply = {"role": "assistant", "content": "", **keys}
    _, examples, queries, rejected = run(tmp_path, [{"messages": [USER, reply], "tools": TOOLS}])
    assert not examples and len(queries) == 1 and [r["reason"] for r in rejected] == ["bad_calls"]
    alike = says("", tool_calls=[FUNCTION], function_call={"name": "tide_table", "arguments": ARGS})
    assert given(run(tmp_path, [{"messages": [USER, alike], "tools": TOOLS}], "alike.jsonl")[1]) == [[CALL]]


@pytest.mark.parametrize("turns", [
    [{**USER, "expected_calls": [CALL]}, WORDS], [USER, says({"text": "I look.", "tool_calls": [CALL]})],
    [USER, says([{"type": "text", "text": "I look.", "tool_calls": [CALL]}])],
    [USER, says("Done.", actions=["sundial()"])], [USER, says("Done.", action={"tool": "sundial"})]], ids=range(5))
def test_calls_in_other_places_of_a_message_are_not_passed_over(tmp_path, turns):
    _, examples, queries, rejected = run(tmp_path, [{"messages": turns, "tools": TOOLS}])
    assert not examples and len(queries) == 1 and [r["reason"] for r in rejected] == ["calls_in_text"]


@pytest.mark.parametrize("result", [
    "```tool_output\nnoon\n```", "<observation>noon</observation>", "<tool_results>noon</tool_results>",
    "<|tool_response|>noon", "[Tool Result] noon", "API response: noon", "<｜tool▁outputs▁begin｜>noon",
    "<|start_header_id|>ipython<|end_header_id|>\n\nnoon", "Observation 1: noon\nAnswer: noon"])
def test_a_reply_that_holds_a_result_is_no_answer_in_words(tmp_path, result):
    _, examples, _, rejected = run(tmp_path, [{"messages": [USER, says(result)], "tools": TOOLS}])
    assert not examples and [r["reason"] for r in rejected] in (["result_without_call"], ["calls_in_text"])


def test_what_a_result_shows_costs_no_row(tmp_path):
    shown = [{"type": "image", "data": "x"}, {"type": "document", "document": {"data": "{}"}}]
    turns = [USER, CALLING, {"role": "tool", "content": shown}, says("At noon.")]
    assert given(run(tmp_path, [{"messages": turns, "tools": TOOLS}])[1]) == [[CALL]]


ASTRAY = {
    "empty text": calls(name="tide_table", arguments="", kwargs=CALL["arguments"]),
    "empty object": calls(name="tide_table", arguments={}, input_args=CALL["arguments"]),
    "parsed": calls(name="tide_table", arguments="{}", parsed_arguments=CALL["arguments"]),
    "Anthropic's stream": says([{"type": "tool_use", "name": "tide_table", "input": {}, "partial_json": ARGS}]),
    "a part": says([{"type": "tool_call", "name": "tide_table", "kwargs": CALL["arguments"]}]),
    "two names": says(None, tool_calls=[{"tool": "harbour_tools", "function": "tide_table", "arguments": ARGS}]),
}


@pytest.mark.parametrize("case", ASTRAY)
def test_arguments_beside_empty_ones_and_two_names_are_not_passed_over(tmp_path, case):
    _, examples, queries, rejected = run(tmp_path, [{"messages": [USER, ASTRAY[case]], "tools": TOOLS}])
    assert not examples and [q.query for q in queries] == ["Leith?"] and [r["reason"] for r in rejected] == ["bad_call"]


def test_a_call_without_arguments_may_carry_what_its_service_adds(tmp_path):
    replies = [says(None, tool_calls=[{"function": {"name": "sundial", "arguments": "{}"}, "extra_content": {"a": 1}}]),
               says([{"type": "tool_use", "name": "sundial", "input": {}, "caller": {"type": "direct"}}]),
               {"role": "model", "parts": [{"functionCall": {"name": "sundial"}, "thoughtSignature": "x"}]}]
    _, examples, _, rejected = run(tmp_path, [{"messages": [USER, reply], "tools": TOOLS} for reply in replies])
    assert given(examples) == [[{"name": "sundial", "arguments": {}}]] * 3 and not rejected


def test_a_text_that_writes_null_is_no_list_of_calls(tmp_path):
    rows = [{"query": "Leith?", "tools": TOOLS, "answers": text} for text in ("null", "None", " NaN ")]
    rows.append({"query": [USER], "tools": TOOLS, "answers": None})
    report, examples, queries, rejected = run(tmp_path, rows)
    assert not examples and not rejected and len(queries) == 4 and report["left_out"] == {"no_answer": 4}


@pytest.mark.parametrize("nothing", [None, "", "null"])
def test_an_empty_field_for_the_calls_is_no_label_whatever_the_format(tmp_path, nothing):
    api = {"paths": {"/tides": {"get": {"operationId": "tides", "description": "Tides."}}}}
    rows = [
        {"task": "Leith?", "api": TOOLS, "call": nothing},
        {"id": "simple_1", "question": "Leith?", "function": TOOLS, "ground_truth": nothing},
        {"Documentation": json.dumps(api), "Instructions": ["Leith?"], "Golden_Answers": [nothing]},
        {"input_messages": [USER], "input_tools": TOOLS, "ground_truth": {"content": nothing, "tool_calls": None}},
    ]
    _, examples, queries, _ = run(tmp_path, rows)
    assert not examples and len(queries) == len(rows)


@pytest.mark.parametrize("output", ["<think>call tide_table</think>", "<think>call tide_table"])
def test_a_thought_is_no_answer_in_a_prompt_either(tmp_path, output):
    tools = '**Available Tools**\n1. Name: tide_table\nDescription: Tides.\nParameters: {}\n**Steps for Each Turn**'
    row = {"instruction": tools, "input": "<user>Leith?</user>", "output": output}
    _, examples, _, rejected = run(tmp_path, [row])
    assert not examples and [r["reason"] for r in rejected] == ["empty_answer"]


def test_a_content_that_is_one_part_is_its_text(tmp_path):
    part = {"type": "text", "text": "Leith?"}
    asked = {"role": "user", "content": part}
    _, (example,), _, _ = run(tmp_path, [{"messages": [asked, CALLING], "tools": TOOLS}])
    assert example.query == "Leith?" and given([example]) == [[CALL]]
    row = {"messages": [{"role": "user", "content": {"harbour": "Leith"}}, CALLING], "tools": TOOLS}
    _, examples, queries, rejected = run(tmp_path, [row], "object.jsonl")
    assert not examples and not queries and [r["reason"] for r in rejected] == ["unread_part"]


LOGGED = [CALL, {"id": "c", "type": "function", "function": FUNCTION},
          {"name": "ChatModel", "run_type": "llm", "parameters": {"temperature": 0}},
          {"name": "sweep", "description": "A run.", "parameters": {"seed": 3, "model": "tiny"}}]


@pytest.mark.parametrize("row", LOGGED, ids=range(len(LOGGED)))
def test_a_logged_call_or_run_is_no_tool(tmp_path, row):
    with pytest.raises(ValueError, match="no format recognises its rows"):
        run(tmp_path, [row])
    typed = {"name": "tide_table", "arguments": {"harbour": "string", "days": "how many days"}}
    assert run(tmp_path, [typed, json.loads(json.dumps(row))], "b.jsonl")[0]["tools"] == 1


# -------------------------------------------------------------------------------- marks of a table, and of further logs

OF_A_MESSAGE = [{"reward": "-1.0"}, {"score": "0.00"}, {"is_bad": "True"}, {"is_correct": "N"}, {"weight": "0.00"},
                {"verdict": "FAIL - wrong tool"}, {"score": "-1e-05"}, {"reward": "-.5"}, {"is_bad": 1}, {"mask": "Y"},
                {"scores": [{"name": "Answer correctness", "value": 0}]}, {"metadata": {"is_correct": "no"}},
                {"execution_result": {"success": "False"}}, {"judge": {"verdict": "Fail: no unit"}},
                {"scores": [{"name": "hallucination", "value": 1}]}]
AGAINST_IT = [
    *OF_A_MESSAGE, {"label": "-1"}, {"hallucinated": "true"}, {"rejected": "True"}, {"discarded": "yes"},
    {"status": "rejected"}, {"status": "discarded"}, {"verdict": "Incorrect: no unit"},
    {"scores": [{"name": "correctness", "value": 0}]}, {"scores": [{"name": "correctness", "value": "0"}]},
    {"response_status": "discarded"}, {"label.responses.status": ["discarded"]}, {"label_status": "bad"},
    {"execution_result": {"success": False}}, {"execution": {"success": False}},
    {"tool_output": "Error: no such harbour"}, {"verdict": "failed, 0 of 3 arguments right"}]
NOT_ALL = [{"truncated": "True"}, {"is_truncated": "true"}, {"incomplete": "yes"},
           {"truncated": 1}, {"aborted": "1"}, {"level": "ERROR", "statusMessage": "timeout"}]
FOR_IT = [
    {"reward": "1.0"}, {"score": "0.5"}, {"label": "search"}, {"label": "fail-safe"}, {"is_bad": "False"},
    {"rejected": "yes"},
    {"done": "true"}, {"truncated": "False"}, {"status": "validated"}, {"verdict": "PASS - right tool"},
    {"verdict": "no faults"}, {"scores": [{"name": "correctness", "value": 1}]},
    {"scores": [{"name": "latency", "value": 0}]}, {"execution_result": {"success": True}}, {"level": "beginner"},
    {"level": "DEFAULT", "statusMessage": None}, {"level": "time limit exceeded"}, {"order_status": "rejected"},
    {"claim_status": "discarded"}, {"label.responses.status": ["submitted", "discarded"]}, {"result": "failed: 0"},
    {"rejected": "1"}, {"is_bad": "0"}, {"score": "1e-05"},
    {"scores": [{"name": "correctness", "value": 0, "stringValue": "correct", "dataType": "CATEGORICAL"}]}]


def test_a_mark_against_an_answer_counts_as_a_text_and_in_a_log(tmp_path):
    rows = [{"messages": [USER, CALLING], "tools": TOOLS} | mark for mark in AGAINST_IT]
    rows += [{"messages": [USER, {**CALLING, **mark}], "tools": TOOLS} for mark in OF_A_MESSAGE]
    report, examples, queries, rejected = run(tmp_path, rows)
    assert [example.id for example in examples] == [] and len(queries) == len(rows) and not rejected
    assert report["left_out"] == {"answer_not_to_learn": len(rows)}


def test_a_mark_of_a_reply_cut_off_counts_as_a_text(tmp_path):
    rows = [{"messages": [USER, CALLING], "tools": TOOLS} | mark for mark in NOT_ALL]
    rows += [{"messages": [USER, {**CALLING, **mark}], "tools": TOOLS} for mark in NOT_ALL]
    _, examples, queries, rejected = run(tmp_path, rows)
    assert not examples and len(queries) == len(rows)
    assert [one["reason"] for one in rejected] == ["unfinished_answer"] * len(rows)


@pytest.mark.parametrize("mark", FOR_IT, ids=str)
def test_a_mark_for_an_answer_changes_nothing(tmp_path, mark):
    rows = [{"messages": [USER, CALLING], "tools": TOOLS} | mark, {"messages": [USER, CALLING | mark], "tools": TOOLS}]
    _, examples, _, rejected = run(tmp_path, rows)
    assert given(examples) == [[CALL]] * 2 and not rejected


@pytest.mark.parametrize("mark", [{"done": "false"}, {"is_complete": "False"}, {"end_turn": "n"}, {"finished": "0"}])
def test_words_that_had_not_ended_are_no_answer(tmp_path, mark):
    rows = [{"messages": [USER, WORDS], "tools": TOOLS} | mark, {"messages": [USER, WORDS | mark], "tools": TOOLS}]
    _, examples, _, rejected = run(tmp_path, rows)
    assert not examples and [one["reason"] for one in rejected] == ["unfinished_answer"] * 2


def test_a_mark_counts_in_a_table_whose_other_columns_are_not_read(tmp_path):
    tools, answers = (json.dumps(part).replace('"', '""') for part in (TOOLS, [CALL]))
    marks = [("-1.0", "False"), ("0.5", "True"), ("1", "False")]
    table = "".join(f'Leith?,"{tools}","{answers}",{mark},{cut},hard\n' for mark, cut in marks)
    report, examples, queries, (rejected,) = run(
        tmp_path, f"query,tools,answers,reward,truncated,level\n{table}", "table.csv")
    assert given(examples) == [[CALL]] and len(queries) == 3 and rejected["reason"] == "unfinished_answer"
    assert report["left_out"] == {"answer_not_to_learn": 1} and report["columns_not_read"]["level"] == 3


# ---------------------------------------------------------------------------------------- what stands beside a text

@pytest.mark.parametrize("beside", [
    {"images": ["a.png"]}, {"attachments": [{"url": "a.pdf"}]}, {"experimental_attachments": [{"url": "a.png"}]},
    {"audio": {"data": "UklG"}}, {"parts": [{"type": "text", "text": "Tides?"}, {"type": "file", "url": "a.png"}]},
    {"imageUrls": ["a.png"]}, {"input_audio": {"data": "UklG"}}, {"media": [{"type": "video"}]}, {"video_url": "a.mp4"},
    {"file_ids": ["f"]}, {"content": 4711}, {"content": True}, {"content": "", "audio": {"data": "UklG"}}], ids=str)
def test_what_a_user_sends_beside_a_text_is_not_passed_over(tmp_path, beside):
    messages = [{**USER, **beside}, says("Which harbour?"), {"role": "user", "content": "Leith"}, CALLING]
    _, examples, _, rejected = run(tmp_path, [{"messages": messages, "tools": TOOLS}])
    assert not examples and [one["reason"] for one in rejected] == ["unread_part"]


@pytest.mark.parametrize("beside", [
    {"images": []}, {"images": [None]}, {"audio": None}, {"audio": False}, {"attachments": [{"url": ""}]},
    {"file_name": "a.jsonl"}, {"parts": []}, {"parts": [{}]}, {"parts": [{"type": "text", "text": "Tides?"}]}])
def test_nothing_beside_a_text_says_nothing(tmp_path, beside):
    _, examples, _, rejected = run(tmp_path, [{"messages": [{**USER, **beside}, CALLING], "tools": TOOLS}])
    assert given(examples) == [[CALL]] and not rejected


# ----------------------------------------------------------------------------------- results in a later request's query

USE = {"type": "tool_use", "id": "1", "name": "tide_table", "input": {"harbour": "Leith"}}
RESULTS = {
    "Anthropic": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "noon"}]},
    "Anthropic's blocks": {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "noon"}]}]},
    "Bedrock": {"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": [{"text": "noon"}]}}]},
    "Gemini": {"role": "user", "parts": [{"functionResponse": {"name": "tide_table", "response": {"result": "noon"}}}]},
    "Bedrock's JSON": {"role": "user", "content": [{"toolResult": {"content": [{"json": {"at": "noon"}}]}}]},
    "a key of its own": {"role": "tool", "result": {"at": "noon"}},
    "Responses": {"type": "function_call_output", "call_id": "1", "output": "noon"},
    "OpenAI": {"role": "tool", "content": "noon"}}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_stands_in_the_query_of_a_later_request(tmp_path, name):
    messages = [USER, {"role": "assistant", "content": [USE]}, RESULTS[name], says("At noon."),
                {"role": "user", "content": "And again?"}, CALLING]
    _, examples, *_ = run(tmp_path, [{"messages": messages, "tools": TOOLS}], turns="all")
    assert len(examples) == 2 and "noon" in examples[1].query.partition("tool:")[2].partition("assistant:")[0]


@pytest.mark.parametrize(("result", "text"), [
    ([{"type": "tool_result", "content": [{"type": "text", "text": "5", "cache_control": {}}, "6"]}], "5\n6"),
    ([{"type": "tool_result", "content": [{"type": "text", "text": "5"}, {"type": "image", "url": "a"}]}],
     '5\n{"type": "image", "url": "a"}'),
    ([{"toolResult": {"content": [{"json": {"at": 5}}, {"text": "6"}]}}], '{"at": 5}\n6'),
    ([{"type": "tool_result", "content": "5"}, {"type": "tool_result", "content": [{"type": "text", "text": "6"}]}],
     "5\n6"), (5, "5"), (0, "0"), (False, "false"), ({"at": 5}, '{"at": 5}')], ids=str)
def test_a_result_is_its_texts_and_the_json_of_what_is_none(tmp_path, result, text):
    messages = [USER, CALLING, {"role": "tool", "content": result}, says("At noon."), {**USER, "content": "And again?"},
                CALLING]
    _, examples, *_ = run(tmp_path, [{"messages": messages, "tools": TOOLS}], turns="all")
    assert f"\ntool: {text}\nassistant: At noon." in examples[1].query


def test_a_text_beside_a_result_is_the_next_request(tmp_path):
    both = {"role": "user", "content": [*RESULTS["Anthropic"]["content"], {"type": "text", "text": "And again?"}]}
    messages = [USER, {"role": "assistant", "content": [USE]}, both, CALLING]
    _, examples, *_ = run(tmp_path, [{"messages": messages, "tools": TOOLS}], turns="all")
    assert len(examples) == 2 and examples[1].query.endswith("tool: noon\nuser: And again?")


# ----------------------------------------------------------------------------- what looks like a mark, and says nothing

@pytest.mark.parametrize("mark", [
    {"accepted": 4, "rejected": 1}, {"dropped": 1}, {"order.status": "rejected"},
    {"validation_result": "failed: false"},
    {"validation_result": "failed (0)"}, {"validation_result": "invalid: []"}, {"label": "bad.weather"}], ids=str)
def test_counts_and_columns_of_other_things_are_no_mark_against_an_answer(tmp_path, mark):
    _, examples, _, rejected = run(tmp_path, [{"messages": [USER, CALLING], "tools": TOOLS} | mark])
    assert given(examples) == [[CALL]] and not rejected


@pytest.mark.parametrize("result", [{"score": 0}, {"valid": False}, {"status": "rejected"}, {"quality": "bad"}])
def test_what_a_tool_gave_is_no_verdict_on_its_call(tmp_path, result):
    call = {"id": "c", "function": {"name": CALL["name"], "arguments": CALL["arguments"]}, "response": result}
    _, examples, *_ = run(tmp_path, [{"messages": [USER, says(None, tool_calls=[call])], "tools": TOOLS}])
    assert given(examples) == [[CALL]]


@pytest.mark.parametrize("beside", [
    {"parts": [{"type": "step-start"}, {"type": "text", "text": "Tides?"}]}, {"images": "[]"}, {"file_ids": "[]"},
    {"audio": 0}, {"image_id": "  "}], ids=str)
def test_an_empty_field_for_files_says_nothing(tmp_path, beside):
    _, examples, _, rejected = run(tmp_path, [{"messages": [{**USER, **beside}, CALLING], "tools": TOOLS}])
    assert given(examples) == [[CALL]] and not rejected


def test_a_result_and_a_text_keep_their_order_and_a_tools_message_stays_whole():
    result, text = {"type": "tool_result", "tool_use_id": "1", "content": "noon"}, {"type": "text", "text": "Thanks."}
    for content, roles in (([result, text], ["tool", "user"]), ([text, result], ["user", "tool"])):
        assert [turn.role for turn in dialogue.turns_of([{"role": "user", "content": content}])] == roles
    assert [turn.role for turn in dialogue.turns_of([{"role": "tool", "content": [text, result]}])] == ["tool"]
