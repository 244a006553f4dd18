"""`tooldev.py ablate`: the five variants of Table 3 and the rounds after them, over seeds, with paired tests.

Every seed draws its own labelled examples, queries and test items, so test items pool over seeds as independent ones. A
seed is a run of its own under OUT/seed-K and resumes on its own; `--jobs` runs several at a time. The table goes to
OUT/ablation.md and .json. Several bases (`--model A B`) are as many ablations, each under OUT/ and the name of its
folder. `--fresh N` asks the joint model and the rounds N further items of the unlabelled domains a seed, for a narrower
interval on what the rounds give; `--variants joint` trains only what the rounds need. `--bench` asks every step of
every seed the benchmarks, as `run --bench` does.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from data import world
from data.files import refuse_foreign, writable, write_json, write_text
from data.schema import Example, load_examples, read_json
from eval.exact import test_set, verdicts_of
from eval.lenient import READINGS
from eval.report.benchmarks import BENCHMARKS, name_of
from eval.report.gather import is_round
from eval.report.measured import folders_of, read_cell
from eval.report.page import interval
from eval.report.tables import with_half
from eval.uncertainty import Comparison, describe, over_clusters, over_seeds, paired_bootstrap, proportion
from experiments.funnel import by_votes, percent, totals, votes_table
from experiments.jobs import Job, run_jobs
from pipeline import run_bench
from pipeline.demo import FULL, QUICK, WorldSizes, world_settings, write_world
from pipeline.settings import RunSettings, versions
from pipeline.steps import Run, plan_steps, run_pipeline
from tooldev import PAPER_EVOLVED, VARIANTS, home
from training.gate import check_model

PAIRS = (("raw", "adaption"), ("raw", "invocation"), ("invocation", "invocation-adapted"),
         ("invocation-adapted", "joint"), ("joint", "last"), ("invocation", "last"))
PAIRED = ("Paired over the same items (bootstrap interval, McNemar's exact p: what other items would change), then "
          "over the tools that the items ask for (whole tools drawn: what other tools would change), then over the "
          "seeds' own differences (t-interval: what other trainings would change, too):")
TRAINED = [name for name in VARIANTS if name != "raw"]
FRESH_SEEDS = 1_000_000         # further test items of seed K are drawn with seed FRESH_SEEDS + K


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, each with its share of the cores")
    parser.add_argument("--out", default="runs/ablation", help="folder; the same command resumes")
    parser.add_argument("--model", nargs="+", help="bases to use instead of the embedded one, model/tiny")
    parser.add_argument("--quick", action="store_true", help="little data, to try the command out")
    parser.add_argument("--fresh", type=int, default=0, metavar="N",
                        help="N further test items of the unlabelled domains a seed")
    parser.add_argument("--variants", nargs="+", choices=TRAINED, default=TRAINED, metavar="NAME",
                        help=f"only these of {', '.join(TRAINED)}; the rounds follow joint")
    run_bench.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print ablation.json at the end instead of the table")
    parser.add_argument("--one-seed", action="store_true",
                        help="only run --first-seed, without the table (what --jobs starts)")


def main(args: argparse.Namespace) -> int:
    out, sizes = Path(args.out), QUICK if args.quick else FULL
    for model in args.model or ():
        check_model(model)
    if args.seeds < 1 or args.jobs < 1 or args.first_seed < 0:
        raise ValueError(f"--seeds {args.seeds} and --jobs {args.jobs} must be 1 or more, --first-seed "
                         f"{args.first_seed} 0 or more")
    models, seeds = args.model or [str(home("model", "tiny"))], range(args.first_seed, args.first_seed + args.seeds)
    places = [out] if len(models) == 1 else [out / Path(model).resolve().name for model in models]
    if len(set(places)) < len(places):
        raise ValueError(f"--model {' '.join(models)}: two folders of one name would share a place under {out}; rename "
                         "one")
    if args.fresh < 0:
        raise ValueError(f"--fresh {args.fresh} must be 0 or more")
    if args.fresh and "joint" not in args.variants:
        raise ValueError("--fresh asks joint and the rounds, which --variants leaves out; add joint to it")
    asked = run_bench.benchmarks_of(args)
    refuse_foreign(out, "seed-*", "*/seed-*")
    writable(out)
    if args.one_seed:
        run_seed(out, models[0], sizes, args.first_seed, args.variants, args.fresh, asked)
        return 0
    runs = [(place, model, seed) for place, model in zip(places, models) for seed in seeds]
    if args.jobs == 1:
        for place, model, seed in runs:
            run_seed(place, model, sizes, seed, args.variants, args.fresh, asked)
    else:
        jobs = [(place, seed, ("ablate", "--one-seed", "--first-seed", str(seed), "--out", str(place), "--model", model,
                               "--fresh", str(args.fresh), *["--quick"] * args.quick, "--variants", *args.variants,
                               *run_bench.flags(args)))
                for place, model, seed in runs]
        run_jobs([Job(f"{place.name}, seed {seed}", command, place / f"seed-{seed}.log")
                  for place, seed, command in jobs], args.jobs)
    tables = {model: collect(place, seeds, args.fresh) for place, model in zip(places, models)}
    if args.json:
        print(json.dumps({model: read_json(place / "ablation.json") for place, model in zip(places, models)}, indent=2))
    else:
        for model, table in tables.items():
            print(f"{model}:", table, sep="\n\n")
    return 0


def run_seed(out: Path, model: str, sizes: WorldSizes, seed: int, variants: Sequence[str], fresh: int = 0,
             asked: run_bench.Benchmarks | None = None) -> None:
    """The run of one seed, its steps asked the benchmarks; then `fresh` further items for the joint model and the
    rounds, in SEED/fresh-N."""
    folder = out / f"seed-{seed}"
    settings = world_settings(model, sizes, seed, variants=tuple(name for name in TRAINED if name in variants))
    run_pipeline(settings, folder, lambda data: write_world(data, sizes, seed), benchmarks=asked)
    if fresh:
        ask_fresh(Run(settings, folder), seed, rounds_of(steps_of(folder)), fresh)


def ask_fresh(run: Run, seed: int, rounds: Sequence[str], fresh: int) -> None:
    """`fresh` further items of the unlabelled domains, less those that the run's test holds."""
    place = run.out / f"fresh-{fresh}"
    run.test = fresh_items(run.test, seed, fresh)
    for step in ("joint", *rounds):
        if not (place / step / "eval" / "summary.json").is_file():
            run.measure(step, None, place)


