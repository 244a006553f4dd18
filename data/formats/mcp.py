"""Tool lists without queries: MCP `tools/list` results, server records, and plain lists of function schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data.formats.items import Context, Document, Format, Item, RowError, need_list


def read(row: Any, context: Context) -> Iterator[Item]:
    result = row.get("result") if isinstance(row.get("result"), dict) else row
    tools = need_list(result.get("tools"), "`tools`")
    if not tools:
        raise RowError("no_tools", "the record lists no tool", stage="tools")
    about = {key: row[key] for key in ("server_name", "license") if row.get(key)}
    for number, tool in enumerate(tools):
        yield Document(tool, str(number), about)


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict) or "messages" in row or "conversations" in row or "query" in row:
        return False
    result = row.get("result") if isinstance(row.get("result"), dict) else row
    return isinstance(result.get("tools"), list)


FORMAT = Format("mcp", "MCP tools/list results or server records (tools only)", read, looks_like)


def read_tool(row: Any, context: Context) -> Iterator[Item]:
    yield Document(row["tool"] if isinstance(row.get("tool"), dict) else row)


def looks_like_tool(row: Any) -> bool:
    """A function schema by itself, in the OpenAI wrapper, under `tool`, or with MCP's input schema."""
    if not isinstance(row, dict):
        return False
    tool = row.get("tool") if isinstance(row.get("tool"), dict) else row.get("function", row)
    return isinstance(tool, dict) and isinstance(tool.get("name"), str) and any(
        isinstance(tool.get(key), dict) for key in ("parameters", "arguments", "inputSchema", "input_schema", "query_parameters", "path_parameters"))


TOOLS = Format("tools", "one function schema per row (OpenAI, MCP, ToolDev's own)", read_tool, looks_like_tool)
