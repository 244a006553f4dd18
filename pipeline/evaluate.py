"""`tooldev.py eval`: let a model answer a benchmark, keep its raw answers, score them.

Greedy by default. The same command goes on after an interruption and ends with the same files. With a larger
--bench-limit it asks the further entries alone. Under torchrun the entries are shared out and the last process to
finish scores. OUT holds generation/ (raw completions), answers.jsonl, verdicts.jsonl and verdicts_lenient.jsonl (both
readings of the answers), summary.json and eval.json (every setting).
"""

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from data.decoding import PACKING, check_temperature, never_sampled
from data.files import (
    Claim,
    add_overwrite,
    claim,
    claimed_settings,
    held,
    made,
    sha256_file,
    visible,
    write_json,
    write_jsonl,
)
from data.prompts import NATIVE_PROMPT, PAPER_PROMPT, PROMPTS
from eval import benches
from eval.answers import read_answers
from eval.benches import Benchmark
from eval.score import PATHS, SCORES, comparison, read_scores, run_module, score_readings, write_scores

WRITTEN = ("answers.jsonl", "eval.json", *SCORES)
PACE = (*PATHS, "model", "adapter", "device", "max_rows", "cache_gb", "pack_weights", "shard", "threads")
# not written down at these values: older folders lack them
LATER = {"prompt": PAPER_PROMPT, "bench_limit": None, "shard": "off", "retrieve": "gold"}
PRECISIONS = ("fp32", "bf16", "fp16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bench", required=True, choices=benches.names())
    parser.add_argument("--data", required=True, help="folder of the benchmark's data")
    parser.add_argument("--model", required=True, help="Hugging Face folder of the model")
    parser.add_argument("--adapter", help="adapter in PEFT's layout, or a step of a run such as runs/demo/round-3")
    parser.add_argument("--out", required=True, help="folder for answers and scores; the same one resumes")
    parser.add_argument("--categories", nargs="+",
                        help="only these categories (bfcl), levels (apibank) or tasks (teval)")
    parser.add_argument("--limit", type=int,
                        help="only the first N entries of each category (a smoke test, not a score)")
    parser.add_argument("--bench-limit", type=int, metavar="N",
                        help="a fixed subset of N entries, the categories in proportion, chosen by the hash of their "
                             "ids: the same for every model")
    parser.add_argument("--prompt", choices=PROMPTS,
                        help="paper: its prompt, with the tools in the system text; native: the tools as the model's "
                             "own chat template has them, a further baseline of a raw model. Without it, as the "
                             "adapter or the model was trained, else paper")
    parser.add_argument("--max-new-tokens", type=int, default=512,
                        help="longest answer; the leaderboard allows 4096")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling, where the temperature is not 0")
    parser.add_argument("--precision", choices=("auto", *PRECISIONS), default="auto",
                        help="of the model's weights; auto: bf16 where the device multiplies it natively, else fp16 on "
                             "a GPU, fp32 on a CPU")
    parser.add_argument("--device", default="auto",
                        help="cpu, cuda (under torchrun each process its own), cuda:1; auto: cuda where there is one")
    parser.add_argument("--max-rows", type=int, help="answers decoded at once (default: 64 on a CPU, where prompts of "
                                                     "uneven length waste attention; 256 on a GPU)")
    parser.add_argument("--cache-gb", type=float,
                        help="key-value cache, 10^9 bytes (default: half of the free memory)")
    parser.add_argument("--pack-weights", action=argparse.BooleanOptionalAction, help=PACKING)
    parser.add_argument("--shard", nargs="?", const="node", default="off", choices=("off", "auto", "node", "job"),
                        help="under torchrun: share the base's weights out over the processes of a machine (node) or "
                             "of the run (job); auto: where the base does not fit otherwise")
    parser.add_argument("--threads", type=int, help="CPU threads of this process")
    parser.add_argument("--against", help="another run's folder: adds a paired comparison, ours minus it")
    benches.add_arguments(parser, prompts=True)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_overwrite(parser)


