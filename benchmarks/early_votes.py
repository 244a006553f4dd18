"""Votes that stop sampling once they are decided, beside the full draw, on a run's queries: same winners? what saved?

    python tooldev.py demo --out runs/demo
    python benchmarks/early_votes.py --run runs/demo [--round 1]

The round's tools and calls are made twice in float32 from the weights that the round began with, once with all five
samples and once with `--early`; both in a scratch folder. Training is cut to one step: it plays no part here.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.machine import describe
from data.schema import read_jsonl
from pipeline.settings import RunSettings
from pipeline.steps import Run, Step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="runs/demo", help="a finished run")
    parser.add_argument("--round", type=int, default=1, help="the round whose votes are taken again")
    args = parser.parse_args()
    home = Path(args.run)
    run = Run(RunSettings.of_run(home), home)
    run.test = []
    with tempfile.TemporaryDirectory() as scratch:
        full, early = (again(run, Path(scratch, name), args.round, early=name == "early") for name in ("full", "early"))
    wrong = [name for name, line in full["lines"].items() if winner(line) != winner(early["lines"][name])]
    decided = sum(line["decided_early"] for line in early["lines"].values())
    drawn = [sum(len(line["samples"]) for line in side["lines"].values()) for side in (full, early)]
    print(describe())
    print(f"{len(full['lines'])} votes of {args.run}, round {args.round}, float32, 5 samples at most; seconds for the "
          f"round's data: {full['seconds']:.0f} full, {early['seconds']:.0f} early\n")
    print("| | full draw | early |\n|---|---|---|")
    print(f"| samples that count | {drawn[0]} | {drawn[1]} ({1 - drawn[1] / max(drawn[0], 1):.0%} fewer) |")
    print(f"| decided before the last sample | - | {decided} of {len(full['lines'])} |")
    print(f"| winners that differ from the full draw's | - | {len(wrong)} |\n")
    print("| votes of the winner (full draw) | queries |\n|---|---|")
    for votes, count in sorted(Counter(line["votes"] for line in full["lines"].values()).items()):
        print(f"| {votes} | {count} |")
    return 1 if wrong else 0


def again(run: Run, folder: Path, number: int, *, early: bool) -> dict:
    """The round's data once more, in `folder`; calls.jsonl by query id, and the seconds it took."""
    for name in ["joint", *(f"round-{n}" for n in range(1, number))]:
        shutil.copytree(run.out / name, folder / name, ignore=shutil.ignore_patterns("checkpoint*", "eval"))
    began = time.monotonic()
    run.evolve(Step(f"round-{number}", "evolve", "", number), folder, early=early, probe=0, validation="",
               train={**run.settings.training("evolve"), "precision": "fp32", "max_steps": 1})
    lines = {row["id"]: row for _, row in read_jsonl(folder / f"round-{number}" / "calls.jsonl")}
    return {"lines": lines, "seconds": time.monotonic() - began}


def winner(line: dict) -> object:
    return line["index"]


if __name__ == "__main__":
    sys.exit(main())
