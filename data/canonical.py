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
from typing import Any

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


def _branches(schema: Any, memo: dict) -> list[dict]:
    """The schema and the branches of its unions: Optional[list[float]] says what its items are in one of them."""
    if not isinstance(schema, dict):
        return []
    if id(schema) not in memo:
        unions = [schema[word][:MAX_WORDS] for word in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(word), list)]
        memo[id(schema)] = [schema, *(branch for union in unions for branch in union if isinstance(branch, dict))]
    return memo[id(schema)]


def _says_number(schema: Any, memo: dict) -> bool:
    """True if 5 and 5.0 are the same value here."""
    key = ("number", id(schema))
    if key not in memo:
        memo[key] = any("number" in type_words(branch) for branch in _branches(schema, memo))
    return memo[key]


def canonical_value(value: Any, schema: Any = None, memo: dict | None = None) -> Any:
    """`value` in canonical form, made of lists and strings only, so that equal means equal in type too."""
    memo = {} if memo is None else memo
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, str):
        return ["string", normal(value)]
    if isinstance(value, int | float):
        if _says_number(schema, memo):
            return ["number", str(int(value)) if float(value).is_integer() else repr(value)]
        return ["integer" if isinstance(value, int) else "float", repr(value + 0)]        # -0.0 + 0 is 0.0
    branches = _branches(schema, memo)
    if isinstance(value, list):
        items = next((branch["items"] for branch in branches if isinstance(branch.get("items"), dict)), None)
        return ["array", *(canonical_value(item, items, memo) for item in value)]
    listed = [branch["properties"] for branch in branches if isinstance(branch.get("properties"), dict)]
    other = next((branch["additionalProperties"] for branch in branches
                  if isinstance(branch.get("additionalProperties"), dict)), None)
    pairs = [[normal(key), canonical_value(item, next((part[key] for part in listed if key in part), other), memo)]
             for key, item in value.items()]
    return ["object", *sorted(pairs, key=json.dumps)]


def canonical_call(call: ToolCall, schemas: Mapping[str, Any], memo: dict | None = None) -> str:
    """One call as canonical text; `schemas` maps a tool's name to its parameters."""
    return json.dumps([normal(call.name), canonical_value(call.arguments, schemas.get(call.name), memo)])


def canonical_answer(calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
    """A list of calls as a multiset: the same text for every order of calls and of keys. "[]" is no call."""
    schemas, memo = {tool.name: tool.parameters for tool in reversed(tools)}, {}
    return json.dumps(sorted(canonical_call(call, schemas, memo) for call in calls))
