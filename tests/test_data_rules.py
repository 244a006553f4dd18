"""The rule checker: every rule's own examples, the contract's cases, hostile schemas, and jsonschema."""

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.canonical import canonical_answer
from data.rules import CALL_RULES, check_calls, check_tool, check_tools
from data.schema import Example, Tool, ToolCall, dump_json, strict_json_loads
from data.tool_rules import EXAMPLE_TOOL, MAX_DEPTH, SCHEMA_RULES, TOOL_RULES
from data.values import VALUE_RULES
from tests.timing import BAR, cpu_seconds


def codes(findings):
    return [code for code, _ in findings]


def tool_with(argument, required=()):
    """EXAMPLE_TOOL with `argument` as the schema of its one argument, x."""
    return {**EXAMPLE_TOOL, "arguments": {"type": "dict", "properties": {"x": argument}, "required": list(required)}}


def call(**arguments):
    return [ToolCall("convert", arguments)]


# -------------------------------------------------------------------------------------------------- the rules' examples

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


@pytest.mark.parametrize("rule", VALUE_RULES, ids=lambda rule: f"{rule.code}-{rule.keywords[0]}")
def test_value_rule_trips_and_passes_on_its_examples(rule):
    assert codes(check_calls(call(x=rule.trips), [tool_with(rule.schema)])) == [rule.code]
    assert check_calls(call(x=rule.passes), [tool_with(rule.schema)]) == []


def test_the_codes_of_one_table_are_distinct():
    for table in (TOOL_RULES, SCHEMA_RULES, CALL_RULES):
        assert len({rule.code for rule in table}) == len(table)


def test_example_tool_is_good_in_both_forms():
    assert check_tool(EXAMPLE_TOOL) == check_tool(Tool.from_dict(EXAMPLE_TOOL)) == []


# ---------------------------------------------------------------------------------------------------------------- tools

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


# ---------------------------------------------------------------------------------------------------------------- calls

TYPED = {"name": "convert", "description": "d", "arguments": {"type": "dict", "required": [], "properties": {
    "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"},
    "a": {"type": "array", "items": {"type": "integer"}}, "e": {"type": "integer", "enum": [1, 2]},
    "d": {"type": "dict", "properties": {"k": {"type": "string"}}, "required": ["k"]}, "free": {"type": "dict"},
    "u": {"type": ["string", "null"]}, "o": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    "x": {"type": "any"}}}}


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


@pytest.mark.parametrize(("schema", "value", "expected"), [
    ({"type": "float", "minimum": 0, "maximum": 1}, 1.5, ["out_of_range"]),
    ({"type": "int", "exclusiveMinimum": True, "minimum": 0}, 0, ["out_of_range"]),          # draft 4's spelling
    ({"type": "int", "exclusiveMinimum": False, "minimum": 0}, 0, []),
    ({"type": "number", "multipleOf": 0.1}, 0.3, []),                               # in binary 0.3 / 0.1 is 2.99...
    ({"type": "number", "multipleOf": 0.01}, 1e300, []),
    ({"type": "int", "multipleOf": 7}, 10 ** 299, ["not_a_multiple"]),
    ({"type": "tuple", "items": [{"type": "int"}, {"type": "str"}]}, [1, 2], ["wrong_type"]),   # an older prefixItems
    ({"type": "array", "uniqueItems": True, "items": {"type": "number"}}, [1, 1.0], ["repeated_items"]),
    ({"type": "array", "uniqueItems": True}, [1, True, "1"], []),
    ({"type": "number", "const": 5}, 5.0, []), ({"const": 5}, 5.0, ["not_in_enum"]),
    ({"type": "string", "enum": ["a"]}, 5, ["wrong_type"]),                                  # the one thing to say
    ({"type": "string", "pattern": "^x$", "format": "date"}, "y", []),                       # documentation
    ({"type": "dict", "patternProperties": {"^x": {"type": "int"}}, "additionalProperties": False}, {"y": "z"}, []),
    ({"type": "string", "minLength": "3", "maxLength": None}, "y", []),              # no constraints: wrong shapes
    ({"$schema": "http://host/draft", "$id": "http://host/id", "$ref": "http://host/x"}, 1, []),
    ({"type": "dict", "properties": {"$schema": {"type": "string"}, "$ref": {}}}, {"$schema": "x", "$ref": 1}, []),
    ({"type": "dict", "dependentRequired": {"a": ["b"]}}, {"a": 1}, ["missing_required"]),
    ({"type": "dict", "minProperties": 1, "maxProperties": 2}, {}, ["wrong_size"]),
    ({"not": {"properties": {"a": {"const": 1}}, "required": ["a"]}}, {"a": 1, "b": 2}, ["forbidden_value"]),
])
def test_value_is_judged_by_the_keywords_of_its_schema(schema, value, expected):
    assert codes(check_calls(call(x=value), [tool_with(schema)])) == expected


