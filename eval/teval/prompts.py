"""How an item of T-Eval is shown to a model, and how ToolDev's calls become the reply that is scored."""

from collections.abc import Sequence

from data.prompts import Message
from data.schema import ToolCall, dump_json
from eval.teval.items import Item


def messages(item: Item) -> list[Message]:
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


def reply(task: str, calls: Sequence[ToolCall]) -> str:
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
