"""The command line of a round: flags from the fields of RoundConfig, over what run.json says, over the defaults."""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from data.schema import read_json
from evolution.config import RoundConfig, flag

TRAIN_FLAGS = ("balance", "generation_weight", "learning_rate", "epochs", "max_steps", "global_batch_size", "micro_batch_tokens", "max_length",
               "precision", "threads")      # of train.TrainConfig, by their own names; the others through --train NAME=VALUE


def make_parser(description: str | None = None) -> argparse.ArgumentParser:
    """Flags from the fields of RoundConfig; what is not given comes from the run."""
    parser = argparse.ArgumentParser(description=description)
    for spec in dataclasses.fields(RoundConfig):
        text = spec.metadata["help"].replace("%", "%%")
        if spec.name == "train":
            parser.add_argument("--train", action="append", metavar="NAME=VALUE", help=text + " (repeatable)")
        elif spec.name == "guard":
            parser.add_argument("--guard", nargs="*", default=None, help=text)
        elif isinstance(spec.default, bool):
            parser.add_argument(f"--{flag(spec.name)}", action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(f"--{flag(spec.name)}", type=type(spec.default), default=None, help=text,
                                choices=spec.metadata.get("choices"), required=spec.name == "round")
    for name in TRAIN_FLAGS:
        parser.add_argument(f"--{flag(name)}", help=f"the training setting {name}; see train.py --help")
    parser.add_argument("--plan", action="store_true", help="print what the round would cost, and stop")
    return parser


def round_config(args: argparse.Namespace) -> RoundConfig:
    """Flags over what run.json says under "evolve", over the defaults."""
    run = Path(args.run) if args.run else newest_run()
    if not args.run:
        print(f"run: {run} (the newest)", file=sys.stderr, flush=True)
    if not (run / "run.json").is_file():
        raise FileNotFoundError(f"{run / 'run.json'}: not found; --run wants the folder of a run")
    record = read_json(run / "run.json")
    settings = {key: record[key] for key in ("model", "queries") if isinstance(record.get(key), str)}
    settings |= record.get("evolve", {})
    given = {key: value for key, value in vars(args).items() if value is not None and key not in ("train", "plan", *TRAIN_FLAGS)}
    texts = [f"{name}={getattr(args, name)}" for name in TRAIN_FLAGS if getattr(args, name) is not None] + (args.train or [])
    train = {**settings.get("train", {}), **dict(train_setting(text) for text in texts)}
    return RoundConfig.from_dict({**settings, **given, "run": str(run), "train": train})


def newest_run(root: Path = Path("runs")) -> Path:
    """The folder under `root` whose run.json is the newest."""
    found = sorted(root.glob("*/run.json"), key=lambda path: (path.stat().st_mtime, path.parent.name))
    if not found:
        raise FileNotFoundError(f"{root.resolve()}: no run with a run.json; begin one with `python tooldev.py demo`, or "
                                "name one with --run")
    return found[-1].parent


def train_setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE -> (name, value), of the type that the setting has."""
    from training.config import TrainConfig

    name, equals, value = text.partition("=")
    defaults = dataclasses.asdict(TrainConfig())
    if not equals or name not in defaults:
        raise ValueError(f"--train {text}: expected NAME=VALUE with NAME one of {', '.join(sorted(defaults))}")
    return name, type(defaults[name])(value)
