"""ToolBench / RapidAPI: tool files with an `api_list`, and query files that name the APIs needed but give no values."""

from collections.abc import Iterator
from typing import Any

from data.formats.items import Ask, Context, Document, Format, Item, LeftOut, group_of, need_list, need_text


def read(row: Any, context: Context) -> Iterator[Item]:
    if "query" in row:
        yield LeftOut("names_of_needed_tools", len(row.get("relevant APIs") or row.get("gt_api_list") or ()))
        tools = [_with_results(api) for api in need_list(row.get("api_list"), "`api_list`") if isinstance(api, dict)]
        yield Ask(need_text(row, "query"), tools)
        return
    about = {key: row[key] for key in ("tool_name", "category") if row.get(key)}
    group = group_of(row, "tool_name", "tool_description", "category")
    for number, api in enumerate(need_list(row.get("api_list"), "`api_list`")):
        yield Document(_with_results(api) if isinstance(api, dict) else api, str(number), about, group)


def _with_results(api: dict[str, Any]) -> dict[str, Any]:
    """The API with its reply as `results`: a JSON Schema where one was recorded, else the template of a reply."""
    schema = api.get("schema")
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        return {**_without(api, "schema"), "results": schema}
    template = api.get("template_response")
    if isinstance(template, dict) and template:
        fields = {name: _of_template(value) for name, value in template.items()}
        return {**_without(api, "template_response"), "results": {"type": "object", "properties": fields}}
    return api


def _without(api: dict[str, Any], read: str) -> dict[str, Any]:
    return {key: value for key, value in api.items() if key != read}


def _of_template(value: Any, depth: int = 0) -> dict[str, Any]:
    """The schema of a reply whose values were replaced by type words; lists are shown by their first element."""
    if isinstance(value, dict) and depth < 8:
        return {"type": "object", "properties": {name: _of_template(inner, depth + 1) for name, inner in value.items()}}
    if isinstance(value, list):
        first = next((inner for inner in value if not (isinstance(inner, str) and " items" in inner)), None)
        return ({"type": "array", "items": _of_template(first, depth + 1)} if first is not None and depth < 8
                else {"type": "array"})
    if value == "empty list":
        return {"type": "array"}
    return {"type": value if isinstance(value, str) and value not in ("", "NoneType") else "any"}


def looks_like(row: Any) -> bool:
    return isinstance(row, dict) and (isinstance(row.get("api_list"), list) or "gt_api_list" in row)


FORMAT = Format("toolbench", "ToolBench / RapidAPI: tool files (tools) and query files (queries)", read, looks_like)
