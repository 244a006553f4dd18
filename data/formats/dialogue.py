"""Conversations, in whatever roles they are written, -> single-turn samples.

A conversation gives the sample of its first user message: the calls that follow it, or [] where the assistant answers
in words. Calls are structured (`tool_calls`, turns of their own) or spelled in the text of a reply (spelled.py); a turn
with structured calls is read by those, whatever its text says. Calls that follow a later user message need the dialogue
before them: with `--turns all` each gives a sample whose query is the transcript so far, otherwise they are counted as
left out. Calls that follow a tool's result depend on that result and are always left out, and counted. An answer that
cannot be read costs its own sample and no other; one that is marked as not to be learnt, or is empty, is no label.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from data.formats.items import Ask, Context, Item, LeftOut, RowError, Sample, is_nothing, need_list, refused, unanswered
from data.formats.marks import condemned, is_bad, is_off, learnt, unfinished, void
from data.formats.parts import GIVEN, OBSERVED, apart, failed, role_word, spread
from data.formats.spelled import Offered, calls_in, offered, pythonic, spelled_calls, tells_of_calls
from data.formats.strict import strict_loads, unpacked
from data.formats.thoughts import after_thinking, unfinished_thought
from data.schema import JsonError

ROLES = {name: role for role, names in {
    "system": "system developer",
    "user": "user human",
    "assistant": "assistant gpt agent bot ai model chatbot",
    "call": "function_call tool_call function_calls tool_calls",
    "tool": "tool observation tool_response obs function ipython function_response api tool_result function_result "
            "function_call_output tool_output environment",
}.items() for name in names.split()}

_CALLS = ("tool_calls", "function_call", "toolCalls", "function_calls", "functionCall")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
_RESULT = re.compile(
    rf"\s*(?:<[|｜]?(?:(?:tool|function|api|exec(?:ution)?|code|i?python)[_▁ -]?(?:call[_▁ -]?)?{GIVEN}"
    r"|observations?|obs)(?:[_▁ ]begin)?[|｜]?[\s>]|<\|start_header_id\|>ipython|\[TOOL_RESULTS\]|✿RESULT✿"
    r"|```tool_outputs?\b)", re.IGNORECASE)
_MARKS = re.compile(r"<[|｜][^<>|｜\n]{1,30}[|｜]>|</?s>")     # of a turn's end, say: they are no words
_CALL_KEY = re.compile(r"(?:tool|function)_?(?:calls?|invocations?)$", re.IGNORECASE)
_BESIDE_TEXT = re.compile(                              # what a user may send with a text
    r"(?:experimental_?|input_?)?(?:images?|audios?|videos?|media|attachments?)(?:_?(?:urls?|ids?|data|base64|paths?))?"
    r"|files?|file_?ids", re.IGNORECASE)


class Turn(NamedTuple):
    """One message: its role (system, user, assistant, call, tool), its text, its calls where it makes any, why they
    cannot be read where it makes some that are broken, may it be learnt, and how many thoughts were taken out of it."""

    role: str
    text: str
    calls: Sequence[Any] = ()
    fault: RowError | None = None
    learnt: bool = True
    thoughts: int = 0

    @property
    def calling(self) -> bool:
        """Does it make calls, readable or not?"""
        return bool(self.calls) or self.fault is not None


def calling(role: str, text: str, read: Callable[[], Sequence[Any]], words: str = "") -> Turn:
    """The turn whose calls `read` gives, with the words beside them; a fault in them is for `samples` to report."""
    try:
        return Turn(role, words, read())
    except RowError as error:
        return Turn(role, text, fault=error)


def role_of(name: Any) -> str:
    """The common name of a role, whatever its case. Raises RowError `unknown_role`."""
    role = ROLES.get(role_word(name))
    if role is None:
        raise RowError("unknown_role", f"the role {name!r:.60} is not known")
    return role


def turns_of(messages: Any, names: Offered | None = None) -> list[Turn]:
    """Messages as turns, calls read from `tool_calls`, the older `function_call`, or a turn whose role says it is one.

    Raises:
        RowError: not a list of objects, an unknown role, or a part of a message that is no text.
    """
    spoken = [part for message in need_list(messages, "the messages", "query") for part in apart(message)]
    return [_turn_of(spread(message), names or {}) for message in spoken]


def _turn_of(message: Any, names: Offered) -> Turn:
    if isinstance(message, dict) and message.get("type") == "reasoning" and not _first(message, "from", "role"):
        return Turn("assistant", "", thoughts=1)                # an item of OpenAI's Responses
    if isinstance(message, dict) and _role(message) == "call":
        turn = _call_turn(message, names)
    else:
        role, text = head_of(message)
        calls = next((message[key] for key in _CALLS if not void(message.get(key))), None)
        turn = calling(role, text, lambda: _structured(calls, names), text)
        if role == "assistant" and not turn.calling:
            turn = turn._replace(fault=_stray_calls(message, names))
    if turn.role in ("assistant", "call"):
        faults = [unfinished(message, message=True, calling=turn.calling), _two_sets(message)]
        faults += [unfinished(call, message=True, calling=True) for call in turn.calls if isinstance(call, dict)]
        turn = turn._replace(fault=turn.fault or next(filter(None, faults), None))
    said = after_thinking(turn.text) if turn.role == "assistant" else turn.text
    if turn.role == "assistant" and (unfinished_thought(said) or message.get("channel") == "analysis"):
        said = ""
    thoughts = (said != turn.text) + any(not void(message.get(key)) for key in _THOUGHTS)
    marked = [message, *(call for call in turn.calls if isinstance(call, dict))]
    taught = all(learnt(mark) for mark in marked) and (
        turn.role == "user" or not (condemned(message) or any(map(is_bad, marked))))
    if turn.role == "tool":
        taught = not failed(message)
    return turn._replace(text=said, learnt=taught, thoughts=thoughts)


def _role(message: Mapping[str, Any]) -> str:
    return role_of(_first(message, "from", "role", "type"))      # LangChain and OpenAI's Responses have a type alone


def _first(message: Mapping[str, Any], *keys: str) -> Any:
    """The first value that is there: tables with fixed columns write null where a message has none."""
    return next((message[key] for key in keys if message.get(key) is not None), None)


def _call_turn(message: Mapping[str, Any], names: Offered) -> Turn:
    """A turn that is calls by its role: its content is a call, a list of them, or a text that spells them."""
    content = next((message[key] for key in ("value", "content", *_CALLS) if not void(message.get(key))), None)
    texts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    if texts and len(texts) == len(content) and all(isinstance(text, str) for text in texts):
        content = "\n".join(texts)
    if content is None and "arguments" in message:              # an item of OpenAI's Responses: the call itself
        content = {key: message[key] for key in ("name", "arguments") if key in message}
    content = _named_by_turn(message, content)
    if isinstance(content, (dict, list)):
        return calling("call", json.dumps(content, ensure_ascii=False), lambda: _structured(content))
    text = content if isinstance(content, str) else ""
    turn = calling("call", text, lambda: _structured(text))
    if not turn.calls:
        try:
            found = spelled_calls(text, names, bracketed=True)
        except RowError:
            found = None
        if found:
            return Turn("call", found.words, found.calls)
        empty = RowError("bad_calls", f"a turn of calls that holds none: {text[:120]!r}", stage="calls")
        return turn._replace(text=text, fault=turn.fault or empty)
    return turn


def _named_by_turn(message: Mapping[str, Any], content: Any) -> Any:
    """The call whose tool the turn names and whose arguments its content is; any other content as it is."""
    inside = content
    if isinstance(content, str) and content.lstrip().startswith("{"):
        try:
            inside = strict_loads(content)
        except JsonError:
            return content
    if not isinstance(message.get("name"), str) or not isinstance(inside, dict) or calls_in(inside):
        return content
    return {"name": message["name"], "arguments": inside}


def _structured(calls: Any, names: Offered | None = None) -> list[Any]:
    """Calls as objects; OLMo writes them as Python, a call a line. Raises RowError."""
    lines = [line.strip() for line in calls.splitlines() if line.strip()] if names and isinstance(calls, str) else []
    if lines and all(line.endswith(")") for line in lines):
        return pythonic(f"[{', '.join(lines)}]", names or {})
    return [call for call in need_list(calls, "`tool_calls`", "calls") if not void(call)]


def _two_sets(message: Mapping[str, Any]) -> RowError | None:
    """A fault where two keys of a message hold different calls, or one those that could not be read."""
    broken = not void(message.get("invalid_tool_calls"))
    found = [calls_in(unpacked(message[key])) for key in _CALLS if not void(message.get(key))]
    told = [calls for calls in found if calls]
    differ = any(one != told[0] for one in told[1:])
    if not broken and not differ:
        return None
    return RowError("bad_calls", "a message with two different sets of calls; which is meant cannot be told",
                    stage="calls")


def _stray_calls(message: Mapping[str, Any], names: Offered) -> RowError | None:
    """A fault where a message holds calls under a key that is not read: it is no answer in words."""
    content = _first(message, "value", "content")
    parts = [part for part in (content if isinstance(content, list) else [content]) if isinstance(part, dict)]
    texts = [{key: part[key] for key in part if key not in ("text", "type")} for part in parts if "text" in part]
    told = [(key, value) for key, value in message.items() if key not in ("content", "value", *_THOUGHTS)]
    key = next((key for key, value in [*told, *(pair for part in texts for pair in part.items())] if (
                tells_of_calls(key, value, names) or _calls_by_key(key, value, names))), None)
    why = f"`{key}` of a message holds calls; expected them under `tool_calls`"
    return RowError("calls_in_text", why, stage="calls") if key else None


def _calls_by_key(key: str, value: Any, names: Offered) -> bool:
    """Does a key of a message say that it calls: one named after calls, or one with just the name of a tool, which the
    content then has the arguments of (harmony's `recipient`, GLM's `metadata`)?"""
    if isinstance(value, str):
        return value.removeprefix("functions.") in names
    return key not in _CALLS and isinstance(value, (dict, list)) and bool(_CALL_KEY.search(key)) and not void(value)


def head_of(message: Any) -> tuple[str, str]:
    """The common role and the text of one message; a null text is empty, parts that are texts are joined by newlines.

    Raises:
        RowError: no object, an unknown role, or a part of another kind (an image, a call of another format).
    """
    if not isinstance(message, dict):
        raise RowError("bad_message", f"a message must be an object, found {type(message).__name__}")
    role = _role(message)
    text = _first(message, "value", "content", *(("output", "result", "response") if role == "tool" else ()))
    if role == "user":
        _refuse_beside_text(message, text)
    if isinstance(text, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in text]
        others = [whole for whole, part in zip(text, parts, strict=True) if not isinstance(part, str)]
        if others and role == "tool":                        # what a result shows is no part of a sample
            parts = [json.dumps(part, ensure_ascii=False) if part in others else part for part in text]
        elif others:
            shown = json.dumps(others[0], ensure_ascii=False)[:120]
            raise RowError("unread_part", f"a message holds a part that is no text: {shown}")
        text = "\n".join(parts)
    elif isinstance(text, dict):
        text = _text_of_part(text, role)
    elif role == "tool" and isinstance(text, (bool, int, float)):
        text = json.dumps(text)
    return role, text if isinstance(text, str) else ""


def _refuse_beside_text(message: Mapping[str, Any], text: Any) -> None:
    """Raises RowError `unread_part` where a user says what is no text, or sends something beside the text."""
    parts = message["parts"] if isinstance(message.get("parts"), list) else []
    files = any(isinstance(part, dict) and "text" not in part
                and not void({key: value for key, value in part.items() if key != "type"}) for part in parts)
    key = next((key for key, value in message.items() if _BESIDE_TEXT.fullmatch(key) and _is_sent(value)),
               "parts" if files else "")
    if key:
        shown = json.dumps(message[key], ensure_ascii=False)[:120]
        raise RowError("unread_part", f"a user's message has `{key}` beside its text: {shown}")
    if text is not None and not isinstance(text, str | list | dict):
        raise RowError("unread_part", f"a user's message is {text!r:.60} and no text")


def _is_sent(value: Any) -> bool:
    """Does a field for files hold any? A table writes its empty list as a text."""
    inside = unpacked(value)
    return not (void(inside) or is_nothing(inside) or is_off(inside))


def _text_of_part(part: dict[str, Any], role: str) -> str:
    """The text of a content that is one part, or the JSON of what is none. Raises RowError where a user says that."""
    if isinstance(part.get("text"), str) and part.get("type") in (None, "text", "input_text", "output_text"):
        return part["text"]
    shown = json.dumps(part, ensure_ascii=False)
    if role == "user":
        raise RowError("unread_part", f"a user's message is an object and no text: {shown[:120]}")
    return shown


def transcript(turns: list[Turn]) -> str:
    """A dialogue as the text of one query. A single user message is that message and nothing else."""
    spoken = [turn for turn in turns if turn.role != "system"]
    if len(spoken) == 1:
        return spoken[0].text
    return "\n".join(f"{'assistant' if turn.role == 'call' else turn.role}: {_said(turn)}" for turn in spoken)


def _said(turn: Turn) -> str:
    calls = json.dumps(list(turn.calls), ensure_ascii=False) if turn.calls else ""
    return "\n".join(part for part in (turn.text.strip(), calls) if part)


def samples(turns: list[Turn], tools: list[Any], context: Context, *, bracketed: bool = False) -> Iterator[Item]:
    """Cut a conversation into samples.

    Args:
        turns: the messages, calls in the text of replies not yet read.
        tools: what is offered, as the corpus spells it.
        context: whether later requests are wanted, too.
        bracketed: the corpus writes its calls as `[name(...)]` (see `spelled_calls`).

    Raises:
        RowError: `no_user_message` where nobody asks anything.
    """
    turns = _with_results(_with_spelled(_joined(_with_results(turns)), tools, bracketed))
    first = next((at for at, turn in enumerate(turns) if turn.role == "user" and turn.text.strip()), None)
    if first is None:
        raise RowError("no_user_message", f"the roles are {[turn.role for turn in turns][:8]}", stage="query")
    if any(turn.role == "system" and turn.text.strip() for turn in turns):
        yield LeftOut("system_prompt")
    yield LeftOut("reasoning", sum(turn.thoughts for turn in turns))
    later = dependent = 0
    for at, turn in enumerate(turns):
        if turn.role == "user" and at == first:
            yield from _first_sample(turn.text, tools, _unlearnt(turns, at), _next_speaker(turns, at))
        elif turn.role == "user" and _makes_calls(_reply(turns, at)):
            later += 1
            if context.turns == "all":
                yield from _answered(transcript(turns[:at + 1]), tools, _unlearnt(turns, at), f"turn{at}",
                                     ("dialogue",))
        elif turn.calling and not _follows_user(turns, at):
            dependent += 1
    yield LeftOut("call_after_result", dependent)
    yield LeftOut("call_in_later_turn", later if context.turns != "all" else 0)


def _with_results(turns: list[Turn]) -> list[Turn]:
    """The turns, those of a user that are a tool's result under the tool's own role; an error in it is not learnt."""
    out = list(turns)
    for at, turn in enumerate(turns):
        called = at and turns[at - 1].calling
        if turn.role == "user" and (_RESULT.match(turn.text) or called and OBSERVED.match(turn.text)):
            out[at] = turn._replace(role="tool", learnt=not failed(turn.text))
    return out


def _with_spelled(turns: list[Turn], tools: list[Any], bracketed: bool) -> list[Turn]:
    """The turns with the calls that replies spell; where a row has structured ones, only in what could be a label."""
    names = offered(tools)
    structured = any(turn.calling for turn in turns)
    out = list(turns)
    for at, turn in enumerate(turns):
        if turn.role != "assistant" or turn.calling or not turn.text.strip():
            continue
        if not structured or (_follows_user(turns, at) and not _makes_calls(_reply(turns, _asked(turns, at)))):
            out[at] = _spelled(turn, names, bracketed)
    return out


def _spelled(turn: Turn, names: Offered, bracketed: bool) -> Turn:
    try:
        found = spelled_calls(turn.text, names, bracketed=bracketed)
    except RowError as error:
        return turn._replace(fault=error)
    return turn if found is None else turn._replace(text=found.words, calls=found.calls)


def _first_sample(query: str, tools: list[Any], reply: list[Turn], after: str) -> Iterator[Item]:
    """The sample of a first request; `after` is the role of who speaks after the reply."""
    if _makes_calls(reply):
        yield from _answered(query, tools, reply)
    elif not reply or not tools:
        yield Ask(query, tools)
    elif not all(turn.learnt for turn in reply):
        yield from unanswered("answer_not_to_learn", query, tools)
    elif after == "tool" or any(_RESULT.search(turn.text) or OBSERVED.match(turn.text) for turn in reply):
        fault = RowError("result_without_call", "a tool's result is in, or after, a reply without calls", stage="calls")
        yield from refused(fault, query, tools)
    elif after != "user" and all(is_nothing(_MARKS.sub("", turn.text)) for turn in reply):
        fault = RowError("empty_answer", "the assistant's reply has neither text nor calls", stage="calls")
        yield from refused(fault, query, tools)
    else:
        yield Sample(query, tools, [], notes=("answer_in_words",))


def _answered(query: str, tools: list[Any], reply: list[Turn], part: str = "",
              notes: tuple[str, ...] = ()) -> Iterator[Item]:
    """The sample of a reply with calls; or, where they cannot be read, why, and the query and tools by themselves."""
    fault = next((turn.fault for turn in reply if turn.fault), None)
    if not all(turn.learnt for turn in reply if turn.calling):
        yield from unanswered("answer_not_to_learn", query, tools, part, notes)
        return
    if fault and fault.reason == "calls_in_text" and not tools:
        yield LeftOut("calls_without_tools")
        yield Ask(query, tools, part, (*notes, "no_candidate_tools"))
        return
    if fault:
        yield from refused(fault, query, tools, part, notes)
        return
    yield LeftOut("words_beside_calls", sum(bool(turn.text.strip()) for turn in reply))
    yield Sample(query, tools, [call for turn in reply for call in turn.calls], part, notes)


def _joined(turns: list[Turn]) -> list[Turn]:
    """Neighbouring messages of one role as one: user messages by newline, calls as several calls of one answer."""
    out: list[Turn] = []
    for turn in turns:
        if out and out[-1].role == turn.role and turn.role in ("user", "call"):
            last = out[-1]
            text = "\n".join(t for t in (last.text, turn.text) if t)
            out[-1] = Turn(turn.role, text, [*last.calls, *turn.calls], last.fault or turn.fault,
                           last.learnt and turn.learnt, last.thoughts + turn.thoughts)
        else:
            out.append(turn)
    return out


def _reply(turns: list[Turn], at: int) -> list[Turn]:
    """What the assistant says and calls directly after a user message, up to the first result or next user message."""
    said = takewhile(lambda turn: turn.role not in ("user", "tool"), turns[at + 1:])
    return [turn for turn in said if turn.role != "system"]


def _unlearnt(turns: list[Turn], at: int) -> list[Turn]:
    """The reply to a user message; not to be learnt where its tools report an error and the assistant calls again."""
    reply = _reply(turns, at)
    behind = list(takewhile(lambda turn: turn.role != "user", turns[at + 1:]))
    results = [place for place, turn in enumerate(behind) if turn.role == "tool"]
    first = list(takewhile(lambda turn: turn.role == "tool", behind[results[0]:])) if results else []
    again = results and _makes_calls(behind[results[0] + len(first):])
    failed = again and not all(turn.learnt for turn in first)
    return [turn._replace(learnt=False) for turn in reply] if failed else reply


def _next_speaker(turns: list[Turn], at: int) -> str:
    """Who speaks after the reply to a user message: "user", "tool", or "" where the conversation ends with it."""
    return next((turn.role for turn in turns[at + 1:] if turn.role in ("user", "tool")), "")


def _makes_calls(reply: list[Turn]) -> bool:
    return any(turn.calling for turn in reply)


def _asked(turns: list[Turn], at: int) -> int:
    """The place of the user's or tool's message before a turn; -1 where there is none."""
    return next((place for place in range(at - 1, -1, -1) if turns[place].role in ("user", "tool")), -1)


def _follows_user(turns: list[Turn], at: int) -> bool:
    """Does the turn belong to the reply to a user message, rather than follow a tool's result?"""
    place = _asked(turns, at)
    return place >= 0 and turns[place].role == "user"