def fresh_items(test: Sequence[Example], seed: int, fresh: int) -> list[Example]:
    asked = {item.query for item in test}
    return [item for item in world.test_items(0, fresh, 0, seed=FRESH_SEEDS + seed) if item.query not in asked]


def steps_of(folder: Path) -> list[str]:
    """The steps of a run, in order."""
    return [step.name for step in plan_steps(RunSettings.of_run(folder))]


def rounds_of(steps: Sequence[str]) -> list[str]:
    return [step for step in steps if is_round(step)]


# ------------------------------------------------------------------------------------------------------------ the table

def collect(out: Path, seeds: Sequence[int], fresh: int = 0) -> str:
    """Pool the verdicts of all seeds, write ablation.{json,md}, return the Markdown."""
    begun = read_json(out / f"seed-{seeds[0]}" / "run.json")["settings"]
    steps = steps_of(out / f"seed-{seeds[0]}")
    by_seed = {step: [verdicts_of(out / f"seed-{seed}" / step / "eval") for seed in seeds] for step in steps}
    parts = ["all", *dict.fromkeys(v["set"] for v in chain(*by_seed["raw"]))]
    found = {(step, part): [right(verdicts, part) for verdicts in by_seed[step]] for step in steps for part in parts}
    found |= {("last", part): found[steps[-1], part] for part in parts}
    tests = {seed: load_examples(out / f"seed-{seed}" / "data" / "test.jsonl") for seed in seeds}
    asked = {part: [tool for seed in seeds for tool in tools_asked(tests[seed], part)] for part in parts}
    compared = {(a, b): {part: Paired.of(found[a, part], found[b, part], asked[part]) for part in parts}
                for a, b in _pairs(steps)}
    rounds = {step: [read_json(out / f"seed-{seed}" / step / "ledger.json") for seed in seeds]
              for step in rounds_of(steps)}
    record = {"seeds": list(seeds), "versions": versions(), "settings": begun,
              "scores": {step: {part: score([*chain(*found[step, part])])
                                | {"over_seeds": over_seeds([sum(one) / max(len(one), 1) for one in found[step, part]])}
                                for part in parts} for step in steps},
              "comparisons": {f"{a} -> {b}": {part: pair.to_dict() for part, pair in pairs.items()}
                              for (a, b), pairs in compared.items()},
              "undecodable": {step: sum(v["outcome"] == "undecodable" for v in chain(*by_seed[step]))
                              for step in steps},
              "funnel": {step: totals(ledgers) for step, ledgers in rounds.items()},
              "by votes": by_votes([ledger for ledgers in rounds.values() for ledger in ledgers])}
    text = _markdown(record, steps, parts, compared)
    if fresh:
        record["fresh"], lines = _fresh(out, tests, rounds_of(steps), fresh)
        text += "\n".join(["", *lines]) + "\n"
    text += "".join(f"{line}\n" for line in benchmark_lines(out, seeds))
    write_json(out / "ablation.json", record)
    write_text(out / "ablation.md", text)
    return text


