"""What sampler_speed.py lets both sides do: the prompts, and how many tokens each sample gets.

(a) 4 prompts of 512 tokens x 5 samples of 48. (b) 16 prompts of 300 to 1,200 tokens x 5 samples of 20 to 120.
(c) 64 prompts of BFCL, drawn from all its sets, x 1 sample of 64: scoring a benchmark. (d) 64 queries of BFCL as
prompts for tool generation, which share their system text, x 1 sample of 200. (many) 64 prompts like those of (b).
(decode) one prompt of 512 tokens, one sample of 256. Without --data the tokens are random: lengths like those of BFCL.
"""

import json
import random
from pathlib import Path

NUM_SAMPLES, TOP_K = 5, 10
GREEDY = ("c", "d")             # one sample of a prompt; the others draw NUM_SAMPLES with top-k at temperature 1
COUNTS = {"b": 16, "c": 64, "d": 64, "many": 64}
NEW = {"c": 64, "d": 200}
QUICK_COUNT, QUICK_NEW = 12, {"c": 32, "d": 48}


def make_work(workload: str, vocab_size: int, data: str | None, *, scale: int = 1,
              quick: bool = False) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and, per prompt and sample, the length to generate: functions of the arguments only.

    Args:
        scale: divides all lengths; for toy models.
        quick: (c) and (d) with fewer and shorter.
    """
    rng = random.Random(1)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(vocab_size) for _ in range(count)]

    if workload == "a":
        return [tokens(512 // scale) for _ in range(4)], [[48 // scale] * NUM_SAMPLES] * 4
    if workload == "decode":
        return [tokens(512 // scale)], [[256 // scale]]
    count = QUICK_COUNT if quick and workload in GREEDY else COUNTS[workload]
    if data is not None:
        make = {"c": scoring_prompts, "d": query_prompts}.get(workload, bfcl_prompts)
        prompts = [[token % vocab_size for token in prompt] for prompt in make(data, count)]
    else:
        lengths = [n // scale for n in {"c": real_lengths, "d": query_lengths}.get(workload, spread)(count)]
        shared = tokens((100 if workload != "c" else 20) // scale)      # the system prompt's beginning
        prompts = [shared + tokens(length - len(shared)) for length in lengths]
    if workload in GREEDY:
        return prompts, [[(QUICK_NEW if quick else NEW)[workload] // scale]] * count
    return prompts, [[rng.randint(20, 120) // scale for _ in range(NUM_SAMPLES)] for _ in prompts]


def spread(count: int) -> list[int]:
    """`count` lengths from 300 to 1,200 tokens, evenly spread."""
    return [300 + 900 * i // (count - 1) for i in range(count)]


def real_lengths(count: int) -> list[int]:
    """`count` lengths from 300 to 2,700 tokens, most of them short: 850 on average."""
    return [int(300 + 2400 * (i / (count - 1)) ** 3.4) for i in range(count)]


def query_lengths(count: int) -> list[int]:
    """`count` lengths from 120 to 220 tokens, evenly spread."""
    return [120 + 100 * i // (count - 1) for i in range(count)]


def bfcl_prompts(data: str, count: int) -> list[list[int]]:
    """`count` questions whose invocation prompts have 300 to 1,200 tokens, spread evenly over those lengths."""
    rows = [row for name in ("live_multiple", "multiple", "live_simple") for row in bfcl_rows(data, name)[:150]]
    found = invocation_prompts(data, rows)
    return [min(found, key=lambda prompt, want=want: abs(len(prompt) - want)) for want in spread(count)]


def scoring_prompts(data: str, count: int) -> list[list[int]]:
    """The invocation prompts of `count` entries, drawn from all sets of BFCL."""
    return invocation_prompts(data, drawn_rows(data, count))


def query_prompts(data: str, count: int) -> list[list[int]]:
    """The tool-generation prompts of the queries of `count` entries."""
    from data.prompts import generation_messages
    from model.chat import render

    tokenizer = qwens_tokenizer(data)
    return [render(generation_messages(question(row)), tokenizer)[0] for row in drawn_rows(data, count)]


def invocation_prompts(data: str, rows: list[dict]) -> list[list[int]]:
    from data.prompts import invocation_messages
    from data.schema import Tool
    from model.chat import render

    tokenizer = qwens_tokenizer(data)
    return [render(invocation_messages(question(row), [Tool.from_dict(f) for f in row["function"]]), tokenizer)[0]
            for row in rows]


def drawn_rows(data: str, count: int) -> list[dict]:
    """`count` entries of all sets in Python, in the order of the draw."""
    paths = sorted(Path(data, "bench", "bfcl").glob("BFCL_v3_*.json"))
    names = [path.stem.removeprefix("BFCL_v3_") for path in paths if "java" not in path.stem]
    return random.Random(1).sample([row for name in names for row in bfcl_rows(data, name)], count)


def bfcl_rows(data: str, name: str) -> list[dict]:
    lines = Path(data, "bench", "bfcl", f"BFCL_v3_{name}.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def question(row: dict) -> str:
    return row["question"][0][-1]["content"]


def qwens_tokenizer(data: str):
    from model.tokenizer import load_tokenizer

    return load_tokenizer(Path(data, "models", "qwen2.5"))
