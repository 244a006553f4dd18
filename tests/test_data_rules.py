"""The rule checker: every rule's own examples, the contract's cases, hostile schemas, and jsonschema as a second opinion."""

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.canonical import canonical_answer
from data.rules import (
    CALL_RULES,
    EXAMPLE_TOOL,
    MAX_DEPTH,
    SCHEMA_RULES,
    TOOL_RULES,
    check_calls,
    check_tool,
    check_tools,
)
from data.schema import Example, Tool, ToolCall, dump_json, strict_json_loads
from tests.timing import cpu_seconds


def codes(findings):
    return [code for code, _ in findings]


def tool_with(argument, required=()):
    """EXAMPLE_TOOL with `argument` as the schema of its one argument, x."""
    return {**EXAMPLE_TOOL, "arguments": {"type": "dict", "properties": {"x": argument}, "required": list(required)}}


def call(**arguments):
    return [ToolCall("convert", arguments)]


# ----------------------------------------------------------------------------------------------------- the rules' examples

@pytest.mark.parametrize("rule", TOOL_RULES, ids=lambda rule: rule.code)
def test_tool_rule_trips_and_passes_on_its_examples(rule):
    assert rule.code in codes(check_tool({**EXAMPLE_TOOL, **rule.trips}))
    assert check_tool({**EXAMPLE_TOOL, **rule.passes}) == []


@pytest.mark.parametrize("rule", SCHEMA_RULES, ids=lambda rule: rule.code)
def test_schema_rule_trips_and_passes_on_its_examples(rule):
    assert rule.code in codes(check_tool(tool_with(rule.trips)))
    assert check_tool(tool_with(rule.passes)) == []


@pytest.mark.parametrize("rule", CALL_RULES, ids=lambda rule: rule.code)
def test_call_rule_trips_and_passes_on_its_examples(rule):
    assert codes(check_calls(rule.trips, [EXAMPLE_TOOL])) == [rule.code]
    assert check_calls(rule.passes, [EXAMPLE_TOOL]) == []


def test_the_codes_of_one_table_are_distinct():
    for table in (TOOL_RULES, SCHEMA_RULES, CALL_RULES):
        assert len({rule.code for rule in table}) == len(table)


def test_example_tool_is_good_in_both_forms():
    assert check_tool(EXAMPLE_TOOL) == check_tool(Tool.from_dict(EXAMPLE_TOOL)) == []


# ------------------------------------------------------------------------------------------------------------------ tools

@pytest.mark.parametrize(("tool", "code"), [
    ("text", "not_an_object"), (None, "not_an_object"), ([], "not_an_object"),
    ({**EXAMPLE_TOOL, "x": float("nan")}, "value_not_json"),
    ({**EXAMPLE_TOOL, "x": {1: 2}}, "value_not_json"),
    ({**EXAMPLE_TOOL, "x": {1, 2}}, "value_not_json"),
    ({**EXAMPLE_TOOL, "x": "\ud800"}, "bad_unicode"),
    ({**EXAMPLE_TOOL, "x": 10 ** 5000}, "number_too_large"),
    ({**EXAMPLE_TOOL, "description": "d" * 40_000}, "too_large"),
    (tool_with({"type": "integer", "description": "n", "default": True}), "default_wrong_type"),
    (tool_with({"type": "integer", "description": "n", "default": 1.0}), "default_wrong_type"),
    (tool_with({"type": "integer", "description": "n", "enum": [1, True]}), "enum_wrong_type"),
    (tool_with({"type": 5, "description": "n"}), "unknown_type"),
    (tool_with({"type": "string", "description": "n"}, required=["y"]), "unknown_required"),
    (tool_with({"type": "string", "description": "n"}, required=["x", "x"]), "bad_required"),
    (tool_with({"type": "dict", "description": "n", "properties": {"y": {}}}), "missing_type"),
])
def test_bad_tool_is_rejected_with_its_code(tool, code):
    assert codes(check_tool(tool)) == [code]


@pytest.mark.parametrize("argument", [
    {"type": "float", "description": "n", "default": 1},
    {"type": "object", "description": "n", "properties": {"y": {"type": "array", "items": {"type": "int"}}}},
    {"type": "string", "description": "n", "default": None},
    {"type": "string", "description": "n", "pattern": "(a+)+$"},
    {"enum": ["a", 1, True], "description": "mixed"},
])
def test_good_argument_passes(argument):
    assert check_tool(tool_with(argument)) == []


