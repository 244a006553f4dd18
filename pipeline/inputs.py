"""What users hand in, checked before any work and before anything is written: models, adapters, data, settings.

Errors name the file, the line and what to do. Left out: whether tools and calls are good ones; data/rules.py says that.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.contamination import folded, load_guard
from data.files import begun_marker, refuse_foreign, sha256_text, write_jsonl
from data.schema import Example, Query, Tool, dump_json, load_examples, load_queries, load_tools, read_object
from tooldev import home

EMBEDDED = home("model", "tiny")
MOST_HELD_OUT = 500                     # more items than this narrow a 95% interval little, and cost labelled examples


# ------------------------------------------------------------------------------------------------------- data of a run

@dataclass(frozen=True)
class Inputs:
    """The data of a run, ready to be written; `notes` tell what was held out or left out, and why."""

    tools: list[Tool]
    examples: list[Example]
    queries: list[Query]
    validation: list[Example] = field(default_factory=list)
    test: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def files(self) -> dict[str, list[dict[str, Any]]]:
        """Name of each file of the run's data folder -> its records; parts without rows have no file."""
        parts = {name: getattr(self, name) for name in ("tools", "examples", "queries", "validation", "test")}
        return {name: [row.to_document() if isinstance(row, Tool) else row.to_dict() for row in rows]
                for name, rows in parts.items() if rows}

    def write(self, data: Path) -> None:
        """Write the files into the run's data folder."""
        for name, rows in self.files().items():
            write_jsonl(data / f"{name}.jsonl", rows)


def read_inputs(tools: str, examples: str, queries: str, *, test: str = "", validation: str = "", fraction: float = 0.1,
                guard: Sequence[str] = ()) -> Inputs:
    """Read and normalise the data of a run, and hold out validation and test examples where no file gives them.

    Left out are training examples and new queries that repeat a validation or test query, new queries that an example
    answers, and training examples and tools that repeat a benchmark of `guard` (new queries meet the guard in each
    round, with a reason each).

    Args:
        fraction: part of the examples to hold out for each of validation and test, at most MOST_HELD_OUT; 0: none.

    Raises:
        FileNotFoundError, ValueError: a file is missing, empty, or has a bad line, which is named.
    """
    if not 0 <= fraction <= 0.4:
        raise ValueError(f"--holdout {fraction:g}: expected 0 to 0.4 (it is taken twice, for validation and test)")
    kept, notes = _rows(load_examples, examples, "examples"), []
    made: dict[str, list[Example]] = {}
    for name, path in (("validation", validation), ("test", test)):
        if path:
            made[name] = _rows(load_examples, path, f"{name} examples")
        elif fraction:
            kept, made[name] = hold_out(kept, fraction, name, examples)
            notes.append(f"{name}: {len(made[name]):,} of the labelled examples, held out by the hash of their query; "
                         f"--{name} names others")
        else:
            notes.append(f"{name}: none (--holdout 0)")
    held, benchmark = {folded(example.query) for rows in made.values() for example in rows}, load_guard(guard)

    def left(what: str, rows: list, bad: Callable[[Any], Any], why: str) -> list:
        good = [row for row in rows if not bad(row)]
        if len(good) < len(rows):
            notes.append(f"{what}: {len(rows) - len(good):,} left out that repeat {why}")
        if not good:
            raise ValueError(f"no {what} are left: all of them repeat {why}; give others")
        return good

    kept = left("examples", kept, lambda example: folded(example.query) in held, "a held-out query")
    asked = {folded(example.query) for example in kept}
    new = left("new queries", _rows(load_queries, queries, "queries"), lambda query: folded(query.query) in held,
               "a held-out query")
    return Inputs(
        tools=left("tools", _rows(load_tools, tools, "tools"), benchmark.tool_overlap, "the guarded benchmark"),
        examples=left("examples", kept, benchmark.example_overlap, "the guarded benchmark"),
        queries=left("new queries", new, lambda query: folded(query.query) in asked, "a labelled example"),
        validation=made.get("validation", []), test=made.get("test", []), notes=notes)


def hold_out(examples: Sequence[Example], fraction: float, name: str, path: str) -> tuple[list[Example], list[Example]]:
    """(kept, held out), both in the given order; which ones depends on the queries' text and `name` alone.

    Examples with the same query stay together.
    """
    groups = Counter(folded(example.query) for example in examples)
    wanted = min(MOST_HELD_OUT, max(1, round(fraction * len(examples))))
    held: set[str] = set()
    count = 0
    for key in sorted(groups, key=lambda key: sha256_text(f"{name}/{key}")):
        if count >= wanted:
            break
        held.add(key)
        count += groups[key]
    if len(held) == len(groups):
        raise ValueError(f"{path}: too few different queries to hold some out for {name}; give --{name}, more "
                         "examples, or --holdout 0")
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[folded(example.query) in held].append(example)
    return parts


def _rows(load: Callable[[str], list], path: str, what: str) -> list:
    rows = load(path)
    if not rows:
        raise ValueError(f"{path}: no {what} in it; expected JSON Lines, one object per line")
    return rows


# --------------------------------------------------------------------------------------------- a folder that is there

def refuse_other_run(out: Path, inputs: Inputs) -> None:
    """ValueError if `out` is in use for something else, before anything in it is touched."""
    refuse_foreign(out, "run.json", *begun_marker(out, "tooldev.py run"))
    if not (out / "run.json").is_file():
        return
    begun = read_object(out / "run.json", data_sha256=dict).get("data_sha256", {})
    now = {name: sha256_text("".join(dump_json(row) + "\n" for row in rows)) for name, rows in inputs.files().items()}
    changed = [name for name in sorted(begun.keys() | now.keys()) if begun.get(name) != now.get(name)]
    if changed:
        raise ValueError(f"--out {out} holds a run on other {', '.join(changed)}; give the same files and --holdout "
                         "again, or another --out")


# --------------------------------------------------------------------------------------------------- options and output

def flag(parser: argparse.ArgumentParser, name: str, default: Any, help: str, **more: Any) -> None:
    """An option whose help says what happens without it, so that its default value is not printed."""
    parser.set_defaults(**{name.replace("-", "_"): default})
    parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=help, **more)


def table(title: str, rows: Mapping[str, tuple[Any, Any]]) -> str:
    """Lines of name, this run's value and the paper's."""
    def show(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    lines = [f"  {name:34} {show(here):>14}   {show(there)}" for name, (here, there) in rows.items()]
    return "\n".join([f"{title:36} {'here':>14}   paper", *lines])


def print_json(value: Any) -> None:
    """A result on stdout, indented."""
    print(dump_json(value, indent=2))
