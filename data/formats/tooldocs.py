"""One tool document, however a corpus spells it -> the record of data/schema.py, and a record of what was changed.

Reads JSON Schema objects (OpenAI, BFCL, MCP, ToolACE), flat dictionaries of arguments (xLAM, Seal-Tools, API-Bank,
NESTFUL, Cohere, smolagents), two lists of required and optional ones (ToolBench, MTU-Bench) and lists of {name, type,
desc} (TaskBench), any of them also as JSON text. Type words become the canonical ones; enums, defaults, open objects
and nested schemas are carried over (schemas.py). Every change is kept:

    types     path -> the type word (or union) as it stood, where it differs; null where there was none
    values    path and keyword -> the value as it stood, where it was re-typed or left out
    dropped   names of schema keys that the record has no room for (`pattern`, `$schema`, `title`, ...)
    nulls     paths of properties and keywords that are null, which tables (Arrow, Parquet) write where another row has
              one; left out
"""

import re
from typing import Any, NamedTuple

from data.formats.items import RowError
from data.formats.keywords import ANNOTATIONS, UNIONS, Schema, is_keyword, is_object_type
from data.formats.schemas import SchemaReader, as_pairs, as_spec, flag_of, inside, text_of
from data.formats.typewords import read_type
from data.formats.values import DEFAULTS, Changes, first

_NAMES = ("name", "api_name", "tool_name", "id")
DESCRIPTIONS = ("description", "api_description", "desc")
PARAMETERS = ("parameters", "arguments", "input_schema", "inputSchema", "input_parameters", "query_parameters",
              "path_parameters", "parameter_definitions", "parametersJsonSchema", "parameters_json_schema", "params",
              "args", "args_schema", "inputs")
_RESULTS = ("results", "responses", "output_parameters", "result_parameters", "return", "output_schema", "outputSchema")
_OUTPUTS = {*_RESULTS, "returns", "response", "output", "outputs", "result", "output_type", "errors", "examples",
            "annotations", "metadata", "_meta", "function"}
_PLAIN = {"name", "description", "parameters"}
_BESIDE = {"required", "required_parameters", "optional_parameters", "path_parameters"}
_LISTS = ("required_parameters", "optional_parameters")
_TELLING = ("additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames", "$schema")
_SCHEMA_OF_TOOL = ("properties", "required", "additionalProperties", "$defs", "definitions")
_WHOLE_SCHEMA = {*_SCHEMA_OF_TOOL, "type", "$schema", "title"}
_HOSTED = re.compile(r"_20\d{6}$")          # Anthropic's own tools carry the date of their version in the type
_SOURCES = {key: re.compile(pattern) for keys, pattern in (
    ("signature function_signature prototype declaration usage", r"\w\(\s*[^)\s]"),
    ("code source implementation", r"(?:def|function)\s+\w+\(\s*(?!self\s*\))[^)\s]"),
    ("docstring doc", r"\b(?:Args|Parameters)\s*:|[:@]param\b"),
) for key in keys.split()}                  # texts that tell what a tool takes
_ABOUT_ARGUMENTS = ("items", "contains", "not", "default", "const", "example", "examples", "if", "then", "else")


class ToolDoc(NamedTuple):
    """A normalised tool record ({"name", "description", "arguments", "results"?}) and what was changed on the way."""

    record: dict[str, Any]
    changes: dict[str, Any]


def read_tool(raw: Any) -> ToolDoc:
    """Normalise one tool document.

    Raises:
        RowError: it is no object, has no name, or its parameters have no shape that is known here.
    """
    raw = _unwrapped(raw)
    if not isinstance(raw, dict):
        raise RowError("bad_tool", f"a tool must be an object, found {type(raw).__name__}", stage="tools")
    name = first(raw, _NAMES)
    if not isinstance(name, str) or not name.strip():
        raise RowError("tool_without_name", f"the tool has the keys {sorted(raw)[:12]}", stage="tools")
    if isinstance(raw.get("type"), str) and _HOSTED.search(raw["type"]) and not _parameters_of(raw):
        shown = f"{name!r} is run by its service ({raw['type']!r:.40}), which documents no parameters here"
        raise RowError("no_parameters", shown, stage="tools")
    reader = _Reader(raw)
    try:
        record = {"name": name, "description": text_of(first(raw, DESCRIPTIONS)), "arguments": reader.arguments(raw)}
        results = reader.results(raw)
        if raw.keys() - _PLAIN:
            reader.beside(raw)
    except RowError as error:
        raise RowError(error.reason, f"tool {name!r}: {error}", stage="tools") from None
    except (TypeError, AttributeError, RecursionError) as error:
        raise RowError("bad_tool", f"tool {name!r}: a schema of no known shape ({error})", stage="tools") from None
    if results:
        record["results"] = results
    return ToolDoc(record, reader.changes.report())


