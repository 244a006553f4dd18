"""A parser of Python, JSON and pythonic-call text that never evaluates anything.

Corpora write values as Python literals and calls as `[Market Trends API(country="us"), f(1, x=[2, 3],)]`, where names
hold spaces, dots and brackets; `ast.parse` accepts a fifth of those. This reads literals (strings with every prefix
and quote, numbers, True/true/None/null, lists, tuples, dicts) and calls around them, and refuses all else: names as
values, operators, f-strings with fields, NaN and infinities.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from data.schema import MAX_INT_DIGITS

MAX_DEPTH = 32

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*)?\.\d+(?:[eE][+-]?\d+)?|\d[\d_]*\.(?:[eE][+-]?\d+)?"
                     r"|\d[\d_]*(?:[eE][+-]?\d+)?)")
_WORD = re.compile(r"[^\W\d]\w*")
_STRING_START = re.compile(r"(?P<prefix>[rRbBuUfF]{0,2})(?P<quote>'''|\"\"\"|'|\")")
_KEYWORD = re.compile(r"\s*(?P<name>[^=,()\[\]{}\"'\s](?:[^=,()\[\]{}\"']*[^=,()\[\]{}\"'\s])?)\s*=(?!=)")
_CALL_NAME = re.compile(r"\s*(?P<name>[^()\[\]{}\"'=,\s](?:[^()\[\]{}\"'=,]*[^()\[\]{}\"'=,\s])?)\s*\(")
_CONSTANTS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "\\": "\\", "'": "'", '"': '"',
            "\n": "", "/": "/"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL)


class LiteralError(ValueError):
    """The text is not a literal, or not a list of calls, of the kind that this module reads."""


def parse_literal(text: str) -> Any:
    """Parse one Python or JSON literal that fills the whole text. Tuples become lists. Raises LiteralError."""
    parser = _Literals(text)
    value = parser.value(0)
    parser.end()
    return value


def literal_at(text: str, start: int) -> tuple[Any, int]:
    """Parse the literal that starts at `start`; return it and the index after it. Raises LiteralError."""
    parser = _Literals(text, start)
    return parser.value(0), parser.at


def parse_calls(text: str, parameters: dict[str, Sequence[str]] | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Parse `[name(a=1, ...), name(...)]`, or one call without the brackets, into (name, arguments) pairs.

    Args:
        text: the calls and nothing else around them but white space.
        parameters: known tool names and the order of their parameters. Known names are tried first, longest first, so
            that names with brackets or commas work; the order places positional arguments.

    Raises:
        LiteralError: anything that is not such a list, a positional argument of an unknown tool, a repeated argument.
    """
    return _Calls(text).calls(parameters or {})


def call_at(text: str, start: int, parameters: dict[str, Sequence[str]]) -> tuple[str, dict[str, Any], int]:
    """The one call that starts at `start`, whatever follows it, and the index after it. Raises LiteralError."""
    parser = _Calls(text, start)
    name, arguments = parser.call(sorted(parameters, key=len, reverse=True), parameters)
    return name, arguments, parser.at


def looks_like_calls(text: str, names: Iterable[str] = ()) -> bool:
    """Is the text meant as a list of calls? A true answer does not promise that it parses."""
    body = text.strip()
    inner = body.removeprefix("[").lstrip()
    return any(inner.startswith(name) and inner[len(name):].lstrip().startswith("(") for name in names) or (
        body.startswith("[") and _CALL_NAME.match(inner) is not None)


