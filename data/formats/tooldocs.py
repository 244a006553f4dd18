"""One tool document, however a corpus spells it -> the record of data/schema.py, and a record of what was changed.

Reads JSON Schema objects (OpenAI, BFCL, MCP, ToolACE), flat dictionaries of arguments (xLAM, Seal-Tools, API-Bank,
NESTFUL), two lists of required and optional ones (ToolBench, MTU-Bench) and lists of {name, type, desc} (TaskBench).
Type words become the canonical ones; enums, defaults and nested schemas are carried over. Every change is kept:

    types     path -> the type word (or union) as it stood, where it differs; null where there was none
    values    path.default or path.enum -> the value as it stood, where it was re-typed or left out
    dropped   names of schema keys that the record has no room for (`pattern`, `$schema`, `title`, ...)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from data.formats.items import RowError
from data.formats.typewords import TypeInfo, has_type, read_type, union_of, value_of_type
from data.schema import MAX_JSON_DEPTH

_NAMES = ("name", "api_name", "tool_name", "id")
_DESCRIPTIONS = ("description", "api_description", "desc")
_PARAMETERS = ("parameters", "arguments", "input_schema", "inputSchema", "input_parameters", "query_parameters", "path_parameters")
_RESULTS = ("results", "responses", "output_parameters", "result_parameters", "return", "output_schema", "outputSchema")
_KEPT = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minLength", "maxLength",
         "format", "examples")
_READ = {*_KEPT, "name", "type", "description", "desc", "enum", "allowed_values", "possible_values", "const", "default",
         "default_value", "required", "items", "properties", "optional"}
_DEFAULTS = ("default", "default_value")
_UNIONS = ("anyOf", "oneOf", "allOf")
_PLAIN = {"name", "description", "parameters"}
_BESIDE = {"required", "required_parameters", "optional_parameters", "path_parameters"}
MAX_REFERENCES = 200        # per tool: a schema may refer to itself, and in several places
MAX_REFERENCE_DEPTH = 4     # below this many levels of fields a reference becomes `any`


class ToolDoc(NamedTuple):
    """A normalised tool record ({"name", "description", "arguments", "results"?}) and what was changed on the way."""

    record: dict[str, Any]
    changes: dict[str, Any]


def read_tool(raw: Any) -> ToolDoc:
    """Normalise one tool document.

    Raises:
        RowError: it is no object, has no name, or its parameters have no shape that is known here.
    """
    if isinstance(raw, dict) and isinstance(raw.get("function"), dict):
        raw = raw["function"]
    if not isinstance(raw, dict):
        raise RowError("bad_tool", f"a tool must be an object, found {type(raw).__name__}", stage="tools")
    name = first(raw, _NAMES)
    if not isinstance(name, str) or not name.strip():
        raise RowError("tool_without_name", f"the tool has the keys {sorted(raw)[:12]}", stage="tools")
    reader = _Reader(raw)
    try:
        record = {"name": name, "description": text_of(first(raw, _DESCRIPTIONS)), "arguments": reader.arguments(raw)}
        results = reader.results(raw)
        if raw.keys() - _PLAIN:
            reader.beside(raw)
    except (TypeError, AttributeError, RecursionError) as error:
        raise RowError("bad_tool", f"tool {name!r}: a schema of no known shape ({error})", stage="tools") from None
    if results:
        record["results"] = results
    return ToolDoc(record, reader.changes())


def first(obj: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """The value of the first of the keys that is there and not null."""
    for key in keys:
        if obj.get(key) is not None:
            return obj[key]
    return None


def text_of(value: Any) -> str:
    """Free text out of a document field: null becomes empty, a list of strings (Swagger does that) is joined."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(text_of(part) for part in value)
    return value if isinstance(value, str) else str(value)


