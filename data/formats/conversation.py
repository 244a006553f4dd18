"""One reader for all conversations: where a row keeps its messages, its tools and its answer, whatever their columns.

The formats of conversations (openai, sharegpt, hermes, toolace, trl) differ in how a row is recognised and in where its
tools may stand; what a turn says and calls is read in one way (dialogue.py, spelled.py).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from data.formats.dialogue import ROLES, Turn, samples, turns_of
from data.formats.items import Context, Item, RowError, filled, need_list, tools_in
from data.formats.listed import tool_list
from data.formats.marks import MASKS, is_off, unfinished
from data.formats.parts import role_word
from data.formats.spelled import offered
from data.formats.strict import unpacked
from data.formats.tagged import values_between

COLUMNS = ("messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "chat", "turns", "history",
           "chat_history", "trajectory", "contents")
CALL_ROLES = ("function_call", "tool_call", "function_calls", "tool_calls")
_TOOLS = ("tools", "functions")
_SETTINGS = (("chat_template_kwargs", "xml_tools"), ("chat_template_kwargs", "python_tools"),    # of SmolLM3
             ("toolConfig", "tools"),                               # of Bedrock
             ("parameters", "tools"), ("model_parameters", "tools"),    # of DashScope's and LiteLLM's logs
             ("metadata", "tools"))                                 # of rows with notes, often as JSON text
_HISTORY = ("history", "chat_history", "conversation_history", "dialog_history", "dialogue_history", "message_history",
            "previous_messages", "previous_turns", "prior_messages", "context")


def as_messages(value: Any) -> list[Any] | None:
    """A list of messages, also one inside a JSON text; None for anything else."""
    value = unpacked(value)
    if isinstance(value, dict) and is_message(value):
        return [value]
    return value if isinstance(value, list) and any(is_message(part) for part in value) else None


def is_message(part: Any) -> bool:
    """An object with a role and something said, or called, by it."""
    return isinstance(part, dict) and ("role" in part or "from" in part) and (
        not part.keys().isdisjoint(("content", "value", "parts", "tool_calls", "function_call")))


def column_of(row: Any) -> str | None:
    """The column with a row's messages; None without any. It asks for no column: those never asked for are counted."""
    if not isinstance(row, dict):
        return None
    return next((key for key in COLUMNS if as_messages(dict.get(row, key)) is not None), None)


def messages_of(row: Any) -> list[Any]:
    """The messages of a row, [] where it has none."""
    key = column_of(row)
    return (as_messages(dict.get(row, key)) or []) if key else []


def role_names(messages: list[Any]) -> set[str]:
    """The roles of messages as they are written, in small letters."""
    roles = (message.get("from", message.get("role")) for message in messages if isinstance(message, dict))
    return {role_word(role) for role in roles}


def is_structured(messages: list[Any]) -> bool:
    """Does any message make calls by its structure, rather than in its text?"""
    return not role_names(messages).isdisjoint(CALL_ROLES) or any(
        isinstance(message, dict) and (message.get("tool_calls") or message.get("function_call"))
        for message in messages)


def read(row: Any, context: Context, *, listed: bool = False, bracketed: bool = False) -> Iterator[Item]:
    """The samples of one row with messages.

    Args:
        row: an object with one of `COLUMNS`, and perhaps `tools` and `system`.
        context: of the conversion.
        listed: a JSON list in the system text is the list of tools, where no column has one (ToolACE, sharegpt).
        bracketed: calls are written as `[name(...)]` (ToolACE).
    """
    key = column_of(row) or next((key for key in COLUMNS if key in row), COLUMNS[0])
    given = row.get(key)
    messages = need_list(as_messages(given) or given, f"`{key}`", "query")
    for mask in [mask for mask in row if MASKS.fullmatch(str(mask))]:
        marks = unpacked(row[mask])
        if isinstance(marks, list) and len(marks) == len(messages):
            messages = [{**message, "weight": 0} if is_off(mark) and isinstance(message, dict) else message
                        for message, mark in zip(messages, marks, strict=True)]
    messages = after(earlier(row) if key not in _HISTORY else [], messages)
    system = row.get("system")
    message = {"role": "system", "content": system if isinstance(system, str) else ""}
    messages = [message, *messages] if listed else [*messages, message]     # ids count turns: its place is part of them
    yield from answered(row, messages, [], context, listed=listed, bracketed=bracketed)


