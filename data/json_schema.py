"""The paper's spelling of a schema -> JSON Schema (Draft 2020-12), as far as its keywords decide about a value.

Type words become the canonical ones. A keyword with a value of the wrong shape is left out: data/tool_rules.py names
it. So are `$ref`, `$id`, `$schema` and `$defs` (nothing is looked up), `pattern`, `patternProperties` (a regular
expression can hang) and `format`: they are documentation for the reader of the tool. Older spellings are read as they
were meant: a list of `items` (`prefixItems` today), `exclusiveMinimum: true` beside a `minimum`.

One thing is ours: an object that lists properties and does not say otherwise is closed, so the keyword `declared` holds
the names it may have. Those are its own, and those of the schemas that apply to the same object: `allOf`, `then`, the
branch of `anyOf` that is tried. Inside `not`, `if` and `contains` nothing is presumed.
"""

from collections.abc import Callable
from typing import Any

from data.budget import spend
from data.canonical import type_words

Schema = dict[str, Any] | bool
Names = frozenset[str] | None           # None: any name


def is_number(value: Any) -> bool:
    """True for a JSON number; `true` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_schema(value: Any) -> bool:
    """True for what may stand where a schema does."""
    return isinstance(value, dict | bool)


def is_names(value: Any) -> bool:
    """True for a list of names."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


# keywords -> what their value must be, in words and as a test; null stands for a keyword that is not there
KEYWORDS: dict[str, tuple[str, Callable[[Any], bool]]] = {word: (told, test) for words, told, test in (
    ("minimum maximum", "a number", is_number),
    ("exclusiveMinimum exclusiveMaximum", "a number", lambda value: is_number(value) or isinstance(value, bool)),
    ("multipleOf", "a number above 0", lambda value: is_number(value) and value > 0),
    ("minLength maxLength minItems maxItems minProperties maxProperties minContains maxContains",
     "a whole number, 0 or more", lambda value: is_number(value) and value >= 0 and value == int(value)),
    ("uniqueItems", "true or false", lambda value: isinstance(value, bool)),
    ("dependentRequired", "an object of lists of names",
     lambda value: isinstance(value, dict) and all(map(is_names, value.values()))),
    ("items", "a schema", lambda value: is_schema(value) or isinstance(value, list)),
    ("additionalProperties unevaluatedProperties unevaluatedItems contains propertyNames not if then else",
     "a schema", is_schema),
    ("anyOf oneOf allOf prefixItems", "a list with at least one schema",
     lambda value: isinstance(value, list) and bool(value)),
    ("dependentSchemas", "an object of schemas", lambda value: isinstance(value, dict)),
) for word in words.split()}
_UNIONS = ("anyOf", "oneOf")
_TOGETHER = ("allOf", "then", "else", "dependentSchemas")
_CONDITIONS = ("not", "if", "contains", "propertyNames")
_SAME_OBJECT = (*_TOGETHER, *_UNIONS, "if")
_WITH_SCHEMAS = {*_SAME_OBJECT, *_CONDITIONS, "items", "prefixItems", "unevaluatedItems", "properties",
                 "additionalProperties", "unevaluatedProperties"}
_VALUES = KEYWORDS.keys() - _WITH_SCHEMAS           # their value stays as it is written


def json_schema(schema: Any, *, arguments: bool = False) -> Schema:
    """`schema` as JSON Schema that `jsonschema` can judge by.

    `arguments`: it describes the arguments of a tool, which are closed also without properties. The work is counted.
    Raises OverBudget.
    """
    return _mapped(schema, frozenset(), closed=arguments)


def _told(schema: dict, word: str) -> Any:
    """The value of a keyword of KEYWORDS, None where it is absent or of the wrong shape."""
    value = schema.get(word)
    return value if value is not None and KEYWORDS[word][1](value) else None


def properties_of(schema: dict) -> dict[str, Any]:
    """The properties of a schema, {} where it has none of the right shape."""
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def schemas_under(schema: dict, word: str) -> list[Any]:
    """The schemas that stand under a keyword: one, those of a list, or those of an object of schemas."""
    value = schema.get(word)
    if isinstance(value, list):
        return value
    if word == "dependentSchemas":
        return list(value.values()) if isinstance(value, dict) else []
    return [value] if isinstance(value, dict | bool) else []