class _Reader:
    """Reads the schemas of one tool and notes what it changes."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.types: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.dropped: set[str] = set()
        self.references = 0

    def changes(self) -> dict[str, Any]:
        found = {"types": self.types, "values": self.values, "dropped": sorted(self.dropped)}
        return {key: value for key, value in found.items() if value}

    def beside(self, raw: dict[str, Any]) -> None:
        """Note what stands in a tool document beside the name, description, arguments and results that were read."""
        read = {next((key for key in keys if raw.get(key) is not None), "") for keys in (_NAMES, _DESCRIPTIONS, _PARAMETERS, _RESULTS)}
        self.drop({key: value for key, value in raw.items() if value is not None}, read | _BESIDE)

    # ------------------------------------------------------------------------------------------- the four spellings

    def arguments(self, raw: dict[str, Any]) -> dict[str, Any]:
        if "required_parameters" in raw or "optional_parameters" in raw:
            needed = _as_pairs(raw.get("required_parameters"))
            return self.flat([*needed, *_as_pairs(raw.get("optional_parameters"))], [name for name, _ in needed])
        given = first(raw, _PARAMETERS)
        beside = raw.get("required") if isinstance(raw.get("required"), list) else None
        if _is_indirect(given):
            self.root = given
            given = {"type": "object", **self.resolve(given, "")}
        elif _is_schema(given):
            self.root = given
        if _is_schema(given):
            out = self.object(given, "")
            if beside and not out["required"]:
                out["required"] = _names(beside)
            return out
        pairs = _as_pairs(given)
        if given is not raw.get("path_parameters"):     # NESTFUL: those in the path of a URL beside those of its query
            pairs = [*_as_pairs(raw.get("path_parameters")), *pairs]
        return self.flat(pairs, beside)

    def results(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        given = first(raw, _RESULTS)
        if _is_schema(given):
            out = self.object(given, "results:")
        elif isinstance(given, dict) and "type" in given and isinstance(given["type"], str):
            return self.schema(given, "results:")
        else:
            out = self.flat(_as_pairs(given), [], prefix="results:")
        return {"type": "dict", "properties": out["properties"]} if out["properties"] else None

    def flat(self, pairs: list[tuple[str, Any]], required: list[str] | None, prefix: str = "") -> dict[str, Any]:
        """Arguments outside a JSON Schema. Without a list or flags, what has no default and is not `optional` is required."""
        flags = required is None and any(isinstance(spec, dict) and isinstance(spec.get("required"), bool) for _, spec in pairs)
        properties: dict[str, Any] = {}
        needed: list[str] = []
        for name, spec in pairs:
            spec = _as_spec(spec)
            if name in properties:
                self.values[f"{prefix}{name}.repeated"] = spec
                continue
            properties[name] = self.schema(spec, prefix + name)
            word = spec.get("type")
            optional = bool(spec.get("optional")) or (isinstance(word, str) and read_type(word).optional)
            if required is not None:
                wanted = name in required
            elif flags:
                wanted = spec.get("required") is True
            else:
                wanted = not optional and not any(key in spec for key in _DEFAULTS)
            if wanted:
                needed.append(name)
        return {"type": "dict", "properties": properties, "required": needed}

    # ------------------------------------------------------------------------------------------------- JSON Schema

    def object(self, given: dict[str, Any], path: str, depth: int = 0) -> dict[str, Any]:
        properties = given.get("properties") or {}
        dot = path if not path or path.endswith(":") else path + "."
        self.drop(given, {"type", "properties", "required", "description", "components", "$defs", "definitions"} if depth == 0
                  else {*_READ, *_UNIONS, "$ref"})
        flagged = [name for name, spec in properties.items() if isinstance(spec, dict) and spec.get("required") is True]
        listed = _names(given.get("required"))
        return {"type": "dict",
                "properties": {name: self.schema(_as_spec(spec), dot + name, depth + 1) for name, spec in properties.items()},
                "required": listed or flagged}

    def schema(self, spec: dict[str, Any], path: str, depth: int = 0) -> dict[str, Any]:
        """One argument, item or field."""
        if depth > MAX_JSON_DEPTH // 2:
            raise TypeError("nested too deeply")
        if "$ref" in spec or any(key in spec for key in _UNIONS):
            spec = self.resolve(spec, path)
        info = self.kind(spec, path)
        kind = info.schema["type"]
        out: dict[str, Any] = {"type": kind, "description": text_of(first(spec, ("description", "desc")))}
        if kind == "dict" and isinstance(spec.get("properties"), dict):
            inner = self.object(spec, path, depth + 1)
            out["properties"] = inner["properties"]
            if inner["required"] and not path.startswith("results:"):
                out["required"] = inner["required"]
        elif "properties" in spec:
            self.dropped.add("properties")
        if kind == "array":
            items = self.items(spec, info, path, depth)
            if items:
                out["items"] = items
        self.values_of(spec, info, out, path)
        for key in _KEPT:
            if key in spec:
                out[key] = spec[key]
        self.drop(spec, _READ)
        return out

    def items(self, spec: dict[str, Any], info: TypeInfo, path: str, depth: int) -> dict[str, Any] | None:
        given = spec.get("items")
        if isinstance(given, dict) and given:
            out = self.schema(given, path + ".items", depth + 1)
            if not out["description"]:
                del out["description"]
            return out
        if given:
            self.dropped.add("items")
        return dict(info.schema["items"]) if "items" in info.schema else None

    def kind(self, spec: dict[str, Any], path: str) -> TypeInfo:
        """The type of a spec; what stood there is noted where it differs."""
        word = spec.get("type")
        if isinstance(word, str) and word.strip():
            info = read_type(word)
            if word != info.schema["type"]:
                self.types.setdefault(path, word)
            return info
        if isinstance(word, list) and word and all(isinstance(part, str) for part in word):
            self.types.setdefault(path, word)
            return union_of(word)
        self.types.setdefault(path, None)
        return TypeInfo({"type": _guess(spec)})

    def resolve(self, spec: dict[str, Any], path: str, hops: int = 0) -> dict[str, Any]:
        """Replace a local $ref by what it names and a union by one schema. References to other documents become `any`."""
        if "$ref" in spec:
            self.types.setdefault(path, {"$ref": spec["$ref"]})
            self.references += 1
            target = _lookup(self.root, spec["$ref"]) if hops < 8 and self.references <= MAX_REFERENCES else None
            rest = {key: value for key, value in spec.items() if key != "$ref"}
            if not isinstance(target, dict) or path.count(".") > MAX_REFERENCE_DEPTH:
                return {"type": "any", **rest}
            spec = {**target, **rest}
            return self.resolve(spec, path, hops + 1) if "$ref" in spec or any(key in spec for key in _UNIONS) else spec
        key = next(key for key in _UNIONS if key in spec)
        members = [member for member in spec[key] if isinstance(member, dict)]
        self.types.setdefault(path, {key: spec[key]})
        members = [self.resolve(m, path, hops + 1) if hops < 8 and ("$ref" in m or any(k in m for k in _UNIONS)) else m for m in members]
        rest = {name: value for name, value in spec.items() if name not in _UNIONS}
        solid = [member for member in members if member.get("type") != "null"]
        if len(solid) == 1:
            return {**solid[0], **rest}
        if key == "allOf" or path == "":
            return _merged([*solid, rest], every=key == "allOf")
        words = [member.get("type") if isinstance(member.get("type"), str) else _guess(member) for member in solid]
        joint = union_of(words).schema if words else {"type": "any"}
        if solid and all(isinstance(member.get("enum"), list) for member in solid):
            rest.setdefault("enum", [value for member in solid for value in member["enum"]])
        return {**joint, **{name: value for name, value in rest.items() if name != "type"}}

    # ------------------------------------------------------------------------------------------- defaults and enums

    def values_of(self, spec: dict[str, Any], info: TypeInfo, out: dict[str, Any], path: str) -> None:
        kind = out["type"]
        enum = first(spec, ("enum", "allowed_values", "possible_values")) or info.schema.get("enum")
        if enum is None and "const" in spec:
            enum = [spec["const"]]
        if isinstance(enum, dict):
            enum = list(enum.values()) if all(isinstance(v, str) for v in enum.values()) else list(enum)
        if isinstance(enum, list) and enum and not (len(enum) == 1 and enum[0] in ("", None)):
            typed = [value if has_type(value, kind) else value_of_type(value, kind) for value in enum
                     if value is not None or kind in ("any", "null")]
            if typed and (kind in ("any", "null") or all(value is not None for value in typed)):
                out["enum"] = typed
            if typed != enum or "enum" not in out:
                self.values[path + ".enum"] = enum
        elif enum is not None and enum != []:
            self.values[path + ".enum"] = enum
        default = first(spec, _DEFAULTS)
        if default is None:
            if any(key in spec for key in _DEFAULTS):
                self.values[path + ".default"] = None
            return
        typed_default = default if has_type(default, kind) else value_of_type(default, kind)
        if typed_default is not None:
            out["default"] = typed_default
        if typed_default is None or type(typed_default) is not type(default):
            self.values[path + ".default"] = default

    def drop(self, spec: dict[str, Any], read: set[str]) -> None:
        for key in spec:
            if key not in read:
                self.dropped.add(key)


def _names(given: Any) -> list[str]:
    """A `required` list: its strings, each once."""
    return list(dict.fromkeys(name for name in given if isinstance(name, str))) if isinstance(given, list) else []


def _is_schema(given: Any) -> bool:
    """JSON Schema for an object, as opposed to a flat dictionary whose arguments may be called `type` or `properties`."""
    if not isinstance(given, dict):
        return False
    if isinstance(given.get("$schema"), str) and "properties" not in given:
        return True
    if isinstance(given.get("properties"), dict):
        return isinstance(given.get("type"), str) or all(isinstance(spec, dict) for spec in given["properties"].values())
    return isinstance(given.get("type"), str) and read_type(given["type"]).schema["type"] == "dict" and not any(
        isinstance(value, dict) and "type" in value for value in given.values())


def _as_pairs(given: Any) -> list[tuple[str, Any]]:
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


def _as_spec(spec: Any) -> dict[str, Any]:
    """A parameter's schema; a bare string is its type word if it is one, else its default (MTU-Bench) or description."""
    if isinstance(spec, dict):
        return spec
    if isinstance(spec, str):
        info = read_type(spec) if spec.strip() else None
        return {"type": spec} if info and info.known else {"default": spec}
    return {} if spec is None or isinstance(spec, bool) else {"default": spec}


