"""Messages whose content is a list of parts, as Anthropic, Gemini and LangChain write calls, results and thoughts.

They become messages in OpenAI's keys. Parts that are none of these (images, sound) stay where they are, for the reader
to refuse; so do calls in a message that is not the assistant's.
"""

import json
import re
from typing import Any

from data.formats.items import filled, is_nothing
from data.formats.strict import unpacked

_CALLS = ("tool_use", "tool_call", "function_call")
_RESULTS = ("tool_result", "tool_response", "function_call_output", "function_response")
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
CALL_KEYS = ("functionCall", "function_call", "toolUse")                 # Gemini's two, and Bedrock's
_RESULT_KEYS = ("functionResponse", "function_response", "toolResult")
_ARGUMENTS = ("input", "args", "arguments", "parameters")
_ASSISTANT = ("assistant", "model", "ai", "chatbot", "gpt")
GIVEN = "(?:response|result|output)s?"
OBSERVED = re.compile(
    rf"[\s*]*(?:(?:Observation(?: \d+)?|(?:Tool|Function|API)(?: call)? {GIVEN})[\s*]*:"
    rf"|\[(?:Tool|Function|API)(?: call)? {GIVEN}\])", re.IGNORECASE)
# What services fail to do, not teams.
_DO = ("(?:access|authenticate|call|complete|compute|connect|convert|create|decode|delete|download|establish|execute"
       "|fetch|find|generate|get|initiali[sz]e|invoke|load|locate|open|parse|perform|process|query|reach|read|resolve"
       "|retrieve|run|save|search|send|start|update|upload|validate|write)")
_NONE = "(?:ok|0|false|none|null|n/a|success|no (?:errors?|exceptions?)(?: (?:found|occurred))?)"
_NO_ERROR = rf"(?:(?:mcp|tool|api)\s)?error\]?\s*:\s*{_NONE}[^\w\n<]*+(?:[\n<]|\Z)"
_ERROR = re.compile(
    r"(?:<[^<>\n]{1,40}>\s*+){0,8}(?:<[^<>\n]{0,30}error>"
    rf"|\W*+(?!{_NO_ERROR})(?:(?:(?:an|mcp|tool|api)\s)?\w*(?:error|exception)"
    r"(?:\]|\s*:|\s(?:executing|calling|occurred|-?\d))|(?:input |output |\d+ )?validation errors?(?: for|:)"
    r"|traceback \(most recent|http [45]\d\d\b"
    r"|(?:http )?status(?:[ _]code\s*[:=]?\s*[45]\d\d\b|\s*[:=]\s*[45]\d\d\b(?!\s+(?-i:[a-z])))"
    r"|(?:api |http )?request failed\b"
    rf"|failed to {_DO}\b[^\n:.]{{0,80}}(?:[\n:.]|\Z)"
    r"|(?:invalid|missing|unknown) (?:argument|parameter|input|tool|function)"
    rf"|(?:tool|function)\b[^\n]{{0,60}}\bfailed\b))|\{{'error': (?!'{_NONE}')['{{]", re.IGNORECASE)
_FINE = re.compile(rf"\W*+{_NONE}\W*+", re.IGNORECASE)
_FAULT = re.compile(r"errors?|error_?(?:message|msg)|exception", re.IGNORECASE)
_YES, _NO = ("true", "yes", "y"), ("false", "no", "n")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:e[-+]?[0-9]{1,3})?|-inf(?:inity)?")
_CODES = ("status", "status_code", "statusCode", "http_status")
_MESSAGES = ("message", "msg", "detail", "details")         # beside a `code`, which may be of a place or a product
_HELD = ("toolResult", "functionResponse", "function_response", "response", "result", "results", "content", "output",
         "value", "text", "document")                                    # where services put what a tool gave


def role_word(name: Any) -> str:
    """The name of a role in small letters, its words joined by `_`; "" for what is no text."""
    return re.sub(r"[\s-]+", "_", name.strip().lower()) if isinstance(name, str) else ""


def as_value(mark: Any) -> Any:
    """The truth value or the number that a text of a table spells; any other value as it is."""
    word = mark.strip().lower() if isinstance(mark, str) else ""
    if word in _YES or word in _NO:
        return word in _YES
    return float(word) if _NUMBER.fullmatch(word) else mark


def failed(result: Any) -> bool:
    """Does a result say that its call went wrong: a mark of a service, an `error`, or a text that begins with one?"""
    if isinstance(result, str):
        observed = OBSERVED.match(result)
        text = result[observed.end() if observed else 0:].strip()
        inside = unpacked(text.partition(">")[2].rpartition("</")[0] if text.startswith("<") else text)
        return _ERROR.match(text) is not None or not isinstance(inside, str) and failed(inside)
    if isinstance(result, list):
        return any(map(failed, result))
    if not isinstance(result, dict):
        return False
    told = True in map(as_value, (result.get("is_error"), result.get("isError")))
    told = told or as_value(result.get("success")) is False
    told = told or result.get("status") == "error" or any(result.get(key) in range(400, 600) for key in _CODES)
    told = told or result.get("code") in range(400, 600) and not result.keys().isdisjoint(_MESSAGES)
    details = result.get("detail")                                       # FastAPI's, of arguments that do not fit
    told = told or isinstance(details, list) and any(isinstance(one, dict) and {"loc", "msg"} <= one.keys()
                                                     for one in details)
    told = told or any(_names_fault(value) for key, value in result.items() if _FAULT.fullmatch(str(key)))
    held = [result[key] for key in _HELD if key in result]
    if isinstance(data := result.get("data"), (dict, str)):              # a list is a table, perhaps of others' errors
        held.append(data)
    return told or any(map(failed, held))


