"""The benchmarks there are, and what each must offer so that `eval` and `score` can drive it.

A benchmark is a folder of eval/ with a module benchmark.py. No command names it: to add one, add the
folder, and its title to the report's (eval/report/measured.py: BENCHMARKS). Its module holds
    FIELDS          where a line of answers may hold the answer
    ANSWERS         for --help: how such a line looks, with examples
    Settings        a frozen dataclass of what entries are shown and judged by, its fields named as the flags are, and
                    `reading`, "strict" or "lenient" (eval/lenient.py), which has no flag: both are always scored
    add_arguments   (parser, *, prompts): the flags that change a verdict and, with prompts, how a model is asked
    PROMPTS         how it can be asked, where that is not each of data.prompts.PROMPTS
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

from data.files import sha256_text
from data.prompts import PROMPTS, Message
from data.schema import Tool
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

    def only(self, keys: Sequence[str]) -> "Benchmark":
        """The benchmark with these entries alone."""

    def messages(self, entry: Any) -> list[Message]:
        """How a model is asked."""

    def native(self, entry: Any) -> tuple[list[Message], list[Tool]]:
        """The conversation and the tools, for the model's own tool template. ValueError if there is no such thing."""

    def expected(self, entry: Any) -> str:
        """The right answer, as text for a reader; "" where no call is wanted."""

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


def prompts(name: str) -> tuple[str, ...]:
    """How a model can be asked this benchmark, of data.prompts.PROMPTS."""
    return getattr(module_of(name), "PROMPTS", PROMPTS)


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


def take_subset(benchmark: Benchmark, chosen: Sequence[Any], size: int) -> tuple[Benchmark, list[Any], dict | None]:
    """A fixed part of the chosen entries: (the benchmark with them alone, they in file order, what to say of them).

    Every group has its share (Webster's method, at least one), and gives the entries whose keys hash lowest, so a
    larger subset holds the smaller ones. None is said where all are taken.

    Raises:
        ValueError: `size` is smaller than the number of groups.
    """
    groups: dict[str, list[str]] = {}
    for entry in chosen:
        groups.setdefault(entry.group, []).append(entry.key)
    if size < len(groups):
        raise ValueError(f"--bench-limit {size}: fewer than the {len(groups)} categories of {benchmark.folder}; every "
                         "category needs an entry")
    if size >= len(chosen):
        return benchmark, list(chosen), None
    taken = dict.fromkeys(groups, 1)
    while sum(taken.values()) < size:
        open_groups = [group for group in groups if taken[group] < len(groups[group])]
        taken[max(open_groups, key=lambda group: len(groups[group]) / (2 * taken[group] + 1))] += 1
    keys = {key for group, found in groups.items() for key in sorted(found, key=sha256_text)[:taken[group]]}
    kept = [entry for entry in chosen if entry.key in keys]
    about = {"entries": size, "of": len(chosen), "categories": {group: [taken[group], len(groups[group])]
                                                                for group in groups},
             "keys_sha256": sha256_text("\n".join(entry.key for entry in kept))}
    return benchmark.only([entry.key for entry in kept]), kept, about
