"""JSON Schema, as corpora document tools with it -> the schemas of records (data/schema.py), and what was changed.

References into the same document are resolved, unions become one schema, type words the canonical ones; enums,
defaults, open objects and the constraints that the rule checker judges are carried over. A schema is only ever widened
on the way (keywords.py), never narrowed, and whatever is not carried over is noted.
"""

import re
from typing import Any
from urllib.parse import unquote

from data.formats.items import RowError
from data.formats.keywords import (
    CONDITIONS,
    UNIONS,
    Schema,
    both,
    cleaned,
    either,
    either_keys,
    guess_type,
    is_keyword,
    is_object_type,
    may_be_object,
    names_of,
    openness,
)
from data.formats.literals import LiteralError, parse_literal
from data.formats.strict import strict_loads
from data.formats.typewords import TypeInfo, read_type, union_of, with_null
from data.formats.values import ABOUT_KEYS, KEPT, NAMED, VALUES, Changes, first, put_constraint, put_default, put_enum
from data.json_schema import is_names
from data.schema import MAX_JSON_DEPTH, JsonError

MAX_REFERENCES = 200        # per tool: a schema may refer to itself, and in several places
MAX_REFERENCE_DEPTH = 4     # below this many levels of fields a reference becomes `any`
MAX_HOPS = 8                # references and unions one inside the other at one place
_READ = {*NAMED, "name", "type", "description", "desc", "const", "required", "items", "additionalItems", "properties",
         "optional", "nullable"}
_NULLED = ("enum", "items", "properties", "required", "additionalProperties", "anyOf")   # nobody writes null there
_ROOT = {"type", "properties", "required", "description", "components", "$defs", "definitions"}
_FLAGS = {**dict.fromkeys(("true", "yes", "y", "required", "mandatory"), True),
          **dict.fromkeys(("false", "no", "n", "optional", ""), False)}
_REQUIRED = ("is_required", "isRequired", "mandatory", "necessity", "presence")      # `required` by another name
_OPTIONAL = ("is_optional", "isOptional")


