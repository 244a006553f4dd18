"""Calls that a reply spells in its text, in the spelling of whatever model wrote it.

Read are: JSON or Python literals that fill the reply, fenced or not (`{"name", "parameters"}`, lists); pythonic calls;
`<tool_call>`, `<function=name>{...}`, `<functioncall>`; marks followed by JSON (Granite, Mistral, Llama's
`<|python_tag|>`); a name and JSON between marks (DeepSeek, Kimi, harmony); ReAct's `Action:` with `Action Input:`.
What spells a call in another way, or among words, is refused as `calls_in_text`: nobody can tell there what was meant,
but it is no answer in words. A reply that only mentions a tool is one.
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from data.formats.among_words import calls_among_words
from data.formats.items import RowError, filled, is_nothing, json_inside
from data.formats.literals import LiteralError, looks_like_calls, parse_calls, parse_literal
from data.formats.strict import unpacked
from data.formats.tagged import value_at, values_between, words_around
from data.formats.thoughts import after_thinking, unfinished_thought
from data.formats.tooldocs import read_tool
from data.schema import JsonError, strict_json_loads


class Spelled(NamedTuple):
    """The calls of a reply and the words beside them."""

    calls: list[Any]
    words: str


Offered = Mapping[str, Sequence[str]]    # tool name -> the names of its parameters, in order

_MARK = re.compile(
    r"<[|｜]?/?(?:[\w.]+[:|｜_])?(?:start_|end_)?(?:tool|function)s?[_▁ -]?(?:calls?|use|invoke)[\w▁ :-]*[|｜]?>"
    r"|<function=|<invoke\s+name=|<<function>>|\bfunctools\s*\[|\[TOOL_(?:CALLS?|REQUEST)\]|<\|python_(?:tag|start)\|>"
    r"|<\|action_start\|>|<\|START_ACTION\|>|\bto=functions\.|<\|recipient\|>|✿FUNCTION✿|<｜DSML｜"
    r"|```tool_(?:code|call)|<tool_code>|<use_mcp_tool>|<\|tools_prefix\|>", re.IGNORECASE)
_CONTROL = re.compile(r"<[|｜/]?[^<>\n]{1,60}>|\[/?[A-Z_]{3,}\]|```\w*|✿\w+✿|\bto=|[\n;]")
_PARAMETER = re.compile(r"<(?:\w+:)?(?:invoke|parameter|arg_\w+)\b", re.IGNORECASE)   # arguments as tags
_KEYWORD_CALL = re.compile(r"[A-Za-z_][\w.-]*\(\s*\w+\s*=")
_ENTITY = re.compile(r"&(?:lt|quot|apos|#0*3[49]|#x2[27]);", re.IGNORECASE)
_STRAIGHT = str.maketrans("“”„‟‘’", "\"\"\"\"''")
_CALL_ID = re.compile(r"\[CALL_ID\]\s*[\w-]*")
_VALUE = re.compile(r"\{|\[(?!/?[A-Z_]{3,}\])")
_NO_NAMES = {"", "function", "functions", "json", "commentary", "assistant", "python", "functools", "code"}
_FENCED = re.compile(r"```[\w-]*\s*(?P<inside>.*?)\s*```", re.DOTALL)
_BETWEEN = re.compile(r"(?:[\s,;]|```\w*)*")
_FUNCTION = re.compile(r"<function=\s*[\"']?(?P<name>[^>\"']+?)[\"']?\s*>\s*(?=\{)", re.IGNORECASE)
_ACTION = re.compile(r"^[^\w\n]*Action[^\w\n]*:[\s*`\"']*(?P<name>[^\n]*?)[\s*`\"']*\n"
                     r"\s*[^\w\n]*Action[ _]?Input[^\w\n{\[\"]*:[\s*]*(?:```\w*\s*)?", re.IGNORECASE | re.MULTILINE)
_ACTION_JSON = re.compile(r"^[^\w\n]*Action[^\w\n]*:[\s*]*(?:```\w*\s*)?(?=[\[{])", re.IGNORECASE | re.MULTILINE)
_OBSERVED = re.compile(r"[\s`*]*(?:Observation[\s*]*:?[\s*]*)?", re.IGNORECASE)
_RESULT = re.compile(r"</tool_call>\s*<tool_response\b")
_RIGHT = "gold(?:en)?|correct|expected|target|ground_?truth|reference|ideal|oracle"
_DONE = "called|used|invoked|selected|chosen|picked|needed|required|relevant|executed"
_GOLD = re.compile(rf"(?<![a-z])(?:{_RIGHT}|gt|truth|solution|label|answer|actions?|calls?|code|program)(?![a-z])"
                   rf"|(?<!in)correct", re.IGNORECASE)
_TELLING = re.compile(
    rf"(?:tool|function|api)s?[_ -]?(?:names?[_ -]?)?(?:{_DONE}|expected|sequence|path|chain|usage|calls?|made|trace)"
    rf"|(?<![a-z])(?:{_DONE}|{_RIGHT}|answer|gt)[_ -]?(?:tool|function|api)|^(?:{_DONE}|{_RIGHT}|label|gt)$",
    re.IGNORECASE)
_A_CALL = re.compile(r"(?:tool|function|api)s?[_ -]?(?:calls?|calling|use)|calls?[_ -](?:tool|function|api)s?",
                     re.IGNORECASE)
_MOST_PARTS, _LONGEST_TOLD = 2_000, 20_000      # of a value that no reader looks at
_QUOTED = re.compile(r'"arguments"\s*:\s*\'(?P<inside>.*)\'\s*\}\s*$', re.DOTALL)

_WRAPPERS = ("tool_calls", "toolCalls", "function_calls", "function_call", "functionCall", "tool_call", "calls")
_NAMES = ("name", "function", "tool", "tool_name", "function_name", "api_name", "api", "action", "Action",
          "recipient_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input", "tool_input", "action_input", "Action_Input", "kwargs",
              "params")
_BESIDE = {*_NAMES, *_ARGUMENTS, "id", "type", "index", "call_id", "tool_call_id", "label", "responses", "thought",
           "thoughts"}


def offered(tools: Sequence[Any]) -> dict[str, list[str]]:
    """Tool name -> names of its parameters in order, of tools as a corpus spells them; those that can be read."""
    out = {}
    for tool in tools:
        found = _plain(tool)
        if found is None:
            with suppress(RowError):
                record = read_tool(tool).record
                found = record["name"], list(record["arguments"]["properties"])
        if found is not None:
            out[found[0]] = found[1]
    return out


def _plain(tool: Any) -> tuple[str, list[str]] | None:
    """The name and parameters of a tool whose schema lists them by name; None where more must be read to tell."""
    if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
        tool = tool["function"]
    parameters = tool.get("parameters") if isinstance(tool, dict) else None
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    name = tool.get("name") if isinstance(properties, dict) else None
    return (name, list(properties)) if isinstance(name, str) and name.strip() else None


def spelled_calls(text: str, names: Offered, *, bracketed: bool = False) -> Spelled | None:
    """The calls that the text of a reply spells, thoughts removed; None for an answer in words.

    Args:
        text: what the assistant says.
        names: the tools offered with it (`offered`).
        bracketed: the corpus writes calls as `[name(...)]`, so that such text is one whatever it names (ToolACE).

    Raises:
        RowError: `bad_calls` where calls are broken, `calls_in_text` where they stand in a way that is not read.
    """
    body = text.strip()
    found = _filling(body, names, bracketed)
    if found is not None:
        return found
    mark = _MARK.search(body)
    if mark:
        return _marked(body, mark, names)
    found = _react(body, names)
    if found is None and names and (calls_among_words(body, names) or _escaped(body, names)):
        raise _in_text(body)
    return found


def _escaped(body: str, names: Offered) -> bool:
    """Does a text spell a call once entities of HTML, wide letters, curly quotes and escaped `_` are plain again?"""
    plain = html.unescape(body) if _ENTITY.search(body) else body
    if not plain.isascii():
        plain = unicodedata.normalize("NFKC", plain).translate(_STRAIGHT)
    plain = plain.replace("\\_", "_")
    return plain != body and fault_of(plain, names) is not None


def fault_of(text: str, names: Offered) -> RowError | None:
    """Why a text that a corpus gives as an answer in words is none; None where it is one."""
    said = after_thinking(text)
    if is_nothing(said) or unfinished_thought(said):
        return RowError("empty_answer", f"the answer has neither words nor calls: {text[:120]!r}", stage="calls")
    try:
        if spelled_calls(said, names) is None:
            return None
    except RowError as error:
        return error
    return _in_text(text)


def calls_in(value: Any) -> list[dict[str, Any]] | None:
    """The calls that a JSON value is, whatever its keys are called; None where it has not the shape of calls."""
    if isinstance(value, list):
        parts = [calls_in(part) for part in value]
        return [call for part in parts for call in part] if parts and all(parts) else None  # type: ignore[union-attr]
    if not isinstance(value, dict):
        return None
    inner = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), (dict, list))), value.get("function"))
    if isinstance(inner, (dict, list)):
        return calls_in(inner)
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), "")
    there = [key for key in _ARGUMENTS if key in value]
    given = next((key for key in there if filled(value[key])), there[0] if there else None)
    if not name.strip() or given is None or value.keys() - _BESIDE:
        return None
    arguments = {} if value[given] is None else value[given]
    if isinstance(arguments, str):
        try:
            arguments = strict_json_loads(arguments)
        except JsonError:
            return None
    if not isinstance(arguments, dict) or isinstance(arguments.get("properties"), dict):
        return None
    return [{"name": name, "arguments": arguments}]


def tells_of_calls(key: str, value: Any, names: Offered) -> bool:
    """Does what stands under a key that no reader looks at tell of calls of the tools offered?

    Calls, however deep, also inside texts of JSON; objects that name a tool beside its arguments, or are keyed by it;
    under a key that speaks of calls or of what is right (`tools_used`, `gold`) the names of tools, and calls in words.
    """
    whole = unpacked(value)
    found = calls_in(whole)
    if found and (isinstance(whole, list) or _GOLD.search(key) or any(call["name"] in names for call in found)):
        return True
    stack = [(key, value)]
    for _ in range(_MOST_PARTS):
        if not stack:
            break
        key, part = stack.pop()
        part = unpacked(part)
        if isinstance(part, str):
            if _text_tells(key, part, names):
                return True
        elif isinstance(part, dict):
            if _object_tells(key, part, names):
                return True
            stack.extend((key if _TELLING.search(key) and inner in _NAMES else str(inner), more)
                         for inner, more in part.items())
        elif isinstance(part, list):
            if len(part) == 2 and isinstance(part[0], str) and part[0] in names and isinstance(part[1], dict):
                return True
            stack.extend((key, inner) for inner in part)
    return False


def _text_tells(key: str, text: str, names: Offered) -> bool:
    """Is a text nothing but calls; or, under a key that tells of calls, the names of tools or a call in words?"""
    if len(text) > _LONGEST_TOLD:
        return False
    if _TELLING.search(key) and any(name.strip() in names for name in re.split(r"[,;|]|->|→", text)):
        return True
    if _A_CALL.fullmatch(text.strip()):
        return _GOLD.search(key) is not None
    try:
        found = spelled_calls(text, names)
    except RowError:
        return _GOLD.search(key) is not None
    return found is not None and bool(found.calls) and not found.words


def _object_tells(key: str, part: dict[str, Any], names: Offered) -> bool:
    """Does an object name an offered tool beside its arguments, or is it keyed by one? A tool's document does not."""
    values = list(part.values())
    objects = [value for value in values if isinstance(value, dict) and "properties" not in value
               or isinstance(value, str) and value.lstrip().startswith("{")]
    named = [name for name in names if name in part]
    if "description" not in part and any(
            isinstance(value, str) and re.sub(r"^(?:functions\.|tool-)", "", value) in names for value in values):
        if objects or key in _NAMES or _GOLD.search(key) or any(filled(part.get(given)) for given in _ARGUMENTS):
            return True
    keyed = [name for name in named if isinstance(part[name], dict) and part[name]
             and part[name].keys() <= set(names[name])
             and not all(isinstance(value, dict) and "type" in value for value in part[name].values())]
    return bool(keyed) or bool(_TELLING.search(key)) and any(part[name] for name in named)


