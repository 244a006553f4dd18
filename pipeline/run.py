r"""`tooldev.py run`: the method on your own model, tools, labelled examples and new queries.

    python tooldev.py run --model ckpt/qwen2.5-0.5b --tools tools.jsonl --examples examples.jsonl \
        --queries queries.jsonl --out runs/mine

Everything is checked before anything is written. The inputs are copied, normalised, into the run's data folder; where
no --test or --validation file is given, a share of the examples is held out by hash. The same command again goes on
where it stopped.
"""

import argparse
import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Any

from data.augment import RECIPE
from data.check import check_file
from data.files import refuse_inputs_inside, writable
from data.prompts import PAPER_PROMPT, PROMPTS
from evolution.config import RoundConfig
from evolution.flags import named_values
from pipeline import run_bench
from pipeline.inputs import EMBEDDED, MOST_HELD_OUT, Inputs, flag, read_inputs, refuse_other_run, table
from pipeline.saved import OF_ROUND, OF_TRAINING, saved_settings, sizes
from pipeline.settings import PAPER_PRESET, PRESETS, Preset, RunSettings, round_settings
from pipeline.steps import run_pipeline, say
from tooldev import VARIANTS, Evolution, Lora, Sizes
from training.config import TrainConfig
from training.gate import check_model
from training.prompt import check_trainable, noted_prompt

EPOCHS = ("adaption_epochs", "labelled_epochs", "evolve_epochs")
SIZES = [spec for spec in dataclasses.fields(Preset) if spec.metadata]      # what a preset holds, each an option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add, quiet = parser.add_argument, partial(flag, parser)
    add("--model", default=str(EMBEDDED), metavar="DIR", help="the base: a folder of Llama 3, Qwen2.5 or Mistral v0.3")
    for name, text in (("tools", "tool documents, for adaption"), ("examples", "labelled examples, for joint training"),
                       ("queries", "new queries, for self-evolution")):
        add(f"--{name}", required=True, default=argparse.SUPPRESS, metavar="F", help=f"JSON Lines of {text}")
    add("--out", required=True, default=argparse.SUPPRESS, metavar="DIR",
        help="folder of the run; the same command resumes")
    for name in ("validation", "test"):
        quiet(name, "", f"JSON Lines of {name} examples; without it, some of --examples are held out", metavar="F")
    add("--holdout", type=float, default=0.1, metavar="SHARE", help="part of --examples held out for each of these, "
        f"{MOST_HELD_OUT} at most; 0: none")
    add("--rounds", type=int, default=Evolution.rounds, help="rounds of self-evolution")
    quiet("queries-per-round", 0, "new queries a round, none twice; without it, equal shares of the file, "
          f"{Sizes.queries_per_round:,} at most", type=int)
    quiet("probe", None, "labelled examples whose agreement of samples is followed over the rounds, at the cost of as "
          f"many queries a round; 0: none; without it, {RoundConfig.probe}", type=int)
    add("--config", metavar="F", default=argparse.SUPPRESS, help="the settings that a run saved (its run.json); flags "
        "override them")
    parser.read_config = saved_settings
    parser.set_defaults(saved={})
    quiet("preset", None, "sizes to start from; without it, tiny for the embedded model, else paper",
          choices=tuple(PRESETS))
    for spec in SIZES:
        text = f"{spec.metadata['help']}; without it, the preset's"
        quiet(spec.name.replace("_", "-"), None, text, type=type(spec.default))
    quiet("shuffle-tools", None, "offer the candidates of call rows in another order (paper: no); without it, the "
          "preset's", action=argparse.BooleanOptionalAction)
    quiet("prompt", None, "how the model is trained and asked to call tools: the paper's prompt, or native, the tool "
          "block of its own chat template (ChatML alone), as services with a `tools` field ask; without it, as the "
          "base's folder says, else paper", choices=PROMPTS)
    quiet("epochs", None, "passes over the data of every stage, where the options above do not say", type=float)
    add("--rank", type=int, default=Lora.rank, help="LoRA rank")
    add("--alpha", type=float, default=Lora.alpha, help="LoRA alpha")
    add("--precision", choices=("auto", "fp16", "bf16", "fp32"), default="auto", help="compute type of the base")
    add("--shard", nargs="?", const="node", default="off", choices=("off", "auto", "node", "job"),
        help="under torchrun: share the base's weights out over the processes of a machine (node) or of the run (job); "
             "auto: where the base does not fit otherwise")
    add("--seed", type=int, default=0, help="seed of training and sampling")
    quiet("variants", ["joint"], "variants of Table 3 to train; without it, joint, which the rounds follow", nargs="+",
          choices=tuple(VARIANTS))
    add("--json", action="store_true", help="print report.json at the end instead of report.md")
    quiet("guard", [], "benchmark files; what repeats them never enters training", nargs="+", metavar="F")
    quiet("stop-when", False, "stop after a round whose ledger says that another would harm",
          action=argparse.BooleanOptionalAction)
    run_bench.add_arguments(parser)
    for name, example in (("train", "gradient_checkpointing=1"),
                          ("evolve", "min_votes=3, or distractors=4 and distractor_choice=similar")):
        quiet(name, [], f"another setting of {name}.py, such as {example} (repeatable)", action="append",
              metavar="NAME=VALUE")


