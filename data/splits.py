"""`tooldev.py split`: subsets of converted files for a run, the same for the same seed, with nothing in two places.

Tools are de-duplicated by signature (name and argument names), examples and queries by their normalised text; queries
that a chosen or held-out example already asks are left out. A row is drawn by the hash of (seed, its key), so a subset
depends neither on the order of the files nor on what else they hold, and a smaller subset is the head of a larger one.
Of rows with one key the first stands for all.
Examples are stratified by their number of calls. The manifest counts what went where, with hashes and licences.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from data.contamination import folded, tool_signature
from data.files import add_overwrite, aside, claim, sha256_file
from data.schema import Tool, dump_json, located_jsonl

# Sizes of the paper, section 4.1; rounds of new queries, section 3.4.
NUM_TOOLS, NUM_EXAMPLES, NUM_QUERIES, ROUNDS = 26_522, 20_000, 10_000, 1
MOST_ROUNDS = 10_000
MANY_CALLS = 4          # strata: 0, 1, 2, 3 and at least 4 calls
KINDS = ("tools", "examples", "queries")


class Pick(NamedTuple):
    """A row that may be drawn: the hash that orders it, where it stands, and what decides about it."""

    order: bytes
    file: int
    offset: int
    key: bytes
    stratum: str
    source: str


@dataclass(frozen=True)
class SplitConfig:
    """What to draw. A number above what there is takes all there is, and the manifest says so."""

    tools: Sequence[Path] = ()
    examples: Sequence[Path] = ()
    queries: Sequence[Path] = ()
    num_tools: int = NUM_TOOLS
    num_examples: int = NUM_EXAMPLES
    num_held_out: int = 0
    num_queries: int = NUM_QUERIES
    rounds: int = ROUNDS
    mix: Sequence[tuple[str, int]] = ()       # (source, number of examples); empty: from all sources as they come
    without: Sequence[str] = ()               # notes of the conversion whose examples are left out
    max_tools: int = 0                          # most candidate tools of an example; 0: any number
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.tools or self.examples or self.queries):
            raise ValueError("nothing to split; give --tools, --examples or --queries")
        for name in ("num_tools", "num_examples", "num_held_out", "num_queries", "rounds", "max_tools"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected 0 or more")
        if self.rounds > MOST_ROUNDS:
            raise ValueError(f"--rounds is {self.rounds}; expected at most {MOST_ROUNDS:,}, a file each")


def split(config: SplitConfig, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write tools.jsonl, examples.jsonl, held_out.jsonl and queries.jsonl, those asked for, and manifest.json last.

    Raises:
        FileNotFoundError, ValueError: a file that is missing or broken (with its line), nothing to draw from, or a
            folder `out` that holds an input or what this split did not make, unless `overwrite` says so.
    """
    files = (*config.tools, *config.examples, *config.queries)
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected JSON Lines written by convert")
    settings = vars(config) | {kind: [path.name for path in getattr(config, kind)] for kind in KINDS}
    with claim(out, "tooldev.py split", inputs=[(path.name, path) for path in files], writes=written(config),
               settings=settings, overwrite=overwrite) as claimed:
        report: dict[str, Any] = {}
        if config.tools and config.num_tools:
            picks, dropped = _gather(config.tools, _tool_key, config)
            drawn = _draw(picks, config.num_tools)
            report["tools"] = _write(out / "tools.jsonl", config.tools, drawn, len(picks), dropped, config.num_tools)
        taken = _split_examples(config, out, report) if config.examples else set()
        if config.queries and config.num_queries:
            _split_queries(config, out, report, taken)
        return claimed.finish(report)


def written(config: SplitConfig) -> list[str]:
    """The names of the files that a split may write."""
    rounds = [f"queries-{number}" for number in range(1, config.rounds + 1)]
    return [f"{name}.jsonl" for name in ("tools", "held_out", "examples", "queries", *rounds)]


