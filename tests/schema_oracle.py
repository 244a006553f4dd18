"""What a tool's own document says about a call, judged by `jsonschema` (Draft 2020-12), and calls made to fit it.

Nothing here is shared with the conversion but the meaning of one type word. The document is read by plain rules: type
words are mapped, nulls and keywords of a wrong shape go, and an object that lists keys is closed unless it says
otherwise (`unevaluatedProperties: false`), because that is how tools are read: an argument that no document names is no
argument.
"""

import json
import random

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError
from referencing.exceptions import Unresolvable

from data.formats.typewords import read_type

NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLE = ("items", "additionalProperties", "unevaluatedProperties", "not", "if", "then", "else", "contains",
          "propertyNames")
IN_PLACE = ("anyOf", "oneOf", "allOf")
WORDS = {"dict": "object", "integer": "integer", "number": "number", "string": "string", "boolean": "boolean",
         "array": "array", "null": "null"}
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
           "minItems", "maxItems", "minProperties", "maxProperties")
# 5.0 is no integer and true is no 1 in a call: types are told apart as the rule checker's documentation says.
CHECKER = Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda checker, value: isinstance(value, int) and not isinstance(value, bool))
Validator = validators.extend(Draft202012Validator, type_checker=CHECKER)


class Malformed(ValueError):
    """The document is no JSON Schema: by it no label is right or wrong."""


def mapped_type(word):
    """A type word, or a list of them -> JSON Schema's words, [] for anything."""
    words = word if isinstance(word, list) else [word]
    infos = [read_type(part) for part in words]
    if any(info.schema["type"] == "any" for info in infos):
        return []
    found = [WORDS[info.schema["type"]] for info in infos] + ["null"] * any(info.nullable for info in infos)
    return list(dict.fromkeys(found))


def mapped(spec, root, closed=True):
    """One schema of the document as Draft 2020-12. `closed`: it stands for a value, not for a part of a schema."""
    if not isinstance(spec, dict):
        if not isinstance(spec, bool):
            raise Malformed(f"{spec!r:.80} stands where a schema should")
        return spec
    if isinstance(spec.get("items"), list):       # up to draft 2019-09
        spec = {**spec, "prefixItems": spec["items"], "items": spec.get("additionalItems", True)}
    out = {}
    for key, value in spec.items():
        if value is None and key not in ("const", "default"):
            continue
        if key in NAMED and isinstance(value, dict):
            inner = key in ("properties", "patternProperties")
            out[key] = {name: mapped(part, root, closed=inner) for name, part in value.items() if part is not None}
        elif key in LISTED and isinstance(value, list):
            out[key] = [mapped(part, root, closed=key == "prefixItems") for part in value]
        elif key in SINGLE and isinstance(value, dict | bool):
            out[key] = mapped(value, root, closed=key in ("items", "additionalProperties", "unevaluatedProperties"))
        elif key == "components" and isinstance(value, dict):
            out[key] = {group: {name: mapped(part, root, closed=False) for name, part in parts.items()}
                        for group, parts in value.items() if isinstance(parts, dict)}
        elif key not in (*NAMED, *LISTED, *SINGLE, "$schema", "$id", "id", "pattern", "format"):
            out[key] = value
    nullable = _mend(out)
    if closed and _lists_keys(spec, root, 0) and not _is_open(spec, root, 0):
        out["unevaluatedProperties"] = False
    return {"anyOf": [out, {"type": "null"}]} if nullable and "type" not in out else out


def _mend(out):
    """Type words, `nullable` (which is returned), values; keywords of a wrong shape go."""
    word = out.pop("type", None)
    types = mapped_type(word) if word and (isinstance(word, str) or all(isinstance(part, str) for part in word)) else []
    nullable = out.pop("nullable", False) is True
    info = read_type(word) if isinstance(word, str) and word.strip() else None
    for key in ("items", "enum") if info else ():
        if key in info.schema:
            out.setdefault(key, mapped(info.schema[key], {}) if key == "items" else info.schema[key])
    if types:
        out["type"] = list(dict.fromkeys([*types, *(["null"] * nullable)]))
    for key in ("enum", "allowed_values", "possible_values"):
        values = out.pop(key, None)
        if isinstance(values, list) and values not in ([], [""], [None]):
            out.setdefault("enum", values)
    if nullable and "enum" in out:
        out["enum"] = [*out["enum"], None]
    if not isinstance(out.get("required"), list):
        out.pop("required", None)
    for key in NUMBERS:
        if isinstance(out.get(key), bool) or not isinstance(out.get(key, 0), int | float):
            del out[key]
    if not isinstance(out.get("$ref", "#/"), str) or not str(out.get("$ref", "#/")).startswith("#"):
        del out["$ref"]
    return nullable


