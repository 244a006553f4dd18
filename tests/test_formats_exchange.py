"""Logs of chat services: the request and its response in one row, wherever either stands."""

import json

import pytest
from formats_shapes import CLOCK, TIDES, json_schema
from test_formats_spelled import ARGS, CALL, J, run
from test_formats_structure import CALLING, RESULT, TOOLS, USER, WORDS, given

from data.formats.registry import guess

ASKED = {"model": "m", "messages": [USER], "tools": TOOLS, "tool_choice": "auto"}
ANTHROPIC = [{"name": tool["name"], "description": "x", "input_schema": json_schema(tool)["parameters"]}
             for tool in (TIDES, CLOCK)]
FLAT = [{"type": "function", **tool["function"]} for tool in TOOLS]
ITEM = {"type": "function_call", "call_id": "c", "name": "tide_table", "arguments": ARGS}
PART = {"functionCall": CALL | {"args": CALL["arguments"]}}


def completion(message, **more):
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more}
    return {"id": "x", "choices": [choice], "usage": {"n": 3}}


LOGS = {
    "a request and a response": {"request": ASKED, "response": completion(CALLING, finish_reason="tool_calls")},
    "as JSON text": {"request_body": json.dumps(ASKED), "response_body": json.dumps(completion(CALLING))},
    "a trace": {"name": "chat", "inputs": ASKED, "outputs": completion(CALLING), "error": None},
    "a generation": {"input": {"messages": [USER], "tools": TOOLS}, "output": CALLING, "level": "DEFAULT"},
    "the row is the request": ASKED | {"response": completion(CALLING)},
    "choices beside messages": ASKED | {"choices": completion(CALLING)["choices"]},
    "a stored completion": {**completion(CALLING), "input_messages": [USER], "tools": TOOLS},
    "Ollama's message": ASKED | {"message": CALLING, "done": True, "done_reason": "stop"},
    "tools among the notes": {"input": [USER], "output": completion(CALLING)["choices"], "metadata": {"tools": TOOLS}},
    "Anthropic": {"request": {"system": [{"type": "text", "text": "."}], "messages": [USER], "tools": ANTHROPIC},
                  "response": {"type": "message", "role": "assistant", "stop_reason": "tool_use",
                               "content": [{"type": "tool_use", "id": "c", "name": "tide_table",
                                            "input": CALL["arguments"]}]}},
    "Gemini": {"request": {"contents": [{"role": "user", "parts": [{"text": "Leith?"}]}], "tools": TOOLS},
               "response": {"candidates": [{"content": {"role": "model", "parts": [PART]}, "finishReason": "STOP"}]}},
    "Responses": {"request": {"input": "Leith?", "tools": FLAT, "instructions": "Be brief."},
                  "response": {"status": "completed", "error": None, "output": [{"type": "reasoning"}, ITEM]}},
    "bodies of HTTP": {"request": {"method": "POST", "body": ASKED}, "response": {"body": completion(CALLING)}},
    "DashScope": {"input": {"messages": [USER]}, "parameters": {"tools": TOOLS}, "output": completion(CALLING)},
    "Bedrock": {"request": {"messages": [USER], "tools": TOOLS},
                "response": {"output": {"message": CALLING}, "stopReason": "tool_use"}},
}


@pytest.mark.parametrize("case", LOGS)
def test_the_response_is_the_label_of_its_request(tmp_path, case):
    assert guess(LOGS[case]).name == "exchange"
    _, examples, _, rejected = run(tmp_path, [LOGS[case]])
    assert given(examples) == [[CALL]] and not rejected
    assert examples[0].query == "Leith?" and len(examples[0].tools) == 2


def test_words_of_a_response_say_that_no_tool_fits_unless_the_request_decided(tmp_path):
    rows = [{"request": ASKED | {"tool_choice": choice}, "response": completion(WORDS)}
            for choice in ("auto", "none", "required")]
    report, examples, queries, _ = run(tmp_path, rows)
    assert given(examples) == [[]] and len(queries) == 3
    assert report["left_out"] == {"calls_forbidden": 1, "call_demanded": 1}


