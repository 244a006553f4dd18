"""What Java and JavaScript call text have in common: tokens, brackets, and the expressions that both share."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_DEPTH = 100
ESCAPE = r"\\(?:[^xu0-7]|[0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]+\})"
DIGITS = r"\d+(?:_\d+)*"
OPERATORS = (r">>>=|\.\.\.|===|!==|\*\*=|<<=|>>=|>>>|&&=|\|\|=|\?\?=|->|=>|::|\+\+|--|&&|\|\||\?\?|\?\.(?!\d)"
             r"|==|!=|<=|>=|<<|>>|\*\*"
             r"|[-+*/%&|^]=|[-+*/%&|^<>=!~?:;,.(){}\[\]]")
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", ">>>=", "**=", "&&=", "||=", "??="}
BINARY = {"+", "-", "*", "/", "%", "&", "|", "^", "<", ">", "<=", ">=", "==", "!=", "&&", "||", "<<", ">>", ">>>"}
CLOSING = {"(": ")", "[": "]", "{": "}"}
TARGETS = ("name", "member", "index")


class NoCall(ValueError):
    """The text is not what this reader knows, or its call has no value."""


def need(holds: object, what: str) -> None:
    """NoCall, with what is wrong, unless this holds."""
    if not holds:
        raise NoCall(what)


@dataclass
class Piece:
    """Part of an expression: what it is, where it stands, and (Java) its text as a value, None if it has none."""

    kind: str
    start: int
    end: int
    text: str | None = ""
    function: tuple[int, int, int, int] | None = None     # calls: the object's place and the name's
    arguments: Sequence["Piece"] = ()
    value: "Piece | None" = None                          # assignments: the right-hand side
    target_end: int = 0


class Reader:
    """Tokens of one text and the expressions that both languages share; each adds its `primary` and its `postfix`."""

    token: re.Pattern
    binary: set[str]
    prefixes: set[str]
    compound: str                      # what `x += 1` is

    def __init__(self, source: str) -> None:
        self.source, self.depth, self.end, self.newline = source, 0, 0, False
        self.closed: dict[int, int] = {}                  # where a bracket opens -> where it is closed
        self.advance_to(0)

    def advance_to(self, position: int) -> None:
        """Make the token at or after `position` the current one."""
        source, start = self.source, position
        while start < len(source) and source[start].isspace():
            start += 1
        self.newline = "\n" in source[position:start]
        match = self.token.match(source, start)
        need(match or start == len(source) or source[start] == "/", f"character {start} begins no token")
        self.start, self.stop = start, match.end() if match else start
        self.kind, self.word = (match.lastgroup, match[0]) if match else ("end", "")

    def take(self, word: str | None = None) -> tuple[int, int]:
        """Go past the current token, which must be `word` if that is given; its place."""
        need(self.kind != "end" and word in (None, self.word), f"expected {word!r} at character {self.start}")
        place = self.start, self.stop
        self.end = self.stop
        self.advance_to(self.stop)
        return place

    def place(self) -> tuple:
        return self.start, self.stop, self.kind, self.word, self.end, self.newline, self.depth

    def back_to(self, place: tuple) -> None:
        self.start, self.stop, self.kind, self.word, self.end, self.newline, self.depth = place

    def skip_brackets(self) -> str:
        """Go past a balanced bracket, whatever is in it; its tokens joined."""
        need(self.word in CLOSING, "expected a bracket")
        open_, texts = [], []
        while True:
            if self.kind == "op" and self.word in CLOSING:
                open_.append((CLOSING[self.word], self.start))
            elif self.kind == "op" and self.word in (")", "]", "}"):
                closing, start = open_.pop()
                need(self.word == closing, "brackets do not match")
                self.closed[start] = self.stop
            texts.append(self.leaf(*self.take()))
            if not open_:
                return "".join(texts)

    def leaf(self, start: int, end: int) -> str:
        return self.source[start:end]

    def is_arrow(self, arrow: str) -> bool:
        """Whether the bracket here closes just before an arrow."""
        here = self.place()
        if self.start in self.closed:
            self.advance_to(self.closed[self.start])
        else:
            self.skip_brackets()
        found = self.word == arrow
        self.back_to(here)
        return found

    def expression(self) -> Piece:
        self.depth += 1
        need(self.depth <= MAX_DEPTH, "nested too deep")
        left = self.operand()
        while True:
            if self.word in ASSIGNMENTS and self.kind == "op":
                need(left.kind in TARGETS, "an assignment to no name")
                kind = "assignment" if self.word == "=" else self.compound
                sign, right = self.leaf(*self.take()), self.expression()
                left = Piece(kind, left.start, right.end, join(left.text, sign, right.text), value=right,
                             target_end=left.end)
                break
            if self.word == "?":
                signs = [self.leaf(*self.take())]
                first = self.expression()
                signs.append(self.leaf(*self.take(":")))
                last = self.expression()
                left = Piece("other", left.start, last.end, join(left.text, signs[0], first.text, signs[1], last.text))
                break
            if self.word not in self.binary or self.kind == "string":
                break
            sign = self.leaf(*self.take())
            right = self.operand()
            left = Piece("other", left.start, right.end, join(left.text, sign, right.text))
        self.depth -= 1
        return left

    def operand(self) -> Piece:
        signs, start = [], self.start
        while self.word in self.prefixes and self.kind != "string":
            signs.append(self.leaf(*self.take()))
        piece = self.postfix(self.primary())
        return Piece("other", start, piece.end, join(*signs, piece.text)) if signs else piece

    def one_of_each(self, pieces: list[tuple[str | None, str]]) -> dict:
        """Arguments by name; a name given twice has no value."""
        arguments = dict(pieces)
        need(len(arguments) == len(pieces), "two values for one name")
        return arguments


def join(*texts: str | None) -> str | None:
    return None if None in texts else "".join(texts)
