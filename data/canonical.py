"""One spelling for calls that mean the same, for the vote and for finding duplicates.

Keys are sorted, strings are Unicode NFC, values carry their JSON type: `true`, `1` and `"1"` are three values. `1` and
`1.0` are one value where the tool's schema says number, and two elsewhere. Nothing else is folded: case, white space
and the order of a list stay.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from data.schema import TYPE_WORDS, Tool, ToolCall

MAX_WORDS = 16          # type words and branches looked at in one schema


def type_words(schema: Any) -> tuple[str, ...]:
    """The canonical type words that a schema node allows; () where it names none, so that anything goes."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    words = kind[:MAX_WORDS] if isinstance(kind, list) else [kind]
    return tuple(TYPE_WORDS.get(w.strip().lower(), "any") for w in words if isinstance(w, str))


def _says_number(schema: Any) -> bool:
    """True if 5 and 5.0 are the same value here."""
    if "number" in type_words(schema):
        return True
    branches = (schema.get("anyOf") or schema.get("oneOf")) if isinstance(schema, dict) else None
    return isinstance(branches, list) and any("number" in type_words(branch) for branch in branches[:MAX_WORDS])


def canonical_value(value: Any, schema: Any = None) -> Any:
    """`value` in canonical form, made of lists and strings only, so that equal means equal in type too."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, str):
        return ["string", unicodedata.normalize("NFC", value)]
    if isinstance(value, int | float):
        if _says_number(schema):
            return ["number", str(int(value)) if float(value).is_integer() else repr(value)]
        return ["integer" if isinstance(value, int) else "float", repr(value + 0)]        # -0.0 + 0 is 0.0
    if isinstance(value, list):
        items = schema.get("items") if isinstance(schema, dict) else None
        return ["array", *(canonical_value(item, items) for item in value)]
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        properties = {}
    pairs = [[unicodedata.normalize("NFC", key), canonical_value(item, properties.get(key))]
             for key, item in value.items()]
    return ["object", *sorted(pairs, key=json.dumps)]


def canonical_call(call: ToolCall, schemas: Mapping[str, Any]) -> str:
    """One call as canonical text; `schemas` maps a tool's name to its parameters."""
    return json.dumps([unicodedata.normalize("NFC", call.name),
                       canonical_value(call.arguments, schemas.get(call.name))])


def canonical_answer(calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
    """A list of calls as a multiset: the same text for every order of calls and of keys. "[]" is no call."""
    schemas = {tool.name: tool.parameters for tool in reversed(tools)}
    return json.dumps(sorted(canonical_call(call, schemas) for call in calls))
