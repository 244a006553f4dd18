"""Java and JavaScript argument values, written as text -> Python values, as the leaderboard's converters read them.

A text that does not fit its declared type stays a string and then usually fails the class check. The official
converters are regular expressions with lazy groups; here each is a scan over fixed marks that finds the same match in
linear time, because some of the expressions take forever on hostile text.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from typing import Any

JAVA_CLASSES = {"byte": int, "short": int, "integer": int, "long": int, "float": float, "double": float,
                "boolean": bool, "char": str, "String": str, "any": str, "Array": list, "ArrayList": list,
                "Queue": list, "Stack": list, "HashMap": dict, "Hashtable": dict, "Set": set}
JAVASCRIPT_CLASSES = {"String": str, "integer": int, "float": float, "Bigint": int, "Boolean": bool, "any": str,
                      "array": list, "dict": dict}
MAX_COLLECTION_CHARS = 100_000      # a longer text is left as it is: no stored answer comes near
JAVA_UNREADABLE = ("Set", "Hashtable", "Queue", "Stack")

INTEGER = re.compile(r"-?\d+$")
LONG = re.compile(r"-?\d+[lL]$")
BIGINT = re.compile(r"-?\d+n$")
DECIMAL = re.compile(r"-?\d+(\.\d+)?$")
DOUBLE = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?$")
FLOAT = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?[fF]$")
# declared type -> how a number of it is written, what it becomes, and whether its last letter says the type
JAVA_NUMBERS = {**dict.fromkeys(("byte", "short", "integer"), (INTEGER, int, False)), "long": (LONG, int, True),
                "float": (FLOAT, float, True), "double": (DOUBLE, float, False)}
JAVASCRIPT_NUMBERS = {"integer": (INTEGER, int, False), "float": (DECIMAL, float, False), "Bigint": (BIGINT, int, True)}

AS_LIST = re.compile(r"new\s+ArrayList<\w*>\(Arrays\.asList\(")
ADD_BLOCK = re.compile(r"new\s+ArrayList<\w*>\(\)\s*\{\{")
EMPTY_LIST = re.compile(r"new\s+ArrayList<\w*>\(\)")
ARRAY = re.compile(r"new\s+\w+\[\]\s*\{")
MAP = re.compile(r"new\s+HashMap<")
MAP_BLOCK = re.compile(r">\s*\(\)\s*\{")
MAP_END = re.compile(r">\s*\(\)")
JS_ARRAY = re.compile(r"\[|new\s+Array\(")


def convert_java(text: str, declared: str, element: str | None = None) -> Any:
    """The value of `text` for a parameter of type `declared`; ValueError for a type the official code cannot read."""
    if declared in JAVA_UNREADABLE or declared not in JAVA_CLASSES:
        raise ValueError(f"Java type {declared!r} has no conversion; expected one of {sorted(JAVA_CLASSES)}")
    if declared in JAVA_NUMBERS:
        return _number(text, *JAVA_NUMBERS[declared])
    if declared == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if len(text) > MAX_COLLECTION_CHARS:
        return text
    if declared == "ArrayList":
        return _java_list(text, element)
    if declared == "Array":
        return _java_array(text, element)
    if declared == "HashMap":
        return _java_map(text)
    return text


def convert_javascript(text: str, declared: str, element: str | None = None) -> Any:
    """As `convert_java`, for JavaScript."""
    if declared not in JAVASCRIPT_CLASSES:
        raise ValueError(f"JavaScript type {declared!r} has no conversion; "
                         f"expected one of {sorted(JAVASCRIPT_CLASSES)}")
    if declared == "String":
        return text[1:-1] if _quoted(text, '"') or _quoted(text, "'") else text
    if declared in JAVASCRIPT_NUMBERS:
        return _number(text, *JAVASCRIPT_NUMBERS[declared])
    if declared == "Boolean":
        return {"true": True, "false": False}.get(text, text)
    if len(text) > MAX_COLLECTION_CHARS:
        return text
    if declared == "array":
        return _js_array(text, element)
    if declared == "dict":
        return _js_dict(text)
    return text


def _number(text: str, form: re.Pattern, read: Callable[[str], Any], lettered: bool) -> Any:
    if not form.match(text):
        return text
    return read(text.removesuffix("\n")[:-1] if lettered else text)


def _quoted(text: str, quote: str) -> bool:
    return text.startswith(quote) and text.endswith(quote)


def _number_or_text(text: str) -> Any:
    """Whatever Python's int() accepts, else float(), else the text."""
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return text


