"""What a query says that a call can repeat: its numbers, quoted texts, codes, names and dates.

All are patterns of how people write; none knows a language beyond English months. No judgement is made here.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

NUMBER = re.compile(r"(?<![\w.:-])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w:-]|\.\d)")           # no date, no part of a code
MEASURED = re.compile(r"(?<![\w.:-])-?\d+(?:,\d{3})*(?:\.\d+)?(?=-?[^\W\d_]+(?!\w))")       # 5kg, 12-inch, 3pm
QUOTED = re.compile(r"""\"([^"]+)\"|\u201c([^\u201c\u201d]+)\u201d"""                     # "so", and typographic ones
                    r"""|\u2018([^\u2018\u2019]+)\u2019(?!\w)|(?<!\w)'([^']+)'(?!\w)""")     # no apostrophe
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december")
_MONTH = "(?P<month>" + "|".join((*MONTHS, "sept", *(name[:3] for name in MONTHS))) + r")\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
DATES = (re.compile(rf"\b{_MONTH}(?: the)? {_DAY},? (?P<year>\d{{4}})\b"),               # june 30, 2022
         re.compile(rf"\b{_DAY}(?: of)? {_MONTH},? (?P<year>\d{{4}})\b"))                # the 20th of march, 2023
WHEN = re.compile(r"\d+:\d\d|\d{4}-\d\d(?:-\d\d)?|\d+/\d+/\d+|\d+(?:[-.]\d+){2,}")        # 08:30, 2025-03-04, 555-12-34
CODE, LETTER, DIGIT = re.compile(r"[\w-]+"), re.compile(r"[^\W\d_]"), re.compile(r"\d")
# a@b.org, http://..., example.jpg
ADDRESS = re.compile(r"[^@\s]@[^@\s]+\.\w|\w://\w|\w{2}\.(?:[a-z][a-z0-9]{1,3}|[A-Z][A-Z0-9]{1,3})$")
WORD = re.compile("[A-Za-z0-9\u00c0-\u024f\u0370-\u052f]+(?:['\u2019&.-][A-Za-z0-9\u00c0-\u024f\u0370-\u052f]+)*")
EDGES = re.compile("(?<![a-z0-9])(?=[a-z0-9])|(?<=[0-9])(?![0-9])")
POSSESSIVE = re.compile("['\u2019]s$")
# after one of these a capital may be that of a sentence
OPENS = ".!?:;\n()[-*\"'\u201c\u2018\u2022\u2013\u2014\u2026\u3002"
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NO_NAME = {"i", "i'm", "i'd", "i'll", "i've", "mr", "mrs", "ms", "dr", "sept", *DAYS, *MONTHS,
           *(name[:3] for name in (*DAYS, *MONTHS))}


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


def quotes_in(query: str) -> list[str]:
    """The texts between quotation marks: double, single or typographic ones; an apostrophe is none."""
    return ["".join(found) for found in QUOTED.findall(query)]


def codes_in(query: str) -> Iterator[str]:
    """Addresses, files, dates and times in digits, and codes in which a digit follows a letter: UKN14, but not 5kg."""
    bare = (word.strip(".,;:!?()[]{}<>\"'\u201c\u201d\u2018\u2019") for word in query.split())
    return (word for word in bare if ADDRESS.search(word) or WHEN.fullmatch(word) or is_code(word))


def times_said(value: str, text: str) -> int:
    """How often a text in small letters says a value: not from the middle of a word on, no number cut off.

    Endings are free: "senior" of seniors, and what other scripts write without a space.
    """
    return with_edges(text).count(EDGES.sub("\0", value)) if value else 0           # an empty text says nothing


@lru_cache(maxsize=4)
def with_edges(text: str) -> str:
    """The text with a mark before every word of ASCII letters and digits and behind every number.

    A value marked alike is then found where a word begins, and not where a number goes on.
    """
    return EDGES.sub("\0", text)


def is_code(word: str) -> bool:
    """Whether a digit comes after a letter, and nothing else between them but hyphens: no "x=6"."""
    letter = LETTER.search(word) if CODE.fullmatch(word) else None
    return letter is not None and DIGIT.search(word, letter.end()) is not None


def names_in(query: str) -> list[str]:
    """The words with a capital inside of a sentence: Delft, MyDatabase, of "a flight to New York" New and York.

    Left out are short ones in capitals alone (ID, URL), months, weekdays and titles. Where most words have a capital,
    as in a headline, it says nothing: there are no names then.
    """
    words, capitals, names = 0, 0, []
    for word in WORD.finditer(query):
        words += 1
        if word[0][0].isupper():
            capitals += 1
            name = POSSESSIVE.sub("", word[0])
            opens = query[max(0, word.start() - 16):word.start()].rstrip(" \t")[-1:] in OPENS       # or nothing before
            short = len(name) <= 4 and name.removesuffix("s").isupper()                             # ID, URLs
            plainly = name.casefold().replace("\u2019", "'")
            if not (opens or short or plainly in NO_NAME or plainly.removesuffix("s") in DAYS):
                names.append(name)
    return names if 2 * capitals <= words else []


def as_number(written: str) -> float:
    """A number as the query writes it."""
    return float(written.replace(",", ""))
