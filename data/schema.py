"""The records that cross between the parts, and strict JSON in and out of files.

A tool is spelled on disk as in the paper's prompts, {"name", "description", "arguments": {"type": "dict", "properties",
"required"}, "results"?}; in code its schema is `Tool.parameters`, and `arguments` are the values of a call. Records
are checked for their shape only: whether a tool or a call is a *good* one is for data/rules.py to say.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from data.binary import not_text

MAX_JSON_DEPTH = 64             # nested objects and arrays; hand-written and real tools stay under 15
WRITTEN_DEPTH = MAX_JSON_DEPTH - 4      # of what a model writes: our files put objects and lists around it
MAX_INT_DIGITS = 300            # so that every accepted integer also fits a float
MAX_JSON_NODES = 2_000_000      # keys and values of one document
# What a setting or a record's field of a Python type is in a JSON file.
IN_WORDS = {dict: "an object", list: "a list", tuple: "a list of texts", str: "a text", bool: "true or false",
            int: "a whole number", float: "a number"}

# Type words met in the paper's prompts, JSON Schema, BFCL (Python, Java, JavaScript) and tool corpora -> the word kept.
TYPE_WORDS = {word: kept for kept, words in {
    "string": "string str text char character",
    "integer": "integer int long short byte bigint int32 int64",
    "number": "number float double decimal float32 float64",
    "boolean": "boolean bool",
    "array": "array list tuple set arraylist",
    "dict": "dict object map hashmap hashtable dictionary",
    "any": "any",
    "null": "null none",
}.items() for word in words.split()}


# Keywords under which schemas stand: by name; one or a list of them.
_NAMED_SCHEMAS = {"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"}
_SCHEMAS = {"items", "prefixItems", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "contains",
            "propertyNames", "anyOf", "oneOf", "allOf", "not", "if", "then", "else"}
_MAY_HOLD_OBJECTS = {*_NAMED_SCHEMAS, *_SCHEMAS, "default", "const", "example", "examples"}


class JsonError(ValueError):
    """Text that is not strict JSON; `code` is a reason code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


# ---------------------------------------------------------------------------------------------------------- strict JSON

def _parse_int(digits: str) -> int:
    if len(digits) > MAX_INT_DIGITS:
        raise JsonError("number_too_large", f"an integer of {len(digits)} characters; at most {MAX_INT_DIGITS}")
    return int(digits)


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError("number_too_large", f"{text[:40]} does not fit a 64-bit float")
    return value


def _parse_constant(word: str) -> Any:
    raise JsonError("value_not_json", f"{word} is not a JSON value")


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise JsonError("duplicate_key", f"the key {twice[:80]!r} occurs twice in one object")
    return obj


STRICT_DECODER = json.JSONDecoder(parse_int=_parse_int, parse_float=_parse_float, parse_constant=_parse_constant,
                            object_pairs_hook=_object_of)


def json_fault(value: Any, max_nodes: int = MAX_JSON_NODES, max_depth: int = MAX_JSON_DEPTH) -> tuple[str, str] | None:
    """(code, detail) of the first thing in `value` that strict JSON cannot hold, else None; never recurses."""
    stack, nodes = [(value, 1)], 0
    while stack:
        item, depth = stack.pop()
        nodes += 1
        if nodes + len(stack) > max_nodes:
            return "too_large", f"more than {max_nodes} keys and values"
        if isinstance(item, dict | list):
            if depth > max_depth:
                return "too_deep", f"nested deeper than {max_depth}"
            if isinstance(item, dict):
                stack.extend((key, 0) for key in item)
                stack.extend((child, depth + 1) for child in item.values())
            else:
                stack.extend((child, depth + 1) for child in item)
        elif depth == 0 and not isinstance(item, str):
            return "value_not_json", f"the key {item!r:.80} is not a string"
        elif isinstance(item, str):
            if not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item):
                return "bad_unicode", "a lone surrogate, which UTF-8 cannot hold"
        elif isinstance(item, float):
            if not math.isfinite(item):
                return "value_not_json", f"{item} is not a JSON value"
        elif not (item is None or isinstance(item, bool | int)):
            return "value_not_json", f"{type(item).__name__} is not a JSON type"
        elif isinstance(item, int) and item.bit_length() > 1000:
            return "number_too_large", f"an integer of {item.bit_length()} bits"
    return None


