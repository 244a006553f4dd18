"""Conversations, in whatever roles they are written, -> single-turn samples.

A conversation gives the sample of its first user message: the calls that follow it, or [] where the assistant answers
in words. Calls that follow a later user message need the dialogue before them: with `--turns all` each gives a sample
whose query is the transcript so far, otherwise they are counted as left out. Calls that follow a tool's result depend on
that result and are always left out, and counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from data.formats.items import Ask, Context, Item, LeftOut, RowError, Sample, need_list

ROLES = {name: role for role, names in {
    "system": "system developer",
    "user": "user human USER User",
    "assistant": "assistant gpt agent bot ASSISTANT AI model chatbot",
    "call": "function_call tool_call",
    "tool": "tool observation tool_response obs function ipython function_response API",
}.items() for name in names.split()}


class Turn(NamedTuple):
    """One message: its role (system, user, assistant, call, tool), its text, and its calls where it makes any."""

    role: str
    text: str
    calls: Sequence[Any] = ()


def role_of(name: Any) -> str:
    """The common name of a role. Raises RowError `unknown_role`."""
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RowError("unknown_role", f"the role {name!r:.60} is not known")
    return role


def turns_of(messages: Any) -> list[Turn]:
    """Messages as turns, calls read from `tool_calls`, the older `function_call`, or a turn whose role says that it is one.

    Raises:
        RowError: not a list of objects, an unknown role, or a call that is not JSON.
    """
    turns = []
    for message in need_list(messages, "the messages", "query"):
        role, text = head_of(message)
        calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
        if role == "call":
            turns.append(Turn("call", "", need_list(text, "the call turn", "calls")))
        else:
            turns.append(Turn(role, text, need_list(calls, "`tool_calls`", "calls")))
    return turns


def head_of(message: Any) -> tuple[str, str]:
    """The common role and the text of one message (a null text is empty, of a list of parts the text ones count)."""
    if not isinstance(message, dict):
        raise RowError("bad_message", f"a message must be an object, found {type(message).__name__}")
    text = message["value"] if "value" in message else message.get("content")
    if isinstance(text, list):
        text = "\n".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    elif isinstance(text, dict):
        text = json.dumps(text, ensure_ascii=False)
    return role_of(message["from"] if "from" in message else message.get("role")), text if isinstance(text, str) else ""


def transcript(turns: list[Turn]) -> str:
    """A dialogue as the text of one query. A single user message is that message and nothing else."""
    spoken = [turn for turn in turns if turn.role != "system"]
    if len(spoken) == 1:
        return spoken[0].text
    return "\n".join(f"{'assistant' if turn.role == 'call' else turn.role}: {_said(turn)}" for turn in spoken)


def _said(turn: Turn) -> str:
    calls = json.dumps(list(turn.calls), ensure_ascii=False) if turn.calls else ""
    return "\n".join(part for part in (turn.text.strip(), calls) if part)


def samples(turns: list[Turn], tools: list[Any], context: Context) -> Iterator[Item]:
    """Cut a conversation into samples. Raises RowError `no_user_message` where nobody asks anything."""
    turns = _joined(turns)
    first = next((at for at, turn in enumerate(turns) if turn.role == "user" and turn.text.strip()), None)
    if first is None:
        raise RowError("no_user_message", f"the roles are {[turn.role for turn in turns][:8]}", stage="query")
    if any(turn.role == "system" and turn.text.strip() for turn in turns):
        yield LeftOut("system_prompt")
    later = dependent = 0
    for at, turn in enumerate(turns):
        if turn.role == "user" and at == first:
            yield _first_sample(turn.text, tools, _reply(turns, at))
        elif turn.role == "user" and _makes_calls(_reply(turns, at)):
            later += 1
            if context.turns == "all":
                yield Sample(transcript(turns[:at + 1]), tools, _calls(_reply(turns, at)), part=f"turn{at}", notes=("dialogue",))
        elif turn.calls and not _follows_user(turns, at):
            dependent += 1
    if dependent:
        yield LeftOut("call_after_result", dependent)
    if later and context.turns != "all":
        yield LeftOut("call_in_later_turn", later)


def _first_sample(query: str, tools: list[Any], reply: list[Turn]) -> Item:
    if _makes_calls(reply):
        return Sample(query, tools, _calls(reply))
    if not reply or not tools:
        return Ask(query, tools)
    return Sample(query, tools, [], notes=("answer_in_words",))


def _joined(turns: list[Turn]) -> list[Turn]:
    """Neighbouring messages of one role as one: user messages by newline, calls as several calls of one answer."""
    out: list[Turn] = []
    for turn in turns:
        if out and out[-1].role == turn.role and turn.role in ("user", "call"):
            last = out[-1]
            out[-1] = Turn(turn.role, "\n".join(t for t in (last.text, turn.text) if t), [*last.calls, *turn.calls])
        else:
            out.append(turn)
    return out


def _reply(turns: list[Turn], at: int) -> list[Turn]:
    """What the assistant says and calls directly after a user message, up to the first result or next user message."""
    out = []
    for turn in turns[at + 1:]:
        if turn.role in ("user", "tool"):
            break
        if turn.role != "system":
            out.append(turn)
    return out


def _makes_calls(reply: list[Turn]) -> bool:
    return any(turn.calls for turn in reply)


def _calls(reply: list[Turn]) -> list[Any]:
    return [call for turn in reply for call in turn.calls]


def _follows_user(turns: list[Turn], at: int) -> bool:
    """Does the turn belong to the reply to a user message, rather than follow a tool's result?"""
    for turn in reversed(turns[:at]):
        if turn.role in ("user", "tool"):
            return turn.role == "user"
    return False