def _unwrapped(raw: Any) -> Any:
    """The tool itself out of JSON text and out of `function` or `toolSpec` around it."""
    for key in (None, "function", "toolSpec"):
        wrapper = raw if isinstance(raw, dict) else {}
        inner = wrapper.get(key)
        if isinstance(inner, dict) or isinstance(inner, str) and inner.lstrip().startswith("{"):
            raw = inner
        if isinstance(raw, str):
            raw = inside(raw, "a tool")
        if raw is not wrapper and isinstance(raw, dict):
            raw = {**raw, **_displaced(wrapper, raw)}
    return raw


def _displaced(wrapper: dict[str, Any], tool: dict[str, Any]) -> dict[str, Any]:
    """The parameters and the description that stand beside the `function` that they belong to, where it has none."""
    parameters = () if _parameters_of(tool) or any(key in tool for key in (*_LISTS, "properties")) else (
        *PARAMETERS, *_LISTS, "required")
    described = () if first(tool, DESCRIPTIONS) is not None else DESCRIPTIONS
    whole = {key: wrapper[key] for key in described if isinstance(wrapper.get(key), str)}
    return whole | {key: wrapper[key] for key in parameters if isinstance(wrapper.get(key), dict)
                    or isinstance(wrapper.get(key), list) and (key == "required" or all(
                        isinstance(part, dict) for part in wrapper[key]))}


