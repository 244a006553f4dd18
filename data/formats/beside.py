"""What a row says of the answer that its reader found, beside that answer: no label is to be learnt against it.

An answer without calls says that no tool fits. It does not where another column tells of calls, where the request
forbade calls or demanded one, or where the row is marked as a bad example. Such a row leaves a query and a count.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from data.formats.conversation import as_messages, column_of, messages_of, role_names
from data.formats.dialogue import turns_of
from data.formats.items import (
    Ask,
    Item,
    LeftOut,
    RowError,
    Sample,
    filled,
    is_nothing,
    read_call,
    refused,
    unanswered,
)
from data.formats.marks import is_off, row_is_learnt, unfinished
from data.formats.spelled import Offered, calls_in, fault_of, offered, spelled_calls, tells_of_calls
from data.formats.strict import unpacked
from data.formats.thoughts import after_thinking

_CHOICES = ("tool_choice", "toolChoice", "toolConfig", "tool_config", "function_call")
_CHOICE_KEYS = ("functionCallingConfig", "function_calling_config", *_CHOICES, "mode", "type")
_OF_MESSAGES = ("role", "from", "content", "value", "parts", "tools", "functions")
# Of a row of one request: that calls were made, or are needed, or what they gave.
_CALLED = re.compile(
    r"(?:has|is|n|num|number_of|expect(?:s|ed)?|should|must)_(?:\w+_)?calls?(?:_tools?|_functions?)?"
    r"|(?:tool|function)_?calls?(?:_count|_made)?|(?:needs?|requires?)_(?:a_)?(?:tool|function)s?"
    r"(?:_calls?|_use)?|(?:tool|function)s?_(?:required|needed)|(?:tool|function|api)_?(?:output|result|response)s?",
    re.IGNORECASE)
_OTHERS = re.compile("reject|distract|irrelevant|negative|remov|exclu|avail|offer|candidate|unused|wrong|incorrect",
                     re.IGNORECASE)
_RIGHT = re.compile(r"(?:.*_)?(?:ground_?truth|gold(?:en)?|correct(?:ed|ions?)?|expected|reference|ideal"
                    r"|edit(?:ed)?|revis(?:ed|ion)|fixed)(?:_.*)?", re.IGNORECASE)


def judged(row: Mapping[str, Any], item: Item) -> Iterator[Item]:
    """The item; or, where the row takes its answer back, the query by itself and why."""
    if not isinstance(item, Sample):
        if isinstance(item, Ask) and not item.notes:
            yield LeftOut("unread_answer", int(_tells_beside(row, item.query, offered(item.tools)) is not None))
        yield item
    elif not row_is_learnt(row):
        yield from unanswered("answer_not_to_learn", item.query, item.tools, item.part, item.notes, item.group)
    elif column_of(row) is None and (fault := unfinished(row, calling=bool(item.calls))):
        yield from refused(fault, item.query, item.tools, item.part)
    elif not item.calls:
        yield from _without_call(row, item)
    elif other := _other_calls(row, item):
        why = f"the column `{other}` holds other calls than the answer; which ones are right cannot be told"
        yield from refused(RowError("bad_calls", why, stage="calls"), item.query, item.tools, item.part)
    else:
        yield item


def _without_call(row: Mapping[str, Any], item: Sample) -> Iterator[Item]:
    names = offered(item.tools)
    choice = _choice_of(row, names) or next((found for value in _beside(row).values() if isinstance(value, dict) and (
        found := _choice_within(value, names))), None)
    astray = _tells_beside(row, item.query, names)
    if choice:
        yield from unanswered(choice, item.query, item.tools, item.part)
    elif astray:
        why = f"the column `{astray}` tells of calls, the answer makes none; are they the answer? It cannot be told"
        yield from refused(RowError("calls_in_text", why, stage="calls"), item.query, item.tools, item.part)
    else:
        yield item


def _beside(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that no reader asked for, and such keys of the message that asks."""
    asked = getattr(row, "asked", set())
    beside = {str(key): dict.get(row, key) for key in row if key not in asked and not _OTHERS.search(str(key))}
    return beside | {key: value for message in _asking(row)[:1] for key, value in message.items()
                     if key not in _OF_MESSAGES}