A, B = {"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "integer"}}}


@pytest.mark.parametrize(("schema", "value", "good"), [
    (A, {"a": 1}, True), (A, {"b": 1}, False), ({**A, "additionalProperties": True}, {"b": 1}, True),
    ({"allOf": [A, B]}, {"a": 1, "b": 1}, True), ({"allOf": [A, B]}, {"a": 1, "c": 1}, False),
    ({**A, "allOf": [B]}, {"a": 1, "b": 1}, True), ({**A, "anyOf": [B, {"required": ["a"]}]}, {"a": 1, "b": 1}, True),
    ({"oneOf": [A, B]}, {"a": 1}, True), ({"oneOf": [A, B]}, {"a": 1, "b": 1}, False),
    ({**A, "oneOf": [B, {**B, "required": ["a"]}]}, {"b": 1}, True),
    ({**A, "if": {"required": ["a"]}, "then": B}, {"a": 1, "b": 1}, True),
    ({**A, "if": {"required": ["a"]}, "then": B}, {"a": 1, "b": "1"}, False),
    ({**A, "dependentSchemas": {"a": B}}, {"a": 1, "b": 1}, True),
    ({**A, "unevaluatedProperties": {"type": "string"}}, {"a": 1, "b": "1"}, True),
    ({"type": "dict", "additionalProperties": False}, {"a": 1}, False), ({"type": "dict"}, {"a": 1}, True),
])
def test_an_object_that_lists_properties_is_closed_unless_its_schema_opens_it(schema, value, good):
    """The names are those of all schemas that apply to the object; the branches of a union do not know each other's."""
    assert (check_calls(call(x=value), [tool_with(schema)]) == []) == good
    whole = {**EXAMPLE_TOOL, "arguments": {"type": "dict", **schema}}
    if "properties" in schema:
        assert (check_calls([ToolCall("convert", value)], [whole]) == []) == good


def test_a_tool_without_properties_takes_no_arguments():
    tool = {**EXAMPLE_TOOL, "arguments": {"type": "dict"}}
    assert check_calls(call(), [tool]) == []
    assert codes(check_calls(call(x=1), [tool])) == ["unknown_argument"]


@pytest.mark.parametrize(("argument", "code"), [
    ({"minimum": "3"}, "bad_constraint"), ({"multipleOf": 0}, "bad_constraint"), ({"maxLength": -1}, "bad_constraint"),
    ({"anyOf": {}}, "bad_constraint"), ({"items": "string"}, "bad_constraint"), ({"not": 5}, "bad_constraint"),
    ({"dependentRequired": {"a": "b"}}, "bad_constraint"), ({"minimum": None}, None), ({"maxItems": 2.0}, None),
    ({"exclusiveMinimum": True, "minimum": 1}, None), ({"default": "x", "maxLength": 0}, "default_misfit"),
    ({"default": "x", "enum": ["y"]}, "default_misfit"), ({"enum": ["y", "zz"], "maxLength": 1}, "enum_misfit"),
    ({"not": {"type": "city"}}, "unknown_type"), ({"then": {"properties": {"a": {"minimum": 1}}}}, None),
    ({"contains": {"$ref": "#"}}, "reference"), ({"items": True}, None), ({"anyOf": [True]}, None),
])
def test_constraints_of_a_tool_are_checked(argument, code):
    found = codes(check_tool(tool_with({"type": "string", "description": "n", **argument})))
    assert found == ([code] if code else [])


# ------------------------------------------------------------------------------------------------------ hostile schemas

def nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "dict", "properties": {"x": schema}}
    return {**schema, "description": "d"}


