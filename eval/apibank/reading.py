"""The call in a reply, read as the released evaluator reads it: one bracketed call, its arguments as text."""

import re

CALL_OPENING = re.compile(r"\[(\w+)\(")
QUOTE = re.compile("['\"]")


def find_call(reply: str) -> tuple[str, str] | None:
    """(name, text between the parentheses) of the first `[Name(...)]` on one line, as the released reader finds it."""
    line_end = -1
    for match in CALL_OPENING.finditer(reply):
        if match.end() <= line_end:
            continue                                      # this line has no further ")]"
        line_end = reply.find("\n", match.end())
        line_end = len(reply) if line_end < 0 else line_end
        end = reply.rfind(")]", match.end(), line_end)
        if end >= 0:
            return match[1], reply[match.end():end]
    return None


def read_arguments(text: str) -> dict[str, str]:
    """Keyword arguments as text: quoted (any quote closes), bracketed up to the last `]`, or one bare word."""
    arguments: dict[str, str] = {}
    position, last_bracket = 0, text.rfind("]")
    equals = text.find("=")
    while equals >= 0:
        name = _word_before(text, equals, position)
        value = _value_after(text, equals + 1, last_bracket) if name else None
        if value is not None:
            arguments[name], position = value
        equals = text.find("=", max(position, equals + 1))
    return arguments


def _word_before(text: str, equals: int, start: int) -> str:
    end = equals
    while end > start and text[end - 1].isspace():
        end -= 1
    begin = end
    while begin > start and _is_word(text[begin - 1]):
        begin -= 1
    return text[begin:end]


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _value_after(text: str, start: int, last_bracket: int) -> tuple[str, int] | None:
    """(value, position after it) of one argument, None if no form fits."""
    while start < len(text) and text[start].isspace():
        start += 1
    if text[start:start + 1] in ("'", '"') and start < len(text):
        close = QUOTE.search(text, start + 2)
        return (text[start + 1:close.start()], close.end()) if close else None
    if text.startswith("[", start):
        return (text[start:last_bracket + 1], last_bracket + 1) if last_bracket > start else None
    end = start
    while end < len(text) and _is_word(text[end]):
        end += 1
    return (text[start:end], end) if end > start else None