def text_of(value: Any) -> str:
    """Free text out of a document field: null becomes empty, a list of strings (Swagger does that) is joined."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(text_of(part) for part in value)
    return value if isinstance(value, str) else str(value)


def inside(text: str, what: str) -> Any:
    """What a text holds, JSON or a Python literal. Raises RowError `bad_tool`."""
    try:
        return strict_loads(text)
    except JsonError as error:
        fault = error.detail
    try:
        return parse_literal(text)
    except (LiteralError, RecursionError):
        shown = f"{what} is a text that is no JSON ({fault}): {text[:80]!r}"
        raise RowError("bad_tool", shown, stage="tools") from None


def flag_of(value: Any) -> bool | None:
    """A `required` or `optional` that stands on the argument itself, as true or as a text; None for anything else."""
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    return _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None


def as_pairs(given: Any) -> list[tuple[str, Any]]:
    """(name, spec) pairs out of a dictionary, a list of objects, a list of names, or nothing."""
    if not given:
        return []
    if isinstance(given, dict):
        return list(given.items())
    if not isinstance(given, list):
        raise TypeError(f"parameters are {type(given).__name__}")
    pairs = []
    for entry in given:
        if isinstance(entry, str):
            pairs.append((entry, {}))
        elif isinstance(entry, dict) and isinstance(entry.get("name"), str):
            pairs.append((entry["name"], entry))
        else:
            raise TypeError("a parameter in a list has no name")
    return pairs


def as_spec(spec: Any) -> Schema:
    """A parameter's schema; a bare string is JSON, its type word if it is one, its description if it has several words,
    else its default. The schema that OpenAPI keeps inside a parameter is part of it."""
    if isinstance(spec, str) and spec.lstrip().startswith("{"):
        try:
            spec = inside(spec, "a parameter")
        except RowError:
            return {"default": spec}
    if isinstance(spec, dict):
        inner = spec.get("schema") if "in" in spec and "type" not in spec else None
        spec = {**inner, **{key: spec[key] for key in spec if key != "schema"}} if isinstance(inner, dict) else spec
        for word, keys in (("required", _REQUIRED), ("optional", _OPTIONAL)):
            told = [key for key in keys if key in spec and flag_of(spec[key]) is not None and word not in spec]
            spec = {word if key in told[:1] else key: value for key, value in spec.items()} if told else spec
        return spec
    if isinstance(spec, str):
        info = read_type(spec) if spec.strip() else None
        if not (info and info.known) and len(spec.split()) > 1:
            return {"description": spec, "optional": re.search("optional|default", spec, re.IGNORECASE) is not None}
        return {"type": spec} if info and info.known else {"default": spec}
    return {} if spec is None or isinstance(spec, bool) else {"default": spec}


class Flattener:
    """Makes one schema of references, unions and conditions. `root` is the document that references point into."""

    def __init__(self, root: Schema, changes: Changes) -> None:
        self.root, self.changes = root, changes
        self.references = 0

    def flat(self, spec: Schema, path: str, hops: int = 0) -> Schema:
        """A schema without references, unions and conditions; whatever fits `spec` fits it, too."""
        spec = cleaned(spec)
        if "$ref" in spec:
            return self._referred(spec, path, hops)
        if any(key in spec for key in UNIONS):
            spec = self._united(spec, path, hops)
        return self._conditioned(spec, path, hops)

    def _referred(self, spec: Schema, path: str, hops: int) -> Schema:
        self.changes.types.setdefault(path, {"$ref": spec["$ref"]})
        self.references += 1
        rest = {key: value for key, value in spec.items() if key != "$ref"}
        target = lookup(self.root, spec["$ref"]) if hops < MAX_HOPS and self.references <= MAX_REFERENCES else None
        if not isinstance(target, dict) or path.count(".") > MAX_REFERENCE_DEPTH:
            return {"type": "any", **{key: value for key, value in rest.items() if key not in UNIONS}}
        return self.flat(both(cleaned(target), rest), path, hops + 1)

    def _united(self, spec: Schema, path: str, hops: int) -> Schema:
        told = {key: spec[key] for key in UNIONS if key in spec}
        self.changes.types.setdefault(path, told)
        rest = {key: value for key, value in spec.items() if key not in UNIONS}
        if hops >= MAX_HOPS:
            return {"type": "any", **rest}
        for key, members in told.items():
            given = [{} if member is True else member for member in members]
            parts = [self.flat(member, path, hops + 1) for member in given if isinstance(member, dict)]
            if path == "":
                parts = [part for part in parts if may_be_object(part)] or parts[:1]
            joint = Schema() if key == "allOf" else either(parts, fields=path == "" or "properties" in rest)
            for part in parts if key == "allOf" else ():
                joint = both(joint, part)
            rest = both(joint, rest)
        return rest

    def _conditioned(self, spec: Schema, path: str, hops: int) -> Schema:
        """The keys that only conditions name are keys of the object, too."""
        parts = [spec[key] for key in CONDITIONS if isinstance(spec.get(key), dict)]
        for key in ("dependentSchemas", "dependencies"):
            named = spec[key].values() if isinstance(spec.get(key), dict) else ()
            parts += [part for part in named if isinstance(part, dict)]
        if not parts or hops >= MAX_HOPS or openness(spec) is not None:
            return spec
        more = either_keys([self.flat(part, path, hops + 1) for part in parts]).get("properties", {})
        own = spec["properties"] if isinstance(spec.get("properties"), dict) else {}
        return {**spec, "properties": {**own, **{name: part for name, part in more.items() if name not in own}}}


def lookup(root: Schema, reference: Any) -> Any:
    """What a reference into the same document ("#/$defs/Point") names; None for any other."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    node: Any = root
    for step in reference[2:].split("/"):
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        node = node.get(step) if isinstance(node, dict) else None
    return node


