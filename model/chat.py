"""Conversations as token ids: Llama 3, ChatML (Qwen2.5) and Mistral-v0.3, written out by hand.

Each family turns messages into segments; one encoder turns segments into ids and labels. Control tokens come only from
the segments made here, contents are encoded literally, so nobody forges a turn by spelling `<|eot_id|>`.

A message is {"role", "content"}; content is a string, or pieces ("text", s) | ("tag", s): a tag such as <tool_call>
becomes the tokenizer's added token where it has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .tokenizer import Tokenizer

IGNORE_INDEX = -100
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
LLAMA_DATE = "26 Jul 2024"                          # the template's own default for 3.1; fixed, so that runs repeat


@dataclass(frozen=True)
class Segment:
    kind: str                                      # "control" (must be a token), "tag" (a token or text), "text"
    text: str
    supervised: bool = False


def render(messages: Sequence[dict], tokenizer: Tokenizer, add_generation_prompt: bool = True) -> tuple[list[int], str]:
    """The conversation as (ids, text), exactly one BOS, ready to be continued by the assistant if asked for.

    Raises:
        ValueError: a role or an order of roles that the family does not know, or a tokenizer without a chat format.
    """
    segments = _segments(messages, tokenizer, add_generation_prompt)
    ids, _ = _encode(segments, tokenizer)
    return ids, _text(segments, tokenizer)


def encode_chat(messages: Sequence[dict], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The conversation as (ids, labels): the last assistant turn and its stop token supervised, the rest -100.

    `render(messages[:-1], tokenizer)` gives exactly the ids before the first supervised one.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("a training conversation must end with an assistant message")
    segments = _segments(messages[:-1], tokenizer, True) + _answer(messages[-1], tokenizer)
    return _encode(segments, tokenizer)


def _segments(messages: Sequence[dict], tokenizer: Tokenizer, add_generation_prompt: bool) -> list[Segment]:
    families = {"llama3": _llama3, "chatml": _chatml, "mistral": _mistral}
    if tokenizer.family not in families:
        raise ValueError(f"no chat format known for this tokenizer; it needs one of the control tokens of {', '.join(families)}")
    for message in messages:
        if message.get("role") not in ("system", "user", "assistant") or "content" not in message:
            raise ValueError(f"a message needs a role (system, user, assistant) and a content, found {str(message)[:200]}")
    return families[tokenizer.family](messages, add_generation_prompt)


def _answer(message: dict, tokenizer: Tokenizer) -> list[Segment]:
    """The supervised end of a training conversation, after the generation prompt."""
    stop = {"llama3": "<|eot_id|>", "chatml": "<|im_end|>", "mistral": "</s>"}[tokenizer.family]
    content = _strip(_content(message)) if tokenizer.family == "llama3" else _content(message)
    answer = [Segment(s.kind, s.text, True) for s in content] + [Segment("control", stop, True)]
    return answer + [Segment("text", "\n")] if tokenizer.family == "chatml" else answer


def _llama3(messages: Sequence[dict], add_generation_prompt: bool) -> list[Segment]:
    """Every block starts with a header; the first holds two date lines and the system text; contents are stripped."""
    system = messages[0] if messages and messages[0]["role"] == "system" else {"content": ""}
    rest = messages[1:] if messages and messages[0]["role"] == "system" else messages
    dates = f"Cutting Knowledge Date: December 2023\nToday Date: {LLAMA_DATE}\n\n"
    segments = [Segment("control", "<|begin_of_text|>"), *_llama3_header("system"), Segment("text", dates),
                *_strip(_content(system)), Segment("control", "<|eot_id|>")]
    for message in rest:
        segments += [*_llama3_header(message["role"]), *_strip(_content(message)), Segment("control", "<|eot_id|>")]
    return segments + (_llama3_header("assistant") if add_generation_prompt else [])


def _llama3_header(role: str) -> list[Segment]:
    return [Segment("control", "<|start_header_id|>"), Segment("text", role), Segment("control", "<|end_header_id|>"),
            Segment("text", "\n\n")]


def _chatml(messages: Sequence[dict], add_generation_prompt: bool) -> list[Segment]:
    """No BOS; Qwen's own system text where none is given; contents as they are."""
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": QWEN_SYSTEM}, *messages]
    segments = []
    for message in messages:
        segments += [Segment("control", "<|im_start|>"), Segment("text", message["role"] + "\n"), *_content(message),
                     Segment("control", "<|im_end|>"), Segment("text", "\n")]
    prompt = [Segment("control", "<|im_start|>"), Segment("text", "assistant\n")]
    return segments + (prompt if add_generation_prompt else [])


def _mistral(messages: Sequence[dict], add_generation_prompt: bool) -> list[Segment]:
    """No system role: the system text goes before the last user text, also when an answer follows (mistral-common)."""
    system = [s for m in messages if m["role"] == "system" for s in _content(m)]
    turns = [m for m in messages if m["role"] != "system"]
    last_user = max((i for i, m in enumerate(turns) if m["role"] == "user"), default=None)
    segments = [Segment("control", "<s>")]
    for i, message in enumerate(turns):
        if message["role"] == "assistant":
            segments += [*_content(message), Segment("control", "</s>")]
            continue
        before = [*system, Segment("text", "\n\n")] if i == last_user and any(s.text for s in system) else []
        segments += [Segment("control", "[INST]"), *before, *_content(message), Segment("control", "[/INST]")]
    return segments


def _content(message: dict) -> list[Segment]:
    content = message["content"]
    pieces = [("text", content)] if isinstance(content, str) else content
    for kind, text in pieces:
        if kind not in ("text", "tag") or not isinstance(text, str):
            raise ValueError(f"a piece of content must be ('text', string) or ('tag', string), found {(kind, text)!r}")
    return [Segment(kind, text) for kind, text in pieces]


def _strip(content: list[Segment]) -> list[Segment]:
    """Content without white space at its two ends."""
    content = [s for s in content if s.text]
    while content and not content[0].text.strip():
        content = content[1:]
    while content and not content[-1].text.strip():
        content = content[:-1]
    if content:
        content[0] = Segment(content[0].kind, content[0].text.lstrip())
        content[-1] = Segment(content[-1].kind, content[-1].text.rstrip())
    return content


def _merged(segments: Sequence[Segment], tokenizer: Tokenizer) -> list[Segment]:
    """Tags without a token become text; adjoining text of one supervision is joined, as the tokenizer may merge there."""
    merged: list[Segment] = []
    for segment in segments:
        if segment.kind == "tag" and tokenizer.control_id(segment.text) is None:
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