def branching(depth):
    return {"type": "string"} if depth == 0 else {"anyOf": [branching(depth - 1)] * 2}


def array_of(items):
    return tool_with({"type": "array", "description": "d", "items": items})


def unevaluated(depth):
    """Each level has its branches tried again by the level above."""
    again = {"unevaluatedProperties": {}, "unevaluatedItems": {}}
    return {"minProperties": 1} if depth == 0 else {"allOf": [unevaluated(depth - 1), {"contains": {}}], **again}


HOSTILE = {
    "deep": tool_with(nested(500)),
    "deep enough": tool_with(nested(MAX_DEPTH + 1)),
    "wide": tool_with({"type": "dict", "description": "d", "properties": {f"p{i}": {} for i in range(5000)}}),
    "branches": tool_with({"description": "d", "anyOf": [branching(7)] * 3}),
    "remote": tool_with({"type": "string", "description": "d", "$ref": "http://127.0.0.1:1/x"}),
    "pattern": tool_with({"type": "string", "description": "d", "pattern": "(a+)+$"}),
    "huge enum": array_of({"enum": ["e" * 50 + str(i) for i in range(400)]}),
    "one huge enum value": array_of({"enum": ["e" * 30_000]}),
    "many types": tool_with({"type": ["string"] * 3000, "description": "d"}),
    "shared": tool_with({"description": "d", "allOf": [branching(6)] * 4}),
    "unions of many words": array_of({"anyOf": [{"type": ["string", "str", "text", "null"] * 4}] * 30}),
    "unions of constants": array_of({"anyOf": [{"const": {"a": 1}}] * 100}),
    "unions of objects": array_of({"anyOf": [{"type": "dict", "properties": {"a": {"type": "string"}}}] * 100}),
    "one of many": array_of({"oneOf": [{"properties": {"a": {"type": "string"}}}] * 50}),
    "unique items": tool_with({"anyOf": [{"uniqueItems": True, "minItems": 9_999}] * 300, "description": "d"}),
    "contains": array_of({"contains": {"contains": {"const": 1}}}),
    "conditions": tool_with({"description": "d", "allOf": [{"if": {"properties": {"a": {"const": 1}}}, "then": False,
                                                            "else": {"minProperties": 9}}] * 60}),
    "dependencies": tool_with({"dependentRequired": {f"k{i}": [f"k{j}" for j in range(40)] for i in range(80)},
                               "dependentSchemas": {f"k{i}": {"required": ["a"]} for i in range(100)},
                               "description": "d"}),
    "unevaluated": tool_with({"unevaluatedProperties": unevaluated(8), "unevaluatedItems": unevaluated(8),
                              "description": "d"}),
    "tiny divisor": array_of({"multipleOf": 5e-324}),
    "long names": tool_with({"description": "d", "properties": {"x" * 20_000: {}, "y": {"type": "integer"}},
                             "anyOf": [{"properties": {f"b{i}": {}}} for i in range(300)]}),
    "many names": tool_with({"propertyNames": {"enum": ["a"]}, "additionalProperties": {"type": "string"},
                             "description": "d"}),
    "unknown required": tool_with({"type": "string", "description": "d"}, required=[str(i) for i in range(4_000)]),
}
PILED_MARKS = "\u0345" * 4_000 + "\u0334" * 4_000        # Unicode orders a run of marks in time that is its square


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schema_costs_milliseconds_and_never_raises(name):
    tool = HOSTILE[name]
    values = ["a" * 30_000 + "!", ["a"] * 8_000, {f"k{i}": "a" for i in range(3_000)}, nested(20), PILED_MARKS,
              [0] * 8_000, [{"a": 2, "b": [1]}] * 1_000, [[i] for i in range(2_500)], [10 ** 299 + 1, 1e308] * 50]
    assert cpu_seconds(check_tool, tool) < BAR
    for value in values:
        assert cpu_seconds(check_calls, [ToolCall("convert", {"x": value})], [tool]) < BAR


