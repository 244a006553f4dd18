"""Tool documents as they are met: what is carried over, what is refused, what never becomes an argument."""

import json

import pytest
from schema_oracle import is_right, mapped

from data.formats.convert import Options, convert
from data.formats.items import RowError
from data.formats.nulls import without_nulls
from data.formats.tooldocs import read_tool
from data.rules import check_calls
from data.schema import load_examples, read_jsonl

TEXT, WHOLE = {"type": "string"}, {"type": "integer"}


def tool(parameters, key="parameters", **more):
    return {"name": "berth", "description": "Books a berth.", key: parameters, **more}


def read(parameters, key="parameters", **more):
    """The arguments' schema of the record."""
    return read_tool(tool(parameters, key, **more)).record["arguments"]


def of(**properties):
    """A JSON Schema of an object with these properties, all of them required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


# ------------------------------------------------------------------------------------ labels that were right stay right

RIGHT = {
    "null in a list of types": (of(a={"type": ["string", "null"]}), {"a": None}),
    "null first in the list": (of(a={"type": ["null", "integer"]}), {"a": None}),
    "null among the values": (of(a={"type": ["string", "null"], "enum": ["x", None]}), {"a": None}),
    "null as a member of a union": (of(a={"anyOf": [TEXT, {"type": "null"}]}), {"a": None}),
    "null beside an enum": (of(a={"oneOf": [{"enum": ["x", "y"]}, {"type": "null"}]}), {"a": None}),
    "null as a constant": (of(a={"anyOf": [TEXT, {"const": None}]}), {"a": None}),
    "null in a reference": (
        {**of(a={"$ref": "#/$defs/A"}), "$defs": {"A": {"type": ["array", "null"], "items": TEXT}}},
        {"a": None},
    ),
    "null beside a reference": (
        {**of(a={"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}), "$defs": {"A": of(b=TEXT)}},
        {"a": None},
    ),
    "nullable": (of(a={"type": "string", "nullable": True}), {"a": None}),
    "nullable with values": (of(a={"type": "string", "enum": ["x"], "nullable": True}), {"a": None}),
    "nullable around a reference": (
        {**of(a={"allOf": [{"$ref": "#/$defs/A"}], "nullable": True}), "$defs": {"A": of(b=TEXT)}},
        {"a": None},
    ),
    "nullable items": (of(a={"type": "array", "items": {"type": ["string", "null"]}}), {"a": ["x", None]}),
    "nullable items of a union": (of(a={"type": "array", "items": {"anyOf": [TEXT, {"type": "null"}]}}), {"a": [None]}),
    "nullable fields": (
        of(a={"type": "object", "properties": {"b": {"type": ["number", "null"]}}, "required": ["b"]}),
        {"a": {"b": None}},
    ),
    "a nullable object": (
        of(a={"type": ["object", "null"], "properties": {"b": TEXT}, "required": ["b"]}),
        {"a": None},
    ),
    "a constant": (of(a={"const": "x"}), {"a": "x"}),
    "a constant 0": (of(a={"const": 0}), {"a": 0}),
    "a constant false": (of(a={"type": "boolean", "const": False}), {"a": False}),
    "the constant null": (of(a={"const": None}), {"a": None}),
    "constants of a union": (of(a={"anyOf": [{"const": "x"}, {"const": "y"}]}), {"a": "y"}),
    "constants of several types": (of(a={"oneOf": [{"const": "auto"}, {"const": 3}]}), {"a": 3}),
    "constants, values and null": (of(a={"anyOf": [{"const": "x"}, {"enum": ["y"]}, {"type": "null"}]}), {"a": None}),
    "a constant or any number": (of(a={"anyOf": [{"const": "auto"}, {"type": "integer"}]}), {"a": 7}),
    "constants of two variants": (
        {"anyOf": [of(kind={"const": "x"}, p=TEXT), of(kind={"const": "y"}, q=WHOLE)]},
        {"kind": "x", "p": "s"},
    ),
    "keys beside the listed ones": ({**of(a=TEXT), "additionalProperties": True}, {"a": "x", "b": 1}),
    "keys beside the listed ones, by an empty schema": ({**of(a=TEXT), "additionalProperties": {}}, {"a": "x", "b": 1}),
    "keys of one type beside the listed ones": ({**of(a=TEXT), "additionalProperties": WHOLE}, {"a": "x", "b": 1}),
    "keys beside the listed fields": (of(a={**of(b=TEXT), "additionalProperties": True}), {"a": {"b": "x", "c": []}}),
    "keys of items": (
        of(a={"type": "array", "items": {**of(b=TEXT), "additionalProperties": True}}),
        {"a": [{"b": "x", "c": 1}]},
    ),
    "keys by unevaluatedProperties": ({**of(a=TEXT), "unevaluatedProperties": True}, {"a": "x", "b": 1}),
    "a record": ({"type": "object", "additionalProperties": TEXT}, {"anything": "x"}),
    "a record of objects": ({"type": "object", "additionalProperties": of(b=TEXT)}, {"anything": {"b": "x"}}),
    "a record of records": (
        of(a={"type": "object", "additionalProperties": {"type": "object", "additionalProperties": WHOLE}}),
        {"a": {"b": {"c": 1}}},
    ),
    "a record of named keys": ({"type": "object", "propertyNames": {"enum": ["x", "y"]}}, {"x": 1}),
    "a record with a pattern": (
        {"type": "object", "patternProperties": {"^x": WHOLE}, "additionalProperties": False},
        {"x1": 3},
    ),
    "a pattern beside properties": (
        {**of(a=TEXT), "patternProperties": {"^x-": TEXT}, "additionalProperties": False},
        {"a": "x", "x-b": "y"},
    ),
    "an object that only counts its keys": ({"type": "object", "minProperties": 1}, {"b": 1}),
    "an object that only excludes": ({"type": "object", "not": {"required": ["x"]}}, {"b": 1}),
    "an object that only requires": ({"type": "object", "required": ["x"]}, {"x": 1}),
    "variants by what they require": (
        {"type": "object", "anyOf": [{"required": ["x"]}, {"required": ["y"]}]},
        {"x": 1},
    ),
    "properties of allOf beside own": ({**of(a=TEXT), "allOf": [of(b=WHOLE)]}, {"a": "x", "b": 1}),
    "fields of oneOf beside own": (
        of(a={**of(b=TEXT), "oneOf": [of(c=TEXT), of(d=TEXT)]}),
        {"a": {"b": "x", "d": "y"}},
    ),
    "properties of a condition": (
        {**of(a=TEXT), "if": {"properties": {"a": {"const": "x"}}}, "then": of(b=WHOLE)},
        {"a": "x", "b": 1},
    ),
    "properties that another brings": (
        {**of(a=TEXT), "dependentSchemas": {"a": {"properties": {"b": WHOLE}}}},
        {"a": "x", "b": 1},
    ),
    "one field in two variants": ({"oneOf": [of(a=TEXT), of(a=WHOLE)]}, {"a": 3}),
    "a default that is no type": ({"type": "object", "properties": {"a": {"default": "dontcare"}}}, {"a": True}),
    "two types": (of(a={"type": ["string", "integer"]}), {"a": 3}),
    "items after the first": (of(a={"type": "array", "prefixItems": [TEXT], "items": WHOLE}), {"a": ["x", 1, 2]}),
    "a number among constants and null": (
        of(a={"anyOf": [{"const": 4}, {"const": "x"}, {"const": None}]}),
        {"a": None},
    ),
    "a list of types as a text": (of(a={"type": '["string", "null"]'}), {"a": None}),
    "a key that needs another": (
        {**of(a=TEXT, b=TEXT), "required": [], "dependentRequired": {"a": ["b"]}},
        {"a": "x", "b": "y"},
    ),
    "items in order, the old way": (of(a={"type": "array", "items": [TEXT, WHOLE]}), {"a": ["x", 1]}),
    "a property that is true": ({"type": "object", "properties": {"a": True}}, {"a": [1]}),
    "a property called type": (
        of(type={"type": ["string", "null"]}, properties=WHOLE),
        {"type": None, "properties": 3},
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_label_that_the_source_calls_right_is_right(name):
    schema, arguments = RIGHT[name]
    assert is_right(mapped(schema, schema), arguments)
    for key in ("parameters", "inputSchema"):
        assert check_calls([{"name": "berth", "arguments": arguments}], [read_tool(tool(schema, key)).record]) == []


WRONG = {
    "not among the constants": (
        of(m={"anyOf": [{"type": "string", "const": "x"}, {"type": "string", "const": "y"}]}),
        {"m": "z"},
    ),
    "null where the enum has none": (of(m={"type": ["string", "null"], "enum": ["x"]}), {"m": None}),
    "another type in a record": ({"type": "object", "additionalProperties": TEXT}, {"m": 1}),
    "another type beside the listed": ({**of(a=TEXT), "additionalProperties": WHOLE}, {"a": "x", "m": "y"}),
    "a key of a closed object": ({**of(a=TEXT), "additionalProperties": False}, {"a": "x", "m": 1}),
    "a key that nothing opens": (of(a=TEXT), {"a": "x", "m": 1}),
    "another type beside null": (of(a={"anyOf": [WHOLE, {"type": "null"}]}), {"a": "x"}),
    "a text for the constant null": (of(a={"const": None}), {"a": "x"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_label_that_the_source_calls_wrong_stays_wrong(name):
    schema, arguments = WRONG[name]
    assert is_right(mapped(schema, schema), arguments) is False
    assert check_calls([{"name": "berth", "arguments": arguments}], [read_tool(tool(schema)).record])


# ------------------------------------------------------------------------------------------ keywords are no arguments

BY_KEYWORDS = [
    ({"type": "object", "additionalProperties": {"type": "string"}}, []),
    ({"type": "object", "additionalProperties": True}, []),
    ({"type": "object", "additionalProperties": {}}, []),
    ({"additionalProperties": False}, []),
    ({"additionalProperties": {"type": "string"}}, []),
    ({"type": "object", "propertyNames": {"type": "string"}, "minProperties": 1}, []),
    ({"type": "object", "not": {"type": "array"}}, []),
    ({"type": "object", "if": {"type": "object"}, "then": {"type": "object"}}, []),
    ({"type": "object", "patternProperties": {"^a": {"type": "string"}}}, []),
    ({"patternProperties": {"^a": TEXT}}, []),
    ({"type": "object", "unevaluatedProperties": {"type": "string"}}, []),
    ({"type": "object", "contains": {"type": "string"}}, []),
    ({"type": "object", "$defs": {"A": {"type": "string"}}}, []),
    ({"type": "object", "definitions": {"A": TEXT}}, []),
    ({"type": ["object", "null"], "additionalProperties": {"type": "string"}}, []),
    ({"type": "OBJECT", "additionalProperties": TEXT}, []),
    ({"type": "object", "items": {"type": "string"}}, []),
    ({"type": "object", "dependentSchemas": {"a": {"type": "object"}}}, []),
    ({"type": "object", "examples": [{"type": "x"}], "x-order": {"type": "y"}}, []),
    ({"required": []}, []),
    ({"title": "No arguments.", "description": "It takes none."}, []),
    ({"type": "null"}, []),
    ({"properties": {"a": TEXT, "b": None}, "required": ["a"]}, ["a"]),
    ({"type": "object", "properties": {"a": TEXT, "required": ["a"]}}, ["a"]),
    ({"type": "object", "properties": {"a": TEXT, "type": "object", "$schema": "http://x"}}, ["a"]),
    ({"type": "object", "properties": {"a": TEXT, "additionalProperties": False}}, ["a"]),
    ({"type": "object", "properties": {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}}, ["a"]),
    ({"type": "object", "a": {"type": "string"}, "required": ["a"]}, ["a"]),
    ({"type": ["object", "null"], "properties": {"a": TEXT, "b": True}}, ["a", "b"]),
    ({"type": "object", "properties": {"a": TEXT, "b": False}}, ["a"]),
    ({"type": "object", "properties": [{"name": "a", "type": "string"}]}, ["a"]),
    ({"$schema": "http://x", "type": "object", "title": "A"}, []),
]


@pytest.mark.parametrize(("parameters", "names"), BY_KEYWORDS, ids=lambda value: json.dumps(value)[:60])
def test_a_keyword_of_a_schema_is_no_argument(parameters, names):
    assert list(read(parameters, "inputSchema")["properties"]) == names


@pytest.mark.parametrize(
    "name",
    [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "not",
        "title",
        "description",
        "format",
        "default",
        "additionalProperties",
        "const",
        "if",
        "name",
        "id",
    ],
)
def test_an_argument_may_be_called_like_a_keyword(name):
    spec = {"type": "string", "description": "An argument."}
    assert read(of(**{name: spec}))["properties"] == {name: spec}
    assert read({name: spec, "harbour": spec})["properties"] == {name: spec, "harbour": spec}


REFUSED = [
    ("bad_tool", tool({"type": "array", "items": {"type": "string"}})),
    ("bad_tool", tool({"type": "string", "description": "A text."})),
    ("bad_tool", tool({"type": ["string", "null"]})),
    ("bad_tool", tool({"anyOf": [TEXT, WHOLE]})),
    ("bad_tool", tool({"enum": ["a"], "type": "string"})),
    ("bad_tool", tool({"$ref": "#/$defs/Missing"})),
    ("bad_tool", tool({"$ref": "http://host/schema.json"})),
    ("bad_tool", tool('{"type": "object", ')),
    ("bad_tool", "search the web"),
    ("bad_tool", tool(7)),
    ("bad_tool", tool({"type": "object", "properties": "none"})),
    ("bad_tool", tool({"type": "object", "properties": 7})),
    ("no_parameters", tool(["image"], "inputs")),
    ("no_parameters", {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}),
    ("no_parameters", tool({"a": TEXT}, "api_arguments")),
    ("no_parameters", tool(of(a=TEXT), "signature")),
    ("no_parameters", tool([{"name": "a", "type": "str"}], "fields")),
    ("no_parameters", tool({"name": "plan", "schema": of(a=TEXT)}, "json_schema")),
    ("no_parameters", {"name": "t", "description": "T.", "signature": "t(a: str, b: int = 1)"}),
    ("no_parameters", {"name": "t", "description": "T.", "code": "def t(a):\n    return a"}),
    ("no_parameters", {"name": "t", "description": "T.", "docstring": "Args:\n    a (str): A."}),
    ("no_parameters", {"type": "custom", "name": "t", "description": "T.", "format": {"type": "text"}}),
    ("no_parameters", tool({"content": {"application/json": {"schema": of(a=TEXT)}}}, "requestBody")),
]


@pytest.mark.parametrize(("reason", "raw"), REFUSED, ids=lambda value: json.dumps(value)[-60:])
def test_what_cannot_be_read_is_refused_with_a_reason(reason, raw):
    with pytest.raises(RowError) as error:
        read_tool(raw)
    assert error.value.reason == reason and error.value.stage == "tools"


def test_other_words_of_a_tool_are_no_parameters():
    more = {
        "annotations": {"readOnlyHint": True},
        "output_type": "string",
        "returns": {"a": TEXT},
        "metadata": {"b": TEXT},
        "tags": ["x"],
    }
    assert read({}, **more)["properties"] == {}


def test_several_words_describe_an_argument_and_are_no_default():
    described = {"city": "The name of the city", "unit": "celsius or fahrenheit, optional", "days": "integer"}
    for parameters in (described, {"type": "object", "properties": described, "required": ["city", "days"]}):
        found = read(parameters)
        assert found["properties"] == {
            "city": {"type": "any", "description": "The name of the city"},
            "unit": {"type": "any", "description": "celsius or fahrenheit, optional"},
            "days": {"type": "integer", "description": ""},
        }
        assert found["required"] == ["city", "days"]
    lists = {"name": "t", "required_parameters": [], "optional_parameters": {"city": "San Francisco"}}
    assert read_tool(lists).record["arguments"]["properties"]["city"]["default"] == "San Francisco"


def test_the_schema_inside_a_parameter_of_openapi_is_read():
    found = read([{"name": "unit", "in": "query", "required": True, "schema": {"type": "string", "enum": ["m", "ft"]}}])
    assert found["properties"] == {"unit": {"type": "string", "description": "", "enum": ["m", "ft"]}}
    assert found["required"] == ["unit"]


def test_values_with_words_beside_them_are_noted_since_either_may_be_meant():
    raw = tool(of(a={"type": "string", "enum": {"QUEUED": "It waits.", "DONE": "It is done."}}))
    record, changes = read_tool(raw)
    assert "enum" not in record["arguments"]["properties"]["a"] and "a.enum" in changes["values"]


def test_the_types_that_googles_client_writes_are_read():
    schema = {"type_": "OBJECT", "properties": {"a": {"type_": "STRING"}, "type_": {"type_": "ARRAY"}}}
    assert {name: spec["type"] for name, spec in read(schema)["properties"].items()} == {
        "a": "string",
        "type_": "array",
    }


def test_the_word_enum_leaves_the_type_to_the_values():
    assert read(of(a={"type": "enum", "enum": [1, 2]}))["properties"]["a"]["enum"] == [1, 2]
    assert read(of(a={"type": "enum", "enum": ["x"]}))["properties"]["a"]["type"] == "string"


def test_a_reference_may_be_written_as_in_a_url():
    schema = {**of(a={"$ref": "#/$defs/Foo%20Bar"}), "$defs": {"Foo Bar": WHOLE}}
    assert read(schema)["properties"]["a"]["type"] == "integer"


# --------------------------------------------------------------------------------------------------- where they stand

SPEC = {"type": "string", "description": "A."}


@pytest.mark.parametrize(
    "key",
    [
        "parameters",
        "arguments",
        "input_schema",
        "inputSchema",
        "parameter_definitions",
        "inputs",
        "params",
        "parametersJsonSchema",
        "args_schema",
    ],
)
@pytest.mark.parametrize(
    "spelled",
    [of(a=SPEC), json.dumps(of(a=SPEC)), str(of(a=SPEC)), {"a": SPEC | {"required": True}}],
    ids=["schema", "json", "python", "dictionary"],
)
def test_parameters_are_read_wherever_they_stand(key, spelled):
    assert read(spelled, key) == {"type": "dict", "properties": {"a": SPEC}, "required": ["a"]}


def test_parameters_behind_an_empty_key_and_inside_wrappers_are_read():
    wanted = {"type": "dict", "properties": {"a": SPEC}, "required": ["a"]}
    assert read({}, inputSchema=of(a=SPEC)) == wanted and read(None, input_schema=of(a=SPEC)) == wanted
    assert read({"json": of(a=SPEC)}, "inputSchema") == wanted
    assert read({"schema": of(a=SPEC)}) == read({"json_schema": of(a=SPEC)}) == wanted
    argument = {"type": "object", "description": "The table's columns.", "properties": {"a": SPEC}}
    assert list(read({"schema": argument})["properties"]) == ["schema"]
    for wrapper in (
        {"function": tool(of(a=SPEC))},
        {"toolSpec": tool(of(a=SPEC))},
        {"function": json.dumps(tool(of(a=SPEC)))},
        json.dumps({"type": "function", "function": tool(of(a=SPEC))}),
        str(tool(of(a=SPEC))),
        json.dumps(tool(of(a=SPEC))),
    ):
        assert read_tool(wrapper).record["arguments"] == wanted
    inner = {"type": "object", "properties": json.dumps({"a": SPEC}), "required": json.dumps(["a"])}
    assert (
        read(inner) == wanted
        and read({"type": "object", "properties": {"a": json.dumps(SPEC)}, "required": ["a"]}) == wanted
    )


@pytest.mark.parametrize(
    ("required", "names", "noted"),
    [
        ("a", ["a"], False),
        ("a, b", ["a", "b"], False),
        ('["a"]', ["a"], False),
        (["a", "a"], ["a"], False),
        ({"a": True, "b": False}, ["a"], False),
        (True, [], True),
        (False, [], True),
        ("all", [], True),
        (7, [], True),
        (["a", 7], ["a"], True),
        (None, [], False),
        ("", [], False),
        ([], [], False),
    ],
)
def test_required_in_every_spelling_is_read_or_noted(required, names, noted):
    doc = read_tool(tool({"type": "object", "properties": {"a": SPEC, "b": SPEC}, "required": required}))
    assert doc.record["arguments"]["required"] == names
    assert (doc.changes.get("values") == {"required": required}) is noted


@pytest.mark.parametrize("flag", [True, "true", "True", "yes", "required"])
def test_required_on_the_argument_itself_is_read(flag):
    pair = {"a": SPEC | {"required": flag}, "b": SPEC | {"required": "false" if isinstance(flag, str) else False}}
    for parameters in (
        pair,
        {"type": "object", "properties": pair},
        [{"name": name, **spec} for name, spec in pair.items()],
    ):
        assert read(parameters)["required"] == ["a"]
    nested = read_tool(tool(of(o={"type": "object", "properties": pair, "required": True, "description": "O."})))
    assert nested.record["arguments"]["properties"]["o"]["required"] == ["a"] and "values" not in nested.changes


@pytest.mark.parametrize("flag", [
    {"is_required": False}, {"isRequired": "false"}, {"mandatory": False}, {"isOptional": True}, {"is_optional": "yes"},
    {"necessity": "optional"}, {"required": "N"}, {"type": "integer (default 1)"}, {"type": "int = 1"},
    {"type": "(optional) int"}, {"type": "int [optional]"}, {"type": "int - optional"}, {"type": "Nullable<int>"},
    {"type": "integer, nullable"}, {"type": "Integer (Optional)."}], ids=str)
def test_what_may_be_left_out_says_so_in_many_words(flag):
    spec = {"type": "int", "description": "B."} | flag
    for parameters in ({"a": SPEC, "b": spec}, [{"name": "a", **SPEC}, {"name": "b", **spec}]):
        found = read(parameters)
        assert "b" not in found["required"] and "integer" in found["properties"]["b"]["type"]


def test_a_parameter_that_must_be_given_says_so_in_many_words():
    for flag in ({"is_required": True}, {"mandatory": "true"}, {"necessity": "required"}, {"required": "Y"}):
        assert read([{"name": "a", **SPEC, **flag}, {"name": "b", **SPEC}])["required"] == ["a"]


def test_arguments_by_type_words_alone_are_kept():
    assert list(read({"type": "object", "port": "string", "days": "int"})["properties"]) == ["port", "days"]
    found = read({"type": "object", "properties": {"type": "string", "port": "string"}})
    assert {name: spec["type"] for name, spec in found["properties"].items()} == {"type": "string", "port": "string"}
    assert list(read({"type": "object", "properties": {"type": "object", "a": TEXT}})["properties"]) == ["a"]


# -------------------------------------------------------------------------------------------------- nulls of a table


def test_null_definitions_and_null_keywords_are_no_part_of_a_tool():
    spec = {
        "type": "object",
        "enum": None,
        "items": None,
        "anyOf": None,
        "const": None,
        "$ref": None,
        "minimum": None,
        "required": None,
        "properties": {"b": {"type": "integer", "description": "B.", "format": None, "enum": None}, "c": None},
        "description": "A.",
    }
    doc = read_tool(tool({"type": "object", "properties": {"a": spec, "day": None}, "required": None, "$defs": None}))
    fields = {"b": {"type": "integer", "description": "B."}}
    assert doc.record["arguments"]["properties"] == {"a": {"type": "dict", "description": "A.", "properties": fields}}
    keywords = ["a.enum", "a.items", "a.required", "a.anyOf", "a.b.enum"]
    assert sorted(doc.changes["nulls"]) == sorted(["day", "a.c", *keywords])
    flat = read_tool(tool({"a": SPEC, "day": None}))
    assert list(flat.record["arguments"]["properties"]) == ["a"] and flat.changes["nulls"] == ["day"]


def call(**arguments):
    return {"name": "berth", "arguments": arguments}


def test_nulls_that_a_table_wrote_into_calls_go_and_others_stay():
    schema = {
        "type": "object",
        "properties": {"a": SPEC, "n": {"type": ["integer", "null"]}, "o": of(x=SPEC) | {"required": []}, "day": None},
        "required": ["a"],
    }
    doc = read_tool(tool(schema))
    tools = [(doc.record, doc.changes["nulls"])]
    for given, kept in (
        (call(a="x", day=None), call(a="x")),
        (call(a="x", n=None, day=None), call(a="x", n=None)),
        (call(a="x", o={"x": None}), call(a="x", o={})),
        (call(a=None), call(a=None)),
        (call(a="x", day=3), call(a="x", day=3)),
    ):
        assert without_nulls([given], tools) == [kept]
    plain = read_tool(tool({"type": "object", "properties": {"a": SPEC, "b": SPEC}, "required": ["a"]}))
    assert without_nulls([call(a="x", b=None)], [(plain.record, ())]) == [
        call(a="x", b=None)
    ]  # no table: the label's own
    assert without_nulls([call(a="x", b=None, z=None)], [(plain.record, ())]) == [
        call(a="x")
    ]  # an argument of another tool
    assert without_nulls([{"name": "no tool", "arguments": {"z": None}}], tools) == [
        {"name": "no tool", "arguments": {"z": None}}
    ]


def test_a_row_out_of_a_table_is_converted_and_counted(tmp_path):
    tools = [
        {
            "type": "function",
            "function": tool({"type": "object", "properties": {"port": SPEC, "day": None}, "required": ["port"]}),
        },
        {
            "type": "function",
            "function": tool({"type": "object", "properties": {"port": None, "day": SPEC}, "required": None})
            | {"name": "tide"},
        },
    ]
    reply = {"role": "assistant", "content": None, "tool_calls": [{"function": call(port="Leith", day=None)}]}
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "Book"}, reply], "tools": tools}) + "\n"
    )
    (report,) = convert([tmp_path / "rows.jsonl"], tmp_path / "out", Options(check=True))["inputs"]
    (example,) = load_examples(tmp_path / "out" / "examples.jsonl")
    assert [c.to_dict() for c in example.calls] == [call(port="Leith")]
    assert [list(t.parameters["properties"]) for t in example.tools] == [["port"], ["day"]]
    assert report["notes"] == {"nulls_of_a_table": 1} and report["tools_changed"] == {"nulls": 2}
    assert [row["provenance"]["nulls"] for _, row in read_jsonl(tmp_path / "out" / "tools.jsonl")] == [
        ["day"],
        ["port"],
    ]


# ------------------------------------------------------------------------------------------------------- constraints


def test_constraints_are_carried_over_where_they_have_the_right_shape():
    found = read_tool(
        tool(
            of(
                a={
                    "type": "integer",
                    "minimum": 0,
                    "exclusiveMinimum": True,
                    "maximum": "9",
                    "multipleOf": 0,
                    "description": "A.",
                },
                b={"type": "array", "uniqueItems": True, "minItems": -1, "maxItems": None, "description": "B."},
            )
        )
    )
    properties = found.record["arguments"]["properties"]
    assert properties["a"] == {"type": "integer", "description": "A.", "exclusiveMinimum": 0, "maximum": 9}
    assert properties["b"] == {"type": "array", "description": "B.", "uniqueItems": True}
    assert found.changes["values"] == {"a.maximum": "9", "a.multipleOf": 0, "b.minItems": -1}


@pytest.mark.parametrize(
    ("schema", "others"),
    [
        ({"prefixItems": [TEXT], "items": WHOLE}, {"items": WHOLE}),
        ({"prefixItems": [TEXT], "items": False}, {"items": False}),
        ({"prefixItems": [TEXT], "items": True}, {}),
        ({"prefixItems": [TEXT], "items": {}}, {}),
        ({"items": [TEXT], "additionalItems": False}, {"items": False}),
        ({"items": [TEXT], "additionalItems": WHOLE}, {"items": WHOLE}),
        ({"items": [TEXT]}, {}),
        ({"prefixItems": [TEXT], "additionalItems": False}, {}),
    ],
    ids=range(8),
)
def test_the_items_after_the_first_ones_have_their_own_schema(schema, others):
    found = read_tool(tool(of(a={"type": "array", "description": "A.", **schema})))
    properties = found.record["arguments"]["properties"]
    assert properties["a"] == {"type": "array", "description": "A.", "prefixItems": [TEXT], **others}
    assert "dropped" not in found.changes


def test_an_array_that_may_hold_nothing_stays_one():
    assert read(of(a={"type": "array", "items": False}))["properties"]["a"]["items"] is False


def test_constraints_on_keys_and_on_the_first_items_are_carried_over():
    keys = {"type": "object", "additionalProperties": WHOLE, "propertyNames": {"enum": ["x", "y"]}, "maxProperties": 1}
    pair = {"type": "array", "prefixItems": [TEXT, WHOLE]}
    found = read({**of(keys=keys, pair=pair, a=TEXT), "dependentRequired": {"a": ["pair"]}})
    assert found["dependentRequired"] == {"a": ["pair"]} and found["properties"]["pair"]["prefixItems"] == [TEXT, WHOLE]
    assert {
        key: found["properties"]["keys"][key] for key in ("additionalProperties", "propertyNames", "maxProperties")
    } == {"additionalProperties": WHOLE, "propertyNames": {"type": "string", "enum": ["x", "y"]}, "maxProperties": 1}


def test_a_tool_that_is_its_own_schema_and_inputs_by_their_types_are_read():
    raw = {"name": "berth", "description": "Books.", "type": "function", "properties": {"a": SPEC}, "required": ["a"]}
    assert read_tool(raw).record["arguments"] == {"type": "dict", "properties": {"a": SPEC}, "required": ["a"]}
    assert list(read({"a": "string", "b": "int"}, "inputs")["properties"]) == ["a", "b"]
    assert read({"a": SPEC | {"required": 1}, "b": SPEC | {"required": 0}})["required"] == ["a"]


@pytest.mark.parametrize(
    "raw",
    [
        tool({"a": SPEC}, "parameter_definitions"),
        tool({"a": SPEC}, "inputs"),
        tool(json.dumps(of(a=SPEC))),
        tool(json.dumps(of(a=SPEC)), "inputSchema"),
    ],
    ids=lambda raw: list(raw)[-1],
)
def test_a_file_of_such_tools_is_found_to_be_one(tmp_path, raw):
    (tmp_path / "rows.jsonl").write_text(json.dumps(raw) + "\n")
    (report,) = convert([tmp_path / "rows.jsonl"], tmp_path / "out", Options())["inputs"]
    ((_, row),) = read_jsonl(tmp_path / "out" / "tools.jsonl")
    assert report["format"] == "tools" and list(row["arguments"]["properties"]) == ["a"]
