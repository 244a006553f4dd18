"""Recipes of small tool-calling models, beside the paper: other candidates, masked names, rows where nothing fits.

Each is off by default, because the paper has none of them. They change what an invocation row offers (Eq. 2), never
what a query asks to make (Eq. 3). What an example becomes depends on its id and the seed alone, not on its place.

Sources: irrelevance rows, masked names and shuffled tools are those of Hammer (arXiv 2410.04587).
"""

import dataclasses
import hashlib
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.schema import Example, Tool, ToolCall

TOOL_LETTERS = (5, 15)              # shortest and longest masked name of a tool (Hammer)
ARGUMENT_LETTERS = (4, 10)          # and of an argument
RECIPE = ("irrelevance", "mask_names", "candidates", "shuffle_tools")       # the fields of a Recipe, its seed apart


@dataclass(frozen=True)
class Recipe:
    """What is done to the candidates of labelled examples; the defaults do nothing, as in the paper.

    Shares are of the examples, from 0 to 1. `candidates`: the number of tools that each example is filled up to.
    """

    irrelevance: float = 0.0
    mask_names: float = 0.0
    shuffle_tools: bool = False
    candidates: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("irrelevance", "mask_names"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected a share of 0 to 1")
        if self.candidates < 0:
            raise ValueError(f"--candidates is {self.candidates}; expected 0 or more tools")

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return self != Recipe(seed=self.seed)


def invocation_examples(examples: Sequence[Example], recipe: Recipe) -> list[list[Example]]:
    """What each example's invocation rows are made of: itself, changed by the recipe, and perhaps one without calls.

    Tools are drawn from those of all `examples`. An example without calls gets no second row.
    """
    if not recipe.active:
        return [[example] for example in examples]
    pool = tool_pool(examples)
    found = []
    for example in examples:
        versions = [example]
        if example.calls and _drawn("irrelevance", example, recipe, recipe.irrelevance):
            versions.append(without_called(example, pool, _dice("other tools", example, recipe)))
        found.append([_dressed(version, pool, recipe) for version in versions])
    return found


def tool_pool(examples: Sequence[Example]) -> list[Tool]:
    """Every tool of the examples once by name, in the order of the names."""
    named: dict[str, Tool] = {}
    for example in examples:
        for tool in example.tools:
            named.setdefault(tool.name, tool)
    return [named[name] for name in sorted(named)]


def without_called(example: Example, pool: Sequence[Tool], dice: random.Random) -> Example:
    """The example with its called tools taken away, and so with no call: none of the rest serves the query.

    Where no candidate is left, one of the pool stands in: a tool with other words in its name than any called one.
    """
    called = {call.name for call in example.calls}
    rest = tuple(tool for tool in example.tools if tool.name not in called)
    return dataclasses.replace(example, id=f"{example.id}/irrelevant", calls=(),
                               tools=rest or fillers(example, pool, 1, dice))


def more_candidates(example: Example, pool: Sequence[Tool], count: int, dice: random.Random) -> Example:
    """The example with tools of the pool behind its own, `count` together where the pool has enough."""
    missing = count - len(example.tools)
    if missing <= 0:
        return example
    return dataclasses.replace(example, tools=(*example.tools, *fillers(example, pool, missing, dice)))


def fillers(example: Example, pool: Sequence[Tool], count: int, dice: random.Random) -> tuple[Tool, ...]:
    """Tools of the pool that can hardly serve the query: they share no word of their names with its own tools."""
    own = {word for name in [tool.name for tool in example.tools] + [call.name for call in example.calls]
           for word in _words(name)}
    others = [tool for tool in pool if not own & _words(tool.name)]
    return tuple(dice.sample(others, min(count, len(others))))


def mask_names(example: Example, dice: random.Random) -> Example:
    """The example with random names for its tools and their arguments, the same in its documents and its calls.

    What a tool does must then be read in its descriptions. Names inside a nested object and in prose are left.
    """
    taken: set[str] = set()
    tools: dict[str, str] = {}
    arguments: dict[str, dict[str, str]] = {}
    masked = []
    for tool in example.tools:
        tools[tool.name] = _random_name(TOOL_LETTERS, dice, taken)
        of_tool: set[str] = set()
        arguments[tool.name] = {name: _random_name(ARGUMENT_LETTERS, dice, of_tool)
                                for name in tool.parameters.get("properties", {})}
        masked.append(_renamed(tool, tools[tool.name], arguments[tool.name]))
    calls = [ToolCall(tools.get(call.name, call.name),
                      {arguments.get(call.name, {}).get(name, name): value for name, value in call.arguments.items()})
             for call in example.calls]
    return dataclasses.replace(example, tools=tuple(masked), calls=tuple(calls))


def _renamed(tool: Tool, name: str, arguments: dict[str, str]) -> Tool:
    schema: dict[str, Any] = dict(tool.parameters)
    schema["properties"] = {arguments[key]: value for key, value in schema.get("properties", {}).items()}
    schema["required"] = [arguments.get(key, key) for key in schema.get("required", [])]
    return dataclasses.replace(tool, name=name, parameters=schema)


def _dressed(example: Example, pool: Sequence[Tool], recipe: Recipe) -> Example:
    """More candidates, another order, masked names: in this order, so that each sees what the others did."""
    example = more_candidates(example, pool, recipe.candidates, _dice("candidates", example, recipe))
    if recipe.shuffle_tools:
        tools = list(example.tools)
        _dice("shuffle", example, recipe).shuffle(tools)
        example = dataclasses.replace(example, tools=tuple(tools))
    if _drawn("mask", example, recipe, recipe.mask_names):
        example = mask_names(example, _dice("names", example, recipe))
    return example


def _random_name(length: tuple[int, int], dice: random.Random, taken: set[str]) -> str:
    """Letters and digits with a letter first, unlike any name in `taken`, to which it is added."""
    while True:
        rest = dice.randint(*length) - 1
        name = dice.choice(string.ascii_letters) + "".join(dice.choices(string.ascii_letters + string.digits, k=rest))
        if name not in taken:
            taken.add(name)
            return name


def _dice(what: str, example: Example, recipe: Recipe) -> random.Random:
    """Random numbers that depend on the purpose, the example's id and the seed alone."""
    digest = hashlib.sha256(f"{what} {recipe.seed} {example.id}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def _drawn(what: str, example: Example, recipe: Recipe, share: float) -> bool:
    return share > 0 and _dice(f"whether {what}", example, recipe).random() < share


def _words(name: str) -> set[str]:
    """The words of a name in snake_case, kebab-case or camelCase, lower case; those of one or two letters are left."""
    spaced = "".join(f" {c}" if c.isupper() else c if c.isalnum() else " " for c in name)
    return {word for word in (spaced.lower().split() + name.lower().replace("_", " ").split()) if len(word) > 2}