def _java_literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if _quoted(text, '"'):
        return text[1:-1]
    if LONG.match(text):
        return int(text[:-1])
    if FLOAT.match(text):
        return float(text[:-1])
    return _number_or_text(text)


def _js_literal(text: str) -> Any:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    if _quoted(text, '"') or _quoted(text, "'"):
        return text[1:-1]
    return _number_or_text(text)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


class _Finder:
    """str.find for growing start positions; remembers its last answer, so a whole scan stays linear."""

    def __init__(self, text: str, mark: str) -> None:
        self.text, self.mark, self.found = text, mark, -2

    def from_(self, start: int) -> int:
        """Index of the mark at or after `start`, the length of the text where there is none."""
        if self.found < start:
            found = self.text.find(self.mark, start)
            self.found = found if found >= 0 else len(self.text)
        return self.found


def _bracketed(text: str, header: re.Pattern, end: str, *, at_least: int) -> re.Match | None:
    """First `header` whose content, at least that long and on one line, is closed by `end`; its `.end()` opens it."""
    ends, lines = _Finder(text, end), _Finder(text, "\n")
    for match in header.finditer(text):
        close = ends.from_(match.end() + at_least)
        if close == len(text):
            return None
        if lines.from_(match.end()) >= close:
            return match
    return None


def _java_list(text: str, element: str | None) -> Any:
    match = _bracketed(text, AS_LIST, "))", at_least=1)
    if match:
        inside = text[match.end():text.find("))", match.end() + 1)]
        return [_java_element(piece.strip(), element) for piece in inside.split(",")]
    block = _add_block(text)
    if block is not None:
        return [_java_element(piece.strip(), element) for piece in _added(block)]
    return [] if EMPTY_LIST.search(text) else text


def _java_element(piece: str, element: str | None) -> Any:
    if element in ("char", "String"):
        return piece[1:-1]
    return _java_literal(piece) if element is None else convert_java(piece, element)


def _add_block(text: str) -> str | None:
    """What stands between `{{` and `}}` of a list's initialiser block: shortest, not empty, blanks trimmed."""
    for match in ADD_BLOCK.finditer(text):
        start = _skip_space(text, match.end())
        close = text.find("}}", start + 1)
        if close >= 0:
            return text[start:close].rstrip()
        if start > match.end() and text.startswith("}}", start):
            return " "                                   # only blanks: the official group takes one of them
        return None                                      # no further "}}": no later block can close either
    return None


def _added(block: str) -> list[str]:
    """The arguments of every `add(...)` of one line, each ending at the first `)`.

    What no `)` of its line closes is matched, too: no later `add(` in it can be closed.
    """
    return [match[1] for match in re.finditer(r"add\(([^\n][^)\n]*)(\))?", block) if match[2]]


def _java_array(text: str, element: str | None) -> Any:
    match = _bracketed(text, ARRAY, "}", at_least=0)
    if not match:
        return text
    pieces = [piece.strip() for piece in text[match.end():text.find("}", match.end())].split(",")]
    return [_java_literal(piece) if element is None else convert_java(piece, element) for piece in pieces if piece]


def _java_map(text: str) -> Any:
    header = MAP.search(text)
    if not header:
        return text
    block = MAP_BLOCK.search(text, header.end())
    if block:
        start = _skip_space(text, block.end())
        if text.startswith("{", start):
            start = _skip_space(text, start + 1)
        close = text.find("}", start)
        if close >= 0:
            return dict(_put_pairs(text[start:close].rstrip()))
    return {} if _empty_map(text) else text


def _empty_map(text: str) -> bool:
    """Whether `new HashMap<..>()` occurs, the type arguments on one line."""
    end = None
    for header in MAP.finditer(text):
        if end is None or end.start() < header.end():
            end = MAP_END.search(text, header.end())
        if end is None:
            return False
        if "\n" not in text[header.end():end.start()]:
            return True
    return False


def _put_pairs(block: str) -> list[tuple[str, Any]]:
    """(key, value) of every `put("key", value)`; the value ends at the first `)` of its line."""
    ends, closes, lines = [], _Finder(block, ")"), _Finder(block, "\n")     # ends: where a key may end, in order
    for match in re.finditer(r'",', block):
        value = _skip_space(block, match.end())
        if closes.from_(value) < lines.from_(value):
            ends.append((match.start(), value, closes.from_(value)))
    pairs, position, lines = [], block.find('put("'), _Finder(block, "\n")
    while position >= 0:
        key = position + len('put("')
        index = bisect_left(ends, (key,))
        if index == len(ends):
            break
        end, value, close = ends[index]
        if lines.from_(key) < end:
            position = block.find('put("', position + 1)
            continue
        pairs.append((block[key:end], _java_literal(block[value:close].strip())))
        position = block.find('put("', close + 1)
    return pairs


