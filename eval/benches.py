"""The benchmarks there are, and what each must offer so that `eval` and `score` can drive it.

A benchmark is a folder of eval/ with a module benchmark.py. Nothing outside the folder names it: to add one, add the
folder. Its module holds
    FIELDS          where a line of answers may hold the answer
    ANSWERS         for --help: how such a line looks, with examples
    Settings        a frozen dataclass of what entries are shown and judged by, its fields named as the flags are, and
                    `reading`, "strict" or "lenient" (eval/lenient.py), which has no flag: both are always scored
    add_arguments   (parser, *, prompts): the flags that change a verdict and, with prompts, how a model is asked
    load            (data, settings) -> a `Benchmark`; FileNotFoundError or ValueError for data that are not right
"""

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from data.prompts import Message
from eval.answers import Answer


class Entry(Protocol):
    """One question. `key` is unique in its benchmark; `group` is the category, level or task it belongs to."""

    @property
    def key(self) -> str: ...

    @property
    def group(self) -> str: ...


class Benchmark(Protocol):
    """A loaded benchmark; `entries` are in file order."""

    folder: str
    entries: Mapping[str, Any]
    settings: Any

    def messages(self, entry: Any) -> list[Message]:
        """How a model is asked."""

    def answer_line(self, entry: Any, text: str) -> dict[str, Any]:
        """The line of answers.jsonl that keeps a model's text."""

    def find(self, answer: Answer) -> Entry | None:
        """The entry that a line of answers names."""

    def judge(self, entry: Any, answer: Answer) -> dict[str, Any]:
        """The line of verdicts.jsonl of an answer, whatever stands in it."""

    def unknown(self, answer: Answer) -> dict[str, Any]:
        """The line of verdicts.jsonl of an answer that names no entry."""

    def summarise(self, first: Mapping[str, tuple[Answer, dict]]) -> dict[str, Any]:
        """The scores, from the first answer to each entry with its verdict, by the entry's key."""


def names() -> list[str]:
    """Every benchmark, in alphabetical order."""
    folders = sys.modules[__package__].__path__
    return sorted(path.parent.name for folder in folders for path in Path(folder).glob("*/benchmark.py"))


def module_of(name: str) -> ModuleType:
    """The module of a benchmark."""
    return importlib.import_module(f"{__package__}.{name}.benchmark")


def add_arguments(parser: argparse.ArgumentParser, *, prompts: bool) -> None:
    """The flags of every benchmark, in a group of its own."""
    for name in names():
        module_of(name).add_arguments(parser.add_argument_group(name), prompts=prompts)


def load(name: str, data: str | Path, args: argparse.Namespace) -> Benchmark:
    """A benchmark's data, with those of its settings that `args` holds."""
    module = module_of(name)
    given = {field.name: getattr(args, field.name) for field in fields(module.Settings) if hasattr(args, field.name)}
    return module.load(data, module.Settings(**given))


def read_as(benchmark: Any, reading: str) -> Benchmark:
    """The benchmark with the answers read in this way; as it is where its settings know no reading."""
    if not hasattr(benchmark.settings, "reading"):
        return benchmark
    return replace(benchmark, settings=replace(benchmark.settings, reading=reading))


def choose(benchmark: Benchmark, groups: Sequence[str] | None = None, limit: int | None = None) -> list[Any]:
    """The entries to ask, in file order: of the given groups, and of each the first `limit`.

    Raises:
        ValueError: the benchmark has no such group.
    """
    there = dict.fromkeys(entry.group for entry in benchmark.entries.values())
    unknown = sorted(set(groups or ()) - set(there))
    if unknown:
        raise ValueError(f"{benchmark.folder}: no category {unknown}; it has {sorted(there)}")
    seen: Counter[str] = Counter()
    chosen = []
    for entry in benchmark.entries.values():
        if not groups or entry.group in groups:
            seen[entry.group] += 1
            if not limit or seen[entry.group] <= limit:
                chosen.append(entry)
    return chosen
