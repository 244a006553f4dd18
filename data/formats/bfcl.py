"""BFCL: question and function documents, with the accepted answers in a second file keyed by id.

An accepted answer lists the values that each argument may have; the first is taken ("" among the values means that the
argument may be left out). An irrelevance item has no answer and its calls are []. For scoring use eval/bfcl/ instead.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from data.formats.dialogue import transcript, turns_of
from data.formats.items import Ask, Context, Format, Item, LeftOut, RowError, Sample, is_nothing, need_list, unanswered


def read(row: Any, context: Context) -> Iterator[Item]:
    messages = row.get("question")
    if isinstance(messages, list) and messages and isinstance(messages[0], list):
        yield LeftOut("later_user_turn", len(messages) - 1)
        messages = messages[0]
    turns = turns_of(messages) if isinstance(messages, list) else []
    query = transcript(turns) if turns else messages
    if not isinstance(query, str) or not query.strip():
        raise RowError("no_query", "`question` holds no message", stage="query")
    yield LeftOut("system_prompt", int(any(turn.role == "system" for turn in turns)))
    tools = need_list(row.get("function"), "`function`")
    identity = str(row.get("id"))
    truth = (context.answers or {}).get(identity, row.get("ground_truth"))
    if is_nothing(truth) and "irrelevance" in identity:
        truth = []
    if is_nothing(truth) and context.answers is not None:
        yield from unanswered("no_answer", query, tools)
    elif is_nothing(truth):
        yield Ask(query, tools)
    else:
        yield Sample(query, tools, [_call(entry, tools) for entry in need_list(truth, "`ground_truth`", "calls")])
        yield LeftOut("accepted_alternatives", int(bool(truth)))


def _call(entry: Any, tools: list[Any]) -> dict[str, Any]:
    """{tool: {argument: [accepted values]}} -> one call."""
    if not isinstance(entry, dict) or len(entry) != 1:
        raise RowError("bad_call", f"an answer must be one tool with its arguments, found {entry!r:.80}", stage="calls")
    (name, arguments), = entry.items()
    if isinstance(arguments, list) and len(arguments) == 1:
        arguments, = arguments
    if not isinstance(arguments, dict):
        raise RowError("bad_call", f"the accepted arguments of {name!r} are {type(arguments).__name__}", stage="calls")
    return {"name": name, "arguments": _chosen(arguments, _required(name, tools))}


def _required(name: str, tools: list[Any]) -> list[str]:
    """The arguments that a tool's document requires."""
    for tool in tools:
        if isinstance(tool, dict) and tool.get("name") == name and isinstance(tool.get("parameters"), dict):
            return tool["parameters"].get("required") or []
    return []


def _chosen(accepted: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """The first accepted value of every argument; where that is "" beside others, none if it is not required."""
    out = {}
    for name, values in accepted.items():
        if not isinstance(values, list):
            out[name] = _value(values)
        elif values and (values[0] != "" or name in required or all(value == "" for value in values)):
            out[name] = _value(values[0])
    return out


def _value(value: Any) -> Any:
    """One accepted value; the fields of an object inside it list accepted values again."""
    if isinstance(value, dict):
        return _chosen(value)
    return [_value(inner) for inner in value] if isinstance(value, list) else value


def looks_like(row: Any) -> bool:
    return isinstance(row, dict) and "question" in row and "function" in row


FORMAT = Format("bfcl", "BFCL questions with function documents; answers from possible_answer/ or --answers", read,
                looks_like)