class _Reader:
    """Reads the arguments and results of one tool in any of the spellings."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.changes = Changes()
        self.schemas = SchemaReader(raw, self.changes)

    def beside(self, raw: dict[str, Any]) -> None:
        """Note what stands in a tool document beside the name, description, arguments and results that were read."""
        kinds = (_NAMES, DESCRIPTIONS, _RESULTS)
        read = {next((key for key in keys if raw.get(key) is not None), "") for keys in kinds}
        read |= set() if _parameters_of(raw) else {*_SCHEMA_OF_TOOL}
        told = {key: value for key, value in raw.items() if value is not None}
        self.changes.drop(told, read | _BESIDE | {_parameters_of(raw)})

    def arguments(self, raw: dict[str, Any]) -> Schema:
        if any(key in raw for key in _LISTS):
            needed = as_pairs(_told(raw, "required_parameters"))
            optional = as_pairs(_told(raw, "optional_parameters"))
            defaults = [(name, {"default": told} if isinstance(told, str) and not read_type(told).known else told)
                        for name, told in optional]         # MTU-Bench lists them as names and defaults
            return self.flat([*needed, *defaults], [name for name, _ in needed])
        key = _parameters_of(raw)
        given = _told(raw, key)
        if not key and isinstance(raw.get("properties"), dict):     # the tool is its schema, too
            given = {**{word: raw[word] for word in _SCHEMA_OF_TOOL if word in raw}, "type": "object"}
        if not given:
            _refuse_unread(raw)
        given = _whole_schema(key, given)
        schema = as_schema(given)
        if schema is not None:
            return self.all_of_them(schema, raw)
        pairs = as_pairs(given)
        if key == "inputs" and any("type" not in as_spec(spec) for _, spec in pairs):
            shown = f"`inputs` names kinds of input, no parameters: {given!r:.80}"
            raise RowError("no_parameters", shown, stage="tools")
        if key != "path_parameters":            # NESTFUL: those in the path of a URL beside those of its query
            pairs = [*as_pairs(_told(raw, "path_parameters")), *pairs]
        beside = raw.get("required")
        listed = beside is not None and not isinstance(beside, bool)
        required = self.schemas.required(raw, [name for name, _ in pairs], "") if listed else None
        return self.flat(pairs, required)

    def all_of_them(self, schema: Schema, raw: dict[str, Any]) -> Schema:
        """The arguments as one schema says them. Raises RowError where it is the schema of something else."""
        self.schemas.flattener.root = schema
        united = any(isinstance(schema.get(key), list) for key in UNIONS)
        flat = self.schemas.flattener.flat(schema, "")
        word = flat.get("type", "object")
        kinds = {read_type(part).schema["type"] for part in (word if isinstance(word, list) else [word])}
        if "$ref" in schema and kinds == {"any"} and "properties" not in flat:
            shown = f"its parameters refer to {schema['$ref']!r:.80}, which the document does not hold"
            raise RowError("bad_tool", shown, stage="tools")
        if not kinds & {"dict", "any"} and kinds != {"null"} and not isinstance(flat.get("properties"), dict):
            shown = f"its parameters are of type {word!r:.80}; expected an object with properties"
            raise RowError("bad_tool", shown, stage="tools")
        out = self.schemas.object(flat, "")
        if not out["properties"] and (united or kinds == {"any"}) and not flat.get("properties"):
            out.setdefault("additionalProperties", True)
        if not out["required"] and "required" in raw:
            out["required"] = self.schemas.required(raw, list(out["properties"]), "")
        return out

    def results(self, raw: dict[str, Any]) -> Schema | None:
        given = first(raw, _RESULTS)
        if isinstance(given, str) and given.lstrip()[:1] in ("{", "["):
            given = inside(given, "the results")
        schema = as_schema(given)
        named = schema is not None and isinstance(schema.get("properties"), dict)
        if schema is not None and (named or is_object_type(schema.get("type", "object"))):
            out = self.schemas.object(self.schemas.flattener.flat(schema, "results:"), "results:")
        elif isinstance(given, dict) and isinstance(given.get("type"), str):
            return self.schemas.schema(given, "results:")
        else:
            out = self.flat(as_pairs(given), [], prefix="results:")
        return {"type": "dict", "properties": out["properties"]} if out["properties"] else None

    def flat(self, pairs: list[tuple[str, Any]], required: list[str] | None, prefix: str = "") -> Schema:
        """Arguments outside a JSON Schema. Without a list or flags, what has no default and is not `optional` is
        required."""
        pairs = [(name, spec if spec is None else as_spec(spec)) for name, spec in pairs]
        flags = required is None and any(
            isinstance(spec, dict) and flag_of(spec.get("required")) is not None for _, spec in pairs)
        properties: Schema = {}
        needed: list[str] = []
        for name, spec in pairs:
            if spec is None:
                self.changes.nulls.append(prefix + name)
                continue
            if name in properties:
                self.changes.values[f"{prefix}{name}.repeated"] = spec
                continue
            properties[name] = self.schemas.schema(spec, prefix + name)
            if required is not None:
                wanted = name in required
            elif flags:
                wanted = flag_of(spec.get("required")) is True
            else:
                wanted = not _may_be_left_out(spec)
            if wanted:
                needed.append(name)
        return {"type": "dict", "properties": properties, "required": needed}


def _may_be_left_out(spec: Schema) -> bool:
    """Does the spec of an argument that nothing calls required or not say that it is optional, or have a default?"""
    word = spec.get("type")
    if isinstance(word, str) and read_type(word).optional or spec.get("nullable") is True:
        return True
    flagged = bool(spec.get("optional")) and flag_of(spec["optional"]) is not False
    return flagged or any(key in spec for key in DEFAULTS)


def _parameters_of(raw: dict[str, Any]) -> str:
    """The key under which a tool's parameters stand: the first that holds something, else the first that is there."""
    there = [key for key in PARAMETERS if raw.get(key) is not None]
    return next((key for key in there if raw[key]), there[0] if there else "")


