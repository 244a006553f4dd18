"""Does an answer say what the query says? A check of the winner against the query itself, beyond the rule checker.

A small model makes tools with two arguments for one thing, fills both with the same value, and all its samples agree.
No vote sees that; the query does. Ours, not the paper's: `--grounded` of a round. It suits queries that spell values as
calls do ("tomorrow" for a date would be thrown out), and cannot judge switches and choices.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data.parse import Reason
from data.schema import Tool, ToolCall, leaves

NUMBER = re.compile(r"(?<![\w.:-])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w:-]|\.\d)")           # no date, no part of a code
MEASURED = re.compile(r"(?<![\w.:-])-?\d+(?:,\d{3})*(?:\.\d+)?(?=-?[^\W\d_]+(?!\w))")       # 5kg, 12-inch, 3pm
QUOTED = re.compile(r'"([^"]+)"')
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december")
_MONTH = "(?P<month>" + "|".join((*MONTHS, "sept", *(name[:3] for name in MONTHS))) + r")\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
DATES = (re.compile(rf"\b{_MONTH}(?: the)? {_DAY},? (?P<year>\d{{4}})\b"),               # june 30, 2022
         re.compile(rf"\b{_DAY}(?: of)? {_MONTH},? (?P<year>\d{{4}})\b"))                # the 20th of march, 2023
MAX_VALUES = 512                # in the calls, or said by the query: every one is looked for in the other's text


def ungrounded(query: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> Reason | None:
    """The first way in which the calls' values differ from what the query says; None where they agree, or none is made.

    - value_not_in_query: a text or number that neither the query nor an enum of the called tool holds.
    - value_twice: one call uses a value more often than the query says it.
    - value_left_out: a number or quoted text of the query that no call uses.
    - too_many_values: more than MAX_VALUES to look for.

    Texts are looked for anywhere in the query, whatever the case of their letters; numbers by value; a date with an
    English month also as ISO 8601 writes it. Truth values and null are not looked for.
    """
    text, written, quoted = plain(query), numbers_in(query), QUOTED.findall(query)
    text = " ".join((text, *iso_dates(text)))
    most = max(len(written) + len(quoted), sum(len(looked_for(call.arguments)) for call in calls))
    if calls and most > MAX_VALUES:
        return Reason("too_many_values", f"{most} values; at most {MAX_VALUES} are held against a query")
    numbers = Counter(map(as_number, written))
    also = Counter(map(as_number, [*MEASURED.findall(text), *filter(NUMBER.fullmatch, quoted)]))
    choices = {tool.name: {comparable(value) for value in enums(tool.parameters)
                           if isinstance(value, (str, int, float))} for tool in tools}
    used: set[str | float] = set()
    for call in calls:
        counts = Counter(map(comparable, looked_for(call.arguments)))
        used |= set(counts)
        for value, times in counts.items():
            said = text.count(str(value)) if value != "" else 0       # an empty text says nothing
            if isinstance(value, float):
                said = numbers[value] or also[value] or said
            if said < times and not (said == 0 and value in choices.get(call.name, ())):
                return Reason("value_twice" if said else "value_not_in_query",
                              f"{call.name}: {str(value)[:80]!r} stands {said} times in the query")
    texts = " ".join(value for value in used if isinstance(value, str))
    for value in (*dict.fromkeys(written), *map(plain, quoted)) if calls else ():
        if value not in texts and not (NUMBER.fullmatch(value) and as_number(value) in used):
            return Reason("value_left_out", f"no call uses {value[:80]!r}")
    return None


def plain(text: str) -> str:
    """The text in small letters with single blanks."""
    return " ".join(text.casefold().split())


def iso_dates(text: str) -> list[str]:
    """The dates that a text in small letters writes with an English month and a year, as ISO 8601 writes them."""
    found = [date for pattern in DATES for date in pattern.finditer(text)]
    return [f"{date['year']}-{month_number(date['month']):02}-{int(date['day']):02}" for date in found]


def month_number(name: str) -> int:
    """1 to 12, by the first three letters of an English month."""
    return next(number for number, month in enumerate(MONTHS, start=1) if month.startswith(name[:3]))


def numbers_in(query: str) -> list[str]:
    """The numbers of the query outside of quotation marks, as they are written."""
    return NUMBER.findall(QUOTED.sub(" ", query))


def as_number(written: str) -> float:
    """A number as the query writes it."""
    return float(written.replace(",", ""))


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
