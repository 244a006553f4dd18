"""Logs of chat services: a request and the response to it in one row, as proxies, traces and servers keep them.

Either may stand under a key of its own (`request`, `inputs`; `response`, `output`) or be the row itself (`messages`
beside `choices`, or beside Ollama's `message`). What the response says is the answer, and it alone is learnt; messages
that end with the assistant's are a whole conversation, which other readers take.
"""

import json
from collections.abc import Iterator
from typing import Any

from data.formats.beside import judged
from data.formats.conversation import CALL_ROLES, after, answered, as_messages, earlier, role_names
from data.formats.items import Context, Format, Item, RowError, filled
from data.formats.strict import unpacked

_REQUESTS = ("request", "request_body", "reqPayload", "inputs", "input", "modelInput", "proxy_server_request")
_RESPONSES = ("response", "response_body", "respPayload", "outputs", "output", "modelOutput", "expected_output")
_INSIDE = ("body", "inputBodyJson", "outputBodyJson")                    # of HTTP, and of Bedrock's log
_ASKED = ("messages", "contents", "input", "input_messages")
_SYSTEM = ("system", "instructions", "systemInstruction", "system_instruction")
_TOOLS = ("tools", "functions", "toolConfig")
_TASKS = ("instruction", "prompt", "question", "query")                # of which a text under `input` is but a part
_EARLIER = ("previous_response_id", "conversation")                     # kept by the service, not by the log
_ASSISTANT = ("assistant", "model", "ai")
_ENDS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason", "done", "status", "error",
         "incomplete_details")


def _request_of(row: dict[str, Any]) -> tuple[str, dict[str, Any], list[Any]] | None:
    """The column that holds the request or its messages, the request (perhaps the row itself), and its messages."""
    for key in _REQUESTS:
        request = _column(row, key)
        if isinstance(request, dict) and (found := _asked_in(request)):
            return key, request, found[1]
    found = _asked_in(row)
    return (found[0], row, found[1]) if found else None


def _column(row: dict[str, Any], key: str) -> Any:
    """What stands under a key, out of JSON text and out of the body of a message of HTTP."""
    value = unpacked(dict.get(row, key))
    inside = [unpacked(value[name]) for name in _INSIDE if name in value] if isinstance(value, dict) else []
    return next((part for part in inside if isinstance(part, dict)), value)


def _asked_in(request: dict[str, Any]) -> tuple[str, list[Any]] | None:
    """The messages of a request and their key; None where it has none, or where the assistant has the last word."""
    for key in _ASKED:
        messages = as_messages(dict.get(request, key))
        if messages and role_names(messages[-1:]).isdisjoint((*_ASSISTANT, *CALL_ROLES)):
            return key, messages
    text = dict.get(request, "input")
    alone = isinstance(text, str) and text.strip() and not any(filled(dict.get(request, key)) for key in _TASKS)
    return ("input", [{"role": "user", "content": text}]) if alone else None


def _answers_of(row: dict[str, Any]) -> tuple[str, list[list[Any]]] | None:
    """The column that holds the response, and its answers, each a list of messages; more than one is a choice."""
    for key in _RESPONSES:
        if answers := _answers_in(_column(row, key)):
            return key, answers
    beside = next((key for key in ("choices", "candidates", "message") if key in row), None)
    answers = _answers_in(row) if beside else []
    return (beside, answers) if beside and answers else None


def _answers_in(response: Any) -> list[list[Any]]:
    if isinstance(response, list):
        choices = [_message(part, part) for part in response if isinstance(part, dict) and "message" in part]
        alone = as_messages(response) and role_names(response).isdisjoint(("user", "human", "system", "developer"))
        return [[choice] for choice in choices if choice] or ([response] if alone else [])
    if not isinstance(response, dict):
        return []
    choices = next((response[key] for key in ("choices", "candidates") if isinstance(response.get(key), list)), None)
    if choices is not None:
        return [[message] for choice in choices if (message := _message(choice, response))]
    output = response.get("output")
    if isinstance(output, list) and output and all(isinstance(part, dict) for part in output):
        return [[*output[:-1], {**_ends(response), **output[-1]}]]     # OpenAI's Responses
    inner = output if isinstance(output, dict) else response            # Bedrock's has one level more
    message = _message(inner, response) or (_message({"message": response}, {}) if "role" in response else None)
    return [[message]] if message else []


def _message(choice: Any, response: dict[str, Any]) -> dict[str, Any] | None:
    """The assistant's message in a choice, with what both say of its end."""
    if not isinstance(choice, dict):
        return None
    message = next((choice[key] for key in ("message", "content") if isinstance(choice.get(key), dict)), None)
    if message is None or role_names([message]).isdisjoint(_ASSISTANT):
        return None
    return {**_ends(response), **_ends(choice), **message}


def _ends(log: dict[str, Any]) -> dict[str, Any]:
    return {key: dict.get(log, key) for key in _ENDS if key in log}


def read(row: Any, context: Context) -> Iterator[Item]:
    asked, told = _request_of(row), _answers_of(row)
    if asked is None or told is None:
        raise RowError("no_query", f"no request with its response; the row has {sorted(map(str, row))[:8]}", "query")
    (column, request, messages), (answer, answers) = asked, told
    for key in (column, answer):
        row.get(key)                                                    # counts the column as read
    if len(answers) > 1:
        raise RowError("several_answers", f"the response holds {len(answers)} choices; keep one of them", "calls")
    if kept := next((key for key in _EARLIER if filled(dict.get(request, key))), None):
        raise RowError("unread_columns", f"`{kept}`: the service has earlier messages, the row has not", "query")
    system = [{"role": "system", "content": text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)}
              for key in _SYSTEM if filled(text := request.get(key))]
    messages = after(earlier(request) or earlier(row), messages)
    offering = request if any(filled(dict.get(request, key)) for key in _TOOLS) else row
    read_here = {*_ASKED, *_SYSTEM, "tools", "functions"}
    settings = {} if request is row else {key: request[key] for key in request if key not in read_here}
    for item in answered(offering, [*system, *messages], answers[0], context):
        yield from judged(settings, item)


def looks_like(row: Any) -> bool:
    return isinstance(row, dict) and _answers_of(row) is not None and _request_of(row) is not None


FORMAT = Format("exchange", "logs of chat services: a request and its response in one row", read, looks_like)
