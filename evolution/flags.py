"""The command line of a round: flags from the fields of RoundConfig, over what run.json says, over the defaults."""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.schema import read_object
from evolution.config import RoundConfig
from tooldev import Parser
from training.config import TrainConfig, flag, settings_of

# Of training.config.TrainConfig, by their own names; the others through --train NAME=VALUE.
TRAIN_FLAGS = ("balance", "generation_weight", "learning_rate", "epochs", "max_steps", "global_batch_size",
               "micro_batch_tokens", "max_length", "precision", "threads")

OWN = ("stage", "model", "adapter", "data", "validation", "out", "plan_only")       # the round's own to set
TAKEN = (*OWN, "prompt")                                                            # and what its start says


def make_parser(description: str | None = None) -> argparse.ArgumentParser:
    """Flags from the fields of RoundConfig; what is not given comes from the run."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
                    epilog="Example:\n  python evolve.py --run runs/demo --round 4 --queries queries.jsonl --plan")
    for spec in dataclasses.fields(RoundConfig):
        text = help_of(spec)
        if spec.name == "train":
            parser.add_argument("--train", action="append", metavar="NAME=VALUE", help=text + " (repeatable)")
        elif spec.name == "guard":
            parser.add_argument("--guard", nargs="*", default=None, help=text)
        elif spec.type in (bool, bool | None):
            parser.add_argument(f"--{flag(spec.name)}", action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(f"--{flag(spec.name)}", type=type(spec.default), default=None, help=text,
                                choices=spec.metadata.get("choices"), required=spec.name == "round")
    for name in TRAIN_FLAGS:
        parser.add_argument(f"--{flag(name)}", help=f"the training setting {name}; see train.py --help")
    parser.add_argument("--shard", nargs="?", const="node", choices=("off", "auto", "node", "job"),
                        help="share the frozen base's weights out over the processes, in sampling and training; see "
                             "train.py --help")
    parser.add_argument("--plan", action="store_true", help="print what the round would cost, and stop")
    return parser


def help_of(spec: dataclasses.Field) -> str:
    """The help text of a setting, with its default where that says something."""
    text = spec.metadata["help"]
    if spec.default not in ("", (), None, dataclasses.MISSING) and spec.name != "round":
        text += f" (default: the run's, else {spec.default})"
    return text.replace("%", "%%")


def round_config(args: argparse.Namespace) -> RoundConfig:
    """Flags over what run.json says under "evolve", over the defaults."""
    run = Path(args.run) if args.run else newest_run()
    if not args.run:
        print(f"run: {run} (the newest)", file=sys.stderr, flush=True)
    where = run / "run.json"
    if not where.is_file():
        raise FileNotFoundError(f"{where}: not found; --run wants the folder of a run")
    record = read_object(where)
    settings = {key: record[key] for key in ("model", "queries") if isinstance(record.get(key), str)}
    settings |= settings_of(record.get("evolve", {}), RoundConfig, f"{where}: evolve")
    begun = settings_of(settings.get("train", {}), TrainConfig, f"{where}: evolve: train", OWN)
    typed_flags = {name: value for name, value in vars(args).items() if value is not None}
    given = {name: value for name, value in typed_flags.items() if name not in ("train", "plan", "shard", *TRAIN_FLAGS)}
    texts = [f"{name}={typed_flags[name]}" for name in (*TRAIN_FLAGS, "shard") if name in typed_flags]
    typed = named_values([*texts, *(args.train or [])], TrainConfig, TAKEN, "--train")
    train = {**begun, **typed}
    if args.queries is not None and args.queries_per_round is None and settings.get("queries_per_round"):
        given["queries_per_round"] = 0                  # a round's part belongs to the run's own file
        print(f"queries: all of {args.queries} (fewer: --queries-per-round)", file=sys.stderr, flush=True)
    if args.seed is not None and "seed" not in typed:
        train["seed"] = args.seed                       # training, too, is drawn anew
    return RoundConfig.from_dict({**settings, **given, "run": str(run), "train": train})


def newest_run(root: Path = Path("runs")) -> Path:
    """The folder under `root` whose run.json is the newest."""
    found = sorted(root.glob("*/run.json"), key=lambda path: (path.stat().st_mtime, path.parent.name))
    if not found:
        raise FileNotFoundError(f"{root.resolve()}: no run with a run.json; begin one with `python tooldev.py demo`, "
                                "or name one with --run")
    return found[-1].parent


def named_values(texts: Sequence[str], record: type, taken: Sequence[str], option: str) -> dict[str, Any]:
    """Settings given as NAME=VALUE for fields of a dataclass, in each field's own type.

    Args:
        taken: fields that may not be set so: the run sets them, or they have an option of their own.

    Raises:
        ValueError: an unknown name, or a value of the wrong type.
    """
    defaults = {f.name: False if f.type == bool | None else f.default for f in dataclasses.fields(record)
                if f.name not in taken}
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in defaults:
            raise ValueError(f"{option} {text}: expected NAME=VALUE with NAME one of {', '.join(sorted(defaults))}")
        values[name] = _typed(value.strip(), defaults[name], f"{option} {text}")
    return values


def _typed(text: str, default: Any, where: str) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{where}: expected true or false")
        return text.lower() == "true"
    if isinstance(default, str):
        return text
    try:
        value = type(default)(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: expected {'a whole number' if isinstance(default, int) else 'a number'}")
    return value
