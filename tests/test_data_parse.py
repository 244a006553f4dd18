"""The parser: what each kind of answer becomes, by its code."""

import pytest

from data.parse import Reason, parse_calls, parse_tools
from data.prompts import NO_CALL_TEXT
from data.schema import ToolCall

ONE = '<tool_call>\n{"name": "a", "arguments": {"x": 1}}\n</tool_call>'
TOOL = '{"name": "a", "description": "d", "arguments": {"type": "dict", "properties": {}}}'


@pytest.mark.parametrize(("text", "calls"), [
    (ONE, [ToolCall("a", {"x": 1})]), (f"{ONE}\n{ONE}", [ToolCall("a", {"x": 1})] * 2),
    (f"Sure.\n{ONE}\nDone.", [ToolCall("a", {"x": 1})]),
    ('<tool_call>{"arguments":{},"name":"b"}</tool_call>', [ToolCall("b", {})]), (f"  {NO_CALL_TEXT}\n", []),
    ('<tool_call>{"name": "a", "arguments": {"x": "</tool_call><tool_call>"}}</tool_call>',
     [ToolCall("a", {"x": "</tool_call><tool_call>"})]),
])
def test_answers_that_parse(text, calls):
    assert parse_calls(text) == calls


@pytest.mark.parametrize(("text", "code"), [
    ("", "no_call_text"), ("I cannot help.", "no_call_text"), (f"{NO_CALL_TEXT} Sorry.", "no_call_text"),
    (f"<tools>\n{TOOL}\n</tools>", "wrote_tools_instead"), (TOOL, "wrote_tools_instead"),
    (f"<tool_call>{TOOL}</tool_call>", "wrote_tools_instead"), (f"{ONE}<tool_call>", "unclosed_tag"),
    ('<tool_call>{"name": "a", "arguments": {"x": ', "unclosed_tag"), ("<tool_call>{'name'}</tool_call>", "not_json"),
    ("<tool_call></tool_call>", "not_json"),
    ('<tool_call>{"name": "a", "arguments": {}} extra</tool_call>', "not_json"),
    (f"{ONE}\n<tool_call>oops</tool_call>", "not_json"), ("<tool_call>[]</tool_call>", "not_an_object"),
    ('<tool_call>{"arguments": {}}</tool_call>', "missing_name"), ('<tool_call>{"name": "", "arguments": '
                                                                   '{}}</tool_call>', "missing_name"),
    ('<tool_call>{"name": "a"}</tool_call>', "missing_arguments"), ('<tool_call>{"name": "a", "parameters": '
                                                                    '{}}</tool_call>', "missing_arguments"),
    ('<tool_call>{"name": "a", "arguments": "{}"}</tool_call>', "arguments_not_object"),
    ('<tool_call>{"name": "a", "arguments": {}, "id": 1}</tool_call>', "unknown_key"),
    ('<tool_call>{"name": "a", "arguments": {"x": NaN}}</tool_call>', "value_not_json"),
    ('<tool_call>{"name": "a", "arguments": {"x": 1, "x": 2}}</tool_call>', "duplicate_key"),
    ("x" * 40_000, "answer_too_long"),
])
def test_answers_that_do_not(text, code):
    found = parse_calls(text)
    assert isinstance(found, Reason)
    assert found.code == code


@pytest.mark.parametrize(("text", "count"),
                         [(f"<tools>{TOOL}</tools>", 1), (f"<tools>\n{TOOL}\n{TOOL}\n</tools> Here.", 2)])
def test_tools_that_parse(text, count):
    assert [tool["name"] for tool in parse_tools(text)] == ["a"] * count


@pytest.mark.parametrize(("text", "code"), [
    (TOOL, "no_tools_block"), (ONE, "wrote_calls_instead"), ("<tools></tools>", "no_tools"),
    (f"<tools>{TOOL}", "unclosed_tag"),
    (f"<tools>{TOOL},{TOOL}</tools>", "not_json"), (f"<tools>[{TOOL}]</tools>", "not_an_object"),
    (f"<tools>{TOOL}</tools><tools>{TOOL}</tools>", "several_tools_blocks"),
    ("<tools>" + "[" * 1000 + "</tools>", "too_deep"),
])
def test_tools_that_do_not(text, code):
    found = parse_tools(text)
    assert isinstance(found, Reason)
    assert found.code == code
