"""Calls and tools between tags in text: `<tool_call>`, `<tools>`, and the `<functioncall>` of Glaive.

JSON is read from just after the opening tag to where it ends, never up to the first closing tag, so a string that
spells `</tool_call>` stays whole. Python literals stand in for JSON in some corpora and are read by the literal parser.
"""

import re
from typing import Any

from data.formats.items import RowError
from data.formats.literals import LiteralError, literal_at
from data.schema import JsonError, decode_json_at

_OPENING = re.compile(r"[\[{]")
_CODE = re.compile(r"\s*```(?:json)?\s*")

_TAGS = (r"(?:[\w.:-]{0,30}(?:think|thought|reason|analys|scratch_?pad|reflect|monologue|rationale)[\w.:-]{0,30}"
         r"|plan|cot|internal|mindwalk)")
_THOUGHT_END = re.compile(rf"</{_TAGS}>|<\|/{_TAGS}\|>|\[/THINK\w*\]|◁/think▷|<\|END_THINKING\|>"
                          r"|<\|end_of_thought\|>|<channel\|>", re.IGNORECASE)
_THOUGHT_START = re.compile(
    rf"\s*(?:(?i:<\|?{_TAGS}\|?\s*/?>|\[THINK\w*\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>"
    r"|<details\s+type=.?reasoning|<(?:\|channel|unused94)>thought\b)"
    r"|(?:<\|start\|>assistant)?<\|channel\|>analysis<\|message\|>(?!.*<\|channel\|>)"
    r"|analysis(?=[A-Z])(?!.*assistant(?:final|commentary))"        # harmony's marks, lost in decoding
    r"|[*\s]*(?:Thought|Thinking|Reasoning)[*\s]*\d*[*\s]*:[^\n]*\Z)", re.DOTALL)
_MOST_VALUES = 32    # JSON values looked at before the end of a thought, to see whether they hold it


def after_thinking(text: str) -> str:
    """The text after the last `</think>`: tags in reasoning are no calls; one inside a JSON value ends no thought."""
    start = at = 0
    while end := _THOUGHT_END.search(text, at):
        if not _inside_value(text, start, end.start()):
            start = end.end()
        at = end.end()
    return text[start:]


def unfinished_thought(text: str) -> bool:
    """Is a text, closed thoughts removed, a thought that never ends? Whatever it spells was only thought of."""
    return _THOUGHT_START.match(text) is not None


def _inside_value(text: str, start: int, place: int) -> bool:
    """Does a JSON value that begins between `start` and `place` go on beyond `place`?"""
    for _ in range(_MOST_VALUES):
        opening = _OPENING.search(text, start, place)
        if not opening:
            return False
        try:
            start = decode_json_at(text, opening.start())[1]
        except JsonError:
            start = opening.end()
        if start > place:
            return True
    return False


def value_at(text: str, start: int, stage: str = "calls") -> tuple[Any, int]:
    """A JSON value, or else a Python literal, at `start`, and the index after it. Raises RowError."""
    try:
        return decode_json_at(text, start)
    except JsonError as error:
        try:
            return literal_at(text, start)
        except LiteralError:
            raise RowError("bad_" + stage, f"neither JSON nor a literal: {error.detail}", stage=stage) from None


def values_between(text: str, tag: str, stage: str = "calls") -> list[Any]:
    """All values inside all `<tag>` blocks, lists spread out. A block without its closing tag is read to the end.

    Raises:
        RowError: something between the tags is no value.
    """
    out: list[Any] = []
    position = text.find(f"<{tag}>")
    while position >= 0:
        at = _skip(text, position + len(tag) + 2)
        while at < len(text) and not text.startswith(f"</{tag}>", at):
            value, at = value_at(text, at, stage)
            out.extend(value if isinstance(value, list) else [value])
            at = _skip(text, at)
        position = text.find(f"<{tag}>", at)
    return out


def _skip(text: str, at: int) -> int:
    """Skip white space, commas and code fences between values."""
    while at < len(text):
        if text[at] in " \t\r\n,":
            at += 1
        elif text.startswith("```", at):
            at = _CODE.match(text, at).end()  # type: ignore[union-attr]
        else:
            break
    return at


def words_around(text: str, tag: str) -> str:
    """The text before the first `<tag>` and after the last `</tag>`."""
    before, opening, rest = text.partition(f"<{tag}>")
    after = rest.rpartition(f"</{tag}>")[2] if f"</{tag}>" in rest else ""
    return f"{before.strip()} {after.strip()}".strip()


def tool_list(text: str) -> list[Any] | None:
    """The first balanced JSON list of objects inside running text (ToolACE's system prompt), or None if there is none.

    An empty list counts only where no other follows: prose may say "return []".
    """
    empty: list[Any] | None = None
    at = text.find("[")
    while at >= 0:
        if text[at + 1:at + 40].lstrip()[:1] in ("{", "]"):
            try:
                value, _ = decode_json_at(text, at)
            except JsonError as error:
                if error.code != "not_json":
                    why = f"the tool list in the system text: {error.detail}"
                    raise RowError("bad_tools", why, stage="tools") from None
            else:
                if isinstance(value, list) and all(isinstance(item, dict) for item in value):
                    if value:
                        return value
                    empty = value
        at = text.find("[", at + 1)
    return empty
