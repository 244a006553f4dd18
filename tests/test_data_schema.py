"""Records and files: strict JSON, one-line errors that name file and line, whole files or none."""

import json
import os

import pytest

from data.files import sha256_file, write_json, write_jsonl, write_text
from data.schema import (
    Example,
    JsonError,
    Query,
    Tool,
    ToolCall,
    load_examples,
    load_queries,
    load_tools,
    normalise_schema,
    read_json,
    read_jsonl,
    strict_json_loads,
)

TOOL = {"name": "add", "description": "Add two numbers.", "arguments": {
    "type": "dict", "properties": {"a": {"type": "number", "description": "First."}}, "required": ["a"]}}


@pytest.mark.parametrize(("text", "code"), [
    ("", "not_json"), ("{", "not_json"), ("{} {}", "not_json"), ("{'a': 1}", "not_json"), ("nan", "not_json"),
    ("NaN", "value_not_json"), ("[-Infinity]", "value_not_json"), ("1e400", "number_too_large"),
    ("-1e400", "number_too_large"),
    ("9" * 5000, "number_too_large"), ('{"a": 1, "a": 2}', "duplicate_key"), ("[" * 100 + "]" * 100, "too_deep"),
    ("[" * 100_000, "too_deep"), ('"\\ud800"', "bad_unicode"), ('{"\\udfff": 1}', "bad_unicode"),
])
def test_strict_json_refuses_what_json_would_take(text, code):
    with pytest.raises(JsonError) as caught:
        strict_json_loads(text)
    assert caught.value.code == code


@pytest.mark.parametrize("value", [{}, [], None, True, 1, 1.5, "é😀\u2028", {"a": [{"b": None}]}, 10 ** 299, "\\ud800"])
def test_strict_json_reads_what_is_json(value):
    assert strict_json_loads(json.dumps(value)) == value


def test_tools_read_both_spellings_and_write_the_paper_s():
    old = {**TOOL, "parameters": {**TOOL["arguments"], "type": "object",
                                  "properties": {"a": {"type": "float", "description": "First."}}}}
    del old["arguments"]
    assert Tool.from_dict(old).to_dict() == TOOL
    assert list(Tool.from_dict({**TOOL, "results": {"type": "object"}}).to_dict()) == ["name", "description",
                                                                                       "arguments", "results"]
    assert Tool.from_dict({**TOOL, "arguments": {}}).parameters == {"type": "dict", "properties": {}, "required": []}


def test_type_words_change_where_a_schema_stands_and_nowhere_else():
    schema = {"type": "object", "properties": {"type": {"type": "Float"},
                                               "x": {"type": ["int", "null"], "enum": ["object"]},
                                               "y": {"type": "list", "items": {"type": "str"}}, "z": {"type": "city"}}}
    assert normalise_schema(schema) == {"type": "dict", "properties": {
        "type": {"type": "number"}, "x": {"type": ["integer", "null"], "enum": ["object"]},
        "y": {"type": "array", "items": {"type": "string"}}, "z": {"type": "city"}}}
    assert schema["properties"]["y"]["type"] == "list"


@pytest.mark.parametrize("key", ["items", "additionalProperties", "unevaluatedProperties", "contains", "propertyNames",
                                 "not", "if", "then", "else", "anyOf", "oneOf", "allOf", "prefixItems", "properties",
                                 "patternProperties", "dependentSchemas"])
def test_type_words_change_under_every_keyword_that_holds_schemas(key):
    def around(word):
        part = {"type": word, "enum": [{"type": "object"}]}
        lists = {"anyOf": [part], "oneOf": [part], "allOf": [part], "prefixItems": [part]}
        return {key: lists.get(key, {"x": part} if key in ("properties", "patternProperties", "dependentSchemas")
                               else part)}
    assert normalise_schema(around("object")) == around("dict")


@pytest.mark.parametrize(("record", "load", "message"), [
    ({"name": "x", "description": "d"}, load_tools, "no `arguments`"), ({"description": "d"}, load_tools, "no `name`"),
    ({**TOOL, "arguments": {"type": "string"}}, load_tools, 'must have type "dict"'),
    ({"id": "1", "query": "  "}, load_queries, "no `query`"), ({"query": "q"}, load_queries, "no `id`"),
    ({"id": "1", "query": "q", "tools": []}, load_examples, "no `calls`"),
    ({"id": "1", "query": "q", "tools": [], "calls": [{"name": "x", "arguments": "{}"}]}, load_examples,
     "must be an object of values"),
])
def test_a_bad_record_is_named_by_file_and_line(tmp_path, record, load, message):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(record) + "\n")
    with pytest.raises(ValueError, match="line 2: .*" + message.replace("`", "`")) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"a": NaN}', b"\xff", b'{"a": 1, "a": 1}', b'{"a": 1} x'])
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"ok": 1}\n' + line)
    with pytest.raises(ValueError, match="rows.jsonl, line 2"):
        list(read_jsonl(path))


def test_lines_end_at_the_newline_byte_only_and_a_byte_order_mark_is_allowed(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\ufeff{\"a\": \"x\u2028y\u0085z\"}\r\n\n{\"a\": 2}".encode())
    assert list(read_jsonl(path)) == [(1, {"a": "x\u2028y\u0085z"}), (3, {"a": 2})]
    with pytest.raises(FileNotFoundError, match="no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_records_round_trip(tmp_path):
    example = Example("1", "q", (Tool.from_dict(TOOL),), (ToolCall("add", {"a": 1.0}),), "s", None, {"round": 1})
    write_jsonl(tmp_path / "e.jsonl", [example])
    assert load_examples(tmp_path / "e.jsonl") == [example]
    assert "license" not in (tmp_path / "e.jsonl").read_text()
    write_jsonl(tmp_path / "q.jsonl", [Query("1", "é")])
    assert (tmp_path / "q.jsonl").read_text(encoding="utf-8") == '{"id": "1", "query": "é"}\n'
    assert Query.from_dict({"id": 7, "query": "q"}).id == "7"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    before = sha256_file(path)
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    def full(*args):
        raise OSError("disk full")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert sha256_file(path) == before
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("key", ["arguments", "parameters"])
def test_arguments_outside_of_properties_are_not_lost_without_a_word(key):
    flat = {"city": {"type": "string"}, "days": {"type": "integer"}}
    with pytest.raises(ValueError, match="has no `properties`, and city, days beside its keywords; put them under"):
        Tool.from_dict({"name": "w", "description": "W.", key: flat})
    with pytest.raises(ValueError, match="city, days beside"):
        Tool.from_dict({"name": "w", "description": "W.", key: {"type": "object", "required": ["city"], **flat}})
    for open_to_all in ({}, {"type": "dict"}, {"type": "object", "additionalProperties": {"type": "string"}},
                        {"type": "object", "$defs": {"A": {"type": "string"}}}):
        Tool.from_dict({"name": "w", "description": "W.", key: open_to_all})