def benchmark_lines(out: Path, seeds: Sequence[int]) -> list[str]:
    """A table of what the steps scored on the benchmarks, by both readings, over the seeds; nothing without any."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for label, folder in [pair for seed in seeds for pair in folders_of(out / f"seed-{seed}").items()]:
        for bench, cell in map(read_cell, folder):
            for reading, scores in cell["scores"].items():
                if "overall" in scores:
                    found.setdefault((bench, label), {}).setdefault(reading, []).append(scores["overall"]["value"])
    if not found:
        return []
    cells = [(BENCHMARKS[bench], name_of(label), *(with_half(over_seeds(values[word])) for word in READINGS))
             for (bench, label), values in sorted(found.items(), key=lambda item: item[0][0])]
    rows = [f"| {' | '.join(row)} |" for row in cells]
    return ["", "Benchmarks, overall, in %: the mean over the seeds, ± half of its 95% t-interval.", "",
            "| benchmark | step | strict | lenient |", "|---|---|---|---|", *rows]


def _pairs(steps: Sequence[str]) -> list[tuple[str, str]]:
    rounds = rounds_of(steps)
    pairs = [pair for pair in PAIRS if set(pair) <= {*steps, *(["last"] if rounds else [])}]
    if "joint" in steps and "invocation-adapted" not in steps:
        pairs.insert(pairs.index(("joint", "last")) if rounds else len(pairs), ("raw", "joint"))
    return [*pairs, *zip(["joint", *rounds[:-1]], rounds)]


def right(verdicts: Sequence[dict], part: str) -> list[bool]:
    """Item by item whether the answer was right; `part` is a part of the test, or "all"."""
    return [v["outcome"] == "right" for v in verdicts if part in ("all", v["set"])]


def tools_asked(items: Sequence[Example], part: str) -> list[str]:
    """The tool that each item asks for: the first that the right answer calls, or the first on offer."""
    return [item.calls[0].name if item.calls else item.tools[0].name
            for item in items if part in ("all", test_set(item))]


def score(found: Sequence[bool]) -> dict:
    """Fraction of right items with its interval."""
    return proportion(sum(found), len(found)).to_dict() | {"items": len(found)}


@dataclass(frozen=True)
class Paired:
    """How two steps differ on the same items, and how that varies over the items' tools and over seeds."""

    result: Comparison
    over_tools: dict
    over_seeds: dict

    @classmethod
    def of(cls, before: Sequence[Sequence[bool]], after: Sequence[Sequence[bool]], tools: Sequence[str]) -> Self:
        """From whether the items of each seed were answered rightly, and the tool that each item asks for."""
        pooled = [[*chain(*seeds)] for seeds in (before, after)]
        return cls(paired_bootstrap(*pooled), over_clusters(*pooled, tools),
                   over_seeds([fmean(b) - fmean(a) for a, b in zip(before, after, strict=True)]))

    def to_dict(self) -> dict:
        return self.result.to_dict() | {"over_tools": self.over_tools, "over_seeds": self.over_seeds}

    def line(self, before: str, after: str) -> str:
        """One sentence, in points; one tool or one seed has no interval."""
        spread = {"tools": self.over_tools, "seeds": self.over_seeds}
        return describe(self.result, before, after) + "".join(
            f"; over {found['n']} {name} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
            for name, found in spread.items() if found["low"] is not None)