def main(args: argparse.Namespace) -> int | None:
    """Generate what is missing, then score; nothing is made before the data and the model were read."""
    from training.config import check_threads
    from training.gate import check_model

    check_temperature(args.temperature, "--temperature")
    check_threads(args.threads or 0)
    refuse_unsharded(args)
    claimed = claim_out(args)
    benchmark, chosen, subset = choose_entries(args)
    device_of(args.device, there=True)
    tokenizer = check_model(args.model, args.adapter or "")
    ids = [prompt_ids(benchmark, entry, tokenizer, args.prompt) for entry in chosen]
    forget = args.overwrite and int(os.environ.get("WORLD_SIZE", "1")) == 1
    completions = generate_missing(args, tokenizer, [entry.key for entry in chosen], ids, claimed.out / "generation",
                                   forget=forget)
    if len(completions) < len(chosen):
        if completions:
            print(f"{len(completions)} of {len(chosen)} answers are here; the process that finishes last scores")
        return 0
    answers = []
    for entry in chosen:
        (completion, *_) = completions[entry.key]
        extra = {} if completion.finish_reason == "stop" else {"finish_reason": completion.finish_reason}
        answers.append(benchmark.answer_line(entry, tokenizer.decode(completion.ids)) | extra)
    report_unfinished(answers)
    with claimed:
        write_answers(args, claimed.out, answers, benchmark, subset)
        claimed.finish(made(claimed.out, WRITTEN))
    return 0


def choose_entries(args: argparse.Namespace) -> tuple[Benchmark, list[Any], dict[str, Any] | None]:
    """(what is scored, the entries to ask, what to say of the subset that --bench-limit makes)."""
    for name in ("limit", "bench_limit"):
        if (number := getattr(args, name)) is not None and number < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {number}; expected 1 or more entries, or leave it out")
    if args.limit and args.bench_limit:
        raise ValueError("--limit takes the first entries of each category, --bench-limit a fixed subset; give one")
    benchmark = benches.load(args.bench, args.data, args)
    chosen = benches.choose(benchmark, args.categories, args.limit)
    if not args.bench_limit:
        return benchmark, chosen, None
    return benches.take_subset(benchmark, chosen, args.bench_limit)


def prompt_ids(benchmark: Benchmark, entry: Any, tokenizer: Any, prompt: str) -> list[int]:
    """The token ids that the model is to go on from.

    Raises:
        ValueError: `prompt` is native, and the model's template or the benchmark has no place for tools.
    """
    from model.chat import render
    from training.prompt import check_native

    if prompt != NATIVE_PROMPT:
        return render(benchmark.messages(entry), tokenizer)[0]
    messages, tools = benchmark.native(entry)
    check_native(tokenizer)
    return render(messages, tokenizer, tools=[tool.to_function() for tool in tools])[0]


def refuse_unsharded(args: argparse.Namespace) -> None:
    """ValueError for options that do not go with a sharded base."""
    if args.shard != "off" and args.pack_weights:
        raise ValueError("--pack-weights does not go with --shard: packed weights are a second, whole copy of the base")
    if args.shard != "off" and args.device not in ("auto", "cuda"):
        raise ValueError(f"--device {args.device} does not go with --shard: each process takes its own; leave it out")


def claim_out(args: argparse.Namespace) -> Claim:
    """The right to write into --out. The completions there say by themselves which model and prompts they are of."""
    out = Path(args.out)
    args.prompt = args.prompt or trained_prompt(args)
    settings = {name: value for name, value in vars(args).items()
                if name not in PACE and not (name in LATER and value == LATER[name])}
    reads = [path for path in (args.model, args.adapter, args.against) if path]

    def claimed_with(overwrite: bool, **changes: Any) -> Claim:
        return claim(out, "tooldev.py eval", inputs=[("data", args.data)], writes=WRITTEN,
                     settings={**settings, **changes}, reads=reads, overwrite=overwrite,
                     begun=completions_only(out / "generation"))

    former = claimed_settings(out)
    if args.overwrite or not asks_more(former, settings):
        claimed = claimed_with(args.overwrite)
    else:
        claimed_with(False, bench_limit=former["bench_limit"])      # what is there is this eval's, of fewer entries
        claimed = claimed_with(True)
    if args.against:
        read_scores(args.against)                       # what cannot be read is told now, not after the answers
    return claimed


def trained_prompt(args: argparse.Namespace) -> str:
    """How the weights were trained to be asked, where the benchmark can be asked so; says what is not the default."""
    from lora import adapter_folder
    from training.processes import tell_first
    from training.prompt import resolved

    trained, who = resolved(None, args.model, args.adapter and adapter_folder(args.adapter))
    if trained == PAPER_PROMPT:
        return trained
    if trained not in benches.prompts(args.bench):
        tell_first(f"note: {args.bench} brings prompts of its own, so the {trained} one of {who} is not used")
        return PAPER_PROMPT
    tell_first(f"asked by the {trained} prompt, as {who} says")
    return trained


