"""FunctionChat-Bench, whose three files wrap the same parts: OpenAI's messages, tools and `tool_calls`."""

from collections.abc import Iterator
from typing import Any

from data.formats.dialogue import transcript, turns_of
from data.formats.items import (
    Ask,
    Context,
    Format,
    Item,
    LeftOut,
    Refused,
    RowError,
    Sample,
    json_inside,
    need_list,
    noted,
    refused,
    unanswered,
)
from data.formats.spelled import fault_of, offered


def read(row: Any, context: Context) -> Iterator[Item]:
    if "input_messages" in row:
        yield from _decision(row["input_messages"], row.get("input_tools"), row.get("ground_truth"), "")
        yield LeftOut("accepted_alternatives", int(bool(row.get("acceptable_arguments"))))
    elif "turns" in row:
        for turn in need_list(row["turns"], "`turns`", "query"):
            yield from _decision(turn["query"], row.get("tools"), turn.get("ground_truth"),
                                 f"turn{turn.get('turn_num')}")
    else:
        yield from _single_calls(row)


def _decision(messages: Any, tools: Any, truth: Any, part: str) -> Iterator[Item]:
    """One dialogue up to the assistant's turn, and the turn that is right there (a call, or words)."""
    try:
        turns = turns_of(messages)
        query = transcript(turns)
        yield LeftOut("system_prompt", int(any(turn.role == "system" and turn.text.strip() for turn in turns)))
        tools = need_list(tools, "`tools`")
        if not isinstance(truth, dict):
            yield Ask(query, tools, part)
            return
        names = offered(tools)
        answer, = turns_of([{**truth, "role": "assistant"}], names)
        fault = answer.fault or (None if answer.calls else fault_of(answer.text, names))
        dialogue = sum(turn.role != "system" for turn in turns) > 1
        if fault:
            yield from refused(fault, query, tools, part)
        elif not answer.learnt:
            yield from unanswered("answer_not_to_learn", query, tools, part)
        else:
            yield Sample(query, tools, list(answer.calls), part,
                         noted(dialogue=dialogue, answer_in_words=not answer.calls))
    except RowError as error:
        yield Refused(error, part)


def _single_calls(row: Any) -> Iterator[Item]:
    """Every query with every candidate set: the distractors are what this file is for."""
    truth = {entry["serial_num"]: entry["content"] for entry in row["ground_truth"]}
    for query in row["query"]:
        number = query["serial_num"]
        call = json_inside(truth[number], "`ground_truth`", "calls")
        for candidates in row["tools"]:
            yield Sample(query["content"], candidates["content"], [call], f"{number}.{candidates['type']}")


def looks_like(row: Any) -> bool:
    return isinstance(row, dict) and ("input_messages" in row or "function_num" in row or "dialog_num" in row)


FORMAT = Format("functionchat", "FunctionChat-Bench: single calls, call decisions, dialogues", read, looks_like)