def _parts(spec, root, depth):
    """The schemas that speak of the same value: the schema, what it refers to, members of its unions, conditions."""
    if not isinstance(spec, dict) or depth > 8:
        return
    yield spec
    if isinstance(spec.get("$ref"), str):
        yield from _parts(_lookup(root, spec["$ref"]), root, depth + 1)
    members = [part for key in IN_PLACE if isinstance(spec.get(key), list) for part in spec[key]]
    members += [spec[key] for key in ("if", "then", "else") if key in spec]
    members += list(spec["dependentSchemas"].values()) if isinstance(spec.get("dependentSchemas"), dict) else []
    for part in members:
        yield from _parts(part, root, depth + 1)


def _lookup(root, reference):
    node = root
    for step in reference[2:].split("/"):
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node


def _lists_keys(spec, root, depth):
    return any(isinstance(part.get("properties"), dict) and part["properties"] for part in _parts(spec, root, depth))


def _is_open(spec, root, depth):
    return any(isinstance(part.get(key), dict) or part.get(key) is True or part.get("patternProperties")
               for part in _parts(spec, root, depth) for key in ("additionalProperties", "unevaluatedProperties"))


# ------------------------------------------------------------------------------------------------------ whole documents

def source_schema(raw):
    """The arguments of a raw tool as one JSON Schema; None where its document is no object or has no parameters."""
    raw = raw.get("function", raw) if isinstance(raw, dict) else raw
    if not isinstance(raw, dict):
        return None
    if "required_parameters" in raw or "optional_parameters" in raw:
        needed = named_pairs(raw.get("required_parameters"))
        return flat_schema([*needed, *named_pairs(raw.get("optional_parameters"))], [name for name, _ in needed])
    given = next((raw[key] for key in ("parameters", "arguments", "input_schema", "inputSchema", "input_parameters",
                                       "query_parameters") if raw.get(key)), {})
    beside = raw.get("required") if isinstance(raw.get("required"), list) else None
    if isinstance(given, list):
        return flat_schema(named_pairs(given), beside)
    if not isinstance(given, dict):
        return None
    properties = given.get("properties")
    listed = isinstance(properties, dict) and all(isinstance(spec, dict) for spec in properties.values())
    if isinstance(given.get("type"), str | list) or "$ref" in given or isinstance(given.get("anyOf"), list) or listed:
        try:
            out = mapped(given, given)
        except Malformed:
            return None
        speaks = ("properties", "additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames",
                  "minProperties", "anyOf", "oneOf", "allOf", "$ref")
        if not any(given.get(key) for key in speaks):
            out["unevaluatedProperties"] = False
        if beside and not out.get("required"):
            out["required"] = beside
        return out
    path = raw.get("path_parameters") or {}
    return flat_schema([*path.items(), *given.items()], beside)


def named_pairs(given):
    if isinstance(given, dict):
        return list(given.items())
    return [(entry, {}) if isinstance(entry, str) else (entry["name"], entry) for entry in given or []]


def flat_schema(pairs, required):
    """Arguments outside JSON Schema. `required` None: flags on them say what is required, or else defaults."""
    pairs = [(name, spec if isinstance(spec, dict) else {}) for name, spec in pairs if spec is not None]
    flags = any(isinstance(spec.get("required"), bool) for _, spec in pairs)

    def wanted(spec):
        if flags:
            return spec.get("required") is True
        optional = spec.get("optional") or isinstance(spec.get("type"), str) and read_type(spec["type"]).optional
        return not optional and not {"default", "default_value"} & spec.keys()
    properties, needed = {}, []
    for name, spec in pairs:
        if name not in properties:
            properties[name] = mapped(spec, spec)
            needed += [name] if (name in required if required is not None else wanted(spec)) else []
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def is_right(schema, arguments):
    """Does the source's schema accept the arguments? None where the library cannot judge by it."""
    try:
        return Validator(schema).is_valid(arguments)
    except (SchemaError, TypeError, ValueError, AttributeError, RecursionError, Unresolvable):
        return None                     # malformed in a way of its own: counted, not judged


# ---------------------------------------------------------------------------------------------------------- made values