class SchemaReader:
    """Writes the schemas of one tool and notes what it changes."""

    def __init__(self, root: Schema, changes: Changes) -> None:
        self.changes = changes
        self.flattener = Flattener(root, changes)

    def object(self, given: Schema, path: str, depth: int = 0) -> Schema:
        """An object: all the arguments of a tool, or one that has fields. `given` is flat."""
        dot = path if not path or path.endswith(":") else path + "."
        properties, given = self.properties(given, dot)
        flagged = [name for name, spec in properties.items() if flag_of(spec.get("required"))]
        listed = self.required(given, list(properties), dot, nested=depth > 0)
        if listed and set(flagged) - set(listed):
            self.changes.values[f"{dot}required"] = {name: True for name in flagged}
        out: Schema = {"type": "dict"}
        out["properties"] = {name: self.schema(spec, dot + name, depth + 1) for name, spec in properties.items()}
        out["required"] = listed or flagged
        extra = self.extra(given, dot, depth)
        if extra is not None:
            out["additionalProperties"] = extra
        if isinstance(given.get("propertyNames"), dict):
            names = _bare(self.schema({"type": "string", **given["propertyNames"]}, dot + "*", depth + 1))
            out |= {"propertyNames": names} if names.keys() - {"type"} else {}
        for key in ABOUT_KEYS:
            if key in given:
                put_constraint(key, given[key], out, dot, self.changes)
        self.changes.drop(given, out.keys() | {*ABOUT_KEYS} | (_ROOT if depth == 0 else _READ))
        return out

    def properties(self, given: Schema, dot: str) -> tuple[dict[str, Schema], Schema]:
        """The schemas of the keys by name, and the object around them without the keywords that stood among them."""
        table = given.get("properties")
        if isinstance(table, str):
            table = inside(table, "`properties`")
        if not isinstance(table, dict):
            return {name: as_spec(spec) for name, spec in as_pairs(table)}, given
        word = table.get("type")
        if isinstance(table.get("properties"), dict) and isinstance(word, str) and is_object_type(word):
            self.changes.values[f"{dot}properties.type"] = word             # the whole schema, one level too deep
            around = {key: value for key, value in given.items() if key != "properties"}
            return self.properties(both(cleaned(table), around), dot)
        properties: dict[str, Schema] = {}
        for name, spec in table.items():
            if spec is None:
                self.changes.nulls.append(dot + name)
            elif spec is False or not isinstance(spec, dict | bool) and _misplaced(name, spec):
                self.changes.values[f"{dot}properties.{name}"] = spec
                given = given if spec is False or given.get(name) else {**given, name: spec}
            elif isinstance(spec, bool) and name == "additionalProperties":
                given = {name: spec, **given}
            else:
                properties[name] = as_spec(spec)
        return properties, given

    def required(self, given: Schema, known: list[str], dot: str, *, nested: bool = False) -> list[str]:
        """The names under `required`: a list, a name or several in a text, names with flags. The rest is noted."""
        told = given.get("required")
        if isinstance(told, str) and told.strip()[:1] in ("[", "{"):
            told = inside(told, "`required`")
        names, fits = _required_names(told, known)
        if not fits and not (nested and flag_of(told) is not None):
            self.changes.values[f"{dot}required"] = told
        return names

    def extra(self, given: Schema, dot: str, depth: int) -> Schema | bool | None:
        """What keys beside the listed ones may hold, as the record says it."""
        extra = openness(given)
        if not isinstance(extra, dict):
            return extra
        out = _bare(self.schema(extra, dot + "*", depth + 1))
        return True if out == {"type": "any"} else out

    def schema(self, spec: Schema, path: str, depth: int = 0) -> Schema:
        """One argument, item or field."""
        if depth > MAX_JSON_DEPTH // 2:
            raise TypeError("nested too deeply")
        self.changes.nulls += [f"{path}.{key}" for key in _NULLED if key in spec and spec[key] is None]
        spec = self.flattener.flat(spec, path)
        info = self.kind(spec, path)
        kind = info.schema["type"]
        out: Schema = {"type": with_null(info)["type"], "description": text_of(first(spec, ("description", "desc")))}
        if kind == "dict":
            self.fields(spec, out, path, depth)
        elif "properties" in spec:
            self.changes.dropped.add("properties")
        if kind == "array":
            out |= self.items(spec, info, path, depth)
        put_enum(spec, info, out, path, self.changes)
        put_default(spec, kind, out, path, self.changes)
        for key in KEPT:
            if key in spec:
                put_constraint(key, spec[key], out, path + ".", self.changes)
        self.changes.drop(spec, out.keys() | _READ)
        return out

    def fields(self, spec: Schema, out: Schema, path: str, depth: int) -> None:
        """What the schema of an object says of its keys, but not of those of results whether they are required."""
        inner = self.object(spec, path, depth + 1)
        if spec.get("properties") is not None:
            out["properties"] = inner["properties"]
        if inner["required"] and not path.startswith("results:"):
            out["required"] = inner["required"]
        out |= {key: inner[key] for key in ("additionalProperties", "propertyNames", *ABOUT_KEYS) if key in inner}

    def items(self, spec: Schema, info: TypeInfo, path: str, depth: int) -> Schema:
        """What the schema of an array says of its items: `prefixItems` of the first ones, `items` of the others."""
        given = spec.get("items")
        first_ones = given if isinstance(given, list) else spec.get("prefixItems")
        if isinstance(first_ones, list) and first_ones:
            parts = [_bare(self.schema(as_spec(part), path + ".items", depth + 1)) for part in first_ones]
            rest = spec.get("additionalItems") if isinstance(given, list) else given
            return {"prefixItems": parts, **self.other_items(rest, path, depth)}
        given = as_spec(given) if isinstance(given, str) and given.lstrip().startswith("{") else given
        if isinstance(given, dict) and given or given is False:
            return self.other_items(given, path, depth)
        if given:
            self.changes.dropped.add("items")
        return {"items": dict(info.schema["items"])} if "items" in info.schema else {}

    def other_items(self, rest: Any, path: str, depth: int) -> Schema:
        """`items` of those after the first ones: false where there may be none, nothing where anything goes."""
        if rest is False:
            return {"items": False}
        if isinstance(rest, dict) and rest:
            return {"items": _bare(self.schema(rest, path + ".items", depth + 1))}
        if rest not in (None, True, {}):
            self.changes.dropped.add("items")
        return {}

    def kind(self, spec: Schema, path: str) -> TypeInfo:
        """The type of a flat schema; what stood there is noted where it differs."""
        word = spec.get("type")
        if isinstance(word, str) and word.strip().lower() == "enum" and first(spec, VALUES):
            info = TypeInfo({"type": guess_type(spec)})             # its values have a type, the word names none
        elif isinstance(word, str) and word.strip():
            info = read_type(word)
        elif isinstance(word, list) and word and all(isinstance(part, str) for part in word):
            info = union_of(word)
        else:
            word, info = None, TypeInfo({"type": guess_type(spec)})
        info = info._replace(nullable=info.nullable or spec.get("nullable") is True)
        if word != with_null(info)["type"]:
            self.changes.types.setdefault(path, word)
        return info


def _required_names(told: Any, known: list[str]) -> tuple[list[str], bool]:
    """The names that a `required` lists, flags or spells as one text, and whether that says all that it says."""
    if isinstance(told, dict):
        names = [name for name, needed in told.items() if flag_of(needed)]
        return names, all(flag_of(needed) is not None for needed in told.values())
    if isinstance(told, str):
        parts = [name.strip() for name in told.replace(";", ",").split(",")]
        names = [told] if told in known else [name for name in parts if name]
        fits = all(name in known for name in names)
        return names if fits else [], fits
    return names_of(told), told is None or is_names(told)


def _bare(schema: Schema) -> Schema:
    """A schema of items or of further keys: it needs no description."""
    if not schema["description"]:
        del schema["description"]
    return schema


def _misplaced(name: str, value: Any) -> bool:
    """A keyword of the object that slipped in among its properties."""
    if name == "type" and isinstance(value, str) and read_type(value).known and not is_object_type(value):
        return False
    if isinstance(value, str) and name != "type" and (value.lstrip().startswith("{") or read_type(value).known):
        return False
    return is_keyword(name, value)
