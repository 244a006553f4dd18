"""Query lists: user queries without calls. MetaTool, TaskBench, SNIPS, any CSV with a query column, plain text."""

from collections.abc import Iterable, Iterator
from typing import Any

from data.formats.items import Ask, Context, Document, Format, Item, LeftOut, RowError
from data.formats.source import QUERY_COLUMNS
from data.formats.spelled import spelled_calls
from data.formats.turnmarks import holds_an_answer

_LABELS = ("Tool", "tool", "tools", "intent")


def read(row: Any, context: Context) -> Iterator[Item]:
    if isinstance(row, str):
        row = {"query": row}
    if "data" in row:
        yield from _utterance(row)
        return
    if "desc" in row and "id" in row:
        yield from _node(row)
        return
    column = _query_column(row)
    if column is None or not row[column].strip():
        why = f"no text under any of {', '.join(QUERY_COLUMNS)}; the row has {sorted(map(str, row))[:8]}"
        raise RowError("no_query", why, stage="query")
    if holds_an_answer(row[column]) or _is_calls(row[column]):
        why = f"`{column}` is a conversation with its answers, or a call: {row[column][:120]!r}"
        raise RowError("calls_in_text", why, stage="query")
    yield LeftOut("tool_label", int(any(row.get(label) for label in _LABELS)))
    yield Ask(row[column])


def _is_calls(text: str) -> bool:
    """Does a text spell calls, as a log of what a model wrote does?"""
    try:
        found = spelled_calls(text, {})
    except RowError:
        return True
    return found is not None and bool(found.calls)


def _query_column(row: Any) -> str | None:
    texts = [name for name, text in row.items() if isinstance(text, str)]
    return next((name for wanted in QUERY_COLUMNS for name in texts if name.lower() == wanted), None)


def _utterance(row: Any) -> Iterator[Item]:
    """SNIPS: the query is the segments joined; their entities are the slots of an intent."""
    segments = row["data"]
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise RowError("no_query", "`data` must be a list of segments", stage="query")
    text = "".join(str(segment.get("text", "")) for segment in segments)
    if not text.strip():
        raise RowError("no_query", "the segments hold no text", stage="query")
    yield LeftOut("slot", sum("entity" in segment for segment in segments))
    yield Ask(text.strip())


def _node(row: Any) -> Iterator[Item]:
    """TaskBench's tool descriptions: only those of daily life name their parameters."""
    if "parameters" not in row:
        why = f"the tool {row['id']!r} has kinds of input and output but no named parameters"
        raise RowError("no_parameters", why, stage="tools")
    yield Document(row)


def rows(document: Any) -> Iterable[Any] | None:
    """Split {"Intent": [utterances]} and {"nodes": [tools]} into rows; None for a document that is a row itself."""
    if not isinstance(document, dict):
        return None
    lists = [value for value in document.values() if isinstance(value, list)]
    if len(lists) == len(document) == 1 and lists[0] and isinstance(lists[0][0], dict) and (
            "data" in lists[0][0] or "nodes" in document):
        return lists[0]
    return None


def looks_like(row: Any) -> bool:
    if isinstance(row, str):
        return True
    if not isinstance(row, dict):
        return False
    if rows(row) is not None or "user_request" in row:
        return True
    others = {"tools", "answers", "api_list", "calling", "function", "messages", "conversations", "gt_api_list",
              "output"}
    return not others & set(row) and any(
        isinstance(row.get(key), str) for key in row if str(key).lower() in QUERY_COLUMNS)


FORMAT = Format("queries", "query lists: CSV, plain text, MetaTool, TaskBench, SNIPS (queries only)", read, looks_like,
                rows)
