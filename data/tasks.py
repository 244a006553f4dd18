"""Examples and tools -> training rows: token ids with the supervised ones marked, one row per prompt and answer.

The tokenizer and `encode_chat` (model.chat.encode_chat) are handed in, so that training, sampling and evaluation share
one encoder and this module imports no model code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from data.augment import Recipe, invocation_examples
from data.prompts import (
    PAPER_PROMPT,
    Content,
    Message,
    adaption_messages,
    calls_answer,
    generation_messages,
    invocation_messages,
    tools_answer,
)
from data.schema import Example, Tool

IGNORE_INDEX = -100
OBJECTIVES = ("adaption", "generation", "invocation", "text")
STAGES = ("adaption", "invocation", "joint", "evolve")
PAPER = Recipe()                    # the candidates as they are
EncodeChat = Callable[[list[Message], Any], tuple[list[int], list[int]]]


@dataclass(frozen=True)
class Row:
    """One training row: `labels` is as long as `ids`, not shifted, and IGNORE_INDEX where no loss is taken."""

    id: str
    objective: str
    ids: list[int]
    labels: list[int]


class RowError(ValueError):
    """A row that cannot be trained on; `reason` is a code to count."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Refused:
    """A row that was left out, and why: nothing is dropped without one of these."""

    id: str
    objective: str
    reason: str
    detail: str


def _row(row_id: str, objective: str, messages: list[Message], answer: Content, tokenizer: Any,
         encode_chat: EncodeChat, max_length: int) -> Row:
    ids, labels = encode_chat([*messages, {"role": "assistant", "content": answer}], tokenizer)
    assert len(ids) == len(labels), f"{row_id}: {len(ids)} ids and {len(labels)} labels"
    if len(ids) > max_length:
        raise RowError("over_max_length", f"{len(ids)} tokens; at most {max_length}")
    if all(label == IGNORE_INDEX for label in labels):
        raise RowError("nothing_supervised", "no token of the answer is trained on")
    return Row(row_id, objective, ids, labels)


def adaption_row(tool: Tool, tokenizer: Any, encode_chat: EncodeChat, max_length: int, row_id: str = "") -> Row:
    """Equation 1: the tool's description asks for its definition. RowError if there is none or the row is too long."""
    if not tool.description.strip():
        raise RowError("missing_description", f"tool {tool.name!r} has no description to ask with")
    return _row(row_id or tool.name, "adaption", adaption_messages(tool.description), tools_answer([tool]),
                tokenizer, encode_chat, max_length)


def made_tools(example: Example) -> list[Tool]:
    """The tools that the query asked for: the candidates without the distractors that a round of evolution mixed in."""
    distractors = (example.provenance or {}).get("distractors", ())
    return [tool for tool in example.tools if tool.name not in distractors]


def generation_row(example: Example, tokenizer: Any, encode_chat: EncodeChat, max_length: int,
                   only_called: bool = False) -> Row:
    """Equation 3: the query asks for its candidate tools; with `only_called` for those that its answer calls.

    RowError where there is no such pair to learn from.
    """
    tools = made_tools(example)
    if not tools:
        raise RowError("no_tools", "the example has no candidate tools")
    if not example.calls:
        raise RowError("no_call", "no candidate tool serves this query, so they are not the tools to make for it")
    if only_called:
        called = {call.name for call in example.calls}
        tools = [tool for tool in tools if tool.name in called] or tools
    return _row(f"{example.id}/generation", "generation", generation_messages(example.query), tools_answer(tools),
                tokenizer, encode_chat, max_length)


def invocation_row(example: Example, tokenizer: Any, encode_chat: EncodeChat, max_length: int,
                   prompt: str = PAPER_PROMPT) -> Row:
    """Equation 2: query and candidate tools ask for the calls. RowError if the row is too long."""
    return _row(f"{example.id}/invocation", "invocation", invocation_messages(example.query, example.tools, prompt),
                calls_answer(example.calls), tokenizer, encode_chat, max_length)


def rows_for_stage(stage: str, data: Sequence[Tool] | Sequence[Example], tokenizer: Any, encode_chat: EncodeChat,
                   max_length: int, only_called: bool = False, recipe: Recipe = PAPER,
                   prompt: str = PAPER_PROMPT) -> tuple[list[Row], list[Refused]]:
    """All rows of a stage in the order of the data, and the ones left out with their reasons.

    `adaption` takes tools; `invocation` examples; `joint` and `evolve` examples, a generation and an invocation row
    each. `only_called`: see `generation_row`. `recipe` changes what invocation rows offer, and may add some; `prompt`
    is the form that they ask in, one of PROMPTS.
    """
    if stage not in STAGES:
        raise ValueError(f"stage {stage!r} has no rows of tools or examples; expected one of {', '.join(STAGES)}")
    rows: list[Row] = []
    refused: list[Refused] = []

    def add(objective: str, item_id: str, build: Callable[..., Row], item: Any, **extra: Any) -> None:
        try:
            rows.append(build(item, tokenizer, encode_chat, max_length, **extra))
        except RowError as err:
            refused.append(Refused(item_id, objective, err.reason, err.detail))

    if stage == "adaption":
        for index, tool in enumerate(data):
            add("adaption", tool.name, adaption_row, tool, row_id=f"{tool.name}#{index}")
        return rows, refused
    for example, offered in zip(data, invocation_examples(data, recipe), strict=True):
        if stage != "invocation":
            add("generation", example.id, generation_row, example, only_called=only_called)
        for version in offered:
            add("invocation", version.id, invocation_row, version, prompt=prompt)
    return rows, refused
