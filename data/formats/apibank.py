"""API-Bank: dialogues up to a call. Three layouts: raw dialogues, prepared prompts, and Hammer's query/tools/answers.

Every row is one call with the whole dialogue before it, so its query is the transcript of that dialogue (a single user
message stays as it is). The request "Generate API Request:" is a cue for the model under test, not part of what was
said.
"""

import re
from collections.abc import Iterator
from typing import Any

from data.formats.dialogue import Turn, role_of, transcript
from data.formats.items import (
    Ask,
    Context,
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
from data.formats.parts import failed
from data.formats.spelled import offered, pythonic
from data.formats.tagged import value_at

CUE = "Generate API Request:"
_REQUEST = re.compile(r"\[(?P<name>\w+)\((?P<arguments>.*)\)\]", re.DOTALL)
_ARGUMENT = re.compile(r"(?P<key>\w+)='(?P<value>.*?)'(?=, \w+='|$)", re.DOTALL)
_ARGUMENTS = re.compile(r"\w+='.*'", re.DOTALL)


def read(row: Any, context: Context) -> Iterator[Item]:
    if "instruction" in row:
        yield _prompt(row)
    elif isinstance(row.get("query"), list):
        turns = _turns(row["query"])
        query, tools = transcript(turns), need_list(row.get("tools"), "`tools`")
        if is_nothing(row.get("answers")):
            yield from unanswered("no_answer", query, tools)
            return
        yield Sample(query, tools, need_list(row.get("answers"), "`answers`", "calls"),
                     notes=noted(dialogue=len(turns) > 1))
    else:
        yield from _raw_dialogue(row, context)


def _turns(messages: list[Any]) -> list[Turn]:
    """The dialogue without the cue, and without an assistant's announcement of the call that is asked for."""
    turns = [Turn(role_of(message.get("role")), str(message.get("content") or "").replace(CUE, "").strip())
             for message in messages]
    while turns and turns[-1].role == "assistant":
        turns.pop()
    if not any(turn.role == "user" for turn in turns):
        raise RowError("no_user_message", "no user speaks in `query`", stage="query")
    return turns


def _prompt(row: Any) -> Item:
    """A prepared prompt: API descriptions one after another in `instruction`, `User:` and `AI:` lines in `input`."""
    text = need_text(row, "instruction").partition("API descriptions:")[2]
    tools = []
    at = text.find("{")
    while at >= 0:
        value, at = value_at(text, at, "tools")
        tools.append(value)
        at = text.find("{", at)
    turns = []
    for line in need_text(row, "input").replace(CUE, "").strip().split("\n"):
        mark, colon, said = line.partition(":")
        if colon and mark in ("User", "AI", "API"):
            turns.append(Turn(role_of(mark), said.strip()))
        elif turns:
            turns[-1] = Turn(turns[-1].role, f"{turns[-1].text}\n{line}".strip())
    while turns and turns[-1].role == "assistant":
        turns.pop()
    call = need_text(row, "expected_output").partition("API-Request:")[2].strip()
    if not call:
        return Ask(transcript(turns), tools)
    return Sample(transcript(turns), tools, read_request(call, tools), notes=noted(dialogue=len(turns) > 1))


def read_request(text: str, tools: list[Any]) -> list[dict[str, Any]]:
    """`[Name(key='value', ...)]`. The corpus writes quotes inside values as they are (`attendees='['A', 'B']'`), so
    where that is no literal a value ends at the quote before the next `, key=` or the closing bracket. Raises RowError.
    """
    try:
        return pythonic(text, offered(tools))
    except RowError:
        match = _REQUEST.fullmatch(text)
        if not match or not _ARGUMENTS.fullmatch(match["arguments"]):
            raise
        return [{"name": match["name"], "arguments": {m["key"]: m["value"]
                                                      for m in _ARGUMENT.finditer(match["arguments"])}}]


def _raw_dialogue(row: Any, context: Context) -> Iterator[Item]:
    """A dialogue of level 1 or 2 as a list of its lines; the documents of its APIs come from `--tools`."""
    turns = []
    for line in row["dialogue"]:
        if line.get("role") == "API":
            turns.append(Turn("call", "", [{"name": line.get("api_name"), "arguments": line.get("param_dict") or {}}],
                              learnt=not failed(line.get("result"))))
            turns.append(Turn("tool", str((line.get("result") or {}).get("output"))))
        else:
            turns.append(Turn(role_of(line.get("role")), line.get("text") or ""))
    known = context.tools or {}
    names = list(dict.fromkeys(turn.calls[0]["name"] for turn in turns if turn.calls))
    tools = [known[name] for name in names if name in known]
    first = next((at for at, turn in enumerate(turns) if turn.calls), None)
    spoken = [turn for turn in turns if turn.role == "user"]
    yield LeftOut("lines_behind_a_gap", row.get("lines_behind_a_gap", 0))
    if not spoken:
        raise RowError("no_user_message", "no user speaks in the dialogue", stage="query")
    if first is None or len(tools) < len(names):
        yield Ask(transcript(turns[:first or len(turns)]), tools)
        return
    before = turns[:first]
    while before and before[-1].role == "assistant":
        before.pop()
    if turns[first].learnt:
        yield Sample(transcript(before), tools, turns[first].calls, notes=("only_called_tools",))
    else:
        yield from unanswered("answer_not_to_learn", transcript(before), tools)
    yield LeftOut("call_after_result", sum(bool(turn.calls) for turn in turns[first + 1:]))


def is_line(record: Any) -> bool:
    """One line of a raw dialogue, which fills its file."""
    return (isinstance(record, dict) and record.get("role") in ("User", "AI", "API")
            and ("text" in record or "api_name" in record))


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    prompt = isinstance(row.get("instruction"), str) and "API descriptions:" in row["instruction"]
    dialogue = row.get("dialogue")
    raw = isinstance(dialogue, list) and bool(dialogue) and all(is_line(line) for line in dialogue)
    return prompt or raw or is_line(row) or (isinstance(row.get("query"), list) and "answers" in row)


FORMAT = Format("apibank", "API-Bank: prepared prompts, raw dialogues, or Hammer's query/tools/answers", read,
                looks_like, is_line=is_line)
