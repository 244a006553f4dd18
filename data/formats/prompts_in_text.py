"""Corpora that keep everything inside one prompt: ToolRL, Hammer's masked rows, MTU-Bench; and NESTFUL beside them."""

import re
from collections.abc import Iterator
from typing import Any

from data.formats.conversation import as_messages
from data.formats.dialogue import Turn, transcript
from data.formats.items import (
    Context,
    Format,
    Item,
    LeftOut,
    RowError,
    Sample,
    need_list,
    need_text,
    noted,
    tools_in,
    unanswered,
)
from data.formats.spelled import fault_of, offered
from data.formats.tagged import value_at, values_between
from data.formats.thoughts import after_thinking
from data.schema import JsonError, strict_json_loads

_TOOL = re.compile(r"^\d+\. Name: (?P<name>[^\n]*)\nDescription: (?P<description>.*?)\nParameters: (?=\{)",
                   re.MULTILINE | re.DOTALL)
_SPOKEN = re.compile(r"<(?P<tag>user|think|tool_call|response|obs)>(?P<text>.*?)</(?P=tag)>", re.DOTALL)
_ROLES = {"user": "user", "tool_call": "assistant", "response": "assistant", "obs": "tool"}


def read_toolrl(row: Any, context: Context) -> Iterator[Item]:
    behind = need_text(row, "instruction").partition("**Available Tools**")[2]
    instruction = behind.partition("**Steps for Each Turn**")[0]
    tools = []
    for match in _TOOL.finditer(instruction):
        parameters, _ = value_at(instruction, match.end(), "tools")
        tools.append({"name": match["name"].strip(), "description": match["description"].strip(),
                      "parameters": parameters})
    turns = [Turn(_ROLES[match["tag"]], match["text"].strip()) for match in _SPOKEN.finditer(need_text(row, "input"))
             if match["tag"] != "think"]
    if not any(turn.role == "user" for turn in turns):
        raise RowError("no_user_message", "no <user> in `input`", stage="query")
    output = after_thinking(need_text(row, "output"))
    calls = values_between(output, "tool_call") if "<tool_call>" in output else []
    fault = None if calls else fault_of(row["output"], offered(tools))
    if fault:
        raise fault
    yield LeftOut("reasoning", row["output"].count("</think>") + row["input"].count("</think>"))
    yield LeftOut("words_beside_calls", int(bool(calls) and "<response>" in output))
    yield Sample(transcript(turns), tools, calls, notes=noted(dialogue=len(turns) > 1, answer_in_words=not calls))


TOOLRL = Format("toolrl", "ToolRL rows: tools in the instruction, <tool_call> after <think>", read_toolrl,
                lambda row: isinstance(row, dict) and "**Available Tools**" in str(row.get("instruction")))


def read_masked(row: Any, context: Context) -> Iterator[Item]:
    text = need_text(row, "instruction")
    tools = strict_json_part(text, "[BEGIN OF AVAILABLE TOOLS]", "[END OF AVAILABLE TOOLS]", "tools")
    query = _between(text, "[BEGIN OF QUERY]", "[END OF QUERY]", "query")
    answer = need_text(row, "output").strip().removeprefix("```json").strip("`").strip()
    try:
        calls = strict_json_loads(answer)
    except JsonError as error:
        raise RowError("bad_calls", f"`output` is not JSON: {error.detail}", stage="calls") from None
    if calls is None:
        raise RowError("bad_calls", "`output` is null, expected a list of calls", stage="calls")
    yield Sample(query, need_list(tools, "the tools"), need_list(calls, "the calls", "calls"))


def _between(text: str, opening: str, closing: str, stage: str) -> str:
    inside = text.partition(opening)[2].partition(closing)[0].strip()
    if not inside:
        raise RowError("bad_prompt", f"nothing between {opening} and {closing}", stage=stage)
    return inside


def strict_json_part(text: str, opening: str, closing: str, stage: str) -> Any:
    """The JSON between two marks. Raises RowError."""
    try:
        return strict_json_loads(_between(text, opening, closing, stage))
    except JsonError as error:
        raise RowError("bad_" + stage, f"not JSON after {opening}: {error.detail}", stage=stage) from None


