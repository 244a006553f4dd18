"""ShareGPT with function_call and observation roles (LLaMA-Factory), and its ms-swift twin with tool_call roles.

`tools` is a JSON string of JSON Schema functions; where it is empty the list is looked for in the system text, which is
where conversions of ToolACE leave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data.formats import conversation
from data.formats.items import Context, Format, Item


def read(row: Any, context: Context) -> Iterator[Item]:
    yield from conversation.read(row, context, listed=True)


def looks_like(row: Any) -> bool:
    key = conversation.column_of(row)
    if key is None:
        return False
    calling = not conversation.role_names(conversation.messages_of(row)).isdisjoint(conversation.CALL_ROLES)
    return calling or (key == "conversations" and "tools" in row)


FORMAT = Format("sharegpt", "ShareGPT or messages with function_call / tool_call turns (LLaMA-Factory, ms-swift)",
                read, looks_like)
