"""What a model answered, as saved by ToolDev and by others: files of answers, calls in their shapes, Python text.

A file of answers is JSON Lines, one JSON array or objects over many lines, gzipped or not. A line that is not strict
JSON (NaN, 1e400, a key twice, too deep, cut off, not UTF-8) is an undecodable answer, not an error: whatever identifies
the entry is recovered and the rest is dropped.
"""

import ast
import gzip
import json
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.binary import not_text
from data.formats.parts import CALL_KEYS, spread
from data.formats.source import open_binary
from data.parse import Reason, parse_calls
from data.schema import JsonError, ToolCall, strict_json_loads

IDENTITY = ("id", "category", "level", "file", "sample_id", "task", "underscore_names")
_FIELD = re.compile(r'"(id|category|level|file|sample_id|task)"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.){0,300}"|-?\d{1,9})')
_HEAD_CHARS = 4_096
_BLANK = b" \t\r\n\xef\xbb\xbf"
_LOOSE = json.JSONDecoder(parse_int=str, parse_float=str)     # finds where a value ends; what it holds is read strictly
_NAMES = ("function", "tool", "tool_name", "function_name", "api_name", "action")     # beside arguments alone
_ARGUMENTS = ("arguments", "parameters", "args", "input", "kwargs", "params", "tool_input", "action_input")
_CALLS = ("tool_calls", "toolCalls", "function_call", "functionCall", "toolUse")
_ITEMS = ("message", "reasoning", "function_call")                     # of OpenAI's Responses
_SAID = {"role", "content", "parts", *_CALLS}
_PARTS = ("text", "output_text", "thinking", "redacted_thinking")       # of a message, beside calls
MAX_CHARS = 100_000             # of Python text; a complete answer is some thousand characters
# What reading somebody's text as Python may raise; each means "this has no value".
FAILURES = (SyntaxError, ValueError, TypeError, AttributeError, KeyError, IndexError, ArithmeticError, MemoryError,
            RecursionError, SystemError)


@dataclass(frozen=True)
class Answer:
    """One line of an answers file; `fault` says why the line could not be read as strict JSON."""

    record: dict[str, Any]
    fault: str | None = None

    def text(self, key: str) -> str | None:
        """The field if it is text."""
        value = self.record.get(key)
        return value if isinstance(value, str) else None


# --------------------------------------------------------------------------------------------------------------- files

