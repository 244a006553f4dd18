"""ToolACE: `system` with the tool list in its text, `conversations` whose calls are pythonic text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data.formats import conversation
from data.formats.items import Context, Format, Item


def read(row: Any, context: Context) -> Iterator[Item]:
    yield from conversation.read(row, context, listed=True, bracketed=True)


def looks_like(row: Any) -> bool:
    messages = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not isinstance(row.get("system"), str):
        return False
    plain = conversation.role_names(messages) <= {"user", "assistant", "tool"}
    return plain and not conversation.is_structured(messages) and "<tools>" not in row["system"]


FORMAT = Format("toolace", "ToolACE dialogues: tools in the system text, pythonic calls", read, looks_like)
