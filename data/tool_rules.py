"""Is a tool well defined? Each rule stands beside the code it reports, a tool that trips it and one that passes.

Tools come from a model, so they are hostile until proven otherwise: caps on depth, size and number of values come
first, nothing is fetched, resolved, matched as a regular expression or executed, and the work is counted.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from data.budget import MAX_STEPS, OverBudget, counted
from data.canonical import type_words
from data.findings import MAX_FINDINGS, Finding, Rule, rule, show
from data.json_schema import KEYWORDS, json_schema, schemas_under
from data.schema import TYPE_WORDS, WRITTEN_DEPTH, Tool, dump_json, json_fault
from data.values import has_type, type_tests, value_faults

MAX_TOOL_BYTES = 32_768         # one tool as JSON
MAX_TOOLS = 64                  # candidate tools of one query
MAX_TOOLS_BYTES = 131_072       # all of them as JSON
MAX_DEPTH = 12                  # schemas inside schemas: an argument has depth 1, its fields depth 2
MAX_SCHEMAS = 512               # arguments, fields, items and branches of one tool
MAX_VALUES = 8_192              # keys and values of one tool, or of all calls of one answer

TOOL_RULES: list[Rule] = []         # check(tool dict); examples: a tool, as changes of EXAMPLE_TOOL
SCHEMA_RULES: list[Rule] = []       # check(schema, where, role); examples: the schema of an argument

EXAMPLE_TOOL: dict[str, Any] = {
    "name": "convert", "description": "Convert an amount of money.",
    "arguments": {"type": "dict", "required": ["amount"], "properties": {
        "amount": {"type": "number", "description": "How much."},
        "to": {"type": "string", "description": "Target currency.", "enum": ["EUR", "USD"], "default": "EUR"}}}}
_ARGUMENT = {"type": "string", "description": "A city."}
_JUDGED = KEYWORDS.keys() | {"enum", "const", "properties", "required"}     # what may refuse a value of the right type


# ---------------------------------------------------------------------------------------------------------------- tools

@rule(TOOL_RULES, "missing_name", {"name": " "}, {"name": "Division API"})
def _tool_name(tool: dict) -> Iterator[str]:
    if not isinstance(tool.get("name"), str) or not tool["name"].strip():
        yield "the tool has no name"


@rule(TOOL_RULES, "missing_description", {"description": ""}, {"description": "Divide two time series."})
def _tool_description(tool: dict) -> Iterator[str]:
    if not isinstance(tool.get("description"), str) or not tool["description"].strip():
        yield "the tool has no description"


@rule(TOOL_RULES, "missing_arguments", {"arguments": None}, {"arguments": {"type": "dict", "properties": {}}})
def _tool_arguments(tool: dict) -> Iterator[str]:
    if not isinstance(arguments_of(tool), dict):
        yield "the tool has no `arguments` object"


@rule(TOOL_RULES, "bad_arguments", {"arguments": {"city": _ARGUMENT}}, {"arguments": {"type": "dict"}})
def _arguments_shape(tool: dict) -> Iterator[str]:
    schema = arguments_of(tool)
    untyped = isinstance(schema, dict) and "type" not in schema and (not schema or "properties" in schema)
    if isinstance(schema, dict) and type_words(schema) != ("dict",) and not untyped:
        yield f"`arguments` has type {show(schema.get('type'))}; expected \"dict\""


@rule(TOOL_RULES, "bad_results", {"results": "a number"}, {"results": {"type": "dict"}})
def _results_shape(tool: dict) -> Iterator[str]:
    if tool.get("results") is not None and not isinstance(tool["results"], dict):
        yield "`results` is not an object"


def arguments_of(tool: dict) -> Any:
    """The schema of a tool record's arguments, under either spelling."""
    return tool.get("arguments", tool.get("parameters"))


# -------------------------------------------------------------------------------------------------------------- schemas
# role: "arguments", "argument", "field", "part" (items, a branch) or "condition" (only narrows what stands beside it)

