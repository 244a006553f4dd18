"""How a row of API-Bank is shown to a model, and how ToolDev's calls become the reply that is scored."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.prompts import Message, invocation_messages
from data.schema import Tool, ToolCall
from eval.apibank.rows import Row

PYTHON_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "list(str)": "array"}


def messages(row: Row, documents: Mapping[str, dict], *, released: bool = False) -> list[Message]:
    """The dialogue so far and its APIs: in the paper's figure 5 prompt, or as the released instruction and input."""
    if released:
        return [{"role": "user", "content": f"{row.instruction}\n{row.input}"}]
    return invocation_messages(*request(row, documents))


def request(row: Row, documents: Mapping[str, dict]) -> tuple[str, list[Tool]]:
    """(what the user asks, the tools): the dialogue so far and its APIs."""
    dialogue = row.input.strip().removesuffix("Generate API Request:").strip()
    tools = [_api_tool(document) for document in shown_documents(row, documents)]
    return f"The current year is 2023. Make the next call of this dialogue.\n{dialogue}", tools


def shown_documents(row: Row, documents: Mapping[str, dict]) -> list[dict]:
    """The documentation of the APIs that a row's instruction names."""
    return [document for name, document in documents.items() if f'"name": "{name}"' in row.instruction]


def _api_tool(document: Mapping) -> Tool:
    properties = {name: {"type": PYTHON_TYPES.get(spec["type"], spec["type"]), "description": spec["description"]}
                  for name, spec in document["input_parameters"].items()}
    return Tool.from_dict({"name": document["name"], "description": document["description"],
                           "arguments": {"type": "dict", "properties": properties, "required": list(properties)}})


def reply(calls: Sequence[ToolCall]) -> str:
    """Calls in bracket form, one per line (the scorer takes the first).

    Quotes inside a value cannot be written in that form: the released reader ends a value at the first one, and so it
    does here. An empty text would swallow what follows it, so empty arguments are left out. A name that holds brackets
    (`Api(x='1')` without arguments of its own) would be read as the call that it spells: it stays a name, of no API.
    """
    lines = []
    for call in calls:
        pieces = [f"{name}='{_plain(value)}'" for name, value in call.arguments.items() if value not in ("", None)]
        name = re.sub(r"\W", "_", call.name)
        lines.append(f"[{name}({', '.join(pieces)})]")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return value.replace("\n", " ") if isinstance(value, str) else str(value)
