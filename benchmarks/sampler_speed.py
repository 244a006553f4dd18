"""Samples of prompts: our sampler beside transformers' generate and llama.cpp, as one Markdown table.

    python benchmarks/sampler_speed.py                                   # workloads (a) and (b), about 15 minutes
    python benchmarks/sampler_speed.py --data FOLDER                     # (b) with prompts made of BFCL's questions
    python benchmarks/sampler_speed.py --shape smollm2-135m --workload c --data FOLDER      # one sample of many prompts
    python benchmarks/sampler_speed.py --shape smollm2-135m --workload c,d --dtype fp32 --quick    # in ten minutes
    python benchmarks/sampler_speed.py --llama                           # llama.cpp, too (wants llama-cpp-python)
    python benchmarks/sampler_speed.py --shape toy --repeats 1           # a minute: does it work?
    python benchmarks/sampler_speed.py --device cuda --shape 8b          # a GPU: workloads (decode) and (many)
    python benchmarks/sampler_speed.py --shape toy --workload decode     # those on a CPU: does their code work?

The workloads are described in sampler_work.py. The bars: (c) and (d) 2.3 times the speed of transformers and 1.3 times
that of llama.cpp; (many) 5 times transformers; (decode) 70% of the copy's bandwidth, counting the weights once a step.

The model has the shape of Qwen2.5-0.5B and random weights, the same on all sides. --shape 8b and smollm2-135m have the
sizes of Llama-3.1-8B and SmolLM2-135M, still as a Qwen2 model (biases in q, k and v, its RoPE), so that the sides stay
alike. All decode the same fixed list of output lengths, forced: no stop token ends a row sooner, and a row whose length
is reached is over. transformers is measured at several batch sizes and its best one counts; it pads on the left,
repeats each prompt n times and decodes a batch until its longest row ends. Each run is a process of its own; the sides
take turns, and the fastest of --repeats runs counts.

"of matmul peak" and "of bandwidth peak" compare our two phases with what a large product and a large copy reach on the
same machine just before: needed arithmetic and needed bytes over the time taken. "times one reading" is the time of
decoding over that of reading the weights and the cache once a step at the copy's bandwidth. Run it with nothing else
running. With --shape toy all lengths are an eighth. On a GPU clocks wait for the device, each run follows one that
warms up, memory is what its allocator gave out at most, and a batch size that does not fit is out of the race; take
--dtype fp16 before sm_80. The GPU mode has not been run on a GPU yet, only its code on a CPU: distrust its first
numbers.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import neighbours
from benchmarks.device import DTYPES, clock, copy_peak, matmul_peak, peak_memory, refuse_missing_device, release
from benchmarks.machine import describe
from benchmarks.sampler_work import GREEDY, TOP_K, make_work
from model.config import ModelConfig
from model.transformer import Transformer
from sampler.engine import Engine
from sampler.items import Row
from sampler.options import Options

HALF_B = {
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
TOY = HALF_B | {
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
LLAMA_8B = HALF_B | {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
SMOLLM2 = HALF_B | neighbours.SMOLLM2 | {"rope_theta": 100000.0, "rms_norm_eps": 1e-5}
SHAPES = {"0.5b": HALF_B, "8b": LLAMA_8B, "smollm2-135m": SMOLLM2, "toy": TOY}
WORKLOADS = {"cpu": ("a", "b"), "cuda": ("decode", "many")}
BANDWIDTH_BAR, SPEED_BARS, LLAMA_BAR = 0.7, {"c": 2.3, "d": 2.3, "many": 5.0}, 1.3


def config_of(shape: str) -> ModelConfig:
    sizes = SHAPES[shape]
    as_qwen2 = {"head_dim": sizes["hidden_size"] // sizes["num_attention_heads"], "qkv_bias": True,
                "model_type": "qwen2"}
    return ModelConfig(**sizes | as_qwen2)


def make_model(shape: str, device: str, dtype: torch.dtype) -> Transformer:
    with torch.device("meta"):
        model = Transformer(config_of(shape))
    model = model.to(dtype).to_empty(device=device)
    model.tie_weights()
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.02, generator=generator) if weight.dim() == 2 else weight.fill_(1.0)
    return model.eval()


def work_of(workload: str, args: argparse.Namespace) -> tuple[list[list[int]], list[list[int]]]:
    return make_work(workload, SHAPES[args.shape]["vocab_size"], args.data, scale=8 if args.shape == "toy" else 1,
                     quick=args.quick)


class ForcedEngine(Engine):
    """The engine with a length of its own for every sample, and a clock for each phase."""

    def __init__(
        self, model: Transformer, prompts: list[list[int]], options: Options, lengths: list[list[int]]
    ) -> None:
        super().__init__(model, prompts, options)
        self.lengths, self.clock = lengths, {"prefill": 0.0, "decode": 0.0}
        for phase in self.clock:
            setattr(self.passes, phase, partial(self._timed, phase, getattr(self.passes, phase)))

    def _timed(self, phase: str, run: Callable, *arguments: object) -> object:
        began = clock(self.device)
        result = run(*arguments)
        self.clock[phase] += clock(self.device) - began
        return result

    def most_tokens(self, row: Row) -> int:
        return self.lengths[row.item.index][row.sample]


def run_ours(
    model: Transformer, prompts: list[list[int]], lengths: list[list[int]], *, greedy: bool, pack: bool, compiled: bool
) -> dict:
    options = Options(
        max_new_tokens=max(map(max, lengths)), num_samples=len(lengths[0]), temperature=0.0 if greedy else 1.0,
        top_k=TOP_K, pack_weights=pack, compile_decode=compiled,
    )
    device = model.lm_head.weight.device
    began = clock(device)
    engine = ForcedEngine(model, prompts, options, lengths)
    results = engine.run()
    seconds = clock(device) - began
    assert [[len(c.ids) for c in completions] for completions in results] == lengths
    return {
        "seconds": seconds,
        **engine.clock,
        "prefill_tokens": engine.stats.prefill_tokens,
        "decode_steps": engine.stats.decode_steps,
    }


def their_model(model: Transformer):
    """transformers' model on the very weights of ours, so that they are in memory once."""
    import transformers

    c, weight = model.config, model.lm_head.weight
    config = transformers.Qwen2Config(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads,
        max_position_embeddings=c.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
        rms_norm_eps=c.rms_norm_eps,
        tie_word_embeddings=c.tie_word_embeddings,
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(config, dtype=weight.dtype)
    theirs.load_state_dict(model.state_dict(), assign=True)
    theirs.tie_weights()
    # no weights: still on meta
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config=config).to(weight.device)
    return theirs.eval()