def read_answers(path: str | Path) -> Iterator[Answer]:
    """Every answer of a file, in order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: gzip data or an array break off: what follows is lost, so nothing is taken; or it is no text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected saved answers, one JSON object per line")
    if (found := not_text(path)) is not None:
        raise ValueError(f"{path}: {found}")
    try:
        with open_binary(path) as file:
            lines = [line for line in file if line.strip(_BLANK)]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: the gzip data break off ({error}); get the whole file again") from None
    if lines and lines[0][:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path}: UTF-16 text, expected UTF-8; convert it first, e.g. iconv -f UTF-16 -t UTF-8")
    first = lines[0].strip(_BLANK) if lines else b""
    if first.startswith(b"[") or first == b"{":
        yield from _documents(path, b"".join(lines).decode("utf-8", "surrogateescape").lstrip("\ufeff"))
    else:
        yield from map(read_answer, lines)


def _documents(path: Path, text: str) -> Iterator[Answer]:
    """The elements of an array, or objects over many lines, each read by itself."""
    at = depth = 0
    while at < len(text):
        if text[at] in " \t\r\n,[]":
            depth += (text[at] == "[") - (text[at] == "]")
            at += 1
            continue
        try:
            _, end = _LOOSE.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: an answer breaks off, or is no JSON ({error}); get the whole file, or write one "
                             "object per line") from None
        yield read_answer(text[at:end].encode("utf-8", "surrogateescape"))
        at = end
    if depth:
        raise ValueError(f"{path}: the array is not closed, so answers may be missing; get the whole file")


def read_answer(line: bytes) -> Answer:
    """One line, whatever is in it."""
    try:
        record = strict_json_loads(line.decode("utf-8-sig"))
        if isinstance(record, dict):
            return Answer(record)
        return Answer({}, "not_an_object")
    except JsonError as error:
        return Answer(_identity(line), error.code)
    except UnicodeDecodeError:
        return Answer(_identity(line), "not_utf8")


def _identity(line: bytes) -> dict[str, Any]:
    """The fields that say which entry a broken line belongs to, as far as they can be read."""
    text = line.decode("utf-8", errors="replace")
    try:
        record = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        record = {}
        for name, value in _FIELD.findall(text[:_HEAD_CHARS]):
            with suppress(ValueError):
                record.setdefault(name, json.loads(value))
    if not isinstance(record, dict):
        return {}
    return {key: record[key] for key in IDENTITY if isinstance(record.get(key), (str, int))}


def printable(value: Any, limit: int = 200) -> str:
    """A name for an output file: text of bounded length that UTF-8 can hold."""
    text = value if isinstance(value, str) else "" if value is None else str(value)[:limit]
    return text[:limit].encode("utf-8", "backslashreplace").decode("utf-8")


# ---------------------------------------------------------------------------------- answers as other programs save them

class NotCalls(ValueError):
    """A saved value is neither text nor calls; `code` is the reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def saved_answer(value: Any) -> str | list[ToolCall] | None:
    """The text or the calls under `result`, where leaderboards and clients keep what a service returned.

    Calls are `{name: arguments}`, `{"name", "arguments"}`, `{"function": {"name", "arguments"}}` or `[name,
    arguments]`, one alone, in a list, or each in a list of its own; arguments are an object or its JSON text, empty for
    none. A message, or the list of its parts, is read by its calls, and by its text where it has none; a list of one
    text is that text.

    Raises:
        NotCalls: the value is none of these.
    """
    value = _opened(value)
    if isinstance(value, list) and any(isinstance(part, dict) and (
            part.get("type") in _PARTS or not part.keys().isdisjoint(CALL_KEYS)) for part in value):
        value = {"content": value}
    if isinstance(value, dict) and value.keys() & {"content", "parts"}:
        value = spread({"role": "assistant", **value})
        text = value.get("content")
        if isinstance(text, list) and all(isinstance(one, dict) and isinstance(one.get("text"), str) for one in text):
            text = "\n".join(one["text"] for one in text)
        if (text is None or isinstance(text, str)) and not any(value.get(key) for key in _CALLS):
            return text
    return value if value is None or isinstance(value, str) else _saved_calls(value)


def _opened(value: Any) -> Any:
    """What a service's response holds: the first choice's message, the items of an output that say something."""
    while True:
        inner = value[0] if isinstance(value, list) and len(value) == 1 else None
        if isinstance(inner, (str, list)) or isinstance(inner, dict) and isinstance(inner.get("message"), dict):
            value = inner
        elif isinstance(value, list) and any(_kind(item) in _ITEMS for item in value):
            calls = [item for item in value if _kind(item) == "function_call"]
            said = [item for item in value if _kind(item) == "message"]
            if not calls and not said or calls == value:
                return value
            value = calls or said[-1]
        elif not isinstance(value, dict):
            return value
        else:
            several = next((value[key] for key in ("choices", "candidates") if isinstance(value.get(key), list)), None)
            parts = [value.get(key) for key in ("message", "content", "output", "additional_kwargs")]
            held = next((part for part in parts if isinstance(part, dict)
                         and (not part.keys().isdisjoint(_SAID) or isinstance(part.get("message"), dict))), None)
            if several:
                value = several[0]
            elif held is not None:
                value = held
            elif isinstance(parts[2], list) and parts[2]:
                value = parts[2]
            elif value.get("type") in _PARTS or set(value) == {"text"}:
                return {"content": [value]}
            else:
                return value


def _kind(item: Any) -> Any:
    return item.get("type") if isinstance(item, dict) else None


