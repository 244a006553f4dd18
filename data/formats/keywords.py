"""The keywords of JSON Schema: which key of an object is one, what they say together, and several schemas as one.

Drafts 4 to 2020-12 and OpenAPI's `nullable`. Everything here may widen a schema and never narrows it: a value that fits
the schemas given fits the one made of them, so that a label which was right stays right. Nothing is noted here.
"""

import json
from collections.abc import Callable
from typing import Any

from data.formats.typewords import read_type, union_of
from data.json_schema import is_names, is_schema

Schema = dict[str, Any]
UNIONS = ("anyOf", "oneOf", "allOf")
CONDITIONS = ("if", "then", "else")
COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
ANNOTATIONS = ("title", "description", "$comment", "$schema", "$id", "id")
_EVERY_KEY = ("", ".*", ".+", "^.*", "^.+", "^.*$", "^.+$", "^")     # patterns that every key matches


def _is_type(value: Any) -> bool:
    """A known type word, or a list of them."""
    words = value if isinstance(value, list) else [value]
    return bool(words) and all(isinstance(word, str) and word.strip() and read_type(word).known for word in words)


def _is_schemas(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_schema, value))


def _is_named(value: Any) -> bool:
    """Schemas by name; some places write null for one that is not there."""
    return isinstance(value, dict) and all(part is None or is_schema(part) for part in value.values())


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "required": lambda value: isinstance(value, bool) or is_names(value),
    "enum": lambda value: isinstance(value, list),
    "items": lambda value: is_schema(value) or _is_schemas(value),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "components"),
                    _is_named),
    **dict.fromkeys((*UNIONS, "prefixItems"), _is_schemas),
    **dict.fromkeys(("additionalProperties", "unevaluatedProperties", "propertyNames", "not", "contains",
                     "additionalItems", "unevaluatedItems", *CONDITIONS), is_schema),
    **dict.fromkeys((*COUNTS, *BOUNDS, "minContains", "maxContains"),
                    lambda value: isinstance(value, int | float)),      # drafts 3 and 4 have exclusiveMinimum: true
    **dict.fromkeys(("nullable", "uniqueItems", "deprecated", "readOnly", "writeOnly", "strict"),
                    lambda value: isinstance(value, bool)),
    **dict.fromkeys((*ANNOTATIONS, "format", "pattern", "$ref", "$anchor", "contentEncoding", "contentMediaType"),
                    lambda value: isinstance(value, str)),
    **dict.fromkeys(("dependentRequired", "dependencies", "discriminator"), lambda value: isinstance(value, dict)),
    **dict.fromkeys(("default", "const", "example", "examples"), lambda value: not isinstance(value, dict)),
}


def is_keyword(name: str, value: Any) -> bool:
    """Does the entry read as a keyword of a schema, and not as an argument that happens to be called so?"""
    if name.startswith("x-"):
        return True
    return name in _SHAPES and (value is None or _SHAPES[name](value))


def is_object_type(word: Any) -> bool:
    """Does a `type` say object, alone or among others (null)?"""
    words = word if isinstance(word, list) else [word]
    return any(isinstance(part, str) and read_type(part).schema["type"] == "dict" for part in words)


def describes_an_argument(value: Any) -> bool:
    """Is a value the schema of a parameter, its type in words, or null, as tables write it?"""
    if isinstance(value, dict):
        return not value or any(is_keyword(key, held) for key, held in value.items())
    words = value.strip() if isinstance(value, str) else ""
    return value is None or bool(words) and (words.startswith("{") or read_type(words).known)


def names_of(given: Any) -> list[str]:
    """A `required` list: its strings, each once."""
    return list(dict.fromkeys(name for name in given if isinstance(name, str))) if isinstance(given, list) else []


def cleaned(spec: Schema) -> Schema:
    """A schema without null keywords (tables write null where another row has one), in the newest draft's words."""
    may_be_null = ("default", "default_value", "const")
    out = {key: value for key, value in spec.items() if value is not None or key in may_be_null}
    if isinstance(out.get("type_"), str):                       # Google's client for Python writes it so
        out.setdefault("type", out.pop("type_"))
    if out.get("const", "") is None and out.keys() & {"type", "enum", "$ref", *UNIONS} and out.get("type") != "null":
        del out["const"]
    for bound, old in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(out.get(old), bool):
            exclusive = out.pop(old) and bound in out
            if exclusive:
                out[old] = out.pop(bound)
    for key in ("nullable", "x-nullable"):
        if key in out and str(out.pop(key)).lower() == "true":
            out["nullable"] = True
            break
    return out


def is_null(spec: Schema) -> bool:
    """A schema that only null fits."""
    word = spec.get("type")
    words = word if isinstance(word, list) else [word]
    return (words in (["null"], ["none"], ["None"]) or spec.get("const", "") is None and "type" not in spec
            or spec.get("enum") == [None])


def is_blank(spec: Schema) -> bool:
    """A schema that says nothing about a value."""
    return not spec.keys() - {*ANNOTATIONS, "default", "example", "examples", "deprecated", "nullable"}


def guess_type(spec: Schema) -> str:
    """The type of a schema without a type word, from the values and parts it names; `any` where it names none.

    A default names no type: `"default": "dontcare"` stands beside labels that are true and false.
    """
    if isinstance(spec.get("properties"), dict):
        return "dict"
    if isinstance(spec.get("items"), dict):
        return "array"
    lists = [spec[key] for key in ("enum", "allowed_values") if spec.get(key)]
    samples = lists[0] if lists else [spec.get("const")]
    if isinstance(samples, list) and all(isinstance(value, str) for value in samples):
        return "string"
    return "null" if "const" in spec and spec["const"] is None else "any"


