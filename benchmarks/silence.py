"""Does a model stay silent where no tool fits? Development data: labelled examples without the tools that they call.

    python benchmarks/silence.py --model MODEL --examples runs/mine/data/test.jsonl runs/mine/data/validation.jsonl \\
        --adapter runs/mine/joint --adapter runs/mine/round-1

Each example that calls is asked twice: with its called tools taken away (data/augment.py, as `--irrelevance` trains
it), where the right answer is no call, and as it is. Greedy, by the prompt that the step was trained with or by
--prompt. A step may be chosen by this without a look at a benchmark.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.machine import describe
from data.augment import tool_pool, without_called
from data.prompts import PROMPTS
from data.schema import Example, load_examples
from eval.exact import answer, score
from eval.uncertainty import wilson_interval
from lora import adapter_folder, load_adapter
from model import Tokenizer, Transformer, load_tokenizer
from model.chat import render
from sampler import generate
from training.base import load_base
from training.prompt import resolved

RAW = "raw"


def pairs_of(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The examples that call, without their called tools and as they are; the same draw every time."""
    calling = [example for example in examples if example.calls]
    pool = tool_pool(examples)
    return [without_called(example, pool, random.Random(example.id)) for example in calling], calling


def outcomes(items: Sequence[Example], model: Transformer, tokenizer: Tokenizer, tokens: int, prompt: str) -> Counter:
    """How the greedy answers ended: "right", "called" and wrong, "undecodable" or written as tools."""
    verdicts, _ = score(items, answer(items, model, tokenizer, generate, render, max_new_tokens=tokens, prompt=prompt))
    return Counter("right" if one["outcome"] == "right" else "called" if one["called"] else one["outcome"]
                   for one in verdicts)


def cells(name: str, idle: Counter, useful: Counter) -> list[str]:
    """A row of the table."""
    low, high = (100 * share for share in wilson_interval(idle["right"], idle.total()))
    others = idle.total() - idle["right"] - idle["called"]
    return [name, f"{idle['right']} of {idle.total()} [{low:.0f}%, {high:.0f}%]", str(idle["called"]), str(others),
            f"{useful['right']} of {useful.total()}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--examples", required=True, nargs="+", type=Path, help="labelled examples, not trained on")
    parser.add_argument("--adapter", action="append", default=[], help=f"a step of a run; {RAW}: the model as it is")
    parser.add_argument("--prompt", choices=PROMPTS, help="without it, as each step was trained, else paper")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    args = parser.parse_args()
    idle, useful = pairs_of([example for path in args.examples for example in load_examples(path)])
    tokenizer = load_tokenizer(args.model)
    print(describe())
    print("| model, prompt | silent where no tool fits | called all the same | neither | right where one fits |\n"
          "|---|---|---|---|---|")
    for adapter in args.adapter or [RAW]:
        folder = None if adapter == RAW else adapter_folder(adapter)
        prompt, _ = resolved(args.prompt, args.model, folder)
        model = load_base(str(args.model))
        if folder:
            load_adapter(model, folder)
        found = [outcomes(items, model.eval(), tokenizer, args.max_new_tokens, prompt) for items in (idle, useful)]
        print("| " + " | ".join(cells(f"{Path(adapter).name}, {prompt}", *found)) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
