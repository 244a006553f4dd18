"""Tool lists without queries: MCP `tools/list` results, server records, and plain lists of function schemas."""

from collections.abc import Iterator
from typing import Any

from data.formats.conversation import COLUMNS, as_messages, column_of
from data.formats.items import Context, Document, Format, Item, RowError, group_of, tools_in
from data.formats.keywords import describes_an_argument
from data.formats.spelled import calls_in
from data.formats.tooldocs import DESCRIPTIONS, PARAMETERS

_SAID = {"query", "user_request", "instruction", "input", "output", "prompt", "response", "question", "answer",
         "answers", "text", "completion", "chosen", "rejected", "user", "assistant", "utterance", "request", "reply",
         "calls", "tool_calls", "contents", "message", "user_input", "user_query", "user_message", "task", "events",
         "spans", "ground_truth", "gold", "expected_calls", "target"}
_OF_TOOLS = ("tools", "tool", "function", "result")
_PARAMETERS = ("parameters", "arguments", "inputSchema", "input_schema", "query_parameters", "path_parameters")
_ENVELOPE = ("jsonrpc", "nextCursor", "_meta")


def said_beside(row: Any) -> list[str]:
    """The columns of a row that hold a conversation, a query, an answer or calls; a list of tools stands alone."""
    beside = [(str(key), value) for key, value in row.items() if value and key not in _OF_TOOLS]
    return sorted(key for key, value in beside if _is_said(key, value))


def _is_said(key: str, value: Any) -> bool:
    named = key.lower() in (*_SAID, *COLUMNS) and isinstance(value, (str, list, dict))
    return named or as_messages(value) is not None or calls_in(value) is not None


def _refuse_said(row: Any) -> None:
    said = said_beside(row)
    if said:
        raise RowError("unread_columns", f"tools beside {', '.join(said)[:120]}: no list of tools, and no other reader "
                                         "knows these columns; rename them, or take the tools out by themselves")


def read(row: Any, context: Context) -> Iterator[Item]:
    result = row.get("result") if isinstance(row.get("result"), dict) else row
    _refuse_said(row)
    tools = tools_in(result.get("tools"))
    if not tools:
        raise RowError("no_tools", "the record lists no tool", stage="tools")
    for key in _ENVELOPE:
        row.get(key)
    about = {key: row[key] for key in ("server_name", "license") if row.get(key)}
    group = group_of(row, "server_name", "overview")
    for number, tool in enumerate(tools):
        yield Document(tool, str(number), about, group)


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict) or "messages" in row or "conversations" in row or "query" in row:
        return False
    result = row.get("result") if isinstance(row.get("result"), dict) else row
    return isinstance(result.get("tools"), list) and not said_beside(row)


FORMAT = Format("mcp", "MCP tools/list results or server records (tools only)", read, looks_like)


def read_tool(row: Any, context: Context) -> Iterator[Item]:
    if isinstance(row.get("tool"), dict) or isinstance(row.get("function"), dict):
        row.get("type")
        _refuse_said(row)
    document = row["tool"] if isinstance(row.get("tool"), dict) else row
    inner = document.get("function")
    if _holds_values(inner if isinstance(inner, dict) else document):
        raise RowError("bad_tool", "it has values where a tool describes parameters, as a call or a run has",
                       stage="tools")
    yield Document(document)


def looks_like_tool(row: Any) -> bool:
    """A function schema by itself, in the OpenAI wrapper, under `tool`, or with MCP's input schema."""
    if not isinstance(row, dict):
        return False
    tool = row.get("tool") if isinstance(row.get("tool"), dict) else row.get("function", row)
    if (tool is not row and said_beside(row)) or column_of(row) is not None:
        return False
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        return False
    if any(isinstance(tool.get(key), dict) for key in _PARAMETERS):
        return not _holds_values(tool)
    # Keys that calls and other records have, too, and texts: only beside a description.
    there = [tool[key] for key in PARAMETERS if tool.get(key)] if isinstance(tool.get("description"), str) else []
    return any(isinstance(given, dict) or isinstance(given, str) and given.lstrip().startswith("{") for given in there)


def _holds_values(tool: dict[str, Any]) -> bool:
    """Are its parameters those of a call or of a run: values, none of which describes a parameter?

    A tool that does not say what it does needs more than words: of a log, `{"city": "New York"}` is a call.
    """
    tables = [tool[key] for key in _PARAMETERS if isinstance(tool.get(key), dict)]
    says_what_it_does = any(isinstance(tool.get(key), str) and tool[key].strip() for key in (*DESCRIPTIONS, "title"))
    describes = _describes if says_what_it_does else describes_an_argument
    return any(table and not any(map(describes, table.values())) for table in tables)


def _describes(value: Any) -> bool:
    """Can a value be the schema, the type or the description of a parameter?"""
    said = isinstance(value, str) and " " in value.strip()
    return said or isinstance(value, dict | list | bool) or describes_an_argument(value)


TOOLS = Format("tools", "one function schema per row (OpenAI, MCP, ToolDev's own)", read_tool, looks_like_tool)