def main(args: argparse.Namespace) -> int:
    from training.sharing import sharing

    out = Path(args.out)
    if args.shard != "off" and args.bench:
        raise ValueError("--bench does not go with --shard; ask the steps of the finished run by `eval --shard`")
    if args.shard == "off" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("run is one process unless --shard shares the base out over several; leave torchrun out")
    refuse_inputs_inside(out, filter(None, (args.tools, args.examples, args.queries, args.test, args.validation)), "")
    tokenizer = check_model(args.model)
    inputs = read_inputs(args.tools, args.examples, args.queries, test=args.test, validation=args.validation,
                         fraction=args.holdout, guard=args.guard)
    settings, asked = run_settings(args, inputs), run_bench.benchmarks_of(args)
    check_trainable(settings.prompt, tokenizer)
    refuse_other_run(out, inputs)
    writable(out)
    say(settings_table(settings, inputs))
    say("\n".join([*inputs.notes, *rule_notes(args.tools, args.examples)]))
    if asked and not args.guard:
        say("note: --bench without --guard: nothing keeps the benchmarks' own questions out of training")
    with sharing(args.shard, settings.train.get("timeout_minutes", TrainConfig.timeout_minutes)) as processes:
        report = run_pipeline(settings, out, inputs.write, processes, asked)
    if report:                          # the first process's
        print((out / f"report.{'json' if args.json else 'md'}").read_text(encoding="utf-8"))
    return 0


def run_settings(args: argparse.Namespace, inputs: Inputs) -> RunSettings:
    """The settings of the run, each checked by those who use it; ValueError names the option."""
    preset = args.preset or ("tiny" if Path(args.model).resolve() == EMBEDDED else "paper")
    given = sizes(args.saved, preset)
    evolve, train = given.pop("evolve"), given.pop("train")
    given |= dict.fromkeys(EPOCHS, args.epochs) if args.epochs is not None else {}
    given |= {name: getattr(args, name) for name in (*(spec.name for spec in SIZES), "shuffle_tools")
              if getattr(args, name) is not None}
    given |= {"probe": args.probe} if args.probe is not None else {}
    evolve |= named_values(args.evolve, RoundConfig, OF_ROUND, "--evolve")
    evolve |= {"stop_when": True} if args.stop_when else {}
    saved = train.pop("prompt", None)
    prompt = args.prompt or saved or noted_prompt(args.model)
    train |= {"prompt": prompt} if prompt != PAPER_PROMPT else {}
    sharded = {"shard": args.shard} if args.shard != "off" else {}
    settings = RunSettings.from_preset(
        preset, model=str(args.model), seed=args.seed, rounds=args.rounds, variants=tuple(dict.fromkeys(args.variants)),
        queries_per_round=queries_per_round(args, len(inputs.queries)), rank=args.rank, alpha=args.alpha,
        precision=args.precision, guard=tuple(args.guard), evolve=evolve,
        train=train | named_values(args.train, TrainConfig, OF_TRAINING, "--train") | sharded, **given)
    for stage in ("adaption", "joint", "evolve"):
        TrainConfig(stage=stage, **settings.training(stage))
    RoundConfig.from_dict(round_settings(settings, Path(args.out) / "data"))
    return settings