def _js_array(text: str, element: str | None) -> Any:
    text = text.strip()
    opening = JS_ARRAY.match(text)
    if not opening:
        return text
    start, close = opening.end(), "]" if opening[0] == "[" else ")"
    try:
        end = _two_dimensional_end(text, start, close)
        if end is not None:
            return [[_js_literal(piece) for piece in inner.split(",")] for inner in _inner_arrays(text[:end])]
        inside, closed, _ = text[start:].partition(close)
        if not closed or "\n" in inside:
            return text
        pieces = [piece.strip() for piece in inside.split(",")] if inside.strip() else []
        return [_js_literal(piece) if element is None else convert_javascript(piece, element) for piece in pieces]
    except ValueError:                                   # the official code falls back to the text as well
        return text


def _two_dimensional_end(text: str, start: int, close: str) -> int | None:
    """Where `[[..], [..]]` or `new Array([..], [..])`, whose content begins at `start`, ends; None if it is not one.

    Works from the right: `inside[i]` is the end reached when position i is within an inner array, the shortest inner
    texts being preferred. The official expression tries the same choices one after the other, in exponential time.
    """
    first = _skip_space(text, start)
    if not text.startswith("[", first):
        return None
    n = len(text)
    inside: list[int | None] = [None] * (n + 1)
    solid = [n] * (n + 2)                                # first position at or after i that is not blank
    for i in range(n - 1, -1, -1):
        solid[i] = solid[i + 1] if text[i].isspace() else i
    for i in range(n - 1, first, -1):
        if text[i] == "\n":
            continue
        inside[i] = inside[i + 1]
        if text[i] == "]":
            after = _after_inner(text, solid, inside, i + 1, close)
            inside[i] = after if after is not None else inside[i + 1]
    return inside[first + 1]


def _after_inner(text: str, solid: list[int], inside: list[int | None], position: int, close: str) -> int | None:
    """End of the whole array when an inner one has just been closed before `position`."""
    here = solid[position]
    if text.startswith(",", here):
        following = solid[here + 1]
        if text.startswith("[", following) and inside[following + 1] is not None:
            return inside[following + 1]
    return here + 1 if text.startswith(close, here) else None


def _inner_arrays(text: str) -> list[str]:
    """Every shortest `[X]` on one line, trimmed; the first loses a leading `[`."""
    pieces = [match[1] for match in re.finditer(r"\[([^\]\n]*)(\])?", text) if match[2]]
    return [piece.strip() if number else piece.strip().removeprefix("[") for number, piece in enumerate(pieces)]


def _js_dict(text: str) -> Any:
    text = text.strip()
    end = text.find("}")
    if text == "{}":
        return {}
    if not text.startswith("{") or end < 0 or "\n" in text[:end]:
        return text
    result: dict[str, Any] = {}
    for key, value in _js_pairs(text[1:end]):
        if value.startswith("[") and value.endswith("]"):
            result[key] = _js_array(value, None)
        elif value.startswith("{") and value.endswith("}"):
            result[key] = _js_dict(value)
        else:
            result[key] = _js_literal(value.strip("\"'"))
    return result


def _js_pairs(inside: str) -> list[tuple[str, str]]:
    """(key, value) texts: a value ends at a comma only if another `key:` follows before the next comma."""
    pairs, position = [], 0
    while True:
        while inside.startswith(":", position):          # a key needs at least one character
            position += 1
        colon = inside.find(":", position)
        if colon < 0:
            return pairs
        key = inside[position:colon].strip().strip("\"'")
        start = _skip_space(inside, colon + 1)
        end, position = _value_end(inside, start)
        pairs.append((key, inside[start:end].strip()))


def _value_end(inside: str, start: int) -> tuple[int, int]:
    """(end of the value, start of the next key)."""
    comma = inside.find(",", start)
    while comma >= 0:
        following = inside.find(",", comma + 1)
        last_colon = inside.rfind(":", comma + 2, following if following >= 0 else len(inside))
        if last_colon >= 0:
            return comma, min(_skip_space(inside, comma + 1), last_colon - 1)
        comma = following
    return len(inside), len(inside)
