"""How an entry of the leaderboard is shown to a model."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

from data.prompts import Message, invocation_messages
from data.schema import Tool, dump_json
from eval.bfcl.entries import Entry

SYNTAX = {"python": "Python 3", "java": "Java 8 SDK", "javascript": "JavaScript"}


def tools_of(entry: Entry, *, language_note: bool = True, published_types: bool = False,
             underscore_names: bool = False) -> list[Tool]:
    """The functions of an entry as they are shown.

    Args (our choices; the leaderboard's own prompting does all but `published_types`):
        language_note: say which language's syntax the values have.
        published_types: type words as published (float, tuple) instead of the paper's (number, array).
        underscore_names: every . of a name as _.
    """
    return [_shown_tool(function, entry.language, language_note, published_types, underscore_names)
            for function in entry.functions]


def messages(entry: Entry, tools: Sequence[Tool]) -> list[Message]:
    """The paper's figure 5 prompt; a system message of the entry is appended to its system text."""
    turns = [dict(message) for message in entry.messages]
    query = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
    system, user = invocation_messages(query, tools)
    extra = [turn["content"] for turn in turns if turn["role"] == "system"]
    if extra:
        system = {**system, "content": [*system["content"], ("text", "\n\n" + "\n".join(extra))]}
    return [system, user]


def _shown_tool(function: Mapping, language: str, language_note: bool, published_types: bool,
                underscore_names: bool) -> Tool:
    function = copy.deepcopy(dict(function))
    if language_note:
        function["description"] += f" The function is in {SYNTAX[language]} syntax."
    if underscore_names:
        function["name"] = function["name"].replace(".", "_")
    for schema in function["parameters"]["properties"].values():
        if language != "python":
            _show_as_text(schema, language)
        elif schema.get("type") == "float" and not published_types:
            schema["description"] = f"{schema.get('description', '')} This is a float.".strip()
    tool = Tool.from_dict(function)
    return replace(tool, parameters=function["parameters"]) if published_types else tool


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
