"""Calls and tools between tags in text: `<tool_call>`, `<tools>`, and the `<functioncall>` of Glaive.

JSON is read from just after the opening tag to where it ends, never up to the first closing tag, so a string that
spells `</tool_call>` stays whole. Python literals stand in for JSON in some corpora and are read by the literal parser.
"""

import re
from typing import Any

from data.formats.items import RowError
from data.formats.literals import LiteralError, literal_at
from data.formats.thoughts import doubtful
from data.schema import JsonError, decode_json_at

_CODE = re.compile(r"\s*```(?:json)?\s*")


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
        RowError: something between the tags is no value; or, of calls, the text breaks off in a block or in a thought.
    """
    out: list[Any] = []
    around: list[str] = []
    at, position = 0, text.find(f"<{tag}>")
    while position >= 0:
        around.append(text[at:position])
        start = at = _skip(text, position + len(tag) + 2)
        while at < len(text) and not text.startswith(f"</{tag}>", at):
            value, at = value_at(text, at, stage)
            out.extend(value if isinstance(value, list) else [value])
            at = _skip(text, at)
        if at == start and stage == "calls":
            raise RowError("bad_calls", f"nothing in a block of <{tag}>: {text[:120]!r}", stage=stage)
        position = text.find(f"<{tag}>", at)
    if stage == "calls":
        _refuse_broken_off("{}".join((*around, text[at:])), tag)
    return out


def _refuse_broken_off(around: str, tag: str) -> None:
    """Refuse calls after which the text breaks off, or of which it cannot be told whether they were only thought of.

    Args:
        around: the text, with `{}` in place of the values in its blocks.
        tag: of the blocks.

    Raises:
        RowError: `bad_calls`.
    """
    if any(around.rstrip().endswith(f"<{tag}"[:length]) for length in range(2, len(tag) + 2)):
        raise RowError("bad_calls", f"the text breaks off in a tag: {around[-60:]!r}", stage="calls")
    doubt = doubtful(around)
    if doubt:
        raise RowError("bad_calls", f"{doubt}: {around[:120]!r}", stage="calls")


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