# --------------------------------------------------------------------------------------------------------- open objects

def openness(spec: Schema) -> Schema | bool | None:
    """What keys beside the listed ones may hold: True for anything, a schema, None where the object is closed.

    JSON Schema leaves every object open that does not say otherwise; the records close one that lists its keys. So what
    counts is what a schema says of other keys, and one without any listed key that still speaks of keys is open.
    """
    extra = spec.get("additionalProperties", spec.get("unevaluatedProperties"))
    if extra is True or extra == {}:
        return True
    patterns = spec["patternProperties"] if isinstance(spec.get("patternProperties"), dict) else {}
    schemas = [part for part in (extra, *patterns.values()) if isinstance(part, dict)]
    if True in patterns.values() or {} in schemas:
        return True
    if patterns and not is_schema(extra) and not any(pattern in _EVERY_KEY for pattern in patterns):
        return True
    if schemas:
        return schemas[0] if all(part == schemas[0] for part in schemas) else {"anyOf": schemas}
    told = ("propertyNames", "minProperties", "maxProperties", "not", "dependentRequired", "dependencies", *CONDITIONS)
    speaks = any(spec.get(key) for key in told) or bool(names_of(spec.get("required")))
    return True if extra is None and not spec.get("properties") and speaks else None


# -------------------------------------------------------------------------------------------------------------- merging

def both(one: Schema, other: Schema) -> Schema:
    """What must fit two schemas, as one; where they differ the words of the other stand."""
    out = {**one, **other}
    if out.get("type") == "any" and "type" in one:
        out["type"] = one["type"]
    mine, others = ([part[key] for part in (one, other) if isinstance(part.get(key), dict)]
                    for key in ("properties", "patternProperties"))
    if len(mine) == 2:
        shared = {name: _joined([mine[0][name], spec], "allOf") for name, spec in mine[1].items() if name in mine[0]}
        out["properties"] = {**mine[0], **mine[1], **shared}
    if len(others) == 2:
        out["patternProperties"] = {**others[0], **others[1]}
    if isinstance(one.get("items"), dict) and isinstance(other.get("items"), dict):
        out["items"] = _joined([one["items"], other["items"]], "allOf")
    if isinstance(one.get("required"), list) and isinstance(other.get("required"), list):
        out["required"] = list(dict.fromkeys([*names_of(one["required"]), *names_of(other["required"])]))
    extras = [part["additionalProperties"] for part in (one, other) if is_schema(part.get("additionalProperties"))]
    if len(extras) == 2:
        wide = [extra for extra in extras if extra is not False]
        out["additionalProperties"] = True if True in extras else wide[-1] if wide else False
    return out


def either(members: list[Schema], *, fields: bool) -> Schema:
    """What fits any of several schemas, as one: the type they agree on, the values they list, with `fields` their
    keys."""
    solid = [member for member in members if not is_null(member)]
    nullable = {"nullable": True} if len(solid) < len(members) or any(m.get("nullable") is True for m in solid) else {}
    if not solid:
        return {"type": "null"} if members else {}
    if len(solid) == 1:
        return {**solid[0], **nullable}
    if any(is_blank(member) for member in solid):
        return {}
    info = union_of([word for member in solid for word in _words(member)])
    out: Schema = {**info.schema, **({"nullable": True} if info.nullable else nullable)}
    lists = [_values(member) for member in solid]
    if all(values is not None for values in lists):
        values = [value for values in lists for value in values or ()]
        out["enum"] = list({json.dumps(value, sort_keys=True): value for value in values}.values())
    if fields and all(may_be_object(member) for member in solid):
        out |= either_keys(solid)
    return out


def may_be_object(spec: Schema) -> bool:
    """Can an object fit, as far as the type goes?"""
    return any(word == "any" or is_object_type(word) for word in _words(spec))


def either_keys(members: list[Schema]) -> Schema:
    """`properties`, `required` and `additionalProperties` of an object that fits any of several schemas."""
    tables = [member["properties"] if isinstance(member.get("properties"), dict) else {} for member in members]
    opens = [openness({"properties": {"": {}}, **member}) for member in members]
    properties: Schema = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        specs = [table.get(name, {} if extra is True else extra) for table, extra in zip(tables, opens, strict=True)]
        specs = [spec for spec in specs if spec is not None and spec is not False]
        properties[name] = _joined(specs, "anyOf") if specs else tables[0].get(name)
    needed = [names_of(member.get("required")) for member in members]
    out: Schema = {"properties": properties} if properties else {}
    required = [name for name in needed[0] if all(name in names for names in needed)] if needed else []
    wide = [extra for extra in opens if extra is not None]
    return {**out, **({"required": required} if required else {}),
            **({"additionalProperties": True if True in wide else _joined(wide, "anyOf")} if wide else {})}


def _joined(specs: list[Any], word: str) -> Any:
    """Several schemas under a union, one by itself; a null one says nothing."""
    told = [spec for spec in specs if spec is not None]
    distinct = [spec for at, spec in enumerate(told) if spec not in told[:at]]
    return distinct[0] if len(distinct) == 1 else {word: distinct} if distinct else None


def _words(spec: Schema) -> list[str]:
    word = spec.get("type")
    words = [part for part in (word if isinstance(word, list) else [word]) if isinstance(part, str) and part.strip()]
    return words or [guess_type(spec)]


def _values(spec: Schema) -> list[Any] | None:
    """The values that a schema lists, if it does."""
    if isinstance(spec.get("enum"), list):
        return spec["enum"]
    return [spec["const"]] if "const" in spec else None
