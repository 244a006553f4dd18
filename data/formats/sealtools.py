"""Seal-Tools and NesTools: tool records with a results schema, queries with calls, and the fine-tuning files.

A later call may use an earlier one's result as a value ("API_call_1", named in that call's `responses`). The value is
kept as text and the sample noted `nested_reference`; the names of the results themselves have no place in a call.
"""

import re
from collections.abc import Iterator
from typing import Any

from data.formats.items import (
    Ask,
    Context,
    Document,
    Format,
    Item,
    LeftOut,
    RowError,
    Sample,
    is_nothing,
    need_list,
    need_text,
    noted,
    unanswered,
)
from data.formats.literals import LiteralError, literal_at
from data.schema import leaves

_REFERENCE = re.compile(r"API_call_\d+")


def read(row: Any, context: Context) -> Iterator[Item]:
    if "conversations" in row:
        yield from _prompt(row)
    elif "calling" in row:
        yield from _query(row, context)
    else:
        yield Document({key: row[key] for key in row if key != "field"},
                       about={"field": row["field"]} if row.get("field") else {})


def _query(row: Any, context: Context) -> Iterator[Item]:
    """A query with calls but no candidates: the called tools stand in for them, where the tool file is at hand."""
    query, calls = need_text(row, "query"), need_list(row["calling"], "`calling`", "calls")
    known = context.tools or {}
    tools = {call.get("api"): known[call["api"]] for call in calls if isinstance(call, dict)
             and call.get("api") in known}
    if not calls or len(tools) < len({call.get("api") for call in calls if isinstance(call, dict)}):
        yield LeftOut("calls_without_tools")
        yield Ask(query, list(tools.values()), notes=("no_candidate_tools",))
    else:
        yield from _sample(query, list(tools.values()), calls, ("only_called_tools",))


def _prompt(row: Any) -> Iterator[Item]:
    """A fine-tuning row: the tools and the query stand in the prompt, as Python literals."""
    messages = need_list(row["conversations"], "`conversations`", "query")
    prompt, answer = (messages[0].get("value"), messages[1].get("value")) if len(messages) == 2 else (None, None)
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise RowError("bad_prompt", "expected a prompt and an answer, both texts")
    tools = _literal_after(prompt, "api_list = ", "tools")
    yield from _sample(_instruction(prompt), tools, _literal_after(answer, "", "calls"))


def _literal_after(text: str, mark: str, stage: str) -> Any:
    at = text.find(mark)
    if at < 0:
        raise RowError("bad_prompt", f"no {mark.strip()!r} in the prompt", stage=stage)
    try:
        return literal_at(text, at + len(mark))[0]
    except LiteralError as error:
        raise RowError("bad_" + stage, f"no literal after {mark.strip()!r}: {error}", stage=stage) from None


def _instruction(prompt: str) -> str:
    """The query stands between quotes that are not escaped inside it: all from the first one to the line `Output:`."""
    inside = prompt.rpartition("task_instruction = ")[2].rpartition("\nOutput:")[0].strip()
    if len(inside) < 3 or inside[0] not in "'\"" or inside[-1] != inside[0]:
        raise RowError("bad_prompt", "`task_instruction` is no quoted text before `Output:`", stage="query")
    return inside[1:-1]


def read_nestools(row: Any, context: Context) -> Iterator[Item]:
    task, tools = need_text(row, "task"), need_list(row.get("api"), "`api`")
    if is_nothing(row.get("call")):
        yield from unanswered("no_answer", task, tools)
    else:
        yield from _sample(task, tools, need_list(row["call"], "`call`", "calls"), ("only_called_tools",))


def _sample(query: Any, tools: Any, calls: Any, notes: tuple[str, ...] = ()) -> Iterator[Item]:
    if not isinstance(query, str) or not isinstance(tools, list) or not isinstance(calls, list):
        raise RowError("bad_prompt", f"expected a text and two lists, found {type(query).__name__}, "
                                     f"{type(tools).__name__}, {type(calls).__name__}")
    nested = any(isinstance(value, str) and _REFERENCE.fullmatch(value) for call in calls if isinstance(call, dict)
                 for value in leaves(call.get("parameters")))
    yield Sample(query, tools, calls, notes=(*notes, *noted(nested_reference=nested)))
    yield LeftOut("names_of_results", sum(bool(isinstance(call, dict) and call.get("responses")) for call in calls))


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    if "api_name" in row and "api_description" in row or ("calling" in row and "query" in row):
        return True
    messages = row.get("conversations")
    return (isinstance(messages, list) and bool(messages) and isinstance(messages[0], dict)
            and "api_list = " in str(messages[0].get("value"))[:2000])


FORMAT = Format("sealtools", "Seal-Tools: tool records, queries with calls, fine-tuning prompts", read, looks_like)
NESTOOLS = Format("nestools", "NesTools: task, api, call", read_nestools,
                  lambda row: isinstance(row, dict) and "task" in row and "api" in row and "call" in row)
