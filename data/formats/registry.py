"""All formats by name, and the guess behind `--from auto`. The order is that of the guess: special layouts first."""

from typing import Any

from data.formats import (
    apibank,
    bfcl,
    chats,
    exchange,
    functionchat,
    glaive,
    mcp,
    prompts_in_text,
    queries,
    sealtools,
    toolalpaca,
    toolbench,
    trl,
    xlam,
)
from data.formats.items import Format

FORMATS: dict[str, Format] = {fmt.name: fmt for fmt in (
    toolalpaca.FORMAT, prompts_in_text.TOOLRL, prompts_in_text.MASKED, sealtools.FORMAT, sealtools.NESTOOLS,
    apibank.FORMAT, exchange.FORMAT, xlam.FORMAT,
    prompts_in_text.NESTFUL, trl.FORMAT, chats.HERMES, glaive.FORMAT, chats.TOOLACE, chats.SHAREGPT,
    functionchat.FORMAT, chats.OPENAI,
    bfcl.FORMAT, prompts_in_text.MTU, toolbench.FORMAT, mcp.FORMAT, mcp.TOOLS, queries.FORMAT)}

# Rows that no reader takes, by keys that tell them, and why.
NOT_SERVED: tuple[tuple[set[str], str], ...] = (
    ({"name_for_human"}, "a plugin manifest: marketing lines, no parameters"),
    ({"Cors"}, "a public API list: one-line descriptions, no parameters"),
    ({"custom_id", "method", "body"}, "requests of OpenAI's batch service: questions without answers; the object under "
                                      "'body' of each line, with its messages and tools, is a row that can be read"),
    ({"custom_id", "response"}, "answers of OpenAI's batch service without their questions; join each with its "
                                "request: messages, the answer's message last, and tools"),
    ({"input", "preferred_output"}, "OpenAI's preference rows; the messages of 'input' and 'preferred_output' in one "
                                    "list, with the tools of 'input', are a row that can be read"),
    ({"correct_answer", "answers", "target_tool"}, "When2Call's test: a benchmark, for evaluation alone"),
    ({"message", "tools", "tool_calls"}, "rows of Cohere's first chat service; as 'messages' (User, Chatbot) with the "
                                         "same tools they can be read"),
)
KEYS_SHOWN = 8          # of a row that no format recognises


# Columns of text that somebody says: a row of them is no dictionary of descriptions, though no reader may take it.
_SAID = {"query", "user_request", "instruction", "input", "output", "prompt", "response", "question", "answer", "text",
         "completion"}


def guess(row: Any) -> Format | None:
    """The first format that recognises the row, or None."""
    return next((fmt for fmt in FORMATS.values() if fmt.looks_like(row)), None)


def seen_in(row: Any) -> str:
    """What a row that no format recognises looks like, and where rows may lie in it, for an error."""
    if not isinstance(row, dict):
        return f"the first is {type(row).__name__}, not an object"
    keys = ", ".join(list(row)[:KEYS_SHOWN]) + ", ..." * (len(row) > KEYS_SHOWN)
    inside = [f"{key!r} ({len(value):,} objects)" for key, value in row.items()
              if isinstance(value, list) and value and all(isinstance(one, dict) for one in value)]
    place = f"; its rows may lie in {' or '.join(inside[:KEYS_SHOWN])}: write such a list to a file of its own"
    return f"the first has the keys {keys}{place * bool(inside)}"


def not_served(row: Any) -> str | None:
    """Why a row of a known corpus has no reader; None where it may have one."""
    if not isinstance(row, dict) or not row:
        return None
    if isinstance(row.get("entries"), list) and row["entries"] and isinstance(row["entries"][0], dict):
        row = row["entries"][0]
    for keys, why in NOT_SERVED:
        if keys <= row.keys():
            return why
    values = list(row.values())
    if len(row) > 1 and all(isinstance(value, str) for value in values) and not _SAID & set(row):
        return "a dictionary of names and descriptions: no parameters, no queries"
    if all(isinstance(value, list) and all(isinstance(part, str) for part in value) for value in values):
        return "lists of names: no parameters, no queries"
    return None
