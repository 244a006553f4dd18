"""The paper's three prompts, figures 5, 6 and 7, and the text of the answers.

The wording is the figures', with the JSON that the paper's PDF damaged made whole again. A message is {"role",
"content"}; content is plain text or a list of pieces: ("text", s) is always encoded literally, ("tag", s) is one of the
template's own tags, which the chat renderer writes as the tokenizer's added token where it has one. Text from users
and tools only ever enters as a "text" piece, so it cannot open or close a tag.

Each prompt has one place for each thing that is put into it; tools stand compactly, one per line.

The calling prompt has a second form: the tools as the model's own chat template shows them. There the first message
carries them as "tools", and the chat renderer writes the template's block.
"""

from collections.abc import Sequence
from typing import Any

from data.schema import Tool, ToolCall, dump_json

Piece = tuple[str, str]                 # ("text" | "tag", the characters)
Content = str | list[Piece]
Message = dict[str, Any]                # "role" and "content"; the first one may carry "tools", for the template
# How a model is asked to call tools: figure 5, or its chat template's own block.
PROMPTS = PAPER_PROMPT, NATIVE_PROMPT = "paper", "native"

TOOLS_OPEN, TOOLS_CLOSE = ("tag", "<tools>"), ("tag", "</tools>")
CALL_OPEN, CALL_CLOSE = ("tag", "<tool_call>"), ("tag", "</tool_call>")
NO_CALL_TEXT = "None of the given tools can be used to answer this query."     # the one text that means "no call"

_TOOL_FORM = """{
  "name": "xxx",
  "description": "xxx",
  "arguments": {
    "type": "dict",
    "properties": {
      "arg1": {
        "type": "xxx",
        "description": "xxx"
      },
      "arg2": {...}
    },
    "required": ["arg1", ...]
  },
  "results": {
    "type": "dict",
    "properties": {
      "result_1": {"type": "xxx", "description": "xxx"}, "result_2": {...}
    }
  }
}"""

_MAKER_INTRO = """You are a helpful assistant. You are a helpful assistant. You are skilled in generating tool \
signatures. You can generate high-quality tool signature according to the instruction.

Output the tool signature within """

_MAKER_SYSTEM: list[Piece] = [                                              # figures 6 and 7: the same words
    ("text", _MAKER_INTRO), TOOLS_OPEN, TOOLS_CLOSE, ("text", " XML tags:\n"),
    TOOLS_OPEN, ("text", f"\n{_TOOL_FORM}\n"), TOOLS_CLOSE,
]

_CALLER_INTRO = """You are a helpful assistant. You can call various user-defined tools to solve users' problems.
# Tools You may call one or more functions to assist with the user query.
You are provided with function signatures within """
_CALLER_FORM = "\nFor each function call, return a json object with function name and arguments within "


def _record(value: object) -> str:
    """JSON as a prompt or an answer holds it. U+2581 is escaped: sentencepiece's ids cannot tell it from a space."""
    return dump_json(value).replace("\u2581", "\\u2581")


def tools_text(tools: Sequence[Tool]) -> str:
    """The tools as they stand between the tags: one compact JSON object per line."""
    return "\n".join(_record(tool.to_dict()) for tool in tools)


def invocation_messages(query: str, tools: Sequence[Tool], prompt: str = PAPER_PROMPT) -> list[Message]:
    """Figure 5: (q, T) -> A. System and user message; by the native prompt the user's alone, with the tools on it."""
    if prompt == NATIVE_PROMPT:
        return [{"role": "user", "content": query, "tools": [tool.to_function() for tool in tools]}]
    system: list[Piece] = [
        ("text", _CALLER_INTRO), TOOLS_OPEN, TOOLS_CLOSE, ("text", " XML tags:\n"),
        TOOLS_OPEN, ("text", f"\n{tools_text(tools)}\n"), TOOLS_CLOSE,
        ("text", _CALLER_FORM), CALL_OPEN, CALL_CLOSE, ("text", " XML tags:\n"), CALL_OPEN,
        ("text", '\n{"name": <function-name>, "arguments": <args-json-object>}\n'), CALL_CLOSE,
    ]
    return [{"role": "system", "content": system}, {"role": "user", "content": query}]


def adaption_messages(description: str) -> list[Message]:
    """Figure 6: x_t -> t. System and user message."""
    return [{"role": "system", "content": list(_MAKER_SYSTEM)},
            {"role": "user", "content": f"Generate a tool definition according to the description: {description}"}]


def generation_messages(query: str) -> list[Message]:
    """Figure 7: x_q -> T. System and user message."""
    return [{"role": "system", "content": list(_MAKER_SYSTEM)},
            {"role": "user", "content": f"Generate tools to solve the query: {query}"}]


def tools_answer(tools: Sequence[Tool]) -> list[Piece]:
    """The answer of figures 6 and 7: every tool inside one pair of tags."""
    return [TOOLS_OPEN, ("text", f"\n{tools_text(tools)}\n"), TOOLS_CLOSE]


def calls_answer(calls: Sequence[ToolCall]) -> list[Piece]:
    """The answer of figure 5: one tagged block per call, or the fixed sentence for no call."""
    if not calls:
        return [("text", NO_CALL_TEXT)]
    pieces: list[Piece] = []
    for call in calls:
        if pieces:
            pieces.append(("text", "\n"))
        pieces += [CALL_OPEN, ("text", f"\n{_record(call.to_dict())}\n"), CALL_CLOSE]
    return pieces


def pieces_text(content: Content) -> str:
    """The characters of a content, tags included, as a reader sees them."""
    return content if isinstance(content, str) else "".join(text for _, text in content)
