"""Java call text: expressions, creations, casts, lambdas, and statements with or without their `;`."""

import re
from contextlib import suppress
from itertools import accumulate

from eval.bfcl.foreign_reader import BINARY, DIGITS, ESCAPE, OPERATORS, TARGETS, NoCall, Piece, Reader, join, need

SHORT_BYTES, LINE_COST = 10, 30         # tree-sitter: skipping costs 100 a tree and 1 a byte, inserting costs 110
JAVA_TOKEN = re.compile(rf"""(?P<string>\"\"\"(?s:.*?)\"\"\"|"(?:[^"\\]|{ESCAPE})*"|'(?:[^'\\\n]|{ESCAPE})+')
    |(?P<number>0[xX][0-9a-fA-F_]+[lL]?|0[bB][01_]+[lL]?|{DIGITS}\.(?:{DIGITS})?(?:[eE][+-]?\d+)?[fFdD]?
        |\.\d+(?:[eE][+-]?\d+)?[fFdD]?|{DIGITS}[eE][+-]?\d+[fFdD]?
        |(?:0|[1-9]\d*(?:_\d+)*)[fFdD]|0[0-7]*[lL]?|[1-9]\d*(?:_\d+)*[lL]?)
    |(?P<word>[^\W\d][\w$]*|\$[\w$]*)|(?P<op>{OPERATORS})""", re.VERBOSE)
PRIMITIVES = {"byte", "short", "int", "long", "char", "float", "double", "boolean", "void"}


class JavaValues(Reader):
    """Types, casts, creations, lambdas and arguments: what stands inside an expression."""

    token, binary = JAVA_TOKEN, BINARY | {"instanceof"}
    prefixes = {"+", "-", "!", "~", "++", "--"}
    compound = "assignment"

    def __init__(self, source: str) -> None:
        self.bytes_before = None if source.isascii() else _byte_offsets(source)
        self.invocations: list[Piece] = []
        super().__init__(source)

    def leaf(self, start: int, end: int) -> str:
        """The official code applies byte offsets to characters, so text after a non-ASCII character is shifted."""
        if self.bytes_before is not None:
            start, end = self.bytes_before[start], self.bytes_before[end]
        return self.source[start:end]

    def lambda_(self, start: int, parameters: str) -> Piece:
        arrow = self.leaf(*self.take("->"))
        if self.word == "{":
            body: str | None = self.skip_brackets()
        else:
            body = self.expression().text
        return Piece("lambda", start, self.end, join(parameters, arrow, body))

    def cast(self, start: int) -> Piece | None:
        here = self.place()
        with suppress(NoCall):
            opening = self.leaf(*self.take("("))
            primitive = self.word in PRIMITIVES
            type_ = self.type_()
            closing = self.leaf(*self.take(")"))
            begins = self.kind in ("string", "number") or self.word in ("(", "!", "~") or (
                self.kind == "word" and self.word != "instanceof") or (primitive and self.word in self.prefixes)
            if begins:
                operand = self.operand()
                return Piece("other", start, operand.end, join(opening, type_, closing, operand.text))
        self.back_to(here)
        return None

    def type_(self) -> str:
        """A type name with its type arguments and empty dimensions; its tokens joined."""
        texts = []
        while True:
            need(self.kind == "word", "expected a type")
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
            need(self.word == "," or self.word.startswith(">"), "expected , or >")
            if self.word == ",":
                texts.append(self.leaf(*self.take()))
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
        need(self.word == "[", "expected ( or [")
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
        return join(*texts, self.leaf(*self.take("}")))

    def arguments(self) -> list[Piece]:
        self.take("(")
        pieces = []
        while self.word != ")":
            pieces.append(self.expression())
            if self.word != ")":
                self.take(",")
                need(self.word != ")", "a comma before )")
        self.take(")")
        return pieces


class Java(JavaValues):
    """Statements, and expressions with what follows them: calls, members, indices."""

    def program(self) -> list[dict] | None:
        while self.kind != "end" or self.start < len(self.source):
            if self.word == ";":
                self.take()
                continue
            piece = self.statement()
            at_end = self.kind == "end" and self.start >= len(self.source)
            lacking = piece.kind == "member" or self.is_short(piece) or (piece.kind == "string" and not at_end)
            need(self.word == ";" or piece.kind == "declaration" or not lacking, "a statement without its ;")
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
        need(value.text is not None, "an array without its elements has no value")
        return value.text[1:-1] if value.kind == "string" else value.text

    def primary(self) -> Piece:
        start, kind, word = self.start, self.kind, self.word
        if kind in ("string", "number"):
            return Piece(kind, start, self.stop, self.leaf(*self.take()))
        if kind == "word":
            if word == "new":
                return self.creation()
            need(word != "switch", "a switch expression")
            text = self.leaf(*self.take())
            if self.word == "->":
                return self.lambda_(start, text)
            need(word != "super" or self.word in (".", "::"), "super is no value")
            need(word not in PRIMITIVES or self.word in (".", "["), "a type is no value")
            constant = word in ("this", "true", "false", "null", "super")
            kind = "primitive" if word in PRIMITIVES else "this" if constant else "name"
            return Piece(kind, start, self.end, text)
        need(word == "(", f"no expression at character {start}")
        if self.is_arrow("->"):
            return self.lambda_(start, self.skip_brackets())
        cast = self.cast(start)
        if cast:
            return cast
        opening, inner = self.leaf(*self.take("(")), self.expression()
        closing = self.leaf(*self.take(")"))
        return Piece("other", start, self.end, join(opening, inner.text, closing))

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
                piece = Piece("other", start, self.stop, join(piece.text, self.leaf(*self.take())))
            elif self.word == "::":
                signs = self.leaf(*self.take())
                need(self.kind == "word", "expected a method")
                piece = Piece("other", start, self.stop, join(piece.text, signs, self.leaf(*self.take())))
            else:
                need(piece.kind != "primitive", "a type is no value")
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
        return Piece("index", piece.start, self.stop, join(piece.text, opening, inner.text, self.leaf(*self.take("]"))))

    def member(self, piece: Piece) -> Piece:
        dot, end = self.leaf(*self.take(".")), piece.end
        generic = self.type_arguments() if self.word == "<" else ""
        need(self.kind == "word" and self.word != "new", "expected a name after .")
        word, name = self.word, self.take()
        if word == "class" and piece.kind in (*TARGETS, "primitive"):
            return Piece("class", piece.start, self.end, self.leaf(piece.start, self.end))
        if self.word == "(":
            return self.invocation(piece.start, end, name)
        need(not generic, "expected ( after type arguments")
        return Piece("member", piece.start, self.end, join(piece.text, dot, self.leaf(*name)))


def _byte_offsets(source: str) -> list[int]:
    return [0, *accumulate(len(character.encode("utf-8", "replace")) for character in source)]
