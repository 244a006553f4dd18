"""glaive-function-calling-v2 as published: `system` and `chat` as text, calls as `<functioncall> {...}`.

The arguments of a call stand in single quotes, so a call is not JSON; a quote inside them may or may not be escaped.
Conversions of Glaive with roles are read as conversations.
"""

import re
from collections.abc import Iterator
from typing import Any

from data.formats import conversation
from data.formats.conversation import column_of
from data.formats.dialogue import Turn, calling, samples
from data.formats.items import Context, Format, Item, RowError, need_text
from data.formats.listed import is_tool
from data.formats.parts import failed
from data.formats.spelled import read_functioncall
from data.schema import JsonError, decode_json_at

_MARK = re.compile(r"^\s*(USER|ASSISTANT|FUNCTION RESPONSE):", re.MULTILINE)
_ROLES = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}


def read(row: Any, context: Context) -> Iterator[Item]:
    if not isinstance(row.get("chat"), str) and column_of(row):
        yield from conversation.read(row, context, listed=True)
        return
    text = need_text(row, "chat")
    parts = _MARK.split(text)
    turns = []
    for mark, said in zip(parts[1::2], parts[2::2]):
        said = said.replace("<|endoftext|>", "").strip()
        before, tag, call = said.partition("<functioncall>")
        if _ROLES[mark] == "assistant" and tag:
            turns.append(calling("assistant", said, lambda call=call: [read_functioncall(call.strip())],
                                 before.strip()))
        else:
            role = _ROLES[mark]
            turns.append(Turn(role, said, learnt=role != "tool" or not failed(said)))
    yield from samples(turns, tools_of(row.get("system") or ""), context)


def tools_of(system: str) -> list[Any]:
    """The JSON objects in the system text that look like tools, one after another. Raises RowError `bad_tools`."""
    tools: list[Any] = []
    at = system.find("{")
    while at >= 0:
        try:
            value, at = decode_json_at(system, at)
        except JsonError as error:
            raise RowError("bad_tools", f"an object in `system` is not JSON: {error.detail}", stage="tools") from None
        tools += [value] if is_tool(value) else []
        at = system.find("{", at)
    return tools


def looks_like(row: Any) -> bool:
    texts = isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("system", "chat"))
    return texts and column_of(row) is None


FORMAT = Format("glaive", "glaive-function-calling-v2 as published: system and chat text", read, looks_like)
