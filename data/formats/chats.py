"""Conversations with messages, by corpus: Hermes, ToolACE, ShareGPT, OpenAI. One reader serves all (conversation.py).

They differ in how a row is recognised, and in where its tools and calls may stand. `listed`: a list of tools may stand
in the system text, which is where conversions of ToolACE leave it. `bracketed`: calls are `[name(...)]`.
"""

from functools import partial
from typing import Any

from data.formats.conversation import CALL_ROLES, column_of, is_structured, messages_of, read, role_names
from data.formats.items import Format


def is_hermes(row: Any) -> bool:
    """Tags in a text, and no structured calls, which would say more than the tags."""
    messages = messages_of(row)
    texts = [m.get("value", m.get("content")) for m in messages if isinstance(m, dict)]
    tagged = any(isinstance(text, str) and ("<tools>" in text or "<tool_call>" in text) for text in texts)
    return tagged and not is_structured(messages)


def is_toolace(row: Any) -> bool:
    """The tool list in `system`, and plain roles."""
    messages = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not isinstance(row.get("system"), str):
        return False
    plain = role_names(messages) <= {"user", "assistant", "tool"}
    return plain and not is_structured(messages) and "<tools>" not in row["system"]


def is_sharegpt(row: Any) -> bool:
    """Roles of calls, or `tools` beside `conversations`: a JSON string of JSON Schema functions."""
    key = column_of(row)
    calling = not role_names(messages_of(row)).isdisjoint(CALL_ROLES)
    return key is not None and (calling or (key == "conversations" and "tools" in row))


def is_openai(row: Any) -> bool:
    """Any other messages."""
    return isinstance(row, dict) and (isinstance(row.get("messages"), list) or column_of(row) is not None)


HERMES = Format("hermes", "Hermes dialogues: <tools> in the system text, <tool_call> in replies", read, is_hermes)
TOOLACE = Format("toolace", "ToolACE dialogues: tools in the system text, pythonic calls",
                 partial(read, listed=True, bracketed=True), is_toolace)
SHAREGPT = Format("sharegpt", "ShareGPT or messages with function_call / tool_call turns (LLaMA-Factory, ms-swift)",
                  partial(read, listed=True), is_sharegpt)
OPENAI = Format("openai", "OpenAI messages with tools and tool_calls", read, is_openai)