def test_check_tools_wants_tools_with_different_names():
    assert codes(check_tools([])) == ["no_tools"]
    assert codes(check_tools([EXAMPLE_TOOL, EXAMPLE_TOOL])) == ["duplicate_tool"]
    assert codes(check_tools([{**EXAMPLE_TOOL, "name": f"t{i}"} for i in range(65)])) == ["too_many_tools"]
    assert check_tools([EXAMPLE_TOOL, {**EXAMPLE_TOOL, "name": "other"}]) == []


# ------------------------------------------------------------------------------------------------------------------ calls

TYPED = {"name": "convert", "description": "d", "arguments": {"type": "dict", "required": [], "properties": {
    "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"},
    "a": {"type": "array", "items": {"type": "integer"}}, "e": {"type": "integer", "enum": [1, 2]},
    "d": {"type": "dict", "properties": {"k": {"type": "string"}}, "required": ["k"]}, "free": {"type": "dict"},
    "u": {"type": ["string", "null"]}, "o": {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "x": {"type": "any"}}}}


@pytest.mark.parametrize(("arguments", "expected"), [
    ({"s": 5}, ["wrong_type"]), ({"s": "5"}, []), ({"i": 5.0}, ["wrong_type"]), ({"i": True}, ["wrong_type"]),
    ({"i": 5}, []), ({"n": 5}, []), ({"n": 5.5}, []), ({"n": True}, ["wrong_type"]), ({"n": "5"}, ["wrong_type"]),
    ({"b": 1}, ["wrong_type"]), ({"b": True}, []), ({"a": [1, 2]}, []), ({"a": [1, "2", 3.0]}, ["wrong_type"] * 2),
    ({"a": 1}, ["wrong_type"]), ({"e": 1}, []), ({"e": 3}, ["not_in_enum"]), ({"e": True}, ["wrong_type"]),
    ({"d": {"k": "v"}}, []), ({"d": {}}, ["missing_required"]), ({"d": {"k": "v", "z": 1}}, ["unknown_argument"]),
    ({"free": {"anything": [1]}}, []), ({"u": None}, []), ({"s": None}, ["wrong_type"]), ({"o": 1}, []),
    ({"o": 1.5}, ["wrong_type"]), ({"x": [None]}, []), ({"nope": 1}, ["unknown_argument"]),
])
def test_call_is_judged_by_its_tool(arguments, expected):
    assert codes(check_calls(call(**arguments), [TYPED])) == expected


def test_no_call_is_a_good_answer_and_bad_values_are_not_json():
    assert check_calls([], [TYPED]) == []
    assert codes(check_calls(call(n=float("inf")), [TYPED])) == ["value_not_json"]
    assert codes(check_calls([{"name": "convert"}], [TYPED])) == ["not_an_object"]
    assert codes(check_calls(call(i=1) * 65, [TYPED])) == ["too_many_calls"]


def test_duplicate_calls_are_found_whatever_the_key_order():
    same = [ToolCall("convert", {"i": 1, "s": "a"}), ToolCall("convert", {"s": "a", "i": 1})]
    assert codes(check_calls(same, [TYPED])) == ["duplicate_call"]


# ------------------------------------------------------------------------------------------------------- hostile schemas

def nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "dict", "properties": {"x": schema}}
    return {**schema, "description": "d"}


def branching(depth):
    return {"type": "string"} if depth == 0 else {"anyOf": [branching(depth - 1)] * 2}


def array_of(items):
    return tool_with({"type": "array", "description": "d", "items": items})


HOSTILE = {
    "deep": tool_with(nested(500)),
    "deep enough": tool_with(nested(MAX_DEPTH + 1)),
    "wide": tool_with({"type": "dict", "description": "d", "properties": {f"p{i}": {} for i in range(5000)}}),
    "branches": tool_with({"description": "d", "anyOf": [branching(7)] * 3}),
    "remote": tool_with({"type": "string", "description": "d", "$ref": "http://127.0.0.1:1/x"}),
    "pattern": tool_with({"type": "string", "description": "d", "pattern": "(a+)+$"}),
    "huge enum": tool_with({"type": "array", "description": "d", "items": {"enum": ["e" * 50 + str(i) for i in range(400)]}}),
    "one huge enum value": tool_with({"type": "array", "description": "d", "items": {"enum": ["e" * 30_000]}}),
    "many types": tool_with({"type": ["string"] * 3000, "description": "d"}),
    "shared": tool_with({"description": "d", "allOf": [branching(6)] * 4}),
    "unions of many words": array_of({"anyOf": [{"type": ["string", "str", "text", "null"] * 4}] * 30}),
    "unions of constants": array_of({"anyOf": [{"const": {"a": 1}}] * 100}),
    "unions of objects": array_of({"anyOf": [{"type": "dict", "properties": {"a": {"type": "string"}}}] * 100}),
    "unknown required": tool_with({"type": "string", "description": "d"}, required=[str(i) for i in range(4_000)]),
}
PILED_MARKS = "\u0345" * 4_000 + "\u0334" * 4_000        # Unicode orders a run of marks in time that grows with its square


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schema_costs_milliseconds_and_never_raises(name):
    tool = HOSTILE[name]
    values = ["a" * 30_000 + "!", ["a"] * 8_000, {f"k{i}": "a" for i in range(3_000)}, nested(20), PILED_MARKS, [0] * 8_000,
              [{"a": 2, "b": [1]}] * 1_000]
    assert cpu_seconds(check_tool, tool) < 0.05
    for value in values:
        assert cpu_seconds(check_calls, [ToolCall("convert", {"x": value})], [tool]) < 0.05


