"""`tooldev.py export`: a trained adapter for other programs, as PEFT's folder or merged into a Hugging Face checkpoint.

    python tooldev.py export --model DIR --adapter runs/mine/round-3 --out mine-adapter
    python tooldev.py export --model DIR --adapter runs/mine/round-3 --out mine-merged --merge

The folder appears whole or not at all, with a model card (card.py). What merging loses to rounding is measured and
printed.
"""

import argparse
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from data.files import add_overwrite, claim, naming, write_json, write_text
from data.schema import read_json
from lora import adapter_folder, companions, export
from model import Tokenizer, load_model, save_model
from model.weights import DTYPES, read_header, weight_files
from pipeline.card import model_card
from pipeline.inputs import EMBEDDED, flag
from training.config import PRECISIONS
from training.gate import check_model
from training.origin import FILE as ORIGIN
from training.prompt import FILE, note_prompt, noted_prompt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default=str(EMBEDDED), metavar="DIR", help="the base that the adapter was trained on")
    add("--adapter", required=True, default=argparse.SUPPRESS, metavar="DIR",
        help="the adapter, or a step of a run such as runs/demo/round-3")
    add("--out", required=True, default=argparse.SUPPRESS, metavar="DIR",
        help="folder to make; it must not hold anything yet")
    add_overwrite(parser)
    flag(parser, "merge", False, "a whole checkpoint, the adapter merged into its weights", action="store_true")
    add("--dtype", choices=("same", "fp32", "bf16", "fp16"), default="same", help="of merged weights; same: the base's")
    add("--shard-gb", type=float, default=5.0, help="most 1e9 bytes in one file of weights")
    flag(parser, "base-name", "", "what adapter_config.json and the card call the base, such as org/name; without it, "
         "--model, and in the card the name of its folder", metavar="NAME")
    flag(parser, "scores", [], "folders of `eval`, of this adapter or of the base alone, for the card; those in the "
         "steps of a run (run --bench) are found without it", nargs="+", metavar="DIR")