def test_calls_that_may_be_duplicates_cost_milliseconds():
    for name in ("unions of many words", "unions of objects", "unions of constants"):
        for values in ([[0] * 4_000, [0] * 3_999], [[{"a": 2, "b": [1]}] * 500, [{"a": 2, "b": [1]}] * 499]):
            calls = [ToolCall("convert", {"x": value}) for value in values]
            assert cpu_seconds(check_calls, calls, [HOSTILE[name]]) < BAR


def test_the_vote_on_hostile_values_costs_milliseconds():
    for name in ("unions of many words", "unions of objects"):
        tools = [Tool.from_dict(HOSTILE[name])]
        for value in ([0] * 8_000, [{"a": 2, "b": [1]}] * 1_000, PILED_MARKS):
            assert cpu_seconds(canonical_answer, [ToolCall("convert", {"x": value})], tools) < BAR
    assert cpu_seconds(canonical_answer, [ToolCall(PILED_MARKS, {PILED_MARKS: PILED_MARKS})], []) < BAR


def test_a_call_that_takes_too_many_comparisons_is_rejected():
    assert codes(check_calls(call(x=[{"a": 2}] * 1_000), [HOSTILE["unions of constants"]])) == ["too_large"]


@pytest.mark.parametrize("depth", range(50, 66))
def test_what_passes_can_be_written_and_read_again(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    tool = tool_with({"type": "array", "description": "d", "default": value})
    call = ToolCall("convert", {"x": value})
    array = tool_with({"type": "array", "description": "d"})
    for good, example in ((not check_tool(tool), Example("e", "q", (Tool("deep", "d", tool["arguments"]),), ())),
                          (not check_calls([call], [array]), Example("e", "q", (), (call,)))):
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


# ------------------------------------------------------------------------------------ plain jsonschema beside the rules

LEAF = st.sampled_from([{"type": word} for word in ("string", "integer", "number", "boolean", "null")]
                       + [{"enum": ["a", "b"]}, {"type": "integer", "enum": [1, 2, 3]}, {"type": ["integer", "null"]},
                          {"type": "integer", "minimum": 0}, {"exclusiveMaximum": 2}, {"maximum": 1, "minimum": -1},
                          {"maxLength": 1}, {"minLength": 2}, {"type": "integer", "multipleOf": 2}, {"const": "a"},
                          {"not": {"type": "string"}}, {"minItems": 1}, {"maxItems": 2}, {"minProperties": 2},
                          {"contains": {"type": "integer"}}, {"contains": {"const": "a"}, "maxContains": 1},
                          {"dependentRequired": {"a": ["b"]}}, {"propertyNames": {"enum": ["a", "b"]}},
                          {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
                          {"if": {"type": "integer"}, "then": {"minimum": 1}, "else": {"type": "string"}},
                          {"additionalProperties": {"type": "integer"}}])


def objects_of(children):
    return st.dictionaries(st.sampled_from("abc"), children, min_size=1, max_size=3).flatmap(
        lambda properties: st.lists(st.sampled_from(sorted(properties)), unique=True).map(
            lambda required: {"type": "object", "properties": properties, "required": required,
                              "additionalProperties": False}))


SCHEMAS = st.recursive(LEAF, lambda children: st.one_of(
    children.map(lambda item: {"type": "array", "items": item}), objects_of(children),
    st.tuples(st.sampled_from(["anyOf", "oneOf", "allOf"]), st.lists(children, min_size=1, max_size=3)).map(
        lambda union: {union[0]: union[1]})), max_leaves=8)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["a", "b", "cc", 1.5, 1.0])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)),
    max_leaves=6)
STRICT = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda checker, value: isinstance(value, int) and not isinstance(value, bool)))


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, VALUES)
def test_verdict_equals_that_of_jsonschema(schema, value):
    """Both agree where 5.0 is no integer, objects say whether they are closed and enum members are of one type."""
    ours = check_calls(call(x=value), [tool_with(schema)])
    assert (ours == []) == STRICT(schema).is_valid(value)