@rule(SCHEMA_RULES, "argument_not_object", "string", _ARGUMENT)
def _schema_object(schema: Any, where: str, role: str) -> Iterator[str]:
    if not isinstance(schema, dict) and not (isinstance(schema, bool) and role in ("part", "condition")):
        yield f"{where} is described by {show(schema)}; expected an object"


@rule(SCHEMA_RULES, "missing_type", {"description": "A city."}, {"anyOf": [{"type": "string"}], "description": "x"})
def _schema_type(schema: Any, where: str, role: str) -> Iterator[str]:
    told = ("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref")
    if role in ("argument", "field") and isinstance(schema, dict) and not any(key in schema for key in told):
        yield f"{where} has no type"


@rule(SCHEMA_RULES, "unknown_type", {**_ARGUMENT, "type": "city"}, {**_ARGUMENT, "type": ["string", "null"]})
def _schema_type_word(schema: Any, where: str, role: str) -> Iterator[str]:
    if isinstance(schema, dict) and "type" in schema:
        words = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not words:
            yield f"{where} has an empty list of types"
        for word in words:
            if not isinstance(word, str) or word.strip().lower() not in TYPE_WORDS:
                yield f"{where} has the type {show(word)}"


@rule(SCHEMA_RULES, "missing_argument_description", {"type": "string", "description": ""}, _ARGUMENT)
def _schema_description(schema: Any, where: str, role: str) -> Iterator[str]:
    text = schema.get("description") if isinstance(schema, dict) else None
    if role == "argument" and isinstance(schema, dict) and not (isinstance(text, str) and text.strip()):
        yield f"{where} has no description"


@rule(SCHEMA_RULES, "bad_properties", {**_ARGUMENT, "type": "dict", "properties": ["x"]},
       {**_ARGUMENT, "type": "dict", "properties": {"x": {"type": "string"}}})
def _schema_properties(schema: Any, where: str, role: str) -> Iterator[str]:
    if isinstance(schema, dict) and not isinstance(schema.get("properties", {}), dict):
        yield f"`properties` of {where} is not an object"


@rule(SCHEMA_RULES, "bad_required", {**_ARGUMENT, "type": "dict", "required": "x", "properties": {"x": {}}},
       {**_ARGUMENT, "type": "dict", "required": ["x"], "properties": {"x": {"type": "string"}}})
def _schema_required(schema: Any, where: str, role: str) -> Iterator[str]:
    required = schema.get("required", []) if isinstance(schema, dict) else []
    if isinstance(required, bool) and role != "arguments":
        return                                          # {"required": true} on the argument itself: an older spelling
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield f"`required` of {where} is {show(required)}; expected a list of argument names"
    elif len(set(required)) != len(required):
        yield f"`required` of {where} names an argument twice"


@rule(SCHEMA_RULES, "unknown_required", {**_ARGUMENT, "type": "dict", "required": ["y"], "properties": {"x": {}}},
       {**_ARGUMENT, "type": "dict", "required": ["x"], "properties": {"x": {"type": "string"}}})
def _schema_required_known(schema: Any, where: str, role: str) -> Iterator[str]:
    if not isinstance(schema, dict) or not isinstance(schema.get("required"), list):
        return
    known = schema.get("properties") if isinstance(schema.get("properties"), dict) else {}
    for name in schema["required"]:
        if isinstance(name, str) and name not in known and (known or role == "arguments"):
            yield f"`required` of {where} names {show(name)}, which is not among its arguments"


@rule(SCHEMA_RULES, "empty_enum", {**_ARGUMENT, "enum": []}, {**_ARGUMENT, "enum": ["Paris"]})
def _schema_enum(schema: Any, where: str, role: str) -> Iterator[str]:
    if isinstance(schema, dict) and "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        yield f"the enum of {where} is {show(schema['enum'])}; expected a list with at least one value"


@rule(SCHEMA_RULES, "enum_wrong_type", {**_ARGUMENT, "enum": ["one", 2]}, {**_ARGUMENT, "enum": ["one", "two"]})
def _schema_enum_type(schema: Any, where: str, role: str) -> Iterator[str]:
    values = _enum_of(schema)
    tests = type_tests(schema) if values else []
    for value in values:
        if tests and not any(test(value) for test in tests):
            yield f"the enum of {where} has {show(value)}, which is not of its type"


