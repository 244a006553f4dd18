"""Does an answer say what the query says? A check of the winner against the query itself, beyond the rule checker.

A small model makes tools with two arguments for one thing, fills both with the same value, and all its samples agree.
Or it makes one easy tool for a query of three wishes, and they agree on that. No vote sees either; the query does.
Ours, not the paper's: `--grounded` of a round. It suits queries that spell values as calls do ("tomorrow" for a date
would be thrown out), and cannot judge switches and choices. It takes capitals for names, which they are not in German.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data.parse import Reason
from data.schema import Tool, ToolCall, leaves
from evolution.said import (
    MEASURED,
    NUMBER,
    as_number,
    codes_in,
    iso_dates,
    names_in,
    numbers_in,
    plain,
    quotes_in,
    times_said,
)

MAX_VALUES = 256                # in the calls, or said by the query: every one is looked for in the other's text


def ungrounded(query: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> Reason | None:
    """The first way in which the calls' values differ from what the query says; None where they agree, or none is made.

    - value_not_in_query: a text or number that neither the query nor an enum of the called tool holds.
    - value_twice: one call uses a value more often than the query says it.
    - value_left_out: a number, quoted text, code, file or address of the query that no call uses.
    - name_left_out: a name of the query that no call uses. A name, code, file or address may also stand in the name or
      description of a called tool.
    - too_many_values: more than MAX_VALUES to look for.

    Texts are looked for anywhere in the query, whatever the case of their letters; numbers by value; a date with an
    English month also as ISO 8601 writes it. Truth values and null are not looked for.
    """
    text, written, quoted = plain(query), numbers_in(query), quotes_in(query)
    text = " ".join((text, *iso_dates(text)))
    in_calls = sum(len(looked_for(call.arguments)) for call in calls)
    if calls and (many := max(len(written) + len(quoted), in_calls)) > MAX_VALUES:
        return Reason("too_many_values", f"{many} values; at most {MAX_VALUES} are held against a query")
    numbers = Counter(map(as_number, written))
    also = Counter(map(as_number, [*MEASURED.findall(text), *filter(NUMBER.fullmatch, quoted)]))
    choices = {tool.name: {comparable(value) for value in enums(tool.parameters)
                           if isinstance(value, (str, int, float))} for tool in tools}
    used: set[str | float] = set()
    for call in calls:
        counts = Counter(map(comparable, looked_for(call.arguments)))
        used |= set(counts)
        together = "\n".join(value for value in counts.elements() if isinstance(value, str))
        for value, times in counts.items():
            said = times_said(str(value), text)
            if isinstance(value, float):
                said = numbers[value] + also[value] or said
            else:
                times = max(1, times_said(value, together))     # inside of a longer value of the call, too
            if said < times and not (said == 0 and value in choices.get(call.name, ())):
                return Reason("value_twice" if said else "value_not_in_query",
                              f"{call.name}: {str(value)[:80]!r} stands {said} times in the query")
    return left_out(query, [*written, *quoted], calls, tools, used) if calls else None


def left_out(query: str, values: Sequence[str], calls: Sequence[ToolCall], tools: Sequence[Tool],
             used: set[str | float]) -> Reason | None:
    """The first of these values, and of the query's codes and names, that no call uses.

    A code or a name may also stand in what a called tool says of itself: Instagram, where its tool is called.
    """
    texts = " ".join(value for value in used if isinstance(value, str))
    called = {call.name for call in calls}
    about = " ".join(f"{spelled(tool.name)} {plain(tool.description)}" for tool in tools if tool.name in called)
    for value in map(plain, dict.fromkeys(values)):
        said = value in texts or as_number(value) in used if NUMBER.fullmatch(value) else _says(texts, value)
        if not said:
            return Reason("value_left_out", f"no call uses {value[:80]!r}")
    for value in codes_in(query):
        if not (_says(texts, plain(value)) or plain(value) in about):
            return Reason("value_left_out", f"no call uses {value[:80]!r}")
    for name in dict.fromkeys(names_in(query)):
        if not (_says(texts, name.casefold()) or name.casefold() in about):
            return Reason("name_left_out", f"no call uses {name[:80]!r}")
    return None


def _says(texts: str, value: str) -> bool:
    value = value.rstrip(".,;:!?")
    return not value or times_said(value, texts) > 0


def spelled(name: str) -> str:
    """A tool's name as words in small letters: playOnSpotify, play_on_spotify -> play on spotify."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_.-]+", " ", name).casefold()


def comparable(value: str | int | float) -> str | float:
    """A text in plain form; a number as a float, infinite where it is too large for one."""
    if isinstance(value, str):
        return plain(value)
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def looked_for(arguments: Any) -> list[str | int | float]:
    """The texts and numbers inside a JSON value."""
    return [leaf for leaf in leaves(arguments) if isinstance(leaf, (str, int, float)) and not isinstance(leaf, bool)]


def enums(schema: Any) -> Iterator[Any]:
    """Every entry of every enum inside a schema."""
    if isinstance(schema, dict):
        for key, item in schema.items():
            yield from item if key == "enum" and isinstance(item, list) else enums(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from enums(item)