def _whole_schema(key: str, given: Any) -> Any:
    """The schema that stands alone under another key: Bedrock's `json`, OpenAPI's `schema`, the AI SDK's `jsonSchema`.

    A `schema` with a description, or without properties, is an argument of that name.
    """
    if not isinstance(given, dict) or len(given) != 1:
        return given
    (name, inner), = given.items()
    whole = isinstance(inner, dict) and isinstance(inner.get("properties"), dict) and set(inner) <= _WHOLE_SCHEMA
    bedrock = name == "json" and key in ("inputSchema", "input_schema")
    return inner if bedrock or name in ("schema", "json_schema", "jsonSchema") and whole else given


def _told(raw: dict[str, Any], key: str) -> Any:
    """What stands under the key, out of a text that holds JSON."""
    given = raw.get(key)
    if isinstance(given, str):
        return inside(given, f"`{key}`") if given.strip() else None
    return given


def _refuse_unread(raw: dict[str, Any]) -> None:
    """A tool without parameters whose other keys hold what reads as parameters has them under a name not known here.

    Raises:
        RowError: `no_parameters`.
    """
    if raw.get("type") == "custom" and not _parameters_of(raw):
        raise RowError("no_parameters", "a custom tool takes a text and no parameters", stage="tools")
    for key, value in raw.items():
        if isinstance(value, str) and not _parameters_of(raw) and key in _SOURCES and _SOURCES[key].search(value):
            raise RowError("no_parameters", f"`{key}` tells its parameters in words: {value!r:.80}", stage="tools")
        if key in PARAMETERS or key in _OUTPUTS or key in _LISTS:
            continue
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = inside(value, f"`{key}`") if '"type"' in value or "'type'" in value else None
        specs = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        typed = all(isinstance(spec, dict) and _is_type_of_argument(spec.get("type")) for spec in specs)
        if specs and typed or _holds_properties(value):
            shown = f"`{key}` looks like its parameters, which are read from {', '.join(PARAMETERS)}"
            raise RowError("no_parameters", shown, stage="tools")


def _holds_properties(value: Any) -> bool:
    """Is a schema that lists properties among the objects of a value (OpenAPI's `requestBody`, however deep it is)?"""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, dict) and isinstance(part.get("properties"), dict) and part["properties"]:
            return True
        stack.extend(part.values() if isinstance(part, dict) else part if isinstance(part, list) else ())
    return False


def _is_type_of_argument(word: Any) -> bool:
    return is_keyword("type", word) and word is not None


def as_schema(given: Any) -> Schema | None:
    """JSON Schema for an object, as opposed to a flat dictionary whose arguments may be called `type` or `properties`.

    A schema whose properties stand beside its keywords gets them where they belong. None for anything else.
    """
    if not isinstance(given, dict) or not given:
        return None
    word, properties = given.get("type"), given.get("properties")
    typed = isinstance(word, str) and bool(word.strip()) or isinstance(word, list)
    if isinstance(properties, dict) and (typed or _are_properties(properties)):
        return given
    names = [key for key in given if not is_keyword(key, given[key])]
    if typed and is_object_type(word):
        return given if properties else _gathered(given, names)
    if isinstance(given.get("$ref"), str) or any(isinstance(given.get(key), list) for key in UNIONS):
        return given
    if names or isinstance(properties, dict):
        return None
    prose = all(key in ANNOTATIONS and not read_type(str(value)).known for key, value in given.items())
    told = any(given.get(key) is not None for key in _TELLING) or isinstance(given.get("required"), list)
    return given if typed or told or prose else None


def _are_properties(table: dict[str, Any]) -> bool:
    """The schemas of properties, without a word that says so: objects, null or true, and at least one object."""
    specs = list(table.values())
    return all(spec is None or isinstance(spec, dict | bool) for spec in specs) and (
        not specs or any(isinstance(spec, dict) for spec in specs))


def _gathered(given: Schema, names: list[str]) -> Schema:
    """A schema of an object with its properties, which stood beside its keywords, under `properties`."""
    specs = {name: spec for name in names if isinstance(spec := given[name], dict)
             or isinstance(spec, str) and spec.strip() and read_type(spec).known}
    if not specs:
        return given
    specs |= {name: given[name] for name in _ABOUT_ARGUMENTS
              if isinstance(given.get(name), dict) and "type" in given[name]}
    return {**{key: value for key, value in given.items() if key not in specs}, "properties": specs}