@rule(SCHEMA_RULES, "enum_misfit", {**_ARGUMENT, "enum": ["Rome", "Oslo"], "maxLength": 3},
      {**_ARGUMENT, "enum": ["Rome", "Oslo"], "maxLength": 4})
def _schema_enum_fits(schema: Any, where: str, role: str) -> Iterator[str]:
    values = _enum_of(schema)
    if values and not KEYWORDS.keys().isdisjoint(schema):
        judge = json_schema({word: value for word, value in schema.items() if word != "enum"})
        for value in (value for value in values if has_type(value, schema)):
            for code, detail in value_faults(value, judge, f"a value of the enum of {where}")[:1]:
                yield f"{detail} ({code})"


@rule(SCHEMA_RULES, "default_wrong_type", {**_ARGUMENT, "default": 5}, {**_ARGUMENT, "default": "Paris"})
def _schema_default(schema: Any, where: str, role: str) -> Iterator[str]:
    default = schema.get("default") if isinstance(schema, dict) else None
    if default is not None and not has_type(default, schema):                       # null stands for "no default"
        yield f"the default of {where} is {show(default)}, which is not of its type"


@rule(SCHEMA_RULES, "default_misfit", {**_ARGUMENT, "type": "integer", "minimum": 1, "default": 0},
      {**_ARGUMENT, "type": "integer", "minimum": 1, "default": 1})
def _schema_default_fits(schema: Any, where: str, role: str) -> Iterator[str]:
    default = schema.get("default") if isinstance(schema, dict) else None
    if default is not None and not _JUDGED.isdisjoint(schema) and has_type(default, schema):
        for code, detail in value_faults(default, json_schema(schema), f"the default of {where}")[:1]:
            yield f"{detail} ({code})"


def _enum_of(schema: Any) -> list[Any]:
    return schema["enum"] if isinstance(schema, dict) and isinstance(schema.get("enum"), list) else []


@rule(SCHEMA_RULES, "bad_constraint", {**_ARGUMENT, "type": "integer", "minimum": "3"},
      {**_ARGUMENT, "type": "integer", "minimum": 3})
def _schema_constraints(schema: Any, where: str, role: str) -> Iterator[str]:
    for word in schema if isinstance(schema, dict) else ():
        if word in KEYWORDS and schema[word] is not None and not KEYWORDS[word][1](schema[word]):
            yield f"`{word}` of {where} is {show(schema[word])}; expected {KEYWORDS[word][0]}"


@rule(SCHEMA_RULES, "reference", {**_ARGUMENT, "$ref": "http://host/city.json"}, _ARGUMENT)
def _schema_reference(schema: Any, where: str, role: str) -> Iterator[str]:
    for word in ("$ref", "$dynamicRef", "$recursiveRef"):
        if isinstance(schema, dict) and word in schema:
            yield f"{where} refers to {show(schema[word])}; write the schema out, references are never followed"


_CONDITIONS = {"not", "if", "then", "else", "contains", "propertyNames", "dependentSchemas"}
_PARTS = {"items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "anyOf", "oneOf", "allOf",
          "prefixItems"}


def _parts(schema: Any, where: str, role: str) -> Iterator[tuple[Any, str, str]]:
    """The schemas directly inside a schema, each with its place and role."""
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    for name, part in properties.items() if isinstance(properties, dict) else ():
        if role == "arguments":
            yield part, f"argument {name[:80]!r}", "argument"
        else:
            yield part, f"{where[-200:]}.{name[:80]}", "condition" if role == "condition" else "field"
    for word in schema:
        if word in _PARTS or word in _CONDITIONS:
            narrows = role == "condition" or word in _CONDITIONS
            for index, part in enumerate(schemas_under(schema, word)):
                place = f"{word}[{index}]" if isinstance(schema[word], list) else word
                yield part, f"{place} of {where[-200:]}", "condition" if narrows else "part"


