"""`tooldev.py eval`: let a model answer a benchmark, keep its raw answers, score them.

Greedy by default. The same command goes on after an interruption and ends with the same files; under torchrun the
entries are shared out and the last process to finish scores. OUT holds generation/ (raw completions), answers.jsonl,
verdicts.jsonl, summary.json and eval.json (every setting).
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from data.files import Claim, add_overwrite, claim, made, sha256_file, write_json, write_jsonl
from eval.apibank import benchmark as apibank
from eval.bfcl import benchmark as bfcl
from eval.prompting import (
    Display,
    apibank_messages,
    apibank_reply,
    bfcl_messages,
    converted,
    teval_messages,
    teval_reply,
)
from eval.score import (
    BENCHES,
    SCORES,
    add_scoring_arguments,
    comparison_with,
    load,
    run_module,
    score_file,
    summary_lines,
    write_comparison,
    write_scores,
)
from eval.teval import benchmark as teval

WRITTEN = ("answers.jsonl", "eval.json", *SCORES)
PRECISIONS = ("fp32", "bf16", "fp16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `eval`."""
    parser.add_argument("--bench", required=True, choices=BENCHES)
    parser.add_argument("--data", required=True, help="folder of the benchmark's data")
    parser.add_argument("--model", required=True, help="Hugging Face folder of the model")
    parser.add_argument("--adapter", help="adapter in PEFT's layout, or a step of a run such as runs/demo/round-3")
    parser.add_argument("--out", required=True, help="folder for answers and scores; the same one resumes")
    parser.add_argument("--categories", nargs="+", help="bfcl: only these categories; teval: only these tasks")
    parser.add_argument("--limit", type=int, help="only the first N entries of each category (a smoke test, not a score)")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="longest answer; the leaderboard allows 4096")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling, where the temperature is not 0")
    parser.add_argument("--precision", choices=("auto", *PRECISIONS), default="auto", help="of the model's weights; auto: bf16 where the device "
                        "multiplies it natively, else fp16 on a GPU, fp32 on a CPU")
    parser.add_argument("--device", default="auto", help="cpu, cuda (under torchrun each process its own), cuda:1, ...; auto: cuda where there is one")
    parser.add_argument("--max-rows", type=int, help="answers decoded at once (default: 64 on a CPU, where prompts of uneven "
                                                     "length waste attention; 256 on a GPU)")
    parser.add_argument("--cache-gb", type=float, help="key-value cache, 10^9 bytes (default: half of the free memory)")
    parser.add_argument("--pack-weights", action="store_true", help="on a CPU: decode faster, with a second copy of the weights")
    parser.add_argument("--threads", type=int, help="CPU threads of this process")
    parser.add_argument("--no-language-note", action="store_true", help="bfcl: do not say which language's syntax is wanted")
    parser.add_argument("--published-types", action="store_true", help="bfcl: show type words as published (float, tuple)")
    parser.add_argument("--released-prompt", action="store_true", help="apibank: the released prompt instead of the paper's")
    parser.add_argument("--against", help="another run's folder: adds a paired comparison, ours minus it")
    add_scoring_arguments(parser)
    add_overwrite(parser)


def main(args: argparse.Namespace) -> int | None:
    """Generate what is missing, then score; nothing is made before the data and the model were read."""
    from model import load_tokenizer
    from model.chat import render

    out = Path(args.out)
    claimed = claim_out(args, out)
    benchmark = load(args.bench, args.data)
    wanted = prompts(benchmark, args)
    tokenizer = load_tokenizer(args.model)
    ids = [render(messages, tokenizer)[0] for messages in wanted.values()]
    completions = generate_missing(args, tokenizer, list(wanted), ids, out / "generation")
    if len(completions) < len(wanted):
        print(f"{len(completions)} of {len(wanted)} answers are here; the process that finishes last scores")
        return 0
    answers = [answer_of(args.bench, key, tokenizer.decode(completions[key][0].ids), completions[key][0].finish_reason,
                         underscore_names=args.underscore_names) for key in wanted]
    report_unfinished(answers)
    with claimed:
        write_answers(args, out, answers, benchmark, len(wanted))
        claimed.finish(made(out, WRITTEN))
    return 0


def claim_out(args: argparse.Namespace, out: Path) -> Claim:
    """The right to write into --out. The completions there say by themselves which model and prompts they are of."""
    pace = ("command", "data", "model", "adapter", "out", "overwrite", "against", "device", "max_rows", "cache_gb",
            "pack_weights", "threads")
    settings = {name: value for name, value in vars(args).items() if name not in pace}
    reads = [path for path in (args.model, args.adapter, args.against) if path]
    claimed = claim(out, "tooldev.py eval", inputs=[("data", args.data)], writes=WRITTEN, settings=settings, reads=reads,
                    overwrite=args.overwrite, begun=(out / "generation").is_dir())
    if args.overwrite and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        for old in (out / "generation").glob("completions-*.jsonl"):
            old.unlink()
    return claimed


