"""The lenient reading of an answer: the calls that a model meant, in whatever form it wrote them.

The strict reading takes the paper's `<tool_call>` tags and a benchmark's own form, and nothing else. A raw model knows
neither, so its strict score says how well it keeps a format. This one looks again where the strict reading found
nothing (or, in Java and JavaScript, whose readers find a call in nearly any text, nothing right). It reads JSON objects
and lists, bare or fenced, in the spellings of data/formats/spelled.py, and pythonic calls of the offered tools. Words
around them are ignored. Broken JSON is never mended: an answer is taken whole or not at all.
"""

import re
from collections.abc import Iterator
from typing import Any

from data.formats.items import RowError
from data.formats.literals import LiteralError, call_at
from data.formats.spelled import Offered, calls_in, spelled_calls
from data.formats.tagged import value_at
from data.formats.thoughts import after_thinking
from data.parse import MAX_ANSWER_CHARS
from data.schema import ToolCall, json_fault

STRICT, LENIENT = READINGS = ("strict", "lenient")
_OPENING = re.compile(r"\{\s*[\"']|\[\s*\{\s*[\"']")         # an object that has a key, or a list of such
_CALL_FIELD = re.compile(r"[\"'](?:name|function|tool|action|api|(?:tool|function|api|recipient)_name)[\"']\s*:")
_KEYWORD_CALL = re.compile(r"[^()]{1,200}\(\s*\w+\s*=(?!=)")
_AROUND_A_CALL = " \t\r`[](),;."


def lenient_calls(text: str, names: Offered) -> list[ToolCall] | None:
    """The calls that a text spells in any way, in its order; None where it spells none, or a broken one.

    Args:
        text: what the model wrote.
        names: the offered tools with their parameters in order (`data.formats.spelled.offered`); empty: any tool.
    """
    if len(text) > MAX_ANSWER_CHARS:
        return None
    body = after_thinking(text)
    found = _json_calls(body, names)
    if found == []:
        found = _marked_calls(body, names)
    if found == []:
        found = _pythonic_calls(body, names)
    return [ToolCall(call["name"], call["arguments"]) for call in found or ()] or None


def _json_calls(text: str, names: Offered) -> list[dict[str, Any]] | None:
    """The calls among the JSON values of a text; None where a value is broken and holds, or is followed by, a call."""
    calls: list[dict[str, Any]] = []
    at = 0
    while opening := _OPENING.search(text, at):
        try:
            value, at = value_at(text, opening.start())
        except RowError:
            return None if _CALL_FIELD.search(text, opening.start()) else calls
        calls += calls_in(value) or _named_by_keys(value, names)
    return None if json_fault(calls) else calls


def _named_by_keys(value: Any, names: Offered) -> list[dict[str, Any]]:
    """The calls of `{name: arguments}`, alone or in lists, where every key is an offered tool."""
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) and item and item.keys() <= names.keys()
               and all(isinstance(arguments, dict) for arguments in item.values()) for item in items):
        return []
    return [{"name": name, "arguments": arguments} for item in items for name, arguments in item.items()]


def _marked_calls(text: str, names: Offered) -> list[dict[str, Any]]:
    """The calls behind marks, and of ReAct, whose names stand outside of the JSON."""
    try:
        spelled = spelled_calls(text, names)
    except RowError:
        return []
    return (calls_in(spelled.calls) or []) if spelled else []


def _pythonic_calls(text: str, names: Offered) -> list[dict[str, Any]] | None:
    """The calls `name(a=1)` of offered tools anywhere in a text; None where one has an argument that is no literal."""
    calls, end = [], 0
    for start in _mentions(text, names):
        if start < end:
            continue
        try:
            name, arguments, end = call_at(text, start, dict(names))
        except LiteralError:
            if _KEYWORD_CALL.match(text, start):
                return None
            continue
        if arguments or _fills_its_line(text, start, end):
            calls.append({"name": name, "arguments": arguments})
    return None if json_fault(calls) else calls


def _mentions(text: str, names: Offered) -> Iterator[int]:
    """Where an offered name stands before a bracket, but not where it is defined."""
    one = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    for start in re.finditer(rf"(?<![\w.])(?:functions\.)?(?P<name>{one})\s*\(", text) if names else ():
        if not re.search(r"\b(?:def|function|class)\s+$", text[max(0, start.start() - 20):start.start()]):
            yield start.start("name")


def _fills_its_line(text: str, start: int, end: int) -> bool:
    """Whether nothing but brackets stands beside a call: a mere `f()` among words only names the tool."""
    before = text[text.rfind("\n", 0, start) + 1:start]
    after = text[end:].split("\n", 1)[0]
    return not before.strip(_AROUND_A_CALL) and not after.strip(_AROUND_A_CALL)
