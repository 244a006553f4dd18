"""n samples of each of a few prompts: our sampler beside transformers' generate, on a CPU, as one Markdown table.

    python benchmarks/sampler_speed.py                                   # workloads (a) and (b), about 15 minutes
    python benchmarks/sampler_speed.py --data FOLDER                     # (b) with prompts made of BFCL's questions
    python benchmarks/sampler_speed.py --llama                           # llama.cpp, too (llama-cpp-python must be installed)
    python benchmarks/sampler_speed.py --shape toy --repeats 1           # a minute: does it work?

The model has the shape of Qwen2.5-0.5B and random bf16 weights, the same on both sides. Both decode the same fixed list
of output lengths, forced: no stop token ends a row sooner, and a row whose length is reached is over. transformers is
measured at several batch sizes and its best one counts; it pads on the left, repeats each prompt n times and decodes a
batch until its longest row ends. Both draw with top-k 10 at temperature 1. Each run is a process of its own; the sides
take turns, and the fastest of --repeats runs counts.

"of matmul peak" and "of bandwidth peak" compare our two phases with what a large bf16 product and a large copy reach on
the same machine just before: needed arithmetic and needed bytes over the time taken. Run it with nothing else running.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.machine import describe
from model.config import ModelConfig
from model.transformer import Transformer
from sampler.engine import Engine, Options

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
SHAPES = {"0.5b": HALF_B, "toy": TOY}
NUM_SAMPLES, TOP_K = 5, 10


def make_model(shape: str) -> Transformer:
    config = ModelConfig(
        head_dim=SHAPES[shape]["hidden_size"] // SHAPES[shape]["num_attention_heads"],
        qkv_bias=True,
        model_type="qwen2",
        **SHAPES[shape],
    )
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    model.tie_weights()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.02, generator=generator) if weight.dim() == 2 else weight.fill_(1.0)
    return model.eval()


def make_work(workload: str, shape: str, data: str | None) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and, per prompt and sample, the length to generate: functions of the arguments only."""
    rng, vocab_size = random.Random(1), SHAPES[shape]["vocab_size"]
    scale = 1 if shape == "0.5b" else 8
    if workload == "a":
        prompts = [[rng.randrange(vocab_size) for _ in range(512 // scale)] for _ in range(4)]
        return prompts, [[48 // scale] * NUM_SAMPLES for _ in prompts]
    if data is None:
        lengths = [(300 + 60 * i) // scale for i in range(16)]
        shared = [rng.randrange(vocab_size) for _ in range(100 // scale)]  # the system prompt's beginning
        prompts = [shared + [rng.randrange(vocab_size) for _ in range(length - len(shared))] for length in lengths]
    else:
        prompts = [[token % vocab_size for token in prompt] for prompt in bfcl_prompts(data)]
    return prompts, [[rng.randint(20, 120) // scale for _ in range(NUM_SAMPLES)] for _ in prompts]


def bfcl_prompts(data: str) -> list[list[int]]:
    """16 questions whose invocation prompts have 300 to 1,200 tokens, spread evenly over those lengths."""
    from data.prompts import invocation_messages
    from data.schema import Tool
    from model.chat import render
    from model.tokenizer import load_tokenizer

    tokenizer, found = load_tokenizer(Path(data, "models", "qwen2.5")), []
    for name in ("live_multiple", "multiple", "live_simple"):
        for line in Path(data, "bench", "bfcl", f"BFCL_v3_{name}.json").read_text(encoding="utf-8").splitlines()[:150]:
            row = json.loads(line)
            tools = [Tool.from_dict(function) for function in row["function"]]
            found.append(render(invocation_messages(row["question"][0][-1]["content"], tools), tokenizer)[0])
    return [min(found, key=lambda prompt, want=300 + 60 * i: abs(len(prompt) - want)) for i in range(16)]


class ForcedEngine(Engine):
    """The engine with a length of its own for every sample, and a clock for each phase."""

    def __init__(
        self, model: Transformer, prompts: list[list[int]], options: Options, lengths: list[list[int]]
    ) -> None:
        super().__init__(model, prompts, options)
        self.lengths, self.clock = lengths, {"prefill": 0.0, "decode": 0.0}

    def most_tokens(self, row) -> int:
        return self.lengths[row.item.index][row.sample]

    def prefill(self) -> None:
        began = time.perf_counter()
        super().prefill()
        self.clock["prefill"] += time.perf_counter() - began

    def decode(self) -> None:
        began = time.perf_counter()
        super().decode()
        self.clock["decode"] += time.perf_counter() - began


def run_ours(model: Transformer, prompts: list[list[int]], lengths: list[list[int]], *, pack: bool) -> dict:
    options = Options(
        max_new_tokens=max(map(max, lengths)), num_samples=NUM_SAMPLES, temperature=1.0, top_k=TOP_K, pack_weights=pack
    )
    began = time.perf_counter()
    engine = ForcedEngine(model, prompts, options, lengths)
    results = engine.run()
    seconds = time.perf_counter() - began
    assert [[len(c.ids) for c in completions] for completions in results] == lengths
    return {
        "seconds": seconds,
        **engine.clock,
        "prefill_tokens": engine.stats.prefill_tokens,
        "decode_steps": engine.stats.decode_steps,
    }


def run_transformers(model: Transformer, prompts: list[list[int]], lengths: list[list[int]], *, batch: int) -> dict:
    import transformers

    c = model.config
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
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    theirs = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    theirs.load_state_dict(model.state_dict())
    del model

    class Lengths(transformers.StoppingCriteria):
        def __init__(self, prompt_length: int, wanted: list[int]) -> None:
            self.ends = prompt_length + torch.tensor(wanted)

        def __call__(self, input_ids, scores, **_) -> torch.Tensor:
            return input_ids.shape[1] >= self.ends

    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))  # little padding
    began = time.perf_counter()
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        longest = max(len(prompts[i]) for i in chosen)
        ids = torch.tensor([[0] * (longest - len(prompts[i])) + prompts[i] for i in chosen])
        mask = torch.tensor([[0] * (longest - len(prompts[i])) + [1] * len(prompts[i]) for i in chosen])
        wanted = [length for i in chosen for length in lengths[i]]
        with torch.inference_mode():
            out = theirs.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=TOP_K,
                num_return_sequences=NUM_SAMPLES,
                max_new_tokens=max(wanted),
                eos_token_id=None,
                pad_token_id=0,
                stopping_criteria=transformers.StoppingCriteriaList([Lengths(longest, wanted)]),
            )
        assert out.shape == (len(wanted), longest + max(wanted))
    return {"seconds": time.perf_counter() - began}


def machine_peaks() -> tuple[float, float]:
    """FLOP/s of a large bf16 product and bytes/s of a large copy, both ways counted."""
    a, b = torch.randn(2048, 4096).bfloat16(), torch.randn(4096, 4096).bfloat16()
    x, y = torch.ones(2**26), torch.empty(2**26)
    product = best_time(lambda: torch.nn.functional.linear(a, b))
    return 2 * a.numel() * 4096 / product, 2 * x.nbytes / best_time(lambda: y.copy_(x))


def best_time(work) -> float:
    times = []
    for _ in range(8):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def run_side(args: argparse.Namespace) -> dict:
    """One run in this process."""
    prompts, lengths = make_work(args.workload, args.shape, args.data)
    model, side = make_model(args.shape), args.side
    if side.startswith("ours"):
        result = run_ours(model, prompts, lengths, pack=side == "ours, packed weights")
    elif side.startswith("llama.cpp"):
        from benchmarks.llama_cpp_side import check_weights, run_llama

        off = check_weights(model, args.threads) if args.shape == "toy" else 0.0
        assert off < 0.1, f"llama.cpp's logits are off by {off:.3f} of their spread"
        result = run_llama(model, prompts, lengths, slots=int(side.split()[1]), unified="unified" in side, top_k=TOP_K,
                           threads=args.threads)
    else:
        result = run_transformers(model, prompts, lengths, batch=int(side.rsplit(" ", 1)[1]))
    return result | {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


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
        *(["--data", args.data] if args.data else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def shares(
    result: dict, prompts: list[list[int]], lengths: list[list[int]], shape: str, peaks: tuple[float, float]
) -> dict:
    """Prefill's and decode's share of the peaks; attention's arithmetic counted, softmax and norms not."""
    c = SHAPES[shape]
    D, L = c["hidden_size"] // c["num_attention_heads"], c["num_hidden_layers"]
    block = c["hidden_size"] * (2 * c["hidden_size"] + 2 * c["num_key_value_heads"] * D + 3 * c["intermediate_size"])
    body, head = block * L, c["hidden_size"] * c["vocab_size"]
    pair = 4 * c["hidden_size"] * L  # a query with one key and value, all heads and layers
    causal = sum(len(prompt) ** 2 / 2 for prompt in prompts)
    drawn = sum(length - 1 for row in lengths for length in row)  # the first token of a sample is the prefill's
    seen = sum((length - 1) * (len(prompt) + length / 2) for prompt, row in zip(prompts, lengths) for length in row)
    prefill = 2 * body * result["prefill_tokens"] + pair * causal + 2 * head * len(prompts)
    decode = 2 * (body + head) * drawn + pair * seen
    moved = 2 * (body + head) * result["decode_steps"]  # bf16 weights once a step; keys and values left out
    return {
        "prefill": prefill / result["prefill"] / peaks[0],
        "decode": decode / result["decode"] / peaks[0],
        "decode bytes": moved / result["decode"] / peaks[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="0.5b", help="size of the model")
    parser.add_argument("--workload", choices=("a", "b"), help="only this one")
    parser.add_argument("--data", help="folder with bench/bfcl and models/qwen2.5, for (b)")
    parser.add_argument("--batches", default="1,2,4,8,16", help="batch sizes, in prompts, that transformers is tried at")
    parser.add_argument("--llama", action="store_true", help="llama.cpp, too")
    parser.add_argument("--slots", default="4,16", help="prompts at once that llama.cpp is tried with")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each side; the fastest counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of both sides")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.side:
        print(json.dumps(run_side(args)))
        return
    peaks = machine_peaks()
    print(describe("transformers", *(["llama-cpp-python"] if args.llama else [])))
    print(f"Shape {args.shape}, bf16; measured peaks: {peaks[0] / 1e9:.0f} GFLOP/s (matmul), {peaks[1] / 1e9:.0f} GB/s (copy). "
          f"Fastest of {args.repeats}; transformers at the best of batch sizes {args.batches}. "
          f"(b): {'BFCL prompts' if args.data else 'random tokens, not BFCL (see --data)'}.\n")
    print(
        "| workload | side | seconds | items/s | against transformers | prefill, of matmul peak | decode, of matmul peak "
        "| decode, of bandwidth peak | peak memory GB |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for workload in [args.workload] if args.workload else ["a", "b"]:
        prompts, lengths = make_work(workload, args.shape, args.data)
        sides = [
            "ours",
            "ours, packed weights",
            *(f"transformers, batch {b}" for b in args.batches.split(",") if int(b) <= len(prompts)),
            *(f"llama.cpp, {n} slots{kind}" for n in args.slots.split(",") if args.llama and int(n) <= len(prompts)
              for kind in ("", ", unified cache")),
        ]
        best: dict[str, dict] = {}
        for _ in range(args.repeats):
            for side in sides:
                result = in_new_process(args, side, workload)
                if side not in best or result["seconds"] < best[side]["seconds"]:
                    best[side] = result
                print(f"({workload}) {side}: {result['seconds']:.2f} s", file=sys.stderr)
        theirs = min(
            (side for side in sides if side.startswith("transformers")), key=lambda side: best[side]["seconds"]
        )
        llama = sorted((side for side in sides if side.startswith("llama")), key=lambda side: best[side]["seconds"])[:1]
        for side in (*sides[:2], theirs, *llama):
            result = best[side]
            cells = [
                f"({workload}) {len(prompts)} prompts x {NUM_SAMPLES}",
                side,
                f"{result['seconds']:.2f}",
                f"{len(prompts) / result['seconds']:.3f}",
            ]
            if side in (theirs, *llama):
                cells += [f"{best[theirs]['seconds'] / result['seconds']:.2f}x"] + ["-"] * 3
            else:
                share = shares(result, prompts, lengths, args.shape, peaks)
                cells += [
                    f"**{best[theirs]['seconds'] / result['seconds']:.2f}x**",
                    *(f"{share[key]:.0%}" for key in ("prefill", "decode", "decode bytes")),
                ]
            print("| " + " | ".join([*cells, f"{result['rss'] / 1e9:.2f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
