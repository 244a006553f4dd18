"""How a benchmark's entry is shown to a model, and how ToolDev's calls become the reply that the benchmark scores.

The released evaluators know no `<tool_call>` blocks. A reply that holds them is rewritten into the benchmark's own
form before scoring, the raw text is kept beside it, and the answer is marked `converted`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.parse import Reason, parse_calls
from data.prompts import Message, invocation_messages
from data.schema import Tool, ToolCall, dump_json
from eval.apibank.benchmark import Row
from eval.bfcl.benchmark import Entry
from eval.teval.benchmark import Item

SYNTAX = {"python": "Python 3", "java": "Java 8 SDK", "javascript": "JavaScript"}
PYTHON_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "list(str)": "array"}


@dataclass(frozen=True)
class Display:
    """How BFCL's functions are shown (our choices; the leaderboard's own prompting does all but `published_types`)."""

    language_note: bool = True           # say which language's syntax the values have
    published_types: bool = False        # type words as published (float, tuple) instead of the paper's (number, array)
    underscore_names: bool = False       # every . of a name as _


# ------------------------------------------------------------------------------------------------------------------- BFCL

def bfcl_messages(entry: Entry, display: Display = Display()) -> list[Message]:
    """The paper's figure 5 prompt; a system message of the entry is appended to its system text."""
    tools = [_shown_tool(function, entry.language, display) for function in entry.functions]
    turns = [dict(message) for message in entry.messages]
    query = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
    system, user = invocation_messages(query, tools)
    extra = [turn["content"] for turn in turns if turn["role"] == "system"]
    if extra:
        system = {**system, "content": [*system["content"], ("text", "\n\n" + "\n".join(extra))]}
    return [system, user]


def _shown_tool(function: Mapping, language: str, display: Display) -> Tool:
    function = copy.deepcopy(dict(function))
    if display.language_note:
        function["description"] += f" The function is in {SYNTAX[language]} syntax."
    if display.underscore_names:
        function["name"] = function["name"].replace(".", "_")
    for schema in function["parameters"]["properties"].values():
        if language != "python":
            _show_as_text(schema, language)
        elif schema.get("type") == "float" and not display.published_types:
            schema["description"] = f"{schema.get('description', '')} This is a float.".strip()
    tool = Tool.from_dict(function)
    return replace(tool, parameters=function["parameters"]) if display.published_types else tool


def _show_as_text(schema: dict, language: str) -> None:
    """Java and JavaScript values are asked for as strings; the real type moves into the description."""
    note = f" This is a {SYNTAX[language].split()[0]} {schema.get('type', 'any')} value, written as a string."
    if isinstance(schema.get("items"), dict):
        note += f" Its elements are of type {schema['items'].get('type', 'any')}."
    if language == "javascript" and isinstance(schema.get("properties"), dict):
        note += f" Its properties are {dump_json(schema['properties'])}."
    schema["description"] = schema.get("description", "") + note
    schema["type"] = "string"
    schema.pop("items", None)
    schema.pop("properties", None)


# --------------------------------------------------------------------------------------------------------------- API-Bank

def apibank_messages(row: Row, documents: Mapping[str, dict], *, released: bool = False) -> list[Message]:
    """The dialogue so far and its APIs: in the paper's figure 5 prompt, or as the released instruction and input."""
    if released:
        return [{"role": "user", "content": f"{row.instruction}\n{row.input}"}]
    shown = [document for name, document in documents.items() if f'"name": "{name}"' in row.instruction]
    tools = [_api_tool(document) for document in shown]
    dialogue = row.input.strip().removesuffix("Generate API Request:").strip()
    return invocation_messages(f"The current year is 2023. Make the next call of this dialogue.\n{dialogue}", tools)


def _api_tool(document: Mapping) -> Tool:
    properties = {name: {"type": PYTHON_TYPES.get(spec["type"], spec["type"]), "description": spec["description"]}
                  for name, spec in document["input_parameters"].items()}
    return Tool.from_dict({"name": document["name"], "description": document["description"],
                           "arguments": {"type": "dict", "properties": properties, "required": list(properties)}})


def apibank_reply(calls: Sequence[ToolCall]) -> str:
    """Calls in bracket form, one per line (the scorer takes the first).

    Quotes inside a value cannot be written in that form: the released reader ends a value at the first one, and so it
    does here. An empty text would swallow what follows it, so empty arguments are left out.
    """
    lines = []
    for call in calls:
        pieces = [f"{name}='{_plain(value)}'" for name, value in call.arguments.items() if value not in ("", None)]
        lines.append(f"[{call.name}({', '.join(pieces)})]")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return value.replace("\n", " ") if isinstance(value, str) else str(value)


# ----------------------------------------------------------------------------------------------------------------- T-Eval

def teval_messages(item: Item) -> list[Message]:
    """The item's own turns; a tool result is shown as a user turn, neighbours of one role are joined."""
    turns: list[Message] = []
    for message in item.messages:
        role = "user" if message["role"] == "function" else message["role"]
        content = f"Result: {message['content']}" if message["role"] == "function" else message["content"]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n" + content
        else:
            turns.append({"role": role, "content": content})
    return turns


def teval_reply(task: str, calls: Sequence[ToolCall]) -> str:
    """Calls as the reply of a task: a plan lists all of them, the other tasks take the first."""
    if task == "plan_json":
        return dump_json([{"id": i, "name": call.name, "args": str(call.arguments)} for i, call in enumerate(calls)])
    if task == "plan_str":
        return "\n".join(f"Use {call.name} to {call.arguments}" for call in calls)
    if not calls:
        return ""
    first = calls[0]
    if task == "rru_json":
        return dump_json({"name": first.name, "args": first.arguments})
    if task == "retrieve_str":
        return first.name
    return str(next(iter(first.arguments.values()), ""))


def converted(text: str, write: Any) -> tuple[str, bool]:
    """(reply to score, whether it was rewritten): `write(calls)` where the text holds readable `<tool_call>` blocks."""
    if "<tool_call>" not in text:
        return text, False
    calls = parse_calls(text)
    return (text, False) if isinstance(calls, Reason) else (write(calls), True)