def run_transformers(
    theirs, prompts: list[list[int]], lengths: list[list[int]], *, greedy: bool, batch: int
) -> dict:
    import transformers

    device = theirs.device

    class Lengths(transformers.StoppingCriteria):
        """Ends each row at its length, and notes the time when every row has its first token: the prefill is over."""

        def __init__(self, prompt_length: int, wanted: list[int]) -> None:
            self.ends = prompt_length + torch.tensor(wanted, device=device)
            self.prefilled = 0.0

        def __call__(self, input_ids, scores, **_) -> torch.Tensor:
            self.prefilled = self.prefilled or clock(device)
            return input_ids.shape[1] >= self.ends

    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))  # little padding
    began, prefill, steps = clock(device), 0.0, 0
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        longest = max(len(prompts[i]) for i in chosen)
        ids = torch.tensor([[0] * (longest - len(prompts[i])) + prompts[i] for i in chosen], device=device)
        mask = torch.tensor([[0] * (longest - len(prompts[i])) + [1] * len(prompts[i]) for i in chosen], device=device)
        wanted = [length for i in chosen for length in lengths[i]]
        ends, batch_began = Lengths(longest, wanted), clock(device)
        with torch.inference_mode():
            out = theirs.generate(
                ids,
                attention_mask=mask,
                **({"do_sample": False} if greedy else {"do_sample": True, "temperature": 1.0, "top_k": TOP_K}),
                num_return_sequences=len(lengths[0]),
                max_new_tokens=max(wanted),
                eos_token_id=None,
                pad_token_id=0,
                stopping_criteria=transformers.StoppingCriteriaList([ends]),
            )
        assert out.shape == (len(wanted), longest + max(wanted))
        prefill += ends.prefilled - batch_began
        steps += max(wanted) - 1
    seconds = clock(device) - began
    return {
        "seconds": seconds,
        "prefill": prefill,
        "decode": seconds - prefill,
        "prefill_tokens": sum(map(len, prompts)),
        "decode_steps": steps,
    }