def read_functioncall(text: str) -> Any:
    """One call of Glaive: JSON, or an object whose arguments are JSON in single quotes, where a quote may be escaped or
    not. Raises RowError `bad_calls`."""
    try:
        return strict_json_loads(text)
    except JsonError as error:
        if error.code == "duplicate_key":
            raise RowError("duplicate_key", error.detail, stage="calls") from None
    match = _QUOTED.search(text)
    if match:
        inside = match["inside"].replace("\\'", "'")
        call = text[:match.start()] + f'"arguments": {inside.strip() or "{}"}' + "}"
        return json_inside(call, "the call", "calls")
    try:
        return parse_literal(text)
    except LiteralError as error:
        raise RowError("bad_calls", f"a <functioncall> that cannot be read: {error}", stage="calls") from None


def pythonic(text: str, names: Offered) -> list[dict[str, Any]]:
    """The calls of `[name(a=1), ...]`. Raises RowError `bad_calls`."""
    try:
        return [{"name": name, "arguments": arguments} for name, arguments in parse_calls(text, dict(names))]
    except LiteralError as error:
        raise RowError("bad_calls", str(error), stage="calls") from None


def _in_text(text: str, why: str = "") -> RowError:
    detail = f"the reply spells calls in its text{why}: {text[:120]!r}; another --from may read them"
    return RowError("calls_in_text", detail, stage="calls")


