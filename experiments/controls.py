"""`tooldev.py controls`: what each part of a round gives, by leaving it out.

    python tooldev.py ablate --seeds 5 --jobs 2
    python tooldev.py controls --jobs 2                # on what `ablate` left

Every seed's rounds are run again from the same joint training, on the same queries and for the same number of optimizer
steps, with one part left out: the new data (`labelled_only`: further steps on the labelled examples), the vote
(`one_sample`), the rule checker (`no_rules`), the choice of tools (`random_tool`). The table goes to DIR/controls.md
and .json; the same command resumes.

Bounds, asked for by name, take a part of a round from the world's own truth instead (experiments/bounds.py).
"""

import argparse
import json
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

from data.files import write_json, write_text
from data.schema import load_examples, read_json, read_jsonl
from eval.exact import verdicts_of
from eval.report.page import interval
from evolution.config import CONTROLS, leaves_out
from experiments.ablation import PAIRED, Paired, right, score, tools_asked
from experiments.bounds import BOUNDS, write_taught
from experiments.funnel import by_votes, percent, totals, votes_table
from experiments.jobs import Job, run_jobs
from pipeline.settings import RunSettings, versions
from pipeline.steps import Run, Step

LEFT_OUT = [name for name in CONTROLS if name != "none"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="runs/ablation",
                        help="folder of a finished `ablate`; the same command resumes")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of each control")
    parser.add_argument("--controls", nargs="+", choices=[*LEFT_OUT, *BOUNDS], default=LEFT_OUT,
                        help="only these (default: all but the bounds, which begin with true_labels)")
    parser.add_argument("--jobs", type=int, default=1, help="controls at a time, each with its share of the cores")
    parser.add_argument("--json", action="store_true", help="print controls.json at the end instead of the table")
    parser.add_argument("--one", nargs=2, metavar=("SEED_FOLDER", "CONTROL"), default=None,
                        help="only this one, without the table (what --jobs starts)")


def main(args: argparse.Namespace) -> int:
    out = Path(args.out)
    if args.one:
        run_control(Path(args.one[0]), args.one[1], args.rounds)
        return 0
    if args.rounds < 1 or args.jobs < 1:
        raise ValueError(f"--rounds {args.rounds} and --jobs {args.jobs} must be 1 or more")
    seeds = sorted(path.parent for path in out.glob("seed-*/run.json"))
    if not seeds:
        raise ValueError(f"{out}: no seed-*/run.json; first run `tooldev.py ablate --out {out}`")
    for seed in seeds:
        last = seed / f"round-{args.rounds}" / "DONE.json"
        if not last.is_file():
            raise ValueError(f"{last}: not found, so there is nothing to compare with; finish `tooldev.py ablate`, or "
                             "lower --rounds")
        for number in range(1, args.rounds + 1):
            steps_of(seed, number)
    run_jobs([Job(f"{seed.name} {control}", ("controls", "--rounds", str(args.rounds), "--one", str(seed), control),
                  seed / "controls" / f"{control}.log")
              for seed in seeds for control in args.controls], args.jobs)
    table = collect(out, seeds, args.rounds, args.controls)
    print(json.dumps(read_json(out / "controls.json"), indent=2) if args.json else table)
    return 0


def run_control(seed: Path, control: str, rounds: int) -> None:
    """The rounds of one control, in SEED/controls/CONTROL, beside a copy of the joint training that they start from.

    What the tables do not use is not measured: the probe set and the validation.
    """
    truth = {row["id"]: row["calls"] for _, row in read_jsonl(seed / "data" / "truth.jsonl")}
    settings = RunSettings.of_run(seed)
    run, folder = Run(settings, seed, truth), seed / "controls" / control
    if not (folder / "joint" / "DONE.json").is_file():
        for part in ("joint", ".joint.tmp"):                           # of a copy that was cut off
            shutil.rmtree(folder / part, ignore_errors=True)
        shutil.copytree(seed / "joint", folder / ".joint.tmp", ignore=shutil.ignore_patterns("checkpoint*", "eval"))
        (folder / ".joint.tmp").rename(folder / "joint")
    for number in range(1, rounds + 1):
        steps, more = steps_of(seed, number), {}
        if control in BOUNDS:
            more["labelled"] = str(write_taught(control, run, folder, number))
        named = "labelled_only" if control in BOUNDS else control
        votes = 1 if leaves_out(named, "vote") else settings.evolve.get("min_votes", 1)
        run.evolve(Step(f"round-{number}", "evolve", "", number), folder, probe=0, min_votes=votes, validation="",
                   control=named, train={**settings.training("evolve"), "max_steps": steps}, **more)