def main(args: argparse.Namespace) -> int:
    out = Path(os.path.realpath(args.out))              # a link to a folder, and ".", have a name of their own then
    adapter = adapter_folder(args.adapter)
    tokenizer = check_model(args.model, adapter)
    if not args.shard_gb > 0:
        raise ValueError(f"--shard-gb is {args.shard_gb:g}; it must be above 0")
    if out.resolve() in (Path(args.model).resolve(), adapter.resolve()):
        raise ValueError(f"--out {args.out}: is where the export comes from; choose another folder")
    claim(args.out, "tooldev.py export", inputs=[], writes=[], overwrite=args.overwrite)
    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"--out {args.out}: cannot write there ({error.strerror}); choose another folder or change "
                         "its rights") from None
    try:
        with naming(out):
            line = write(args, adapter, aside, tokenizer)
            card = model_card(Path(args.model), adapter, name=out.resolve().name, merged=args.merge,
                              base_name=args.base_name, scored=list(map(Path, args.scores)),
                              drift=line.partition(";")[0].capitalize() + "." if args.merge else "")
            write_text(aside / "README.md", card)
        place(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(f"{line}\n{args.out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0


def place(aside: Path, out: Path) -> None:
    """Rename the folder; into one that holds something, file by file, less the files of another checkpoint there.

    Its generation_config.json, its tokenizer or its chat template beside these weights would be read as theirs.
    """
    if not out.exists() or not any(out.iterdir()) and not out.samefile(Path.cwd()):
        os.replace(aside, out)
        return
    parts = sorted(aside.iterdir(), key=lambda path: (path.name.endswith("config.json"), path.name))
    told = {out / name for name in ("adapter_config.json", "config.json", FILE, ORIGIN)}
    weights = {*out.glob("*model*.safetensors*"), *told}
    for path in {*weights, *companions(out)} - {out / part.name for part in parts}:
        path.unlink(missing_ok=True)
    for path in parts:
        if path.is_dir():
            shutil.rmtree(out / path.name, ignore_errors=True)
        os.replace(path, out / path.name)


def write(args: argparse.Namespace, adapter: Path, folder: Path, tokenizer: Tokenizer) -> str:
    """Fill the folder; returns what there is to say about it."""
    dtype = stored_dtype(Path(args.model)) if args.dtype == "same" else getattr(torch, PRECISIONS[args.dtype])
    drift = export(args.model, adapter, folder, load_model=load_model, dtype=dtype, shard_gb=args.shard_gb,
                   save_model=save_model if args.merge else None)
    note_prompt(folder, noted_prompt(adapter))
    if drift is None:
        if (adapter / ORIGIN).is_file():
            write_json(folder / ORIGIN, read_json(adapter / ORIGIN))
        config = read_json(folder / "adapter_config.json")
        write_json(folder / "adapter_config.json", {**config, "base_model_name_or_path": args.base_name or args.model})
        return (f"adapter in PEFT's layout: rank {config['r']}, alpha {config['lora_alpha']:g}, on "
                f"{', '.join(config['target_modules'])}{stop_hint(Path(args.model), tokenizer)}")
    config, name = read_json(Path(args.model) / "config.json"), str(dtype).removeprefix("torch.")
    keys = {"dtype", "torch_dtype"} & config.keys() or {"torch_dtype"}              # the newer and the older spelling
    write_json(folder / "config.json", {**config, **dict.fromkeys(keys, name)})
    return (f"merged in {name}: rounding lost {drift.weights:.2e} of the update's norm in the worst layer; logits "
            f"moved by at most {drift.logits:.2e}{end_where_training_ended(folder, tokenizer)}")


def end_where_training_ended(folder: Path, tokenizer: Tokenizer) -> str:
    """Put the turn's end among the checkpoint's stop tokens, in both files that name them; returns what was changed.

    Training ends each answer with that token; a base may stop at another one only, and would then never stop.
    """
    end, changed = tokenizer.eos_ids[0], []
    config = read_json(folder / "config.json")
    file = folder / "generation_config.json"
    generation = read_json(file) if file.is_file() else None
    if end not in stop_ids(config):
        write_json(folder / "config.json", {**config, "eos_token_id": [end, *stop_ids(config)]})
        changed.append("config.json")
        if generation is None:
            generation = {key: config[key] for key in ("bos_token_id", "pad_token_id") if config.get(key) is not None}
    if generation is not None and end not in stop_ids(generation):
        before = stop_ids(generation) or stop_ids(config)
        write_json(file, {**generation, "eos_token_id": [end, *(one for one in before if one != end)]})
        changed.append("generation_config.json")
    return f"; {tokenizer.control_name(end)}, which ends a turn, put first of eos_token_id in {' and '.join(changed)}" \
        if changed else ""


def stop_hint(model: Path, tokenizer: Tokenizer) -> str:
    """For an adapter, which names no stop tokens: what its user has to set where the base stops at others only."""
    end, file = tokenizer.eos_ids[0], model / "generation_config.json"
    known = stop_ids(read_json(file if file.is_file() else model / "config.json"))
    if end in known:
        return ""
    return (f"; the base's eos_token_id lacks {end} ({tokenizer.control_name(end)}), which ends a turn: name it as a "
            "stop token where the adapter is used")


def stop_ids(config: dict[str, Any]) -> list[int]:
    """The ids of `eos_token_id`, which may be one number, a list, or absent."""
    ids = config.get("eos_token_id")
    return [] if ids is None else list(ids) if isinstance(ids, list) else [ids]


def stored_dtype(folder: Path) -> Any:
    """The dtype of most weights in the base's files."""
    counts = Counter(info["dtype"] for file in weight_files(folder) for info in read_header(file).values())
    return DTYPES[counts.most_common(1)[0][0]]