def decode_json_at(text: str, start: int = 0, max_depth: int = MAX_JSON_DEPTH) -> tuple[Any, int]:
    """Read one JSON value at or after `start` (white space skipped) -> (value, index just after it).

    Stricter than `json`: NaN, Infinity, numbers that overflow, duplicate keys, lone surrogates, deep nesting and very
    long integers raise JsonError, and nothing else is ever raised.
    """
    while start < len(text) and text[start] in " \t\n\r":
        start += 1
    try:
        value, end = STRICT_DECODER.raw_decode(text, start)
    except json.JSONDecodeError as err:
        raise JsonError("not_json", f"{err.msg} at character {err.pos}") from None
    except RecursionError:
        raise JsonError("too_deep", f"nested deeper than {max_depth}") from None
    if fault := json_fault(value, max_depth=max_depth):
        raise JsonError(*fault)
    return value, end


def strict_json_loads(text: str) -> Any:
    """Parse one JSON document; raises JsonError (a ValueError) and nothing else. See `decode_json_at`."""
    value, end = decode_json_at(text)
    if text[end:].strip(" \t\n\r"):
        raise JsonError("not_json", f"extra text after the JSON value, at character {end}")
    return value


def dump_json(value: Any, indent: int | None = None) -> str:
    """Compact one-line JSON as it stands in prompts, answers and files: default separators, Unicode kept."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def leaves(value: Any) -> Iterator[Any]:
    """The plain values inside a JSON value, in order."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


# -------------------------------------------------------------------------------------------------------------- records

def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def normalise_schema(schema: Any) -> Any:
    """A copy with known type words in the canonical spelling (`object` -> `dict`, `float` -> `number`, ...).

    Unknown words stay as they are, for the rule checker to reject. Only places where a schema may stand are visited,
    so an argument that is called "type" keeps its meaning.
    """
    return _respelled(schema, lambda word: TYPE_WORDS.get(word.strip().lower(), word))


def json_schema(schema: Any) -> Any:
    """A copy in the words of JSON Schema, which says `object`, and "any" by saying nothing."""
    return _respelled(normalise_schema(schema), lambda word: {"dict": "object", "any": None}.get(word, word))


def _respelled(schema: Any, respell: Callable[[str], str | None], depth: int = 0) -> Any:
    """A copy of a schema with its type words respelled; one that becomes None is left out."""
    if not isinstance(schema, dict) or depth > MAX_JSON_DEPTH:
        return schema
    out = dict(schema)
    kind = out.get("type")
    if isinstance(kind, str):
        out["type"] = respell(kind)
    elif isinstance(kind, list):
        out["type"] = [respell(k) if isinstance(k, str) else k for k in kind]
    if any(isinstance(k, str) and respell(k) is None for k in (kind if isinstance(kind, list) else [kind])):
        del out["type"]
    for key in _NAMED_SCHEMAS & out.keys():
        if isinstance(out[key], dict):
            out[key] = {name: _respelled(part, respell, depth + 1) for name, part in out[key].items()}
    for key in _SCHEMAS & out.keys():
        part = out[key]
        out[key] = ([_respelled(each, respell, depth + 1) for each in part] if isinstance(part, list)
                    else _respelled(part, respell, depth + 1))
    return out