def _mapped(schema: Any, around: Names, *, closed: bool = False, loose: bool = False) -> Schema:
    """`around`: names declared beside this schema, for the same object; `loose`: inside a condition."""
    spend(1)
    if not isinstance(schema, dict):
        return schema if isinstance(schema, bool) else True
    words = [] if closed else list(dict.fromkeys(type_words(schema)))
    out = {"type": words} if words and words != ["any"] else {}
    out |= {word: schema[word] for word in schema if word in _VALUES and _told(schema, word) is not None}
    if isinstance(schema.get("enum"), list):
        out["enum"] = schema["enum"]
    if "const" in schema:
        out["const"] = schema["const"]
    if isinstance(schema.get("required"), list) and schema["required"]:
        out["required"] = [name for name in schema["required"] if isinstance(name, str)]
    for word, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(word), bool):
            strict = out.pop(word) and bound in out
            out |= {word: out.pop(bound)} if strict else {}
    if closed or not _WITH_SCHEMAS.isdisjoint(schema):
        out |= _array_parts(schema, loose) | _object_parts(schema, around, closed, loose)
        conditions = [word for word in _CONDITIONS if word in schema and _told(schema, word) is not None]
        out |= {word: _mapped(schema[word], None, loose=True) for word in conditions}
    return out or True


def _array_parts(schema: dict, loose: bool) -> dict[str, Any]:
    """The keywords about items."""
    out: dict[str, Any] = {}
    items = _told(schema, "items")
    first = items if isinstance(items, list) else _told(schema, "prefixItems")
    if first:
        out["prefixItems"] = [_mapped(part, frozenset(), loose=loose) for part in first]
    if isinstance(items, dict | bool):
        out["items"] = _mapped(items, frozenset(), loose=loose)
    rest = _told(schema, "unevaluatedItems")
    return out if rest is None else out | {"unevaluatedItems": _mapped(rest, frozenset(), loose=loose)}


def _object_parts(schema: dict, around: Names, closed: bool, loose: bool) -> dict[str, Any]:
    """The keywords about fields, and those that apply further schemas to the same object."""
    out: dict[str, Any] = {}
    own, extra = properties_of(schema), _told(schema, "additionalProperties")
    rest = _told(schema, "unevaluatedProperties")
    patterns = bool(schema.get("patternProperties"))
    parts = any(word in schema for word in _SAME_OBJECT)
    inside = _declared(schema) if parts or patterns else SetOfNames(own)
    told_otherwise = extra not in (None, False) or rest is not None
    names = None if told_otherwise else _joined(around, inside)
    if own:
        out["properties"] = {name: _mapped(part, frozenset(), loose=loose) for name, part in own.items()}
    if extra is False and not patterns:
        out["declared"] = SetOfNames(own)
    elif isinstance(extra, dict) and not patterns:
        out["additionalProperties"] = _mapped(extra, frozenset(), loose=loose)
    elif extra is None and names is not None and (own or closed) and not loose:
        out["declared"] = names
    if rest is not None and inside is not None:
        out["unevaluatedProperties"] = _mapped(rest, frozenset(), loose=loose)
    return out | _same_object(schema, around, names, loose) if parts else out


def _same_object(schema: dict, around: Names, names: Names, loose: bool) -> dict[str, Any]:
    """The schemas that apply to the same value; a branch of a union knows its own names, not its neighbours'."""
    out: dict[str, Any] = {}
    for word in (*_TOGETHER, *_UNIONS):
        if _told(schema, word) is None:
            continue
        known = names
        if word in _UNIONS and names is not None:
            known = _joined(around, _declared({key: part for key, part in schema.items() if key != word}))
        parts = [_mapped(part, known, loose=loose) for part in schemas_under(schema, word)]
        if word == "dependentSchemas":
            out[word] = dict(zip(schema[word], parts, strict=True))
        else:
            out[word] = parts if isinstance(schema[word], list) else parts[0]
    return out


class SetOfNames(frozenset):
    """Names of fields; its repr is short, since messages about a schema would spell it out again and again."""

    def __repr__(self) -> str:
        return f"{len(self)} names"


def _joined(some: Names, more: Names) -> Names:
    if some is None or more is None:
        return None
    if not some or not more:
        return more or some
    spend((len(some) + len(more)) // 16)
    return SetOfNames(some | more)


def _declared(schema: Any) -> Names:
    """The names of fields that a schema and those it applies to the same object know; None where one takes any name."""
    if not isinstance(schema, dict):
        return frozenset()
    rest = [_told(schema, word) for word in ("additionalProperties", "unevaluatedProperties")]
    if schema.get("patternProperties") or any(part not in (None, False) for part in rest):
        return None
    names: Names = SetOfNames(properties_of(schema))
    for word in _SAME_OBJECT:
        for part in schemas_under(schema, word) if word in schema else ():
            spend(1)
            names = _joined(names, _declared(part))
    return names
