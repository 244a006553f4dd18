"""An imported model folder beside transformers: logits and token ids on the same folder.

    pip install -r requirements-reference.txt -c constraints.txt
    python benchmarks/import_parity.py smollm2 qwen2.5-coder-0.5b

float32, 64 random ids of text; 2,000 strings of many scripts by a fixed seed. Strings that spell a control token are
left out and counted: this project takes them literally, transformers does not.
"""

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", help="Hugging Face folders that import-gguf or data smollm2 wrote")
    print("| folder | largest logit | largest difference of logits | strings compared | other ids "
          "|\n|---|---|---|---|---|")
    for folder in parser.parse_args().folders:
        largest, difference = logits(folder)
        compared, other = token_ids(folder)
        print(f"| {Path(folder).name} | {largest:.2f} | {difference:.2e} | {compared:,} of 2,000 | {other} |")


def logits(folder: str) -> tuple[float, float]:
    """(largest magnitude, largest difference) of the logits of one row."""
    from transformers import AutoModelForCausalLM

    from model import load_model, load_tokenizer

    ids = torch.randint(0, load_tokenizer(folder).vocab_size, (1, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load_model(folder)(ids)
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
    return theirs.abs().max().item(), (ours - theirs).abs().max().item()


def token_ids(folder: str) -> tuple[int, int]:
    """(strings compared, strings whose ids differ)."""
    from test_model_gguf import strings
    from transformers import AutoTokenizer

    from model import load_tokenizer

    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    literal = [text for text in strings(2000) if not any(mark in text for mark in ("<|im_start|>", "<tool_call>"))]
    other = sum(ours.encode(text) != theirs.encode(text, add_special_tokens=False) for text in literal)
    return len(literal), other


if __name__ == "__main__":
    main()