@dataclass(frozen=True)
class Tool:
    """One tool's documentation: parameters is {"type": "dict", "properties": {...}, "required": [...]}."""

    name: str
    description: str
    parameters: dict[str, Any]
    results: dict[str, Any] | None = None
    group: str | None = field(default=None, compare=False)     # the server or API family it belongs to; never shown

    @classmethod
    def from_dict(cls, obj: Any) -> Self:
        """Read a tool record; the schema may stand under `arguments` or `parameters`. ValueError if it has no shape."""
        _require(isinstance(obj, dict), f"a tool must be a JSON object, found {type(obj).__name__}")
        name, description = obj.get("name"), obj.get("description")
        _require(isinstance(name, str) and bool(name.strip()), "the tool has no `name`; give it a non-empty string")
        _require(isinstance(description, str), f"tool {name!r} has no `description`; give it a string")
        given = obj.get("arguments", obj.get("parameters"))
        _require(isinstance(given, dict), f"tool {name!r} has no `arguments` object (also read: `parameters`); add "
                                          '{"type": "dict", "properties": {}, "required": []}')
        schema = normalise_schema(given)
        kind, properties, required = schema.get("type", "dict"), schema.get("properties", {}), schema.get("required",
                                                                                                          [])
        _require(kind == "dict", f"tool {name!r}: `arguments` must have type \"dict\" (or \"object\"), found {kind!r}")
        _require(isinstance(properties, dict), f"tool {name!r}: `properties` must be an object")
        stray = [] if "properties" in schema else _arguments_outside(schema)
        _require(not stray, f"tool {name!r}: `arguments` has no `properties`, and {', '.join(stray)[:80]} beside its "
                            "keywords; put them under `properties` (`tooldev.py convert` reads them as they are)")
        _require(isinstance(required, list), f"tool {name!r}: `required` must be a list of argument names")
        rest = {k: v for k, v in schema.items() if k not in ("type", "properties", "required")}
        results = obj.get("results")
        _require(results is None or isinstance(results, dict), f"tool {name!r}: `results` must be an object")
        group = obj.get("group") if isinstance(obj.get("group"), str) else None
        return cls(name, description, {"type": "dict", "properties": properties, "required": required, **rest},
                   None if results is None else normalise_schema(results), group)

    def to_function(self) -> dict[str, Any]:
        """The tool as chat templates and services take it: {"type": "function", "function": ...}, in JSON Schema."""
        about = {"name": self.name, "description": self.description, "parameters": json_schema(self.parameters)}
        return {"type": "function", "function": about}

    def to_dict(self) -> dict[str, Any]:
        """The record as it stands in prompts and in rows; the group is not shown."""
        record = {"name": self.name, "description": self.description, "arguments": self.parameters}
        return record if self.results is None else {**record, "results": self.results}

    def to_document(self) -> dict[str, Any]:
        """The record as it stands in a file of tools: with its group, where it has one."""
        return self.to_dict() | ({"group": self.group} if self.group else {})


@dataclass(frozen=True)
class ToolCall:
    """One call: the tool's name and the values of its arguments."""

    name: str
    arguments: dict[str, Any]

    @classmethod
    def from_dict(cls, obj: Any) -> Self:
        _require(isinstance(obj, dict), f"a call must be a JSON object, found {type(obj).__name__}")
        name, arguments = obj.get("name"), obj.get("arguments")
        _require(isinstance(name, str) and bool(name), "the call has no `name`; give it the tool's name")
        _require(isinstance(arguments, dict), f"call of {name!r}: `arguments` must be an object of values, found "
                                              f"{type(arguments).__name__}")
        return cls(name, arguments)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "arguments": self.arguments}


def _arguments_outside(schema: dict[str, Any]) -> list[str]:
    """Keys of a schema that are no keywords and hold what describes an argument."""
    return [key for key, value in schema.items() if key not in _MAY_HOLD_OBJECTS and key[:2] != "x-"
            and isinstance(value, dict) and isinstance(value.get("type"), str)]


def _text_field(obj: Any, what: str, key: str) -> str:
    _require(isinstance(obj, dict), f"{what} must be a JSON object, found {type(obj).__name__}")
    value = str(obj[key]) if key == "id" and isinstance(obj.get(key), int) else obj.get(key)
    _require(isinstance(value, str) and bool(value.strip()), f"{what} has no `{key}`; give it a non-empty string")
    return value