def _known(name: str, names: Offered) -> str | None:
    """The name of an offered tool, without a namespace's prefix; any name where nothing was offered."""
    if name in names or not names:
        return name
    bare = re.sub(r"^(?:functions|default_api|tools)\.|\.call$|:\d+$", "", re.sub(r":\d+$", "", name))
    return bare if bare in names else None


def _named(calls: list[dict[str, Any]], names: Offered, text: str) -> list[dict[str, Any]]:
    """The calls under the names that were offered. Raises RowError where one was not."""
    known = [_known(call["name"], names) for call in calls]
    if None in known:
        raise _in_text(text, ", of a tool that is not offered")
    return [{**call, "name": name} for call, name in zip(calls, known, strict=True)]


# ------------------------------------------------------------------------------------------- calls that fill the reply

def _filling(body: str, names: Offered, bracketed: bool) -> Spelled | None:
    """Calls and nothing else: JSON values or pythonic calls, each perhaps in a code fence."""
    fence = _FENCED.fullmatch(body)
    inside = fence["inside"] if fence else body
    if inside[:1] in ("{", "["):
        values = _values(inside)
        if values is not None:
            return _of_values(values, body, names)
    if not looks_like_calls(inside, names):
        return _by_keywords(body, names)
    if bracketed and not fence:
        return Spelled(pythonic(body, names), "")
    try:
        calls = pythonic(inside, names)
    except RowError:
        return None
    return Spelled(_named(calls, names, body), "") if calls else None


