"""JavaScript call text: expressions, templates, regular expressions, arrow functions."""

import re

from eval.bfcl.foreign_reader import BINARY, CLOSING, DIGITS, ESCAPE, OPERATORS, Piece, Reader, need

JS_WORD = ("\\x00-\\x20\\x7f-\\xa0\\u2000-\\u200b\\u2028\\u2029\\u2060\\u3000\\ufeff"
           ":;`\"'@#.,|^&<=>+*/\\\\%?!~()\\[\\]{}-")
JS_TOKEN = re.compile(rf"""(?P<string>"(?:[^"\\\r\n]|{ESCAPE})*(?:[\r\n]\s*)?"|'(?:[^'\\\r\n]|{ESCAPE})*(?:[\r\n]\s*)?')
    |(?P<template>`(?:[^`\\]|\\.)*`)
    |(?P<number>0[xX][0-9a-fA-F_]+n?|0[bB][01_]+n?|0[oO][0-7_]+n?|{DIGITS}\.(?:{DIGITS})?(?:[eE][+-]?\d+)?
        |\.\d+(?:[eE][+-]?\d+)?|{DIGITS}[eE][+-]?\d+|{DIGITS}n?)
    |(?P<word>[^0-9{JS_WORD}][^{JS_WORD}]*)|(?P<op>{OPERATORS})""", re.VERBOSE)
JS_REGEX = re.compile(r"/(?![*/])(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
JS_BINARY = BINARY | {"===", "!==", "**", "??", "in", "instanceof"}


class JavaScriptValues(Reader):
    """Words, functions, lists and objects: what stands inside an expression."""

    token, binary = JS_TOKEN, JS_BINARY
    prefixes = {"+", "-", "!", "~", "++", "--", "typeof", "void", "delete", "await"}
    compound = "other"

    def word_(self) -> Piece:
        start, word = self.start, self.word
        need(word not in ("class", "import"), f"{word} is not read")
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
        else:
            need(self.kind in ("word", "string", "number"), "expected a key")
            self.take()
        if self.word == "(":
            self.skip_brackets()
            self.skip_brackets()
        elif self.word == ":" or (self.word == "=" and named):
            self.take()
            self.expression()
        else:
            need(named, "expected :")


class JavaScript(JavaScriptValues):
    """Statements, and expressions with what follows them: calls, members, indices."""

    def program(self) -> list[dict] | None:
        result = None
        while self.kind != "end" or self.start < len(self.source):
            if self.word == ";":
                self.take()
                continue
            piece = self.statement()
            if result is None and piece.kind == "call":
                result = piece
            need(self.kind == "end" or self.word == ";" or self.newline, "two expressions on one line")
        if result is None:
            return None
        pieces = [(self.leaf(p.start, p.target_end), self.value_text(p.value)) if p.kind == "assignment" else
                  (None, self.leaf(p.start, p.end))
                  for p in result.arguments if p.kind in ("assignment", "name", "true")]
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
            need(match, "no expression after /")
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
        else:
            need(word == "{", f"no expression at character {start}")
            self.object_()
        return Piece("other", start, self.end)

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
        need(not (optional and self.word in ("(", "[")), "an optional call or index")
        need(self.kind == "word", "expected a name after .")
        self.take()
        return Piece("member", piece.start, self.end)