MASKED = Format("hammer", "Hammer's masked rows: tools, format and query in one instruction", read_masked,
                lambda row: isinstance(row, dict) and "[BEGIN OF AVAILABLE TOOLS]" in str(row.get("instruction")))

_MTU_MARK = re.compile(r"parameters that you can use:\s*", re.DOTALL)
_MTU_TURN = re.compile(r"\n+\s*(?P<who>User|user|Assistant|assistant|Action|Thought|observation|function"
                       r"|Action Input)\s*:[ :]*")
_MTU_ROLES = {"user": "user", "assistant": "assistant", "observation": "tool", "action": "assistant",
              "action input": "assistant"}


def read_mtu(row: Any, context: Context) -> Iterator[Item]:
    """One row. Some give one list of parameters for all their tools (`available_parameters`), none required."""
    text = need_text(row, "question")
    mark = _MTU_MARK.search(text)
    if not mark:
        raise RowError("bad_prompt", "no tool list in `question`", stage="tools")
    value, at = value_at(text, mark.end(), "tools")
    said = _MTU_TURN.split("\n" + text[at:].lstrip("}] \n"))
    spoken = [(_MTU_ROLES.get(who.lower()), words.strip()) for who, words in zip(said[1::2], said[2::2])
              if words.strip()]
    yield LeftOut("reasoning", sum(role is None for role, _ in spoken))
    turns = [Turn(role, words) for role, words in spoken if role]
    if not any(turn.role == "user" for turn in turns):
        raise RowError("no_user_message", "no `User:` after the tool list", stage="query")
    answer = row.get("answer")
    if not isinstance(answer, dict):
        raise RowError("bad_calls", f"`answer` is {type(answer).__name__}, expected an object", stage="calls")
    calls = [{"name": name.strip(), "arguments": arguments} for name, arguments in answer.items() if name.strip()]
    nested = any("." in value and value.split(".")[0].strip() in answer for value in _texts(answer))
    shared = isinstance(value, dict) and isinstance(value.get("apis"), list)
    notes = noted(shared_parameters=shared, dialogue=len(turns) > 1, answer_in_words=not calls, nested_reference=nested)
    if shared:
        parameters = {"type": "object", "properties": {entry["name"]: entry
                                                       for entry in value.get("available_parameters") or []}}
        value = [{**api, "parameters": parameters} for api in value["apis"]]
    yield Sample(transcript(turns), value if isinstance(value, list) else [value], calls, notes=notes)


def _texts(answer: dict[str, Any]) -> list[str]:
    return [value for arguments in answer.values() if isinstance(arguments, dict)
            for value in arguments.values() if isinstance(value, str)]


MTU = Format("mtubench", "MTU-Bench: tools and dialogue in one prompt, an answer keyed by tool", read_mtu,
             lambda row: isinstance(row, dict) and "answer" in row and isinstance(row.get("question"), str)
             and _MTU_MARK.search(row["question"]) is not None)


def read_nestful(row: Any, context: Context) -> Iterator[Item]:
    """NESTFUL: a sequence of calls with labels; the candidates are those of the row, or else of the whole specification
    file (`--tools`)."""
    entries = need_list(row.get("output"), "`output`", "calls")
    calls = [entry for entry in entries if not isinstance(entry, dict) or entry.get("name") != "var_result"]
    yield LeftOut("var_result", len(entries) - len(calls))
    tools = tools_in(row.get("tools")) or list((context.tools or {}).values())
    if not tools:
        raise RowError("tools_not_found", "no specification file; give it with --tools", stage="tools")
    if entries and not calls:
        yield from unanswered("no_answer", need_text(row, "input"), tools)
        return
    nested = any("$var" in str(call.get("arguments")) for call in calls if isinstance(call, dict))
    yield Sample(need_text(row, "input"), tools, calls, notes=noted(nested_reference=nested))


NESTFUL = Format("nestful", "NESTFUL sequences; the tools come from the *-spec.json beside the file or --tools",
                 read_nestful,
                 lambda row: isinstance(row, dict) and isinstance(row.get("input"), str)
                 and isinstance(row.get("output"), list) and as_messages(row["output"]) is None
                 and not any(isinstance(entry, dict) and "type" in entry for entry in row["output"]))
