"""xLAM / APIGen: query, tools and answers, the last two JSON strings (or real lists, as in Hammer's copies)."""

from collections.abc import Iterator
from typing import Any

from data.formats.conversation import answered, earlier
from data.formats.items import (
    Context,
    Format,
    Item,
    RowError,
    Sample,
    is_nothing,
    need_list,
    need_text,
    refused,
    unanswered,
)


def read(row: Any, context: Context) -> Iterator[Item]:
    tools = need_list(row.get("tools"), "`tools`")
    query = need_text(row, "query")
    if is_nothing(row["answers"]):
        yield from unanswered("no_answer", query, tools)      # an empty list is an answer, nothing is none
        return
    before = earlier(row)
    if before:
        said = [{"role": "assistant", "content": "", "tool_calls": row["answers"]}]
        yield from answered(row, [*before, {"role": "user", "content": query}], said, context)
        return
    try:
        yield Sample(query, tools, need_list(row["answers"], "`answers`", "calls"))
    except RowError as error:
        yield from refused(error, query, tools)


def looks_like(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("query"), str) and "tools" in row and "answers" in row


FORMAT = Format("xlam", "xLAM-function-calling-60k and APIGen rows: query, tools, answers", read, looks_like)
