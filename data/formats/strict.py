"""Strict JSON at the speed of the C scanner, for text that is a file's and not a model's.

The rules are those of `data.schema.strict_json_loads` (no repeated keys, NaN, numbers that overflow, lone surrogates,
deep nesting) but for its cap on the number of values; only what the scanner's hooks cannot see is looked at afterwards.
"""

import json
import re
from typing import Any

from data.schema import MAX_JSON_DEPTH, STRICT_DECODER, JsonError

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}|[\ud800-\udfff]")
_ROOM = 8   # levels that an output line puts around a value of the input


def strict_loads(text: str) -> Any:
    """Parse one JSON document; raises JsonError and nothing else."""
    try:
        value = STRICT_DECODER.decode(text)
    except RecursionError:
        raise JsonError("too_deep", "nested too deeply") from None
    except json.JSONDecodeError as error:
        raise JsonError("not_json", str(error)[:200]) from None
    if nested_over(value, MAX_JSON_DEPTH - _ROOM):
        raise JsonError("too_deep", f"nested deeper than {MAX_JSON_DEPTH - _ROOM}")
    if ("\\u" in text or not text.isascii()) and _SURROGATE.search(text) and has_surrogate(value):
        raise JsonError("bad_unicode", "a lone surrogate, which UTF-8 cannot hold")
    return value


def unpacked(value: Any) -> Any:
    """The object or the list that a text holds; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return strict_loads(value)
        except JsonError:
            return value
    return value


def nested_over(value: Any, limit: int) -> bool:
    """Are containers nested deeper than `limit`? Level by level, without recursion."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        level = [inner for outer in level for inner in (outer.values() if type(outer) is dict else outer)
                 if type(inner) is dict or type(inner) is list]
        if not level:
            return False
    return True


def has_surrogate(value: Any) -> bool:
    """Does any key or string hold half of a UTF-16 pair?"""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str) and not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):
            return True
    return False