UNUSABLE = {
    "cut off": ({"request": ASKED, "response": completion(CALLING, finish_reason="length")}, "unfinished_answer"),
    "a chunk of a stream": (ASKED | {"message": WORDS, "done": False}, "unfinished_answer"),
    "a part of Responses": ({"request": {"input": "Leith?", "tools": FLAT},
                             "response": {"status": "incomplete", "output": [ITEM]}}, "unfinished_answer"),
    "two choices": (ASKED | {"choices": completion(CALLING)["choices"] + completion(WORDS)["choices"]},
                    "several_answers"),
    "earlier messages elsewhere": ({"request": {"input": "Leith?", "tools": FLAT, "previous_response_id": "r"},
                                    "response": {"output": [ITEM]}}, "unread_columns"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_response_that_is_no_whole_answer_is_no_label(tmp_path, case):
    row, reason = UNUSABLE[case]
    _, examples, _, rejected = run(tmp_path, [row])
    assert not examples and [r["reason"] for r in rejected] == [reason]


def test_calls_of_earlier_turns_of_a_request_are_not_the_answer_to_it(tmp_path):
    asked = ASKED | {"messages": [USER, CALLING, RESULT]}
    report, examples, queries, _ = run(tmp_path, [{"request": asked, "response": completion(WORDS)}])
    assert not examples and [q.query for q in queries] == ["Leith?"]
    assert report["left_out"] == {"answer_not_to_learn": 1}


def test_a_whole_conversation_beside_a_response_is_a_conversation(tmp_path):
    row = ASKED | {"messages": [USER, CALLING, RESULT, WORDS], "response": completion(WORDS)}
    assert guess(row).name == "openai" and given(run(tmp_path, [row])[1]) == [[CALL]]


def test_messages_that_end_with_the_user_have_their_answer_in_a_column(tmp_path):
    asked = {"messages": [USER], "tools": TOOLS}
    rows = [asked | {"response": "At which harbour?"}, asked | {"completion": f"<tool_call>{J}</tool_call>"},
            asked | {"messages": [USER, WORDS], "response": f"<tool_call>{J}</tool_call>"}]
    _, examples, queries, rejected = run(tmp_path, rows)
    assert given(examples) == [[], [CALL]] and len(queries) == 3
    assert [r["reason"] for r in rejected] == ["calls_in_text"]         # a whole conversation, and another answer


@pytest.mark.parametrize("key", ["history", "chat_history"])
@pytest.mark.parametrize("inside", [True, False])
def test_turns_before_a_request_are_part_of_it(tmp_path, key, inside):
    """Their columns were counted as unread, and the label was learnt without them."""
    before, answer = {key: [["Tides?", "Where?"]]}, {"response": completion(CALLING)}
    rows = [{"request": ASKED | before} | answer if inside else {"request": ASKED} | answer | before,
            before | {"input": "Leith?", "output": CALLING, "tools": TOOLS}]
    _, examples, queries, _ = run(tmp_path, rows)
    assert not examples and {q.query for q in queries} == {"Tides?"}
    examples = run(tmp_path, rows, "all.jsonl", turns="all")[1]
    assert given(examples) == [[CALL]] * 2 and {e.query for e in examples} == {
        "user: Tides?\nassistant: Where?\nuser: Leith?"}


@pytest.mark.parametrize("key", ["instruction", "prompt", "question", "query"])
def test_a_text_under_input_beside_the_task_is_not_the_whole_query(tmp_path, key):
    """The task went unread: `Leith?` alone had the call."""
    row = {key: "Tides on Friday here:", "input": "Leith?", "tools": TOOLS}
    for answer in ({"output": CALLING}, {"response": completion(CALLING)}):
        assert guess(row | answer).name != "exchange"
        _, examples, _, _ = run(tmp_path, [row | answer], f"{next(iter(answer))}.jsonl")
        assert all("Tides on Friday here:" in example.query for example in examples)