def machine_peaks(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of a large product and bytes/s of a large copy, both ways counted."""
    peaks = matmul_peak(device, dtype, ((2048, 4096, 4096),)), copy_peak(device)
    release(device)
    return peaks


def run_side(args: argparse.Namespace) -> dict:
    """One run in this process; endless seconds if its memory runs out."""
    (prompts, lengths), greedy = work_of(args.workload, args), args.workload in GREEDY
    side = args.side
    try:
        model = make_model(args.shape, args.device, DTYPES[args.dtype])
        if side.startswith("ours"):
            run = partial(run_ours, model, greedy=greedy, pack=side == "ours, packed weights",
                          compiled=side == "ours, compiled")
        elif side.startswith("llama.cpp"):
            from benchmarks.llama_cpp_side import check_weights, run_llama

            off = check_weights(model, args.threads) if args.shape == "toy" else 0.0
            assert off < 0.1, f"llama.cpp's logits are off by {off:.3f} of their spread"
            run = partial(run_llama, model, slots=int(side.split()[1]), unified="unified" in side,
                          top_k=1 if greedy else TOP_K, threads=args.threads)
        else:
            run = partial(run_transformers, their_model(model), greedy=greedy, batch=int(side.rsplit(" ", 1)[1]))
        # all of it, so that nothing is compiled under the clock
        if args.workload == "decode":
            run(prompts, lengths)
        elif args.device == "cuda":
            run(prompts[-4:], [[8] * len(lengths[0])] * len(prompts[-4:]))
        result = run(prompts, lengths)
    except torch.OutOfMemoryError:
        return {"seconds": math.inf}
    return result | {"memory": peak_memory(args.device)}


def in_new_process(args: argparse.Namespace, side: str, workload: str) -> dict:
    command = [
        sys.executable,
        __file__,
        "--shape",
        args.shape,
        "--workload",
        workload,
        "--side",
        side,
        "--threads",
        str(args.threads),
        "--device",
        args.device,
        "--dtype",
        args.dtype,
        *(["--data", args.data] if args.data else []),
        *(["--quick"] if args.quick else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def sides_of(workload: str, num_prompts: int, args: argparse.Namespace) -> list[str]:
    """The names of what runs, each in a process of its own."""
    if workload == "decode":
        return ["ours", "ours, compiled", "transformers, batch 1"]
    return [
        "ours",
        *(["ours, packed weights"] if args.device == "cpu" and args.dtype == "bf16" else []),
        *(f"transformers, batch {b}" for b in args.batches.split(",") if int(b) <= num_prompts),
        *(f"llama.cpp, {n} slots{kind}" for n in args.slots.split(",") if args.llama and int(n) <= num_prompts
          for kind in ("", ", unified cache")),
    ]


def shares(
    result: dict, prompts: list[list[int]], lengths: list[list[int]], args: argparse.Namespace,
    peaks: tuple[float, float]
) -> dict:
    """Prefill's and decode's share of the peaks; attention's arithmetic counted, softmax and norms not."""
    c = SHAPES[args.shape]
    D, L = c["hidden_size"] // c["num_attention_heads"], c["num_hidden_layers"]
    block = c["hidden_size"] * (2 * c["hidden_size"] + 2 * c["num_key_value_heads"] * D + 3 * c["intermediate_size"])
    body, head = block * L, c["hidden_size"] * c["vocab_size"]
    pair = 4 * c["hidden_size"] * L  # a query with one key and value, all heads and layers
    causal = sum(len(prompt) ** 2 / 2 for prompt in prompts)
    drawn = sum(length - 1 for row in lengths for length in row)  # the first token of a sample is the prefill's
    seen = sum((length - 1) * (len(prompt) + length / 2) for prompt, row in zip(prompts, lengths) for length in row)
    prefill = 2 * body * result["prefill_tokens"] + pair * causal + 2 * head * len(prompts)
    decode = 2 * (body + head) * drawn + pair * seen
    # weights once a step; keys and values left out
    moved = DTYPES[args.dtype].itemsize * (body + head) * result["decode_steps"]
    # the cache once a step: a prompt for all its samples, and what each has written
    cache = sum(max(row) * len(prompt) + sum(n * n / 2 for n in row) for prompt, row in zip(prompts, lengths))
    cache *= 2 * L * c["num_key_value_heads"] * D * DTYPES[args.dtype].itemsize
    return {
        "readings": result["decode"] * peaks[1] / (moved + cache),
        "prefill": prefill / result["prefill"] / peaks[0],
        "decode": decode / result["decode"] / peaks[0],
        "decode bytes": moved / result["decode"] / peaks[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=WORKLOADS, default="cpu", help="where both sides run")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16", help="of the weights")
    parser.add_argument("--shape", choices=SHAPES, default="0.5b", help="size of the model")
    parser.add_argument("--workload", help="only these of a,b,c,d,many,decode (default: a,b; on a GPU decode,many)")
    parser.add_argument("--quick", action="store_true", help="(c) and (d) with 12 prompts and short answers")
    parser.add_argument("--data", help="folder with bench/bfcl and models/qwen2.5, for all but (a) and (decode)")
    parser.add_argument("--batches", help="batch sizes, in prompts, that transformers is tried at (default: 1,2,4,8,16;"
                                          " on a GPU also 32,64)")
    parser.add_argument("--llama", action="store_true", help="llama.cpp, too (on a CPU, in bf16, tied embeddings)")
    parser.add_argument("--slots", default="4,16", help="prompts at once that llama.cpp is tried with")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each side; the fastest counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of both sides")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    refuse_missing_device(parser, args.device)
    if args.llama and (args.device != "cpu" or args.dtype == "fp16" or not SHAPES[args.shape]["tie_word_embeddings"]):
        parser.error("--llama runs on a CPU, in bf16 or fp32, and with tied embeddings only")
    workloads = args.workload.split(",") if args.workload else WORKLOADS[args.device]
    if unknown := set(workloads) - {"a", "b", "c", "d", "many", "decode"}:
        parser.error(f"--workload: {sorted(unknown)} are none of a, b, c, d, many, decode")
    args.batches = args.batches or ("1,2,4,8,16,32,64" if args.device == "cuda" else "1,4,8" if args.quick
                                    else "1,2,4,8,16")
    torch.set_num_threads(args.threads)
    if args.side:
        print(json.dumps(run_side(args)))
        return
    peaks = machine_peaks(args.device, DTYPES[args.dtype])
    print(describe("transformers", *(["llama-cpp-python"] if args.llama else []), device=args.device))
    print(f"Shape {args.shape}, {args.dtype}; measured peaks: {peaks[0] / 1e9:.0f} GFLOP/s (matmul), "
          f"{peaks[1] / 1e9:.0f} GB/s (copy). Fastest of {args.repeats}; transformers at the best of batch sizes "
          f"{args.batches}. Prompts: {'those of BFCL' if args.data else 'random tokens, not BFCL (see --data)'}.\n")
    print(
        "| workload | side | seconds | items/s | against transformers | prefill, of matmul peak | decode, of matmul "
        "peak | decode, of bandwidth peak | decode, times one reading | peak memory GB |\n|" + "---|" * 10,
        flush=True,
    )
    reached = [run_workload(workload, args, peaks) for workload in workloads]
    print("".join(f"\n{line}\n" for line in reached if line), end="")


def run_workload(workload: str, args: argparse.Namespace, peaks: tuple[float, float]) -> str:
    """Run all sides in turns and print their rows; returns what was reached beside the workload's bar."""
    prompts, lengths = work_of(workload, args)
    sides = sides_of(workload, len(prompts), args)
    best: dict[str, dict] = {}
    for _ in range(args.repeats):
        for side in sides:
            result = in_new_process(args, side, workload)
            if side not in best or result["seconds"] < best[side]["seconds"]:
                best[side] = result
            print(f"({workload}) {side}: {result['seconds']:.2f} s", file=sys.stderr)
    ours = [side for side in sides if side.startswith("ours")]
    theirs = min((side for side in sides if side.startswith("transformers")), key=lambda side: best[side]["seconds"])
    llama = sorted((side for side in sides if side.startswith("llama")), key=lambda side: best[side]["seconds"])[:1]
    speeds, bandwidths = [0.0], [0.0]
    for side in (*ours, theirs, *llama):
        result, cells = best[side], [f"({workload}) {len(prompts)} prompts x {len(lengths[0])}", side]
        if result["seconds"] == math.inf:
            print("| " + " | ".join([*cells, "out of memory", *["-"] * 7]) + " |", flush=True)
            continue
        speed = best[theirs]["seconds"] / result["seconds"]
        cells += [f"{result['seconds']:.2f}", f"{len(prompts) / result['seconds']:.3f}"]
        cells += ["-" if speed == math.inf else f"**{speed:.2f}x**" if side in ours else f"{speed:.2f}x"]
        if side in ours or side == theirs and workload == "decode":
            share = shares(result, prompts, lengths, args, peaks)
            cells += [f"{share[key]:.0%}" for key in ("prefill", "decode", "decode bytes")]
            cells += [f"{share['readings']:.1f}"]
        else:
            cells += ["-"] * 4
        if side in ours:
            speeds.append(speed)
            bandwidths.append(share["decode bytes"])
        print("| " + " | ".join([*cells, f"{result['memory'] / 1e9:.2f}"]) + " |", flush=True)
    if workload == "decode":
        return f"(decode): ours reaches {max(bandwidths):.0%} of the copy's bandwidth; the bar is {BANDWIDTH_BAR:.0%}."
    # else transformers had too little memory at every batch size
    if workload in SPEED_BARS and max(speeds) < math.inf:
        beside = f"({workload}): ours has {max(speeds):.2f} times the speed of transformers; the bar is " \
                 f"{SPEED_BARS[workload]:g}."
        if llama and workload in GREEDY:
            fastest = min(best[side]["seconds"] for side in ours)
            ahead = best[llama[0]]["seconds"] / fastest
            beside += f" It has {ahead:.2f} times that of llama.cpp; the bar is {LLAMA_BAR}."
        return beside
    return ""


if __name__ == "__main__":
    main()
