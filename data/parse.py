"""What the model wrote -> tools or calls, or the reason why not. Never raises, whatever the text.

JSON is read from just after an opening tag and must end just before the closing one, so a string value that spells
</tool_call> does not cut a call short. An answer is taken whole or not at all: one broken block rejects it. Text
outside the blocks is allowed; without a block, only the fixed sentence NO_CALL_TEXT means "no call".
"""

from dataclasses import dataclass
from typing import Any

from data.prompts import NO_CALL_TEXT
from data.schema import WRITTEN_DEPTH, JsonError, ToolCall, decode_json_at

MAX_ANSWER_CHARS = 32_768       # far over any answer that fits a training row
MAX_BLOCK_VALUES = 1_024        # JSON values inside one tag; the rule checker takes fewer tools


@dataclass(frozen=True)
class Reason:
    """Why something is rejected: a code to count and a sentence to read."""

    code: str
    detail: str = ""


def parse_calls(text: str) -> list[ToolCall] | Reason:
    """The calls of an answer, in order; [] for the fixed no-call sentence."""
    if len(text) > MAX_ANSWER_CHARS:
        return Reason("answer_too_long", f"{len(text)} characters; at most {MAX_ANSWER_CHARS}")
    if text.strip() == NO_CALL_TEXT:
        return []
    if "<tool_call>" not in text:
        if "<tools>" in text or ('"properties"' in text and '"description"' in text):
            return Reason("wrote_tools_instead", "a tool definition instead of a call")
        return Reason("no_call_text", "text without a call that is not the fixed no-call sentence")
    blocks = _blocks(text, "<tool_call>", "</tool_call>", one_value=True)
    if isinstance(blocks, Reason):
        return blocks
    calls = []
    for (value,) in blocks:
        call = _call_of(value)
        if isinstance(call, Reason):
            return call
        calls.append(call)
    return calls


def parse_tools(text: str) -> list[dict[str, Any]] | Reason:
    """The tool objects of one <tools> block, as written: data/rules.py says whether they are good ones."""
    if len(text) > MAX_ANSWER_CHARS:
        return Reason("answer_too_long", f"{len(text)} characters; at most {MAX_ANSWER_CHARS}")
    if "<tools>" not in text:
        wrote_calls = "<tool_call>" in text
        return Reason("wrote_calls_instead" if wrote_calls else "no_tools_block", "no <tools> tag")
    blocks = _blocks(text, "<tools>", "</tools>", one_value=False)
    if isinstance(blocks, Reason):
        return blocks
    if len(blocks) > 1:
        return Reason("several_tools_blocks", f"{len(blocks)} <tools> blocks; expected one")
    if not blocks[0]:
        return Reason("no_tools", "an empty <tools> block")
    for value in blocks[0]:
        if not isinstance(value, dict):
            return Reason("not_an_object", f"a tool is {type(value).__name__}; expected a JSON object")
    return blocks[0]


def _blocks(text: str, opening: str, closing: str, *, one_value: bool) -> list[list[Any]] | Reason:
    """The JSON values of every tagged block; a block must hold JSON and nothing else."""
    blocks: list[list[Any]] = []
    position = text.find(opening)
    while position >= 0:
        position = _skip_space(text, position + len(opening))
        values: list[Any] = []
        while not text.startswith(closing, position):
            if position == len(text):
                return Reason("unclosed_tag", f"{opening} without {closing}")
            if one_value and values:
                return Reason("not_json", f"text after the JSON object inside {opening}")
            if len(values) == MAX_BLOCK_VALUES:
                return Reason("too_large", f"more than {MAX_BLOCK_VALUES} JSON values inside {opening}")
            try:
                value, position = decode_json_at(text, position, WRITTEN_DEPTH)
            except JsonError as err:
                cut = err.code == "not_json" and closing not in text[position:]
                return Reason("unclosed_tag" if cut else err.code, err.detail)
            values.append(value)
            position = _skip_space(text, position)
        if one_value and not values:
            return Reason("not_json", f"nothing between {opening} and {closing}")
        blocks.append(values)
        position = text.find(opening, position + len(closing))
    return blocks


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\n\r":
        position += 1
    return position


def _call_of(value: Any) -> ToolCall | Reason:
    """A ToolCall from one block's value; exactly the keys `name` and `arguments`, nothing mended."""
    if not isinstance(value, dict):
        return Reason("not_an_object", f"a call is {type(value).__name__}; expected a JSON object")
    if "description" in value and ("arguments" in value or "parameters" in value):
        return Reason("wrote_tools_instead", "a tool definition inside a call")
    name, arguments = value.get("name"), value.get("arguments")
    if not isinstance(name, str) or not name:
        return Reason("missing_name", "the call has no name")
    if "arguments" not in value:
        return Reason("missing_arguments", f"the call of {name[:80]!r} has no `arguments`")
    if not isinstance(arguments, dict):
        return Reason("arguments_not_object", f"`arguments` of {name[:80]!r} is {type(arguments).__name__}")
    extra = sorted(set(value) - {"name", "arguments"})
    if extra:
        return Reason("unknown_key", f"the call of {name[:80]!r} has the key {extra[0][:80]!r}")
    return ToolCall(name, arguments)
