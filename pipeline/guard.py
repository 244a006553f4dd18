"""`tooldev.py guard`: the queries and tools of benchmarks as one file, for `--guard` of run, split and evolve.py.

    python tooldev.py guard bfcl=bench/bfcl apibank=bench/apibank teval=bench/teval --out guard.jsonl

What repeats a line of that file never enters training (data/contamination.py says what repeating is).
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.files import add_overwrite, refuse_replacing, write_text
from data.schema import dump_json
from eval import benches
from eval.benches import Benchmark


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benches", nargs="+", metavar="NAME=DIR",
                        help=f"a benchmark ({', '.join(benches.names())}) and the folder of its data")
    parser.add_argument("--out", required=True, metavar="F", help="the file to write, JSON Lines")
    add_overwrite(parser)


def main(args: argparse.Namespace) -> int:
    """Write the file; says how many queries and tools each benchmark has."""
    wanted = [named_folder(text) for text in args.benches]
    inputs = [folder for _, folder in wanted]
    if inside := [folder for folder in inputs if Path(folder).resolve() in Path(args.out).resolve().parents]:
        raise ValueError(f"--out {args.out}: lies among the data of {inside[0]}; choose another folder")
    lines: list[dict[str, Any]] = []
    for name, folder in wanted:
        found = list(guarded(name, benches.load(name, folder, argparse.Namespace())))
        print(f"{name}: {len(found):,} entries, {sum(len(line['tools']) for line in found):,} tools in them",
              file=sys.stderr)
        lines += found
    text = "".join(dump_json(line) + "\n" for line in lines)
    refuse_replacing(args.out, text, inputs=inputs, overwrite=args.overwrite)
    write_text(args.out, text)
    print(f"{args.out}: {len(lines):,} lines; give it as --guard {args.out}")
    return 0


def named_folder(text: str) -> tuple[str, str]:
    """(benchmark, folder) of NAME=DIR; ValueError for another spelling or another name."""
    name, equals, folder = text.partition("=")
    if not equals or not folder or name not in benches.names():
        raise ValueError(f"{text!r}: expected NAME=DIR with one of {', '.join(benches.names())}, e.g. bfcl=bench/bfcl")
    if not Path(folder).is_dir():
        raise ValueError(f"{text}: there is no such folder; `tooldev.py data {name} --out DIR` fetches one")
    return name, folder


def guarded(name: str, benchmark: Benchmark) -> Iterator[dict[str, Any]]:
    """A line for every entry: what its user asks, and the tools that it offers."""
    for entry in benchmark.entries.values():
        try:
            messages, tools = benchmark.native(entry)
        except ValueError:                                  # its prompts hold the tools as text
            messages, tools = benchmark.messages(entry), []
        asked = "\n".join(str(message["content"]) for message in messages if message["role"] == "user")
        yield {"id": f"{name}/{entry.key}", "query": asked, "tools": [tool.to_dict() for tool in tools]}