def test_calls_that_may_be_duplicates_cost_milliseconds():
    for name in ("unions of many words", "unions of objects", "unions of constants"):
        for values in ([[0] * 4_000, [0] * 3_999], [[{"a": 2, "b": [1]}] * 500, [{"a": 2, "b": [1]}] * 499]):
            assert cpu_seconds(check_calls, [ToolCall("convert", {"x": value}) for value in values], [HOSTILE[name]]) < 0.05


def test_the_vote_on_hostile_values_costs_milliseconds():
    for name in ("unions of many words", "unions of objects"):
        tools = [Tool.from_dict(HOSTILE[name])]
        for value in ([0] * 8_000, [{"a": 2, "b": [1]}] * 1_000, PILED_MARKS):
            assert cpu_seconds(canonical_answer, [ToolCall("convert", {"x": value})], tools) < 0.05
    assert cpu_seconds(canonical_answer, [ToolCall(PILED_MARKS, {PILED_MARKS: PILED_MARKS})], []) < 0.05


def test_a_call_that_takes_too_many_comparisons_is_rejected():
    assert codes(check_calls(call(x=[{"a": 2}] * 1_000), [HOSTILE["unions of constants"]])) == ["too_large"]


@pytest.mark.parametrize("depth", range(50, 66))
def test_what_passes_can_be_written_and_read_again(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    tool = tool_with({"type": "array", "description": "d", "default": value})
    call = ToolCall("convert", {"x": value})
    for good, example in ((not check_tool(tool), Example("e", "q", (Tool("deep", "d", tool["arguments"]),), ())),
                          (not check_calls([call], [tool_with({"type": "array", "description": "d"})]), Example("e", "q", (), (call,)))):
        if good:
            assert Example.from_dict(strict_json_loads(dump_json(example.to_dict()))) == example
        else:
            assert depth > 50


def test_self_containing_objects_are_rejected():
    loop: dict = {"type": "dict"}
    loop["properties"] = {"x": loop}
    assert codes(check_tool({**EXAMPLE_TOOL, "arguments": loop})) == ["too_deep"]
    shared: list = [1]
    for _ in range(30):
        shared = [shared] * 10
    assert codes(check_tool({**EXAMPLE_TOOL, "x": shared})) == ["too_large"]
    assert codes(check_calls(call(s=shared), [TYPED])) == ["too_large"]


# -------------------------------------------------------------------------------- jsonschema as an independent reference

LEAF = st.sampled_from([{"type": word} for word in ("string", "integer", "number", "boolean", "null")]
                       + [{"enum": ["a", "b"]}, {"type": "integer", "enum": [1, 2, 3]}, {"type": ["integer", "null"]}])


def objects_of(children):
    return st.dictionaries(st.sampled_from("abc"), children, min_size=1, max_size=3).flatmap(
        lambda properties: st.lists(st.sampled_from(sorted(properties)), unique=True).map(
            lambda required: {"type": "object", "properties": properties, "required": required,
                              "additionalProperties": False}))


SCHEMAS = st.recursive(LEAF, lambda children: st.one_of(
    children.map(lambda item: {"type": "array", "items": item}), objects_of(children),
    st.lists(children, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})), max_leaves=8)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["a", "b", "c"]), st.just(1.5), st.just(1.0)),
    lambda children: st.one_of(st.lists(children, max_size=3), st.dictionaries(st.sampled_from("abcd"), children, max_size=3)),
    max_leaves=6)
STRICT = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda checker, value: isinstance(value, int) and not isinstance(value, bool)))


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, VALUES)
def test_verdict_equals_that_of_jsonschema(schema, value):
    """Where the types are strict (5.0 is no integer) and enum members of one type, both must agree."""
    ours = check_calls(call(x=value), [tool_with(schema)])
    assert (ours == []) == STRICT(schema).is_valid(value)
