"""What a reader makes of one row: items, each of which becomes one line of an output file.

A reader is a generator `read(row, context)`; it only finds the parts. Tools and calls are handed on as the corpus
spells them and normalised in one place (tooldocs.py, `read_call` here), so that a reader stays a page long.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from data.formats.strict import strict_loads
from data.schema import JsonError


class RowError(ValueError):
    """A row, or a part of it, that cannot be converted: a reason code to count, and what was found."""

    def __init__(self, reason: str, detail: str, stage: str = "read") -> None:
        super().__init__(detail)
        self.reason, self.detail, self.stage = reason, detail, stage


@dataclass(frozen=True)
class Sample:
    """A query with its candidate tools and calls ([] = the right answer is no call). `part` tells the samples of one
    row apart; `notes` name what the conversion could not keep."""

    query: str
    tools: list[Any]
    calls: list[Any]
    part: str = ""
    notes: tuple[str, ...] = ()
    group: str | None = None            # that all its tools belong to


@dataclass(frozen=True)
class Document:
    """One tool document, what to say about its origin beyond the row number, and what is known of the group that it
    belongs to (a server, a family of APIs): names and descriptions, which a search reads with the tool."""

    tool: Any
    part: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True)
class Ask:
    """A user's query without an answer, and the tools that stood beside it, if any."""

    query: str
    tools: list[Any] = field(default_factory=list)
    part: str = ""
    notes: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True)
class Refused:
    """A part of a row that is not converted while the rest of the row is."""

    error: RowError
    part: str = ""


@dataclass(frozen=True)
class LeftOut:
    """Something of the row that has no place in the output; counted in the manifest by `what`, where it is there."""

    what: str
    count: int = 1


Item = Sample | Document | Ask | Refused | LeftOut


def unanswered(why: str, query: str, tools: list[Any], part: str = "", notes: tuple[str, ...] = (),
               group: str | None = None) -> Iterator[Item]:
    """A query whose answer is left out: `why` is counted, and noted beside it."""
    yield LeftOut(why)
    yield Ask(query, tools, part, (*notes, why), group)


def refused(fault: RowError, query: str, tools: list[Any], part: str = "",
            notes: tuple[str, ...] = ()) -> Iterator[Item]:
    """A query whose answer cannot be used: why, and the query by itself."""
    yield Refused(fault, part)
    yield Ask(query, tools, part, (*notes, "answer_rejected"))


def noted(**notes: bool) -> tuple[str, ...]:
    """The names of those notes that are true, in order."""
    return tuple(name for name, true in notes.items() if true)


@dataclass(frozen=True)
class Context:
    """What a reader may know beyond the row: companion data from `--answers` and `--tools`, or beside the file."""

    turns: str = "first"
    answers: dict[str, Any] | None = None
    tools: dict[str, Any] | None = None
    faults: tuple[str, ...] = ()    # lines of those files that could not be used


@dataclass(frozen=True)
class Format:
    """One corpus format. `looks_like` is asked with a row by `--from auto`; `rows` splits a whole document into rows;
    `is_line` tells a record that is one line of a row which fills the whole file (API-Bank's raw dialogues)."""

    name: str
    about: str
    read: Callable[[Any, Context], Iterator[Item]]
    looks_like: Callable[[Any], bool]
    rows: Callable[[Any], Iterable[Any] | None] = lambda document: None
    is_line: Callable[[Any], bool] = lambda record: False