def steps_of(seed: Path, number: int) -> int:
    """Optimizer steps of the method's own round; ValueError where it took none."""
    steps = read_json(seed / f"round-{number}" / "ledger.json")["training"]["steps"]
    if steps == 0:
        raise ValueError(f"{seed / f'round-{number}'}: accepted no query and trained on nothing, so no control can "
                         "take as many steps; ablate with more queries or another model")
    return steps


# ------------------------------------------------------------------------------------------------------------ the table

def collect(out: Path, seeds: list[Path], rounds: int, controls: list[str]) -> str:
    """Pool verdicts and ledgers of all seeds; write controls.{json,md}; return the Markdown."""
    last = f"round-{rounds}"
    places = {"joint": "joint", "the method": last} | {name: f"controls/{name}/{last}" for name in controls}
    by_seed = {name: [verdicts_of(seed / place / "eval") for seed in seeds] for name, place in places.items()}
    ledgers = {name: [read_json(seed / Path(place).parent / f"round-{n}" / "ledger.json") for seed in seeds
                      for n in range(1, rounds + 1)]
               for name, place in places.items() if name != "joint"}
    parts = ["all", *dict.fromkeys(v["set"] for v in chain(*by_seed["joint"]))]
    found = {name: {part: [right(rows, part) for rows in verdicts] for part in parts}
             for name, verdicts in by_seed.items()}
    tests = [item for seed in seeds for item in load_examples(seed / "data" / "test.jsonl")]
    pairs = [*((name, "the method") for name in ("joint", *controls)),
             *(("joint", name) for name in controls if name in BOUNDS)]
    compared = {(before, after, part): Paired.of(found[before][part], found[after][part], tools_asked(tests, part))
                for before, after in pairs for part in parts}
    record: dict[str, Any] = {
        "seeds": [seed.name for seed in seeds], "rounds": rounds, "versions": versions(),
        "scores": {name: {part: score([*chain(*items)]) for part, items in cells.items()}
                   for name, cells in found.items()},
        "funnel": {name: totals(rows) for name, rows in ledgers.items()},
        "comparisons": {f"{before} -> {after}, {part}": pair.to_dict()
                        for (before, after, part), pair in compared.items()},
    }
    record["by votes"] = by_votes(ledgers["the method"])
    write_json(out / "controls.json", record)
    text = _markdown(record, parts, compared)
    write_text(out / "controls.md", text)
    return text


def _markdown(record: dict[str, Any], parts: list[str], compared: dict[tuple[str, str, str], Paired]) -> str:
    scores, rounds = record["scores"], record["rounds"]
    lines = [f"Exact match in % after {rounds} round{'s' * (rounds > 1)} over {len(record['seeds'])} seeds, pooled "
             "test items, 95% intervals (Wilson);"
             " a control takes the optimizer steps of the method's own rounds, and none where it accepted nothing.", "",
             "| | queries | accepted | steps | precision of values | recall | "
             + " | ".join(f"{part} ({scores['joint'][part]['items']})" for part in parts) + " |",
             "|---|" + "---|" * (5 + len(parts))]
    for name, cells in scores.items():
        found = record["funnel"].get(name)
        head = [f"{found['queries']}", f"{found['accepted']}", f"{found['steps']}", percent(found["precision"]),
                percent(found["recall"])] if found else [""] * 5
        lines.append(f"| {name} | " + " | ".join([*head, *map(interval, cells.values())]) + " |")
    lines += ["", PAIRED, ""]
    lines += [f"- {part}: {pair.line(before, after)}" for (before, after, part), pair in compared.items()]
    lines += ["", "Accepted answers of the method:", "", *votes_table(record["by votes"])]
    return "\n".join(lines) + "\n"