def _split_examples(config: SplitConfig, out: Path, report: dict[str, Any]) -> set[bytes]:
    """Write the held-out and the chosen examples; returns the keys of both."""
    picks, dropped = _gather(config.examples, _example_key, config)
    held = _stratified(picks, config.num_held_out) if config.num_held_out else []
    apart = set(held)
    rest = [pick for pick in picks if pick not in apart]
    chosen = _mixed(rest, config)
    wanted = sum(number for _, number in config.mix) or config.num_examples
    if held:
        report["held_out"] = _write(out / "held_out.jsonl", config.examples, held, len(picks), Counter(),
                                    config.num_held_out)
    report["examples"] = _write(out / "examples.jsonl", config.examples, chosen, len(rest), dropped, wanted)
    return {pick.key for pick in (*held, *chosen)}


def _split_queries(config: SplitConfig, out: Path, report: dict[str, Any], taken: set[bytes]) -> None:
    """Write the queries that no example asks, all together and, for several rounds, each round's."""
    picks, dropped = _gather(config.queries, lambda record, config: (folded(record["query"]), ""), config)
    fresh = [pick for pick in picks if pick.key not in taken]
    dropped["asked_by_an_example"] += len(picks) - len(fresh)
    wanted = config.num_queries * config.rounds
    drawn = _draw(fresh, wanted)
    report["queries"] = _write(out / "queries.jsonl", config.queries, drawn, len(fresh), dropped, wanted)
    for number in range(config.rounds if config.rounds > 1 else 0):
        part = drawn[number * config.num_queries:(number + 1) * config.num_queries]
        report[f"queries-{number + 1}"] = _write(out / f"queries-{number + 1}.jsonl", config.queries, part, len(fresh),
                                                 Counter(), config.num_queries)


# ------------------------------------------------------------------------------------------------------------ gathering

def _gather(paths: Iterable[Path], key_of: Callable[[dict[str, Any], SplitConfig], tuple[str, str] | str],
            config: SplitConfig) -> tuple[list[Pick], Counter[str]]:
    """All rows that may be drawn, the first of those with one key; and why the others may not, counted."""
    picks: dict[bytes, Pick] = {}
    dropped: Counter[str] = Counter()
    for number, path in enumerate(paths):
        for _, offset, record in located_jsonl(path):
            try:
                found = key_of(record, config)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{path}, at byte {offset}: not a record of this kind: {error}") from None
            if isinstance(found, str):
                dropped[found] += 1
                continue
            text, stratum = found
            key = hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
            if key in picks:
                dropped["duplicate"] += 1
                continue
            order = hashlib.blake2b(f"{config.seed}:".encode() + key, digest_size=16).digest()
            picks[key] = Pick(order, number, offset, key, stratum, sys.intern(str(record.get("source", ""))))
    return sorted(picks.values()), dropped


def _tool_key(record: dict[str, Any], config: SplitConfig) -> tuple[str, str] | str:
    tool = Tool.from_dict(record)
    return (tool_signature(tool), "") if tool.description.strip() else "no_description"


def _example_key(record: dict[str, Any], config: SplitConfig) -> tuple[str, str] | str:
    notes = (record.get("provenance") or {}).get("notes") or ()
    unwanted = next((note for note in config.without if note in notes), None)
    if unwanted:
        return unwanted
    if config.max_tools and len(record["tools"]) > config.max_tools:
        return "over_max_tools"
    calls = len(record["calls"])
    return folded(record["query"]), f"{min(calls, MANY_CALLS)}{'+' if calls >= MANY_CALLS else ''} calls"


# -------------------------------------------------------------------------------------------------------------- drawing

def _draw(picks: list[Pick], number: int) -> list[Pick]:
    return sorted(picks)[:number]


def _stratified(picks: list[Pick], number: int) -> list[Pick]:
    """Draw so that every stratum has its share of the whole (largest remainders; ties by name), in drawing order."""
    if number >= len(picks):
        return _draw(picks, number)
    strata: dict[str, list[Pick]] = {}
    for pick in picks:
        strata.setdefault(pick.stratum, []).append(pick)
    exact = {name: number * len(members) / len(picks) for name, members in strata.items()}
    quota = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: (quota[name] - exact[name], name))[:number - sum(quota.values())]:
        quota[name] += 1
    return sorted(pick for name, members in strata.items() for pick in _draw(members, quota[name]))


