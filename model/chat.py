"""Conversations as token ids: Llama 3, ChatML (Qwen2.5) and Mistral-v0.3, written out by hand.

Each family turns messages into segments; one encoder turns segments into ids and labels. Control tokens come only from
the segments made here, contents are encoded literally, so nobody forges a turn by spelling `<|eot_id|>`.

A message is {"role", "content"}; content is a string, or pieces ("text", s) | ("tag", s): a tag such as <tool_call>
becomes the tokenizer's added token where it has one. The first message may carry "tools", for the family's own block.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .templates import QWEN_SYSTEM
from .tokenizer import Tokenizer

IGNORE_INDEX = -100
LLAMA_DATE = "26 Jul 2024"                          # the template's own default for 3.1; fixed, so that runs repeat
LLAMA_TOOLS = """Given the following functions, please respond with a JSON for a function call with its proper \
arguments that best answers the given prompt.

Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.\
Do not use variables.

"""
QWEN_TOOLS = ("""

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>""", """
</tools>

For each function call, return a json object with function name and arguments within """)
MISTRAL_BEFORE = {"user": (None, "user", "assistant", "tool"), "assistant": ("user", "tool"),
                  "tool": ("assistant", "tool")}


@dataclass(frozen=True)
class Segment:
    kind: str                                      # "control" (must be a token), "tag" (a token or text), "text"
    text: str
    supervised: bool = False


def render(messages: Sequence[dict], tokenizer: Tokenizer, add_generation_prompt: bool = True, *,
           tools: Sequence[dict] = ()) -> tuple[list[int], str]:
    """The conversation as (ids, text), with exactly one BOS (Qwen2.5: none), ready for the assistant to go on.

    Args:
        add_generation_prompt: end with the header of an assistant turn (Mistral has none).
        tools: for the family's own tool format, {"type": "function", "function": {...}} each; without it those that
            the first message carries. The paper's prompts put theirs into the system message instead. Native calls and
            results are messages too: {"role": "assistant", "tool_calls": [{"id", "function": {"name", "arguments"}}]}
            and {"role": "tool", "content", "tool_call_id"}.

    Raises:
        ValueError: a role or an order of roles that the family does not know, a tokenizer without a chat format, or
            `tools` where the checkpoint's own template has no block for them.
    """
    checked = _checked(messages)
    segments = _conversation(checked, tokenizer, tools or _carried(checked), add_generation_prompt)
    return _encode(segments, tokenizer)[0], _text(segments, tokenizer)


def encode_chat(messages: Sequence[dict], tokenizer: Tokenizer, *,
                tools: Sequence[dict] = ()) -> tuple[list[int], list[int]]:
    """The conversation as (ids, labels): the last assistant turn and its stop token supervised, the rest IGNORE_INDEX.

    `render(messages[:-1], tokenizer)` gives exactly the ids before the first supervised one. Labels are not shifted.
    """
    form, checked = _format(tokenizer), _checked(messages)
    if not checked or checked[-1]["role"] != "assistant":
        raise ValueError("a training conversation must end with an assistant message")
    if form is Mistral:
        Mistral.turns(checked)
    answer = [replace(segment, supervised=True) for segment in form.answer(checked[-1])]
    after = [Segment("text", "\n")] if form is ChatML else []
    asked = _conversation(checked[:-1], tokenizer, tools or _carried(checked), True)
    return _encode(asked + answer + after, tokenizer)


class Llama3:
    """Llama 3.1 and 3.2. Each turn has a header; the first holds two date lines and the system text.

    Contents are stripped of white space at both ends.
    Native tools go into the first user turn. A native call is one JSON object with `parameters`; a result is JSON under
    the role `ipython`.
    """

    @staticmethod
    def conversation(messages: list[dict], tools: Sequence[dict], add_generation_prompt: bool) -> list[Segment]:
        system, rest = _split_system(messages)
        dates = f"Cutting Knowledge Date: December 2023\nToday Date: {LLAMA_DATE}\n\n"
        environment = "Environment: ipython\n" if tools else ""
        segments = [Segment("control", "<|begin_of_text|>"),
                    *Llama3.turn("system", [Segment("text", environment + dates), *_strip(_content(system or {}))])]
        if tools:
            if not rest or rest[0]["role"] != "user":
                raise ValueError("with tools, Llama's first message after the system one must be the user's")
            offered = "".join(_json(tool, indent=4) + "\n\n" for tool in tools)
            segments += Llama3.turn("user", [Segment("text", LLAMA_TOOLS + offered), *_strip(_content(rest[0]))])
            rest = rest[1:]
        for message in rest:
            if message["role"] == "assistant":
                segments += [*Llama3.header("assistant"), *Llama3.answer(message)]
            elif message["role"] == "tool":        # the template writes a result as JSON: text comes out quoted
                segments += Llama3.turn("ipython", [Segment("text", _json(message["content"]))])
            else:
                segments += Llama3.turn(message["role"], _strip(_content(message)))
        return segments + (Llama3.header("assistant") if add_generation_prompt else [])

    @staticmethod
    def header(role: str) -> list[Segment]:
        return [Segment("control", "<|start_header_id|>"), Segment("text", role),
                Segment("control", "<|end_header_id|>"), Segment("text", "\n\n")]

    @staticmethod
    def turn(role: str, content: list[Segment]) -> list[Segment]:
        return [*Llama3.header(role), *content, Segment("control", "<|eot_id|>")]

    @staticmethod
    def answer(message: dict) -> list[Segment]:
        calls = _calls(message)
        if len(calls) > 1:
            raise ValueError(f"Llama's own format has one call in a message, found {len(calls)}")
        content = _strip(_content(message))
        if calls:                                  # text beside a call is dropped, as the template does
            content = [Segment("text", _json({"name": calls[0]["name"], "parameters": calls[0]["arguments"]}))]
        return [*content, Segment("control", "<|eot_id|>")]


class ChatML:
    """Qwen2.5 and others. The template's own system text where none is given; contents as they are; tools in that turn.

    A native call is tagged JSON; results of calls are a user turn.
    """

    @staticmethod
    def conversation(messages: list[dict], tools: Sequence[dict], add_generation_prompt: bool,
                     default_system: str | None = QWEN_SYSTEM) -> list[Segment]:
        system, rest = _split_system(messages)
        if system is None and default_system is not None:
            system = {"content": default_system}
        content = _content(system or {}) + (ChatML.offer(tools) if tools else [])
        segments = ChatML.turn("system", content) if system is not None or tools else []
        results: list[Segment] = []                # of neighbouring tool messages, which share a turn
        for message, following in zip(rest, [*rest[1:], {"role": None}]):
            if message["role"] == "tool":
                results += [Segment("text", ("\n" if results else "") + "<tool_response>\n"), *_content(message),
                            Segment("text", "\n</tool_response>")]
                if following["role"] != "tool":
                    segments, results = segments + ChatML.turn("user", results), []
            elif message["role"] == "assistant":
                segments += [*ChatML.header("assistant"), *ChatML.answer(message), Segment("text", "\n")]
            else:
                segments += ChatML.turn(message["role"], _content(message))
        return segments + (ChatML.header("assistant") if add_generation_prompt else [])

    @staticmethod
    def header(role: str) -> list[Segment]:
        return [Segment("control", "<|im_start|>"), Segment("text", role + "\n")]

    @staticmethod
    def turn(role: str, content: list[Segment]) -> list[Segment]:
        return [*ChatML.header(role), *content, Segment("control", "<|im_end|>"), Segment("text", "\n")]

    @staticmethod
    def offer(tools: Sequence[dict]) -> list[Segment]:
        start, stop = Segment("tag", "<tool_call>"), Segment("tag", "</tool_call>")
        offered = "".join("\n" + _json(tool) for tool in tools)
        return [Segment("text", QWEN_TOOLS[0] + offered + QWEN_TOOLS[1]), start, stop,
                Segment("text", " XML tags:\n"), start,
                Segment("text", '\n{"name": <function-name>, "arguments": <args-json-object>}\n'), stop]

    @staticmethod
    def answer(message: dict) -> list[Segment]:
        segments = [segment for segment in _content(message) if segment.text]
        for call in _calls(message):
            segments += [Segment("text", "\n")] if segments else []
            segments += [Segment("tag", "<tool_call>"), Segment("text", f"\n{_json(call)}\n"),
                         Segment("tag", "</tool_call>")]
        return [*segments, Segment("control", "<|im_end|>")]


class Mistral:
    """Mistral-7B-Instruct-v0.3 as the official library (mistral-common) writes it. The hub's template differs.

    There is no system role: system text and tools go before the last user text, also when an answer follows. The space
    after a control token is the tokenizer's own. Neighbouring user messages are joined.
    """

    @staticmethod
    def conversation(messages: list[dict], tools: Sequence[dict], add_generation_prompt: bool) -> list[Segment]:
        system = _joined([_content(m) for m in messages if m["role"] == "system"])
        turns = Mistral.turns(messages)
        segments = [Segment("control", "<s>")]
        last_user = max((i for i, m in enumerate(turns) if m["role"] == "user"), default=None)
        users: list[list[Segment]] = []            # contents of neighbouring user messages
        for i, message in enumerate(turns):
            if message["role"] == "assistant":
                segments += Mistral.answer(message)
            elif message["role"] == "tool":
                segments += Mistral.result(message)
            else:
                users.append(_content(message))
                if i + 1 < len(turns) and turns[i + 1]["role"] == "user":
                    continue
                if i == last_user:
                    segments += Mistral.offer(tools)
                    users = [system, *users]
                segments += [Segment("control", "[INST]"), *_joined(users), Segment("control", "[/INST]")]
                users = []
        return segments

    @staticmethod
    def turns(messages: list[dict]) -> list[dict]:
        """The messages that are not the system's; ValueError if the format does not have their order."""
        turns = [m for m in messages if m["role"] != "system"]
        for before, role in zip([None, *(m["role"] for m in turns)], (m["role"] for m in turns)):
            if before not in MISTRAL_BEFORE[role]:
                raise ValueError(f"Mistral's format has no {role} message after {before or 'the start'}")
        return turns

    @staticmethod
    def offer(tools: Sequence[dict]) -> list[Segment]:
        if not tools:
            return []
        return [Segment("control", "[AVAILABLE_TOOLS]"), Segment("text", _json(list(tools))),
                Segment("control", "[/AVAILABLE_TOOLS]")]

    @staticmethod
    def result(message: dict) -> list[Segment]:
        try:
            value = json.loads(message["content"], parse_constant=_refuse_constant)
        except (ValueError, TypeError, RecursionError):
            value = message["content"]
        return [Segment("control", "[TOOL_RESULTS]"),
                Segment("text", _json({"content": value, "call_id": message.get("tool_call_id", "")})),
                Segment("control", "[/TOOL_RESULTS]")]

    @staticmethod
    def answer(message: dict) -> list[Segment]:
        calls, content = _calls(message), _content(message)
        if calls and any(segment.text for segment in content):
            raise ValueError("Mistral's format has no text beside tool calls")
        if calls:
            ids = [call.get("id", "") for call in message["tool_calls"]]
            content = [Segment("control", "[TOOL_CALLS]"),
                       Segment("text", _json([{**call, "id": call_id} for call, call_id in zip(calls, ids)]))]
        elif content:
            content[-1] = replace(content[-1], text=content[-1].text.rstrip(" "))
        return [*content, Segment("control", "</s>")]