def _saved_calls(value: Any) -> list[ToolCall]:
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], (dict, str)):
            return [ToolCall(value[0], _saved_arguments(value[1]))]
        return [call for item in value for call in _saved_calls(item)]
    if not isinstance(value, dict) or not value:
        raise NotCalls("result_not_calls")
    for key in _CALLS:
        if isinstance(value.get(key), (list, dict)):
            return _saved_calls(value[key])
    inner, name = value.get("function"), value.get("name")
    if name is None and any(key in value for key in _ARGUMENTS):
        name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
    if isinstance(inner, dict) and isinstance(inner.get("name"), str):
        return _saved_calls(inner)
    if isinstance(name, str) and not name.lstrip().startswith("{"):
        return [ToolCall(name, _saved_arguments(next((value[key] for key in _ARGUMENTS if key in value), None)))]
    return [ToolCall(name, _saved_arguments(arguments)) for name, arguments in value.items()]


def _saved_arguments(value: Any) -> dict[str, Any]:
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    if isinstance(value, str):
        try:
            value = strict_json_loads(value)
        except JsonError as error:
            raise NotCalls(f"arguments:{error.code}") from None
    if not isinstance(value, dict):
        raise NotCalls("arguments_not_object")
    return value


def reply_of(answer: Answer, write: Callable[[Sequence[ToolCall]], str]) -> tuple[Any, str | None]:
    """(what is scored, why it could not be read): `reply` as it stands, or `result`, its calls written by `write`."""
    if answer.fault:
        return None, answer.fault
    if answer.record.get("reply") is not None:
        return answer.record["reply"], None
    try:
        value = saved_answer(answer.record.get("result"))
    except NotCalls as error:
        return None, error.code
    if isinstance(value, list):
        return write(value), None
    return (None if value is None else converted(value, write)["reply"]), None


def converted(text: str, write: Callable[[Sequence[ToolCall]], str]) -> dict[str, Any]:
    """The fields of a line of answers: "reply", what is scored, is `write(calls)` where the text holds readable blocks.

    The released evaluators know no `<tool_call>`. The raw text is kept beside then, and the answer marked `converted`.
    """
    calls = parse_calls(text) if "<tool_call>" in text else None
    if calls is None or isinstance(calls, Reason):
        return {"reply": text}
    return {"reply": write(calls), "converted": True, "text": text}


def form_of(answer: Answer) -> str:
    """What an answer is in the paper's format: "calls", "no_call" (its fixed sentence), "native_calls", or the reason
    why it is neither, such as wrote_tools_instead (section 4.5 of the paper) and no_call_text."""
    text = answer.text("text") or answer.text("reply") or answer.text("result")
    if text is None:
        native = not answer.fault and (answer.record.get("output") or answer.record.get("result"))
        return "native_calls" if native else "no_answer"
    parsed = parse_calls(text)
    return parsed.code if isinstance(parsed, Reason) else "calls" if parsed else "no_call"


def wrote_tools(answer: Answer) -> bool:
    """Whether a reply writes tool definitions instead of calls."""
    return form_of(answer) == "wrote_tools_instead"


# -------------------------------------------------------------------------------------- Python text, read and never run

def parse_expression(text: str) -> ast.expr:
    """The syntax tree of one expression; ValueError if it is not one, or is too long or too deep to be read safely."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"{len(text)} characters; at most {MAX_CHARS} are read as Python")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")              # invalid escapes and the like: not our source
            return ast.parse(text, mode="eval").body
    except FAILURES as error:
        raise ValueError(f"not a Python expression: {type(error).__name__}") from None


def literal(text: str) -> Any:
    """Value of a Python literal, as `ast.literal_eval`; ValueError if it is none."""
    tree = parse_expression(text.lstrip(" \t"))
    try:
        return ast.literal_eval(tree)
    except FAILURES as error:
        raise ValueError(f"not a Python literal: {type(error).__name__}") from None
