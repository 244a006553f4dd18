"""Does it help to let a model write the tools that a query needs, and to search with those? The table of `--expand`.

    export TOOLDEV_DATA=/path/to/data
    python benchmarks/expansion.py write --model DIR --out written.jsonl [--queries 200]     # hours on a CPU; resumes
    python benchmarks/expansion.py table written.jsonl                                       # from what is there

`write` asks for tools once a sentence (the prompt of Fig. 7), greedily, and keeps the text as it was written. The
queries are drawn with seed 0, and a part of every set is asked before any set is asked to its end.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.machine import describe
from benchmarks.retrieval import interval, measures
from benchmarks.retrieval_sets import POOLS, Asked, lines
from data.retrieval import ToolIndex, parts
from pipeline.find import written_text

SETS = {"MetaTool single": "metatool", "Seal-Tools out of domain": "sealtools", "ToolBench G2": "toolbench",
        "ToolBench G1": "toolbench"}
TURN = 40                       # queries of a set that are asked before the next set has its turn


@cache
def asked_sets() -> dict[str, Asked]:
    """The queries of each set."""
    return {name: asked for pool in dict.fromkeys(SETS.values()) for name, asked in POOLS[pool]()[1].items()
            if name in SETS}


def drawn(count: int, names: Sequence[str] = tuple(SETS), seed: int = 0) -> list[tuple[str, int]]:
    """(set, number of the query in it) in the order of asking, `count` of each named set."""
    sizes = {name: len(asked) for name, asked in asked_sets().items() if name in names}
    chosen = {name: random.Random(seed).sample(range(size), min(count, size)) for name, size in sizes.items()}
    return [(name, number) for turn in range(0, count, TURN) for name in SETS if name in names
            for number in chosen[name][turn:turn + TURN]]


def write(args: argparse.Namespace) -> None:
    """Append a line a query: set, number, query and the text that was written for each of its sentences."""
    from data.decoding import never_sampled
    from data.prompts import generation_messages
    from lora import adapter_folder, load_adapter
    from model.chat import render
    from sampler import generate
    from training.base import load_base
    from training.gate import check_model

    sets = asked_sets()
    out = Path(args.out)
    done = {(row["set"], row["number"]) for row in (lines(out) if out.is_file() else [])}
    todo = [key for key in drawn(args.queries, args.sets) if key not in done]
    tokenizer, model = check_model(args.model, args.adapter), load_base(args.model, args.precision).eval()
    if args.adapter:
        load_adapter(model, adapter_folder(args.adapter))
    for first in range(0, len(todo), TURN):
        keys = todo[first:first + TURN]
        asked = [(key, part) for key in keys for part in parts(sets[key[0]][key[1]][0])]
        prompts = [render(generation_messages(part), tokenizer)[0] for _, part in asked]
        answers = generate(model, prompts, num_samples=1, temperature=0.0, max_new_tokens=args.tokens,
                           eos_ids=tokenizer.eos_ids, vocab_size=tokenizer.vocab_size,
                           banned_ids=never_sampled(tokenizer), pack_weights=True, progress=True)
        with out.open("a", encoding="utf-8") as file:
            for key in keys:
                texts = [tokenizer.decode(one.ids) for (owner, _), (one,) in zip(asked, answers, strict=True)
                         if owner == key]
                file.write(json.dumps({"set": key[0], "number": key[1], "query": sets[key[0]][key[1]][0],
                                       "written": texts}, ensure_ascii=False) + "\n")
        print(f"{first + len(keys)} of {len(todo)} queries", file=sys.stderr, flush=True)


def table(args: argparse.Namespace) -> None:
    """Print R@10 and C@10 without and with what was written, and the paired differences, for each set."""
    rows = lines(Path(args.written))
    print(describe() + "\n| set | queries | sentences with a tool to read | R@10 without / with | difference | "
          "C@10 without / with | difference |\n|---|---|---|---|---|---|---|")
    for pool in dict.fromkeys(SETS.values()):
        tools, sets = POOLS[pool]()
        index = ToolIndex(tools)
        for name in (name for name, owner in SETS.items() if owner == pool):
            asked = [row for row in rows if row["set"] == name]
            if not asked:
                continue
            made = [[written_text(text) for text in row["written"]] for row in asked]
            values = {how: [measures([found.position for found in index.search(row["query"], 10, texts if how else ())],
                                     sets[name][row["number"]][1]) for row, texts in zip(asked, made)]
                      for how in (False, True)}
            read = [bool(text) for texts in made for text in texts]
            cells = []
            for measure in ("R@10", "C@10"):
                plain, helped = (np.array([100 * row[measure] for row in values[how]]) for how in (False, True))
                low, high = interval(helped - plain)
                cells += [f"{plain.mean():.1f} / {helped.mean():.1f}",
                          f"{(helped - plain).mean():+.1f} [{low:+.1f}, {high:+.1f}]"]
            print(f"| {name} | {len(asked)} | {100 * np.mean(read):.0f}% | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    asks = commands.add_parser("write", help="let a model write the tools")
    asks.add_argument("--model", required=True, help="a Hugging Face folder")
    asks.add_argument("--adapter", default="", help="a PEFT folder, or a step of a run")
    asks.add_argument("--out", required=True, help="JSON Lines; what it holds is not asked again")
    asks.add_argument("--queries", type=int, default=200, help="of each set")
    asks.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET",
                      help=f"only these of {', '.join(SETS)}")
    asks.add_argument("--tokens", type=int, default=64, help="most of them for a sentence: a name and a description")
    asks.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    asks.set_defaults(run=write)
    shows = commands.add_parser("table", help="what the written tools gain")
    shows.add_argument("written", help="the file of `write`")
    shows.set_defaults(run=table)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