def earlier(row: Any) -> list[Any]:
    """The messages before those of a row, where a column of history holds them: context, from which nobody learns.

    Raises:
        RowError: `unread_columns` where it cannot be told who said what.
    """
    for key in _HISTORY:
        value = unpacked(dict.get(row, key))
        messages = as_messages(value) or _pairs(value)
        if messages:
            row.get(key)                                            # counts the column as read
            return [{**message, "weight": 0} if isinstance(message, dict) else message for message in messages]
        if filled(value) and key != "context":
            raise RowError("unread_columns", f"who says what in `{key}` cannot be told: {value!r:.80}", stage="query")
    return []


def after(before: list[Any], messages: list[Any]) -> list[Any]:
    """Messages behind those that `earlier` found, which they may repeat."""
    start = [{**message, "weight": 0} if isinstance(message, dict) else message for message in messages[:len(before)]]
    return [*before, *(messages[len(before):] if start == before else messages)]


def _pairs(value: Any) -> list[Any]:
    """Rounds of a dialogue as messages: pairs of question and answer, or objects of what each role says."""
    rounds = value if isinstance(value, list) else []
    if all(isinstance(said, list) and len(said) == 2 for said in rounds):
        return [{"role": role, "content": text} for said in rounds
                for role, text in zip(("user", "assistant"), said, strict=True)]
    if all(isinstance(said, dict) and said and all(str(key).lower() in ROLES for key in said) for said in rounds):
        return [{"role": role, "content": text} for said in rounds for role, text in said.items()]
    return []


def answered(row: Any, messages: list[Any], answer: list[Any], context: Context, *, listed: bool = False,
             bracketed: bool = False) -> Iterator[Item]:
    """The samples of messages, and of the answer to them in a column of its own, which alone is learnt."""
    tools: list[Any] = []
    for key in _TOOLS:
        tools = tools or tools_in(row.get(key), f"`{key}`")
    for key, inner in _SETTINGS:
        if not tools and isinstance(settings := unpacked(dict.get(row, key)), dict) and settings.get(inner):
            row.get(key)                                            # counts the column as read
            tools = tools_in(settings[inner], f"`{inner}`")
    plain, found = _without_tools(messages, not tools, listed, is_structured([*messages, *answer]))
    tools = tools or found or _in_messages(messages)
    names = offered(tools)
    turns = turns_of(plain, names)
    if answer:
        turns = [turn._replace(learnt=False) for turn in turns] + turns_of(answer, names)
    yield from samples(_ended(row, turns), tools, context, bracketed=bracketed)


def _ended(row: Mapping[str, Any], turns: list[Turn]) -> list[Turn]:
    """The turns, the last one with a fault where the row says that its reply was cut off."""
    last = max((at for at, turn in enumerate(turns) if turn.role != "system"), default=-1)
    if last < 0 or turns[last].role not in ("assistant", "call"):
        return turns
    fault = turns[last].fault or unfinished(row, calling=turns[last].calling)
    return [*turns[:last], turns[last]._replace(fault=fault), *turns[last + 1:]]


def _without_tools(messages: list[Any], wanted: bool, listed: bool, structured: bool) -> tuple[list[Any], list[Any]]:
    """The messages without the system texts that hold tools, and those tools, if they are wanted."""
    out, tools = [], []
    for message in messages:
        text = _system_text(message)
        found = None
        if "<tools>" in text:
            found = _tagged_tools(text, structured) if wanted and not tools else []
        elif listed and text and wanted and not tools:
            found = tool_list(text)
        tools = tools or found or []
        out.append(message if found is None else {**message, "content": "", "value": ""})
    return out, tools


def _in_messages(messages: list[Any]) -> list[Any]:
    """The tools under a key of the first message that has any and is not the assistant's (GLM's system message)."""
    asking = [message for message in messages if isinstance(message, dict)
              and not role_names([message]).isdisjoint(("system", "developer", "user", "human"))]
    given = (message.get(key) for message in asking for key in _TOOLS)
    return next((tools for value in given if (tools := tools_in(value, "the `tools` of a message"))), [])


def _tagged_tools(text: str, structured: bool) -> list[Any] | None:
    """The tools between `<tools>` tags; None where a row with structured calls only speaks of the tags."""
    try:
        return values_between(text, "tools", "tools")
    except RowError:
        if structured:
            return None
        raise


def _system_text(message: Any) -> str:
    """The text of a system message; "" of any other."""
    if not isinstance(message, dict) or role_names([message]).isdisjoint(("system", "developer")):
        return ""
    text = message.get("value", message.get("content"))
    return text if isinstance(text, str) else json.dumps(text) if isinstance(text, dict) else ""