class _Literals:
    """A cursor over the text; every method reads one thing at the cursor or raises LiteralError."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text, self.at = text, at

    def need(self, holds: object, what: str) -> None:
        """LiteralError, with what is wrong and where, unless this holds."""
        if not holds:
            raise LiteralError(f"{what} at character {self.at}: {self.text[self.at:self.at + 40]!r}")

    def peek(self) -> str:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at:self.at + 1]

    def comes(self, at: int, letter: str) -> bool:
        """Is `letter` the next thing at or after `at`?"""
        return self.text.startswith(letter, _SPACE.match(self.text, at).end())  # type: ignore[union-attr]

    def take(self, letter: str) -> None:
        self.need(self.peek() == letter, f"expected {letter!r}")
        self.at += 1

    def comma(self, closing: str) -> bool:
        """Take the comma after a part; False where `closing` comes instead."""
        if self.peek() == ",":
            self.at += 1
            return True
        self.need(self.peek() == closing, f"expected ',' or {closing!r}")
        return False

    def end(self) -> None:
        self.need(not self.peek(), "text after the end")

    def value(self, depth: int) -> Any:
        letter = self.peek()
        self.need(depth <= MAX_DEPTH, "nested too deeply")
        if letter == "{":
            return self.mapping(depth)
        if letter and letter in "[(":
            return self.sequence(depth)
        if _STRING_START.match(self.text, self.at):
            return self.strings()
        number = _NUMBER.match(self.text, self.at)
        if number:
            return self.number(number)
        word = _WORD.match(self.text, self.at)
        self.need(word and word.group() in _CONSTANTS, "expected a literal")
        self.at = word.end()
        return _CONSTANTS[word.group()]

    def number(self, match: re.Match[str]) -> int | float:
        text = match.group().replace("_", "")
        after = self.text[match.end():match.end() + 1]
        self.need(not (after.isalnum() or after == "_"), "a number runs into a word")
        digits = text.lstrip("+-")
        if digits[:2] in ("0x", "0X"):
            value: int | float = int(text, 16)
        elif digits.isdigit():
            self.need(digits == "0" or digits[0] != "0", "an integer with leading zeros")
            self.need(len(digits) <= MAX_INT_DIGITS, f"an integer of {len(digits)} digits")
            value = int(text)
        else:
            value = float(text)
        self.need(value not in (float("inf"), float("-inf")), "a number too large for a double")
        self.at = match.end()
        return value

    def strings(self) -> str:
        """One string, or several side by side, which Python joins."""
        parts = []
        while True:
            self.peek()
            start = _STRING_START.match(self.text, self.at)
            if not start:
                return "".join(parts)
            parts.append(self.string(start))

    def string(self, start: re.Match[str]) -> str:
        prefix, quote = start["prefix"].lower(), start["quote"]
        at = start.end()
        while True:
            end = self.text.find(quote, at)
            self.need(end >= 0, "a string without its closing quote")
            before = end
            while before > start.end() and self.text[before - 1] == "\\":
                before -= 1
            if (end - before) % 2 == 0:
                break
            at = end + 1
        body = self.text[start.end():end]
        self.need("f" not in prefix or not ("{" in body or "}" in body), "an f-string with fields is not a literal")
        self.at = end + len(quote)
        return body if "r" in prefix else _unescape(body)

    def sequence(self, depth: int) -> Any:
        closing = "]" if self.text[self.at] == "[" else ")"
        self.at += 1
        items: list[Any] = []
        comma = False
        while self.peek() != closing:
            items.append(self.value(depth + 1))
            comma = self.comma(closing)
        self.at += 1
        return items[0] if closing == ")" and len(items) == 1 and not comma else items

    def mapping(self, depth: int) -> dict[str, Any]:
        self.at += 1
        out: dict[str, Any] = {}
        while self.peek() != "}":
            key = self.value(depth + 1)
            self.need(isinstance(key, str), "a key that is not a string, before")
            self.need(key not in out, f"the key {key!r} stands twice, before")
            self.take(":")
            out[key] = self.value(depth + 1)
            self.comma("}")
        self.at += 1
        return out


class _Calls(_Literals):
    """The same cursor over calls, whose arguments are literals."""

    def calls(self, parameters: dict[str, Sequence[str]]) -> list[tuple[str, dict[str, Any]]]:
        names = sorted(parameters, key=len, reverse=True)
        listed = self.peek() == "["
        self.at += listed
        out = []
        while not (listed and self.peek() == "]"):
            out.append(self.call(names, parameters))
            if self.peek() == ",":
                self.at += 1
            elif not listed or self.peek() != "]":
                break
            if not listed and not self.peek():
                break
        if listed:
            self.take("]")
        self.end()
        return out

    def call(self, names: list[str], parameters: dict[str, Sequence[str]]) -> tuple[str, dict[str, Any]]:
        name = self.name(names)
        self.take("(")
        out: dict[str, Any] = {}
        position = 0
        while self.peek() != ")":
            keyword = self.keyword(parameters.get(name, ()))
            if keyword is None:
                order = parameters.get(name, ())
                self.need(position < len(order), f"a positional argument of {name!r} without a parameter to go to")
                keyword, position = order[position], position + 1
                self.need(self.peek() != "{",
                          "an object in place of named arguments: all of them, or the first? It cannot be told")
            self.need(keyword not in out, f"the argument {keyword!r} stands twice, at or before")
            out[keyword] = self.value(0)
            self.comma(")")
        self.at += 1
        return name, out

    def name(self, names: list[str]) -> str:
        self.peek()
        for name in names:
            if self.text.startswith(name, self.at) and self.comes(self.at + len(name), "("):
                self.at += len(name)
                return name
        match = _CALL_NAME.match(self.text, self.at)
        self.need(match, "expected the name of a tool and '('")
        self.at = match.end() - 1
        return match["name"]

    def keyword(self, order: Sequence[str]) -> str | None:
        for name in sorted((n for n in order if not n.isidentifier()), key=len, reverse=True):
            if self.text.startswith(name, self.at) and self.comes(self.at + len(name), "="):
                self.at = self.text.index("=", self.at + len(name)) + 1
                return name
        match = _KEYWORD.match(self.text, self.at)
        if not match:
            return None
        self.at = match.end()
        return match["name"]


def _unescape(body: str) -> str:
    """Python's escapes, and JSON's; an unknown escape keeps its backslash, as Python does. UTF-16 pairs are joined."""
    if "\\" not in body:
        return body

    def one(match: re.Match[str]) -> str:
        hex_digits = match[1] or match[2] or match[3]
        if hex_digits:
            code = int(hex_digits, 16)
            if code > 0x10FFFF:
                raise LiteralError(f"no such character: {match.group()}")
            return chr(code)
        if match[4]:
            return chr(int(match[4], 8))
        return _ESCAPES.get(match[5], match.group())

    out = _ESCAPE.sub(one, body)
    if re.search("[\ud800-\udbff][\udc00-\udfff]", out):
        out = re.sub("[\ud800-\udbff][\udc00-\udfff]",
                     lambda m: m.group().encode("utf-16", "surrogatepass").decode("utf-16"), out)
    return out
