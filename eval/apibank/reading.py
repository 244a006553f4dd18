"""The call in a reply, read as the released evaluator reads it: one bracketed call, its arguments as text."""

import re

CALL_OPENING = re.compile(r"\[(\w+)\(")
# After an equals sign: text in quotes, which any quote closes after its first character; one bare word; a bracket.
VALUE = re.compile(r"\s*(?:['\"](?P<quoted>.[^'\"]*)['\"]|(?P<word>\w+)|(?P<bracket>\[))", re.DOTALL)


def find_call(reply: str) -> tuple[str, str] | None:
    """(name, text between the parentheses) of the first `[Name(...)]` on one line, as the released reader finds it."""
    for line in reply.split("\n"):
        opening = CALL_OPENING.search(line)
        end = line.rfind(")]", opening.end()) if opening else -1
        if end >= 0:
            return opening[1], line[opening.end():end]
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
    while begin > start and (text[begin - 1].isalnum() or text[begin - 1] == "_"):
        begin -= 1
    return text[begin:end]


def _value_after(text: str, start: int, last_bracket: int) -> tuple[str, int] | None:
    """(value, position after it) of one argument, None if no form fits."""
    match = VALUE.match(text, start)
    if match and match["bracket"]:
        return (text[match.end() - 1:last_bracket + 1], last_bracket + 1) if last_bracket >= match.end() else None
    return (match["quoted"] or match["word"], match.end()) if match else None
