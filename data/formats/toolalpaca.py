"""ToolAlpaca: one record per API, with an OpenAPI document as JSON text, queries, and for each its actions or a run."""

import re
from collections.abc import Iterator
from typing import Any

from data.formats.items import (
    Ask,
    Context,
    Document,
    Format,
    Item,
    LeftOut,
    Refused,
    RowError,
    Sample,
    group_of,
    is_nothing,
    need_list,
    noted,
    unanswered,
)
from data.formats.parts import failed
from data.formats.schemas import lookup
from data.schema import JsonError, strict_json_loads

_METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
_STRING_OR_HOLE = re.compile(r'"(?:[^"\\]|\\.)*"|\$\{[^{}]*\}', re.DOTALL)


def read(row: Any, context: Context) -> Iterator[Item]:
    tools, group = tools_of(row), group_of(row, "Name", "Description", "Category")
    queries = need_list(row.get("Instructions"), "`Instructions`", "query")
    answers = need_list(row.get("Golden_Answers"), "`Golden_Answers`", "calls")
    runs = need_list(row.get("Instances"), "`Instances`", "calls")       # of the training data
    if not queries:
        yield from (Document(tool, str(number), group=group) for number, tool in enumerate(tools))
    for number, query in enumerate(queries):
        if number >= len(answers):
            yield from (_of_run(runs[number], query, tools, str(number), group) if number < len(runs) else
                        [Ask(query, tools, str(number), group=group)])
            continue
        if is_nothing(answers[number]):
            yield from unanswered("no_answer", query, tools, str(number), group=group)
            continue
        try:
            calls = [read_action(action) for action in need_list(answers[number], "an answer", "calls")]
        except RowError as error:
            yield Refused(error, str(number))
            yield Ask(query, tools, str(number), group=group)
        else:
            yield Sample(query, tools, calls, str(number), noted(nested_reference="${" in str(calls)), group)


def _of_run(run: Any, query: str, tools: list[Any], part: str, group: str | None) -> Iterator[Item]:
    """The first action of a run, [[action, its input, the log], what it gave] a step; later ones depend on results."""
    steps = run.get("intermediate_steps") if isinstance(run, dict) and run.get("input") == query else None
    if not steps or run.get("error"):
        yield from unanswered("no_answer", query, tools, part, group=group)
        return
    try:
        match steps[0]:
            case [[str(action), given, *_], result]:
                call = read_action({"Action": action, "Action_Input": given})
            case step:
                raise RowError("bad_call", f"a step is an action and what it gave, found {step!r:.80}", stage="calls")
    except RowError as error:
        yield Refused(error, part)
        yield Ask(query, tools, part, group=group)
        return
    if len(steps) > 1 and failed(result):
        yield from unanswered("answer_not_to_learn", query, tools, part, group=group)
    else:
        yield Sample(query, tools, [call], part, group=group)
        yield LeftOut("call_after_result", len(steps) - 1)


def read_action(action: Any) -> dict[str, Any]:
    """{"Action", "Action_Input": "<JSON>"}; a bare `${field from call}` becomes a string value. Raises RowError."""
    if not isinstance(action, dict) or not isinstance(action.get("Action"), str):
        raise RowError("bad_call", f"an action must be an object with `Action`, found {action!r:.80}", stage="calls")
    text = action.get("Action_Input")
    if not isinstance(text, str):
        return {"name": action["Action"], "arguments": text or {}}
    quoted = _STRING_OR_HOLE.sub(lambda m: f'"{m.group()}"' if m.group()[0] == "$" else m.group(), text)
    try:
        arguments = strict_json_loads(quoted) if quoted.strip() else {}
    except JsonError as error:
        raise RowError("bad_json_string", f"Action_Input of {action['Action']!r}: {error.detail}",
                       stage="calls") from None
    return {"name": action["Action"], "arguments": arguments}


def tools_of(row: Any) -> list[dict[str, Any]]:
    """The functions of the API's OpenAPI document. Raises RowError `bad_openapi`."""
    try:
        document = strict_json_loads(row.get("Documentation") or "")
        paths = document["paths"]
        names = {tuple(place): name for name, place in (row.get("Function_Projection") or {}).items()}
        return [_tool(document, names.get((path, method)), path, method, operation)
                for path, methods in paths.items() for method, operation in methods.items() if method in _METHODS]
    except (JsonError, KeyError, TypeError, AttributeError) as error:
        raise RowError("bad_openapi", f"`Documentation` is no OpenAPI document: {error!r:.200}",
                       stage="tools") from None


def _tool(document: dict[str, Any], name: str | None, path: str, method: str,
          operation: dict[str, Any]) -> dict[str, Any]:
    """One operation as a JSON Schema function; parameters and the body's fields become arguments."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in operation.get("parameters") or []:
        parameter = _resolve(document, parameter)
        schema = {**(parameter.get("schema") or {}),
                  **{k: parameter[k] for k in ("description", "type", "enum", "default") if k in parameter}}
        properties[parameter["name"]] = schema
        if parameter.get("required"):
            required.append(parameter["name"])
    body = _schema_in(document, operation.get("requestBody"))
    for key, schema in (body.get("properties") or {}).items():
        properties[key] = schema
        if key in (body.get("required") or []):
            required.append(key)
    tool = {"name": name or operation.get("operationId") or f"{method} {path}",
            "description": operation.get("description") or operation.get("summary") or "",
            "parameters": {"type": "object", "properties": properties, "required": required,
                           "components": document.get("components") or {}}}
    answers = operation.get("responses") or {}
    results = _schema_in(document, answers.get("200") or answers.get("201"))
    if results.get("properties"):
        tool["results"] = {"type": "object", "properties": results["properties"]}
    return tool


def _resolve(document: dict[str, Any], node: Any, hops: int = 0) -> Any:
    """Follow a local `$ref`."""
    if hops < 8 and isinstance(node, dict) and isinstance(node.get("$ref"), str):
        return _resolve(document, lookup(document, node["$ref"]) or {}, hops + 1)
    return node


def _schema_in(document: dict[str, Any], holder: Any) -> dict[str, Any]:
    """The schema of a request body or response; its first kind of content."""
    content = (_resolve(document, holder) or {}).get("content") or {}
    for kind in content.values():
        schema = _resolve(document, (kind or {}).get("schema") or {})
        return schema if isinstance(schema, dict) else {}
    return {}


def looks_like(row: Any) -> bool:
    return isinstance(row, dict) and "Documentation" in row and ("Instructions" in row or "Function_Projection" in row)


FORMAT = Format("toolalpaca", "ToolAlpaca: one API per record, OpenAPI documents, queries with actions", read,
                looks_like)
