"""One spelling for calls that mean the same, for the vote and for finding duplicates.

Keys are sorted, strings are Unicode NFC, values carry their JSON type: `true`, `1` and `"1"` are three values. `1` and
`1.0` are one value where the tool's schema says number, and two elsewhere. Nothing else is folded: case, white space
and the order of a list stay.

Values and schemas come from a model: what is found out about a schema is kept in a `memo` (by id, so only while the
schema lives), because a long list asks the same of its items' schema at every item.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from data.schema import TYPE_WORDS, Tool, ToolCall

MAX_WORDS = 16          # type words and branches looked at in one schema
MAX_MARKS = 30          # combining marks in a row, as in Unicode's stream-safe text (UAX 15, section 13)


def type_words(schema: Any) -> tuple[str, ...]:
    """The canonical type words that a schema node allows; () where it names none, so that anything goes."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    words = kind[:MAX_WORDS] if isinstance(kind, list) else [kind]
    return tuple(TYPE_WORDS.get(w.strip().lower(), "any") for w in words if isinstance(w, str))


def normal(text: str, form: str = "NFC") -> str:
    """`text` in a Unicode normal form; as it is where marks pile up, whose ordering costs their number squared."""
    if text.isascii():
        return text
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char)[0] == "M" or char in "\uff9e\uff9f" else 0
        if marks > MAX_MARKS:
            return text
    return unicodedata.normalize(form, text)


class _Shape(NamedTuple):
    """What a schema and its unions' branches say of a value's parts: Optional[list[float]] names its items in one."""

    number: bool            # 5 and 5.0 are the same value here
    items: Any              # the schema of an array's items, None where nothing names one
    properties: dict        # of an object's keys; the first branch that names a key has its schema
    other: Any              # of an object's other keys


def _shape(schema: Any, memo: dict) -> _Shape:
    if id(schema) not in memo:
        whole = [schema] if isinstance(schema, dict) else []
        unions = [part[word][:MAX_WORDS] for part in whole for word in ("anyOf", "oneOf", "allOf")
                  if isinstance(part.get(word), list)]
        branches = whole + [branch for union in unions for branch in union if isinstance(branch, dict)]

        def objects(word: str) -> list[dict]:
            return [branch[word] for branch in branches if isinstance(branch.get(word), dict)]
        memo[id(schema)] = _Shape(any("number" in type_words(branch) for branch in branches),
                                  next(iter(objects("items")), None),
                                  {key: part[key] for part in reversed(objects("properties")) for key in part},
                                  next(iter(objects("additionalProperties")), None))
    return memo[id(schema)]


def canonical_value(value: Any, schema: Any = None, memo: dict | None = None) -> Any:
    """`value` in canonical form, made of lists and strings only, so that equal means equal in type too."""
    memo = {} if memo is None else memo
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, str):
        return ["string", normal(value)]
    shape = _shape(schema, memo)
    if isinstance(value, int | float):
        if shape.number:
            return ["number", str(int(value)) if float(value).is_integer() else repr(value)]
        return ["integer" if isinstance(value, int) else "float", repr(value + 0)]        # -0.0 + 0 is 0.0
    if isinstance(value, list):
        return ["array", *(canonical_value(item, shape.items, memo) for item in value)]
    pairs = [[normal(key), canonical_value(item, shape.properties.get(key, shape.other), memo)]
             for key, item in value.items()]
    clash = len({key for key, _ in pairs}) < len(pairs)            # two keys may have one normal form
    return ["object", *sorted(pairs, key=json.dumps if clash else itemgetter(0))]


def canonical_call(call: ToolCall, schemas: Mapping[str, Any], memo: dict | None = None) -> str:
    """One call as canonical text; `schemas` maps a tool's name to its parameters."""
    return json.dumps([normal(call.name), canonical_value(call.arguments, schemas.get(call.name), memo)])


def canonical_answer(calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
    """A list of calls as a multiset: the same text for every order of calls and of keys. "[]" is no call."""
    schemas, memo = {tool.name: tool.parameters for tool in reversed(tools)}, {}
    return json.dumps(sorted(canonical_call(call, schemas, memo) for call in calls))