def _asking(row: Mapping[str, Any]) -> list[Any]:
    return [message for message in messages_of(row) if not role_names([message]).isdisjoint(("user", "human"))]


def _tells_beside(row: Mapping[str, Any], query: str, names: Offered) -> str | None:
    """The first of these columns that tells of calls."""
    single = len(_asking(row)) < 2
    return next((key for key, value in _beside(row).items() if _tells(key, value, query, names)
                 or single and _says_called(key, value)), None)


def _other_calls(row: Mapping[str, Any], item: Sample) -> str | None:
    """The column that holds the right calls of a single request, where the answer makes another one."""
    right = {key: calls for key, value in _beside(row).items()
             if _RIGHT.fullmatch(key) and (calls := _calls_of(unpacked(value), offered(item.tools)))}
    if not right or len(_asking(row)) > 1:
        return None
    try:
        answer = [read_call(call) for call in item.calls]
    except RowError:                                                    # reported where the answer is written
        return None
    return next((key for key, calls in right.items() if any(call not in calls for call in answer)), None)


def _calls_of(value: Any, names: Offered) -> list[dict[str, Any]] | None:
    """The calls that a column holds, also as the response of a service, or as a reply spells them."""
    choices = value.get("choices") if isinstance(value, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    said = first["message"] if isinstance(first, dict) and isinstance(first.get("message"), dict) else value
    text = said.get("content") if isinstance(said, dict) and not said.get("tool_calls") else said
    try:
        spelled = spelled_calls(after_thinking(text), names) if isinstance(text, str) else None
        return [read_call(call) for call in spelled.calls] if spelled else calls_in(said)
    except RowError:                                                    # a broken one says nothing
        return None


def _says_called(key: str, value: Any) -> bool:
    """Does a column, or an entry of one, say that calls were made or are needed?"""
    inside = unpacked(value)
    if isinstance(inside, dict):
        return any(_says_called(str(inner), part) for inner, part in inside.items() if not isinstance(part, dict))
    return _CALLED.fullmatch(key) is not None and filled(inside) and not (is_off(inside) or is_nothing(inside))


def _tells(key: str, value: Any, query: str, names: Offered) -> bool:
    """Does a column tell of calls: a conversation that begins with the query or with no request, or anything else?"""
    messages = as_messages(value)
    if isinstance(value, list) and value and all(isinstance(part, list) and as_messages(part) for part in value):
        return any(_tells(key, part, query, names) for part in value)
    if messages is None:
        return tells_of_calls(key, value, names) or isinstance(value, str) and value.strip() in names
    try:
        turns = turns_of(messages, names)
    except RowError:
        return tells_of_calls(key, value, names)
    requests = [turn.text.strip() for turn in turns if turn.role == "user"]
    if requests and requests[0] not in query:
        return False
    return any(turn.calling or turn.role == "assistant" and turn.text.strip() and _is_call(turn.text, names)
               for turn in turns)


def _is_call(text: str, names: Offered) -> bool:
    fault = fault_of(text, names)
    return fault is not None and fault.reason != "empty_answer"


def _choice_within(value: Mapping[str, Any], names: Offered) -> str | None:
    """The choice that a column of settings holds, or an object in it."""
    inner = [part for part in value.values() if isinstance(part, dict)]
    return next((found for part in (value, *inner) if (found := _choice_of(part, names))), None)


def _choice_of(row: Mapping[str, Any], names: Offered) -> str | None:
    """What to count where the request forbade calls (`"tool_choice": "none"`) or demanded one: words then say nothing
    of whether a tool fits. None where the choice was the model's."""
    for key in _CHOICES:
        choice: Any = row.get(key) if key in row else None
        while isinstance(choice, dict):
            inner = next((inner for inner in _CHOICE_KEYS if inner in choice), None)
            if choice.get("type") == "allowed_tools":
                choice = "none"                 # of the others
            elif inner is None:                 # Bedrock's {"any": {}}; or the name of a tool alone
                choice = "tool" if isinstance(choice.get("name"), str) else next(iter(choice), None)
            else:
                choice = choice[inner]
        word = choice.strip().lower() if isinstance(choice, str) else ""
        if word == "none":
            return "calls_forbidden"
        if word in ("required", "any", "function", "tool", "force", "forced") or isinstance(
                choice, str) and choice.strip() in names:
            return "call_demanded"
    return None