def _names_fault(value: Any, inside: bool = False) -> bool:
    """Does an `error` hold one? A number by itself may be a margin; inside an object or a list it is a code."""
    if isinstance(value, (dict, list)):
        return any(_names_fault(part, True) for part in (value.values() if isinstance(value, dict) else value))
    if isinstance(value, str):
        return filled(value) and not is_nothing(value) and _FINE.fullmatch(value) is None
    return value is True or inside and bool(value)


def spread(message: Any) -> Any:
    """The message with its calls under `tool_calls` and thoughts under `reasoning_content`; a result as the tool's.

    Any other message is given back as it is.
    """
    key = _column(message)
    if not key:
        return message
    parts = message[key]
    kinds = [_kind(part) for part in parts]
    role = role_word(message.get("role", message.get("from")))
    if "call" in kinds and role not in _ASSISTANT or {"call", "result"} <= set(kinds):
        return message
    said = [_result(part) if kind == "result" else part for part, kind in zip(parts, kinds, strict=True)
            if kind in ("result", "other")]
    rest = [part for part in said if part != ""]
    out = {name: value for name, value in message.items() if name != key} | {"content": rest}
    calls = [_call(part) for part, kind in zip(parts, kinds, strict=True) if kind == "call"]
    if calls and not message.get("tool_calls"):             # LangChain writes them twice
        out["tool_calls"] = calls
    elif calls and _names(calls) != _names(message["tool_calls"]):
        out["function_calls"] = calls
    if any(failed(part) for part, kind in zip(parts, kinds, strict=True) if kind == "result"):
        out["is_error"] = True
    if "result" in kinds:
        out = {name: value for name, value in out.items() if name != "from"} | {"role": "tool"}
    return out | ({"reasoning_content": "..."} if "thought" in kinds else {})


def apart(message: Any) -> list[Any]:
    """The message; one of a user with a tool's results and a text as two, in their order."""
    key = _column(message)
    spoken = key and role_word(message.get("role", message.get("from"))) in ("user", "human")
    parts = message[key] if spoken else []
    kinds = [_kind(part) for part in parts]
    said = [part for part, kind in zip(parts, kinds, strict=True) if kind == "other"]
    if "result" not in kinds or "call" in kinds or not any(map(_says, said)):
        return [message]
    given = [part for part, kind in zip(parts, kinds, strict=True) if kind != "other"]
    both = [{**message, key: given}, {**message, key: said}]
    return both if kinds[0] != "other" else both[::-1]


def _says(part: Any) -> bool:
    """Is a part a text that says something?"""
    text = part.get("text") if isinstance(part, dict) else part
    return isinstance(text, str) and bool(text.strip())


def _result(part: dict[str, Any]) -> str:
    """What a result's part says: its texts and the JSON of what is none, joined by newlines."""
    inner = next((part[key] for key in _RESULT_KEYS if isinstance(part.get(key), dict)), part)
    given = next((inner[key] for key in ("content", "output", "response", "result") if filled(inner.get(key))), "")
    return "\n".join(map(_shown, given if isinstance(given, list) else [given]))


def _shown(piece: Any) -> str:
    """The text of a piece of a result, or its JSON; Bedrock has that under a key of its own."""
    if isinstance(piece, dict) and isinstance(piece.get("text"), str):
        return str(piece["text"])
    if isinstance(piece, dict) and [*piece] == ["json"]:
        piece = piece["json"]
    return piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False)


def _names(calls: Any) -> list[Any]:
    """The names of the tools of several calls, as far as they can be seen."""
    inner = [call.get("function", call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [call.get("name") if isinstance(call, dict) else call for call in inner]


def _column(message: Any) -> str:
    """The key with a list of parts that is worth a second look: Gemini's `parts`, or a list with more than texts."""
    for key in ("parts", "content", "value") if isinstance(message, dict) else ():
        parts = message.get(key)
        if isinstance(parts, list) and parts and all(isinstance(part, dict | str) for part in parts):
            plain = all(_kind(part) == "other" for part in parts)
            return key if key == "parts" and not message.get("content") or not plain else ""
    return ""


def _kind(part: Any) -> str:
    """"call", "result", "thought" or "other"."""
    if not isinstance(part, dict):
        return "other"
    word = part.get("type")
    if any(isinstance(part.get(key), dict) for key in _RESULT_KEYS) or word in _RESULTS:
        return "result"
    if any(isinstance(part.get(key), dict) for key in CALL_KEYS) or word in _CALLS and isinstance(
            part.get("name"), str):
        return "call"
    return "thought" if word in _THOUGHTS or part.get("thought") is True or "reasoningContent" in part else "other"


def _call(part: dict[str, Any]) -> dict[str, Any]:
    """The call of a part; where its arguments are empty with all that stands beside them, for the reader of calls."""
    inner = next((part[key] for key in CALL_KEYS if isinstance(part.get(key), dict)), part)
    told = any(filled(inner.get(key)) for key in _ARGUMENTS)
    beside = {key: inner[key] for key in inner if not told or key in (*_ARGUMENTS, "name")}
    return {"id": inner.get("id"), **beside}
