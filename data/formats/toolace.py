"""ToolACE: `system` with the tool list in its text, `conversations` whose calls are pythonic text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data.formats.dialogue import Turn, calling, head_of, samples
from data.formats.items import Context, Format, Item, RowError, need_list
from data.formats.literals import LiteralError, looks_like_calls, parse_calls
from data.formats.tagged import tool_list


def parameter_names(tools: list[Any]) -> dict[str, list[str]]:
    """Tool name -> names of its parameters in order, for the parser of pythonic calls."""
    out = {}
    for tool in tools:
        if isinstance(tool, dict) and isinstance(tool.get("name"), str):
            parameters = tool.get("parameters") or tool.get("arguments") or {}
            properties = parameters.get("properties", parameters) if isinstance(parameters, dict) else {}
            out[tool["name"]] = list(properties) if isinstance(properties, dict) else []
    return out


def pythonic(text: str, names: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The calls of one assistant turn. Raises RowError `bad_calls`."""
    try:
        return [{"name": name, "arguments": arguments} for name, arguments in parse_calls(text, names)]
    except LiteralError as error:
        raise RowError("bad_calls", str(error), stage="calls") from None


def read(row: Any, context: Context) -> Iterator[Item]:
    system = row.get("system") or ""
    found = tool_list(system)
    tools = found if found is not None else need_list(row.get("tools"), "`tools`")
    names = parameter_names(tools)
    turns = [Turn("system", "" if found is not None else system)]
    for message in need_list(row.get("conversations"), "`conversations`", "query"):
        role, text = head_of(message)
        if role in ("assistant", "call") and looks_like_calls(text, names):
            turns.append(calling(role, text, lambda text=text: pythonic(text, names)))
        elif role == "call":
            turns.append(calling(role, text, lambda text=text: need_list(text, "the call turn", "calls")))
        else:
            turns.append(Turn(role, text))
    yield from samples(turns, tools, context)


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("conversations"), list) or not isinstance(row.get("system"), str):
        return False
    roles = {message.get("from") for message in row["conversations"] if isinstance(message, dict)}
    return roles <= {"user", "assistant", "tool"} and "<tools>" not in row["system"]


FORMAT = Format("toolace", "ToolACE dialogues: tools in the system text, pythonic calls", read, looks_like)