def _list_field(obj: dict, what: str, key: str) -> list:
    value = obj.get(key)
    _require(isinstance(value, list), f"{what} has no `{key}` list; write [] for none")
    return value


@dataclass(frozen=True)
class Query:
    """A user's request; the method takes new queries as input and does not invent them."""

    id: str
    query: str

    @classmethod
    def from_dict(cls, obj: Any) -> Self:
        return cls(_text_field(obj, "a query", "id"), _text_field(obj, "a query", "query"))

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "query": self.query}


@dataclass(frozen=True)
class Example:
    """A triplet <q, T, A>: query, candidate tools, calls (empty: the right answer is to call nothing)."""

    id: str
    query: str
    tools: tuple[Tool, ...]
    calls: tuple[ToolCall, ...]
    source: str | None = None
    license: str | None = None
    provenance: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, obj: Any) -> Self:
        identity, query = _text_field(obj, "an example", "id"), _text_field(obj, "an example", "query")
        what = f"example {identity!r}"
        return cls(identity, query,
                   tuple(Tool.from_dict(t) for t in _list_field(obj, what, "tools")),
                   tuple(ToolCall.from_dict(c) for c in _list_field(obj, what, "calls")),
                   obj.get("source"), obj.get("license"), obj.get("provenance"))

    def to_dict(self) -> dict[str, Any]:
        record = {"id": self.id, "query": self.query, "tools": [t.to_dict() for t in self.tools],
                  "calls": [c.to_dict() for c in self.calls]}
        optional = {"source": self.source, "license": self.license, "provenance": self.provenance}
        return record | {key: value for key, value in optional.items() if value is not None}


# ---------------------------------------------------------------------------------------------------------------- files

def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for every non-empty line; lines are split at the newline byte only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: "PATH, line N: ..." for a line that is not UTF-8, not strict JSON or not an object.
    """
    return ((number, value) for number, _, value in located_jsonl(path))


def located_jsonl(path: str | Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """As `read_jsonl`: (line number, the byte that the line begins at, object)."""
    path, offset = Path(path), 0
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected JSON Lines, one object per line")
    if (found := not_text(path)) is not None:
        raise ValueError(f"{path}: {found}")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            begins, offset = offset, offset + len(line)
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if not text.strip():
                    continue
                value = strict_json_loads(text)
                _require(isinstance(value, dict), f"found {type(value).__name__}")
            except ValueError as err:
                raise ValueError(f"{path}, line {number}: {err}; expected one JSON object in UTF-8, mend or remove "
                                 "the line") from None
            yield number, begins, value


def _load(record: type, path: str | Path) -> list:
    """All records of a JSONL file; ValueError names the line that is broken."""
    rows = []
    for number, obj in read_jsonl(path):
        try:
            rows.append(record.from_dict(obj))
        except ValueError as err:
            raise ValueError(f"{path}, line {number}: {err}") from None
    return rows


load_tools: Callable[[str | Path], list[Tool]] = partial(_load, Tool)
load_examples: Callable[[str | Path], list[Example]] = partial(_load, Example)
load_queries: Callable[[str | Path], list[Query]] = partial(_load, Query)                # repeated ids are kept


def read_object(path: str | Path, *needed: str, **kinds: type) -> dict[str, Any]:
    """A JSON object with these fields, of which those of `kinds` are of that type where they are there.

    Raises:
        FileNotFoundError, ValueError: no such file, or it holds another document; the file and the field are named.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds {dump_json(found):.80}; expected an object")
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"{path}: has no {', '.join(missing)}; is it another file of that name?")
    for name, kind in kinds.items():
        if name in found and not isinstance(found[name], kind):
            raise ValueError(f"{path}: {name} is {dump_json(found[name]):.80}; expected {IN_WORDS[kind]}")
    return found


def read_json(path: str | Path) -> Any:
    """One strict JSON document; ValueError names the file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a JSON document")
    try:
        return strict_json_loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise ValueError(f"{path}: {err}; expected one JSON document in UTF-8") from None
