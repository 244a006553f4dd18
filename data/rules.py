"""The rule checker: is a tool well defined, does a call fit its tool? Pure functions, no model, a code per rejection.

Tools and calls come from a model, so they are hostile until proven otherwise: caps on depth, size and number of
values come first, nothing is fetched, resolved, matched as a regular expression or executed, and the work on one call
is budgeted. Of a schema these keywords decide about a value: type, properties, required, additionalProperties, items,
enum, const, anyOf, oneOf, allOf. The others (pattern, format, minimum, ...) are documentation for the reader of the tool.

Each rule stands beside the code it reports, with an example that trips it and one that passes; the tests run them all.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from data.canonical import canonical_call, canonical_value, normal, type_words
from data.schema import TYPE_WORDS, WRITTEN_DEPTH, Tool, ToolCall, dump_json, json_fault

MAX_TOOL_BYTES = 32_768         # one tool as JSON
MAX_TOOLS = 64                  # candidate tools of one query
MAX_TOOLS_BYTES = 131_072       # all of them as JSON
MAX_DEPTH = 12                  # schemas inside schemas: an argument has depth 1, its fields depth 2
MAX_SCHEMAS = 512               # arguments, fields, items and branches of one tool
MAX_CALLS = 64                  # calls in one answer
MAX_CALLS_BYTES = 32_768        # all of them as JSON
MAX_VALUES = 8_192              # keys and values of one tool, or of all calls of one answer
MAX_CHECKS = 4_096              # values met under a schema, enum entries compared, required names looked up
MAX_FINDINGS = 20               # reported for one tool or one answer; more say nothing new

Finding = tuple[str, str]       # (reason code, detail)


@dataclass(frozen=True)
class Rule:
    """One rule: `check` yields a detail per offence; `trips` and `passes` are its two examples."""

    code: str
    check: Callable[..., Iterator[str]]
    trips: Any
    passes: Any


TOOL_RULES: list[Rule] = []         # check(tool dict); examples: a tool, as changes of EXAMPLE_TOOL
SCHEMA_RULES: list[Rule] = []       # check(schema, where, role); examples: the schema of an argument
CALL_RULES: list[Rule] = []         # check(calls, tools by name, faults of the values); examples: calls of EXAMPLE_TOOL

EXAMPLE_TOOL: dict[str, Any] = {
    "name": "convert", "description": "Convert an amount of money.",
    "arguments": {"type": "dict", "required": ["amount"], "properties": {
        "amount": {"type": "number", "description": "How much."},
        "to": {"type": "string", "description": "Target currency.", "enum": ["EUR", "USD"], "default": "EUR"}}}}
_ARGUMENT = {"type": "string", "description": "A city."}


def _rule(table: list[Rule], code: str, trips: Any, passes: Any) -> Callable:
    def register(check: Callable) -> Callable:
        table.append(Rule(code, check, trips, passes))
        return check
    return register


def _short(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value[:80]
    if isinstance(value, list):
        return [_short(item, depth + 1) for item in value[:8]] if depth < 2 else "..."
    if isinstance(value, dict):
        return {key[:80]: _short(item, depth + 1) for key, item in islice(value.items(), 8)} if depth < 2 else "..."
    return value


def _show(value: Any) -> str:
    """The beginning of a value as JSON, at a cost that does not grow with the value."""
    text = dump_json(_short(value))
    return text if len(text) <= 80 else text[:77] + "..."


# ----------------------------------------------------------------------------------------------------------------- tools

@_rule(TOOL_RULES, "missing_name", {"name": " "}, {"name": "Division API"})
def _tool_name(tool: dict) -> Iterator[str]:
    if not isinstance(tool.get("name"), str) or not tool["name"].strip():
        yield "the tool has no name"


@_rule(TOOL_RULES, "missing_description", {"description": ""}, {"description": "Divide two time series."})
def _tool_description(tool: dict) -> Iterator[str]:
    if not isinstance(tool.get("description"), str) or not tool["description"].strip():
        yield "the tool has no description"


@_rule(TOOL_RULES, "missing_arguments", {"arguments": None}, {"arguments": {"type": "dict", "properties": {}}})
def _tool_arguments(tool: dict) -> Iterator[str]:
    if not isinstance(_arguments(tool), dict):
        yield "the tool has no `arguments` object"


@_rule(TOOL_RULES, "bad_arguments", {"arguments": {"city": _ARGUMENT}}, {"arguments": {"type": "dict"}})
def _arguments_shape(tool: dict) -> Iterator[str]:
    schema = _arguments(tool)
    untyped = isinstance(schema, dict) and "type" not in schema and (not schema or "properties" in schema)
    if isinstance(schema, dict) and type_words(schema) != ("dict",) and not untyped:
        yield f"`arguments` has type {_show(schema.get('type'))}; expected \"dict\""


@_rule(TOOL_RULES, "bad_results", {"results": "a number"}, {"results": {"type": "dict"}})
def _results_shape(tool: dict) -> Iterator[str]:
    if tool.get("results") is not None and not isinstance(tool["results"], dict):
        yield "`results` is not an object"


def _arguments(tool: dict) -> Any:
    return tool.get("arguments", tool.get("parameters"))


# ------------------------------------------------------------------- schemas: role: "arguments" "argument" "field" "part"

@_rule(SCHEMA_RULES, "argument_not_object", "string", _ARGUMENT)
def _schema_object(schema: Any, where: str, role: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield f"{where} is described by {_show(schema)}; expected an object"


@_rule(SCHEMA_RULES, "missing_type", {"description": "A city."}, {"anyOf": [{"type": "string"}], "description": "x"})
def _schema_type(schema: Any, where: str, role: str) -> Iterator[str]:
    told = ("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref")
    if role in ("argument", "field") and isinstance(schema, dict) and not any(key in schema for key in told):
        yield f"{where} has no type"


@_rule(SCHEMA_RULES, "unknown_type", {**_ARGUMENT, "type": "city"}, {**_ARGUMENT, "type": ["string", "null"]})
def _schema_type_word(schema: Any, where: str, role: str) -> Iterator[str]:
    if isinstance(schema, dict) and "type" in schema:
        words = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not words:
            yield f"{where} has an empty list of types"
        for word in words:
            if not isinstance(word, str) or word.strip().lower() not in TYPE_WORDS:
                yield f"{where} has the type {_show(word)}"


@_rule(SCHEMA_RULES, "missing_argument_description", {"type": "string", "description": ""}, _ARGUMENT)
def _schema_description(schema: Any, where: str, role: str) -> Iterator[str]:
    text = schema.get("description") if isinstance(schema, dict) else None
    if role == "argument" and isinstance(schema, dict) and not (isinstance(text, str) and text.strip()):
        yield f"{where} has no description"


@_rule(SCHEMA_RULES, "bad_properties", {**_ARGUMENT, "type": "dict", "properties": ["x"]},
       {**_ARGUMENT, "type": "dict", "properties": {"x": {"type": "string"}}})
def _schema_properties(schema: Any, where: str, role: str) -> Iterator[str]:
    if isinstance(schema, dict) and not isinstance(schema.get("properties", {}), dict):
        yield f"`properties` of {where} is not an object"


@_rule(SCHEMA_RULES, "bad_required", {**_ARGUMENT, "type": "dict", "required": "x", "properties": {"x": {}}},
       {**_ARGUMENT, "type": "dict", "required": ["x"], "properties": {"x": {"type": "string"}}})
def _schema_required(schema: Any, where: str, role: str) -> Iterator[str]:
    required = schema.get("required", []) if isinstance(schema, dict) else []
    if isinstance(required, bool) and role != "arguments":
        return                                          # {"required": true} on the argument itself: an older spelling
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield f"`required` of {where} is {_show(required)}; expected a list of argument names"
    elif len(set(required)) != len(required):
        yield f"`required` of {where} names an argument twice"


@_rule(SCHEMA_RULES, "unknown_required", {**_ARGUMENT, "type": "dict", "required": ["y"], "properties": {"x": {}}},
       {**_ARGUMENT, "type": "dict", "required": ["x"], "properties": {"x": {"type": "string"}}})
def _schema_required_known(schema: Any, where: str, role: str) -> Iterator[str]:
    if not isinstance(schema, dict) or not isinstance(schema.get("required"), list):
        return
    known = schema.get("properties") if isinstance(schema.get("properties"), dict) else {}
    for name in schema["required"]:
        if isinstance(name, str) and name not in known and (known or role == "arguments"):
            yield f"`required` of {where} names {_show(name)}, which is not among its arguments"


@_rule(SCHEMA_RULES, "empty_enum", {**_ARGUMENT, "enum": []}, {**_ARGUMENT, "enum": ["Paris"]})
def _schema_enum(schema: Any, where: str, role: str) -> Iterator[str]:
    if isinstance(schema, dict) and "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        yield f"the enum of {where} is {_show(schema['enum'])}; expected a list with at least one value"


@_rule(SCHEMA_RULES, "enum_wrong_type", {**_ARGUMENT, "enum": ["one", 2]}, {**_ARGUMENT, "enum": ["one", "two"]})
def _schema_enum_type(schema: Any, where: str, role: str) -> Iterator[str]:
    if isinstance(schema, dict) and isinstance(schema.get("enum"), list):
        for value in schema["enum"]:
            if not _passes(value, _type_tests(schema)):
                yield f"the enum of {where} has {_show(value)}, which is not of its type"


@_rule(SCHEMA_RULES, "default_wrong_type", {**_ARGUMENT, "default": 5}, {**_ARGUMENT, "default": "Paris"})
def _schema_default(schema: Any, where: str, role: str) -> Iterator[str]:
    default = schema.get("default") if isinstance(schema, dict) else None
    if default is not None and not _passes(default, _type_tests(schema)):           # null stands for "no default"
        yield f"the default of {where} is {_show(default)}, which is not of its type"


@_rule(SCHEMA_RULES, "reference", {**_ARGUMENT, "$ref": "http://host/city.json"}, _ARGUMENT)
def _schema_reference(schema: Any, where: str, role: str) -> Iterator[str]:
    for word in ("$ref", "$dynamicRef", "$recursiveRef"):
        if isinstance(schema, dict) and word in schema:
            yield f"{where} refers to {_show(schema[word])}; write the schema out, references are never followed"


def _parts(schema: Any, where: str, role: str) -> Iterator[tuple[Any, str, str]]:
    """The schemas directly inside a schema, each with its place and role."""
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    for name, part in properties.items() if isinstance(properties, dict) else ():
        if role == "arguments":
            yield part, f"argument {name[:80]!r}", "argument"
        else:
            yield part, f"{where[-200:]}.{name[:80]}", "field"
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield schema[word], f"{word} of {where[-200:]}", "part"
    for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for index, part in enumerate(schema[word] if isinstance(schema.get(word), list) else ()):
            yield part, f"{word}[{index}] of {where[-200:]}", "part"


def _schemas(tool: dict) -> tuple[list[tuple[Any, str, str]], Finding | None]:
    """Every schema of a tool, and the finding that stopped the walk, if one did."""
    found: list[tuple[Any, str, str]] = []
    arguments = _arguments(tool)
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


def _tool_guard(tool: Any) -> Finding | None:
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
    stopped = _tool_guard(tool)
    if stopped:
        return [stopped]
    schemas, stopped = _schemas(tool)
    if stopped:
        return [stopped]
    findings = [(rule.code, detail) for rule in TOOL_RULES for detail in rule.check(tool)]
    details = ((rule.code, detail[:300]) for rule in SCHEMA_RULES for schema in schemas for detail in rule.check(*schema))
    return [*findings, *islice(details, MAX_FINDINGS)][:MAX_FINDINGS]


def check_tools(tools: Sequence[Tool | dict[str, Any]]) -> list[Finding]:
    """Check the candidate tools of one query: each tool, their number, and that no name occurs twice."""
    if not tools:
        return [("no_tools", "no candidate tools")]
    if len(tools) > MAX_TOOLS:
        return [("too_many_tools", f"{len(tools)} tools; at most {MAX_TOOLS}")]
    findings: list[Finding] = []
    size = 0
    for index, tool in enumerate(tools):
        found = check_tool(tool)
        findings += [(code, f"tool {index}: {detail}") for code, detail in found]
        size += len(dump_json(tool.to_dict() if isinstance(tool, Tool) else tool)) if not found else 0
        if size > MAX_TOOLS_BYTES:
            return [("too_large", f"the first {index + 1} of {len(tools)} tools already exceed {MAX_TOOLS_BYTES} bytes")]
        if len(findings) >= MAX_FINDINGS:
            return findings[:MAX_FINDINGS]
    seen: set[str] = set()
    for tool in tools:
        name = tool.name if isinstance(tool, Tool) else tool.get("name") if isinstance(tool, dict) else None
        if isinstance(name, str) and name in seen:
            findings.append(("duplicate_tool", f"two tools are called {name[:80]!r}"))
        elif isinstance(name, str):
            seen.add(name)
    return findings[:MAX_FINDINGS]


# ----------------------------------------------------------------------------------------------------------------- calls

class _OverBudget(Exception):
    """One answer asks for more comparisons than MAX_CHECKS."""


class _Budget:
    """Counts the work on one answer, and keeps what each schema says (by id) so that it is spelled out once."""

    def __init__(self) -> None:
        self.left = MAX_CHECKS
        self.enums: dict[int, set[str]] = {}
        self.types: dict[int, list[Callable[[Any], bool]]] = {}
        self.memo: dict = {}
        self.trying = 0             # inside how many branches of unions, where only whether it fits counts

    def show(self, value: Any) -> str:
        return "" if self.trying else _show(value)

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise _OverBudget

    def has_type(self, value: Any, schema: dict) -> bool:
        """True if `value` has one of the types that `schema` names, or it names none."""
        if id(schema) not in self.types:
            self.types[id(schema)] = _type_tests(schema)
        return _passes(value, self.types[id(schema)])

    def allows(self, value: Any, allowed: list, schema: dict) -> bool:
        """True if `value` is one of `allowed` (the enum of `schema`), types told apart."""
        if id(schema) not in self.enums:
            keys = {json.dumps(canonical_value(choice, schema, self.memo)) for choice in allowed}
            self.spend(len(allowed) + sum(map(len, keys)) // 64)
            self.enums[id(schema)] = keys
        key = json.dumps(canonical_value(value, schema, self.memo))
        self.spend(2 + len(key) // 16)
        return key in self.enums[id(schema)]


_IS_TYPE: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),             # 5.0 is not an integer
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),      # true is not 1
    "boolean": lambda v: isinstance(v, bool),
    "array": lambda v: isinstance(v, list),
    "dict": lambda v: isinstance(v, dict),
    "null": lambda v: v is None,
    "any": lambda v: True,
}


def _type_tests(schema: Any) -> list[Callable[[Any], bool]]:
    return [_IS_TYPE[word] for word in dict.fromkeys(type_words(schema))]


def _passes(value: Any, tests: list[Callable[[Any], bool]]) -> bool:
    return not tests or any(test(value) for test in tests)


def value_faults(value: Any, schema: Any, where: str, budget: _Budget) -> Iterator[Finding]:
    """What is wrong with `value` (strict JSON) under `schema`: one finding per place that does not fit."""
    budget.spend(1)
    if not isinstance(schema, dict):
        return
    if not budget.has_type(value, schema):
        yield "wrong_type", f"{where} is {budget.show(value)}; expected {budget.show(schema.get('type'))}"
        return
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(allowed, list) and not budget.allows(value, allowed, schema):
        yield "not_in_enum", f"{where} is {budget.show(value)}; expected one of {budget.show(allowed)}"
    if isinstance(value, dict):
        yield from _object_faults(value, schema, where, budget)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from value_faults(item, schema["items"], f"{where}[{index}]", budget)
    for word in ("anyOf", "oneOf"):
        branches = schema.get(word)
        if isinstance(branches, list) and not any(_fits(value, branch, budget) for branch in branches):
            yield "wrong_type", f"{where} is {budget.show(value)}, which fits no branch of {word}"
    for branch in schema["allOf"] if isinstance(schema.get("allOf"), list) else ():
        yield from value_faults(value, branch, where, budget)


def _fits(value: Any, schema: Any, budget: _Budget) -> bool:
    budget.trying += 1
    try:
        return next(value_faults(value, schema, "", budget), None) is None
    finally:
        budget.trying -= 1


def _object_faults(value: dict, schema: dict, where: str, budget: _Budget, closed: bool = False) -> Iterator[Finding]:
    """Unknown, missing and ill-fitting keys; an object is closed when its schema lists properties and does not open it."""
    properties = schema["properties"] if isinstance(schema.get("properties"), dict) else {}
    extra = schema.get("additionalProperties", False)
    is_open = extra is True or isinstance(extra, dict) or not (properties or closed)
    for key, item in value.items():
        place = f"{where[-200:]}.{key[:80]}" if where else f"argument {key[:80]!r}"
        if key in properties:
            yield from value_faults(item, properties[key], place, budget)
        elif not is_open:
            yield "unknown_argument", f"{place} is not an argument; known: {budget.show(list(islice(properties, 8)))}"
        else:
            yield from value_faults(item, extra, place, budget)
    required = schema["required"] if isinstance(schema.get("required"), list) else []
    budget.spend(len(required))
    for name in required:
        if isinstance(name, str) and name not in value:
            yield "missing_required", f"{where or 'the call'} lacks {name[:80]!r}"


def _argument_faults(calls: list[ToolCall], tools: dict[str, Any], budget: _Budget) -> Iterator[Finding]:
    """The findings about the values of every call of a known tool."""
    for call in calls:
        if call.name in tools:
            for code, detail in _object_faults(call.arguments, tools[call.name], "", budget, closed=True):
                yield code, f"{call.name[:80]}: {detail}"


@_rule(CALL_RULES, "unknown_tool", [{"name": "exchange", "arguments": {}}], [])
def _known_tool(calls: list[ToolCall], tools: dict[str, Any], faults: list[Finding]) -> Iterator[str]:
    for call in calls:
        if call.name not in tools:
            yield f"{call.name[:80]!r} is not among the candidate tools {_show(list(islice(tools, 8)))}"


def _value_rule(code: str, trips: dict, passes: dict) -> None:
    """A rule that is one code of `value_faults`."""
    def check(calls: list[ToolCall], tools: dict[str, Any], faults: list[Finding]) -> Iterator[str]:
        return (detail for found, detail in faults if found == code)
    _rule(CALL_RULES, code, [{"name": "convert", "arguments": trips}],
          [{"name": "convert", "arguments": passes}])(check)


_value_rule("unknown_argument", {"amount": 5, "from": "USD"}, {"amount": 5, "to": "USD"})
_value_rule("missing_required", {"to": "EUR"}, {"amount": 5})
_value_rule("wrong_type", {"amount": "5"}, {"amount": 5.5})
_value_rule("not_in_enum", {"amount": 5, "to": "eur"}, {"amount": 5, "to": "EUR"})


@_rule(CALL_RULES, "duplicate_call", [{"name": "convert", "arguments": {"amount": amount}} for amount in (5, 5.0)],
       [{"name": "convert", "arguments": {"amount": amount}} for amount in (5, 6)])
def _no_duplicates(calls: list[ToolCall], tools: dict[str, Any], faults: list[Finding]) -> Iterator[str]:
    seen: set[str] = set()
    memo: dict = {}
    names = Counter(normal(call.name) for call in calls)
    for call in calls:
        if names[normal(call.name)] == 1:
            continue
        key = canonical_call(call, tools, memo)
        if key in seen:
            yield f"the same call of {call.name[:80]!r} twice"
        seen.add(key)


def _calls_guard(calls: Sequence[Any]) -> Finding | None:
    """What must hold before the rules may look at calls: their shape, strict JSON values, within the caps."""
    if len(calls) > MAX_CALLS:
        return "too_many_calls", f"{len(calls)} calls; at most {MAX_CALLS}"
    for call in calls:
        if not (isinstance(call, ToolCall) and isinstance(call.name, str) and isinstance(call.arguments, dict)):
            return "not_an_object", "a call needs a name and an object of arguments"
    fault = json_fault([[call.name, call.arguments] for call in calls], MAX_VALUES, WRITTEN_DEPTH)
    if fault:
        return fault
    size = sum(len(dump_json(call.to_dict()).encode()) for call in calls)
    return ("too_large", f"{size} bytes; at most {MAX_CALLS_BYTES}") if size > MAX_CALLS_BYTES else None


def _called_tools(calls: list[ToolCall], tools: Sequence[Any]) -> tuple[dict[str, Any], Finding | None]:
    """Parameters by tool name (the first of equal names), and what makes one that is called unusable."""
    records = [tool.to_dict() if isinstance(tool, Tool) else tool for tool in tools]
    known: dict[str, Any] = {}
    names = {call.name for call in calls}
    for record in records:
        name = record.get("name") if isinstance(record, dict) else None
        if not isinstance(name, str) or name in known:
            continue
        stopped = _tool_guard(record) if name in names else None
        if stopped:
            return known, ("unusable_tool", f"{name[:80]!r}: {stopped[0]}, {stopped[1]}")
        schema = _arguments(record)
        known[name] = schema if isinstance(schema, dict) else {}
    return known, None


def check_calls(calls: Sequence[ToolCall | dict], tools: Sequence[Tool | dict]) -> list[Finding]:
    """Check the calls of one answer against its candidate tools -> [(reason, detail)], empty when good. Never raises.

    No calls at all is a good answer here: whether it is the right one is for the vote.
    """
    calls = [ToolCall(call.get("name"), call.get("arguments")) if isinstance(call, dict) else call for call in calls]
    stopped = _calls_guard(calls)
    if stopped:
        return [stopped]
    known, stopped = _called_tools(calls, tools)
    if stopped:
        return [stopped]
    try:
        faults = list(islice(_argument_faults(calls, known, _Budget()), MAX_FINDINGS))
    except _OverBudget:
        return [("too_large", f"checking these calls takes more than {MAX_CHECKS} comparisons")]
    found = [(rule.code, detail[:300]) for rule in CALL_RULES for detail in rule.check(calls, known, faults)]
    return found[:MAX_FINDINGS]
