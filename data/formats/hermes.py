"""Hermes function calling: ShareGPT roles, `<tools>` in the system text, `<tool_call>` in replies."""

from __future__ import annotations

from typing import Any

from data.formats.conversation import is_structured, messages_of, read
from data.formats.items import Format


def looks_like(row: Any) -> bool:
    """Tags in a text, and no structured calls, which would say more than the tags."""
    messages = messages_of(row)
    texts = [m.get("value", m.get("content")) for m in messages if isinstance(m, dict)]
    tagged = any(isinstance(text, str) and ("<tools>" in text or "<tool_call>" in text) for text in texts)
    return tagged and not is_structured(messages)


FORMAT = Format("hermes", "Hermes dialogues: <tools> in the system text, <tool_call> in replies", read, looks_like)
