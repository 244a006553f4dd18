"""The rule checker: is a tool well defined, does a call fit its tool? Pure functions, no model, a code per rejection.

`check_tool` and `check_tools` have their rules in data/tool_rules.py. Here are the rules for calls; whether a value
fits its schema `jsonschema` says (data/values.py). A tool's arguments are those it lists: an object that lists
properties is closed unless its schema opens it. `pattern` and `format` are documentation; a `$ref` is a tool's fault.

Tools and calls come from a model: caps come first, and the work on one answer is counted (data/budget.py).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from data.budget import MAX_STEPS, OverBudget, counted
from data.canonical import canonical_call, normal
from data.findings import MAX_FINDINGS, Finding, Rule, rule, show
from data.json_schema import Schema, json_schema
from data.schema import WRITTEN_DEPTH, Tool, ToolCall, dump_json, json_fault
from data.tool_rules import MAX_VALUES, arguments_of, check_tool, check_tools, tool_guard
from data.values import VALUE_RULES, value_faults

__all__ = ["CALL_RULES", "check_calls", "check_tool", "check_tools"]

MAX_CALLS = 64                  # calls in one answer
MAX_CALLS_BYTES = 32_768        # all of them as JSON

CALL_RULES: list[Rule] = []     # check(calls, tools by name); examples: calls of tool_rules.EXAMPLE_TOOL
_VALUE_CODES = list(dict.fromkeys(rule.code for rule in VALUE_RULES))


@rule(CALL_RULES, "unknown_tool", [{"name": "exchange", "arguments": {}}], [])
def _known_tool(calls: list[ToolCall], tools: dict[str, Any]) -> Iterator[str]:
    for call in calls:
        if call.name not in tools:
            yield f"{call.name[:80]!r} is not among the candidate tools {show(list(islice(tools, 8)))}"


@rule(CALL_RULES, "duplicate_call", [{"name": "convert", "arguments": {"amount": amount}} for amount in (5, 5.0)],
      [{"name": "convert", "arguments": {"amount": amount}} for amount in (5, 6)])
def _no_duplicates(calls: list[ToolCall], tools: dict[str, Any]) -> Iterator[str]:
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


def _argument_faults(calls: list[ToolCall], tools: dict[str, Any]) -> list[Finding]:
    """The findings about the values of every call of a known tool, by code in the order of VALUE_RULES."""
    schemas: dict[str, Schema] = {}
    found: list[Finding] = []
    for call in calls:
        if call.name not in tools or len(found) >= MAX_FINDINGS:
            continue
        if call.name not in schemas:
            schemas[call.name] = json_schema(tools[call.name], arguments=True)
        faults = value_faults(call.arguments, schemas[call.name])
        found += [(code, f"{call.name[:80]}: {detail}") for code, detail in faults]
    return sorted(found, key=lambda finding: _VALUE_CODES.index(finding[0]))


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
        stopped = tool_guard(record) if name in names else None
        if stopped:
            return known, ("unusable_tool", f"{name[:80]!r}: {stopped[0]}, {stopped[1]}")
        schema = arguments_of(record)
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
        with counted():
            faults = _argument_faults(calls, known)
    except OverBudget:
        return [("too_large", f"checking these calls takes more than {MAX_STEPS} steps")]
    unknown, duplicates = ([(rule.code, detail) for detail in rule.check(calls, known)] for rule in CALL_RULES)
    return [(code, detail[:300]) for code, detail in (*unknown, *faults, *duplicates)][:MAX_FINDINGS]
