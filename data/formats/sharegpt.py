"""ShareGPT with function_call and observation roles (LLaMA-Factory), and its ms-swift twin with tool_call roles.

`tools` is a JSON string of JSON Schema functions; where it is empty the list is looked for in the system text, which is
where conversions of ToolACE leave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data.formats.dialogue import Turn, samples, turns_of
from data.formats.items import Context, Format, Item, need_list
from data.formats.tagged import tool_list

_CALL_ROLES = ("function_call", "tool_call")


def read(row: Any, context: Context) -> Iterator[Item]:
    messages = row["conversations"] if "conversations" in row else row.get("messages")
    tools = need_list(row.get("tools"), "`tools`")
    system = row.get("system") or ""
    in_system = tool_list(system)
    turns = [Turn("system", "" if in_system is not None else system), *turns_of(messages)]
    yield from samples(turns, tools or in_system or [], context)


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    if isinstance(row.get("conversations"), list):
        return "tools" in row or any(m.get("from") in _CALL_ROLES for m in row["conversations"] if isinstance(m, dict))
    messages = row.get("messages")
    if not isinstance(messages, list):
        return False
    return any(m.get("role") in _CALL_ROLES for m in messages if isinstance(m, dict))


FORMAT = Format("sharegpt", "ShareGPT or messages with function_call / tool_call turns (LLaMA-Factory, ms-swift)", read, looks_like)