def _by_keywords(body: str, names: Offered) -> Spelled | None:
    """`name(key=value, ...)` that fills the reply, of a tool in a namespace or of none that was offered."""
    if not _KEYWORD_CALL.match(body):
        return None
    try:
        calls = pythonic(body, names)
    except RowError:
        return None
    return Spelled(_named(calls, names, body), "")


def _values(text: str) -> list[Any] | None:
    """The JSON values (or literals) that fill a text, one after another; None where other text is among them."""
    out: list[Any] = []
    at = 0
    while at < len(text):
        if text[at] not in "{[":
            return None
        try:
            value, at = value_at(text, at)
        except RowError:
            return None
        out.append(value)
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
    return out


def _of_values(values: list[Any], body: str, names: Offered) -> Spelled | None:
    calls = calls_in(values)
    if calls:
        return Spelled(_named(calls, names, body), "")
    if any(text in names or text.removeprefix("functions.") in names for text in _texts(values)):
        raise _in_text(body)
    if any(isinstance(value, dict) and value and value.keys() <= set(parameters)
           for value in values for parameters in names.values()):
        raise _in_text(body, ", without a name")
    return None


def _texts(value: Any) -> Iterator[str]:
    """Every key and string of a JSON value, without recursion."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend((*item, *item.values()))
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str):
            yield item


# ------------------------------------------------------------------------------------------------- calls behind a mark

def _marked(body: str, mark: re.Match[str], names: Offered) -> Spelled:
    """Calls behind a mark that only calls have."""
    kind = mark.group().lower()
    if mark.group() == "<tool_call>":
        return _tagged(body)
    if kind == "<functioncall>":
        call = body[mark.end():].replace("<|endoftext|>", "").removesuffix("</functioncall>").strip()
        return Spelled([read_functioncall(call)], body[:mark.start()].strip())
    if kind == "<function=":
        found = _functions(body, names)
    else:
        found = _behind_marks(body, mark.start(), names) or _called(body, mark, names)
    if not found:
        raise _in_text(body)
    return found


def _tagged(body: str) -> Spelled:
    """`<tool_call>` blocks of JSON."""
    first = body[body.index("<tool_call>") + len("<tool_call>"):].lstrip().removeprefix("```json").lstrip()
    if first[:1] not in ("{", "["):
        raise _in_text(body)
    result = _RESULT.search(body)
    if result and "<tool_call>" in body[result.end():]:
        raise _in_text(body, ", with a result between them")
    calls = values_between(body, "tool_call")
    if not calls:
        raise RowError("bad_calls", f"nothing between <tool_call> and </tool_call>: {body[:120]!r}", stage="calls")
    return Spelled(calls, words_around(body, "tool_call"))


def _functions(body: str, names: Offered) -> Spelled | None:
    """`<function=name>{...}</function>`; None where one of them holds no JSON object."""
    calls, at = [], 0
    starts = list(_FUNCTION.finditer(body))
    if not starts or len(starts) < len(re.findall("<function=", body, re.IGNORECASE)):
        return None
    for start in starts:
        value, at = value_at(body, start.end())
        calls.append({"name": start["name"].strip(), "arguments": value})
    return Spelled(_named(calls, names, body), " ".join([*_segments(body[:starts[0].start()]), *_segments(body[at:])]))


def _behind_marks(body: str, start: int, names: Offered) -> Spelled | None:
    """Marks, perhaps with a tool's name among them, and JSON, alternating; None where something else is in between."""
    calls: list[dict[str, Any]] = []
    at = start
    while opening := _VALUE.search(body, at):
        header = body[at:opening.start()]
        if _PARAMETER.search(header):
            return None
        said = [part for part in _segments(_CALL_ID.sub("", header)) if part not in _NO_NAMES]
        try:
            value, at = value_at(body, opening.start())
        except RowError:
            return None
        if not said:
            found = calls_in(value)
        elif len(said) == 1 and isinstance(value, dict) and _CONTROL.search(header):
            found = [{"name": said[0], "arguments": value}]
        else:
            found = None
        if not found:
            return None
        calls += found
    left = _MARK.search(body, at)
    if not calls or (left and not re.search("/|end", left.group(), re.IGNORECASE)):
        return None
    around = (*_segments(body[:start]), *_segments(body[at:]))
    return Spelled(_named(calls, names, body), " ".join(part for part in around if part not in _NO_NAMES))


