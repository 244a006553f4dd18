"""Gold replay: each benchmark's own truth written as a model's answer, and the entries that cannot be got right.

Feeding the truth back must score everything but the named entries: it catches a wrong constant or a lost category that
a model's score would hide.
"""

from collections.abc import Mapping
from typing import Any

from eval.bfcl.entries import Entry

# No output at all can pass these of the 2024-09-20 data (SCORING rules of the leaderboard applied to its own answers).
BFCL_UNPASSABLE = {
    "java_36": "list of mixed values whose elements become text",
    "java_65": "list of mixed values whose elements become text",
    "live_simple_106-63-0": "an empty list of allowed values",
    "live_simple_112-68-0": "an empty list of allowed values",
    "live_multiple_862-181-3": "expected argument names that the documentation lacks",
    "live_multiple_964-207-0": "expected argument names that the documentation lacks",
    "parallel_multiple_179": "an expected function that the documentation lacks",
}
JAVA_ELEMENTS = {"String": "String", "integer": "int", "long": "long", "boolean": "boolean", "char": "char",
                 "any": "Object"}


def bfcl_calls(entry: Entry) -> list[dict]:
    """The expected calls of an entry as native output: the first allowed value of every argument.

    An argument that may be left out is, unless the documentation requires it; Java and JavaScript values are text.
    Where the stored answer holds bare strings inside a dict, the empty dict is given, the only thing that passes.
    """
    calls = []
    for expected in entry.expected:
        name, allowed = next(iter(expected.items()))
        document = next((f for f in entry.functions if f["name"] == name), entry.functions[0])
        if entry.rule == "simple":
            name = document["name"]
        calls.append({name: _arguments(allowed, document["parameters"], entry.language)
                      if isinstance(allowed, Mapping) else {}})
    return calls


def _arguments(allowed: Mapping, parameters: Mapping, language: str) -> dict:
    arguments = {}
    for name, values in allowed.items():
        if not values or ("" in values and name not in parameters.get("required", [])):
            continue
        value = next((v for v in values if v != ""), "")
        schema = parameters["properties"].get(name, {"type": "any"})
        value = _concrete(value)
        arguments[name] = value if language == "python" else _foreign(value, schema, language)
    return arguments


def _concrete(value: Any) -> Any:
    """A stored value with its inner lists of alternatives resolved."""
    if isinstance(value, Mapping):
        if any(isinstance(inner, str) for inner in value.values()):
            return {}
        return {key: _concrete(next((v for v in inner if v != ""), "")) if isinstance(inner, list) else inner
                for key, inner in value.items() if not (isinstance(inner, list) and "" in inner)}
    if isinstance(value, list):
        return [_concrete(v) if isinstance(v, Mapping) else v for v in value]
    return value


def _foreign(value: Any, schema: Mapping, language: str) -> str:
    declared, element = schema["type"], schema.get("items", {}).get("type")
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if language == "javascript":
            return "[" + ", ".join(_js_inner(v) for v in value) + "]"
        if declared == "ArrayList":
            return f"new ArrayList<>(Arrays.asList({', '.join(_java_inner(v, element) for v in value)}))"
        pieces = [v if isinstance(v, str) else _java_inner(v, element) for v in value]    # quotes would be kept
        return f"new {JAVA_ELEMENTS.get(element, 'Object')}[]{{{', '.join(pieces)}}}"
    if isinstance(value, Mapping):
        if language == "javascript":
            return "{" + ", ".join(f"{key}: {_js_inner(v)}" for key, v in value.items()) + "}"
        puts = " ".join(f'put("{key}", {_java_inner(v, None)});' for key, v in value.items())
        return f"new HashMap<>() {{{{ {puts} }}}}"
    return _java_inner(value, declared) if language == "java" else _js_inner(value)


def _java_inner(value: Any, declared: str | None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value}L" if declared == "long" else f"{value}f" if declared == "float" else str(value)


def _js_inner(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_js_inner(v) for v in value) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value)