FORMATS = {"llama3": Llama3, "chatml": ChatML, "mistral": Mistral}


def _conversation(messages: list[dict], tokenizer: Tokenizer, tools: Sequence[dict],
                  add_generation_prompt: bool) -> list[Segment]:
    """The conversation as the tokenizer's format has it; ChatML with the BOS and the system text of its template."""
    form = _format(tokenizer)
    if tools and not tokenizer.native_tools:
        raise ValueError("the checkpoint's chat template has no block for tools; write them into the system message")
    if form is not ChatML:
        return form.conversation(messages, tools, add_generation_prompt)
    bos = [] if tokenizer.bos_id is None else [Segment("control", tokenizer.control_name(tokenizer.bos_id) or "")]
    return bos + ChatML.conversation(messages, tools, add_generation_prompt, tokenizer.default_system)


def _format(tokenizer: Tokenizer) -> type[Llama3] | type[ChatML] | type[Mistral]:
    if tokenizer.family not in FORMATS:
        raise ValueError("no chat format known for this tokenizer: it has none of the control tokens "
                         "<|start_header_id|> (Llama 3), <|im_start|> (ChatML) and [INST] (Mistral)")
    return FORMATS[tokenizer.family]


def _checked(messages: Sequence[dict]) -> list[dict]:
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("system", "user", "assistant", "tool") or not (
                "content" in message or (role == "assistant" and "tool_calls" in message)):
            raise ValueError("a message needs a role (system, user, assistant, tool) and a content; "
                             f"found {str(message)[:200]}")
    return list(messages)