def write_answers(args: argparse.Namespace, out: Path, answers: list[dict], benchmark: Any, wanted: int) -> None:
    """Keep the answers, score them, and print and keep the scores."""
    write_jsonl(out / "answers.jsonl", answers)
    write_json(out / "eval.json", {"settings": {k: v for k, v in vars(args).items() if k != "command"},
                                   "display": asdict(display_of(args))})
    verdicts, summary = score_file(args.bench, benchmark, out / "answers.jsonl", args)
    summary["limited_to"] = wanted if args.limit or args.categories else None
    compared = comparison_with(verdicts, args.against, out, str(out), overwrite=args.overwrite)
    write_scores(out, out / "answers.jsonl", verdicts, summary)
    print("\n".join(summary_lines(summary)))
    write_comparison(out, compared)


def display_of(args: argparse.Namespace) -> Display:
    """How BFCL's functions are shown under these flags."""
    return Display(not args.no_language_note, args.published_types, args.underscore_names)


def prompts(benchmark: Any, args: argparse.Namespace) -> dict[str, list[dict]]:
    """Item id -> messages, in file order; a T-Eval id is `task/id`, because its tasks share ids."""
    if args.bench == "bfcl":
        chosen = [(e.id, e.category, partial(bfcl_messages, e, display_of(args)))
                  for e in bfcl.ordered(benchmark, args.categories)]
    elif args.bench == "apibank":
        chosen = [(r.id, str(r.level), partial(apibank_messages, r, benchmark.documents, released=args.released_prompt))
                  for r in apibank.ordered(benchmark)]
    else:
        unknown = set(args.categories or ()) - set(teval.TASKS)
        if unknown:
            raise ValueError(f"no T-Eval task {sorted(unknown)}; choose from {list(teval.TASKS)}")
        chosen = [(f"{i.task}/{i.id}", i.task, partial(teval_messages, i)) for i in benchmark.items.values()
                  if not args.categories or i.task in args.categories]
    seen: Counter = Counter()
    kept = {}
    for key, group, make in chosen:
        seen[group] += 1
        if not args.limit or seen[group] <= args.limit:
            kept[key] = make()
    return kept


def generate_missing(args: argparse.Namespace, tokenizer: Any, item_ids: list[str], ids: list[list[int]],
                     folder: Path) -> dict:
    """Every completion there is after this process's share is done, by item id."""
    import torch

    from lora import adapter_folder, load_adapter
    from model import load_model
    from sampler import generate_share, place_in_world, read_shares
    from training.base import compute_dtype

    if args.threads:
        torch.set_num_threads(args.threads)
    rank, world_size = place_in_world()
    device, names = device_of(args.device), {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    dtype, adapter = compute_dtype(args.precision, device), args.adapter and adapter_folder(args.adapter)
    model = load_model(args.model, dtype=dtype, device=device)
    if adapter:
        load_adapter(model, adapter)
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    generate_share(model, ids, folder, item_ids=item_ids, dist_rank=rank, world_size=world_size,
                   about={"model": fingerprint(args.model, adapter), "precision": names[dtype]},
                   max_new_tokens=args.max_new_tokens, temperature=args.temperature, seed=args.seed,
                   eos_ids=tokenizer.eos_ids, vocab_size=tokenizer.vocab_size,
                   banned_ids=sorted(set(tokenizer.special_ids) - set(tokenizer.eos_ids)),
                   max_rows=args.max_rows or (64 if device.type == "cpu" else 256), cache_gb=args.cache_gb, pack_weights=args.pack_weights,
                   progress=rank == 0)
    return {key: value for key, value in read_shares(folder).items() if key in set(item_ids)}


def device_of(name: str) -> Any:
    """The torch.device of --device; under torchrun "cuda" is the one of this process."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)


def fingerprint(model: str, adapter: str | Path | None) -> dict[str, str]:
    """Hashes of the weights that answer."""
    files = sorted(Path(model).glob("*.safetensors")) + (sorted(Path(adapter).glob("*.safetensors")) if adapter else [])
    return {f"{path.parent.name}/{path.name}": sha256_file(path) for path in files}


def answer_of(bench: str, key: str, text: str, finish_reason: str, *, underscore_names: bool = False) -> dict[str, Any]:
    """One line of answers.jsonl: the raw text, and for API-Bank and T-Eval the reply that is scored."""
    extra = {} if finish_reason == "stop" else {"finish_reason": finish_reason}
    if bench == "bfcl":
        named = {"underscore_names": True} if underscore_names else {}
        return {"id": key, "text": text, **named, **extra}
    if bench == "apibank":
        reply, rewritten = converted(text, apibank_reply)
        level, rest = key[1:].split("/", 1)
        file, number = rest.rsplit("#", 1)
        line = {"id": key, "level": int(level), "file": file, "sample_id": int(number), "reply": reply}
    else:
        task, item_id = key.split("/", 1)
        reply, rewritten = converted(text, partial(teval_reply, task))
        line = {"id": item_id, "task": task, "reply": reply}
    return line | ({"converted": True, "text": text} if rewritten else {}) | extra


def report_unfinished(answers: list[Mapping]) -> None:
    """One line for answers that were cut off, and one for prompts that did not fit."""
    reasons = Counter(answer.get("finish_reason") for answer in answers)
    if reasons["length"]:
        print(f"{reasons['length']} answers reached --max-new-tokens and are cut off", file=sys.stderr)
    if reasons["refused"]:
        print(f"{reasons['refused']} prompts are too long for the model and count as not answered", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_module(sys.modules["__main__"]))