def _mixed(picks: list[Pick], config: SplitConfig) -> list[Pick]:
    """The examples: from every source as many as the mixture says, or from all together."""
    if not config.mix:
        return _stratified(picks, config.num_examples)
    known = {pick.source for pick in picks}
    for source, _ in config.mix:
        if source not in known:
            raise ValueError(f"--mix {source}: no example has this source; there are {', '.join(sorted(known)[:20])}")
    drawn = (_stratified([pick for pick in picks if pick.source == source], number) for source, number in config.mix)
    return sorted(pick for part in drawn for pick in part)


# -------------------------------------------------------------------------------------------------------------- writing

def _write(path: Path, inputs: Sequence[Path], picks: list[Pick], available: int, dropped: Counter[str],
           wanted: int) -> dict[str, Any]:
    """Copy the drawn lines byte for byte, in drawing order; returns the report of the file."""
    licences: Counter[str] = Counter()
    with aside(path) as out, ExitStack() as stack:
        files = [stack.enter_context(source.open("rb")) for source in inputs]
        for pick in picks:
            files[pick.file].seek(pick.offset)
            line = files[pick.file].readline().removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
            record = json.loads(line)
            licences[record.get("license") or (record.get("provenance") or {}).get("license") or "not given"] += 1
            out.write(line + b"\n")
    report = {"rows": len(picks), "wanted": wanted, "available": available, "left_out": dict(sorted(dropped.items())),
              "sha256": sha256_file(path), "licenses": dict(sorted(licences.items()))}
    strata = Counter(pick.stratum for pick in picks if pick.stratum)
    sources = Counter(pick.source for pick in picks if pick.source)
    return (report | ({"strata": dict(sorted(strata.items()))} if strata else {})
            | ({"sources": dict(sources.most_common())} if sources else {}))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for kind in KINDS:
        parser.add_argument(f"--{kind}", nargs="+", type=Path, default=[], metavar="F",
                            help=f"files of {kind}, as convert writes them")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR",
                        help="folder for the subsets and manifest.json")
    parser.add_argument("--num-tools", type=int, default=NUM_TOOLS,
                        help="tools to draw (default: the paper's %(default)s)")
    parser.add_argument("--num-examples", type=int, default=NUM_EXAMPLES,
                        help="examples to draw (default: the paper's %(default)s)")
    parser.add_argument("--num-queries", type=int, default=NUM_QUERIES,
                        help="queries to draw per round (default: the paper's %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS,
                        help="rounds to draw queries for; more than one also writes queries-N.jsonl")
    parser.add_argument("--num-held-out", type=int, default=0, help="examples set aside in held_out.jsonl, drawn first")
    parser.add_argument("--mix", nargs="+", default=[], metavar="SOURCE=N",
                        help="examples per source instead of --num-examples")
    parser.add_argument("--without", nargs="+", default=[], metavar="NOTE",
                        help="leave out examples with these notes of the conversion, e.g. nested_reference dialogue")
    parser.add_argument("--max-tools", type=int, default=0,
                        help="leave out examples with more candidate tools (default: any number)")
    parser.add_argument("--seed", type=int, default=0, help="decides what is drawn (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print manifest.json instead of a table")
    add_overwrite(parser)


def main(args: argparse.Namespace) -> int:
    args.mix = [_quota(text) for text in args.mix]
    config = SplitConfig(**{spec.name: getattr(args, spec.name) for spec in fields(SplitConfig)})
    manifest = split(config, args.out, overwrite=args.overwrite)
    if args.json:
        print(dump_json(manifest, indent=2))
        return 0
    print("| file | rows | wanted | available | left out |\n|---|---:|---:|---:|---|")
    for name, report in manifest["outputs"].items():
        left = ", ".join(f"{reason} {count:,}" for reason, count in report["left_out"].items()) or "-"
        print(f"| {name}.jsonl | {report['rows']:,} | {report['wanted']:,} | {report['available']:,} | {left} |")
    for name, report in manifest["outputs"].items():
        if report["rows"] < report["wanted"]:
            print(f"warning: {name}: {report['wanted']:,} wanted, only {report['rows']:,} available", file=sys.stderr)
    return 0


def _quota(text: str) -> tuple[str, int]:
    source, equals, number = text.rpartition("=")
    if not equals or not source or not number.isdecimal():
        raise ValueError(f"--mix {text}: expected SOURCE=N, e.g. xlam=8000")
    return source, int(number)
