"""Java and JavaScript call text (`[A.f(x=1, y=new int[]{2})]`) -> calls whose values are text, without a grammar library.

The official decoder parses with tree-sitter and takes the first call. This reader knows expressions and expression
statements, and turns their values into text as the official code does. Bodies of functions and of classes are skipped
where their brackets balance; other statements, comments and most of the parser's own error recovery are left out, and
count as not decodable. Of that recovery one rule is kept, because nearly every answer needs it: a Java statement may lack
its `;` unless it is so short (`f(a=1)`) that skipping it costs the parser less than inserting one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_CHARS = 20_000                      # texts of chained calls are copied once per call
MAX_DEPTH = 100
SHORT_BYTES, LINE_COST = 10, 30         # tree-sitter: skipping costs 100 a tree and 1 a byte, inserting costs 110
ESCAPE = r"\\(?:[^xu0-7]|[0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]+\})"
DIGITS = r"\d+(?:_\d+)*"
OPERATORS = (r">>>=|\.\.\.|===|!==|\*\*=|<<=|>>=|>>>|&&=|\|\|=|\?\?=|->|=>|::|\+\+|--|&&|\|\||\?\?|\?\.(?!\d)|==|!=|<=|>=|<<|>>|\*\*"
             r"|[-+*/%&|^]=|[-+*/%&|^<>=!~?:;,.(){}\[\]]")
JAVA_TOKEN = re.compile(rf"""(?P<string>\"\"\"(?s:.*?)\"\"\"|"(?:[^"\\]|{ESCAPE})*"|'(?:[^'\\\n]|{ESCAPE})+')
    |(?P<number>0[xX][0-9a-fA-F_]+[lL]?|0[bB][01_]+[lL]?|{DIGITS}\.(?:{DIGITS})?(?:[eE][+-]?\d+)?[fFdD]?|\.\d+(?:[eE][+-]?\d+)?[fFdD]?
        |{DIGITS}[eE][+-]?\d+[fFdD]?|(?:0|[1-9]\d*(?:_\d+)*)[fFdD]|0[0-7]*[lL]?|[1-9]\d*(?:_\d+)*[lL]?)
    |(?P<word>[^\W\d][\w$]*|\$[\w$]*)|(?P<op>{OPERATORS})""", re.VERBOSE)
JS_WORD = "\\x00-\\x20\\x7f-\\xa0\\u2000-\\u200b\\u2028\\u2029\\u2060\\u3000\\ufeff:;`\"'@#.,|^&<=>+*/\\\\%?!~()\\[\\]{}-"
JS_TOKEN = re.compile(rf"""(?P<string>"(?:[^"\\\r\n]|{ESCAPE})*(?:[\r\n]\s*)?"|'(?:[^'\\\r\n]|{ESCAPE})*(?:[\r\n]\s*)?')|(?P<template>`(?:[^`\\]|\\.)*`)
    |(?P<number>0[xX][0-9a-fA-F_]+n?|0[bB][01_]+n?|0[oO][0-7_]+n?|{DIGITS}\.(?:{DIGITS})?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?
        |{DIGITS}[eE][+-]?\d+|{DIGITS}n?)
    |(?P<word>[^0-9{JS_WORD}][^{JS_WORD}]*)|(?P<op>{OPERATORS})""", re.VERBOSE)
JS_REGEX = re.compile(r"/(?![*/])(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", ">>>=", "**=", "&&=", "||=", "??="}
BINARY = {"+", "-", "*", "/", "%", "&", "|", "^", "<", ">", "<=", ">=", "==", "!=", "&&", "||", "<<", ">>", ">>>"}
JS_BINARY = BINARY | {"===", "!==", "**", "??", "in", "instanceof"}
PRIMITIVES = {"byte", "short", "int", "long", "char", "float", "double", "boolean", "void"}
CLOSING = {"(": ")", "[": "]", "{": "}"}
TARGETS = ("name", "member", "index")


class NoCall(ValueError):
    """The text is not what this reader knows, or its call has no value."""


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


def decode_foreign(source: str, language: str) -> list[dict] | None:
    """The first call of `source` (without the list's brackets), `[{name: {argument: text}}]`; None if it holds none.

    Raises:
        NoCall, RecursionError: the text cannot be read.
    """
    if len(source) > MAX_CHARS:
        raise NoCall(f"{len(source)} characters; at most {MAX_CHARS} are read")
    return (_Java if language == "java" else _JavaScript)(source).program()


class _Reader:
    """Tokens of one text and the expressions that both languages share."""

    token: re.Pattern
    binary: set[str]
    prefixes: set[str]

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
        if match is None and start < len(source) and source[start] not in "/":
            raise NoCall(f"character {start} begins no token")
        self.start, self.stop = start, match.end() if match else start
        self.kind, self.word = (match.lastgroup, match[0]) if match else ("end", "")

    def take(self, word: str | None = None) -> tuple[int, int]:
        """Go past the current token, which must be `word` if that is given; its place."""
        if self.kind == "end" or (word is not None and self.word != word):
            raise NoCall(f"expected {word!r} at character {self.start}")
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
        if self.word not in CLOSING:
            raise NoCall("expected a bracket")
        open_, texts = [], []
        while True:
            if self.kind == "op" and self.word in CLOSING:
                open_.append((CLOSING[self.word], self.start))
            elif self.kind == "op" and self.word in (")", "]", "}"):
                closing, start = open_.pop()
                if self.word != closing:
                    raise NoCall("brackets do not match")
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
        if self.depth > MAX_DEPTH:
            raise NoCall("nested too deep")
        left = self.operand()
        while True:
            if self.word in ASSIGNMENTS and self.kind == "op":
                if left.kind not in TARGETS:
                    raise NoCall("an assignment to no name")
                kind = "assignment" if self.word == "=" or isinstance(self, _Java) else "other"
                sign, right = self.leaf(*self.take()), self.expression()
                left = Piece(kind, left.start, right.end, _join(left.text, sign, right.text), value=right, target_end=left.end)
                break
            if self.word == "?":
                signs = [self.leaf(*self.take())]
                first = self.expression()
                signs.append(self.leaf(*self.take(":")))
                last = self.expression()
                left = Piece("other", left.start, last.end, _join(left.text, signs[0], first.text, signs[1], last.text))
                break
            if self.word not in self.binary or self.kind == "string":
                break
            sign = self.leaf(*self.take())
            right = self.operand()
            left = Piece("other", left.start, right.end, _join(left.text, sign, right.text))
        self.depth -= 1
        return left

    def operand(self) -> Piece:
        signs, start = [], self.start
        while self.word in self.prefixes and self.kind != "string":
            signs.append(self.leaf(*self.take()))
        piece = self.postfix(self.primary())
        return Piece("other", start, piece.end, _join(*signs, piece.text)) if signs else piece

    def one_of_each(self, pieces: list[tuple[str | None, str]]) -> dict:
        """Arguments by name; a name given twice has no value."""
        arguments = dict(pieces)
        if len(arguments) < len(pieces):
            raise NoCall("two values for one name")
        return arguments

    def primary(self) -> Piece:
        raise AssertionError("each language has its own")

    def postfix(self, piece: Piece) -> Piece:
        raise AssertionError("each language has its own")


def _join(*texts: str | None) -> str | None:
    return None if None in texts else "".join(texts)


class _Java(_Reader):
    token, binary = JAVA_TOKEN, BINARY | {"instanceof"}
    prefixes = {"+", "-", "!", "~", "++", "--"}

    def __init__(self, source: str) -> None:
        self.bytes_before = None if source.isascii() else _byte_offsets(source)
        self.invocations: list[Piece] = []
        super().__init__(source)

    def leaf(self, start: int, end: int) -> str:
        """The official code applies byte offsets to characters, so text after a non-ASCII character is shifted."""
        if self.bytes_before is not None:
            start, end = self.bytes_before[start], self.bytes_before[end]
        return self.source[start:end]

    def program(self) -> list[dict] | None:
        while self.kind != "end" or self.start < len(self.source):
            if self.word == ";":
                self.take()
                continue
            piece = self.statement()
            at_end = self.kind == "end" and self.start >= len(self.source)
            if self.word != ";" and piece.kind != "declaration" and (
                    piece.kind == "member" or self.is_short(piece) or (piece.kind == "string" and not at_end)):
                raise NoCall("a statement without its ;")
        if not self.invocations:
            return None
        first = min(self.invocations, key=lambda call: (call.start, -call.end))
        start, end, name_start, name_end = first.function
        name = self.leaf(name_start, name_end)
        pieces = [(self.leaf(p.start, p.target_end) if p.kind == "assignment" else None, self.value_text(p))
                  for p in first.arguments if p.kind in ("assignment", "name", "class")]
        return [{f"{self.leaf(start, end)}.{name}" if end else name: self.one_of_each(pieces)}]

    def statement(self) -> Piece:
        """An expression, or what the parser sees in words around one: labels (`Call:`), declarations (`the call`)."""
        start, here = self.start, self.place()
        if self.kind == "word" and self.word not in ("new", "switch"):
            self.take()
            if self.word == ":":
                self.take()
                return self.statement()
            if self.kind == "word" and self.word != "instanceof":
                self.take()
                if self.word == "=":
                    self.take()
                    self.expression()
                return Piece("declaration", start, self.end)
            self.back_to(here)
        if self.word != "[":
            return self.expression()
        self.take()                                       # an index of a name that is missing
        self.expression()
        self.take("]")
        return Piece("index", start, self.end)

    def is_short(self, piece: Piece) -> bool:
        """Whether the parser would rather skip this statement than insert the `;` that it lacks."""
        written = self.source[piece.start:piece.end]
        return len(written.encode("utf-8", "replace")) + LINE_COST * written.count("\n") <= SHORT_BYTES

    def value_text(self, piece: Piece) -> str:
        value = piece.value if piece.kind == "assignment" else piece
        if value.text is None:
            raise NoCall("an array without its elements has no value")
        return value.text[1:-1] if value.kind == "string" else value.text

    def primary(self) -> Piece:
        start, kind, word = self.start, self.kind, self.word
        if kind in ("string", "number"):
            return Piece(kind, start, self.stop, self.leaf(*self.take()))
        if kind == "word":
            if word == "new":
                return self.creation()
            if word == "switch":
                raise NoCall("a switch expression")
            text = self.leaf(*self.take())
            if self.word == "->":
                return self.lambda_(start, text)
            if word == "super" and self.word not in (".", "::"):
                raise NoCall("super is no value")
            if word in PRIMITIVES and self.word not in (".", "["):
                raise NoCall("a type is no value")
            return Piece("primitive" if word in PRIMITIVES else "this" if word in ("this", "true", "false", "null", "super")
                         else "name", start, self.end, text)
        if word != "(":
            raise NoCall(f"no expression at character {start}")
        if self.is_arrow("->"):
            return self.lambda_(start, self.skip_brackets())
        cast = self.cast(start)
        if cast:
            return cast
        opening, inner = self.leaf(*self.take("(")), self.expression()
        closing = self.leaf(*self.take(")"))
        return Piece("other", start, self.end, _join(opening, inner.text, closing))

    def lambda_(self, start: int, parameters: str) -> Piece:
        arrow = self.leaf(*self.take("->"))
        if self.word == "{":
            body: str | None = self.skip_brackets()
        else:
            body = self.expression().text
        return Piece("lambda", start, self.end, _join(parameters, arrow, body))

    def cast(self, start: int) -> Piece | None:
        here = self.place()
        try:
            opening = self.leaf(*self.take("("))
            primitive = self.word in PRIMITIVES
            type_ = self.type_()
            closing = self.leaf(*self.take(")"))
            begins = self.kind in ("string", "number") or self.word in ("(", "!", "~") or (
                self.kind == "word" and self.word != "instanceof") or (primitive and self.word in self.prefixes)
            if begins:
                operand = self.operand()
                return Piece("other", start, operand.end, _join(opening, type_, closing, operand.text))
        except NoCall:
            pass
        self.back_to(here)
        return None

    def type_(self) -> str:
        """A type name with its type arguments and empty dimensions; its tokens joined."""
        texts = []
        while True:
            if self.kind != "word":
                raise NoCall("expected a type")
            texts.append(self.leaf(*self.take()))
            if self.word == "<":
                texts.append(self.type_arguments())
            if self.word != ".":
                return "".join(texts)
            texts.append(self.leaf(*self.take()))

    def type_arguments(self) -> str:
        texts = [self.leaf(*self.take("<"))]
        while not self.word.startswith(">"):
            if self.word == "?":
                texts.append(self.leaf(*self.take()))
                if self.word in ("extends", "super"):
                    texts += [self.leaf(*self.take()), self.type_()]
            else:
                texts.append(self.type_())
            while self.word == "[":
                texts += [self.leaf(*self.take("[")), self.leaf(*self.take("]"))]
            if self.word == ",":
                texts.append(self.leaf(*self.take()))
            elif not self.word.startswith(">"):
                raise NoCall("expected , or >")
        texts.append(self.leaf(self.start, self.start + 1))
        self.end = self.start + 1
        self.advance_to(self.end)                         # only one of `>>`
        return "".join(texts)

    def creation(self) -> Piece:
        start = self.take("new")[0]
        type_ = self.type_()
        if self.word == "(":
            arguments = self.arguments()
            if self.word == "{":
                self.skip_brackets()                      # the body is lost, as upstream
            texts = [argument.text for argument in arguments]
            text = None if None in texts else f"new {type_}({', '.join(texts)})"
            return Piece("creation", start, self.end, text)
        sized = False
        if self.word != "[":
            raise NoCall("expected ( or [")
        while self.word == "[":
            self.take()
            if self.word != "]":
                self.expression()
                sized = True
            self.take("]")
        elements = None if sized else self.elements()
        return Piece("creation", start, self.end, None if elements is None else f"new {type_}[]{elements}")

    def elements(self) -> str | None:
        """`{a, {b}, }` joined."""
        texts: list[str | None] = [self.leaf(*self.take("{"))]
        while self.word != "}":
            texts.append(self.elements() if self.word == "{" else self.expression().text)
            if self.word != ",":
                break
            texts.append(self.leaf(*self.take()))
        return _join(*texts, self.leaf(*self.take("}")))

    def arguments(self) -> list[Piece]:
        self.take("(")
        pieces = []
        while self.word != ")":
            pieces.append(self.expression())
            if self.word != ")":
                self.take(",")
                if self.word == ")":
                    raise NoCall("a comma before )")
        self.take(")")
        return pieces

    def invocation(self, start: int, object_end: int, name: tuple[int, int]) -> Piece:
        arguments = self.arguments()
        piece = Piece("call", start, self.end, self.leaf(start, self.end), (start, object_end, *name), arguments)
        self.invocations.append(piece)
        return piece

    def postfix(self, piece: Piece) -> Piece:
        start = piece.start
        while True:
            if piece.kind == "lambda":
                return piece
            if self.word == "(" and piece.kind == "name":
                piece = self.invocation(start, 0, (piece.start, piece.end))
            elif self.word == "[":
                piece = self.index(piece)
            elif self.word == ".":
                piece = self.member(piece)
            elif self.word in ("++", "--"):
                piece = Piece("other", start, self.stop, _join(piece.text, self.leaf(*self.take())))
            elif self.word == "::":
                signs = self.leaf(*self.take())
                if self.kind != "word":
                    raise NoCall("expected a method")
                piece = Piece("other", start, self.stop, _join(piece.text, signs, self.leaf(*self.take())))
            elif piece.kind == "primitive":
                raise NoCall("a type is no value")
            else:
                return piece

    def index(self, piece: Piece) -> Piece:
        opening = self.leaf(*self.take("["))
        if self.word == "]":                              # `String[].class`
            while self.word == "]":
                self.take()
                if self.word == "[":
                    self.take()
            self.take(".")
            self.take("class")
            return Piece("class", piece.start, self.end, self.leaf(piece.start, self.end))
        inner = self.expression()
        return Piece("index", piece.start, self.stop, _join(piece.text, opening, inner.text, self.leaf(*self.take("]"))))

    def member(self, piece: Piece) -> Piece:
        dot, end = self.leaf(*self.take(".")), piece.end
        generic = self.type_arguments() if self.word == "<" else ""
        if self.kind != "word" or self.word == "new":
            raise NoCall("expected a name after .")
        word, name = self.word, self.take()
        if word == "class" and piece.kind in (*TARGETS, "primitive"):
            return Piece("class", piece.start, self.end, self.leaf(piece.start, self.end))
        if self.word == "(":
            return self.invocation(piece.start, end, name)
        if generic:
            raise NoCall("expected ( after type arguments")
        return Piece("member", piece.start, self.end, _join(piece.text, dot, self.leaf(*name)))


class _JavaScript(_Reader):
    token, binary = JS_TOKEN, JS_BINARY
    prefixes = {"+", "-", "!", "~", "++", "--", "typeof", "void", "delete", "await"}

    def program(self) -> list[dict] | None:
        result = None
        while self.kind != "end" or self.start < len(self.source):
            if self.word == ";":
                self.take()
                continue
            piece = self.statement()
            if result is None and piece.kind == "call":
                result = piece
            if self.kind != "end" and self.word != ";" and not self.newline:
                raise NoCall("two expressions on one line")
        if result is None:
            return None
        pieces = [(self.leaf(p.start, p.target_end), self.value_text(p.value)) if p.kind == "assignment" else
                  (None, self.leaf(p.start, p.end)) for p in result.arguments if p.kind in ("assignment", "name", "true")]
        return [{self.leaf(*result.function[:2]): self.one_of_each(pieces)}]

    def statement(self) -> Piece:
        """An expression, perhaps after a label (`Call:`); a labelled call is not looked for."""
        start, here = self.start, self.place()
        if self.kind == "word":
            self.take()
            if self.word == ":":
                self.take()
                self.statement()
                return Piece("other", start, self.end)
            self.back_to(here)
        return self.sequence()

    def value_text(self, piece: Piece) -> str:
        text = self.leaf(piece.start, piece.end)
        quoted = text[0] == text[-1] and text[0] in "\"'"
        return text[1:-1] if quoted else text

    def sequence(self) -> Piece:
        piece = self.expression()
        while self.word == "," and self.kind == "op":
            self.take()
            piece = Piece("other", piece.start, self.expression().end)
        return piece

    def primary(self) -> Piece:
        start, kind, word = self.start, self.kind, self.word
        if word in ("/", "/=", "") and self.source.startswith("/", start):
            match = JS_REGEX.match(self.source, start)
            if not match:
                raise NoCall("no expression after /")
            self.end = match.end()
            self.advance_to(self.end)
            return Piece("other", start, self.end)
        if kind in ("string", "number", "template"):
            self.take()
            return Piece(kind, start, self.end)
        if kind == "word":
            return self.word_()
        if word == "(":
            if self.is_arrow("=>"):
                self.skip_brackets()
                return self.arrow(start)
            self.take()
            self.sequence()
            self.take(")")
        elif word == "[":
            self.list_("[")
        elif word == "{":
            self.object_()
        else:
            raise NoCall(f"no expression at character {start}")
        return Piece("other", start, self.end)

    def word_(self) -> Piece:
        start, word = self.start, self.word
        if word in ("class", "import"):
            raise NoCall(f"{word} is not read")
        self.take()
        if word == "async" and self.word in ("function", "(") and not self.newline:
            word = self.word
            if word == "(":
                self.skip_brackets()
                return self.arrow(start)
            self.take()
        if word == "function":
            if self.kind == "word":
                self.take()
            self.skip_brackets()
            self.skip_brackets()
            return Piece("other", start, self.end)
        if word == "new":
            callee = self.primary()
            while self.word in (".", "["):
                callee = self.member(callee)
            if self.word == "(":
                self.list_("(")
            return Piece("other", start, self.end)
        if self.word == "=>":
            return self.arrow(start)
        literal = word in ("this", "super", "null", "undefined", "yield")
        return Piece("true" if word == "true" else "other" if literal or word == "false" else "name", start, self.end)

    def arrow(self, start: int) -> Piece:
        self.take("=>")
        if self.word == "{":
            self.skip_brackets()
        else:
            self.expression()
        return Piece("arrow", start, self.end)

    def list_(self, opening: str) -> list[Piece]:
        """Arguments or elements; some may be missing between commas."""
        self.take(opening)
        pieces = []
        while self.word != CLOSING[opening] or self.kind != "op":
            if self.word == ",":
                self.take()
                continue
            if self.word == "...":
                self.take()
                self.expression()
            else:
                pieces.append(self.expression())
            if self.word != CLOSING[opening]:
                self.take(",")
        self.take(CLOSING[opening])
        return pieces

    def object_(self) -> None:
        self.take("{")
        while self.word != "}":
            if self.word == "...":
                self.take()
                self.expression()
            else:
                self.property_()
            if self.word != "}":
                self.take(",")
        self.take("}")

    def property_(self) -> None:
        named = self.kind == "word"
        if self.word == "[":
            self.list_("[")
        elif self.kind in ("word", "string", "number"):
            self.take()
        else:
            raise NoCall("expected a key")
        if self.word == "(":
            self.skip_brackets()
            self.skip_brackets()
        elif self.word == ":" or (self.word == "=" and named):
            self.take()
            self.expression()
        elif not named:
            raise NoCall("expected :")

    def postfix(self, piece: Piece) -> Piece:
        while piece.kind != "arrow":
            if self.word == "(":
                function = (piece.start, piece.end, 0, 0)
                piece = Piece("call", piece.start, 0, function=function, arguments=self.list_("("))
                piece.end = self.end
            elif self.kind == "template":
                piece = Piece("call", piece.start, self.stop, function=(piece.start, piece.end, 0, 0))
                self.take()
            elif self.word in (".", "[", "?."):
                piece = self.member(piece)
            elif self.word in ("++", "--") and not self.newline:
                self.take()
                piece = Piece("other", piece.start, self.end)
            else:
                break
        return piece

    def member(self, piece: Piece) -> Piece:
        if self.word == "[":
            self.take()
            if self.word != "]":
                self.sequence()
            self.take("]")
            return Piece("index", piece.start, self.end)
        optional = self.word == "?."
        self.take()
        if optional and self.word in ("(", "["):
            raise NoCall("an optional call or index")
        if self.kind != "word":
            raise NoCall("expected a name after .")
        self.take()
        return Piece("member", piece.start, self.end)


def _byte_offsets(source: str) -> list[int]:
    offsets = [0]
    for character in source:
        offsets.append(offsets[-1] + len(character.encode("utf-8", "replace")))
    return offsets