def _markdown(record: dict[str, Any], steps: Sequence[str], parts: Sequence[str],
              compared: dict[tuple[str, str], dict[str, Paired]]) -> str:
    lines = [f"Exact match in % over {len(record['seeds'])} seeds, pooled test items, 95% intervals (Wilson).", "",
             "| variant | " + " | ".join(f"{part} ({record['scores']['raw'][part]['items']})" for part in parts)
             + " | paper, BFCL overall |", "|---|" + "---|" * (len(parts) + 1)]
    for step in steps:
        cells = [record["scores"][step][part] for part in parts]
        title = VARIANTS[step].title if step in VARIANTS else step.replace("-", " ")
        paper = (f"{VARIANTS[step].paper[2]:.2f}" if step in VARIANTS else f"{PAPER_EVOLVED[2]:.2f} (best)" if step
                 == steps[-1] else "")
        lines.append(f"| {title} | {' | '.join(map(interval, cells))} | {paper} |")
    lines += ["", "The paper's column is another model on another benchmark: the order of the rows can be compared, "
                  "the numbers cannot.", "",
              PAIRED, ""]
    lines += [f"- {part}: " + pair.line(a, steps[-1] if b == "last" else b)
              for (a, b), pairs in compared.items() for part, pair in pairs.items()]
    return "\n".join([*lines, *([""] + _rounds(record) if record["funnel"] else [])]) + "\n"


def _rounds(record: dict[str, Any]) -> list[str]:
    """What became of the queries of each round, over all seeds."""
    lines = ["Queries of the rounds, all seeds together:", "",
             "| | queries | accepted | steps | precision of values | recall | answers to test items that cannot be "
             "decoded | most frequent reasons to reject |",
             "|---|---|---|---|---|---|---|---|"]
    for step, sums in record["funnel"].items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in [*sums["reasons"].items()][:4])
        lines.append(f"| {step.replace('-', ' ')} | {sums['queries']} | {sums['accepted']} | {sums['steps']} | "
                     f"{percent(sums['precision'])} | {percent(sums['recall'])} | {record['undecodable'][step]} | "
                     f"{reasons} |")
    return [*lines, "", f"Before the rounds {record['undecodable']['joint']} answers could not be decoded, "
                        f"{record['undecodable']['raw']} of the raw model's. Accepted answers, all rounds:", "",
                        *votes_table(record["by votes"])]


def _fresh(out: Path, tests: dict[int, list[Example]], rounds: Sequence[str],
           fresh: int) -> tuple[dict[str, Any], list[str]]:
    """What the further items say of the rounds, alone and with the test's of the same domains: (record, Markdown)."""
    further = {seed: tools_asked(fresh_items(test, seed, fresh), "all") for seed, test in tests.items()}

    def items(step: str, seed: int, both: bool) -> list[bool]:
        alone = right(verdicts_of(out / f"seed-{seed}" / f"fresh-{fresh}" / step / "eval"), "all")
        return alone + (right(verdicts_of(out / f"seed-{seed}" / step / "eval"), "unlabelled") if both else [])

    record: dict[str, Any] = {}
    lines = [f"The same models, asked further items of the unlabelled domains ({fresh} a seed less those that the test "
             "holds):"]
    for both in (False, True):
        found = {step: [items(step, seed, both) for seed in tests] for step in ("joint", *rounds)}
        scores = {step: score([*chain(*answers)]) for step, answers in found.items()}
        tools = [tool for seed in tests for tool in further[seed]
                 + (tools_asked(tests[seed], "unlabelled") if both else [])]
        compared = {step: Paired.of(found["joint"], found[step], tools) for step in rounds}
        title = f"{scores['joint']['items']:,} items" + ", the test's of these domains among them" * both
        lines += ["", f"| {title} | exact match |", "|---|---|",
                  *(f"| {step.replace('-', ' ')} | {interval(cell)} |" for step, cell in scores.items()), "",
                  *(f"- {pair.line('joint', step)}" for step, pair in compared.items())]
        record["with the test's" if both else "further"] = {"scores": scores, "comparisons": {
            f"joint -> {step}": pair.to_dict() for step, pair in compared.items()}}
    return record, lines