def _carried(messages: list[dict]) -> Sequence[dict]:
    """The tools that the first message carries."""
    return messages[0].get("tools", ()) if messages else ()


def _split_system(messages: list[dict]) -> tuple[dict | None, list[dict]]:
    if messages and messages[0]["role"] == "system":
        return messages[0], messages[1:]
    return None, messages


def _calls(message: dict) -> list[dict]:
    """The native tool calls of an assistant message as {"name", "arguments"}."""
    calls = [call.get("function", call) if isinstance(call, dict) else call for call in message.get("tool_calls") or []]
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) \
                or not isinstance(call.get("arguments"), dict):
            raise ValueError("a tool call needs a name and its arguments as an object, not as a string; "
                             f"found {str(call)[:200]}")
    return [{"name": call["name"], "arguments": call["arguments"]} for call in calls]


def _joined(contents: list[list[Segment]]) -> list[Segment]:
    """Contents that are not empty, with a blank line between."""
    joined: list[Segment] = []
    for content in contents:
        if any(segment.text for segment in content):
            joined += [Segment("text", "\n\n"), *content] if joined else content
    return joined


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _content(message: dict) -> list[Segment]:
    content = message.get("content")
    content = "" if content is None else content
    pieces = [("text", content)] if isinstance(content, str) else content
    if not isinstance(pieces, (list, tuple)):
        raise ValueError(f"a content must be a string or a list of pieces, found {str(content)[:200]}")
    for piece in pieces:
        if not isinstance(piece, (list, tuple)) or len(piece) != 2 or piece[0] not in ("text", "tag") \
                or not isinstance(piece[1], str):
            raise ValueError("a piece of content must be ('text', string) or ('tag', string), found "
                             f"{str(piece)[:200]}")
    return [Segment(kind, text) for kind, text in pieces]