def _guess(spec: dict[str, Any]) -> str:
    """The type of a schema without a type word, from what else it says; `any` where it says nothing."""
    if isinstance(spec.get("properties"), dict):
        return "dict"
    if isinstance(spec.get("items"), dict):
        return "array"
    samples = spec.get("enum") or spec.get("allowed_values") or [first(spec, ("const", *_DEFAULTS))]
    if isinstance(samples, list) and samples and all(isinstance(value, str) for value in samples):
        return "string"
    return "any"


def _is_indirect(given: Any) -> bool:
    """A schema of all arguments that says by a reference or a union what they are, not by `properties` of its own."""
    return isinstance(given, dict) and not isinstance(given.get("properties"), dict) and (
        isinstance(given.get("$ref"), str) or any(isinstance(given.get(key), list) for key in _UNIONS))


def _merged(members: list[dict[str, Any]], *, every: bool) -> dict[str, Any]:
    """Several schemas as one, their fields together; required is what each member requires, or (`every`) any of them."""
    out: dict[str, Any] = {}
    for member in members:
        out |= member
    fields = [member["properties"] for member in members if isinstance(member.get("properties"), dict)]
    if fields:
        out["properties"] = {name: spec for part in fields for name, spec in part.items()}
        lists = [_names(member.get("required")) for member in members if every or isinstance(member.get("properties"), dict)]
        out["required"] = [name for name in out["properties"] if (any if every else all)(name in names for names in lists)]
    return out


def _lookup(root: dict[str, Any], reference: Any) -> Any:
    """What a reference into the same document ("#/$defs/Point") names; None for any other."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    node: Any = root
    for step in reference[2:].split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        node = node.get(step) if isinstance(node, dict) else None
    return node