def _schemas(tool: dict) -> tuple[list[tuple[Any, str, str]], Finding | None]:
    """Every schema of a tool, and the finding that stopped the walk, if one did."""
    found: list[tuple[Any, str, str]] = []
    arguments = arguments_of(tool)
    if isinstance(arguments, dict):
        arguments = {"type": "dict", **arguments}           # the one type that may be left out
    roots = [(arguments, "arguments", "arguments", 0), (tool.get("results"), "results", "part", 1)]
    stack = [root for root in reversed(roots) if isinstance(root[0], dict)]
    while stack:
        schema, where, role, depth = stack.pop()
        found.append((schema, where, role))
        if depth > MAX_DEPTH:
            return found, ("too_deep", f"{where} is nested deeper than {MAX_DEPTH} schemas")
        if len(found) + len(stack) > MAX_SCHEMAS:
            return found, ("too_large", f"more than {MAX_SCHEMAS} arguments and parts")
        stack.extend(reversed([(*part, depth + 1) for part in _parts(schema, where, role)]))
    return found, None


def tool_guard(tool: Any) -> Finding | None:
    """What must hold before the rules may look: an object of strict JSON values, within the caps."""
    if not isinstance(tool, dict):
        return "not_an_object", f"a tool is {type(tool).__name__}; expected an object"
    fault = json_fault(tool, MAX_VALUES, WRITTEN_DEPTH)
    if fault:
        return fault
    size = len(dump_json(tool).encode())
    return ("too_large", f"{size} bytes; at most {MAX_TOOL_BYTES}") if size > MAX_TOOL_BYTES else None


def check_tool(tool: Tool | dict[str, Any]) -> list[Finding]:
    """Check one tool definition -> [(reason, detail)], empty when it is good. Never raises."""
    tool = tool.to_dict() if isinstance(tool, Tool) else tool
    stopped = tool_guard(tool)
    if stopped:
        return [stopped]
    schemas, stopped = _schemas(tool)
    if stopped:
        return [stopped]
    findings = [(rule.code, detail) for rule in TOOL_RULES for detail in rule.check(tool)]
    details = ((rule.code, detail[:300])
               for rule in SCHEMA_RULES for schema in schemas for detail in rule.check(*schema))
    try:
        with counted():
            return [*findings, *islice(details, MAX_FINDINGS)][:MAX_FINDINGS]
    except OverBudget:
        return [("too_large", f"checking its defaults and enums takes more than {MAX_STEPS} steps")]


def check_tools(tools: Sequence[Tool | dict[str, Any]]) -> list[Finding]:
    """Check the candidate tools of one query: each tool, their number, and that no name occurs twice."""
    if not tools:
        return [("no_tools", "no candidate tools")]
    if len(tools) > MAX_TOOLS:
        return [("too_many_tools", f"{len(tools)} tools; at most {MAX_TOOLS}")]
    findings: list[Finding] = []
    size = 0
    with counted():
        for index, tool in enumerate(tools):
            found = check_tool(tool)
            findings += [(code, f"tool {index}: {detail}") for code, detail in found]
            size += len(dump_json(tool.to_dict() if isinstance(tool, Tool) else tool)) if not found else 0
            if size > MAX_TOOLS_BYTES:
                return [("too_large", f"the first {index + 1} of {len(tools)} tools exceed {MAX_TOOLS_BYTES} bytes")]
            if len(findings) >= MAX_FINDINGS:
                return findings[:MAX_FINDINGS]
    return [*findings, *_duplicate_names(tools)][:MAX_FINDINGS]


def _duplicate_names(tools: Sequence[Tool | dict[str, Any]]) -> Iterator[Finding]:
    seen: set[str] = set()
    for tool in tools:
        name = tool.name if isinstance(tool, Tool) else tool.get("name") if isinstance(tool, dict) else None
        if isinstance(name, str) and name in seen:
            yield "duplicate_tool", f"two tools are called {name[:80]!r}"
        elif isinstance(name, str):
            seen.add(name)