def _called(body: str, mark: re.Match[str], names: Offered) -> Spelled | None:
    """A mark and pythonic calls of offered tools."""
    inside = re.sub(r"(?:\s|<[^<>\n]{1,60}>|```)*$", "", body[mark.end():])
    try:
        return Spelled(_named(pythonic(inside, names), names, body), " ".join(_segments(body[:mark.start()])))
    except RowError:
        return None


def _segments(text: str) -> list[str]:
    """What a text says between its marks."""
    return [part for part in (piece.strip(" \t\r:") for piece in _CONTROL.split(text)) if part]


# --------------------------------------------------------------------------------------------------------------- ReAct

def _react(body: str, names: Offered) -> Spelled | None:
    """`Action: name` with `Action Input: {...}`, or `Action:` with JSON; None where the reply has neither."""
    starts = list(_ACTION.finditer(body))
    if not starts:
        return _action_json(body, names)
    calls = []
    for start, after in zip(starts, [*(start.start() for start in starts[1:]), len(body)], strict=True):
        try:
            value, end = value_at(body, start.end())
        except RowError:
            raise _in_text(body) from None
        name = _known(start["name"].strip(), names)
        if name is None or not isinstance(value, dict) or not _OBSERVED.fullmatch(body, end, after):
            raise _in_text(body)
        calls.append({"name": name, "arguments": value})
    return Spelled(calls, body[:starts[0].start()].strip())


def _action_json(body: str, names: Offered) -> Spelled | None:
    start = _ACTION_JSON.search(body)
    if not start:
        return None
    values = _values(body[start.end():].rstrip("` \n"))
    calls = calls_in(values) if values else None
    if not calls:
        raise _in_text(body)
    return Spelled(_named(calls, names, body), body[:start.start()].strip())