def value_for(schema, root, rng, depth=0):
    """A value that mostly fits the schema: the library says whether it does."""
    if schema is True or not isinstance(schema, dict) or depth > 10:
        return rng.choice([None, True, 3, 2.5, "x", [1, "x"], {"k": 1}])
    if isinstance(schema.get("$ref"), str):
        return value_for(_lookup(root, schema["$ref"]) or {}, root, rng, depth + 1)
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return rng.choice(schema["enum"])
    if schema.get("allOf") and isinstance(schema["allOf"], list):
        own = {key: value for key, value in schema.items() if key != "allOf"}
        parts = [part for part in schema["allOf"] if isinstance(part, dict)]
        values = [value_for(part, root, rng, depth + 1) for part in [*parts, own]]
        tables = [value for value in values if isinstance(value, dict)]
        return {k: v for table in tables for k, v in table.items()} if tables else values[0]
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            own = {k: v for k, v in schema.items() if k != key}
            member = value_for(rng.choice(schema[key]), root, rng, depth + 1)
            wanted = "properties" in own or isinstance(member, dict) and own.get("type")
            mine = value_for(own, root, rng, depth + 1) if wanted else None
            return {**mine, **member} if isinstance(mine, dict) and isinstance(member, dict) else member
    types = schema.get("type") or (["object"] if "properties" in schema else list(_MAKERS))
    kind = rng.choice(types if isinstance(types, list) else [types])
    return _MAKERS[kind](schema, root, rng, depth)


def _object(schema, root, rng, depth):
    out = {}
    properties = schema.get("properties", {})
    for name, spec in properties.items():
        if name in schema.get("required", ()) or rng.random() < (0.5 if depth < 4 else 0.1):
            out[name] = value_for(spec, root, rng, depth + 1)
    extra = schema.get("additionalProperties", schema.get("unevaluatedProperties"))
    free = extra is None and not properties
    if extra not in (None, False) or free:
        for name in rng.sample(["other", "X-Header", "7", "añb"], rng.randint(0, 2)):
            out.setdefault(name, value_for(extra if extra is not None else True, root, rng, depth + 1))
    for pattern, spec in (schema.get("patternProperties") or {}).items():
        out.setdefault(pattern.strip("^$.*+") or "key", value_for(spec, root, rng, depth + 1))
    for name in schema.get("required", ()):
        out.setdefault(name, value_for(True, root, rng, depth + 1))
    return out


def _array(schema, root, rng, depth):
    low = schema.get("minItems", 0)
    count = rng.randint(low, max(low, min(schema.get("maxItems", 3), low + 3))) if depth < 6 else low
    first = [value_for(part, root, rng, depth + 1) for part in schema.get("prefixItems", ())]
    items = schema.get("items", True)
    return first + [value_for(items, root, rng, depth + 1) for _ in range(max(0, count - len(first)))]


def _string(schema, root, rng, depth):
    low = int(schema.get("minLength", 0))
    size = rng.randint(low, int(max(low, min(schema.get("maxLength", 12), low + 12))))
    return "".join(rng.choice("ab c1-é東") for _ in range(size))


def _number(schema, root, rng, depth, whole=False):
    low = schema.get("minimum", schema.get("exclusiveMinimum", -5))
    high = schema.get("maximum", schema.get("exclusiveMaximum", max(low, 0) + 50))
    step = schema.get("multipleOf")
    if step:
        found = step * rng.randint(int(low // step), int(high // step))
    else:
        found = rng.choice([low, high, low + (high - low) / 2, rng.uniform(low, high) if low <= high else low])
    return int(found) if whole or rng.random() < 0.3 else found


_MAKERS = {"object": _object, "array": _array, "string": _string, "number": _number,
           "integer": lambda schema, root, rng, depth: _number(schema, root, rng, depth, whole=True),
           "boolean": lambda schema, root, rng, depth: rng.random() < 0.5,
           "null": lambda schema, root, rng, depth: None}


def calls_for(schema, seed, count):
    """Up to `count` different arguments that the library calls right under the schema."""
    rng = random.Random(seed)
    found = {}
    for _ in range(count * 4):
        arguments = value_for({**schema, "type": "object"} if "$ref" not in schema else schema, schema, rng)
        if isinstance(arguments, dict) and is_right(schema, arguments):
            found[json.dumps(arguments, sort_keys=True)] = arguments
        if len(found) == count:
            break
    return list(found.values())
