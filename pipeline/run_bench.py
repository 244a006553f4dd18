"""`run --bench` and `ablate --bench`: every step of a run asked the benchmarks, each as one call of `eval`.

The folder RUN/STEP/bench/NAME is what `tooldev.py eval` writes, and resumes as it does. Where the model's chat template
has a block for tools, the raw model is asked by that, too, in raw/bench/NAME-native. A finished run takes the same
command with --bench added, and asks then.
"""

import argparse
import contextlib
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from data.files import BEGUN
from data.prompts import NATIVE_PROMPT, PAPER_PROMPT
from eval import benches
from eval.benches import Benchmark
from eval.report.measured import NATIVE
from eval.score import subset_text
from pipeline import evaluate
from pipeline.estimate import SAMPLE
from pipeline.inputs import flag
from pipeline.settings import RunSettings
from pipeline.steps import Run, Step, say

NEW_TOKENS = 512                        # longest answer, as eval's


@dataclass(frozen=True)
class Benchmarks:
    """What every step is asked: data folder, and what was chosen of it, by benchmark; entries of each at most (None:
    all); new tokens.
    """

    folders: dict[str, str]
    chosen: dict[str, tuple[Benchmark, list[Any]]]
    limit: int | None = None
    new_tokens: int = NEW_TOKENS

    def size(self, run: Run) -> tuple[int, float]:
        """(entries, tokens of their prompts), from the first entries of each benchmark."""
        tokens = 0.0
        for name, (benchmark, entries) in self.chosen.items():
            prompt = prompt_of(run.settings, name, "joint")
            prompts = [evaluate.prompt_ids(benchmark, entry, run.tokenizer, prompt) for entry in entries[:SAMPLE]]
            tokens += fmean(map(len, prompts)) * len(entries)
        return sum(len(entries) for _, entries in self.chosen.values()), tokens

    def ask(self, run: Run, step: Step) -> None:
        """Every benchmark that this step has not answered yet."""
        for name, folder in self.folders.items():
            ask(self, run.settings, name, folder, run.out / step.name, run.out / step.name / "bench" / name)
            if step.name == "raw" and run.tokenizer.native_tools and len(benches.prompts(name)) > 1:
                ask(self, run.settings, name, folder, run.out / "raw", run.out / "raw" / "bench" / (name + NATIVE))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `run` and of `ablate`."""
    quiet = partial(flag, parser)
    quiet("bench", [], f"ask every step these benchmarks ({', '.join(benches.names())}), each with its data folder",
          nargs="+", metavar="NAME=DIR")
    quiet("bench-limit", None, "entries of each benchmark: a fixed subset, the categories in proportion, chosen by the "
          "hash of the ids; without it, all. A larger one later asks the further entries", type=int, metavar="N")
    parser.add_argument("--bench-tokens", type=int, default=NEW_TOKENS, metavar="N",
                        help="longest answer to a benchmark, in tokens")


def benchmarks_of(args: argparse.Namespace) -> Benchmarks | None:
    """The benchmarks asked for, their data read once; None without --bench.

    Raises:
        FileNotFoundError, ValueError: a benchmark is unknown, given twice, or its data are not right.
    """
    folders: dict[str, str] = {}
    for pair in args.bench:
        name, equals, folder = pair.partition("=")
        if not equals or name not in benches.names():
            raise ValueError(f"--bench {pair}: expected NAME=DIR with NAME one of {', '.join(benches.names())}")
        if name in folders:
            raise ValueError(f"--bench {pair}: {name} is there already, with {folders[name]}; give it once")
        folders[name] = folder
    if not folders:
        return None
    if (args.bench_limit is not None and args.bench_limit < 1) or args.bench_tokens < 1:
        raise ValueError(f"--bench-limit {args.bench_limit} and --bench-tokens {args.bench_tokens}: both must be 1 or "
                         "more")
    chosen = {}
    for name, folder in folders.items():
        benchmark, entries, about = evaluate.choose_entries(_parsed(["--bench", name, "--data", folder, "--model", "",
                                                                     "--out", ""], args.bench_limit))
        say(f"{name}: {subset_text(about) if about else f'{len(entries):,} entries'}, in {benchmark.folder}")
        chosen[name] = benchmark, entries
    return Benchmarks(folders, chosen, args.bench_limit, args.bench_tokens)


def flags(args: argparse.Namespace) -> list[str]:
    """The flags that ask for the same benchmarks in another process."""
    if not args.bench:
        return []
    limit = ["--bench-limit", str(args.bench_limit)] if args.bench_limit else []
    return ["--bench", *args.bench, *limit, "--bench-tokens", str(args.bench_tokens)]


def ask(asked: Benchmarks, settings: RunSettings, name: str, data: str, step: Path, out: Path) -> None:
    """One call of `eval`; of one that is finished with as many entries, only whether its settings are the same."""
    command = ["--bench", name, "--data", data, "--model", settings.model, "--out", str(out), "--max-new-tokens",
               str(asked.new_tokens), "--precision", settings.precision]
    command += [] if step.name == "raw" else ["--adapter", str(step)]
    command += ["--prompt", NATIVE_PROMPT if out.name.endswith(NATIVE) else prompt_of(settings, name, step.name)]
    for pace in ("max_rows", "cache_gb"):
        if pace in settings.evolve:
            command += [f"--{pace.replace('_', '-')}", str(settings.evolve[pace])]
    packs = settings.evolve.get("pack_weights")
    command += [] if packs is None else ["--pack-weights" if packs else "--no-pack-weights"]
    args = _parsed(command, asked.limit)
    finished = (out / "summary.json").is_file() and not (out / BEGUN).is_file()       # not killed between its files
    if finished and not evaluate.claim_out(args).overwrite:         # a larger --bench-limit asks the further entries
        return
    say(f"  {step.name}: {out.name}")
    with contextlib.redirect_stdout(sys.stderr):
        evaluate.main(args)


def prompt_of(settings: RunSettings, name: str, step: str) -> str:
    """How a step is asked a benchmark; the raw model by the paper's prompt, and once more by its own."""
    return settings.prompt if step != "raw" and settings.prompt in benches.prompts(name) else PAPER_PROMPT


def _parsed(command: list[str], limit: int | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([*command, *(["--bench-limit", str(limit)] if limit else [])])
