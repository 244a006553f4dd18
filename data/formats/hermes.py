"""Hermes function calling: ShareGPT roles, tools between `<tools>` tags in the system text, `<tool_call>` in replies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data.formats.dialogue import Turn, head_of, samples
from data.formats.items import Context, Format, Item, need_list
from data.formats.tagged import after_thinking, values_between, without_block


def read(row: Any, context: Context) -> Iterator[Item]:
    messages = need_list(row.get("conversations") or row.get("messages"), "`conversations`", "query")
    tools = need_list(row.get("tools"), "`tools`")
    turns = []
    for message in messages:
        role, text = head_of(message)
        if role == "system" and "<tools>" in text:
            tools = tools or values_between(text, "tools", "tools")
            text = ""
        if role == "assistant":
            text = after_thinking(text)
        calls = values_between(text, "tool_call") if role == "assistant" and "<tool_call>" in text else []
        turns.append(Turn(role, without_block(text, "tool_call") if calls else text, calls))
    yield from samples(turns, tools, context)


def looks_like(row: Any) -> bool:
    messages = row.get("conversations") or row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list):
        return False
    texts = [m.get("value", m.get("content")) for m in messages if isinstance(m, dict)]
    return any(isinstance(text, str) and ("<tools>" in text or "<tool_call>" in text) for text in texts)


FORMAT = Format("hermes", "Hermes dialogues: <tools> in the system text, <tool_call> in replies", read, looks_like)
