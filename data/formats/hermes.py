"""Hermes function calling: ShareGPT roles, tools between `<tools>` tags in the system text, `<tool_call>` in replies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data.formats.dialogue import Turn, calling, head_of, samples
from data.formats.items import Context, Format, Item, LeftOut, need_list
from data.formats.tagged import after_thinking, values_between, words_around


def read(row: Any, context: Context) -> Iterator[Item]:
    messages = need_list(row.get("conversations") or row.get("messages"), "`conversations`", "query")
    tools = need_list(row.get("tools"), "`tools`")
    turns = []
    for message in messages:
        role, text = head_of(message)
        if role == "system" and "<tools>" in text:
            tools = tools or values_between(text, "tools", "tools")
            text = ""
        said = after_thinking(text) if role == "assistant" else text
        if said != text:
            yield LeftOut("reasoning")
        if role == "assistant" and "<tool_call>" in said:
            turns.append(calling(role, said, lambda said=said: values_between(said, "tool_call"), words_around(said, "tool_call")))
        else:
            turns.append(Turn(role, said))
    yield from samples(turns, tools, context)


def looks_like(row: Any) -> bool:
    messages = row.get("conversations") or row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list):
        return False
    texts = [m.get("value", m.get("content")) for m in messages if isinstance(m, dict)]
    return any(isinstance(text, str) and ("<tools>" in text or "<tool_call>" in text) for text in texts)


FORMAT = Format("hermes", "Hermes dialogues: <tools> in the system text, <tool_call> in replies", read, looks_like)
