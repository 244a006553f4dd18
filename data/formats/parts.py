"""Messages whose content is a list of parts, as Anthropic, Gemini and LangChain write calls, results and thoughts.

They become messages in OpenAI's keys. Parts that are none of these (images, sound) stay where they are, for the reader
to refuse; so do calls in a message that is not the assistant's.
"""

from typing import Any

from data.formats.items import filled

_CALLS = ("tool_use", "tool_call", "function_call")
_RESULTS = ("tool_result", "tool_response", "function_call_output", "function_response")
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
CALL_KEYS = ("functionCall", "function_call", "toolUse")                 # Gemini's two, and Bedrock's
_RESULT_KEYS = ("functionResponse", "function_response", "toolResult")
_ARGUMENTS = ("input", "args", "arguments", "parameters")
_ASSISTANT = ("assistant", "model", "ai", "chatbot", "gpt")


def spread(message: Any) -> Any:
    """The message with its calls under `tool_calls` and thoughts under `reasoning_content`; a result as the tool's.

    Any other message is given back as it is.
    """
    key = _column(message)
    if not key:
        return message
    parts = message[key]
    kinds = [_kind(part) for part in parts]
    role = str(message.get("role", message.get("from"))).strip().lower()
    if "call" in kinds and role not in _ASSISTANT or {"call", "result"} <= set(kinds):
        return message
    rest = [part for part, kind in zip(parts, kinds, strict=True) if kind == "other"]
    out = {name: value for name, value in message.items() if name != key} | {"content": rest}
    calls = [_call(part) for part, kind in zip(parts, kinds, strict=True) if kind == "call"]
    if calls and not message.get("tool_calls"):             # LangChain writes them twice
        out["tool_calls"] = calls
    elif calls and _names(calls) != _names(message["tool_calls"]):
        out["function_calls"] = calls
    if any(isinstance(part, dict) and part.get("is_error") is True for part in parts):
        out["is_error"] = True
    if "result" in kinds:
        out = {name: value for name, value in out.items() if name != "from"} | {"role": "tool"}
    return out | ({"reasoning_content": "..."} if "thought" in kinds else {})


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
    return "thought" if word in _THOUGHTS or part.get("thought") is True else "other"


def _call(part: dict[str, Any]) -> dict[str, Any]:
    """The call of a part; where its arguments are empty with all that stands beside them, for the reader of calls."""
    inner = next((part[key] for key in CALL_KEYS if isinstance(part.get(key), dict)), part)
    told = any(filled(inner.get(key)) for key in _ARGUMENTS)
    beside = {key: inner[key] for key in inner if not told or key in (*_ARGUMENTS, "name")}
    return {"id": inner.get("id"), **beside}
