"""`tooldev.py import-gguf`: a GGUF file, as llama.cpp and Ollama use, as a Hugging Face folder to train and to ask.

    python tooldev.py import-gguf smollm2-135m.gguf --out smollm2

Where the model's own safetensors can be had, take those: a GGUF file holds rounded weights. The rounding stays in what
is written; training goes on from it.
"""

import argparse
from pathlib import Path

from data.files import add_overwrite, claim, made
from training.config import PRECISIONS

WRITES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the .gguf file: Llama or Qwen2 architecture, with a byte-level BPE tokenizer")
    parser.add_argument("--out", required=True, default=argparse.SUPPRESS, metavar="DIR", help="folder to write")
    parser.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16", help="of the written weights")
    add_overwrite(parser)


def main(args: argparse.Namespace) -> int:
    write(Path(args.file), Path(args.out), dtype=args.dtype, overwrite=args.overwrite)
    return 0


def write(file: Path, out: Path, *, dtype: str = "bf16", made_by: str = "tooldev.py import-gguf",
          overwrite: bool = False) -> None:
    """Import one file into `out`, and say what was made.

    Raises:
        FileNotFoundError, ValueError: as `model.gguf.import_gguf` and `data.files.claim` raise them.
    """
    import torch

    from model.gguf import import_gguf

    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a GGUF file")
    with claim(out, made_by, inputs=[(file.name, file)], writes=WRITES, settings={"dtype": dtype},
               overwrite=overwrite) as claimed:
        config = import_gguf(file, out, getattr(torch, PRECISIONS[dtype]))
        weights = sorted(path.name for path in out.glob("model*.safetensors*"))
        claimed.finish(made(out, [*WRITES, *weights]))
    print(f"{out}: {config.model_type}, {config.num_hidden_layers} layers of width {config.hidden_size}, "
          f"{config.vocab_size:,} ids, weights in {dtype}")
