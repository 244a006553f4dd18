"""The list of tools that stands in a running text, such as ToolACE's system prompt, told from lists of other things."""

import re
from collections.abc import Iterator
from typing import Any

from data.formats.items import RowError, filled, tools_in
from data.formats.keywords import UNIONS, describes_an_argument, is_object_type
from data.formats.strict import unpacked
from data.formats.tooldocs import DESCRIPTIONS, PARAMETERS
from data.schema import JsonError, decode_json_at

_PARAMETERS = (*PARAMETERS, "required_parameters", "optional_parameters", "properties")
_SPEAKS_OF_TOOLS = re.compile(r"(?<![a-z])(?:tool|function|api|plugin)s?(?![a-z])|工具|函数|接口", re.IGNORECASE)


def tool_list(text: str) -> list[Any] | None:
    """The JSON list of tools inside running text (ToolACE's system prompt), or None if there is none.

    Other lists are data, or show how a call is written. An empty list counts only where there is no list of tools:
    prose may say "return []". A list that documents no parameters counts where the text before it speaks of tools.

    Raises:
        RowError: `bad_tools` where a list is broken in a way that JSON forbids, or where two list different tools.
    """
    lists = list(_lists_of_objects(text))
    found = [(at, tools) for at, tools in lists if _are_tools(tools)]
    documented = [tools for _, tools in found if any(map(_parameters_of, tools))]
    described = [(at, tools) for at, tools in found if all(map(_is_described, tools))]
    told = ([tools for _, tools in described if tools in documented] or documented
            or [tools for at, tools in described if all(map(_tells_parameters, tools))
                or _SPEAKS_OF_TOOLS.search(text, 0, at)])
    if any(tools != told[0] for tools in told):
        why = "two lists of tools in the system text; which of them is offered cannot be told"
        raise RowError("bad_tools", why, stage="tools")
    return told[0] if told else next((tools for _, tools in lists if not tools), None)


def _lists_of_objects(text: str) -> Iterator[tuple[int, list[Any]]]:
    """The places of the JSON lists of objects in a text, and what they list. Raises RowError `bad_tools`."""
    at = text.find("[")
    while at >= 0:
        end = at + 1
        if text[end:end + 39].lstrip()[:1] in ("{", "]"):
            try:
                value, end = decode_json_at(text, at)
            except JsonError as error:
                if error.code != "not_json":
                    why = f"the tool list in the system text: {error.detail}"
                    raise RowError("bad_tools", why, stage="tools") from None
            else:
                if all(isinstance(item, dict) for item in value):
                    yield at, tools_in(value)
        at = text.find("[", end)


def _are_tools(entries: list[Any]) -> bool:
    """Are all of these tools? Beside one with parameters one may have nothing but a name."""
    if all(map(is_tool, entries)):
        return bool(entries)
    bare = [entry for entry in entries if not is_tool(entry)]
    named = all(isinstance(_inside(entry).get("name"), str) and not _parameters_of(entry) for entry in bare)
    return named and any(_parameters_of(entry) for entry in entries if is_tool(entry))


def _tells_parameters(entry: Any) -> bool:
    """Has a tool's document a place for parameters, if an empty one?"""
    return any(isinstance(_inside(entry).get(key), dict | list) for key in _PARAMETERS)


def is_tool(entry: Any) -> bool:
    """Does an object look like a tool's document: a description or parameters, and no values of a call under them?"""
    tool, described = _inside(entry), _is_described(entry)
    documented = any(isinstance(tool.get(key), dict | list | str) for key in _PARAMETERS)
    if not documented and (not described or not isinstance(tool.get("name"), str)
                           or tool.get("type", "function") != "function"):
        return False                                    # one without a word of parameters may be anything
    return all(_describes_parameters(given, described) for given in _parameters_of(entry))


def _inside(entry: Any) -> dict[str, Any]:
    """The tool out of the `function` or `toolSpec` around it; {} for what is no object."""
    inner = (entry.get(key) for key in ("function", "toolSpec")) if isinstance(entry, dict) else ()
    return next((part for part in inner if isinstance(part, dict)), entry if isinstance(entry, dict) else {})


def _is_described(entry: Any) -> bool:
    """Does a tool's document say what the tool does?"""
    tool = _inside(entry)
    return any(isinstance(tool.get(key), str) and tool[key].strip() for key in DESCRIPTIONS)


def _parameters_of(entry: Any) -> list[Any]:
    """What stands under the keys that a tool's parameters may have, where it is anything."""
    tool = _inside(entry)
    given = [unpacked(tool[key]) for key in _PARAMETERS if key in tool]
    return [value for value in given if filled(value)]


def _describes_parameters(given: Any, described: bool) -> bool:
    """Are these parameters, rather than the values of a call? A tool without a description needs more than words."""
    if isinstance(given, dict) and (isinstance(given.get("properties"), dict) or is_object_type(given.get("type"))
                                    or "$ref" in given or not given.keys().isdisjoint(UNIONS)):
        return True
    parts = list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else [given]
    if not described:
        return all(map(describes_an_argument, parts))
    named = isinstance(given, list)                     # parameters by their names alone
    return any(describes_an_argument(part) or isinstance(part, str) and (named or " " in part.strip())
               for part in parts)