def queries_per_round(args: argparse.Namespace, found: int) -> int:
    """As asked for, else equal shares of the queries that there are, the paper's number at most."""
    if args.queries_per_round < 0:
        raise ValueError(f"--queries-per-round is {args.queries_per_round}; expected 1 or more, or leave it out for "
                         "equal shares of the file")
    if args.rounds < 1 or "joint" not in args.variants:
        return args.queries_per_round
    wanted = args.queries_per_round or min(Sizes.queries_per_round, found // args.rounds)
    if wanted < 1 or wanted * args.rounds > found:
        raise ValueError(f"{args.queries}: {found:,} queries are too few for {args.rounds} rounds of {max(1, wanted):,}"
                         "; give more, or lower --rounds or --queries-per-round")
    return wanted


def settings_table(settings: RunSettings, inputs: Inputs) -> str:
    """This run's sizes and settings beside the paper's."""
    paper, epochs = PAPER_PRESET, (f"{getattr(settings, name):g}" for name in EPOCHS)
    rows: dict[str, tuple[Any, Any]] = {
        "tool documents": (len(inputs.tools), Sizes.tools),
        "labelled examples": (len(inputs.examples), Sizes.examples),
        "new queries a round": (settings.queries_per_round, Sizes.queries_per_round),
        "rounds": (settings.rounds, "3 at most"),
        "validation / test examples": (f"{len(inputs.validation):,} / {len(inputs.test):,}", "BFCL, API-Bank, T-Eval"),
        "global batch": (settings.global_batch_size, paper.global_batch_size),
        "learning rate": (settings.learning_rate, paper.learning_rate),
        **({"learning rate of a round": (settings.evolve_learning_rate, paper.learning_rate)}
           if settings.evolve_learning_rate else {}),
        "epochs adaption / labelled / round": (" / ".join(epochs), "not stated"),
        "longest row": (settings.max_length, "not stated"),
        "LoRA rank": (settings.rank, Lora.rank),
        "LoRA alpha": (settings.alpha, Lora.alpha),
        "samples of the calls": (settings.evolve.get("num_samples", Evolution.num_samples), Evolution.num_samples),
        "votes needed": (settings.evolve.get("min_votes", 1), "most of 5"),
        "precision": (settings.precision, "fp16"),
    }
    recipe = {name: (getattr(settings, name), "none") for name in RECIPE if getattr(settings, name)}
    more = {name: (value, "ours, or not stated") for name, value in {**settings.train, **settings.evolve}.items()
            if name not in ("num_samples", "min_votes")}
    return table(f"settings (preset {settings.preset})", rows | recipe | more)


def rule_notes(tools: str, examples: str) -> list[str]:
    """A line for each input that the rule checker would reject parts of; they are used as they are."""
    notes = []
    for path, are_tools in ((tools, True), (examples, False)):
        funnel, _ = check_file(path, tools=are_tools)
        if funnel.passed < funnel.rows:
            bad = funnel.rows - funnel.passed
            notes.append(f"note: {bad:,} of {funnel.rows:,} {funnel.what} break the rules and are used all the same; "
                         f"`tooldev.py check {path}{' --tools' if are_tools else ''}` says which")
    return notes
