"""Conversations, in whatever roles they are written, -> single-turn samples.

A conversation gives the sample of its first user message: the calls that follow it, or [] where the assistant answers
in words. Calls that follow a later user message need the dialogue before them: with `--turns all` each gives a sample
whose query is the transcript so far, otherwise they are counted as left out. Calls that follow a tool's result depend on
that result and are always left out, and counted. An answer that cannot be read costs its own sample and no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from data.formats.items import Ask, Context, Item, LeftOut, Refused, RowError, Sample, need_list

ROLES = {name: role for role, names in {
    "system": "system developer",
    "user": "user human USER User",
    "assistant": "assistant gpt agent bot ASSISTANT AI model chatbot",
    "call": "function_call tool_call",
    "tool": "tool observation tool_response obs function ipython function_response API",
}.items() for name in names.split()}


# Calls written into the text of a reply; a reader that takes such a reply for words would teach not to call.
_SPELLED = re.compile(r"<(?:tool_call|functioncall|function_call|function=[^>]*)>|\[TOOL_CALLS\]|<\|python_tag\|>")


class Turn(NamedTuple):
    """One message: its role (system, user, assistant, call, tool), its text, its calls where it makes any, and why they
    cannot be read where it makes some that are broken."""

    role: str
    text: str
    calls: Sequence[Any] = ()
    fault: RowError | None = None


def calling(role: str, text: str, read: Callable[[], Sequence[Any]], words: str = "") -> Turn:
    """The turn whose calls `read` gives, with the words beside them; a fault in them is for `samples` to report."""
    try:
        return Turn(role, words, read())
    except RowError as error:
        return Turn(role, text, fault=error)


def role_of(name: Any) -> str:
    """The common name of a role. Raises RowError `unknown_role`."""
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RowError("unknown_role", f"the role {name!r:.60} is not known")
    return role


def turns_of(messages: Any) -> list[Turn]:
    """Messages as turns, calls read from `tool_calls`, the older `function_call`, or a turn whose role says that it is one.

    Raises:
        RowError: not a list of objects, an unknown role, or a part of a message that is no text.
    """
    turns = []
    for message in need_list(messages, "the messages", "query"):
        role, text = head_of(message)
        calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
        if role == "call":
            turns.append(calling("call", text, lambda text=text: need_list(text, "the call turn", "calls")))
        else:
            turns.append(calling(role, text, lambda calls=calls: need_list(calls, "`tool_calls`", "calls"), text))
    return turns


def head_of(message: Any) -> tuple[str, str]:
    """The common role and the text of one message; a null text is empty, parts that are texts are joined by newlines.

    Raises:
        RowError: no object, an unknown role, or a part of another kind (an image, a call of another format).
    """
    if not isinstance(message, dict):
        raise RowError("bad_message", f"a message must be an object, found {type(message).__name__}")
    text = message["value"] if "value" in message else message.get("content")
    if isinstance(text, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in text]
        other = next((whole for whole, part in zip(text, parts, strict=True) if not isinstance(part, str)), None)
        if other is not None:
            raise RowError("unread_part", f"a message holds a part that is no text: {json.dumps(other, ensure_ascii=False)[:120]}")
        text = "\n".join(parts)
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
            yield from _first_sample(turn.text, tools, _reply(turns, at))
        elif turn.role == "user" and _makes_calls(_reply(turns, at)):
            later += 1
            if context.turns == "all":
                yield from _answered(transcript(turns[:at + 1]), tools, _reply(turns, at), f"turn{at}", ("dialogue",))
        elif (turn.calls or turn.fault) and not _follows_user(turns, at):
            dependent += 1
    if dependent:
        yield LeftOut("call_after_result", dependent)
    if later and context.turns != "all":
        yield LeftOut("call_in_later_turn", later)


def _first_sample(query: str, tools: list[Any], reply: list[Turn]) -> Iterator[Item]:
    if _makes_calls(reply):
        yield from _answered(query, tools, reply)
    elif not reply or not tools:
        yield Ask(query, tools)
    else:
        yield from _in_words(query, tools, reply)


def _answered(query: str, tools: list[Any], reply: list[Turn], part: str = "", notes: tuple[str, ...] = ()) -> Iterator[Item]:
    """The sample of a reply with calls; or, where they cannot be read, why, and the query and tools by themselves."""
    fault = next((turn.fault for turn in reply if turn.fault), None)
    if fault:
        yield Refused(fault, part)
        yield Ask(query, tools, part, (*notes, "answer_rejected"))
        return
    words = sum(bool(turn.text.strip()) for turn in reply)
    if words:
        yield LeftOut("words_beside_calls", words)
    yield Sample(query, tools, [call for turn in reply for call in turn.calls], part, notes)


def _in_words(query: str, tools: list[Any], reply: list[Turn]) -> Iterator[Item]:
    text = "\n".join(turn.text for turn in reply)
    if _SPELLED.search(text) or any(f"[{name}(" in text or text.startswith(f"{name}(") for name in _names(tools)):
        fault = RowError("calls_in_text", f"the reply spells calls in its text: {text[:120]!r}; another --from may read them", stage="calls")
        yield from _answered(query, tools, [Turn("assistant", text, fault=fault)])
    else:
        yield Sample(query, tools, [], notes=("answer_in_words",))


def _names(tools: list[Any]) -> list[str]:
    """The names of tools that have one, in the wrapper of OpenAI or not."""
    plain = [tool.get("function", tool) for tool in tools if isinstance(tool, dict)]
    return [tool["name"] for tool in plain if isinstance(tool, dict) and isinstance(tool.get("name"), str) and tool["name"]]


def _joined(turns: list[Turn]) -> list[Turn]:
    """Neighbouring messages of one role as one: user messages by newline, calls as several calls of one answer."""
    out: list[Turn] = []
    for turn in turns:
        if out and out[-1].role == turn.role and turn.role in ("user", "call"):
            last = out[-1]
            out[-1] = Turn(turn.role, "\n".join(t for t in (last.text, turn.text) if t), [*last.calls, *turn.calls], last.fault or turn.fault)
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
    return any(turn.calls or turn.fault for turn in reply)


def _follows_user(turns: list[Turn], at: int) -> bool:
    """Does the turn belong to the reply to a user message, rather than follow a tool's result?"""
    for turn in reversed(turns[:at]):
        if turn.role in ("user", "tool"):
            return turn.role == "user"
    return False