def _strip(content: list[Segment]) -> list[Segment]:
    """Content without white space at its two ends."""
    content = [s for s in content if s.text]
    while content and not content[0].text.strip():
        content = content[1:]
    while content and not content[-1].text.strip():
        content = content[:-1]
    if content:
        content[0] = replace(content[0], text=content[0].text.lstrip())
        content[-1] = replace(content[-1], text=content[-1].text.rstrip())
    return content


def _merged(segments: Sequence[Segment], tokenizer: Tokenizer) -> list[Segment]:
    """Tags without a token become text, and adjoining text of one supervision is joined: the tokenizer may merge there.

    A tag that spells a turn marker is text too.
    """
    merged: list[Segment] = []
    for segment in segments:
        if segment.kind == "tag" and tokenizer.control_id(segment.text) in {None, *tokenizer.special_ids}:
            segment = Segment("text", segment.text, segment.supervised)
        if segment.kind == "text" and not segment.text:
            continue
        last = merged[-1] if merged else None
        if last and last.kind == segment.kind == "text" and last.supervised == segment.supervised:
            merged[-1] = Segment("text", last.text + segment.text, segment.supervised)
        else:
            merged.append(segment)
    return merged


def _encode(segments: Sequence[Segment], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    for segment in _merged(segments, tokenizer):
        if segment.kind == "text":
            new = tokenizer.encode(segment.text)
        else:
            control = tokenizer.control_id(segment.text)
            if control is None:
                raise ValueError(f"the tokenizer has no control token {segment.text!r}, which its chat format needs")
            new = [control]
        ids += new
        labels += new if segment.supervised else [IGNORE_INDEX] * len(new)
    return ids, labels


def _text(segments: Sequence[Segment], tokenizer: Tokenizer) -> str:
    """The rendered text; Mistral's shows the prefix space that the tokenizer puts before each run of text."""
    space = " " if tokenizer.family == "mistral" else ""
    return "".join(space + s.text if s.kind == "text" else s.text for s in _merged(segments, tokenizer))
