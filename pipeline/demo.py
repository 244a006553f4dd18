"""`tooldev.py demo`: the whole method on the embedded model and the generated tool world, with nothing to download.

The labelled examples come from ten domains, the new queries from eight others, and the test items from both and from
four that no training text knows; tools and values of the test occur nowhere else (data/world.py). Settings suit a model
of a few million weights and are printed beside the paper's.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from data import world
from data.files import write_jsonl
from eval.report.gather import settings_beside_paper
from eval.report.page import number
from evolution.config import RoundConfig
from pipeline.settings import RunSettings
from pipeline.steps import run_pipeline, say
from tooldev import home
from training.gate import check_model


@dataclass(frozen=True)
class WorldSizes:
    """Rows of one run on the world."""

    tools: int
    examples: int
    queries_per_round: int
    rounds: int
    validation: int
    test: tuple[int, int, int]          # labelled, unlabelled, heldout domains


FULL = WorldSizes(tools=800, examples=1500, queries_per_round=800, rounds=3, validation=100, test=(120, 300, 60))
# Fewer queries and items: the demo should take a quarter of an hour.
DEMO = dataclasses.replace(FULL, queries_per_round=320, validation=60, test=(100, 250, 50))
QUICK = WorldSizes(tools=64, examples=96, queries_per_round=20, rounds=1, validation=20, test=(16, 28, 8))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default=None,
                        help="folder of the run (default: runs/demo, or runs/demo-quick); the same command resumes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data, of training and of sampling")
    parser.add_argument("--quick", action="store_true", help="the same code on less data, one round")
    parser.add_argument("--json", action="store_true", help="print report.json at the end instead of report.md")
    parser.add_argument("--model", default=None, help="base to use instead of the embedded one, model/tiny")


def main(args: argparse.Namespace) -> int:
    sizes = QUICK if args.quick else DEMO
    out = Path(args.out or ("runs/demo-quick" if args.quick else "runs/demo"))
    if args.model:
        check_model(args.model)
    settings = world_settings(args.model or str(home("model", "tiny")), sizes, args.seed)
    say(settings_table(settings, sizes))
    run_pipeline(settings, out, lambda data: write_world(data, sizes, args.seed))
    print((out / f"report.{'json' if args.json else 'md'}").read_text(encoding="utf-8"))
    return 0


def world_settings(model: str, sizes: WorldSizes, seed: int, variants: tuple[str, ...] = ("adaption", "joint"),
                   **changes) -> RunSettings:
    """Settings of a run on the world with the preset for the embedded model."""
    evolve = {"min_votes": 3, "tools_top_k": 5, "calls_top_k": 5, "grounded": True, "init": "joint",
              "accumulate": True, "mix": 1.0, **changes.pop("evolve", {})}     # reasons in LOG.md
    return RunSettings.from_preset("tiny", model=model, seed=seed, rounds=sizes.rounds, variants=variants,
                                   queries_per_round=sizes.queries_per_round, probe=min(32, sizes.validation),
                                   evolve=evolve, **changes)


def write_world(data: Path, sizes: WorldSizes, seed: int) -> dict[str, list[dict]]:
    """Draw the run's data from the world into `data`; returns what each query really asks for."""
    made = world.training_data(seed, tools=sizes.tools, labelled=sizes.examples)
    found, truth = world.queries(sizes.queries_per_round * sizes.rounds, seed=seed)
    validation = world.examples(sizes.validation, group="labelled", split="train", seed=seed + 1_000_000)
    known = {example.query for example in made["examples"]}
    rows = {"tools": made["tools"], "examples": made["examples"], "queries": found,
            "validation": [example for example in validation if example.query not in known],
            "test": world.test_items(*sizes.test, seed=seed)}
    for name, items in rows.items():
        write_jsonl(data / f"{name}.jsonl", [item.to_dict() for item in items])
    write_jsonl(data / "truth.jsonl", [{"id": name, "calls": calls} for name, calls in truth.items()])
    return truth


def settings_table(settings: RunSettings, sizes: WorldSizes) -> str:
    """This run's settings beside the paper's, as in the report."""
    evolve = {spec.name: spec.default for spec in dataclasses.fields(RoundConfig)} | settings.evolve
    rows = settings_beside_paper(dataclasses.asdict(settings), evolve,
                                 {"tools": sizes.tools, "examples": sizes.examples})
    lines = [f"{'settings':42} {'here':>14}   paper"]
    for row in rows:
        paper = "not stated" if row["paper"] is None else number(row["paper"])
        lines.append(f"  {row['name']:40} {number(row['here']):>14}   {paper}")
    return "\n".join(lines)