def asks_more(former: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether nothing but a larger --bench-limit, or none, sets an eval off from the former one in its folder."""
    before, now = former.get("bench_limit"), settings.get("bench_limit")
    return before is not None and (now is None or now > before) and (
        {**former, "bench_limit": None} == json.loads(json.dumps({**settings, "bench_limit": None})))


def completions_only(folder: Path) -> bool:
    """Whether a folder is there and holds nothing but what a killed `eval` leaves in it."""
    return folder.is_dir() and all(name.startswith("completions-") for name in visible(folder))


def write_answers(args: argparse.Namespace, out: Path, answers: list[dict], benchmark: Benchmark,
                  subset: dict[str, Any] | None) -> None:
    """Keep the answers, score them, and print and keep the scores."""
    write_jsonl(out / "answers.jsonl", answers)
    write_json(out / "eval.json", {"settings": {k: v for k, v in vars(args).items() if k not in ("command", "json")}})
    verdicts, summary = score_readings(benchmark, list(read_answers(out / "answers.jsonl")))
    summary["limited_to"] = len(answers) if args.limit or args.categories or subset else None
    summary |= {"prompt": args.prompt, "subset": subset}
    compared = comparison(verdicts, args.against, out, out, overwrite=args.overwrite)
    write_scores(out, out / "answers.jsonl", verdicts, summary, compared, as_json=args.json)


def generate_missing(args: argparse.Namespace, tokenizer: Any, item_ids: list[str], ids: list[list[int]],
                     folder: Path, *, forget: bool = False) -> dict:
    """Every completion there is after this process's share is done, by item id.

    Args:
        forget: remove the completions that are there, once the model and its adapter are loaded.
    """
    import torch

    from lora import adapter_folder, load_adapter
    from model.sharding import in_step, is_sharded
    from sampler import generate_share, place_in_world, read_shares
    from sampler.packing import packing_note
    from training.base import compute_dtype, load_shared
    from training.processes import hush, tell
    from training.sharing import base_mesh, sharing

    if args.threads:
        torch.set_num_threads(args.threads)
    dist_rank, world_size = place_in_world()
    device, names = device_of(args.device), {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    dtype, adapter = compute_dtype(args.precision, device), args.adapter and adapter_folder(args.adapter)
    with sharing(args.shard) as processes:
        mesh = base_mesh(args.model, dtype, processes, args.shard, tell if dist_rank == 0 else hush)
        model = load_shared(args.model, dtype, device, processes, mesh)
        if adapter:
            load_adapter(model, adapter)
        model.eval()
        if args.pack_weights and dist_rank == 0 and packing_note(model):
            tell(packing_note(model))
        alone = held(folder, "eval", dist_rank)
        with alone, in_step(model, processes.joint_pass) if processes else nullcontext():
            for old in folder.glob("completions-*.jsonl") if forget else ():
                old.unlink()
            generate_share(model, ids, folder, item_ids=item_ids, dist_rank=dist_rank, world_size=world_size,
                           about={"model": fingerprint(args.model, adapter), "precision": names[dtype]},
                           max_new_tokens=args.max_new_tokens, temperature=args.temperature, seed=args.seed,
                           eos_ids=tokenizer.eos_ids, vocab_size=tokenizer.vocab_size,
                           banned_ids=never_sampled(tokenizer),
                           max_rows=args.max_rows or (64 if device.type == "cpu" else 256), cache_gb=args.cache_gb,
                           pack_weights=args.pack_weights, progress=dist_rank == 0)
        if is_sharded(model) and dist_rank > 0:         # all end at once: the first one scores
            return {}
    return {key: value for key, value in read_shares(folder).items() if key in set(item_ids)}


def device_of(name: str, *, there: bool = False) -> Any:
    """The torch.device of --device; under torchrun "cuda" is the one of this process. `there`: it has to be one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"(cpu|cuda)(:[0-9]{1,2})?", name) or there and name[:4] == "cuda" and not \
            torch.cuda.is_available():
        raise ValueError(f"--device {name!r}: expected auto, cpu, or cuda where PyTorch sees a GPU")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)


def fingerprint(model: str, adapter: str | Path | None) -> dict[str, str]:
    """Hashes of the weights that answer."""
    files = sorted(Path(model).glob("*.safetensors")) + (sorted(Path(adapter).glob("*.safetensors")) if adapter else [])
    return {f"{path.parent.name}/{path.name}": sha256_file(path) for path in files}


def report_unfinished(answers: list[Mapping]) -> None:
    """One line for answers that were cut off, and one for prompts that did not fit."""
    reasons = Counter(answer.get("finish_reason") for answer in answers)
    if reasons["length"]:
        print(f"{reasons['length']} answers reached --max-new-tokens and are cut off", file=sys.stderr)
    if reasons["refused"]:
        print(f"{reasons['refused']} prompts are too long for the model and count as not answered", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_module(sys.modules["__main__"]))
