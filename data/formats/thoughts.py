"""Thoughts in a text, taken out from their opening mark to their closing one: calls around them are calls.

`<think>` and its like, `[THINK]`, Kimi's, Cohere's and harmony's marks. One inside a value is text.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from data.formats.literals import LiteralError, call_at, literal_at
from data.schema import JsonError, decode_json_at

_OPENING = re.compile(r"[\[{(]")
_TAGS = (r"(?:[\w.:-]{0,30}(?:think|thought|reason|analys|scratch_?pad|reflect|monologue|rationale)[\w.:-]{0,30}"
         r"|plan|cot|internal|mindwalk)")
_CLOSES = (rf"</{_TAGS}>|<\|/{_TAGS}\|>|\[/THINK\w*\]|◁/think▷|<\|END_THINKING\|>"
           r"|<\|end_of_thought\|>|<channel\|>")
_OPENS = (rf"<\|?{_TAGS}\|?\s*>|\[THINK\w*\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>"
          r"|<(?:\|channel|unused94)>thought\b")
_THOUGHT = re.compile(rf"(?P<closes>{_CLOSES})|{_OPENS}", re.IGNORECASE)
_OF_A_PAIR = re.compile(r"(?:START|END|begin_of|end_of)_|[^a-z]", re.IGNORECASE)    # what tells one from the other
_THOUGHT_START = re.compile(
    rf"\s*(?:(?i:<\|?{_TAGS}\|?\s*/?>|\[THINK\w*\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>"
    r"|<details\s+type=.?reasoning|<(?:\|channel|unused94)>thought\b)"
    r"|(?:<\|start\|>assistant)?<\|channel\|>analysis<\|message\|>(?!.*<\|channel\|>)"
    r"|analysis(?=[A-Z])(?!.*assistant(?:final|commentary))"        # harmony's marks, lost in decoding
    r"|[*\s]*(?:Thought|Thinking|Reasoning)[*\s]*\d*[*\s]*:[^\n]*\Z)", re.DOTALL)
_MOST_VALUES = 64    # values looked at before a mark of a thought, to see whether they hold it
_MAY_CALL = re.compile(r"[{(\[<=]")
_BARE_CALL = re.compile(r"\s*(?:```\w*\s*)?(?:[\[{]|[A-Za-z_][\w.-]{0,80}\()")
_BEFORE_A_THOUGHT = re.compile(r"(?:^|[>.!?:;})\]])[ \t]*\Z", re.MULTILINE)


class _Mark(NamedTuple):
    """An opening or a closing mark of a thought, its place, and what both marks of a pair share."""

    kind: str
    closes: bool
    start: int
    end: int


def after_thinking(text: str) -> str:
    """The text without its thoughts: from each opening mark to its closing one, and up to a closing mark by itself,
    whose thought began before the text did. A mark inside a value is text.

    Words before a thought are left out where a bare call follows it, as if they were part of it. What a closing mark
    by itself behind another thought closes cannot be told. Where a call may stand before it, only the contents of
    thoughts are cut out; what spells calls around such marks is refused.
    """
    outside, emptied, start, doubt = [], [], 0, False
    for opening, closing in _thoughts(text):
        if closing is None:
            continue
        said = text[start:(opening or closing).start]
        if opening is None and not (start and _MAY_CALL.search(said)):
            said = ""                                   # more of a thought
        doubt = doubt or opening is None and bool(said)
        outside.append(said)
        emptied += [said, text[opening.start:opening.end] if opening else "", text[closing.start:closing.end]]
        start = closing.end
    if doubt or not start:
        return "".join((*emptied, text[start:]))
    outside.append(text[start:])
    first = next((at for at, said in enumerate(outside) if _MAY_CALL.search(said)), 0)
    kept = outside[first if _BARE_CALL.match(outside[first]) else 0:]
    return "\n".join(said for said in kept if said.strip())


def unfinished_thought(text: str) -> bool:
    """Is a text, closed thoughts removed, a thought that never ends? Whatever it spells was only thought of."""
    if _THOUGHT_START.match(text) is None:
        return False
    opening, closing = next(_thoughts(text), (None, None))
    return opening is None or closing is None or bool(text[:opening.start].strip())


def _thoughts(text: str) -> Iterator[tuple[_Mark | None, _Mark | None]]:
    """The two marks of each thought in order; None for one that is not there."""
    marks, end = list(_marks(text)), 0
    last = max((number for number, mark in enumerate(marks) if mark.closes), default=-1)
    for number, mark in enumerate(marks):
        if mark.start < end:
            continue
        closing = mark if mark.closes else _closing(mark, marks[number + 1:last + 1])
        yield None if mark.closes else mark, closing
        end = closing.end if closing else mark.end


def _closing(opening: _Mark, later: list[_Mark]) -> _Mark | None:
    """The first closing mark of an opening one's kind; else the first of another kind that nothing between opens."""
    same = next((mark for mark in later if mark.closes and mark.kind == opening.kind), None)
    opened: set[str] = set()
    for mark in () if same else later:
        if mark.closes and mark.kind not in opened:
            return mark
        opened.add(mark.kind)
    return same


def _marks(text: str) -> Iterator[_Mark]:
    """The marks of thoughts, but for those inside a value."""
    start = at = 0
    while mark := _THOUGHT.search(text, at):
        over = _value_over(text, start, mark.start())
        if over:
            at = over
            continue
        yield _Mark(_OF_A_PAIR.sub("", mark.group()).lower(), mark["closes"] is not None, mark.start(), mark.end())
        start = at = mark.end()


def _value_over(text: str, start: int, place: int) -> int:
    """The end of the value, or of the call's arguments, that begins between `start` and `place` and goes on beyond
    `place`; 0 where none does."""
    for _ in range(_MOST_VALUES):
        opening = _OPENING.search(text, start, place)
        if not opening:
            return 0
        start = _end_of_value(text, opening.start()) or opening.end()
        if start > place:
            return start
    return 0


def _end_of_value(text: str, at: int) -> int:
    """The index after the JSON value, the literal or the arguments of a call that begin at `at`; 0 where none do."""
    with suppress(JsonError):
        return decode_json_at(text, at)[1]
    with suppress(LiteralError):
        return literal_at(text, at)[1]
    with suppress(LiteralError):
        return call_at(text, at - 1, {})[2] if at and text[at] == "(" else 0
    return 0


def doubtful(text: str) -> str:
    """Why it cannot be told which calls of a text were only thought of, in words; "" where it can.

    Args:
        text: with `{}` in place of the values of its calls.
    """
    end = 0
    for opening, closing in _thoughts(text):
        if closing is None and opening and _BEFORE_A_THOUGHT.search(text[:opening.start]):
            return "calls around a thought that never ends"
        if closing and opening is None and end and _MAY_CALL.search(text, end, closing.start):
            return "calls around a thought without a beginning"
        end = closing.end if closing else end
    return ""
