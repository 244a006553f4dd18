r"""`tooldev.py make-base`: pre-train the embedded model, with this repository's own loop, on the world's general text.

    torchrun --nproc-per-node 2 tooldev.py make-base --out runs/base     # two processes of one thread suit two cores

model/tiny was made in three parts (LOG.md), the first two by the code of their day:

    git worktree add ../first 5f1f01c && (cd ../first && torchrun --nproc-per-node 2 tooldev.py make-base) && \
    git worktree add ../second 0af77b1 && (cd ../second && torchrun --nproc-per-node 2 tooldev.py make-base \
        --model ../first/runs/base/model --steps 1600) && \
    torchrun --nproc-per-node 2 tooldev.py make-base --model ../second/runs/base/model --steps 1500 --seed 1

The result, `OUT/model`, is what stands in model/tiny: config.json, tokenizer.json and model.safetensors. The same
command goes on after an interruption. What the general text is, and what it leaves out, is in data/world_text.py.
"""

import argparse
import os
import time
from pathlib import Path

from data import world_text
from data.files import add_overwrite, claim, made, write_json
from data.tasks import Row
from training.gate import check_model

MODEL_FILES = ("model/config.json", "model/tokenizer.json", "model/model.safetensors")
BATCH_ROWS = 32
STEPS = 5000
PLAIN_STEPS = 600       # after these most rows have made-up tools, names and titles: else values were recalled (LOG.md)
SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 5, "num_attention_heads": 8,
         "num_key_value_heads": 8}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="runs/base", help="folder of the run")
    parser.add_argument("--model", default=None,
                        help="go on from this model's weights and tokenizer instead of fresh ones")
    parser.add_argument("--steps", type=int, default=STEPS,
                        help=f"optimizer steps of {BATCH_ROWS} rows, each row seen once")
    parser.add_argument("--seed", type=int, default=0,
                        help="seed of the text, the tokenizer's sample and the fresh weights")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    add_overwrite(parser)


def main(args: argparse.Namespace) -> int:
    out, dist_rank = Path(args.out), int(os.environ.get("RANK", "0"))
    if args.model:
        check_model(args.model)
    claimed = claim(out, "tooldev.py make-base", inputs=[("model", args.model)] if args.model else [],
                    writes=MODEL_FILES, settings={"steps": args.steps, "seed": args.seed}, overwrite=args.overwrite)
    if dist_rank == 0:
        with claimed:
            make(args, out)
            claimed.finish(made(out, MODEL_FILES))
    else:
        make(args, out)
    return 0


def make(args: argparse.Namespace, out: Path) -> None:
    """Text, tokenizer, training and the checkpoint, in this process of perhaps several."""
    import torch

    from data.batching import epoch_order
    from lora import copy_companions
    from model import load_model, load_tokenizer
    from model.chat import encode_chat
    from model.weights import save_model
    from train import TrainConfig, run_training

    base, dist_rank = out / "base", int(os.environ.get("RANK", "0"))
    if dist_rank == 0:
        write_base(base, args.seed, args.model)
    while not (base / "config.json").is_file():
        time.sleep(0.2)
    tokenizer = load_tokenizer(base)

    def rows() -> list[Row]:
        order, plain = epoch_order(args.steps * BATCH_ROWS, 0, args.seed), 0 if args.model else PLAIN_STEPS * BATCH_ROWS
        texts = world_text.curriculum(args.seed, order, plain)
        return [Row(str(number), "text", *encode_chat(messages, tokenizer)) for number, messages in enumerate(texts)]

    config = TrainConfig(stage="pretrain", model=str(base), out=str(out / "run"), optimizer="muon",
                         learning_rate=1.4e-3, global_batch_size=BATCH_ROWS, micro_batch_tokens=1300,
                         weight_decay=0.1, beta2=0.95,
                         warmup_ratio=0.04, max_steps=args.steps, checkpoint_steps=200, seed=args.seed,
                         threads=args.threads)
    run_training(config, rows=rows, tokenizer=tokenizer)
    if dist_rank == 0:
        trained = load_model(out / "run" / "model", dtype=torch.bfloat16)       # half the bytes in the repository
        save_model(trained, out / "model")
        copy_companions(base, out / "model")
        print(f"{out / 'model'}: config.json, tokenizer.json, model.safetensors")


def write_base(base: Path, seed: int, start: str | None = None) -> None:
    """Train the tokenizer and write it with the config, or copy those of `start` with its weights; the config last."""
    if (base / "config.json").is_file():
        return
    base.mkdir(parents=True, exist_ok=True)
    if start:
        from lora import copy_companions
        from model import load_model
        from model.weights import save_model

        copy_companions(Path(start), base)
        save_model(load_model(start), base)
        return
    from model.templates import QWEN_SYSTEM, chatml_template

    tokenizer = world_text.train_tokenizer(seed)
    tokenizer.save(str(base / "tokenizer.json"))
    write_json(base / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "chat_template": chatml_template(QWEN_SYSTEM)})
    write_json(base / "config.json", {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": world_text.VOCAB_SIZE, **SHAPE,
        "hidden_act": "silu",
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "use_sliding_window": False, "bos_token_id": None, "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"), "torch_dtype": "bfloat16"})