def need_text(row: Any, key: str) -> str:
    """The non-empty text under `key`. Raises RowError `no_query`."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RowError("no_query", f"`{key}` is {value!r:.80}, expected a text", stage="query")
    return value


def need_list(value: Any, what: str, stage: str = "tools") -> list[Any]:
    """A list, or one inside a JSON string (xLAM, glaive). None and "" mean an empty one. Raises RowError."""
    if isinstance(value, str):
        value = json_inside(value, what, stage) if value.strip() else []
    if value is None:
        return []
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise RowError("bad_" + stage, f"{what} is {type(value).__name__}, expected a list", stage=stage)
    return value


def tools_in(value: Any, what: str = "`tools`") -> list[Any]:
    """The tools under a key, those that Gemini declares in one object one by one. Raises RowError."""
    out: list[Any] = []
    for tool in need_list(value, what):
        keys = [key for key in _DECLARATIONS if isinstance(tool, dict) and isinstance(tool.get(key), list)]
        out += tool[keys[0]] if keys else [tool]
    return out


def group_of(row: Any, *keys: str) -> str | None:
    """The texts under these keys, a line each, None where there is none: what a `Document` says of its group."""
    texts = [row.get(key) for key in keys]
    return "\n".join(text.strip() for text in texts if isinstance(text, str) and text.strip()) or None


def json_inside(text: str, what: str, stage: str) -> Any:
    """Parse JSON that stands inside a string. Raises RowError `duplicate_key` or `bad_json_string`."""
    try:
        return strict_loads(text)
    except JsonError as error:
        reason = error.code if error.code == "duplicate_key" else "bad_json_string"
        raise RowError(reason, f"{what} is a string that is not JSON: {error.detail}", stage=stage) from None


_NOTHING = ("", "none", "null", "nan", "n/a", "na", "nil", "undefined", "empty", "no response", "no content",
            "no output", "no answer", "object object", "br", "nbsp", "eos", "pad")  # what an empty field is written as
_LONGEST_NOTHING = 40
_SILENT = ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sk", "Zs", "Zl", "Zp", "Cc", "Cf")   # character categories
_DECLARATIONS = ("functionDeclarations", "function_declarations")
_CALL_NAMES = ("name", "api", "api_name", "Action", "tool", "function", "tool_name", "function_name")
_CALL_ARGUMENTS = ("arguments", "parameters", "Action_Input", "args", "input")
_OF_SERVICES = ("extra_content", "caller", "cache_control", "metadata", "provider_metadata", "providerMetadata",
                "result", "output", "response")
_CALL_BESIDE = {*_CALL_NAMES, *_CALL_ARGUMENTS, "id", "type", "index", "call_id", "tool_call_id", "label", "responses"}


def read_call(raw: Any) -> dict[str, Any]:
    """One call, however it is spelled -> {"name", "arguments"}; JSON strings are parsed. Raises RowError."""
    if isinstance(raw, dict) and isinstance(raw.get("function"), dict):
        beside = {key: raw[key] for key in _CALL_ARGUMENTS if filled(raw.get(key))}
        raw = beside | {key: value for key, value in raw["function"].items() if filled(value) or key not in beside}
    if not isinstance(raw, dict):
        raise RowError("bad_call", f"a call must be an object, found {type(raw).__name__}", stage="calls")
    name = _name_of(raw)
    if not isinstance(name, str) or not name.strip():
        raise RowError("call_without_name", f"the call has the keys {sorted(raw)[:8]}", stage="calls")
    given = _arguments_of(raw, name)
    arguments = {} if given is None else given
    if arguments == {}:
        unread = sorted(key for key in raw.keys() - _CALL_BESIDE if filled(raw[key])
                        and (given is None or _may_be_arguments(key, raw[key])))
        if unread:
            raise RowError("bad_call", f"the call of {name!r} has no `arguments`, but {unread[:8]}; whether they hold "
                                       "its arguments cannot be told", stage="calls")
    if not isinstance(arguments, dict):
        raise RowError("arguments_not_object", f"the arguments of {name!r} are {type(arguments).__name__}",
                       stage="calls")
    return {"name": name, "arguments": arguments}


def _name_of(raw: dict[str, Any]) -> Any:
    """The name of the tool that a call is of. Raises RowError `bad_call` where two keys tell two."""
    told = [raw[key] for key in _CALL_NAMES if filled(raw.get(key))]
    if any(isinstance(other, str) and other != told[0] for other in told[1:]):
        raise RowError("bad_call", f"a call that names {told[:4]!r:.160}; which of them is the tool cannot be told",
                       stage="calls")
    return told[0] if told else None


def _may_be_arguments(key: str, value: Any) -> bool:
    """May what stands beside empty arguments be what they should hold? Objects may, but not those of a service."""
    return key not in _OF_SERVICES and (isinstance(value, dict) or isinstance(value, str)
                                        and value.lstrip().startswith("{"))


def filled(value: Any) -> bool:
    """Does a field hold more than what stands for nothing?"""
    return value is not None and value != {} and value != [] and not (isinstance(value, str) and not value.strip())


def is_nothing(value: Any) -> bool:
    """Is a field empty: null, a text that a table or a log writes for it, or one of marks alone? `[]` says nothing, but
    is no empty field."""
    if not isinstance(value, str):
        return value is None
    text = value.strip()
    bare = _stripped(text).lower() if len(text) <= _LONGEST_NOTHING else text
    return bare in _NOTHING and not (bare == "" and text[:1] in ("[", "{"))


def _stripped(text: str) -> str:
    """The text without the punctuation, spaces and invisible characters around it."""
    spoken = [at for at, letter in enumerate(text) if unicodedata.category(letter) not in _SILENT]
    return text[spoken[0]:spoken[-1] + 1] if spoken else ""


def _arguments_of(raw: dict[str, Any], name: str) -> Any:
    """The arguments of a call, out of a text that holds JSON: under the first key that holds any, else under the first
    that is there. Raises RowError `bad_call` where two keys hold different ones."""
    told = [key for key in _CALL_ARGUMENTS if filled(raw.get(key))]
    if not told:
        there = next((raw[key] for key in _CALL_ARGUMENTS if raw.get(key) is not None), None)
        return {} if isinstance(there, str) else there
    found = [_parsed(raw[key], name, strictly=key == told[0]) for key in told]
    if isinstance(found[0], dict) and any(isinstance(other, dict) and other != found[0] for other in found[1:]):
        raise RowError("bad_call", f"the call of {name!r} has different arguments under {told}; which ones are meant "
                                   "cannot be told", stage="calls")
    return found[0]


def _parsed(value: Any, name: str, *, strictly: bool) -> Any:
    if not isinstance(value, str) or not strictly and value.lstrip()[:1] != "{":
        return value
    return json_inside(value, f"the arguments of {name!r}", "calls")
